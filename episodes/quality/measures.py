"""The two measures of a dataset by Schweighofer et al. (2022), A Dataset Perspective on Offline Reinforcement Learning.

TQ, trajectory quality, is the mean return where 0 is the return of a poor policy and 1 that of an expert. SACo,
state-action coverage, is the number of different state-action pairs as a share of that in a reference dataset. Both
need something to compare with. Where that is not given the store itself takes its place: its worst and its best
episode, and its number of steps. TQ then says how far the mean episode is from the worst to the best of the same store,
SACo which share of the steps is unlike all others, and neither can be compared with another store's.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from episodes.quality.extent import Extent
from episodes.quality.rows import Rows
from episodes.quality.sketches import Distinct

EDGES = 100
"""Evenly spaced edges per number, from its smallest value to its largest: the authors' discretisation."""
ALL_DIFFERENT = 0.99
"""From this share of different pairs on, the cells are too small to tell anything."""


@dataclass(frozen=True, slots=True)
class TrajectoryQuality:
    """TQ of one label set."""

    value: float
    low: float
    """The return that counts as 0."""
    high: float
    """The return that counts as 1."""
    given: bool
    """Whether the two were given; else they are the worst and the best episode's of the store."""

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Coverage:
    """SACo."""

    value: float
    unique: int
    """Different pairs in the store, to one part in 500 above 262,144."""
    of: int
    """Different pairs in the reference; without one, the store's steps."""
    given: bool
    """Whether a reference was given."""

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"edges": EDGES}


def trajectory_quality(returns: np.ndarray, ends: tuple[float, float] | None = None) -> TrajectoryQuality | None:
    """TQ of episodes' returns, shape (E,), NaN where there is none.

    Args:
        ends: the returns of a poor policy and of an expert; the worst and the best of `returns` where None.

    Returns:
        None where no episode has a return, or the two ends are the same.
    """
    known = returns[np.isfinite(returns)]
    if not len(known):
        return None
    low, high = ends or (float(known.min()), float(known.max()))
    if not high > low:
        return None
    return TrajectoryQuality((float(known.mean()) - low) / (high - low), low, high, ends is not None)


class Cells:
    """The grid on which state-action pairs are the same or different."""

    def __init__(self, extent: Extent) -> None:
        self._low = extent.pair_low
        self._span = np.where(extent.pair_range > 0, extent.pair_range, 1)

    def place(self, rows: Rows) -> np.ndarray:
        """The cell of every step, shape (T, S + A), of whole numbers."""
        pairs = np.concatenate([rows.state[: len(rows.action)], rows.action], axis=1)
        return ((pairs - self._low) / self._span * (EDGES - 1)).astype(np.int32)

    def count(self, episodes: Iterable[Rows]) -> int:
        """The different pairs of a store."""
        distinct = Distinct()
        for rows in episodes:
            distinct.add(self.place(rows))
        return distinct.count
