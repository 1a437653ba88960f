"""Messages to frames: what was known at a tick, by the messages' own stamps and never by when they arrived.

The importer and the actor share this, so that what a policy was trained on is what it is served. An input with the
newest stamp that is not after the tick counts; the stamps that were used name a frame completely.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

import numpy as np

from episodes.errors import InputError
from robot.contract import CameraTopic, RobotContract, state_entries
from robot.messages import header_stamp
from robot.pictures import picture_from
from robot.state_reader import StateReader

JUMP = 1_000_000_000
"""A stamp this much older than the newest one [ns] is no late message: the clock was set back."""


Reading = np.ndarray | Callable[[], np.ndarray]
"""What a message says, or what makes it when somebody asks: most pictures are between two ticks."""


class Arrival(Enum):
    """What a message was to the frames."""

    NEW = "new"
    LATE = "late"
    """Older than another that came before it; it is put where it belongs."""
    REPEATED = "repeated"
    """Its stamp was there already; the first one counts."""
    CLOCK_JUMP = "clock jump"
    """So much older that the clock must have been set back: everything before is forgotten."""
    UNUSABLE = "unusable"
    """It lacks a joint or a field, or a number in it is not finite."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What was known at a tick."""

    tick: int
    """[ns]"""
    state: np.ndarray
    """Shape (S,), float32; NaN where an input is missing."""
    images: dict[str, np.ndarray]
    stamps: tuple[int, ...]
    """Of the message of each input that was used, in the contract's order, observations first [ns]; 0 where missing."""
    missing: tuple[str, ...]
    """Topics of the inputs that never said anything, or only what is stamped after the tick."""
    stale: tuple[str, ...]
    """Topics of the inputs whose newest message is too old."""
    ahead: dict[str, int] = field(default_factory=dict)
    """Of the missing ones, topics that only said what is after the tick, and by how much the newest of it is [ns]."""

    @property
    def usable(self) -> bool:
        return not self.missing and not self.stale


class _Input:
    """The newest readings of one input, in the order of their stamps."""

    def __init__(self, topic: str, max_age: float, size: int, kept: int | None):
        self.topic, self.max_age, self.size = topic, round(max_age * 1e9), size
        self._kept = kept
        self.stamps: list[int] = []
        self._readings: dict[int, Reading] = {}

    def add(self, stamp: int, reading: Reading) -> Arrival:
        if stamp in self._readings:
            return Arrival.REPEATED
        newest = self.stamps[-1] if self.stamps else stamp
        if stamp < newest - JUMP:
            self.clear()
        insort(self.stamps, stamp)
        self._readings[stamp] = reading
        # Two at least: the newest may be after the tick.
        while self._kept is not None and len(self.stamps) > 2 and self.stamps[0] < self.stamps[-1] - self._kept:
            del self._readings[self.stamps.pop(0)]
        if stamp < newest - JUMP:
            return Arrival.CLOCK_JUMP
        return Arrival.LATE if stamp < newest else Arrival.NEW

    def clear(self) -> None:
        self.stamps.clear()
        self._readings.clear()

    def forget_before(self, stamp: int) -> None:
        """Keep the newest reading that is not after a stamp, and what is after it."""
        place = bisect_right(self.stamps, stamp) - 1
        for old in self.stamps[: max(place, 0)]:
            del self._readings[old]
        del self.stamps[: max(place, 0)]

    def newest(self, tick: int) -> int:
        """The newest stamp that is not after the tick; 0 where there is none."""
        place = bisect_right(self.stamps, tick)
        return self.stamps[place - 1] if place else 0

    def at(self, stamp: int) -> np.ndarray | None:
        reading = self._readings.get(stamp)
        if callable(reading):
            reading = self._readings[stamp] = reading()
        return reading


class Frames:
    """Collects messages, and says what was known at a tick.

    Args:
        contract: whose observations and cameras are the inputs.
        cameras: whether pictures are wanted.
        kept: for how long readings are kept [s]; None keeps them until `forget_before`.
    """

    def __init__(self, contract: RobotContract, *, cameras: bool = True, kept: float | None = 2.0):
        span = None if kept is None else round(kept * 1e9)
        self._observations = contract.observations
        self._cameras = contract.cameras if cameras else ()
        self._inputs = [_Input(o.topic, o.max_age, len(state_entries(o)), span) for o in self._observations]
        self._inputs += [_Input(c.topic, c.max_age, 0, span) for c in self._cameras]
        self._sources = (*self._observations, *self._cameras)
        self._read: list[Callable[[Any], Reading]] = [StateReader(source).read for source in self._observations]
        self._read += [partial(self._picture, camera) for camera in self._cameras]
        self._usable: set[tuple[Any, ...]] = set()
        """Formats of raw pictures that could be used."""
        self._by_topic: dict[str, list[int]] = {}
        for index, item in enumerate(self._inputs):
            self._by_topic.setdefault(item.topic, []).append(index)

    @property
    def topics(self) -> list[str]:
        return list(self._by_topic)

    def add(self, topic: str, message: Any, published: int) -> list[tuple[Arrival, str]]:
        """Take a message. For every input that it belongs to, what it was, and why where it was unusable.

        Args:
            published: when it was published [ns], for inputs whose stamp that is.
        """
        return self.take(topic, message, self.stamps(topic, message, published))

    def stamps(self, topic: str, message: Any, published: int) -> list[int | None]:
        """Of a message, for each input that it belongs to [ns]; None where its header says nothing."""
        sources = [self._sources[index] for index in self._by_topic[topic]]
        return [published if source.stamp == "publish" else header_stamp(message) for source in sources]

    def take(self, topic: str, message: Any, stamps: Sequence[int | None]) -> list[tuple[Arrival, str]]:
        """As `add`, of a message whose stamps are known."""
        inputs = self._by_topic[topic]
        return [self._take(index, topic, message, stamps[place]) for place, index in enumerate(inputs)]

    def _take(self, index: int, topic: str, message: Any, stamp: int | None) -> tuple[Arrival, str]:
        if stamp is None:
            return Arrival.UNUSABLE, f"{topic}: header.stamp is zero or missing; use stamp: publish in the contract"
        try:
            reading = self._read[index](message)
        except (LookupError, ValueError, InputError) as error:
            return Arrival.UNUSABLE, f"{topic}: {error}"
        return self._inputs[index].add(stamp, reading), ""

    def _picture(self, camera: CameraTopic, message: Any) -> Reading:
        """A picture; of a raw one like one that could be used before, what makes it."""
        like = (camera.name, *(getattr(message, part, 0) for part in ("encoding", "height", "width", "step")))
        like += (len(getattr(message, "data", ())),)
        if like in self._usable:
            return partial(picture_from, message, camera)
        picture = picture_from(message, camera)
        if camera.type == "sensor_msgs/msg/Image":
            self._usable.add(like)
        return picture

    def frame(self, tick: int) -> Frame:
        """What was known at a tick [ns]."""
        return self.at(tick, [item.newest(tick) for item in self._inputs])

    def at(self, tick: int, stamps: Sequence[int]) -> Frame:
        """The frame that was made of the messages with these stamps."""
        if len(stamps) != len(self._inputs):
            raise InputError(f"a frame has {len(self._inputs)} inputs, got {len(stamps)} stamps")
        parts, images, missing, stale, ahead = [], {}, [], [], {}
        for number, (item, stamp) in enumerate(zip(self._inputs, stamps, strict=True)):
            reading = item.at(stamp)
            seen = reading is not None
            if reading is None:
                missing.append(item.topic)
                if item.stamps and item.stamps[0] > tick:
                    ahead[item.topic] = item.stamps[-1] - tick
                reading = np.full(item.size, np.nan, np.float32)
            elif tick - stamp > item.max_age:
                stale.append(item.topic)
            if number < len(self._observations):
                parts.append(reading)
            elif seen:
                images[self._cameras[number - len(self._observations)].name] = reading
        state = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        topics = tuple(dict.fromkeys(missing)), tuple(dict.fromkeys(stale))
        return Frame(tick, state, images, tuple(stamps), *topics, ahead)

    def known(self, index: int) -> Sequence[int]:
        """The stamps of an input's readings that are kept, in order [ns]."""
        return self._inputs[index].stamps

    def common_stamp(self) -> int:
        """The newest stamp that every input has reached; 0 where one has said nothing."""
        return min((item.newest(2**63 - 1) for item in self._inputs), default=0)

    def forget_before(self, stamp: int) -> None:
        """Let go of readings that no frame from this tick on can need [ns]."""
        for item in self._inputs:
            item.forget_before(stamp)

    def clear(self) -> None:
        """Forget everything: after a clock jump, or a reset."""
        for item in self._inputs:
            item.clear()
