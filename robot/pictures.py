"""Pictures in ROS 2 messages as the store wants them: uint8 RGB at the contract's size."""

from typing import Any

import cv2
import numpy as np

from episodes.contract import Camera
from episodes.importers.images import resized
from robot.contract import CameraTopic

_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC3": 3, "8UC1": 1}


def picture_from(message: Any, camera: CameraTopic) -> np.ndarray:
    """The picture in an Image or CompressedImage, cropped and resized: shape (H, W, 3), uint8.

    Raises:
        ValueError: for what is no picture, an encoding that is not known, or data that is cut short.
    """
    size = Camera(camera.name, camera.height, camera.width)
    return np.ascontiguousarray(resized(cropped_picture(message, camera)[None], size)[0])


def cropped_picture(message: Any, camera: CameraTopic) -> np.ndarray:
    """The picture in an Image or CompressedImage, cropped, at the size that it came with: shape (H, W, 3), uint8.

    Raises:
        ValueError: as `picture_from`.
    """
    try:
        return _cropped(message, camera)
    except (AttributeError, cv2.error) as error:
        raise ValueError(f"no picture: {' '.join(str(error).split())}") from None


def _cropped(message: Any, camera: CameraTopic) -> np.ndarray:
    if camera.type == "sensor_msgs/msg/CompressedImage":
        data = np.frombuffer(bytes(message.data), np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if decoded is None:
            raise ValueError(f"a compressed picture ({message.format!r}) that cannot be decoded")
        picture = decoded[:, :, ::-1]
    else:
        picture = _raw(message)
    if camera.crop is not None:
        top, left, height, width = camera.crop
        if top + height > picture.shape[0] or left + width > picture.shape[1]:
            raise ValueError(f"crop {list(camera.crop)} does not fit into {picture.shape[0]}x{picture.shape[1]}")
        picture = picture[top : top + height, left : left + width]
    return np.ascontiguousarray(picture)


def _raw(message: Any) -> np.ndarray:
    if message.encoding not in _CHANNELS:
        raise ValueError(f"encoding {message.encoding!r}; known: {', '.join(_CHANNELS)}")
    if not message.height or not message.width:
        raise ValueError(f"a picture of {message.height}x{message.width} pixels")
    channels = _CHANNELS[message.encoding]
    data = np.frombuffer(message.data, np.uint8)
    if message.step < message.width * channels or len(data) < message.step * message.height:
        raise ValueError(f"{len(data)} bytes for {message.height}x{message.width} {message.encoding}: cut short")
    # A row may be longer than its pixels.
    rows = data[: message.step * message.height].reshape(message.height, message.step)
    picture = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    if channels == 1:
        return np.repeat(picture, 3, axis=2)
    picture = picture[:, :, :3]
    return picture[:, :, ::-1] if message.encoding.startswith("bgr") or message.encoding == "8UC3" else picture
