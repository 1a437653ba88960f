"""A store small enough to be labelled in a moment, and what stands in for an encoder and for judges."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.encoders import Encoder
from episodes.episode import Episode
from episodes.store import Store
from rewards.judge import Answer, Frame, Pair
from rewards.judges.progress import ProgressJudge
from rewards.label import LabelConfig
from rewards.marks import Marks, Success
from rewards.settings import label_config

TASK = "push the block to the end"
STEPS = 9
EPISODES = 10
"""Even ones succeed."""

BLIND = Contract("way", (StateEntry("x", "m"), StateEntry("y", "m")), (ActionEntry("step", "m", -1.0, 1.0),))
SEEING = Contract(BLIND.name, BLIND.state, BLIND.action, (Camera("eye", 6, 8), Camera("side", 6, 8)))

FAST = (
    "reward.members=2",
    "reward.hidden=[8]",
    "reward.updates=50",
    "reward.learning_rate=0.02",
    "reward.weight_decay=0.0",
    "reward.dropout=0.0",
    "success.updates=80",
    "success.hidden=8",
    "success.augmentations=1",
    "success.folds=2",
    "success.learning_rate=0.02",
    "success.false_positives=0.1",
    "device=cpu",
)
"""Settings under which everything is learned in a moment."""
STATES = (*FAST, "reward.inputs=state")

MARKS = Marks((Success(0), Success(2), Success(4)), (1, 3, 5))


def way(number: int, *, contract: Contract = SEEING, final: bool = True, terminated: bool = False) -> Episode:
    """From the left to the right end where the number is even, else half of the way; the picture is the brighter the
    further it is, with a little noise, so that no two are the same."""
    rng = np.random.default_rng(number)
    x = np.linspace(0, 1 if number % 2 == 0 else 0.5, STEPS + 1) + rng.normal(0, 0.01, STEPS + 1)
    state = np.stack([x, rng.normal(size=STEPS + 1)], axis=1).astype(np.float32)
    images = {
        camera.name: _pictures(x * factor, camera, rng)
        for camera, factor in zip(contract.cameras, (1.0, 0.5), strict=False)
    }
    rows = STEPS + final
    success = (state[1:, 0] > 0.6).astype(np.float32)
    return Episode(
        state=state[:rows],
        action=rng.uniform(-1, 1, (STEPS, 1)).astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        images={name: frames[:rows] for name, frames in images.items()},
        reward=state[1:, 0].copy(),
        success=success,
        task="no reward was ever logged",
        place="sim",
        origin=f"way {number}",
    )


def _pictures(x: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    noise = rng.integers(0, 20, (len(x), camera.height, camera.width, 3))
    return np.clip(20 + 200 * x[:, None, None, None] + noise, 0, 255).astype(np.uint8)


def ways(path: Path, episodes: int = EPISODES, contract: Contract = SEEING) -> Store:
    store = Store.create(path, contract)
    store.append([way(number, contract=contract) for number in range(episodes)])
    return store


def configured(*settings: str, marked: bool = False, config: Sequence[str] = STATES, **flags: Any) -> LabelConfig:
    flags = {"task": TASK, "judge": "progress", "pairs": 60} | flags
    return label_config(flags, None, [*config, *settings], marked=marked)


class Colours(torch.nn.Module):
    """Each colour's mean and largest value, and how many frames were looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen += len(pixels)
        return torch.cat([pixels.mean((2, 3)), pixels.amax((2, 3))], dim=1)


def colours() -> Encoder:
    """An encoder of six features that costs nothing."""
    return Encoder("colours", Colours(), torch.zeros(3, 1, 1), torch.ones(3, 1, 1), "c0105", None)


class Watched(ProgressJudge):
    """The judge of time, which remembers what it was shown and asked."""

    def __init__(self) -> None:
        self.episodes: set[int] = set()
        self.tasks: set[str] = set()
        self.pairs = 0

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        self.pairs += len(pairs)
        self._note([frame for pair in pairs for frame in pair], task)
        return super().prefer(pairs, task)

    def succeeds(self, frames: Sequence[Frame], task: str) -> Iterator[tuple[int, float]]:
        self._note(frames, task)
        return super().succeeds(frames, task)

    def _note(self, frames: Sequence[Frame], task: str) -> None:
        self.tasks.add(task)
        self.episodes |= {frame.episode for frame in frames}
