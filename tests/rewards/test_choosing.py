"""Which episodes a report shows, and why."""

import numpy as np
import pytest

from rewards.report.choosing import choose
from rewards.report.timelines import Known, strip
from rewards.success import SuccessFit
from tests.rewards.conftest import log_of

EPISODES, STEPS = 8, 4
EVERY = np.ones(EPISODES, bool)


def steps(**rows: list[int]) -> np.ndarray:
    """Per episode its value at all steps from the one given on: `e3=[2]` is 1 from step 2 of episode 3 on."""
    values = np.zeros((EPISODES, STEPS), np.float32)
    for name, (start,) in rows.items():
        values[int(name[1:]), start:] = 1
    return values.ravel()


def known(values: dict[str, np.ndarray], truth: dict[str, np.ndarray] | None = None, threshold=None) -> Known:
    return Known.of(log_of([STEPS] * EPISODES), values, truth or {}, threshold)


def test_the_extremes_come_first_with_their_returns():
    reward = np.repeat(np.array([0, 1, 5, 2, -3, 0, 0, 0], np.float32), STEPS)
    chosen = choose(known({"reward": reward}), EVERY, (), None, 3)
    assert list(chosen)[:2] == [2, 4]
    assert chosen[2] == ["highest return, 20.0"] and chosen[4] == ["lowest return, -12.0"]
    assert chosen[list(chosen)[2]] == ["drawn by chance"]


def test_disputed_and_held_out_episodes_take_turns_and_reasons_add_up():
    called = steps(e0=[1], e1=[2], e2=[3], e3=[0])
    true = steps(e1=[2], e2=[1], e3=[2], e4=[3])
    chosen = choose(known({"success": called}, {"success": true}), EVERY, (3, 7), None, 5)
    assert chosen[0] == ["success called at observation 2, but the task is never done"]
    assert chosen[4] == ["done at observation 4, but success is never called"]
    assert chosen[3] == ["success called at observation 1, but done only at 3", "held out"]
    assert chosen[7] == ["held out"]
    assert next(iter(chosen)) == 0, "a success that is none is the gravest"


@pytest.mark.parametrize("most", [1, 3, 8, 20])
def test_there_are_as_many_as_were_asked_for_and_each_once(most):
    assert len(choose(known({"reward": steps(e1=[1])}), EVERY, (2, 3), None, most)) == min(most, EPISODES)


def test_only_episodes_with_labels_are_shown():
    covered = np.arange(EPISODES) < 2
    chosen = choose(known({"success": steps(e5=[1])}, {"success": steps()}), covered, (6,), None, 8)
    assert set(chosen) == {0, 1}
    assert choose(known({}), ~EVERY, (), None, 8) == {}


def test_an_episode_whose_truth_is_not_known_is_not_disputed():
    true = steps()
    true[STEPS : 2 * STEPS] = np.nan
    chosen = choose(known({"success": steps(e1=[1], e2=[1])}, {"success": true}), EVERY, (), None, 8)
    assert chosen[1] == ["drawn by chance"] and "never done" in chosen[2][0]


def test_without_a_truth_marks_and_the_threshold_say_what_is_in_doubt():
    probability = np.zeros((EPISODES, STEPS), np.float32)
    probability[5, 2], probability[6, 2] = 0.55, 0.95
    fit = SuccessFit(
        np.array([1, 2, 5, 6, 10]),
        np.array([False, False, True, True, True]),
        np.array([0.7, 0, 0.1, 0.2, 0.9]),
        0.6,
        1,
    )
    values = {"success": steps(), "success_probability": probability.ravel()}
    chosen = choose(known(values, threshold=0.6), EVERY, (), fit, 3)
    assert list(chosen.values()) == [
        ["marked as not done where the classifier saw success"],
        ["marked as a success that the classifier did not see"],
        ["its largest probability of success, 0.55, is near the threshold"],
    ]


@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 34, 1000])
def test_a_strip_shows_the_middle_of_equal_parts(length):
    shown = strip(length)
    assert len(shown) == min(length, 10) == len(set(shown))
    parts = np.array_split(np.arange(length * 10), len(shown))  # tenths of observations
    for observation, part in zip(shown, parts, strict=True):
        assert abs(observation * 10 + 5 - (part[0] + part[-1] + 1) / 2) <= 5 + 1e-9
