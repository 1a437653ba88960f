"""Who is started again, who is done without, and whose end is the end of all."""

import signal

import pytest

from robot.restarting import BAD_INPUT, LONG, MOST_RESTARTS, WINDOW, Fate, Restarts, is_robot

KILLED = -signal.SIGKILL


@pytest.mark.parametrize("node", ["guardian", "sim_robot"])
@pytest.mark.parametrize("status", [0, 1, BAD_INPUT, KILLED])
def test_nothing_goes_on_without_the_guardian_or_its_robot(node: str, status: int) -> None:
    assert Restarts(node).fate(status, 0.0) is Fate.OVER


@pytest.mark.parametrize("node", ["actor", "recorder", "rewarder"])
def test_of_those_the_robot_needs_a_crash_is_mended_and_an_end_is_none(node: str) -> None:
    assert Restarts(node).fate(KILLED, 0.0) is Fate.AGAIN
    assert [Restarts(node).fate(status, 0.0) for status in (0, 1, BAD_INPUT)] == [Fate.OVER] * 3


@pytest.mark.parametrize("node", ["learner", "courier"])
def test_the_robot_goes_on_whatever_becomes_of_those_beside_it(node: str) -> None:
    restarts = Restarts(node)
    assert [restarts.fate(status, 0.0) for status in (1, KILLED)] == [Fate.AGAIN] * 2
    assert restarts.fate(0, 0.0) is Fate.WITHOUT, "somebody has ended it"
    restarts.begun_again(0.0)
    assert restarts.fate(BAD_INPUT, 1.0) is Fate.WITHOUT, "it had begun, and the robot moves"


def test_who_learns_and_cannot_begin_ends_all_before_the_robot_has_worked_for_nothing() -> None:
    assert Restarts("learner").fate(BAD_INPUT, 0.0) is Fate.OVER


@pytest.mark.parametrize("status", [0, BAD_INPUT, KILLED])
def test_where_there_is_no_robot_nothing_goes_on_without_the_learner(status: int) -> None:
    assert not is_robot(["learner", "courier"])
    assert is_robot(["guardian", "learner"])
    restarts = Restarts("learner", beside=False)
    assert restarts.fate(1, 0.0) is Fate.AGAIN
    for number in range(MOST_RESTARTS):
        restarts.begun_again(float(number))
    assert restarts.fate(status, 10.0) is Fate.OVER


@pytest.mark.parametrize(("node", "then", "window"), [("actor", Fate.OVER, WINDOW), ("learner", Fate.WITHOUT, LONG)])
def test_too_often_in_a_short_time_is_no_accident(node: str, then: Fate, window: float) -> None:
    restarts = Restarts(node)
    for number in range(MOST_RESTARTS):
        assert restarts.fate(KILLED, float(number)) is Fate.AGAIN
        restarts.begun_again(float(number))
    assert restarts.fate(KILLED, window - 1.0) is then
    assert restarts.fate(KILLED, window + 1.0) is Fate.AGAIN
