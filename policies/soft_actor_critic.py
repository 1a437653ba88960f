"""Soft actor-critic (Haarnoja et al., 2018), the learner below those that go on from it; each is a file of its own."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from episodes.errors import InputError
from episodes.transitions import Batch
from episodes.typed import STRICT
from policies.algorithm import Algorithm, Info, Loss, adam, descend
from policies.networks import LOG_STD_RANGE, EnsembleMLP, GaussianPolicy, SquashedGaussianPolicy, frozen
from policies.preparation import Preparation, Prepared

Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class SoftConfig:
    """What all of them are told."""

    __pydantic_config__ = STRICT

    learning_rate: Rate = 3e-4
    actor_learning_rate: Rate | None = None
    """Of the policy; `learning_rate` where None."""
    hidden: tuple[Count, ...] = (256, 256)
    critics: Annotated[int, Field(ge=2)] = 2
    critic_subset: Annotated[int, Field(ge=1)] = 2
    """Of the target critics, drawn anew for every update: the smallest of these is backed up."""
    layer_norm: bool = False
    """In the critics."""
    target_rate: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Of the exponential moving average that the target critics are."""
    entropy_backup: bool = False
    """Whether the policy's entropy is part of what a state is worth. Where a success ends the task and every step until
    then costs something, it pays for not succeeding: published for locomotion, and off for sparse rewards."""
    initial_temperature: Rate = 1.0
    target_entropy: float | None = None
    """That the temperature is tuned to; where None minus the action's numbers."""
    updates_per_actor_update: Count = 1
    """Critics learn in every update, policy and temperature in one of so many."""
    actor_warm_up: Annotated[int, Field(ge=0)] = 0
    """Updates in which critics learn alone: what they say of a policy that is there already has to mean something."""
    warm_up_on_returns: bool = False
    """Whether meanwhile they learn what the data went on to earn, and back up nothing: critics that know nothing are as
    far from the truth after n bootstrapped updates as exp(-n target_rate (1 - discount)) of where they began."""


class Temperature(nn.Module):
    """alpha, what a nat of entropy is worth, by its logarithm."""

    def __init__(self, initial: float):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(log(initial)))

    @property
    def value(self) -> Tensor:
        return self.log.exp()


class SoftActorCritic(Algorithm[SquashedGaussianPolicy]):
    """Critics back up their own smallest target, the policy climbs them, the temperature keeps it from settling."""

    learns_online: ClassVar[bool] = True
    online_settings: ClassVar[frozenset[str]] = frozenset({"entropy_backup", "updates_per_actor_update"})
    entropy_per_number: ClassVar[float] = 1.0
    """Of an action, that the temperature is tuned to where nobody says otherwise, with a minus."""
    start_settings: ClassVar[Mapping[str, Any]] = {"initial_temperature": 0.05, "actor_warm_up": 3000}
    """Else a policy to start from would be forgotten before the critics, which know nothing of it, can tell."""

    def __init__(self, config: SoftConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        super().__init__(config, preparation, seed, decay_steps)
        if config.critic_subset > config.critics:
            raise InputError(f"critic_subset {config.critic_subset}: there are {config.critics} critics")
        observation, action = preparation.observation_size, preparation.action_size
        self.actor = SquashedGaussianPolicy(observation, action, config.hidden, self.generator)
        self.critic = EnsembleMLP(
            [observation + action, *config.hidden, 1], config.critics, self.generator, layer_norm=config.layer_norm
        )
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.temperature = Temperature(config.initial_temperature)
        given = config.target_entropy
        self.target_entropy = -action * self.entropy_per_number if given is None else given
        self.modules = {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "temperature": self.temperature,
        }
        self.optimisers = {
            name: adam(list(self.modules[name].parameters()), rate)
            for name, rate in (
                ("critic", config.learning_rate),
                ("actor", config.actor_learning_rate or config.learning_rate),
                ("temperature", config.learning_rate),
            )
        }

    def start_from(self, pretrained: Algorithm) -> None:
        """Begin with another learner's policy: with its mean, and its spread as it is around an action of 0.

        Raises:
            InputError: where its policy is of a kind that nothing else starts from, or its layers have other sizes.
        """
        policy = pretrained.actor
        if not isinstance(policy, GaussianPolicy | SquashedGaussianPolicy):
            raise InputError(
                f"the policy of {pretrained.name!r} is of a kind that nothing else starts from; give from_policy=false"
            )
        if isinstance(policy, SquashedGaussianPolicy):
            own, other = self.actor.state_dict(), policy.state_dict()
            _check_sizes([tensor.shape for tensor in own.values()], [tensor.shape for tensor in other.values()])
            self.actor.load_state_dict(other)
            return
        layers, others = self.actor.trunk.linear_layers, policy.trunk.linear_layers
        outputs = self.preparation.action_size
        _check_sizes(
            [layer.weight.shape for layer in layers[:-1]] + [layers[-1].weight[:outputs].shape],
            [layer.weight.shape for layer in others],
        )
        for layer, other in zip(layers[:-1], others[:-1], strict=True):
            layer.load_state_dict(other.state_dict())
        with torch.no_grad():
            layers[-1].weight[:outputs] = others[-1].weight
            layers[-1].bias[:outputs] = others[-1].bias
            layers[-1].weight[outputs:] = 0
            layers[-1].bias[outputs:] = policy.log_std.clamp(*LOG_STD_RANGE)

    def target_value(self, batch: Prepared) -> Tensor:
        """Shape (B,): the smallest of a few target critics where the policy would go next, and its entropy there."""
        with torch.no_grad():
            action, log_prob = self.actor.draw(batch.next_observation, self._noise(batch))
            chosen = torch.randperm(self.config.critics, generator=self.generator)[: self.config.critic_subset]
            q = self._q(self.target, batch.next_observation, action)[chosen].amin(0)
            return q - self.temperature.value * log_prob if self.config.entropy_backup else q

    def temporal_difference(self, batch: Prepared, q: Tensor) -> Tensor:
        """sum_i E[(Q_i(s, a) - (r + gamma Q'(s', a')))^2]; `q` has shape (M, B)."""
        return batch.mean(self.squared_differences(batch, q)).sum()

    def squared_differences(self, batch: Prepared, q: Tensor) -> Tensor:
        """(Q_i(s, a) - (r + gamma Q'(s', a')))^2, nothing after a terminated step: shape (M, B), as `q` has."""
        if self.config.warm_up_on_returns and self.step < self.config.actor_warm_up:
            return (q - batch.return_to_go).square()
        target = batch.reward + batch.discount * batch.mask * self.target_value(batch)
        return (q - target).square()

    @abstractmethod
    def critic_loss(self, batch: Prepared) -> Loss:
        """What the critics learn from."""

    @abstractmethod
    def worth(self, q: Tensor) -> Tensor:
        """What the policy climbs, shape (B,), of what all critics say, (M, B)."""

    def actor_loss(self, batch: Prepared) -> Loss:
        """L_pi = E[alpha log pi(a|s) - Q(s, a)], a ~ pi."""
        action, log_prob = self.actor.draw(batch.observation, self._noise(batch))
        with frozen(self.critic):
            worth = self.worth(self._q(self.critic, batch.observation, action))
        loss = (self.temperature.value.detach() * log_prob - worth).mean()
        return loss, {"actor_loss": loss.detach(), "entropy": -log_prob.detach().mean(), "worth": worth.detach().mean()}

    def temperature_loss(self, entropy: Tensor) -> Loss:
        """L_alpha = alpha (entropy - target): a policy with less entropy than that makes alpha rise."""
        loss = self.temperature.value * (entropy - self.target_entropy)
        return loss, {"temperature": self.temperature.value.detach()}

    def update(self, batch: Batch) -> Info:
        """The critics, then their targets, then now and then the policy and the temperature."""
        prepared = self.preparation(batch)
        loss, info = self.critic_loss(prepared)
        descend(self.optimisers["critic"], loss)
        with torch.no_grad():
            for target, online in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                target.lerp_(online, self.config.target_rate)
        self.step += 1
        if self.step > self.config.actor_warm_up and self.step % self.config.updates_per_actor_update == 0:
            rate = self.config.actor_learning_rate or self.config.learning_rate
            self.optimisers["actor"].param_groups[0]["lr"] = rate
            actor_loss, actor_info = self.actor_loss(prepared)
            descend(self.optimisers["actor"], actor_loss)
            temperature_loss, temperature_info = self.temperature_loss(actor_info["entropy"])
            descend(self.optimisers["temperature"], temperature_loss)
            info |= actor_info | temperature_info
        return info

    def q(self, state: Tensor, action: Tensor, features: Tensor | None = None) -> Tensor:
        """Shape (B,): the smallest target critic, for (B, S), (B, C, A) in the contract's units and (B, F)."""
        with torch.no_grad():
            observation = self.preparation.observation(state, features)
            return self._q(self.target, observation, self.preparation.encode(state, action)).amin(0)

    def _q(self, critic: EnsembleMLP, observation: Tensor, action: Tensor) -> Tensor:
        """(B, O) and (B, D) to (M, B)."""
        return critic(torch.cat([observation, action], dim=1)).squeeze(2)

    def _noise(self, batch: Prepared, *times: int) -> Tensor:
        shape = (*times, *batch.action.shape)
        return torch.randn(shape, generator=self.generator).to(batch.action.device)


def _check_sizes(own: list[torch.Size], other: list[torch.Size]) -> None:
    if own != other:
        sizes = [tuple(shape) for shape in other]
        raise InputError(f"the policy to start from has layers {sizes}, and here they are {[tuple(s) for s in own]}")
