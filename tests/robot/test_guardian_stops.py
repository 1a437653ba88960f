"""What stops the guardian, and when it may be rearmed."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from episodes.errors import InputError
from robot.reports import ActorStep
from tests.robot.arms import DEAD_MAN, FORCE, HELD, PASSED, STOPPED, arm, moving, twist
from tests.robot.guarding import Bench, command, contract_of, entry

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
    "a stop button that is gone": (
        lambda: arm(stop_topic="stop"),
        lambda b: b.around.update(stop_gone=True),
        (0.1,),
        ["nobody publishes the stop button"],
    ),
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
