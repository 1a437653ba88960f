"""A robot's contract: which topics and fields make a step, what may be commanded, and what the robot does in silence.

One YAML file drives bag import, actor, guardian, recorder and simulated robot, so that what was trained on is what is
served. Its `layout` is the contract that stores and policies know.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from episodes.contract import ActionEntry, Camera, Contract, Name, StateEntry
from episodes.typed import STRICT

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
    task: str = ""
    """What undoes the contract's `task`, and so leads to where that can begin again: the robot resets itself."""
    within: dict[str, Interval] = field(default_factory=dict)
    """Between which limits state entries have to be for that; outside a person is asked."""
    between: Topic | None = None
    """A `std_srvs/srv/Trigger` that is called between two episodes without a reset, such as one that homes the arm."""


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

    def is_backward(self, task: str) -> bool:
        """Whether a task is the one that undoes the other."""
        return bool(self.reset.task) and task == self.reset.task

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
