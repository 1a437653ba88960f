"""Which OpenGL library MuJoCo draws with, chosen before MuJoCo is imported."""

import ctypes.util
import os
import sys
from collections.abc import Callable, MutableMapping

from episodes.errors import InputError

PACKAGES = "libegl1 libgl1-mesa-dri libopengl0"
"""Debian and Ubuntu packages that rendering without a screen needs."""


def choose_gl(
    environment: MutableMapping[str, str] | None = None,
    find_library: Callable[[str], str | None] = ctypes.util.find_library,
) -> None:
    """Set MUJOCO_GL to `egl`, else `osmesa`, on a Linux machine without a screen where nobody chose.

    With neither library MuJoCo could not even be imported under `egl` or `osmesa`, and states need no pictures:
    rendering is then disabled, and whoever asks for a picture is told what to install.

    Raises:
        InputError: where somebody chose `egl` and its libraries are missing.
    """
    environment = os.environ if environment is None else environment
    has_egl = bool(find_library("EGL") and find_library("OpenGL"))
    if environment.get("MUJOCO_GL") == "egl" and sys.platform.startswith("linux") and not has_egl:
        raise InputError(f"MUJOCO_GL=egl, but its libraries are missing; unset it, or install {PACKAGES}")
    if not sys.platform.startswith("linux") or environment.get("MUJOCO_GL") or environment.get("DISPLAY"):
        return
    if has_egl:
        environment["MUJOCO_GL"] = "egl"
    elif find_library("OSMesa"):
        environment["MUJOCO_GL"] = "osmesa"
    else:
        environment["MUJOCO_GL"] = "disable"
