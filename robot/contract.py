"""A robot's contract: which topics and fields make a step, what may be commanded, and what the robot does in silence.

One YAML file drives bag import, actor, guardian, recorder and simulated robot, so that what was trained on is what is
served. Its `layout` is the contract that stores and policies know.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from episodes.contract import ActionEntry, Camera, Contract, Name, StateEntry
from episodes.errors import InputError, unknown
from episodes.typed import STRICT, parse, read_yaml
from robot.messages import path_of

VERSION = 1

UNITS = ("", "m", "rad", "s", "m/s", "rad/s", "m/s^2", "rad/s^2", "N", "Nm", "Pa", "K", "V", "A", "kg")
"""SI, and radians. A source in millimetres or degrees is scaled."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""As a store's contract has it."""
_SCALED = {
    "mm": ("m", "0.001"),
    "cm": ("m", "0.01"),
    "deg": ("rad", "0.0174532925"),
    "deg/s": ("rad/s", "0.0174532925"),
}

Positive = Annotated[float, Field(gt=0)]
Topic = Annotated[str, Field(pattern=r"^(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")]
MessageType = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*/msg/[A-Za-z][A-Za-z0-9_]*$")]
Interval = tuple[float, float]
Stamp = Literal["header", "publish"]
"""When something was so: the message's header says it, or else the time at which it was published."""


@dataclass(frozen=True, slots=True)
class StateField:
    """One number of a message, or, with `joints`, one number per joint."""

    __pydantic_config__ = STRICT

    path: str
    """Such as `pose.position.x`; with joints, of the list in the order of the names: `position`."""
    name: str = ""
    """Of the state entry; with joints `{joint}` stands for the joint's name. Left out: `{joint}_{path}` or the path."""
    unit: str = ""
    joint: str | None = None
    """This joint alone, where the input's `joints` are not meant."""
    scale: float = 1.0
    """What the message's number is multiplied by to be in `unit`."""
    periodic: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """A topic that is a part of the state."""

    __pydantic_config__ = STRICT

    topic: Topic
    type: MessageType
    rate: Positive
    """About how often it comes [Hz]."""
    max_age: Positive
    """From this age on [s] it says nothing about now any more."""
    fields: tuple[StateField, ...]
    joints: tuple[str, ...] = ()
    names: str = "name"
    """Path of the list of joint names."""
    stamp: Stamp = "header"
    frame_id: str = ""
    """That its header has to name; a message in another frame says nothing. Left out, none is asked for."""


@dataclass(frozen=True, slots=True)
class CameraTopic:
    """A topic with pictures."""

    __pydantic_config__ = STRICT

    name: Name
    topic: Topic
    height: Annotated[int, Field(gt=0)]
    """That is stored and trained on [px]."""
    width: Annotated[int, Field(gt=0)]
    rate: Positive
    max_age: Positive
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    crop: tuple[int, int, int, int] | None = None
    """Top, left, height and width of the part that is kept [px of the source]."""
    stamp: Stamp = "header"


@dataclass(frozen=True, slots=True)
class CommandField:
    """One number of the action, where it goes, and its limits.

    `low` and `high` are in the action's unit. What is sent is the action times `scale`; every other limit is in the
    unit of what is sent.
    """

    __pydantic_config__ = STRICT

    name: Name
    path: str
    low: float
    high: float
    unit: str = ""
    scale: float = 1.0
    """Such as the rate, where actions are displacements per step and a twist is sent."""
    measured: str | None = None
    """The state entry that this moves: a position command is a target for it, a velocity changes it."""
    velocity: Positive | None = None
    """Fastest that a position command may change [1/s]. A velocity command has `low` and `high` for that."""
    acceleration: Positive | None = None
    """Of a position command [1/s^2]; of a velocity command, how fast it may change [1/s^2 of what it moves]; of an
    effort, how fast it may change [1/s]."""
    position: Interval | None = None
    """Where `measured` has to stay under a velocity or effort command. A position command has `low` and `high`."""
    leash: Positive | None = None
    """Farthest that a position command may be from what is measured."""
    unguarded: bool = False
    """Says that a position may be sent anywhere between `low` and `high` at once, as a gripper's often is. Any other
    has to have `measured`, `velocity` and `leash` before the guardian takes it."""


@dataclass(frozen=True, slots=True)
class Command:
    """A topic that moves the robot, and what the controller behind it does."""

    __pydantic_config__ = STRICT

    topic: Topic
    type: MessageType
    kind: Literal["position", "velocity", "effort"]
    fields: tuple[CommandField, ...]
    on_silence: Literal["holds_position", "repeats_last", "stops"]
    """What the controller does when commands stop coming; forward controllers of ros2_control repeat the last one."""
    silence: Positive | None = None
    """After this long [s], where it stops."""
    hold: Literal["last", "measured", "zero"] | None = None
    """What is sent to hold still: left out, a position command stays, a velocity or an effort goes to zero."""
    frame_id: str = ""
    joints: tuple[str, ...] = ()
    """Of a JointTrajectory."""
    allow_runaway: bool = False
    """Says that a velocity or effort that is repeated for ever when the guardian dies is understood and wanted."""

    @property
    def held(self) -> str:
        return self.hold or ("last" if self.kind == "position" else "zero")


@dataclass(frozen=True, slots=True)
class Force:
    """A force-torque sensor and what is too much for it."""

    __pydantic_config__ = STRICT

    topic: Topic
    limit: Positive
    """Of the Euclidean norm of the values at `paths` [N]."""
    max_age: Positive
    type: MessageType = "geometry_msgs/msg/WrenchStamped"
    paths: tuple[str, ...] = ("wrench.force.x", "wrench.force.y", "wrench.force.z")


@dataclass(frozen=True, slots=True)
class DeadMan:
    """A switch that has to be held for the robot to move."""

    __pydantic_config__ = STRICT

    topic: Topic
    path: str
    """Of a number that is not zero, or a Bool that is true, while it is held: `buttons[4]`, `data`."""
    max_age: Positive
    type: MessageType = "sensor_msgs/msg/Joy"


@dataclass(frozen=True, slots=True)
class Safety:
    """What the guardian watches beside the commands' own limits."""

    __pydantic_config__ = STRICT

    watchdog: Positive = 0.05
    """Period [s] at which the guardian looks for silence, age and stops."""
    silence: Positive | None = None
    """Longest time without a step of the actor [s]; left out, two steps."""
    workspace: dict[str, Interval] = field(default_factory=dict)
    """State entries that have to stay inside these intervals; outside is a stop."""
    force: Force | None = None
    dead_man: DeadMan | None = None
    stop_topic: Topic | None = None
    """A `std_msgs/msg/Bool` that is true where a stop was pressed. One that never said anything counts as pressed."""
    stop_max_age: Positive | None = None
    """So does one that has said nothing for so long [s]; left out, it says something only when it changes."""
    foreign_publishers: Literal["stop", "report"] = "stop"
    """What to do when somebody else publishes commands, too."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One number of a person's input device as one number of the action."""

    __pydantic_config__ = STRICT

    action: str
    path: str
    scale: float = 1.0
    absolute: bool = False
    """Says of a position that is measured that it shall go where the device says, as with a leader arm."""


@dataclass(frozen=True, slots=True)
class Intervention:
    """How a person takes over: while `engaged` is not zero, the person's commands replace the policy's."""

    __pydantic_config__ = STRICT

    topic: Topic
    engaged: str
    """Path of a button, such as `buttons[5]`."""
    axes: tuple[Axis, ...]
    max_age: Positive
    type: MessageType = "sensor_msgs/msg/Joy"


@dataclass(frozen=True, slots=True)
class EpisodeRule:
    """Where a bag that this project did not record has its episodes."""

    __pydantic_config__ = STRICT

    by: Literal["whole", "gaps", "events", "topic"] = "whole"
    """All of it is one; pauses in the commands part them; messages say so; a topic is true while one lasts."""
    gap: Positive = 1.0
    """Pause between commands [s] that parts two episodes."""
    topic: Topic | None = None
    type: MessageType | None = None
    path: str = "data"
    """Of the event's name, or of what is true while an episode lasts."""
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    success: tuple[str, ...] = ()
    """Events that end an episode with a success ..."""
    failure: tuple[str, ...] = ()
    """... or with a failure; with both, and without either, the task itself did not end."""


@dataclass(frozen=True, slots=True)
class Reset:
    """How the robot gets back to where an episode can begin."""

    __pydantic_config__ = STRICT

    service: Topic | None = None
    """A `std_srvs/srv/Trigger` that does it."""
    hands: str = ""
    """What a person is asked to do."""


@dataclass(frozen=True, slots=True)
class RobotContract:
    """Everything that the nodes and the importer need to know about a robot."""

    __pydantic_config__ = STRICT

    version: Literal[1]
    name: str
    """Of the layout: robots whose steps mean the same share it."""
    rate: Positive
    """Steps per second [Hz]."""
    observations: tuple[Observation, ...]
    commands: tuple[Command, ...]
    description: str = ""
    task: str = ""
    """What is done, in one sentence."""
    cameras: tuple[CameraTopic, ...] = ()
    safety: Safety = field(default_factory=Safety)
    intervention: Intervention | None = None
    episodes: EpisodeRule = field(default_factory=EpisodeRule)
    reset: Reset = field(default_factory=Reset)
    max_steps: Annotated[int, Field(gt=0)] | None = None
    """After which an episode is ended [steps]."""

    @property
    def period(self) -> int:
        """Of a step [ns]."""
        return round(1e9 / self.rate)

    @property
    def action_fields(self) -> list[tuple[Command, CommandField]]:
        """Every number of the action, in order, with the topic that it goes to."""
        return [(command, entry) for command in self.commands for entry in command.fields]

    def layout(self) -> Contract:
        """What stores and policies know of it."""
        state = tuple(StateEntry(*entry) for observation in self.observations for entry in state_entries(observation))
        units = {entry.name: entry.unit for entry in state}
        position = {
            entry.name: entry.measured
            for command, entry in self.action_fields
            if command.kind == "position" and entry.measured is not None and units[entry.measured] == entry.unit
        }
        action = tuple(
            ActionEntry(entry.name, entry.unit, entry.low, entry.high, position.get(entry.name))
            for _, entry in self.action_fields
        )
        cameras = tuple(Camera(camera.name, camera.height, camera.width) for camera in self.cameras)
        return Contract(self.name, state, action, cameras, self.rate).check()


def state_entries(observation: Observation) -> list[tuple[str, str, bool]]:
    """Name, unit and periodicity of the state entries that a topic makes, in the order of the state."""
    entries = []
    for item in observation.fields:
        if item.joint is None and observation.joints:
            template = item.name or "{joint}_{path}"
            names = [template.replace("{joint}", j).replace("{path}", item.path) for j in observation.joints]
        else:
            joint = "" if item.joint is None else f"{item.joint}_"
            names = [item.name or joint + item.path]
        entries += [(name, item.unit, item.periodic) for name in names]
    return entries


def robot_contract_from(mapping: dict[str, Any], where: str) -> RobotContract:
    """A checked contract from a mapping (YAML or JSON)."""
    if "version" in mapping and mapping["version"] != VERSION:
        raise InputError(f"{where}: version {mapping['version']!r}, this release reads version {VERSION}")
    contract = parse(RobotContract, mapping, where)
    try:
        _check(contract)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return contract


def read_robot_contract(path: Path) -> RobotContract:
    """A checked contract from a YAML file."""
    return robot_contract_from(read_yaml(path), str(path))


def is_robot_contract(path: Path) -> bool:
    """Whether a YAML file is a robot's contract, and not only the contract of a store."""
    return "observations" in read_yaml(path)


def json_schema() -> str:
    """For editors, which then complete keys and show what they mean."""
    schema = TypeAdapter(RobotContract).json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)


def _check(contract: RobotContract) -> None:
    """Raise an InputError unless everything that refers to something refers to what is there."""
    if not contract.observations and not contract.cameras:
        raise InputError("neither observations nor cameras: nothing can be seen")
    if not contract.commands:
        raise InputError("no commands: nothing can be done")
    types: dict[str, str] = {}
    for source in (*contract.observations, *contract.cameras):
        if types.setdefault(source.topic, source.type) != source.type:
            raise InputError(f"topic {source.topic}: is {types[source.topic]} and {source.type}; it can only be one")
    for observation in contract.observations:
        _check_observation(observation)
    for camera in contract.cameras:
        if camera.crop is not None and (min(camera.crop[:2]) < 0 or min(camera.crop[2:]) < 1):
            raise InputError(
                f"camera {camera.name}: crop {list(camera.crop)}, expected top, left, height and width [px]"
            )
    topics = [command.topic for command in contract.commands]
    for topic in topics:
        if topics.count(topic) > 1:
            raise InputError(
                f"commands to {topic}: are listed twice, and each would send zeros for the other's numbers"
            )
    units = {name: unit for o in contract.observations for name, unit, _ in state_entries(o)}
    for command in contract.commands:
        _check_command(command, units)
    contract.layout()
    for name, (low, high) in contract.safety.workspace.items():
        if name not in units:
            raise unknown("state entry", name, units, "safety.workspace")
        if not low < high:
            raise InputError(f"safety.workspace.{name}: {low:g} is not below {high:g}")
    _check_frames(contract)
    _check_rest(contract)


_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
_POSES = {"geometry_msgs/msg/Pose": "", "geometry_msgs/msg/PoseStamped": "pose."}


def _check_observation(observation: Observation) -> None:
    where = f"observations of {observation.topic}"
    if not observation.fields:
        raise InputError(f"{where}: no fields")
    path_of(observation.names)
    for item in observation.fields:
        path_of(item.path)
        _check_unit(item.unit, f"{where}, {item.path}")
        if item.scale == 0:
            raise InputError(f"{where}, {item.path}: scale 0 makes everything 0")
        shared = item.joint is None and len(observation.joints) > 1
        if shared and item.name and "{joint}" not in item.name:
            raise InputError(
                f"{where}, {item.path}: name {item.name!r} needs {{joint}} in it, to tell the joints apart"
            )

    for name, _, _ in state_entries(observation):
        if not _NAME.fullmatch(name):
            raise InputError(f"{where}: {name!r} cannot name a state entry; give it a name, such as {_plain(name)}")


def _plain(name: str) -> str:
    """A name that could stand for one that is none."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or "entry"


def _check_command(command: Command, units: dict[str, str]) -> None:
    where = f"commands to {command.topic}"
    if not command.fields:
        raise InputError(f"{where}: no fields")
    if command.on_silence == "repeats_last" and command.kind != "position" and not command.allow_runaway:
        raise InputError(
            f"{where}: an effort or velocity that the controller repeats for ever runs away when the guardian dies: "
            "command positions, put a controller with a time-out in between, or say allow_runaway: true"
        )
    if (command.on_silence == "stops") != (command.silence is not None):
        raise InputError(f"{where}: `silence` says after how many seconds a controller stops that `stops`: give both")
    if command.hold == "last" and command.kind == "velocity":
        raise InputError(f"{where}: hold last: the last velocity goes on moving; use zero")
    paths = [item.path for item in command.fields]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{where}: two numbers go to {path}, and the first would be lost")
    if command.held == "measured" and command.kind != "position":
        raise InputError(f"{where}: only a position can be held where it is measured; use zero")
    if command.held == "zero" and command.kind == "position":
        raise InputError(
            f"{where}: position zero is a place, and going there is not holding still; use last or measured"
        )
    for item in command.fields:
        place = f"{where}, {item.name}"
        path_of(item.path)
        _check_unit(item.unit, place)
        if not item.low < item.high:
            raise InputError(f"{place}: low {item.low:g} is not below high {item.high:g}")
        if item.scale <= 0:
            raise InputError(f"{place}: scale {item.scale:g}, expected more than 0")
        if item.measured is not None and item.measured not in units:
            raise unknown("state entry", item.measured, units, place)
        if command.kind != "position" and not item.low <= 0 <= item.high:
            raise InputError(
                f"{place}: 0 is not between low {item.low:g} and high {item.high:g}: it could never stand still"
            )
        if command.kind == "position" and item.measured is None and (item.velocity or item.acceleration):
            raise InputError(
                f"{place}: velocity and acceleration count from where it is; say what is measured of it: "
                "measured: STATE_ENTRY, or its first command could be anywhere"
            )
        for limit in ("position", "leash"):
            if getattr(item, limit) is not None and item.measured is None:
                raise InputError(f"{place}: {limit} is judged by what is measured; say what: measured: STATE_ENTRY")
        if command.kind == "position":
            if item.position is not None:
                raise InputError(f"{place}: a position command has low and high for its position")
            if item.measured is not None and item.scale == 1.0 and units[item.measured] != item.unit:
                raise InputError(
                    f"{place}: unit {item.unit!r}, and {item.measured}, its reference, has {units[item.measured]!r}"
                )
        elif item.velocity is not None or item.leash is not None:
            raise InputError(
                f"{place}: velocity and leash are limits of position commands, and this is a {command.kind}"
            )
        if item.position is not None and not item.position[0] < item.position[1]:
            raise InputError(f"{place}: position {item.position[0]:g} is not below {item.position[1]:g}")
        if command.held == "measured" and item.measured is None:
            raise InputError(f"{place}: to be held where it is measured it needs measured: STATE_ENTRY")


def _check_complete(command: Command, where: str) -> None:
    """Every number of a message is said, or means nothing: what nobody says is sent as 0."""
    paths = [path_of(item.path) for item in command.fields]
    texts = [path.text for path in paths]
    lists: dict[str, set[int]] = {}
    for path in paths:
        if isinstance(path.steps[-1], int):
            lists.setdefault(path.text.rpartition("[")[0], set()).add(path.steps[-1])
    for stem, places in lists.items():
        if missing := sorted(set(range(max(places))) - places):
            raise InputError(f"{where}: {stem}[{missing[0]}] is not listed and would be sent as 0; list all of {stem}")
    if command.type == _TRAJECTORY and len(command.joints) != len(command.fields):
        raise InputError(f"{where}: {len(command.joints)} joints for {len(command.fields)} numbers; name each in order")
    if command.kind == "position" and command.type in _POSES:
        stem = _POSES[command.type]
        for part in ("position.x", "position.y", "position.z", *(f"orientation.{axis}" for axis in "xyzw")):
            if stem + part not in texts:
                raise InputError(f"{where}: {stem + part} is not listed and would be sent as 0; list the whole pose")


def _check_frames(contract: RobotContract) -> None:
    """What is measured of a motion has to be told in the frame that the motion is sent in."""
    frames = {name: o.frame_id for o in contract.observations for name, _, _ in state_entries(o)}
    for command, item in contract.action_fields:
        seen = frames.get(item.measured or "", "")
        if command.frame_id and seen and seen != command.frame_id:
            raise InputError(
                f"commands to {command.topic}, {item.name}: sent in frame {command.frame_id!r}, and {item.measured} "
                f"is measured in {seen!r}"
            )


def check_guarded(contract: RobotContract) -> None:
    """Raise an InputError unless a guardian can keep every number that is sent within limits that mean something.

    Bags of a robot can be imported by a contract that cannot move it.
    """
    for command in contract.commands:
        _check_complete(command, f"contract {contract.name!r}: commands to {command.topic}")
    for command, item in contract.action_fields:
        where = f"contract {contract.name!r}: commands to {command.topic}, {item.name}"
        if command.kind == "position" and not item.unguarded:
            lacking = [name for name in ("measured", "velocity", "leash") if getattr(item, name) is None]
            if lacking:
                raise InputError(
                    f"{where}: has no {' and no '.join(lacking)}; a position without could go anywhere at once. Give "
                    "them, or say unguarded: true where that is meant, as of a gripper"
                )
        if command.kind == "effort" and command.hold is None:
            raise InputError(
                f"{where}: say what holds it still: hold: zero lets go, and an arm that does not carry itself falls; "
                "hold: last keeps what was sent last"
            )


def _check_unit(unit: str, where: str) -> None:
    if unit in _SCALED:
        right, scale = _SCALED[unit]
        raise InputError(f"{where}: unit {unit!r}: write unit: {right} and scale: {scale}")
    if unit not in UNITS:
        raise unknown("unit", unit, [u for u in UNITS if u], where)


def _check_rest(contract: RobotContract) -> None:
    names = [entry.name for _, entry in contract.action_fields]
    if contract.intervention is not None:
        path_of(contract.intervention.engaged)
        for axis in contract.intervention.axes:
            path_of(axis.path)
            if axis.action not in names:
                raise unknown("action", axis.action, names, "intervention")
        driven = {axis.action: axis for axis in contract.intervention.axes}
        for command, item in contract.action_fields:
            if command.kind == "position" and item.name not in driven:
                raise InputError(
                    f"intervention: no axis drives {item.name!r}, a position: it would go to 0 when a person takes over"
                )
            if command.kind == "position" and item.measured is not None and not driven[item.name].absolute:
                raise InputError(
                    f"intervention: {item.name!r} is a position, and would go where the device stands when a person "
                    "takes over; say absolute: true where that is meant, as with a leader arm"
                )
    if contract.safety.dead_man is not None:
        path_of(contract.safety.dead_man.path)
    if contract.safety.force is not None:
        if not contract.safety.force.paths:
            raise InputError("safety.force: no paths, and so no force that could be too much")
        for path in contract.safety.force.paths:
            path_of(path)
    rule = contract.episodes
    path_of(rule.path)
    if rule.by in ("events", "topic") and (rule.topic is None or rule.type is None):
        raise InputError(f"episodes by {rule.by}: need a topic and its type")
    if rule.by == "events" and not rule.start:
        raise InputError("episodes by events: say which events start one")
    if contract.reset.service is not None and contract.reset.hands:
        raise InputError("reset: either a service does it or a person's hands do")
