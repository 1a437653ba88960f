"""FamO2O (Wang et al., 2023): a family of policies from imitation to improvement, and who says which, per state.

Over IQL. The family is ordered by the balance coefficient beta of the advantage-weighted regression: 0 clones the data,
a large one trusts the advantage. Chosen is what the critics think most of.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from episodes.errors import InputError
from policies.algorithm import Info, Loss, adam, descend
from policies.iql import WeightedRegression, WeightedRegressionConfig
from policies.networks import LOG_STD_RANGE, MLP, GaussianPolicy, PolicyNetwork, frozen, log_slope_of_tanh
from policies.preparation import Preparation, Prepared
from policies.soft_actor_critic import Temperature

ENCODING_SIZE, ENCODING_BASE = 6, 10_000.0
"""d and n of the encoding, as published."""

Coefficient = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class FamO2OConfig(WeightedRegressionConfig):
    """Published values: coefficients of 1 to 5 for locomotion, 8 to 14 for antmaze."""

    coefficient_range: tuple[Coefficient, Coefficient] = (1.0, 5.0)
    """Of the balance coefficient beta: the family's ends. Where `weight_clipped` is above a tenth, the upper one is too
    large for these rewards: weights at the clip tell good from better no more."""
    initial_temperature: Annotated[float, Field(gt=0)] = 1.0
    """alpha of the balance model's entropy."""
    target_entropy: float = -0.5
    """Of the balance model, for a coefficient that is measured in half ranges: from -1 to 1."""


def encode(coefficient: Tensor) -> Tensor:
    """[sin(beta / n^(2 i / d)), cos(beta / n^(2 i / d))], i = 0, 1, ..., d / 2 - 1: shape (B,) to (B, d)."""
    order = torch.arange(ENCODING_SIZE // 2, dtype=coefficient.dtype, device=coefficient.device)
    angle = coefficient.unsqueeze(1) / ENCODING_BASE ** (2 * order / ENCODING_SIZE)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class BalanceModel(nn.Module):
    """pi_b(beta|s): the tanh of a Normal, stretched over the range; its standard deviation the same in every state."""

    def __init__(
        self, observation_size: int, hidden: Sequence[int], low: float, high: float, generator: torch.Generator
    ):
        super().__init__()
        self.low, self.high = low, high
        self.trunk = MLP([observation_size, *hidden, 1], generator)
        self.log_std = nn.Parameter(torch.zeros(1))

    def mean(self, observation: Tensor) -> Tensor:
        """(B, O) to (B,): the coefficient where nothing is left to chance."""
        return self._stretched(torch.tanh(self.trunk(observation).squeeze(1)))

    def draw(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients that follow the parameters, and log densities: (B, O) and standard normal (B,) to twice (B,).

        The density is of the coefficient measured in half ranges, from -1 to 1: what the target entropy is meant for.
        """
        log_std = self.log_std.clamp(*LOG_STD_RANGE)
        raw = self.trunk(observation).squeeze(1) + log_std.exp() * noise
        log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return self._stretched(torch.tanh(raw)), log_normal - log_slope_of_tanh(raw)

    def _stretched(self, x: Tensor) -> Tensor:
        """[-1, 1] to [low, high]."""
        return self.low + (x + 1) / 2 * (self.high - self.low)


class FamilyPolicy(PolicyNetwork):
    """The universal policy pi_u(a|s, beta), acting with the coefficient that the balance model chooses in a state."""

    def __init__(self, family: GaussianPolicy, balance: BalanceModel):
        super().__init__()
        self.family = family
        """Sees the observation and the encoded coefficient."""
        self.balance = balance

    def given(self, observation: Tensor, coefficient: Tensor) -> Tensor:
        """What the family sees: (B, O) and (B,) to (B, O + d)."""
        return torch.cat([observation, encode(coefficient)], dim=1)

    def mean(self, observation: Tensor) -> Tensor:
        return self.family.mean(self.given(observation, self.balance.mean(observation)))

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """(B, O) to (B, D), not clipped; the coefficient is never left to chance where somebody acts."""
        return self.family.sample(self.given(observation, self.balance.mean(observation)), generator)


class FamO2O(WeightedRegression[FamilyPolicy]):
    """Offline the family learns with coefficients from all of its range; online with those that are chosen per state.

    The balance model learns from the first update on, so that it knows the critics when the choice becomes its own.
    """

    name: ClassVar[str] = "famo2o"
    config: FamO2OConfig

    def __init__(self, config: FamO2OConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        low, high = config.coefficient_range
        if not low < high:
            raise InputError(f"coefficient_range [{low:g}, {high:g}]: expected the smaller coefficient first")
        super().__init__(config, preparation, seed, decay_steps)
        self.temperature = Temperature(config.initial_temperature)
        self.modules["temperature"] = self.temperature
        # The balance model has a loss of its own, so that the actor is not learned as a whole.
        rate = config.learning_rate
        self.optimisers["actor"] = adam(list(self.actor.family.parameters()), rate)
        self.optimisers["balance"] = adam(list(self.actor.balance.parameters()), rate)
        self.optimisers["temperature"] = adam(list(self.temperature.parameters()), rate)
        self.online = False
        """Whether the family learns with the coefficients that are chosen, and no more with any of the range."""

    def make_actor(self) -> FamilyPolicy:
        config, observation = self.config, self.preparation.observation_size
        sizes = observation + ENCODING_SIZE, self.preparation.action_size
        family = GaussianPolicy(*sizes, config.hidden, self.generator, config.dropout)
        return FamilyPolicy(
            family, BalanceModel(observation, config.hidden, *config.coefficient_range, generator=self.generator)
        )

    def go_online(self) -> None:
        super().go_online()
        self.online = True

    def balance_loss(self, batch: Prepared) -> Loss:
        """L_b = E[alpha log pi_b(beta|s) - min Q_target(s, a)], beta ~ pi_b(.|s), a ~ pi_u(.|s, beta).

        The gradient goes through what the family is given; the family itself stays as it is.
        """
        coefficient, log_prob = self.actor.balance.draw(batch.observation, self._noise(batch))
        with frozen(self.actor.family):
            action = self.actor.family.sample(self.actor.given(batch.observation, coefficient), self.generator)
        # Judged is what would be sent: the critics know of no action beyond the limits.
        q = self.smaller_target(batch.observation, action.clamp(-1, 1))
        loss = (self.temperature.value.detach() * log_prob - q).mean()
        with torch.no_grad():
            chosen = self.actor.balance.mean(batch.observation)
        return loss, {
            "balance_loss": loss.detach(),
            "balance_entropy": -log_prob.detach().mean(),
            "coefficient": chosen.mean(),
            "coefficient_spread": chosen.std(correction=0),
        }

    def temperature_loss(self, entropy: Tensor) -> Loss:
        """L_alpha = alpha (entropy - target): a balance model with less entropy than that makes alpha rise."""
        loss = self.temperature.value * (entropy - self.config.target_entropy)
        return loss, {"balance_temperature": self.temperature.value.detach()}

    def draw_coefficient(self, batch: Prepared) -> Tensor:
        """Shape (B,): what the family learns with, uniform offline and from the balance model online."""
        with torch.no_grad():
            if self.online:
                return self.actor.balance.draw(batch.observation, self._noise(batch))[0]
            low, high = self.config.coefficient_range
            uniform = torch.rand(len(batch.observation), generator=self.generator).to(batch.observation)
            return low + uniform * (high - low)

    def actor_loss(self, batch: Prepared, target_q: Tensor, coefficient: Tensor) -> Loss:
        """L_u = -E[min(exp(beta (min Q_target - V)), clip) log pi_u(a|s, beta)]."""
        weight, info = self.weigh(batch, target_q, coefficient)
        given = self.actor.given(batch.observation, coefficient)
        log_prob = self.actor.family.log_prob(given, batch.action, batch.valid, self.generator)
        loss = -(weight * log_prob).mean()
        return loss, {"actor_loss": loss.detach(), **info, "std": self.actor.family.std.detach().mean()}

    def improve(self, batch: Prepared, target_q: Tensor) -> Info:
        """The balance model, its temperature, then the family."""
        balance_loss, balance_info = self.balance_loss(batch)
        descend(self.optimisers["balance"], balance_loss)
        temperature_loss, temperature_info = self.temperature_loss(balance_info["balance_entropy"])
        descend(self.optimisers["temperature"], temperature_loss)
        actor_loss, actor_info = self.actor_loss(batch, target_q, self.draw_coefficient(batch))
        descend(self.optimisers["actor"], actor_loss)
        return balance_info | temperature_info | actor_info

    def coefficient(self, state: Tensor, features: Tensor | None = None) -> Tensor:
        """Shape (B,): what is chosen in states of the contract's units, (B, S), with features, (B, F)."""
        with torch.no_grad():
            return self.actor.balance.mean(self.preparation.observation(state, features))

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"online": torch.tensor(self.online)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.online = bool(state["online"])

    def _noise(self, batch: Prepared) -> Tensor:
        return torch.randn(len(batch.observation), generator=self.generator).to(batch.observation)
