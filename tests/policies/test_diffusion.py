"""The diffusion over actions: its schedule, one network pass and one reverse process worked out in numpy, and what it
learns."""

import math

import numpy as np
import pytest
import torch

from policies.diffusion import Denoiser, DiffusionPolicy, variance_schedule

T = 5
BETA = np.array([1 - math.exp(-0.1 / T - 0.5 * 9.9 * (2 * t - 1) / T**2) for t in range(1, T + 1)])
ALPHA_BAR = np.cumprod(1 - BETA)


def policy(steps: int = T, dropout: float = 0.0, width: int = 8, seed: int = 0) -> DiffusionPolicy:
    generator = torch.Generator().manual_seed(seed)
    return DiffusionPolicy(Denoiser(3, 2, width, 2, generator, dropout), steps, 2)


def test_the_schedule_is_the_variance_preserving_one():
    np.testing.assert_allclose(variance_schedule(5).numpy(), BETA, rtol=1e-12)
    # The first by hand: 0.02 + 0.198 = 0.218.
    assert variance_schedule(5)[0].item() == pytest.approx(1 - math.exp(-0.218))
    np.testing.assert_allclose(policy().alpha_bar.numpy(), ALPHA_BAR, rtol=1e-6)
    assert ALPHA_BAR[-1] < 0.01, "all but noise is left"


def test_noising_keeps_the_variance():
    action, noise = torch.tensor([[0.5, -1.0], [0.2, 0.0]]), torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    got = policy().noised(action, torch.tensor([0, 3]), noise)
    expected = [
        np.sqrt(ALPHA_BAR[t]) * action[i].numpy() + np.sqrt(1 - ALPHA_BAR[t]) * noise[i].numpy()
        for i, t in ((0, 0), (1, 3))
    ]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_the_denoiser_is_a_residual_network_over_action_observation_and_time():
    """The same pass in numpy, from the same weights."""
    net = policy(width=4, seed=3).denoiser
    rng = np.random.default_rng(0)
    observation, action, step = rng.normal(size=(6, 3)), rng.normal(size=(6, 2)), np.array([0, 1, 2, 3, 4, 4])

    def dense(layer, x):
        return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()

    def mish(x):
        return x * np.tanh(np.log1p(np.exp(x)))

    phase = 2 * np.pi * step[:, None] * net.frequencies.detach().double().numpy()
    time = dense(net.time_out, mish(dense(net.time_in, np.concatenate([np.cos(phase), np.sin(phase)], axis=1))))
    x = dense(net.into, np.concatenate([action, observation, time], axis=1))
    for block in net.blocks:
        normed = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        x = x + dense(block.narrow, mish(dense(block.widen, normed)))
    expected = dense(net.out, mish(x))
    got = net(*(torch.tensor(v, dtype=torch.float32) for v in (observation, action, step)))
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=2e-4, atol=2e-5)


class Known(torch.nn.Module):
    """Finds the noise that a known action was covered with, as far as one can tell from the outside."""

    def __init__(self, action):
        super().__init__()
        self.action = torch.tensor(action, dtype=torch.float32)

    def forward(self, observation, action, step, generator=None):
        kept = torch.tensor(ALPHA_BAR, dtype=torch.float32)[step].unsqueeze(1)
        return (action - kept.sqrt() * self.action) / (1 - kept).sqrt()


def test_with_a_perfect_denoiser_all_noise_becomes_the_action():
    acting = policy()
    acting.denoiser = Known([0.3, -0.8])
    drawn = acting.sample(torch.zeros(50, 3), torch.Generator().manual_seed(1))
    np.testing.assert_allclose(drawn.detach().numpy(), np.tile([0.3, -0.8], (50, 1)), atol=1e-5)


class Linear(torch.nn.Module):
    """A denoiser of which nothing is special: it depends on everything that it is given."""

    def forward(self, observation, action, step, generator=None):
        return 0.5 * action + 0.1 * observation[:, :2] + 0.05 * step.unsqueeze(1)


def test_the_reverse_process_is_that_of_the_paper():
    """In numpy: mean, noise after every step but the last, clipped at every step."""
    acting = policy()
    acting.denoiser = Linear()
    rng = np.random.default_rng(2)
    observation, noise = rng.normal(size=(20, 3)), rng.normal(size=(T + 1, 20, 2))
    x, clipped = noise[T], 0
    for t in (4, 3, 2, 1, 0):
        epsilon = 0.5 * x + 0.1 * observation[:, :2] + 0.05 * t
        x = (x - BETA[t] / np.sqrt(1 - ALPHA_BAR[t]) * epsilon) / np.sqrt(1 - BETA[t])
        if t > 0:
            x = x + np.sqrt(BETA[t]) * noise[t]
        clipped += (np.abs(x) > 1).sum()
        x = np.clip(x, -1, 1)
    got = acting.denoise(torch.tensor(observation, dtype=torch.float32), torch.tensor(noise, dtype=torch.float32))
    np.testing.assert_allclose(got.numpy(), x, rtol=1e-4, atol=1e-5)
    assert 0 < clipped < 5 * 40


def test_dropout_acts_only_where_its_generator_is_given():
    net = policy(dropout=0.5).denoiser
    given = (torch.ones(4, 3), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(net(*given), net(*given))
    one, same, other = (net(*given, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, net(*given))


def test_it_learns_two_ways_of_doing_the_same_and_not_their_middle():
    """Actions of -0.7 and 0.7, half each; on the right of the origin only 0.7."""
    generator = torch.Generator().manual_seed(0)
    acting = DiffusionPolicy(Denoiser(1, 1, 32, 2, generator), 5, 1)
    optimiser = torch.optim.Adam(acting.parameters(), lr=3e-3)
    for _ in range(600):
        observation = torch.rand(128, 1, generator=generator) * 2 - 1
        left = torch.where(torch.rand(128, 1, generator=generator) < 0.5, -0.7, 0.7)
        action = torch.where(observation > 0, torch.full_like(left, 0.7), left)
        step = torch.randint(5, (128,), generator=generator)
        noise = torch.randn(128, 1, generator=generator)
        found = acting.denoiser(observation, acting.noised(action, step, noise), step)
        loss = (found - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        drawn = {side: acting.sample(torch.full((400, 1), side), generator).squeeze(1) for side in (-0.8, 0.8)}
    assert ((drawn[0.8] - 0.7).abs() < 0.25).float().mean() > 0.9
    both = drawn[-0.8]
    low, high = (((both - at).abs() < 0.25).float().mean().item() for at in (-0.7, 0.7))
    assert min(low, high) > 0.2 and low + high > 0.65 and (both.abs() < 0.3).float().mean() < 0.2
