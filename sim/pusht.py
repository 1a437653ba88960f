"""Push-T: push a T-shaped block onto its goal with a round finger (gym-pusht)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import shapely
from gym_pusht.envs.pusht import PushTEnv
from pydantic import Field

from episodes.contract import Camera
from episodes.importers.diffusion_policy import PUSHT, PUSHT_TASK
from episodes.typed import STRICT
from sim.base import RENDER_SIZE, Observation, Task, check_size
from sim.cameras import check_cameras
from sim.gaps import SIGNALS, Gap

SUCCESS = 0.95
"""Covered fraction of the goal above which the task is done."""
CAMERA = "image"


@dataclass(frozen=True, slots=True)
class PushTSettings:
    """Settings of Push-T."""

    __pydantic_config__ = STRICT

    horizon: Annotated[int, Field(gt=0)] = 300


class PushTTask(Task):
    """Push-T. The action is where the finger shall go; the reward is the covered fraction of the goal, in [0, 1]."""

    scores_states = True
    starts_anywhere = True
    terminates_on_success = True

    def __init__(
        self,
        name: str,
        settings: PushTSettings,
        *,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (96, 96),
        gap: Gap | None = None,
    ):
        gap = gap or Gap()
        # The block moves only while it is pushed; there is no gravity, mass or damping.
        gap.check_keys(SIGNALS, name)
        check_cameras(cameras, [CAMERA], name)
        size = check_size(image_size)
        self._env = PushTEnv(obs_type="state", render_mode="rgb_array")
        self._env.reset(seed=0)
        # The logs' own contract and words: what is simulated and what humans recorded share a store.
        contract = replace(PUSHT, cameras=tuple(Camera(camera, *size) for camera in cameras))
        super().__init__(name, contract, PUSHT_TASK, settings.horizon, gap)
        # Each corner of the two boxes that the T is made of, around the block's position [px]: shape (2, 4, 2).
        self._boxes = np.array([shape.get_vertices() for shape in self._env.block.shapes])
        x, y, angle = self._env.goal_pose
        self._goal = self._polygons(np.array([[x, y, angle]]))[0]

    def _reset(self, seed: int) -> None:
        self._env.reset(seed=seed)

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self._env.step(action.astype(np.float64))
        # From the state as it is stored, so that labelling a log gives what the log says.
        coverage = float(self.coverage(self._state().astype(np.float32)[None])[0])
        return coverage, coverage > SUCCESS, False, {"coverage": coverage}

    def _state(self) -> np.ndarray:
        return np.asarray(self._env.get_obs(), np.float64)

    def set_state(self, state: np.ndarray, agent_velocity: Sequence[float] = (0.0, 0.0)) -> None:
        """Put finger and block where a state, shape (5,), says; the finger's velocity [px/s] is not part of a state."""
        super().set_state(state)
        self._env.agent.velocity = (float(agent_velocity[0]), float(agent_velocity[1]))

    def _set_state(self, state: np.ndarray) -> None:
        env = self._env
        env.agent.position = (state[0], state[1])
        # Before the position: pymunk turns a body about its centre of mass, which is not its position.
        env.block.angle = state[4]
        env.block.position = (state[2], state[3])
        env.block.velocity = (0.0, 0.0)
        env.block.angular_velocity = 0.0
        env.space.reindex_shapes_for_body(env.agent)
        env.space.reindex_shapes_for_body(env.block)

    def observe_at(self, state: np.ndarray) -> Observation:
        """What is seen at a state, shape (5,); the episode that is under way is at that state afterwards."""
        self.set_state(state)
        # The picture marks where things touched in the last step: let that be a step of no length, here.
        self._env.space.step(1e-9)
        self.set_state(state)
        return self._observe()

    def hold_action(self) -> np.ndarray:
        """Stay where the finger is."""
        return self.clip(self._state()[:2])

    def _polygons(self, pose: np.ndarray) -> np.ndarray:
        """The two boxes of the T at N poses x, y [px], angle [rad]: shape (N, 2) of shapely polygons."""
        cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        rotation = np.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2)
        corners = np.einsum("nij,bcj->nbci", rotation, self._boxes) + pose[:, None, None, :2]
        return shapely.polygons(corners)

    def coverage(self, state: np.ndarray) -> np.ndarray:
        """The fraction of the goal that the block covers in each of N states, shape (N, 5): shape (N,), float64.

        The T's boxes do not overlap, so that what they cover adds up.
        """
        block = self._polygons(np.asarray(state, np.float64)[:, 2:5])
        covered = shapely.area(shapely.intersection(block[:, :, None], self._goal[None, None, :])).sum(axis=(1, 2))
        return covered / shapely.area(self._goal).sum()

    def _score(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coverage = self.coverage(state)
        return coverage, coverage > SUCCESS

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        self._env.observation_width, self._env.observation_height = width, height
        return np.asarray(self._env._render(visualize=False))

    def render(self) -> np.ndarray:
        self._env.visualization_width = self._env.visualization_height = RENDER_SIZE
        return np.asarray(self._env.render())

    def close(self) -> None:
        self._env.close()
