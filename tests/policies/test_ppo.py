"""PPO's parts against numbers worked out by hand and by loops."""

import numpy as np
import pytest
import torch

from policies.networks import MLP, GaussianPolicy
from policies.ppo import (
    Rows,
    Trajectory,
    clipped_surrogate,
    generalised_advantage,
    policy_loss,
    rows_of,
    standardised,
    value_loss,
)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, 2.0),
        (1.1, 2.0, 2.2),
        (1.5, 2.0, 2.4),  # No more to be had beyond 1 + epsilon,
        (0.5, 2.0, 1.0),  # and all of it to be lost.
        (0.5, -2.0, -1.6),
        (1.5, -2.0, -3.0),
    ],
)
def test_the_surrogate_is_the_smaller_of_both(ratio: float, advantage: float, expected: float):
    log_ratio = torch.tensor([ratio]).log()
    old = torch.tensor([-0.7])
    surrogate, _ = clipped_surrogate(old + log_ratio, old, torch.tensor([advantage]), 0.2)
    assert surrogate.item() == pytest.approx(expected, rel=1e-5)


def test_the_clipped_share_counts_ratios_beyond_either_side():
    ratio = torch.tensor([0.5, 0.9, 1.0, 1.1, 1.5, 1.19])
    _, info = clipped_surrogate(ratio.log(), torch.zeros(6), torch.ones(6), 0.2)
    assert info["ratio_clipped"].item() == pytest.approx(2 / 6)
    expected = (ratio - 1 - ratio.log()).mean().item()
    assert info["approximate_kl"].item() == pytest.approx(expected, rel=1e-5)


def test_advantages_are_standardised_over_the_last_dimension_alone():
    table = torch.tensor([[1.0, 2.0, 3.0], [10.0, 10.0, 10.0]])
    found = standardised(table)
    assert found[0].tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5])
    assert found[1].tolist() == [0, 0, 0]


def by_definition(reward, value, next_value, mask, discount, decay):
    """sum_k (gamma lambda)^k delta_{t+k}, up to and with the step that ended."""
    delta = reward + discount * mask * next_value - value
    advantage = []
    for t in range(len(reward)):
        total, weight = 0.0, 1.0
        for k in range(t, len(reward)):
            total += weight * delta[k]
            weight *= discount[k] * decay * mask[k]
        advantage.append(total)
    return advantage


@pytest.mark.parametrize("terminated", [True, False])
def test_generalised_advantages_by_their_definition(terminated: bool):
    rng = np.random.default_rng(3)
    reward, value, next_value = (rng.normal(size=6) for _ in range(3))
    mask, discount = np.ones(6), np.full(6, 0.9)
    mask[-1] = 0 if terminated else 1
    mask[2] = 0 if terminated else 1  # Nothing is carried over an end, wherever it is.
    columns = (reward, value, next_value, mask, discount)
    found = generalised_advantage(*map(torch.from_numpy, columns), decay=0.8)
    assert found.tolist() == pytest.approx(by_definition(*columns, 0.8))


def test_a_time_limit_is_bootstrapped_and_an_end_is_not():
    """Published: an episode that time cut off was taken for one that ended. By hand: 1 + 0.5 * 8 - 2, or 1 - 2."""
    one = torch.ones(1)
    found = [generalised_advantage(one, 2 * one, 8 * one, mask * one, 0.5 * one, 0.95).item() for mask in (1.0, 0.0)]
    assert found == pytest.approx([3.0, -1.0])


def trajectory(seed: int, steps: int, last_mask: float = 1.0) -> Trajectory:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.ones(steps)
    mask[-1] = last_mask
    return Trajectory(
        observation=torch.randn(steps, 3, generator=draw),
        action=2 * torch.randn(steps, 2, generator=draw),
        log_prob=torch.randn(steps, generator=draw),
        reward=torch.randn(steps, generator=draw),
        next_observation=torch.randn(steps, 3, generator=draw),
        mask=mask,
        discount=torch.full((steps,), 0.9),
    )


def test_rows_keep_episodes_apart_and_are_standardised_together():
    value = MLP([3, 8, 1], torch.Generator().manual_seed(0))
    episodes = [trajectory(0, 4), trajectory(1, 3, last_mask=0.0)]
    rows = rows_of(episodes, value, 0.8)
    advantages, targets = [], []
    for each in episodes:
        now, then = (value(side).squeeze(1).detach().numpy() for side in (each.observation, each.next_observation))
        own = by_definition(each.reward.numpy(), now, then, each.mask.numpy(), each.discount.numpy(), 0.8)
        advantages += own
        targets += (np.array(own) + now).tolist()
    expected = (np.array(advantages) - np.mean(advantages)) / np.std(advantages)
    assert rows.advantage.tolist() == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
    assert rows.target.tolist() == pytest.approx(targets, rel=1e-4, abs=1e-5)
    assert not rows.target.requires_grad
    assert torch.equal(rows.action, torch.cat([episodes[0].action, episodes[1].action]))


def test_the_policys_loss_is_of_the_draws_as_they_are():
    """Draws beyond the limits count as drawn: with those of the policy itself every ratio is 1."""
    actor = GaussianPolicy(3, 2, (8,), torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(5)
    observation = torch.randn(64, 3, generator=draw)
    action = actor.sample(observation, draw).detach()
    assert (action.abs() > 1).any()
    advantage = torch.randn(64, generator=draw)
    log_prob = actor.log_prob(observation, action, torch.ones_like(action)).detach()
    rows = Rows(observation, action, log_prob, advantage, torch.zeros(64))
    index = torch.arange(10, 40)
    loss, info = policy_loss(actor, rows, index, 0.2, 0.01)
    entropy = torch.distributions.Normal(torch.zeros(2), actor.std).entropy().sum()
    assert info["entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert info["ratio_clipped"].item() == 0 and info["approximate_kl"].item() == pytest.approx(0, abs=1e-6)
    assert loss.item() == pytest.approx(-advantage[10:40].mean().item() - 0.01 * entropy.item(), rel=1e-5)


def test_the_values_loss_is_the_squared_error_however_large():
    value = MLP([3, 8, 1], torch.Generator().manual_seed(0))
    observation, target = torch.randn(6, 3), torch.tensor([0.0, 1.0, 100.0, -100.0, 2.0, 3.0])
    index = torch.tensor([2, 3, 5])
    rows = Rows(observation, torch.zeros(6, 2), torch.zeros(6), torch.zeros(6), target)
    loss, _ = value_loss(value, rows, index)
    expected = (value(observation[index]).squeeze(1) - target[index]).square().mean()
    assert loss.item() == pytest.approx(expected.item())
