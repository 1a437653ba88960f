"""IQL under a Lagrange multiplier: its losses by hand, the multiplier by hand, and a problem whose answer is known."""

import numpy as np
import pytest
import torch

from episodes.errors import InputError
from episodes.transitions import Batch
from policies.iql_lagrangian import LagrangianIQL, LagrangianIQLConfig
from tests.policies.test_iql import Fixed, prepared


def learner(preparation, **config) -> LagrangianIQL:
    given = {"hidden": (8, 8)} | config
    return LagrangianIQL(LagrangianIQLConfig(**given), preparation(state=2, action=2), seed=0)


def test_the_cost_value_is_the_mean_of_the_larger_target(preparation):
    algorithm = learner(preparation)
    algorithm.cost_target = Fixed([[[2.0], [0.0]], [[3.0], [-2.0]]])
    algorithm.cost_value = Fixed([[1.0], [2.0]])
    larger = algorithm.larger_cost(torch.zeros(2, 2), torch.zeros(2, 2))
    assert larger.tolist() == [3.0, 0.0]
    assert algorithm.cost_value_loss(prepared(2), larger)[0].item() == pytest.approx(((3 - 1) ** 2 + (0 - 2) ** 2) / 2)


def test_the_cost_critic_counts_violating_steps_whatever_h_is_there(preparation):
    """c 1 for h of 0.01 and of 25, 0 for h of 0 and below; nothing follows an end."""
    algorithm = learner(preparation)
    algorithm.cost_value = Fixed([[2.0], [2.0], [2.0], [2.0]])
    algorithm.cost_critic = Fixed([[[0.0]] * 4, [[1.0]] * 4])
    rows = prepared(4, cost=[0.01, 25.0, 0.0, -1.0], mask=[1.0, 0.0, 1.0, 1.0], discount=[0.9, 0.9, 0.9, 0.5])
    target = np.array([1 + 0.9 * 2, 1, 0.9 * 2, 0.5 * 2])
    expected = (target**2).mean() + ((1 - target) ** 2).mean()
    assert algorithm.cost_critic_loss(rows)[0].item() == pytest.approx(expected, rel=1e-6)


def test_the_advantage_is_the_rewards_less_lambda_times_the_costs(preparation):
    algorithm = learner(preparation)
    algorithm.value, algorithm.cost_value = Fixed([[1.0], [1.0]]), Fixed([[0.5], [0.5]])
    algorithm.cost_target = Fixed([[[0.0], [2.0]], [[0.1], [1.0]]])
    target_q = torch.tensor([2.0, 3.0])
    assert algorithm.advantage(prepared(2), target_q).tolist() == [1.0, 2.0], "lambda is 0 to begin with"
    algorithm.multiplier.value.fill_(3.0)
    expected = [(1 - 3 * (0.1 - 0.5)) / 4, (2 - 3 * (2 - 0.5)) / 4]
    assert algorithm.advantage(prepared(2), target_q).tolist() == pytest.approx(expected)


def test_the_multiplier_follows_what_the_policy_is_expected_to_cost(preparation):
    algorithm = learner(preparation, cost_limit=0.25, multiplier_rate=0.5, most_multiplier=2.0)
    for cost, wanted in ((1.25, 0.5), (1.25, 1.0), (99.0, 2.0), (0.0, 1.875), (-99.0, 0.0)):
        algorithm.cost_target = Fixed([[[cost]] * 3, [[cost - 1]] * 3])
        assert algorithm.raise_multiplier(prepared(3))["multiplier"].item() == pytest.approx(wanted)


def test_the_multiplier_is_part_of_the_state(preparation, batch):
    rows = batch(0, state=2)
    costly = Batch(**{name: getattr(rows, name) for name in Batch.__slots__} | {"cost": torch.ones(16)})
    ours, theirs = learner(preparation), learner(preparation)
    for _ in range(5):
        ours.update(costly)
    assert ours.multiplier.value > 0
    theirs.load_state_dict({name: tensor.clone() for name, tensor in ours.state_dict().items()})
    for algorithm in (ours, theirs):
        algorithm.update(costly)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_without_costs_it_says_so(preparation, batch):
    with pytest.raises(InputError, match="iql_lagrangian learns from costs, and these transitions have none"):
        learner(preparation).update(batch(0, state=2))


@pytest.mark.parametrize(("limit", "right"), [(0.2, -0.5), (2.0, 0.5)])
def test_in_a_bandit_it_takes_what_pays_only_where_the_limit_leaves_room(limit, right, preparation):
    """Left pays 0 and costs nothing, right pays 1 and costs 1, once: room for 0.2 is not enough for right, 2 is."""
    rng = np.random.default_rng(0)
    action = np.where(rng.random((256, 1)) < 0.5, -0.5, 0.5).repeat(2, axis=1).astype(np.float32)
    paid = torch.from_numpy((action[:, 0] > 0).astype(np.float32))
    nothing = torch.zeros(256, 2)
    ends = {"mask": torch.zeros(256), "discount": torch.ones(256), "return_to_go": paid}
    rows = Batch(
        nothing, torch.from_numpy(action)[:, None], torch.ones(256, 1), paid, nothing, cost=2 * paid - 1, **ends
    )
    algorithm = learner(preparation, cost_limit=limit, learning_rate=1e-2, target_rate=0.1, inverse_temperature=5.0)
    for _ in range(400):
        algorithm.update(rows)
    chosen = algorithm.act(torch.zeros(1, 2))[0, 0, 0].item()
    assert abs(chosen - right) < 0.2 if limit > 1 else chosen < 0.1
