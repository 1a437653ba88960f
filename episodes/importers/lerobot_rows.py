"""The parquet files of a LeRobot dataset: one episode's rows at a time, each row read once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from episodes.episode import EpisodeError
from episodes.importers.lerobot_info import also
from episodes.importers.source import damaged

EPISODE = "episode_index"


class Rows:
    """Rows of a dataset's parquet files by episode.

    One file is open, one batch of it and one episode are in memory. Episodes that are asked for in the order in which
    they lie in the files are read in one go; others cost reading a row group again.
    """

    def __init__(self, path: Path, columns: Sequence[str], batch: int) -> None:
        """`columns` are wanted of the files in the folder `path`, read `batch` rows at a time."""
        self._path = path
        self._columns = list(columns)
        self._batch = batch
        self._name = ""
        self._file: _File | None = None

    def episode(self, index: int, files: Sequence[str]) -> pa.Table:
        """All rows of an episode, from the first of the files that has some.

        Raises:
            EpisodeError: where none has, or they cannot be read.
        """
        for number, name in enumerate(files):
            if number and not (self._path / name).is_file():
                continue
            with damaged(name), also(pa.ArrowException):
                if self._file is None or self._name != name:
                    self._file = None
                    self._file = _File(self._path / name, name, self._columns, self._batch)
                    self._name = name
                if index in self._file.spans:
                    return self._file.read(*self._file.spans[index])
        raise EpisodeError(f"{files[0]}: no rows with {EPISODE} {index}")


class _File:
    """One parquet file, read forwards in batches."""

    def __init__(self, path: Path, name: str, columns: list[str], batch: int) -> None:
        if not path.is_file():
            raise EpisodeError(f"{name}: no such file")
        # A buffer, so that of a large file only what is decoded is in memory.
        self._parquet = pq.ParquetFile(path, buffer_size=2**20)
        self._columns, self._batch = columns, batch
        gone = [column for column in (EPISODE, *columns) if column not in self._parquet.schema_arrow.names]
        if gone:
            raise EpisodeError(f"{name}: no column {gone[0]!r}, meta/info.json says that there is one")
        self.spans = _spans(self._parquet.read(columns=[EPISODE])[EPISODE], name)
        groups = [self._parquet.metadata.row_group(i).num_rows for i in range(self._parquet.num_row_groups)]
        self._group_starts = np.concatenate([[0], np.cumsum(groups)])
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._rest: pa.RecordBatch | None = None
        self._at = 0
        """Number of the first row of the rest, or else of the next batch."""

    def read(self, start: int, stop: int) -> pa.Table:
        """The wanted columns of the rows from `start` up to `stop`."""
        try:
            return pa.Table.from_batches(list(self._take(start, stop)))
        except BaseException:
            self._batches = None  # It cannot be gone on with.
            raise

    def _take(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        batches = self._batches
        if batches is None or start < self._at or self._group(start) > self._group(self._at):
            self._at, self._rest = int(self._group_starts[self._group(start)]), None
            groups = range(self._group(start), self._parquet.num_row_groups)
            batches = self._parquet.iter_batches(self._batch, row_groups=groups, columns=self._columns)
            self._batches = batches
        while self._at < stop:
            batch = next(batches, None) if self._rest is None else self._rest
            if batch is None:
                raise OSError(f"it ends at row {self._at}, expected {stop} rows")
            skipped = min(max(start - self._at, 0), len(batch))
            taken = batch.slice(skipped, stop - self._at - skipped)
            if len(taken):
                yield taken.select(self._columns)
            self._at += skipped + len(taken)
            rest = batch.slice(skipped + len(taken))
            self._rest = rest if len(rest) else None

    def _group(self, row: int) -> int:
        """The row group that a row is in."""
        return int(np.searchsorted(self._group_starts, row, side="right")) - 1


def _spans(column: pa.ChunkedArray, name: str) -> dict[int, tuple[int, int]]:
    """For every episode the rows that it begins and ends at, told by its index in each row."""
    values = table(column, 1, f"{name}: {EPISODE}")[:, 0]
    cuts = np.flatnonzero(np.diff(values)) + 1
    starts, stops = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(values)]])
    if len(np.unique(values)) < len(starts) and len(values):
        raise EpisodeError(f"{name}: the rows of one episode do not lie together")
    return {int(values[start]): (int(start), int(stop)) for start, stop in zip(starts, stops, strict=True) if stop}


def table(column: pa.ChunkedArray, size: int, what: str) -> np.ndarray:
    """Shape (rows, size), in the column's own dtype: a column of numbers, or of lists of `size` numbers.

    Raises:
        EpisodeError: where it is neither, or a list is missing or has another length.
    """
    values = column.combine_chunks()
    values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    rows = len(values)
    if isinstance(values.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        lengths = values.value_lengths().unique().to_pylist()
        if lengths not in ([], [size]):
            raise EpisodeError(f"{what} has lists of {lengths[:3]} values, expected {size}")
        values = values.flatten()
    numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)
    if not numeric or len(values) != rows * size:
        raise EpisodeError(f"{what} is {column.type}, expected {size} numbers a frame")
    if values.null_count:
        raise EpisodeError(f"{what} has no value at frame {values.is_null().index(True).as_py() // max(size, 1)}")
    return values.to_numpy(zero_copy_only=False).reshape(rows, size)
