"""Implicit Q-learning (Kostrikov, Nair & Levine, 2022): losses in the paper's order."""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from episodes.transitions import Batch
from episodes.typed import STRICT
from policies.algorithm import Algorithm, Info, Loss, P, adam, cosine, descend
from policies.networks import MLP, EnsembleMLP, GaussianPolicy
from policies.preparation import Preparation, Prepared


@dataclass(frozen=True, slots=True)
class ImplicitQConfig:
    """What all that learn V and Q this way are told."""

    __pydantic_config__ = STRICT

    expectile: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """tau of the expectile regression; 0.5 is the mean, towards 1 the best action in the data."""
    target_rate: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Of the exponential moving average that the target critics are."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    actor_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of the policy; `learning_rate` where None."""
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (256, 256)


@dataclass(frozen=True, slots=True)
class WeightedRegressionConfig(ImplicitQConfig):
    """What those are told besides whose policy clones what was better than V."""

    weight_clip: Annotated[float, Field(gt=0)] = 100.0
    """Largest weight exp(beta * advantage) of a transition."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the policy's hidden layers."""


@dataclass(frozen=True, slots=True)
class IQLConfig(WeightedRegressionConfig):
    inverse_temperature: Annotated[float, Field(ge=0)] = 3.0
    """beta: 0 clones the data, larger values trust the advantage more."""


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """|tau - 1(u < 0)| u^2, of a shape of any kind."""
    weight = torch.where(difference < 0, 1 - expectile, expectile)
    return weight * difference.square()


class ImplicitQ(Algorithm[P]):
    """V approaches an upper expectile of Q over the data's actions, and Q backs up V: no policy is asked for either."""

    learns_online: ClassVar[bool] = True

    def __init__(self, config: ImplicitQConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        super().__init__(config, preparation, seed, decay_steps)
        self.config = config
        observation, action = preparation.observation_size, preparation.action_size
        self.actor = self.make_actor()
        self.critic = EnsembleMLP([observation + action, *config.hidden, 1], 2, self.generator)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.value = MLP([observation, *config.hidden, 1], self.generator)
        self.modules = {"actor": self.actor, "critic": self.critic, "target": self.target, "value": self.value}
        self.optimisers = {
            name: adam(list(self.modules[name].parameters()), config.learning_rate)
            for name in ("value", "actor", "critic")
        }

    @abstractmethod
    def make_actor(self) -> P:
        """The policy at its start."""

    @abstractmethod
    def improve(self, batch: Prepared, target_q: Tensor) -> Info:
        """The policy's part of an update, with the new V."""

    def value_loss(self, batch: Prepared, target_q: Tensor) -> Loss:
        """L_V = E[|tau - 1(u < 0)| u^2], u = min Q_target(s, a) - V(s) (equation 5)."""
        value = self.value(batch.observation).squeeze(1)
        loss = expectile_loss(target_q - value, self.config.expectile).mean()
        return loss, {"value_loss": loss.detach(), "value": value.detach().mean()}

    def critic_loss(self, batch: Prepared) -> Loss:
        """L_Q = sum_i E[(Q_i(s, a) - (r + gamma V(s')))^2], nothing after a terminated step (equation 6).

        Of rows from a simulator it is what they are worth: the target is the one thing here that follows the dynamics.
        """
        with torch.no_grad():
            next_value = self.value(batch.next_observation).squeeze(1)
            target = batch.reward + batch.discount * batch.mask * next_value
        q = self.critic(torch.cat([batch.observation, batch.action], dim=1)).squeeze(2)
        loss = batch.mean((q - target).square()).sum()
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    def target_q(self, batch: Prepared) -> Tensor:
        """Shape (B,): the smaller of the two target critics at the logged actions."""
        with torch.no_grad():
            return self.smaller_target(batch.observation, batch.action)

    def update(self, batch: Batch) -> Info:
        """V against the targets, the policy with the new V, Q with the new V, then the targets follow Q."""
        prepared = self.preparation(batch)
        target_q = self.target_q(prepared)
        value_loss, value_info = self.value_loss(prepared, target_q)
        descend(self.optimisers["value"], value_loss)
        actor_rate = self.config.actor_learning_rate or self.config.learning_rate
        self.optimisers["actor"].param_groups[0]["lr"] = cosine(actor_rate, self.step, self.decay_steps)
        policy_info = self.improve(prepared, target_q)
        critic_loss, critic_info = self.critic_loss(prepared)
        descend(self.optimisers["critic"], critic_loss)
        with torch.no_grad():
            for target, online in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                target.lerp_(online, self.config.target_rate)
        self.step += 1
        return value_info | policy_info | critic_info

    def q(self, state: Tensor, action: Tensor, features: Tensor | None = None) -> Tensor:
        """Shape (B,): the smaller target critic, for (B, S), (B, C, A) in the contract's units and (B, F)."""
        with torch.no_grad():
            observation = self.preparation.observation(state, features)
            return self.smaller_target(observation, self.preparation.encode(state, action))

    def smaller_target(self, observation: Tensor, action: Tensor) -> Tensor:
        """min Q_target: (B, O) and (B, D) in network units to (B,)."""
        return self.target(torch.cat([observation, action], dim=1)).squeeze(2).amin(0)


class WeightedRegression(ImplicitQ[P]):
    """The policy clones the data, what was better than V the most."""

    def __init__(
        self,
        config: WeightedRegressionConfig,
        preparation: Preparation,
        seed: int,
        decay_steps: int | None = None,
    ):
        super().__init__(config, preparation, seed, decay_steps)
        self.config = config

    def advantage(self, batch: Prepared, target_q: Tensor) -> Tensor:
        """A = min Q_target(s, a) - V(s), shape (B,)."""
        return target_q - self.value(batch.observation).squeeze(1)

    def weigh(self, batch: Prepared, target_q: Tensor, inverse_temperature: float | Tensor) -> tuple[Tensor, Info]:
        """min(exp(beta A), clip), shape (B,); beta one number, or one for each row."""
        with torch.no_grad():
            advantage = self.advantage(batch, target_q)
            unclipped = (inverse_temperature * advantage).exp()
            weight = unclipped.clamp(max=self.config.weight_clip)
        return weight, {
            "advantage": advantage.mean(),
            "weight_clipped": (unclipped > self.config.weight_clip).float().mean(),
        }


class IQL(WeightedRegression[GaussianPolicy]):
    """The policy clones what was better than V."""

    name: ClassVar[str] = "iql"
    config: IQLConfig

    def make_actor(self) -> GaussianPolicy:
        sizes = self.preparation.observation_size, self.preparation.action_size
        return GaussianPolicy(*sizes, self.config.hidden, self.generator, self.config.dropout)

    def actor_loss(self, batch: Prepared, target_q: Tensor) -> Loss:
        """L_pi = -E[min(exp(beta (min Q_target - V)), clip) log pi(a|s)] (equation 7)."""
        weight, info = self.weigh(batch, target_q, self.config.inverse_temperature)
        log_prob = self.actor.log_prob(batch.observation, batch.action, batch.valid, self.generator)
        loss = -(weight * log_prob).mean()
        return loss, {"actor_loss": loss.detach(), **info, "std": self.actor.std.detach().mean()}

    def improve(self, batch: Prepared, target_q: Tensor) -> Info:
        loss, info = self.actor_loss(batch, target_q)
        descend(self.optimisers["actor"], loss)
        return info
