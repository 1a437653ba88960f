"""Nothing that is heard waits for the disk, and a file that is lost is lost once."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mcap.reader import make_reader

from episodes.errors import InputError
from robot.bag_writer import PART
from robot.taping import BEFORE_COUNT, Tape

STRING = "std_msgs/msg/String"
TOPICS = {"/seen": STRING, "/said": STRING}
KEPT = 100
"""How long what came before a beginning is kept [ns]."""


class Disk:
    """Does as it is told, by whoever asks it."""

    def __init__(self) -> None:
        self.does: Callable[[], None] = lambda: None

    def __call__(self, _: int) -> None:
        self.does()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def tape(disk: Disk) -> Tape:
    return Tape(TOPICS, {"/seen": KEPT}, disk)


def on(path: Path) -> list[tuple[str, bytes]]:
    with path.open("rb") as file:
        found = make_reader(file).iter_messages(log_time_order=False)
        return [(channel.topic, message.data) for _, channel, message in found]


def closed(tape: Tape) -> Path:
    file = tape.end()
    assert file is not None
    file.close()
    return file.path


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Slow:
    """A disk that takes until it is let go, and then does something."""

    def __init__(self, then: Callable[[], None] = lambda: None):
        self.asked, self.let_go, self._then = threading.Event(), threading.Event(), then

    def __call__(self) -> None:
        self.asked.set()
        assert self.let_go.wait(30.0)
        self._then()


class Aside:
    """Something done in another thread, and what came of it."""

    def __init__(self, work: Callable[[], object]):
        self._work = work
        self.result: object = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:
            self.error = error

    def done(self) -> bool:
        self._thread.join(30.0)
        return not self._thread.is_alive()


def test_a_file_has_what_came_last_and_what_comes_until_it_is_closed(tape: Tape, tmp_path: Path) -> None:
    tape.take("/seen", b"before", 1, 1)
    tape.take("/said", b"not kept", 1, 1)
    tape.begin(tmp_path / "one.mcap")
    tape.take("/said", b"said", 2, 2)
    tape.take("/seen", b"seen", 3, 3)
    assert closed(tape) == tmp_path / "one.mcap"
    tape.take("/seen", b"after", 4, 4)
    assert on(tmp_path / "one.mcap") == [("/seen", b"before"), ("/said", b"said"), ("/seen", b"seen")]


def test_what_is_too_old_is_not_kept_but_for_the_last_ones(tape: Tape, tmp_path: Path) -> None:
    for stamp in range(0, 10 * KEPT, KEPT // 10):
        tape.take("/seen", str(stamp).encode(), stamp, stamp)
    tape.begin(tmp_path / "many.mcap")
    closed(tape)
    assert len(on(tmp_path / "many.mcap")) == 11
    for stamp in range(10 * KEPT, 100 * KEPT, 10 * KEPT):
        tape.take("/seen", str(stamp).encode(), stamp, stamp)
    tape.begin(tmp_path / "few.mcap")
    closed(tape)
    assert len(on(tmp_path / "few.mcap")) == BEFORE_COUNT


def test_what_came_before_a_clock_was_set_back_is_forgotten(tape: Tape, tmp_path: Path) -> None:
    for stamp in (1_000_000, 1_000_010):
        tape.take("/seen", b"of a time to come", stamp, stamp)
    for stamp in range(0, 10 * KEPT, KEPT):
        tape.take("/seen", b"now", stamp, stamp)
    assert tape.recent("/seen") == [(b"now", stamp, stamp) for stamp in (7 * KEPT, 8 * KEPT, 9 * KEPT)]
    tape.begin(tmp_path / "one.mcap")
    closed(tape)
    assert on(tmp_path / "one.mcap") == [("/seen", b"now")] * BEFORE_COUNT


def test_more_is_taken_while_the_disk_is_waited_for(tape: Tape, disk: Disk, tmp_path: Path) -> None:
    tape.begin(tmp_path / "one.mcap")
    slow = disk.does = Slow()
    syncing = Aside(tape.sync)
    assert slow.asked.wait(30.0)
    taking = Aside(lambda: tape.take("/said", b"meanwhile", 1, 1))
    assert taking.done()
    slow.let_go.set()
    assert syncing.done()
    closed(tape)
    assert on(tmp_path / "one.mcap") == [("/said", b"meanwhile")]


def test_what_comes_after_the_end_is_for_the_next_file(tape: Tape, tmp_path: Path) -> None:
    tape.begin(tmp_path / "one.mcap")
    file = tape.end()
    assert file is not None
    tape.take("/seen", b"after", 1, 1)
    assert not (tmp_path / "one.mcap").exists(), "it is not on the disk yet"
    file.close()
    assert on(tmp_path / "one.mcap") == []
    tape.begin(tmp_path / "two.mcap")
    assert closed(tape) == tmp_path / "two.mcap"
    assert on(tmp_path / "two.mcap") == [("/seen", b"after")]


def test_a_disk_that_is_full_is_noticed_in_the_beginning(tape: Tape, disk: Disk, tmp_path: Path) -> None:
    disk.does = full
    with pytest.raises(OSError, match="No space left"):
        tape.begin(tmp_path / "one.mcap")
    tape.take("/said", b"nobody keeps it", 1, 1)
    assert tape.end() is None
    assert [path.name for path in tmp_path.iterdir()] == ["one.mcap" + PART]


def test_a_file_is_lost_once(tape: Tape, disk: Disk, tmp_path: Path) -> None:
    tape.begin(tmp_path / "one.mcap")
    disk.does = full
    with pytest.raises(OSError, match="No space left"):
        tape.sync()
    tape.take("/said", b"nobody keeps it", 1, 1)
    tape.sync()
    assert tape.end() is None
    disk.does = lambda: None
    tape.begin(tmp_path / "two.mcap")
    assert closed(tape) == tmp_path / "two.mcap"


def bad_descriptor() -> None:
    raise OSError(errno.EBADF, "Bad file descriptor")


def test_who_waits_for_the_disk_hears_nothing_of_a_file_that_was_lost_meanwhile(
    tape: Tape, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape.begin(tmp_path / "one.mcap")
    slow = disk.does = Slow(then=bad_descriptor)
    syncing = Aside(tape.sync)
    assert slow.asked.wait(30.0)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr("robot.bag_writer.BagWriter.write", lambda *_: full())
        tape.take("/said", b"too much", 1, 1)
    disk.does = lambda: None
    tape.begin(tmp_path / "two.mcap")
    slow.let_go.set()
    assert syncing.done()
    assert syncing.error is None
    tape.take("/said", b"kept", 2, 2)
    assert closed(tape) == tmp_path / "two.mcap", "the next file has nothing to do with it"
    assert on(tmp_path / "two.mcap") == [("/said", b"kept")]


def test_a_folder_is_one_recorders_until_it_is_released(tmp_path: Path) -> None:
    one, another = Tape(TOPICS, {}), Tape(TOPICS, {})
    one.claim([tmp_path])
    with pytest.raises(InputError, match="another recorder writes there"):
        another.claim([tmp_path])
    one.release()
    another.claim([tmp_path])
    another.release()


def test_folders_are_claimed_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tape = Tape(TOPICS, {})
    for _ in range(2):
        with pytest.raises(InputError, match="file/deep: cannot be written"):
            tape.claim([tmp_path / "one", tmp_path / "file" / "deep"])
    another = Tape(TOPICS, {})
    another.claim([tmp_path / "one"])
    another.release()
