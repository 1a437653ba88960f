"""Pictures altered in ways that change nothing of what they show."""

import numpy as np

SHIFT = 0.05
"""Largest shift, as a part of a picture's side."""
BRIGHTNESS = 0.2
"""Largest change of brightness, as a part of it."""


def altered(
    frames: np.ndarray, rng: np.random.Generator, shift: float = SHIFT, brightness: float = BRIGHTNESS
) -> np.ndarray:
    """Frames, shape (n, H, W, 3) uint8, each shifted and brightened in its own way; what comes in repeats the edge."""
    result = np.empty_like(frames)
    height, width = frames.shape[1:3]
    down, across = int(shift * height), int(shift * width)
    factor = rng.uniform(1 - brightness, 1 + brightness, len(frames))
    top, left = rng.integers(-down, down + 1, len(frames)), rng.integers(-across, across + 1, len(frames))
    for index, frame in enumerate(frames):
        rows = np.clip(np.arange(height) + top[index], 0, height - 1)
        columns = np.clip(np.arange(width) + left[index], 0, width - 1)
        result[index] = np.clip(frame[rows][:, columns] * factor[index], 0, 255).astype(np.uint8)
    return result
