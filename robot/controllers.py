"""What stands between a command topic and a robot: a controller with the manners of those in ros2_control."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from robot.contract import Command
from robot.messages import path_of


@dataclass
class Counts:
    """What came in."""

    taken: int = 0
    not_finite: int = 0
    """Dropped."""
    wrong_size: int = 0
    """A forward controller deactivates itself then."""
    outside: int = 0
    """Beyond the robot's own limits."""
    largest_excess: float = 0.0
    """Farthest beyond a limit that a command was, as a part of the limits' width."""


class Controller:
    """Holds the last command of one topic, and knows what the robot does when no other comes."""

    def __init__(self, command: Command, low: np.ndarray, high: np.ndarray):
        """`low` and `high`: the robot's own limits of what is sent, shape (n,); they need not be the contract's."""
        self.command = command
        self.active = True
        self.counts = Counts()
        self._low, self._high = low, high
        self._paths = [path_of(field.path) for field in command.fields]
        self._values: np.ndarray | None = None
        self._since = self._published = self._expected = 0
        self.fresh = False
        """Whether a command came that `expect` has asked for."""

    def expect(self, since: int = 0) -> None:
        """From now on a command counts as new; where `since` is given only one that was published after it.

        Such a one may be there already.
        """
        self.fresh = self.fresh and 0 < since < self._published
        self._expected = since

    def reset(self) -> None:
        """Forget the last command, and work again."""
        self._values, self.active, self.fresh = None, True, False

    def receive(self, message: Any, now: int, published: int = 0) -> None:
        """Take a command at a time [ns], and when it was published [ns of the computer's clock]."""
        values = self._numbers(message)
        if values is None:
            self.counts.wrong_size += 1
            self.active = False
            return
        if not np.isfinite(values).all():
            self.counts.not_finite += 1
            return
        beyond = np.maximum(self._low - values, values - self._high)
        if (beyond > 0).any():
            self.counts.outside += 1
            # Where one end is infinite a number has no width, and where both are it is never beyond.
            width = np.where(np.isfinite(self._high - self._low), self._high - self._low, 1.0)
            self.counts.largest_excess = max(self.counts.largest_excess, float((beyond / width).max()))
        self.counts.taken += 1
        self._values, self._since = np.clip(values, self._low, self._high), now
        # Topics overtake each other: what comes after the news of an episode may be from before it.
        self.fresh = not self._expected or published > self._expected
        self._published = published

    def acting(self, now: int) -> np.ndarray | None:
        """What moves the robot at a time [ns], shape (n,); None where it stands still by itself."""
        if self._values is None or not self.active:
            return None
        how = self.command.on_silence
        if how == "stops" and now - self._since > round((self.command.silence or 0) * 1e9):
            return None
        if how == "holds_position" and self.command.kind != "position" and not self.fresh:
            return None
        return self._values

    def _numbers(self, message: Any) -> np.ndarray | None:
        """What a message commands, shape (n,); None where it has not as many numbers as that."""
        data = getattr(message, "data", None)
        listed = self._paths[0].text != "data"
        if data is not None and listed and len(data) != len(self._paths):
            return None
        try:
            return np.array([float(path.get(message)) for path in self._paths])
        except (LookupError, TypeError):
            return None
