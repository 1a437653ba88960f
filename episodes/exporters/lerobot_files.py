"""The parquet files of a LeRobot dataset, v3.0: rows of many episodes per file, and what is where."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from episodes.exporters.lerobot_stats import MEASURES

FILE_BYTES = 100e6
"""A parquet file that is larger gets no further episode; LeRobot's own size."""

FILES_PER_CHUNK = 1000
EPISODES_AT_ONCE = 1000
"""Rows of `meta/episodes` to write together."""


def place(number: int) -> dict[str, int]:
    """Where the file of a number is."""
    return {"chunk_index": number // FILES_PER_CHUNK, "file_index": number % FILES_PER_CHUNK}


def column(values: np.ndarray) -> pa.Array:
    """Numbers of shape (T,) or (T, 1) as they are, of shape (T, d) as lists of that length."""
    size = values[0].size
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)


class Rows:
    """`data/`: a row per frame, a row group per episode. An episode is never split over files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table, pictures: Sequence[str]) -> dict[str, int]:
        """Append an episode's rows; returns where they are, as columns of `meta/episodes`.

        Args:
            pictures: The columns with images, which the Hugging Face loader has to be told of.
        """
        if self._writer is not None and self._path.stat().st_size > FILE_BYTES:
            self.close()
            self._number += 1
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            says = json.dumps({"info": {"features": {key: {"_type": "Image"} for key in pictures}}})
            schema = table.schema.with_metadata({"huggingface": says})
            # Pictures are compressed already, and no two numbers of a sensor are the same.
            self._writer = pq.ParquetWriter(self._path, schema, use_dictionary=False, write_statistics=False)
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        return {f"data/{name}": value for name, value in place(self._number).items()}

    def close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    @property
    def _path(self) -> Path:
        at = place(self._number)
        return self._folder / f"data/chunk-{at['chunk_index']:03d}/file-{at['file_index']:03d}.parquet"


class Episodes:
    """`meta/episodes`: a row per episode."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        path = folder / "meta/episodes/chunk-000/file-000.parquet"
        path.parent.mkdir(parents=True)
        self._writer: pq.ParquetWriter | None = pq.ParquetWriter(path, schema)
        self._schema = schema
        self._rows: list[Mapping[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append({**row, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        if len(self._rows) >= EPISODES_AT_ONCE:
            self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._flush()
            writer, self._writer = self._writer, None
            writer.close()

    def _flush(self) -> None:
        assert self._writer is not None
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def episode_schema(numbers: Sequence[str], cameras: Sequence[str], videos: Sequence[str]) -> pa.Schema:
    """The columns of `meta/episodes`, given the features of each kind."""
    whole = ["episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index"]
    whole += ["meta/episodes/chunk_index", "meta/episodes/file_index"]
    whole += [f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index")]
    times = [f"videos/{key}/{name}_timestamp" for key in videos for name in ("from", "to")]
    rows = pa.list_(pa.float64())
    measures = {**dict.fromkeys(numbers, rows), **dict.fromkeys(cameras, pa.list_(pa.list_(rows)))}
    return pa.schema(
        [(name, pa.int64()) for name in whole]
        + [("tasks", pa.list_(pa.string()))]
        + [(name, pa.float64()) for name in times]
        + [(f"stats/{key}/{name}", kind) for key, kind in measures.items() for name in MEASURES]
        + [(f"stats/{key}/count", pa.list_(pa.int64())) for key in measures]
    )


def write_tasks(folder: Path, tasks: Sequence[str]) -> None:
    """`meta/tasks.parquet`: a pandas table whose index is the text."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})

    def said(name: str, kind: str, dtype: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None}

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [said("", "unicode", "object") | {"name": None, "field_name": None}],
        "columns": [said("task_index", "int64", "int64"), said("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), folder / "meta/tasks.parquet")
