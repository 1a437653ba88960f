# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled classes have no stubs.)
"""Gymnasium's MuJoCo locomotion tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from pydantic import Field

from episodes.constraints import Constraints, Limit
from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.typed import STRICT
from sim.base import check_size, entries
from sim.gaps import Gap
from sim.mujoco_task import MujocoTask, cameras_of

NEAR_SPEED_LIMIT = 0.5
"""How far below the limit a near miss begins, and how far above it a violation counts in full [m/s]."""


@dataclass(frozen=True, slots=True)
class GymnasiumSettings:
    """Settings of a locomotion task."""

    __pydantic_config__ = STRICT

    horizon: Annotated[int, Field(gt=0)] = 1000
    speed_limit: Annotated[float, Field(gt=0)] | None = None
    """What the torso's forward speed must never exceed [m/s]; nothing where None."""


@dataclass(frozen=True, slots=True)
class _Locomotion:
    id: str
    instruction: str
    state: list[tuple[str, str]]
    action: tuple[str, ...]


def _planar(joints: Sequence[str]) -> list[tuple[str, str]]:
    """State of a planar runner: height, pitch, joint angles, then the velocities of everything, forward first."""
    return [
        *entries("m", "torso_z"),
        *entries("rad", "torso_pitch", *joints),
        *entries("m/s", "torso_vx", "torso_vz"),
        *entries("rad/s", "torso_pitch_rate", *(f"{joint}_rate" for joint in joints)),
    ]


_CHEETAH = ("back_thigh", "back_shin", "back_foot", "front_thigh", "front_shin", "front_foot")
_HOPPER = ("thigh", "leg", "foot")
_WALKER = ("right_thigh", "right_leg", "right_foot", "left_thigh", "left_leg", "left_foot")

LOCOMOTION = {
    "halfcheetah": _Locomotion("HalfCheetah-v5", "run forward as fast as possible", _planar(_CHEETAH), _CHEETAH),
    "hopper": _Locomotion("Hopper-v5", "hop forward as fast as possible without falling", _planar(_HOPPER), _HOPPER),
    "walker2d": _Locomotion(
        "Walker2d-v5", "walk forward as fast as possible without falling", _planar(_WALKER), _WALKER
    ),
}


class GymnasiumTask(MujocoTask):
    """HalfCheetah, Hopper or Walker2d, version 5, with Gymnasium's own reward.

    Actions are Gymnasium's: motor inputs in [-1, 1], which the model's gears turn into torques. A fall terminates.
    """

    has_success = False
    starts_anywhere = True
    video_camera = "track"

    def __init__(
        self,
        name: str,
        kind: str,
        settings: GymnasiumSettings,
        *,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (84, 84),
        gap: Gap | None = None,
    ):
        task = LOCOMOTION[kind]
        env = gymnasium.make(task.id).unwrapped
        assert isinstance(env, MujocoEnv)
        self._env = env
        contract = Contract(
            name=kind,
            state=tuple(StateEntry(*entry) for entry in task.state),
            action=tuple(ActionEntry(joint, "", -1.0, 1.0) for joint in task.action),
            cameras=cameras_of(env.model, cameras, check_size(image_size), kind),
            rate=round(1 / env.dt, 6),
        )
        super().__init__(name, contract, task.instruction, settings.horizon, gap or Gap(), env.model, env.data)
        if settings.speed_limit is not None:
            speed = Limit("torso_vx", high=settings.speed_limit, near=NEAR_SPEED_LIMIT)
            self.constraints = Constraints(limits={"speed": speed}, violation=1.0)

    def _reset(self, seed: int) -> None:
        self._observation, _ = self._env.reset(seed=seed)
        self._sync()

    def _set_state(self, state: np.ndarray) -> None:
        """At x = 0, which the state does not say and nothing depends on.

        Hopper and Walker2d tell no velocity beyond 10, so that a faster one becomes this.
        """
        positions = self._env.model.nq - 1
        self._env.set_state(np.append(0.0, state[:positions]), state[positions:])
        self._observation = self._env._get_obs()
        self._sync()

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self._observation, reward, terminated, _, info = self._env.step(action)
        self.check_stable()
        self._sync()
        return float(reward), False, terminated, {"x_position": info["x_position"]}

    def _sync(self) -> None:
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _state(self) -> np.ndarray:
        return np.asarray(self._observation, np.float64)

    def close(self) -> None:
        super().close()
        self._env.close()
