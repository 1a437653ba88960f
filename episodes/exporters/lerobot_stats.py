"""Statistics that LeRobot keeps of every feature, per episode and of the whole: what its policies normalise with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
MEASURES = ("min", "max", "mean", "std", *(f"q{100 * quantile:02.0f}" for quantile in QUANTILES))


@dataclass(frozen=True, slots=True)
class Stats:
    """Of rows with `d` entries; of pictures per channel, from 0 to 1."""

    count: int
    low: np.ndarray
    """Shape (d,), float64, like all of them."""
    high: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    quantiles: np.ndarray
    """Shape (5, d), at `QUANTILES`."""

    def __add__(self, other: "Stats") -> "Stats":
        """Of both together. Quantiles are averaged by count, as LeRobot does it: theirs are not exact either."""
        count = self.count + other.count
        share = other.count / count
        apart = other.mean - self.mean
        return Stats(
            count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + share * apart,
            (1 - share) * self.variance + share * other.variance + share * (1 - share) * apart**2,
            (1 - share) * self.quantiles + share * other.quantiles,
        )

    def document(self, picture: bool) -> dict[str, Any]:
        """As LeRobot writes them: a list per measure, and of pictures one that is broadcast over (C, H, W)."""
        tail = (-1, 1, 1) if picture else (-1,)
        values = (self.low, self.high, self.mean, np.sqrt(self.variance), *self.quantiles)
        measures = {name: each.reshape(tail).tolist() for name, each in zip(MEASURES, values, strict=True)}
        return measures | {"count": [self.count]}


def of_rows(values: np.ndarray) -> Stats | None:
    """Of numbers of shape (T,) or (T, d); rows that are not finite are passed over, and None is left where all are."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    rows = rows[np.isfinite(rows).all(1)]
    if not len(rows):
        return None
    return Stats(len(rows), rows.min(0), rows.max(0), rows.mean(0), rows.var(0), np.quantile(rows, QUANTILES, axis=0))


def of_pictures(images: np.ndarray) -> Stats:
    """Of every pixel of images (T, H, W, 3), uint8. The count is of images, as LeRobot counts them."""
    counts = np.zeros((256, 3))
    for image in images:
        counts += np.column_stack(
            [cv2.calcHist([image], [channel], None, [256], [0, 256])[:, 0] for channel in range(3)]
        )
    levels = np.arange(256)[:, None] / 255
    share = counts / counts.sum(0)
    mean = (share * levels).sum(0)
    below = np.cumsum(share, axis=0)
    seen = counts > 0
    return Stats(
        len(images),
        np.argmax(seen, axis=0) / 255,
        (255 - np.argmax(seen[::-1], axis=0)) / 255,
        mean,
        (share * (levels - mean) ** 2).sum(0),
        np.array([np.argmax(below >= q - 1e-9, axis=0) / 255 for q in QUANTILES]),
    )


def merged(into: dict[str, Stats], of: Mapping[str, Stats | None]) -> None:
    """Add an episode's statistics to those of the episodes before it."""
    for key, stats in of.items():
        if stats is not None:
            into[key] = into[key] + stats if key in into else stats
