"""What labels are worth against a truth, in numbers worked out by hand."""

import numpy as np
import pytest

from rewards.agreement import judge_accuracy, pair_accuracy, rank_correlations, success_agreement
from rewards.asking import Asked
from rewards.judge import Verdict
from tests.rewards.conftest import log_of

NAN = float("nan")
FIRST, SECOND, UNSURE, INVALID = Verdict.FIRST, Verdict.SECOND, Verdict.UNSURE, Verdict.INVALID


def asked(*said: tuple[int, int, Verdict | None]) -> list[Asked]:
    return [Asked(first, second, 0.5, verdict) for first, second, verdict in said]


def test_a_judge_is_right_where_it_names_the_moment_with_more_reward():
    truth = np.array([0.0, 1.0, 2.0, 3.0])
    pairs = asked((0, 1, SECOND), (3, 1, FIRST), (2, 0, SECOND), (2, 3, SECOND))
    assert judge_accuracy(pairs, truth)["accuracy"] == pytest.approx(3 / 4)


def test_what_was_not_decided_or_has_no_true_difference_does_not_count():
    truth = np.array([0.0, 1.0, 1.0, NAN])
    pairs = asked(
        (0, 1, SECOND), (0, 1, UNSURE), (0, 1, INVALID), (0, 1, None), (1, 2, FIRST), (0, 3, FIRST), (1, 0, SECOND)
    )
    assert judge_accuracy(pairs, truth)["accuracy"] == pytest.approx(1 / 2)


def test_nothing_decided_is_no_accuracy():
    assert judge_accuracy(asked((0, 1, UNSURE)), np.array([0.0, 1.0]))["accuracy"] is None
    assert judge_accuracy([], np.array([0.0, 1.0])) == {"accuracy": None, "by_difference": []}


def test_accuracy_is_told_apart_by_how_different_the_pairs_truly_are():
    """Eight pairs, 1 to 8 apart, in quarters of two: the judge is wrong on the closest, unsure on the next."""
    truth = np.arange(9.0)
    pairs = asked((0, 1, FIRST), (0, 2, UNSURE), *((place, 0, FIRST) for place in range(3, 8)), (0, 8, FIRST))
    found = judge_accuracy(pairs, truth)
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert [(row["pairs"], row["decided"], row["accuracy"]) for row in found["by_difference"]] == [
        (2, 1, 0.0),
        (2, 2, 1.0),
        (2, 2, 1.0),
        (2, 2, 0.5),
    ]
    edges = [row["difference"] for row in found["by_difference"]]
    assert edges[0][0] == 1 and edges[-1][1] == 8
    assert [high for _, high in edges[:-1]] == [low for low, _ in edges[1:]]


def test_pairs_that_are_all_as_different_are_one_group():
    pairs = asked((0, 1, SECOND), (1, 0, SECOND), (0, 1, SECOND))
    rows = judge_accuracy(pairs, np.array([0.0, 1.0]))["by_difference"]
    assert [row["pairs"] for row in rows] == [0, 0, 0, 3]
    assert [row["accuracy"] for row in rows] == [None, None, None, pytest.approx(2 / 3)]


def test_scores_are_judged_in_the_same_way_and_equal_ones_decide_nothing():
    truth = np.array([0.0, 1.0, 2.0, 3.0, NAN])
    scores = np.array([-1.0, 0.5, 0.5, 0.2, 9.0])
    pairs = np.array([[0, 1], [1, 0], [1, 2], [2, 3], [3, 0], [4, 0]])
    found = pair_accuracy(scores, pairs, truth)
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert sum(row["pairs"] for row in found["by_difference"]) == 5
    assert sum(row["decided"] for row in found["by_difference"]) == 4


def test_ranks_are_compared_within_each_episode():
    snapshot = log_of([3, 3, 3])
    truth = np.array([NAN, 1, 2, 3, 0, 1, 2, 3, 0, 1, 3, 2])
    scores = np.array([9, -5, -4, -3, 103, 102, 101, 100, 0, 1, 2, 3.0])
    every = np.ones(3, bool)
    # Of the last: ranks 1 2 4 3 against 1 2 3 4, that is 1 - 6 * 2 / (4 * 15).
    assert rank_correlations(snapshot, scores, truth, every) == pytest.approx([1.0, -1.0, 0.8])
    assert rank_correlations(snapshot, scores, truth, np.array([False, True, False])) == pytest.approx([-1.0])


def test_an_episode_in_which_nothing_changes_has_no_ranks():
    snapshot = log_of([3, 3, 2])
    truth = np.array([0, 0, 0, 0, 0, 1, 2, 3, NAN, 1, 2.0])
    scores = np.array([0, 1, 2, 3, 5, 5, 5, 5, 0, 1, 2.0])
    assert rank_correlations(snapshot, scores, truth, np.ones(3, bool)) == []


def test_a_success_is_false_where_it_was_never_so_and_early_where_not_yet():
    """Six episodes: in time, late, too early, never so, missed, and rightly none."""
    true = [*[0, 0, 1, 1] * 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    said = [0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    found = success_agreement(log_of([4] * 6), np.array(said, np.float32), np.array(true, np.float32), np.ones(6, bool))
    assert found == {
        "episodes": 6,
        "successes": 4,
        "false_successes": 1,
        "early_successes": 1,
        "missed_successes": 1,
        "false_positive_rate": pytest.approx(2 / 17),
        "miss_rate": pytest.approx(2 / 7),
        "negative_frames": 17,
        "positive_frames": 7,
    }


def test_only_the_episodes_that_are_asked_for_and_the_steps_that_are_known_count():
    true = np.array([0, 1, 0, 0, 0, NAN], np.float32)
    said = np.array([1, 1, 0, NAN, 0, 1], np.float32)
    found = success_agreement(log_of([2, 2, 2]), said, true, np.array([False, True, True]))
    assert (found["episodes"], found["successes"], found["false_successes"]) == (2, 0, 0)
    assert found["false_positive_rate"] == 0
    assert found["miss_rate"] is None
    assert (found["negative_frames"], found["positive_frames"]) == (2, 0)
