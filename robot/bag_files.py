"""What a file of a bag is to who reads it: raw messages by channel, in the order of the log, as far as it is whole."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple


class DamagedError(Exception):
    """Here a file stops making sense; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic of one file."""

    topic: str
    type: str
    serialization: str
    """`cdr`, where it can be understood."""
    encoding: str = ""
    """Of the definition: `ros2msg`, `ros2idl`, or what nobody understands."""
    definition: str = ""
    """Of the type and of what it consists of; empty where the file has none."""


class Raw(NamedTuple):
    """A message as it lies in the file."""

    logged: int
    """[ns]"""
    published: int
    """[ns]"""
    target: Any
    """What was wanted of its channel."""
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Part:
    """Messages that are read together, in the order of their log times."""

    start: int
    """No message in it was logged before [ns]."""
    read: Callable[[], Iterator[Raw]]
    """Raises DamagedError where the file does."""
    file: Path
    """That it is of: where that is damaged, nothing more of it is read."""


def in_order(parts: list[Part]) -> Iterator[Raw]:
    """The messages of all parts by log time. A part is read when its turn has come, and forgotten after it.

    Where a file is damaged comes one without a target: from there on something is missing, and other files go on.
    """
    waiting = sorted(parts, key=lambda part: part.start)[::-1]

    def until_damage(part: Part) -> Iterator[Raw]:
        last = part.start
        try:
            for message in part.read():
                last = message.logged
                yield message
        except DamagedError:
            waiting[:] = [each for each in waiting if each.file != part.file]
            yield Raw(last, last, None, b"")

    begun: list[tuple[Raw, Iterator[Raw]]] = []
    while waiting or begun:
        while waiting and (not begun or waiting[-1].start <= begun[0][0].logged):
            messages = until_damage(waiting.pop())
            first = next(messages, None)
            if first is not None:
                begun.append((first, messages))
                begun.sort(key=lambda each: each[0].logged)
        if not begun:
            continue
        first, messages = begun.pop(0)
        limits = [begun[0][0].logged] if begun else []
        limits += [waiting[-1].start] if waiting else []
        limit = min(limits, default=2**64)
        for message in chain((first,), messages):
            if message.logged > limit:
                begun.append((message, messages))
                begun.sort(key=lambda each: each[0].logged)
                break
            yield message


class BagFile(ABC):
    """What the two kinds of files have in common."""

    def __init__(self, path: Path):
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.counts: Counter[int] = Counter()
        """Messages per channel."""
        self.start: int | None = None
        """Log time of the first message [ns]; None where there is none."""
        self.end: int | None = None
        self.cut: str | None = None
        """Where and why the file ends before it should; None where it is whole, as far as one has looked."""

    @abstractmethod
    def parts(self, wanted: Mapping[int, Any]) -> list[Part]:
        """The messages of these channels; the mapping gives what each raw message carries as its `target`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def _end_of(self, parts: list[Part]) -> list[Part]:
        """The parts, and, where the file is cut off, one that says so when reading gets there."""
        if self.cut is None or self.end is None:
            return parts
        text = self.cut

        def say() -> Iterator[Raw]:
            raise DamagedError(text)
            yield

        return [*parts, Part(self.end + 1, say, self.path)]

    def _saw(self, channel: int, logged: int, last: int | None = None, count: int = 1) -> None:
        self.counts[channel] += count
        last = logged if last is None else last
        self.start = logged if self.start is None else min(self.start, logged)
        self.end = last if self.end is None else max(self.end, last)


class EmptyFile(BagFile):
    """A file that the recorder was killed before it wrote anything into."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.cut = "is empty: the recorder was interrupted"

    def parts(self, wanted: Mapping[int, Any]) -> list[Part]:
        return []

    def close(self) -> None:
        pass
