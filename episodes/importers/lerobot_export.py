"""What `firsthand export` adds to a LeRobot dataset, so that an import of it brings back what went out.

`meta/firsthand.parquet` has a row per episode, and the contract in its own metadata; the data has columns
`firsthand.*`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from episodes.contract import Contract, contract_from
from episodes.episode import Column
from episodes.errors import InputError
from episodes.importers.exported import KEPT, NAME, kept_from
from episodes.importers.lerobot_info import Feature, also
from episodes.importers.lerobot_names import ACTION, STATE
from episodes.importers.source import reading

FILE = f"meta/{NAME}.parquet"
CONTRACT = b"contract"
COLUMNS = {f"{NAME}.{column.name}": column for column in KEPT}
"""By the name of the feature. A policy's hash is the same 64 bits as an int64, because torch has no others."""


@dataclass(frozen=True, slots=True)
class Export:
    """What an export says of a dataset and of its episodes."""

    contract: Contract
    episodes: dict[int, dict[str, Any]]

    def fields(self, index: int) -> dict[str, Any]:
        """An episode's fields beside its numbers and its task.

        Raises:
            EpisodeError: where they are damaged.
        """
        return kept_from(self.episodes.get(index, {}), f"{FILE}: episode {index}")


def read_export(path: Path, features: Mapping[str, Feature]) -> Export | None:
    """What an export says of the dataset in a folder; None where it is somebody else's.

    Raises:
        InputError: where it is damaged, or the dataset was changed since.
    """
    file = path / FILE
    if not file.exists():
        return None
    with reading(file), also(pa.ArrowException):
        table = pq.ParquetFile(file).read()
        contract = dict(json.loads((table.schema.metadata or {})[CONTRACT]))
        rows = {row.pop("episode_index"): row for row in table.to_pylist()}
    found = contract_from(contract, f"{file}: contract")
    for key, size in ((STATE, len(found.state)), (ACTION, len(found.action))):
        shape = features[key].shape if key in features else (0,)
        if shape != (size,):
            raise InputError(
                f"{file}: its contract has {size} entries where {key} has shape {shape}; take the file away"
            )
    return Export(found, rows)


def stored_as(values: np.ndarray) -> np.ndarray:
    """The values as LeRobot can load them."""
    return values.view(np.int64) if values.dtype == np.uint64 else values


def as_stored(values: np.ndarray, column: Column) -> np.ndarray:
    """The values as an episode has them."""
    return values.view(np.uint64) if column.dtype == "uint64" and values.dtype == np.int64 else values
