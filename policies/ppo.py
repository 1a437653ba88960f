"""Proximal policy optimisation (Schulman et al., 2017): the clipped surrogate, advantages, losses on whole episodes."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.algorithm import Algorithm, Info, Loss
from policies.networks import MLP, GaussianPolicy


def clipped_surrogate(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Info]:
    """min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A), rho = pi(a|s) / pi_old(a|s): of equal shapes the same one.

    Both densities have to be of what was drawn. Those of an action that was cut off at its limits belong to no draw,
    and the ratio is biased.
    """
    ratio = (log_prob - old_log_prob).exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return surrogate, {
        "ratio_clipped": ((ratio - 1).abs() > clip).float().detach().mean(),
        "approximate_kl": (ratio - 1 - (log_prob - old_log_prob)).detach().mean(),
    }


def standardised(advantage: Tensor) -> Tensor:
    """With mean 0 and deviation 1 over the last dimension; 0 where they are all the same."""
    centred = advantage - advantage.mean(-1, keepdim=True)
    return centred / (advantage.std(-1, keepdim=True, correction=0) + 1e-8)


def generalised_advantage(
    reward: Tensor, value: Tensor, next_value: Tensor, mask: Tensor, discount: Tensor, decay: float
) -> Tensor:
    """A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V(s_{t+1}) - V(s_t), of one episode: all shapes (T,).

    Nothing follows a step whose `mask` is 0. An episode that time ended has none such: its last step is worth what V
    says of the state that it led to (Schulman et al., 2016; Pardo et al., 2018).
    """
    delta = reward + discount * mask * next_value - value
    advantage, following = torch.empty_like(delta), torch.zeros_like(delta[0])
    for step in reversed(range(len(delta))):
        following = advantage[step] = delta[step] + discount[step] * decay * mask[step] * following
    return advantage


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode of a policy that learns from its own, in network units."""

    observation: Tensor
    """Shape (T, O)."""
    action: Tensor
    """Shape (T, D), as it was drawn, not clipped."""
    log_prob: Tensor
    """Shape (T,): of these, under the policy that drew them."""
    reward: Tensor
    """Shape (T,)."""
    next_observation: Tensor
    """Shape (T, O)."""
    mask: Tensor
    """Shape (T,): 0 where the task terminated."""
    discount: Tensor
    """Shape (T,)."""

    def __len__(self) -> int:
        return len(self.reward)


class OnPolicy(Algorithm[GaussianPolicy]):
    """Learns online from whole episodes of its policy as it is, which are of no use any more afterwards."""

    @property
    @abstractmethod
    def episode_steps(self) -> int:
        """How many steps of its episodes it wants to learn from at once, at least."""

    @abstractmethod
    def learn_from(self, trajectories: Sequence[Trajectory]) -> Info:
        """Improve on episodes of the policy as it is."""

    def draw(self, state: Tensor, features: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What `act` would draw, not clipped, with its log densities: states and (B, F) to (B, D) and (B,)."""
        with torch.no_grad():
            observation = self.preparation.observation(state, features)
            drawn = self.actor.sample(observation, generator)
            return drawn, self.actor.log_prob(observation, drawn, torch.ones_like(drawn))


@dataclass(frozen=True, slots=True)
class Rows:
    """Steps of all trajectories, ready for the losses."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    """Shape (N,), standardised over all of them."""
    target: Tensor
    """Shape (N,): what V is to say."""


def rows_of(trajectories: Sequence[Trajectory], value: MLP, decay: float) -> Rows:
    """Advantages and targets by V as it is now; targets are advantage + V, the lambda-return."""
    advantages, targets = [], []
    with torch.no_grad():
        for each in trajectories:
            now, then = (value(side).squeeze(1) for side in (each.observation, each.next_observation))
            advantage = generalised_advantage(each.reward, now, then, each.mask, each.discount, decay)
            advantages.append(advantage)
            targets.append(advantage + now)
    observation, action, log_prob = (
        torch.cat([getattr(each, name) for each in trajectories]) for name in ("observation", "action", "log_prob")
    )
    return Rows(observation, action, log_prob, standardised(torch.cat(advantages)), torch.cat(targets))


def policy_loss(actor: GaussianPolicy, rows: Rows, index: Tensor, clip: float, entropy_weight: float) -> Loss:
    """-E[clipped surrogate] - entropy weight * entropy."""
    action = rows.action[index]
    log_prob = actor.log_prob(rows.observation[index], action, torch.ones_like(action))
    surrogate, info = clipped_surrogate(log_prob, rows.log_prob[index], rows.advantage[index], clip)
    entropy = (actor.std.log() + 0.5 * math.log(2 * math.pi * math.e)).sum()
    loss = -surrogate.mean() - entropy_weight * entropy
    return loss, {"policy_loss": loss.detach(), "entropy": entropy.detach(), **info}


def value_loss(value: MLP, rows: Rows, index: Tensor) -> Loss:
    """E[(V(s) - lambda-return)^2]. Not clipped: how far V may go at once would depend on the size of the rewards."""
    estimate = value(rows.observation[index]).squeeze(1)
    loss = (estimate - rows.target[index]).square().mean()
    return loss, {"value_loss": loss.detach(), "value": estimate.detach().mean()}


def descend_clipped(optimiser: torch.optim.Optimizer, loss: Tensor, module: nn.Module, largest: float) -> None:
    """One step down the loss with a gradient of at most this norm."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), largest)
    optimiser.step()
