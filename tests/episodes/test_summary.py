"""The data report's numbers, on values worked out by hand."""

import numpy as np
import pytest

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.quality.rows import Rows
from episodes.quality.survey import survey
from episodes.summary import Spread, summarise

CONTRACT = Contract(
    name="toy",
    state=(StateEntry("moving"), StateEntry("dead")),
    action=(ActionEntry("free"), ActionEntry("limited", low=-1.0, high=1.0), ActionEntry("upper", high=5.0)),
)
MS = 1_000_000


def toy(**changes):
    """Two episodes: 4 steps with a final observation, 2 steps without."""
    values = {
        "states": np.array([[0, 3], [1, 3], [2, 3], [3, 3], [4, 3], [9, 3], [8, 3]], np.float32),
        "actions": np.array([[9, 1, 5], [9, -1, 0], [9, 0.9995, 0], [9, 0.9, 0], [9, 0, 0], [9, 0, 7]], np.float32),
        "time": np.array([1, 2, 3, 4, 5, 1, 2]) * 10 * MS,
        "rewards": np.array([1, 1, 1, 1, -5, 2], np.float32),
    } | changes
    rows = [
        Rows(
            episode,
            values["states"][observations],
            values["actions"][steps],
            values["time"][observations],
            np.zeros(len(values["actions"][steps]), np.int64),
            values["rewards"][steps],
        )
        for episode, (observations, steps) in enumerate([(slice(0, 5), slice(0, 4)), (slice(5, 7), slice(4, 6))])
    ]
    return summarise(survey(CONTRACT, lambda: rows))


def test_numbers_of_a_small_store():
    summary = toy()
    assert (summary.episodes, summary.steps) == (2, 6)
    assert summary.lengths == Spread(2, 3, 4)
    assert summary.returns == Spread(-3, 0.5, 4)
    assert summary.saturation == {"limited": pytest.approx(3 / 6), "upper": pytest.approx(2 / 6)}
    assert summary.constant == ("dead",)
    assert summary.period == Spread(0.01, 0.01, 0.01)
    assert (summary.unstamped, summary.backwards, summary.gaps) == (0, 0, 0)


def test_time_is_judged_inside_episodes_only():
    """From one episode to the next time may jump either way."""
    summary = toy(time=np.array([10, 20, 20, 30, 55, 5, 15]) * MS)
    assert (summary.backwards, summary.gaps) == (1, 1)
    assert toy(time=np.array([10, 20, 15, 30, 40, 5, 15]) * MS).backwards == 1


def test_stamps_that_are_missing_are_no_fault():
    summary = toy(time=np.array([0, 0, 0, 0, 0, 5, 15]) * MS)
    assert (summary.unstamped, summary.backwards) == (1, 0)
    assert summary.period == Spread(0.01, 0.01, 0.01)
    none = toy(time=np.zeros(7, np.int64))
    assert none.period is None and none.unstamped == 2


def test_an_episode_that_lacks_a_reward_has_no_return():
    summary = toy(rewards=np.array([1, np.nan, 1, 1, -5, 2], np.float32))
    assert summary.returns == Spread(-3, -3, -3) and summary.unrewarded == 1
    assert toy(rewards=np.full(6, np.nan)).returns is None


def test_an_empty_store_has_a_summary():
    summary = summarise(survey(CONTRACT, lambda: []))
    assert (summary.episodes, summary.lengths, summary.returns, summary.period) == (0, None, None, None)
    assert "0, 0 steps" in summary.text()


def test_the_text_says_what_stands_out():
    text = toy(time=np.array([10, 20, 20, 30, 55, 0, 0]) * MS).text()
    assert "2, 6 steps" in text and "2 to 4, median 3 steps" in text
    assert "limited 50.0%" in text and "dead" in text and "1 stamps not increasing" in text
    assert "no stamps    1 episodes" in text
    assert len(text.splitlines()) <= 20
