"""The newest picture of every camera, made into a JPEG when somebody looks."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from episodes.page import jpeg
from robot.contract import CameraTopic
from robot.monitor.samples import age
from robot.pictures import cropped_picture

SIDE = 480
"""Longest side of what is shown [px]."""
QUALITY = 75
AGAIN = 100_000_000
"""Shortest time between two pictures of a camera that are shown [ns]: however many look, a robot has other work."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as it is shown."""

    data: bytes
    number: int
    """Of all that came from this camera."""
    heard: int
    """When it came [ns of steady time]."""


class View:
    """One camera. Messages are only kept until somebody looks; then the newest is read, once for all who look.

    Args:
        read: makes a message of what came.
    """

    def __init__(self, camera: CameraTopic, read: Callable[[bytes], Any]):
        self.camera = camera
        self._read = read
        self._newest: tuple[bytes, int, int] | None = None
        self._making = threading.Lock()
        self._shown: Shown | None = None
        self._made = 0

    def take(self, data: bytes, at: int) -> None:
        number = 1 if self._newest is None else self._newest[1] + 1
        self._newest = data, number, at

    def show(self, now: int) -> Shown | None:
        """The newest picture, or one that was shown a moment ago; None where none ever came.

        Raises:
            ValueError: where it cannot be read.
        """
        with self._making:
            if self._newest is None:
                return None
            data, number, heard = self._newest
            fresh = self._shown is not None and (self._shown.number == number or now - self._made < AGAIN)
            if not fresh:
                picture = cropped_picture(self._read(data), self.camera)
                self._shown, self._made = Shown(jpeg(picture, SIDE, QUALITY), number, heard), now
            return self._shown

    def document(self, now: int) -> dict[str, Any]:
        newest = self._newest
        return {
            "name": self.camera.name,
            "number": 0 if newest is None else newest[1],
            "age": age(None if newest is None else newest[2], now),
        }


class Views:
    """All cameras of a robot, by name."""

    def __init__(self, cameras: Sequence[CameraTopic], read: Callable[[bytes, str], Any]):
        """`read` makes a message of what came, and of its type's name."""
        self.views = {c.name: View(c, lambda data, kind=c.type: read(data, kind)) for c in cameras}

    def document(self, now: int) -> list[dict[str, Any]]:
        return [view.document(now) for view in self.views.values()]
