"""Margins that keep what they promise, bounds against scipy's own, and what counts as known."""

import numpy as np
import pytest
from scipy import stats

from episodes.errors import InputError
from policies.calibration import Familiarity, approach, calibrate, upper_bound


def test_the_upper_bound_is_the_one_sided_clopper_pearson_one():
    for found, trials in ((0, 29), (1, 29), (3, 100), (100, 100)):
        expected = stats.binomtest(found, trials, alternative="less").proportion_ci(0.95, method="exact").high
        assert upper_bound(found, trials) == pytest.approx(expected)
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59)), "the rule of three"


def test_an_approach_is_the_safest_look_in_the_last_steps_before_the_first_violation():
    q_h = np.array([-9.0, -3.0, 2.0, -1.0, 4.0, -7.0])
    cost = np.array([-1.0, -1.0, -1.0, -1.0, 0.5, 0.5])
    assert [approach(q_h, cost, horizon) for horizon in (1, 2, 4, 99)] == [4.0, -1.0, -3.0, -9.0]
    assert approach(q_h, -np.ones(6), 3) is None, "nothing is violated"
    assert approach(q_h, np.array([1.0, -1, -1, -1, -1, -1]), 3) == -9.0, "in the first step"


def test_the_margin_is_the_smallest_that_keeps_to_the_rate():
    """Of 100 violating episodes 4 may be accepted at 10 % (5 would be bounded by 10.2 %): the fifth lowest may not."""
    scores = -np.arange(100.0) / 100
    allowed = max(k for k in range(100) if upper_bound(k, 100) <= 0.1)
    assert allowed == 4
    found = calibrate([*scores, None, None], 0.1)
    lowest = np.sort(scores)
    assert found.margin == pytest.approx(-lowest[4]) and -found.margin < lowest[4]
    assert (found.false_safe, found.episodes) == (4, 100)
    assert found.certified == pytest.approx(upper_bound(4, 100)) and found.certified <= 0.1
    assert found.smallest == pytest.approx(upper_bound(0, 100))
    assert "4 of 100 violating episodes" in found.text() and "3.0% is the least" in found.text()


def test_a_margin_is_never_negative_and_certifies_what_it_then_leaves():
    """Where even the safest look was above 0, nothing below it is given away."""
    found = calibrate([0.5 + i for i in range(40)], 0.3)
    assert found.margin == 0 and found.false_safe == 0 and found.certified == pytest.approx(upper_bound(0, 40))


def test_too_few_episodes_are_refused_with_what_there_are_enough_for():
    with pytest.raises(
        InputError, match=r"10 held-out episodes violate something, which certifies 0\.259 at best; record 29"
    ):
        calibrate([-1.0] * 10 + [None] * 500, 0.1)
    assert upper_bound(0, 29) <= 0.1 < upper_bound(0, 28)
    with pytest.raises(InputError, match="0 held-out episodes"):
        calibrate([None] * 10, 0.1)


def test_a_rate_that_is_none_and_a_critic_that_says_nothing_are_refused():
    for rate in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="false-safe rate"):
            calibrate([0.0] * 100, rate)
    with pytest.raises(InputError, match="not finite"):
        calibrate([float("nan"), *[0.0] * 100], 0.1)


def test_the_promise_holds_on_episodes_that_it_was_not_made_on():
    """In more than 95 of 100 calibrations, whatever the distribution; in far fewer, the bound would be wrong."""
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(400):
        margin = calibrate(list(rng.standard_t(3, 60)), 0.1).margin
        kept += stats.t(3).cdf(-margin) <= 0.1
    assert 0.93 < kept / 400 <= 1.0


def test_what_is_farther_from_the_logs_than_nearly_all_held_out_rows_is_unknown():
    rng = np.random.default_rng(1)
    logged, held_out = rng.normal(size=(3000, 2)), rng.normal(size=(1000, 2))
    familiar = Familiarity.of(logged, held_out, 0.95)
    assert familiar.known(held_out).mean() == pytest.approx(0.95, abs=0.002)
    assert familiar.known(logged).all()
    assert familiar.known(np.array([[0.0, 0.0], [9.0, 9.0], [np.nan, 0.0], [np.inf, 0.0]])).tolist() == [1, 0, 0, 0]


def test_without_logs_nothing_is_known():
    for logged, held_out in ((np.zeros((0, 2)), np.zeros((3, 2))), (np.zeros((3, 2)), np.zeros((0, 2)))):
        with pytest.raises(InputError, match="nothing is known"):
            Familiarity.of(logged, held_out)
    with pytest.raises(InputError, match="quantile"):
        Familiarity.of(np.zeros((3, 2)), np.zeros((3, 2)), 0.0)
