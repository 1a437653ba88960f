"""An MCAP file of a rosbag2 recording, by its index or without one: a chunk at a time, as far as it is whole.

The `mcap` package knows the records. Walking through them is done here: its readers hold a file without an index in
memory as a whole, and do not say where one that is cut off ends.
"""

import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import Any

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel as McapChannel
from mcap.records import ChunkIndex, Schema, Statistics

from episodes.importers.source import DAMAGE, reason
from robot.bag_files import BagFile, Channel, DamagedError, Part, Raw

MCAP_MAGIC = b"\x89MCAP0\r\n"

LOOSE = 4 << 20
"""Bytes of messages outside of chunks that are read together."""
LARGEST = 1 << 31
"""Bytes that a chunk may unpack to; more is damage."""
_RECORD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQII")
_COUNT = struct.Struct("<Q")
_MESSAGE = struct.Struct("<HIQQ")
_FOOTER = struct.Struct("<QQI")
_FOOTER_SIZE = _RECORD.size + _FOOTER.size + len(MCAP_MAGIC)
_BROKEN = (*DAMAGE, McapError, zstandard.ZstdError)
"""What the libraries raise where a file is damaged."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A stretch of an MCAP file that is read in one go."""

    offset: int
    size: int
    start: int
    """Log time of its first message [ns]."""
    chunk: bool
    """Whether it is one chunk, or messages that stand for themselves."""
    channels: frozenset[int] | None = None
    """That have messages in it; None where nobody said."""
    whole: bool = True
    """Whether the file has all of it."""


class McapFile(BagFile):
    """An MCAP file by its index, or, where the recorder did not get to write one, by what is there."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        self._schemas: dict[int, Schema] = {}
        self._blocks: list[_Block] = []
        try:
            indexed = self._read_summary()
        except _BROKEN:
            indexed = False
        if not indexed:
            self._schemas, self._blocks, self.channels, self.counts = {}, [], {}, Counter()
            self._scan()

    def close(self) -> None:
        self._file.close()

    def parts(self, wanted: Mapping[int, Any]) -> list[Part]:
        asked = frozenset(wanted)
        chosen = [block for block in self._blocks if block.channels is None or asked & block.channels]
        return self._end_of(
            [Part(block.start, lambda block=block: self._read(block, wanted), self.path) for block in chosen]
        )

    def _read(self, block: _Block, wanted: Mapping[int, Any]) -> Iterator[Raw]:
        try:
            content = self._content(block)
            found = []
            for opcode, at, end in _records(content, whole=block.whole):
                if opcode == Opcode.MESSAGE:
                    channel, _, logged, published = _MESSAGE.unpack_from(content, at)
                    if channel in wanted:
                        data = content[at + _MESSAGE.size : end]
                        found.append(Raw(logged, published or logged, wanted[channel], data))
        except _BROKEN as error:
            self.cut = self.cut or f"damaged at byte {block.offset}: {reason(error)}; what comes after it is not read"
            raise DamagedError(self.cut) from None
        found.sort(key=itemgetter(0))
        return iter(found)

    def _content(self, block: _Block) -> memoryview:
        """The records of a block, unpacked."""
        self._file.seek(block.offset)
        record = self._file.read(block.size)
        return memoryview(_unpacked(record) if block.chunk else record)

    def _read_summary(self) -> bool:
        """Take everything from the index at the end of the file; False where there is none that can be used."""
        if self._size < len(MCAP_MAGIC) + _FOOTER_SIZE:
            return False
        self._file.seek(-_FOOTER_SIZE, os.SEEK_END)
        footer = self._file.read()
        summary, _, checksum = _FOOTER.unpack_from(footer, _RECORD.size)
        if footer[: _RECORD.size] != _RECORD.pack(Opcode.FOOTER, _FOOTER.size) or not footer.endswith(MCAP_MAGIC):
            return False
        if not summary or summary > self._size - _FOOTER_SIZE:
            return False
        self._file.seek(summary)
        content = self._file.read(self._size - _FOOTER_SIZE - summary)
        if checksum and zlib.crc32(content + footer[: _RECORD.size + 16]) != checksum:
            return False
        statistics = None
        for opcode, at, end in _records(content, whole=True):
            record = content[at:end]
            if opcode == Opcode.STATISTICS:
                statistics = Statistics.read(_stream(record))
            elif opcode == Opcode.CHUNK_INDEX:
                index = ChunkIndex.read(_stream(record))
                channels = frozenset(index.message_index_offsets) or None
                offset, start = index.chunk_start_offset, index.message_start_time
                self._blocks.append(_Block(offset, index.chunk_length, start, chunk=True, channels=channels))
            else:
                self._define(opcode, record)
        if statistics is None or statistics.chunk_count != len(self._blocks):
            return False
        self.counts.update(statistics.channel_message_counts)
        if statistics.message_count:
            self.start, self.end = statistics.message_start_time, statistics.message_end_time
        complete = set(self.counts) <= set(self.channels) and self.counts.total() == statistics.message_count
        # Without chunks there is no index of messages, either.
        return complete and bool(self._blocks or not statistics.message_count)

    def _define(self, opcode: int, record: bytes | memoryview) -> None:
        """Take in a record that says what a channel is."""
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(_stream(record))
            self._schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = McapChannel.read(_stream(record))
            schema = self._schemas.get(channel.schema_id)
            kind, encoding, text = ("", "", b"") if schema is None else (schema.name, schema.encoding, schema.data)
            self.channels[channel.id] = Channel(
                channel.topic, kind, channel.message_encoding, encoding, text.decode(errors="replace")
            )

    def _scan(self) -> None:
        """Walk through the file from its beginning to where it ends or stops making sense."""
        position, loose = len(MCAP_MAGIC), None
        while True:
            self._file.seek(position)
            head = self._file.read(_RECORD.size)
            opcode, length = _RECORD.unpack(head) if len(head) == _RECORD.size else (None, 0)
            end = position + _RECORD.size + length
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                break
            if opcode == 0:
                self.cut = f"damaged at byte {position}: no record begins there; what comes after it is not read"
                break
            if opcode is None or end > self._size:
                self.cut = f"cut off at byte {self._size}: the recorder was interrupted, or the copy is incomplete"
            if opcode == Opcode.MESSAGE and self.cut is None:
                loose = self._scan_loose(position, end, loose)
            elif opcode == Opcode.CHUNK:
                there = min(end, self._size) - position
                self._scan_block(_Block(position, there, 0, chunk=True, whole=self.cut is None))
            elif opcode is not None and self.cut is None:
                self._scan_definition(opcode, position, length)
            if self.cut is not None:
                break
            position = end

    def _scan_definition(self, opcode: int, position: int, length: int) -> None:
        if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            try:
                self._define(opcode, self._file.read(length))
            except _BROKEN as error:
                self.cut = f"damaged at byte {position}: {reason(error)}; what comes after it is not read"

    def _scan_loose(self, position: int, end: int, block: _Block | None) -> _Block:
        """Count a message outside of chunks, as a part of the block before it where that is small and next to it."""
        head = self._file.read(_MESSAGE.size)
        channel, _, logged, _ = _MESSAGE.unpack(head) if len(head) == _MESSAGE.size else (0, 0, 0, 0)
        self._saw(channel, logged)
        if block is not None and block.offset + block.size == position and end - block.offset <= LOOSE:
            self._blocks.pop()
            block = _Block(block.offset, end - block.offset, min(block.start, logged), chunk=False)
        else:
            block = _Block(position, end - position, logged, chunk=False)
        self._blocks.append(block)
        return block

    def _scan_block(self, block: _Block) -> None:
        """Count what is in a chunk, and learn of its channels."""
        start = None
        try:
            content = self._content(block)
            for opcode, at, end in _records(content, whole=block.whole):
                if opcode != Opcode.MESSAGE:
                    self._define(opcode, content[at:end])
                    continue
                channel, _, logged, _ = _MESSAGE.unpack_from(content, at)
                self._saw(channel, logged)
                start = logged if start is None else min(start, logged)
        except _BROKEN as error:
            self.cut = self.cut or f"damaged at byte {block.offset}: {reason(error)}; what comes after it is not read"
        else:
            if start is not None:
                self._blocks.append(replace(block, start=start))


def _stream(record: bytes | memoryview) -> ReadDataStream:
    return ReadDataStream(BytesIO(record))


def _records(content: bytes | memoryview, *, whole: bool) -> Iterator[tuple[int, int, int]]:
    """Opcode, begin and end of what each record holds. Of content that is not whole the last one may be cut off."""
    position, size = 0, len(content)
    while position + _RECORD.size <= size:
        opcode, length = _RECORD.unpack_from(content, position)
        begin = position + _RECORD.size
        if begin + length > size:
            break
        position = begin + length
        yield opcode, begin, position
    if whole and position != size:
        raise ValueError(f"a record of it ends after its end, at {position} of {size}")


def _unpacked(record: bytes) -> bytes | memoryview:
    """What is in a chunk; of one that is cut off, its beginning. Nothing is copied that need not be."""
    _, length = _RECORD.unpack_from(record)
    _, _, size, checksum, name = _CHUNK.unpack_from(record, _RECORD.size)
    begin = _RECORD.size + _CHUNK.size
    compression = record[begin : begin + name].decode()
    if compression not in _UNPACKING:
        raise ValueError(f"compressed with {compression!r}; known: lz4, zstd")
    if size > LARGEST:
        raise ValueError(f"a chunk that says it holds {size} bytes")
    (count,) = _COUNT.unpack_from(record, begin + name)
    packed = memoryview(record)[begin + name + _COUNT.size :][:count]
    whole, beginning = _UNPACKING[compression]
    if len(record) < _RECORD.size + length:
        return beginning(packed)
    content = whole(packed, size)
    if len(content) != size or (checksum and zlib.crc32(content) != checksum):
        raise ValueError("a chunk whose checksum (crc) is another one than it says")
    return content


def _begun_zstd(packed: memoryview) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


def _begun_lz4(packed: memoryview) -> bytes:
    return lz4.frame.LZ4FrameDecompressor().decompress(packed)


_UNPACKING: dict[str, tuple[Callable[[memoryview, int], Any], Callable[[memoryview], Any]]] = {
    "": (lambda packed, size: packed[:size], lambda packed: packed),
    "lz4": (lambda packed, _: lz4.frame.decompress(packed), _begun_lz4),
    "zstd": (lambda packed, size: zstandard.decompress(packed, size), _begun_zstd),
}
"""Of each compression: what unpacks something whole to a size, and what unpacks a beginning."""
