"""Stretches in which something stays the same, and which of them are unusual."""

import math

import numpy as np

LEAST_STEPS = 10
LEAST_SECONDS = 0.5
"""What stays the same for less than either is no fault: sensors are slower than the log, and robots do pause."""
ALIKE = 3.0
"""A stretch that is not longer than this many times another one is like it."""
RARE = 0.02
"""Share of the other episodes that may have a like stretch; one of them from ten episodes on."""


def runs(same: np.ndarray) -> np.ndarray:
    """At the last row of every run of True its length, elsewhere 0. Shape (n, k) for (n, k) flags, by column."""
    position = np.arange(1, len(same) + 1)[:, None]
    length = position - np.maximum.accumulate(np.where(same, 0, position), axis=0)
    goes_on = np.concatenate([same[1:], np.zeros_like(same[:1])])
    return np.where(same & ~goes_on, length, 0)


def longest_two(same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of flags (n, k), by column: the longest run's first row and length, and the second longest's length; (k,)."""
    if not len(same):
        nothing = np.zeros(same.shape[1], int)
        return nothing, nothing, nothing
    ends = runs(same)
    last = ends.argmax(0)
    length = ends.max(0)
    ends[last, np.arange(ends.shape[1])] = 0
    return last - length + 1, length, ends.max(0)


def least_run(rate: float | None) -> int:
    """Steps for which something must stay the same before it can be a fault, at this rate [Hz]."""
    return max(LEAST_STEPS, math.ceil(LEAST_SECONDS * rate) if rate else 0)


def unusual(longest: np.ndarray, alike: np.ndarray, second: np.ndarray, least: int) -> np.ndarray:
    """Shape (E,), bool: whose longest run is at least `least` long and has hardly its like anywhere.

    Args:
        longest: shape (E,), the length of each episode's longest run.
        alike: shape (E,), the longest run of each that others' are compared with; at least `longest`.
        second: shape (E,), each episode's second longest of those.
    """
    count = len(longest)
    allowed = max(RARE * count, 1 if count >= 10 else 0)
    needed = longest / ALIKE
    others = count - np.searchsorted(np.sort(alike), needed, side="left") - 1
    return (longest >= least) & (others <= allowed) & (second < needed)
