"""H2O (Niu et al., 2022): soft actor-critic on a real log and an imperfect simulator's rollouts.

What a simulated row is worth and where the simulator is off, `finetune.h2o` finds out and the batch says. Without that,
on a batch of one source or of both unweighted, it is plain soft actor-critic.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from policies.algorithm import Loss
from policies.preparation import MixedPrepared, Preparation, Prepared
from policies.soft_actor_critic import SoftActorCritic, SoftConfig

LOG_STD_OFFSET = -1.0
"""That the policy's log standard deviation begins with, as published."""


@dataclass(frozen=True, slots=True)
class H2OConfig(SoftConfig):
    """Published values."""

    regularisation: Annotated[float, Field(ge=0)] = 0.01
    """beta: of pushing Q down where the simulator is off."""
    softness: Annotated[float, Field(gt=0)] = 1.0
    """T of the soft maximum over the simulated rows: towards 0 the largest alone is pushed down."""
    most_difference: Annotated[float, Field(gt=0)] = 1000.0
    """Beyond which Q is pushed no further."""


class Hybrid(SoftActorCritic):
    """Soft actor-critic, with what the dynamics say of simulated rows counted by weight."""

    def __init__(self, config: SoftConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        super().__init__(config, preparation, seed, decay_steps)
        with torch.no_grad():
            self.actor.trunk.linear_layers[-1].bias[preparation.action_size :] += LOG_STD_OFFSET

    def weighted_difference(self, batch: Prepared, q: Tensor) -> Loss:
        """sum_i E_real[(Q_i - y)^2] + E_sim[w (Q_i - y)^2], `q` having shape (M, B)."""
        squared = self.squared_differences(batch, q)
        if not isinstance(batch, MixedPrepared):
            loss = batch.mean(squared).sum()
            return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}
        loss = (batch.real_mean(squared) + batch.simulated_mean(batch.weight * squared)).sum()
        return loss, {
            "critic_loss": loss.detach(),
            "q": batch.real_mean(q.detach()).mean(),
            "q_simulated": batch.simulated_mean(q.detach()).mean(),
        }

    def worth(self, q: Tensor) -> Tensor:
        """The smallest critic."""
        return q.amin(0)


class H2O(Hybrid):
    """Q is pushed down where the simulator is off and up where the log is, whatever it is worth there."""

    name: ClassVar[str] = "h2o"
    config: H2OConfig

    def regularisation(self, batch: MixedPrepared, q: Tensor) -> Loss:
        """sum_i T log sum_sim exp((Q_i + log omega) / T) - E_real[Q_i], omega the row's share of all gaps."""
        softness = self.config.softness
        log_gap = torch.where(batch.simulated, batch.gap.log(), -torch.inf)
        log_share = log_gap - log_gap.logsumexp(0)
        pushed = softness * ((q + log_share) / softness).logsumexp(1)
        difference = pushed - batch.real_mean(q)
        limit = self.config.most_difference
        loss = difference.clamp(-limit, limit).sum()
        return loss, {"gap_regularisation": loss.detach()}

    def critic_loss(self, batch: Prepared) -> Loss:
        """L_Q = TD + beta (T log sum_sim omega exp(Q / T) - E_real[Q])."""
        q = self._q(self.critic, batch.observation, batch.action)
        loss, info = self.weighted_difference(batch, q)
        if not isinstance(batch, MixedPrepared):
            return loss, info
        regularisation, more = self.regularisation(batch, q)
        return loss + self.config.regularisation * regularisation, info | more
