"""The guardian: who may move when, and what becomes of a step."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from episodes.errors import InputError
from robot.guardian import Decision, Guardian
from tests.robot.arms import CLAMPED, DEAD_MAN, FORCE, HELD, NONE, PASSED, STOPPED, arm, joint, moving, twist
from tests.robot.guarding import Bench, command, contract_of, entry

# --- before motion


def test_before_it_is_enabled_nothing_is_published():
    bench = arm()

    assert bench.watch() is None
    assert bench.give(bench.next(0.5)) is None
    assert bench.give(bench.next(math.nan)) is None
    assert not bench.guardian.enabled
    assert bench.guardian.stopped is None
    assert bench.guardian.counts == {NONE: 2}


def test_the_first_command_holds_the_robot_where_it_is():
    bench = Bench(
        contract_of(
            command("position", joint(name="a", measured="p"), entry("grip"), topic="arm"),
            command("velocity", entry("v", measured="q", position=(-1, 1))),
            command("effort", entry("f")),
            state=("p", "q"),
        ),
        values={"p": 0.4},
    )

    first = bench.enable()

    assert (first.verdict, bool(first.reason)) == (HELD, True)
    assert first.commands.tolist() == pytest.approx([np.float32(0.4), math.nan, 0.0, 0.0], nan_ok=True, abs=0)
    assert first.action.tolist() == pytest.approx([np.float32(0.4), math.nan, 0.0, 0.0], nan_ok=True, abs=0)
    assert bench.guardian.enabled


def test_what_is_not_measured_begins_anywhere_and_stays_what_it_was_told():
    bench = Bench(contract_of(command("position", entry("grip"))))
    assert np.isnan(bench.enable().commands).all()
    assert np.isnan(bench.ask(None).commands).all()

    assert bench.ask(0.8).commands.tolist() == [0.8]
    bench.guardian.disable()
    bench.come_to_rest()
    assert bench.enable().commands.tolist() == [0.8]


def test_a_robot_at_its_limit_can_be_enabled_though_a_float32_puts_it_beyond():
    bench = Bench(contract_of(command("position", joint(low=-0.1, high=0.7))), values={"q": -0.1})
    assert float(np.float32(-0.1)) < -0.1

    assert bench.enable().commands.tolist() == [-0.1]


REFUSED: dict[str, tuple[Callable[[], Bench], list[str]]] = {
    "an input is missing": (lambda: arm_with(missing={"q"}), ["about/q", "nothing was heard"]),
    "an input is old": (lambda: arm_with(ages={"q": 0.2}), ["about/q", "200 ms old", "at most 150 ms"]),
    "an input is of the future": (lambda: arm_with(ages={"q": -0.2}), ["about/q", "the clocks differ"]),
    "an input's clock is far ahead": (
        lambda: arm_with(missing={"q"}, ahead={"about/q": 5.0}),
        ["about/q: stamped 5000 ms after now: the clocks differ"],
    ),
    "an input's first message is of this moment": (
        lambda: arm_with(missing={"q"}, ahead={"about/q": 0.01}),
        ["about/q", "nothing was heard"],
    ),
    "an input is no number": (lambda: arm_with(values={"q": math.nan}), ["q is nan"]),
    "it is outside its limits": (lambda: arm_with(values={"q": 1.2}), ["q is at 1.2", "[-1, 1]", "by hand"]),
    "a velocity's position": (lambda: at(twist(), q=-1.1), ["q is at -1.1", "x's position [-1, 1]", "by hand"]),
    "it is a little outside": (lambda: arm_with(values={"q": 1.0101}), ["q is at 1.0101"]),
    "it is outside the workspace": (
        lambda: at(arm(workspace={"q": (-0.5, 0.5)}), q=0.6),
        ["q is at 0.6", "workspace [-0.5, 0.5]", "by hand"],
    ),
    "the force is too high": (lambda: arm_with({"force": 20.5}, force=FORCE), ["20.5 N", "the limit 20 N"]),
    "the force is no number": (lambda: arm_with({"force": math.nan}, force=FORCE), ["nan N"]),
    "the force was never heard of": (lambda: arm_with({"force": None}, force=FORCE), ["wrench", "nothing"]),
    "the force is old": (lambda: arm_with({"force_stamp": 0}, force=FORCE), ["wrench", "ms old"]),
    "the dead-man switch is released": (lambda: arm_with({"dead_man": False}, dead_man=DEAD_MAN), ["not held"]),
    "the dead-man switch is old": (lambda: arm_with({"dead_man_stamp": 0}, dead_man=DEAD_MAN), ["joy", "ms old"]),
    "somebody else publishes": (lambda: arm_with({"foreign": ("/rviz on arm",)}), ["/rviz on arm"]),
    "the stop button is pressed": (lambda: arm_with({"stop_pressed": True}), ["stop button"]),
    "the stop button was never heard of": (lambda: arm_with({"stop_stamp": 0}, stop_topic="stop"), ["stop", "nothing"]),
    "nobody publishes the stop button": (
        lambda: arm_with({"stop_gone": True}, stop_topic="stop"),
        ["stop: nobody publishes the stop button any more"],
    ),
    "the stop button is silent": (
        lambda: arm_with({"stop_stamp": 7}, stop_topic="stop", stop_max_age=1.0),
        ["the stop button (stop)", "ms old"],
    ),
}


def at(bench: Bench, **values: float) -> Bench:
    bench.values.update(values)
    return bench


def arm_with(around: dict[str, Any] | None = None, **more: Any) -> Bench:
    safety = ("force", "dead_man", "stop_topic", "stop_max_age")
    bench = arm(**{key: more.pop(key) for key in safety if key in more})
    bench.around = around or {}
    for name, value in more.items():
        setattr(bench, name, value)
    return bench


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_motion_is_not_enabled_while(make: Callable[[], Bench], words: list[str]):
    bench = make()

    with pytest.raises(InputError) as error:
        bench.enable()

    assert all(word in str(error.value) for word in words), str(error.value)
    assert not bench.guardian.enabled
    assert bench.watch() is None


@pytest.mark.parametrize("lock_step", [False, True])
def test_motion_is_not_enabled_while_there_is_no_actor(lock_step: bool):
    bench = arm(lock_step=lock_step)
    around = bench.surroundings()
    with pytest.raises(InputError, match="no step of an actor was heard"):
        bench.guardian.enable(around, bench.now, bench.steady)

    bench.give(bench.next(None, episode=""))
    bench.pass_time(0.3)
    if lock_step:
        # It has nothing to answer while simulated time stands still.
        bench.guardian.enable(bench.surroundings(), bench.now, bench.steady)
    else:
        with pytest.raises(InputError, match="no step of the actor for 300 ms"):
            bench.guardian.enable(bench.surroundings(), bench.now, bench.steady)


def test_motion_is_not_enabled_twice_nor_after_a_stop_nor_while_braking():
    bench = moving(arm())
    with pytest.raises(InputError, match="already"):
        bench.enable()
    bench.guardian.disable()
    with pytest.raises(InputError, match="still braking"):
        bench.enable()
    bench.come_to_rest()
    bench.guardian.stop("somebody shouted")
    with pytest.raises(InputError, match=r"somebody shouted.*rearm"):
        bench.enable()


def test_what_is_not_needed_may_be_missing_or_old():
    bench = arm(state=("q", "cube"))
    bench.missing = {"cube"}
    bench.enable()
    assert bench.ask(0.05).verdict is PASSED

    bench.missing, bench.ages = set(), {"cube": 5.0}
    assert bench.ask(0.1).verdict is PASSED


def test_an_input_that_only_the_workspace_needs_is_needed():
    bench = arm(state=("q", "z"), workspace={"z": (0.0, 1.0)})
    bench.missing = {"z"}

    with pytest.raises(InputError, match="about/z"):
        bench.enable()


# --- a step


def test_what_is_admissible_passes_to_the_last_bit():
    bench = Bench(contract_of(command("velocity", entry(low=-0.05, high=0.05, scale=10, acceleration=10))))
    bench.enable()

    for proposal in (0.05, -0.05, 0.1 / 3, -1e-300, 0.049999999999999996):
        decision = bench.ask(proposal)
        assert (decision.verdict, decision.reason) == (PASSED, "")
        assert decision.action.tolist() == [proposal]
        assert decision.commands.tolist() == [proposal * 10]


CLAMPS: dict[str, tuple[Callable[[], Bench], float, float, str]] = {
    "high": (lambda: Bench(contract_of(command("velocity", entry()))), 3.0, 1.0, "x: high"),
    "low": (lambda: Bench(contract_of(command("velocity", entry()))), -3.0, -1.0, "x: low"),
    "far too high": (lambda: Bench(contract_of(command("velocity", entry(scale=10)))), 1e308, 1.0, "x: high"),
    "acceleration": (twist, 0.9, 0.5, "x: acceleration"),
    # v 0.15 + v^2 / 10 = 0.0275 has the solution 0.1651...
    "position": (lambda: at(twist(), q=0.9725), 0.9, (-1.5 + math.sqrt(2.25 + 1.1)) / 2, "x: position"),
    # 0.5 rad/s after one step of 0.1 s.
    "a position's acceleration": (arm, 0.9, 0.05, "x: acceleration"),
    "a position's velocity": (
        lambda: Bench(contract_of(command("position", entry(measured="q", velocity=1.0)))),
        0.9,
        0.1,
        "x: velocity",
    ),
    "a leash": (
        lambda: Bench(contract_of(command("position", entry(measured="q", leash=0.2)))),
        -0.9,
        -0.2,
        "x: leash",
    ),
}


@pytest.mark.parametrize(("make", "wanted", "sent", "reason"), CLAMPS.values(), ids=CLAMPS.keys())
def test_the_nearest_admissible_command_goes_out(make: Callable[[], Bench], wanted: float, sent: float, reason: str):
    bench = make()
    bench.enable()

    decision = bench.ask(wanted)

    assert decision.verdict is CLAMPED
    assert decision.reason == reason
    assert decision.action.tolist() == pytest.approx([sent])


def test_only_what_is_bound_is_changed():
    bench = Bench(contract_of(command("velocity", entry("x"), entry("y"), entry("z"), topic="servo")))
    bench.enable()

    decision = bench.ask(0.1 / 3, 2.0, -2.0)

    assert decision.action.tolist() == [0.1 / 3, 1.0, -1.0]
    assert decision.reason == "y: high, z: low"


def test_actions_are_clamped_in_the_unit_of_what_is_sent():
    bench = Bench(contract_of(command("velocity", entry(low=-0.05, high=0.05, scale=10, acceleration=2))))
    bench.enable()

    decision = bench.ask(0.05)

    # 2 m/s^2 for 0.1 s are 0.2 m/s, a displacement of 0.02 per step.
    assert decision.commands.tolist() == pytest.approx([0.2])
    assert decision.action.tolist() == pytest.approx([0.02])


def test_an_acceleration_counts_from_the_rate_that_was_reached():
    bench = arm()
    bench.enable()

    sent = [bench.ask(1.0).commands[0] for _ in range(4)]

    # 0.5, then 1 rad/s, which is the fastest.
    assert sent == pytest.approx([0.05, 0.15, 0.25, 0.35])


def test_a_robot_that_is_told_to_go_beyond_its_limit_comes_to_rest_at_it():
    bench = arm()
    bench.enable()

    sent = [bench.ask(9.0).commands[0] for _ in range(40)]

    assert max(sent) <= 1.0
    assert sent[-1] == pytest.approx(1.0)
    rates = np.diff([0.0, *sent]) / 0.1
    assert np.abs(np.diff([0.0, *rates])).max() <= 0.5 + 1e-9


def test_steps_in_a_burst_do_not_double_the_rate():
    bench = Bench(contract_of(command("position", entry(measured="q", velocity=1.0))))
    bench.enable()
    assert bench.ask(0.1).verdict is PASSED

    # A millisecond later only a millimetre more.
    assert bench.ask(0.2, after=0.001).commands[0] == pytest.approx(0.101)


def test_a_pause_does_not_allow_a_leap():
    bench = Bench(contract_of(command("position", entry(measured="q", velocity=1.0)), silence=9.0))
    bench.enable()

    # One and a half periods at most.
    assert bench.ask(0.9, after=5.0).commands[0] == pytest.approx(0.15)


def test_a_clock_that_stands_still_lets_nothing_move():
    bench = arm()
    bench.enable()
    step = bench.next(0.5, after=0.0)

    decision = bench.give(step)

    assert decision is not None
    assert decision.commands.tolist() == [0.0]


def test_a_steady_clock_that_is_not_steady_lets_nothing_move():
    bench = arm()
    bench.enable()
    bench.ask(0.05)
    step = bench.next(0.9, after=0.1)
    bench.steady -= 150_000_000

    decision = bench.give(step)

    assert decision is not None
    assert (decision.verdict, decision.commands.tolist()) == (CLAMPED, [0.05])


def test_the_clock_of_dt_is_the_steady_one():
    bench = Bench(contract_of(command("position", entry(measured="q", velocity=1.0))))
    bench.enable()
    # ROS time makes a leap, as when it is adjusted.
    step = bench.next(0.9, after=0.01)
    bench.now += 90_000_000
    bench.tick = bench.now

    decision = bench.give(replace(step, tick=bench.tick))

    assert decision is not None
    assert decision.commands[0] == pytest.approx(0.01)


def test_an_angle_that_turns_round_is_on_the_leash_all_the_way():
    turning = entry(low=-10.0, high=10.0, measured="q", leash=0.5)
    bench = Bench(contract_of(command("position", turning), periodic=("q",)), values={"q": 3.1})
    bench.enable()

    assert bench.ask(3.3).verdict is PASSED
    # Measured as -3.08, which is the same as 3.2.
    bench.values["q"] = 3.2 - 2 * math.pi
    assert bench.ask(3.5).verdict is PASSED
    clamped = bench.ask(4.5)
    assert (clamped.verdict, clamped.reason) == (CLAMPED, "x: leash")
    assert clamped.commands[0] == pytest.approx(3.7, abs=1e-6)


# --- counts


def test_every_step_is_counted_by_its_verdict_and_looking_on_is_not():
    bench = moving(arm())
    bench.ask(0.9)
    bench.ask(None)
    bench.watch()
    bench.guardian.stop("somebody shouted")
    bench.watch()
    bench.ask(0.9)

    assert bench.guardian.counts == {NONE: 1, PASSED: 2, CLAMPED: 1, HELD: 1, STOPPED: 1}


def test_a_contract_that_cannot_hold_still_makes_no_guardian():
    with pytest.raises(InputError, match="never stand still"):
        Guardian(contract_of(command("velocity", entry(low=0.5, high=1.0))))


def test_a_decision_has_a_number_for_every_entry():
    bench = Bench(
        contract_of(command("velocity", entry("x"), entry("y"), topic="servo"), command("effort", entry("f")))
    )
    decision: Decision = bench.enable()

    assert decision.action.shape == decision.commands.shape == (3,)
    assert decision.action.dtype == decision.commands.dtype == np.float64
