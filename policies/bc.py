"""Behaviour cloning: maximum likelihood of the logged actions."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from episodes.transitions import Batch
from episodes.typed import STRICT
from policies.algorithm import Algorithm, Info, Loss, adam, cosine, descend
from policies.networks import GaussianPolicy
from policies.preparation import Preparation, Prepared


@dataclass(frozen=True, slots=True)
class BCConfig:
    __pydantic_config__ = STRICT

    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (256, 256)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class BC(Algorithm[GaussianPolicy]):
    """Clones every logged action alike, good or bad: the measure that learning from rewards has to beat."""

    name: ClassVar[str] = "bc"
    needs_rewards: ClassVar[bool] = False
    learns_online: ClassVar[bool] = False

    def __init__(self, config: BCConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        super().__init__(config, preparation, seed, decay_steps)
        self.config = config
        self.actor = GaussianPolicy(
            preparation.observation_size, preparation.action_size, config.hidden, self.generator, config.dropout
        )
        self.modules = {"actor": self.actor}
        self.optimisers = {"actor": adam(list(self.actor.parameters()), config.learning_rate)}

    def actor_loss(self, batch: Prepared) -> Loss:
        """-E[log pi(a|s)]."""
        log_prob = self.actor.log_prob(batch.observation, batch.action, batch.valid, self.generator)
        loss = -log_prob.mean()
        return loss, {"actor_loss": loss.detach(), "std": self.actor.std.detach().mean()}

    def update(self, batch: Batch) -> Info:
        optimiser = self.optimisers["actor"]
        optimiser.param_groups[0]["lr"] = cosine(self.config.learning_rate, self.step, self.decay_steps)
        loss, info = self.actor_loss(self.preparation(batch))
        descend(optimiser, loss)
        self.step += 1
        return info
