"""One episode: what a robot saw and did from a reset to an end."""

import hashlib
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Literal

import numpy as np

from episodes.contract import Contract
from episodes.errors import InputError


class Source(IntEnum):
    """Who chose an action; recorded per step, because a human may take over inside an episode."""

    UNKNOWN = 0
    POLICY = 1
    INTERVENTION = 2
    DEMONSTRATION = 3
    SCRIPTED = 4


class EpisodeError(InputError):
    """An episode cannot be used; the message is the reason. Importers leave it out and say so."""


@dataclass(frozen=True, slots=True)
class Column:
    """A named array with one row per step or per observation."""

    name: str
    per: Literal["step", "observation"]
    dtype: str
    fill: float | int
    """What stands in a store where an episode does not have this column."""
    width: Literal["state", "action", ""] = ""
    """The contract's vector that a row is as long as; empty for one number a row."""

    def is_absent(self, values: np.ndarray) -> bool:
        """Whether these rows say nothing: a column of nothing but its fill value is the same as none."""
        return bool((np.isnan(values) if np.isnan(self.fill) else values == self.fill).all())


COLUMNS = (
    Column("state", "observation", "float32", np.nan, "state"),
    Column("observation_time", "observation", "int64", 0),
    Column("action", "step", "float32", np.nan, "action"),
    Column("action_time", "step", "int64", 0),
    Column("source", "step", "uint8", Source.UNKNOWN),
    Column("reward", "step", "float32", np.nan),
    Column("success", "step", "float32", np.nan),
    Column("cost", "step", "float32", np.nan),
    Column("action_proposed", "step", "float32", np.nan, "action"),
    Column("log_probability", "step", "float32", np.nan),
    Column("policy", "step", "uint64", 0),
    Column("verdict", "step", "uint8", 0),
)
"""Every column of an episode but its images. Stores, digests and checks are made from this table."""


@dataclass(frozen=True, slots=True)
class Episode:
    """`T` steps of one robot.

    There are `T + 1` observations where the source has the one after the last action, else `T`; then the last step
    can be learned from only if the episode terminated.
    """

    state: np.ndarray
    """Shape (T + 1, S) or (T, S), float32, in the contract's units."""
    action: np.ndarray
    """Shape (T, A), float32, as it was sent."""
    terminated: bool
    """The task itself ended with the last step: success or failure. Nothing is to be expected after it."""
    truncated: bool
    """Something else ended it: time limit, operator, safety stop, end of the log. What would come next still counts."""
    images: dict[str, np.ndarray] = field(default_factory=dict)
    """Per camera: shape (T + 1, H, W, 3) or (T, H, W, 3), uint8, RGB, top row first."""
    observation_time: np.ndarray | None = None
    """Shape of the observations, int64 [ns]."""
    action_time: np.ndarray | None = None
    """Shape (T,), int64 [ns]."""
    source: np.ndarray | None = None
    """Shape (T,), uint8, values of `Source`."""
    reward: np.ndarray | None = None
    """Shape (T,), float32: what the source itself logged for the observation after each action, raw."""
    success: np.ndarray | None = None
    """Shape (T,), float32: 1 where the source says that the observation after the action is a success, 0 where not."""
    cost: np.ndarray | None = None
    """Shape (T,), float32, raw."""
    action_proposed: np.ndarray | None = None
    """Shape (T, A), float32: what the policy wanted before any guard changed it."""
    log_probability: np.ndarray | None = None
    """Shape (T,), float32: of the proposed action under the policy that proposed it."""
    policy: np.ndarray | None = None
    """Shape (T,), uint64: the first 64 bits of the policy's content hash, 0 where no policy acted."""
    verdict: np.ndarray | None = None
    """Shape (T,), uint8: the guardian's verdict, 0 where none was asked."""
    task: str = ""
    """What was to be done, in words."""
    place: Literal["real", "sim", ""] = ""
    origin: str = ""
    """Where it came from: file and key, or task and seed."""
    evaluation: bool = False
    """Whether it was acted to see how good a policy is."""

    @property
    def steps(self) -> int:
        return len(self.action)

    @property
    def helped(self) -> bool:
        """Whether a person took over in it."""
        return self.source is not None and bool((self.source == Source.INTERVENTION).any())

    @property
    def has_final_observation(self) -> bool:
        return len(self.state) == self.steps + 1

    @property
    def transitions(self) -> int:
        """Steps that can be learned from: all, less the last one where nobody knows what came after it."""
        return self.steps if self.has_final_observation or self.terminated else self.steps - 1

    def check(self, contract: Contract) -> "Episode":
        """Return self if it is whole and fits the contract.

        Raises:
            EpisodeError: with the reason, where a length, a shape or a value is wrong.
        """
        if self.action.ndim != 2 or self.state.ndim != 2:
            raise EpisodeError(
                f"state and action must be tables, got shapes {self.state.shape} and {self.action.shape}"
            )
        if self.steps == 0:
            raise EpisodeError("it has no steps")
        if len(self.state) not in (self.steps, self.steps + 1):
            raise EpisodeError(f"ragged: {len(self.state)} observations for {self.steps} actions")
        if self.terminated == self.truncated:
            raise EpisodeError("it must end in exactly one of terminated and truncated")
        widths = {"state": len(contract.state), "action": len(contract.action)}
        for column in COLUMNS:
            values = getattr(self, column.name)
            if values is None:
                continue
            rows = self.steps if column.per == "step" else len(self.state)
            expected = (rows, widths[column.width]) if column.width else (rows,)
            if values.shape != expected:
                raise EpisodeError(f"ragged: {column.name} has shape {values.shape}, expected {expected}")
            if values.dtype != np.dtype(column.dtype):
                raise EpisodeError(f"{column.name} is {values.dtype}, expected {column.dtype}")
            if column.name in ("state", "action", "reward") and not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values.reshape(rows, -1)).all(1))[0, 0])
                raise EpisodeError(f"{column.name} is not finite at step {row}")
        if self.source is not None and self.source.max() > max(Source):
            raise EpisodeError(f"source {self.source.max()} is none of {', '.join(f'{s} {s.name}' for s in Source)}")
        self._check_images(contract)
        return self

    def _check_images(self, contract: Contract) -> None:
        if set(self.images) != set(contract.camera_names):
            raise EpisodeError(f"cameras {sorted(self.images)} where the contract has {sorted(contract.camera_names)}")
        for camera in contract.cameras:
            images = self.images[camera.name]
            expected = (len(self.state), camera.height, camera.width, 3)
            if images.shape != expected or images.dtype != np.uint8:
                raise EpisodeError(f"camera {camera.name}: {images.dtype} {images.shape}, expected uint8 {expected}")

    def digest(self) -> str:
        """A hash of everything that was recorded: two episodes with the same one are the same recording."""
        hasher = hashlib.blake2b(digest_size=16)
        columns = {column.name: column for column in COLUMNS}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "images":
                for name in sorted(value):
                    hasher.update(name.encode())
                    hasher.update(np.ascontiguousarray(value[name]).data)
            elif isinstance(value, np.ndarray) and not columns[item.name].is_absent(value):
                hasher.update(item.name.encode() + np.ascontiguousarray(value).data)
            elif item.name in ("terminated", "truncated"):
                hasher.update(bytes([value]))
        return hasher.hexdigest()
