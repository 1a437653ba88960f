"""The true feasible set: against stopping distances, and against what its own actions do."""

import numpy as np
import pytest

from sim.point_robot import DISCS, GOAL, GOAL_RADIUS, MAX_ACCELERATION, MAX_SPEED, RATE, move
from sim.reachability import FeasibleSet, depth


@pytest.fixture(scope="module")
def truth() -> FeasibleSet:
    return FeasibleSet(positions=31, speeds=15)


def states(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4))


def evade(truth: FeasibleSet, state: np.ndarray, steps: int) -> np.ndarray:
    """The largest depth that each of N states comes to while it takes the actions that look best: shape (N,)."""
    options = np.array([[x, y] for x in truth.actions for y in truth.actions])
    deepest = depth(state[:, :2])
    for _ in range(steps):
        ahead = np.stack([truth.value(move(state, np.broadcast_to(o, (len(state), 2)))) for o in options])
        ended = np.linalg.norm(state[:, :2] - GOAL, axis=1) <= GOAL_RADIUS
        state = np.where(ended[:, None], state, move(state, options[ahead.argmin(0)]))
        deepest = np.maximum(deepest, depth(state[:, :2]))
    return deepest


def test_what_is_at_rest_is_feasible_exactly_outside_the_discs(truth):
    still = states(2000)
    still[:, 2:] = 0
    outside = depth(still[:, :2])
    clear = np.abs(outside) > 0.05
    np.testing.assert_array_equal(truth.feasible(still)[clear], (outside <= 0)[clear])


def test_head_on_at_full_speed_it_takes_the_stopping_distance(truth):
    """Towards the middle of the largest disc it can swerve by too little: it has to stop."""
    x, y, radius = DISCS[0]
    speed = 0.4
    stopping = speed**2 / (2 * MAX_ACCELERATION) + speed / RATE
    for room, expected in ((stopping * 0.6, False), (stopping * 1.6, True)):
        assert truth.feasible(np.array([[x + radius + room, y, -speed, 0.0]]))[0] == expected


def test_from_a_feasible_state_its_actions_touch_nothing_and_from_others_nothing_helps(truth):
    from_here = states(400, seed=1)
    value = truth.value(from_here)
    touched = evade(truth, from_here, 60)
    assert (touched[value < -0.02] <= 0.02).all()
    assert (touched[value > 0.02] > 0).mean() > 0.98
    doomed = (value > 0.02) & (depth(from_here[:, :2]) < 0)
    assert doomed.sum() > 30, "or momentum makes no difference"


def test_on_a_finer_grid_it_is_the_same(truth):
    finer = FeasibleSet(positions=41, speeds=21)
    same = finer.feasible(states(4000)) == truth.feasible(states(4000))
    assert same.mean() > 0.97


def test_more_actions_to_choose_from_make_no_difference(truth):
    more = FeasibleSet(positions=31, speeds=15, accelerations=5)
    assert (more.feasible(states(4000)) == truth.feasible(states(4000))).mean() > 0.995


def test_an_action_is_safe_where_it_leads_to_a_feasible_state(truth):
    x, y, radius = DISCS[0]
    speed = 0.4
    rooms = (np.array([[x + radius + room, y, -speed, 0.0]]) for room in np.linspace(0.02, 0.6, 200))
    brink = next(state for state in rooms if truth.value(state)[0] < -0.01)
    assert truth.action_is_safe(brink, np.array([[MAX_ACCELERATION, 0.0]]))[0]
    assert not truth.action_is_safe(brink, np.array([[-MAX_ACCELERATION, 0.0]]))[0]


def test_the_dynamics_are_clipped_speeds_and_walls_that_stop():
    fast = np.array([0.0, 0.0, MAX_SPEED, -0.5])
    np.testing.assert_allclose(move(fast, np.array([0.4, 0.2])), [0.1, -0.048, 1.0, -0.48])
    np.testing.assert_allclose(move(np.array([0.95, 0.0, 0.9, 0.1]), np.zeros(2)), [1.0, 0.01, 0.0, 0.1])
