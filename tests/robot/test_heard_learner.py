"""What is said of who learns: that it is gone, what troubles it, that all is well again; how long it is waited for."""

from typing import Any

import pytest

from episodes.errors import InputError
from robot.reports import LearnerState, encode


class World:
    """A node that a test plays: what is subscribed to, and how many publish there."""

    def __init__(self) -> None:
        self.takes: dict[str, Any] = {}
        self.publishers = 1

    def create_subscription(self, kind: Any, topic: str, take: Any, qos: Any) -> None:
        self.takes[topic] = take

    def count_publishers(self, topic: str) -> int:
        assert topic in self.takes
        return self.publishers

    def say(self, state: LearnerState, acting: int | None = None) -> None:
        from std_msgs.msg import String

        self.takes["learner/state"](String(data=encode(state)))
        self.takes["actor/policy"](String(data=f"{state.policy if acting is None else acting:016x}"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    pytest.importorskip("rclpy", reason="no ROS 2 for Python")
    from robot import heard_learner

    monkeypatch.setattr(heard_learner, "GONE", 0.1)
    return World()


def heard(world: World, said: list[str]) -> Any:
    from robot.heard_learner import HeardLearner

    return HeardLearner(world, said.append, backward=False)  # type: ignore[arg-type]


def state(learned: int, policy: int = 7, **more: Any) -> LearnerState:
    return LearnerState(learned, 10 * learned, policy, learned=learned, **more)


def test_what_is_recorded_is_what_was_learned_from_and_what_waits(world: World) -> None:
    learner = heard(world, [])
    assert learner.recorded == 0
    world.say(state(5, behind=3))
    assert learner.recorded == 8


def test_it_is_there_when_the_actor_has_its_policy(world: World) -> None:
    learner = heard(world, [])
    assert not learner.appears(0.0), "there is none"
    world.say(state(5), acting=6)
    assert not learner.appears(0.0), "the actor has another policy"
    world.say(state(5))
    assert learner.appears(0.0)


def test_a_recording_is_waited_for_by_its_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many were learned from: those may have come late from another host."""
    learner = heard(world, [])
    monkeypatch.setattr("robot.heard_learner.LEARNING", 0.0)
    world.say(state(5, recordings=("day-0003", "day-0004")))
    with pytest.raises(InputError, match="episode day-0005 was not learned from within 0 s; look at the learner"):
        learner.wait_for("day-0005")
    world.say(state(6, 8, recordings=("day-0004", "day-0005")), acting=7)
    with pytest.raises(InputError, match="the actor has not taken what came of episode day-0005 within 0 s"):
        learner.wait_for("day-0005")
    world.say(state(7, 9, recordings=("late-0001",)))
    learner.wait_for("day-0005")


def test_trouble_is_said_once_and_so_is_its_end(world: World) -> None:
    learner = heard(world, said := [])
    learner.tell()
    assert said == [], "nobody has learned yet"
    for problem in ("", "labels differ", "labels differ", "", ""):
        world.say(state(1, problem=problem))
        learner.tell()
    world.publishers = 0
    learner.tell()
    learner.tell()
    world.publishers = 1
    learner.tell()
    assert said == [
        "learner: labels differ",
        "learner: all is well again",
        "learner: nobody learns any more; the robot goes on with the policy that it has",
        "learner: all is well again",
    ]


def test_one_that_is_gone_is_not_waited_for_to_the_end(world: World) -> None:
    learner = heard(world, said := [])
    world.say(state(1))
    world.publishers = 0
    with pytest.raises(InputError, match=r"no learner for 0.1 s, and day-2 was not learned from; start it"):
        learner.wait_for("day-2")
    assert len(said) == 1
