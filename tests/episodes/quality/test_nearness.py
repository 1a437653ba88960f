"""The map of a log and what is near, on states whose distances are known."""

import numpy as np
import pytest

from episodes.quality.nearness import Nearness
from episodes.quality.rows import Rows


def walk(episode: int, x: np.ndarray, y: float = 0.0) -> Rows:
    state = np.stack([x, np.full(len(x), y)], axis=1).astype(np.float32)
    steps = len(x) - 1
    none = np.zeros(len(x), np.int64)
    return Rows(episode, state, np.zeros((steps, 1), np.float32), none, none[:steps], np.full(steps, np.nan))


def made(*walks: Rows, rate: float | None = None):
    nearness = Nearness(rate)
    for each in walks:
        nearness.add(each)
    found = nearness.map()
    assert found is not None
    return found


def test_distance_is_to_another_episode_in_multiples_of_what_is_moved():
    """At 4 Hz half a second is 2 steps, so 2 apart is near 1; y does not change and does not count."""
    found = made(walk(0, np.arange(0.0, 41)), walk(1, np.arange(37.0, 78)), rate=4.0)
    here = found.episode == 0
    # Of the first episode, x = 35 is 2 from the other's beginning, 27 is 10 from it, 38 is in it.
    assert found.distance[here][[38, 35, 27]] == pytest.approx([0, 1, 5], abs=1e-3)
    assert found.of_episode(3)[:2] == pytest.approx([6 / 41, 6 / 41])
    assert np.isnan(found.of_episode(3)[2])
    assert found.support == pytest.approx(6 / 41)
    assert found.explained == pytest.approx((1.0, 0.0))


def test_the_first_component_is_the_direction_of_most_variance_whatever_its_unit():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=200)
    states = np.stack([1e6 * hidden, 1e-3 * hidden + 1e-5 * rng.normal(size=200), rng.normal(size=200)], axis=1)
    rows = walk(0, hidden)
    found = made(Rows(0, states.astype(np.float32), rows.action, rows.observation_time, rows.action_time, rows.reward))
    # Two of three standardised entries are one and the same: two thirds of the variance.
    assert found.explained == pytest.approx((2 / 3, 1 / 3), abs=0.02)
    assert abs(np.corrcoef(found.points[:, 0], hidden)[0, 1]) == pytest.approx(1, abs=1e-2)


def test_one_episode_has_no_support_and_is_still_on_the_map():
    found = made(walk(0, np.arange(30.0)))
    assert found.support is None and len(found.points) == 30
    assert found.time[0] == 0 and found.time[-1] == 1


def test_of_a_long_log_evenly_spread_observations_are_shown():
    found = made(*(walk(episode, np.arange(1000.0)) for episode in range(20)))
    assert 4096 <= len(found.points) <= 8192
    assert np.unique(found.episode, return_counts=True)[1].tolist() == [250] * 20


def test_states_that_never_change_have_no_map():
    nearness = Nearness(None)
    nearness.add(walk(0, np.full(30, 2.0)))
    assert nearness.map() is None
