"""What nodes tell each other survives the way through JSON exactly, and nonsense is refused in one line."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from robot.reports import ActorStep, EpisodeState, Outcome, Sent, decode, encode, finite

stamps = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False)
reports = st.one_of(
    st.builds(
        ActorStep,
        tick=stamps,
        episode=st.text(),
        stamps=st.lists(stamps, max_size=4).map(tuple),
        action=st.none() | st.lists(numbers, max_size=4).map(tuple),
        source=st.integers(0, 4),
        policy=st.integers(0, 2**64 - 1),
        log_probability=st.none() | numbers,
        late=st.integers(-(2**62), 2**62),
    ),
    st.builds(
        Sent,
        tick=stamps,
        episode=st.text(),
        action=st.lists(numbers, max_size=4).map(tuple),
        verdict=st.integers(0, 9),
        reason=st.text(),
    ),
    st.builds(
        EpisodeState,
        episode=st.text(),
        running=st.booleans(),
        stamp=stamps,
        task=st.text(),
        terminated=st.booleans(),
        success=st.none() | st.booleans(),
        reason=st.text(),
    ),
    st.builds(
        Outcome,
        stamp=stamps,
        success=st.booleans(),
        terminated=st.booleans(),
        truncated=st.booleans(),
        reward=st.none() | numbers,
    ),
)


@given(reports)
def test_what_is_told_is_what_is_heard(report: Any) -> None:
    text = encode(report)
    heard = decode(type(report), text)
    assert heard == report
    assert "\n" not in text
    assert encode(heard) == text


def test_infinity_and_what_is_no_number_reach_the_guardian_as_they_are() -> None:
    step = ActorStep(1, "e", (1,), (math.nan, math.inf, -math.inf, -0.0))
    heard = decode(ActorStep, encode(step)).action
    assert heard is not None
    assert math.isnan(heard[0])
    assert heard[1:] == (math.inf, -math.inf, 0.0)
    assert math.copysign(1, heard[3]) == -1
    assert not finite(heard)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ActorStep: not JSON"),
        ("{", "ActorStep: not JSON"),
        ("[1]", "ActorStep: expected an object, got list"),
        ("null", "ActorStep: expected an object, got NoneType"),
        ("{}", "Field required"),
        ('{"tick":1,"episode":"","stamps":[],"action":null,"acton":1}', "unknown key 'acton' in ActorStep"),
        ('{"tick":1.5,"episode":"","stamps":[],"action":null}', "ActorStep: tick:"),
        ('{"tick":1,"episode":3,"stamps":[],"action":null}', "ActorStep: episode:"),
        ('{"tick":1,"episode":"","stamps":1,"action":null}', "ActorStep: stamps:"),
        ('{"tick":1,"episode":"","stamps":[],"action":[null]}', "ActorStep: action.0:"),
        ('{"tick":1,"episode":"","stamps":[]}', "ActorStep: action: Field required"),
        ('{"tick":1,"episode":"","stamps":[NaN],"action":null}', "ActorStep: stamps.0:"),
        ("1" * 5000, "ActorStep: not JSON"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        decode(ActorStep, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text())
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    with pytest.raises(InputError):
        decode(Sent, text)


def test_brackets_without_end_are_refused_like_any_other_nonsense() -> None:
    with pytest.raises(InputError):
        decode(Sent, "[" * 200_000)


def test_one_kind_of_report_is_not_taken_for_another() -> None:
    with pytest.raises(InputError):
        decode(Outcome, encode(EpisodeState("e", True, 1)))


def test_an_empty_action_is_finite_and_one_bad_number_is_enough() -> None:
    assert finite(())
    assert finite((0.0, -1e308))
    assert not finite((0.0, math.nan))
    assert not finite((-math.inf,))
