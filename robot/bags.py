"""Reading rosbag2: sqlite3 and MCAP, whole or cut off, message by message in the order in which they were logged."""

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml
import zstandard
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from episodes.errors import InputError, unknown
from episodes.importers.source import reason
from robot.bag_files import BagFile, Channel, EmptyFile, Part, in_order
from robot.bag_mcap import MCAP_MAGIC, McapFile
from robot.bag_sqlite import SQLITE_MAGIC, SqliteFile

METADATA = "metadata.yaml"
_KINDS = {".mcap", ".db3"}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ROS1_MAGIC = b"#ROSBAG V"


Decode = Callable[[bytes | memoryview], Any]
"""A message from its bytes."""


class UnreadableError(Exception):
    """A message does not fit the definition of its type, or there is no such definition."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What is recorded of a topic."""

    type: str
    count: int
    """Messages."""


HOLE = ""
"""In place of a topic: something is missing here."""


class BagMessage(NamedTuple):
    """A message, and when it was sent and received."""

    topic: str
    logged: int
    """When the recorder got it [ns]."""
    published: int
    """When it was sent [ns]; the same where the bag does not know."""
    message: Any


class Bag:
    """An open bag; `with open_bag(path) as bag` closes it.

    Memory does not grow with the bag's size: at most what overlaps in time of its files' chunks is held.
    """

    def __init__(self, path: Path, files: list[BagFile]):
        self.path = path
        self.topics: dict[str, Topic] = {}
        """By name, sorted."""
        self.unreadable: Counter[str] = Counter()
        """Messages per topic that were passed over because they do not fit their type's definition."""
        self.reasons: dict[str, str] = {}
        """Why, of the first of each topic."""
        self._files = files
        counts: dict[str, Counter[str]] = {}
        for file in files:
            for number, channel in file.channels.items():
                counts.setdefault(channel.topic, Counter())[channel.type] += file.counts[number]
        for topic in sorted(counts):
            self.topics[topic] = Topic(counts[topic].most_common(1)[0][0], counts[topic].total())

    @property
    def start(self) -> int:
        """Log time of the first message [ns]; 0 where there is none."""
        return min((file.start for file in self._files if file.start is not None), default=0)

    @property
    def end(self) -> int:
        """Log time of the last message [ns]."""
        return max((file.end for file in self._files if file.end is not None), default=0)

    @property
    def cut(self) -> str | None:
        """Where and why the bag ends before it should; None where it is whole. Damage may only be found in reading."""
        return next((f"{file.path.name}: {file.cut}" for file in self._files if file.cut is not None), None)

    def count(self, topics: Collection[str]) -> int:
        """How many messages `messages` has to go through."""
        return sum(self.topics[topic].count for topic in topics if topic in self.topics)

    def messages(self, topics: Collection[str], *, holes: bool = False) -> Iterator[BagMessage]:
        """The messages of some topics in the order of their log times, up to where the bag ends or is damaged.

        Args:
            holes: go on with other files where one is damaged. There comes a message without a topic.

        Raises:
            InputError: for a topic that is not there, or whose type nobody knows.
        """
        for topic in topics:
            if topic not in self.topics:
                raise unknown("topic", topic, self.topics, str(self.path))
        parts: list[Part] = []
        for file in self._files:
            wanted: dict[int, tuple[str, Decode]] = {}
            for number, channel in file.channels.items():
                if channel.topic in topics:
                    wanted[number] = channel.topic, _decoder(channel, self.path)
            parts += file.parts(wanted)
        return self._decoded(parts, holes)

    def _decoded(self, parts: list[Part], holes: bool) -> Iterator[BagMessage]:
        for logged, published, target, data in in_order(parts):
            if target is None:
                # Where and why is noted in the file's `cut`.
                if not holes:
                    return
                yield BagMessage(HOLE, logged, published, None)
                continue
            topic, decode = target
            try:
                message = decode(data)
            except UnreadableError as error:
                self.unreadable[topic] += 1
                self.reasons.setdefault(topic, str(error))
                continue
            yield BagMessage(topic, logged, published, message)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __enter__(self) -> "Bag":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_bag(path: Path) -> Bag:
    """The bag at a path: a folder that `ros2 bag record` made, or one of its files.

    Raises:
        InputError: where there is none, or none that can be read as it is.
    """
    path = path.parent if path.name == METADATA else path
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    files: list[BagFile] = []
    try:
        for each in _files_of(path):
            files.append(_opened(each, tolerant=path.is_dir()))
    except InputError:
        for file in files:
            file.close()
        raise
    return Bag(path, files)


def is_bag(path: Path) -> bool:
    """Whether what lies at a path says that it is a bag, of whatever kind."""
    try:
        if path.is_dir():
            return (path / METADATA).is_file() or bool(_found_in(path))
        with path.open("rb") as file:
            return path.name == METADATA or file.read(16).startswith((MCAP_MAGIC, SQLITE_MAGIC, _ROS1_MAGIC))
    except OSError:
        return False


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    named = _named_by_metadata(path)
    if named is None:
        # A recorder that was killed did not get to write metadata.yaml.
        found = _found_in(path)
        if not found:
            raise InputError(f"{path}: no bag: neither {METADATA} nor .mcap or .db3 files in it")
        return found
    for file in named:
        if not file.exists():
            raise InputError(
                f"{path}: {METADATA} names {file.name}, which is not there; to read the bag without it, give its other "
                f"files one by one, or take {METADATA} away"
            )
    return named


def _named_by_metadata(folder: Path) -> list[Path] | None:
    """The files in the order in which they were recorded; None where metadata.yaml is missing or damaged."""
    try:
        content = yaml.safe_load((folder / METADATA).read_text())
        names = content["rosbag2_bagfile_information"]["relative_file_paths"]
        files = [folder / PurePath(name).name for name in names]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return None
    # Somebody may have unpacked what was recorded packed.
    return [file.with_suffix("") if file.suffix == ".zstd" and not file.exists() else file for file in files] or None


def _found_in(folder: Path) -> list[Path]:
    """Files that are called like a bag's, also packed ones and those that the recorder did not finish, by name."""
    return sorted(file for file in folder.iterdir() if _KINDS.intersection(file.suffixes[-2:]) and file.is_file())


def _opened(path: Path, *, tolerant: bool) -> BagFile:
    """One file; `tolerant` takes one that has nothing in it yet for one that was cut off."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(MCAP_MAGIC):
            return McapFile(path)
        if head.startswith(SQLITE_MAGIC):
            return SqliteFile(path)
        if tolerant and len(head) < len(MCAP_MAGIC):
            return EmptyFile(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if head.startswith(_ROS1_MAGIC):
        new = path.with_suffix("")
        raise InputError(f"{path}: a ROS 1 bag; make a ROS 2 bag of it: rosbags-convert --src {path} --dst {new}")
    if head.startswith(_ZSTD_MAGIC):
        unpacked = path.with_suffix("") if path.suffix in (".zstd", ".zst") else path.with_name(path.name + ".mcap")
        raise InputError(f"{path}: packed with zstd; unpack it first: zstd -d {path} -o {unpacked}")
    what = f"begins with {head[:8]!r}" if head else "is empty"
    raise InputError(f"{path}: no bag: it {what}, expected MCAP or sqlite3")


def _decoder(channel: Channel, where: Path) -> Decode:
    """What makes messages of a channel's bytes: by the definition in the bag, else by the standard one.

    Raises:
        InputError: where nobody knows what the bytes mean.
    """
    place = f"{where}: topic {channel.topic}"
    if channel.serialization != "cdr":
        raise InputError(f"{place} is serialised as {channel.serialization!r}, expected cdr")
    try:
        return _decode_of(channel.type, channel.encoding, channel.definition)
    except UnreadableError as error:
        if channel.type in _standard().fielddefs:
            return _decode_of(channel.type, "", "")
        raise InputError(f"{place}: {error}") from None


@lru_cache(maxsize=256)
def _decode_of(kind: str, encoding: str, definition: str) -> Decode:
    """Raises an UnreadableError where the definition cannot be used, or is missing and not standard."""
    store = _standard()
    try:
        if encoding == "ros2msg":
            embedded = get_types_from_msg(definition, kind)
        else:
            embedded = get_types_from_idl(definition) if encoding == "ros2idl" else {}
        for name in embedded:
            store.fielddefs.pop(name, None)
            store.types.pop(name, None)
        store.register(embedded)
        if kind not in store.fielddefs:
            raise UnreadableError(
                f"its type {kind!r} is not standard, and the bag does not define it; "
                "record it with the type's package sourced"
            )
        form = store.get_msgdef(kind)
    except (TypesysError, LookupError, ValueError, TypeError, AssertionError, SyntaxError, RecursionError) as error:
        raise UnreadableError(f"the definition of {kind!r} in the bag cannot be used: {reason(error)}") from None
    little, big, cls = form.deserialize_cdr_le, form.deserialize_cdr_be, form.cls

    def decode(data: bytes | memoryview) -> Any:
        if len(data) >= 4 and data[0]:
            data = _unpacked(data)
        if len(data) < 4 or data[0] or data[1] > 1:
            raise UnreadableError(f"begins with {bytes(data[:4])!r}, which is no plain CDR")
        # Bytes that are left over are no harm: rclpy's `serialize_message` appends some.
        try:
            message, _ = (little if data[1] else big)(memoryview(data)[4:], 0, cls, store)
        except (SerdeError, struct.error, ValueError, LookupError, RecursionError) as error:
            raise UnreadableError(reason(error)) from None
        return message

    return decode


def _standard() -> Typestore:
    """The standard types, in a store of their own: the same name may mean two things in two bags."""
    return get_typestore(Stores.ROS2_JAZZY)


def _unpacked(data: bytes | memoryview) -> bytes | memoryview:
    """A message that was packed by itself; any other as it is."""
    if data[:4] != _ZSTD_MAGIC:
        return data
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError as error:
        raise UnreadableError(reason(error)) from None
