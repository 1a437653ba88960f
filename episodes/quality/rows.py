"""Going through a store an episode at a time, in memory that does not grow with it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from episodes.snapshot import Snapshot

GROUP_BYTES = 32 * 2**20
"""Episodes are read together up to this size; one that is longer is read alone."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of one episode, less its images. Shapes are those of `Episode`."""

    episode: int
    state: np.ndarray
    action: np.ndarray
    observation_time: np.ndarray
    """Shape (O,), int64 [ns]; all 0 where there are no stamps."""
    action_time: np.ndarray
    reward: np.ndarray
    """Shape (T,); NaN where there is none."""

    @property
    def stamped(self) -> bool:
        return bool(self.observation_time.any())


def episode_rows(snapshot: Snapshot) -> Iterator[Rows]:
    """Every episode of a store, in order."""
    row_bytes = 4 * (len(snapshot.contract.state) + len(snapshot.contract.action)) + 20
    most = max(GROUP_BYTES // row_bytes, 1)
    first = 0
    while first < snapshot.episodes:
        begin = int(snapshot.observation_starts[first])
        last = max(int(np.searchsorted(snapshot.observation_ends, begin + most, side="right")), first + 1)
        yield from _group(snapshot, first, last)
        first = last


def _group(snapshot: Snapshot, first: int, last: int) -> Iterator[Rows]:
    """Episodes [first, last), read together."""
    seen = int(snapshot.observation_starts[first]), int(snapshot.observation_ends[last - 1])
    done = int(snapshot.step_starts[first]), int(snapshot.step_ends[last - 1])
    of_observation = {name: snapshot.column(name, *seen) for name in ("state", "observation_time")}
    of_step = {name: snapshot.column(name, *done) for name in ("action", "action_time", "reward")}
    for episode in range(first, last):
        observations = slice(
            int(snapshot.observation_starts[episode]) - seen[0], int(snapshot.observation_ends[episode]) - seen[0]
        )
        steps = slice(int(snapshot.step_starts[episode]) - done[0], int(snapshot.step_ends[episode]) - done[0])
        yield Rows(
            episode,
            **{name: values[observations] for name, values in of_observation.items()},
            **{name: values[steps] for name, values in of_step.items()},
        )
