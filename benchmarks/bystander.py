"""Who stands beside a robot in a benchmark: hears how the learner does, rearms the guardian, lends a hand."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import String

from episodes.errors import InputError
from robot.contract import RobotContract
from robot.contract_file import read_robot_contract
from robot.frames import Frames
from robot.nodes.shell import LATCHED, RELIABLE
from robot.reports import EPISODE_TOPIC, EpisodeState, decode
from robot.ros import message_class
from robot.spinning import RefusedError, SpinningNode
from sim.operators import Operator

MOVES = ("delta_x", "delta_y", "delta_z")
FARTHEST = 0.05
"""Displacement that a stick at its end asks for [m]."""


def with_joystick(contract: Path, out: Path) -> Path:
    """Write a copy of Lift's contract in which a joystick takes over."""
    axes = [{"action": name, "path": f"axes[{place}]", "scale": FARTHEST} for place, name in enumerate(MOVES)]
    # In lock-step a person answers what the policy has answered just before: the next step is the first that is theirs.
    joystick = {"topic": "joy", "engaged": "buttons[0]", "max_age": 0.25}
    joystick |= {"axes": [*axes, {"action": "gripper", "path": "axes[3]", "scale": 1.0}]}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(yaml.safe_dump(yaml.safe_load(contract.read_text()) | {"intervention": joystick}, sort_keys=False))
    return out


class Hand:
    """Takes over for a short time where the arm strays from the cube, once an episode and so often in all.

    Args:
        operator: who acts then; it sees the state in the contract's order.
        names: of the state's entries.
        most: interventions, of which it counts the ones that there were `before`.
    """

    PATIENCE, LASTS = 15, 20
    """Steps of an episode before it looks, and for how many it stays at most."""
    FAR = 0.05
    """Between grip point and cube [m]; an arm that does not stray holds the cube by then."""

    def __init__(self, operator: Operator, names: list[str], most: int, before: int = 0):
        self._operator, self._most, self.count = operator, most, before
        self._apart = [names.index(f"cube_from_eef_{axis}") for axis in "xyz"]
        self.begin()

    def begin(self) -> None:
        """Another episode."""
        self._steps, self._left, self._done = 0, self.LASTS, False
        self._engaged = False

    def act(self, state: np.ndarray) -> np.ndarray | None:
        """What is wanted in a state, shape (S,): an action of shape (A,), or nothing."""
        self._steps += 1
        far = float(np.linalg.norm(state[self._apart])) > self.FAR
        if not self._engaged and not self._done and self.count < self._most and self._steps > self.PATIENCE and far:
            self._engaged, self.count = True, self.count + 1
            self._operator.reset(self.count)
        if self._engaged and self._left == 0:
            self._engaged, self._done = False, True
        if not self._engaged:
            return None
        self._left -= 1
        return self._operator.act({"state": state})


class Bystander:
    """A node of its own, in a thread of its own."""

    def __init__(self) -> None:
        self._beside = SpinningNode("bystander")

    def __enter__(self) -> "Bystander":
        self._beside.__enter__()
        self._learner: dict[str, str] = {}
        self._beside.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.__exit__()

    @property
    def learner(self) -> dict[str, str]:
        """What the learner's newest diagnostics said."""
        return dict(self._learner)

    def rearm(self) -> None:
        """Let a guardian that has stopped be enabled again; it may still have a reason not to."""
        with contextlib.suppress(RefusedError):
            self._beside.call("guardian/rearm")

    def lend(self, hand: Hand, contract: Path) -> None:
        """From now on take over by the joystick of a contract when the hand wants to."""
        robot = read_robot_contract(contract)
        if robot.intervention is None:
            raise InputError(f"{contract}: has no joystick")
        _Joystick(self._beside.node, robot, hand)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "learner: state":
                self._learner = {value.key: value.value for value in status.values}


class _Joystick:
    """What a hand wants, as messages: one for every observation of an episode."""

    def __init__(self, node: Node, robot: RobotContract, hand: Hand):
        assert robot.intervention is not None
        self._hand, self._frames = hand, Frames(robot, cameras=False)
        self._episode, self._newest, self._held = "", 0, False
        self._joy = node.create_publisher(Joy, robot.intervention.topic, RELIABLE)
        types = {source.topic: source.type for source in robot.observations}
        for topic in self._frames.topics:
            node.create_subscription(message_class(types[topic]), topic, self._taker(topic), RELIABLE)
        node.create_subscription(String, EPISODE_TOPIC, self._on_episode, LATCHED)

    def _on_episode(self, message: String) -> None:
        state = decode(EpisodeState, message.data)
        if state.running and state.episode != self._episode:
            self._hand.begin()
        self._episode = state.episode if state.running else ""

    def _taker(self, topic: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            self._frames.add(topic, message, 0)
            tick = self._frames.common_stamp()
            if tick <= self._newest:
                return
            self._newest = tick
            wanted = self._hand.act(self._frames.frame(tick).state) if self._episode else None
            if wanted is not None or self._held:
                self._say(wanted)

        return take

    def _say(self, wanted: np.ndarray | None) -> None:
        self._held = wanted is not None
        action = np.zeros(4) if wanted is None else wanted
        axes = [*(action[:3] / FARTHEST).tolist(), float(action[3])]
        self._joy.publish(Joy(axes=axes, buttons=[int(self._held)]))
