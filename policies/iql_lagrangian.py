"""IQL under a Lagrange multiplier: as much reward as an expected cost leaves room for.

The usual way to learn under a constraint, to compare with: a multiplier weighs the cost's advantage against the
reward's, and rises while the policy's expected cost is above its limit (as BCQ-Lag and BEAR-Lag of Liu et al., 2023,
with IQL in the place of BCQ and BEAR). What is limited is a mean: unlike FISOR it knows of no state in which nothing
may happen.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from policies.algorithm import Info, Loss, adam, descend
from policies.iql import IQL, IQLConfig
from policies.networks import MLP, EnsembleMLP
from policies.preparation import Preparation, Prepared, costs_of


@dataclass(frozen=True, slots=True)
class LagrangianIQLConfig(IQLConfig):
    cost_limit: Annotated[float, Field(ge=0)] = 0.1
    """Of the expected discounted number of steps that lead into a violation."""
    multiplier_rate: Annotated[float, Field(gt=0)] = 0.01
    """By how much the multiplier moves per update and unit of cost beyond the limit."""
    most_multiplier: Annotated[float, Field(gt=0)] = 100.0


class Multiplier(nn.Module):
    """lambda >= 0, which no gradient reaches."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))


class LagrangianIQL(IQL):
    """The policy clones what was better than V, less lambda times what was more costly than V_c."""

    name: ClassVar[str] = "iql_lagrangian"
    needs_costs: ClassVar[bool] = True
    learns_online: ClassVar[bool] = False

    def __init__(
        self, config: LagrangianIQLConfig, preparation: Preparation, seed: int, decay_steps: int | None = None
    ):
        super().__init__(config, preparation, seed, decay_steps)
        self.constraint = config
        """The same, for what IQL is not told."""
        observation, action = preparation.observation_size, preparation.action_size
        self.cost_critic = EnsembleMLP([observation + action, *config.hidden, 1], 2, self.generator)
        self.cost_target = copy.deepcopy(self.cost_critic).requires_grad_(False)
        self.cost_value = MLP([observation, *config.hidden, 1], self.generator)
        self.multiplier = Multiplier()
        learned = {"cost_critic": self.cost_critic, "cost_value": self.cost_value}
        self.modules |= learned | {"cost_target": self.cost_target, "multiplier": self.multiplier}
        self.optimisers |= {
            name: adam(list(module.parameters()), config.learning_rate) for name, module in learned.items()
        }

    def larger_cost(self, observation: Tensor, action: Tensor) -> Tensor:
        """max Q_c,target: (B, O) and (B, D) in network units to (B,)."""
        return self.cost_target(torch.cat([observation, action], dim=1)).squeeze(2).amax(0)

    def cost_value_loss(self, batch: Prepared, target_q_c: Tensor) -> Loss:
        """L_Vc = E[(max Q_c,target(s, a) - V_c(s))^2]."""
        value = self.cost_value(batch.observation).squeeze(1)
        loss = (target_q_c - value).square().mean()
        return loss, {"cost_value_loss": loss.detach(), "cost_value": value.detach().mean()}

    def cost_critic_loss(self, batch: Prepared) -> Loss:
        """L_Qc = sum_i E[(Q_c,i(s, a) - (c + gamma V_c(s')))^2], c 1 where the step led into a violation, else 0."""
        with torch.no_grad():
            following = self.cost_value(batch.next_observation).squeeze(1)
            target = (costs_of(batch, self.name) > 0).float() + batch.discount * batch.mask * following
        q = self.cost_critic(torch.cat([batch.observation, batch.action], dim=1)).squeeze(2)
        loss = batch.mean((q - target).square()).sum()
        return loss, {"cost_critic_loss": loss.detach()}

    def advantage(self, batch: Prepared, target_q: Tensor) -> Tensor:
        """(A_r - lambda A_c) / (1 + lambda), A_c = max Q_c,target - V_c: shape (B,)."""
        costly = self.larger_cost(batch.observation, batch.action) - self.cost_value(batch.observation).squeeze(1)
        weight = self.multiplier.value
        return (super().advantage(batch, target_q) - weight * costly) / (1 + weight)

    def raise_multiplier(self, batch: Prepared) -> Info:
        """lambda <- clip(lambda + rate (E[max Q_c,target(s, pi(s))] - limit), 0, most)."""
        with torch.no_grad():
            expected = self.larger_cost(batch.observation, self.actor.mean(batch.observation).clamp(-1, 1)).mean()
            moved = self.multiplier.value + self.constraint.multiplier_rate * (expected - self.constraint.cost_limit)
            self.multiplier.value.copy_(moved.clamp(0, self.constraint.most_multiplier))
        return {"expected_cost": expected, "multiplier": self.multiplier.value.clone()}

    def improve(self, batch: Prepared, target_q: Tensor) -> Info:
        """V_c, the policy with the new values, Q_c and its targets, then the multiplier by what the policy now does."""
        with torch.no_grad():
            target_q_c = self.larger_cost(batch.observation, batch.action)
        value_loss, value_info = self.cost_value_loss(batch, target_q_c)
        descend(self.optimisers["cost_value"], value_loss)
        policy_info = super().improve(batch, target_q)
        critic_loss, critic_info = self.cost_critic_loss(batch)
        descend(self.optimisers["cost_critic"], critic_loss)
        with torch.no_grad():
            for target, online in zip(self.cost_target.parameters(), self.cost_critic.parameters(), strict=True):
                target.lerp_(online, self.config.target_rate)
        return value_info | policy_info | critic_info | self.raise_multiplier(batch)
