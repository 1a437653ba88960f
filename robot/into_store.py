"""Recordings into the store, beside everything else that a recorder does; what is left over comes in next time."""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from episodes.errors import InputError
from episodes.files import write_whole

RETRY = 30.0
"""After a recording could not be brought in, time until it is tried again [s]."""
WAITING = "not-in-store.txt"
"""In the folder of the recordings: those that are complete and still have to be brought in, and into which store."""


class IntoStore:
    """Imports recordings in a process of their own: nothing here may wait for a store, or be ended by one."""

    def __init__(self, folder: Path, store: str, contract: str, place: str, say: Callable[[str], None]):
        """`say` is told what went wrong; `contract` is a file."""
        self.problem = ""
        """What went wrong last."""
        self._folder, self._store, self._say = folder, store, say
        self._command = [sys.executable, "-m", "robot.into_store", store, contract, place]
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
        # In a session of its own: who interrupts the recorder at a terminal does not interrupt a commit.
        ended = subprocess.run(  # noqa: S603
            [*self._command, *(str(self._folder / name) for name in names)],
            capture_output=True,
            text=True,
            errors="replace",
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        answers = ended.stdout.splitlines()
        refused = [(name, why) for name, why in zip(names, map(json.loads, answers), strict=False) if why]
        if len(answers) < len(names):
            last = (ended.stderr.strip().splitlines() or [f"status {ended.returncode}"])[-1]
            refused.append((names[len(answers)], last))
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
        others = [each for each in self._noted() if each[1] != self._store]
        lines = [f"{name}\t{store}\n" for name, store in [*others, *((name, self._store) for name in self._queue)]]
        try:
            if lines:
                write_whole(self._folder / WAITING, "".join(lines))
            else:
                (self._folder / WAITING).unlink(missing_ok=True)
        except OSError as error:
            self.problem = f"{self._folder / WAITING}: {error.strerror}"
            self._say(self.problem)


def main(store: str, contract: str, place: str, *recordings: str) -> None:
    """Import recordings; answers each with a line of JSON: why it cannot be used, or an empty text."""
    from episodes.importing import import_into
    from episodes.snapshot import StoreError
    from robot.bag_import import BagSource
    from robot.contract_file import read_robot_contract

    assert place in ("real", "sim")
    for recording in recordings:
        try:
            import_into(BagSource(Path(recording), read_robot_contract(Path(contract)), place=place), Path(store))
            answer = ""
        except StoreError:
            # Nothing is wrong with the recording.
            raise
        except InputError as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
