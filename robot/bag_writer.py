"""Writing MCAP so that a power cut costs seconds: whole chunks, and the disk asked for at intervals."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

PART = ".part"
"""What a file is called with while it is written."""
CHUNK = 4 << 20
"""Bytes after which a chunk is written; `sync` writes what there is."""


def definition(kind: str) -> str:
    """A type's definition with those of the types inside, as bags carry it; empty where nobody knows it.

    Types that are not standard are read from where their packages are installed.
    """
    store = get_typestore(Stores.ROS2_KILTED)
    wanted = [kind]
    while wanted:
        name = wanted.pop()
        if name in store.fielddefs:
            continue
        text = _installed(name)
        if text is None:
            return ""
        found = get_types_from_msg(text, name)
        store.register(found)
        wanted += [inside for _, fields in found.values() for _, field in fields for inside in _names_in(field)]
    text, _ = store.generate_msgdef(kind, ros_version=2)
    return text


def _installed(kind: str) -> str | None:
    """The text of `share/PACKAGE/msg/TYPE.msg` under the first prefix of ROS 2 that has it."""
    package, _, leaf = kind.split("/")
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        file = Path(prefix) / "share" / package / "msg" / f"{leaf}.msg"
        if file.is_file():
            return file.read_text()
    return None


def _names_in(field: Any) -> Iterator[str]:
    """The types that a field is made of, arrays and sequences looked into."""
    kind, what = field
    if kind is Nodetype.NAME:
        yield what
    elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        yield from _names_in(what[0])


NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that have none: a stick's, a network's."""


class BagWriter:
    """One MCAP file, in the making under another name; it gets its own when it is complete and on the disk.

    Messages are written as they came from the middleware, so that nothing is lost in translation. What `sync` has
    returned from survives a power cut: the file can be read up to there.
    """

    def __init__(self, path: Path, fsync: Callable[[int], None] = os.fsync):
        """`fsync` is the system's; tests put another in its place."""
        self.path = path
        self.messages = 0
        self._fsync = fsync
        self._unfinished = path.with_name(path.name + PART)
        self._named = False
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(errno.EEXIST, "a recording of that name is there already", str(path))
        self._file = self._unfinished.open("xb")
        self._writer = Writer(self._file, chunk_size=CHUNK, compression=CompressionType.LZ4)
        self._writer.start(profile="ros2", library="firsthand")
        self._channels: dict[str, int] = {}

    def add_topic(self, topic: str, kind: str) -> None:
        """A topic has to be known before its first message; `kind` is such as `sensor_msgs/msg/JointState`."""
        if topic in self._channels:
            return
        text = definition(kind)
        schema = self._writer.register_schema(kind, "ros2msg" if text else "unknown", text.encode())
        self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)

    def write(self, topic: str, data: bytes, logged: int, published: int) -> None:
        """A serialised message, when it was received and when it was published [ns]."""
        self._writer.add_message(self._channels[topic], logged, data, published)
        self.messages += 1

    def sync(self) -> None:
        """Bring to the disk what was written so far."""
        self.flush()
        self.wait_for_disk()

    def flush(self) -> None:
        """Give the system what was written so far."""
        self._writer.flush()
        self._file.flush()

    def wait_for_disk(self) -> None:
        """Until it has what the system was given; messages may be written meanwhile, by another thread."""
        self._fsync(self._file.fileno())
        if not self._named:
            self._sync_folder()
            self._named = True

    def close(self) -> None:
        """Finish the file: from here on it is complete, has an index, and survives."""
        self._writer.finish()
        self._file.flush()
        self._fsync(self._file.fileno())
        self._file.close()
        try:
            os.link(self._unfinished, self.path)  # which, unlike a renaming, never replaces anything
            self._unfinished.unlink()
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # That nothing of that name is there was looked at in the beginning.
            self._unfinished.rename(self.path)
        self._sync_folder()

    def abandon(self) -> None:
        """Stop where nothing more can be written; what there is stays under its unfinished name."""
        # It tries to write what is left once more, and is closed whatever comes of that.
        with suppress(OSError):
            self._file.close()

    def _sync_folder(self) -> None:
        """A file is found again after a power cut only if its name is on the disk, too."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            self._fsync(folder)
        finally:
            os.close(folder)
