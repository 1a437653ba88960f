# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled classes have no stubs.)
"""Pictures of a MuJoCo model, with a renderer of our own."""

import atexit
import os
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np

from episodes.errors import InputError, unknown
from sim.gl import PACKAGES


def camera_names(model: mujoco.MjModel) -> list[str]:
    """The names of a model's cameras, in the model's order."""
    return [model.camera(index).name for index in range(model.ncam)]


def check_cameras(names: Sequence[str], known: Sequence[str], where: str) -> None:
    """Raise an InputError for the first camera name that is not known or comes twice."""
    for index, name in enumerate(names):
        if name not in known:
            raise unknown("camera", name, known, where)
        if name in names[:index]:
            raise InputError(f"{where}: camera {name!r} is asked for twice")


_live: "weakref.WeakSet[Cameras]" = weakref.WeakSet()


def _close_all() -> None:
    for cameras in list(_live):
        cameras.close()


class Cameras:
    """Draws a model's cameras.

    One GL context per picture size, made at the first picture, so that a task without pictures needs no GL at all.
    Samples, reflections and shadows are off: a software renderer is then four times as fast.
    `mujoco.Renderer` makes its context current before it draws, so that closing one never disturbs another.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, hidden_groups: Sequence[int] = ()):
        """`hidden_groups` are the geom groups that are not drawn, such as collision shapes."""
        self._model = model
        self._data = data
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._option = mujoco.MjvOption()
        for group in hidden_groups:
            self._option.geomgroup[group] = 0

    def image(self, camera: str, height: int, width: int) -> np.ndarray:
        """Shape (height, width, 3), uint8, RGB, top row first.

        Raises:
            InputError: for an unknown camera, or where no GL library can be used.
        """
        if camera not in camera_names(self._model):
            raise unknown("camera", camera, camera_names(self._model))
        renderer = self._renderers.get((height, width)) or self._open(height, width)
        renderer.update_scene(self._data, camera, self._option)
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        return renderer.render().copy()

    def _open(self, height: int, width: int) -> mujoco.Renderer:
        self._model.vis.quality.offsamples = 0
        visual = self._model.vis.global_
        visual.offwidth = max(visual.offwidth, width)
        visual.offheight = max(visual.offheight, height)
        try:
            renderer = mujoco.Renderer(self._model, height, width)
        # Each GL library fails in its own way: a missing class, a missing symbol, no display, no device.
        except (ImportError, AttributeError, NameError, RuntimeError, mujoco.FatalError) as error:
            raise InputError(
                f"cannot draw pictures with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r} ({error}); "
                f"unset it and install {PACKAGES} (Debian, Ubuntu: apt-get install)"
            ) from error
        self._renderers[height, width] = renderer
        _live.add(self)
        # Registered after MuJoCo's own, so that it runs before: MuJoCo ends EGL at exit, contexts must be gone by then.
        atexit.unregister(_close_all)
        atexit.register(_close_all)
        return renderer

    def close(self) -> None:
        """Free every GL context. Drawing again opens new ones."""
        while self._renderers:
            _, renderer = self._renderers.popitem()
            renderer.close()
