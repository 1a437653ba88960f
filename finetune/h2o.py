"""Where a simulator is not like the robot, and what its transitions are worth there: the dynamics gap of H2O (Niu et
al., 2022), by the two discriminators of DARC (Eysenbach et al., 2021).

One tells real from simulated by (s, a), the other by (s, a, s'). What the second knows beyond the first is how likely
s' is in either dynamics, P_real(s'|s, a) / P_sim(s'|s, a): wherever the two sources have been is taken out of it.
"""

from dataclasses import dataclass, fields
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from episodes.transitions import Batch, MixedBatch
from episodes.typed import STRICT
from policies.algorithm import Info, Loss, adam, below, cpu, descend, learned, preparation_in, restore_learned
from policies.networks import MLP
from policies.preparation import Preparation, Prepared

Positive = Annotated[float, Field(gt=0)]

LOGIT = 2.0
"""Largest logit that either network gives of itself, as published: one that separates the sources without doubt would
leave no weight on any simulated row."""
LEAST_GAP = float(torch.finfo(torch.float32).tiny)
"""Published is 1e-45, which is no normal number in this precision and nothing at all where such are flushed to zero."""
MOST_GAP = 10.0
LEAST_WEIGHT, MOST_WEIGHT = 1e-5, 1.0


@dataclass(frozen=True, slots=True)
class GapConfig:
    """Published values."""

    __pydantic_config__ = STRICT

    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (256, 256)
    learning_rate: Positive = 3e-4
    input_noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of what is added to all that the discriminators learn from, so that they stay in doubt; in
    the real log's own deviations, and for actions in half their range."""
    next_state_noise: Annotated[float, Field(ge=0)] = 1.0
    """Standard deviation of the next states that a gap is estimated over, in the real log's own deviations."""
    next_states: Annotated[int, Field(gt=0)] = 10


class Discriminator(nn.Module):
    """(B, in) to (B,): the logit of being real, and not simulated.

    The two-way softmax of the paper depends on the difference of its two bounded outputs alone, which is this.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.network = MLP([inputs, *hidden, 2], generator)
        # It begins in doubt. A tanh at its end to begin with, as rows far from the log have it, would learn nothing.
        with torch.no_grad():
            self.network.linear_layers[-1].weight *= 0.01

    def forward(self, x: Tensor) -> Tensor:
        real, simulated = (LOGIT * torch.tanh(self.network(x))).unbind(1)
        return real - simulated


class DynamicsGap:
    """Learns to tell a simulator's dynamics from the real ones, and weighs simulated rows by that.

    Args:
        preparation: of the real rows alone, which it standardises by.
    """

    def __init__(self, config: GapConfig, preparation: Preparation, seed: int):
        self.config, self.preparation = config, preparation
        self.generator = torch.Generator().manual_seed(seed)
        pair = preparation.observation_size + preparation.action_size
        self.of_pair = Discriminator(pair, config.hidden, self.generator)
        self.of_triple = Discriminator(pair + preparation.observation_size, config.hidden, self.generator)
        self.modules: dict[str, nn.Module] = {"of_pair": self.of_pair, "of_triple": self.of_triple}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            name: adam(list(module.parameters()), config.learning_rate) for name, module in self.modules.items()
        }

    def pair_loss(self, pair: Tensor, simulated: Tensor, known: Tensor) -> Loss:
        """L_sa = -E_real[log p(real|s, a)] - E_sim[log p(sim|s, a)], over the rows that are known."""
        return _telling_loss(self.of_pair(pair), simulated, known, "pair")

    def triple_loss(self, pair: Tensor, following: Tensor, simulated: Tensor, known: Tensor) -> Loss:
        """L_sas, the same of (s, a, s'): its logits stand on those of (s, a), which do not learn from it."""
        of_pair = self.of_pair(pair).detach()
        of_triple = self.of_triple(torch.cat([pair, following], dim=1))
        return _telling_loss(of_pair + of_triple, simulated, known, "triple")

    def update(self, batch: Batch, simulated: Tensor) -> Info:
        """One step of both discriminators.

        Where the task terminated nothing is learned: the log may not have the state behind that.

        Args:
            simulated: (B,), bool: the rows that are not real.
        """
        rows = self.preparation(batch)
        pair, following = self._noisy(_pair(rows)), self._noisy(rows.next_observation)
        known = rows.mask > 0
        triple_loss, triple_info = self.triple_loss(pair, following, simulated, known)
        pair_loss, pair_info = self.pair_loss(pair, simulated, known)
        descend(self.optimisers["of_pair"], pair_loss)
        descend(self.optimisers["of_triple"], triple_loss)
        return pair_info | triple_info

    def log_ratio(self, batch: Batch) -> Tensor:
        """log P_real(s'|s, a) / P_sim(s'|s, a), shape (B,).

        log of p_sas(real) p_sa(sim) / (p_sas(sim) p_sa(real)): of the logits of (s, a, s'), which are the sum of both
        networks', those of (s, a) are taken away again.
        """
        return self._log_ratio_of(self.preparation(batch))

    def gap(self, batch: Batch) -> Tensor:
        """u(s, a), shape (B,): an estimate of the divergence of the simulated dynamics from the real ones [nats].

        The mean of log P_sim / P_real over normally distributed states about the next one, as published; within
        `LEAST_GAP` and `MOST_GAP`.
        """
        return self._gap_of(self.preparation(batch))

    def _gap_of(self, rows: Prepared) -> Tensor:
        count = self.config.next_states
        shape = count, *rows.next_observation.shape
        noise = torch.randn(shape, generator=self.generator).to(rows.next_observation)
        # The preparation has standardised by the real rows: their deviation is the unit.
        about = (rows.next_observation + self.config.next_state_noise * noise).flatten(0, 1)
        pair = _pair(rows).repeat(count, 1)
        mean = -self._log_ratio(pair, about).unflatten(0, (count, -1)).mean(0)
        return mean.clamp(LEAST_GAP, MOST_GAP)

    def weigh(self, batch: Batch, simulated: Tensor) -> tuple[MixedBatch, Info]:
        """The batch with its simulated rows' weights, clip(P_real / P_sim, 1e-5, 1), and gaps.

        Nothing is known about rows where the task terminated: they count in full, and have no gap.
        """
        rows = self.preparation(batch)
        ratio = self._log_ratio_of(rows).exp()
        known = simulated & (batch.mask > 0)
        weight = torch.where(known, ratio.clamp(LEAST_WEIGHT, MOST_WEIGHT), torch.ones_like(ratio))
        # Ten next states for every row are most of the work, and real rows need none.
        gap = torch.full_like(ratio, LEAST_GAP)
        gap[known] = self._gap_of(rows.at(known))
        columns = {item.name: getattr(batch, item.name) for item in fields(Batch)}
        count = known.sum().clamp(min=1)
        clipped = known & ((ratio < LEAST_WEIGHT) | (ratio > MOST_WEIGHT))
        return MixedBatch(**columns, simulated=simulated, weight=weight, gap=gap), {
            "simulated_weight": (weight * known).sum() / count,
            "simulated_weight_clipped": clipped.sum() / count,
            "dynamics_gap": (gap * known).sum() / count,
        }

    def to(self, device: torch.device) -> "DynamicsGap":
        """Move networks and preparation to a device, in place; before the first update, or after `load_state_dict`."""
        self.preparation = self.preparation.to(device)
        for module in self.modules.values():
            module.to(device)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as tensors on the CPU."""
        state = {f"preparation/{name}": tensor for name, tensor in self.preparation.tensors().items()}
        state["generator"] = self.generator.get_state()
        return cpu(state | learned(self.modules, self.optimisers))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`; the preparation is given at construction."""
        self.generator.set_state(state["generator"])
        restore_learned(self.modules, self.optimisers, state)

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "DynamicsGap":
        """As it was saved; to be asked, not to be gone on with."""
        layers = below(state, "module/of_pair/network.layers.")
        # In the order that the layers have: a state's names may come in any.
        biases = {int(name.split(".")[0]): tensor for name, tensor in layers.items() if name.endswith("bias")}
        widths = tuple(len(biases[layer]) for layer in sorted(biases)[:-1])
        made = cls(GapConfig(hidden=widths), preparation_in(state), seed=0)
        made.load_state_dict(state)
        return made

    def _noisy(self, table: Tensor) -> Tensor:
        noise = torch.randn(table.shape, generator=self.generator).to(table)
        return table + self.config.input_noise * noise

    def _log_ratio_of(self, rows: Prepared) -> Tensor:
        return self._log_ratio(_pair(rows), rows.next_observation)

    def _log_ratio(self, pair: Tensor, following: Tensor) -> Tensor:
        with torch.no_grad():
            return self.of_triple(torch.cat([pair, following], dim=1))


def _pair(rows: Prepared) -> Tensor:
    return torch.cat([rows.observation, rows.action], dim=1)


def _telling_loss(logit: Tensor, simulated: Tensor, known: Tensor, name: str) -> Loss:
    """Cross entropy, the mean over real rows plus that over simulated ones: neither source counts more for its size."""
    of_real, of_simulated = known & ~simulated, known & simulated
    real = (softplus(-logit) * of_real).sum() / of_real.sum().clamp(min=1)
    fake = (softplus(logit) * of_simulated).sum() / of_simulated.sum().clamp(min=1)
    loss = real + fake
    return loss, {f"discriminator_{name}_loss": loss.detach()}
