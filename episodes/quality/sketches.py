"""Summaries of long columns in bounded memory: exact as long as the column is short."""

import numpy as np


class Thinned:
    """Every k-th row of all that was added, k a power of two that doubles whenever there would be too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._every = 1
        self._seen = 0
        self._held = 0
        self._parts: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        kept = rows[-self._seen % self._every :: self._every]
        self._seen += len(rows)
        self._held += len(kept)
        self._parts.append(kept.copy())
        while self._held > self._most:
            merged = np.concatenate(self._parts)[::2]
            self._parts, self._held, self._every = [merged], len(merged), 2 * self._every

    @property
    def rows(self) -> np.ndarray:
        """At most `most` rows, evenly spread; all of them where there were no more. Empty where nothing was added."""
        return np.concatenate(self._parts) if self._parts else np.empty(0)


class Distinct:
    """Counts different rows of numbers: exactly up to `most`, beyond that to about one part in sqrt(most).

    It keeps the smallest hashes there are; how small the last of them is says how many there must be (Bar-Yossef et
    al., 2002, Counting distinct elements in a data stream).
    """

    def __init__(self, most: int = 2**18) -> None:
        self._most = most
        self._smallest = np.empty(0, np.uint64)

    def add(self, rows: np.ndarray) -> None:
        """Count integer rows, shape (n, k), in."""
        self._smallest = np.unique(np.concatenate([self._smallest, _hash(rows)]))[: self._most]

    @property
    def count(self) -> int:
        if len(self._smallest) < self._most:
            return len(self._smallest)
        return round((self._most - 1) * 2.0**64 / float(self._smallest[-1]))


def _hash(rows: np.ndarray) -> np.ndarray:
    """64 well-mixed bits per row of integers, shape (n,)."""
    mixed = np.zeros(len(rows), np.uint64)
    with np.errstate(over="ignore"):
        for column in rows.T:
            # The finaliser of splitmix64 (Steele, Lea & Flood, 2014), once per number.
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.int64).view(np.uint64) + np.uint64(1)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
    return mixed
