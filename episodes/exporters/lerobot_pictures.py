"""A camera's pictures for LeRobot: PNG inside the parquet file, or an mp4 that goes on from episode to episode."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.video
import cv2
import numpy as np
import pyarrow as pa
from av.error import FFmpegError

from episodes.contract import Camera
from episodes.exporters.lerobot_files import place

FILE_BYTES = 200e6
"""An mp4 that is larger gets no further episode; LeRobot's own size."""

CODEC, OPTIONS = "libx264", {"crf": "18", "g": "2", "x264-params": "log-level=-1"}
"""Every second frame is whole: LeRobot reads frames at random."""


def png_column(images: np.ndarray) -> pa.Array:
    """Images (T, H, W, 3), uint8, RGB, as LeRobot's structs of bytes and path. PNG loses nothing."""
    encoded = [cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes() for image in images]
    paths = [f"frame-{number:06d}.png" for number in range(len(encoded))]
    return pa.StructArray.from_arrays([pa.array(encoded, pa.binary()), pa.array(paths)], ["bytes", "path"])


class Video:
    """A camera's mp4 files. Each goes on until it is large enough; an episode is never split."""

    def __init__(self, folder: Path, key: str, camera: Camera, rate: Fraction) -> None:
        self._folder, self._key, self._camera, self._rate = folder, key, camera, rate
        self._number = 0
        self._frames = self._bytes = 0
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None

    @property
    def pixel_format(self) -> str:
        """Colours at half the resolution, as everywhere; where a side is odd they cannot be halved."""
        return "yuv444p" if self._camera.height % 2 or self._camera.width % 2 else "yuv420p"

    def add(self, images: np.ndarray) -> dict[str, Any]:
        """Append an episode's images; returns where they are, as columns of `meta/episodes`."""
        with _encoding():
            if self._container is not None and self._bytes > FILE_BYTES:
                self.close()
                self._number, self._frames, self._bytes = self._number + 1, 0, 0
            if self._container is None:
                self._open()
            start = self._frames
            for image in images:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = self._frames, 1 / self._rate
                packets = self._stream.encode(frame)
                assert self._container is not None
                self._container.mux(packets)
                self._bytes += sum(packet.size for packet in packets)
                self._frames += 1
        said = {
            **place(self._number),
            "from_timestamp": float(start / self._rate),
            "to_timestamp": float(self._frames / self._rate),
        }
        return {f"videos/{self._key}/{name}": value for name, value in said.items()}

    def close(self) -> None:
        if self._container is not None:
            container, self._container = self._container, None
            with _encoding():
                container.mux(self._stream.encode())
                container.close()

    @property
    def _path(self) -> Path:
        at = place(self._number)
        return self._folder / f"videos/{self._key}/chunk-{at['chunk_index']:03d}/file-{at['file_index']:03d}.mp4"

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._path), "w")
        stream = self._container.add_stream(CODEC, rate=self._rate, options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = self._camera.width, self._camera.height, self.pixel_format
        self._stream = stream


@contextmanager
def _encoding() -> Iterator[None]:
    """Make FFmpeg's errors those of the operating system, which a full disk is, and which are told in one line."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, f"the encoder says: {error.strerror}") from None
