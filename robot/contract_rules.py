"""What a robot's contract has to keep to: everything named is there, and nothing means something else than it says."""

import re

from episodes.errors import InputError, unknown
from robot.contract import Command, Observation, RobotContract, state_entries
from robot.messages import path_of

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
_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
_POSES = {"geometry_msgs/msg/Pose": "", "geometry_msgs/msg/PoseStamped": "pose."}


def check(contract: RobotContract) -> None:
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
    for where, limits in (("safety.workspace", contract.safety.workspace), ("reset.within", contract.reset.within)):
        for name, (low, high) in limits.items():
            if name not in units:
                raise unknown("state entry", name, units, where)
            if not low < high:
                raise InputError(f"{where}.{name}: {low:g} is not below {high:g}")
    _check_frames(contract)
    _check_rest(contract)


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
    if contract.reset.task:
        _check_reset_free(contract)


def _check_reset_free(contract: RobotContract) -> None:
    reset = contract.reset
    if not contract.task:
        raise InputError("reset.task: undoes a task, and the contract names none; give it task")
    if reset.task == contract.task:
        raise InputError(f"reset.task: {reset.task!r} is the task itself, expected what undoes it")
    if reset.service is None and not reset.hands:
        raise InputError("reset.task: now and then a person has to do it all the same; say what in reset.hands")
