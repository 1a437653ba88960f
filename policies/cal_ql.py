"""Cal-QL (Nakamoto et al., 2023): conservative Q-learning that stays above what the data is known to have earned.

The calibration stays on while learning online, as in the authors' code; the return of an episode is known when it has
ended. With `clone_weight` it is RoboFuME's learner (Yang et al., 2023).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from policies.algorithm import Algorithm, Loss
from policies.networks import EnsembleMLP
from policies.preparation import Preparation, Prepared
from policies.soft_actor_critic import Count, Rate, SoftActorCritic, SoftConfig


@dataclass(frozen=True, slots=True)
class CalQLConfig(SoftConfig):
    """Published values, for rewards of -1 until success and 0 then."""

    actor_learning_rate: Rate | None = 1e-4
    conservative_weight: Annotated[float, Field(ge=0)] = 0.1
    """alpha of the regularisation. It grows with the rewards: the published 1 (Adroit, binary) is for ten times as
    large ones. The published 5 (AntMaze, ten times as large, too) is scaled down by a multiplier besides."""
    sampled_actions: Count = 10
    """Per state and distribution."""
    max_backup: bool = True
    """Back up the best of the sampled next actions, and not one of them."""
    clone_weight: Annotated[float, Field(ge=0)] = 0.0
    """Of cloning the data's actions beside climbing Q; 1 makes both terms about as large."""


class CalQL(SoftActorCritic):
    """Q is pushed down where the policy goes and up where the data is, but never below the data's own return."""

    name: ClassVar[str] = "cal_ql"
    online_settings: ClassVar[frozenset[str]] = SoftActorCritic.online_settings | {
        "conservative_weight",
        "sampled_actions",
        "max_backup",
        "clone_weight",
    }
    start_settings: ClassVar[Mapping[str, Any]] = {**SoftActorCritic.start_settings, "actor_warm_up": 1000}

    def __init__(self, config: CalQLConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        super().__init__(config, preparation, seed, decay_steps)
        self.config = config

    def start_from(self, pretrained: Algorithm) -> None:
        """With its critics, too, where they are built alike, as those of IQL: published runs begin with some."""
        super().start_from(pretrained)
        for name in ("critic", "target"):
            own, other = self.modules[name], pretrained.modules.get(name)
            if isinstance(other, EnsembleMLP) and _sizes(own) == _sizes(other):
                own.load_state_dict(other.state_dict())

    def target_value(self, batch: Prepared) -> Tensor:
        """Shape (B,): the smallest of a few target critics, at the best of some next actions."""
        if not self.config.max_backup:
            return super().target_value(batch)
        with torch.no_grad():
            actions, log_prob = self.actor.draw(batch.next_observation, self._noise(batch, self.config.sampled_actions))
            q = self._q_of_many(batch.next_observation, actions, target=True)
            if self.config.critic_subset < self.config.critics:
                q = q[torch.randperm(self.config.critics, generator=self.generator)[: self.config.critic_subset]]
            best, chosen = q.amin(0).max(0)
            if not self.config.entropy_backup:
                return best
            return best - self.temperature.value * log_prob.gather(0, chosen.unsqueeze(0)).squeeze(0)

    def conservative_loss(self, batch: Prepared, q: Tensor) -> Loss:
        """sum_i E_s[logsumexp_a Q_i(s, a)] - E_D[Q_i(s, a)], `q` having shape (M, B), by importance sampling (CQL, F).

        Actions are drawn from the policy in both states of a transition, and uniformly. What the critics say of the
        policy's is taken for at least the return that was had from there (Cal-QL, equation 5.1), of random ones as it
        is.
        """
        count = self.config.sampled_actions
        floor = batch.return_to_go
        with torch.no_grad():
            here, here_log_prob = self.actor.draw(batch.observation, self._noise(batch, count))
            there, there_log_prob = self.actor.draw(batch.next_observation, self._noise(batch, count))
            uniform = torch.rand(here.shape, generator=self.generator).to(here.device) * 2 - 1
        log_uniform = -log(2.0) * here.shape[-1]
        # The next state's actions are judged in this state, as published.
        q_here = self._q_of_many(batch.observation, here)
        q_there = self._q_of_many(batch.observation, there)
        below = (q_here < floor).float().mean().detach()
        found = torch.cat(
            [
                self._q_of_many(batch.observation, uniform) - log_uniform,
                q_here.maximum(floor) - here_log_prob,
                q_there.maximum(floor) - there_log_prob,
            ],
            dim=1,
        )
        over = torch.logsumexp(found, dim=1) - log(found.shape[1])
        loss = (over - q).mean(1).sum()
        return loss, {"conservative_loss": loss.detach(), "calibrated": below}

    def critic_loss(self, batch: Prepared) -> Loss:
        """L_Q = TD + alpha (logsumexp_a max(Q(s, a), G(s)) - Q(s, a_D))."""
        q = self._q(self.critic, batch.observation, batch.action)
        difference = self.temporal_difference(batch, q)
        conservative, info = self.conservative_loss(batch, q)
        loss = difference + self.config.conservative_weight * conservative
        return loss, info | {"critic_loss": difference.detach(), "q": q.detach().mean()}

    def worth(self, q: Tensor) -> Tensor:
        """The smallest critic."""
        return q.amin(0)

    def actor_loss(self, batch: Prepared) -> Loss:
        """L_pi = E[alpha log pi - Q] - w log pi(a_D|s), w = clone_weight |E[Q]| / E[|log pi(a_D|s)|]."""
        loss, info = super().actor_loss(batch)
        if not self.config.clone_weight:
            return loss, info
        log_prob = self.actor.log_prob(batch.observation, batch.action)
        cloning = -log_prob.mean()
        # By the mean size of a density's logarithm: its mean crosses 0 while the policy sharpens, with a pole there.
        weight = self.config.clone_weight * info["worth"].abs() / log_prob.detach().abs().mean().clamp(min=0.1)
        return loss + weight * cloning, info | {"cloning_loss": cloning.detach()}

    def _q_of_many(self, observation: Tensor, actions: Tensor, *, target: bool = False) -> Tensor:
        """(B, O) and (N, B, D) to (M, N, B)."""
        count, rows, _ = actions.shape
        repeated = observation.expand(count, *observation.shape).flatten(0, 1)
        critic = self.target if target else self.critic
        return self._q(critic, repeated, actions.flatten(0, 1)).unflatten(1, (count, rows))


def _sizes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
