"""A small robot: its contract as a dictionary to be changed in one place, its messages without ROS, its simulation."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

from robot.contract import RobotContract
from robot.contract_file import robot_contract_from
from sim.base import Task
from sim.gaps import Gap

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "launch" / "contracts" / "panda_lift_sim.yaml"
SECOND = 1_000_000_000
TYPES = get_typestore(Stores.ROS2_KILTED)

REMOVED = object()
"""In place of a value: the key is taken away."""

SMALL: dict[str, Any] = {
    "version": 1,
    "name": "arm",
    "rate": 10,
    "task": "hold still",
    "observations": [
        {
            "topic": "joint_states",
            "type": "sensor_msgs/msg/JointState",
            "rate": 10,
            "max_age": 0.25,
            "joints": ["shoulder", "elbow"],
            "fields": [
                {"path": "position", "name": "{joint}", "unit": "rad"},
                {"path": "velocity", "unit": "rad/s"},
            ],
        },
        {
            "topic": "tip",
            "type": "geometry_msgs/msg/PointStamped",
            "rate": 10,
            "max_age": 0.25,
            "fields": [{"path": "point.x", "name": "tip_x", "unit": "m", "scale": 0.001}],
        },
    ],
    "commands": [
        {
            "topic": "arm/commands",
            "type": "std_msgs/msg/Float64MultiArray",
            "kind": "position",
            "on_silence": "holds_position",
            "fields": [
                {"path": "data[0]", "name": "to_shoulder", "unit": "rad", "low": -1, "high": 1, "measured": "shoulder"},
                {"path": "data[1]", "name": "to_elbow", "unit": "rad", "low": -2, "high": 2, "measured": "elbow"},
            ],
        },
        {
            "topic": "servo",
            "type": "geometry_msgs/msg/TwistStamped",
            "kind": "velocity",
            "on_silence": "stops",
            "silence": 0.25,
            "frame_id": "base",
            "fields": [{"path": "twist.linear.x", "name": "push", "unit": "m", "low": -0.1, "high": 0.1, "scale": 10}],
        },
    ],
}
"""State: shoulder, elbow, shoulder_velocity, elbow_velocity, tip_x. Action: to_shoulder, to_elbow, push."""


def mapping(**changes: Any) -> dict[str, Any]:
    """The small contract, changed: `mapping(commands__0__fields__1__low=3)`; REMOVED takes a key away."""
    return changed(SMALL, changes)


def changed(original: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of a contract's dictionary with other values at places such as `commands__0__kind`."""
    content = copy.deepcopy(original)
    for place, value in changes.items():
        way: list[Any] = [int(step) if step.isdigit() else step for step in place.split("__")]
        last = way.pop()
        inside: Any = content
        for step in way:
            inside = inside.setdefault(step, {}) if isinstance(inside, dict) else inside[step]
        if value is REMOVED:
            del inside[last]
        elif isinstance(inside, list) and last == len(inside):
            inside.append(value)
        else:
            inside[last] = value
    return content


def contract(**changes: Any) -> RobotContract:
    """The small contract, changed and checked."""
    return robot_contract_from(mapping(**changes), "arm.yaml")


def make(kind: str) -> Any:
    """A message of a standard type with every field at its default, as a constructor of rclpy's makes it."""
    return TYPES.types[kind](**{name: _default(inner) for name, inner in TYPES.fielddefs[kind][1]})


def _default(definition: Any) -> Any:
    kind, what = definition
    if kind == Nodetype.NAME:
        return make(what)
    if kind == Nodetype.BASE:
        return {"string": "", "bool": False}.get(what[0], 0.0 if what[0].startswith("float") else 0)
    inner, size = what
    size = size if kind == Nodetype.ARRAY else 0
    if inner[0] == Nodetype.BASE and inner[1][0] != "string":
        return np.zeros(size, inner[1][0])
    return [_default(inner) for _ in range(size)]


def joint_state(stamp: int, *, names: tuple[str, ...] = ("shoulder", "elbow"), **lists: Any) -> Any:
    """A JointState; what is not given of position and velocity is counted up from the stamp."""
    message = make("sensor_msgs/msg/JointState")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    message.name = list(names)
    for number, field in enumerate(("position", "velocity")):
        given = [float(stamp % 1000 + 10 * number + index) for index in range(len(names))]
        setattr(message, field, np.array(lists.get(field, given), np.float64))
    return message


def tip(stamp: int, x: float | None = None) -> Any:
    """A PointStamped on the topic `tip`."""
    message = make("geometry_msgs/msg/PointStamped")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    message.point.x = float(stamp % 1000) if x is None else x
    return message


class SmallTask(Task):
    """The small contract's robot: it goes where it is told, and is pushed."""

    has_success = True

    def __init__(self, contract: RobotContract, horizon: int = 5):
        super().__init__("small", contract.layout(), "hold still", horizon, Gap())

    def _reset(self, seed: int) -> None:
        self._values = np.full(len(self.contract.state), float(seed))
        self.taken: list[list[float]] = []

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self.taken.append(action.tolist())
        self._values[0], self._values[1] = action[0], action[1]
        self._values[4] += action[2]
        return float(-abs(action[0])), bool(action[0] == 1.0), False, {}

    def _state(self) -> np.ndarray:
        return self._values

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        return np.full((height, width, 3), [200, 100, len(self.taken)], np.uint8)

    def render(self) -> np.ndarray:
        return np.zeros((256, 256, 3), np.uint8)
