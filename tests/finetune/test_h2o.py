"""The dynamics gap against known dynamics, against numbers worked out here, and against what others' code got wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, spearmanr
from torch import nn

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.transitions import Batch, SamplingConfig, Transitions, concatenate
from finetune.h2o import LEAST_GAP, MOST_GAP, DynamicsGap, GapConfig
from policies.preparation import prepare_from

CONTRACT = Contract("cart", (StateEntry("x", "m"),), (ActionEntry("push", "N", -2.0, 2.0),), rate=10.0)
NOISE, OFF = 0.5, 0.6
"""Of x' = 0.6 x + 0.4 push + noise, and by how much the simulator's x' is larger wherever x is."""


def following(x: np.ndarray, push: np.ndarray, *, simulated: bool) -> np.ndarray:
    """The mean of x'."""
    return 0.6 * x + 0.4 * push + OFF * simulated


def rows(count: int, seed: int, *, simulated: bool, centre: float = 0.0) -> Batch:
    """Transitions of the cart, about a place."""
    rng = np.random.default_rng(seed)
    x, push = rng.normal(centre, 1, count), rng.uniform(-2, 2, count)
    after = rng.normal(following(x, push, simulated=simulated), NOISE)
    return made(x, push, after)


def made(x: Any, push: Any, after: Any, mask: Any = None) -> Batch:
    def column(values: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32).unsqueeze(1)

    one = torch.ones(len(x))
    return Batch(
        state=column(x),
        action=column(push).unsqueeze(2),
        valid=one.unsqueeze(1),
        reward=0 * one,
        next_state=column(after),
        mask=one if mask is None else torch.tensor(mask, dtype=torch.float32),
        discount=one,
        return_to_go=0 * one,
    )


def mixed(seed: int, count: int = 128, centre: float = 0.0) -> tuple[Batch, torch.Tensor]:
    """Real rows about 0 and as many simulated ones about a place."""
    parts = [rows(count, 2 * seed, simulated=False), rows(count, 2 * seed + 1, simulated=True, centre=centre)]
    return concatenate(parts), torch.arange(2 * count) >= count


def real_log(count: int = 2000, deviation: float = 1.0) -> Transitions:
    data = Transitions(SamplingConfig(), 1, 1)
    state = np.random.default_rng(0).normal(3.0, deviation, (count + 1, 1)).astype(np.float32)
    data.add(state, np.zeros((count, 1), np.float32), np.zeros(count, np.float32), np.zeros(count, bool))
    return data


@pytest.fixture
def gap() -> Callable[..., DynamicsGap]:
    def make(log: Transitions | None = None, **config: Any) -> DynamicsGap:
        preparation = prepare_from(log or real_log(), CONTRACT)
        if log is None:
            preparation = replace(preparation, mean=torch.zeros(1), std=torch.ones(1))
        return DynamicsGap(GapConfig(**({"hidden": (8, 8)} | config)), preparation, seed=0)

    return make


class Says(nn.Module):
    """A discriminator that is a function of its input, which it remembers."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function, self.asked = function, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(x)
        return self.function(x)


# A known answer ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told_apart() -> DynamicsGap:
    """After six hundred batches of both; the simulator has mostly been elsewhere than the log."""
    preparation = replace(prepare_from(real_log(), CONTRACT), mean=torch.zeros(1), std=torch.ones(1))
    config = GapConfig(hidden=(32, 32), learning_rate=2e-3, input_noise=0.05)
    gap = DynamicsGap(config, preparation, seed=0)
    for seed in range(600):
        gap.update(*mixed(seed, centre=1.0))
    return gap


def test_the_ratio_of_two_gaussians_is_found(told_apart: DynamicsGap) -> None:
    batch, _ = mixed(10_000, count=500, centre=1.0)
    x, push = batch.state[:, 0].numpy(), batch.action[:, 0, 0].numpy()
    after = batch.next_state[:, 0].numpy()
    true = norm.logpdf(after, following(x, push, simulated=False), NOISE)
    true = true - norm.logpdf(after, following(x, push, simulated=True), NOISE)
    found = told_apart.log_ratio(batch).numpy()
    assert spearmanr(found, true).statistic > 0.97
    assert np.abs(found - true).mean() < 0.3
    # Where the sources have been is no part of it: what is left of a dependence on x is small.
    assert abs(np.polyfit(x, found - true, 1)[0]) < 0.15


def test_where_both_dynamics_are_the_same_every_row_counts(gap) -> None:
    """The simulator has been elsewhere, and that is all: its rows are worth as much as real ones."""
    learner = gap(hidden=(32, 32), learning_rate=2e-3)
    for seed in range(400):
        real = rows(128, 2 * seed, simulated=False)
        elsewhere = rows(128, 2 * seed + 1, simulated=False, centre=1.0)
        learner.update(concatenate([real, elsewhere]), torch.arange(256) >= 128)
    batch = rows(500, 9_999, simulated=False, centre=0.5)
    assert learner.log_ratio(batch).abs().mean() < 0.2
    weighed, _ = learner.weigh(batch, torch.ones(500, dtype=torch.bool))
    assert weighed.weight.mean() > 0.85


def test_the_gap_is_larger_where_the_simulator_is_more_off(gap) -> None:
    """It is right left of 0 and off by 1 right of it."""
    learner = gap(hidden=(32, 32), learning_rate=2e-3)
    for seed in range(600):
        real, fake = rows(128, 2 * seed, simulated=False), rows(128, 2 * seed + 1, simulated=False)
        off = replace(fake, next_state=fake.next_state + (fake.state > 0).float())
        learner.update(concatenate([real, off]), torch.arange(256) >= 128)
    fake = rows(500, 9_999, simulated=False)
    right = fake.state[:, 0] > 0
    weighed, info = learner.weigh(
        replace(fake, next_state=fake.next_state + (fake.state > 0).float()), torch.ones(500, dtype=torch.bool)
    )
    assert weighed.weight[right].mean() < 0.6 < 0.8 < weighed.weight[~right].mean()
    assert learner.log_ratio(weighed)[~right].abs().mean() < 0.35
    assert info["simulated_weight"].item() == pytest.approx(weighed.weight.mean().item())


# Numbers worked out here ------------------------------------------------------------------------------------------


def softmax_loss(real: np.ndarray, fake: np.ndarray) -> float:
    """-E[log p0] - E[log p1] of two-way softmax over the given pairs of logits, shape (n, 2) each."""

    def log_p(logits: np.ndarray, which: int) -> np.ndarray:
        return logits[:, which] - np.log(np.exp(logits).sum(1))

    return float(-log_p(real, 0).mean() - log_p(fake, 1).mean())


def test_both_losses_are_the_cross_entropies_of_two_way_softmax(gap) -> None:
    """Of unequal numbers of rows, each source by its own mean; the triple's logits are the sum of both networks'.

    Taking the softmax once more before the cross entropy, as one re-implementation does, gives other numbers.
    """
    learner = gap()
    batch = concatenate([rows(3, 0, simulated=False), rows(5, 1, simulated=True)])
    simulated, known = torch.arange(8) >= 3, torch.ones(8, dtype=torch.bool)
    pair = torch.cat([batch.state, batch.action[:, 0]], dim=1)
    with torch.no_grad():
        of_pair = 2 * torch.tanh(learner.of_pair.network(pair)).numpy()
        of_triple = 2 * torch.tanh(learner.of_triple.network(torch.cat([pair, batch.next_state], dim=1))).numpy()
    loss, info = learner.pair_loss(pair, simulated, known)
    assert loss.item() == pytest.approx(softmax_loss(of_pair[:3], of_pair[3:]), rel=1e-5)
    assert info["discriminator_pair_loss"].item() == loss.item()
    loss, _ = learner.triple_loss(pair, batch.next_state, simulated, known)
    both = of_pair + of_triple
    assert loss.item() == pytest.approx(softmax_loss(both[:3], both[3:]), rel=1e-5)


def test_the_ratio_is_the_product_of_the_four_probabilities(gap) -> None:
    """(p_sas(real) p_sa(sim)) / (p_sas(sim) p_sa(real))."""
    learner, batch = gap(), rows(6, 0, simulated=True)
    learner.preparation = replace(learner.preparation, scale=torch.full((1, 1), 2.0))
    pair = torch.cat([batch.state, batch.action[:, 0] / 2], dim=1)
    with torch.no_grad():
        of_pair = learner.of_pair(pair)
        of_triple = of_pair + learner.of_triple(torch.cat([pair, batch.next_state], dim=1))
    p_sa, p_sas = torch.sigmoid(of_pair), torch.sigmoid(of_triple)
    expected = p_sas * (1 - p_sa) / ((1 - p_sas) * p_sa)
    torch.testing.assert_close(learner.log_ratio(batch).exp(), expected, rtol=1e-4, atol=1e-6)


def test_weights_are_clipped_ratios_of_simulated_rows_and_1_elsewhere(gap) -> None:
    learner = gap()
    learner.of_triple = Says(lambda x: x[:, 2])
    batch = made([0] * 5, [0] * 5, [np.log(0.5), np.log(3), np.log(0.2), -20, np.log(0.5)], mask=[1, 1, 1, 1, 0])
    simulated = torch.tensor([False, True, True, True, True])
    weighed, info = learner.weigh(batch, simulated)
    np.testing.assert_allclose(weighed.weight, [1, 1, 0.2, 1e-5, 1], rtol=1e-5)
    assert weighed.gap[0].item() == weighed.gap[4].item() == LEAST_GAP
    assert info["simulated_weight"].item() == pytest.approx((1 + 0.2 + 1e-5) / 3, rel=1e-5)
    assert info["simulated_weight_clipped"].item() == pytest.approx(2 / 3)
    assert info["dynamics_gap"].item() == pytest.approx(weighed.gap[1:4].mean().item(), rel=1e-5)


def test_every_simulated_row_has_the_gap_of_its_own_next_states(gap) -> None:
    """The only noise here is 0, so that the gap is minus the log ratio of the next state itself."""
    learner = gap(next_state_noise=0.0)
    learner.of_triple = Says(lambda x: -x[:, 2])
    weighed, _ = learner.weigh(made([0] * 4, [0] * 4, [0.5, 2.0, 3.0, -1.0]), torch.tensor([True, False, True, True]))
    np.testing.assert_allclose(weighed.gap, [0.5, LEAST_GAP, 3.0, LEAST_GAP], rtol=1e-5)


def test_the_gap_is_the_mean_over_states_about_the_next_one_and_clipped(gap) -> None:
    learner = gap(next_states=4, next_state_noise=0.5)
    learner.of_triple = Says(lambda x: -(x[:, 2].square()))
    learner.generator.manual_seed(1)
    noise = torch.randn((4, 3, 1), generator=torch.Generator().manual_seed(1)).numpy()[:, :, 0]
    after = np.array([0.4, -1.0, 50.0])
    found = learner.gap(made([0.0] * 3, [0.0] * 3, after))
    expected = ((after + 0.5 * noise) ** 2).mean(0)
    np.testing.assert_allclose(found, np.clip(expected, LEAST_GAP, MOST_GAP), rtol=1e-5)
    assert found[2].item() == MOST_GAP
    learner.of_triple = Says(lambda x: x[:, 2] ** 2 + 1)
    assert learner.gap(made([0.0], [0.0], [0.0])).item() == LEAST_GAP > 0


# What published code got wrong ------------------------------------------------------------------------------------


def test_statistics_are_the_real_rows(gap) -> None:
    """Zeros that pad a buffer to eleven times its rows make the deviation 0.30 of what it is, and s' too sure."""
    learner = gap(log=real_log(deviation=2.0), next_states=2000)
    learner.of_triple = Says(lambda x: x[:, 2])
    learner.gap(made([3.0], [0.0], [3.0]))
    about = learner.of_triple.asked[-1][:, 2]
    raw = about * learner.preparation.std + learner.preparation.mean
    assert raw.std().item() == pytest.approx(2.0, rel=0.1)
    assert raw.mean().item() == pytest.approx(3.0, abs=0.2)


def test_the_triples_loss_teaches_the_pairs_network_nothing(gap) -> None:
    learner, (batch, simulated) = gap(), mixed(0)
    pair = torch.cat([batch.state, batch.action[:, 0]], dim=1)
    known = torch.ones(256, dtype=torch.bool)
    loss, _ = learner.triple_loss(pair, batch.next_state, simulated, known)
    loss.backward()
    assert all(parameter.grad is None for parameter in learner.of_pair.parameters())
    assert all(parameter.grad is not None for parameter in learner.of_triple.parameters())


def test_the_pairs_network_learns_as_if_it_were_alone(gap) -> None:
    together, alone = gap(), gap()
    alone.of_triple = alone.modules["of_triple"] = Says(lambda x: x[:, 2])
    alone.optimisers["of_triple"] = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.0)
    alone.triple_loss = lambda *args: (torch.zeros((), requires_grad=True), {})
    for seed in range(5):
        for learner in (together, alone):
            learner.update(*mixed(seed))
    for one, other in zip(together.of_pair.parameters(), alone.of_pair.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_what_stands_behind_the_end_of_a_task_is_neither_learned_from_nor_judged(gap) -> None:
    """Logs without a last observation have a stand-in there, which would give the real ones away."""
    states = []
    for behind in (0.0, 77.0):
        learner = gap()
        batch, simulated = mixed(0, count=8)
        ended = torch.arange(16) % 4 == 0
        batch = replace(batch, mask=(~ended).float(), next_state=torch.where(ended[:, None], behind, batch.next_state))
        learner.update(batch, simulated)
        weighed, _ = learner.weigh(batch, simulated)
        assert (weighed.weight[ended] == 1).all() and (weighed.gap[ended] == LEAST_GAP).all()
        states.append(learner.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_simulator_that_gives_itself_away_is_still_heard(gap) -> None:
    """Without the bound on the logits or the noise in what is learned from, its rows would end up with no weight."""
    learner = gap(learning_rate=1e-2)
    for seed in range(300):
        real, fake = rows(64, seed, simulated=False), rows(64, seed + 1, simulated=True)
        learner.update(concatenate([real, replace(fake, next_state=fake.next_state + 100)]), torch.arange(128) >= 64)
    found = learner.log_ratio(replace(fake, next_state=fake.next_state + 100))
    assert found.max() < -3
    assert found.min() >= -4


def test_noise_is_added_to_all_that_is_learned_from_and_to_nothing_that_is_judged(gap) -> None:
    learner, (batch, simulated) = gap(input_noise=0.1), mixed(0, count=2000)
    learner.of_triple = learner.modules["of_triple"] = Says(lambda x: x.sum(1) * torch.ones((), requires_grad=True))
    learner.optimisers["of_triple"] = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.0)
    clean = torch.cat([batch.state, batch.action[:, 0] / 2, batch.next_state], dim=1)
    learner.update(batch, simulated)
    off = (learner.of_triple.asked[-1] - clean).detach().numpy()
    np.testing.assert_allclose(off.std(0), [0.1] * 3, rtol=0.05)
    learner.log_ratio(batch)
    torch.testing.assert_close(learner.of_triple.asked[-1], clean)


# Going on ---------------------------------------------------------------------------------------------------------


def test_what_was_saved_goes_on_bit_for_bit(gap) -> None:
    whole, broken = gap(), gap()
    for seed in range(6):
        whole.update(*mixed(seed))
        whole.weigh(*mixed(seed))
    for seed in range(3):
        broken.update(*mixed(seed))
        broken.weigh(*mixed(seed))
    state, broken = broken.state_dict(), gap()
    broken.load_state_dict(state)
    for seed in range(3, 6):
        broken.update(*mixed(seed))
        broken.weigh(*mixed(seed))
    one, other = whole.state_dict(), broken.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    batch, _ = mixed(7)
    torch.testing.assert_close(DynamicsGap.from_state(one).gap(batch), whole.gap(batch), rtol=0, atol=0)
