"""The guardian of a simulation in lock-step, where time goes on with a command."""

import math
from pathlib import Path

import numpy as np
import pytest

from robot.contract_file import read_robot_contract
from tests.robot.arms import HELD, PASSED, arm, moving, twist
from tests.robot.guarding import Bench


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
