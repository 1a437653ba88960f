"""What labels are worth: on episodes that were held out, against a truth and against time."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes.errors import InputError
from episodes.snapshot import Snapshot
from rewards import agreement
from rewards.judges.make import Truth
from rewards.moments import Moments, per_observation
from rewards.pairs import uniform
from rewards.preferences import Learned
from rewards.success import SuccessFit

MEASURED_PAIRS = 2000
"""Pairs of held-out episodes on which a reward model is compared with the truth."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a labelling made of a store."""

    values: dict[str, np.ndarray]
    """Per step, as in the label set."""
    members: np.ndarray | None
    """Shape (members, N observations): scores before they are brought to a scale."""
    learned: Learned | None
    success: SuccessFit | None


def truth_of(snapshot: Snapshot, name: str) -> Truth:
    """A label set as the truth.

    Raises:
        InputError: where there is no such label set, or it has no rewards.
    """
    labels = snapshot.labels(name)
    if "reward" not in labels.values:
        raise InputError(f"{snapshot.path}: label set {name!r} has no rewards to measure against")
    success = labels.values.get("success", np.full(snapshot.steps, np.nan, np.float32))
    return Truth(name, per_observation(snapshot, labels.values["reward"]), per_observation(snapshot, success))


def worth(snapshot: Snapshot, moments: Moments, aside: np.ndarray, made: Made, truth: Truth | None) -> dict[str, Any]:
    """Numbers for a labelling's document; those that need a truth are None or missing without one.

    Args:
        aside: shape (E,), bool: episodes that no pair was drawn from; where there are none, all count.
    """
    unseen = aside if aside.any() else np.ones(snapshot.episodes, bool)
    found: dict[str, Any] = {"accuracy": None, "spearman": None, "spearman_time": None}
    if made.members is not None:
        found |= _of_scores(snapshot, moments, unseen, made.members.mean(0), truth)
    if made.learned is not None:
        found["agreement"] = made.learned.fit.agreement
        if truth is not None:
            judged = agreement.judge_accuracy(made.learned.asked, truth.reward)
            found |= {"accuracy": judged["accuracy"], "judge_by_difference": judged["by_difference"]}
    if made.success is not None:
        found |= _of_success(snapshot, moments, made.values["success"], made.success, truth)
    return found


def _of_scores(
    snapshot: Snapshot, moments: Moments, unseen: np.ndarray, scores: np.ndarray, truth: Truth | None
) -> dict[str, Any]:
    def spearman(other: np.ndarray) -> float | None:
        found = agreement.rank_correlations(snapshot, scores, other, unseen)
        return float(np.mean(found)) if found else None

    found: dict[str, Any] = {"spearman_time": spearman(moments.progress)}
    if truth is None:
        return found
    pairs = uniform(moments, moments.of_episodes(unseen), MEASURED_PAIRS, np.random.default_rng(0))
    compared = agreement.pair_accuracy(scores, pairs, truth.reward)
    return found | {
        "spearman": spearman(truth.reward),
        "model_accuracy": compared["accuracy"],
        "model_by_difference": compared["by_difference"],
    }


def _of_success(
    snapshot: Snapshot, moments: Moments, success: np.ndarray, fit: SuccessFit, truth: Truth | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "threshold": fit.threshold,
        "false_positive_rate": fit.false_positive_rate,
        "miss_rate": fit.miss_rate,
        "success_rate": float((np.fmax.reduceat(success, snapshot.step_starts) > 0).mean()),
    }
    true = None if truth is None else snapshot.labels(truth.labels).values.get("success")
    if true is not None:
        unmarked = np.ones(snapshot.episodes, bool)
        unmarked[moments.episode[fit.rows]] = False
        found["success"] = agreement.success_agreement(snapshot, success, true, unmarked)
    return found
