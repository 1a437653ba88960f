"""Pictures: the right way up, undisturbed by others, and a clear word where there is no GL."""

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from episodes.errors import InputError
from sim.cameras import Cameras
from sim.task import make_task

XML = """
<mujoco>
  <worldbody>
    <light pos="0 -3 3" dir="0 1 -1"/>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <camera name="wide" pos="0 -4 0" xyaxes="1 0 0 0 0 1"/>
    <geom name="up" type="sphere" pos="0.2 0 0.4" size="0.15" rgba="1 0 0 1"/>
    <geom name="hidden" type="sphere" pos="-0.2 0 -0.4" size="0.15" rgba="0 1 0 1" group="2"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def scene():
    model = mujoco.MjModel.from_xml_string(XML)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def centre(mask):
    assert mask.any()
    return [index.mean() for index in np.nonzero(mask)]


def coloured(image, channel):
    image = image.astype(int)
    others = [index for index in range(3) if index != channel]
    return image[..., channel] > 30 + image[..., others].max(-1)


def test_the_top_row_comes_first_and_colours_are_rgb(scene):
    cameras = Cameras(*scene)
    image = cameras.image("front", 60, 80)
    assert image.shape == (60, 80, 3)
    assert image.dtype == np.uint8
    row, column = centre(coloured(image, 0))
    assert row < 25
    assert column > 40
    assert centre(coloured(image, 1))[0] > 35
    cameras.close()


def test_hidden_groups_are_not_drawn(scene):
    cameras = Cameras(*scene, hidden_groups=[2])
    assert not coloured(cameras.image("front", 60, 80), 1).any()
    cameras.close()


def test_pictures_follow_the_model_and_are_ones_own(scene):
    model, data = scene
    cameras = Cameras(model, data)
    before = cameras.image("front", 60, 80)
    copy = before.copy()
    model.geom("up").rgba[:] = [0, 0, 1, 1]
    after = cameras.image("front", 60, 80)
    assert coloured(after, 2).any()
    assert not coloured(after, 0).any()
    assert np.array_equal(before, copy)
    cameras.close()


def test_sizes_beyond_the_models_buffer_can_be_drawn(scene):
    cameras = Cameras(*scene)
    assert cameras.image("front", 700, 900).shape == (700, 900, 3)
    cameras.close()


def test_closing_one_leaves_the_others_pictures_alone(scene):
    ours, theirs = Cameras(*scene), Cameras(*scene)
    expected = ours.image("front", 60, 80)
    theirs.image("wide", 40, 40)
    theirs.close()
    assert np.array_equal(ours.image("front", 60, 80), expected)
    ours.close()
    assert np.array_equal(ours.image("front", 60, 80), expected)  # closed, and opened again
    ours.close()


def test_a_tasks_pictures_survive_another_task():
    one = make_task("lift-quick", cameras=["agentview"], image_size=(48, 64))
    expected = one.reset(seed=0)[0]["image/agentview"]
    assert expected.shape == (48, 64, 3)
    assert coloured(expected, 0).any()  # the red cube
    other = make_task("hopper", cameras=["track"], image_size=(48, 64))
    other.reset(seed=0)
    other.close()
    assert np.array_equal(one.reset(seed=0)[0]["image/agentview"], expected)
    one.close()


def test_a_picture_shows_the_same_instant_as_the_state():
    task = make_task("lift-quick", cameras=["agentview"], image_size=(48, 48))
    task.reset(seed=0)
    shown = task.step(np.array([0.05, 0, 0, 1.0]))[0]["image/agentview"]
    mujoco.mj_forward(task._model, task._data)
    assert np.array_equal(task._image("agentview", 48, 48), shown)
    task.close()


def test_an_unknown_camera_is_refused_with_the_nearest(scene):
    with pytest.raises(InputError, match="did you mean 'front'"):
        Cameras(*scene).image("fornt", 10, 10)


def test_without_gl_states_work_and_pictures_say_what_to_install():
    code = (
        "import sim.gl, os; from sim.task import make_task; from episodes.errors import InputError\n"
        "task = make_task('hopper', cameras=['track'])\n"
        "make_task('hopper').reset(seed=0)\n"
        "try: task.reset(seed=0)\n"
        "except InputError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={"MUJOCO_GL": "disable"}, capture_output=True, text=True, check=True
    )
    assert "libegl1 libgl1-mesa-dri libopengl0" in result.stdout


def test_leaving_without_closing_is_silent():
    code = "from sim.task import make_task; task = make_task('hopper'); task.reset(seed=0); task.render()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == ""
