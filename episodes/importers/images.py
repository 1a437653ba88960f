"""Camera images of a source as the store wants them: uint8 RGB at the contract's size."""

import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from episodes.contract import Camera
from episodes.episode import EpisodeError

MOST_PIXELS = 2**26
"""No camera has more: only a damaged file says so."""

IN_MEMORY = 64 * 2**20
"""An episode's images of one camera that take more lie in a file: a robot has a few cameras and may run for an hour."""

LARGE_FILES = Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - such a file has no name
"""Where such files are. `/tmp` may itself lie in memory."""


def is_video(shape: Sequence[int], dtype: np.dtype) -> bool:
    """Whether an array is images in the order (T, H, W, RGB), of a kind that `to_uint8` takes."""
    if len(shape) != 4 or shape[3] != 3 or not 0 < shape[1] * shape[2] <= MOST_PIXELS:
        return False
    return dtype == np.uint8 or dtype.kind == "f"


def camera(name: str, shape: Sequence[int], image_size: tuple[int, int] | None) -> Camera:
    """The contract's camera for images of shape (T, H, W, 3), at `image_size` (height, width) where one is given."""
    height, width = image_size or (shape[1], shape[2])
    return Camera(name, int(height), int(width))


def to_uint8(images: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Images as uint8; of floats the nearest whole number of `scale` times the value.

    Raises:
        EpisodeError: where a value is not finite or lies outside of 0..255, and would wrap around to another colour.
    """
    if images.dtype == np.uint8:
        return images
    images = np.rint(images * scale)
    low, high = images.min(initial=0), images.max(initial=0)
    if not (low >= 0 and high <= 255):  # Also where a value is NaN: then both are.
        raise EpisodeError(f"image values from {low:g} to {high:g}, expected 0 to 255")
    return images.astype(np.uint8)


def resized(images: np.ndarray, to: Camera) -> np.ndarray:
    """Images of shape (T, H, W, 3) at the camera's size, by area averaging, which does not alias when it shrinks."""
    if images.shape[1:3] == (to.height, to.width):
        return images
    out = np.empty((len(images), to.height, to.width, 3), np.uint8)
    for index, image in enumerate(images):
        out[index] = cv2.resize(image, (to.width, to.height), interpolation=cv2.INTER_AREA)
    return out


def gathered(pieces: Iterable[np.ndarray], count: int, to: Camera) -> np.ndarray:
    """An episode's images of one camera, at the camera's size.

    Args:
        pieces: `count` images in all, each piece of shape (n, H, W, 3), uint8.

    Returns:
        Shape (count, to.height, to.width, 3): in memory, or where that is a lot in a file without a name, which goes
        when they are let go of.

    Raises:
        EpisodeError: where there is no room for that file.
    """
    out, at = np.empty((0, to.height, to.width, 3), np.uint8), 0
    for piece in pieces:
        if not len(out):  # Not before there is one: a damaged file may say that it has far more, or far larger ones.
            out = _room((count, to.height, to.width, 3))
        out[at : at + len(piece)] = resized(piece, to)
        at += len(piece)
    assert at == count
    return out


def _room(shape: tuple[int, ...]) -> np.ndarray:
    """An array of bytes of this shape, to be written to."""
    size = math.prod(shape)
    if size <= IN_MEMORY:
        return np.empty(shape, np.uint8)
    try:
        with tempfile.TemporaryFile(dir=LARGE_FILES) as file:
            # Taken from the disk before it is used: a process that writes into a mapped file on a full disk is killed.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8).reshape(shape)
    except OSError as error:
        raise EpisodeError(
            f"no room for {size / 1e9:.1f} GB of pictures in {LARGE_FILES} ({error.strerror}); TMPDIR names "
            "another folder, --image-size makes them smaller"
        ) from None
