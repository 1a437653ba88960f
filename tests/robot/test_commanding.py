"""Coming to rest: what every kind of command does in a hold, with numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.commanding import Commanding, at_rest, held
from robot.intervals import Last, Limits, Reading
from tests.robot.guarding import limits_in


def braked(limits: Limits, last: Last, target: float | None = None, dt: float = 0.1, most: int = 10_000) -> list[float]:
    """The commands until it rests."""
    sent = []
    while not at_rest(limits, last, target):
        last = held(limits, last, target, dt)
        sent.append(last.command)
        assert len(sent) < most, "it never comes to rest"
    return sent


@pytest.mark.parametrize(
    ("kind", "held_at", "fields", "start", "expected"),
    [
        # 1 m/s less per step of 0.1 s; the position goes on by what is left.
        ("position", "last", {"acceleration": 10, "measured": "q"}, (0.0, 0.25), [0.0]),
        ("position", "last", {"acceleration": 1, "measured": "q"}, (0.0, 0.25), [0.015, 0.02, 0.02]),
        ("position", "last", {"acceleration": 1, "measured": "q"}, (0.0, -0.25), [-0.015, -0.02, -0.02]),
        ("position", "last", {"velocity": 1, "measured": "q"}, (0.3, 0.0), []),
        ("velocity", "zero", {"acceleration": 2}, (0.5, 0.0), [0.3, 0.1, 0.0]),
        ("velocity", "zero", {"acceleration": 2}, (-0.5, 0.0), [-0.3, -0.1, 0.0]),
        ("velocity", "zero", {}, (0.5, 0.0), [0.0]),
        ("effort", "zero", {"acceleration": 4}, (1.0, 0.0), [0.6, 0.2, 0.0]),
        ("effort", "zero", {}, (-1.0, 0.0), [0.0]),
        ("effort", "last", {"acceleration": 4}, (0.7, 0.0), []),
    ],
)
def test_a_hold_comes_to_rest(kind: str, held_at: str, fields: dict, start: tuple, expected: list[float]):
    limits = limits_in(kind, held=held_at, **fields)

    assert braked(limits, Last(start[0], *start)) == pytest.approx(expected, abs=1e-15)


def test_a_position_is_held_where_it_was_measured():
    at_once = limits_in("position", held="measured", measured="q")
    slow = limits_in("position", held="measured", measured="q", velocity=1)

    assert braked(at_once, Last(0.3, 0.3), target=0.1) == pytest.approx([0.1])
    assert braked(slow, Last(0.3, 0.3), target=0.05) == pytest.approx([0.2, 0.1, 0.05])
    assert braked(slow, Last(0.0, 0.0), target=0.25) == pytest.approx([0.1, 0.2, 0.25])


def test_braking_for_a_place_begins_in_time():
    limits = limits_in("position", held="measured", measured="q", acceleration=10)

    first = held(limits, Last(0.0, 0.0, 0.9), 0.1, 0.1)

    # r 0.1 + r^2 / 20 = 0.1: sqrt(3) - 1.
    assert first.rate == pytest.approx(math.sqrt(3) - 1)
    assert first.command == pytest.approx(0.1 * (math.sqrt(3) - 1))


@given(
    st.sampled_from([0.5, 2.0, 20.0]),
    st.none() | st.sampled_from([0.3, 1.0]),
    st.floats(-0.9, 0.9),
    st.floats(-0.9, 0.9),
    st.floats(-1, 1),
    st.integers(0, 2**32),
)
def test_a_place_is_reached_and_not_overshot_beyond_what_braking_needs(
    acceleration: float, velocity: float | None, start: float, target: float, speed: float, seed: int
):
    limits = limits_in("position", held="measured", measured="q", acceleration=acceleration, velocity=velocity)
    # As fast as it can be with room to brake.
    fastest = min(math.sqrt(2 * acceleration * (1 - abs(start))), velocity or math.inf)
    last = Last(start, start, speed * fastest)
    braking = start + math.copysign(last.rate**2 / (2 * acceleration), last.rate)
    rng = np.random.default_rng(seed)
    sent = 0
    while not at_rest(limits, last, target):
        last = held(limits, last, target, float(rng.uniform(0.01, 0.15)))
        assert min(start, braking, target) - 1e-9 <= last.command <= max(start, braking, target) + 1e-9
        sent += 1
        assert sent < 10_000
    assert last.command == pytest.approx(target)


def test_in_no_time_nothing_brakes_and_nothing_moves():
    position = limits_in("position", held="measured", measured="q", acceleration=10)
    velocity = limits_in("velocity", acceleration=10)

    assert held(position, Last(0.2, 0.2, 0.5), 0.0, 0.0) == Last(0.2, 0.2, 0.5)
    assert held(velocity, Last(0.2, 0.2), None, 0.0) == Last(0.2, 0.2)


def test_what_rests_does_not_creep_however_often_it_is_scaled():
    limits = limits_in("position", measured="q", scale=0.1, acceleration=1)
    action = 0.443
    last = Last(action, limits.command(action))
    assert limits.action(last.command) != action

    for _ in range(1000):
        last = held(limits, last, None, 0.1)

    assert last == Last(action, limits.command(action))


def test_what_was_never_told_anything_is_told_nothing_and_rests():
    limits = limits_in("position")

    after = held(limits, Last(math.nan, math.nan), None, 0.1)

    assert math.isnan(after.command)
    assert at_rest(limits, after, None)


def test_a_start_is_where_everything_is():
    kinds = [
        limits_in("position", measured="q"),
        limits_in("position"),
        limits_in("velocity"),
        limits_in("effort"),
        limits_in("effort", held="last"),
    ]
    commanding = Commanding(kinds)
    here = [Reading(0.3, 0.0), None, None, None, None]

    commanding.begin(here)
    begun = [last.command for last in commanding.last]
    commanding.last = [Last(0.5, 0.5, 0.1) for _ in kinds]
    commanding.begin(here)
    again = [last.command for last in commanding.last]

    # The gripper is not known at first; a torque that carries the arm stays.
    assert begun == pytest.approx([0.3, math.nan, 0.0, 0.0, 0.0], nan_ok=True)
    assert again == pytest.approx([0.3, 0.5, 0.0, 0.0, 0.5])
    assert all(last.rate == 0 for last in commanding.last)


def test_a_place_outside_the_limits_is_held_at_their_edge():
    commanding = Commanding([limits_in("position", held="measured", measured="q"), limits_in("position", measured="q")])

    assert commanding.targets([Reading(1.3, 0.0), Reading(0.2, 0.0)]) == [1.0, None]
    assert commanding.targets([None, None]) == [None, None]
