"""Networks: perceptrons, an ensemble of critics in one product, the Gaussian policy of weighted regression."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

LOG_STD_RANGE = (-5.0, 2.0)
"""Of the policies' log standard deviation, per dimension (Kostrikov et al., 2022)."""
INSIDE = 1 - 1e-5
"""Actions at a limit are moved here before their log density is asked for, which is infinite there."""


def seeded_orthogonal(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """An (in, out) weight, orthogonal with gain sqrt(2)."""
    weight = torch.empty(shape[1], shape[0])
    return nn.init.orthogonal_(weight, math.sqrt(2), generator=generator).T.contiguous()


class EnsembleMLP(nn.Module):
    """`members` perceptrons with ReLU between layers, evaluated together: (B, in) to (members, B, out).

    Given (members, B, in), each evaluates rows of its own.

    One batched product per layer costs less than a loop over members, and the members never mix. With `layer_norm`
    every hidden layer is normalised before its ReLU, which keeps a critic from running away where it has seen nothing
    (Ball et al., 2023).
    """

    def __init__(self, sizes: Sequence[int], members: int, generator: torch.Generator, *, layer_norm: bool = False):
        super().__init__()
        hidden = sizes[1:-1] if layer_norm else []
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(members, 1, size)) for size in hidden])
        self.shifts = nn.ParameterList([nn.Parameter(torch.zeros(members, 1, size)) for size in hidden])
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for shape in pairwise(sizes):
            stacked = torch.stack([seeded_orthogonal(shape, generator) for _ in range(members)])
            self.weights.append(nn.Parameter(stacked))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, shape[1])))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 2:
            x = x.expand(len(self.weights[0]), *x.shape)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                if len(self.gains):
                    x = torch.layer_norm(x, x.shape[-1:]) * self.gains[layer] + self.shifts[layer]
                x = torch.relu(x)
        return x


class MLP(nn.Module):
    """A perceptron with ReLU and, where asked for, dropout after each hidden layer: (B, in) to (B, out)."""

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.ModuleList()
        for shape in pairwise(sizes):
            linear = nn.Linear(*shape)
            linear.weight.data = seeded_orthogonal(shape, generator).T.contiguous()
            nn.init.zeros_(linear.bias)
            self.layers.append(linear)
        self.dropout = dropout

    @property
    def linear_layers(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Dropout acts only where `noise`, the generator to draw it from, is given."""
        for linear in self.layers[:-1]:
            x = torch.relu(linear(x))
            if self.dropout and noise is not None:
                keep = 1 - self.dropout
                kept = torch.empty(x.shape).bernoulli_(keep, generator=noise).to(x.device)
                x = x * kept / keep
        return self.layers[-1](x)


class PolicyNetwork(nn.Module, ABC):
    """What every policy can be asked."""

    @abstractmethod
    def mean(self, observation: Tensor) -> Tensor:
        """(B, O) to (B, D), within (-1, 1): what is done where nothing is left to chance."""

    @abstractmethod
    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """(B, O) to (B, D)."""


class GaussianPolicy(PolicyNetwork):
    """A Normal around a tanh *mean*, its standard deviation the same in every state.

    Under advantage-weighted regression a tanh-squashed distribution is known to fail; this is the published form.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.trunk = MLP([observation_size, *hidden, action_size], generator, dropout)
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def mean(self, observation: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """(B, O) to (B, D), within (-1, 1)."""
        return torch.tanh(self.trunk(observation, noise))

    @property
    def std(self) -> Tensor:
        """Shape (D,)."""
        return self.log_std.clamp(*LOG_STD_RANGE).exp()

    def log_prob(
        self, observation: Tensor, action: Tensor, valid: Tensor, noise: torch.Generator | None = None
    ) -> Tensor:
        """Shape (B,): log density of the action's numbers that are valid; shapes (B, O), (B, D), (B, D)."""
        deviation = (action - self.mean(observation, noise)) / self.std
        log_density = -0.5 * deviation.square() - self.std.log() - 0.5 * math.log(2 * math.pi)
        return (log_density * valid).sum(1)

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """(B, O) to (B, D), not clipped."""
        mean = self.mean(observation)
        return mean + self.std * torch.randn(mean.shape, generator=generator).to(mean.device)


class SquashedGaussianPolicy(PolicyNetwork):
    """The tanh of a Normal whose mean and standard deviation depend on the state (Haarnoja et al., 2018)."""

    def __init__(self, observation_size: int, action_size: int, hidden: Sequence[int], generator: torch.Generator):
        super().__init__()
        self.trunk = MLP([observation_size, *hidden, 2 * action_size], generator)

    def before_tanh(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the Normal: (B, O) to twice (B, D)."""
        mean, log_std = self.trunk(observation).chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def mean(self, observation: Tensor) -> Tensor:
        """(B, O) to (B, D), within (-1, 1): the tanh of the Normal's mean."""
        return torch.tanh(self.before_tanh(observation)[0])

    def draw(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions that follow the parameters, and their log densities.

        Args:
            observation: (B, O).
            noise: (..., B, D), standard normal.

        Returns:
            Shapes (..., B, D) and (..., B).
        """
        mean, log_std = self.before_tanh(observation)
        raw = mean + log_std.exp() * noise
        log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return torch.tanh(raw), (log_normal - log_slope_of_tanh(raw)).sum(-1)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Shape (B,): log density of given actions, (B, D); at a limit there is none, and they are taken inside."""
        mean, log_std = self.before_tanh(observation)
        raw = torch.atanh(action.clamp(-INSIDE, INSIDE))
        deviation = (raw - mean) / log_std.exp()
        log_normal = -0.5 * deviation.square() - log_std - 0.5 * math.log(2 * math.pi)
        return (log_normal - log_slope_of_tanh(raw)).sum(1)

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """(B, O) to (B, D), within (-1, 1)."""
        mean, log_std = self.before_tanh(observation)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return torch.tanh(mean + log_std.exp() * noise)


def log_slope_of_tanh(raw: Tensor) -> Tensor:
    """log(1 - tanh(x)^2), exact where the tanh has become 1."""
    return 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients go through a module and none are kept for it."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
