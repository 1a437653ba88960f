"""Uni-O4's phases, its loss against numpy, and what the published code got wrong."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from episodes.errors import InputError
from episodes.transitions import Batch, SamplingConfig, Transitions
from policies.algorithm import preparation_in
from policies.behaviour_ensemble import PolicyEnsemble
from policies.dynamics import DynamicsConfig
from policies.iql import IQL, IQLConfig
from policies.off_policy_evaluation import Worth
from policies.preparation import Preparation
from policies.uni_o4 import UniO4, UniO4Config

QUICK = {
    "hidden": (16, 16),
    "members": 3,
    "starts": 8,
    "rollout_steps": 4,
    "gate_every": 2,
    "learning_rate": 1e-2,
    "improvement_learning_rate": 1e-2,
    "improvement_share": 0.4,
    "dynamics": DynamicsConfig(members=2, elites=1, hidden=(8,), epochs=2),
}
STEPS = 20
"""Of which the last 8 improve."""


def logs(reward: float | None = None, terminated: bool = False, episodes: int = 6, steps: int = 8) -> Transitions:
    """Three state entries, two actions, as of `conftest.plain_preparation`."""
    rng = np.random.default_rng(0)
    transitions = Transitions(SamplingConfig(), 3, 2)
    for _ in range(episodes):
        ended = np.zeros(steps, bool)
        ended[-1] = terminated
        rewards = rng.normal(size=steps) if reward is None else np.full(steps, reward)
        transitions.add(
            rng.normal(size=(steps + 1, 3)).astype(np.float32),
            rng.uniform(-0.9, 0.9, (steps, 2)).astype(np.float32),
            rewards.astype(np.float32),
            ended,
        )
    return transitions


@pytest.fixture
def learner(preparation: Callable[..., Preparation]) -> Callable[..., UniO4]:
    def make(seed: int = 0, surveyed: bool = True, decay_steps: int | None = STEPS, **settings: Any) -> UniO4:
        made = UniO4(UniO4Config(**(QUICK | settings)), preparation(), seed, decay_steps)
        if surveyed:
            made.survey(logs(), STEPS)
        return made

    return make


def state_of(algorithm: UniO4, *modules: str) -> list[torch.Tensor]:
    return [p.detach().clone() for name in modules for p in algorithm.modules[name].state_dict().values()]


def same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Phases -----------------------------------------------------------------------------------------------------------


def test_what_an_update_is_for_follows_from_its_number(learner, batch):
    """Critics and clones in the first 12, candidates in the last 8; the critics stand still there."""
    algorithm = learner()
    for number in range(STEPS):
        critics, clones = state_of(algorithm, "critic", "value", "target"), state_of(algorithm, "behaviour")
        candidates = state_of(algorithm, "candidates")
        info = algorithm.update(batch(number))
        first = number < 12
        assert same(critics, state_of(algorithm, "critic", "value", "target")) != first
        assert same(candidates, state_of(algorithm, "candidates")) == first
        assert ("clone_loss" in info) == first == ("improvement_loss" not in info)
        if first:
            assert not same(clones, state_of(algorithm, "behaviour"))
    assert algorithm.step == STEPS


def test_the_critics_are_iqls(learner, preparation, batch):
    """Bit for bit, given the same beginning: nothing that the ensemble does comes in between."""
    algorithm = learner()
    iql = IQL(IQLConfig(hidden=(16, 16), learning_rate=1e-2), preparation(), seed=5)
    for name in ("critic", "target", "value"):
        iql.modules[name].load_state_dict(algorithm.modules[name].state_dict())
    for number in range(6):
        algorithm.update(batch(number))
        iql.update(batch(number))
    for name in ("critic", "target", "value"):
        assert same(*(list(learned.modules[name].parameters()) for learned in (algorithm, iql)))


def test_rates_and_the_clip_fall(learner, batch, monkeypatch):
    clips = []
    loss = UniO4.improvement_loss
    monkeypatch.setattr(
        UniO4, "improvement_loss", lambda self, b, noise, clip: clips.append(clip) or loss(self, b, noise, clip)
    )
    rates: dict[int | None, list[float]] = {}
    for decay_steps in (STEPS, None):
        algorithm = learner(decay_steps=decay_steps)
        rates[decay_steps] = []
        for number in range(STEPS):
            algorithm.update(batch(number))
            name = "clone" if number < 12 else "improvement"
            rates[decay_steps].append(algorithm.optimisers[name].param_groups[0]["lr"])
    left = [1 - k / 8 for k in range(8)]
    assert clips == pytest.approx([0.25 * each for each in left] * 2)
    cloning = [0.005 * (1 + np.cos(np.pi * k / 12)) for k in range(12)]
    assert rates[STEPS] == pytest.approx([*cloning, *(0.01 * each for each in left)])
    assert set(rates[None]) == {0.01}


def test_the_gate_is_asked_every_so_often_and_at_the_end(learner, batch, monkeypatch):
    asked = []
    ask = UniO4._ask_the_gate
    monkeypatch.setattr(UniO4, "_ask_the_gate", lambda self: asked.append(self.step + 1) or ask(self))
    algorithm = learner(gate_every=3)
    for number in range(STEPS):
        algorithm.update(batch(number))
    assert asked == [15, 18, 20]


# The loss ---------------------------------------------------------------------------------------------------------


def apart(algorithm: UniO4) -> None:
    """Candidates that are others than the clones, and clones that draw beyond the limits."""
    with torch.no_grad():
        algorithm.behaviour.log_std.fill_(-0.2)
        algorithm.candidates.load_state_dict(algorithm.behaviour.state_dict())
        for parameter in algorithm.candidates.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))


def test_the_improvement_is_the_papers_in_numbers(learner, batch):
    """Ratios of the draws as they are; critics that see what would be sent; advantages standardised per member."""
    algorithm, rows = learner(), batch(3)
    apart(algorithm)
    prepared = algorithm.preparation(rows)
    noise = torch.randn(3, 16, 2, generator=torch.Generator().manual_seed(9))
    loss, info = algorithm.improvement_loss(prepared, noise, 0.1)
    observation = prepared.observation
    old_mean, old_std = algorithm.behaviour.mean(observation).detach().numpy(), algorithm.behaviour.std.detach().numpy()
    mean, std = algorithm.candidates.mean(observation).detach().numpy(), algorithm.candidates.std.detach().numpy()
    drawn = old_mean + old_std * noise.numpy()
    assert (np.abs(drawn) > 1).any()
    expected, clipped = 0.0, []
    for i in range(3):
        sent = torch.from_numpy(np.clip(drawn[i], -1, 1))
        q = algorithm.smaller_target(observation, sent).numpy()
        advantage = q - algorithm.value(observation).squeeze(1).detach().numpy()
        advantage = (advantage - advantage.mean()) / advantage.std()
        log_ratio = norm.logpdf(drawn[i], mean[i], std[i]) - norm.logpdf(drawn[i], old_mean[i], old_std[i])
        ratio = np.exp(log_ratio.sum(1))
        expected -= np.minimum(ratio * advantage, np.clip(ratio, 0.9, 1.1) * advantage).mean()
        clipped.append(np.mean(np.abs(ratio - 1) > 0.1))
    assert loss.item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert info["ratio_clipped"].item() == pytest.approx(np.mean(clipped))
    assert 0 < np.mean(clipped) < 1


def test_draws_are_the_old_policys_and_not_the_datas(learner, batch):
    """Published, too: the data's actions have no part in it."""
    algorithm, rows = learner(), batch(3)
    apart(algorithm)
    noise = torch.randn(3, 16, 2, generator=torch.Generator().manual_seed(9))
    other = replace(rows, action=-rows.action, reward=rows.reward + 3)
    losses = [algorithm.improvement_loss(algorithm.preparation(each), noise, 0.1)[0] for each in (rows, other)]
    assert losses[0].item() == losses[1].item()


def test_only_the_candidates_learn_from_it(learner, batch):
    algorithm = learner()
    apart(algorithm)
    for module in algorithm.modules.values():
        module.zero_grad()
    loss, _ = algorithm.improvement_loss(algorithm.preparation(batch(0)), torch.randn(3, 16, 2), 0.1)
    loss.backward()
    grads = {name: [p.grad for p in module.parameters()] for name, module in algorithm.modules.items()}
    assert all(grad is not None for grad in grads.pop("candidates"))
    assert all(grad is None for others in grads.values() for grad in others)


def test_gradients_are_clipped_per_member(learner, batch, monkeypatch):
    clipped = []
    clip = PolicyEnsemble.clip_gradients
    monkeypatch.setattr(
        PolicyEnsemble, "clip_gradients", lambda self, largest: clipped.append((self, largest)) or clip(self, largest)
    )
    algorithm = learner(gradient_clip=0.125)
    for number in range(13):
        algorithm.update(batch(number))
    assert clipped == [(algorithm.candidates, 0.125)]


# The gate's part --------------------------------------------------------------------------------------------------


def judged(algorithm: UniO4, monkeypatch, scores: list[list[float]], returns: list[list[float]]) -> None:
    """What the gate will say, one list per time that it is asked; the first is of the clones."""
    told = iter(zip(scores, returns, strict=True))
    monkeypatch.setattr(UniO4, "_worth", lambda self, policies: Worth(*(torch.tensor(each) for each in next(told))))


def test_members_that_pass_are_what_they_go_on_from_and_the_best_acts(learner, batch, monkeypatch):
    algorithm = learner(gate_every=4)
    judged(
        algorithm,
        monkeypatch,
        scores=[[1.0, 2.0, 3.0], [5.0, 1.0, 4.0], [6.0, 9.0, 2.9]],
        returns=[[1.0, 2.0, 3.0], [1.0, 9.0, 2.0], [0.9, 9.0, 9.0]],
    )
    for number in range(12):
        algorithm.update(batch(number))
    observation = torch.randn(5, 3)
    clones = algorithm.behaviour.mean(observation).detach().clone()
    torch.testing.assert_close(algorithm.actor.mean(observation), clones[0])
    for number in range(12, 15):
        algorithm.update(batch(number))
        torch.testing.assert_close(algorithm.actor.mean(observation), clones[2])
        assert torch.equal(algorithm.behaviour.mean(observation), clones)
    algorithm.update(batch(15))
    # The first is better by both; the second only by the model, the third only by the critics.
    first = algorithm.candidates.mean(observation)[0].detach().clone()
    found = algorithm.behaviour.mean(observation)
    assert torch.equal(found[0], first) and torch.equal(found[1:], clones[1:])
    assert algorithm.gate.score.tolist() == [5, 2, 3] and algorithm.gate.imagined_return.tolist() == [1, 2, 3]
    for number in range(16, 20):
        algorithm.update(batch(number))
    found = algorithm.behaviour.mean(observation)
    assert torch.equal(found[0], first) and torch.equal(found[2], clones[2]) and not torch.equal(found[1], clones[1])
    assert algorithm.gate.score.tolist() == [5, 9, 3]
    assert algorithm.selected == 1
    torch.testing.assert_close(algorithm.actor.mean(observation), found[1])


def test_unguarded_the_critics_decide_alone(learner, batch, monkeypatch):
    algorithm = learner(gate_every=100, guard=False)
    judged(
        algorithm, monkeypatch, scores=[[1.0, 2.0, 3.0], [9.0, 1.0, 4.0]], returns=[[5.0, 5.0, 5.0], [0.0, 9.0, 9.0]]
    )
    for number in range(STEPS):
        algorithm.update(batch(number))
    assert algorithm.selected == 0 and algorithm.gate.score.tolist() == [9, 2, 4]


# State ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [5, 12, 13, 14, 17])
def test_it_goes_on_from_its_state_bit_for_bit(at: int, learner, batch):
    """In either phase and at their border; the model, the gate's starts and what passed come with it."""
    unbroken = learner()
    for number in range(at):
        unbroken.update(batch(number))
    state = {key: tensor.clone() for key, tensor in unbroken.state_dict().items()}
    other = learner(seed=99, surveyed=False)
    other.load_state_dict(state)
    assert other.selected == unbroken.selected
    for number in range(at, STEPS):
        one, another = unbroken.update(batch(number)), other.update(batch(number))
        assert one.keys() == another.keys() and all(torch.equal(one[key], another[key]) for key in one)
    a, b = unbroken.state_dict(), other.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "part",
    [
        "generator",
        "step",
        "improves_from",
        "improves_until",
        "module/behaviour/log_std",
        "module/candidates/log_std",
        "module/gate/starts",
        "module/gate/score",
        "module/gate/imagined_return",
        "module/gate/dynamics.output_mean",
        "optimiser/improvement/",
    ],
)
def test_every_part_of_its_state_matters(part: str, learner, batch):
    unbroken = learner()
    for number in range(15):
        unbroken.update(batch(number))
    state, fresh = unbroken.state_dict(), learner(seed=99, surveyed=False).state_dict()
    if part.endswith("/"):
        crippled = {key: tensor for key, tensor in state.items() if not key.startswith(part)}
    else:
        crippled = {key: fresh[key] if key == part else tensor for key, tensor in state.items()}
    other = learner(seed=99, surveyed=False)
    other.load_state_dict(crippled)
    try:
        for number in range(15, STEPS):
            unbroken.update(batch(number))
            other.update(batch(number))
    except RuntimeError as error:
        assert "survey" in str(error)
        return
    a, b = unbroken.state_dict(), other.state_dict()
    assert any(not torch.equal(a[key], b[key]) for key in a if key != part)


def test_moving_takes_everything_along(learner, batch):
    algorithm = learner()
    for number in range(15):
        algorithm.update(batch(number))
    algorithm.to(torch.device("meta"))
    tensors = [t for module in algorithm.modules.values() for t in module.state_dict().values()]
    tensors += [v for o in algorithm.optimisers.values() for values in o.state.values() for v in values.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_the_preparation_is_never_changed(learner, batch):
    algorithm = learner()
    before = {name: tensor.clone() for name, tensor in algorithm.preparation.tensors().items()}
    for number in range(STEPS):
        algorithm.update(batch(number))
    after = preparation_in(algorithm.state_dict()).tensors()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


# What cannot be learned from ---------------------------------------------------------------------------------------


def test_chunks_are_refused(preparation):
    with pytest.raises(InputError, match=r"uni_o4: chunk 2: .* one action at a time; give --chunk 1"):
        UniO4(UniO4Config(**QUICK), preparation(chunk=2), 0)


@pytest.mark.parametrize(
    ("data", "steps", "words"),
    [
        ({"reward": -1.0}, 20, r"every reward is -1, and no task ever ended, .* label the store, or clone it"),
        ({"reward": 0.0, "terminated": True}, 20, "every reward is 0, and so is what comes after an end"),
        ({"episodes": 1, "steps": 9}, 20, "10 transitions or more, got 9"),
        ({}, 1, "steps 1: an improvement_share of 0.4 leaves none to improve with; give more steps"),
    ],
)
def test_what_nothing_can_be_learned_from_is_said(data, steps: int, words: str, learner):
    with pytest.raises(InputError, match=words):
        learner(surveyed=False).survey(logs(**data), steps)


def test_constant_rewards_that_end_are_something_to_learn_from(learner):
    learner(surveyed=False).survey(logs(reward=-1.0, terminated=True), STEPS)


def test_nothing_is_updated_before_the_data_was_seen(learner, batch):
    rows: Batch = batch(0)
    with pytest.raises(RuntimeError, match="survey the data first"):
        learner(surveyed=False).update(rows)
