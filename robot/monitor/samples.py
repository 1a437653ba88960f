"""What was heard lately: thinned, bounded, and told from a time on."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

SPAN = 60_000_000_000
"""For how long it is kept [ns]."""
SLOT = 50_000_000
"""What comes within so long becomes one sample [ns]: nobody sees more, and a fast robot would fill the page."""

Row = TypeVar("Row")


def newest(_: Row, row: Row) -> Row:
    return row


class Samples(Generic[Row]):
    """Rows with the time at which they came [ns of steady time]. A sample's time is that of the first row in its slot.

    Args:
        merge: makes one row of what a sample has and another that comes into its slot; left out, the newer one.
    """

    def __init__(self, merge: Callable[[Row, Row], Row] = newest):
        self._merge = merge
        self._samples: deque[tuple[int, Row]] = deque(maxlen=SPAN // SLOT + 1)
        self.heard: int | None = None
        """When a row came last; None where none ever did."""

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def due(self) -> int:
        """From when on another row makes a sample of its own."""
        return self._samples[-1][0] + SLOT if self._samples else 0

    def add(self, at: int, row: Row) -> None:
        """Take a row; times never go back."""
        self.heard = at
        if at < self.due:
            began, before = self._samples[-1]
            self._samples[-1] = began, self._merge(before, row)
        else:
            self._samples.append((at, row))
        while self._samples[0][0] < at - SPAN:
            self._samples.popleft()

    def since(self, at: int) -> list[tuple[int, Row]]:
        """The samples from a time on, oldest first."""
        found = []
        for sample in reversed(self._samples):
            if sample[0] < at:
                break
            found.append(sample)
        return found[::-1]


def age(heard: int | None, now: int) -> float | None:
    """For how long nothing more was heard [s]; None where nothing ever was."""
    return None if heard is None else max(now - heard, 0) / 1e9


def plain(values: Iterable[float]) -> list[float | None]:
    """Numbers for JSON, with as many digits as a curve shows; None for what is none."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
