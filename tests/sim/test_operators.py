"""Operators: seeded, inside the limits, and as good as they are told to be."""

import numpy as np
import pytest

from episodes.episode import Source
from episodes.errors import InputError
from sim.operators import ScriptedLift, ScriptedPutBack, make_operator
from sim.rollout import rollout
from sim.task import make_task


def successes(task, quality, seeds):
    return [rollout(task, ScriptedLift(task, quality), seed).success[-1] for seed in seeds]


def test_at_its_best_it_lifts(lift_quick, lift):
    assert np.mean(successes(lift_quick, 1.0, range(12))) == 1.0
    assert np.mean(successes(lift, 1.0, range(4))) == 1.0


def test_worse_operators_fail_more(lift_quick):
    rates = [np.mean(successes(lift_quick, quality, range(10))) for quality in (0.0, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2]
    assert rates[0] <= 0.4


def test_what_was_lifted_is_put_back(lift_back):
    def rate(quality):
        found = [rollout(lift_back, make_operator("scripted", lift_back, quality), seed) for seed in range(10)]
        return np.mean([episode.success[-1] for episode in found])

    best, worst = rate(1.0), rate(0.0)
    assert best >= 0.9
    assert worst <= 0.6


def test_what_fell_beside_is_fetched(lift_back):
    """Let go of outside the region, it is lifted once more and put where it belongs."""
    operator = ScriptedPutBack(lift_back)
    operator.reset(0)
    operator._offset = np.array([0.1, 0.0])
    observation, _ = lift_back.reset(seed=0)
    phases = []
    for _ in range(2):
        for _ in range(lift_back.horizon):
            observation, _, terminated, truncated, _ = lift_back.step(operator.act(observation))
            phases.append(operator._phase)
            if terminated or truncated:
                break
        if terminated:
            break
        observation = lift_back.go_on()
    assert terminated
    assert "fetch" in phases


def test_its_actions_follow_from_its_seed(lift_quick):
    one, two = ScriptedLift(lift_quick, 0.3), ScriptedLift(lift_quick, 0.3)
    first = rollout(lift_quick, one, 5)
    rollout(lift_quick, two, 6)
    np.random.seed(1)
    assert first.digest() == rollout(lift_quick, two, 5).digest()


@pytest.mark.parametrize("spec", ["lift-quick", "lift"])
def test_actions_are_inside_the_limits(spec, request):
    task = request.getfixturevalue(spec.replace("-", "_"))
    for name in ("scripted", "random"):
        operator = make_operator(name, task, 0.2)
        operator.reset(0)
        observation, _ = task.reset(seed=0)
        for _ in range(20):
            action = operator.act(observation)
            assert action.dtype == np.float32
            assert np.array_equal(action, task.clip(action))
            observation = task.step(action)[0]


def test_a_script_only_where_there_is_one(pusht):
    assert make_operator("random", pusht).source == Source.SCRIPTED
    with pytest.raises(InputError, match="no script for task 'pusht'"):
        make_operator("scripted", pusht)
    with pytest.raises(InputError, match="no script for task 'door'"):
        make_operator("scripted", make_task("door"))
    with pytest.raises(InputError, match="did you mean 'scripted'"):
        make_operator("script", pusht)


@pytest.mark.parametrize("quality", [-0.1, 1.1, np.nan])
def test_quality_is_a_fraction(lift_quick, quality):
    with pytest.raises(InputError, match="quality"):
        ScriptedLift(lift_quick, quality)
