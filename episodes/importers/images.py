"""Camera images of a source as the store wants them: uint8 RGB at the contract's size."""

from collections.abc import Sequence

import cv2
import numpy as np

from episodes.contract import Camera
from episodes.episode import EpisodeError


def is_video(shape: Sequence[int], dtype: np.dtype) -> bool:
    """Whether an array is images in the order (T, H, W, RGB), of a kind that `to_uint8` takes."""
    return len(shape) == 4 and shape[3] == 3 and min(shape[1:3]) > 0 and (dtype == np.uint8 or dtype.kind == "f")


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
