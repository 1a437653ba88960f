"""A person's part, by program, against a recorder that a test plays."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from episodes.errors import InputError
from robot.reports import EPISODE_TOPIC, EpisodeState, encode
from tests.robot.processes import Probe

pytest_plugins = ("tests.robot.process_fixtures",)


class Recorder:
    """Begins the episode `one`, and says what a test wants."""

    def __init__(self, probe: Probe):
        from rclpy.callback_groups import ReentrantCallbackGroup

        from robot.nodes.shell import STATES
        from robot.ros import message_class

        self._string, trigger = message_class("std_msgs/msg/String"), message_class("std_srvs/srv/Trigger")
        self._publish = lambda: probe.node.create_publisher(self._string, EPISODE_TOPIC, STATES)
        self._publisher = self._publish()
        self.begun, self.stopped = threading.Event(), threading.Event()
        self._probe, self.resets = probe, 0
        probe.node.create_service(trigger, "recorder/start", self._start)
        self.stopping = self._stop
        probe.node.create_service(trigger, "recorder/stop", lambda *asked: self.stopping(*asked))
        # As of a recorder that was started again: one request does not wait for another.
        group = ReentrantCallbackGroup()
        probe.node.create_service(trigger, "recorder/reset", self._reset, callback_group=group)

    def _start(self, request: object, response: object) -> object:
        self.say(EpisodeState("one", True, 1))
        self.begun.set()
        response.success, response.message = True, "one"
        return response

    async def _reset(self, request: object, response: Any) -> object:
        """The first time it is killed over it."""
        from rclpy.task import Future

        self.resets += 1
        if self.resets == 1:
            while not self._publisher.get_subscription_count():
                time.sleep(0.01)
            time.sleep(0.5)  # ... and whoever listens knows of it, too
            self._probe.node.destroy_publisher(self._publisher)
            self._publisher = self._publish()
            await Future(executor=self._probe.node.executor)
        response.success = True
        return response

    def _stop(self, request: object, response: object) -> object:
        self.stopped.set()
        return response

    def say(self, state: EpisodeState) -> None:
        self._publisher.publish(self._string(data=encode(state)))


@pytest.fixture
def recorder(other_domain: int) -> Iterator[Recorder]:
    probe = Probe()
    yield Recorder(probe)
    probe.close()


@pytest.mark.parametrize("afterwards", [EpisodeState("", False, 0), EpisodeState("two", True, 2)])
def test_an_episode_that_the_recorder_knows_nothing_of_any_more_is_not_waited_for(
    recorder: Recorder, afterwards: EpisodeState
) -> None:
    """It was killed and started again."""
    from robot.session import Session

    def restarted() -> None:
        recorder.begun.wait(30.0)
        recorder.say(afterwards)

    threading.Thread(target=restarted, daemon=True).start()
    with Session() as session, pytest.raises(InputError, match="episode one is lost: the recorder was started again"):
        session.episode(60.0)


def test_a_reset_that_a_recorder_was_killed_over_is_asked_for_again(recorder: Recorder) -> None:
    from robot.session import Session

    with Session() as session:
        session.reset()
    assert recorder.resets == 2


def test_one_that_ends_as_it_should_is_told_of(recorder: Recorder) -> None:
    from robot.session import Session

    def ending() -> None:
        recorder.begun.wait(30.0)
        recorder.say(EpisodeState("one", False, 2, terminated=True, success=True, reason="success"))

    threading.Thread(target=ending, daemon=True).start()
    with Session() as session:
        told = session.episode(60.0)
    assert (told.name, told.success, told.steps, told.reason, told.truth) == ("one", True, 0, "success", None)


@pytest.mark.parametrize(
    ("refusal", "asked"),
    [("arm/home was not done: a hand is in the way", 3), ("given up: recorder/stop was called", 1)],
)
def test_what_the_robot_refuses_is_asked_for_a_few_times_and_with_pauses(
    refusal: str, asked: int, other_domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may move every time. What somebody gave up is not begun again."""
    from robot import session as module
    from robot.ros import message_class

    monkeypatch.setattr(module, "PAUSE", 0.2)
    calls: list[str] = []

    def answer(what: str, success: bool) -> Callable[[Any, Any], Any]:
        def respond(_: Any, response: Any) -> Any:
            calls.append(what)
            response.success, response.message = success, refusal
            return response

        return respond

    probe = Probe()
    trigger = message_class("std_srvs/srv/Trigger")
    probe.node.create_service(trigger, "recorder/reset", answer("reset", False))
    probe.node.create_service(trigger, "recorder/stop", answer("stop", True))
    began = time.monotonic()
    with module.Session() as session, pytest.raises(InputError, match=refusal):
        session.reset()
    probe.close()
    assert calls == ["reset"] * asked, "what somebody else has begun is not ended"
    assert time.monotonic() - began > (asked - 1) * 0.2


@pytest.mark.parametrize("interrupted", ["recorder/reset", "recorder/start", "waiting"])
def test_who_interrupts_leaves_nothing_under_way(
    interrupted: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset, an episode that may have begun and one that has are ended; the robot does not go on by itself."""
    from std_srvs.srv import Trigger

    from robot.heard_episode import HeardEpisode
    from robot.session import Session
    from robot.spinning import SpinningNode

    call = SpinningNode.call

    def interruptible(node: SpinningNode, service: str, *rest: Any, **more: Any) -> str:
        if service == interrupted:
            # Whoever interrupts has been there for a while.
            node.node.create_client(Trigger, "recorder/stop").wait_for_service(60.0)
            raise KeyboardInterrupt
        return call(node, service, *rest, **more)

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(SpinningNode, "call", interruptible)
    if interrupted == "waiting":
        monkeypatch.setattr(HeardEpisode, "ends", interrupt)
    with Session() as session, pytest.raises(KeyboardInterrupt):
        if interrupted == "recorder/reset":
            session.reset()
        else:
            session.episode(60.0)
    assert recorder.stopped.wait(10.0)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_who_interrupts_once_more_leaves_nothing_under_way(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Impatient people press Ctrl-C again, and close the terminal."""
    from robot.heard_episode import HeardEpisode
    from robot.ros import message_class
    from robot.session import Session

    asked: list[str] = []
    stop = recorder._stop

    def disturbed(request: Any, response: Any) -> Any:
        asked.append("stop" if not hasattr(request, "data") else f"enable {request.data}")
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        time.sleep(0.3)
        response.success = True
        return stop(request, response)

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    recorder.stopping = disturbed
    recorder._probe.node.create_service(message_class("std_srvs/srv/SetBool"), "guardian/enable", disturbed)
    monkeypatch.setattr(HeardEpisode, "ends", interrupt)
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyboardInterrupt), Session() as session:
        session._enabled = True
        session.episode(60.0)
    assert asked == ["stop", "enable False"]
    assert not session._enabled
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_that_the_guardian_could_not_be_disabled_is_said(recorder: Recorder) -> None:
    from robot.session import Session

    said: list[str] = []
    with Session(say=said.append) as session:
        session._enabled = True
    (what,) = said
    assert what.startswith("the guardian was not disabled: nobody offers guardian/enable")


def test_a_session_heeds_what_ends_it_and_nothing_that_is_ignored(other_domain: int) -> None:
    """As by nohup, which is to outlive its terminal."""
    from robot.session import Session

    before, outlived = signal.signal(signal.SIGHUP, signal.SIG_IGN), False
    try:
        with pytest.raises(KeyboardInterrupt), Session():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            outlived = True
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10.0)
            pytest.fail("nobody heard")
        assert outlived
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_session_that_cannot_begin_leaves_signals_alone(other_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from robot.session import Session
    from robot.spinning import SpinningNode

    def fail(_: SpinningNode) -> SpinningNode:
        raise RuntimeError("no network")

    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr(SpinningNode, "__enter__", fail)
    with pytest.raises(RuntimeError, match="no network"), Session():
        pytest.fail("it began")
    assert [signal.getsignal(number) for number in SIGNALS] == before
