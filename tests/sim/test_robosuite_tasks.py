"""Lift's units, order and criterion, and the other robosuite tasks."""

from typing import Any

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from episodes.errors import InputError
from sim.operators import make_operator
from sim.robosuite_tasks import LIFT_HEIGHT, LYING_HEIGHT, OTHERS, LiftTask
from sim.rollout import rollout
from sim.task import make_task


def named(task, state):
    return dict(zip(task.contract.state_names, state, strict=True))


def vector(task, state, *names):
    values = named(task, state)
    return np.array([values[name] for name in names])


def place_cube(task, position, wxyz):
    joint = task._model.joint("cube_joint0").qposadr[0]
    task._data.qpos[joint : joint + 7] = [*position, *wxyz]
    mujoco.mj_forward(task._model, task._data)  # pyright: ignore[reportAttributeAccessIssue]


def test_the_contract_of_lift(lift):
    assert lift.contract.rate == 20
    assert [entry.unit for entry in lift.contract.action] == ["m"] * 3 + ["rad"] * 3 + [""]
    assert np.allclose(lift.contract.action_high, [0.05] * 3 + [0.5] * 3 + [1])
    assert np.array_equal(lift.contract.action_low, -lift.contract.action_high)
    assert len(lift.contract.state) == 19


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_centimetre_is_a_centimetre(lift, axis):
    lift.reset(seed=0)
    start = lift._state()[:3]
    action = np.zeros(7)
    action[axis] = 0.01
    lift.step(action)
    controller = lift._env.robots[0].composite_controller.part_controllers["right"]
    goal = controller.origin_pos + controller.origin_ori @ controller.goal_pos
    # float32 commands, and the hand is 0.1 mm off where it was before the first physics step settled it.
    np.testing.assert_allclose(goal - start, action[:3], atol=2e-4)


def test_a_centimetre_each_step_is_the_speed_that_the_controller_makes_of_it(lift):
    lift.reset(seed=0)
    action = np.array([0, 0, 0.01, 0, 0, 0, -1.0])
    heights = [lift.step(action)[0]["state"][2] for _ in range(30)]
    # Critically damped with stiffness k, following a goal d ahead: v = d * sqrt(k) / 2, less the joints' own damping.
    assert (heights[-1] - heights[-11]) / 10 * 20 == pytest.approx(0.01 * np.sqrt(150) / 2, rel=0.25)


def test_a_turn_turns_about_its_axis(lift):
    state = lift.reset(seed=0)[0]["state"]
    start = lift._state()[3:7]
    for _ in range(10):
        state = lift.step(np.array([0, 0, 0, 0, 0, 0.1, -1.0]))[0]["state"]
    turn = (Rotation.from_quat(state[3:7]) * Rotation.from_quat(start).inv()).as_rotvec()
    assert turn[2] > 0.15
    assert turn[2] > 2 * np.abs(turn[:2]).max()


def test_without_rotation_the_hand_keeps_its_orientation(lift_quick):
    state = start = lift_quick.reset(seed=0)[0]["state"]
    for _ in range(20):
        state = lift_quick.step(np.array([0.03, 0.02, 0.0, -1.0]))[0]["state"]
    assert np.linalg.norm(state[:2] - start[:2]) > 0.1
    assert abs(state[3:7] @ start[3:7]) > np.cos(np.radians(5) / 2)


def test_the_gripper_opens_at_minus_one_and_closes_at_one(lift_quick):
    widths = []
    for grip in (-1.0, 1.0):
        state = lift_quick.reset(seed=0)[0]["state"]
        for _ in range(10):
            state = lift_quick.step(np.array([0, 0, 0, grip]))[0]["state"]
        left, right = vector(lift_quick, state, "finger_left", "finger_right")
        widths.append(left - right)
    assert widths[0] == pytest.approx(0.08, abs=0.005)
    assert widths[1] == pytest.approx(0.0, abs=0.005)


def test_quaternions_are_xyzw(lift_quick):
    state = lift_quick.reset(seed=0)[0]["state"]
    quaternion = vector(lift_quick, state, "eef_qx", "eef_qy", "eef_qz", "eef_qw")
    assert abs(quaternion[0]) > 0.95  # the hand points down: half a turn about x
    half = np.radians(30) / 2
    place_cube(lift_quick, [0.0, 0.0, 0.85], [np.cos(half), 0, 0, np.sin(half)])
    cube = vector(lift_quick, lift_quick._state(), "cube_qx", "cube_qy", "cube_qz", "cube_qw")
    np.testing.assert_allclose(cube, [0, 0, np.sin(half), np.cos(half)], atol=1e-9)


def test_the_state_is_where_things_are(lift_quick):
    lift_quick.reset(seed=0)
    lift_quick.step(np.array([0.05, 0, 0, 1.0]))
    state, data = lift_quick._state(), lift_quick._data
    before = data.qpos.copy(), data.qvel.copy()
    mujoco.mj_forward(lift_quick._model, data)  # pyright: ignore[reportAttributeAccessIssue]
    assert np.array_equal(before[0], data.qpos)
    np.testing.assert_allclose(state, lift_quick._state(), atol=1e-12)  # none of it was a physics step late
    cube = data.qpos[lift_quick._model.joint("cube_joint0").qposadr[0] :][:3]
    assert np.array_equal(vector(lift_quick, state, "cube_x", "cube_y", "cube_z"), cube)
    offset = vector(lift_quick, state, "cube_from_eef_x", "cube_from_eef_y", "cube_from_eef_z")
    np.testing.assert_allclose(offset, cube - state[:3])


def test_success_is_robosuites_own_criterion(lift_quick):
    for height in (0.0, LIFT_HEIGHT - 1e-4, LIFT_HEIGHT + 1e-4, 0.2):
        lift_quick.reset(seed=0)
        place_cube(lift_quick, [0.0, 0.0, 0.8 + height], [1, 0, 0, 0])
        expected = bool(lift_quick._env._check_success())
        assert expected == (height > LIFT_HEIGHT)
        reward, success = lift_quick.score(lift_quick._state()[None])
        assert reward[0] == success[0] == float(expected)


def test_lifting_terminates(lift_quick):
    lift_quick.reset(seed=0)
    place_cube(lift_quick, [0.0, 0.2, 1.0], [1, 0, 0, 0])
    _, reward, terminated, truncated, info = lift_quick.step(lift_quick.hold_action())
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)


def at_heights(task, heights, monkeypatch):
    """What the steps of an episode say in which the cube is at these heights above the table."""
    task.reset(seed=0)
    advance = type(task)._advance
    left = list(heights)

    def moved(self, action):
        self._data.qvel[:] = 0  # It falls from here by a centimetre, and not as fast as it has fallen before.
        place_cube(self, [0.0, 0.2, 0.8 + left.pop(0)], [1, 0, 0, 0])
        return advance(self, action)

    monkeypatch.setattr(type(task), "_advance", moved)
    return [task.step(task.hold_action())[1:5] for _ in heights]


def test_success_has_to_last_before_it_ends_an_episode(monkeypatch):
    """Held for 3 steps, dropped, and held for 4: only then it is over. Its reward is there from the first step on."""
    task = make_task("lift-quick:hold=4")
    up = [0, 1, 1, 1, 0, 1, 1, 1, 1]
    steps = at_heights(task, [0.2 * lifted for lifted in up], monkeypatch)
    assert [step[3]["success"] for step in steps] == [bool(lifted) for lifted in up]
    assert [step[0] for step in steps] == up
    assert [step[1] for step in steps] == [False] * 8 + [True]
    assert not any(step[2] for step in steps)


def test_what_was_held_is_forgotten_at_a_reset(monkeypatch):
    task = make_task("lift-quick:hold=2")
    for _ in range(3):
        with monkeypatch.context() as patch:
            assert not at_heights(task, [0.2], patch)[0][1]


def test_success_that_comes_too_late_to_last_is_cut_off_by_the_time_limit(monkeypatch):
    task = make_task("lift-quick:hold=3,horizon=2")
    _, (_, terminated, truncated, info) = at_heights(task, [0.2, 0.2], monkeypatch)
    assert (terminated, truncated, info["success"]) == (False, True, True)


@pytest.mark.parametrize("hold", ["0", "-1", "1.5"])
def test_holding_for_no_whole_number_of_steps_is_refused(hold):
    with pytest.raises(InputError, match="hold"):
        make_task(f"lift-quick:hold={hold}")


def test_the_shaped_reward_is_nearness_and_height_by_hand():
    """Half of 1 - tanh(5 * distance), and half of the way from 2 cm (on the table) to 4 cm (lifted), clipped."""
    task = make_task("lift-quick:reward=shaped")
    names = task.contract.state_names
    state = np.zeros((6, len(names)), np.float32)
    state[:, names.index("cube_z")] = 0.8 + np.array([0.02, 0.03, 0.0401, 0.3, 0.0, 0.02])
    for axis, distance in zip("xyz", (0.06, 0.0, 0.08), strict=True):
        state[:, names.index(f"cube_from_eef_{axis}")] = distance
    state[5, [names.index(f"cube_from_eef_{axis}") for axis in "xyz"]] = 0
    near = 0.5 * (1 - 0.46211716)  # tanh(0.5): 6 and 8 cm apart are 10 cm
    reward, success = task.score(state)
    np.testing.assert_allclose(reward, [near, near + 0.25, near + 0.5, near + 0.5, near, 0.5], atol=1e-5)
    assert success.tolist() == [0, 0, 1, 1, 0, 0]
    plain, same = make_task("lift-quick").score(state)
    assert plain.tolist() == same.tolist() == success.tolist()


def test_the_shaped_reward_of_a_step_is_the_score_of_the_next_state():
    task = make_task("lift-quick:reward=shaped")
    task.reset(seed=0)
    rewards = []
    for action in np.random.default_rng(0).uniform(-0.05, 0.05, (8, 4)):
        observation, reward, _, _, _ = task.step(action)
        assert np.float32(reward) == task.score(observation["state"][None])[0][0]
        rewards.append(reward)
    assert len(set(rewards)) == 8 and 0 < min(rewards) < max(rewards) < 1


def test_two_tasks_have_the_same_cube(lift, lift_quick):
    sizes = [task._model.geom("cube_g0").size.tolist() for task in (lift, lift_quick)]
    assert sizes[0] == sizes[1]


def test_another_physics_step_is_not_left_behind():
    from robosuite import macros

    make_task("lift:physics_step=0.005").reset(seed=0)
    assert macros.SIMULATION_TIMESTEP == 0.002


def test_a_step_lasts_as_long_as_the_rate_says():
    for spec in ("lift:rate=100", "lift:rate=12.5,physics_step=0.001"):
        task: Any = make_task(spec)
        task.reset(seed=0)
        start = task._data.time
        for _ in range(3):
            task.step(task.hold_action())
        assert task._data.time - start == pytest.approx(3 / task.contract.rate, abs=1e-9)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_the_other_tasks_run(name):
    task = make_task(f"{name}:horizon=2")
    observation, _ = task.reset(seed=0)
    assert np.isfinite(observation["state"]).all()
    results = [task.step(task.hold_action()) for _ in range(2)]
    assert results[-1][3]
    assert all(isinstance(result[4]["success"], bool) for result in results)
    task.close()


def test_physics_that_blows_up_is_an_error_and_not_data(lift_quick, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    lift_quick.reset(seed=0)
    lift_quick._data.qvel[:] = 1e12
    with pytest.raises(RuntimeError, match="unstable"):
        lift_quick.step(lift_quick.hold_action())
    assert "unstable" in caplog.text
    assert not list(tmp_path.iterdir())  # no MUJOCO_LOG.TXT
    lift_quick.reset(seed=0)
    lift_quick.step(lift_quick.hold_action())


def test_putting_back_begins_where_a_lift_has_ended(lift_back, lift_quick):
    table = lift_back._table[2]
    starts = [vector(lift_back, lift_back.reset(seed=seed)[0]["state"], "cube_z", "finger_left") for seed in range(6)]
    heights, fingers = np.array(starts).T - np.array([[table], [0]])
    assert (heights > LIFT_HEIGHT).all()
    assert (heights < LIFT_HEIGHT + 0.03).all()
    assert (fingers < 0.03).all(), "they hold it"
    assert lift_back.contract == lift_quick.contract
    assert lift_back.instruction != lift_quick.instruction


def test_putting_back_may_begin_where_one_has_failed():
    task = make_task("lift-back-quick:lost=0.5")
    states = np.array([task.reset(seed=seed)[0]["state"] for seed in range(12)])
    again = np.array([task.reset(seed=seed)[0]["state"] for seed in range(12)])
    lost = states[:, task.contract.state_names.index("cube_z")] - task._table[2] < LYING_HEIGHT
    assert 3 <= lost.sum() <= 9
    assert not task.score(states)[1].any(), "there is something left to do"
    np.testing.assert_array_equal(states, again)
    rollouts = [rollout(task, make_operator("scripted", task, 1.0), seed) for seed in np.flatnonzero(lost).tolist()]
    assert np.mean([episode.success.max() for episode in rollouts]) > 0.5, "and it can be done"
    task.close()


def test_an_empty_hand_goes_home_and_touches_nothing(lift_quick):
    hand = [lift_quick.contract.state_names.index(f"eef_{axis}") for axis in "xyz"]
    cube = [lift_quick.contract.state_names.index(f"cube_{axis}") for axis in "xyz"]
    began, _ = lift_quick.reset(seed=4)
    for _ in range(20):
        away, *_ = lift_quick.step(np.array([0.05, -0.05, -0.02, 1.0], np.float32))
    lift_quick.go_home()
    now = lift_quick.go_on()["state"]
    assert np.linalg.norm(away["state"][hand] - began["state"][hand]) > 0.1
    assert np.linalg.norm(now[hand] - began["state"][hand]) < LiftTask.HOME
    np.testing.assert_allclose(now[cube], away["state"][cube], atol=1e-3)


def test_a_hand_that_holds_the_cube_stays_where_it_is(lift_back):
    held, _ = lift_back.reset(seed=3)
    lift_back.go_home()
    np.testing.assert_array_equal(lift_back.go_on()["state"], held["state"])


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ({}, True),
        ({"cube_x": 0.061}, False),
        ({"cube_y": -0.061}, False),
        ({"cube_z": 0.831}, False),
        ({"finger_left": 0.029}, False),
        ({"finger_right": -0.029}, False),
        ({"cube_from_eef_z": -0.059}, False),
    ],
)
def test_back_is_on_the_table_inside_the_region_below_an_open_hand(lift_back, change, back):
    state = dict.fromkeys(lift_back.contract.state_names, 0.0)
    state |= {"cube_x": 0.06, "cube_y": -0.06, "cube_z": 0.82, "finger_left": 0.04, "finger_right": -0.04}
    state |= {"cube_from_eef_z": -0.07, **change}
    reward, success = lift_back.score(np.array([list(state.values())], np.float32))
    assert (bool(success[0]), bool(reward[0])) == (back, back)


def test_a_lift_can_be_turned_into_putting_back_and_again(lift_quick):
    held = dict.fromkeys(lift_quick.contract.state_names, 0.0) | {"cube_z": 0.85}
    state = np.array([list(held.values())], np.float32)
    try:
        assert lift_quick.score(state)[1][0] == 1
        lift_quick.backward = True
        assert lift_quick.instruction == "put the red cube back on the table"
        assert lift_quick.score(state)[1][0] == 0
    finally:
        lift_quick.backward = False
    assert lift_quick.instruction == "lift the red cube off the table"


def test_there_is_no_shaped_reward_for_putting_back():
    with pytest.raises(InputError, match="reward=shaped is for goal=lift"):
        make_task("lift-back:reward=shaped")


def test_only_what_was_held_can_be_lost():
    with pytest.raises(InputError, match=r"lost=0.5 is for goal=back"):
        make_task("lift:lost=0.5")
