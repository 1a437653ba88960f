"""FamO2O against numbers worked out here, and against what went wrong in published versions of it."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest, norm, uniform
from torch import nn

from episodes.errors import InputError
from policies import famo2o, iql
from policies.checkpoint import actor_hash
from policies.famo2o import BalanceModel, FamO2O, FamO2OConfig, encode
from policies.iql import IQL, IQLConfig
from policies.preparation import Prepared


def learner(preparation, **config) -> FamO2O:
    return FamO2O(FamO2OConfig(**({"hidden": (8, 8)} | config)), preparation(state=2, action=2), seed=0)


def prepared(rows: int, seed: int = 0, **columns) -> Prepared:
    """A batch of what may be anything, in network units."""
    draw = torch.Generator().manual_seed(seed)
    numbers = {name: torch.randn(rows, 2, generator=draw) for name in ("observation", "next_observation")}
    numbers["action"] = torch.rand(rows, 2, generator=draw) * 1.8 - 0.9
    numbers |= {"valid": torch.ones(rows, 2), "reward": torch.randn(rows, generator=draw)}
    numbers |= {"mask": torch.ones(rows), "discount": torch.full((rows,), 0.9), "return_to_go": torch.zeros(rows)}
    return Prepared(**(numbers | columns))


def always(model: BalanceModel, raw: float, log_std: float = -1.0) -> None:
    """Let it have one mean, before the tanh, in every state."""
    nn.init.zeros_(model.trunk.layers[-1].weight)
    nn.init.constant_(model.trunk.layers[-1].bias, raw)
    nn.init.constant_(model.log_std, log_std)


# The coefficient as the family sees it ---------------------------------------------------------------------------


def test_the_encoding_is_three_sines_and_three_cosines_at_the_published_frequencies():
    """beta / 10000^(2i/6): frequencies 1, 1/21.544, 1/464.16."""
    coefficient = np.array([0.0, 2.0, 8.0, 14.0])
    angle = coefficient[:, None] * np.array([1.0, 1 / 21.544346900318837, 1 / 464.15888336127790])
    expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    np.testing.assert_allclose(encode(torch.from_numpy(coefficient)).numpy(), expected, atol=1e-12)
    assert encode(torch.zeros(1)).tolist() == [[0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize(("low", "high"), [(1.0, 5.0), (8.0, 14.0)])
def test_no_two_coefficients_of_a_published_range_look_alike(low, high):
    grid = torch.linspace(low, high, 61, dtype=torch.float64)
    apart = (grid[:, None] - grid[None]).abs()
    seen = torch.cdist(encode(grid), encode(grid))
    assert (seen[apart > 0] > 0.25 * apart[apart > 0].clamp(max=1)).all()


# The balance model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "expected"), [(-40.0, 0.5), (0.0, 1.0), (40.0, 1.5), (math.atanh(0.5), 1.25)])
def test_coefficients_fill_their_range_and_nothing_beside_it(raw, expected):
    """Published once: (high - low) x + low of x in (-1, 1), which is -0.5 to 1.5 where 0.5 to 1.5 was meant."""
    model = BalanceModel(2, (4,), 0.5, 1.5, torch.Generator().manual_seed(0))
    always(model, raw)
    assert model.mean(torch.zeros(1, 2)).item() == pytest.approx(expected, abs=1e-6)
    always(model, raw / 20, log_std=2.0)
    drawn, _ = model.draw(torch.zeros(2000, 2), torch.randn(2000))
    assert drawn.min() >= 0.5 and drawn.max() <= 1.5


def test_the_density_is_that_of_the_coefficient_in_half_ranges():
    """Published once: of the Normal before the transform. Here: by change of variables, and it integrates to 1."""
    model = BalanceModel(2, (4,), 1.0, 5.0, torch.Generator().manual_seed(0))
    always(model, 0.3, log_std=-0.7)
    deviation = math.exp(-0.7)

    def density(x: float) -> float:
        return norm.pdf(math.atanh(x), 0.3, deviation) / (1 - x * x)

    assert quad(density, -1, 1)[0] == pytest.approx(1, abs=1e-6)
    noise = torch.tensor([-2.0, -0.5, 0.0, 1.7])
    coefficient, log_prob = model.draw(torch.zeros(4, 2), noise)
    halves = ((coefficient - 3) / 2).tolist()
    assert halves == pytest.approx(np.tanh(0.3 + deviation * noise.numpy()).tolist(), rel=1e-5)
    assert log_prob.tolist() == pytest.approx([math.log(density(x)) for x in halves], rel=1e-4)


class Q:
    """Stands in for the target critics: two functions of the action, and what they were asked about."""

    def __call__(self, x):
        self.asked = x
        first, second = 3 * x[:, 2] - x[:, 3], x[:, 2] + 2
        return torch.stack([first, second]).unsqueeze(2)


def test_balance_loss_by_hand(preparation):
    """alpha log pi_b - min(3 a0 - a1, a0 + 2) at the clipped action, with the noises that it draws in turn."""
    algorithm = learner(preparation, initial_temperature=0.4)
    always(algorithm.actor.balance, 0.2, log_std=-0.3)
    algorithm.target = Q()
    family, batch = algorithm.actor.family, prepared(5)
    family.log_std.data = torch.tensor([0.1, -1.0])
    draw = torch.Generator()
    draw.set_state(algorithm.generator.get_state())
    first, second = torch.randn(5, generator=draw).numpy(), torch.randn(5, 2, generator=draw).numpy()
    loss, info = algorithm.balance_loss(batch)

    raw = 0.2 + math.exp(-0.3) * first
    coefficient = 3 + 2 * np.tanh(raw)
    log_prob = norm.logpdf(raw, 0.2, math.exp(-0.3)) - np.log(1 - np.tanh(raw) ** 2)
    given = torch.cat([batch.observation, encode(torch.from_numpy(coefficient).float())], 1)
    action = np.clip(family.mean(given).detach().numpy() + np.exp([0.1, -1.0]) * second, -1, 1)
    assert (np.abs(action) == 1).any() and (np.abs(action) < 1).any()
    q = np.minimum(3 * action[:, 0] - action[:, 1], action[:, 0] + 2)
    assert loss.item() == pytest.approx((0.4 * log_prob - q).mean(), rel=1e-4)
    np.testing.assert_allclose(algorithm.target.asked.detach(), np.hstack([batch.observation, action]), rtol=1e-4)
    assert info["balance_loss"].item() == loss.item()
    assert info["balance_entropy"].item() == pytest.approx(-log_prob.mean(), rel=1e-4)
    assert info["coefficient"].item() == pytest.approx(3 + 2 * math.tanh(0.2))
    assert info["coefficient_spread"].item() == pytest.approx(0, abs=1e-6)


def test_coefficient_and_action_are_drawn_independently(preparation):
    """Published once: both from the same key."""
    algorithm, rows = FamO2O(FamO2OConfig(hidden=(8, 8)), preparation(state=2, action=1), seed=0), 4000
    always(algorithm.actor.balance, 0.0, log_std=0.0)
    for layer in algorithm.actor.family.trunk.linear_layers:
        nn.init.zeros_(layer.weight)
    algorithm.actor.family.log_std.data.fill_(-2.0)
    coefficients, actions = [], []
    draw = algorithm.actor.balance.draw
    algorithm.actor.balance.draw = lambda *given: coefficients.append(draw(*given)) or coefficients[-1]
    algorithm.target = lambda x: actions.append(x[:, 2]) or torch.zeros(2, rows, 1)
    algorithm.balance_loss(prepared(rows))
    coefficient, action = coefficients[0][0].detach().numpy(), actions[0].detach().numpy()
    assert action.std() == pytest.approx(math.exp(-2), rel=0.05)
    assert abs(np.corrcoef(action, coefficient)[0, 1]) < 4 / math.sqrt(rows)


def test_the_balance_model_alone_is_moved_through_what_the_family_is_given(preparation):
    """Its gradient is the difference quotient, with the same noise; family, targets and temperature have none."""
    algorithm = learner(preparation)
    for module in algorithm.modules.values():
        module.double()
    batch = prepared(64)
    columns = {name: getattr(batch, name) for name in Prepared.__slots__}
    batch = Prepared(**{name: None if values is None else values.double() for name, values in columns.items()})
    state, bias = algorithm.generator.get_state(), algorithm.actor.balance.trunk.linear_layers[-1].bias

    def loss() -> torch.Tensor:
        algorithm.generator.set_state(state)
        return algorithm.balance_loss(batch)[0]

    loss().backward()
    others = [algorithm.actor.family, algorithm.target, algorithm.temperature, algorithm.value, algorithm.critic]
    assert all(parameter.grad is None for module in others for parameter in module.parameters())
    assert all(parameter.requires_grad for parameter in algorithm.actor.family.parameters()), "frozen only for a moment"
    for parameter in (bias, algorithm.actor.balance.log_std):
        found, step, values = parameter.grad.item(), 1e-6, []
        for sign in (1, -1):
            parameter.data += sign * step
            values.append(loss().item())
            parameter.data -= sign * step
        assert found == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)
        assert abs(found) > 1e-3


def test_the_balance_model_finds_the_coefficient_that_pays(preparation):
    """A family that does a = (beta - 3) / 2, and a Q that likes high ones where x is positive, else low ones."""
    algorithm = learner(preparation, learning_rate=1e-2)
    family = algorithm.actor.family

    def obedient(given, noise=None):
        angle = torch.atan2(given[:, 2], given[:, 5]) % (2 * math.pi)
        return ((angle - 3) / 2).unsqueeze(1).expand(-1, 2)

    family.mean = obedient
    family.log_std.data.fill_(-4.0)
    algorithm.target = lambda x: torch.stack([x[:, 0].sign() * x[:, 2]] * 2).unsqueeze(2)
    batch = prepared(256)
    for _ in range(250):
        loss, info = algorithm.balance_loss(batch)
        famo2o.descend(algorithm.optimisers["balance"], loss)
        famo2o.descend(algorithm.optimisers["temperature"], algorithm.temperature_loss(info["balance_entropy"])[0])
    clear = batch.observation[batch.observation[:, 0].abs() > 0.3]
    found = algorithm.coefficient(clear)
    high = clear[:, 0] > 0
    assert found[high].min() > 3.5 and found[~high].max() < 2.5
    assert info["coefficient"].item() == pytest.approx(algorithm.coefficient(batch.observation).mean().item(), abs=0.1)
    assert info["coefficient_spread"].item() > 0.8


@pytest.mark.parametrize(("entropy", "rises"), [(-0.6, True), (-0.4, False)])
def test_the_temperature_rises_where_entropy_is_below_its_target(entropy, rises, preparation):
    algorithm = learner(preparation, initial_temperature=0.5)
    loss, info = algorithm.temperature_loss(torch.tensor(entropy))
    assert loss.item() == pytest.approx(0.5 * (entropy + 0.5))
    assert info["balance_temperature"].item() == pytest.approx(0.5)
    famo2o.descend(algorithm.optimisers["temperature"], loss)
    assert (algorithm.temperature.value.item() > 0.5) == rises


# The family ------------------------------------------------------------------------------------------------------


def test_actor_loss_weighs_each_row_by_its_own_coefficient(preparation):
    """Advantages 0.5, -1, 4 at beta 1, 2, 5: weights e^0.5, e^-2 and, as e^20 is past it, 100."""
    algorithm = learner(preparation)
    algorithm.value = lambda x: torch.tensor([[0.5], [2.0], [-1.0]])
    family, batch = algorithm.actor.family, prepared(3)
    coefficient = torch.tensor([1.0, 2.0, 5.0])
    family.log_std.data = torch.tensor([-0.4, 0.7])
    valid = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    batch = Prepared(**{name: valid if name == "valid" else getattr(batch, name) for name in Prepared.__slots__})
    loss, info = algorithm.actor_loss(batch, torch.tensor([1.0, 1.0, 3.0]), coefficient)
    x = torch.cat([batch.observation, encode(coefficient)], 1)
    for layer in family.trunk.linear_layers[:-1]:
        x = torch.relu(x @ layer.weight.T + layer.bias)
    mean = torch.tanh(x @ family.trunk.linear_layers[-1].weight.T).detach().numpy()
    density = norm.logpdf(batch.action.numpy(), mean, np.exp([-0.4, 0.7])) * valid.numpy()
    weights = np.array([math.exp(0.5), math.exp(-2), 100.0])
    assert loss.item() == pytest.approx(-(weights * density.sum(1)).mean(), rel=1e-4)
    assert info["advantage"].item() == pytest.approx((0.5 - 1 + 4) / 3)
    assert info["weight_clipped"].item() == pytest.approx(1 / 3)
    loss.backward()
    assert all(parameter.grad is not None for parameter in family.parameters())
    assert all(parameter.grad is None for parameter in algorithm.actor.balance.parameters())


def test_the_share_of_clipped_weights_says_that_a_range_is_too_high(preparation):
    """A tenth is where the 90th percentile of beta times the advantage passes log 100."""
    for coefficient_range, advantage, share in (
        ((1.0, 5.0), 0.9, 0.0),
        ((1.0, 5.0), 1.0, 0.1),
        ((8.0, 14.0), 0.5, 0.8),
    ):
        algorithm = learner(preparation, coefficient_range=coefficient_range)
        batch = prepared(4000)
        algorithm.value = lambda x: torch.zeros(len(x), 1)
        _, info = algorithm.actor_loss(batch, torch.full((4000,), advantage), algorithm.draw_coefficient(batch))
        assert info["weight_clipped"].item() == pytest.approx(share, abs=0.03)


def test_offline_the_family_learns_with_any_coefficient_and_online_with_the_chosen_ones(preparation):
    algorithm, batch = learner(preparation, coefficient_range=(2.0, 6.0)), prepared(4000)
    always(algorithm.actor.balance, 1.0, log_std=-1.5)
    anyone = algorithm.draw_coefficient(batch)
    assert kstest(anyone.numpy(), uniform(2, 4).cdf).pvalue > 0.01
    algorithm.go_online()
    chosen = algorithm.draw_coefficient(batch)
    raw = np.arctanh((chosen.double().numpy() - 4) / 2)
    assert kstest(raw, norm(1.0, math.exp(-1.5)).cdf).pvalue > 0.01
    assert not chosen.requires_grad and not anyone.requires_grad
    assert not torch.equal(chosen, algorithm.draw_coefficient(batch)), "drawn anew"


# Acting ----------------------------------------------------------------------------------------------------------


def test_every_state_acts_with_its_own_coefficient(preparation):
    """Published once: the next state's action with this state's coefficient."""
    algorithm, state = learner(preparation), torch.randn(6, 2, generator=torch.Generator().manual_seed(4))
    coefficient = algorithm.coefficient(state)
    assert coefficient.shape == (6,) and coefficient.std() > 0.01
    together = algorithm.act(state)
    for row in range(6):
        alone = algorithm.actor.family.mean(torch.cat([state[row : row + 1], encode(coefficient[row : row + 1])], 1))
        torch.testing.assert_close(together[row], alone.detach())


def test_chance_is_in_the_action_and_not_in_the_coefficient(preparation):
    algorithm, state = learner(preparation), torch.randn(3, 2)
    always(algorithm.actor.balance, 0.5, log_std=2.0)
    algorithm.actor.family.log_std.data.fill_(-1.0)
    noise = torch.randn(3, 2, generator=torch.Generator().manual_seed(7))
    sampled = algorithm.act(state, generator=torch.Generator().manual_seed(7))[:, 0]
    expected = (algorithm.act(state)[:, 0] + math.exp(-1) * noise).clamp(-1, 1)
    torch.testing.assert_close(sampled, expected)


def test_what_a_policy_is_called_depends_on_the_balance_model_too(preparation):
    algorithm = learner(preparation)
    before = actor_hash(algorithm)
    algorithm.actor.balance.trunk.linear_layers[-1].bias.data += 0.1
    assert actor_hash(algorithm) != before


# A whole update --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("online", [False, True])
def test_everything_learns_in_every_update_in_the_published_order(online, preparation, batch, monkeypatch):
    """The balance model offline, too: at the switch it knows the critics."""
    algorithm = learner(preparation)
    if online:
        algorithm.go_online()
    names = {id(optimiser): name for name, optimiser in algorithm.optimisers.items()}
    order = []
    for module in (famo2o, iql):
        descend = module.descend
        monkeypatch.setattr(
            module, "descend", lambda o, loss, descend=descend: order.append(names[id(o)]) or descend(o, loss)
        )
    before = {key: tensor.clone() for key, tensor in algorithm.state_dict().items()}
    info = algorithm.update(batch(0, state=2))
    assert order == ["value", "balance", "temperature", "actor", "critic"]
    after = algorithm.state_dict()
    moved = [key for key in before if key.startswith("module/") and not torch.equal(before[key], after[key])]
    assert moved == [key for key in before if key.startswith("module/")]
    told = {"balance_loss", "balance_temperature", "coefficient", "coefficient_spread", "actor_loss", "critic_loss"}
    assert told <= info.keys() and {"value_loss", "weight_clipped", "advantage", "std", "q", "value"} <= info.keys()


def test_the_critics_are_iqls_whatever_is_chosen(preparation, batch):
    """Bit for bit: neither V nor Q is told of a coefficient, offline or online."""
    algorithm = learner(preparation, learning_rate=1e-2)
    plain = IQL(IQLConfig(hidden=(8, 8), learning_rate=1e-2), preparation(state=2, action=2), seed=0)
    parts = ("value", "critic", "target")
    for name in parts:
        plain.modules[name].load_state_dict(algorithm.modules[name].state_dict())
    for number in range(6):
        if number == 3:
            algorithm.go_online()
        algorithm.update(batch(number, state=2))
        plain.update(batch(number, state=2))
    for name in parts:
        for ours, theirs in zip(algorithm.modules[name].parameters(), plain.modules[name].parameters(), strict=True):
            assert torch.equal(ours, theirs), name


def test_going_online_keeps_the_rate_up_and_is_part_of_the_state(preparation, batch):
    config = FamO2OConfig(hidden=(8, 8), learning_rate=1e-2)
    algorithm = FamO2O(config, preparation(state=2, action=2), seed=0, decay_steps=4)
    algorithm.update(batch(0, state=2))
    assert (algorithm.online, algorithm.decay_steps) == (False, 4)
    algorithm.go_online()
    other = learner(preparation)
    other.load_state_dict(algorithm.state_dict())
    assert (other.online, algorithm.online, algorithm.decay_steps) == (True, True, None)
    algorithm.update(batch(1, state=2))
    assert {o.param_groups[0]["lr"] for o in algorithm.optimisers.values()} == {0.01}


@pytest.mark.parametrize("wrong", [(5.0, 1.0), (2.0, 2.0)])
def test_a_range_needs_its_smaller_end_first(wrong, preparation):
    with pytest.raises(InputError, match=r"coefficient_range .* smaller coefficient first"):
        learner(preparation, coefficient_range=wrong)
