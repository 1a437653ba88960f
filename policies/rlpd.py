"""RLPD (Ball, Smith, Kostrikov & Levine, 2023): soft actor-critic that has offline data in half of every batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from policies.algorithm import Loss
from policies.preparation import Prepared
from policies.soft_actor_critic import Count, SoftActorCritic, SoftConfig


@dataclass(frozen=True, slots=True)
class RLPDConfig(SoftConfig):
    """The published design: many critics with layer normalisation, and 20 updates per step.

    A run that is told of another number of updates per step moves its policy once in as many.
    """

    critics: Annotated[int, Field(ge=2)] = 10
    layer_norm: bool = True
    target_entropy: float | None = None
    """That the temperature is tuned to; where None minus half of the action's numbers."""
    updates_per_actor_update: Count = 20
    """As many as there are per step, so that the policy moves once in each."""


class RLPD(SoftActorCritic):
    """Needs no pretraining; started from a pretrained policy it is a fast fine-tuner."""

    name: ClassVar[str] = "rlpd"
    updates_per_step: ClassVar[int] = 20
    entropy_per_number: ClassVar[float] = 0.5
    one_actor_update_per_step: ClassVar[bool] = True
    start_settings: ClassVar[Mapping[str, Any]] = {
        **SoftActorCritic.start_settings,
        "warm_up_on_returns": True,
        "actor_learning_rate": 3e-5,
    }

    def critic_loss(self, batch: Prepared) -> Loss:
        """Every critic on its own, all against the same target."""
        q = self._q(self.critic, batch.observation, batch.action)
        loss = self.temporal_difference(batch, q)
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    def worth(self, q: Tensor) -> Tensor:
        """The mean of all critics."""
        return q.mean(0)
