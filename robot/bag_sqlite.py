"""An sqlite3 file of a rosbag2 recording, as far as it is whole, and never changed by reading it."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from episodes.errors import InputError
from robot.bag_files import BagFile, Channel, DamagedError, Part, Raw

SQLITE_MAGIC = b"SQLite format 3\0"

_TABLE_LEAF = 13
_TREE = (2, 5, 10, 13)
"""First bytes of pages that hold trees. Any other is the continuation of a row that is longer than a page."""
_NONE = 2**63
"""After every row."""


class SqliteFile(BagFile):
    """An sqlite3 file. Where it is cut off it is read in the order in which it was written, as far as that goes."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._rows: np.ndarray | None = None
        """Of a damaged file: log time, channel and row of each message that can be found, shape (n, 3)."""
        self._connection = self._connected()
        try:
            self._read_topics()
            self._count()
        except sqlite3.Error as error:
            self.cut = self.cut or _malformed(error)
        except InputError:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def parts(self, wanted: Mapping[int, Any]) -> list[Part]:
        if self.start is None or not wanted:
            return self._end_of([])
        return self._end_of([Part(self.start, lambda: self._read(wanted), self.path)])

    def _connected(self) -> sqlite3.Connection:
        """The file is never written to: what a crash left half done cannot be put right here, only looked through."""
        address = self.path.absolute().as_uri()
        for end in ("-wal", "-journal"):
            beside = Path(f"{self.path}{end}")
            if beside.exists() and beside.stat().st_size:
                try:
                    return _connection(f"{address}?mode=ro")
                except sqlite3.Error:
                    self.cut = f"what is in {beside.name} cannot be brought in without writing: only the rest is read"
        # Nothing beside the file is looked at, and so nothing in it is locked or changed.
        return _connection(f"{address}?immutable=1", probe=False)

    def _read_topics(self) -> None:
        execute = self._connection.execute
        tables = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise InputError(f"{self.path}: an sqlite3 file without tables topics and messages: no rosbag2, or cut off")
        definitions: dict[str, tuple[str, str]] = {}
        if "message_definitions" in tables:
            rows = execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
            definitions = {kind: (encoding, text) for kind, encoding, text in rows}
        for number, *texts in execute("SELECT id, name, type, serialization_format FROM topics"):
            texts += definitions.get(texts[1], ("", ""))
            if type(number) is not int or not all(isinstance(text, str) for text in texts):
                raise sqlite3.DatabaseError(f"a topic that is none: {number!r}")
            self.channels[number] = Channel(*texts)

    def _count(self) -> None:
        query = "SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM messages GROUP BY topic_id"
        if self.cut is None:
            try:
                for channel, count, first, last in list(_numbers(self._connection.execute(query))):
                    self._saw(channel, first, last, count)
                return
            except sqlite3.Error as error:
                self.cut = _malformed(error)
        # As the rows were written: the index by time may be what is lost. Every message is read to its end, to see
        # whether it has one.
        found: list[tuple[int, ...]] = []
        columns = "timestamp, topic_id, id, LENGTH(data), LENGTH(SUBSTR(data, -1))"
        query = f"SELECT {columns} FROM messages NOT INDEXED ORDER BY id"  # noqa: S608
        with suppress(sqlite3.Error):
            found.extend(_numbers(self._connection.execute(query)))
        lost = _first_lost(self.path, found)
        found = [row[:3] for row in found if row[2] < lost]
        for logged, channel, _ in found:
            self._saw(channel, logged)
        self._rows = np.array(found, np.int64).reshape(-1, 3)
        self._rows = self._rows[np.argsort(self._rows[:, 0], kind="stable")]

    def _read(self, wanted: Mapping[int, Any]) -> Iterator[Raw]:
        try:
            for logged, channel, data in self._found(wanted):
                if type(logged) is not int or type(data) is not bytes:
                    raise DamagedError(self._stop(f"a message at {logged!r} ns is none"))
                yield Raw(logged, logged, wanted[channel], data)
        except sqlite3.Error as error:
            raise DamagedError(self._stop(str(error))) from None

    def _found(self, wanted: Mapping[int, Any]) -> Iterator[tuple[int, int, bytes]]:
        execute = self._connection.execute
        if self._rows is None:
            numbers = ",".join(str(int(channel)) for channel in wanted)
            query = (
                f"SELECT timestamp, topic_id, data FROM messages WHERE topic_id IN ({numbers}) ORDER BY timestamp, id"  # noqa: S608
            )
            for row in execute(query):
                yield row
            return
        for logged, channel, row in self._rows.tolist():
            if channel in wanted:
                there = execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchone()
                if there is None:
                    raise sqlite3.DatabaseError(f"message {row} is lost")
                yield logged, channel, there[0]

    def _stop(self, why: str) -> str:
        self.cut = self.cut or f"damaged: {why}; what comes after it is not read"
        return self.cut


def _connection(address: str, *, probe: bool = True) -> sqlite3.Connection:
    """An open database; `probe` raises at once where nothing in it can be read."""
    connection = sqlite3.connect(address, uri=True, check_same_thread=False)
    # A file that is shorter than it says would else not be opened at all.
    connection.executescript("PRAGMA trusted_schema=OFF; PRAGMA writable_schema=ON")
    if probe:
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
    return connection


def _numbers(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, ...]]:
    """Rows that have to be whole numbers; in a damaged file they may be anything."""
    for row in rows:
        if not all(type(value) is int for value in row):
            raise sqlite3.DatabaseError(f"a row of other things than numbers: {row!r}")
        yield row


def _first_lost(path: Path, rows: list[tuple[int, ...]]) -> int:
    """The first row that the end of a file inside a page makes doubtful: SQLite takes what is missing for zeros.

    Args:
        rows: log time, channel, number and length of each, in the order of their numbers.
    """
    with path.open("rb") as file:
        file.seek(16)
        size = int.from_bytes(file.read(2), "big")
        size = 65536 if size == 1 else max(size, 512)
        file.seek(path.stat().st_size // size * size)
        rest = file.read()
    if rest and rest[0] == _TABLE_LEAF:
        return _first_row(rest)
    if rest and rest[0] not in _TREE:
        # The continuation of the last message that is longer than a page.
        return max((row[2] for row in rows if row[3] > size - 64), default=_NONE)
    return _NONE


def _first_row(page: bytes) -> int:
    """The first row of a table's leaf page of which anything is left. Rows are laid down from the end of a page."""
    count = int.from_bytes(page[3:5], "big")
    pointers = [int.from_bytes(page[at : at + 2], "big") for at in range(8, min(8 + 2 * count, len(page) - 1), 2)]
    rows = []
    for pointer in pointers:
        _, after = _variable(page, pointer)
        row, after = _variable(page, after)
        if after <= len(page):
            rows.append(row)
    return min(rows, default=_NONE)


def _variable(content: bytes, at: int) -> tuple[int, int]:
    """An SQLite number of seven bits per byte, and where it ends."""
    value = 0
    for byte in content[at : at + 8]:
        value, at = value << 7 | byte & 0x7F, at + 1
        if byte < 0x80:
            return value, at
    return value, at + 1


def _malformed(error: sqlite3.Error) -> str:
    return f"cut off or damaged ({error}): only what was written before that is read"
