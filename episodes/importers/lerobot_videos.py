"""The pictures of a LeRobot dataset: frames of mp4 files at given times, and images inside parquet files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from episodes.contract import Camera
from episodes.episode import EpisodeError
from episodes.importers.images import gathered
from episodes.importers.lerobot_info import also
from episodes.importers.lerobot_layout import Clip
from episodes.importers.lerobot_names import Picture
from episodes.importers.source import damaged

SAME = 1e-3
"""Times closer than this are the same [s]: `timestamp` as a float32 is off by less, any camera's period is longer."""


class CameraVideos:
    """One camera's mp4 files, of which one is open and goes on where the last episode ended."""

    def __init__(self, path: Path, picture: Picture, to: Camera) -> None:
        self._path = path
        self._picture = picture
        self._to = to
        self._name = ""
        self._video: _Video | None = None

    def images(self, clip: Clip, times: np.ndarray, tolerance: float) -> np.ndarray:
        """The frames nearest to an episode's times.

        Args:
            clip: The file and where the episode is in it.
            times: Shape (T,), rising, from the episode's start [s].
            tolerance: How far a frame may be from its time [s].

        Returns:
            Shape (T, H, W, 3), uint8, RGB, at the contract's size.

        Raises:
            EpisodeError: where the file is missing or damaged, or has no frame for a time.
        """
        camera = f"camera {self._to.name}"
        if not (self._path / clip.file).is_file():
            raise EpisodeError(f"no video for {camera}: {clip.file} is not there")
        if clip.start + times[-1] > clip.end - tolerance:
            raise EpisodeError(
                f"{camera}: frames up to {times[-1]:.3f} s, the clip in {clip.file} is only "
                f"{clip.end - clip.start:.3f} s long"
            )
        try:
            with damaged(f"{camera}: {clip.file}"), _decoding():
                if self._video is None or self._name != clip.file:
                    self.close()
                    self._video, self._name = _Video(self._path / clip.file), clip.file
                frames = self._video.frames(clip.start + times, tolerance)
                pieces = (check_size(frame, self._picture, self._to.name)[None] for frame in frames)
                return gathered(pieces, len(times), self._to)
        except EpisodeError:
            self.close()  # What a decoder gives after an error is not to be trusted.
            raise

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None


class _Video:
    """An mp4, decoded forwards: as long as times rise, no frame is decoded twice."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path))
        if not self._container.streams.video:
            raise ValueError("it has no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoded = self._container.decode(self._stream)
        self._to_rgb = VideoReformatter()
        self._shown: av.VideoFrame | None = None
        self._following: av.VideoFrame | None = None

    def close(self) -> None:
        self._container.close()

    def frames(self, times: np.ndarray, tolerance: float) -> Iterator[np.ndarray]:
        """For each time [s] the nearest frame, shape (H, W, 3), uint8, RGB."""
        reached = 0.0 if self._shown is None else _time(self._shown)
        if times[0] < reached - tolerance or (self._shown is None and times[0] > tolerance):
            self._seek(times[0] + SAME)
        for time in times.tolist():
            frame = self._nearest(time)
            if abs(_time(frame) - time) > tolerance:
                raise ValueError(f"no frame for {time:.3f} s, the nearest is at {_time(frame):.3f} s")
            if frame.is_corrupt:
                raise ValueError(f"the frame at {_time(frame):.3f} s is damaged")
            yield self._to_rgb.reformat(frame, format="rgb24").to_ndarray()

    def _nearest(self, time: float) -> av.VideoFrame:
        """Frames come in the order of their times, so the nearest is found when the following one is farther.

        The following one is looked at only where it may be nearer: it may be another episode's, and damaged.
        """
        shown = self._shown or next(self._decoded, None)
        while shown is not None and _time(shown) < time - SAME:
            following = self._following = self._following or next(self._decoded, None)
            if following is None or abs(_time(following) - time) > abs(_time(shown) - time):
                break
            shown, self._following = following, None
        if shown is None:
            raise ValueError("it has no frames")
        self._shown = shown
        return shown

    def _seek(self, time: float) -> None:
        """Go on with the last frame up to a time [s] that can be decoded without others."""
        base = self._stream.time_base
        if base is None:
            raise ValueError("it has no time base")
        self._container.seek(max(0, int(time / base)), stream=self._stream)
        self._decoded = self._container.decode(self._stream)
        self._shown = self._following = None


def embedded_images(column: pa.ChunkedArray, picture: Picture, to: Camera) -> np.ndarray:
    """Shape (T, H, W, 3), uint8, RGB, at the contract's size: PNG or JPEG inside a column of {bytes, path}.

    Raises:
        EpisodeError: where one is missing or damaged.
    """
    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise EpisodeError(f"camera {to.name}: column {picture.key} is {column.type}, expected bytes and path")
    return gathered(_unpacked(column, picture, to.name), len(column), to)


def _unpacked(column: pa.ChunkedArray, picture: Picture, name: str) -> Iterator[np.ndarray]:
    """The images of a column one by one, shape (1, H, W, 3), uint8, RGB."""
    for number, row in enumerate(column):
        content = row["bytes"].as_py()
        if not isinstance(content, bytes):
            raise EpisodeError(f"camera {name}: no image inside the parquet file at frame {number}")
        with damaged(f"camera {name}: image of frame {number}"), also(cv2.error):
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if image is None:
                raise ValueError("neither PNG nor JPEG")
            image = cv2.cvtColor(check_size(image, picture, name), cv2.COLOR_BGR2RGB)
        yield image[None]


@contextmanager
def _decoding() -> Iterator[None]:
    """Make FFmpeg's errors ValueErrors: many have the number of a system error, and would read like one."""
    try:
        yield
    except FFmpegError as error:
        raise ValueError(f"the decoder says: {error.strerror}") from None


def check_size(image: np.ndarray, picture: Picture, name: str) -> np.ndarray:
    """The image, if it has the size that `meta/info.json` says; an EpisodeError where not."""
    if image.shape != (picture.height, picture.width, 3):
        raise EpisodeError(
            f"camera {name} has images of {image.shape[0]}x{image.shape[1]}, meta/info.json says "
            f"{picture.height}x{picture.width}"
        )
    return image


def _time(frame: av.VideoFrame) -> float:
    """When a frame is shown, from the start of its file [s]."""
    if frame.time is None:
        raise ValueError("a frame has no time")
    return frame.time
