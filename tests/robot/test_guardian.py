"""The guardian: who may move when, what stops the robot, and how it comes to rest."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.errors import InputError
from robot.contract_file import read_robot_contract
from robot.guardian import Decision, Guardian, Verdict
from robot.reports import ActorStep
from tests.robot.guarding import Bench, command, contract_of, entry

NONE, PASSED, CLAMPED, HELD, STOPPED = Verdict
FORCE = {"topic": "wrench", "limit": 20.0, "max_age": 0.1}
DEAD_MAN = {"topic": "joy", "path": "buttons[4]", "max_age": 0.3}


def joint(**more: Any) -> dict[str, Any]:
    return entry(**({"measured": "q", "velocity": 1.0, "acceleration": 5.0} | more))


def arm(**more: Any) -> Bench:
    """One joint in [-1, 1], 1 rad/s and 5 rad/s^2 at most, at 10 Hz."""
    safety = {key: more.pop(key) for key in list(more) if key not in ("lock_step", "state", "hold")}
    options = {"hold": more.pop("hold")} if "hold" in more else {}
    state = more.pop("state", ("q",))
    return Bench(contract_of(command("position", joint(), **options), state=state, **safety), **more)


def moving(bench: Bench) -> Bench:
    """Enabled, and after two steps at 0.5 rad/s: at 0.05 and 0.1."""
    bench.enable()
    assert [bench.ask(0.05).verdict, bench.ask(0.1).verdict] == [PASSED, PASSED]
    bench.values["q"] = 0.1
    return bench


def twist(**more: Any) -> Bench:
    """One velocity in [-1, 1] that moves q, which has to stay in [-1, 1]."""
    limits = {"measured": "q", "position": (-1.0, 1.0), "acceleration": 5.0}
    return Bench(contract_of(command("velocity", entry(**(limits | more.pop("limits", {})))), **more))


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


# --- stops

STOPS: dict[str, tuple[Callable[[], Bench], Callable[[Bench], None], tuple[float, ...] | None, list[str]]] = {
    "not a number": (arm, lambda b: None, (math.nan,), ["x: nan is not finite"]),
    "infinite": (arm, lambda b: None, (math.inf,), ["x: inf is not finite"]),
    "too many numbers": (arm, lambda b: None, (0.1, 0.2), ["2 numbers, expected 1: x"]),
    "no numbers": (arm, lambda b: None, (), ["0 numbers"]),
    "an input that is missing": (arm, lambda b: b.missing.add("q"), (0.1,), ["about/q", "nothing was heard"]),
    "an input that is old": (arm, lambda b: b.ages.update(q=0.16), (0.1,), ["about/q", "160 ms old"]),
    "an input that is no number": (arm, lambda b: b.values.update(q=math.inf), (0.1,), ["q is inf"]),
    "an input that is old, standing still": (arm, lambda b: b.ages.update(q=0.16), None, ["about/q"]),
    "the stop button": (arm, lambda b: b.around.update(stop_pressed=True), (0.1,), ["stop button"]),
    "somebody else": (arm, lambda b: b.around.update(foreign=("/a on x", "/b on x")), (0.1,), ["/a on x, /b on x"]),
    "a force": (lambda: arm(force=FORCE), lambda b: b.around.update(force=21.0), (0.1,), ["21 N", "20 N"]),
    "an old force": (lambda: arm(force=FORCE), lambda b: b.around.update(force_stamp=0), (0.1,), ["wrench", "old"]),
    "no force": (lambda: arm(force=FORCE), lambda b: b.around.update(force=None), (0.1,), ["wrench", "nothing"]),
    "the workspace": (
        lambda: arm(workspace={"q": (-0.5, 0.5)}),
        lambda b: b.values.update(q=-0.51),
        (0.1,),
        ["q is at -0.51", "[-0.5, 0.5]"],
    ),
    "the workspace, standing still": (
        lambda: arm(workspace={"q": (-0.5, 0.5)}),
        lambda b: b.values.update(q=0.51),
        None,
        ["q is at 0.51"],
    ),
}


@pytest.mark.parametrize(("make", "spoil", "action", "words"), STOPS.values(), ids=STOPS.keys())
def test_a_step_stops_for(make: Callable[[], Bench], spoil: Callable[[Bench], None], action: Any, words: list[str]):
    bench = moving(make())
    spoil(bench)

    decision = bench.ask(*((None,) if action is None else action))

    assert decision.verdict is STOPPED
    assert decision.reason == bench.guardian.stopped
    assert all(word in decision.reason for word in words), decision.reason
    assert not bench.guardian.enabled
    # It was moving at 0.5 rad/s, and has just the time to brake.
    assert decision.commands.tolist() == pytest.approx([0.1])


SEEN = [name for name, (_, _, action, _) in STOPS.items() if action in ((0.1,), None)]
"""What is wrong with the surroundings and not with the step."""


@pytest.mark.parametrize("name", SEEN)
def test_the_watchdog_stops_for(name: str):
    make, spoil, _, words = STOPS[name]
    bench = moving(make())
    spoil(bench)

    decision = bench.watch()

    assert decision is not None
    assert decision.verdict is STOPPED
    assert bench.guardian.stopped == decision.reason
    assert all(word in decision.reason for word in words), decision.reason


def test_an_effort_stops_where_what_it_moves_has_left_its_position():
    pushing = entry(low=-5.0, high=5.0, measured="q", position=(-0.5, 0.5))
    bench = Bench(contract_of(command("effort", pushing)))
    bench.enable()
    assert bench.ask(2.0).verdict is PASSED

    decision = bench.ask(2.0)
    assert decision.verdict is PASSED
    bench.values["q"] = 0.6
    decision = bench.ask(2.0)

    assert (decision.verdict, decision.commands.tolist()) == (STOPPED, [0.0])
    assert "q is at 0.6, outside x's position [-0.5, 0.5]" in decision.reason


def test_a_step_that_is_old_stops():
    bench = moving(arm())
    step = bench.next(0.15)
    bench.now += 201_000_000

    decision = bench.give(step)

    assert decision is not None
    assert (decision.verdict, decision.reason) == (STOPPED, "stale step, 201 ms old, expected at most 200 ms")


def test_a_step_of_another_actor_stops():
    bench = moving(arm())
    step = replace(bench.next(0.15, after=0.03), tick=bench.tick - 30_000_000, episode="another")

    decision = bench.give(step)

    assert decision is not None
    assert decision.verdict is STOPPED
    assert "'another'" in decision.reason
    assert "'one'" in decision.reason


@pytest.mark.parametrize("caller", ["step", "watch"])
@pytest.mark.parametrize(("back", "stops"), [(5_000_000, True), (1_000_000, False)])
def test_a_clock_that_goes_back_stops(caller: str, back: int, stops: bool):
    bench = moving(arm())
    bench.watch(after=0.0)
    bench.now -= back
    if caller == "watch":
        bench.watch(after=0.0)
    else:
        bench.give(ActorStep(bench.tick + 1, "one", (), (0.1,)))

    assert (bench.guardian.stopped or "").startswith("the clock went back by 5 ms" if stops else "")
    assert bool(bench.guardian.stopped) == stops


def test_a_clock_that_goes_back_little_by_little_stops():
    bench = moving(arm())
    for _ in range(3):
        bench.now -= 900_000
        bench.watch(after=0.0)

    assert bench.guardian.stopped == "the clock went back by 2 ms"


@pytest.mark.parametrize("lock_step", [False, True])
def test_a_clock_that_goes_back_after_enabling_stops(lock_step: bool):
    bench = arm(lock_step=lock_step)
    bench.enable()
    bench.now -= 5_000_000
    bench.watch(after=0.0)

    assert bench.guardian.stopped == "the clock went back by 5 ms"


@pytest.mark.parametrize("told", [True, False])
def test_an_input_is_old_whether_or_not_the_frame_says_so(told: bool):
    bench = moving(arm())
    step, around = bench.next(0.15), bench.surroundings()
    if told:
        frame = replace(around.frame, stale=("about/q",))
    else:
        frame = replace(around.frame, stamps=(bench.now - 151_000_000,), stale=())
    decision = bench.guardian.step(step, replace(around, frame=frame), bench.now, bench.steady)

    assert decision is not None
    assert decision.verdict is STOPPED
    assert decision.reason.startswith("about/q: ")


def test_limits_that_leave_nothing_stop_and_no_limit_is_broken():
    leashed = entry(measured="q", velocity=1.0, leash=0.1)
    bench = Bench(contract_of(command("position", leashed)))
    bench.enable()
    bench.values["q"] = 0.4

    decision = bench.ask(0.4)

    assert (decision.verdict, decision.commands.tolist()) == (STOPPED, [0.0])
    assert decision.reason == ("x: no command is admissible: leash asks for 0.3 or more, velocity for 0.1 or less")


def test_a_velocity_that_is_pushed_out_of_its_position_may_only_lead_back():
    bench = twist()
    bench.enable()
    bench.values["q"] = 1.1

    assert bench.ask(0.3).commands.tolist() == [0.0]
    assert bench.ask(-0.3).commands.tolist() == [-0.3]


def test_a_fast_velocity_that_is_pushed_out_of_its_position_stops():
    bench = twist()
    bench.enable()
    bench.ask(0.5)
    bench.ask(0.9)
    bench.values["q"] = 1.1

    decision = bench.ask(0.9)

    assert (decision.verdict, decision.commands.tolist()) == (STOPPED, pytest.approx([0.4]))
    assert "acceleration asks for 0.4 or more, position for 0 or less" in decision.reason


def test_reported_publishers_do_not_stop():
    bench = arm(foreign_publishers="report")
    bench.around["foreign"] = ("/a on x",)

    assert moving(bench).ask(0.15).verdict is PASSED


def test_the_first_reason_stays():
    bench = moving(arm())
    bench.guardian.stop("the first")
    bench.guardian.stop("the second")
    bench.around["stop_pressed"] = True

    assert bench.ask(math.nan).reason == "the first"
    assert bench.guardian.stopped == "the first"


def test_a_stop_before_it_was_ever_enabled_is_one_all_the_same():
    bench = arm()
    bench.guardian.stop("somebody shouted")

    assert bench.watch() is None
    assert bench.give(bench.next(0.1)) is None
    with pytest.raises(InputError, match="somebody shouted"):
        bench.enable()
    bench.rearm()
    assert bench.enable().verdict is HELD


# --- silence


def test_a_silent_actor_stops_the_robot():
    bench = moving(arm())

    seen = [bench.watch() for _ in range(5)]

    assert seen[:4] == [None] * 4
    assert seen[4] is not None
    assert seen[4].verdict is STOPPED
    assert bench.guardian.stopped == "no step of the actor for 250 ms"


def test_an_arm_that_settles_a_little_beyond_its_limit_goes_on_from_the_limit():
    """Half a percent of [-1, 1] is 0.01."""
    bench = arm()
    bench.values["q"] = 1.009
    assert bench.enable().commands.tolist() == [1.0]
    assert bench.ask(0.95).verdict is PASSED


def test_a_button_that_only_says_what_changes_may_be_silent():
    bench = arm(stop_topic="stop")
    bench.around["stop_stamp"] = 1
    bench.enable()
    assert bench.ask(0.05).verdict is PASSED


def test_an_arm_that_has_come_to_where_it_was_sent_is_not_moved_by_a_stop():
    """At 0.5 rad/s, braking takes 0.025 rad; after the silence there is nothing left to brake."""
    bench = moving(arm())

    sent = [bench.watch(0.21), *bench.come_to_rest()]

    assert bench.guardian.stopped == "no step of the actor for 210 ms"
    assert {decision.commands[0] for decision in sent if decision is not None} == {0.1}


def test_what_is_stopped_in_motion_is_braked():
    bench = moving(arm())
    bench.guardian.stop("somebody shouted")

    sent = [bench.watch(0.05), *bench.come_to_rest()]

    assert max(decision.commands[0] for decision in sent if decision is not None) > 0.11


def test_a_decision_says_what_time_its_limits_were_counted_from():
    bench = moving(arm())
    assert bench.ask(0.15).dt == pytest.approx(0.1)
    assert bench.ask(0.2, after=0.14).dt == pytest.approx(0.14)


def test_silence_is_two_periods_or_what_the_contract_says():
    bench = moving(arm(silence=0.4))

    assert [bench.watch(0.1) for _ in range(4)] == [None] * 4
    assert bench.watch(0.001) is not None


def test_an_actor_that_wants_to_hold_still_is_not_silent():
    bench = moving(arm())

    for _ in range(10):
        bench.ask(None)
        bench.watch(0.05)

    assert bench.guardian.stopped is None


def test_an_actor_that_never_comes_stops_what_was_enabled():
    bench = arm()
    bench.enable()
    bench.watch(0.21)

    assert bench.guardian.stopped == "no step of the actor for 210 ms"


def test_a_step_after_too_long_a_silence_stops_though_nobody_watched():
    bench = moving(arm())

    assert bench.ask(0.15, after=0.21).verdict is STOPPED
    assert bench.guardian.stopped == "no step of the actor for 210 ms"


def test_silence_is_judged_by_steady_time():
    bench = moving(arm())
    # ROS time stands still.
    bench.steady += 250_000_000

    bench.watch(0.0)

    assert bench.guardian.stopped == "no step of the actor for 250 ms"


# --- holding


def test_a_stop_brakes_rests_and_falls_silent():
    bench = moving(arm())
    bench.ask(0.2)
    bench.guardian.stop("somebody shouted")

    sent = bench.come_to_rest(0.05)

    # 1 rad/s, less by 0.25 every 50 ms; and what was sent at rest is sent once more.
    assert [d.commands[0] for d in sent] == pytest.approx([0.2375, 0.2625, 0.275, 0.275, 0.275])
    assert {(d.verdict, d.reason) for d in sent} == {(STOPPED, "somebody shouted")}
    answer = bench.ask(0.9)
    assert (answer.verdict, answer.action.tolist()) == (STOPPED, pytest.approx([0.275]))
    # Nothing is published: who stopped it may be moving it by hand.
    assert np.isnan(answer.commands).all()


def test_what_is_disabled_brakes_and_falls_silent():
    bench = moving(arm())
    bench.guardian.disable()
    bench.values["q"] = 1.5

    answer = bench.ask(0.9, after=0.05)
    sent = bench.come_to_rest(0.05)

    assert (answer.verdict, answer.reason) == (HELD, "disabled")
    assert [answer.commands[0], *(d.commands[0] for d in sent)] == pytest.approx([0.1125, 0.1125, 0.1125])
    assert bench.give(bench.next(0.9)) is None
    assert bench.guardian.stopped is None


def test_a_velocity_is_held_at_zero():
    bench = twist(limits={"acceleration": 5.0})
    bench.enable()
    bench.ask(0.5)
    bench.guardian.disable()

    assert [d.commands[0] for d in bench.come_to_rest(0.05)] == pytest.approx([0.25, 0.0, 0.0])


def test_a_position_is_held_where_it_was_measured_when_the_hold_began():
    bench = moving(arm(hold="measured"))
    bench.values["q"] = 0.02
    bench.guardian.stop("somebody shouted")

    first = bench.watch()
    bench.values["q"] = 0.9
    sent = bench.come_to_rest()

    assert first is not None
    assert first.commands[0] == pytest.approx(0.1125)
    assert sent[-1].commands[0] == pytest.approx(0.02)
    assert max(d.commands[0] for d in sent) <= 0.1125 + 1e-12


def test_a_robot_that_is_pushed_before_its_first_step_is_held_where_it_was_enabled():
    bench = arm(hold="measured")
    bench.enable()
    bench.values["q"] = 0.5

    seen = bench.watch()

    assert seen is not None
    assert seen.commands.tolist() == [0.0]
    assert bench.ask(None, after=0.05).commands.tolist() == [0.0]


def test_a_position_that_cannot_be_measured_is_held_where_it_comes_to_rest():
    bench = moving(arm(hold="measured"))
    bench.missing.add("q")

    sent = bench.come_to_rest()

    assert bench.guardian.stopped == "about/q: nothing was heard"
    assert [d.commands[0] for d in sent] == pytest.approx([0.1125, 0.1125, 0.1125])


def test_an_actor_that_wants_to_hold_still_goes_on_from_there():
    bench = moving(arm())

    held = [bench.ask(None) for _ in range(3)]
    after = bench.ask(0.2)

    assert {d.verdict for d in held} == {HELD}
    assert [d.commands[0] for d in held] == pytest.approx([0.1, 0.1, 0.1])
    assert (after.verdict, after.commands[0]) == (CLAMPED, pytest.approx(0.15))


def test_a_dead_man_switch_that_is_released_holds_and_does_not_stop():
    bench = moving(arm(dead_man=DEAD_MAN))
    bench.around["dead_man"] = False

    held = bench.ask(0.15)
    still = bench.ask(0.15)
    bench.around["dead_man"] = True
    after = bench.ask(0.15)

    assert (held.verdict, still.verdict, held.reason) == (HELD, HELD, "the dead-man switch is not held")
    assert (held.commands[0], still.commands[0]) == pytest.approx((0.1, 0.1))
    assert (after.verdict, after.commands[0]) == (PASSED, 0.15)


def test_the_watchdog_sees_a_dead_man_switch_that_is_released():
    bench = moving(arm(dead_man=DEAD_MAN))
    bench.around["dead_man_stamp"] = bench.now - 290_000_000

    held = bench.watch()

    assert held is not None
    assert (held.verdict, held.commands[0]) == (HELD, pytest.approx(0.1125))
    assert "joy" in held.reason
    assert bench.guardian.enabled


def test_a_velocity_is_taken_back_where_no_new_step_comes_in_time():
    bench = twist(limits={"acceleration": None}, silence=1.0)
    bench.values["q"] = 0.84375
    bench.enable()
    # Just far enough from the end for one and a half periods.
    assert bench.ask(1.0).verdict is PASSED
    seen = []
    for _ in range(4):
        bench.values["q"] += 0.05 * (seen[-1].commands[0] if seen and seen[-1] is not None else 1.0)
        seen.append(bench.watch())

    assert seen[:2] == [None, None]
    assert [(d.verdict, d.commands[0]) for d in seen[2:] if d] == [(HELD, 0.0), (HELD, 0.0)]
    assert bench.values["q"] <= 1.0 + 1e-6
    assert "x: position, and no new step" in seen[2].reason
    assert bench.guardian.enabled


# --- between episodes


def test_between_episodes_nothing_is_published_and_the_next_begins_where_the_robot_is():
    bench = moving(arm())
    held = [bench.ask(None, episode="") for _ in range(4)]
    assert [d.commands[0] for d in held] == pytest.approx([0.1, 0.1, math.nan, math.nan], nan_ok=True)
    assert {d.verdict for d in held} == {HELD}
    assert bench.watch() is None

    # Somebody has carried it away.
    bench.values["q"] = -0.6
    first = bench.ask(-0.55, episode="two")

    assert (first.verdict, first.commands[0]) == (PASSED, -0.55)


def test_an_episode_that_begins_with_holding_still_holds_where_the_robot_is():
    bench = moving(arm(hold="measured", dead_man=DEAD_MAN))
    for _ in range(4):
        bench.ask(None, episode="")
    bench.values["q"] = -0.6
    bench.around["dead_man"] = False

    first = bench.ask(-0.55, episode="two")

    assert (first.verdict, first.reason) == (HELD, "the dead-man switch is not held")
    assert first.commands[0] == pytest.approx(-0.6)


def test_a_robot_that_was_carried_out_of_its_limits_between_episodes_stops():
    bench = moving(arm())
    for _ in range(4):
        bench.ask(None, episode="")
    bench.values["q"] = -1.2

    answer = bench.ask(-0.9, episode="two")

    assert (answer.verdict, np.isnan(answer.commands).all()) == (STOPPED, True)
    assert "q is at -1.2" in answer.reason


def test_a_stop_between_episodes_moves_nothing():
    bench = moving(arm())
    for _ in range(4):
        bench.ask(None, episode="")
    bench.values["q"] = -0.6

    bench.guardian.stop("somebody shouted")

    assert bench.watch() is None
    assert np.isnan(bench.ask(0.3).commands).all()


# --- rearming


def test_rearming_forgets_the_stop_and_leaves_motion_to_be_enabled():
    bench = moving(arm())
    bench.guardian.stop("somebody shouted")
    bench.come_to_rest()

    bench.rearm()

    assert (bench.guardian.stopped, bench.guardian.enabled) == (None, False)
    assert bench.watch() is None
    assert bench.give(bench.next(0.2)) is None
    bench.values["q"] = 0.3
    assert bench.enable().commands[0] == pytest.approx(0.3)
    assert bench.ask(0.35).verdict is PASSED


@pytest.mark.parametrize("name", SEEN)
def test_rearming_is_refused_while_its_cause_is_there(name: str):
    make, spoil, _, words = STOPS[name]
    bench = moving(make())
    spoil(bench)
    bench.come_to_rest()

    with pytest.raises(InputError) as error:
        bench.rearm()

    assert all(word in str(error.value) for word in words)
    assert bench.guardian.stopped


def test_what_is_not_stopped_is_not_rearmed():
    with pytest.raises(InputError, match="not stopped"):
        arm().rearm()


def test_a_dead_man_switch_need_not_be_held_to_rearm():
    bench = moving(arm(dead_man=DEAD_MAN))
    bench.guardian.stop("somebody shouted")
    bench.around["dead_man"] = False

    bench.rearm()

    assert bench.guardian.stopped is None


def test_a_clock_that_was_set_back_is_the_clock_after_rearming():
    bench = moving(arm())
    bench.now -= 10_000_000_000
    bench.watch()
    assert bench.guardian.stopped == "the clock went back by 9950 ms"
    bench.come_to_rest()

    bench.rearm()
    bench.enable()

    assert bench.ask(0.15).verdict is PASSED
    assert bench.guardian.stopped is None


# --- lock-step


def test_in_lock_step_dt_is_the_difference_of_ticks():
    bench = arm(lock_step=True)
    bench.enable()
    sent = []
    for _ in range(3):
        # Computing takes a second, and simulated time stands still meanwhile.
        bench.steady += 1_000_000_000
        sent.append(bench.ask(9.0).commands[0])

    assert sent == pytest.approx([0.05, 0.15, 0.25])
    # One and a half periods at most, however long it is.
    assert bench.ask(9.0, after=0.04).commands[0] == pytest.approx(0.29)
    assert bench.ask(9.0, after=0.2).commands[0] == pytest.approx(0.44)


def test_in_lock_step_a_velocity_lasts_as_long_as_its_step_and_a_period_at_least():
    bench = Bench(twist().contract, lock_step=True, values={"q": 1 - 1 / 64})
    bench.enable()

    # v 0.1 + v^2 / 10 = 1 / 64 has the solution (sqrt(1.625) - 1) / 2.
    assert bench.ask(0.9).commands[0] == pytest.approx((math.sqrt(1.625) - 1) / 2)
    assert bench.ask(0.9, after=0.04).commands[0] == pytest.approx((math.sqrt(1.625) - 1) / 2)


def test_in_lock_step_the_first_step_after_a_rest_is_one_period_long():
    bench = arm(lock_step=True)
    bench.enable()
    first = bench.ask(9.0, after=0.0)
    for _ in range(3):
        bench.ask(None)
    bench.values["q"] = float(bench.ask(None).commands[0])
    # An episode that begins on what was looked at before.
    bench.ask(None, episode="")
    again = bench.ask(9.0, after=0.0, episode="two")

    assert first.commands[0] == pytest.approx(0.05)
    assert again.commands[0] - bench.values["q"] == pytest.approx(0.05)


def test_in_lock_step_nothing_is_repeated_at_rest_as_every_command_lets_time_go_on():
    bench = arm(lock_step=True)
    bench.enable()
    assert bench.watch() is None
    assert np.isnan(bench.ask(None, episode="").commands).all()
    # Within an episode it has to go on.
    assert bench.ask(None, episode="one").commands.tolist() == [0.0]


def test_in_lock_step_nothing_is_sent_between_episodes():
    bench = moving(arm(lock_step=True))
    bench.ask(0.5)

    idle = bench.ask(None, episode="")
    assert (idle.verdict, np.isnan(idle.commands).all()) == (HELD, True), "it would be taken for the next one's answer"
    assert bench.watch() is None
    bench.values["q"] = -0.5
    assert bench.ask(-0.45, episode="two").commands.tolist() == [-0.45], "from where it is measured"


def test_in_lock_step_what_is_disabled_in_motion_can_be_enabled_again_at_once_between_episodes():
    bench = moving(arm(lock_step=True))
    bench.ask(0.5)
    bench.ask(None, episode="")
    bench.guardian.disable()
    assert bench.enable().verdict is HELD


def test_in_lock_step_silence_is_longer_and_none_at_rest():
    bench = arm(lock_step=True)
    bench.enable()
    bench.steady += 60_000_000_000
    assert bench.watch() is None
    bench.ask(0.05)
    bench.steady += 4_900_000_000
    assert bench.watch(0.0) is None
    bench.steady += 200_000_000
    stopped = bench.watch(0.0)

    assert stopped is not None
    assert stopped.reason == "no step of the actor for 5100 ms"


def test_in_lock_step_the_watchdog_may_be_told_an_older_time_than_the_step():
    bench = arm(lock_step=True)
    bench.enable()
    step = bench.next(0.05)
    behind = bench.surroundings()
    bench.give(step)

    assert bench.guardian.watch(behind, bench.now - 100_000_000, bench.steady) is None
    assert bench.guardian.stopped is None


def test_in_lock_step_what_was_stopped_comes_to_rest_though_simulated_time_stands_still():
    bench = moving(arm(lock_step=True))
    bench.guardian.stop("somebody shouted")
    sent = []
    for _ in range(10):
        bench.steady += 50_000_000
        sent.append(bench.watch(0.0))

    assert [d.commands[0] for d in sent if d] == pytest.approx([0.1125, 0.1125])


def test_the_simulated_panda_passes_what_its_own_limits_allow(root: Path):
    contract = read_robot_contract(root / "launch" / "contracts" / "panda_lift_sim.yaml")
    bench = Bench.of(contract, lock_step=True, eef_z=1.0)
    bench.enable()

    rng = np.random.default_rng(0)
    for number in range(40):
        action = rng.uniform([-0.05] * 3 + [-1], [0.05] * 3 + [1])
        decision = bench.ask(*action.tolist(), after=0.1 if number else 0.0)
        assert decision.verdict is PASSED
        assert decision.action.tobytes() == action.tobytes()
        assert decision.commands.tobytes() == (action * [10, 10, 10, 1]).tobytes()


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
