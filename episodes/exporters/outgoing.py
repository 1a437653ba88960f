"""What goes out of a store: its episodes under a label set, one at a time, and what stays in any case."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from episodes.episode import COLUMNS, Episode
from episodes.errors import InputError
from episodes.labels import LOGGED, LabelSet
from episodes.snapshot import Snapshot, ends_of_task

LABELLED = ("reward", "success")
"""What a label set says in place of the log, or leaves unsaid. Cost is the log's where the set has none."""

BLOCK = 2**16
"""Rows of a column to look at together."""


class Exporter(Protocol):
    """A format to write episodes in."""

    format: ClassVar[str]
    """The format's name, such as `robomimic HDF5`."""
    left_behind: tuple[str, ...]
    """What of the store has no place in the format, a line each."""

    def writing(self, out: Path) -> AbstractContextManager[Callable[[Episode, np.ndarray], None]]:
        """A function that adds an episode, with the steps that end its task: shape (T,), bool.

        What was added is at `out` when the block ends without an error; else nothing is.
        """
        ...


@dataclass
class Outgoing:
    """The episodes of a snapshot that a label set covers, with its values in place of what the source recorded."""

    snapshot: Snapshot
    labels: LabelSet

    def __post_init__(self) -> None:
        where = f"{self.snapshot.path}: label set {self.labels.name!r}"
        if not self.snapshot.episodes:
            raise InputError(f"{self.snapshot.path}: holds no episodes yet")
        if not self._logged and "reward" not in self.labels.values:
            raise InputError(f"{where} has no rewards, only {sorted(self.labels.values)}")
        if not len(self):
            raise InputError(f"{where} covers no episode, so nothing can go out with it")

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def indices(self) -> np.ndarray:
        """The episodes that go out. The log's own labels leave none out: what had no reward has none."""
        if self._logged:
            return np.arange(self.snapshot.episodes)
        return np.flatnonzero(self.labels.covered & (self._lengths > self._cut))

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns that some episode has."""
        return frozenset(column.name for column in COLUMNS if self._some(column.name))

    @cached_property
    def without_final(self) -> int:
        """How many of the episodes end with an action, and not with what was observed after it."""
        return int((~self.snapshot.has_final_observation[self.indices] & ~self._cut[self.indices]).sum())

    @property
    def steps(self) -> int:
        return int((self._lengths - self._cut)[self.indices].sum())

    @cached_property
    def largest_action(self) -> float:
        """How far from 0 the store's actions go, in whichever entry."""
        blocks = (
            self.snapshot.column("action", start, start + BLOCK) for start in range(0, self.snapshot.steps, BLOCK)
        )
        return max(float(np.abs(block).max(initial=0)) for block in blocks)

    def __iter__(self) -> Iterator[tuple[Episode, np.ndarray]]:
        ends = ends_of_task(self.snapshot, self.labels)
        for index in self.indices.tolist():
            episode = self._labelled(self.snapshot.episode(index), index)
            start = int(self.snapshot.step_starts[index])
            yield episode, ends[start : start + episode.steps]

    def left_behind(self) -> Iterator[str]:
        """What no format has a place for, a line each."""
        snapshot, name = self.snapshot, self.labels.name
        others = [other for other in snapshot.label_names if other != name]
        if others:
            yield f"label sets {', '.join(others)}: one goes out, {name}; another with --labels"
        if not self._logged:
            yield f"how label set {name} was made"
            if len(self) < snapshot.episodes:
                yield f"{snapshot.episodes - len(self)} of {snapshot.episodes} episodes: label set {name} lacks them"
            if cut := int(self._cut[self.indices].sum()):
                yield f"the last step of {cut} episodes: label set {name} has no reward for it"
        if snapshot.left_out:
            yield f"the list of {len(snapshot.left_out)} episodes that imports could not use"
        if snapshot.feature_names:
            yield f"frozen image features {', '.join(snapshot.feature_names)}: made again where they are needed"

    @property
    def _lengths(self) -> np.ndarray:
        return self.snapshot.step_ends - self.snapshot.step_starts

    @property
    def _logged(self) -> bool:
        return self.labels.name == LOGGED

    @cached_property
    def _cut(self) -> np.ndarray:
        """Shape (E,), bool: episodes whose last step goes, because nobody saw what it led to and so what it was worth.

        Its observation is the one after the step before.
        """
        snapshot = self.snapshot
        if self._logged:
            return np.zeros(snapshot.episodes, bool)
        unknown = np.isnan(self.labels.values["reward"][snapshot.step_ends - 1])
        return self.labels.covered & unknown & ~snapshot.has_final_observation & ~snapshot.terminated

    def _labelled(self, episode: Episode, index: int) -> Episode:
        if self._logged:
            return episode
        start, stop = int(self.snapshot.step_starts[index]), int(self.snapshot.step_ends[index])
        unsaid = dict.fromkeys(LABELLED)
        values = {name: rows[start:stop] for name, rows in self.labels.values.items() if name in (*LABELLED, "cost")}
        episode = replace(episode, **(unsaid | values))
        if self._cut[index]:
            rows = episode.steps - 1
            steps = [column.name for column in COLUMNS if column.per == "step"]
            held = {name: getattr(episode, name) for name in steps}
            episode = replace(episode, **{name: None if v is None else v[:rows] for name, v in held.items()})
        assert episode.reward is not None
        if np.isnan(episode.reward).any():
            step = int(np.argmax(np.isnan(episode.reward)))
            raise InputError(
                f"{self.snapshot.path}: label set {self.labels.name!r} covers episode {index}, but has no reward for "
                f"its step {step}"
            )
        return episode

    def _some(self, name: str) -> bool:
        """Whether a column has a value anywhere; read in blocks, for it may not fit into memory."""
        if not self._logged and (name in LABELLED or name in self.labels.values):
            return name in self.labels.values and not np.isnan(self.labels.values[name]).all()
        column = next(column for column in COLUMNS if column.name == name)
        rows = self.snapshot.steps if column.per == "step" else self.snapshot.observations
        blocks = (self.snapshot.column(name, start, start + BLOCK) for start in range(0, rows, BLOCK))
        return any(not column.is_absent(block) for block in blocks)
