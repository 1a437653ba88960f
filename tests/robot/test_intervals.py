"""The interval of every limit, with numbers worked out by hand; and that what is left always lets a robot brake."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from episodes.errors import InputError
from robot.intervals import Last, Reading, Span, admissible, after, limits_of, rates, with_braking, with_room
from tests.robot.guarding import command, contract_of, entry, limits_in

INF = math.inf


def span_of(kind: str, last: Last, dt: float = 0.1, reading: Reading | None = None, horizon: float = 0.1, **fields):
    return admissible(limits_in(kind, **fields), last, dt, reading, horizon)


def told(command: float, rate: float = 0.0) -> Last:
    return Last(command, command, rate)


# c0, r0, limits, and the interval with the limits at its ends; dt is 0.1 s.
POSITIONS = [
    ("nothing but low and high", 0.2, 0.0, {}, (-1, "low", 1, "high")),
    ("a velocity", 0.2, 0.0, {"velocity": 2}, (0.0, "velocity", 0.4, "velocity")),
    ("a velocity at a limit", 0.9, 0.0, {"velocity": 2}, (0.7, "velocity", 1, "high")),
    ("a velocity at the other limit", -0.9, 0.0, {"velocity": 2}, (-1, "low", -0.7, "velocity")),
    # 1 +- 5 * 0.1 for 0.1 s.
    ("an acceleration", 0.0, 1.0, {"acceleration": 5}, (0.05, "acceleration", 0.15, "acceleration")),
    ("an acceleration, backwards", 0.0, -1.0, {"acceleration": 5}, (-0.15, "acceleration", -0.05, "acceleration")),
    ("both", 0.0, 1.0, {"acceleration": 5, "velocity": 1.2}, (0.05, "acceleration", 0.12, "velocity")),
    ("both, backwards", 0.0, -1.0, {"acceleration": 5, "velocity": 1.2}, (-0.12, "velocity", -0.05, "acceleration")),
    # r 0.1 + r^2 / 20 = 0.1 has the solution -1 + sqrt(3).
    (
        "room to brake",
        0.9,
        0.5,
        {"acceleration": 10},
        (0.85, "acceleration", 0.9 + 0.1 * (math.sqrt(3) - 1), "high"),
    ),
    (
        "room to brake below",
        -0.9,
        -0.5,
        {"acceleration": 10},
        (-0.9 - 0.1 * (math.sqrt(3) - 1), "low", -0.85, "acceleration"),
    ),
    ("no room at all", 1.0, 0.0, {"acceleration": 10}, (0.9, "acceleration", 1, "high")),
    ("no room below", -1.0, 0.0, {"acceleration": 10}, (-1, "low", -0.9, "acceleration")),
]


@pytest.mark.parametrize(("what", "c0", "r0", "limits", "expected"), POSITIONS, ids=[case[0] for case in POSITIONS])
def test_a_position_command_is_bound_by(what: str, c0: float, r0: float, limits: dict, expected: tuple):
    span = span_of("position", told(c0, r0), measured="q", **limits)

    assert (span.low, span.high) == pytest.approx((expected[0], expected[2]), abs=1e-12)
    assert (span.low_by, span.high_by) == (expected[1], expected[3])


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (0.2, (0.15, "leash", 0.25, "leash")),
        (0.98, (0.93, "leash", 1, "high")),
        (-0.98, (-1, "low", -0.93, "leash")),
    ],
)
def test_a_leash_binds_a_position_to_where_it_is_measured(measured: float, expected: tuple):
    span = span_of("position", told(measured), reading=Reading(measured, 0.0), measured="q", leash=0.05)

    assert (span.low, span.high) == pytest.approx((expected[0], expected[2]))
    assert (span.low_by, span.high_by) == (expected[1], expected[3])


def test_a_leash_that_a_push_has_stretched_leaves_nothing():
    # 0.1 further in a step at most, and 0.3 away.
    pushed = span_of("position", told(0.0), reading=Reading(0.4, 0.0), measured="q", leash=0.1, velocity=1)

    assert pushed.empty
    assert (pushed.low, pushed.low_by, pushed.high, pushed.high_by) == pytest.approx((0.3, "leash", 0.1, "velocity"))


# What is measured, how old, c0, acceleration, and the fastest upwards and downwards; position is [-1, 1], h is 0.15 s.
ROOM = [
    # v 0.15 + v^2 / 20 = 1.
    ("far from both ends", 0.0, 0.0, 0.0, 10, ((math.sqrt(89) - 3) / 2, (math.sqrt(89) - 3) / 2)),
    # v 0.15 + v^2 / 20 = 0.1 has the solution (-3 + sqrt(17)) / 2, and = 1.9 has (-3 + sqrt(161)) / 2.
    ("near the upper end", 0.9, 0.0, 0.0, 10, ((math.sqrt(17) - 3) / 2, (math.sqrt(161) - 3) / 2)),
    ("near the lower end", -0.9, 0.0, 0.0, 10, ((math.sqrt(161) - 3) / 2, (math.sqrt(17) - 3) / 2)),
    # 0.02 were moved since: v 0.15 + v^2 / 20 = 0.08.
    ("near the upper end, moving", 0.9, 0.05, 0.4, 10, ((math.sqrt(15.4) - 3) / 2, (math.sqrt(161) - 3) / 2)),
    ("near the lower end, moving", -0.9, 0.05, -0.4, 10, ((math.sqrt(161) - 3) / 2, (math.sqrt(15.4) - 3) / 2)),
    # What is old may also have been left behind, but nobody counts on it.
    ("near the upper end, moving away", 0.9, 0.05, -0.4, 10, ((math.sqrt(17) - 3) / 2, (math.sqrt(159.4) - 3) / 2)),
    ("stopping at once", 0.9, 0.0, 0.0, None, (0.1 / 0.15, 1.9 / 0.15)),
    ("at the end", 1.0, 0.0, 0.0, 10, (0.0, (math.sqrt(169) - 3) / 2)),
    ("outside", 1.2, 0.0, 0.0, 10, (0.0, (math.sqrt(185) - 3) / 2)),
    ("outside below", -1.2, 0.0, 0.0, 10, ((math.sqrt(185) - 3) / 2, 0.0)),
]


@pytest.mark.parametrize(("what", "q", "age", "c0", "acceleration", "fastest"), ROOM, ids=[case[0] for case in ROOM])
def test_a_velocity_leaves_room_to_brake(what: str, q: float, age: float, c0: float, acceleration, fastest: tuple):
    limits = limits_in("velocity", low=-9, high=9, measured="q", position=(-1, 1), acceleration=acceleration)

    room = with_room(limits, told(c0), Reading(q, age), 0.15)

    assert (room.high, -room.low) == pytest.approx(fastest)


def test_a_velocity_command_is_bound_by_all_of_its_limits():
    fields = {"low": -0.6, "high": 0.6, "measured": "q", "position": (-1, 1), "acceleration": 1}

    free = span_of("velocity", told(0.3), reading=Reading(0.0, 0.0), **fields)
    fast = span_of("velocity", told(0.58), reading=Reading(0.0, 0.0), **fields)
    # v 0.1 + v^2 / 2 = 0.1: -0.1 + sqrt(0.21).
    near = span_of("velocity", told(0.3), reading=Reading(0.9, 0.0), **fields)
    blind = span_of("velocity", told(0.3), reading=None, **fields)

    assert (free.low, free.low_by, free.high, free.high_by) == pytest.approx((0.2, "acceleration", 0.4, "acceleration"))
    assert (fast.low, fast.low_by, fast.high, fast.high_by) == pytest.approx((0.48, "acceleration", 0.6, "high"))
    assert (near.low, near.high, near.high_by) == pytest.approx((0.2, math.sqrt(0.21) - 0.1, "position"))
    assert (blind.low, blind.high) == pytest.approx((0.2, 0.4))


def test_a_velocity_that_cannot_be_taken_back_in_time_leaves_nothing():
    fields = {"measured": "q", "position": (-1, 1), "acceleration": 1}

    assert span_of("velocity", told(0.5), reading=Reading(1.1, 0.0), **fields).empty
    assert not span_of("velocity", told(0.05), reading=Reading(1.1, 0.0), **fields).empty
    assert not span_of("velocity", told(-0.5), reading=Reading(1.1, 0.0), **fields).empty
    assert span_of("velocity", told(-0.5), reading=Reading(-1.1, 0.0), **fields).empty


def test_an_effort_changes_as_fast_as_it_may():
    span = span_of("effort", told(2.0), low=-5, high=5, acceleration=20)
    edge = span_of("effort", told(-4.0), low=-5, high=5, acceleration=20)

    assert (span.low, span.high, span.low_by, span.high_by) == (0.0, 4.0, "acceleration", "acceleration")
    assert (edge.low, edge.high, edge.low_by, edge.high_by) == (-5.0, -2.0, "low", "acceleration")


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("position", {"velocity": 1}, (0.2, 0.2)),
        ("position", {"acceleration": 1}, (0.2, 0.2)),
        ("position", {}, (-1, 1)),
        ("velocity", {"acceleration": 1}, (0.2, 0.2)),
        ("velocity", {}, (-1, 1)),
        ("effort", {"acceleration": 1}, (0.2, 0.2)),
    ],
)
def test_in_no_time_only_what_has_no_limit_changes(kind: str, fields: dict, expected: tuple):
    span = span_of(kind, told(0.2, 0.5 if "acceleration" in fields else 0.0), dt=0.0, measured="q", **fields)

    assert (span.low, span.high) == expected


def test_what_was_never_told_anything_may_begin_anywhere():
    span = span_of("position", Last(math.nan, math.nan), low=-0.5)

    assert (span.low, span.high) == (-0.5, 1.0)


def test_limits_are_of_what_is_sent():
    limits = limits_in("velocity", low=-0.05, high=0.1, scale=10, acceleration=3)

    assert (limits.floor, limits.ceiling) == (-0.5, 1.0)
    assert limits.command(0.04) == 0.4
    assert limits.action(0.4) == 0.04
    span = admissible(limits, Last(0.04, 0.4), 0.1, None, 0.1)
    assert (span.low, span.high) == pytest.approx((0.1, 0.7))


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(-2e3, 2e3))
def test_no_rounding_carries_a_command_over_a_limit(low: float, width: float, scale: float, wanted: float):
    assume(low + width > low)
    high = low + width
    limits = limits_in("position", low=low, high=high, scale=scale)

    for action in (low, high, limits.action(wanted)):
        sent = limits.command(action)
        assert low * scale <= sent <= high * scale
        assert low <= sent / scale <= high
        assert low <= limits.action(sent) <= high
    assert low <= limits.action(wanted * scale) <= high


def test_the_nearest_value_inside_names_the_limit_that_bound_it():
    span = Span(-1.0, 0.5, "leash", "velocity")

    assert span.nearest(0.7, 0.0) == (0.5, "velocity")
    assert span.nearest(-3.0, 0.0) == (-1.0, "leash")
    assert span.nearest(0.25, 0.0) == (0.25, "")


def test_a_value_that_only_rounding_puts_outside_is_inside_as_it_is():
    # 0.1 + 0.2 is more than 0.3 in floating point.
    beyond = 0.1 + 0.2
    assert beyond > 0.3
    span = Span(-1.0, 0.3, "velocity", "velocity")

    assert span.nearest(beyond, 0.1) == (beyond, "")
    assert span.nearest(0.3 + 1e-13, 0.1) == (0.3, "velocity")
    below = Span(-0.3, 1.0, "velocity", "velocity")
    assert below.nearest(-beyond, -0.1) == (-beyond, "")
    assert below.nearest(-0.3 - 1e-13, -0.1) == (-0.3, "velocity")


def test_ends_that_cross_by_rounding_leave_something_and_others_do_not():
    assert not Span(0.3, 0.3).empty
    assert not Span(0.1 + 0.2, 0.3, near=1e-15).empty
    assert Span(0.1 + 0.2, 0.3).empty
    assert Span(0.3 + 1e-12, 0.3, near=1e-15).empty


@given(st.floats(0, 10), st.floats(0, 1), st.floats(1e-3, 100))
def test_braking_uses_up_the_room_and_no_more(room: float, time: float, acceleration: float):
    rate = with_braking(room, time, acceleration)

    assert rate * time + rate**2 / (2 * acceleration) == pytest.approx(room, rel=1e-9, abs=1e-30)


def test_no_room_is_too_small_to_be_divided_by_what_it_takes():
    assert with_braking(5e-324, 0.0, 4.0) == 0.0


def test_limits_that_nothing_reaches_still_bound():
    far = {"low": -1.7e308, "high": 1.7e308, "measured": "q", "acceleration": 5}

    position = span_of("position", told(0.0), **far)
    velocity = span_of("velocity", told(0.0), reading=Reading(0.0, 0.0), position=(-1.7e308, 1.7e308), **far)

    assert (position.low, position.high) == pytest.approx((-0.05, 0.05))
    assert (velocity.low, velocity.high) == pytest.approx((-0.5, 0.5))


def test_where_there_is_no_room_nothing_is_fast_enough():
    assert with_braking(0.0, 0.0, 1.0) == with_braking(-1.0, 0.1, 1.0) == with_braking(-1.0, 0.1, None) == 0.0


positive = st.floats(0.05, 20)
times = st.lists(st.floats(1e-4, 0.15), min_size=1, max_size=40)


@given(positive, st.none() | positive, st.floats(0, 1), st.floats(-1, 1), times, st.integers(0, 40))
def test_whatever_time_passes_the_hardest_braking_is_inside_all_limits(
    acceleration: float, velocity: float | None, start: float, push: float, dts: list[float], brake_from: int
):
    limits = limits_in("position", low=0.0, high=1.0, acceleration=acceleration, velocity=velocity, measured="q")
    last = told(start)
    for number, dt in enumerate(dts):
        allowed = rates(limits, last, dt)
        assert allowed.low <= allowed.high
        hardest = max(abs(last.rate) - acceleration * dt, 0.0) * math.copysign(1, last.rate)
        assert allowed.low - 1e-9 <= hardest <= allowed.high + 1e-9
        # As far as one may go in one direction, and from some time on nothing but braking.
        fastest = allowed.high if push > 0 else allowed.low
        wanted = hardest if number >= brake_from else fastest
        last = after(limits, last, limits.action(last.command + wanted * dt), dt)
        assert 0.0 <= last.command <= 1.0
        room = 1.0 - last.command if last.rate > 0 else last.command
        assert last.rate**2 / (2 * acceleration) <= room + 1e-9


def test_a_rate_is_told_by_two_commands_and_the_time_between():
    limits = limits_in("position", acceleration=100, measured="q")

    assert after(limits, told(0.1), 0.15, 0.1).rate == pytest.approx(0.5)
    assert after(limits, told(0.1, 2.0), 0.1, 0.0).rate == 2.0
    assert after(limits, Last(math.nan, math.nan), 0.15, 0.1).rate == 0.0


def test_the_rounding_of_a_command_is_no_rate():
    limits = limits_in("position", acceleration=100, measured="q")

    # In a nanosecond the last digit of 0.7 is a tenth of a millimetre per second.
    nearly = after(limits, told(0.7, 0.5), math.nextafter(0.7, 0.0), 1e-12)

    assert nearly.rate == pytest.approx(0.5, abs=1e-9)


def test_rounding_asks_for_no_harder_braking_than_there_is():
    limits = limits_in("position", acceleration=5, measured="q")
    # The room to brake from 1 is 0.1, and 1 - 0.9 is less in double precision.
    allowed = rates(limits, told(0.9, 1.0), 1e-18)

    assert allowed.low <= allowed.high


@pytest.mark.parametrize(
    ("robot", "words"),
    [
        (command("velocity", entry(low=0.1, high=1.0)), ["velocity_x, x", "0 is not between low 0.1 and high 1"]),
        (command("effort", entry(low=-2.0, high=-1.0)), ["effort_x, x", "0 is not between"]),
        (command("position", entry(velocity=1.0)), ["position_x, x", "measured: STATE_ENTRY"]),
        (command("position", entry(acceleration=1.0)), ["measured: STATE_ENTRY"]),
    ],
)
def test_a_robot_that_could_not_hold_still_is_refused(robot: dict, words: list[str]):
    with pytest.raises(InputError) as error:
        limits_of(contract_of(robot))

    assert all(word in str(error.value) for word in words)
