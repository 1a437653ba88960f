"""Numbers into ROS 2 messages: commands from actions, and observations from a simulated state.

A message class is given by who knows ROS; rclpy's and rosbags' are filled alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robot.contract import CameraTopic, Command, Observation
from robot.messages import path_of

MakeMessage = Callable[[str], Any]
"""A new message of a type's name, such as `geometry_msgs/msg/TwistStamped`."""


def command_message(command: Command, values: Sequence[float], stamp: int, period: int, make: MakeMessage) -> Any:
    """A command as the controller behind the topic takes it.

    Args:
        values: one per field, in the unit of what is sent.
        stamp: for the header, where there is one [ns]: when it is sent.
        period: in which a trajectory's point shall be reached [ns].
    """
    message = make(command.type)
    stamp_header(message, stamp, command.frame_id)
    if command.type == "trajectory_msgs/msg/JointTrajectory":
        # "From now on": counted from a stamp, what comes late would have to be reached faster than anybody allowed.
        stamp_header(message, 0, command.frame_id)
        point = make("trajectory_msgs/msg/JointTrajectoryPoint")
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(period, 1_000_000_000)
        message.joint_names, message.points = list(command.joints), [point]
    for field, value in zip(command.fields, values, strict=True):
        put(message, path_of(field.path).steps, float(value))
    return message


def observation_message(source: Observation, values: Sequence[float], stamp: int, make: MakeMessage) -> Any:
    """The message that an observation's state entries would be read from; `values` in their order."""
    message = make(source.type)
    stamp_header(message, stamp, "")
    remaining = iter(values)
    names: list[str] = []
    for field in source.fields:
        joints = [field.joint] if field.joint is not None else list(source.joints)
        for joint in joints:
            if joint not in names:
                names.append(joint)
            put(message, (*path_of(field.path).steps, names.index(joint)), next(remaining) / field.scale)
        if not joints:
            put(message, path_of(field.path).steps, next(remaining) / field.scale)
    if names:
        put(message, path_of(source.names).steps, names)
    return message


def image_message(source: CameraTopic, picture: np.ndarray, stamp: int, make: MakeMessage, as_data: Any = bytes) -> Any:
    """A picture, shape (H, W, 3), uint8, RGB, as an Image. `as_data` makes what the message class wants of bytes."""
    message = make("sensor_msgs/msg/Image")
    stamp_header(message, stamp, source.name)
    message.height, message.width = picture.shape[:2]
    message.encoding, message.step = "rgb8", 3 * picture.shape[1]
    message.data = as_data(np.ascontiguousarray(picture).tobytes())
    return message


def stamp_header(message: Any, stamp: int, frame_id: str) -> None:
    """Fill in the header, where the message has one."""
    header = getattr(message, "header", None)
    if header is not None:
        header.stamp.sec, header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        header.frame_id = frame_id


def put(message: Any, steps: Sequence[str | int], value: Any) -> None:
    """Set what a path leads to; a list that is too short is filled up with zeros."""
    *way, last = steps
    for step in way[:-1] if isinstance(last, int) else way:
        message = message[step] if isinstance(step, int) else getattr(message, step)
    if not isinstance(last, int):
        setattr(message, last, value)
        return
    name = way[-1]
    assert isinstance(name, str), "a list in a list is no field of a ROS 2 message"
    before = getattr(message, name)
    numbers = [float(number) for number in before]
    numbers += [0.0] * (last + 1 - len(numbers))
    numbers[last] = float(value)
    # rosbags writes arrays only, and rclpy takes lists.
    setattr(message, name, np.array(numbers, before.dtype) if _is_rosbags(message) else numbers)


def _is_rosbags(message: Any) -> bool:
    return hasattr(message, "__msgtype__")
