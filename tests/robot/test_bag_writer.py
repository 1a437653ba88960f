"""What was synced survives whatever comes after it, and a full disk costs a recording and nothing else."""

import errno
import os
import resource
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.exceptions import EndOfFile, McapError
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader

from episodes.errors import InputError
from robot.bag_writer import CHUNK, PART, BagWriter, definition
from robot.bags import open_bag
from tests.robot.contracts import TYPES, make

STRING = "std_msgs/msg/String"
Row = tuple[str, bytes, int, int]


def readable(content: bytes) -> list[bytes]:
    """The data of the messages at a file's beginning, as far as mcap can read it: no index, no end."""
    found = []
    try:
        for record in StreamReader(BytesIO(content)).records:
            if isinstance(record, Message):
                found.append(record.data)
    except (EndOfFile, McapError, struct.error, RuntimeError):
        # The last record is not all there.
        return found
    return found


def whole(path: Path) -> list[Row]:
    """The messages of a complete file, by its index."""
    with path.open("rb") as file:
        reader = make_reader(file)
        return [
            (channel.topic, message.data, message.log_time, message.publish_time)
            for _, channel, message in reader.iter_messages(log_time_order=False)
        ]


def writer(path: Path, **options: Callable[[int], None]) -> BagWriter:
    made = BagWriter(path, **options)
    made.add_topic("/a", STRING)
    made.add_topic("/b", "sensor_msgs/msg/JointState")
    return made


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may become longer than `room` bytes: what the system says then is what it says of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "e1.mcap"
    bag = writer(path)
    part = path.with_name("e1.mcap" + PART)
    bag.write("/a", b"one", 5, 4)
    bag.sync()
    assert part.exists()
    assert not path.exists()
    bag.write("/b", b"two", 7, 6)
    bag.close()
    assert not part.exists()
    assert whole(path) == [("/a", b"one", 5, 4), ("/b", b"two", 7, 6)]
    assert bag.messages == 2


def test_messages_may_come_while_the_disk_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    slow: list[BagWriter] = []

    def fsync(_: int) -> None:
        for bag in slow:
            bag.write("/a", b"two", 7, 6)

    bag = writer(path, fsync=fsync)
    bag.write("/a", b"one", 5, 4)
    bag.flush()
    slow.append(bag)
    bag.wait_for_disk()
    slow.clear()
    bag.close()
    assert {data for _, data, _, _ in whole(path)} == {b"one", b"two"}


@pytest.mark.parametrize("said", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_links_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int) -> None:
    def link(*_: object) -> None:
        raise OSError(said, "there are no links here")

    monkeypatch.setattr("os.link", link)
    bag = writer(tmp_path / "e.mcap")
    bag.write("/a", b"one", 5, 4)
    bag.close()
    assert whole(tmp_path / "e.mcap") == [("/a", b"one", 5, 4)]


def test_a_complete_file_says_what_its_messages_are(tmp_path: Path) -> None:
    bag = BagWriter(tmp_path / "e.mcap")
    bag.add_topic("/joints", "sensor_msgs/msg/JointState")
    bag.add_topic("/mine", "my_msgs/msg/Thing")
    data = bytes(TYPES.serialize_cdr(make("sensor_msgs/msg/JointState"), "sensor_msgs/msg/JointState"))
    bag.write("/joints", data, 1, 1)
    bag.write("/mine", b"x", 1, 1)
    bag.close()
    with (tmp_path / "e.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    schemas = {summary.schemas[c.schema_id].name: (c, summary.schemas[c.schema_id]) for c in summary.channels.values()}
    channel, schema = schemas["sensor_msgs/msg/JointState"]
    assert (channel.topic, channel.message_encoding, schema.encoding) == ("/joints", "cdr", "ros2msg")
    assert "float64[] position" in schema.data.decode()
    assert "MSG: std_msgs/Header" in schema.data.decode()
    assert schemas["my_msgs/msg/Thing"][1].data == b""


def test_a_definition_carries_the_types_inside() -> None:
    assert "MSG: geometry_msgs/Point" in definition("geometry_msgs/msg/PoseStamped")
    assert definition("my_msgs/msg/Thing") == ""


def test_a_type_of_ones_own_can_be_read_from_the_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ros" / "share" / "my_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Thing.msg").write_text("float64 x\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "ros"))
    bag = BagWriter(tmp_path / "e.mcap")
    bag.add_topic("/mine", "my_msgs/msg/Thing")
    bag.write("/mine", b"\0\1\0\0" + struct.pack("<d", 0.5), 1, 1)
    bag.close()
    with open_bag(tmp_path / "e.mcap") as read:
        try:
            (message,) = read.messages(["/mine"])
        except InputError as error:
            raise AssertionError("it cannot be read") from error
        assert message.message.x == 0.5


def test_a_topic_may_be_added_again(tmp_path: Path) -> None:
    bag = writer(tmp_path / "e.mcap")
    bag.add_topic("/a", STRING)
    bag.write("/a", b"x", 1, 1)
    bag.close()
    with (tmp_path / "e.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    assert sorted(channel.topic for channel in summary.channels.values()) == ["/a", "/b"]


def test_a_topic_has_to_be_known_before_its_first_message(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        writer(tmp_path / "e.mcap").write("/c", b"x", 1, 1)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.binary(max_size=300), max_size=5), min_size=1, max_size=6), st.data())
def test_what_was_synced_can_be_read_whatever_is_cut_off_after_it(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[bytes]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("bag") / "e.mcap"
    synced: list[tuple[int, list[bytes]]] = []
    bag = writer(path, fsync=lambda _: None)
    part, expected = path.with_name(path.name + PART), []
    for group in groups:
        for message in group:
            bag.write("/a", message, 1, 1)
            expected.append(message)
        bag.sync()
        synced.append((part.stat().st_size, list(expected)))
    bag.write("/b", b"not synced", 2, 2)
    bag.close()
    content, everything = path.read_bytes(), [*expected, b"not synced"]
    for size, there in synced:
        cut = data.draw(st.integers(size, len(content)))
        found = readable(content[:cut])
        assert found[: len(there)] == there
        assert found == everything[: len(found)]
    assert readable(content) == everything


def test_syncing_asks_the_disk_for_everything_that_was_written(tmp_path: Path) -> None:
    part = tmp_path / ("e.mcap" + PART)
    seen: list[list[bytes]] = []
    bag = writer(tmp_path / "e.mcap", fsync=lambda _: seen.append(readable(part.read_bytes())))
    bag.write("/a", b"one", 1, 1)
    bag.sync()
    bag.write("/a", b"two", 2, 2)
    bag.sync()
    bag.sync()
    assert seen[-3:] == [[b"one"], [b"one", b"two"], [b"one", b"two"]]


def test_long_messages_do_not_wait_in_memory(tmp_path: Path) -> None:
    bag = writer(tmp_path / "e.mcap")
    noise = os.urandom(CHUNK + 1)
    bag.write("/a", noise, 1, 1)
    assert (tmp_path / ("e.mcap" + PART)).stat().st_size >= CHUNK
    bag.close()


def test_a_complete_file_and_its_name_are_brought_to_the_disk(tmp_path: Path) -> None:
    asked: list[tuple[str, bool]] = []
    path = tmp_path / "e.mcap"

    def fsync(number: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file"
        asked.append((kind, path.exists()))

    bag = writer(path, fsync=fsync)
    bag.write("/a", b"x", 1, 1)
    asked.clear()
    bag.close()
    assert asked == [("file", False), ("folder", True)], "a name comes after what it names"


def test_the_first_sync_brings_the_name_of_the_file_to_the_disk_too(tmp_path: Path) -> None:
    folders: list[bool] = []
    bag = writer(tmp_path / "e.mcap", fsync=lambda number: folders.append(stat.S_ISDIR(os.fstat(number).st_mode)))
    bag.write("/a", b"x", 1, 1)
    bag.sync()
    assert set(folders) == {True, False}, "a folder was brought to the disk, and a file"


def test_a_recording_that_is_under_way_is_not_written_over(tmp_path: Path) -> None:
    bag = writer(tmp_path / "e.mcap")
    bag.write("/a", b"x", 1, 1)
    bag.sync()
    with pytest.raises(FileExistsError):
        BagWriter(tmp_path / "e.mcap")
    bag.close()
    assert len(whole(tmp_path / "e.mcap")) == 1


def test_a_complete_recording_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "e.mcap").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        writer(tmp_path / "e.mcap").close()
    assert (tmp_path / "e.mcap").read_bytes() == b"precious"


def fails(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_refuses_to_sync_is_an_error_that_leaves_the_part(tmp_path: Path) -> None:
    bag = writer(tmp_path / "e.mcap", fsync=fails)
    bag.write("/a", b"one", 1, 1)
    with pytest.raises(OSError, match="No space left") as refused:
        bag.sync()
    assert refused.value.errno == errno.ENOSPC
    bag.abandon()
    assert not (tmp_path / "e.mcap").exists()
    assert readable((tmp_path / ("e.mcap" + PART)).read_bytes()) == [b"one"]


def test_a_disk_that_refuses_the_end_leaves_the_file_unfinished(tmp_path: Path) -> None:
    bag = writer(tmp_path / "e.mcap", fsync=fails)
    bag.write("/a", b"one", 1, 1)
    with pytest.raises(OSError, match="No space left"):
        bag.close()
    bag.abandon()
    assert not (tmp_path / "e.mcap").exists()
    assert readable((tmp_path / ("e.mcap" + PART)).read_bytes()) == [b"one"]


def test_what_is_abandoned_stays_under_its_unfinished_name(tmp_path: Path) -> None:
    bag = writer(tmp_path / "e.mcap")
    bag.write("/a", b"one", 1, 1)
    bag.sync()
    bag.write("/a", b"two", 2, 2)
    bag.abandon()
    bag.abandon()
    assert sorted(tmp_path.iterdir()) == [tmp_path / ("e.mcap" + PART)]
    assert readable((tmp_path / ("e.mcap" + PART)).read_bytes())[:1] == [b"one"]


@pytest.mark.parametrize("at", ["write", "sync", "close"])
def test_a_full_disk_is_an_error_where_it_is_noticed(tmp_path: Path, at: str) -> None:
    bag = writer(tmp_path / "e.mcap")
    bag.write("/a", b"one", 1, 1)
    bag.sync()
    with full_disk(20_000):
        with pytest.raises(OSError, match="File too large"):
            for _ in range(1 if at != "write" else 3):
                bag.write("/a", os.urandom(2 * CHUNK if at == "write" else 100_000), 2, 2)
            bag.sync() if at == "sync" else bag.close()
        with pytest.raises(OSError, match="File too large"):
            bag.sync()
    assert not (tmp_path / "e.mcap").exists()
    assert readable((tmp_path / ("e.mcap" + PART)).read_bytes())[:1] == [b"one"]


@pytest.mark.parametrize("at", ["write", "sync", "close"])
def test_a_recording_can_be_given_up_while_the_disk_is_full(tmp_path: Path, at: str) -> None:
    bag = writer(tmp_path / "e.mcap")
    bag.write("/a", b"one", 1, 1)
    bag.sync()
    with full_disk(20_000):
        try:
            bag.write("/a", os.urandom(2 * CHUNK if at == "write" else 22_000), 2, 2)
            bag.sync() if at == "sync" else bag.close()
            raise AssertionError("the disk is full")
        except OSError:
            bag.abandon()
    assert readable((tmp_path / ("e.mcap" + PART)).read_bytes())[:1] == [b"one"]
