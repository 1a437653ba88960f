"""FISOR against numbers worked out here: every loss by hand, one whole update from torch's plain parts, choosing among
candidates, and logs whose feasible set is known."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from episodes.errors import InputError
from episodes.sampler import Sampler
from episodes.transitions import Batch, SamplingConfig, Transitions
from policies.fisor import FISOR, FISORConfig, RankedPolicy
from policies.preparation import Prepared

SMALL = {"hidden": (8, 8), "width": 8, "blocks": 1}


class Fixed:
    """Stands in for a network: the same output whatever the input, and the inputs it was asked for."""

    def __init__(self, output):
        self.output = torch.tensor(output, dtype=torch.float32)
        self.inputs = []

    def __call__(self, *x):
        self.inputs.append(x)
        return self.output


class Faked:
    """A diffusion with another denoiser."""

    def __init__(self, diffusion, denoiser):
        self.noised, self.denoiser = diffusion.noised, denoiser


def prepared(rows: int, **columns) -> Prepared:
    """A batch in network units; what is not given is zero, everything counts, and nothing ends."""
    tables = {"observation": (rows, 2), "action": (rows, 2), "next_observation": (rows, 2)}
    numbers = {name: torch.zeros(shape) for name, shape in tables.items()}
    numbers |= {name: torch.zeros(rows) for name in ("reward", "return_to_go", "cost")}
    numbers |= {"mask": torch.ones(rows), "discount": torch.ones(rows), "valid": torch.ones(rows, 2)}
    return Prepared(**(numbers | {name: torch.tensor(value, dtype=torch.float32) for name, value in columns.items()}))


def learner(preparation, seed: int = 0, decay_steps: int | None = None, **config) -> FISOR:
    return FISOR(FISORConfig(**(SMALL | config)), preparation(state=2, action=2), seed, decay_steps)


def costed(batch, seed: int, rows: int = 16) -> Batch:
    cost = torch.from_numpy(np.random.default_rng(seed).normal(size=rows).astype(np.float32))
    return dataclasses.replace(batch(seed, rows=rows, state=2), cost=cost)


# Losses by hand --------------------------------------------------------------------------------------------------


def test_the_feasibility_value_loss_is_the_reversed_expectile(preparation):
    """Q_h of 3, 0, 1 against V_h of 1, 1, 1.5: u = 2, -1, -0.5. What is safer than expected counts 0.9."""
    algorithm = learner(preparation, feasibility_expectile=0.9)
    algorithm.feasibility_value = Fixed([[1.0], [1.0], [1.5]])
    loss, info = algorithm.feasibility_value_loss(prepared(3), torch.tensor([3.0, 0.0, 1.0]))
    assert loss.item() == pytest.approx((0.1 * 4 + 0.9 * 1 + 0.9 * 0.25) / 3)
    assert info["feasibility_value"].item() == pytest.approx(3.5 / 3) and info["infeasible"].item() == 1


def test_the_feasibility_critics_back_up_the_worst_of_now_and_later(preparation):
    """gamma 0.9. Safe and safe ahead: 0.1 * -1 + 0.9 * max(-1, -0.5) = -0.55. Safe, doomed ahead: -0.1 + 0.9 * 4 = 3.5.
    Violated, safe ahead: 0.1 * 25 + 0.9 * 25 = 25. At the end of the task what comes after is not asked: -1, and 2."""
    algorithm = learner(preparation)
    algorithm.feasibility_value = Fixed([[-0.5], [4.0], [-1.0], [9.0], [9.0]])
    algorithm.feasibility_critic = Fixed([[[0.0]] * 5, [[1.0]] * 5])
    batch = prepared(5, cost=[-1, -1, 25, -1, 2], mask=[1, 1, 1, 0, 0], discount=[0.9] * 5)
    loss, _ = algorithm.feasibility_critic_loss(batch)
    target = np.array([-0.55, 3.5, 25.0, -1.0, 2.0])
    assert loss.item() == pytest.approx((target**2).mean() + ((1 - target) ** 2).mean(), rel=1e-5)


def test_the_feasibility_critics_see_where_the_action_was_taken_and_ask_for_what_came_after(preparation):
    algorithm = learner(preparation)
    algorithm.feasibility_value = value = Fixed([[0.0]])
    algorithm.feasibility_critic = critic = Fixed([[[0.0]], [[0.0]]])
    algorithm.feasibility_critic_loss(
        prepared(1, observation=[[1, 2]], action=[[0.5, -0.5]], next_observation=[[3, 4]])
    )
    assert value.inputs[0][0].tolist() == [[3, 4]] and critic.inputs[0][0].tolist() == [[1, 2, 0.5, -0.5]]


def test_the_rewards_losses_are_those_of_iql(preparation):
    algorithm = learner(preparation, expectile=0.9)
    algorithm.value = Fixed([[1.0], [1.0], [1.5]])
    loss, _ = algorithm.value_loss(prepared(3), torch.tensor([3.0, 0.0, 1.0]))
    assert loss.item() == pytest.approx((0.9 * 4 + 0.1 * 1 + 0.1 * 0.25) / 3)
    algorithm.critic = Fixed([[[0.0], [1.0], [0.0]], [[2.0], [0.0], [0.0]]])
    batch = prepared(3, reward=[1, -1, 2], mask=[1, 0, 1], discount=[0.9, 0.9, 0.5])
    loss, _ = algorithm.critic_loss(batch)
    target = np.array([1 + 0.9, -1.0, 2 + 0.75])
    assert loss.item() == pytest.approx(
        ((np.array([0, 1, 0]) - target) ** 2).mean() + ((np.array([2, 0, 0]) - target) ** 2).mean(), rel=1e-6
    )


def test_weights_are_of_three_cases(preparation):
    """Feasible, by reward: e^(3 * 0.5) and, clipped, 100. An infeasible action in a feasible state: 0, however good.
    Infeasible, by safety: e^(5 * 0.2), below 1 where the action is worse than its state, and, clipped, 150."""
    algorithm = learner(preparation)
    value_h = [-1.0, -0.1, 0.0, -0.5, 0.4, 0.4, 9.0]
    target_q_h = [-2.0, -0.3, 0.0, 0.1, 0.2, 0.6, -1.0]
    value = [0.0] * 7
    target_q = [0.5, 9.0, -1.0, 9.0, -9.0, 9.0, 0.0]
    algorithm.feasibility_value = Fixed([[v] for v in value_h])
    algorithm.value = Fixed([[v] for v in value])
    weight = algorithm.weights(prepared(7), torch.tensor(target_q), torch.tensor(target_q_h))
    expected = [math.exp(1.5), 100.0, math.exp(-3.0), 0.0, math.exp(1.0), math.exp(-1.0), 150.0]
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5)


def test_the_actor_loss_is_the_weighted_error_of_the_noise_that_was_found(preparation):
    """Drawn again here: a step of the schedule per row, then the noise. A number that was never sent counts nothing."""
    algorithm = learner(preparation, diffusion_steps=5, dropout=0.0)
    denoiser, alpha_bar = Fixed([[0.5, -0.5]] * 3), algorithm.diffusion.alpha_bar
    algorithm.diffusion = Faked(algorithm.diffusion, denoiser)  # type: ignore[assignment]
    action, weight = [[0.1, 0.2], [-0.3, 0.4], [0.9, -0.9]], [1.0, 0.0, 4.0]
    batch = prepared(3, action=action, valid=[[1, 1], [1, 1], [1, 0]], observation=[[1, 2], [3, 4], [5, 6]])
    twin = torch.Generator()
    twin.set_state(algorithm.generator.get_state())
    loss, info = algorithm.actor_loss(batch, torch.tensor(weight))
    step = torch.randint(5, (3,), generator=twin)
    noise = torch.randn(3, 2, generator=twin)
    error = (noise.numpy() - [0.5, -0.5]) ** 2 * [[1, 1], [1, 1], [1, 0]]
    assert loss.item() == pytest.approx((np.array(weight) * error.sum(1)).mean(), rel=1e-5)
    assert info["weight_zero"].item() == pytest.approx(1 / 3)
    observation, noised, at, generator = denoiser.inputs[0]
    assert torch.equal(at, step) and torch.equal(observation, batch.observation) and generator is algorithm.generator
    kept = alpha_bar[step].unsqueeze(1).numpy()
    np.testing.assert_allclose(noised, np.sqrt(kept) * action + np.sqrt(1 - kept) * noise.numpy(), rtol=1e-5)


def test_each_loss_moves_its_own_networks_and_nothing_else(preparation, batch):
    algorithm = learner(preparation)
    rows = algorithm.preparation(costed(batch, 0))
    target = torch.randn(16)
    for name, loss in (
        ("feasibility_value", algorithm.feasibility_value_loss(rows, target)),
        ("feasibility_critic", algorithm.feasibility_critic_loss(rows)),
        ("value", algorithm.value_loss(rows, target)),
        ("critic", algorithm.critic_loss(rows)),
        ("diffusion", algorithm.actor_loss(rows, torch.ones(16))),
    ):
        for module in algorithm.modules.values():
            module.zero_grad(set_to_none=True)
        loss[0].backward()
        moved = {
            key for key, module in algorithm.modules.items() if any(p.grad is not None for p in module.parameters())
        }
        assert moved == {name}


# One whole update ------------------------------------------------------------------------------------------------


def test_an_update_is_feasibility_then_reward_then_the_policy_then_the_averages(preparation, batch):
    """Values learn from the averages' critics, critics from the values as they are then; the averages follow last."""
    algorithm = learner(preparation, learning_rate=1e-2, dropout=0.0, target_rate=0.1, actor_rate=0.2, decay_steps=None)
    algorithm.update(costed(batch, 0))
    before = copy.deepcopy(algorithm)
    data = costed(batch, 1)
    algorithm.update(data)
    rows = before.preparation(data)
    pair = torch.cat([rows.observation, rows.action], dim=1)

    def descended(name, loss):
        optimiser = before.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        for old, new in zip(before.modules[name].parameters(), algorithm.modules[name].parameters(), strict=True):
            torch.testing.assert_close(old, new)

    def asymmetric(u, above):
        return (torch.where(u > 0, above, 1 - above) * u**2).mean()

    # The copied optimisers hold the copied parameters, or stepping them would do nothing here.
    for name, optimiser in before.optimisers.items():
        assert optimiser.param_groups[0]["params"][0] is next(before.modules[name].parameters())
    with torch.no_grad():
        q_h = before.actor.feasibility(pair).squeeze(2).max(0).values
        q_r = before.actor.critic(pair).squeeze(2).min(0).values
    descended("feasibility_value", asymmetric(q_h - before.feasibility_value(rows.observation).squeeze(1), 0.1))
    assert rows.cost is not None
    with torch.no_grad():
        later = before.feasibility_value(rows.next_observation).squeeze(1)
        backed = (1 - rows.discount) * rows.cost + rows.discount * torch.maximum(rows.cost, later)
        target = torch.where(rows.mask == 1, backed, rows.cost)
    found = before.feasibility_critic(pair).squeeze(2)
    descended("feasibility_critic", ((found - target) ** 2).mean(1).sum())
    descended("value", asymmetric(q_r - before.value(rows.observation).squeeze(1), 0.9))
    with torch.no_grad():
        target = rows.reward + rows.discount * rows.mask * before.value(rows.next_observation).squeeze(1)
    descended("critic", ((before.critic(pair).squeeze(2) - target) ** 2).mean(1).sum())
    with torch.no_grad():
        v_h, v = before.feasibility_value(rows.observation).squeeze(1), before.value(rows.observation).squeeze(1)
        good = torch.exp(3 * (q_r - v)).clamp(max=100) * (q_h <= 0)
        weight = torch.where(v_h <= 0, good, torch.exp(5 * (v_h - q_h)).clamp(max=150))
    descended("diffusion", before.actor_loss(rows, weight)[0])
    for average, old, online, rate in (
        (algorithm.actor.feasibility, before.actor.feasibility, algorithm.feasibility_critic, 0.1),
        (algorithm.actor.critic, before.actor.critic, algorithm.critic, 0.1),
        (algorithm.actor.diffusion, before.actor.diffusion, algorithm.diffusion, 0.2),
    ):
        for now, was, to in zip(average.parameters(), old.parameters(), online.parameters(), strict=True):
            torch.testing.assert_close(now, (1 - rate) * was + rate * to)
            assert not torch.equal(was, to)


@pytest.mark.parametrize("everything", [False, True])
def test_only_the_policys_rate_decays_unless_the_critics_shall_too(everything, preparation, batch):
    algorithm = learner(preparation, learning_rate=1e-2, decay_steps=4, critic_decay=everything)
    for step in range(6):
        algorithm.update(costed(batch, step))
        rates = {key: optimiser.param_groups[0]["lr"] for key, optimiser in algorithm.optimisers.items()}
        decayed = rates.pop("diffusion")
        assert decayed == pytest.approx(0.01 * (1 + math.cos(math.pi * min(step, 4) / 4)) / 2, abs=1e-12)
        assert len(rates) == 4 and set(rates.values()) == {decayed if everything else 0.01}


def test_it_goes_on_from_its_state_bit_for_bit(preparation, batch):
    """Parameters, averages, optimisers, the schedule, and the generator of steps, noise and dropout."""
    unbroken = learner(preparation, dropout=0.5, decay_steps=20)
    for step in range(4):
        unbroken.update(costed(batch, step))
    state = {key: tensor.clone() for key, tensor in unbroken.state_dict().items()}
    other = learner(preparation, seed=99, dropout=0.5, decay_steps=20)
    other.load_state_dict(state)
    for step in range(4, 7):
        unbroken.update(costed(batch, step))
        other.update(costed(batch, step))
    ours, theirs = unbroken.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    seen = torch.randn(5, 2)
    assert torch.equal(unbroken.act(seen), other.act(seen))


def test_transitions_without_costs_are_refused(preparation, batch):
    with pytest.raises(InputError, match="learns from costs"):
        learner(preparation).update(batch(0, state=2))


# Choosing --------------------------------------------------------------------------------------------------------


class ByColumn(torch.nn.Module):
    """Two critics that read their value off the action: one column, and a little more or less."""

    def __init__(self, column: int, apart: float = 0.0):
        super().__init__()
        self.column, self.apart = column, apart

    def forward(self, pair):
        value = pair[:, 2 + self.column].unsqueeze(1)
        return torch.stack([value - self.apart, value + self.apart])


def ranked(ranking: str, apart: float = 0.0) -> RankedPolicy:
    """The first number of an action is its Q_h, the second its Q_r."""
    return RankedPolicy(None, ByColumn(0, apart), ByColumn(1), 4, ranking)  # type: ignore[arg-type]


CANDIDATES = torch.tensor(
    [
        [[-0.9, 0.1], [-0.2, 0.8], [0.1, 0.9], [-0.1, 0.3]],
        [[0.4, 0.9], [0.2, -0.5], [0.9, 1.0], [0.3, 0.0]],
        [[0.0, 0.7], [-0.5, 0.6], [-0.1, 0.2], [0.5, 0.8]],
    ]
)


def test_the_best_of_the_feasible_is_chosen_and_the_least_infeasible_where_there_is_none():
    """The smallest Q_h of all would give up reward that costs no safety (-0.9 for 0.1 instead of -0.2 for 0.8)."""
    chosen = ranked("feasible_first").choose(torch.zeros(3, 2), CANDIDATES)
    np.testing.assert_allclose(chosen, [[-0.2, 0.8], [0.2, -0.5], [0.0, 0.7]])


def test_the_published_ranking_takes_the_smallest_q_h_whatever_its_reward():
    chosen = ranked("least_infeasible").choose(torch.zeros(3, 2), CANDIDATES)
    np.testing.assert_allclose(chosen, [[-0.9, 0.1], [0.2, -0.5], [-0.5, 0.6]])


def test_the_worse_of_the_two_opinions_on_feasibility_counts():
    """At 0.15 apart, -0.1 and 0.0 are no longer feasible to both."""
    chosen = ranked("feasible_first", apart=0.15).choose(torch.zeros(3, 2), CANDIDATES)
    np.testing.assert_allclose(chosen, [[-0.2, 0.8], [0.2, -0.5], [-0.5, 0.6]])


def test_the_worse_of_the_two_opinions_on_reward_counts():
    policy = ranked("feasible_first")
    policy.critic = ByColumn(1, apart=0.25)  # type: ignore[assignment]
    actions = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    assert policy.q_r(torch.zeros(2, 2), actions).tolist() == [0.75, 2.75]
    assert policy.q_h(torch.zeros(2, 2), actions).tolist() == [0, 0]


def test_what_is_done_without_chance_follows_from_the_observation_alone(preparation):
    algorithm = learner(preparation)
    seen = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    together = algorithm.act(seen)
    one_by_one = torch.cat([algorithm.act(row.unsqueeze(0)) for row in seen])
    torch.testing.assert_close(together, one_by_one)
    drawn = [algorithm.act(seen, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert together.shape == (6, 1, 2) and (together.abs() <= 1).all()


# Logs whose answers are known ------------------------------------------------------------------------------------

EDGE = 5
"""Of the ledge: who gets here has fallen. From one step before, every step falls."""


def ledge(episodes: int, *, horizon: int, seed: int = 0) -> Transitions:
    """A walk on 0 .. 5, left or right at random, that slips off from 4 either way. Positions are one-hot.

    Feasible: 0 .. 3, where 3 has only the step to the left; 4 is infeasible and violates nothing yet. The reward is
    for going right. Episodes are cut off after `horizon` steps, or end with the fall.
    """
    rng = np.random.default_rng(seed)
    transitions = Transitions(SamplingConfig(discount=0.99), EDGE + 1, 1)
    for _ in range(episodes):
        at, seen, actions = int(rng.integers(0, EDGE)), [], []
        seen.append(at)
        while len(actions) < horizon and at < EDGE:
            right = bool(rng.random() < 0.5)
            actions.append([1.0 if right else -1.0])
            at = EDGE if at == EDGE - 1 else max(at + (1 if right else -1), 0)
            seen.append(at)
        fell = np.arange(len(actions)) == len(actions) - 1 if at == EDGE else np.zeros(len(actions), bool)
        cost = np.where(np.array(seen[1:]) == EDGE, 25.0, -1.0).astype(np.float32)
        action = np.array(actions, np.float32)
        transitions.add(np.eye(EDGE + 1, dtype=np.float32)[seen], action, action[:, 0], fell, cost=cost)
    return transitions


def learned(transitions: Transitions, preparation, updates: int = 500) -> FISOR:
    """With an expectile near the minimum: at 0.9 a state of one safe action in two, -1 and 25, has a value above 0."""
    config = FISORConfig(
        feasibility_expectile=0.99,
        hidden=(32,),
        width=16,
        blocks=1,
        dropout=0.0,
        learning_rate=1e-2,
        target_rate=0.05,
        actor_rate=0.02,
    )
    algorithm = FISOR(config, preparation(state=EDGE + 1, action=1), seed=0)
    sampler = Sampler([(transitions, 128)], seed=0)
    for _ in range(updates):
        algorithm.update(sampler.sample())
    return algorithm


@pytest.fixture(scope="module")
def walker() -> FISOR:
    from tests.policies.conftest import plain_preparation

    return learned(ledge(150, horizon=12), plain_preparation)


def q_h(algorithm: FISOR, step: float) -> list[float]:
    return algorithm.q_h(torch.eye(EDGE + 1)[:EDGE], torch.full((EDGE, 1, 1), step)).tolist()


def test_what_cannot_be_saved_any_more_is_infeasible_before_it_violates_anything(walker):
    feasible = (walker.feasibility(torch.eye(EDGE + 1)[:EDGE]) <= 0).tolist()
    assert feasible == [True, True, True, True, False]
    assert [q <= 0 for q in q_h(walker, 1.0)] == [True, True, True, False, False]
    assert [q <= 0 for q in q_h(walker, -1.0)] == [True, True, True, True, False]


def test_values_are_those_of_the_backup(walker):
    """Off the ledge 25; a step to the right at 3, 0.01 * -1 + 0.99 * 25; where nothing threatens, -1."""
    assert q_h(walker, 1.0)[4] == pytest.approx(25, abs=1.5)
    assert q_h(walker, 1.0)[3] == pytest.approx(-0.01 + 0.99 * 25, abs=1.5)
    assert q_h(walker, -1.0)[0] == pytest.approx(-1, abs=0.5)


def test_its_policy_goes_for_the_reward_up_to_the_last_feasible_step(walker):
    """Everywhere to the right, where the reward is, but at 3, from where that is the end."""
    acts = walker.act(torch.eye(EDGE + 1)[:4])[:, 0, 0]
    assert (acts[:3] > 0.5).all() and acts[3] < -0.5


def test_a_time_limit_is_no_end(preparation):
    """A walk of one step sees no more than what the step led to: at 3 that is -1, whichever way. Only what is known of
    4 from other walks says that the step to the right is infeasible; with the cut taken for an end it would be -1."""
    one_step = learned(ledge(600, horizon=1), preparation)
    assert [q <= 0 for q in q_h(one_step, 1.0)] == [True, True, True, False, False]
    assert [q <= 0 for q in q_h(one_step, -1.0)] == [True, True, True, True, False]
