"""What a reward model looks at: a table of numbers per observation, or the frames themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

PIXELS = 84
"""Side of the square that frames are brought to before the convolutions [px]."""


class Inputs(Protocol):
    """Rows of observations as tensors."""

    shape: tuple[int, ...]
    """Of one row."""
    mean: Tensor
    """What is taken off every row ..."""
    std: Tensor
    """... and what it is divided by then; both broadcast against a row."""

    def at(self, rows: np.ndarray) -> Tensor:
        """Shape (n, *shape)."""
        ...


class Table:
    """States or features, standardised over the whole store."""

    def __init__(self, values: np.ndarray):
        """`values`: shape (N observations, F)."""
        self._values = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        self.shape = (values.shape[1],)
        self.mean = self._values.mean(0)
        self.std = self._values.std(0) + 1e-3

    def at(self, rows: np.ndarray) -> Tensor:
        return self._values[torch.from_numpy(rows)]


Read = Callable[[np.ndarray], Iterator[Mapping[str, np.ndarray]]]
"""Rows of observations to the pictures of each, per camera."""


class Pixels:
    """Frames of all cameras on top of each other, (3 x cameras, 84, 84); those that were read once are kept."""

    KEPT = 20_000
    """Frames; 420 MB with one camera."""

    def __init__(self, cameras: Sequence[str], read: Read):
        self._cameras, self._read = cameras, read
        self._kept: dict[int, np.ndarray] = {}
        self.shape = (3 * len(cameras), PIXELS, PIXELS)
        self.mean, self.std = torch.tensor(0.0), torch.tensor(255.0)

    def at(self, rows: np.ndarray) -> Tensor:
        missing = np.array([row for row in np.unique(rows).tolist() if row not in self._kept], np.int64)
        fresh = {}
        for row, images in zip(missing.tolist(), self._read(missing) if len(missing) else (), strict=True):
            pictures = [_square(images[camera]) for camera in self._cameras]
            fresh[row] = np.concatenate(pictures, axis=2).transpose(2, 0, 1)
        together = np.stack([fresh[row] if row in fresh else self._kept[row] for row in rows.tolist()])
        if len(self._kept) + len(fresh) <= self.KEPT:
            self._kept |= fresh
        return torch.from_numpy(together)


def _square(image: np.ndarray) -> np.ndarray:
    if image.shape[:2] == (PIXELS, PIXELS):
        return image
    return cv2.resize(image, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
