"""What somebody who runs episodes hears of who learns from them."""

import threading
import time
from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import String

from episodes.errors import InputError
from robot.nodes.shell import LATCHED
from robot.reports import LEARNER_TOPIC, POLICY_TOPIC, LearnerState, decode, of

LEARNING = 600.0
"""Longest time that a learner may take for an episode [s]."""
GONE = 60.0
"""Longest time that one may be away which is waited for [s]."""


class HeardLearner:
    """The learner of one direction, and what the actor has of it.

    Args:
        node: that hears; its callbacks come in another thread than the calls here.
        say: is told when nobody learns any more, or what is wrong with what is learned from.
        backward: of the task that undoes the other.
    """

    def __init__(self, node: Node, say: Callable[[str], None], *, backward: bool):
        self._node, self._say = node, say
        self._topic = of(LEARNER_TOPIC, backward)
        self._who = "learner (of what undoes the task)" if backward else "learner"
        self._changed = threading.Condition()
        self._state: LearnerState | None = None
        self._learned: set[str] = set()
        """Recordings that it was heard to have learned from."""
        self._acting = self._trouble = ""
        node.create_subscription(String, self._topic, self._on_state, LATCHED)
        node.create_subscription(String, of(POLICY_TOPIC, backward), self._on_policy, LATCHED)

    @property
    def recorded(self) -> int:
        """How many episodes there are that it has learned from, or will; 0 where there never was one."""
        state = self._state
        return 0 if state is None else state.learned + state.behind

    def appears(self, timeout: float) -> bool:
        """Wait until there is one, and the actor has its newest policy, at most `timeout` s."""
        return self._wait(lambda: self._acts, timeout, "it was waited for")

    def wait_for(self, recording: str) -> None:
        """Wait until it has learned from a recording and the actor has what came of it.

        By name, and not by number: others may still be on their way from another host.

        Raises:
            InputError: where that takes too long, or there was a learner, and there is none for too long.
        """
        missing = f"{recording} was not learned from"
        if not self._wait(lambda: recording in self._learned and self._acts, LEARNING, missing):
            if recording in self._learned:
                raise InputError(f"the actor has not taken what came of episode {recording} within {LEARNING:g} s")
            raise InputError(f"episode {missing} within {LEARNING:g} s; look at the {self._who}")

    def _wait(self, condition: Callable[[], bool], timeout: float, missing: str) -> bool:
        began = there = time.monotonic()
        while True:
            left = began + timeout - time.monotonic()
            with self._changed:
                if self._changed.wait_for(condition, max(min(left, 1.0), 0.0)):
                    return True
            if left <= 0:
                return False
            self.tell()
            now = time.monotonic()
            there = now if self._is_there else there
            if self._state is not None and now - there > GONE:
                raise InputError(
                    f"there has been no {self._who} for {GONE:g} s, and {missing}; start it again, and this goes on "
                    "where it was"
                )

    def tell(self) -> None:
        """Say, once, that nobody learns any more, or what is wrong with what is learned from; and when that is over."""
        state = self._state
        if state is None:
            return
        gone = "nobody learns any more; the robot goes on with the policy that it has"
        trouble = state.problem if self._is_there else gone
        if trouble != self._trouble:
            self._trouble = trouble
            self._say(f"{self._who}: {trouble or 'all is well again'}")

    @property
    def _is_there(self) -> bool:
        return self._node.count_publishers(self._topic) > 0

    @property
    def _acts(self) -> bool:
        return self._state is not None and self._acting == f"{self._state.policy:016x}"

    def _on_state(self, message: String) -> None:
        try:
            state = decode(LearnerState, message.data)
        except InputError:
            # Somebody else's mistake, told by who acts on it.
            return
        with self._changed:
            self._state = state
            self._learned.update(state.recordings)
            self._changed.notify_all()

    def _on_policy(self, message: String) -> None:
        with self._changed:
            self._acting = message.data
            self._changed.notify_all()
