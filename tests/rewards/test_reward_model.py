"""The Bradley-Terry ensemble: the published loss and network, and an order that survives wrong answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from episodes.errors import InputError
from rewards import reward_model
from rewards.inputs import Table
from rewards.reward_model import ROUND, RewardConfig, RewardEnsemble, fit, preference_loss, scores

QUICK = RewardConfig(inputs="state", hidden=(16,), updates=50, batch_size=8, dropout=0.1)


def ensemble_of(config: RewardConfig, *shape: int) -> RewardEnsemble:
    return RewardEnsemble(config, shape, torch.zeros(()), torch.ones(()))


def test_the_loss_is_minus_the_log_of_the_better_one_s_share():
    """exp r = 1 against 3: shares of a quarter and three quarters."""
    first, second = torch.tensor([0.0, 0.0, 2.0]), torch.log(torch.tensor([3.0, 3.0, np.exp(2.0)]))
    losses = [
        float(preference_loss(first[i : i + 1], second[i : i + 1], torch.tensor([y]))) for i, y in ((0, 1), (1, 0))
    ]
    assert losses == pytest.approx([0.2876821, 1.3862944])
    together = preference_loss(first, second, torch.tensor([1, 0, 1]))
    assert float(together) == pytest.approx((0.2876821 + 1.3862944 + 0.6931472) / 3)


@given(st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.booleans()), min_size=1, max_size=8))
def test_the_loss_is_the_published_one(pairs: list[tuple[float, float, bool]]):
    r0, r1, y = (np.array(side, float) for side in zip(*pairs, strict=True))
    better = np.where(y > 0, r1, r0)
    expected = -np.log(np.exp(better) / (np.exp(r0) + np.exp(r1))).mean()
    found = preference_loss(torch.tensor(r0), torch.tensor(r1), torch.tensor(y > 0).long())
    assert float(found) == pytest.approx(expected)


def planted(
    seed: int, pairs: int = 2000, flipped: float = 0.2
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """States of six numbers, an order along a line, and answers of which a part is wrong, on the first half of them."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(4000, 6)).astype(np.float32)
    order = states @ rng.normal(size=6)
    asked = rng.integers(0, 2000, (pairs, 2))
    better = (order[asked[:, 1]] > order[asked[:, 0]]).astype(np.int64)
    wrong = rng.permutation(pairs)[: round(flipped * pairs)]
    better[wrong] = 1 - better[wrong]
    return states, order, asked, better


def test_a_planted_order_is_found_though_a_fifth_of_the_answers_is_wrong():
    states, order, asked, better = planted(0)
    inputs = Table(states)
    config = RewardConfig(inputs="state")
    ensemble = RewardEnsemble(config, inputs.shape, inputs.mean, inputs.std)
    found = fit(ensemble, inputs, asked, better, config)
    score = scores(ensemble, inputs, np.arange(4000)).mean(0)
    rng = np.random.default_rng(1)
    unseen = rng.integers(2000, 4000, (5000, 2))
    unseen = unseen[unseen[:, 0] != unseen[:, 1]]
    gain = order[unseen[:, 1]] - order[unseen[:, 0]]
    margin = score[unseen[:, 1]] - score[unseen[:, 0]]
    assert (np.sign(margin) == np.sign(gain)).mean() >= 0.95
    assert 0.7 < found.agreement < 0.83, "no model agrees more often with answers than these are right"


class Spying(RewardEnsemble):
    """Writes down what each member is shown, while it learns and while it is looked at."""

    def __init__(self, config: RewardConfig, inputs: Table):
        super().__init__(config, inputs.shape, inputs.mean, inputs.std)
        self.learned: list[list[list[int]]] = [[] for _ in self.members]
        self.looked_at: list[set[int]] = [set() for _ in self.members]

    def one(self, number: int, inputs: Tensor) -> Tensor:
        rows = inputs[:, 0].int().tolist()
        if self.members[number].training and torch.is_grad_enabled():
            self.learned[number].append(rows)
        elif not torch.is_grad_enabled():
            self.looked_at[number] |= set(rows)
        return super().one(number, inputs)


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_each_member_learns_in_its_own_order_and_leaves_its_own_part_aside(members: int):
    """A pair p is of rows 2p and 2p + 1, whose first number is the row."""
    count = 30
    inputs = Table(np.stack([np.arange(2.0 * count), np.ones(2 * count)], axis=1))
    config = replace(QUICK, members=members)
    ensemble = Spying(config, inputs)
    pairs = np.arange(2 * count).reshape(-1, 2)
    fit(ensemble, inputs, pairs, np.arange(count) % 2, config)
    orders, asides = [], []
    for learned, looked_at in zip(ensemble.learned, ensemble.looked_at, strict=True):
        # All first frames of a batch are shown before all second ones.
        batches = [[row // 2 for row in batch[: len(batch) // 2]] for batch in learned]
        assert [[row // 2 for row in batch[len(batch) // 2 :]] for batch in learned] == batches
        assert all(len(set(batch)) == len(batch) == 8 for batch in batches), "no pair twice in a batch"
        used, aside = {pair for batch in batches for pair in batch}, {row // 2 for row in looked_at}
        assert not used & aside
        assert used | aside == set(range(count))
        assert len(aside) == count / max(members, 3)
        orders.append(batches)
        asides.append(aside)
    assert all(orders[a] != orders[b] for a in range(members) for b in range(a))
    assert sum(map(len, asides)) == len(set().union(*asides)), "no two leave the same pair aside"


def test_what_is_kept_is_the_best_that_was_seen_and_patience_ends(monkeypatch: pytest.MonkeyPatch):
    """Answers without any order: what a member learns by heart makes it worse on the others."""
    rng = np.random.default_rng(0)
    inputs = Table(rng.normal(size=(120, 20)))
    pairs, better = np.arange(120).reshape(-1, 2), rng.integers(0, 2, 60)
    config = RewardConfig(
        inputs="state", members=1, hidden=(64,), weight_decay=0.0, dropout=0.0, updates=1000, patience=3, batch_size=64
    )
    looks: list[float] = []
    real = preference_loss

    def noted(first: Tensor, second: Tensor, label: Tensor) -> Tensor:
        loss = real(first, second, label)
        if not torch.is_grad_enabled():
            looks.append(float(loss))
        return loss

    monkeypatch.setattr(reward_model, "preference_loss", noted)
    ensemble = RewardEnsemble(config, inputs.shape, inputs.mean, inputs.std)
    found = fit(ensemble, inputs, pairs, better, config)
    assert looks[-1] > min(looks)
    assert found.updates == [ROUND * (1 + int(np.argmin(looks)))]
    assert len(looks) == found.updates[0] / ROUND + config.patience
    aside = np.array_split(np.random.default_rng(np.random.SeedSequence([config.seed, 7])).permutation(60), 3)[0]
    first, second = (scores(ensemble, inputs, pairs[aside, side])[0] for side in range(2))
    chosen, other = np.where(better[aside] > 0, (second, first), (first, second))
    kept = np.log1p(np.exp(other - chosen)).mean()
    assert kept == pytest.approx(min(looks), rel=1e-5)
    assert found.agreement == pytest.approx(((second > first) == (better[aside] > 0)).mean())


def test_a_member_that_is_never_patient_enough_stops_at_the_last_update():
    states, _, asked, better = planted(0, pairs=200, flipped=0.0)
    config = replace(QUICK, updates=60, patience=100, members=2)
    inputs = Table(states)
    found = fit(RewardEnsemble(config, inputs.shape, inputs.mean, inputs.std), inputs, asked, better, config)
    assert found.updates == [60, 60], "also where that is no whole number of rounds"
    assert found.agreement > 0.8


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.booleans())
@settings(max_examples=40)
def test_a_bounded_reward_stays_in_its_bounds_and_an_unbounded_one_does_not(state: list[float], bounded: bool):
    ensemble = ensemble_of(replace(QUICK, bounded=bounded, members=2), 3).eval()
    with torch.no_grad():
        ensemble.get_parameter("members.0.3.bias").fill_(3.0)
        reward = float(ensemble.one(0, torch.tensor([state])))
        raw = float(ensemble.members[0](torch.tensor([state])))
        at_origin = float(ensemble(torch.zeros(1, 3))[0])
    assert reward == pytest.approx(np.tanh(raw) if bounded else raw, abs=1e-5)
    assert abs(reward) <= 1 or not bounded
    assert at_origin > 2 or bounded


def test_before_anything_is_learned_no_frame_is_better_than_another():
    ensemble = ensemble_of(replace(QUICK, members=3), 6).eval()
    states = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float(ensemble(states).abs().max()) < 0.01


def test_the_convolutions_are_the_published_ones():
    ensemble = ensemble_of(replace(QUICK, inputs="pixels", members=1, dropout=0.0), 6, 84, 84)
    sizes: list[tuple[int, ...]] = []
    for module in ensemble.members[0].modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Flatten):
            module.register_forward_hook(lambda _, inputs, output: sizes.append(tuple(output.shape[1:])))
    rewards = ensemble(torch.full((2, 6, 84, 84), 128, dtype=torch.uint8))
    assert rewards.shape == (1, 2)
    assert sizes == [(16, 27, 27), (32, 13, 13), (64, 6, 6), (128, 2, 2), (512,), (1,)]
    layers = [module for module in ensemble.members[0].modules() if isinstance(module, nn.Conv2d)]
    assert [(layer.kernel_size[0], layer.stride[0], layer.padding[0]) for layer in layers] == [
        (5, 3, 0),
        (3, 2, 0),
        (3, 2, 0),
        (3, 2, 0),
    ]
    (last,) = [module for module in ensemble.modules() if isinstance(module, nn.Linear)]
    assert 0 < float(last.weight.detach().abs().max()) <= 1e-3
    assert not last.bias.any()
    assert sum(isinstance(module, nn.ReLU) for module in ensemble.modules()) == 4


def test_convolutions_learn_from_frames():
    """Bright is better."""

    class Greys:
        shape: tuple[int, ...] = (3, 84, 84)
        mean, std = torch.tensor(0.0), torch.tensor(255.0)

        def at(self, rows: np.ndarray) -> Tensor:
            return torch.from_numpy(rows.astype(np.uint8)).view(-1, 1, 1, 1).expand(-1, 3, 84, 84)

    config = RewardConfig(inputs="pixels", members=1, updates=30, batch_size=12)
    ensemble = RewardEnsemble(config, Greys.shape, Greys.mean, Greys.std)
    pairs = np.random.default_rng(0).choice(250, (60, 2), replace=True)
    fit(ensemble, Greys(), pairs, (pairs[:, 1] > pairs[:, 0]).astype(int), config)
    assert (np.diff(scores(ensemble, Greys(), np.array([0, 80, 160, 240]))[0]) > 0).all()


def test_inputs_are_standardised_by_the_network_itself():
    inputs = Table(np.array([[1.0, 50], [3, 70], [5, 20]]))
    ensemble = RewardEnsemble(QUICK, inputs.shape, inputs.mean, inputs.std).eval()
    other = ensemble_of(QUICK, 2).eval()
    other.members.load_state_dict(ensemble.members.state_dict())
    rows = inputs.at(np.arange(3))
    with torch.no_grad():
        np.testing.assert_allclose(ensemble(rows), other((rows - inputs.mean) / inputs.std), rtol=1e-5)
    assert {"mean", "std"} <= set(ensemble.state_dict()), "and with it they are kept"


def test_the_score_of_a_row_does_not_depend_on_which_others_are_scored():
    states = planted(0)[0]
    inputs = Table(states)
    ensemble = RewardEnsemble(QUICK, inputs.shape, inputs.mean, inputs.std).train()
    rows = np.random.default_rng(0).permutation(2500)
    found = scores(ensemble, inputs, rows)
    assert found.shape == (3, 2500)
    again = scores(ensemble, inputs, np.arange(2500))
    np.testing.assert_allclose(found, again[:, rows], atol=1e-7, err_msg="dropout is off, and rows are in order")
    assert (np.std(found, axis=0) > 0).all(), "each member has its own beginning"


def trained(config: RewardConfig) -> tuple[np.ndarray, reward_model.Fit]:
    states, _, asked, better = planted(3, pairs=60)
    inputs = Table(states[:50])
    ensemble = RewardEnsemble(config, inputs.shape, inputs.mean, inputs.std)
    found = fit(ensemble, inputs, asked % 50, better, config)
    return scores(ensemble, inputs, np.arange(50)), found


def test_a_seed_gives_the_same_model_and_nobody_else_s_chance_is_touched():
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    one, other, third = trained(QUICK), trained(QUICK), trained(replace(QUICK, seed=1))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state(legacy=False)["state"]["key"])
    torch.manual_seed(12)
    np.testing.assert_array_equal(trained(QUICK)[0], one[0])
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1]
    assert (one[0] != third[0]).any()


@pytest.mark.parametrize("pairs", [0, 1, 5])
def test_too_few_answers_are_told(pairs: int):
    inputs = Table(np.ones((10, 2)))
    ensemble = RewardEnsemble(QUICK, inputs.shape, inputs.mean, inputs.std)
    with pytest.raises(InputError, match=f"^{pairs} answered pairs are too few to learn a reward from; ask for more$"):
        fit(ensemble, inputs, np.zeros((pairs, 2), int), np.zeros(pairs, int), QUICK)


def test_the_fewest_answers_there_can_be_are_learned_from():
    inputs = Table(np.arange(12.0)[:, None])
    ensemble = RewardEnsemble(QUICK, inputs.shape, inputs.mean, inputs.std)
    found = fit(ensemble, inputs, np.arange(12).reshape(6, 2), np.ones(6, int), QUICK)
    assert len(found.updates) == 3
    assert np.isfinite(scores(ensemble, inputs, np.arange(12))).all()
