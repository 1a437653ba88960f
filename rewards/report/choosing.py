"""Which episodes of a label set are worth looking at, and why."""

from collections.abc import Iterable, Sequence

import numpy as np

from rewards.report.findings import in_turn
from rewards.report.timelines import Known
from rewards.success import SuccessFit

UNSURE_WITHIN = 0.15
"""How near an episode's largest probability is to the threshold where it is worth a look."""

Chosen = dict[int, list[str]]
"""Reasons to look at an episode, by its number, in the order in which episodes are to be shown."""


def choose(known: Known, covered: np.ndarray, held_out: Sequence[int], fit: SuccessFit | None, most: int) -> Chosen:
    """Episodes to show and why: the highest and the lowest return, then in turn those whose success is disputed and
    some that were held out, then some of the others.

    Args:
        covered: shape (E,), bool: the episodes that have labels.
        held_out: the episodes that no pair was drawn from.
        fit: what the success classifier says of marked frames, where there is one.
    """
    candidates = np.flatnonzero(covered)
    if not len(candidates):
        return {}
    extremes = _extremes(known, candidates)
    disputed = dict(_disputed(known, fit))

    def others(episodes: Iterable[int]) -> list[int]:
        return [episode for episode in episodes if covered[episode] and episode not in extremes]

    order = [*extremes, *in_turn(others(disputed), others(_shuffled(held_out))), *_shuffled(candidates.tolist())]
    reasons: Chosen = {}
    for episode in list(dict.fromkeys(order))[:most]:
        found = [extremes.get(episode), disputed.get(episode), "held out" if episode in held_out else None]
        reasons[episode] = [words for words in found if words] or ["drawn by chance"]
    return reasons


def _extremes(known: Known, candidates: np.ndarray) -> dict[int, str]:
    """The episodes of the highest and the lowest return among the candidates."""
    if known.returns is None:
        return {}
    sums = known.returns[candidates]
    if np.ptp(sums) == 0:
        return {}
    best, worst = int(candidates[sums.argmax()]), int(candidates[sums.argmin()])
    return {best: f"highest return, {sums.max():.1f}", worst: f"lowest return, {sums.min():.1f}"}


def _disputed(known: Known, fit: SuccessFit | None) -> list[tuple[int, str]]:
    """Episodes whose success is in doubt, and why, the gravest first."""
    if "success" not in known.values:
        return []
    if known.true_success is not None:
        return _against_truth(known, known.true_success)
    return _against_marks(known, fit) + _near_threshold(known)


def _against_truth(known: Known, true: np.ndarray) -> list[tuple[int, str]]:
    """Successes that are none, then those that were missed, then those that were called too early."""
    found: list[tuple[tuple[int, int], int, str]] = []
    for episode in range(known.snapshot.episodes):
        rows = known.rows(episode)
        if np.isnan(true[rows]).all():
            continue  # the truth came before this episode
        called, done = _first(known.values["success"][rows] > 0), _first(true[rows] > 0)
        if called is not None and done is None:
            found.append(((0, called), episode, f"success called at observation {called}, but the task is never done"))
        elif called is None and done is not None:
            found.append(((1, done), episode, f"done at observation {done}, but success is never called"))
        elif called is not None and done is not None and called < done:
            words = f"success called at observation {called}, but done only at {done}"
            found.append(((2, called - done), episode, words))
    return [(episode, words) for _, episode, words in sorted(found)]


def _against_marks(known: Known, fit: SuccessFit | None) -> list[tuple[int, str]]:
    """Marked episodes of which the classifier, before it learned from them, thought otherwise."""
    if fit is None:
        return []
    of_row = np.searchsorted(known.snapshot.observation_ends, fit.rows, side="right")
    passed = fit.probability >= fit.threshold
    found = []
    for episode in np.unique(of_row).tolist():
        inside = of_row == episode
        if (passed & ~fit.done)[inside].any():
            found.append((episode, "marked as not done where the classifier saw success"))
        elif fit.done[inside].any() and not (passed & fit.done)[inside].any():
            found.append((episode, "marked as a success that the classifier did not see"))
    return found


def _near_threshold(known: Known) -> list[tuple[int, str]]:
    """Episodes that came nearest to being called otherwise."""
    probability = known.values.get("success_probability")
    if probability is None or known.threshold is None:
        return []
    found = []
    for episode in range(known.snapshot.episodes):
        values = probability[known.rows(episode)]
        largest = float(np.nanmax(values)) if np.isfinite(values).any() else np.inf
        if abs(largest - known.threshold) < UNSURE_WITHIN:
            words = f"its largest probability of success, {largest:.2f}, is near the threshold"
            found.append((abs(largest - known.threshold), episode, words))
    return [(episode, words) for _, episode, words in sorted(found)]


def _first(values: np.ndarray) -> int | None:
    found = np.flatnonzero(values)
    return int(found[0]) if len(found) else None


def _shuffled(episodes: Sequence[int]) -> list[int]:
    return np.random.default_rng(0).permutation(np.asarray(episodes, np.int64)).tolist()
