"""Every answer of every judge, kept in one SQLite file: nothing is paid for twice, and anybody can look it up."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from episodes.errors import InputError

WAIT = 30.0
"""How long somebody else may be writing [s]."""

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    judge TEXT NOT NULL,
    identity TEXT NOT NULL,
    task TEXT NOT NULL,
    pictures TEXT NOT NULL,
    value TEXT NOT NULL,
    rationale TEXT NOT NULL,
    date TEXT NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What an answer is kept under: who was asked what about which pictures, in which order."""

    judge: str
    identity: str
    task: str
    pictures: tuple[str, ...]
    """`digest` of each moment that is shown."""

    @property
    def key(self) -> str:
        whole = json.dumps([self.judge, self.identity, self.task, self.pictures])
        return hashlib.sha256(whole.encode()).hexdigest()


class Answers:
    """The file of answers. Every `put` is on the disk when it returns."""

    def __init__(self, path: Path):
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
            self._begin()
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"{path}: cannot be used to keep answers ({error}); give another file or repair it"
            ) from None

    def _begin(self) -> None:
        """Going over to a write-ahead log is the one statement that does not wait for other writers by itself."""
        until = time.monotonic() + WAIT
        while True:
            try:
                self._file.execute("PRAGMA journal_mode=WAL")
                self._file.execute(_TABLE)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def get(self, question: Question) -> tuple[str, str] | None:
        """The answer's value and rationale, if this has been asked before."""
        rows = self._run("SELECT value, rationale FROM answers WHERE key = ?", (question.key,))
        return rows[0] if rows else None  # type: ignore[return-value]

    def put(self, question: Question, value: str, rationale: str = "") -> None:
        """Keep an answer. The first one stays: whoever asks again while it is being written gets the same."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        row = (question.key, question.judge, question.identity, question.task, json.dumps(question.pictures))
        self._run("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, value, rationale, date))

    def count(self) -> int:
        """How many answers are kept."""
        return int(self._run("SELECT count(*) FROM answers")[0][0])  # type: ignore[call-overload]

    def close(self) -> None:
        self._file.close()

    def _run(self, statement: str, values: Iterable[str] = ()) -> list[tuple[object, ...]]:
        try:
            # Half an emoji, as a reply that was cut off ends with, is no text that a file can hold.
            whole = tuple(value.encode("utf-8", "replace").decode() for value in values)
            return self._file.execute(statement, whole).fetchall()
        except sqlite3.Error as error:
            raise InputError(f"{self.path}: cannot be used to keep answers ({error})") from None


def digest(images: Mapping[str, np.ndarray]) -> str:
    """A moment's pictures as a hash of their content: the same pictures are the same question in any store."""
    whole = hashlib.sha256()
    for name in sorted(images):
        whole.update(f"{name} {images[name].shape}".encode())
        whole.update(np.ascontiguousarray(images[name]).tobytes())
    return whole.hexdigest()
