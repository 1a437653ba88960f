"""The actor's node: when it steps by its inputs, and what it keeps of messages that it cannot use."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from robot.acting import Waiting
from robot.frames import Frames
from tests.robot.contracts import SECOND, contract, joint_state, tip

pytest_plugins = ("tests.robot.process_fixtures",)

BEGIN = 1_000 * SECOND


class Stub(SimpleNamespace):
    """What the node has of itself, where no message comes by itself and the time is the test's."""

    def __init__(self) -> None:
        robot = contract()
        super().__init__(reliable=False, _frames=Frames(robot), _unusable={}, _last_tick=0, _newest=0)
        self._period, self._waiting, self._lock = robot.period, Waiting(robot.period), threading.Condition()
        self._by_header = {"joint_states", "tip"}
        self.time = BEGIN

    def now(self) -> int:
        return self.time

    def take(self, topic: str, message: Any) -> None:
        from robot.nodes.actor import ActorNode

        take: Any = ActorNode._take
        take(self, topic, message, self.time)

    def due(self) -> int:
        from robot.nodes.actor import ActorNode

        due: Any = ActorNode._due
        return due(self)


@pytest.mark.usefixtures("domain")
def test_an_input_that_is_quicker_than_the_actor_does_not_make_it_wait_for_ever_for_another() -> None:
    node, steps = Stub(), []
    node.take("tip", tip(BEGIN))
    for at in range(BEGIN, BEGIN + SECOND, SECOND // 200):
        node.time = at
        node.take("joint_states", joint_state(at))
        if tick := node.due():
            node._last_tick = tick
            node._waiting.stepped(at)
            steps.append(tick - BEGIN)
    assert steps == [k * 3 * node._period // 2 for k in range(7)]


@pytest.mark.usefixtures("domain")
def test_messages_that_cannot_be_used_are_counted_however_many_reasons_there_are() -> None:
    node = Stub()
    for number in range(3):
        node.take("joint_states", joint_state(BEGIN, names=(f"joint-{number}",)))
    ((topic, (count, why)),) = node._unusable.items()
    assert (topic, count) == ("joint_states", 3)
    assert "there are: joint-2" in why
