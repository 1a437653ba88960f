"""Where a LeRobot dataset's episodes lie: the parquet and mp4 files of each, as `meta/` says, v2.0 to v3.0."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from episodes.episode import EpisodeError
from episodes.errors import InputError
from episodes.importers.lerobot_info import Info, also, json_lines
from episodes.importers.source import listed, reading
from episodes.typed import parse

_CLIP = {
    "chunk_index": pa.int64(),
    "file_index": pa.int64(),
    "from_timestamp": pa.float64(),
    "to_timestamp": pa.float64(),
}
"""What v3.0 says of an episode's part of an mp4, in columns `videos/KEY/...`."""


@dataclass(frozen=True, slots=True)
class Clip:
    """An episode's part of an mp4."""

    file: str
    """Below the dataset's folder."""
    start: float = 0.0
    """Where in the file the episode's time 0 is [s]."""
    end: float = inf
    """Where in the file the next episode begins [s]."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What `meta/` says about one episode."""

    index: int
    length: int
    """Number of frames."""
    files: tuple[str, ...]
    """Parquet files below the dataset's folder, in the order in which to look for the rows."""
    clips: dict[str, Clip]
    """By the key of the video."""


@dataclass(frozen=True, slots=True)
class _Line:
    episode_index: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class _Lines:
    episodes: tuple[_Line, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A dataset's episodes, and where the parts of each lie."""

    path: Path
    info: Info
    videos: tuple[str, ...]
    """Keys of the videos that are wanted."""
    episodes: pa.Table = field(repr=False)
    """A row per episode, by rising `episode_index`; a table, because a dataset may have a million of them."""

    def __len__(self) -> int:
        return len(self.episodes)

    def entries(self) -> Iterator[tuple[str, Entry | EpisodeError]]:
        """Every episode's key, and where it lies or why that cannot be said."""
        for batch in self.episodes.to_batches(max_chunksize=1000):
            for row in batch.to_pylist():
                wrong = [name for name, value in row.items() if value is None or value < 0 or not isfinite(value)]
                why = EpisodeError(f"meta/episodes: {wrong[0]} is {row[wrong[0]]}") if wrong else None
                yield f"episode_{row['episode_index']:06d}", why or self._entry(row)

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        index = row["episode_index"]
        if not self.info.is_v3:
            place = {"episode_chunk": index // self.info.chunks_size, "episode_index": index}
            clips = {key: Clip(self._filled(self.info.video_path, place | {"video_key": key})) for key in self.videos}
            return Entry(index, row["length"], (self._filled(self.info.data_path, place),), clips)
        chunk, file = row["data/chunk_index"], row["data/file_index"]
        # LeRobot's first converter to v3.0 wrote the first episode of a file down as the last of the one before.
        following = (chunk, file + 1) if file + 1 < self.info.chunks_size else (chunk + 1, 0)
        files = tuple(
            self._filled(self.info.data_path, {"chunk_index": c, "file_index": f})
            for c, f in ((chunk, file), following)
        )
        return Entry(index, row["length"], files, {key: self._clip(row, key) for key in self.videos})

    def _clip(self, row: Mapping[str, Any], key: str) -> Clip:
        said = {name: row[f"videos/{key}/{name}"] for name in _CLIP}
        file = self._filled(self.info.video_path, said | {"video_key": key})
        return Clip(file, said["from_timestamp"], said["to_timestamp"])

    def _filled(self, template: str | None, values: Mapping[str, int | str]) -> str:
        """A path of `info.json` with its `{name}` and `{name:03d}` filled in; it cannot leave the dataset's folder."""

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise InputError(f"{where}: unknown {match[0]}, known: {listed(values)}")
            return str(values[match[1]]).zfill(int(match[2] or 0))

        where = f"{self.path}: path {template!r} in meta/info.json"
        path = re.sub(r"\{(\w*)(?::0?(\d{1,2})d?)?\}", value, template or "")
        if Path(path).is_absolute() or ".." in Path(path).parts or not path.isprintable():
            raise InputError(f"{where}: expected one below the dataset's folder, in printable characters")
        return path


def read_layout(path: Path, info: Info, videos: Sequence[str]) -> Layout:
    """Where every episode lies, with the clips of the named videos.

    Raises:
        InputError: where `meta/` is damaged, or lists an episode twice.
    """
    if videos and not info.video_path:
        raise InputError(f"{path}: meta/info.json has no video_path, expected one for {videos[0]}")
    table = (_episodes_v3(path, videos) if info.is_v3 else _episodes_v2(path)).sort_by("episode_index")
    indices = table["episode_index"]
    if indices.null_count or (len(indices) and indices[0].as_py() < 0):
        raise InputError(f"{path}: meta/episodes has a row without an episode_index of 0 or more")
    again = np.flatnonzero(np.diff(indices.to_numpy()) == 0)
    if len(again):
        raise InputError(f"{path}: meta/ lists episode {indices[int(again[0])]} twice, expected once")
    layout = Layout(path, info, tuple(videos), table)
    next(layout.entries(), None)  # A path that cannot be made is told before any work is done.
    return layout


def _episodes_v2(path: Path) -> pa.Table:
    file = path / "meta" / "episodes.jsonl"
    lines = parse(_Lines, {"episodes": json_lines(file)}, str(file)).episodes
    with reading(file), also(pa.ArrowException):
        columns = {"episode_index": [line.episode_index for line in lines], "length": [line.length for line in lines]}
        return pa.table(columns, pa.schema([(name, pa.int64()) for name in columns]))


def _episodes_v3(path: Path, videos: Sequence[str]) -> pa.Table:
    """The files of `meta/episodes`, without their statistics."""
    names = ("episode_index", "length", "data/chunk_index", "data/file_index")
    schema = pa.schema(
        [(name, pa.int64()) for name in names]
        + [(f"videos/{key}/{name}", kind) for key in videos for name, kind in _CLIP.items()]
    )
    files = sorted((path / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise InputError(f"{path}: meta/episodes has no chunk-*/file-*.parquet, expected the episodes there")
    tables = []
    for name in files:
        with reading(name), also(pa.ArrowException):
            file = pq.ParquetFile(name)
            gone = [column for column in schema.names if column not in file.schema_arrow.names]
            if gone:
                raise InputError(f"{name}: no column {gone[0]!r}, expected as LeRobot v3.0 writes it")
            tables.append(file.read(columns=schema.names).select(schema.names).cast(schema))
    return pa.concat_tables(tables)
