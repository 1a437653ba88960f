"""Push-T: the human log's dynamics, coverage, pictures."""

from typing import Any

import numpy as np
import pytest

from sim.task import make_task


def test_the_contract(pusht):
    assert pusht.contract.rate == 10
    assert pusht.horizon == 300
    assert [entry.reference for entry in pusht.contract.action] == ["agent_x", "agent_y"]
    assert [entry.unit for entry in pusht.contract.state] == ["px"] * 4 + ["rad"]
    assert pusht.action_space.high.tolist() == [512, 512]


def test_the_human_log_is_reproduced(pusht, human_pusht):
    starts = np.concatenate([[0], human_pusht["episode_ends"][:-1]])
    for episode in (0, 17, 101):
        rows = slice(starts[episode], human_pusht["episode_ends"][episode])
        states, actions = human_pusht["state"][rows], human_pusht["action"][rows]
        pusht.reset(seed=0)
        pusht.set_state(states[0])
        for action, expected in zip(actions[:-1], states[1:], strict=True):
            got = pusht.step(action)[0]["state"]
            np.testing.assert_allclose(got, expected, atol=1e-3)


def test_set_state_sets_exactly_that_state(pusht):
    pusht.reset(seed=0)
    for state in np.random.default_rng(0).uniform([50, 50, 100, 100, 0], [450, 450, 400, 400, 2 * np.pi], (20, 5)):
        pusht.set_state(state)
        np.testing.assert_allclose(pusht._state(), state, atol=1e-9)


def test_what_is_seen_at_a_state_is_that_state_and_its_picture():
    task: Any = make_task("pusht", cameras=["image"], image_size=(32, 48))
    task.reset(seed=0)
    states = np.random.default_rng(1).uniform([50, 50, 100, 100, 0], [450, 450, 400, 400, 2 * np.pi], (5, 5))
    for state in states:
        seen = task.observe_at(state)
        assert task.observation_space.contains(seen)
        np.testing.assert_allclose(seen["state"], state, rtol=1e-6)
        np.testing.assert_array_equal(seen["image/image"], task._image("image", 32, 48))
    np.testing.assert_allclose(task._state(), states[-1])
    assert len({task.observe_at(state)["image/image"].tobytes() for state in [*states, states[0]]}) == 5


def test_coverage_is_the_environments_own(pusht):
    pusht.reset(seed=0)
    x, y, angle = pusht._env.goal_pose
    # On the goal, near it, and off it.
    spread = np.random.default_rng(0).normal(0, 1, (60, 3)) * np.linspace(0, 60, 60)[:, None] * [1, 1, 0.03]
    for dx, dy, turn in spread:
        state = np.array([50, 50, x + dx, y + dy, angle + turn])
        pusht.set_state(state)
        assert pusht.coverage(state[None])[0] == pytest.approx(pusht._env._get_coverage(), abs=1e-9)
        assert pusht.score(state[None].astype(np.float32))[0][0] == pytest.approx(pusht._env._get_coverage(), abs=2e-6)
    assert pusht.coverage(np.array([[0, 0, x, y, angle]]))[0] == pytest.approx(1.0)


def test_the_reward_of_a_step_is_the_score_of_the_next_state(pusht):
    pusht.reset(seed=0)
    pusht.set_state(np.array([256, 400, 256, 270, np.pi / 4]))
    covered = []
    for target in np.random.default_rng(1).uniform(200, 320, (20, 2)):
        observation, reward, _, _, info = pusht.step(target)
        assert reward == info["coverage"]
        assert np.float32(reward) == pusht.score(observation["state"][None])[0][0]
        assert reward == pytest.approx(pusht._env._get_coverage(), abs=2e-6)
        covered.append(reward)
    assert len(set(covered)) > 5


def test_humans_cover_much_and_never_succeed(pusht, human_pusht):
    reward, success = pusht.score(human_pusht["state"])
    final = reward[human_pusht["episode_ends"] - 1]
    assert np.median(final) == pytest.approx(0.85, abs=0.01)
    assert success.sum() == 0
    assert 0.85 < reward.max() < 0.95


def test_covering_the_goal_terminates_with_the_raw_coverage(pusht):
    pusht.reset(seed=0)
    pusht.set_state(np.array([50, 50, 256, 256, np.pi / 4]))
    _, reward, terminated, truncated, info = pusht.step(np.array([50, 50]))
    assert reward == pytest.approx(1.0, abs=1e-5)
    assert (terminated, truncated, info["success"]) == (True, False, True)


def test_the_finger_holds_where_it_is(pusht):
    state = start = pusht.reset(seed=2)[0]["state"]
    for _ in range(5):
        state = pusht.step(pusht.hold_action())[0]["state"]
    np.testing.assert_allclose(state[:2], start[:2], atol=1e-2)


def test_pictures_have_the_size_and_show_the_state():
    task: Any = make_task("pusht", cameras=["image"], image_size=(96, 128))
    observation, _ = task.reset(seed=0)
    assert observation["image/image"].shape == (96, 128, 3)
    task.set_state(np.array([480, 40, 256, 256, np.pi / 4]))  # the finger at the top right
    image = task._image("image", 96, 96).astype(int)
    blue = (image[..., 2] - image[..., 0]) > 100
    rows, columns = np.nonzero(blue)
    assert rows.mean() < 16
    assert columns.mean() > 80
    assert task.render().shape == (256, 256, 3)


@pytest.mark.parametrize("state", [np.zeros(4), np.full(5, np.nan)])
def test_a_state_that_is_none_is_refused(pusht, state):
    pusht.reset(seed=0)
    with pytest.raises(ValueError, match="state"):
        pusht.set_state(state)
