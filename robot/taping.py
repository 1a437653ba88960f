"""What is heard becomes a file: the recorder's writing, without ROS."""

import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from episodes.errors import InputError
from robot.bag_writer import BagWriter

CLAIM = ".recorder"
"""In the folder of the recordings: locked by the recorder that writes there."""
BEFORE_COUNT = 3
"""Of each input, what is kept from before a file's beginning at least: in lock-step time stands still meanwhile."""


class Tape:
    """One file at a time. From any thread; who takes waits for the disk only where a file begins.

    An OSError is the end of a file: what there is stays under its unfinished name, nothing more is taken, and nobody
    else who is at the same file hears of it.
    """

    def __init__(self, topics: Mapping[str, str], before: Mapping[str, int], fsync: Callable[[int], None] = os.fsync):
        """
        Args:
            topics: name to type of all that may be taken.
            before: of which of them a file has what came before its beginning, and for how long that is kept [ns].
            fsync: the system's; tests put another in its place.
        """
        self._topics, self._before, self._fsync = topics, before, fsync
        self._recent: dict[str, deque[tuple[bytes, int, int]]] = {name: deque() for name in before}
        self._lock = threading.Lock()
        self._writer: BagWriter | None = None
        self._claims: list[IO[bytes]] = []

    def claim(self, folders: Iterable[Path]) -> None:
        """Have folders of recordings alone, until `release`: all of them, or none.

        Raises:
            InputError: where another one has it, or it cannot be written.
        """
        try:
            for folder in folders:
                self._claims.append(_claimed(folder))
        except InputError:
            # The first one, too: else the next try would find it taken, by this process.
            self.release()
            raise

    def release(self) -> None:
        while self._claims:
            self._claims.pop().close()

    def begin(self, path: Path) -> None:
        """Begin a file with what came last. A disk that is full is noticed now, and not when the robot moves."""
        with self._lock:
            writer = BagWriter(path, self._fsync)
            try:
                for name, kind in self._topics.items():
                    writer.add_topic(name, kind)
                for name, messages in self._recent.items():
                    for message in messages:
                        writer.write(name, *message)
                writer.sync()
            except OSError:
                writer.abandon()
                raise
            self._writer = writer

    def take(self, name: str, data: bytes, logged: int, published: int) -> None:
        """A serialised message, when it was received and when it was published [ns]."""
        with self._lock:
            if name in self._recent:
                self._remember(name, data, logged, published)
            if self._writer is not None:
                try:
                    self._writer.write(name, data, logged, published)
                except OSError:
                    self._abandon()
                    raise

    def _remember(self, name: str, data: bytes, logged: int, published: int) -> None:
        recent = self._recent[name]
        if recent and logged < recent[-1][1]:
            # The clock was set back: none of these would be old enough to be forgotten for as long as that.
            recent.clear()
        recent.append((data, logged, published))
        while len(recent) > BEFORE_COUNT and recent[0][1] < logged - self._before[name]:
            recent.popleft()

    def recent(self, name: str) -> list[tuple[bytes, int, int]]:
        """What is kept of a topic now, in the order that it came: as it was given to `take`."""
        with self._lock:
            return list(self._recent[name])

    def sync(self) -> None:
        """Bring to the disk what was taken so far; a disk that takes seconds keeps nobody from taking more."""
        with self._lock:
            writer = self._writer
            if writer is None:
                return
            try:
                writer.flush()
            except OSError:
                self._abandon()
                raise
        try:
            writer.wait_for_disk()
        except (OSError, ValueError):
            # One that was closed meanwhile, a ValueError in Python's words, is not asked for any more.
            with self._lock:
                if self._writer is writer:
                    self._abandon()
                    raise

    def end(self) -> BagWriter | None:
        """Take nothing more. Who gets the file closes it, and waits for the disk alone; None where none is there."""
        with self._lock:
            writer, self._writer = self._writer, None
        return writer

    def _abandon(self) -> None:
        assert self._writer is not None
        self._writer.abandon()
        self._writer = None


def _claimed(folder: Path) -> IO[bytes]:
    """The folder of recordings, for one recorder alone for as long as what is returned is open."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        claim = (folder / CLAIM).open("ab")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks has to be believed: there is nobody else.
        if isinstance(error, BlockingIOError):
            claim.close()
            raise InputError(f"{folder}: another recorder writes there; give this one its own: bags:=DIR") from None
    return claim
