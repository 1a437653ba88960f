"""What a set of nodes does when one of them ends: start it again, do without it, or end."""

from collections import deque
from enum import Enum

CRASHING = frozenset({"actor", "recorder", "rewarder"})
"""Started again when they crash: the guardian has stopped the robot by then. Without the guardian, or a simulated
robot, nothing goes on."""
BESIDE = frozenset({"courier", "learner"})
"""The robot works without them, on an older policy: whatever becomes of them ends nothing."""
BAD_INPUT = 2
"""Exit status of a node that was told something that cannot be: it would be told it again."""
MOST_RESTARTS, WINDOW = 5, 60.0
"""Of one node within so long [s]: more often is no accident."""


class Fate(Enum):
    AGAIN = "it is started again"
    WITHOUT = "the robot goes on without it"
    OVER = "all are ended"


class Restarts:
    """Decides about one node, and counts."""

    def __init__(self, node: str):
        self._node = node
        self._times: deque[float] = deque(maxlen=MOST_RESTARTS)

    def fate(self, status: int, now: float) -> Fate:
        """Of a node that has ended with an exit status (below 0: killed by that signal), at a time [s]."""
        often = len(self._times) == MOST_RESTARTS and now - self._times[0] < WINDOW
        if self._node in CRASHING:
            return Fate.AGAIN if status < 0 and not often else Fate.OVER
        if self._node not in BESIDE:
            return Fate.OVER
        if status == BAD_INPUT and not self._times:
            # It has never begun: whoever starts the nodes is still there, and can put it right.
            return Fate.OVER
        return Fate.AGAIN if status not in (0, BAD_INPUT) and not often else Fate.WITHOUT

    def begun_again(self, now: float) -> None:
        self._times.append(now)
