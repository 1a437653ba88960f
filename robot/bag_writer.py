"""Writing MCAP so that a power cut costs seconds: whole chunks, and the disk asked for at intervals."""

import os
from collections.abc import Callable
from pathlib import Path

from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, get_typestore

PART = ".part"
"""What a file is called with while it is written."""
CHUNK = 4 << 20
"""Bytes after which a chunk is written; `sync` writes what there is."""

_types = get_typestore(Stores.ROS2_KILTED)


def definition(kind: str) -> str:
    """A standard type's definition as bags carry it; empty for a type that is not standard."""
    if kind not in _types.fielddefs:
        return ""
    text, _ = _types.generate_msgdef(kind, ros_version=2)
    return text


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
        path.parent.mkdir(parents=True, exist_ok=True)
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
        self._writer.flush()
        self._file.flush()
        self._fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the file: from here on it is complete, has an index, and survives."""
        self._writer.finish()
        self._file.flush()
        self._fsync(self._file.fileno())
        self._file.close()
        self._unfinished.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            self._fsync(folder)
        finally:
            os.close(folder)

    def abandon(self) -> None:
        """Stop where nothing more can be written; what there is stays under its unfinished name."""
        self._file.close()
