"""Rows of a zarr array on disk: which of them are really there, and reading them without decoding a chunk twice."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr

from episodes.importers.source import BLOCK_ROWS, damaged


class Rows:
    """The rows (first axis) of an array in a local folder, to be read in increasing order."""

    def __init__(self, array: zarr.Array, folder: Path, name: str) -> None:
        self.name = name
        self.shape = array.shape
        self._array = array
        self._chunk = (array.shards or array.chunks)[0]
        self._block = -(-BLOCK_ROWS // self._chunk) * self._chunk
        self._missing = _missing(array, folder)
        self._held: tuple[int, np.ndarray] | None = None

    def all(self) -> np.ndarray:
        """The whole array."""
        return np.asarray(self._array[:])

    def missing(self, start: int, stop: int) -> tuple[int, int] | None:
        """First and last row of the first missing chunk that rows `start` to `stop` need; None where all are there."""
        for index in range(start // self._chunk, -(-stop // self._chunk)):
            if index in self._missing:
                return index * self._chunk, min((index + 1) * self._chunk, self.shape[0]) - 1
        return None

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The rows from `start` up to `stop`, in order and in pieces.

        The last block that was decoded is kept, because the next episode mostly begins in it.

        Raises:
            EpisodeError: where a chunk is damaged.
        """
        for block in range(start // self._block, -(-stop // self._block)):
            offset = block * self._block
            if self._held is None or self._held[0] != block:
                self._held = None  # Let go of the old block before the new one takes as much memory.
                with damaged(self.name):
                    self._held = (block, np.asarray(self._array[offset : offset + self._block]))
            first, last = max(start, offset), min(stop, offset + self._block)
            yield self._held[1][first - offset : last - offset]

    def peak(self) -> float:
        """The largest value of the first block of rows that is there and not all zero; 0 if there is none.

        It returns early on a value above 1, which is all that anyone wants to know.
        """
        peak, seen = 0.0, 0
        for start in range(0, self.shape[0], self._chunk):
            stop = min(start + self._chunk, self.shape[0])
            if self.missing(start, stop) is None:
                peak = max(peak, float(np.asarray(self._array[start:stop]).max()))
                seen += stop - start
            if peak > 1 or (peak > 0 and seen >= BLOCK_ROWS):
                break
        return peak


def _missing(array: zarr.Array, folder: Path) -> set[int]:
    """Positions along the first axis where a chunk has no file: zarr would silently read its fill value."""
    grid = [range(-(-size // chunk)) for size, chunk in zip(array.shape, array.shards or array.chunks, strict=True)]
    return {at[0] for at in itertools.product(*grid) if not (folder / array.metadata.encode_chunk_key(at)).exists()}
