"""RLPD and Cal-QL against numbers worked out here: densities, losses by hand, problems with known values."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from episodes.errors import InputError
from policies.cal_ql import CalQL, CalQLConfig
from policies.iql import IQL, IQLConfig
from policies.networks import EnsembleMLP, SquashedGaussianPolicy
from policies.preparation import Prepared
from policies.rlpd import RLPD, RLPDConfig

LEARNERS = {"rlpd": (RLPD, RLPDConfig), "cal_ql": (CalQL, CalQLConfig)}


def prepared(rows: int, **columns: Any) -> Prepared:
    """A batch in network units; what is not given is zero, and everything counts."""
    tables = {"observation": (rows, 2), "action": (rows, 2), "next_observation": (rows, 2)}
    numbers = {name: torch.zeros(shape) for name, shape in tables.items()}
    numbers |= {name: torch.zeros(rows) for name in ("reward", "return_to_go")}
    numbers |= {"mask": torch.ones(rows), "discount": torch.ones(rows), "valid": torch.ones(rows, 2)}
    return Prepared(**(numbers | {name: torch.tensor(value, dtype=torch.float32) for name, value in columns.items()}))


def learner(name: str, preparation, **config: Any) -> Any:
    cls, config_class = LEARNERS[name]
    return cls(config_class(**({"hidden": (8, 8)} | config)), preparation(state=2, action=2), seed=0)


def settle(algorithm: Any, mean: list[float], log_std: list[float]) -> None:
    """A policy that is the same in every state."""
    last = algorithm.actor.trunk.layers[-1]
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([*mean, *log_std])


class Linear:
    """Stands in for critics: member m says `offsets[m] + slope . action`."""

    def __init__(self, offsets: list[float], slope: list[float]):
        self.offsets, self.slope = torch.tensor(offsets), torch.tensor(slope)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (self.offsets[:, None] + x[:, 2:] @ self.slope).unsqueeze(2)

    def requires_grad_(self, wanted: bool) -> None:
        pass


# The policy's density ---------------------------------------------------------------------------------------------


def test_the_density_of_a_tanh_is_the_normals_over_its_slope(preparation) -> None:
    algorithm = learner("rlpd", preparation)
    settle(algorithm, [0.3, -1.2], [-0.5, 0.4])
    noise = torch.tensor([[0.7, -1.1], [-2.0, 0.2]])
    action, log_prob = algorithm.actor.draw(torch.zeros(2, 2), noise)
    raw = np.array([0.3, -1.2]) + np.exp([-0.5, 0.4]) * noise.numpy()
    expected = norm.logpdf(raw, [0.3, -1.2], np.exp([-0.5, 0.4])) - np.log(1 - np.tanh(raw) ** 2)
    np.testing.assert_allclose(action.detach(), np.tanh(raw), rtol=1e-5)
    np.testing.assert_allclose(log_prob.detach(), expected.sum(1), rtol=1e-5)
    np.testing.assert_allclose(algorithm.actor.log_prob(torch.zeros(2, 2), action).detach(), expected.sum(1), rtol=1e-4)


def test_the_density_integrates_to_one_and_is_finite_at_the_limits(preparation) -> None:
    policy = SquashedGaussianPolicy(1, 1, (4,), torch.Generator().manual_seed(0))
    action = torch.linspace(-1, 1, 20001).unsqueeze(1)
    density = policy.log_prob(torch.ones(20001, 1), action).exp().detach().squeeze()
    assert torch.trapezoid(density, action.squeeze()).item() == pytest.approx(1.0, abs=2e-3)
    at_limits = policy.log_prob(torch.ones(2, 1), torch.tensor([[-1.0], [1.0]]))
    assert at_limits.isfinite().all()


def test_far_out_the_density_stays_finite(preparation) -> None:
    algorithm = learner("rlpd", preparation)
    settle(algorithm, [40.0, -40.0], [0.0, 0.0])
    action, log_prob = algorithm.actor.draw(torch.zeros(1, 2), torch.zeros(1, 2))
    assert action.tolist() == [[1.0, -1.0]]
    # log(1 - tanh(x)^2) goes to log 4 - 2 |x|.
    expected = 2 * (-0.5 * math.log(2 * math.pi) - (math.log(4) - 80))
    assert log_prob.item() == pytest.approx(expected, rel=1e-6)


def test_layer_normalisation_is_torchs_own_member_by_member() -> None:
    ensemble = EnsembleMLP([3, 5, 1], 2, torch.Generator().manual_seed(0), layer_norm=True)
    for gain, shift in zip(ensemble.gains, ensemble.shifts, strict=True):
        gain.data.uniform_(0.5, 2)
        shift.data.uniform_(-1, 1)
    x = torch.randn(4, 3)
    for member in range(2):
        hidden = x @ ensemble.weights[0][member] + ensemble.biases[0][member]
        norm_layer = nn.LayerNorm(5)
        norm_layer.weight.data, norm_layer.bias.data = ensemble.gains[0][member, 0], ensemble.shifts[0][member, 0]
        expected = torch.relu(norm_layer(hidden)) @ ensemble.weights[1][member] + ensemble.biases[1][member]
        torch.testing.assert_close(ensemble(x)[member], expected)


# Losses by hand ---------------------------------------------------------------------------------------------------


def test_the_backup_is_the_smallest_of_the_drawn_targets_less_what_entropy_is_worth(preparation) -> None:
    """Offsets 5, 3, 4 and a policy that always does nearly 0: 3 where all are drawn, and alpha log pi off it."""
    algorithm = learner("rlpd", preparation, critics=3, critic_subset=3, initial_temperature=0.5, entropy_backup=True)
    algorithm.target = Linear([5.0, 3.0, 4.0], [0.0, 0.0])
    settle(algorithm, [0.0, 0.0], [-4.0, -4.0])
    algorithm.generator.manual_seed(1)
    noise = torch.randn((2, 2), generator=torch.Generator().manual_seed(1))
    raw = math.exp(-4) * noise.numpy()
    log_prob = (norm.logpdf(raw, 0, math.exp(-4)) - np.log(1 - np.tanh(raw) ** 2)).sum(1)
    np.testing.assert_allclose(algorithm.target_value(prepared(2)), 3.0 - 0.5 * log_prob, rtol=1e-5)


def test_only_a_subset_is_asked_and_it_changes(preparation) -> None:
    algorithm = learner("rlpd", preparation, critics=3, critic_subset=1, entropy_backup=False)
    algorithm.target = Linear([5.0, 3.0, 4.0], [0.0, 0.0])
    assert {algorithm.target_value(prepared(1)).item() for _ in range(50)} == {3.0, 4.0, 5.0}


def test_temporal_difference_backs_up_nothing_after_the_end(preparation) -> None:
    """r + discount * mask * Q': 1 + 0.9*2 = 2.8 and -1. Squares averaged over rows, summed over critics."""
    algorithm = learner("rlpd", preparation, entropy_backup=False)
    algorithm.target_value = lambda batch: torch.tensor([2.0, 7.0])
    rows = prepared(2, reward=[1.0, -1.0], mask=[1.0, 0.0], discount=[0.9, 0.9])
    q = torch.tensor([[2.0, 0.0], [3.0, -2.0]])
    expected = ((2 - 2.8) ** 2 + (0 + 1) ** 2) / 2 + ((3 - 2.8) ** 2 + (-2 + 1) ** 2) / 2
    assert algorithm.temporal_difference(rows, q).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "of_all"), [("rlpd", 4.0), ("cal_ql", 3.0)])
def test_the_policy_climbs_the_mean_in_rlpd_and_the_smallest_in_cal_ql(preparation, name: str, of_all: float) -> None:
    algorithm = learner(name, preparation, critics=3, initial_temperature=0.25)
    algorithm.critic = Linear([5.0, 3.0, 4.0], [2.0, 0.0])
    settle(algorithm, [0.6, 0.0], [-20.0, -20.0])  # clamped to e^-5
    algorithm.generator.manual_seed(1)
    noise = torch.randn((4, 2), generator=torch.Generator().manual_seed(1)).numpy()
    raw = np.array([0.6, 0.0]) + math.exp(-5) * noise
    log_prob = (norm.logpdf(raw, [0.6, 0.0], math.exp(-5)) - np.log(1 - np.tanh(raw) ** 2)).sum(1)
    loss, info = algorithm.actor_loss(prepared(4))
    assert info["worth"].item() == pytest.approx((of_all + 2 * np.tanh(raw[:, 0])).mean(), rel=1e-5)
    assert loss.item() == pytest.approx((0.25 * log_prob - of_all - 2 * np.tanh(raw[:, 0])).mean(), rel=1e-5)
    loss.backward()
    # d/du of -2 tanh(u) - 0.25 * (-log(1 - tanh^2)) at u = 0.6: -2 (1 - t^2) + 0.5 t; noise makes it differ a little.
    t = math.tanh(0.6)
    gradient = algorithm.actor.trunk.layers[-1].bias.grad[0].item()
    assert gradient == pytest.approx(-2 * (1 - t * t) + 0.25 * 2 * t, abs=0.02)


def test_the_temperature_rises_while_entropy_is_below_its_target(preparation) -> None:
    algorithm = learner("rlpd", preparation, initial_temperature=0.5)
    assert algorithm.target_entropy == -1.0, "minus half of two numbers"
    assert learner("cal_ql", preparation).target_entropy == -2.0, "minus two numbers"
    for entropy, sign in ((-3.0, -1), (2.0, 1)):
        algorithm.temperature.zero_grad()
        loss, _ = algorithm.temperature_loss(torch.tensor(entropy))
        assert loss.item() == pytest.approx(0.5 * (entropy + 1.0))
        loss.backward()
        assert math.copysign(1, algorithm.temperature.log.grad.item()) == sign


def test_policy_actions_are_bounded_by_the_return_and_random_ones_are_not(preparation) -> None:
    """Critics that say 1 everywhere, returns of 4 and -2: policy terms are worth 4 and 1, random ones 1 in both."""
    algorithm = learner("cal_ql", preparation, sampled_actions=3)
    algorithm.critic = Linear([1.0, 1.0], [0.0, 0.0])
    settle(algorithm, [0.1, -0.2], [-1.0, 0.5])
    algorithm.generator.manual_seed(1)
    own = torch.Generator().manual_seed(1)
    policy = algorithm.actor
    log_probs = []
    for _ in ("here", "there"):
        raw = np.array([0.1, -0.2]) + np.exp([-1.0, 0.5]) * torch.randn((3, 2, 2), generator=own).numpy()
        log_probs.append((norm.logpdf(raw, [0.1, -0.2], np.exp([-1.0, 0.5])) - np.log(1 - np.tanh(raw) ** 2)).sum(-1))
    rows = prepared(2, return_to_go=[4.0, -2.0])
    q = torch.tensor([[0.5, 0.0], [1.5, 2.0]])
    loss, info = algorithm.conservative_loss(rows, q)
    floor = np.array([4.0, -2.0])
    terms = [np.full((3, 2), 1 + 2 * math.log(2))]
    terms += [np.maximum(1.0, floor) - log_prob for log_prob in log_probs]
    over = np.log(np.exp(np.concatenate(terms)).mean(0))
    assert loss.item() == pytest.approx(((over - [0.5, 0.0]).mean() + (over - [1.5, 2.0]).mean()), rel=1e-5)
    assert info["calibrated"].item() == 0.5
    assert isinstance(policy, SquashedGaussianPolicy)


def test_the_best_of_the_next_actions_is_backed_up(preparation) -> None:
    algorithm = learner("cal_ql", preparation, sampled_actions=20)
    algorithm.target = Linear([0.0, 1.0], [1.0, 0.0])
    settle(algorithm, [0.0, 0.0], [0.0, 0.0])
    algorithm.generator.manual_seed(1)
    noise = torch.randn((20, 3, 2), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(algorithm.target_value(prepared(3)), noise[..., 0].tanh().amax(0))


def test_of_the_best_of_the_next_actions_only_a_subset_is_asked_too(preparation) -> None:
    algorithm = learner("cal_ql", preparation, critics=3, critic_subset=1, sampled_actions=2)
    algorithm.target = Linear([5.0, 3.0, 4.0], [0.0, 0.0])
    assert {algorithm.target_value(prepared(1)).item() for _ in range(50)} == {3.0, 4.0, 5.0}


def test_cloning_weighs_as_much_as_climbing(preparation) -> None:
    plain = learner("cal_ql", preparation)
    cloning = learner("cal_ql", preparation, clone_weight=1.0)
    rows = prepared(4, action=[[0.2, 0.1]] * 4)
    without, info = plain.actor_loss(rows)
    both, found = cloning.actor_loss(rows)
    log_prob = cloning.actor.log_prob(rows.observation, rows.action)
    expected = -log_prob.mean().item()
    assert found["cloning_loss"].item() == pytest.approx(expected)
    weight = info["worth"].abs().item() / log_prob.abs().mean().item()
    assert both.item() - without.item() == pytest.approx(weight * expected, rel=1e-4)


def test_cloning_has_no_pole_where_densities_are_one_on_average(preparation, monkeypatch) -> None:
    """Half of the logarithms are 2 and half of them -2: their mean is 0, and their size is not."""
    cloning = learner("cal_ql", preparation, clone_weight=1.0)
    rows = prepared(4, action=[[0.2, 0.1]] * 4)
    even = torch.tensor([2.0, -2.0, 2.0, -2.0 + 1e-5], requires_grad=True)
    monkeypatch.setattr(type(cloning.actor), "log_prob", lambda *_: even)
    loss, info = cloning.actor_loss(rows)
    loss.backward()
    assert even.grad is not None
    assert even.grad.abs().max().item() == pytest.approx(info["worth"].abs().item() / 2 / 4, rel=1e-3)


def test_critics_learn_returns_while_the_policy_rests_and_back_up_after_that(preparation) -> None:
    algorithm = learner("rlpd", preparation, critics=2, actor_warm_up=2, warm_up_on_returns=True)
    algorithm.target = Linear([-3.0, -4.0], [0.0, 0.0])
    rows = prepared(2, reward=[-1.0, 0.0], return_to_go=[-7.0, 0.0], discount=[0.9, 0.9], mask=[1.0, 0.0])
    q = torch.tensor([[-5.0, 1.0], [-7.0, 0.0]])
    for step, target in enumerate(([-7.0, 0.0], [-7.0, 0.0], [-1 - 0.9 * 4, 0.0])):
        algorithm.step = step
        expected = (q - torch.tensor(target)).square()
        torch.testing.assert_close(algorithm.squared_differences(rows, q), expected)


# Whole updates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
def test_an_update_changes_what_it_should(preparation, batch, name: str) -> None:
    algorithm = learner(name, preparation, updates_per_actor_update=2, actor_warm_up=2)
    rows = batch(0, state=2)
    for step, moves in enumerate([False, False, False, True, False, True], 1):
        before = {key: value.clone() for key, value in algorithm.state_dict().items() if key.startswith("module/")}
        info = algorithm.update(rows)
        after = algorithm.state_dict()
        changed = {key.split("/")[1] for key, value in before.items() if not torch.equal(value, after[key])}
        assert changed == ({"critic", "target"} | ({"actor", "temperature"} if moves else set())), step
        assert ("actor_loss" in info) == moves
        assert all(value.isfinite() for value in info.values())
    assert all(parameter.requires_grad for parameter in algorithm.critic.parameters())


@pytest.mark.parametrize("name", LEARNERS)
def test_a_resumed_learner_goes_on_bit_for_bit(preparation, batch, name: str) -> None:
    one, other = learner(name, preparation), learner(name, preparation)
    for seed in range(3):
        one.update(batch(seed, state=2))
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    for seed in range(3, 6):
        one.update(batch(seed, state=2))
        other.update(batch(seed, state=2))
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_what_starts_from_a_policy_does_what_it_does(preparation) -> None:
    pretrained = IQL(IQLConfig(hidden=(8, 8)), preparation(state=2, action=2), seed=3)
    pretrained.actor.log_std.data = torch.tensor([-1.0, -9.0])
    algorithm = learner("rlpd", preparation)
    algorithm.start_from(pretrained)
    observation = torch.randn(5, 2)
    torch.testing.assert_close(algorithm.actor.mean(observation), pretrained.actor.mean(observation))
    assert algorithm.actor.before_tanh(observation)[1].tolist() == [[-1.0, -5.0]] * 5
    again = learner("cal_ql", preparation)
    again.start_from(algorithm)
    torch.testing.assert_close(again.actor.mean(observation), pretrained.actor.mean(observation))


def test_critics_that_are_built_alike_come_along(preparation) -> None:
    """Cal-QL's and IQL's are; RLPD's have layer normalisation."""
    pretrained = IQL(IQLConfig(hidden=(8, 8)), preparation(state=2, action=2), seed=3)
    pretrained.target.load_state_dict({key: 0.5 * value for key, value in pretrained.critic.state_dict().items()})
    state, action = torch.randn(5, 2), torch.rand(5, 1, 2)
    alike, other = learner("cal_ql", preparation), learner("rlpd", preparation, critics=2)
    q = other.q(state, action)
    for algorithm in (alike, other):
        algorithm.start_from(pretrained)
    torch.testing.assert_close(alike.q(state, action), pretrained.q(state, action))
    for key, value in pretrained.critic.state_dict().items():
        assert torch.equal(alike.critic.state_dict()[key], value), "and the target is not made of it"
    torch.testing.assert_close(other.q(state, action), q)


def test_a_policy_of_another_size_is_refused(preparation) -> None:
    wide = IQL(IQLConfig(hidden=(16, 8)), preparation(state=2, action=2), seed=3)
    with pytest.raises(InputError, match="has layers"):
        learner("rlpd", preparation).start_from(wide)
    with pytest.raises(InputError, match="critic_subset 3: there are 2 critics"):
        learner("cal_ql", preparation, critic_subset=3)


# A problem whose answer is known ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
def test_it_finds_the_best_action_of_a_bandit_and_what_it_is_worth(preparation, name: str) -> None:
    """Reward 1 - (a - 0.5)^2 of the first number, the second does not matter; every row ends the task."""
    torch.manual_seed(0)
    settings = {"hidden": (32, 32), "initial_temperature": 0.02, "learning_rate": 3e-3, "updates_per_actor_update": 1}
    settings |= {"conservative_weight": 0.05, "actor_learning_rate": 3e-3} if name == "cal_ql" else {}
    algorithm = learner(name, preparation, **settings, target_entropy=-6.0)
    rng = torch.Generator().manual_seed(0)
    for _ in range(600):
        action = torch.rand((64, 2), generator=rng) * 2 - 1
        reward = 1 - (action[:, 0] - 0.5).square()
        rows = prepared(64, action=action.tolist(), reward=reward.tolist(), mask=[0.0] * 64)
        loss, _ = algorithm.critic_loss(rows)
        for part, (value, _) in (("critic", (loss, {})), ("actor", algorithm.actor_loss(rows))):
            algorithm.optimisers[part].zero_grad()
            value.backward()
            algorithm.optimisers[part].step()
    assert algorithm.actor.mean(torch.zeros(1, 2))[0, 0].item() == pytest.approx(0.5, abs=0.12)
    best = algorithm._q(algorithm.critic, torch.zeros(1, 2), torch.tensor([[0.5, 0.0]])).mean().item()
    assert best == pytest.approx(1.0, abs=0.15)
