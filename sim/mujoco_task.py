# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled classes have no stubs.)
"""What tasks in MuJoCo share: cameras, gaps in physics, and noticing that the physics blew up."""

import logging
from abc import abstractmethod
from collections.abc import Sequence

import mujoco
import numpy as np

from episodes.contract import Camera, Contract
from sim.base import RENDER_SIZE, Task, UnstableError
from sim.cameras import Cameras, camera_names, check_cameras
from sim.gaps import Gap, apply_gap

# MuJoCo would write its warnings to a file MUJOCO_LOG.TXT in whatever folder the program was started in.
mujoco.set_mju_user_warning(logging.getLogger("mujoco").warning)

_FATAL_WARNINGS = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


def cameras_of(model: mujoco.MjModel, names: Sequence[str], size: tuple[int, int], where: str) -> tuple[Camera, ...]:
    """A contract's cameras: those of the model that are asked for, at one size (height, width)."""
    check_cameras(names, camera_names(model), where)
    return tuple(Camera(name, *size) for name in names)


class MujocoTask(Task):
    """A task whose physics is a MuJoCo model."""

    video_camera: str
    """The model's camera that `render` shows."""
    hidden_groups: tuple[int, ...] = ()
    """Geom groups that are not drawn."""

    def __init__(
        self,
        name: str,
        contract: Contract,
        instruction: str,
        horizon: int,
        gap: Gap,
        model: mujoco.MjModel,
        data: mujoco.MjData,
    ):
        super().__init__(name, contract, instruction, horizon, gap)
        self._model = model
        self._data = data
        self._cameras = Cameras(model, data, self.hidden_groups)
        apply_gap(model, gap)

    @abstractmethod
    def _sync(self) -> None:
        """Bring positions that follow from the joints up to date, so that state and pictures show the same instant."""

    def check_stable(self) -> None:
        """Raise an UnstableError if MuJoCo found a value that is not finite or absurd.

        MuJoCo itself only puts the simulation back to its beginning and goes on, which would look like data.
        """
        for warning in _FATAL_WARNINGS:
            if self._data.warning[warning].number:
                gap = f" with gap {self.gap}" if self.gap.given else ""
                raise UnstableError(f"{self.name}{gap}: the simulation became unstable ({warning.name})")

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        return self._cameras.image(camera, height, width)

    def render(self) -> np.ndarray:
        return self._cameras.image(self.video_camera, RENDER_SIZE, RENDER_SIZE)

    def close(self) -> None:
        self._cameras.close()
