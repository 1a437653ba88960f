"""What is written into messages is read back from them, bit by bit."""

import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.contract import CameraTopic
from robot.controllers import Controller
from robot.frames import Arrival, Frames
from robot.messages import header_stamp, path_of
from robot.outgoing import command_message, image_message, observation_message, put, stamp_header
from robot.pictures import picture_from
from tests.robot.contracts import SECOND, TYPES, contract, make

state_values = st.floats(width=32, allow_nan=False, allow_infinity=False)
scales = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3)


def read_back(contract_: Any, values: list[float], make_message: Any, stamp: int = 7 * SECOND + 3) -> np.ndarray:
    """The state that frames make of the messages that were made of a state."""
    frames, place = Frames(contract_), 0
    for source, size in zip(contract_.observations, (4, 1), strict=True):
        message = observation_message(source, values[place : place + size], stamp, make_message)
        place += size
        ((arrival, why),) = frames.add(source.topic, message, 1)
        assert (arrival, why) == (Arrival.NEW, "")
    frame = frames.frame(stamp)
    assert frame.stamps == (stamp, stamp)
    return frame.state


@given(st.lists(state_values, min_size=5, max_size=5), scales, scales)
def test_a_state_survives_the_way_through_messages_bit_by_bit(values: list[float], one: float, other: float) -> None:
    scaled = contract(observations__0__fields__1__scale=one, observations__1__fields__0__scale=other)
    found = read_back(scaled, values, make)
    assert found.tobytes() == np.array(values, np.float32).tobytes()


def test_a_state_survives_the_way_through_messages_of_rclpy(ros_message) -> None:
    values = [float(np.float32(value)) for value in (0.1, -0.2, 1e-30, 3e38, 0.3)]
    found = read_back(contract(), values, ros_message)
    assert found.tobytes() == np.array(values, np.float32).tobytes()


def test_a_joint_state_lists_every_joint_once() -> None:
    grip = {"path": "position", "joint": "gripper", "name": "g"}
    source = contract(observations__0__fields__2=grip).observations[0]
    message = observation_message(source, [1, 2, 3, 4, 5], SECOND, make)
    assert message.name == ["shoulder", "elbow", "gripper"]
    assert list(message.position) == [1, 2, 5]
    assert list(message.velocity) == [3, 4]


def test_an_observation_without_joints_names_none() -> None:
    message = observation_message(contract().observations[1], [0.5], 3 * SECOND + 4, make)
    assert message.point.x == 500.0
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (3, 4)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=2), st.integers(1, 2**31 * SECOND - 1))
def test_a_command_is_taken_by_its_controller_as_it_was(values: list[float], stamp: int) -> None:
    command = contract().commands[0]
    controller = Controller(command, np.full(2, -1.0), np.full(2, 1.0))
    controller.receive(command_message(command, values, stamp, SECOND // 10, make), stamp)
    found = controller.acting(stamp)
    assert found is not None
    assert found.tobytes() == np.array(values).tobytes()
    assert controller.counts.outside == 0


def test_a_twist_has_a_stamp_and_a_frame() -> None:
    message = command_message(contract().commands[1], [0.25], 5 * SECOND + 6, SECOND // 10, make)
    assert message.twist.linear.x == 0.25
    assert message.twist.linear.y == 0.0
    assert message.header.frame_id == "base"
    assert header_stamp(message) == 5 * SECOND + 6


def trajectory() -> Any:
    return contract(
        commands__0__type="trajectory_msgs/msg/JointTrajectory",
        commands__0__joints=["shoulder", "elbow"],
        commands__0__fields__0__path="points[0].positions[0]",
        commands__0__fields__1__path="points[0].positions[1]",
    ).commands[0]


@pytest.mark.parametrize(("period", "expected"), [(SECOND // 10, (0, 100_000_000)), (2 * SECOND + 1, (2, 1))])
def test_a_trajectory_has_one_point_that_is_reached_in_a_period(period: int, expected: tuple[int, int]) -> None:
    message = command_message(trajectory(), [0.5, -0.5], SECOND, period, make)
    assert message.joint_names == ["shoulder", "elbow"]
    assert header_stamp(message) is None, "counted from when it comes"
    (point,) = message.points
    assert list(point.positions) == [0.5, -0.5]
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == expected


def test_a_trajectory_is_taken_by_its_controller() -> None:
    controller = Controller(trajectory(), np.full(2, -1.0), np.full(2, 1.0))
    controller.receive(command_message(trajectory(), [0.5, -0.5], SECOND, SECOND // 10, make), SECOND)
    np.testing.assert_array_equal(controller.acting(SECOND), [0.5, -0.5])


def test_commands_fill_messages_of_rclpy_that_can_be_sent(ros_message) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    small = contract()
    cases = [
        (small.commands[0], [0.25, -0.5]),
        (small.commands[1], [0.125]),
        (trajectory(), [1.0, 2.0]),
    ]
    for command, values in cases:
        message = command_message(command, np.array(values).tolist(), SECOND, SECOND // 10, ros_message)
        again = deserialize_message(serialize_message(message), type(message))
        assert [path_of(field.path).get(again) for field in command.fields] == values


def test_commands_fill_messages_of_rosbags_that_can_be_written() -> None:
    for command, values in ((contract().commands[0], [0.25, -0.5]), (trajectory(), [1.0, 2.0])):
        message = command_message(command, values, SECOND, SECOND // 10, make)
        again = TYPES.deserialize_cdr(TYPES.serialize_cdr(message, command.type), command.type)
        assert [path_of(field.path).get(again) for field in command.fields] == values


def test_a_command_has_a_number_for_every_field() -> None:
    with pytest.raises(ValueError, match="zip"):
        command_message(contract().commands[0], [1.0], SECOND, 1, make)
    with pytest.raises(ValueError, match="zip"):
        command_message(contract().commands[1], [1.0, 2.0], SECOND, 1, make)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_picture_survives_the_way_through_a_message(height: int, width: int) -> None:
    camera = CameraTopic("wrist", "wrist/image", height, width, 10.0, 0.2)
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    message = image_message(camera, picture[:, ::-1], 2 * SECOND, make)
    assert (message.height, message.width, message.encoding) == (height, width, "rgb8")
    assert header_stamp(message) == 2 * SECOND
    assert message.header.frame_id == "wrist"
    np.testing.assert_array_equal(picture_from(message, camera), picture[:, ::-1])


def test_a_picture_fills_a_message_of_rclpy(ros_message) -> None:
    camera = CameraTopic("wrist", "wrist/image", 2, 3, 10.0, 0.2)
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    message = image_message(camera, picture, SECOND, ros_message, lambda data: array.array("B", data))
    np.testing.assert_array_equal(picture_from(message, camera), picture)


def test_a_message_without_a_header_is_left_alone() -> None:
    message = make("std_msgs/msg/Float64MultiArray")
    stamp_header(message, SECOND, "base")
    assert not hasattr(message, "header")


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(allow_nan=False)), min_size=1, max_size=6))
def test_a_list_grows_as_far_as_it_is_filled_and_is_zero_elsewhere(places: list[tuple[int, float]]) -> None:
    message = make("std_msgs/msg/Float64MultiArray")
    expected = [0.0] * (1 + max(place for place, _ in places))
    for place, value in places:
        expected[place] = value
        put(message, ("data", place), value)
    assert list(message.data) == expected


def test_a_list_inside_a_list_of_messages_can_be_filled() -> None:
    message = make("trajectory_msgs/msg/JointTrajectory")
    message.points = [make("trajectory_msgs/msg/JointTrajectoryPoint") for _ in range(2)]
    put(message, path_of("points[1].velocities[1]").steps, 3.0)
    assert list(message.points[1].velocities) == [0.0, 3.0]
    assert list(message.points[0].velocities) == []


def test_a_list_of_fixed_size_keeps_its_size(ros_message) -> None:
    for maker in (make, ros_message):
        message = maker("sensor_msgs/msg/Imu")
        put(message, path_of("orientation_covariance[4]").steps, 0.5)
        assert list(message.orientation_covariance) == [0, 0, 0, 0, 0.5, 0, 0, 0, 0]
