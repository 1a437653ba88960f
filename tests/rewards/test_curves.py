"""ROC and calibration against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.report.curves import calibration, roc, share_interval

PROBABILITY = np.array([0.05, 0.15, 0.95, 0.85, 0.35, 0.05, 0.12, 0.65, 0.22, 0.08])
DONE = np.array([False, False, True, True, True, False, False, False, False, False])


def test_the_curve_steps_up_for_a_success_and_right_for_another_and_equal_ones_pass_together():
    curve = roc(PROBABILITY, DONE)
    assert curve is not None
    np.testing.assert_allclose(curve.false_rate * 7, [0, 0, 0, 1, 1, 2, 3, 4, 5, 7])
    np.testing.assert_allclose(curve.true_rate * 3, [0, 1, 2, 2, 3, 3, 3, 3, 3, 3])
    assert curve.area == pytest.approx(20 / 21)  # one of the 3 x 7 pairs is the wrong way round


def test_equal_probabilities_are_worth_as_much_as_guessing():
    curve = roc(np.full(6, 0.5), np.array([True, False] * 3))
    assert curve is not None and curve.area == 0.5
    assert curve.false_rate.tolist() == [0, 1]


@pytest.mark.parametrize("done", [np.zeros(3, bool), np.ones(3, bool)])
def test_there_is_no_curve_of_one_answer_only(done):
    assert roc(np.array([0.1, 0.5, 0.9]), done) is None


@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=40))
def test_the_area_is_the_share_of_pairs_in_the_right_order(frames):
    probability, done = np.array([p / 10 for p, _ in frames]), np.array([d for _, d in frames])
    curve = roc(probability, done)
    if curve is None:
        return
    better = probability[done][:, None] - probability[~done][None]
    assert curve.area == pytest.approx(((better > 0) + 0.5 * (better == 0)).mean())
    assert (np.diff(curve.false_rate) >= 0).all() and (np.diff(curve.true_rate) >= 0).all()


def test_bins_count_frames_and_leave_out_what_is_empty():
    bins = calibration(PROBABILITY, DONE)
    assert [each.count for each in bins] == [3, 2, 1, 1, 1, 1, 1]
    np.testing.assert_allclose([each.said for each in bins], [0.06, 0.135, 0.22, 0.35, 0.65, 0.85, 0.95])
    assert [each.found for each in bins] == [0, 0, 0, 1, 0, 1, 1]
    assert bins[0].interval == share_interval(0, 3)


def test_certainty_falls_into_the_last_bin():
    (only,) = calibration(np.array([1.0, 0.9]), np.array([True, True]))
    assert (only.count, only.said, only.found) == (2, pytest.approx(0.95), 1)


def test_an_interval_is_exact_where_nothing_was_found():
    assert share_interval(0, 3) == pytest.approx((0, 1 - 0.025 ** (1 / 3)))
