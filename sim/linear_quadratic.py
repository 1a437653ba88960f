"""A linear system with quadratic costs: what its best policy is worth is known in closed form.

A cart on a rail is to be brought to the middle and to rest, with little force. The reward of a step is
-(x'Q x + u'R u), of the state that the action was chosen in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.linalg import solve_discrete_are

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.episode import Source
from episodes.errors import InputError
from episodes.typed import STRICT
from sim.base import RENDER_SIZE, Observation, Task, check_size
from sim.cameras import check_cameras
from sim.gaps import SIGNALS, Gap

CAMERA = "image"
RATE = 10.0
A = np.array([[1.0, 1 / RATE], [0.0, 1.0]])
B = np.array([[0.5 / RATE**2], [1 / RATE]])
"""x' = A x + B u + w, x the position [m] and the velocity [m/s], u the acceleration [m/s^2]."""
NOISE = np.array([0.0, 0.05])
"""Standard deviations of w."""
Q, R = np.diag([1.0, 0.1]), np.array([[0.1]])
LIMIT = 8.0
"""Of the acceleration [m/s^2]: more than the best policy asks for from wherever an episode begins."""


def best_gain(discount: float) -> np.ndarray:
    """K of the optimal u = -K x, shape (1, 2), by the discounted Riccati equation.

    P = Q + gamma A'P A - gamma A'P B (R + gamma B'P B)^-1 gamma B'P A; the noise does not change it.
    """
    root = np.sqrt(discount)
    p = solve_discrete_are(root * A, root * B, Q, R)
    return np.linalg.solve(R + discount * B.T @ p @ B, discount * B.T @ p @ A)


def value(state: np.ndarray, gain: np.ndarray, discount: float, steps: int) -> np.ndarray:
    """What u = -K x is worth over so many steps, in expectation: of states (N, 2) shape (N,).

    -(x'P x + c), with P <- Q + K'R K + gamma (A - B K)'P (A - B K) and c <- gamma (c + tr(P W)), from nothing.
    """
    closed, cost = A - B @ gain, Q + gain.T @ R @ gain
    p, constant = np.zeros((2, 2)), 0.0
    for _ in range(steps):
        constant = discount * (constant + float(np.sum(np.diag(p) * NOISE**2)))
        p = cost + discount * closed.T @ p @ closed
    return -(np.einsum("ni,ij,nj->n", state, p, state) + constant)


@dataclass(frozen=True, slots=True)
class LinearQuadraticSettings:
    __pydantic_config__ = STRICT

    horizon: Annotated[int, Field(gt=0)] = 50


class LinearQuadraticTask(Task):
    """Bring the cart to the middle of its rail; time alone ends an episode."""

    has_success = False
    starts_anywhere = True

    def __init__(
        self,
        name: str,
        settings: LinearQuadraticSettings,
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
            name="linear-quadratic",
            state=(StateEntry("position", "m"), StateEntry("velocity", "m/s")),
            action=(ActionEntry("acceleration", "m/s^2", -LIMIT, LIMIT),),
            cameras=tuple(Camera(camera, *size) for camera in cameras),
            rate=RATE,
        )
        super().__init__(name, contract, "bring the cart to the middle and to rest", settings.horizon, gap)
        self._reset(0)

    def _reset(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 8])
        self._x = self._rng.uniform(-1, 1, 2)

    def _set_state(self, state: np.ndarray) -> None:
        self._x = state

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        x, u = self._x, action.astype(np.float64)
        self._x = A @ x + B @ u + NOISE * self._rng.normal(size=2)
        return -float(x @ Q @ x + u @ R @ u), False, False, {}

    def _state(self) -> np.ndarray:
        return self._x

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        """The rail from -2 to 2 m, its middle, and the cart on it."""
        image = np.full((height, width, 3), 255, np.uint8)
        metres = np.linspace(-2, 2, width)
        image[height // 2] = 160
        image[:, np.abs(metres).argmin()] = (0, 160, 0)
        cart = np.abs(metres - np.clip(self._x[0], -2, 2)) <= 0.15
        image[height // 2 - height // 8 : height // 2 + 1, cart] = (200, 0, 0)
        return image

    def render(self) -> np.ndarray:
        return self._image(CAMERA, RENDER_SIZE, RENDER_SIZE)


class ScriptedLinearQuadratic:
    """The best gain for `DISCOUNT`, times the quality, with a tremor that grows as the quality falls."""

    source = Source.SCRIPTED

    DISCOUNT = 0.95
    TREMOR = 2.0
    """Standard deviation at a quality of 0 [m/s^2]."""

    def __init__(self, task: Task, quality: float = 1.0):
        if not 0 <= quality <= 1:
            raise InputError(f"quality must be in [0, 1], got {quality}")
        self.quality = float(quality)
        self._gain = self.quality * best_gain(self.DISCOUNT)
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 9])

    def act(self, observation: Observation) -> np.ndarray:
        tremor = (1 - self.quality) * self.TREMOR * self._rng.normal(size=1)
        action = -self._gain @ observation["state"].astype(np.float64) + tremor
        return np.clip(action, -LIMIT, LIMIT).astype(np.float32)
