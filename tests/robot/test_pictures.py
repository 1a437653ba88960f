"""Pictures in messages become uint8 RGB at the contract's size, whatever they were encoded as."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.contract import CameraTopic
from robot.pictures import cropped_picture, picture_from

COMPRESSED = "sensor_msgs/msg/CompressedImage"


def camera(height: int = 4, width: int = 6, **more: Any) -> CameraTopic:
    return CameraTopic("wrist", "wrist/image", height, width, 10.0, 0.2, **more)


def image(pixels: np.ndarray, encoding: str, padding: int = 0) -> SimpleNamespace:
    """An Image of an array of shape (H, W, C), its rows longer than their pixels by `padding` bytes."""
    height, width, channels = pixels.shape
    rows = np.pad(pixels.reshape(height, width * channels), ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(
        height=height, width=width, step=width * channels + padding, encoding=encoding, data=rows.tobytes()
    )


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0])],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_colours_come_out_as_rgb(rgb: np.ndarray, encoding: str, channels: list[int], padding: int) -> None:
    found = picture_from(image(rgb[:, :, channels], encoding, padding), camera())
    np.testing.assert_array_equal(found, rgb)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous


def test_for_who_looks_it_is_cropped_and_stays_as_large_as_it_came(rgb: np.ndarray) -> None:
    message = image(rgb[:, :, ::-1], "bgr8", 2)
    np.testing.assert_array_equal(cropped_picture(message, camera(2, 2)), rgb)
    np.testing.assert_array_equal(cropped_picture(message, camera(2, 2, crop=(1, 2, 3, 4))), rgb[1:4, 2:6])
    with pytest.raises(ValueError, match="no picture"):
        cropped_picture(SimpleNamespace(), camera())


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_the_same_in_all_three(rgb: np.ndarray, encoding: str) -> None:
    found = picture_from(image(rgb[:, :, :1], encoding, 3), camera())
    np.testing.assert_array_equal(found, np.repeat(rgb[:, :, :1], 3, axis=2))


def test_a_lossless_picture_is_decoded_as_it_was(rgb: np.ndarray) -> None:
    _, data = cv2.imencode(".png", rgb[:, :, ::-1])
    message = SimpleNamespace(format="rgb8; png compressed bgr8", data=data.reshape(-1))
    np.testing.assert_array_equal(picture_from(message, camera(type=COMPRESSED)), rgb)


def test_a_jpeg_is_nearly_what_it_was() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 200
    _, data = cv2.imencode(".jpg", red[:, :, ::-1])
    message = SimpleNamespace(format="jpeg", data=bytes(data))
    found = picture_from(message, camera(16, 16, type=COMPRESSED))
    assert np.abs(found.astype(int) - red).max() < 10


def test_a_picture_is_cropped_before_it_is_resized() -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[2:6, 3:9] = 250
    found = picture_from(image(pixels, "rgb8"), camera(2, 3, crop=(2, 3, 4, 6)))
    np.testing.assert_array_equal(found, np.full((2, 3, 3), 250, np.uint8))


@given(st.integers(0, 4), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
def test_a_crop_is_top_left_height_width(top: int, left: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 7, 3), np.uint8)
    found = picture_from(image(pixels, "rgb8"), camera(height, width, crop=(top, left, height, width)))
    np.testing.assert_array_equal(found, pixels[top : top + height, left : left + width])


def test_a_larger_picture_is_averaged() -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[::2, ::2] = 100
    np.testing.assert_array_equal(picture_from(image(pixels, "rgb8"), camera()), np.full((4, 6, 3), 25, np.uint8))


@pytest.mark.parametrize("crop", [(5, 0, 4, 6), (0, 7, 4, 6), (0, 0, 9, 6)])
def test_a_crop_that_does_not_fit_is_said_with_both_sizes(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"crop \[.*\] does not fit into 8x12"):
        picture_from(image(np.zeros((8, 12, 3), np.uint8), "rgb8"), camera(crop=crop))


def test_an_unknown_encoding_is_said_with_those_that_are_known(rgb: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"'bayer_rggb8'; known: rgb8, bgr8"):
        picture_from(image(rgb, "bayer_rggb8"), camera())


@pytest.mark.parametrize("change", [{"step": 17}, {"data": b""}, {"data": b"x" * 71}, {"height": 5}, {"width": 7}])
def test_a_picture_that_is_cut_short_is_refused(rgb: np.ndarray, change: dict[str, Any]) -> None:
    message = image(rgb, "rgb8")
    vars(message).update(change)
    with pytest.raises(ValueError, match=r"cut short|buffer"):
        picture_from(message, camera())


@pytest.mark.parametrize("data", [b"no picture at all", b"\xff\xd8\xff"])
def test_compressed_data_that_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"'jpeg'.*cannot be decoded"):
        picture_from(SimpleNamespace(format="jpeg", data=data), camera(type=COMPRESSED))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (SimpleNamespace(format="jpeg", data=b""), COMPRESSED),
        (SimpleNamespace(height=0, width=0, step=0, encoding="rgb8", data=b"x"), "sensor_msgs/msg/Image"),
        (SimpleNamespace(height=2, width=0, step=1, encoding="rgb8", data=b"xx"), "sensor_msgs/msg/Image"),
    ],
)
def test_a_picture_without_pixels_is_refused(message: SimpleNamespace, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"0x0|2x0|jpeg"):
        picture_from(message, camera(type=kind))


def test_pictures_of_rclpy_are_read(ros_message, rgb: np.ndarray) -> None:
    raw, packed = ros_message("sensor_msgs/msg/Image"), ros_message("sensor_msgs/msg/CompressedImage")
    raw.height, raw.width, raw.step, raw.encoding, raw.data = 4, 6, 18, "rgb8", rgb.tobytes()
    np.testing.assert_array_equal(picture_from(raw, camera()), rgb)
    packed.format, packed.data = "png", cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()
    np.testing.assert_array_equal(picture_from(packed, camera(type=COMPRESSED)), rgb)
