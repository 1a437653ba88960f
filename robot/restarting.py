"""What a set of nodes does when one of them ends: start it again, do without it, or end."""

from collections import deque
from collections.abc import Iterable
from enum import Enum

CRASHING = frozenset({"actor", "recorder", "rewarder"})
"""Started again when they crash: the guardian has stopped the robot by then. Without the guardian, or a simulated
robot, nothing goes on."""
BESIDE = frozenset({"courier", "learner"})
"""The robot works without them, on an older policy: whatever becomes of them ends nothing."""
BAD_INPUT = 2
"""Exit status of a node that was told something that cannot be: it would be told it again."""
MOST_RESTARTS, WINDOW, LONG = 5, 60.0, 600.0
"""Of one node within so long [s]: more often is no accident. The long one is for those beside, which take a while to
fail: whatever they need again and again is taken from the robot."""


def is_robot(nodes: Iterable[str]) -> bool:
    """Whether a set of nodes, by kind, is more than those beside one."""
    return not set(nodes) <= BESIDE


class Fate(Enum):
    AGAIN = "it is started again"
    WITHOUT = "the robot goes on without it"
    OVER = "all are ended"


class Restarts:
    """Decides about one node, and counts.

    Args:
        node: its kind.
        beside: whether there is a robot that works without it, should it be one of those.
    """

    def __init__(self, node: str, *, beside: bool = True):
        self._node, self._beside = node, beside
        self._times: deque[float] = deque(maxlen=MOST_RESTARTS)

    def fate(self, status: int, now: float) -> Fate:
        """Of a node that has ended with an exit status (below 0: killed by that signal), at a time [s]."""
        window = LONG if self._node in BESIDE else WINDOW
        often = len(self._times) == MOST_RESTARTS and now - self._times[0] < window
        if self._node in CRASHING:
            return Fate.AGAIN if status < 0 and not often else Fate.OVER
        if self._node not in BESIDE:
            return Fate.OVER
        if status == BAD_INPUT and not self._times:
            # It has never begun: whoever starts the nodes is still there, and can put it right.
            return Fate.OVER
        if status not in (0, BAD_INPUT) and not often:
            return Fate.AGAIN
        return Fate.WITHOUT if self._beside else Fate.OVER

    def begun_again(self, now: float) -> None:
        self._times.append(now)
