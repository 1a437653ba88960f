"""Ground truth for logged states."""

import numpy as np
import pytest

from sim.operators import RandomOperator, ScriptedLift
from sim.rollout import rollout
from sim.truth import score_episode


def test_it_says_what_the_log_says(lift_quick):
    for seed in range(3):
        episode = rollout(lift_quick, ScriptedLift(lift_quick, 0.6), seed)
        reward, success = score_episode(lift_quick, episode.state, episode.steps)
        assert np.array_equal(reward, episode.reward)
        assert np.array_equal(success, episode.success)


def test_on_pusht_too(pusht):
    episode = rollout(pusht, RandomOperator(pusht), 0)
    reward, _ = score_episode(pusht, episode.state, episode.steps)
    assert np.array_equal(reward, episode.reward)
    assert reward.max() > 0


def test_a_missing_final_observation_is_not_made_up(pusht):
    episode = rollout(pusht, RandomOperator(pusht), 0)
    reward, success = score_episode(pusht, episode.state[:-1], episode.steps)
    assert np.array_equal(reward[:-1], episode.reward[:-1])
    assert np.isnan(reward[-1])
    assert np.isnan(success[-1])


def test_one_step_without_the_next_state_has_no_reward(pusht):
    assert np.isnan(score_episode(pusht, np.zeros((1, 5)), 1)[0]).all()


@pytest.mark.parametrize(("rows", "steps"), [(5, 3), (2, 3), (0, 0)])
def test_ragged_logs_are_refused(pusht, rows, steps):
    with pytest.raises(ValueError, match="states for"):
        score_episode(pusht, np.zeros((rows, 5)), steps)
