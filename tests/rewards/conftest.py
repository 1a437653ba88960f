"""What the tests of rewards share: logs without a store behind them, and a judge that counts what it is asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.snapshot import Snapshot
from rewards.answers import Answers
from rewards.judge import Answer, Frame, Judge, Pair, Verdict

torch.set_num_threads(1)

STATE = (StateEntry("x", "m"),)
ACTION = (ActionEntry("u", "m/s", -1.0, 1.0),)


@dataclass(frozen=True)
class Log:
    """Rows as a snapshot deals them out, and pictures by row."""

    step_ends: np.ndarray
    observation_ends: np.ndarray
    pictures: Mapping[str, np.ndarray]
    path: Path = Path("a_store")

    @property
    def step_starts(self) -> np.ndarray:
        return np.concatenate([[0], self.step_ends[:-1]])

    @property
    def observation_starts(self) -> np.ndarray:
        return np.concatenate([[0], self.observation_ends[:-1]])

    @property
    def episodes(self) -> int:
        return len(self.step_ends)

    @property
    def steps(self) -> int:
        return int(self.step_ends[-1])

    @property
    def observations(self) -> int:
        return int(self.observation_ends[-1])

    @property
    def contract(self) -> Contract:
        cameras = tuple(Camera(name, *images.shape[1:3]) for name, images in self.pictures.items())
        return Contract("toy", STATE, ACTION, cameras)

    def images_at(self, camera: str, rows: np.ndarray) -> np.ndarray:
        return self.pictures[camera][rows]


def log_of(
    steps: Sequence[int], final: Sequence[bool] | None = None, pictures: Mapping[str, np.ndarray] | None = None
) -> Snapshot:
    """Episodes of so many steps, each with the observation after its last step unless `final` says otherwise."""
    observations = np.array(steps) + (True if final is None else np.array(final))
    log = Log(np.cumsum(steps), np.cumsum(observations), pictures or {})
    return cast(Snapshot, log)


@st.composite
def logs(draw: st.DrawFn, most: int = 6) -> tuple[list[int], list[bool]]:
    """Steps per episode, and whether the observation after the last one is there."""
    steps = draw(st.lists(st.integers(1, most), min_size=1, max_size=5))
    return steps, draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))


def greys(levels: Sequence[int], height: int = 4, width: int = 6) -> np.ndarray:
    """Grey planes, shape (n, height, width, 3), of these levels."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), height, width, 3)).copy()


Opinion = Callable[[Frame, Frame], Answer | Verdict | None]


def brighter(first: Frame, second: Frame) -> Verdict:
    """To which brighter is nearer to the goal."""
    one, other = (float(np.mean([image.mean() for image in frame.images.values()])) for frame in (first, second))
    return Verdict.UNSURE if one == other else Verdict.FIRST if one > other else Verdict.SECOND


@dataclass
class Counting:
    """A judge with an opinion, that writes down all that it is asked; None is no answer at all."""

    opinion: Opinion = brighter
    success: Callable[[Frame], float | None] = lambda frame: frame.progress
    name: str = "counting"
    identity: str = "it"
    symmetric: bool = False
    breaks_after: int | None = None
    """Answers after which the connection is lost."""
    pairs: list[tuple[int, int]] = field(default_factory=list)
    """Observations that were compared."""
    frames: list[int] = field(default_factory=list)
    """Observations that were scored."""

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        # Backwards: answers come as they come.
        for position in reversed(range(len(pairs))):
            first, second = pairs[position]
            self._may_break()
            self.pairs.append((first.observation, second.observation))
            said = self.opinion(first, second)
            if said is not None:
                yield position, said if isinstance(said, Answer) else Answer(said, "because")

    def succeeds(self, frames: Sequence[Frame], task: str) -> Iterator[tuple[int, float]]:
        for position in reversed(range(len(frames))):
            self._may_break()
            self.frames.append(frames[position].observation)
            value = self.success(frames[position])
            if value is not None:
                yield position, value

    def _may_break(self) -> None:
        if self.breaks_after is not None and len(self.pairs) + len(self.frames) >= self.breaks_after:
            raise ConnectionError("lost")


_: type[Judge] = Counting


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    """An empty file of answers."""
    kept = Answers(tmp_path / "answers.sqlite")
    yield kept
    kept.close()
