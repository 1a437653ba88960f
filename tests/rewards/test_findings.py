"""What a report shows: the answers and the successes that are worth looking at, the gravest first."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.asking import Asked
from rewards.judge import Verdict
from rewards.marks import Moment
from rewards.moments import Moments
from rewards.report.findings import (
    false_marked,
    false_unmarked,
    in_turn,
    marked_episodes,
    stretches,
    unchecked,
    undecided,
    wrong,
)
from rewards.success import SuccessFit
from tests.rewards.conftest import log_of

FIRST, SECOND, UNSURE, INVALID = Verdict.FIRST, Verdict.SECOND, Verdict.UNSURE, Verdict.INVALID


def pair(first: int, second: int, verdict: Verdict | None, difference: float = 0.1) -> Asked:
    return Asked(first, second, difference, verdict)


@pytest.fixture
def moments() -> Moments:
    """Four episodes of five observations."""
    return Moments.of(log_of([4, 4, 4, 4]), ())


def labelled(**rows: list[int]) -> np.ndarray:
    """Per observation 0, and 1 at these rows of `one`; NaN at those of `unknown`."""
    values = np.zeros(20)
    values[rows["one"]] = 1
    values[rows.get("unknown", [])] = np.nan
    return values


def test_what_is_undecided_comes_in_turn_and_what_differs_most_first():
    asked = [
        pair(0, 1, UNSURE, 0.1),
        pair(2, 3, FIRST, 0.9),
        pair(4, 5, INVALID, 0.2),
        pair(6, 7, UNSURE, 0.3),
        pair(8, 9, None, 0.001),
    ]
    assert [each.first for each in undecided(asked)] == [4, 6, 0]


def test_the_same_picture_again_comes_last():
    asked = [pair(0, 1, UNSURE, 0.9), pair(0, 2, UNSURE, 0.8), pair(3, 4, UNSURE, 0.1)]
    assert [each.second for each in undecided(asked)] == [1, 4, 2]


def test_wrong_answers_are_those_against_the_truth_and_the_gravest_comes_first():
    truth = np.array([0.0, 1.0, 0.2, 0.3, np.nan, 0.5])
    asked = [
        pair(0, 1, SECOND),  # right
        pair(2, 3, FIRST),  # wrong by 0.1
        pair(1, 5, SECOND),  # wrong by 0.5
        pair(4, 0, SECOND),  # nobody knows
        pair(0, 5, UNSURE),
        pair(0, 5, None),
    ]
    assert wrong(asked, truth) == [asked[2], asked[1]]


def test_a_marked_frame_that_passes_unlearned_is_a_false_success(moments):
    rows, done = np.array([0, 3, 4, 5, 6, 7]), np.array([False, True, True, False, False, False])
    fit = SuccessFit(rows, done, np.array([0.7, 0.9, 0.2, 0.1, 0.65, 0.8]), 0.6, 1.0)
    found = false_marked(moments, fit)
    assert [each.moment for each in found] == [Moment(1, 1, 2), Moment(0, 0, 0)]
    assert [(each.row, each.probability) for each in found] == [(7, 0.8), (0, 0.7)]
    assert marked_episodes(moments, fit).tolist() == [True, True, False, False]


def test_false_successes_of_episodes_without_marks_come_with_their_reason(moments):
    called = labelled(one=[0, 1, 5, 6, 7, 8, 11, 14, 18, 19])
    true = labelled(one=[7, 8, 10, 11, 18], unknown=[5])
    marked = np.array([True, False, False, False])
    found = false_unmarked(moments, called, true, np.linspace(0, 1, 20), marked)
    assert [(each.moment, each.words) for each in found] == [
        (Moment(1, 1, 1), "done only at observation 2, 1 later"),
        (Moment(3, 4, 4), "was done, and is undone again"),
        (Moment(2, 4, 4), "was done, and is undone again"),
    ]


def test_a_success_of_an_episode_that_is_never_done_comes_first_and_is_shown_at_its_surest(moments):
    called, true = labelled(one=[5, 11, 12, 13]), labelled(one=[9])
    probability = np.zeros(20)
    probability[[11, 12, 13]] = [0.7, 0.9, 0.8]
    first, second = false_unmarked(moments, called, true, probability, np.zeros(4, bool))
    assert (first.moment, first.row, first.probability) == (Moment(2, 1, 3), 12, 0.9)
    assert first.words == "the task is never done in this episode"
    assert second.moment == Moment(1, 0, 0)


def test_without_a_truth_the_first_success_of_every_episode_without_marks_is_to_be_looked_at(moments):
    called = labelled(one=[2, 7, 9, 15, 16])
    probability = np.full(20, 0.9)
    probability[[15, 16]] = [0.7, 0.8]
    found = unchecked(moments, called, probability, np.array([True, False, False, False]))
    assert [each.moment for each in found] == [Moment(3, 0, 1), Moment(1, 2, 2)]


@given(st.lists(st.booleans(), max_size=30))
def test_stretches_cover_exactly_what_is_true_and_never_touch(inside):
    found = stretches(np.array(inside, bool))
    assert [row for start, stop in found for row in range(start, stop + 1)] == np.flatnonzero(inside).tolist()
    assert all(stop + 1 < start for (_, stop), (start, _) in pairwise(found))


@given(st.lists(st.integers()), st.lists(st.integers()))
def test_taking_turns_loses_nothing(one, other):
    both = in_turn(one, other)
    assert sorted(both) == sorted(one + other)
    assert both[: 2 * min(len(one), len(other)) : 2] == one[: min(len(one), len(other))]
