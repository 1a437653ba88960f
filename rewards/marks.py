"""Marks: which episodes of a store a person calls a success or a failure, and moments that only look like one.

A YAML file, in which `from` and `to` count an episode's observations from 0:

    successes:
      - {episode: 3, from: 31}      # done from this observation on
      - {episode: 8}                # done at its last observations
    failures: [0, 1, 5]             # never done
    negatives:
      - {episode: 4, from: 10, to: 14}     # not done, though a classifier thought so
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field

from episodes.errors import InputError, unknown
from episodes.files import write_whole
from episodes.labels import LabelSet
from episodes.snapshot import Snapshot, lengths
from episodes.typed import STRICT, parse, read_yaml

LAST = 3
"""Observations at the end of a success that count as done where nobody said from when on (as PA-RL relabels
RoboFuME's demonstrations)."""
BLURRED = 1
"""Observations before a success that are neither done nor not done: nobody marks to the frame."""

Index = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Success:
    __pydantic_config__ = STRICT

    episode: Index
    start: Index | None = None
    """First observation at which the task is done."""


@dataclass(frozen=True, slots=True)
class Moment:
    __pydantic_config__ = STRICT

    episode: Index
    start: Index
    stop: Index
    """The last one, itself included."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of some episodes."""

    __pydantic_config__ = STRICT

    successes: tuple[Success, ...] = ()
    failures: tuple[Index, ...] = ()
    negatives: tuple[Moment, ...] = ()

    def examples(self, snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
        """Rows of observations, and whether the task is done there: shape (n,) int64 and bool.

        Raises:
            InputError: for an episode or observation that is not there, or marks that contradict each other.
        """
        counts, starts = lengths(snapshot.observation_ends), snapshot.observation_starts
        done: dict[int, bool] = {}

        def mark(episode: int, first: int, stop: int, value: bool) -> None:
            for row in range(int(starts[episode]) + first, int(starts[episode]) + stop):
                if done.setdefault(row, value) != value:
                    raise InputError(
                        f"marks contradict each other on episode {episode}, observation {row - starts[episode]}"
                    )

        for success in self.successes:
            count = _checked(success.episode, success.start, counts, snapshot)
            since = success.start if success.start is not None else max(count - LAST, 0)
            mark(success.episode, since, count, True)
            mark(success.episode, 0, max(since - BLURRED, 0), False)
        for episode in self.failures:
            mark(episode, 0, _checked(episode, None, counts, snapshot), False)
        for moment in self.negatives:
            _checked(moment.episode, moment.stop, counts, snapshot)
            if moment.stop < moment.start:
                raise InputError(
                    f"marks: episode {moment.episode}: a negative from {moment.start} to {moment.stop} is empty"
                )
            mark(moment.episode, moment.start, moment.stop + 1, False)
        rows = np.array(sorted(done), np.int64)
        return rows, np.array([done[row] for row in rows.tolist()], bool)


def read_marks(path: Path) -> Marks:
    """The marks in a file."""
    content = dict(read_yaml(path))
    for key in ("successes", "negatives"):
        if isinstance(content.get(key), list):
            needed = ("episode",) if key == "successes" else ("episode", "from", "to")
            content[key] = [_renamed(item, needed, f"{path}: {key}") for item in content[key]]
    return parse(Marks, content, str(path))


def write_marks(path: Path, marks: Marks) -> None:
    successes = [{"episode": s.episode, **({} if s.start is None else {"from": s.start})} for s in marks.successes]
    negatives = [{"episode": n.episode, "from": n.start, "to": n.stop} for n in marks.negatives]
    content = {"successes": successes, "failures": list(marks.failures), "negatives": negatives}
    write_whole(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=None))


def negative_line(moment: Moment) -> str:
    """The line under `negatives` of a file of marks that says that the task is not done then."""
    return f"- {{episode: {moment.episode}, from: {moment.start}, to: {moment.stop}}}"


def marks_from(snapshot: Snapshot, labels: LabelSet, successes: int, failures: int, among: Sequence[int]) -> Marks:
    """What a person would mark: the first so many successes and failures of a label set that knows, in this order.

    Raises:
        InputError: where there are not as many.
    """
    if "success" not in labels.values:
        raise InputError(f"label set {labels.name!r} does not say which steps succeeded")
    good: list[Success] = []
    bad: list[int] = []
    for episode in among:
        success = labels.values["success"][snapshot.step_starts[episode] : snapshot.step_ends[episode]]
        first = np.flatnonzero(success > 0)
        if len(first):
            # A step's label speaks of the observation after it, where there is one.
            last = int(snapshot.observation_ends[episode] - snapshot.observation_starts[episode]) - 1
            good.append(Success(int(episode), min(int(first[0]) + 1, last)))
        elif np.isfinite(success).any():
            bad.append(int(episode))
    if len(good) < successes or len(bad) < failures:
        raise InputError(
            f"{snapshot.path}: {successes} successes and {failures} failures are to be marked; label set "
            f"{labels.name!r} has {len(good)} and {len(bad)} among these episodes"
        )
    return Marks(tuple(good[:successes]), tuple(bad[:failures]))


def _checked(episode: int, observation: int | None, counts: np.ndarray, snapshot: Snapshot) -> int:
    """How many observations a marked episode has."""
    if episode >= snapshot.episodes:
        raise InputError(f"marks: {snapshot.path} has no episode {episode}; it has {snapshot.episodes}, counted from 0")
    count = int(counts[episode])
    if observation is not None and observation >= count:
        raise InputError(f"marks: episode {episode} has no observation {observation}; it has {count}, counted from 0")
    return count


def _renamed(item: Any, needed: tuple[str, ...], where: str) -> Any:
    """`from` is a word of Python and `to` its counterpart: they are `start` and `stop` inside."""
    if not isinstance(item, dict):
        raise InputError(f"{where}: expected entries like {{episode: 3, from: 31}}, got {item!r}")
    known = ("episode", "from", *needed[2:])
    for key in item:
        if key not in known:
            raise unknown("key", str(key), known, where)
    for key in needed:
        if key not in item:
            raise InputError(f"{where}: {item} has no {key!r}")
    names = {"from": "start", "to": "stop"}
    return {names.get(key, key): value for key, value in item.items()}
