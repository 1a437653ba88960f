"""Which parts of a log are supported by more than one episode: a map, and a number.

Offline learning can join the beginning of one episode to the end of another only where the two come near each other.
Near is what the robot itself covers in half a second: from there it could have gone on as the other episode did.
"""

import math
from dataclasses import dataclass

import numpy as np

from episodes.quality.rows import Rows
from episodes.quality.sketches import Thinned

POINTS = 2**13
"""Observations that the map is made of, evenly spread over the store."""
SECONDS = 0.5
STEPS = 10
"""How long the robot may move and still be near, in steps where the rate is not known; at most a quarter of an
episode."""
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Map:
    """Observations in two dimensions, and how near another episode comes to each."""

    points: np.ndarray
    """Shape (n, 2): the first two principal components of the standardised state."""
    explained: tuple[float, float]
    """Share of the variance that each of them has."""
    episode: np.ndarray
    """Shape (n,)."""
    time: np.ndarray
    """Shape (n,): from 0 at the beginning of the episode to 1 at its end."""
    distance: np.ndarray
    """Shape (n,): to the nearest observation of another episode, in the whole standardised state, as a multiple of what
    is near; infinite where there is no other episode."""

    @property
    def support(self) -> float | None:
        """Share of the observations that another episode comes near to; None where there is no other."""
        return float((self.distance <= 1).mean()) if len(np.unique(self.episode)) > 1 else None

    def of_episode(self, count: int) -> np.ndarray:
        """The same per episode, shape (count,); NaN where none of its observations is on the map."""
        near = np.bincount(self.episode, self.distance <= 1, minlength=count)
        there = np.bincount(self.episode, minlength=count)
        return np.where(there > 0, near / np.maximum(there, 1), np.nan)


class Nearness:
    """Collects the observations that a map is made of."""

    def __init__(self, rate: float | None) -> None:
        self._ahead = max(math.ceil(SECONDS * rate), 1) if rate else STEPS
        self._rows = Thinned(POINTS)
        self._moved = Thinned(POINTS)

    def add(self, rows: Rows) -> None:
        place = np.stack([np.full(len(rows.state), rows.episode), np.linspace(0, 1, len(rows.state))], axis=1)
        self._rows.add(np.concatenate([place, rows.state.astype(np.float64)], axis=1))
        ahead = max(min(self._ahead, len(rows.state) // 4), 1)
        self._moved.add(rows.state[ahead:].astype(np.float64) - rows.state[:-ahead])

    def map(self) -> Map | None:
        """None where no state entry ever changes."""
        rows, moved = self._rows.rows, self._moved.rows
        if not len(moved):
            return None
        state, episode, time = rows[:, 2:], rows[:, 0].astype(int), rows[:, 1]
        spread = state.std(0)
        changing = spread > 0
        if not changing.any():
            return None
        scaled = (state - state.mean(0))[:, changing] / spread[changing]
        distance = np.linalg.norm(moved[:, changing] / spread[changing], axis=1)
        near = float(np.median(distance[distance > 0])) if distance.any() else np.inf
        points, explained = principal(scaled)
        return Map(points, explained, episode, time, _to_others(scaled, episode) / near)


def principal(rows: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Rows about zero, shape (n, k), in their first two principal components, shape (n, 2), and either's share of the
    variance."""
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    largest = vectors[:, ::-1][:, :2]
    # An eigenvector's sign is arbitrary; with its largest part positive the same store gives the same picture.
    largest = largest * np.sign(largest[np.abs(largest).argmax(0), np.arange(largest.shape[1])])
    points = np.zeros((len(rows), 2))
    points[:, : largest.shape[1]] = rows @ largest
    share = [*(values[::-1][:2] / values.sum()), 0.0]
    return points, (float(share[0]), float(share[1]))


def _to_others(points: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """Shape (n,): the distance from every point, shape (n, k), to the nearest one of another episode."""
    points = points.astype(np.float32)
    square = (points**2).sum(1)
    nearest = np.empty(len(points))
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        distance = square[block, None] - 2 * points[block] @ points.T + square
        distance[episode[block, None] == episode] = np.inf
        nearest[block] = np.sqrt(np.maximum(distance.min(1), 0))
    return nearest
