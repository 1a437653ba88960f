"""Numbers out of messages: joints by their names, wherever they are."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.typed import parse
from robot.contract import Observation
from robot.state_reader import StateReader

NAMES = ["a", "b", "c", "d"]


def reader(*joints: str, **field: Any) -> StateReader:
    content = {
        "topic": "joint_states",
        "type": "sensor_msgs/msg/JointState",
        "rate": 10,
        "max_age": 1,
        "joints": list(joints),
        "fields": [{"path": "position", "name": "{joint}", **field}],
    }
    return StateReader(parse(Observation, content, "test"))


def states(names: list[str], position: Any) -> SimpleNamespace:
    return SimpleNamespace(name=names, position=position)


def test_a_message_in_another_frame_says_nothing() -> None:
    content = {"topic": "tip", "type": "geometry_msgs/msg/PointStamped", "rate": 10, "max_age": 1, "frame_id": "base"}
    one = StateReader(parse(Observation, content | {"fields": [{"path": "point.x"}]}, "test"))
    message = SimpleNamespace(header=SimpleNamespace(frame_id="base"), point=SimpleNamespace(x=2.0))
    assert one.read(message).tolist() == [2.0]
    message.header.frame_id = "base_link"
    with pytest.raises(LookupError, match="is in frame 'base_link', expected 'base'"):
        one.read(message)


@given(st.lists(st.permutations(NAMES), min_size=1, max_size=4), st.permutations(NAMES).map(lambda names: names[:2]))
def test_joints_are_found_by_name_in_any_order_that_may_change(orders: list[list[str]], wanted: list[str]) -> None:
    values = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    one = reader(*wanted)
    for order in orders:
        found = one.read(states(order, [values[name] for name in order]))
        assert found.tolist() == [values[name] for name in wanted]
        assert found.dtype == np.float32


def test_numbers_are_scaled_before_they_are_rounded() -> None:
    assert reader("a", scale=0.001).read(states(["a"], [269.0])).tolist() == [np.float32(269.0 * 0.001)]


def test_a_missing_joint_is_named_with_those_that_are_there_and_the_next_message_is_read_again() -> None:
    one = reader("c")
    with pytest.raises(LookupError, match=r"'c'; there are: a, b"):
        one.read(states(["a", "b"], [1.0, 2.0]))
    assert one.read(states(["b", "c"], [1.0, 2.0])).tolist() == [2.0]
    with pytest.raises(LookupError, match=r"'c'; there are: a, b"):
        one.read(states(["a", "b"], [1.0, 2.0]))


def test_a_joint_without_a_value_is_named() -> None:
    with pytest.raises(LookupError, match=r"'b' has no value: 1 values for 2 names"):
        reader("a", "b").read(states(["a", "b"], [1.0]))
    with pytest.raises(LookupError, match=r"'a' has no value: 0 values for 1 names"):
        reader("a").read(states(["a"], []))


def test_what_is_no_list_has_no_joints() -> None:
    with pytest.raises(LookupError, match="position"):
        reader("a").read(states(["a"], 1.0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        reader("a").read(states(["a"], [value]))
