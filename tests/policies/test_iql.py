"""IQL against numbers worked out here: losses by hand, one whole update from torch's plain parts, problems with known
values."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

from episodes.transitions import Batch, SamplingConfig, Transitions
from policies.bc import BC, BCConfig
from policies.iql import IQL, IQLConfig
from policies.preparation import Prepared


class Fixed:
    """Stands in for a network: the same output whatever the input, and the inputs it was asked for."""

    def __init__(self, output):
        self.output = torch.tensor(output, dtype=torch.float32)
        self.inputs = []

    def __call__(self, x):
        self.inputs.append(x)
        return self.output


def prepared(rows: int, **columns) -> Prepared:
    """A batch in network units; what is not given is zero, and everything counts."""
    tables = {"observation": (rows, 2), "action": (rows, 2), "next_observation": (rows, 2), "valid": (rows, 2)}
    numbers = {name: torch.zeros(shape) for name, shape in tables.items()}
    numbers |= {"reward": torch.zeros(rows), "mask": torch.ones(rows), "discount": torch.ones(rows)}
    numbers["return_to_go"] = torch.zeros(rows)
    numbers["valid"] = torch.ones(rows, 2)
    return Prepared(**(numbers | {name: torch.tensor(value, dtype=torch.float32) for name, value in columns.items()}))


def learner(preparation, **config) -> IQL:
    return IQL(IQLConfig(**({"hidden": (8, 8)} | config)), preparation(state=2, action=2), seed=0)


# Losses by hand --------------------------------------------------------------------------------------------------


def test_value_loss_is_the_expectile_loss(preparation):
    """Targets 3, 0, 1 against values 1, 1, 1.5: u = 2, -1, -0.5. (0.7*4 + 0.3*1 + 0.3*0.25) / 3."""
    algorithm = learner(preparation, expectile=0.7)
    algorithm.value = Fixed([[1.0], [1.0], [1.5]])
    loss, info = algorithm.value_loss(prepared(3), torch.tensor([3.0, 0.0, 1.0]))
    assert loss.item() == pytest.approx((0.7 * 4 + 0.3 * 1 + 0.3 * 0.25) / 3)
    assert info["value"].item() == pytest.approx(3.5 / 3)
    assert info["value_loss"].item() == loss.item()


def test_actor_loss_weighs_log_likelihood_by_the_clipped_exponential_of_the_advantage(preparation):
    """beta 2, advantages 0.5, -1, 4: weights e, e^-2 and, as e^8 is past it, 100."""
    algorithm = learner(preparation, inverse_temperature=2.0)
    algorithm.value = Fixed([[0.5], [2.0], [-1.0]])
    algorithm.actor.log_std.data = torch.tensor([-0.4, 0.7])
    nn.init.zeros_(algorithm.actor.trunk.layers[-1].weight)
    algorithm.actor.trunk.layers[-1].bias.data = torch.tensor([0.9, -0.2])
    action = np.array([[0.5, 0.5], [-0.3, 0.1], [0.9, -0.9]])
    valid = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    loss, info = algorithm.actor_loss(prepared(3, action=action, valid=valid), torch.tensor([1.0, 1.0, 3.0]))
    density = norm.logpdf(action, np.tanh([0.9, -0.2]), np.exp([-0.4, 0.7]))
    weights = np.array([math.exp(1.0), math.exp(-2.0), 100.0])
    assert loss.item() == pytest.approx(-(weights * (density * valid).sum(1)).mean(), rel=1e-5)
    assert info["weight_clipped"].item() == pytest.approx(1 / 3)
    assert info["advantage"].item() == pytest.approx((0.5 - 1 + 4) / 3)
    assert info["std"].item() == pytest.approx(np.exp([-0.4, 0.7]).mean(), rel=1e-5)


def test_the_weight_is_clipped_at_100_and_not_before(preparation):
    algorithm = learner(preparation, inverse_temperature=1.0)
    algorithm.value = Fixed([[0.0], [0.0]])
    log_prob = algorithm.actor.log_prob(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2)).item()
    for advantage, weight, clipped in ((math.log(99.9), 99.9, 0), (math.log(100.1), 100, 1), (1e9, 100, 1)):
        loss, info = algorithm.actor_loss(prepared(2), torch.full((2,), advantage))
        assert loss.item() == pytest.approx(-weight * log_prob, rel=1e-4)
        assert info["weight_clipped"].item() == clipped


def test_inverse_temperature_0_clones(preparation):
    algorithm = learner(preparation, inverse_temperature=0.0)
    rows = prepared(4, action=np.linspace(-0.8, 0.8, 8).reshape(4, 2))
    loss, _ = algorithm.actor_loss(rows, torch.tensor([5.0, -5.0, 0.0, 1.0]))
    expected = -algorithm.actor.log_prob(rows.observation, rows.action, rows.valid).mean()
    assert loss.item() == pytest.approx(expected.item())


def test_critic_loss_backs_up_the_next_value_unless_the_task_ended(preparation):
    """r + discount * mask * V(s'): 1 + 0.9*2 = 2.8; -1 + 0 = -1; 0.5 + 0.81*10 = 8.6. Both critics count in full."""
    algorithm = learner(preparation)
    algorithm.value = Fixed([[2.0], [7.0], [10.0]])
    algorithm.critic = Fixed([[[2.0], [0.0], [8.0]], [[3.0], [-2.0], [9.0]]])
    rows = prepared(
        3,
        reward=[1.0, -1.0, 0.5],
        mask=[1.0, 0.0, 1.0],
        discount=[0.9, 0.9, 0.81],
        observation=[[1.0, 2.0]] * 3,
        action=[[3.0, 4.0]] * 3,
        next_observation=[[5.0, 6.0]] * 3,
    )
    loss, info = algorithm.critic_loss(rows)
    first = ((2 - 2.8) ** 2 + (0 + 1) ** 2 + (8 - 8.6) ** 2) / 3
    second = ((3 - 2.8) ** 2 + (-2 + 1) ** 2 + (9 - 8.6) ** 2) / 3
    assert loss.item() == pytest.approx(first + second, rel=1e-5)
    assert info["q"].item() == pytest.approx(20 / 6)
    assert algorithm.value.inputs[0].tolist() == [[5.0, 6.0]] * 3
    assert algorithm.critic.inputs[0].tolist() == [[1.0, 2.0, 3.0, 4.0]] * 3


def test_the_targets_are_pessimistic_and_are_the_target_networks(preparation):
    algorithm = learner(preparation)
    algorithm.target = Fixed([[[2.0], [0.0], [8.0]], [[3.0], [-2.0], [9.0]]])
    algorithm.critic = Fixed([[[-50.0]] * 3, [[-50.0]] * 3])
    assert algorithm.target_q(prepared(3)).tolist() == [2.0, -2.0, 8.0]


def test_q_judges_actions_in_the_contracts_units(preparation):
    algorithm = learner(preparation)
    algorithm.preparation = preparation(state=2, action=2)
    algorithm.target = Fixed([[[2.0], [5.0]], [[3.0], [4.0]]])
    state, action = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[[0.1, 0.2]], [[0.3, 7.0]]])
    assert algorithm.q(state, action).tolist() == [2.0, 4.0]
    torch.testing.assert_close(algorithm.target.inputs[0], torch.tensor([[1.0, 2.0, 0.1, 0.2], [3.0, 4.0, 0.3, 1.0]]))


def test_each_loss_moves_only_its_own_network(preparation, batch):
    algorithm = learner(preparation)
    rows = algorithm.preparation(batch(0, state=2))
    target = algorithm.target_q(rows)
    for name, loss in (
        ("value", algorithm.value_loss(rows, target)),
        ("actor", algorithm.actor_loss(rows, target)),
        ("critic", algorithm.critic_loss(rows)),
    ):
        loss[0].backward()
        modules = algorithm.modules.items()
        assert {key for key, module in modules if any(p.grad is not None for p in module.parameters())} == {name}
        algorithm.modules[name].zero_grad(set_to_none=True)


# Expectiles ------------------------------------------------------------------------------------------------------


def fitted_value(preparation, tau: float, targets: np.ndarray) -> float:
    """What V becomes for one state where Q takes these values."""
    algorithm = learner(preparation, expectile=tau)
    rows = prepared(len(targets))
    q = torch.from_numpy(targets).float()
    optimiser = torch.optim.LBFGS(algorithm.value.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss, _ = algorithm.value_loss(rows, q)
        loss.backward()
        return loss

    for _ in range(3):
        optimiser.step(closure)
    return algorithm.value(rows.observation)[0].item()


@pytest.mark.parametrize("tau", [0.5, 0.7, 0.9, 0.99])
def test_v_becomes_the_expectile_of_a_gaussian(tau, preparation):
    """The root of tau E[(X - m)+] = (1 - tau) E[(m - X)+], with the Gaussian's partial moments in closed form."""
    mean, deviation = 1.5, 2.0

    def balance(m: float) -> float:
        z = (m - mean) / deviation
        above = deviation * (norm.pdf(z) - z * norm.sf(z))
        below = deviation * (norm.pdf(z) + z * norm.cdf(z))
        return tau * above - (1 - tau) * below

    expected = brentq(balance, -20, 20)
    values = norm.ppf((np.arange(4000) + 0.5) / 4000, mean, deviation)
    assert fitted_value(preparation, tau, values) == pytest.approx(expected, abs=0.01)
    if tau == 0.5:
        assert expected == pytest.approx(mean)


def test_v_becomes_the_expectile_of_a_coin(preparation):
    """1 with probability p, else 0: tau p (1 - m) = (1 - tau)(1 - p) m."""
    for tau, heads in ((0.7, 3), (0.9, 1), (0.2, 5)):
        p = heads / 10
        expected = tau * p / (tau * p + (1 - tau) * (1 - p))
        values = np.array([1.0] * heads + [0.0] * (10 - heads))
        assert fitted_value(preparation, tau, values) == pytest.approx(expected, abs=1e-3)


# One whole update from plain parts -------------------------------------------------------------------------------


class Reference:
    """IQL once more: two critics apart, torch's layers, torch's Adam, the published order."""

    def __init__(self, algorithm: IQL):
        self.config, self.decay_steps, self.step = algorithm.config, algorithm.decay_steps, 0
        self.value = self.stack([(x.weight, x.bias) for x in algorithm.value.layers])
        self.trunk = self.stack([(x.weight, x.bias) for x in algorithm.actor.trunk.layers])
        self.log_std = nn.Parameter(algorithm.actor.log_std.detach().clone())
        self.critics = [
            self.stack(
                [(w[i].T, b[i, 0]) for w, b in zip(algorithm.critic.weights, algorithm.critic.biases, strict=True)]
            )
            for i in range(2)
        ]
        self.targets = copy.deepcopy(self.critics)
        rate = algorithm.config.learning_rate
        self.value_adam = torch.optim.Adam(self.value.parameters(), lr=rate, foreach=False)
        self.actor_adam = torch.optim.Adam([*self.trunk.parameters(), self.log_std], lr=rate, foreach=False)
        both = [*self.critics[0].parameters(), *self.critics[1].parameters()]
        self.critic_adam = torch.optim.Adam(both, lr=rate, foreach=False)

    @staticmethod
    def stack(layers) -> nn.Sequential:
        modules: list[nn.Module] = []
        for weight, bias in layers:
            linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
            linear.weight.data, linear.bias.data = weight.detach().clone(), bias.detach().clone()
            modules += [linear, nn.ReLU()]
        return nn.Sequential(*modules[:-1])

    def update(self, batch: Batch) -> None:
        c = self.config
        s, s_next, a = batch.state, batch.next_state, batch.action.flatten(1)
        chosen = torch.cat([s, a], 1)
        with torch.no_grad():
            q = torch.minimum(self.targets[0](chosen), self.targets[1](chosen))[:, 0]
        # V, against the targets
        u = q - self.value(s)[:, 0]
        asymmetric = torch.abs(c.expectile - (u < 0).to(u.dtype)) * u**2
        self.take(self.value_adam, asymmetric.mean())
        # The policy, with the new V
        with torch.no_grad():
            weight = torch.exp(c.inverse_temperature * (q - self.value(s)[:, 0]))
            weight = torch.minimum(weight, torch.full_like(weight, c.weight_clip))
        std = self.log_std.clamp(-5, 2).exp()
        normal = torch.distributions.Normal(torch.tanh(self.trunk(s)), std.expand(len(a), -1))
        taken = batch.valid.repeat_interleave(batch.action.shape[2], 1)
        for group in self.actor_adam.param_groups:
            group["lr"] = c.learning_rate * (1 + math.cos(math.pi * self.step / self.decay_steps)) / 2
        self.take(self.actor_adam, -(weight * (normal.log_prob(a) * taken).sum(1)).mean())
        # Q, with the new V
        with torch.no_grad():
            backed_up = batch.reward + batch.discount * batch.mask * self.value(s_next)[:, 0]
        self.take(self.critic_adam, sum(((critic(chosen)[:, 0] - backed_up) ** 2).mean() for critic in self.critics))
        # The targets follow
        for target, critic in zip(self.targets, self.critics, strict=True):
            for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                old.data = (1 - c.target_rate) * old.data + c.target_rate * new.data
        self.step += 1

    @staticmethod
    def take(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def in_double(batch: Batch) -> Batch:
    return Batch(**{k: getattr(batch, k).double() for k in Batch.__slots__ if getattr(batch, k) is not None})


def test_updates_equal_a_reference_made_of_plain_parts(preparation, batch):
    """V, actor with the new V, Q with the new V, targets: chunks, masks, discounts, schedule and clip included.

    In double precision: what is left is that `torch.where` rounds tau to single precision.
    """
    config = IQLConfig(hidden=(8, 8), learning_rate=1e-2, target_rate=0.1, weight_clip=1.4)
    algorithm = IQL(config, preparation(chunk=2), seed=1, decay_steps=5)
    for module in algorithm.modules.values():
        module.double()
    reference = Reference(algorithm)
    for number in range(3):
        rows = in_double(batch(number, chunk=2))
        info = algorithm.update(rows)
        reference.update(rows)
        assert 0 < info["weight_clipped"] < 1, "the clip must matter for some rows here"

    def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)

    for ours, plain in ((algorithm.value, reference.value), (algorithm.actor.trunk, reference.trunk)):
        for layer, linear in zip(ours.layers, [m for m in plain if isinstance(m, nn.Linear)], strict=True):
            assert_close(layer.weight, linear.weight)
            assert_close(layer.bias, linear.bias)
    assert_close(algorithm.actor.log_std, reference.log_std)
    for ours, plain in ((algorithm.critic, reference.critics), (algorithm.target, reference.targets)):
        for index, single in enumerate(plain):
            linears = [m for m in single if isinstance(m, nn.Linear)]
            for weight, bias, linear in zip(ours.weights, ours.biases, linears, strict=True):
                assert_close(weight[index].T, linear.weight)
                assert_close(bias[index, 0], linear.bias)


def test_targets_begin_as_the_critics_and_follow_at_the_target_rate(preparation, batch):
    algorithm = learner(preparation, target_rate=0.25)
    pairs = list(zip(algorithm.target.parameters(), algorithm.critic.parameters(), strict=True))
    assert all(torch.equal(target, online) for target, online in pairs)
    old = [p.detach().clone() for p in algorithm.target.parameters()]
    algorithm.update(batch(0, state=2))
    for before, (target, online) in zip(old, pairs, strict=True):
        assert not torch.equal(before, online)
        torch.testing.assert_close(target, 0.75 * before + 0.25 * online)


# Problems with known values --------------------------------------------------------------------------------------


def one_hot(index: np.ndarray, size: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[index]


def chain(size: int = 5, discount: float = 0.9) -> Transitions:
    """States 0..4 in a row; the action's sign moves left or right; reaching 4 ends the task. Every step costs 1, the
    last one nothing. The data holds both actions of every state once: as good as bad."""
    data = Transitions(SamplingConfig(discount=discount), size, 1)
    for state in range(size - 1):
        for action in (-1.0, 1.0):
            after = max(state - 1, 0) if action < 0 else state + 1
            data.add(
                one_hot(np.array([state, after]), size),
                np.array([[action]], np.float32),
                np.array([0.0 if after == size - 1 else -1.0], np.float32),
                np.array([after == size - 1]),
            )
    return data


def solved_chain(tau: float, size: int = 5, discount: float = 0.9) -> np.ndarray:
    """V of the chain: the expectile of two equally frequent values a <= b is (1 - tau) a + tau b."""
    value = np.zeros(size)
    for _ in range(500):
        left = np.array([-1 + discount * value[max(s - 1, 0)] for s in range(size - 1)])
        right = np.array([-1 + discount * value[s + 1] if s + 1 < size - 1 else 0.0 for s in range(size - 1)])
        value[:-1] = (1 - tau) * np.minimum(left, right) + tau * np.maximum(left, right)
    return value[:-1]


def trained(algorithm, batch: Batch, updates: int):
    for _ in range(updates):
        algorithm.update(batch)
    return algorithm


def test_iql_solves_a_chain_where_cloning_takes_the_average(preparation):
    data = chain().all_actions()
    networks = preparation(state=5, action=1)
    config = IQLConfig(expectile=0.95, inverse_temperature=10.0, hidden=(24, 24), learning_rate=5e-3, target_rate=0.05)
    iql = trained(IQL(config, networks, seed=0), data, 900)
    states = torch.eye(5)[:4]
    value = iql.value(states)[:, 0].detach().numpy()
    expected = solved_chain(0.95)
    np.testing.assert_allclose(value, expected, atol=0.15)
    # Near the optimal values, too: 0, -1, -1.9, -2.71 from the goal back.
    np.testing.assert_allclose(value, [-2.71, -1.9, -1.0, 0.0], atol=0.5)
    right, left = (iql.q(states, torch.full((4, 1, 1), a)) for a in (1.0, -1.0))
    assert (right > left + 0.3).all()
    assert (iql.act(states).flatten() > 0.8).all()
    cloned = trained(BC(BCConfig(hidden=(24, 24), learning_rate=5e-3), networks, seed=0), data, 300)
    assert (cloned.act(states).flatten().abs() < 0.1).all()


def test_a_time_limit_bootstraps_where_a_failure_does_not(preparation):
    """One state that leads to itself at reward 1, discount 0.5. Ended there: worth 1. Only cut off there: 1/(1-0.5)."""
    worth = {}
    for terminated in (True, False):
        data = Transitions(SamplingConfig(discount=0.5), 2, 1)
        ones = np.ones((2, 2), np.float32)
        data.add(ones, np.zeros((1, 1), np.float32), np.ones(1, np.float32), np.array([terminated]))
        config = IQLConfig(hidden=(8,), learning_rate=1e-2, target_rate=0.2)
        algorithm = trained(IQL(config, preparation(state=2, action=1), seed=0), data.all_actions(), 500)
        worth[terminated] = algorithm.value(torch.ones(1, 2)).item()
    assert worth[True] == pytest.approx(1.0, abs=0.05)
    assert worth[False] == pytest.approx(2.0, abs=0.1)
