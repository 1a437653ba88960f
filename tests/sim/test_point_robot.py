"""The point robot: starts that can be saved, costs that are told, a script that is as good as it is told to be."""

from itertools import pairwise

import numpy as np
import pytest

from episodes.errors import InputError
from sim.operators import ScriptedPoint, make_operator
from sim.point_robot import CONSTRAINTS, DISCS, GOAL, GOAL_RADIUS
from sim.reachability import depth
from sim.rollout import rollout
from sim.task import make_task


@pytest.fixture
def task():
    return make_task("point-robot")


def test_episodes_begin_at_rest_outside_the_discs_and_away_from_the_goal(task):
    starts = np.array([task.reset(seed=seed)[0]["state"] for seed in range(300)])
    assert (starts[:, 2:] == 0).all()
    assert depth(starts[:, :2]).max() <= -0.05 + 1e-6
    assert np.linalg.norm(starts[:, :2] - GOAL, axis=1).min() > 0.5
    assert np.ptp(starts[:, :2], axis=0).min() > 1.7


def test_h_is_above_zero_exactly_inside_a_disc():
    state = np.random.default_rng(0).uniform(-1, 1, (500, 4))
    inside = np.any([np.hypot(state[:, 0] - x, state[:, 1] - y) < r for x, y, r in DISCS], axis=0)
    np.testing.assert_array_equal(CONSTRAINTS.h(state, ["x", "y", "vx", "vy"]) > 0, inside)


def test_an_episode_records_its_reward_and_what_it_touched(task):
    episode = next(e for e in (rollout(task, ScriptedPoint(task, 0.0), seed) for seed in range(50)) if e.cost.any())
    np.testing.assert_array_equal(episode.cost, depth(episode.state[1:, :2]) > 0)
    distance = np.linalg.norm(episode.state[1:, :2] - GOAL, axis=1)
    np.testing.assert_allclose(episode.reward, -distance, rtol=1e-5)
    np.testing.assert_array_equal(episode.success, distance <= GOAL_RADIUS)
    assert not episode.terminated or distance[-1] <= GOAL_RADIUS


def test_costs_are_of_the_true_state_not_of_what_a_noisy_sensor_says():
    noisy, plain = (make_task("point-robot", gap=gap) for gap in ("obs_noise=0.5", None))
    for task in (noisy, plain):
        task.reset(seed=3)
    costs = [[task.step(np.array([0.4, 0.0]))[-1]["cost"] for _ in range(40)] for task in (noisy, plain)]
    assert costs[0] == costs[1]


def test_a_task_without_constraints_tells_no_costs():
    task = make_task("pusht:horizon=2")
    assert task.constraints is None
    assert rollout(task, make_operator("random", task), 0).cost is None


def test_the_script_fails_and_violates_more_the_worse_it_is(task):
    rates = {}
    for quality in (0.0, 0.6, 1.0):
        episodes = [rollout(task, make_operator("scripted", task, quality), seed) for seed in range(40)]
        rates[quality] = [np.mean([e.success.any() for e in episodes]), np.mean([e.cost.any() for e in episodes])]
    assert rates[0.0][0] < rates[0.6][0] < rates[1.0][0] == 1.0
    assert rates[0.0][1] > rates[0.6][1] > rates[1.0][1]
    assert rates[0.0][1] > 0.4 and rates[1.0][1] < 0.2


def test_the_scripts_actions_follow_from_its_seed_and_keep_the_limits(task):
    one, two = make_operator("scripted", task, 0.2), make_operator("scripted", task, 0.2)
    first = rollout(task, one, 5)
    rollout(task, two, 6)
    assert first.digest() == rollout(task, two, 5).digest()
    assert np.array_equal(first.action, [task.clip(action) for action in first.action])


def test_holding_brakes_as_hard_as_it_may_and_comes_to_rest():
    task = make_task("point-robot")
    task.reset(seed=3)
    task.step(np.array([0.4, -0.2], np.float32))
    moving, _, *_ = task.step(np.array([0.4, -0.2], np.float32))
    speeds = [np.abs(moving["state"][2:])]
    for _ in range(4):
        action = task.hold_action()
        assert np.array_equal(action, task.clip(action))
        speeds.append(np.abs(task.step(action)[0]["state"][2:]))
    assert all((after <= before + 1e-7).all() for before, after in pairwise(speeds))
    assert speeds[0].min() > 0.03 and speeds[-1].max() < 1e-6


def test_it_is_seen_from_above():
    task = make_task("point-robot", cameras=["top"], image_size=(41, 61))
    picture = task.reset(seed=1)[0]["image/top"]
    assert picture.shape == (41, 61, 3)
    goal = picture[20, round((GOAL[0] + 1) / 2 * 60)]
    assert goal[1] > goal[0] and (picture[0, 0] == 255).all()
    x, y, _ = DISCS[1]
    disc = picture[round((1 - y) / 2 * 40), round((x + 1) / 2 * 60)]
    assert disc[0] > disc[1]


def test_what_does_not_fit_is_refused():
    for make, message in (
        (lambda: make_task("point-robot:horizn=3"), "did you mean 'horizon'"),
        (lambda: make_task("point-robot", cameras=["front"]), "camera"),
        (lambda: make_task("point-robot", gap="gravity=2"), "gravity"),
        (lambda: make_operator("scripted", make_task("point-robot"), 1.5), "quality"),
    ):
        with pytest.raises(InputError, match=message):
            make()
