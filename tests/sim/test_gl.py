"""Which GL library is chosen."""

import sys

import pytest

from episodes.errors import InputError
from sim.gl import choose_gl

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has the choice")


def chosen(libraries, **environment):
    choose_gl(environment, lambda name: name if name in libraries else None)
    return environment.get("MUJOCO_GL")


@pytest.mark.parametrize(
    ("libraries", "expected"),
    [
        ({"EGL", "OpenGL", "OSMesa"}, "egl"),
        ({"EGL", "OSMesa"}, "osmesa"),
        ({"EGL"}, "disable"),
        (set(), "disable"),
    ],
)
def test_egl_else_osmesa_else_nothing(libraries, expected):
    assert chosen(libraries) == expected


def test_what_somebody_chose_is_left_alone():
    assert chosen({"EGL", "OpenGL"}, MUJOCO_GL="glfw") == "glfw"
    assert chosen({"EGL", "OpenGL"}, DISPLAY=":0") is None


def test_egl_without_its_libraries_is_said_before_mujoco_fails():
    with pytest.raises(InputError, match="libegl1 libgl1-mesa-dri libopengl0"):
        chosen(set(), MUJOCO_GL="egl")
