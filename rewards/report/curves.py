"""What probabilities of success are worth: which thresholds find how much, and whether they mean what they say."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

BINS = 10
"""Of a reliability diagram, equally wide."""


@dataclass(frozen=True, slots=True)
class Roc:
    """The receiver operating characteristic, from the threshold that nothing passes to the one that everything does."""

    false_rate: np.ndarray
    """Shape (n,): share of the negatives that pass."""
    true_rate: np.ndarray
    """Shape (n,): share of the positives that pass."""

    @property
    def area(self) -> float:
        """How probable it is that a positive is given more than a negative."""
        return float(np.trapezoid(self.true_rate, self.false_rate))


@dataclass(frozen=True, slots=True)
class Bin:
    """The frames whose probability lies in one part of [0, 1]."""

    count: int
    said: float
    """Their mean probability."""
    found: float
    """The share of them that is positive."""
    interval: tuple[float, float]
    """In which that share lies with 95 % confidence."""


def roc(probability: np.ndarray, done: np.ndarray) -> Roc | None:
    """The curve of frames, shape (n,) each; None where only one of the two answers is among them.

    Frames of equal probability pass together, so that their order does not matter.
    """
    if done.all() or not done.any():
        return None
    order = np.argsort(-probability)
    last_of_equals = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
    found = np.cumsum(done[order])[last_of_equals]
    false = last_of_equals + 1 - found
    return Roc(np.append(0, false) / (~done).sum(), np.append(0, found) / done.sum())


def calibration(probability: np.ndarray, done: np.ndarray) -> list[Bin]:
    """The bins with any frames in them, from the least probable on."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(place):
        inside = place == number
        positive, count = int(done[inside].sum()), int(inside.sum())
        interval = share_interval(positive, count)
        bins.append(Bin(count, float(probability[inside].mean()), positive / count, interval))
    return bins


def share_interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    interval = binomtest(successes, trials).proportion_ci()
    return float(interval.low), float(interval.high)
