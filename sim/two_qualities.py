"""A bandit-like task with known best actions, and an operator whose logs are good in one region and poor in another.

The state is a place x; the action is where to reach to and how hard to push there. What that pays depends on x and on
one of the two, the next place on neither.

Left of 0 the reach counts, and the operator is practised: mostly it takes a sure way, at four fifths of the best pay.
One visit in twenty goes another way, far off, that pays all of it; between the ways there is nothing, as some fumbled
visits show. Who trusts the advantage of the other way and has one Gaussian to act with ends between the two: there the
logs are best imitated. Right of 0 the push counts, and it pushes anyhow: there cloning earns little, and only a sharp
choice among what was logged does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.episode import Source
from episodes.errors import InputError
from episodes.typed import STRICT
from sim.base import RENDER_SIZE, Observation, Task, check_size
from sim.cameras import check_cameras
from sim.gaps import SIGNALS, Gap

CAMERA = "image"

SURE_WAY, OTHER_WAY, PUSH = 1.6, 2.0, 1.0
"""What is paid at best: for either way of reaching, left of 0, and for pushing, right of it."""
APART = 1.4
"""How far the other way is from the sure one [m]."""
WIDTH = 0.2
"""Of the bells that the pay is, one standard deviation [m, and in shares of the push]."""


def sure_way(x: np.ndarray) -> np.ndarray:
    """The reach that the operator is practised in [m]."""
    return 0.6 + 0.2 * x


def best_push(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.2 * x


def pay(x: np.ndarray, reach: np.ndarray, push: np.ndarray) -> np.ndarray:
    """The reward of an action at a place; shapes are broadcast."""
    off = reach - sure_way(x)
    ways = np.maximum(SURE_WAY * _bell(off), OTHER_WAY * _bell(off + APART))
    return np.where(x < 0, ways, PUSH * _bell(push - best_push(x)))


def best_action(x: np.ndarray) -> np.ndarray:
    """Of N places, shape (N,), the actions that pay most, shape (N, 2), float64; what does not count is as usual."""
    return np.stack([np.where(x < 0, sure_way(x) - APART, sure_way(x)), best_push(x)], axis=1)


def _bell(off: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * (off / WIDTH) ** 2)


@dataclass(frozen=True, slots=True)
class TwoQualitiesSettings:
    __pydantic_config__ = STRICT

    horizon: Annotated[int, Field(gt=0)] = 20
    """Visits in an episode."""


class TwoQualitiesTask(Task):
    """Reach somewhere and push, again and again, at places that come by chance."""

    has_success = False

    def __init__(
        self,
        name: str,
        settings: TwoQualitiesSettings,
        *,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (84, 84),
        gap: Gap | None = None,
    ):
        gap = gap or Gap()
        gap.check_keys(SIGNALS, name)
        check_cameras(cameras, [CAMERA], name)
        size = check_size(image_size)
        contract = Contract(
            name="two-qualities",
            state=(StateEntry("x", "m"),),
            action=(ActionEntry("reach", "m", -1.0, 1.0), ActionEntry("push", "", -1.0, 1.0)),
            cameras=tuple(Camera(camera, *size) for camera in cameras),
            rate=10.0,
        )
        super().__init__(name, contract, "reach and push so that it pays most", settings.horizon, gap)
        self._reset(0)

    def _reset(self, seed: int) -> None:
        self._places = np.random.default_rng([seed, 6])
        self._visited: tuple[np.ndarray, ...] | None = None
        self._x = self._places.uniform(-1, 1)

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self._visited = tuple(np.array([self._x, *action], np.float64))
        self._x = self._places.uniform(-1, 1)
        return float(pay(*self._visited)), False, False, {}

    def _state(self) -> np.ndarray:
        return np.array([self._x])

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        """What each place (to the right) and the action that counts there (up) pay, in grey.

        The next place is a blue line, the last visit a red square.
        """
        x, y = np.linspace(-1, 1, width), np.linspace(1, -1, height)
        grey = 255 * (1 - pay(x, y[:, None], y[:, None]) / OTHER_WAY)
        image = np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
        image[:, np.abs(x - self._x).argmin()] = (0, 0, 255)
        if self._visited is not None:
            where, reach, push = self._visited
            row, column = np.abs(y - (reach if where < 0 else push)).argmin(), np.abs(x - where).argmin()
            image[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = (255, 0, 0)
        return image

    def render(self) -> np.ndarray:
        return self._image(CAMERA, RENDER_SIZE, RENDER_SIZE)


class ScriptedTwoQualities:
    """Good logs left of 0 and poor ones right of it, where it knows how to push in a share of quality^9 of its visits.

    That is never at a quality of 0, always at 1, and once in ten where episodes' qualities are drawn uniformly.
    """

    source = Source.SCRIPTED

    TREMOR = 0.05
    """Standard deviation around what it means to do."""
    ELSEWHERE = 0.05
    FUMBLED = 0.1
    """Shares of the visits to the practised region in which it goes the other way, and in which it reaches anywhere."""

    def __init__(self, task: Task, quality: float = 1.0):
        if not 0 <= quality <= 1:
            raise InputError(f"quality must be in [0, 1], got {quality}")
        self.quality = float(quality)
        self._low, self._high = task.contract.action_low, task.contract.action_high
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 7])

    def act(self, observation: Observation) -> np.ndarray:
        x, rng = float(observation["state"][0]), self._rng
        reach, push = np.array([sure_way(np.array(x)), best_push(np.array(x))]) + rng.normal(0, self.TREMOR, 2)
        chance, anywhere = rng.random(), rng.uniform(-1, 1)
        if x >= 0:
            push = push if chance < self.quality**9 else anywhere
        elif chance < self.ELSEWHERE:
            reach -= APART
        elif chance < self.ELSEWHERE + self.FUMBLED:
            reach = anywhere
        return np.clip([reach, push], self._low, self._high).astype(np.float32)
