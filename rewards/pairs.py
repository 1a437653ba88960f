"""Which pairs of moments are put to a judge. All functions return rows of the store's observations, shape (n, 2)."""

import numpy as np

from episodes.errors import InputError
from rewards.moments import Moments

STRATA = 5
"""Parts of an episode's time that `stratified` draws from equally."""


def uniform(moments: Moments, among: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Episodes uniformly, then a moment of each uniformly (as RL-VLM-F samples): a long episode is not asked more."""
    return np.stack([_moment(moments, among, count, rng), _moment(moments, among, count, rng)], axis=1)


def stratified(moments: Moments, among: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Both moments from their own part of an episode's time, every combination of parts equally often.

    Where most of every log is the approach, uniform pairs seldom show the end of the task.
    """
    part = np.minimum((moments.progress[among] * STRATA).astype(int), STRATA - 1)
    bins = [among[part == number] for number in range(STRATA)]
    bins = [members for members in bins if len(members)]
    cells = np.tile(np.arange(len(bins) ** 2), count // len(bins) ** 2 + 1)[:count]
    cells = rng.permutation(cells)
    sides = [cells // len(bins), cells % len(bins)]
    drawn = [np.array([rng.choice(bins[number]) for number in side], np.int64) for side in sides]
    return np.stack(drawn, axis=1).reshape(count, 2)


def same_episode(moments: Moments, among: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Two different moments of one episode: what a judge that goes by time can compare."""
    starts, stops = _runs(moments.episode[among])
    usable = np.flatnonzero(stops - starts >= 2)
    if not len(usable):
        raise InputError(f"{moments.snapshot.path}: no episode has two observations to compare")
    chosen = usable[rng.integers(len(usable), size=count)]
    size = (stops - starts)[chosen]
    first = (rng.random(count) * size).astype(np.int64)
    # Uniform among the others: a step of 1 to size - 1, round the end.
    second = (first + 1 + (rng.random(count) * (size - 1)).astype(np.int64)) % size
    return np.stack([among[starts[chosen] + first], among[starts[chosen] + second]], axis=1)


def by_disagreement(candidates: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """The candidates on which an ensemble's members disagree most (PEBBLE's disagreement sampling).

    Args:
        candidates: shape (n, 2), rows into the second axis of `scores`.
        scores: shape (members, N observations).
        count: how many to keep.
    """
    margin = scores[:, candidates[:, 1]] - scores[:, candidates[:, 0]]
    spread = (1 / (1 + np.exp(-margin))).std(axis=0)
    return candidates[np.argsort(-spread, kind="stable")[:count]]


SAMPLERS = {"uniform": uniform, "stratified": stratified, "same_episode": same_episode}


def _moment(moments: Moments, among: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    starts, stops = _runs(moments.episode[among])
    chosen = rng.integers(len(starts), size=count)
    return among[starts[chosen] + (rng.random(count) * (stops - starts)[chosen]).astype(np.int64)]


def _runs(episode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows of each episode start and stop, in rows that are in the store's order."""
    starts = np.flatnonzero(np.diff(episode, prepend=-1))
    return starts, np.append(starts[1:], len(episode))
