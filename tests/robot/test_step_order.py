"""Which step of an actor can follow which."""

import math
from dataclasses import replace

import pytest

from robot.reports import ActorStep
from robot.step_order import StepOrder

PERIOD = 100_000_000
NOW = 10**12


def order() -> StepOrder:
    return StepOrder(["x", "y"], PERIOD, 2 * PERIOD)


def step(tick: float, episode: str = "one", action: tuple[float, ...] | None = (0.0, 0.0)) -> ActorStep:
    """`tick` in periods."""
    return ActorStep(NOW + round(tick * PERIOD), episode, (), action)


def fault_of(*steps: ActorStep) -> str:
    """What is said to the last of some steps, none of which is late."""
    asked = order()
    for one in steps[:-1]:
        assert asked.fault(one, one.tick) == ""
    return asked.fault(steps[-1], steps[-1].tick)


STILL = None
FINE = {
    "the first": [step(0)],
    "the next": [step(0), step(1)],
    "after a gap": [step(0), step(5)],
    "the next episode, after standing still": [step(0), step(1, "", STILL), step(2, "two")],
    "the next episode at once": [step(0), step(1, "two")],
    "an episode that begins on what was looked at before": [step(0, "", STILL), step(0, "one")],
    "standing still between episodes, said again": [step(0, "", STILL), step(0, "", STILL), step(0, "one")],
    "the last one's end": [step(0), step(0.01, "", STILL)],
    "an actor that is not enabled yet, and then is": [step(0, "", STILL), step(1, "", STILL), step(2)],
    "late by almost a period, then in time": [step(0.9)] + [step(n) for n in range(1, 30)],
    "actions outside an episode": [step(0, ""), step(1, "")],
}
FAULTS = {
    "too few numbers": ([step(0, action=(0.0,))], ["1 numbers", "expected 2: x, y"]),
    "no numbers": ([step(0, action=())], ["0 numbers"]),
    "not a number": ([step(0, action=(0.0, math.nan))], ["y: nan is not finite"]),
    "infinite": ([step(0, action=(-math.inf, 0.0))], ["x: -inf is not finite"]),
    "the same tick": ([step(0), step(0)], ["went back", "two actors", str(NOW), "'one'"]),
    "an older tick": ([step(1), step(0)], ["went back", str(NOW), str(NOW + PERIOD)]),
    "the same tick of another episode": ([step(0), step(0, "two")], ["'two'", "'one'", "two actors"]),
    "the same tick again in an episode, standing still": ([step(0, action=STILL)] * 2, ["went back"]),
    "the same tick again, letting go": ([step(0), step(0, "", STILL)], ["went back"]),
    "two episodes in one period": ([step(0), step(0.5, "two")], ["'two'", "'one'", "two actors"]),
    "two episodes in turns": ([step(0), step(1, "two"), step(2)], ["'one'", "'two'", "was over"]),
    "an episode that was over": ([step(0), step(1, "", STILL), step(2)], ["was over", "between episodes"]),
    "twice as fast": ([step(n / 2) for n in range(11)], ["10 steps in 500 ms", "one is 100 ms"]),
}


@pytest.mark.parametrize("steps", FINE.values(), ids=FINE.keys())
def test_one_actor_is_let_be(steps: list[ActorStep]):
    assert fault_of(*steps) == ""


@pytest.mark.parametrize(("steps", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_of_one_actor_that_works_is_told(steps: list[ActorStep], words: list[str]):
    said = fault_of(*steps)

    assert said
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (2 * PERIOD + 1, "stale step, 200 ms old, expected at most 200 ms"),
        (-PERIOD - 1, "100 ms after now"),
        (2 * PERIOD, ""),
        (-PERIOD, ""),
    ],
)
def test_a_step_is_of_now(age: int, words: str):
    said = order().fault(step(0), NOW + age)

    assert words in said
    assert bool(words) == bool(said)


def test_a_late_step_that_wants_nothing_is_late_all_the_same():
    assert "stale" in order().fault(step(0, "", None), NOW + 3 * PERIOD)


def test_who_is_cleared_takes_any_actor():
    asked = order()
    asked.fault(step(5), NOW + 5 * PERIOD)
    asked.fault(step(6, "two"), NOW + 6 * PERIOD)
    asked.clear()

    assert asked.fault(replace(step(0), episode="one"), NOW) == ""
