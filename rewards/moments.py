"""The moments of a store that can be compared: which observations, in which episodes, how far in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from episodes.errors import unknown
from episodes.snapshot import Snapshot, lengths
from rewards.judge import Frame


@dataclass(frozen=True)
class RowsOfOne:
    """The rows of one episode that is in no store yet."""

    steps: int
    observations: int

    step_starts = observation_starts = np.zeros(1, np.int64)

    @property
    def step_ends(self) -> np.ndarray:
        return np.array([self.steps])

    @property
    def observation_ends(self) -> np.ndarray:
        return np.array([self.observations])


Rows = Snapshot | RowsOfOne
"""How observations and steps are dealt out to episodes."""


@dataclass(frozen=True)
class Moments:
    """Every observation of a snapshot, and the pictures of those that are asked for."""

    snapshot: Snapshot
    cameras: tuple[str, ...]
    episode: np.ndarray
    """Shape (N,), int64: which episode an observation belongs to."""
    progress: np.ndarray
    """Shape (N,), float64: 0 at an episode's first observation, 1 at its last."""

    @classmethod
    def of(cls, snapshot: Snapshot, cameras: Sequence[str]) -> "Moments":
        for camera in cameras:
            if camera not in snapshot.contract.camera_names:
                raise unknown("camera", camera, snapshot.contract.camera_names, str(snapshot.path))
        counts = lengths(snapshot.observation_ends)
        episode = np.repeat(np.arange(snapshot.episodes), counts)
        within = np.arange(snapshot.observations) - snapshot.observation_starts[episode]
        progress = within / np.maximum(counts[episode] - 1, 1)
        return cls(snapshot, tuple(cameras), episode, progress)

    def __len__(self) -> int:
        return len(self.episode)

    def of_episodes(self, episodes: np.ndarray) -> np.ndarray:
        """The observations of some episodes, given as a mask, shape (E,): their rows, in order."""
        return np.flatnonzero(episodes[self.episode])

    def frames(self, rows: np.ndarray) -> Iterator[Frame]:
        """The moments at these rows, with their pictures, all of which are in memory together."""
        pictures = {camera: self.snapshot.images_at(camera, rows) for camera in self.cameras}
        for index, row in enumerate(rows.tolist()):
            images = {camera: pictures[camera][index] for camera in self.cameras}
            yield Frame(images, row, int(self.episode[row]), float(self.progress[row]))


def split_episodes(episodes: int, held_out: float, rng: np.random.Generator) -> np.ndarray:
    """Shape (E,), bool: the episodes that are kept aside to measure on; at least one of several."""
    count = min(max(round(held_out * episodes), 1), episodes - 1) if episodes > 1 and held_out else 0
    aside = np.zeros(episodes, bool)
    aside[rng.permutation(episodes)[:count]] = True
    return aside


def per_observation(rows: Rows, of_steps: np.ndarray) -> np.ndarray:
    """Values per step, shape (T,), as values of the observations that steps led to, shape (N,): NaN at the first."""
    values = np.full(rows.observations, np.nan, np.float32)
    known, led_to = _steps_that_lead(rows)
    values[led_to] = of_steps[known]
    return values


def per_step(rows: Rows, of_observations: np.ndarray, *, before: bool = False) -> np.ndarray:
    """Values per observation, shape (N,), as values of the steps that led to them, shape (T,): rewards score what an
    action brought about. NaN for a last step without an observation after it. With `before`, of the observations that
    the steps began at."""
    if before:
        episode = _episode_of_steps(rows)
        begun_at = np.arange(rows.steps) - rows.step_starts[episode] + rows.observation_starts[episode]
        return of_observations[begun_at].astype(np.float32)
    values = np.full(rows.steps, np.nan, np.float32)
    known, led_to = _steps_that_lead(rows)
    values[known] = of_observations[led_to]
    return values


def _steps_that_lead(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The steps with an observation after them, and those observations' rows."""
    episode = _episode_of_steps(rows)
    steps = np.arange(rows.steps)
    led_to = steps - rows.step_starts[episode] + rows.observation_starts[episode] + 1
    known = led_to < rows.observation_ends[episode]
    return steps[known], led_to[known]


def _episode_of_steps(rows: Rows) -> np.ndarray:
    return np.repeat(np.arange(len(rows.step_ends)), lengths(rows.step_ends))
