"""How far a judgement can be trusted: a margin for a named false-safe rate, and what counts as known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import beta

from episodes.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Calibration:
    """A margin, and what the held-out episodes say of it."""

    margin: float
    """An action is accepted where Q_h <= -margin; never below 0."""
    rate: float
    """That was asked for: of episodes that violate something, the share with an action accepted shortly before."""
    certified: float
    """At most `rate`: the Clopper-Pearson upper bound of `false_safe` of `episodes`."""
    false_safe: int
    """Held-out episodes in which the margin accepts an action shortly before the violation."""
    episodes: int
    """Held-out episodes that violate something: each counts once, whatever its length."""
    smallest: float
    """The smallest rate that so many episodes can certify: the upper bound of 0 of them."""

    def text(self) -> str:
        """One line for people."""
        return (
            f"margin {self.margin:.4g}: {self.false_safe} of {self.episodes} violating episodes were accepted shortly "
            f"before, which certifies {self.certified:.1%} at {CONFIDENCE:.0%} confidence ({self.rate:.1%} asked for, "
            f"{self.smallest:.1%} is the least that so many episodes can certify)"
        )


def upper_bound(found: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper-Pearson: the largest rate that does not contradict `found` of `trials`."""
    return 1.0 if found >= trials else float(beta.ppf(confidence, found + 1, trials - found))


def approach(q_h: np.ndarray, cost: np.ndarray, horizon: int) -> float | None:
    """How safe an episode looked at its safest, shortly before its first violation; None where it has none.

    Args:
        q_h: (T,), of the logged actions; infinity where the action counts as unknown and so is never accepted.
        cost: (T,), h of what each step led to.
        horizon: steps up to and including the one that led into the violation.
    """
    violated = np.flatnonzero(cost > 0)
    if not len(violated):
        return None
    return float(q_h[max(violated[0] + 1 - horizon, 0) : violated[0] + 1].min())


def calibrate(approaches: Sequence[float | None], rate: float) -> Calibration:
    """The smallest margin that keeps to a false-safe rate, from held-out episodes, one number each (`approach`).

    The margin is an order statistic of independent episodes, so that the bound holds for it although it was chosen by
    them: steps within an episode are no independent trials, and would certify what they do not know.

    Raises:
        InputError: for a rate outside (0, 1), a critic that is not finite, or fewer violating episodes than the rate
            takes, with the smallest rate that there are enough for.
    """
    if not 0 < rate < 1:
        raise InputError(f"false-safe rate {rate:g}: expected a number between 0 and 1")
    scores = np.sort([score for score in approaches if score is not None])
    if np.isnan(scores).any():
        raise InputError("the critic is not finite on held-out episodes: it cannot be calibrated")
    count = len(scores)
    smallest = upper_bound(0, count) if count else 1.0
    if smallest > rate:
        needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log(1 - rate)))
        raise InputError(
            f"false-safe rate {rate:g}: {count} held-out episodes violate something, which certifies {smallest:.3g} at "
            f"best; record {needed} such episodes, or name a larger rate"
        )
    allowed = max(k for k in range(count) if upper_bound(k, count) <= rate)
    # Just below the first score that may not be accepted any more.
    threshold = min(float(np.nextafter(scores[allowed], -np.inf)), 0.0)
    false_safe = int((scores <= threshold).sum())
    return Calibration(abs(threshold), rate, upper_bound(false_safe, count), false_safe, count, smallest)


class Familiarity:
    """Whether a state-action is like some that were logged: by the distance to the nearest, in network units.

    A critic says something everywhere, and means it only where it was taught. What is farther from the logs than nearly
    all of the held-out episodes are is unknown, and unknown is not safe.
    """

    def __init__(self, logged: np.ndarray, radius: float):
        """Everything within a distance of (N, D) logged rows is known."""
        self.logged, self.radius = logged, radius
        self._tree = KDTree(logged)

    @classmethod
    def of(cls, logged: np.ndarray, held_out: np.ndarray, quantile: float = 0.99) -> "Familiarity":
        """The radius within which a share of (M, D) rows of other episodes are of (N, D) logged ones.

        Raises:
            InputError: where there is nothing to compare with.
        """
        if not len(logged) or not len(held_out):
            raise InputError("nothing is known without logged state-actions, and held-out ones to compare them with")
        if not 0 < quantile <= 1:
            raise InputError(f"quantile {quantile:g}: expected more than 0, at most 1")
        found = cls(logged, 0.0)
        found.radius = float(np.quantile(found._tree.query(held_out)[0], quantile))
        return found

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Shape (n,), bool, for (n, D); a row that is not finite is unknown."""
        finite = np.isfinite(rows).all(1)
        distance = np.full(len(rows), np.inf)
        if finite.any():
            distance[finite] = self._tree.query(rows[finite], distance_upper_bound=np.nextafter(self.radius, np.inf))[0]
        return distance <= self.radius
