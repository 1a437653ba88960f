"""Recordings into the store, beside everything else that a recorder does; what is left over comes in next time."""

import contextlib
import fcntl
import json
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from episodes.errors import InputError
from episodes.files import write_whole

RETRY = 30.0
"""After a recording could not be brought in, time until it is tried again [s]."""
WAITING = "not-in-store.txt"
"""In the folder of the recordings: those that are complete and still have to be brought in, and into which store."""
IMPORTING = ".importing"
"""In the folder of the recordings: locked by the process that brings one of them in."""


class _NoAnswerError(Exception):
    """In place of an answer: why there is none."""


class Importer:
    """The process that imports: begun when it is needed, kept for what comes next, and begun again when it has died."""

    def __init__(self, store: str, contract: str, place: str):
        self._command = [sys.executable, "-m", "robot.into_store", store, contract, place]
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def bring_in(self, recordings: Sequence[Path]) -> tuple[list[str], str]:
        """Import recordings one by one.

        Returns:
            Why each cannot be used, empty where it can be, until nothing more is wanted; and, where it died of the
            next one or cannot be talked to, its last words.
        """
        answers: list[str] = []
        for recording in recordings:
            if self._closed:
                return answers, ""
            try:
                answers.append(self._ask(recording))
            except _NoAnswerError as error:
                # One that was told to end has not died of anything.
                return answers, "" if self._closed else str(error)
        return answers, ""

    def close(self) -> None:
        """Want nothing more, from another thread; an import that is under way ends by itself."""
        self._closed = True
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _ask(self, recording: Path) -> str:
        """Raises a _NoAnswerError, after which the next recording gets another process."""
        process = self._begun()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(str(recording)) + "\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # It has died, or was closed at this moment.
            raise _NoAnswerError(self._last_words()) from None
        line = process.stdout.readline()
        if not line:
            raise _NoAnswerError(self._last_words())
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, str):
            # Somebody else's words: which line is which answer is not known any more.
            process.kill()
            self._last_words()
            raise _NoAnswerError(f"expected an answer of the process that imports, got {line.strip()!r}")
        return answer

    def _begun(self) -> "subprocess.Popen[str]":
        """The process, begun where there is none."""
        if self._process is None or self._process.poll() is not None:
            try:
                self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
                # In a session of its own: who interrupts the recorder at a terminal does not interrupt a commit.
                self._process = subprocess.Popen(  # noqa: S603
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise _NoAnswerError(f"the process that imports cannot be begun: {error}") from None
        return self._process

    def _last_words(self) -> str:
        """Of a process that has died; the next recording gets another one."""
        assert self._process is not None
        status = self._process.wait()
        self._process = None
        with self._errors as errors:
            errors.seek(0)
            lines = errors.read().strip().splitlines()
        return lines[-1] if lines else f"status {status}"


class IntoStore:
    """Imports recordings in a process of their own: nothing here may wait for a store, or be ended by one."""

    def __init__(self, folder: Path, store: str, contract: str, place: str, say: Callable[[str], None]):
        """`say` is told what went wrong; `contract` is a file."""
        self.problem = ""
        """What went wrong last; empty once all that waited was brought in afterwards."""
        self._folder, self._store, self._say = folder, store, say
        self._importer = Importer(store, contract, place)
        self._changed = threading.Condition()
        self._ending = False
        self._queue: deque[str] = deque(name for name, where in self._noted() if where == store)
        self._thread = threading.Thread(target=self._run, name="importer", daemon=True)

    @property
    def waiting(self) -> int:
        """Recordings that are not in the store yet."""
        return len(self._queue)

    def start(self) -> None:
        self._thread.start()

    def add(self, recording: Path) -> None:
        """Bring in a recording that is complete. From here on it is not forgotten."""
        with self._changed:
            self._queue.append(recording.name)
            self._note()
            self._changed.notify()

    def stop(self, timeout: float) -> None:
        """End when nothing is left to do, or after `timeout` [s]; an import that is under way ends by itself."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(timeout)
        self._importer.close()
        if self._queue:
            self._say(f"{len(self._queue)} recordings are not in {self._store} yet; the next start brings them in")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ending or self._queue)
                names = list(self._queue)
            if not names:
                return
            done = self._import(names)
            with self._changed:
                for _ in range(done):
                    self._queue.popleft()
                if done < len(names):
                    # What could not be brought in now waits behind what perhaps can.
                    self._queue.rotate(-1)
                self._note()
                if done < len(names) and self._changed.wait_for(lambda: self._ending, RETRY):
                    return

    def _import(self, names: Sequence[str]) -> int:
        """Import recordings; with how many of them there is nothing left to do: the next could not be brought in."""
        answers, last_words = self._importer.bring_in([self._folder / name for name in names])
        refused = [(name, why) for name, why in zip(names, answers, strict=False) if why]
        if last_words:
            refused.append((names[len(answers)], last_words))
        if len(answers) == len(names) and not refused:
            self.problem = ""
        for name, why in refused:
            self.problem = f"{self._folder / name} is not in the store: {why}"
            self._say(self.problem)
        return len(answers)

    def _noted(self) -> list[tuple[str, str]]:
        """Recordings and their stores, as they were noted last."""
        file = self._folder / WAITING
        lines = file.read_text().splitlines() if file.is_file() else []
        return [(name, store) for name, _, store in (line.partition("\t") for line in lines)]

    def _note(self) -> None:
        """Called while the lock is held."""
        try:
            others = [each for each in self._noted() if each[1] != self._store]
            lines = [f"{name}\t{store}\n" for name, store in [*others, *((name, self._store) for name in self._queue)]]
            if lines:
                write_whole(self._folder / WAITING, "".join(lines))
            else:
                (self._folder / WAITING).unlink(missing_ok=True)
        except OSError as error:
            self.problem = f"{self._folder / WAITING}: {error.strerror}"
            self._say(self.problem)


@contextlib.contextmanager
def alone_with(recordings: Path) -> Iterator[None]:
    """While no other process brings in recordings of the same folder: one that outlived its recorder may."""
    with (recordings / IMPORTING).open("ab") as lock:
        # A file system without locks has to be believed: there is nobody else.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(store: str, contract: str, place: str, recordings: Iterable[str]) -> None:
    """Import recordings, each a line of JSON; answers with a line: why it cannot be used, or an empty text."""
    from episodes.importing import import_into
    from episodes.snapshot import StoreError
    from robot.bag_import import BagSource
    from robot.contract_file import read_robot_contract

    assert place in ("real", "sim")
    for line in recordings:
        recording = Path(json.loads(line))
        try:
            with alone_with(recording.parent):
                import_into(BagSource(recording, read_robot_contract(Path(contract)), place=place), Path(store))
            answer = ""
        except StoreError:
            # Nothing is wrong with the recording.
            raise
        except InputError as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.stdin)
