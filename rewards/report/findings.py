"""What is worth looking at in a label set: answers that went wrong, and successes that are none."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from episodes.snapshot import Snapshot
from rewards.asking import Asked
from rewards.judge import Verdict
from rewards.marks import Moment
from rewards.moments import Moments
from rewards.success import SuccessFit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FoundSuccess:
    """Observations in a row, of one episode, that were called a success and are none, or may be none."""

    moment: Moment
    row: int
    """The surest of them, of the store's observations."""
    probability: float
    """Of that one; NaN where nobody gave any."""
    words: str
    """Why it stands here."""


def undecided(asked: Sequence[Asked]) -> list[Asked]:
    """Answers that could not be read, and unsure ones, in turn; those whose pictures differ most come first."""

    def of(verdict: Verdict) -> list[Asked]:
        return sorted((pair for pair in asked if pair.verdict is verdict), key=lambda pair: -pair.difference)

    return in_turn(_varied(of(Verdict.INVALID)), _varied(of(Verdict.UNSURE)))


def wrong(asked: Sequence[Asked], truth: np.ndarray) -> list[Asked]:
    """Decisions against the true reward, shape (N observations,): those that were farthest from right come first."""

    def loss(pair: Asked) -> float:
        gain = float(truth[pair.second] - truth[pair.first])
        if pair.verdict not in (Verdict.FIRST, Verdict.SECOND) or not np.isfinite(gain):
            return 0.0
        return gain if pair.verdict is Verdict.FIRST else -gain

    lost = {id(pair): loss(pair) for pair in asked}
    return _varied(sorted((pair for pair in asked if lost[id(pair)] > 0), key=lambda pair: -lost[id(pair)]))


def false_marked(moments: Moments, fit: SuccessFit) -> list[FoundSuccess]:
    """Frames that a person marked as not done and that passed when they were not learned from; the surest first."""
    passed = np.zeros(len(moments), bool)
    passed[fit.rows[~fit.done & (fit.probability >= fit.threshold)]] = True
    probability = np.full(len(moments), np.nan)
    probability[fit.rows] = fit.probability
    found = _found(moments, passed, probability, lambda _: "marked as not done")
    return sorted(found, key=lambda each: -each.probability)


def false_unmarked(
    moments: Moments, called: np.ndarray, true: np.ndarray, probability: np.ndarray, marked: np.ndarray
) -> list[FoundSuccess]:
    """Frames of episodes that nobody marked, called a success where the truth says that the task is not done.

    Those of episodes in which it is never done come first, then the others by how far from it they are.

    Args:
        called, true, probability: per observation, shape (N,); NaN where not known.
        marked: shape (E,), bool: the episodes with marks.
    """
    false = (called > 0) & (true <= 0) & ~marked[moments.episode]
    found = _found(moments, false, probability, lambda moment: _missing(moments.snapshot, moment, true))
    return sorted(found, key=lambda each: _distance(moments, each, true))


def unchecked(moments: Moments, called: np.ndarray, probability: np.ndarray, marked: np.ndarray) -> list[FoundSuccess]:
    """The first success of every episode that nobody marked, the least sure first: where no truth is known, these are
    to be looked at."""
    found = _found(
        moments, (called > 0) & ~marked[moments.episode], probability, lambda _: "called a success; nobody has checked"
    )
    first = {each.moment.episode: each for each in reversed(found)}
    return sorted(first.values(), key=lambda each: (each.probability, each.moment.episode))


def marked_episodes(moments: Moments, fit: SuccessFit) -> np.ndarray:
    """Shape (E,), bool: the episodes of which a person marked anything."""
    marked = np.zeros(moments.snapshot.episodes, bool)
    marked[moments.episode[fit.rows]] = True
    return marked


def in_turn(one: Sequence[T], other: Sequence[T]) -> list[T]:
    """The first of each, then the second of each, and so on; what is left of the longer at the end."""
    both = [each for pair in zip(one, other, strict=False) for each in pair]
    shorter = min(len(one), len(other))
    return [*both, *one[shorter:], *other[shorter:]]


def stretches(inside: np.ndarray) -> list[tuple[int, int]]:
    """First and last position of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
    return [(int(start), int(stop) - 1) for start, stop in edges.reshape(-1, 2)]


def _found(
    moments: Moments, chosen: np.ndarray, probability: np.ndarray, words: Callable[[Moment], str]
) -> list[FoundSuccess]:
    """The runs of chosen observations, shape (N,), none of which goes beyond its episode."""
    found = []
    for episode in np.unique(moments.episode[chosen]).tolist():
        begin, end = _rows(moments.snapshot, episode)
        for start, stop in stretches(chosen[begin:end]):
            moment = Moment(episode, start, stop)
            inside = np.nan_to_num(probability[begin + start : begin + stop + 1], nan=-1.0)
            row = begin + start + int(inside.argmax())
            found.append(FoundSuccess(moment, row, float(probability[row]), words(moment)))
    return found


def _missing(snapshot: Snapshot, moment: Moment, true: np.ndarray) -> str:
    """How far from done the task truly is."""
    begin, end = _rows(snapshot, moment.episode)
    done = np.flatnonzero(true[begin:end] > 0)
    if not len(done):
        return "the task is never done in this episode"
    ahead = int(done[0]) - moment.start
    return f"done only at observation {done[0]}, {ahead} later" if ahead > 0 else "was done, and is undone again"


def _distance(moments: Moments, found: FoundSuccess, true: np.ndarray) -> float:
    """Sorts episodes that are never done first, then what is farthest before the task is done."""
    begin, end = _rows(moments.snapshot, found.moment.episode)
    done = np.flatnonzero(true[begin:end] > 0)
    return float(found.moment.start - done[0]) if len(done) else -np.inf


def _rows(snapshot: Snapshot, episode: int) -> tuple[int, int]:
    return int(snapshot.observation_starts[episode]), int(snapshot.observation_ends[episode])


def _varied(pairs: Iterable[Asked]) -> list[Asked]:
    """Pairs with an observation that was in one before come last: the same picture again and again tells little."""
    seen: set[int] = set()
    fresh, repeated = [], []
    for pair in pairs:
        (repeated if seen & {pair.first, pair.second} else fresh).append(pair)
        seen |= {pair.first, pair.second}
    return fresh + repeated
