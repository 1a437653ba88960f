"""H2O+ (Niu et al., 2024): backs up what the log's own actions are worth, and what the policy's are, blended."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from episodes.transitions import Batch
from policies.algorithm import Info, Loss, adam, descend
from policies.h2o import Hybrid
from policies.iql import expectile_loss
from policies.networks import MLP
from policies.preparation import MixedPrepared, Preparation, Prepared
from policies.soft_actor_critic import SoftConfig


@dataclass(frozen=True, slots=True)
class H2OPlusConfig(SoftConfig):
    """Published values."""

    entropy_backup: bool = True
    expectile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """tau of the expectile regression that V is; 0.5 is the mean."""
    exploitation: Annotated[float, Field(ge=0, le=1)] = 0.5
    """lambda: 1 backs up the log's V alone, 0 what the policy would do alone."""


class H2OPlus(Hybrid):
    """V stays with the real log, the policy climbs Q in the states of both sources; nothing else is pushed down."""

    name: ClassVar[str] = "h2o_plus"
    config: H2OPlusConfig

    def __init__(self, config: H2OPlusConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        super().__init__(config, preparation, seed, decay_steps)
        self.value = MLP([preparation.observation_size, *config.hidden, 1], self.generator)
        self.modules["value"] = self.value
        self.optimisers["value"] = adam(list(self.value.parameters()), config.learning_rate)

    def target_value(self, batch: Prepared) -> Tensor:
        """lambda V(s') + (1 - lambda) (min Q_target(s', a') - alpha log pi(a'|s')), a' ~ pi: shape (B,)."""
        with torch.no_grad():
            value = self.value(batch.next_observation).squeeze(1)
        exploitation = self.config.exploitation
        return exploitation * value + (1 - exploitation) * super().target_value(batch)

    def critic_loss(self, batch: Prepared) -> Loss:
        """L_Q, both sources' targets blended and simulated rows weighted."""
        return self.weighted_difference(batch, self._q(self.critic, batch.observation, batch.action))

    def value_loss(self, batch: Prepared) -> Loss:
        """L_V = E_real[|tau - 1(u < 0)| u^2], u = min Q_target(s, a) - V(s)."""
        with torch.no_grad():
            target_q = self._q(self.target, batch.observation, batch.action).amin(0)
        value = self.value(batch.observation).squeeze(1)
        losses = expectile_loss(target_q - value, self.config.expectile)
        loss = batch.real_mean(losses) if isinstance(batch, MixedPrepared) else losses.mean()
        return loss, {"value_loss": loss.detach(), "value": value.detach().mean()}

    def update(self, batch: Batch) -> Info:
        """V against the targets, then as soft actor-critic does."""
        loss, info = self.value_loss(self.preparation(batch))
        descend(self.optimisers["value"], loss)
        return info | super().update(batch)
