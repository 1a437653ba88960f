"""What comes in from a bag: the inputs as frames know them, the commands, and what was seen of both."""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from robot.bags import Bag, BagMessage
from robot.contract import Command, RobotContract
from robot.frames import JUMP, Arrival, Frame, Frames
from robot.messages import MessagePath, header_stamp, path_of

FORGETTING = 500_000_000
"""Between two times that old readings are let go of [ns]."""


@dataclass(slots=True)
class InputSeen:
    """What became of one topic's messages."""

    topic: str
    arrivals: Counter[Arrival] = field(default_factory=Counter)
    reason: str = ""
    """Why the first of the unusable ones was unusable."""
    ages: array = field(default_factory=lambda: array("q"))
    """Of what was used, at each step's tick [ns]."""

    @property
    def messages(self) -> int:
        # What showed that the clock was set back was then taken as a new one.
        return self.arrivals.total() - self.arrivals[Arrival.CLOCK_JUMP]

    @property
    def unusable(self) -> int:
        return self.arrivals[Arrival.UNUSABLE]

    @property
    def late(self) -> float:
        """Part of the messages that came after newer ones."""
        return self.arrivals[Arrival.LATE] / max(self.messages, 1)

    @property
    def age(self) -> tuple[float, float] | None:
        """Median and greatest [s]; None where nothing was used."""
        return (median(self.ages) / 1e9, max(self.ages) / 1e9) if self.ages else None

    def spoil(self, why: str, count: int = 1) -> None:
        self.arrivals[Arrival.UNUSABLE] += count
        self.reason = self.reason or why


@dataclass(slots=True)
class Seen:
    """What was seen of a bag while its episodes were made."""

    inputs: dict[str, InputSeen]
    """By the contract's topic: observations, cameras, and commands."""
    cut: str | None = None
    """Where the bag is cut off."""
    notes: list[str] = field(default_factory=list)
    """What was lost of episodes that are there."""

    @classmethod
    def of(cls, robot: RobotContract, cut: str | None) -> "Seen":
        topics = [source.topic for source in (*robot.observations, *robot.cameras, *robot.commands)]
        topics += [] if robot.episodes.topic is None else [robot.episodes.topic]
        return cls({topic: InputSeen(topic) for topic in topics}, cut)

    def finish(self, bag: Bag, names: Mapping[str, str]) -> None:
        """Add what only the bag knows, and only when it has been read."""
        self.cut = bag.cut
        for topic, name in names.items():
            if bag.unreadable[name] and topic in self.inputs:
                self.inputs[topic].spoil(f"{topic}: {bag.reasons[name]}", bag.unreadable[name])

    def lines(self) -> list[str]:
        """For a person, one line per topic that something is to be said of."""
        lines = [f"the bag is not whole: {self.cut}"] if self.cut else []
        for seen in self.inputs.values():
            said = [f"{seen.late:.1%} late"] if seen.arrivals[Arrival.LATE] else []
            said += [f"{seen.arrivals[Arrival.REPEATED]} repeated"] if seen.arrivals[Arrival.REPEATED] else []
            said += [f"{seen.arrivals[Arrival.CLOCK_JUMP]} clock jumps"] if seen.arrivals[Arrival.CLOCK_JUMP] else []
            said += [f"{seen.unusable} unusable, the first: {seen.reason}"] if seen.unusable else []
            if said:
                lines.append(f"{seen.topic}: {seen.messages} messages, {', '.join(said)}")
        return [*lines, *self.notes]


class Inputs:
    """The contract's observations and cameras as they come from a bag, and frames of them."""

    def __init__(self, robot: RobotContract, seen: Seen):
        self.seen = seen
        self.newest = 0
        """Stamp of the newest reading [ns]; 0 before the first."""
        self.sources = (*robot.observations, *robot.cameras)
        self._frames = Frames(robot, kept=None)
        self._ages = [round(source.max_age * 1e9) for source in self.sources]
        self._by_topic: dict[str, list[int]] = {}
        for index, source in enumerate(self.sources):
            self._by_topic.setdefault(source.topic, []).append(index)
        self.topics = frozenset(self._by_topic)
        self._forgotten = 0

    @property
    def oldest_age(self) -> int:
        """After which no input counts any more [ns]."""
        return max(self._ages)

    def stamps(self, topic: str, message: BagMessage) -> list[int | None]:
        """Of a message, for each input that it belongs to [ns]; None where its header says nothing."""
        return self._frames.stamps(topic, message.message, message.published)

    def jumps(self, topic: str, stamps: list[int | None]) -> bool:
        """Whether stamps show that the clock was set back, so that nothing before them can be compared with them."""
        for index, stamp in zip(self._by_topic[topic], stamps, strict=True):
            kept = self._frames.known(index)
            if stamp is not None and kept and stamp < kept[-1] - JUMP:
                self.seen.inputs[topic].arrivals[Arrival.CLOCK_JUMP] += 1
                return True
        return False

    def add(self, topic: str, message: BagMessage, stamps: list[int | None]) -> None:
        """Take a message. One that some input cannot use counts as unusable."""
        seen, worst, reason = self.seen.inputs[topic], None, ""
        arrivals = self._frames.take(topic, message.message, stamps)
        for stamp, (arrival, why) in zip(stamps, arrivals, strict=True):
            if arrival is Arrival.UNUSABLE or worst is None:
                worst, reason = arrival, why
            if stamp is not None and stamp > self.newest and arrival is not Arrival.UNUSABLE:
                self.newest = stamp
        if worst is Arrival.UNUSABLE:
            seen.spoil(reason)
        elif worst is not None:
            seen.arrivals[worst] += 1

    def usable_from(self, tick: int) -> int | None:
        """The first moment, not before a tick, at which every input is there and none too old; None: not yet known."""
        moved = True
        while moved:
            moved = False
            for index, age in enumerate(self._ages):
                stamps = self._frames.known(index)
                place = bisect_right(stamps, tick)
                if place and tick - stamps[place - 1] <= age:
                    continue
                if place == len(stamps):
                    return None
                tick, moved = stamps[place], True
        return tick

    def frame(self, tick: int) -> Frame:
        """What was known at a tick."""
        return self._frames.frame(tick)

    def at(self, tick: int, stamps: tuple[int, ...]) -> Frame:
        """The frame of the messages with these stamps."""
        return self._frames.at(tick, stamps)

    def newest_stamps(self, tick: int) -> tuple[int, ...]:
        """Of what was newest at a tick."""
        return self._frames.frame(tick).stamps

    def used(self, frame: Frame) -> None:
        """Note how old everything in a frame is."""
        for source, stamp in zip(self.sources, frame.stamps, strict=True):
            if stamp:
                self.seen.inputs[source.topic].ages.append(frame.tick - stamp)

    def forget_before(self, stamp: int) -> None:
        """Let go of what no frame from here on needs, now and then."""
        if stamp <= self._forgotten + FORGETTING:
            return
        self._forgotten = stamp
        self._frames.forget_before(stamp)

    def clear(self) -> None:
        """Forget everything: the clock was set back."""
        self._frames.clear()
        self.newest = self._forgotten = 0

    def missing(self) -> list[str]:
        """Topics that have never said anything usable."""
        return [t for t in self._by_topic if not self.seen.inputs[t].messages - self.seen.inputs[t].unusable]


class Commands:
    """What was sent on one command topic, and what of it the controller behind it was following at a time."""

    def __init__(self, command: Command, period: int, seen: InputSeen):
        self._command, self._seen = command, seen
        self._values = _reader(command)
        self._scale = np.array([entry.scale for entry in command.fields])
        self._zero = np.zeros(len(command.fields), np.float32)
        self._stamps: list[int] = []
        self._sent: list[np.ndarray] = []
        self.first: int | None = None
        """Stamp of the first command [ns]; None before it."""
        self._kept: int | None = None
        """For how long a command counts after it was sent [ns]; None where it counts until the next."""
        if command.kind != "position" and command.on_silence != "repeats_last":
            # Without a time-out that is known, one period's jitter is let pass.
            self._kept = 2 * period if command.silence is None else round(command.silence * 1e9)

    def read(self, message: Any) -> np.ndarray | None:
        """The action that a message commands, shape (n,), float64; None, and counted, where it cannot be used."""
        try:
            values = self._values(message) / self._scale
        except (LookupError, TypeError, ValueError) as error:
            self._seen.spoil(f"{self._command.topic}: {error}")
            return None
        if not np.isfinite(values).all():
            self._seen.spoil(f"{self._command.topic}: not finite: {values.tolist()}")
            return None
        return values

    def add(self, message: BagMessage) -> int | None:
        """Take a command; its stamp [ns], or None where it cannot be used."""
        values = self.read(message.message)
        if values is None:
            return None
        stamp = header_stamp(message.message) or message.published
        late = bool(self._stamps) and stamp < self._stamps[-1]
        self._seen.arrivals[Arrival.LATE if late else Arrival.NEW] += 1
        place = bisect_right(self._stamps, stamp)
        self._stamps.insert(place, stamp)
        self._sent.insert(place, values.astype(np.float32))
        self.first = stamp if self.first is None else min(self.first, stamp)
        return stamp

    def between(self, begin: int, end: int) -> tuple[np.ndarray, int]:
        """What the robot was told in [begin, end), shape (n,), and since when [ns].

        The newest command of that time; where there is none, the one before as long as it counts, then zero.
        """
        place = bisect_left(self._stamps, end) - 1
        if place < 0:
            return self._zero, begin
        stamp = self._stamps[place]
        if stamp < begin and self._kept is not None and begin - stamp > self._kept:
            return self._zero, begin
        return self._sent[place], stamp

    def forget_before(self, stamp: int) -> None:
        place = max(bisect_right(self._stamps, stamp) - 1, 0)
        del self._stamps[:place], self._sent[:place]

    def clear(self) -> None:
        self._stamps.clear()
        self._sent.clear()
        self.first = None


def _reader(command: Command) -> Callable[[Any], np.ndarray]:
    """What reads the numbers of a command's message, shape (n,). Numbers in one list are taken from it together."""
    lists: dict[str, list[tuple[int, int]]] = {}
    alone: list[tuple[int, MessagePath]] = []
    for row, entry in enumerate(command.fields):
        path = path_of(entry.path)
        last = path.steps[-1]
        if isinstance(last, int):
            lists.setdefault(path.text.rpartition("[")[0], []).append((row, last))
        else:
            alone.append((row, path))
    grouped = [(path_of(stem), *np.array(places, np.intp).T) for stem, places in lists.items()]

    def read(message: Any) -> np.ndarray:
        values = np.empty(len(command.fields))
        for whole, rows, places in grouped:
            numbers = np.asarray(whole.get(message), np.float64)
            order = _joint_places(command, message)[places] if command.joints else places
            if order.max() >= len(numbers):
                raise LookupError(f"{whole.text}: has {len(numbers)} values, expected more than {order.max()}")
            values[rows] = numbers[order]
        for row, path in alone:
            values[row] = path.get(message)
        return values

    return read


def _joint_places(command: Command, message: Any) -> np.ndarray:
    """Where each joint of the contract is in a trajectory: messages may name them in any order."""
    names = list(message.joint_names)
    for joint in command.joints:
        if joint not in names:
            raise LookupError(f"there is no joint {joint!r}; there are: {', '.join(names)}")
    return np.array([names.index(joint) for joint in command.joints], np.intp)
