"""What cameras show: pictures that stand still, are blank, or are not those of their camera."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import cv2
import numpy as np

from episodes.contract import Contract
from episodes.quality.findings import Finding
from episodes.quality.runs import least_run, longest_two, unusual
from episodes.snapshot import Snapshot

MOST_FRAMES = 40_000
MOST_BYTES = 8 * 2**30
"""Per camera, more is not looked at but every second frame, or third, ..."""
BATCH_BYTES = 32 * 2**20
THUMBNAIL = 8
"""Side of the picture [px] that a frame is averaged to, to compare how cameras look."""
BLANK = 1.0
"""Standard deviation of each colour over a frame [of 255] below which it shows nothing."""
BLANK_SHARE = 0.05
"""Share of an episode's frames that may be blank."""
MOVING = 0.5
"""Share of the steps of a stretch in which the robot must move for a picture's standing still to mean anything."""
SWAPPED = 0.5
"""A camera that is nearer to another one's usual picture than this share of the distance to its own is swapped."""
OTHER = 5.0
"""Times the usual distance from the camera's usual picture from which on an episode has another view."""
APART = 20.0
"""Root mean square difference of thumbnails [of 255] that two views have at least: light and objects make a few."""
EPISODES = 4
"""What is usual can be said from so many episodes on."""


@dataclass(frozen=True, slots=True)
class View:
    """One camera in one episode."""

    mean: np.ndarray
    """The mean thumbnail, shape (8, 8, 3), 0 to 255."""
    blank: float
    """Share of frames that show nothing."""
    first: int
    longest: int
    """The longest stretch of the very same picture: its first step, and its steps; and those of the second longest."""
    second: int
    moving: bool
    """Whether the robot moved in it."""


class Appearance:
    """Looks at the frames of every camera, in order and once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._contract: Contract = snapshot.contract
        self._bytes = {camera.name: camera.height * camera.width * 3 for camera in self._contract.cameras}
        self.every = {name: _stride(snapshot, size) for name, size in self._bytes.items()}
        """Per camera: 1 where every frame is looked at, 2 where every second, ..."""
        self.views: dict[str, list[View]] = {}

    def look(self, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter) -> None:
        """Go through all frames; `progress` wraps what is gone through, an episode of a camera at a time."""
        for camera, view in progress(self._all_views()):
            self.views.setdefault(camera, []).append(view)

    def findings(self) -> list[Finding]:
        blank, others = [], self._other_views()
        for camera, views in self.views.items():
            blank += self._blank(camera, views)
            others += self._frozen(camera, views)
        # A blank picture also stands still and looks unlike the others: it is told once.
        said = {(each.episode, each.where) for each in blank}
        return blank + [each for each in others if (each.episode, each.where) not in said]

    def typical(self, camera: str) -> int | None:
        """The episode that looks most like the usual picture of a camera."""
        distance = _distance(self.views[camera], _usual(self.views[camera])) if self.views.get(camera) else []
        return int(np.argmin(distance)) if len(distance) else None

    def _all_views(self) -> Iterator[tuple[str, View]]:
        for camera in self._contract.camera_names:
            for episode in range(self._snapshot.episodes):
                yield camera, self._view(camera, episode)

    def _view(self, camera: str, episode: int) -> View:
        begin, end = int(self._snapshot.observation_starts[episode]), int(self._snapshot.observation_ends[episode])
        every = self.every[camera]
        rows = np.arange(begin, end, every)
        batch = max(BATCH_BYTES // self._bytes[camera], 1)
        total, blank, same, last = np.zeros((THUMBNAIL, THUMBNAIL, 3)), 0, [], None
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            frames = (
                self._snapshot.images(camera, int(part[0]), int(part[-1]) + 1)
                if every == 1
                else self._snapshot.images_at(camera, part)
            )
            for frame in frames:
                total += cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
                blank += bool(frame.std((0, 1)).max() < BLANK)
                if last is not None:
                    same.append(np.array_equal(frame, last))
                last = frame
        first, longest, second = (int(value[0]) for value in longest_two(np.array(same, bool)[:, None]))
        moving = self._moves(begin + first * every, begin + (first + longest) * every) if longest * every > 1 else False
        return View(total / len(rows), blank / len(rows), first * every, longest * every, second * every, moving)

    def _moves(self, begin: int, end: int) -> bool:
        """Whether the state changes in at least half of the steps between two observations."""
        state = self._snapshot.column("state", begin, end + 1)
        return len(state) > 1 and bool((state[1:] != state[:-1]).any(1).mean() >= MOVING)

    def _blank(self, camera: str, views: list[View]) -> list[Finding]:
        return [
            Finding("blank camera", f"{camera} shows nothing in {view.blank:.0%} of the frames", episode, camera)
            for episode, view in enumerate(views)
            if view.blank > BLANK_SHARE
        ]

    def _frozen(self, camera: str, views: list[View]) -> list[Finding]:
        least = max(least_run(self._contract.rate), 2 * self.every[camera])
        longest, second = np.array([view.longest for view in views]), np.array([view.second for view in views])
        frozen = unusual(longest, longest, second, least) & np.array([view.moving for view in views], bool)
        return [
            Finding(
                "frozen camera",
                f"{camera} shows the very same picture for {views[episode].longest} steps from step "
                f"{views[episode].first} on, while the robot moves",
                episode,
                camera,
            )
            for episode in np.flatnonzero(frozen).tolist()
        ]

    def _other_views(self) -> list[Finding]:
        """Cameras that show what another one usually does, or nothing that it usually does."""
        if self._snapshot.episodes < EPISODES:
            return []
        usual = {camera: _usual(views) for camera, views in self.views.items()}
        own = {camera: _distance(views, usual[camera]) for camera, views in self.views.items()}
        swapped: dict[tuple[int, str], str] = {}
        for camera, other in permutations(self.views, 2):
            if _rms(usual[camera] - usual[other]) < APART:
                continue
            near = _distance(self.views[camera], usual[other]) < SWAPPED * own[camera]
            swapped |= {(episode, camera): other for episode in np.flatnonzero(near).tolist()}
        found = [
            Finding("swapped camera", f"{camera} shows what {other} usually does", episode, camera)
            for (episode, camera), other in swapped.items()
        ]
        for camera, distance in own.items():
            far = distance > max(OTHER * float(np.median(distance)), APART)
            found += [
                Finding(
                    "other view",
                    f"{camera} looks unlike it does in the other episodes: its mean picture is {distance[episode]:.0f} "
                    f"of 255 away from theirs, usual is {np.median(distance):.0f}",
                    episode,
                    camera,
                )
                for episode in np.flatnonzero(far).tolist()
                if (episode, camera) not in swapped
            ]
        return found


def _stride(snapshot: Snapshot, frame_bytes: int) -> int:
    most = max(min(MOST_FRAMES, MOST_BYTES // frame_bytes), 1)
    return max(-(-snapshot.observations // most), 1)


def _usual(views: list[View]) -> np.ndarray:
    """The usual mean thumbnail: the median over episodes, which a few other views do not move."""
    return np.median([view.mean for view in views], axis=0)


def _distance(views: list[View], to: np.ndarray) -> np.ndarray:
    """Shape (E,): how far every episode's mean thumbnail is from this one."""
    return np.array([_rms(view.mean - to) for view in views])


def _rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference**2)))
