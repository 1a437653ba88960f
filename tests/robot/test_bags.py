"""Reading bags: everything that is there, in the order of the log, and never a crash on what is not."""

import os
import sqlite3
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from mcap.writer import CompressionType
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from episodes.errors import InputError
from robot.bags import Bag, is_bag, open_bag
from tests.robot.bagmaking import (
    SECOND,
    START,
    Logged,
    boolean,
    driving,
    floats,
    image,
    joint_state,
    nanoseconds,
    text,
    types,
    write_bag,
    write_mcap,
    write_metadata,
    write_sqlite,
)

LAYOUTS: dict[str, dict[str, Any]] = {
    "lz4": {},
    "zstd": {"compression": CompressionType.ZSTD},
    "plain": {"compression": CompressionType.NONE},
    "without chunks": {"chunked": False},
    "without index": {"summary": False},
}

Seen = list[tuple[str, int, bytes]]


def content(message: Any) -> bytes:
    """The numbers in a message."""
    values = getattr(message, "position", None)
    return np.asarray(message.data if values is None else values).tobytes()


def damage_of(path: Path) -> tuple[Seen, str | None]:
    """Topic, log time and content of everything in a bag, and what is wrong with it."""
    with open_bag(path) as bag:
        return [(each.topic, each.logged, content(each.message)) for each in bag.messages(bag.topics)], bag.cut


def seen(path: Path) -> Seen:
    return damage_of(path)[0]


def expected(messages: list[Logged]) -> Seen:
    return [(m.topic, m.times[0], content(m.message)) for m in sorted(messages, key=lambda m: m.times[0])]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mcap_gives_every_message_once_in_the_order_of_the_log(tmp_path: Path, layout: str) -> None:
    messages = driving(camera=True)
    path = write_mcap(tmp_path / "bag.mcap", messages, **LAYOUTS[layout])
    found, cut = damage_of(path)
    assert found == expected(messages)
    assert cut is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_messages_that_were_written_out_of_order_come_in_order(tmp_path: Path, layout: str) -> None:
    messages = driving()
    shuffled = [messages[i] for i in np.random.default_rng(0).permutation(len(messages))]
    path = write_mcap(tmp_path / "bag.mcap", shuffled, in_log_order=False, **LAYOUTS[layout])
    assert sorted(seen(path)) == sorted(expected(messages))
    assert [logged for _, logged, _ in seen(path)] == sorted(m.times[0] for m in messages)


def test_sqlite3_gives_the_same_as_mcap(tmp_path: Path) -> None:
    messages = driving(camera=True)
    assert seen(write_sqlite(tmp_path / "bag.db3", messages)) == seen(write_mcap(tmp_path / "bag.mcap", messages))


def test_what_is_in_a_bag_is_known_before_it_is_read(tmp_path: Path) -> None:
    for folder in (
        write_bag(tmp_path / "mcap", driving(0, 2), storage="mcap"),
        write_bag(tmp_path / "sqlite3", driving(0, 2), storage="sqlite3"),
    ):
        with open_bag(folder) as bag:
            topics = {name: (topic.type, topic.count) for name, topic in bag.topics.items()}
            assert topics == {
                "/arm_controller/commands": ("std_msgs/msg/Float64MultiArray", 20),
                "/joint_states": ("sensor_msgs/msg/JointState", 100),
            }
            assert (bag.start, bag.end) == (nanoseconds(0), nanoseconds(1.98))
            assert bag.count(["/joint_states"]) == 100 and bag.count(topics) == 120


def test_messages_have_their_fields_and_both_times(tmp_path: Path) -> None:
    late = Logged("/pose", "std_msgs/msg/String", types.types["std_msgs/msg/String"](data="here"), 2.0, published=1.5)
    path = write_mcap(tmp_path / "bag.mcap", [joint_state(1.0, {"a": 0.25, "b": -1.0}), late])
    with open_bag(path) as bag:
        state, pose = bag.messages(bag.topics)
    assert state.message.name == ["a", "b"] and state.message.position.tolist() == [0.25, -1.0]
    assert state.published == state.logged == nanoseconds(1.0)
    assert (pose.message.data, pose.logged, pose.published) == ("here", nanoseconds(2.0), nanoseconds(1.5))


def test_a_time_of_publishing_that_nobody_noted_is_that_of_logging(tmp_path: Path) -> None:
    unknown = replace(text(2.0, "here"), published=-START / SECOND)
    assert unknown.times[1] == 0
    with open_bag(write_mcap(tmp_path / "bag.mcap", [unknown])) as bag:
        assert [message.published for message in bag.messages(bag.topics)] == [nanoseconds(2.0)]


def test_only_the_topics_that_are_asked_for_come(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag.mcap", driving())
    with open_bag(path) as bag:
        assert {message.topic for message in bag.messages(["/joint_states"])} == {"/joint_states"}
        assert list(bag.messages([])) == []
        with pytest.raises(InputError, match="did you mean '/joint_states'"):
            bag.messages(["/joint_state"])


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_split_bag_is_one_bag(tmp_path: Path, storage: str) -> None:
    messages = driving()
    assert seen(write_bag(tmp_path / "bag", messages, storage=storage, files=4)) == expected(messages)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_files_that_overlap_in_time_are_merged(tmp_path: Path, storage: str) -> None:
    messages = driving()
    write = write_mcap if storage == "mcap" else write_sqlite
    folder = tmp_path / "bag"
    folder.mkdir()
    ending = ".mcap" if storage == "mcap" else ".db3"
    names = [write(folder / f"bag_{n}{ending}", messages[n::3]).name for n in range(3)]
    write_metadata(folder, names, storage)
    assert sorted(seen(folder)) == sorted(expected(messages))
    assert [logged for _, logged, _ in seen(folder)] == sorted(m.times[0] for m in messages)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("metadata", [None, "", "rosbag2_bagfile_information: {version: 9}", "a: [1", "- 3"])
def test_a_bag_without_usable_metadata_is_found_by_its_files(
    tmp_path: Path, storage: str, metadata: str | None
) -> None:
    folder = write_bag(tmp_path / "bag", driving(), storage=storage, files=2, metadata=False)
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata)
    assert seen(folder) == expected(driving())
    assert is_bag(folder)


def test_a_bag_is_also_its_metadata_file_and_any_one_of_its_files(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", driving(), files=2)
    assert seen(folder / "metadata.yaml") == expected(driving())
    assert seen(folder / "bag_0.mcap") + seen(folder / "bag_1.mcap") == expected(driving())
    for path in (folder, folder / "metadata.yaml", folder / "bag_0.mcap"):
        assert is_bag(path)


def test_a_recording_that_was_not_finished_is_a_part_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bags"
    folder.mkdir()
    write_mcap(folder / "one.mcap", driving(0, 1))
    whole = write_mcap(tmp_path / "two.mcap", driving(1, 2)).read_bytes()
    (folder / "two.mcap.part").write_bytes(whole[: len(whole) // 2])
    found, cut = damage_of(folder)
    assert found == expected(driving(0, 2))[: len(found)] and len(found) > len(driving(0, 1))
    assert cut is not None and cut.startswith(f"two.mcap.part: cut off at byte {len(whole) // 2}")


def test_a_type_that_nobody_knows_is_listed_and_is_an_error_when_it_is_asked_for(tmp_path: Path) -> None:
    strange = Logged("/feedback", "lab_msgs/action/Wave_FeedbackMessage", b"\0\1\0\0\0\0\0\0", 0.5)
    path = write_mcap(
        tmp_path / "bag.mcap", [*driving(0, 1), strange], unknown=["/feedback"], definitions={strange.type: "-"}
    )
    with open_bag(path) as bag:
        assert bag.topics["/feedback"].type == strange.type and bag.topics["/feedback"].count == 1
        assert len(list(bag.messages(["/joint_states"]))) == 50
        with pytest.raises(
            InputError, match="topic /feedback: its type 'lab_msgs/action/Wave_FeedbackMessage' is not st"
        ):
            bag.messages(["/feedback"])


def test_the_definition_in_the_bag_counts_more_than_the_standard_one(tmp_path: Path) -> None:
    content = b"\0\1\0\0" + struct.pack("<iI", 7, 3) + b"hi\0"
    changed = Logged("/note", "std_msgs/msg/String", content, 0.0)
    path = write_mcap(tmp_path / "bag.mcap", [changed], definitions={"std_msgs/msg/String": "int32 level\nstring data"})
    with open_bag(path) as bag:
        (note,) = bag.messages(["/note"])
    assert (note.message.level, note.message.data) == (7, "hi")


def test_own_types_are_read_by_the_definitions_in_the_bag(tmp_path: Path) -> None:
    definition = "std_msgs/Header header\nGrip[] grips\n" + "=" * 80 + "\nMSG: lab_msgs/Grip\nfloat64 width\n"
    definition += "=" * 80 + "\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    definition += "=" * 80 + "\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
    little = b"\0\1\0\0" + struct.pack("<iII", 5, 6, 1) + b"\0\0\0\0" + struct.pack("<I4xdd", 2, 0.5, 0.25)
    big = b"\0\0\0\0" + struct.pack(">iII", 5, 6, 1) + b"\0\0\0\0" + struct.pack(">I4xdd", 2, 0.5, 0.25)
    kind = "lab_msgs/msg/Grips"
    messages = [Logged("/grips", kind, little, 0.0), Logged("/grips", kind, big, 1.0)]
    path = write_mcap(tmp_path / "bag.mcap", messages, definitions={kind: definition})
    with open_bag(path) as bag:
        for found in bag.messages(["/grips"]):
            assert [grip.width for grip in found.message.grips] == [0.5, 0.25]
            assert (found.message.header.stamp.sec, found.message.header.stamp.nanosec) == (5, 6)


@pytest.mark.parametrize("definition", ["no definition at all", "lab_msgs/Missing data"])
def test_a_definition_that_cannot_be_used_is_told_where_the_type_is_not_standard(
    tmp_path: Path, definition: str
) -> None:
    kind, data = "lab_msgs/msg/Odd", b"\0\1\0\0"
    path = write_mcap(tmp_path / "odd.mcap", [Logged("/odd", kind, data, 0.0)], definitions={kind: definition})
    with (
        open_bag(path) as bag,
        pytest.raises(InputError, match="the definition of 'lab_msgs/msg/Odd' in the bag cannot"),
    ):
        bag.messages(["/odd"])
    standard = write_mcap(tmp_path / "std.mcap", [boolean(0.0, True)], definitions={"std_msgs/msg/Bool": definition})
    with open_bag(standard) as bag:
        assert [message.message.data for message in bag.messages(["/recording"])] == [True]


def test_a_bag_without_definitions_is_read_by_the_standard_ones(tmp_path: Path) -> None:
    path = write_sqlite(tmp_path / "old.db3", driving(0, 1))
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE message_definitions")
    assert seen(path) == expected(driving(0, 1))


def test_bytes_after_a_message_are_no_harm(tmp_path: Path) -> None:
    data = bytes(types.serialize_cdr(types.types["std_msgs/msg/String"](data="hello"), "std_msgs/msg/String"))
    path = write_mcap(tmp_path / "bag.mcap", [Logged("/words", "std_msgs/msg/String", data + b"\0" * 9, 0.0)])
    with open_bag(path) as bag:
        assert [message.message.data for message in bag.messages(["/words"])] == ["hello"]


@pytest.mark.parametrize("data", [b"", b"\0\1", b"\0\1\0\0\xff\xff\xff\xff", b"\0\7\0\0abcd", b"\x28\xb5\x2f\xfdxx"])
def test_a_message_that_does_not_fit_its_type_is_passed_over_and_counted(tmp_path: Path, data: bytes) -> None:
    messages = [text(0.0, "a", "/words"), Logged("/words", "std_msgs/msg/String", data, 0.5), text(1.0, "b", "/words")]
    with open_bag(write_mcap(tmp_path / "bag.mcap", messages)) as bag:
        assert [message.message.data for message in bag.messages(["/words"])] == ["a", "b"]
        assert bag.unreadable == {"/words": 1} and bag.reasons["/words"]


def test_messages_that_were_packed_one_by_one_are_read(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/words", "std_msgs/msg/String", typestore=types)
        message = types.types["std_msgs/msg/String"](data="hello " * 20)
        writer.write(connection, 5, bytes(types.serialize_cdr(message, "std_msgs/msg/String")))
    with open_bag(tmp_path / "bag") as bag:
        assert [found.message.data for found in bag.messages(["/words"])] == ["hello " * 20]


def test_a_packed_file_is_refused_with_what_unpacks_it(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    plain = write_mcap(tmp_path / "bag_0.mcap", driving(0, 1)).read_bytes()
    packed = folder / "bag_0.mcap.zstd"
    packed.write_bytes(zstandard.compress(plain))
    write_metadata(folder, [packed.name])
    with pytest.raises(InputError, match=f"zstd -d {packed} -o {packed.with_suffix('')}$"):
        open_bag(folder)
    packed.rename(packed.with_suffix(""))
    packed.with_suffix("").write_bytes(plain)
    assert seen(folder) == expected(driving(0, 1))


def test_what_is_no_bag_is_told(tmp_path: Path) -> None:
    def refused(path: Path, why: str) -> None:
        with pytest.raises(InputError, match=why) as caught:
            open_bag(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nothing", "no such file or folder")
    refused(tmp_path, r"neither metadata\.yaml nor \.mcap or \.db3 files in it")
    old = tmp_path / "old.bag"
    old.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    refused(old, f"a ROS 1 bag; make a ROS 2 bag of it: rosbags-convert --src {old} --dst {tmp_path / 'old'}")
    note = tmp_path / "note.mcap"
    note.write_text("not one")
    refused(note, "no bag: it begins with b'not one', expected MCAP or sqlite3")
    note.write_bytes(b"")
    refused(note, "no bag: it is empty")
    with sqlite3.connect(tmp_path / "other.db3") as database:
        database.execute("CREATE TABLE people (name TEXT)")
    refused(tmp_path / "other.db3", "without tables topics and messages")
    assert not is_bag(note) and not is_bag(tmp_path / "nothing") and is_bag(old)


def test_a_file_that_metadata_names_and_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", driving(), files=3)
    (folder / "bag_1.mcap").unlink()
    with pytest.raises(InputError, match=r"names bag_1\.mcap, which is not there"):
        open_bag(folder)
    (folder / "metadata.yaml").unlink()
    assert len(seen(folder)) == pytest.approx(len(driving()) * 2 / 3, abs=1)


@pytest.mark.parametrize("layout", [*LAYOUTS, "sqlite3"])
def test_a_bag_that_is_cut_off_anywhere_gives_what_was_before(tmp_path: Path, layout: str) -> None:
    messages = driving(0, 3)
    # Longer than the pages of sqlite3 and the chunks of the MCAP files, so that cuts go through them.
    messages += [image(k / 10, np.random.default_rng(k).integers(0, 255, (48, 48, 3), np.uint8)) for k in range(30)]
    if layout == "sqlite3":
        path = write_sqlite(tmp_path / "bag.db3", messages)
    else:
        path = write_mcap(tmp_path / "bag.mcap", messages, **LAYOUTS[layout])
    whole, bytes_ = seen(path), path.read_bytes()
    short = path.with_stem("short")
    read = 0
    for length in np.random.default_rng(1).integers(0, len(bytes_), 50).tolist():
        short.write_bytes(bytes_[:length])
        try:
            found, cut = damage_of(short)
        except InputError:
            # Its first bytes have to be there for it to be a bag at all.
            assert length < 9000
            continue
        assert found == whole[: len(found)]
        assert cut is not None or found == whole
        read += len(found)
    # On the average the cut is in the middle.
    assert read > 50 * len(whole) / 4


def test_a_chunk_that_is_cut_off_gives_its_beginning(tmp_path: Path) -> None:
    for compression in (CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD):
        pictures = [image(k / 10, np.random.default_rng(k).integers(0, 255, (64, 64, 3), np.uint8)) for k in range(100)]
        path = write_mcap(tmp_path / "bag.mcap", pictures, chunk_size=1 << 30, compression=compression)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        found, cut = damage_of(path)
        assert 30 < len(found) < 52 and found == expected(pictures)[: len(found)]
        assert cut is not None and "cut off at byte" in cut


@pytest.mark.parametrize("index", [True, False])
def test_a_damaged_chunk_ends_the_bag(tmp_path: Path, index: bool) -> None:
    messages = driving()
    path = write_mcap(tmp_path / "bag.mcap", messages, compression=CompressionType.NONE, summary=index)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<d", 1.98))] ^= 0xFF
    path.write_bytes(content)
    found, cut = damage_of(path)
    assert 50 < len(found) < len(messages) and found == expected(messages)[: len(found)]
    assert cut is not None and "damaged at byte" in cut and "crc" in cut


def test_zeros_where_a_power_cut_left_them_end_the_bag(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag.mcap", driving(), summary=False)
    content = path.read_bytes()
    path.write_bytes(content + bytes(5000))
    assert damage_of(path) == (expected(driving()), None)
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    found, cut = damage_of(path)
    assert found == expected(driving())[: len(found)] and len(found) > 50
    assert cut is not None and "damaged at byte" in cut


def test_of_a_split_bag_nothing_is_read_after_the_damage(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", driving(), files=4)
    broken = folder / "bag_1.mcap"
    broken.write_bytes(broken.read_bytes()[:-3000])
    found, cut = damage_of(folder)
    assert found == expected(driving())[: len(found)]
    assert len(driving()) / 4 < len(found) < len(driving()) / 2
    assert cut is not None and cut.startswith("bag_1.mcap: cut off")


def test_a_file_into_which_nothing_was_written_yet_is_no_harm(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / "bag", driving(), files=2, metadata=False)
    (folder / "bag_2.mcap").write_bytes(b"\x89MC")
    found, cut = damage_of(folder)
    assert found == expected(driving())
    assert cut == "bag_2.mcap: is empty: the recorder was interrupted"


def crashed(path: Path, mode: str) -> int:
    """Write an sqlite3 file that a killed recorder left: half a second more is not committed. Returns its messages."""
    write_sqlite(path, driving(0, 1))
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
    pid = os.fork()
    if pid == 0:
        database = sqlite3.connect(path)
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("PRAGMA cache_size=1")
        database.execute("INSERT INTO messages SELECT id + 1000, topic_id, timestamp + 1000000000, data FROM messages")
        if mode == "WAL":
            database.commit()
        else:
            # Brings a part of it into the file, beside which the journal says how to undo it.
            database.execute("UPDATE messages SET timestamp = timestamp + 1 WHERE id > 1000")
        os._exit(0)
    os.waitpid(pid, 0)
    return len(driving(0, 1))


def test_what_is_only_in_the_write_ahead_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bag.db3"
    count = crashed(path, "WAL")
    assert (tmp_path / "bag.db3-wal").stat().st_size > 0
    before = path.read_bytes()
    found, cut = damage_of(path)
    assert len(found) == 2 * count and cut is None
    assert path.read_bytes() == before and (tmp_path / "bag.db3-wal").exists()


def test_beside_a_hot_journal_what_can_be_read_is_read_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "bag.db3"
    count = crashed(path, "DELETE")
    journal = tmp_path / "bag.db3-journal"
    assert journal.stat().st_size > 0
    before = path.read_bytes(), journal.read_bytes()
    found, cut = damage_of(path)
    assert set(found) >= set(expected(driving(0, 1))) and len(found) >= count
    assert cut is not None and "bag.db3-journal" in cut
    assert (path.read_bytes(), journal.read_bytes()) == before


def test_two_may_read_a_bag_at_once_and_stop_when_they_like(tmp_path: Path) -> None:
    for path in (
        write_mcap(tmp_path / "bag.mcap", driving()),
        write_sqlite(tmp_path / "bag.db3", driving()),
    ):
        with open_bag(path) as bag:
            first, second = bag.messages(bag.topics), bag.messages(bag.topics)
            pairs = [(next(first).logged, next(second).logged) for _ in range(100)]
            assert all(a == b for a, b in pairs)


def test_memory_is_bounded_by_chunks(tmp_path: Path) -> None:
    """Counted by what is held, and not by bytes: no message of a chunk lives when another chunk is read."""
    path = write_mcap(tmp_path / "bag.mcap", [floats(k / 100, [k] * 500) for k in range(600)], chunk_size=100_000)
    with open_bag(path) as bag:
        held = _largest_block(bag)
        assert held < 60


def _largest_block(bag: Bag) -> int:
    """Most messages that were unpacked before the one that was given."""
    from robot import bag_files

    unpacked = given_out = most = 0
    made = bag_files.Raw.__new__

    class Counting(bag_files.Raw):
        def __new__(cls, *values: Any) -> Any:
            nonlocal unpacked
            unpacked += 1
            return made(cls, *values)

    from robot import bag_mcap

    original = bag_mcap.Raw
    bag_mcap.Raw = Counting  # type: ignore[misc]
    try:
        for _ in bag.messages(bag.topics):
            given_out += 1
            most = max(most, unpacked - given_out)
    finally:
        bag_mcap.Raw = original
    return most


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("files")
    messages = driving(0, 1, camera=True)
    made = {name: write_mcap(folder / f"{name}.mcap", messages, **LAYOUTS[name]) for name in LAYOUTS}
    made["sqlite3"] = write_sqlite(folder / "bag.db3", messages)
    return made.__getitem__


@given(
    kind=st.sampled_from([*LAYOUTS, "sqlite3"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20),
    length=st.floats(0, 1),
)
def test_no_damage_is_a_crash(
    files: Callable[[str], Path], kind: str, changes: list[tuple[float, int]], length: float
) -> None:
    source = files(kind)
    content = bytearray(source.read_bytes())
    for where, value in changes:
        content[int(where * len(content))] = value
    broken = source.with_stem("broken")
    broken.write_bytes(content[: int(length * len(content)) + 1])
    try:
        with open_bag(broken) as bag:
            for topic in bag.topics:
                try:
                    for message in bag.messages([topic]):
                        assert message.topic == topic
                except InputError:
                    continue
    except InputError as error:
        assert "\n" not in str(error)


def test_a_real_log_has_the_counts_that_its_makers_say(shared_data: Path) -> None:
    folder = shared_data / "robot_log" / "bagfile"
    if not folder.is_dir():
        pytest.skip(f"no real log at {folder}")
    with open_bag(folder) as bag:
        assert bag.cut is None
        assert bag.count(bag.topics) == 25_387
        assert bag.topics["/robot/joint_state"].count == 4_217
        assert bag.topics["/robot/joint_command"].count == 3_998
        assert (bag.end - bag.start) / 1e9 == pytest.approx(42.7, abs=0.05)
        used = [topic for topic in bag.topics if bag.topics[topic].count]
        assert sum(1 for _ in bag.messages(used)) == 25_387 and not bag.unreadable
        strange = "/reference_hardstops/_action/feedback"
        assert bag.topics[strange].count == 0
        with pytest.raises(InputError, match=f"topic {strange}: its type"):
            bag.messages([strange])
