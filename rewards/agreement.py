"""How good labels are: pairs, scores and successes against a truth, where there is one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from episodes.snapshot import Snapshot
from rewards.asking import Asked
from rewards.judge import Verdict

BINS = 4
"""Groups of equally many pairs, by how different they truly are."""


def judge_accuracy(asked: Sequence[Asked], truth: np.ndarray) -> dict[str, Any]:
    """How often a judge's answers are right, over all pairs that it decided and that truly differ, and by difference.

    Args:
        truth: shape (N observations,), the true reward; NaN where there is none.
    """
    gain = np.array([truth[pair.second] - truth[pair.first] for pair in asked])
    decided = np.array([pair.verdict in (Verdict.FIRST, Verdict.SECOND) for pair in asked], bool)
    says_second = np.array([pair.verdict == Verdict.SECOND for pair in asked], bool)
    comparable = np.isfinite(gain) & (gain != 0)
    return _by_difference(gain, decided, says_second == (gain > 0), comparable)


def pair_accuracy(scores: np.ndarray, pairs: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The same of scores, shape (N,), on pairs of rows, shape (n, 2)."""
    gain = truth[pairs[:, 1]] - truth[pairs[:, 0]]
    margin = scores[pairs[:, 1]] - scores[pairs[:, 0]]
    return _by_difference(gain, margin != 0, (margin > 0) == (gain > 0), np.isfinite(gain) & (gain != 0))


def rank_correlations(snapshot: Snapshot, scores: np.ndarray, truth: np.ndarray, episodes: np.ndarray) -> list[float]:
    """Spearman's correlation of two values per observation within each of the episodes (a mask); those in which either
    never changes have none and are left out."""
    found = []
    for index in np.flatnonzero(episodes):
        rows = slice(int(snapshot.observation_starts[index]), int(snapshot.observation_ends[index]))
        one, other = scores[rows], truth[rows]
        known = np.isfinite(one) & np.isfinite(other)
        if known.sum() > 2 and np.ptp(one[known]) > 0 and np.ptp(other[known]) > 0:
            found.append(float(spearmanr(one[known], other[known]).statistic))  # type: ignore[union-attr]
    return found


def success_agreement(snapshot: Snapshot, said: np.ndarray, true: np.ndarray, episodes: np.ndarray) -> dict[str, Any]:
    """Success per step, said against true, over the episodes of a mask: by frame, and by episode.

    A success is false in an episode that never had one, and early before the task was done in one that did.
    """
    false = early = missed = good = bad = 0
    frames = [0, 0, 0, 0]
    for index in np.flatnonzero(episodes):
        rows = slice(int(snapshot.step_starts[index]), int(snapshot.step_ends[index]))
        known = np.isfinite(said[rows]) & np.isfinite(true[rows])
        one, other = said[rows][known] > 0, true[rows][known] > 0
        frames[0] += int((one & ~other).sum())
        frames[1] += int((~other).sum())
        frames[2] += int((~one & other).sum())
        frames[3] += int(other.sum())
        when, truly = _first(one), _first(other)
        good += truly is not None
        bad += truly is None
        false += when is not None and truly is None
        early += when is not None and truly is not None and when < truly
        missed += truly is not None and when is None
    return {
        "episodes": good + bad,
        "successes": good,
        "false_successes": false,
        "early_successes": early,
        "missed_successes": missed,
        "false_positive_rate": frames[0] / frames[1] if frames[1] else None,
        "miss_rate": frames[2] / frames[3] if frames[3] else None,
        "negative_frames": frames[1],
        "positive_frames": frames[3],
    }


def _first(values: np.ndarray) -> int | None:
    found = np.flatnonzero(values)
    return int(found[0]) if len(found) else None


def _by_difference(gain: np.ndarray, decided: np.ndarray, right: np.ndarray, comparable: np.ndarray) -> dict[str, Any]:
    usable = decided & comparable
    rows = []
    if usable.any():
        edges = np.quantile(np.abs(gain[comparable]), np.linspace(0, 1, BINS + 1))
        place = np.clip(np.searchsorted(edges, np.abs(gain), side="right") - 1, 0, BINS - 1)
        for number in range(BINS):
            inside = comparable & (place == number)
            rows.append(
                {
                    "difference": [float(edges[number]), float(edges[number + 1])],
                    "pairs": int(inside.sum()),
                    "decided": int((inside & decided).sum()),
                    "accuracy": float(right[inside & decided].mean()) if (inside & decided).any() else None,
                }
            )
    return {"accuracy": float(right[usable].mean()) if usable.any() else None, "by_difference": rows}
