"""The reward model of RL-VLM-F (Wang et al., 2024): a Bradley-Terry ensemble on single frames.

For a pair of frames with label y, the index of the better one,

    P(1 > 0) = exp r(1) / (exp r(0) + exp r(1)),    L_r = sum over members m of CE([r_m(0), r_m(1)], y).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from episodes.errors import InputError
from episodes.typed import STRICT
from rewards.inputs import Inputs

ROUND = 25
"""Updates between two looks at the held-out pairs."""


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """What the ensemble looks at and how it learns."""

    __pydantic_config__ = STRICT

    inputs: Literal["features", "state", "pixels"] = "features"
    """Frozen image features, the state vector, or the frames themselves through the published convolutions."""
    members: Annotated[int, Field(gt=0)] = 3
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (256,)
    """Widths of the head on features or states; the convolutions have one linear layer after them, as published."""
    bounded: bool = True
    """A tanh at the end, as the published CNN has; the published ResNet has none."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1.0
    """Decoupled. A fifth of a judge's answers may be wrong: with little decay they are learned by heart."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    batch_size: Annotated[int, Field(gt=0)] = 256
    updates: Annotated[int, Field(gt=0)] = 800
    """At most, of each member."""
    patience: Annotated[int, Field(gt=0)] = 12
    """Looks at the held-out pairs without an improvement after which a member stops. (Published: a training accuracy of
    0.97, which with wrong answers among the pairs is only reached by learning them by heart.)"""
    seed: Annotated[int, Field(ge=0)] = 0


class RewardEnsemble(nn.Module):
    """Several networks, each from its own beginning, that give every frame a number."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: RewardConfig, shape: tuple[int, ...], mean: Tensor, std: Tensor):
        """`mean` and `std` standardise inputs of this shape; they are part of the network from here on."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            make = _convolutions if config.inputs == "pixels" else _head
            self.members = nn.ModuleList(make(shape, config) for _ in range(config.members))
        self.bounded = config.bounded
        self.shape = shape
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Rewards of B frames by each member: (B, ...) to (members, B)."""
        return torch.stack([self.one(number, inputs) for number in range(len(self.members))])

    def one(self, number: int, inputs: Tensor) -> Tensor:
        """Rewards of B frames by one member: shape (B,)."""
        value = self.members[number]((inputs.float() - self.mean) / self.std).squeeze(-1)
        return value.tanh() if self.bounded else value


def preference_loss(first: Tensor, second: Tensor, better: Tensor) -> Tensor:
    """One member's part of L_r: rewards of both frames and the index of the better one, shape (B,) each."""
    return functional.cross_entropy(torch.stack([first, second], dim=1), better)


def _head(shape: tuple[int, ...], config: RewardConfig) -> nn.Module:
    """LeakyReLU layers, as the published reward on states has."""
    layers: list[nn.Module] = []
    width = shape[0]
    for size in config.hidden:
        layers += [nn.Linear(width, size), nn.LeakyReLU(), nn.Dropout(config.dropout)]
        width = size
    return nn.Sequential(*layers, _last(width))


def _convolutions(shape: tuple[int, ...], config: RewardConfig) -> nn.Module:
    """The published CNN: kernels 5, 3, 3, 3, channels 16 to 128, strides 3, 2, 2, 2, then one linear layer."""
    channels = [shape[0], 16, 32, 64, 128]
    convolutions: list[nn.Module] = []
    for before, after, kernel, stride in zip(channels, channels[1:], (5, 3, 3, 3), (3, 2, 2, 2), strict=False):
        convolutions += [nn.Conv2d(before, after, kernel, stride), nn.ReLU()]
    body = nn.Sequential(*convolutions, nn.Flatten())
    with torch.no_grad():
        width = body(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(body, nn.Dropout(config.dropout), _last(width))


def _last(width: int) -> nn.Linear:
    """Begins near zero, so that no frame is better than another before anything is learned."""
    layer = nn.Linear(width, 1)
    nn.init.uniform_(layer.weight, -1e-3, 1e-3)
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True, slots=True)
class Fit:
    """How the training went."""

    updates: list[int]
    """Per member: after how many the best state was reached, which is the one that was kept."""
    agreement: float
    """With the answers, on the pairs that a member did not learn from: no better than the answers are right."""


def fit(
    ensemble: RewardEnsemble,
    inputs: Inputs,
    pairs: np.ndarray,
    better: np.ndarray,
    config: RewardConfig,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Fit:
    """Train the members, each in its own order and with its own part of the pairs aside to decide when to stop.

    Args:
        pairs: shape (n, 2), rows of `inputs`.
        better: shape (n,), 0 or 1: which of the two is.
    """
    if len(pairs) < 2 * config.members:
        raise InputError(f"{len(pairs)} answered pairs are too few to learn a reward from; ask for more")
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 7]))
    label = torch.from_numpy(better.astype(np.int64))
    parts = np.array_split(rng.permutation(len(pairs)), max(config.members, 3))
    updates, right = [], []
    for number in progress(range(config.members)):
        aside = parts[number]
        used = np.concatenate([part for other, part in enumerate(parts) if other != number])
        updates.append(_fit_member(ensemble, number, inputs, pairs, label, used, aside, config, rng))
        with torch.no_grad():
            first, second = _of_pairs(ensemble, number, inputs, pairs[aside])
        right.append(((second > first) == (label[torch.from_numpy(aside)] > 0)).numpy())
    return Fit(updates, float(np.concatenate(right).mean()))


def _fit_member(
    ensemble: RewardEnsemble,
    number: int,
    inputs: Inputs,
    pairs: np.ndarray,
    label: Tensor,
    used: np.ndarray,
    aside: np.ndarray,
    config: RewardConfig,
    rng: np.random.Generator,
) -> int:
    """Train one member, and put it back to its best state. Returns how many updates that took."""
    member = ensemble.members[number]
    optimiser = torch.optim.AdamW(member.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    best, best_loss, best_update, worse = _copy(member), float("inf"), 0, 0
    size = min(config.batch_size, len(used))

    def loss_on(chosen: np.ndarray) -> Tensor:
        first, second = _of_pairs(ensemble, number, inputs, pairs[chosen])
        return preference_loss(first, second, label[torch.from_numpy(chosen)])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + number)  # of dropout
        for update in range(1, config.updates + 1):
            member.train()
            loss = loss_on(rng.choice(used, size, replace=False))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if update % ROUND and update < config.updates:
                continue
            member.eval()
            with torch.no_grad():
                held_out = float(loss_on(aside))
            worse += 1
            if held_out < best_loss:
                best, best_loss, best_update, worse = _copy(member), held_out, update, 0
            if worse >= config.patience:
                break
    member.load_state_dict(best)
    member.eval()
    return best_update


def _of_pairs(ensemble: RewardEnsemble, number: int, inputs: Inputs, pairs: np.ndarray) -> Tensor:
    """One member's rewards of both sides of n pairs, (2, n), in one pass: twice the batch is not twice the time."""
    return ensemble.one(number, inputs.at(pairs.T.ravel())).view(2, -1)


def scores(ensemble: RewardEnsemble, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
    """Each member's reward of the frames at these rows: shape (members, n). The ensemble's is their mean."""
    ensemble.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), 1024):
            parts.append(ensemble(inputs.at(rows[start : start + 1024])).numpy())
    return np.concatenate(parts, axis=1)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
