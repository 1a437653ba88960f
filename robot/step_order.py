"""Whether a step of the actor is one that can follow the one before: whole, in time, and from one actor alone."""

import math
from collections import deque
from collections.abc import Sequence

from robot.reports import ActorStep

_WINDOW = 10
"""Periods over which the rate of steps is judged."""
_FASTEST = 0.7
"""Of that time: ten steps within less do not come from one actor. One that is late by almost a period needs 0.8."""


class StepOrder:
    """Remembers the steps since motion was enabled.

    Args:
        names: of the action's numbers.
        period: of a step [ns].
        max_age: of a tick [ns].
    """

    def __init__(self, names: Sequence[str], period: int, max_age: int):
        self._names, self._period, self._max_age = names, period, max_age
        self.clear()

    def clear(self) -> None:
        """Any actor may come next."""
        self._last: ActorStep | None = None
        self._left = ""
        self._ticks: deque[int] = deque(maxlen=_WINDOW + 1)

    def fault(self, step: ActorStep, now: int) -> str:
        """Take a step at a time [ns]; why it cannot be followed, or empty."""
        found = self._nonsense(step) or self._disorder(step) or self._lateness(step, now)
        if self._last is not None and step.episode != self._last.episode and self._last.episode:
            self._left = self._last.episode
        self._last = step
        return found

    def _nonsense(self, step: ActorStep) -> str:
        if step.action is None:
            return ""
        if len(step.action) != len(self._names):
            return f"a step of {len(step.action)} numbers, expected {len(self._names)}: {', '.join(self._names)}"
        for name, value in zip(self._names, step.action, strict=True):
            if not math.isfinite(value):
                return f"{name}: {value} is not finite"
        return ""

    def _disorder(self, step: ActorStep) -> str:
        last = self._last
        if last is not None:
            both = f"{_named(step)} after {_named(last)}"
            # An episode may begin on what the actor has looked at before, and held still; it may say that again, too.
            begins = step.episode != last.episode
            repeats = not step.episode and step.action is None
            again = step.tick == last.tick and last.action is None and (begins or repeats)
            if step.tick <= last.tick and not again:
                return f"{both}: the actor's clock went back, or there are two actors"
            acting = step.action is not None and last.action is not None
            changed = bool(last.episode and step.episode) and last.episode != step.episode
            if changed and acting and step.tick - last.tick < self._period:
                return f"{both} without a pause: there are two actors"
            if step.episode and step.episode == self._left:
                return f"{both}, an episode that was over: there are two actors"
        if step.action is None:
            return ""
        self._ticks.append(step.tick)
        if len(self._ticks) > _WINDOW and step.tick - self._ticks[0] < _FASTEST * _WINDOW * self._period:
            took = (step.tick - self._ticks[0]) / 1e6
            return (
                f"{_WINDOW} steps in {took:.0f} ms, and one is {self._period / 1e6:g} ms: "
                "there are two actors, or one that is too fast"
            )
        return ""

    def _lateness(self, step: ActorStep, now: int) -> str:
        age = now - step.tick
        if age > self._max_age:
            return f"stale step, {age / 1e6:.0f} ms old, expected at most {self._max_age / 1e6:g} ms"
        if age < -self._period:
            return f"a step {-age / 1e6:.0f} ms after now: the actor's clock differs"
        return ""


def _named(step: ActorStep) -> str:
    where = f"of episode {step.episode!r}" if step.episode else "between episodes"
    return f"the step at {step.tick} ns {where}"
