"""Recordings on their way into a store: what cannot be brought in now is not forgotten."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from episodes.errors import InputError
from episodes.snapshot import StoreError
from robot import into_store
from robot.into_store import WAITING, IntoStore
from tests.robot.contracts import SHIPPED

Imports = Callable[[Sequence[str]], tuple[list[str], str]]
"""Names of recordings to the answers of those that were gone through, and the last words."""


class Importing:
    """In place of the process that imports: what it was asked for, and what it answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Imports):
        self.asked: list[list[str]] = []
        self._answer = answer
        monkeypatch.setattr(into_store.Importer, "bring_in", self._bring_in)
        monkeypatch.setattr(into_store, "RETRY", 0.01)

    def _bring_in(self, recordings: Sequence[Path]) -> tuple[list[str], str]:
        names = [recording.name for recording in recordings]
        self.asked.append(names)
        answers, said = self._answer(names)
        return answers, (said.strip().splitlines() or [""])[-1]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def started(folder: Path, said: list[str]) -> IntoStore:
    imports = IntoStore(folder, "store", "robot.yaml", "sim", said.append)
    imports.start()
    return imports


def test_what_was_brought_in_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importing, said = Importing(monkeypatch, lambda names: (["" for _ in names], "")), []
    imports = started(tmp_path, said)
    imports.add(tmp_path / "one.mcap")
    imports.add(tmp_path / "two.mcap")
    until(lambda: not imports.waiting)
    imports.stop(5)
    assert [name for names in importing.asked for name in names] == ["one.mcap", "two.mcap"]
    assert not (tmp_path / WAITING).exists()
    assert said == []


def test_a_store_that_cannot_be_written_is_tried_again_and_the_others_get_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is refused three times, as by a full disk; the second comes in meanwhile."""
    refused: list[str] = []

    def answer(names: Sequence[str]) -> tuple[list[str], str]:
        if names[0] == "one.mcap" and len(refused) < 3:
            refused.append(names[0])
            return [], "Traceback\nStoreError: no space left on device\n"
        return [""], "killed" if len(names) > 1 else ""

    importing, said = Importing(monkeypatch, answer), []
    imports = started(tmp_path, said)
    imports.add(tmp_path / "one.mcap")
    imports.add(tmp_path / "two.mcap")
    until(lambda: not imports.waiting)
    imports.stop(5)
    assert len(refused) == 3
    assert any(names[0] == "two.mcap" for names in importing.asked)
    assert "one.mcap is not in the store: StoreError: no space left on device" in said[0]
    assert not (tmp_path / WAITING).exists()


def test_what_is_left_over_is_noted_and_comes_in_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Importing(monkeypatch, lambda names: ([], "StoreError: locked"))
    imports = started(tmp_path, said := [])
    imports.add(tmp_path / "one.mcap")
    until(lambda: said)
    imports.stop(5)
    assert (tmp_path / WAITING).read_text() == "one.mcap\tstore\n"
    importing = Importing(monkeypatch, lambda names: (["" for _ in names], ""))
    again = started(tmp_path, [])
    until(lambda: not again.waiting)
    again.stop(5)
    assert importing.asked == [["one.mcap"]]


def test_a_recording_that_is_none_is_told_and_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Importing(monkeypatch, lambda names: (["it holds nothing" for _ in names], ""))
    imports = started(tmp_path, said := [])
    imports.add(tmp_path / "one.mcap")
    until(lambda: not imports.waiting)
    imports.stop(5)
    assert said == [f"{tmp_path / 'one.mcap'} is not in the store: it holds nothing"]


def test_a_store_that_cannot_be_written_is_no_fault_of_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the process that imports: the recordings before it were answered, and it is the next that was not."""
    refusals = {"one.mcap": None, "two.mcap": InputError("no bag"), "three.mcap": StoreError("locked")}

    def import_into(source: Path, store: Path) -> None:
        if (error := refusals[source.name]) is not None:
            raise error

    monkeypatch.setattr("episodes.importing.import_into", import_into)
    monkeypatch.setattr("robot.bag_import.BagSource", lambda path, contract, place: path)
    with pytest.raises(StoreError):
        into_store.main(
            str(tmp_path / "store"), str(SHIPPED), "sim", (json.dumps(str(tmp_path / name)) for name in refusals)
        )
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ["", "no bag"]


def test_two_that_bring_in_the_same_recording_do_so_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a recorder was killed and started again while its importer worked."""
    there: list[Path] = []

    def import_into(source: Path, store: Path) -> None:
        known = source in there
        time.sleep(0.1)
        if not known:
            there.append(source)

    monkeypatch.setattr("episodes.importing.import_into", import_into)
    monkeypatch.setattr("robot.bag_import.BagSource", lambda path, contract, place: path)
    recording = tmp_path / "one.mcap"
    arguments = (str(tmp_path / "store"), str(SHIPPED), "sim", [json.dumps(str(recording))])
    both = [threading.Thread(target=into_store.main, args=arguments) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(30)
    assert there == [recording]


def test_a_process_that_was_killed_over_a_recording_keeps_nobody_out(tmp_path: Path) -> None:
    holding = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'ab'); "
        "fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", holding, str(tmp_path / into_store.IMPORTING)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "held\n"
    importer = into_store.Importer(str(tmp_path / "store"), str(SHIPPED), "sim")
    found: list[tuple[list[str], str]] = []
    asking = threading.Thread(target=lambda: found.append(importer.bring_in([tmp_path / "none.mcap"])))
    asking.start()
    asking.join(3)
    assert found == []
    killed.kill()
    killed.wait()
    asking.join(30)
    ((answers, last_words),) = found
    assert "none.mcap" in answers[0]
    assert last_words == ""
    importer.close()


def test_one_process_imports_what_comes_and_another_what_comes_after_its_death(tmp_path: Path) -> None:
    """None of these is a recording, which is no reason to die; being killed is."""
    (tmp_path / "none.mcap").write_bytes(b"nothing")
    importer = into_store.Importer(str(tmp_path / "store"), str(SHIPPED), "sim")
    recordings = [tmp_path / name for name in ("none.mcap", "nowhere.mcap")]
    pids = []
    for _ in range(2):
        answers, last_words = importer.bring_in(recordings)
        assert [recording.name in answer for recording, answer in zip(recordings, answers, strict=True)] == [True, True]
        assert last_words == ""
        assert importer._process is not None
        pids.append(importer._process.pid)
    assert pids[0] == pids[1]
    os.kill(pids[0], signal.SIGKILL)
    process = importer._process
    assert process is not None
    process.wait(30)
    assert len(importer.bring_in(recordings)[0]) == 2
    process = importer._process
    importer.close()
    assert process is not None
    assert process.wait(30) == 0


def test_of_a_process_that_dies_of_a_recording_the_last_words_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = (
        "import sys; sys.stdin.readline(); print('\"\"', flush=True); sys.stdin.readline(); sys.exit('disk is full')"
    )
    importer = into_store.Importer("store", "robot.yaml", "sim")
    monkeypatch.setattr(importer, "_command", [sys.executable, "-c", dying])
    recordings = [tmp_path / name for name in ("one.mcap", "two.mcap", "three.mcap")]
    assert importer.bring_in(recordings) == ([""], "disk is full")


NONSENSE = {"words of a library": "Warning: no GPU", "another kind of JSON": "{}", "half a line": '"'}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE)
def test_what_is_no_answer_is_told_and_another_process_asked(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importer = into_store.Importer("store", "robot.yaml", "sim")
    saying = "import sys; sys.stdin.readline(); print(sys.argv[1], flush=True); sys.stdin.readline()"
    monkeypatch.setattr(importer, "_command", [sys.executable, "-c", saying, line])
    answers, last_words = importer.bring_in([tmp_path / "one.mcap"])
    assert answers == []
    assert f"got {line!r}" in last_words
    monkeypatch.setattr(importer, "_command", [sys.executable, "-c", saying, '""'])
    assert importer.bring_in([tmp_path / "one.mcap"]) == ([""], "")
    importer.close()


@pytest.mark.parametrize("place", ["tempfile.TemporaryFile", "subprocess.Popen"])
def test_where_no_process_can_be_begun_it_is_told_and_tried_again(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk is full, or there is no memory for another process."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(into_store, "RETRY", 0.01)
    imports = IntoStore(tmp_path, str(tmp_path / "store"), str(SHIPPED), "sim", (said := []).append)
    with monkeypatch.context() as patch:
        patch.setattr(place, refuse)
        imports.start()
        imports.add(tmp_path / "one.mcap")
        until(lambda: len(said) > 1)
        assert "No space left on device" in imports.problem
        assert imports.waiting == 1
    until(lambda: not imports.waiting)
    imports.stop(30)


def test_a_problem_is_over_when_all_that_waited_was_brought_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Importing(monkeypatch, lambda names: (["no bag" if name == "bad.mcap" else "" for name in names], ""))
    imports = started(tmp_path, [])
    imports.add(tmp_path / "bad.mcap")
    until(lambda: not imports.waiting)
    assert "bad.mcap is not in the store" in imports.problem
    imports.add(tmp_path / "good.mcap")
    until(lambda: not imports.waiting)
    assert imports.problem == ""
    imports.stop(5)


def test_what_is_not_wanted_any_more_is_left_over(tmp_path: Path) -> None:
    importer = into_store.Importer("store", "robot.yaml", "sim")
    importer.close()
    assert importer.bring_in([tmp_path / "one.mcap"]) == ([], "")
    assert importer._process is None


def test_it_ends_while_recordings_wait_and_what_is_left_is_noted(tmp_path: Path) -> None:
    """Twenty that are none: some are gone through, and each of the others is noted; nothing hangs."""
    imports = IntoStore(tmp_path, str(tmp_path / "store"), str(SHIPPED), "sim", lambda _: None)
    for number in range(20):
        (tmp_path / f"{number}.mcap").write_bytes(b"nothing")
        imports.add(tmp_path / f"{number}.mcap")
    imports.start()
    until(lambda: imports._importer._process is not None)
    imports.stop(0.01)
    imports._thread.join(150)
    assert not imports._thread.is_alive()
    noted = (tmp_path / WAITING).read_text().splitlines() if (tmp_path / WAITING).exists() else []
    assert len(noted) == imports.waiting
