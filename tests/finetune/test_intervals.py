"""Intervals against closed forms and scipy."""

import numpy as np
import pytest
from scipy import stats

from finetune.intervals import mean_interval, paired_difference, rate_interval, seeds_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 200), (3, 20), (25, 50), (50, 50), (1, 1)])
def test_rates_get_the_clopper_pearson_interval(successes, trials):
    """Quantiles of the beta distribution (Clopper & Pearson, 1934)."""
    low = stats.beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = stats.beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    assert rate_interval(successes, trials) == pytest.approx((low, high), abs=1e-9)


def test_none_of_200_is_at_most_1_8_per_cent_on_both_sides_and_1_5_on_one():
    assert rate_interval(0, 200)[1] == pytest.approx(1 - 0.025 ** (1 / 200))
    assert rate_interval(0, 200, confidence=0.90)[1] == pytest.approx(1 - 0.05 ** (1 / 200))
    assert rate_interval(0, 200)[1] < 0.0184 and rate_interval(0, 200, confidence=0.90)[1] < 0.015


def test_means_get_a_bootstrap_interval_as_scipys():
    values = np.random.default_rng(3).gamma(2.0, 3.0, 60)
    sampled = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    assert mean_interval(values) == pytest.approx(tuple(sampled.confidence_interval), rel=0.02)
    # The central limit theorem agrees.
    half = 1.96 * values.std() / np.sqrt(60)
    assert mean_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), rel=0.03)
    wide, narrow = mean_interval(values, confidence=0.99), mean_interval(values, confidence=0.5)
    assert wide[0] < mean_interval(values)[0] < narrow[0] < narrow[1] < mean_interval(values)[1] < wide[1]


def test_an_interval_is_the_same_every_time():
    values = np.random.default_rng(3).normal(size=30)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(np.full(5, 2.5)) == (2.5, 2.5)


def test_a_paired_difference_sees_through_what_episodes_share():
    """Hard and easy seeds swamp the difference, and pairing takes them out."""
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 50, 50)
    theirs = [hardness + rng.normal(0, 0.1, 50) for _ in range(3)]
    ours = [hardness + 1.0 + rng.normal(0, 0.1, 50) for _ in range(3)]
    mean, low, high = paired_difference(ours, theirs, draws=2000)
    assert mean == pytest.approx(1.0, abs=0.05)
    assert 0.9 < low < mean < high < 1.1
    assert paired_difference(theirs, ours, draws=2000)[2] < -0.9


def test_no_difference_is_not_above_zero():
    rng = np.random.default_rng(1)
    ours, theirs = ([rng.normal(size=50) for _ in range(3)] for _ in range(2))
    _, low, high = paired_difference(ours, theirs, draws=2000)
    assert low < 0 < high


def test_training_seeds_that_disagree_make_the_interval_wide():
    """Episodes agree perfectly; three training seeds say 0, 0 and 3."""
    ours = [np.zeros(100), np.zeros(100), np.full(100, 3.0)]
    theirs = [np.zeros(100)] * 3
    mean, low, high = paired_difference(ours, theirs, draws=4000)
    # Means of three draws from {0, 0, 3} are 0, 1, 2, 3 with probabilities 8/27, 12/27, 6/27, 1/27.
    assert (mean, low, high) == (1.0, 0.0, 3.0)
    assert paired_difference(ours, theirs, confidence=0.9, draws=4000)[2] == 2.0


def test_with_one_training_seed_it_is_the_interval_of_the_differences():
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(1, 1, 80), rng.normal(0, 1, 80)
    got = paired_difference([ours], [theirs])
    assert got[0] == pytest.approx((ours - theirs).mean())
    assert got[1:] == pytest.approx(mean_interval(ours - theirs), abs=0.02)


def test_unequal_numbers_of_seeds_or_episodes_are_refused():
    with pytest.raises(ValueError):
        paired_difference([np.zeros(3)], [np.zeros(3), np.zeros(3)])
    with pytest.raises(ValueError):
        paired_difference([np.zeros(3)], [np.zeros(4)])


def test_seeds_alone_say_as_much_as_students_t_does():
    """The means .1, .2 and .6 have a standard error of .15275; the quantile of two degrees of freedom is 4.30265."""
    ours = [np.full(4, 1.1), np.array([0.2, 0.2]), np.array([1.0, 0.2])]
    theirs = [np.full(4, 1.0), np.zeros(2), np.zeros(2)]
    assert seeds_interval(ours, theirs) == pytest.approx((0.3 - 0.65724, 0.3 + 0.65724), abs=1e-4)
