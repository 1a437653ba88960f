"""A policy that is a denoising diffusion over actions (Ho et al., 2020), in the few steps that a robot has time for."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, mish

from policies.networks import PolicyNetwork

TIME_FEATURES = 64
TIME_WIDTH = 128
WIDENING = 4
"""Of a residual block's inside."""
BETA_RANGE = (0.1, 10.0)
"""Of the variance-preserving process that the schedule is taken from."""


def variance_schedule(steps: int) -> Tensor:
    """Shape (T,), float64: beta_t of the variance-preserving schedule, t = 1 .. T."""
    low, high = BETA_RANGE
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    return 1 - torch.exp(-low / steps - 0.5 * (high - low) * (2 * t - 1) / steps**2)


class Block(nn.Module):
    """x + W2 mish(W1 norm(dropout(x))), the inside four times as wide."""

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.widen = linear(width, WIDENING * width, generator)
        self.narrow = linear(WIDENING * width, width, generator)

    def forward(self, x: Tensor, dropout: float, generator: torch.Generator | None) -> Tensor:
        inside = x
        if dropout and generator is not None:
            keep = 1 - dropout
            inside = x * torch.empty(x.shape).bernoulli_(keep, generator=generator).to(x.device) / keep
        inside = layer_norm(inside, inside.shape[-1:], self.gain, self.shift)
        return x + self.narrow(mish(self.widen(inside)))


class Denoiser(nn.Module):
    """epsilon(s, a_t, t), the noise in a noised action; t is seen as learned Fourier features."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        width: int,
        blocks: int,
        generator: torch.Generator,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.frequencies = nn.Parameter(0.2 * torch.randn(TIME_FEATURES // 2, generator=generator))
        self.time_in = linear(TIME_FEATURES, TIME_WIDTH, generator)
        self.time_out = linear(TIME_WIDTH, TIME_WIDTH, generator)
        self.into = linear(action_size + observation_size + TIME_WIDTH, width, generator)
        self.blocks = nn.ModuleList([Block(width, generator) for _ in range(blocks)])
        self.out = linear(width, action_size, generator)
        self.dropout = dropout

    def forward(
        self, observation: Tensor, action: Tensor, step: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, O), (B, D) and step t counted from 0, (B,), to (B, D); dropout only where its generator is given."""
        phase = 2 * math.pi * step.unsqueeze(1) * self.frequencies
        time = self.time_out(mish(self.time_in(torch.cat([phase.cos(), phase.sin()], dim=1))))
        x = self.into(torch.cat([action, observation, time], dim=1))
        for block in self.blocks:
            x = block(x, self.dropout, generator)
        return self.out(mish(x))


class DiffusionPolicy(PolicyNetwork):
    """Begins with noise and takes out, T times, what the denoiser finds; every step is clipped to [-1, 1]."""

    beta: Tensor
    alpha_bar: Tensor

    def __init__(self, denoiser: Denoiser, steps: int, action_size: int):
        super().__init__()
        self.denoiser = denoiser
        self.steps, self.action_size = steps, action_size
        beta = variance_schedule(steps)
        self.register_buffer("beta", beta.float())
        self.register_buffer("alpha_bar", (1 - beta).cumprod(0).float())

    def noised(self, action: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """a_t = sqrt(alpha_bar_t) a + sqrt(1 - alpha_bar_t) epsilon: shapes (B, D), (B,), (B, D)."""
        kept = self.alpha_bar[step].unsqueeze(1)
        return kept.sqrt() * action + (1 - kept).sqrt() * noise

    def denoise(self, observation: Tensor, noise: Tensor) -> Tensor:
        """The action that noise becomes.

        Args:
            observation: (B, O).
            noise: (T + 1, B, D), standard normal: the last row is begun with, row t is added after step t, and row 0
                is not used, since nothing is added after the last step.
        """
        action = noise[-1]
        for t in reversed(range(self.steps)):
            step = torch.full((len(action),), t, device=action.device)
            found = self.denoiser(observation, action, step)
            beta, alpha_bar = self.beta[t], self.alpha_bar[t]
            action = (action - beta / (1 - alpha_bar).sqrt() * found) / (1 - beta).sqrt()
            if t:
                action = action + beta.sqrt() * noise[t]
            action = action.clamp(-1, 1)
        return action

    def noise(self, rows: int, generator: torch.Generator) -> Tensor:
        """What `denoise` takes for so many rows: (T + 1, rows, D)."""
        drawn = torch.randn(self.steps + 1, rows, self.action_size, generator=generator)
        return drawn.to(self.beta.device)

    def mean(self, observation: Tensor) -> Tensor:
        """(B, O) to (B, D): what no noise at all becomes."""
        nothing = observation.new_zeros(self.steps + 1, len(observation), self.action_size)
        return self.denoise(observation, nothing)

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """(B, O) to (B, D), within [-1, 1]."""
        return self.denoise(observation, self.noise(len(observation), generator))


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer that begins Xavier-uniform, its shift at 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
