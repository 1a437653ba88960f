"""A point with momentum in the plane among discs that it must not touch: small enough to know every answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from episodes.constraints import Constraints, KeepOut
from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.typed import STRICT
from sim.base import RENDER_SIZE, Task, check_size
from sim.cameras import check_cameras
from sim.gaps import Gap

RATE = 10.0
"""[Hz]"""
ARENA = 1.0
"""The walls are at plus and minus this, in x and y [m]."""
MAX_SPEED = 1.0
"""In x and in y [m/s]."""
MAX_ACCELERATION = 0.4
"""In x and in y [m/s^2]: from full speed it takes more than a metre to stop."""
GOAL = (0.8, 0.0)
GOAL_RADIUS = 0.15
DISCS = ((-0.1, 0.1, 0.35), (0.45, -0.55, 0.25), (0.3, 0.65, 0.2), (-0.6, -0.6, 0.2), (-0.6, 0.7, 0.15))
"""x, y and radius [m]."""
NEAR = 0.2
"""A near miss [m]."""
VIOLATION = 1.0
"""What h is as far inside of a disc: here h is a margin throughout, and 25 would have critics err by more than it."""
CAMERA = "top"
GAP_KEYS = ("delay_steps", "gain", "obs_noise")

CONSTRAINTS = Constraints(
    violation=VIOLATION,
    keep_out={f"disc {i}": KeepOut(center={"x": x, "y": y}, radius=r, near=NEAR) for i, (x, y, r) in enumerate(DISCS)},
)


@dataclass(frozen=True, slots=True)
class PointRobotSettings:
    """Settings of the point robot."""

    __pydantic_config__ = STRICT

    horizon: Annotated[int, Field(gt=0)] = 80


def move(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """One step: states (..., 4) of x, y [m] and vx, vy [m/s], actions (..., 2) [m/s^2], to the states after them.

    x and y do not know of each other. A wall stops what runs into it.
    """
    speed = np.clip(state[..., 2:] + action / RATE, -MAX_SPEED, MAX_SPEED)
    wanted = state[..., :2] + speed / RATE
    position = np.clip(wanted, -ARENA, ARENA)
    return np.concatenate([position, np.where(position == wanted, speed, 0.0)], axis=-1)


class PointRobotTask(Task):
    """Get to the goal and touch no disc. The reward is minus the distance to the goal; getting there ends the task.

    A touch ends nothing: it costs. Every episode begins at rest, outside the discs, so that there is always a way.
    """

    scores_states = True
    terminates_on_success = True
    constraints = CONSTRAINTS

    def __init__(
        self,
        name: str,
        settings: PointRobotSettings,
        *,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (84, 84),
        gap: Gap | None = None,
    ):
        gap = gap or Gap()
        gap.check_keys(GAP_KEYS, name)
        check_cameras(cameras, [CAMERA], name)
        size = check_size(image_size)
        contract = Contract(
            name="point-robot",
            state=tuple(StateEntry(*e) for e in (("x", "m"), ("y", "m"), ("vx", "m/s"), ("vy", "m/s"))),
            action=tuple(ActionEntry(a, "m/s^2", -MAX_ACCELERATION, MAX_ACCELERATION) for a in ("ax", "ay")),
            cameras=tuple(Camera(camera, *size) for camera in cameras),
            rate=RATE,
        )
        super().__init__(name, contract, "get to the goal and touch no disc", settings.horizon, gap)
        self._now = np.zeros(4)

    def _reset(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 6])
        while True:
            self._now = np.append(rng.uniform(-0.95, 0.95, 2), [0.0, 0.0])
            far = np.linalg.norm(self._now[:2] - GOAL) > 0.5
            if far and CONSTRAINTS.h(self._now[None], self.contract.state_names)[0] <= -0.25:
                return

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self._now = move(self._now, action.astype(np.float64))
        reward, success = self._score(self._now.astype(np.float32)[None])
        return float(reward[0]), bool(success[0]), False, {}

    def _state(self) -> np.ndarray:
        return self._now

    def hold_action(self) -> np.ndarray:
        """Brakes."""
        return np.clip(-self._now[2:] * RATE, self._low, self._high).astype(np.float32)

    def _score(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance = np.linalg.norm(state[:, :2].astype(np.float64) - GOAL, axis=1)
        return -distance, distance <= GOAL_RADIUS

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        y, x = np.meshgrid(np.linspace(ARENA, -ARENA, height), np.linspace(-ARENA, ARENA, width), indexing="ij")
        picture = np.full((height, width, 3), 255, np.uint8)
        spots = [(*GOAL, GOAL_RADIUS, (120, 200, 120)), *((*disc, (200, 120, 120)) for disc in DISCS)]
        for middle_x, middle_y, radius, colour in [*spots, (*self._now[:2], 0.04, (40, 60, 160))]:
            picture[np.hypot(x - middle_x, y - middle_y) <= radius] = colour
        return picture

    def render(self) -> np.ndarray:
        return self._image(CAMERA, RENDER_SIZE, RENDER_SIZE)
