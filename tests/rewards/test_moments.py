"""A reward is of the observation that a step led to, r(s') and not r(s), in every episode and over none's end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from rewards.moments import Moments, RowsOfOne, per_observation, per_step, split_episodes
from tests.rewards.conftest import greys, log_of, logs


def numbered(counts: list[int]) -> np.ndarray:
    """100 times the episode, plus the place in it."""
    return np.concatenate([100.0 * episode + np.arange(count) for episode, count in enumerate(counts)])


@given(logs())
def test_a_step_has_the_value_of_the_observation_after_it(log: tuple[list[int], list[bool]]):
    steps, final = log
    expected = [
        100 * episode + step + 1 if step + 1 < count + last else np.nan
        for episode, (count, last) in enumerate(zip(steps, final, strict=True))
        for step in range(count)
    ]
    of_observations = numbered([count + last for count, last in zip(steps, final, strict=True)])
    found = per_step(log_of(steps, final), of_observations)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@given(logs())
def test_before_a_step_is_the_observation_that_it_began_at(log: tuple[list[int], list[bool]]):
    steps, final = log
    of_observations = numbered([count + last for count, last in zip(steps, final, strict=True)])
    found = per_step(log_of(steps, final), of_observations, before=True)
    np.testing.assert_array_equal(found, numbered(steps))


@given(logs())
def test_an_observation_has_the_value_of_the_step_that_led_to_it(log: tuple[list[int], list[bool]]):
    steps, final = log
    expected = [
        np.nan if place == 0 else 100 * episode + place - 1
        for episode, (count, last) in enumerate(zip(steps, final, strict=True))
        for place in range(count + last)
    ]
    np.testing.assert_array_equal(per_observation(log_of(steps, final), numbered(steps)), expected)


@given(logs())
def test_there_and_back_loses_only_a_step_that_led_to_nothing(log: tuple[list[int], list[bool]]):
    steps, final = log
    rows, values = log_of(steps, final), numbered(steps)
    back = per_step(rows, per_observation(rows, values))
    lost = np.zeros(len(values), bool)
    lost[np.cumsum(steps) - 1] = ~np.array(final)
    np.testing.assert_array_equal(back, np.where(lost, np.nan, values))


@given(st.integers(1, 6), st.booleans())
def test_an_episode_that_is_in_no_store_is_dealt_out_like_one_that_is(steps: int, final: bool):
    alone, stored = RowsOfOne(steps, steps + final), log_of([steps], [final])
    values = numbered([steps + final])
    np.testing.assert_array_equal(per_step(alone, values), per_step(stored, values))
    np.testing.assert_array_equal(per_step(alone, values, before=True), per_step(stored, values, before=True))
    np.testing.assert_array_equal(per_observation(alone, numbered([steps])), per_observation(stored, numbered([steps])))


def test_a_moment_knows_its_episode_and_how_far_in_it_is():
    moments = Moments.of(log_of([4, 1, 1], [True, False, True]), [])
    assert moments.episode.tolist() == [0] * 5 + [1] + [2] * 2
    np.testing.assert_allclose(moments.progress, [0, 0.25, 0.5, 0.75, 1, 0, 0, 1])
    assert len(moments) == 8
    assert moments.of_episodes(np.array([False, True, True])).tolist() == [5, 6, 7]


def test_a_moment_s_pictures_are_its_own_in_the_order_that_was_asked_for():
    pictures = {"left": greys(range(8)), "right": greys(range(100, 108))}
    moments = Moments.of(log_of([3, 3], pictures=pictures), ["right"])
    frames = list(moments.frames(np.array([6, 0, 3])))
    assert [(frame.observation, frame.episode, frame.progress) for frame in frames] == [
        (6, 1, pytest.approx(2 / 3)),
        (0, 0, 0.0),
        (3, 0, 1.0),
    ]
    assert [list(frame.images) for frame in frames] == [["right"]] * 3
    assert [int(frame.images["right"].mean()) for frame in frames] == [106, 100, 103]


def test_a_camera_that_is_not_there_is_told():
    with pytest.raises(InputError, match="unknown camera 'fornt' in a_store; did you mean 'front'"):
        Moments.of(log_of([2], pictures={"front": greys(range(3))}), ["fornt"])


@given(st.integers(1, 40), st.floats(0, 0.99), st.integers(0, 2**32))
def test_some_episodes_are_kept_aside_but_never_all(episodes: int, held_out: float, seed: int):
    aside = split_episodes(episodes, held_out, np.random.default_rng(seed))
    assert aside.shape == (episodes,)
    assert not aside.all()
    if held_out == 0 or episodes == 1:
        assert not aside.any()
    else:
        assert aside.sum() >= 1
        assert abs(aside.sum() - held_out * episodes) <= 1
    np.testing.assert_array_equal(aside, split_episodes(episodes, held_out, np.random.default_rng(seed)))


def test_every_episode_may_be_the_one_that_is_kept_aside():
    rng = np.random.default_rng(0)
    together = np.sum([split_episodes(5, 0.2, rng) for _ in range(300)], axis=0)
    assert together.sum() == 300
    assert (together > 30).all()
