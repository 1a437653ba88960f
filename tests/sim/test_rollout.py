"""One episode: what was seen, what was sent, when, and how it ended."""

import numpy as np
import pytest

from episodes.episode import Source
from sim.operators import RandomOperator, ScriptedLift
from sim.rollout import rollout
from sim.task import make_task


class Policy:
    """A policy that asks for too much."""

    source = Source.POLICY
    policy_hash = 2**63 + 5

    def reset(self, seed):
        self.log_probability = None
        self.count = 0

    def act(self, observation):
        self.count += 1
        self.log_probability = -float(self.count)
        return np.array([600.0, 100.0])


def test_a_success_terminates_the_episode(lift_quick):
    episode = rollout(lift_quick, ScriptedLift(lift_quick), 3).check(lift_quick.contract)
    assert (episode.terminated, episode.truncated) == (True, False)
    assert len(episode.state) == episode.steps + 1
    assert episode.success.tolist() == episode.reward.tolist() == [0.0] * (episode.steps - 1) + [1.0]
    assert (episode.source == Source.SCRIPTED).all()
    assert episode.task == lift_quick.instruction
    assert (episode.place, episode.origin) == ("sim", "lift-quick seed 3")
    assert episode.policy is None
    assert episode.log_probability is None


def test_success_in_the_last_step_terminates_and_does_not_truncate(lift_quick):
    steps = rollout(lift_quick, ScriptedLift(lift_quick), 3).steps
    task = make_task(f"lift-quick:horizon={steps}")
    episode = rollout(task, ScriptedLift(task), 3)
    assert (episode.steps, episode.terminated, episode.truncated) == (steps, True, False)
    shorter = make_task(f"lift-quick:horizon={steps - 1}")
    episode = rollout(shorter, ScriptedLift(shorter), 3)
    assert (episode.steps, episode.terminated, episode.truncated) == (steps - 1, False, True)


def test_stamps_are_simulated_time():
    task = make_task("pusht:horizon=4")
    episode = rollout(task, RandomOperator(task), 0)
    assert episode.observation_time.tolist() == [0, 100_000_000, 200_000_000, 300_000_000, 400_000_000]
    assert episode.action_time.tolist() == [0, 100_000_000, 200_000_000, 300_000_000]


def test_the_action_is_the_one_that_was_sent_and_the_policy_is_named():
    task = make_task("pusht:horizon=3", gap="delay_steps=1")
    episode = rollout(task, Policy(), 0).check(task.contract)
    assert episode.action.tolist() == [[512.0, 100.0]] * 3
    assert episode.policy.tolist() == [2**63 + 5] * 3
    assert episode.log_probability.tolist() == [-1.0, -2.0, -3.0]
    assert (episode.source == Source.POLICY).all()
    assert episode.origin == "pusht:horizon=3 seed 0 gap delay_steps=1"


def test_pictures_are_kept_for_every_observation():
    task = make_task("pusht:horizon=5", cameras=["image"], image_size=(32, 32))
    frames = []
    episode = rollout(task, RandomOperator(task), 0, frames=frames, frame_every=2).check(task.contract)
    assert episode.images["image"].shape == (6, 32, 32, 3)
    assert not np.array_equal(episode.images["image"][0], episode.images["image"][-1])
    assert len(frames) == 4  # before steps 0, 2, 4, and the end
    assert frames[0].shape == (256, 256, 3)
    assert rollout(task, RandomOperator(task), 0, record_images=False).images == {}


def test_a_task_that_cannot_succeed_logs_no_success():
    task = make_task("hopper:horizon=5")
    episode = rollout(task, RandomOperator(task), 0).check(task.contract)
    assert episode.success is None
    assert episode.reward.shape == (5,)


def test_a_frame_every_zeroth_step_is_refused(pusht):
    with pytest.raises(ValueError, match="frame_every"):
        rollout(pusht, RandomOperator(pusht), 0, frames=[], frame_every=0)


def test_an_episode_can_begin_in_a_state_and_be_cut_short():
    task = make_task("linear-quadratic:horizon=9")
    operator = RandomOperator(task)
    start = np.array([0.5, -0.25])
    cut = rollout(task, operator, 3, start=start, horizon=4).check(task.contract)
    assert (cut.steps, cut.terminated, cut.truncated) == (4, False, True)
    assert cut.state[0].tolist() == [0.5, -0.25]
    whole = rollout(task, operator, 3, start=start)
    assert whole.steps == rollout(task, operator, 3, start=start, horizon=99).steps == 9
    assert np.array_equal(cut.state, whole.state[:5])
