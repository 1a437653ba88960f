"""A person's part, by program: reset, enable, start, wait for the end, count."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from std_msgs.msg import String
from std_srvs.srv import SetBool

from episodes.errors import InputError
from robot.guardian import NO_ACTOR
from robot.heard_episode import HeardEpisode, RobotEpisode
from robot.heard_learner import HeardLearner
from robot.nodes.resetting import GIVEN_UP, REFUSED
from robot.nodes.shell import LATCHED
from robot.reports import STEP_TOPIC
from robot.spinning import APPEARING, SpinningNode

TIMEOUT = 120.0
"""Longest time that an episode may take, unless somebody says another [s]."""
SETTLING = 5.0
"""How long a refusal may be due to what will be over in a moment [s]."""
RETURNING = 20.0
"""How long one may be due to a node that is being started again [s]."""
LOOKING = 0.5
"""Between two looks whether a person has done what was asked for [s]."""
TRIES, PAUSE = 3, 2.0
"""How often the robot is asked for what it refuses, and how long after each time [s]."""


class Session:
    """Drives the recorder and the guardian of running nodes; a context manager.

    What it has begun it ends, whatever happens: an episode that is under way, and the permission to move.
    """

    def __init__(self, namespace: str = "", say: Callable[[str], None] = lambda _: None):
        """`say` is told what a person is asked to do."""
        self._beside = SpinningNode("session", namespace)
        self.call = self._beside.call
        self._say = say

    def __enter__(self) -> "Session":
        self._node = self._beside.__enter__().node
        self._stopped = ""
        self._enabled = False
        self.learners = {way: HeardLearner(self._node, self._say, backward=way) for way in (False, True)}
        """Forward, and backward."""
        self._heard = HeardEpisode(self._node)
        self._node.create_subscription(String, "guardian/reason", self._on_reason, LATCHED)
        self._node.create_subscription(String, "recorder/asks", self._on_asks, LATCHED)
        # Taken for Ctrl-C, so that what was begun is ended.
        self._signals = _handled(_interrupt, signal.SIGTERM, signal.SIGHUP)
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with _undisturbed():
                self.disable()
        except InputError as error:
            self._say(f"the guardian was not disabled: {error}")
        finally:
            self._signals.__exit__(None, None, None)
            self._beside.__exit__()

    def reset(self) -> None:
        """Bring the robot to where an episode can begin; takes as long as a person needs."""

        def attempt() -> str:
            known = max(self._heard.recorders, 1)
            # One that was started again knows nothing of this, and would never answer.
            return self.call("recorder/reset", timeout=None, lost=lambda: self._heard.recorders > known)

        try:
            self._insist(attempt, APPEARING)
        except KeyboardInterrupt:
            # It is under way, and nobody waits for it any more.
            self._abandon()
            raise

    def go_on(self) -> str:
        """Make ready for an episode that begins where the last one has ended; why that needs a person, or nothing.

        Raises:
            InputError: where that cannot be told.
        """
        return self._insist(lambda: self.call("recorder/go_on"), RETURNING)

    def ask(self, why: str) -> None:
        """Let a person bring the robot to where an episode can begin; takes as long as it takes until that is so."""
        self._say(f"a person is needed: {why}")
        self.reset()
        said = ""
        while left := self.go_on():
            if left != said:
                self._say(f"please: {left}")
            said = left
            time.sleep(LOOKING)

    def enable(self) -> None:
        """Let the guardian pass commands on, when there is an actor: without one it would stop at once."""
        deadline = time.monotonic() + APPEARING
        while not self._node.count_publishers(STEP_TOPIC):
            if time.monotonic() > deadline:
                raise InputError(f"nobody publishes {STEP_TOPIC}; start an actor: firsthand up sim|deploy ...")
            time.sleep(0.05)
        # Whatever becomes of the answer: it may have been granted.
        self._enabled = True
        while True:
            try:
                self._insist(lambda: self.call("guardian/enable", SetBool.Request(data=True)))
                return
            except InputError as error:
                # On a busy machine an actor is there a while before its first step is.
                if NO_ACTOR not in str(error) or time.monotonic() > deadline:
                    raise

    def disable(self) -> None:
        """Take back what `enable` has allowed."""
        if self._enabled:
            self.call("guardian/enable", SetBool.Request(data=False), wait=1.0, timeout=SETTLING)
            self._enabled = False

    def episode(self, timeout: float, *, evaluation: bool = False, backward: bool = False) -> RobotEpisode:
        """Run one episode to its end [at most `timeout` s], and tell what became of it.

        Args:
            evaluation: it is to show how good the policy is.
            backward: it is of the task that undoes the other.
        """
        service = "recorder/start_backward" if backward else "recorder/start"
        service = "recorder/start_evaluation" if evaluation else service
        self._heard.clear()
        try:
            name = self._insist(lambda: self.call(service))
            over = self._heard.ends(name, timeout)
        except KeyboardInterrupt:
            # Where the recorder has not answered, it may have begun all the same.
            self._abandon()
            raise
        if not over:
            self._abandon()
            sent = f"{self._heard.sent} commands were sent"
            why = f"; the guardian has stopped: {self._stopped}" if self._stopped else ""
            raise InputError(f"episode {name} did not end within {timeout:g} s (--timeout), and {sent}{why}")
        return self._heard.told(name, backward=backward)

    def _abandon(self) -> None:
        """Nobody watches the episode any more: end it, if there is somebody to do it."""
        with _undisturbed(), contextlib.suppress(InputError):
            self.call("recorder/stop", wait=1.0, timeout=SETTLING)

    def _insist(self, call: Callable[[], str], longest: float = SETTLING) -> str:
        """Call what is refused while nodes and inputs appear, or the episode before is still being written.

        What the robot itself refuses is asked for a few times and with pauses: it may move every time.
        """
        deadline, refused = time.monotonic() + longest, 0
        while True:
            try:
                return call()
            except InputError as error:
                refused += REFUSED in str(error)
                if time.monotonic() > deadline or refused == TRIES or GIVEN_UP in str(error):
                    raise
                time.sleep(PAUSE if refused else 0.05)

    def _on_reason(self, message: String) -> None:
        self._stopped = message.data

    def _on_asks(self, message: String) -> None:
        if message.data:
            self._say(f"please: {message.data}; then: firsthand call recorder/ready")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _handled(how: Any, *numbers: signal.Signals) -> Iterator[None]:
    """Have signals handled in another way meanwhile, where that can be said; but for what is ignored, as by nohup."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        heeded = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        before = {number: signal.signal(number, how) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _undisturbed() -> contextlib.AbstractContextManager[None]:
    """For what ends something on the robot: who is impatient must not leave it under way."""
    return _handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_episodes(
    episodes: int,
    *,
    enable: bool,
    namespace: str = "",
    timeout: float = TIMEOUT,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    say: Callable[[str], None] = lambda _: None,
) -> list[RobotEpisode]:
    """Run episodes on the robot whose nodes are up.

    Args:
        enable: let the guardian pass commands on during episodes, and never while the robot is reset; else somebody
            else has to.
        timeout: of one episode [s].
        say: is told what a person is asked to do.

    Raises:
        InputError: where one could not be begun or did not end. Then it was stopped.
    """
    with Session(namespace, say) as session:
        found = []
        for _ in progress(range(episodes)):
            session.disable()
            session.reset()
            if enable:
                session.enable()
            found.append(session.episode(timeout))
        return found


def learn_on_robot(
    episodes: int,
    *,
    enable: bool,
    wait: bool = False,
    namespace: str = "",
    timeout: float = TIMEOUT,
    evaluate_every: int = 0,
    evaluation_episodes: int = 10,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    say: Callable[[str], None] = lambda _: None,
) -> list[RobotEpisode]:
    """Run episodes until there are so many to learn from, those of earlier times included.

    Where nobody learns any more, or what is learned from cannot be right, that is said, and the robot goes on.

    Args:
        wait: begin an episode only when the one before was learned from and its policy is there. A robot need not wait;
            a simulation in lock-step comes out the same again if it does.
        evaluate_every: after so many episodes come `evaluation_episodes` that show how good the policy is, by its mean
            actions; they count, too. 0 never does that.

    Raises:
        InputError: where an episode could not be begun or did not end, or a learner that is waited for falls silent.
    """
    with Session(namespace, say) as session:
        learner = session.learners[False]
        if not learner.appears(APPEARING):
            raise InputError("nobody learns, or the actor does not take what is learned: firsthand up finetune ...")
        found: list[RobotEpisode] = []
        for number in progress(range(learner.recorded, episodes)):
            session.reset()
            if enable:
                session.enable()
            evaluation = evaluate_every > 0 and number % (evaluate_every + evaluation_episodes) >= evaluate_every
            found.append(session.episode(timeout, evaluation=evaluation))
            session.disable()
            # What was stopped before its first action is nothing to learn from.
            if wait and found[-1].steps:
                learner.wait_for(found[-1].name)
            learner.tell()
        return found
