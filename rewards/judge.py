"""What a judge is asked and what it may answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np


class Verdict(StrEnum):
    """Which of two moments is nearer to the task's goal."""

    FIRST = "first"
    SECOND = "second"
    UNSURE = "unsure"
    """The judge sees no difference that matters, or answers differently when the order is turned round."""
    INVALID = "invalid"
    """The judge's answer could not be read as any of these."""

    @property
    def swapped(self) -> "Verdict":
        """The same opinion on the pair in the other order."""
        return {Verdict.FIRST: Verdict.SECOND, Verdict.SECOND: Verdict.FIRST}.get(self, self)


@dataclass(frozen=True, slots=True)
class Answer:
    verdict: Verdict
    rationale: str = ""
    """The judge's own words, where it has any."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment of a store, as a judge sees it."""

    images: Mapping[str, np.ndarray]
    """Per camera: shape (H, W, 3), uint8."""
    observation: int
    """Row of the store's observations."""
    episode: int
    progress: float
    """0 at the first observation of its episode, 1 at the last."""


Pair = tuple[Frame, Frame]


class Judge(Protocol):
    """Somebody or something with an opinion on how well a task is going, from pictures."""

    name: str
    identity: str
    """All that an answer depends on beside pictures and task: model, weights, prompts, settings. Answers are kept under
    it. Empty for a judge that looks something up instead of looking at pictures; its answers are not kept."""
    symmetric: bool
    """Whether turning a pair round is certain to turn the answer round, so that asking once is enough."""

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        """Which of each pair is nearer to what `task` says: positions in `pairs` and answers, as they come.

        What is not answered when an error is raised has not been asked, or its answer was lost; everything handed out
        before is the caller's to keep.
        """
        ...

    def succeeds(self, frames: Sequence[Frame], task: str) -> Iterator[tuple[int, float]]:
        """How probable it is that the task is done, in [0, 1]; NaN where the answer could not be read."""
        ...
