"""Where a bag that says nothing of episodes has them: the rule of a robot's contract, applied to stamps."""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Protocol

from episodes.errors import InputError
from robot.bags import BagMessage
from robot.contract import EpisodeRule
from robot.messages import header_stamp, path_of
from robot.reports import EPISODE_TOPIC, EpisodeState, decode

BEGINNING = -(2**62)
"""Before any stamp [ns]."""


class Mark(Enum):
    """What a message says about episodes."""

    START = "start"
    STOP = "stop"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Closing:
    """An episode's end."""

    stamp: int
    """Observations after it do not belong to it [ns]."""
    resume: int
    """From when on another one may begin [ns]."""
    mark: Mark = Mark.STOP


class Rule(Protocol):
    """Says where episodes begin and end, by stamps."""

    def opening(self, stamp: int) -> int | None:
        """The first moment from a stamp on that is in an episode; None where that is not known yet."""
        ...

    def closing(self, stamp: int, known: int) -> Closing | None:
        """The first end after a stamp inside an episode; None where none is known. All messages up to `known` are."""
        ...

    def forget_before(self, stamp: int) -> None: ...

    def clear(self) -> None:
        """The clock was set back."""
        ...


class Whole:
    """All of it is one."""

    def opening(self, stamp: int) -> int | None:
        return stamp

    def closing(self, stamp: int, known: int) -> Closing | None:
        return None

    def forget_before(self, stamp: int) -> None:
        pass

    def clear(self) -> None:
        pass


class Pauses:
    """Pauses in the commands part episodes."""

    def __init__(self, gap: float, period: int):
        self._gap, self._period = round(gap * 1e9), period
        self._stamps: list[int] = []

    def add(self, stamp: int) -> None:
        insort(self._stamps, stamp)

    def opening(self, stamp: int) -> int | None:
        place = bisect_left(self._stamps, stamp)
        if place == len(self._stamps):
            return None
        following = self._stamps[place]
        return stamp if place and following - self._stamps[place - 1] <= self._gap else following

    def closing(self, stamp: int, known: int) -> Closing | None:
        place = max(bisect_right(self._stamps, stamp) - 1, 0)
        for last, following in pairwise([*self._stamps[place:], known]):
            if following - last > self._gap:
                # The last command's own step is part of it.
                return Closing(last + self._period, last + 1)
        return None

    def forget_before(self, stamp: int) -> None:
        del self._stamps[: max(bisect_right(self._stamps, stamp) - 1, 0)]

    def clear(self) -> None:
        self._stamps.clear()


class Marks:
    """Messages say when one begins and ends: events by their names, or a topic that is true while one lasts."""

    def __init__(self, rule: EpisodeRule):
        self._rule, self._path = rule, path_of(rule.path)
        self._marks: list[tuple[int, Mark]] = []

    def add(self, message: BagMessage) -> None:
        """Raises a LookupError where the message has no such field."""
        mark = self._mark(self._path.get(message.message))
        if mark is not None:
            insort(self._marks, (header_stamp(message.message) or message.published, mark), key=lambda each: each[0])

    def _mark(self, value: object) -> Mark | None:
        rule = self._rule
        if rule.by == "topic":
            return Mark.START if value else Mark.STOP
        named = {Mark.START: rule.start, Mark.STOP: rule.stop, Mark.SUCCESS: rule.success, Mark.FAILURE: rule.failure}
        return next((mark for mark, names in named.items() if str(value) in names), None)

    def opening(self, stamp: int) -> int | None:
        place = bisect_right(self._marks, stamp, key=lambda each: each[0])
        if place and self._marks[place - 1][1] is Mark.START:
            return stamp
        return next((at for at, mark in self._marks[place:] if mark is Mark.START), None)

    def closing(self, stamp: int, known: int) -> Closing | None:
        place = bisect_right(self._marks, stamp, key=lambda each: each[0])
        for at, mark in self._marks[place:]:
            if mark is not Mark.START:
                return Closing(at, at + 1, mark)
            if self._rule.by == "events":
                # Somebody forgot to say that the one before was over.
                return Closing(at, at)
        return None

    def forget_before(self, stamp: int) -> None:
        del self._marks[: max(bisect_right(self._marks, stamp, key=lambda each: each[0]) - 1, 0)]

    def clear(self) -> None:
        """Whether one is under way is not forgotten; only a change of it would be said again."""
        running = bool(self._marks) and self._marks[-1][1] is Mark.START
        self._marks = [(BEGINNING, Mark.START)] if running else []


class Reported(Marks):
    """The recorder's own reports, where nobody but a person or an old program moved the robot."""

    RULE = EpisodeRule(by="topic", topic=EPISODE_TOPIC, type="std_msgs/msg/String")

    def __init__(self) -> None:
        super().__init__(self.RULE)

    def add(self, message: BagMessage) -> None:
        """Raises a LookupError where the message is no report."""
        try:
            state = decode(EpisodeState, message.message.data)
        except InputError as error:
            raise LookupError(str(error)) from None
        mark = Mark.START if state.running else Mark.STOP
        if state.terminated and state.success is not None:
            mark = Mark.SUCCESS if state.success else Mark.FAILURE
        insort(self._marks, (state.stamp, mark), key=lambda each: each[0])
