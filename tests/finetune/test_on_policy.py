"""PPO online, from a pretrained Uni-O4: where it begins, what it learns from, and that it resumes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from episodes.episode import Episode, Source
from episodes.errors import InputError
from episodes.store import Store
from episodes.transitions import SamplingConfig
from finetune.config import resolve
from finetune.evaluate import evaluate
from finetune.experience import Experience
from finetune.learner import learning_config
from finetune.online import OnlineConfig, finetune, resume
from finetune.pretrain import pretrain
from finetune.run import Run
from finetune.trajectories import Trajectories
from policies.algorithm import Algorithm
from policies.checkpoint import actor_hash, load_checkpoint
from policies.policy import Policy
from policies.ppo import OnPolicy
from policies.uni_o4 import UniO4
from sim.base import Task
from sim.rollout import rollout
from tests.finetune.killing import Killed, until

MODEL = {"members": 2, "elites": 1, "hidden": [8], "epochs": 2}
OFFLINE = {"members": 2, "starts": 8, "rollout_steps": 3, "hidden": [16, 16], "dynamics": MODEL, "reward_bias": -1.0}
ONLINE = {"batch_steps": 20, "minibatch": 8, "epochs": 2}


@pytest.fixture
def parent(store: Path, tmp_path: Path) -> Path:
    """A pretrained Uni-O4 run on random walks."""
    config = {"steps": 40, "batch_size": 16, "learning_rate": 1e-2, "device": "cpu", **ONLINE, **OFFLINE}
    pretrain(store, tmp_path / "offline", resolve("uni_o4", None, None, config))
    return tmp_path / "offline"


def configured(**settings: Any) -> OnlineConfig:
    return learning_config(OnlineConfig, {"task": "walk", "episodes": 9, "checkpoint_every": 2} | settings)


def offline(parent: Path) -> UniO4:
    algorithm = load_checkpoint(Run.open(parent).last).algorithm
    assert isinstance(algorithm, UniO4)
    return algorithm


def test_the_first_online_evaluation_is_the_last_offline_one(parent, walks, walk, tmp_path):
    """Episode by episode the same: nothing is lost on the way from offline to online."""
    finetune(parent, tmp_path / "run", configured(episodes=2, evaluate_every=9, evaluation_episodes=10))
    before = evaluate(walk(), Policy(offline(parent)), 10)
    first = next(line for line in Run.open(tmp_path / "run").metrics() if line["step"] == 0)
    assert first["evaluation/return_mean"] == before.returns.mean()
    began = load_checkpoint(tmp_path / "run" / "checkpoint" / "000000000").algorithm
    assert actor_hash(began) == actor_hash(offline(parent))


def test_it_learns_when_it_has_enough_of_its_own_and_from_nothing_else(parent, walks, tmp_path, monkeypatch):
    def old(self: Experience) -> None:
        raise AssertionError("old data was asked for")

    monkeypatch.setattr(Experience, "sample", old)
    taken: list[tuple[int, list[int]]] = []
    learn = UniO4.learn_from

    def learn_from(self: UniO4, trajectories):
        taken.append((self.step, [len(each) for each in trajectories]))
        for each in trajectories:
            known = self.actor.log_prob(each.observation, each.action, torch.ones_like(each.action))
            torch.testing.assert_close(known, each.log_prob, atol=1e-4, rtol=1e-4)
        return learn(self, trajectories)

    monkeypatch.setattr(UniO4, "learn_from", learn_from)
    result = finetune(parent, tmp_path / "run", configured())
    snapshot = Store.open(tmp_path / "run" / "episodes").snapshot()
    lengths = [snapshot.episode(index).steps for index in range(9)]
    expected, waiting = [], []
    for length in lengths:
        waiting.append(length)
        if sum(waiting) >= 20:
            expected.append(waiting)
            waiting = []
    assert [each for _, each in taken] == expected and len(expected) > 1
    assert result.steps == 40 + sum(2 * -(-sum(each) // 8) for each in expected)
    hashes = [int(np.max(np.asarray(snapshot.episode(index).policy))) for index in range(9)]
    assert len(set(hashes)) == len(expected) + (1 if waiting else 0)


def test_statistics_stay_as_they_were(parent, walks, tmp_path):
    finetune(parent, tmp_path / "run", configured())
    before, after = offline(parent), load_checkpoint(Run.open(tmp_path / "run").last).algorithm
    for name, tensor in before.preparation.tensors().items():
        assert torch.equal(tensor, after.preparation.tensors()[name])
    assert actor_hash(before) != actor_hash(after)


@pytest.mark.parametrize("death", [1, 3, 4, 5, 8])
def test_wherever_it_dies_it_comes_out_the_same(death, parent, walks, tmp_path, same_run):
    """Between updates, too: what was done since the last one counts, and nothing from before."""
    config = configured(batch_steps=20, algorithm="uni_o4")
    finetune(parent, tmp_path / "whole", config)
    with pytest.raises(Killed):
        finetune(parent, tmp_path / "killed", config, until(death))
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_who_goes_back_to_an_older_policy_forgets_what_the_newer_did(parent, walks, tmp_path, monkeypatch, same_run):
    """Only the pretrained policy ever succeeds. Nothing that it did is learned from twice, nor what a worse one did."""
    best, taken = actor_hash(offline(parent)), []
    learn = UniO4.learn_from

    class Judged:
        def __init__(self, policy: Policy):
            self.rate = float(actor_hash(policy.algorithm) == best)

        def summary(self) -> dict[str, Any]:
            return {"success_rate": self.rate, "episodes": 10, "return_mean": 0.0, "best_reward_mean": 0.0}

    def learn_from(self: UniO4, trajectories):
        for each in trajectories:
            known = self.actor.log_prob(each.observation, each.action, torch.ones_like(each.action))
            torch.testing.assert_close(known, each.log_prob, atol=1e-4, rtol=1e-4)
        taken.append(len(trajectories))
        return learn(self, trajectories)

    monkeypatch.setattr("finetune.online.evaluate", lambda task, policy, episodes: Judged(policy))
    monkeypatch.setattr(UniO4, "learn_from", learn_from)
    config = configured(evaluate_every=4, episodes=16)
    finetune(parent, tmp_path / "whole", config)
    assert len(taken) > 2 and sum(taken) <= 16
    lines = Run.open(tmp_path / "whole").metrics()
    assert sum("evaluation/back_to" in line for line in lines) > 1
    with pytest.raises(Killed):
        finetune(parent, tmp_path / "killed", config, until(14))
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_settings_that_count_online_only_can_be_given_anew(parent, walks, tmp_path):
    finetune(parent, tmp_path / "run", configured(episodes=1, algorithm="uni_o4", batch_steps=7, epochs=3))
    config = load_checkpoint(Run.open(tmp_path / "run").last).algorithm.config
    assert (config.batch_steps, config.epochs, config.minibatch) == (7, 3, 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"updates_per_step": 2},
            "updates_per_step: 'uni_o4' learns from its own newest episodes and from nothing else",
        ),
        ({"offline_share": 0.3, "anneal_episodes": 4}, "offline_share, anneal_episodes: .* leave it out"),
        ({"algorithm": "uni_o4", "members": 7}, "members: settings of 'uni_o4' were fixed"),
        ({"algorithm": "uni_o4", "minibatch": 0}, "minibatch"),
    ],
)
def test_what_would_do_nothing_is_refused(settings, words, parent, walks, tmp_path):
    with pytest.raises(InputError, match=words):
        finetune(parent, tmp_path / "run", configured(**settings))
    assert not (tmp_path / "run").exists()


# What a policy records of its draws --------------------------------------------------------------------------------


def acted(algorithm: Algorithm, task: Task, seed: int = 3) -> Episode:
    return rollout(task, Policy(algorithm, deterministic=False), seed)


def wild(algorithm: UniO4) -> UniO4:
    """Draws that are often beyond the limits."""
    with torch.no_grad():
        algorithm.actor.log_std.fill_(0.5)
    return algorithm


def test_what_was_drawn_is_recorded_beside_what_was_sent(parent, walk):
    algorithm = wild(offline(parent))
    episode = acted(algorithm, walk())
    assert episode.action_proposed is not None and episode.log_probability is not None
    assert (np.abs(episode.action_proposed) > 1).any() and (np.abs(episode.action) <= 1).all()
    np.testing.assert_array_equal(np.clip(episode.action_proposed, -1, 1), episode.action)
    seen = algorithm.preparation.observation(torch.from_numpy(episode.state[:-1]), None)
    mean, std = algorithm.actor.mean(seen).detach().numpy(), algorithm.actor.std.detach().numpy()
    expected = norm.logpdf(episode.action_proposed, mean, std).sum(1)
    np.testing.assert_allclose(episode.log_probability, expected, rtol=1e-4, atol=1e-4)


def test_the_draws_are_those_of_act(parent, walk):
    algorithm = wild(offline(parent))
    episode, generator = acted(algorithm, walk()), torch.Generator().manual_seed(3)
    for state, action in zip(episode.state, episode.action, strict=False):
        assert algorithm.act(torch.from_numpy(state)[None], generator=generator)[0, 0].tolist() == action.tolist()


def test_nobody_else_records_draws(store, walk, tmp_path, config):
    pretrain(store, tmp_path / "iql", config(chunk=1))
    learned = load_checkpoint(Run.open(tmp_path / "iql").last).algorithm
    assert not isinstance(learned, OnPolicy)
    episode = acted(learned, walk())
    assert episode.action_proposed is None and episode.log_probability is None
    assert rollout(walk(), Policy(learned), 3).action_proposed is None


# Trajectories ------------------------------------------------------------------------------------------------------


def own(algorithm: UniO4) -> Trajectories:
    return Trajectories(algorithm, SamplingConfig(discount=0.9, reward_scale=2.0, reward_bias=-1.0))


def give(trajectories: Trajectories, episode: Episode, number: int = 1, ended: int | None = None) -> None:
    terminated = np.zeros(episode.steps, bool)
    if ended is not None:
        terminated[ended] = True
    trajectories.add(number, episode, np.arange(episode.steps, dtype=np.float32), terminated, None)


def test_a_trajectory_is_the_episode_in_network_units(parent, walk):
    """Rewards as the run takes them, draws as drawn, and a time limit that is no end."""
    algorithm = wild(offline(parent))
    episode, trajectories = acted(algorithm, walk(horizon=5)), own(algorithm)
    give(trajectories, episode)
    (found,) = trajectories.trajectories
    assert len(found) == trajectories.steps == episode.steps
    assert found.reward.tolist() == [2.0 * k - 1 for k in range(episode.steps)]
    assert found.mask.tolist() == [1.0] * episode.steps and found.discount.tolist() == pytest.approx([0.9] * len(found))
    assert found.action.abs().max() > 1
    np.testing.assert_allclose(found.action.numpy(), np.asarray(episode.action_proposed), rtol=1e-5, atol=1e-6)
    seen = algorithm.preparation.observation(torch.from_numpy(episode.state), None)
    assert torch.equal(found.observation, seen[:-1]) and torch.equal(found.next_observation, seen[1:])


def test_an_end_ends_it_wherever_it_is(parent, walk):
    """A success classifier may call the end before the log does."""
    algorithm = offline(parent)
    trajectories = own(algorithm)
    give(trajectories, acted(algorithm, walk(horizon=5)), ended=2)
    (found,) = trajectories.trajectories
    assert found.mask.tolist() == [1, 1, 0] and found.reward.tolist() == [-1, 1, 3]


def test_a_last_step_that_nobody_saw_the_result_of_is_left_out(parent, walk):
    algorithm = offline(parent)
    episode = acted(algorithm, walk(horizon=5))
    unseen, trajectories = replace(episode, state=episode.state[:-1]), own(algorithm)
    give(trajectories, unseen)
    assert trajectories.steps == episode.steps - 1
    give(trajectories, unseen, ended=episode.steps - 1)
    assert [len(each) for each in trajectories.trajectories] == [episode.steps - 1, episode.steps]


def test_what_the_policy_as_it_is_did_not_do_is_passed_over(parent, walk):
    algorithm = offline(parent)
    episode = acted(algorithm, walk())
    taken_over = np.array(episode.policy)
    taken_over[-1] = 0
    trajectories = own(algorithm)
    trajectories.since = 4
    give(trajectories, episode, number=4)
    for other in (
        replace(episode, policy=None),
        replace(episode, policy=taken_over, source=np.full(episode.steps, Source.INTERVENTION, np.uint8)),
        replace(episode, evaluation=True),
    ):
        give(trajectories, other, number=5)
    assert not trajectories.trajectories
    give(trajectories, episode, number=5)
    assert trajectories.steps == episode.steps
    trajectories.begin_anew(5)
    assert (trajectories.steps, trajectories.since) == (0, 5)
    wild(algorithm)
    give(trajectories, episode, number=6)
    assert not trajectories.steps, "it is of an older policy"


@pytest.mark.parametrize("what", ["clipped", "silent"])
def test_an_episode_whose_draws_are_not_known_is_refused(what, parent, walk):
    """Published: densities of actions that were cut off. Their ratios are biased, in silence."""
    algorithm = wild(offline(parent))
    episode = acted(algorithm, walk())
    wrong: Callable[[], Episode] = {
        "clipped": lambda: replace(episode, action_proposed=episode.action),
        "silent": lambda: replace(episode, action_proposed=None),
    }[what]
    with pytest.raises(InputError, match=r"as they were drawn|what was drawn"):
        give(own(algorithm), wrong())
