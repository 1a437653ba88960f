"""Fields by path, joints by name, and the header's stamp."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from robot.messages import MessagePath, header_stamp, path_of
from tests.robot.contracts import SECOND, make

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)


def stamped(sec: int, nanosec: int) -> SimpleNamespace:
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)))


def test_a_path_goes_through_fields_and_lists() -> None:
    message = SimpleNamespace(points=[SimpleNamespace(positions=[1.0, 2.0]), SimpleNamespace(positions=[3.0, 4.0])])
    assert path_of("points[1].positions[0]").get(message) == 3.0
    assert path_of("points").get(message) is message.points


def test_a_path_reads_messages_from_a_bag() -> None:
    message = make("geometry_msgs/msg/PoseStamped")
    message.pose.orientation.w = 0.5
    assert path_of("pose.orientation.w").get(message) == 0.5


def test_a_path_reads_messages_of_rclpy(ros_message) -> None:
    message = ros_message("sensor_msgs/msg/Joy")
    message.buttons = [0, 7]
    assert path_of("buttons[1]").get(message) == 7


@given(st.lists(st.tuples(names, st.lists(st.integers(0, 10**6), max_size=3)), min_size=1, max_size=4))
def test_steps_are_what_was_written(parts: list[tuple[str, list[int]]]) -> None:
    text = ".".join(name + "".join(f"[{index}]" for index in indices) for name, indices in parts)
    expected = [step for name, indices in parts for step in (name, *indices)]
    assert MessagePath.parse(text) == MessagePath(text, tuple(expected))


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[-1]", "a[1.5]", "[0]", "a b", "a[0]b", "1a", "a\n", "a.b[x]"]
)
def test_what_is_no_path_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"pose\.position\.x or data\[3\]") as refused:
        MessagePath.parse(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(LookupError, match=r"point\.w: there is no field 'w'"):
        path_of("point.w").get(make("geometry_msgs/msg/PointStamped"))


def test_a_list_that_is_too_short_says_how_long_it_is() -> None:
    with pytest.raises(LookupError, match=r"data\[2\]: has 2 values"):
        path_of("data[2]").get(SimpleNamespace(data=[1.0, 2.0]))


def test_an_index_into_what_is_no_list_is_a_lookup_error_like_any_other_missing_field() -> None:
    with pytest.raises(LookupError):
        path_of("data[0]").get(SimpleNamespace(data=1.0))


@given(st.integers(1, 2**31 - 1), st.integers(0, SECOND - 1))
def test_a_stamp_is_exact_to_the_nanosecond(sec: int, nanosec: int) -> None:
    assert header_stamp(stamped(sec, nanosec)) == sec * SECOND + nanosec


def test_a_stamp_below_a_second_counts() -> None:
    assert header_stamp(stamped(0, 1)) == 1


def test_a_header_that_nobody_filled_in_says_nothing() -> None:
    assert header_stamp(stamped(0, 0)) is None


def test_a_message_without_a_header_has_no_stamp() -> None:
    assert header_stamp(make("std_msgs/msg/Float64MultiArray")) is None
