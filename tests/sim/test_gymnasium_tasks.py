"""Locomotion: what the state entries are, and that nothing of Gymnasium's own task got lost."""

import gymnasium
import numpy as np
import pytest

from sim.task import make_task

IDS = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}


@pytest.mark.parametrize("name", IDS)
def test_it_is_gymnasiums_task(name):
    task, theirs = make_task(name), gymnasium.make(IDS[name])
    assert np.array_equal(task.reset(seed=3)[0]["state"], theirs.reset(seed=3)[0].astype(np.float32))
    for action in np.random.default_rng(0).uniform(-1, 1, (20, *task.action_space.shape)).astype(np.float32):
        mine, expected = task.step(action), theirs.step(action)
        assert np.array_equal(mine[0]["state"], expected[0].astype(np.float32))
        assert mine[1:3] == expected[1:3]
        if expected[2]:
            break


@pytest.mark.parametrize("name", IDS)
def test_state_entries_carry_the_models_own_joints(name):
    task = make_task(name)
    task.reset(seed=0)
    names = task.contract.state_names
    joints = [task._model.joint(index).name for index in range(3, task._model.njnt)]
    renamed = {"bthigh": "back_thigh", "bshin": "back_shin", "bfoot": "back_foot"}
    renamed |= {"fthigh": "front_thigh", "fshin": "front_shin", "ffoot": "front_foot"}
    for index, joint in enumerate(joints):
        side = "left_" if joint.endswith("_left_joint") else "right_" if name == "walker2d" else ""
        plain = renamed.get(joint, side + joint.removesuffix("_left_joint").removesuffix("_joint"))
        assert names[2 + index] == plain
        assert task._state()[names.index(f"{plain}_rate")] == task._data.qvel[3 + index]
    assert task.contract.state[names.index("torso_vx")].unit == "m/s"


def test_a_speed_limit_is_a_constraint_on_the_torso():
    task = make_task("halfcheetah:speed_limit=3")
    assert task.constraints is not None
    names = task.contract.state_names
    state = np.zeros((4, len(names)))
    state[:, names.index("torso_vx")] = [0.0, 2.75, 3.25, 9.0]
    np.testing.assert_allclose(task.constraints.h(state, names), [-1, -0.5, 0.5, 1])
    task.reset(seed=0, options={"state": state[3]})
    assert task.step(task.hold_action())[4]["cost"] == 1.0
    task.reset(seed=0)
    assert task.step(task.hold_action())[4]["cost"] == 0.0
    assert make_task("halfcheetah").constraints is None, "nothing is limited that nobody limits"


@pytest.mark.parametrize(("name", "rate"), [("halfcheetah", 20), ("hopper", 125), ("walker2d", 125)])
def test_the_rate_is_the_physics(name, rate):
    task = make_task(name)
    task.reset(seed=0)
    task.step(task.hold_action())
    assert task.contract.rate == rate
    assert task._data.time == pytest.approx(1 / rate)
    assert task.horizon == 1000
    assert not task.has_success
