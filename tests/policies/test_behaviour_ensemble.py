"""The ensemble against single policies, its loss against scipy, and that disagreement pushes somebody somewhere."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from policies.behaviour_ensemble import PolicyEnsemble, cloning_loss
from policies.networks import GaussianPolicy


def ensemble(members: int = 3, seed: int = 0) -> PolicyEnsemble:
    """Of 3 observations and 2 actions; every member with a spread of its own."""
    made = PolicyEnsemble(3, 2, (8,), members, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        made.log_std.copy_(torch.linspace(-1.5, -0.3, members * 2).view(members, 1, 2))
    return made


def rows(seed: int = 0, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=draw), torch.rand(count, 2, generator=draw) * 2 - 1


def noise(members: int = 3, count: int = 5, seed: int = 7) -> torch.Tensor:
    return torch.randn(members, count, 2, generator=torch.Generator().manual_seed(seed))


def gradients(made: PolicyEnsemble, loss: torch.Tensor) -> list[torch.Tensor]:
    made.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in made.parameters() if p.grad is not None]


def test_a_member_is_the_gaussian_policy_that_it_is_copied_into():
    made, (observation, action) = ensemble(), rows()
    for member in range(3):
        policy = GaussianPolicy(3, 2, (8,), torch.Generator().manual_seed(99))
        made.copy_into(policy, member)
        torch.testing.assert_close(policy.mean(observation), made.mean(observation)[member])
        torch.testing.assert_close(policy.std, made.std[member, 0])
        expected = policy.log_prob(observation, action, torch.ones_like(action))
        torch.testing.assert_close(made.log_prob(observation, action)[member], expected)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.4])
def test_the_loss_is_the_papers(alpha: float):
    """-sum_i mean(log pi_i(a) + alpha (log pi_i(a_i) - max_{j != i} log pi_j(a_i))), a_i ~ pi_i, by scipy."""
    made, (observation, action), draws = ensemble(), rows(), noise()
    mean, std = made.mean(observation).detach().numpy(), made.std.detach().numpy()
    drawn = mean + std * draws.numpy()
    expected = 0.0
    for i in range(3):
        cloned = norm.logpdf(action.numpy(), mean[i], std[i]).sum(1)
        own = norm.logpdf(drawn[i], mean[i], std[i]).sum(1)
        others = [norm.logpdf(drawn[i], mean[j], std[j]).sum(1) for j in range(3) if j != i]
        expected -= (cloned + alpha * (own - np.max(others, axis=0))).mean()
    loss, info = cloning_loss(made, observation, action, draws, alpha)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert ("disagreement" in info) == (alpha > 0)


def test_each_member_is_moved_by_its_own_loss_alone():
    """The gradient of the sum is that of each L_i with all others held."""
    (observation, action), draws, alpha = rows(), noise(), 0.3
    made = ensemble()
    loss, _ = cloning_loss(made, observation, action, draws, alpha)
    together = gradients(made, loss)
    mean, std = made.mean(observation).detach(), made.std.detach()
    for i in range(3):
        policy = GaussianPolicy(3, 2, (8,), torch.Generator())
        made.copy_into(policy, i)
        policy.zero_grad()
        ones = torch.ones_like(action)
        drawn = policy.mean(observation) + policy.std * draws[i]
        others = torch.stack(
            [torch.distributions.Normal(mean[j], std[j]).log_prob(drawn).sum(1) for j in range(3) if j != i]
        )
        apart = policy.log_prob(observation, drawn, ones) - others.amax(0)
        (-(policy.log_prob(observation, action, ones) + alpha * apart).mean()).backward()
        grads = [p.grad for p in (policy.log_std, *(layer.weight for layer in policy.trunk.linear_layers))]
        assert all(grad is not None for grad in grads)
        torch.testing.assert_close(together[0][i, 0], grads[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together[1][i].T, grads[1], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together[2][i].T, grads[2], rtol=1e-4, atol=1e-6)


def test_disagreement_is_more_than_a_larger_step():
    """Published: taken at the data's actions, with the others detached, the term is alpha times the first one."""
    (observation, action), draws, made = rows(), noise(), ensemble()
    plain = gradients(made, cloning_loss(made, observation, action, draws, 0.0)[0])
    pushed = gradients(made, cloning_loss(made, observation, action, draws, 0.3)[0])
    for alone, both in zip(plain, pushed, strict=True):
        assert not torch.allclose(both, 1.3 * alone, rtol=0.05, atol=1e-3)


def test_members_that_agree_in_logs_of_two_minds_are_pushed_apart():
    """Half of the logs go left and half right. With disagreement the members end further from each other."""
    draw = torch.Generator().manual_seed(0)
    observation = torch.randn(256, 3, generator=draw)
    action = 0.6 * torch.randint(0, 2, (256, 2), generator=draw).float() * 2 - 0.6
    spread = {}
    for alpha in (0.0, 0.45):
        made, draws = ensemble(2), torch.Generator().manual_seed(1)
        optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
        for _ in range(150):
            optimiser.zero_grad()
            cloning_loss(made, observation, action, torch.randn(2, 256, 2, generator=draws), alpha)[0].backward()
            optimiser.step()
        mean = made.mean(observation)
        spread[alpha] = float((mean[0] - mean[1]).abs().mean().detach())
    assert spread[0.45] > 1.3 * spread[0.0]


def test_one_member_has_nobody_to_disagree_with():
    made, (observation, action) = ensemble(1), rows()
    loss, _ = cloning_loss(made, observation, action, noise(1), 0.3)
    alone, _ = cloning_loss(made, observation, action, noise(1), 0.0)
    assert torch.equal(loss, alone) and torch.isfinite(loss)


def test_only_the_chosen_members_follow():
    one, other = ensemble(seed=1), ensemble(seed=2)
    before = [p.detach().clone() for p in one.parameters()]
    one.follow(other, torch.tensor([False, True, False]))
    for own, old, new in zip(one.parameters(), before, other.parameters(), strict=True):
        assert torch.equal(own[1], new[1]) and torch.equal(own[0], old[0]) and torch.equal(own[2], old[2])


def test_each_members_gradient_is_clipped_by_its_own_norm():
    made = ensemble()
    for parameter in made.parameters():
        parameter.grad = torch.ones_like(parameter) * torch.tensor([1e-3, 1.0, 50.0]).view(3, 1, 1)
    before = [p.grad.clone() for p in made.parameters() if p.grad is not None]
    made.clip_gradients(0.5)
    after = [p.grad for p in made.parameters() if p.grad is not None]
    norms = [sum(float(g[i].square().sum()) for g in after) ** 0.5 for i in range(3)]
    assert norms[1:] == pytest.approx([0.5, 0.5], rel=1e-5)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(after, before, strict=True)), "a small one stays as it is"
