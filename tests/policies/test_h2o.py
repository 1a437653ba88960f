"""H2O and H2O+ against numbers worked out here, and what a weighted row does to the other learners."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from episodes.transitions import Batch, MixedBatch
from policies.h2o import H2O, H2OConfig
from policies.h2o_plus import H2OPlus, H2OPlusConfig
from policies.preparation import MixedPrepared, Prepared
from policies.registry import config_class, make_algorithm

SIMULATED = [False, True, False, True, True]
WEIGHT = [1.0, 0.25, 1.0, 0.5, 1.0]
GAP = [7.0, 3.0, 9.0, 1.0, 4.0]
"""Of no meaning in real rows."""


def mixed(**columns: Any) -> MixedPrepared:
    """Two real rows and three simulated ones in network units; what is not given is zero, and everything counts."""
    tables = {"observation": (5, 2), "action": (5, 2), "next_observation": (5, 2)}
    numbers = {name: torch.zeros(shape) for name, shape in tables.items()}
    numbers |= {name: torch.zeros(5) for name in ("reward", "return_to_go")}
    numbers |= {"mask": torch.ones(5), "discount": torch.ones(5), "valid": torch.ones(5, 2)}
    numbers |= {"weight": torch.tensor(WEIGHT), "gap": torch.tensor(GAP)}
    numbers |= {name: torch.tensor(value, dtype=torch.float32) for name, value in columns.items()}
    return MixedPrepared(**numbers, simulated=torch.tensor(SIMULATED))


def unweighted(rows: Prepared) -> Prepared:
    return Prepared(**{item.name: getattr(rows, item.name) for item in fields(Prepared)})


def with_sources(batch: Batch, *, weight: float = 0.5, gap: float = 1.0) -> MixedBatch:
    """Every other row is simulated."""
    simulated = torch.arange(len(batch)) % 2 == 1
    return MixedBatch(
        **{item.name: getattr(batch, item.name) for item in fields(Batch)},
        simulated=simulated,
        weight=torch.where(simulated, weight, 1.0),
        gap=torch.full((len(batch),), gap),
    )


def h2o(preparation, **config: Any) -> H2O:
    return H2O(H2OConfig(**({"hidden": (8, 8)} | config)), preparation(state=2, action=2), seed=0)


def h2o_plus(preparation, **config: Any) -> H2OPlus:
    return H2OPlus(H2OPlusConfig(**({"hidden": (8, 8)} | config)), preparation(state=2, action=2), seed=0)


class Fixed(nn.Module):
    """Says the same whatever it is asked."""

    def __init__(self, output: Any):
        super().__init__()
        self.output = torch.tensor(output, dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output


def soft_maximum(q: list[float], gap: list[float], temperature: float) -> float:
    omega = np.array(gap) / sum(gap)
    return temperature * math.log(sum(math.exp((a + math.log(b)) / temperature) for a, b in zip(q, omega, strict=True)))


Q = [[1.0, 2.0, 3.0, -1.0, 0.5], [0.0, 1.0, -2.0, 4.0, 0.0]]


# H2O --------------------------------------------------------------------------------------------------------------


def test_the_difference_is_each_sources_mean_simulated_rows_by_weight(preparation) -> None:
    """Targets r + 0.9 * mask * 2."""
    algorithm = h2o(preparation)
    algorithm.target_value = lambda batch: torch.full((5,), 2.0)
    rows = mixed(reward=[1, 0, -1, 0, 2], mask=[1, 1, 0, 1, 0], discount=[0.9] * 5)
    target = np.array([2.8, 1.8, -1.0, 1.8, 2.0])
    squared = (np.array(Q) - target) ** 2
    expected = squared[:, [0, 2]].mean(1) + (squared * WEIGHT)[:, [1, 3, 4]].mean(1)
    loss, info = algorithm.weighted_difference(rows, torch.tensor(Q))
    assert loss.item() == pytest.approx(expected.sum(), rel=1e-6)
    assert info["q"].item() == pytest.approx(np.array(Q)[:, [0, 2]].mean())
    assert info["q_simulated"].item() == pytest.approx(np.array(Q)[:, [1, 3, 4]].mean())


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_regularisation_is_the_soft_maximum_by_gap_less_the_mean_of_the_log(preparation, temperature) -> None:
    """Simulated rows with gaps 3, 1, 4, of which the shares are 3/8, 1/8 and 1/2; the log's two rows apart."""
    algorithm = h2o(preparation, softness=temperature)
    loss, _ = algorithm.regularisation(mixed(), torch.tensor(Q))
    expected = sum(soft_maximum([q[1], q[3], q[4]], [3, 1, 4], temperature) - (q[0] + q[2]) / 2 for q in Q)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_q_is_pushed_down_where_the_simulator_is_off_and_up_where_the_log_is(preparation) -> None:
    q = torch.zeros(2, 5, requires_grad=True)
    loss, _ = h2o(preparation).regularisation(mixed(), q)
    loss.backward()
    assert q.grad is not None
    # Of Qs that are equal, each simulated row has its share of the push, and each of the log's half of the lift.
    np.testing.assert_allclose(q.grad, [[-0.5, 3 / 8, -0.5, 1 / 8, 1 / 2]] * 2, rtol=1e-5)


def test_beyond_the_largest_difference_nothing_is_pushed(preparation) -> None:
    """The first critic's simulated rows are 2000 above the log's; the second's differ as usual."""
    q = torch.tensor([[0.0, 2000.0, 0.0, 2000.0, 2000.0], Q[1]], requires_grad=True)
    loss, _ = h2o(preparation).regularisation(mixed(), q)
    loss.backward()
    assert q.grad is not None and not q.grad[0].any() and q.grad[1].any()
    usual = soft_maximum([Q[1][1], Q[1][3], Q[1][4]], [3, 1, 4], 1.0) - (Q[1][0] + Q[1][2]) / 2
    assert loss.item() == pytest.approx(1000 + usual, rel=1e-5)


def test_gaps_at_their_floor_are_equal_shares(preparation) -> None:
    rows = mixed(gap=[0.0] + [float(np.finfo(np.float32).tiny)] * 4)
    loss, _ = h2o(preparation).regularisation(rows, torch.zeros(2, 5))
    assert loss.item() == pytest.approx(0.0, abs=1e-5)


def test_the_critics_loss_is_both_the_second_a_hundredth(preparation) -> None:
    algorithm = h2o(preparation)
    algorithm.critic = Fixed(np.array(Q)[:, :, None])
    algorithm.target_value = lambda batch: torch.zeros(5)
    rows = mixed()
    difference, _ = algorithm.weighted_difference(rows, torch.tensor(Q))
    regularisation, _ = algorithm.regularisation(rows, torch.tensor(Q))
    loss, info = algorithm.critic_loss(rows)
    assert loss.item() == pytest.approx((difference + 0.01 * regularisation).item(), rel=1e-6)
    assert info["gap_regularisation"].item() == pytest.approx(regularisation.item())


def test_without_a_weighted_simulator_it_is_soft_actor_critic_and_learns(preparation, batch) -> None:
    """Published code steps neither critics nor policy where the regularisation is turned off."""
    rows = batch(0)
    for learner in (
        H2O(H2OConfig(hidden=(8, 8)), preparation(), seed=0),
        H2O(H2OConfig(hidden=(8, 8), regularisation=0.0), preparation(), seed=0),
    ):
        before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
        learner.update(rows if learner.config.regularisation else with_sources(rows))
        after = learner.state_dict()
        for part in ("actor", "critic", "target", "temperature"):
            changed = [not torch.equal(before[n], after[n]) for n in before if n.startswith(f"module/{part}/")]
            assert all(changed), part


def test_the_policy_learns_in_the_states_of_both_sources_whatever_they_weigh(preparation, batch) -> None:
    rows, policies = batch(0), []
    for weight in (1e-5, 1.0):
        learner = H2O(H2OConfig(hidden=(8, 8)), preparation(), seed=0)
        prepared = learner.preparation(with_sources(rows, weight=weight))
        policies.append(learner.actor_loss(prepared)[0].item())
    learner = H2O(H2OConfig(hidden=(8, 8)), preparation(), seed=0)
    assert policies == [learner.actor_loss(learner.preparation(rows))[0].item()] * 2


def test_the_policy_climbs_the_smallest_critic(preparation) -> None:
    algorithm = h2o(preparation, initial_temperature=1e-6)
    algorithm.critic = Fixed(np.array(Q)[:, :, None])
    _, info = algorithm.actor_loss(mixed())
    assert info["worth"].item() == pytest.approx(np.array(Q).min(0).mean())


@pytest.mark.parametrize("name", ["h2o", "h2o_plus"])
def test_published_values(preparation, name: str) -> None:
    algorithm = make_algorithm(name, config_class(name)(), preparation(state=2, action=2), seed=0)
    config = algorithm.config
    assert algorithm.target_entropy == -2
    assert (config.hidden, config.critics, config.learning_rate, config.target_rate) == ((256, 256), 2, 3e-4, 0.005)
    assert config.entropy_backup is (name == "h2o_plus")
    assert algorithm.updates_per_step == 1
    bias = algorithm.actor.trunk.layers[-1].bias
    assert bias.tolist() == [0, 0, -1, -1]


# H2O+ -------------------------------------------------------------------------------------------------------------


def test_the_backup_is_blended(preparation) -> None:
    """0.3 * V(s') + 0.7 * (what plain soft actor-critic backs up)."""
    algorithm = h2o_plus(preparation, exploitation=0.3)
    algorithm.value = Fixed([[5.0], [1.0], [0.0], [2.0], [3.0]])
    plain = H2OPlus.__mro__[1].target_value
    algorithm.generator.manual_seed(3)
    explored = plain(algorithm, mixed())
    algorithm.generator.manual_seed(3)
    found = algorithm.target_value(mixed())
    np.testing.assert_allclose(found, 0.3 * np.array([5, 1, 0, 2, 3]) + 0.7 * explored.numpy(), rtol=1e-6)


def test_v_learns_from_the_log_alone(preparation) -> None:
    """Targets are the smaller of 1, 2, 3, -1, 0.5 and 0, 1, -2, 4, 0; of real rows 0 and -2. tau 0.8, V 1 and -4."""
    algorithm = h2o_plus(preparation, expectile=0.8)
    algorithm.target = Fixed(np.array(Q)[:, :, None])
    algorithm.value = Fixed([[1.0], [77.0], [-4.0], [77.0], [77.0]])
    loss, _ = algorithm.value_loss(mixed())
    assert loss.item() == pytest.approx((0.2 * 1 + 0.8 * 4) / 2)
    every, _ = algorithm.value_loss(unweighted(mixed()))
    assert every.item() > 100


def test_all_that_h2o_plus_has_learns(preparation, batch) -> None:
    learner = H2OPlus(H2OPlusConfig(hidden=(8, 8)), preparation(), seed=0)
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    learner.update(with_sources(batch(0)))
    after = learner.state_dict()
    for part in ("actor", "critic", "target", "temperature", "value"):
        assert all(not torch.equal(before[n], after[n]) for n in before if n.startswith(f"module/{part}/")), part


# The weights in other learners ------------------------------------------------------------------------------------


def test_simulated_rows_count_by_weight_in_iqls_critics_and_nowhere_else(preparation, batch) -> None:
    rows = batch(0)
    learner = make_algorithm("iql", config_class("iql")(hidden=(8, 8)), preparation(), seed=0)
    plain, light = (learner.preparation(each) for each in (rows, with_sources(rows, weight=0.25)))
    target_q = learner.target_q(plain)
    assert learner.value_loss(light, target_q)[0] == learner.value_loss(plain, target_q)[0]
    assert learner.actor_loss(light, target_q)[0] == learner.actor_loss(plain, target_q)[0]
    with torch.no_grad():
        q = learner.critic(torch.cat([plain.observation, plain.action], dim=1)).squeeze(2)
        target = plain.reward + plain.discount * plain.mask * learner.value(plain.next_observation).squeeze(1)
    weight = torch.where(torch.arange(16) % 2 == 1, 0.25, 1.0)
    expected = ((q - target).square() * weight).mean(1).sum()
    torch.testing.assert_close(learner.critic_loss(light)[0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["iql", "famo2o", "rlpd", "cal_ql"])
def test_rows_that_all_count_in_full_are_no_other_batch(preparation, batch, name: str) -> None:
    states = []
    for wrap in (lambda rows: rows, lambda rows: with_sources(rows, weight=1.0)):
        learner = make_algorithm(name, config_class(name)(hidden=(8, 8)), preparation(), seed=0)
        for step in range(3):
            learner.update(wrap(batch(step)))
        states.append(learner.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_preparing_a_mixed_batch_keeps_what_is_said_of_its_rows(preparation, batch) -> None:
    rows = with_sources(batch(0), weight=0.3, gap=2.0)
    prepared = preparation()(rows)
    assert isinstance(prepared, MixedPrepared)
    for name in ("simulated", "weight", "gap", "reward", "mask"):
        assert torch.equal(getattr(prepared, name), getattr(rows, name))
    assert type(preparation()(batch(0))) is Prepared
    values = torch.arange(16.0)
    assert prepared.real_mean(values).item() == 7
    assert prepared.simulated_mean(values).item() == 8
    assert replace(prepared, weight=torch.zeros(16)).mean(values).item() == 0
