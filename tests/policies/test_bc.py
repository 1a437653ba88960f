"""Behaviour cloning: its loss by hand, and what it converges to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from episodes.transitions import Batch
from policies.bc import BC, BCConfig


def learner(preparation, **config) -> BC:
    return BC(BCConfig(**({"hidden": (8, 8)} | config)), preparation(), seed=0)


def test_the_loss_is_the_mean_negative_log_likelihood(preparation, batch):
    algorithm = learner(preparation)
    algorithm.actor.log_std.data = torch.tensor([-0.4, 0.7])
    nn.init.zeros_(algorithm.actor.trunk.layers[-1].weight)
    algorithm.actor.trunk.layers[-1].bias.data = torch.tensor([0.9, -0.2])
    rows = batch(0)
    loss, info = algorithm.actor_loss(algorithm.preparation(rows))
    density = norm.logpdf(rows.action[:, 0].numpy(), np.tanh([0.9, -0.2]), np.exp([-0.4, 0.7]))
    assert loss.item() == pytest.approx(-density.sum(1).mean(), rel=1e-5)
    assert info["actor_loss"].item() == loss.item()


def test_actions_after_an_episodes_end_are_not_cloned(preparation, batch):
    algorithm = BC(BCConfig(hidden=(8, 8)), preparation(chunk=3), seed=0)
    rows = batch(0, chunk=3)
    changed = torch.where(rows.valid.bool().unsqueeze(2), rows.action, torch.full_like(rows.action, 0.77))
    assert not torch.equal(changed, rows.action)
    other = replace(rows, action=changed)
    losses = [algorithm.actor_loss(algorithm.preparation(each))[0].item() for each in (rows, other)]
    assert losses[0] == losses[1]


def test_it_finds_mean_and_spread_of_the_data(preparation):
    """The maximum of the likelihood is the sample mean and the sample standard deviation."""
    rng = np.random.default_rng(0)
    action = np.stack([rng.normal(0.3, 0.2, 400), rng.normal(-0.5, 0.1, 400)], 1).astype(np.float32)
    n = len(action)
    rows = Batch(
        state=torch.zeros(n, 3),
        action=torch.from_numpy(action).unsqueeze(1),
        valid=torch.ones(n, 1),
        reward=torch.zeros(n),
        next_state=torch.zeros(n, 3),
        mask=torch.ones(n),
        discount=torch.ones(n),
        return_to_go=torch.zeros(n),
    )
    algorithm = learner(preparation, learning_rate=3e-2)
    for _ in range(300):
        algorithm.update(rows)
    assert algorithm.act(torch.zeros(1, 3)).flatten().tolist() == pytest.approx(action.mean(0).tolist(), abs=0.01)
    assert algorithm.actor.std.tolist() == pytest.approx(action.std(0).tolist(), rel=0.05)


def test_rewards_change_nothing(preparation, batch):
    rows = batch(0)
    other = replace(rows, reward=rows.reward + 9, mask=1 - rows.mask, next_state=rows.next_state + 1)
    first, second = learner(preparation), learner(preparation)
    first.update(rows)
    second.update(other)
    assert all(torch.equal(a, b) for a, b in zip(first.actor.parameters(), second.actor.parameters(), strict=True))
