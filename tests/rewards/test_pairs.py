"""Which pairs are asked about: every sampler draws as it says, and only from the rows that it may."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from rewards.moments import Moments
from rewards.pairs import SAMPLERS, STRATA, by_disagreement, same_episode, stratified, uniform
from tests.rewards.conftest import log_of, logs


def moments_of(*observations: int) -> Moments:
    """Episodes of so many observations."""
    return Moments.of(log_of([count - 1 for count in observations]), [])


@given(st.sampled_from(sorted(SAMPLERS)), logs(), st.integers(1, 60), st.data())
def test_every_pair_is_of_the_rows_that_may_be_asked_about(name, log, count: int, data: st.DataObject):
    steps, final = log
    moments = Moments.of(log_of([*steps, 3], [*final, True]), [])
    of_episodes = np.array([*data.draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps))), True])
    among = moments.of_episodes(of_episodes)
    pairs = SAMPLERS[name](moments, among, count, np.random.default_rng(0))
    assert pairs.shape == (count, 2)
    assert np.issubdtype(pairs.dtype, np.integer)
    assert np.isin(pairs, among).all()


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_seed_gives_the_same_pairs_again_and_another_gives_others(name: str):
    moments = moments_of(30, 40)
    among = np.arange(len(moments))
    drawn = [SAMPLERS[name](moments, among, 50, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_long_episode_is_not_asked_about_more_than_a_short_one():
    moments = moments_of(2, 300, 20)
    pairs = uniform(moments, np.arange(len(moments)), 6000, np.random.default_rng(0))
    for side in range(2):
        share = np.bincount(moments.episode[pairs[:, side]], minlength=3) / len(pairs)
        np.testing.assert_allclose(share, 1 / 3, atol=0.03)
    both = np.bincount(3 * moments.episode[pairs[:, 0]] + moments.episode[pairs[:, 1]], minlength=9) / len(pairs)
    np.testing.assert_allclose(both, 1 / 9, atol=0.02, err_msg="the two sides are not drawn apart")


def test_uniform_means_uniform_in_time_within_an_episode():
    moments = moments_of(5, 10)
    pairs = uniform(moments, np.arange(len(moments)), 10_000, np.random.default_rng(0))
    share = np.bincount(pairs.ravel(), minlength=15) / pairs.size
    np.testing.assert_allclose(share, [0.5 / 5] * 5 + [0.5 / 10] * 10, atol=0.01)


def test_an_episode_of_which_a_part_may_be_asked_about_still_counts_as_one():
    moments = moments_of(10, 10)
    among = np.array([9, 10, 11, 12, 13])
    pairs = uniform(moments, among, 4000, np.random.default_rng(0))
    assert (pairs == 9).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("count", "cells"), [(100, {4}), (260, {10, 11}), (7, {0, 1})])
def test_every_combination_of_times_is_asked_about_equally_often(count: int, cells: set[int]):
    moments = moments_of(23, 101, 7)
    pairs = stratified(moments, np.arange(len(moments)), count, np.random.default_rng(0))
    part = np.minimum(np.floor(moments.progress[pairs] * STRATA), STRATA - 1).astype(int)
    often = np.bincount(STRATA * part[:, 0] + part[:, 1], minlength=STRATA**2)
    assert len(often) == STRATA**2
    assert set(often.tolist()) == cells


def test_times_that_no_episode_has_are_left_out():
    """Episodes of two observations are all beginning and end."""
    moments = moments_of(2, 2, 2)
    pairs = stratified(moments, np.arange(6), 40, np.random.default_rng(0))
    often = np.bincount((2 * moments.progress[pairs[:, 0]] + moments.progress[pairs[:, 1]]).astype(int), minlength=4)
    assert often.tolist() == [10] * 4


@given(logs(), st.integers(0, 2**32))
def test_a_pair_of_one_episode_crosses_none_and_has_two_moments(log: tuple[list[int], list[bool]], seed: int):
    steps, final = log
    moments = Moments.of(log_of([*steps, 1], [*final, True]), [])
    pairs = same_episode(moments, np.arange(len(moments)), 50, np.random.default_rng(seed))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (moments.episode[pairs[:, 0]] == moments.episode[pairs[:, 1]]).all()


def test_every_two_moments_of_an_episode_are_as_likely_in_either_order():
    moments = moments_of(3)
    pairs = same_episode(moments, np.arange(3), 6000, np.random.default_rng(0))
    often = np.bincount(3 * pairs[:, 0] + pairs[:, 1], minlength=9) / len(pairs)
    np.testing.assert_allclose(often.reshape(3, 3), (1 - np.eye(3)) / 6, atol=0.02)


def test_a_pair_of_one_episode_keeps_to_what_may_be_asked_about():
    moments = moments_of(6, 6, 6)
    among = np.array([1, 4, 7, 12, 13, 16])  # of the second episode one moment only
    pairs = same_episode(moments, among, 500, np.random.default_rng(0))
    assert set(pairs.ravel().tolist()) == {1, 4, 12, 13, 16}


def test_episodes_of_one_moment_each_cannot_be_compared_with_themselves():
    moments = Moments.of(log_of([1, 1], [False, False]), [])
    with pytest.raises(InputError, match="a_store: no episode has two observations"):
        same_episode(moments, np.arange(2), 3, np.random.default_rng(0))


def test_the_pairs_that_the_members_disagree_on_most_are_kept_in_order():
    #                   0    1     2    3
    scores = np.array([[0.0, 1.0, 0.2, -3.0], [0.0, 1.0, -0.2, 3.0], [0.0, 1.0, 0.0, 0.0]])
    candidates = np.array([[0, 1], [0, 2], [0, 3], [1, 0]])
    assert by_disagreement(candidates, scores, 2).tolist() == [[0, 3], [0, 2]]
    assert by_disagreement(candidates, scores, 9).tolist() == [[0, 3], [0, 2], [0, 1], [1, 0]]


def test_members_that_are_all_sure_do_not_disagree_however_far_their_scores_lie_apart():
    scores = np.array([[0.0, 20.0, 0.3], [0.0, 60.0, -0.3]])
    assert by_disagreement(np.array([[0, 1], [0, 2]]), scores, 1).tolist() == [[0, 2]]


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_what_is_kept_has_no_smaller_spread_than_what_is_not(count: int, seed: int):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, 10))
    candidates = rng.choice(90, 8, replace=False)
    candidates = np.stack([candidates // 9, (candidates // 9 + 1 + candidates % 9) % 10], axis=1)
    kept = by_disagreement(candidates, scores, count)

    def spread(pair: np.ndarray) -> float:
        chances = [1 / (1 + np.exp(member[pair[0]] - member[pair[1]])) for member in scores]
        return float(np.sqrt(np.mean((np.array(chances) - np.mean(chances)) ** 2)))

    left = [pair for pair in candidates if pair.tolist() not in kept.tolist()]
    assert len(kept) == count
    assert min(map(spread, kept)) >= max(map(spread, left), default=0.0) - 1e-12
