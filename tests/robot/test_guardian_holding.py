"""How the guardian brings a robot to rest, and keeps it there."""

import math

import numpy as np
import pytest

from tests.robot.arms import CLAMPED, DEAD_MAN, HELD, PASSED, STOPPED, arm, moving, twist

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
