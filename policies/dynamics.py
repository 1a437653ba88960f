"""A learned model of the dynamics: an ensemble of Gaussians, as of PETS (Chua et al., 2018) and MOPO (Yu et al., 2020).

Every member says how the observation changes and what that is rewarded with; with a history, how the newest one does,
of which the others become the past. Those that know the held-out rows best are the elites, and only they are asked.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from episodes.errors import InputError
from episodes.typed import STRICT
from policies.algorithm import descend
from policies.networks import EnsembleMLP
from policies.preparation import Prepared, Window

Count = Annotated[int, Field(gt=0)]

BOUND_WEIGHT = 0.01
"""Of pulling the bounds of the log variances together (Chua et al., 2018)."""
IMPROVEMENT = 0.01
"""Share by which a held-out error has to fall to count as better."""
MOST_HELD_OUT = 1000
"""Rows; more would tell no more."""


@dataclass(frozen=True, slots=True)
class DynamicsConfig:
    """Published values of Uni-O4's model."""

    __pydantic_config__ = STRICT

    members: Count = 7
    elites: Count = 5
    hidden: tuple[Count, ...] = (200, 200, 200, 200)
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 5e-5
    batch_size: Count = 256
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the rows that nothing is learned from."""
    patience: Count = 5
    """Epochs in which no member gets better on the held-out rows, after which it is over."""
    epochs: Count = 1000
    """At most."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of fitting a model."""

    epochs: int
    held_out: Tensor
    """Int64: the rows that nothing was learned from."""
    errors: Tensor
    """Shape (M,): mean squared errors on these at each member's best, in what is predicted's deviations."""
    elites: Tensor
    """Shape (E,), int64: the members that are asked, the best one first."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Imagined episodes of T steps."""

    observation: Tensor
    """Shape (T + 1, B, O)."""
    action: Tensor
    """Shape (T, B, D)."""
    reward: Tensor
    """Shape (T, B)."""


class Dynamics(nn.Module):
    """p(s' - s, r | s, a) in network units. Inputs and outputs are standardised by the rows that it is fitted to.

    Of O numbers that are observed N are of the newest observation: all of them without a history.
    """

    input_mean: Tensor
    input_std: Tensor
    output_mean: Tensor
    output_std: Tensor
    elites: Tensor

    def __init__(
        self,
        config: DynamicsConfig,
        observation_size: int,
        action_size: int,
        seed: int,
        window: Window = Window(),  # noqa: B008  (frozen)
    ):
        super().__init__()
        if config.elites > config.members:
            raise InputError(f"elites {config.elites}: there are {config.members} members")
        self.config, self.window = config, window
        self.generator = torch.Generator().manual_seed(seed)
        inputs, outputs = observation_size + action_size, observation_size - window.older + 1
        self.network = EnsembleMLP([inputs, *config.hidden, 2 * outputs], config.members, self.generator)
        self.lowest = nn.Parameter(torch.full((outputs,), -10.0))
        self.highest = nn.Parameter(torch.full((outputs,), 0.5))
        """Soft bounds of the log variances, learned."""
        for name, size in (("input", inputs), ("output", outputs)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("elites", torch.arange(config.elites))

    def forward(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the standardised change and reward: (B, O) and (B, D) to twice (M, B, N + 1).

        Given (M, B, O) and (M, B, D), each member speaks of rows of its own.
        """
        x = (torch.cat([observation, action], dim=-1) - self.input_mean) / self.input_std
        mean, log_variance = self.network(x).chunk(2, dim=2)
        log_variance = self.highest - nn.functional.softplus(self.highest - log_variance)
        return mean, self.lowest + nn.functional.softplus(log_variance - self.lowest)

    def loss(self, batch: Prepared, members_rows: Tensor) -> Tensor:
        """Negative log likelihood of each member's own rows, (M, N), int64, summed over members and numbers.

        How the observation changed is not learned where the task terminated: what stands behind that may be a stand-in.
        """
        mean, log_variance = self(batch.observation[members_rows], batch.action[members_rows])
        target, known = self._targets(batch)
        target, known = target[members_rows], known[members_rows]
        squared = (target - mean).square() * (-log_variance).exp()
        nll = 0.5 * (squared + log_variance + math.log(2 * math.pi)) * known
        return nll.mean(1).sum() + BOUND_WEIGHT * (self.highest - self.lowest).sum()

    def fit(self, batch: Prepared) -> Fit:
        """Learn from rows until no member knows held-out ones any better; each ends as it was at its best.

        Raises:
            InputError: for too few rows, or numbers that are not finite.
        """
        rows, config = len(batch.observation), self.config
        if rows < 10:
            raise InputError(f"a model of the dynamics needs 10 transitions or more, got {rows}")
        for name in ("observation", "action", "next_observation", "reward"):
            if not torch.isfinite(getattr(batch, name)).all():
                raise InputError(f"a model of the dynamics cannot learn from {name}s that are not finite")
        order = torch.randperm(rows, generator=self.generator)
        count = min(max(1, int(config.held_out * rows)), MOST_HELD_OUT)
        held_out, learned = order[:count], order[count:]
        training, checking = batch.at(learned), batch.at(held_out)
        self._standardise(training)
        optimiser = torch.optim.Adam(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        best = torch.full((config.members,), math.inf)
        kept = [parameter.detach().clone() for parameter in self.network.parameters()]
        epoch = waited = 0
        while epoch < config.epochs and waited < config.patience:
            # Every member sees a bootstrap sample of its own, in an order of its own.
            draws = torch.randint(len(learned), (config.members, len(learned)), generator=self.generator)
            for start in range(0, len(learned), config.batch_size):
                descend(optimiser, self.loss(training, draws[:, start : start + config.batch_size]))
            errors = self.errors(checking).cpu()
            better = errors < best * (1 - IMPROVEMENT)
            best[better] = errors[better]
            for copy, parameter in zip(kept, self.network.parameters(), strict=True):
                copy[better] = parameter.detach()[better]
            epoch, waited = epoch + 1, 0 if better.any() else waited + 1
        with torch.no_grad():
            for copy, parameter in zip(kept, self.network.parameters(), strict=True):
                parameter.copy_(copy)
            self.elites.copy_(best.argsort()[: config.elites])
        return Fit(epoch, held_out, best, self.elites.clone())

    def errors(self, batch: Prepared) -> Tensor:
        """Shape (M,): the mean squared errors of the means, in standard deviations of what is predicted."""
        with torch.no_grad():
            mean, _ = self(batch.observation, batch.action)
            target, known = self._targets(batch)
            return ((mean - target).square() * known).sum((1, 2)) / known.sum()

    def predict(
        self, observation: Tensor, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next observation and the reward: (B, O) and (B, D) to (B, O) and (B,).

        The elites' mean; with a generator every row asks an elite of its own, and a draw from what that says.
        """
        with torch.no_grad():
            mean, log_variance = (part[self.elites] for part in self(observation, action))
            if generator is None:
                output = mean.mean(0)
            else:
                row = torch.arange(len(observation))
                asked = torch.randint(len(self.elites), (len(observation),), generator=generator)
                noise = torch.randn(mean.shape[1:], generator=generator).to(mean)
                output = mean[asked, row] + (0.5 * log_variance[asked, row]).exp() * noise
            output = output * self.output_std + self.output_mean
            following = self.window.newest(observation) + output[:, :-1]
            return self.window.moved_on(observation, following), output[:, -1]

    def rollout(
        self,
        observation: Tensor,
        policy: Callable[[Tensor], Tensor],
        steps: int,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Imagine steps of a policy, (B, O) to (B, D), from observations, (B, O); by chance as `predict` does."""
        observations, actions, rewards = [observation], [], []
        for _ in range(steps):
            with torch.no_grad():
                actions.append(policy(observations[-1]))
            following, reward = self.predict(observations[-1], actions[-1], generator)
            observations.append(following)
            rewards.append(reward)
        return Rollout(torch.stack(observations), torch.stack(actions), torch.stack(rewards))

    def _targets(self, batch: Prepared) -> tuple[Tensor, Tensor]:
        """What is to be said, standardised, and 1 where it is known: twice (B, N + 1)."""
        output, known = self._outputs(batch)
        return (output - self.output_mean) / self.output_std, known

    def _standardise(self, batch: Prepared) -> None:
        output, known = self._outputs(batch)
        inputs = torch.cat([batch.observation, batch.action], dim=1)
        self.input_mean.copy_(inputs.mean(0))
        self.input_std.copy_(inputs.std(0, correction=0).clamp(min=1e-6))
        count = known.sum(0).clamp(min=1)
        mean = (output * known).sum(0) / count
        self.output_mean.copy_(mean)
        variance = ((output - mean).square() * known).sum(0) / count
        self.output_std.copy_(variance.sqrt().clamp(min=1e-6))

    def _outputs(self, batch: Prepared) -> tuple[Tensor, Tensor]:
        """Change and reward, and 1 where they are known: twice (B, N + 1)."""
        change = self.window.newest(batch.next_observation) - self.window.newest(batch.observation)
        output = torch.cat([change, batch.reward.unsqueeze(1)], dim=1)
        known = batch.mask.unsqueeze(1).expand(output.shape).clone()
        known[:, -1] = 1
        return output, known
