"""An actor under way, a policy that notes what it is asked, and a person's device, for tests."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from robot.acting import Actor, Hands
from robot.contract import Intervention
from robot.frames import Frame
from robot.reports import EpisodeState
from tests.robot.contracts import SECOND, contract

NOW = 100 * SECOND
STAMPS = (NOW - 2, NOW - 1)
HANDS: dict[str, Any] = {
    "topic": "joy",
    "engaged": "buttons[1]",
    "max_age": 0.5,
    "axes": [
        {"action": "to_shoulder", "path": "axes[0]", "absolute": True},
        {"action": "to_elbow", "path": "axes[1]", "absolute": True},
        {"action": "push", "path": "axes[2]", "scale": -0.05},
    ],
}


class Recorder:
    """A policy that notes what it is asked, and answers with its number."""

    def __init__(self, number: int = 1):
        self.policy_hash = 1000 + number
        self.number = number
        self.seeds: list[int] = []
        self.seen: list[dict[str, np.ndarray]] = []
        self.watched: list[dict[str, np.ndarray]] = []

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def replan(self, seed: int) -> None:
        self.seeds.append(seed)

    def observe(self, observation: dict[str, np.ndarray]) -> None:
        self.watched.append(observation)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self.seen.append(observation)
        return np.array([0.1, 0.2, self.number], np.float32)


def frame(tick: int = NOW, missing: tuple[str, ...] = (), stale: tuple[str, ...] = (), **images: np.ndarray) -> Frame:
    return Frame(tick, np.arange(5, dtype=np.float32), images, STAMPS, missing, stale)


def joy(*axes: float, engaged: bool = True, stamp: int = 0) -> SimpleNamespace:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=stamp // SECOND, nanosec=stamp % SECOND))
    return SimpleNamespace(header=header, axes=list(axes), buttons=[0, int(engaged)])


def running(policy: Any = None, stamp: int = 0, **changes: Any) -> Actor:
    policy = policy or Recorder()
    actor = Actor(contract(**changes), lambda: policy)
    actor.on_episode(EpisodeState("e1", True, stamp))
    return actor


def hands(**changes: Any) -> Hands:
    robot = contract(intervention={**HANDS, **changes})
    assert isinstance(robot.intervention, Intervention)
    layout = robot.layout()
    return Hands(robot.intervention, layout.action_names, layout.action_low, layout.action_high)
