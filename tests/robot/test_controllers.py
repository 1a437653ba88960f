"""The simulated controllers have the manners of those of ros2_control, the bad ones included."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.controllers import Controller
from tests.robot.contracts import REMOVED, SECOND, contract, make

numbers = st.floats(-5, 5)


def controller(
    low: tuple[float, ...] = (-1.0, -2.0), high: tuple[float, ...] = (1.0, 2.0), **changes: Any
) -> Controller:
    return Controller(contract(**changes).commands[0], np.array(low), np.array(high))


def twisting(**changes: Any) -> Controller:
    return Controller(contract(**changes).commands[1], np.array([-1.0]), np.array([1.0]))


def told(*values: float) -> SimpleNamespace:
    return SimpleNamespace(data=list(values))


def twist(x: float) -> Any:
    message = make("geometry_msgs/msg/TwistStamped")
    message.twist.linear.x = x
    return message


def test_a_robot_that_was_told_nothing_stands_still() -> None:
    assert controller().acting(SECOND) is None


@pytest.mark.parametrize("on_silence", ["holds_position", "repeats_last"])
def test_a_position_is_kept_for_ever(on_silence: str) -> None:
    one = controller(commands__0__on_silence=on_silence)
    one.receive(told(0.5, -0.5), SECOND)
    one.expect()
    np.testing.assert_array_equal(one.acting(10**6 * SECOND), [0.5, -0.5])


def test_a_controller_with_a_time_out_stops_after_it_and_not_before() -> None:
    one = twisting()
    one.receive(twist(0.5), SECOND)
    np.testing.assert_array_equal(one.acting(SECOND + 250_000_000), [0.5])
    assert one.acting(SECOND + 250_000_001) is None
    one.receive(twist(0.25), 2 * SECOND)
    np.testing.assert_array_equal(one.acting(2 * SECOND + 1), [0.25])


def test_a_velocity_that_is_repeated_goes_on_for_ever() -> None:
    one = twisting(
        commands__1__on_silence="repeats_last", commands__1__silence=REMOVED, commands__1__allow_runaway=True
    )
    one.receive(twist(0.5), SECOND)
    one.expect()
    np.testing.assert_array_equal(one.acting(10**6 * SECOND), [0.5])


@pytest.mark.parametrize("kind", ["velocity", "effort"])
def test_a_velocity_whose_controller_holds_position_lasts_for_one_step(kind: str) -> None:
    one = twisting(commands__1__kind=kind, commands__1__on_silence="holds_position", commands__1__silence=REMOVED)
    one.receive(twist(0.5), SECOND)
    np.testing.assert_array_equal(one.acting(SECOND), [0.5])
    one.expect()
    assert one.acting(SECOND) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_dropped_and_the_last_command_stays(value: float) -> None:
    one = controller()
    one.receive(told(0.5, 0.5), SECOND)
    one.expect()
    one.receive(told(value, 0.0), 2 * SECOND)
    np.testing.assert_array_equal(one.acting(2 * SECOND), [0.5, 0.5])
    assert not one.fresh
    assert (one.counts.taken, one.counts.not_finite, one.counts.outside) == (1, 1, 0)


def test_what_is_not_finite_does_not_put_off_a_time_out() -> None:
    one = twisting()
    one.receive(twist(0.5), SECOND)
    one.receive(twist(np.nan), SECOND + 200_000_000)
    assert one.acting(SECOND + 300_000_000) is None


@pytest.mark.parametrize("values", [(), (0.5,), (0.5, 0.5, 0.5)])
def test_a_wrong_size_switches_a_controller_off_until_it_is_reset(values: tuple[float, ...]) -> None:
    one = controller()
    one.receive(told(0.5, 0.5), SECOND)
    one.expect()
    one.receive(told(*values), SECOND)
    assert (one.active, one.fresh, one.counts.wrong_size) == (False, False, 1)
    assert one.acting(SECOND) is None
    one.receive(told(0.5, 0.5), SECOND)
    assert one.acting(SECOND) is None
    one.reset()
    assert one.active
    assert one.acting(SECOND) is None, "what was said before is forgotten"
    one.receive(told(0.25, 0.5), SECOND)
    np.testing.assert_array_equal(one.acting(SECOND), [0.25, 0.5])


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_what_is_outside_is_clipped_and_counted(commands: list[tuple[float, float]]) -> None:
    one = controller()
    for values in commands:
        one.receive(told(*values), SECOND)
        np.testing.assert_array_equal(one.acting(SECOND), np.clip(values, [-1, -2], [1, 2]))
    excess = [max(abs(a) - 1, 0) / 2 + 0.0 for a, _ in commands] + [max(abs(b) - 2, 0) / 4 for _, b in commands]
    assert one.counts.outside == sum(abs(a) > 1 or abs(b) > 2 for a, b in commands)
    assert one.counts.largest_excess == pytest.approx(max(excess))
    assert one.counts.taken == len(commands)


def test_what_is_just_at_a_limit_is_inside() -> None:
    one = controller()
    one.receive(told(-1.0, 2.0), SECOND)
    assert one.counts.outside == 0


@pytest.mark.filterwarnings("error")
def test_an_excess_is_told_beside_a_number_without_limits() -> None:
    one = controller(low=(-1.0, -np.inf), high=(1.0, np.inf))
    one.receive(told(2.0, 0.0), SECOND)
    assert one.counts.outside == 1
    assert one.counts.largest_excess == 0.5


def test_a_command_counts_as_an_answer_once() -> None:
    one = controller()
    assert not one.fresh
    one.receive(told(0.0, 0.0), SECOND)
    assert one.fresh
    one.expect()
    assert not one.fresh


def test_a_command_that_was_published_since_counts_although_it_came_before() -> None:
    one = controller()
    one.receive(told(0.0, 0.0), SECOND, published=500)
    one.expect(since=499)
    assert one.fresh
    one.expect(since=500)
    assert not one.fresh
    one.expect(since=499)
    assert not one.fresh, "it was used up"
    one.receive(told(0.0, 0.0), SECOND, published=500)
    one.expect()
    assert not one.fresh


def test_a_command_from_before_is_no_answer_although_it_comes_after() -> None:
    one = controller()
    one.expect(since=500)
    one.receive(told(0.0, 0.0), SECOND, published=500)
    assert not one.fresh
    one.receive(told(0.0, 0.0), SECOND, published=501)
    assert one.fresh
    one.expect()
    one.receive(told(0.0, 0.0), SECOND, published=400)
    assert one.fresh, "no longer asked for"


def test_without_a_time_of_publishing_a_command_is_not_taken_for_newer() -> None:
    one = controller()
    one.receive(told(0.0, 0.0), SECOND)
    one.expect(since=1)
    assert not one.fresh


def test_a_message_of_one_number_is_a_command() -> None:
    single = contract(
        commands__1__type="std_msgs/msg/Float64MultiArray", commands__1__fields__0__path="data[0]"
    ).commands[1]
    one = Controller(single, np.array([-1.0]), np.array([1.0]))
    one.receive(told(0.5), SECOND)
    np.testing.assert_array_equal(one.acting(SECOND), [0.5])


def test_the_data_of_a_float64_is_a_command() -> None:
    single = contract(commands__1__type="std_msgs/msg/Float64", commands__1__fields__0__path="data").commands[1]
    one = Controller(single, np.array([-1.0]), np.array([1.0]))
    one.receive(SimpleNamespace(data=0.5), SECOND)
    np.testing.assert_array_equal(one.acting(SECOND), [0.5])


@pytest.mark.parametrize("positions", [None, [0.5]])
def test_a_trajectory_of_a_wrong_size_is_refused_like_any_other_command(positions: list[float] | None) -> None:
    command = contract(
        commands__0__type="trajectory_msgs/msg/JointTrajectory",
        commands__0__joints=["shoulder", "elbow"],
        commands__0__fields__0__path="points[0].positions[0]",
        commands__0__fields__1__path="points[0].positions[1]",
    ).commands[0]
    one = Controller(command, np.full(2, -1.0), np.full(2, 1.0))
    points = [] if positions is None else [SimpleNamespace(positions=positions)]
    one.receive(SimpleNamespace(points=points), SECOND)
    assert one.counts.wrong_size == 1
    assert one.acting(SECOND) is None


def test_messages_of_rclpy_are_taken(ros_message) -> None:
    one = controller()
    message = ros_message("std_msgs/msg/Float64MultiArray")
    message.data = [0.5, -0.5]
    one.receive(message, SECOND)
    np.testing.assert_array_equal(one.acting(SECOND), [0.5, -0.5])
