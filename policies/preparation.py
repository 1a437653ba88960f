"""Between a robot's units and a network's: fixed when a run starts, saved with it, never changed afterwards."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from episodes.contract import Contract
from episodes.errors import InputError, unknown
from episodes.transitions import Batch, MixedBatch, Transitions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch in network units."""

    observation: Tensor
    """Shape (B, O)."""
    action: Tensor
    """Shape (B, C * A), within [-1, 1]."""
    valid: Tensor
    """Shape (B, C * A): 1 where the number was really sent."""
    reward: Tensor
    """Shape (B,)."""
    next_observation: Tensor
    """Shape (B, O)."""
    mask: Tensor
    """Shape (B,): 0 where the task terminated."""
    discount: Tensor
    """Shape (B,)."""
    return_to_go: Tensor
    """Shape (B,)."""
    cost: Tensor | None = None
    """Shape (B,): h, above 0 where something was violated."""

    def at(self, rows: Tensor) -> "Prepared":
        """Some of the rows, by number or by mask."""
        columns: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(Prepared)}
        there = {name: values[rows] for name, values in columns.items() if values is not None}
        return Prepared(**there)

    def mean(self, errors: Tensor) -> Tensor:
        """Of the rows, which are the last dimension, as much as each counts where the dynamics matter."""
        return errors.mean(-1)


def costs_of(batch: Prepared, algorithm: str) -> Tensor:
    """Shape (B,): h of what the actions led to.

    Raises:
        InputError: where there are none.
    """
    if batch.cost is None:
        raise InputError(f"{algorithm} learns from costs, and these transitions have none; label them with constraints")
    return batch.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPrepared(Prepared):
    """A mixed batch in network units; see `MixedBatch`."""

    simulated: Tensor
    """Shape (B,), bool."""
    weight: Tensor
    """Shape (B,)."""
    gap: Tensor
    """Shape (B,)."""

    def mean(self, errors: Tensor) -> Tensor:
        return (errors * self.weight).mean(-1)

    def real_mean(self, errors: Tensor) -> Tensor:
        """Of the real rows alone."""
        return (errors * ~self.simulated).sum(-1) / (~self.simulated).sum()

    def simulated_mean(self, errors: Tensor) -> Tensor:
        """Of the simulated rows alone, not weighted."""
        return (errors * self.simulated).sum(-1) / self.simulated.sum()


@dataclass(frozen=True, slots=True)
class Window:
    """Where in what the networks see, (..., O), each observation of a history is: oldest first, then image features."""

    history: int = 1
    """K."""
    frame: int = 0
    """Numbers that are seen of the state at a time; of no matter without a history."""

    @property
    def older(self) -> int:
        """Numbers that are not of the newest observation, which has all the rest."""
        return (self.history - 1) * self.frame

    def newest(self, observation: Tensor) -> Tensor:
        """(..., O) to (..., O - older)."""
        return observation[..., self.older :]

    def moved_on(self, observation: Tensor, following: Tensor) -> Tensor:
        """A step later, where `following` is the newest one: the oldest is gone."""
        return torch.cat([observation[..., self.frame : self.frame + self.older], following], dim=-1)

    def repeated(self, newest: Tensor) -> Tensor:
        """(O - older,) to (O,): the same for all observations."""
        return torch.cat([*[newest[: self.frame]] * (self.history - 1), newest])


@dataclass(frozen=True, slots=True)
class Preparation:
    """Standardises observations and scales actions to [-1, 1].

    A checkpoint holds it as tensors, like any weight; see `tensors`.
    """

    seen: Tensor
    """Shape (S',), int64: the state entries that the policy sees as they are."""
    periodic: Tensor
    """Shape (P,), int64: the angles that it sees as sine and cosine."""
    mean: Tensor
    """Shape (O,), O = K (S' + 2 P) + F: of a history's K observations one after the other, oldest first, then of image
    features, which are the newest one's."""
    std: Tensor
    """Shape (O,), positive."""
    reference: Tensor
    """Shape (A,), int64: the state entry that an action is taken relative to, -1 where it is absolute."""
    center: Tensor
    """Shape (C, A), in the action's units, relative where `reference` says so."""
    scale: Tensor
    """Shape (C, A), positive: half the range."""
    low: Tensor
    """Shape (A,): limits of what may be sent, in the action's units."""
    high: Tensor
    history: int = 1
    """K, the observations of the state that are seen."""

    @property
    def observation_size(self) -> int:
        return len(self.mean)

    @property
    def window(self) -> Window:
        """How what the networks see moves on with time."""
        return Window(self.history, len(self.seen) + 2 * len(self.periodic))

    @property
    def chunk(self) -> int:
        return len(self.center)

    @property
    def action_size(self) -> int:
        """Numbers that the network produces: C * A."""
        return self.center.numel()

    def __call__(self, batch: Batch) -> Prepared:
        """A batch in network units."""
        prepared = Prepared(
            observation=self.observation(batch.state, batch.features),
            action=self.encode(batch.state, batch.action),
            valid=batch.valid.repeat_interleave(self.center.shape[1], dim=1),
            reward=batch.reward,
            next_observation=self.observation(batch.next_state, batch.next_features),
            mask=batch.mask,
            discount=batch.discount,
            return_to_go=batch.return_to_go,
            cost=batch.cost,
        )
        if not isinstance(batch, MixedBatch):
            return prepared
        columns = {item.name: getattr(prepared, item.name) for item in fields(Prepared)}
        return MixedPrepared(**columns, simulated=batch.simulated, weight=batch.weight, gap=batch.gap)

    def observation(self, state: Tensor, features: Tensor | None) -> Tensor:
        """(B, S) in the contract's units and (B, F) image features to what the networks see, (B, O).

        With a history of K > 1 states are (B, K, S), oldest first, here and wherever else a state is asked for.

        Raises:
            ValueError: for states of another history.
        """
        if (1 if state.dim() == 2 else state.shape[1]) != self.history:
            raise ValueError(f"states of shape {tuple(state.shape)}, expected a history of {self.history}")
        return (_table(state, features, self.seen, self.periodic) - self.mean) / self.std

    def encode(self, state: Tensor, action: Tensor) -> Tensor:
        """(B, C, A) as sent to (B, C * A) within [-1, 1]."""
        return self.encode_unclipped(state, action).clamp(-1, 1)

    def encode_unclipped(self, state: Tensor, action: Tensor) -> Tensor:
        """The same of what was drawn, before anything was cut off: (B, C, A) to (B, C * A)."""
        relative = action - self._base(state)
        return ((relative - self.center) / self.scale).flatten(1)

    def decode(self, state: Tensor, action: Tensor) -> Tensor:
        """(B, C * A) to (B, C, A) in the action's units, within its limits."""
        return self.decode_unclipped(state, action.clamp(-1, 1)).clamp(self.low, self.high)

    def decode_unclipped(self, state: Tensor, action: Tensor) -> Tensor:
        """(B, C * A) to (B, C, A) in the action's units, wherever its limits are."""
        relative = action.unflatten(1, self.center.shape) * self.scale + self.center
        return relative + self._base(state)

    def to(self, device: torch.device) -> "Preparation":
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items() if name != "history"}
        return replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        """Everything. A history of 1 is none, so that what knew of no history is what it was, its hash included."""
        values = {item.name: getattr(self, item.name) for item in fields(Preparation)}
        history = values.pop("history")
        return values if history == 1 else values | {"history": torch.tensor(history)}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> "Preparation":
        """What `tensors` gave."""
        rest = {name: tensor for name, tensor in tensors.items() if name != "history"}
        return cls(**rest, history=int(tensors.get("history", 1)))

    def _base(self, state: Tensor) -> Tensor:
        """Shape (B, 1, A): what the action is relative to, of the newest observation; 0 where it is absolute."""
        newest = state if state.dim() == 2 else state[:, -1]
        base = newest[:, self.reference.clamp(min=0)] * (self.reference >= 0)
        return base.unsqueeze(1)


def prepare_from(
    transitions: Transitions,
    contract: Contract,
    *,
    normalise: bool = True,
    relative_actions: bool = False,
    state_entries: tuple[str, ...] | None = None,
) -> Preparation:
    """The preparation that fits the offline data; online data gets the same one.

    Args:
        normalise: standardise observations by the data's mean and (standard deviation + 1e-3).
        relative_actions: express absolute targets relative to the state entry that the contract names for them.
        state_entries: what the policy sees of the state; all of it where None.
    """
    names = contract.state_names
    for name in state_entries or ():
        if name not in names:
            raise unknown("state entry", name, names, f"contract {contract.name!r}")
    entries = [entry for entry in contract.state if state_entries is None or entry.name in state_entries]
    seen = torch.tensor([names.index(e.name) for e in entries if not e.periodic], dtype=torch.int64)
    periodic = torch.tensor([names.index(e.name) for e in entries if e.periodic], dtype=torch.int64)
    references = [
        -1 if e.reference is None or not relative_actions else names.index(e.reference) for e in contract.action
    ]
    if relative_actions and all(reference < 0 for reference in references):
        raise InputError(f"contract {contract.name!r} names no reference for any action, so none can be made relative")
    table = _table(*transitions.observed(), seen, periodic)
    if not table.shape[1]:
        raise InputError("the policy would see nothing: no state entries and no camera")
    window = Window(transitions.config.history, len(seen) + 2 * len(periodic))
    if window.history > 1 and not window.frame:
        raise InputError(f"history {window.history}: is of the state, and the policy would see no entry; leave it out")
    mean, std = torch.zeros(table.shape[1]), torch.ones(table.shape[1])
    if normalise:
        mean, std = table.mean(0), table.std(0, correction=0) + 1e-3
    batch = transitions.all_actions()
    low, high = torch.from_numpy(contract.action_low), torch.from_numpy(contract.action_high)
    absolute = Preparation(
        seen=seen,
        periodic=periodic,
        # The same for every observation of a history: an entry's size does not depend on when it was seen.
        mean=window.repeated(mean),
        std=window.repeated(std),
        reference=torch.tensor(references),
        center=torch.zeros(batch.action.shape[1:]),
        scale=torch.ones(batch.action.shape[1:]),
        low=low,
        high=high,
        history=window.history,
    )
    relative = batch.action - absolute._base(batch.state)
    data_low, data_high = relative.amin(0), relative.amax(0)
    # Known limits are the better range: data may not have reached them yet. Relative actions have none of their own.
    limited = torch.isfinite(low) & torch.isfinite(high) & (absolute.reference < 0)
    range_low, range_high = torch.where(limited, low, data_low), torch.where(limited, high, data_high)
    return replace(absolute, center=(range_high + range_low) / 2, scale=((range_high - range_low) / 2).clamp(min=1e-6))


def _table(state: Tensor, features: Tensor | None, seen: Tensor, periodic: Tensor) -> Tensor:
    """What is seen, in its own units: (B, S) or (B, K, S), and (B, F), to (B, O)."""
    angles = state[..., periodic]
    frames = torch.cat([state[..., seen], angles.sin(), angles.cos()], dim=-1).flatten(1)
    return frames if features is None else torch.cat([frames, features], dim=1)
