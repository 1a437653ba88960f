"""What every number of the action was told last, and what it is told next: inside its limits, or on its way to rest."""

import math
from collections.abc import Sequence
from dataclasses import replace

from robot.intervals import Last, Limits, Reading, Span, admissible, after, rates, rounding, with_braking, with_room


class Commanding:
    """The commands of a robot, one number at a time."""

    def __init__(self, limits: Sequence[Limits]):
        self.limits = tuple(limits)
        self.last = [Last(math.nan, math.nan) for _ in limits]

    def begin(self, readings: Sequence[Reading | None]) -> None:
        """Start from rest: a position where it is measured, a velocity and an effort at 0.

        What is not measured stays as it was told last, and so does an effort that is held: it may carry the arm.
        """
        for index, (limits, reading) in enumerate(zip(self.limits, readings, strict=True)):
            action = self.last[index].action
            if limits.kind == "position":
                action = action if reading is None else limits.action(reading.value)
            elif limits.held == "zero" or math.isnan(action):
                action = 0.0
            self.last[index] = Last(action, action if math.isnan(action) else limits.command(action))

    def admissible(self, readings: Sequence[Reading | None], dt: float, horizon: float) -> list[Span]:
        """What may be commanded now; see `intervals.admissible`."""
        return [
            admissible(limits, last, dt, reading, horizon)
            for limits, last, reading in zip(self.limits, self.last, readings, strict=True)
        ]

    def contradiction(self, spans: Sequence[Span]) -> str:
        """Which limits leave nothing that may be commanded; empty where there is something everywhere."""
        for limits, span in zip(self.limits, spans, strict=True):
            if span.empty:
                return (
                    f"{limits.name}: no command is admissible: {span.low_by} asks for {span.low:.6g} or more, "
                    f"{span.high_by} for {span.high:.6g} or less"
                )
        return ""

    def follow(self, proposal: Sequence[float], spans: Sequence[Span], dt: float) -> str:
        """Command the admissible action that is nearest to a proposal; which limits bound it: empty where none did."""
        bounds = []
        for index, (limits, wanted, span) in enumerate(zip(self.limits, proposal, spans, strict=True)):
            action = min(max(wanted, limits.low), limits.high)
            bound = "" if action == wanted else "low" if wanted < action else "high"
            nearest, by = span.nearest(limits.command(action), self.last[index].command)
            if by:
                action, bound = limits.action(nearest), by
            if bound:
                bounds.append(f"{limits.name}: {bound}")
            self.last[index] = after(limits, self.last[index], action, dt)
        return ", ".join(bounds)

    def brake(self, targets: Sequence[float | None], dt: float) -> None:
        """Command one more step towards rest."""
        self.last = [
            held(limits, last, target, dt) for limits, last, target in zip(self.limits, self.last, targets, strict=True)
        ]

    def stand(self) -> None:
        """Every position has come to where it was sent: its rate is 0."""
        self.last = [replace(last, rate=0.0) if last.rate else last for last in self.last]

    def at_rest(self, targets: Sequence[float | None]) -> bool:
        """Whether braking has nothing left to do."""
        return all(map(at_rest, self.limits, self.last, targets))

    def targets(self, readings: Sequence[Reading | None]) -> list[float | None]:
        """Where positions are to be held: where they are measured, where the contract says so; None where they stop."""
        return [
            min(max(reading.value, limits.floor), limits.ceiling)
            if reading is not None and limits.held == "measured"
            else None
            for limits, reading in zip(self.limits, readings, strict=True)
        ]

    def overrun(self, readings: Sequence[Reading | None], horizon: float) -> str:
        """Which velocity leaves too little room to brake if it goes on for another `horizon` [s]; empty where none."""
        for limits, last, reading in zip(self.limits, self.last, readings, strict=True):
            if limits.kind == "velocity" and reading is not None:
                _, bound = with_room(limits, last, reading, horizon).nearest(last.command, last.command)
                if bound:
                    return f"{limits.name}: {bound}"
        return ""


def held(limits: Limits, last: Last, target: float | None, dt: float) -> Last:
    """The next command of a hold.

    Args:
        target: where a position is to be held; None holds it where it comes to rest.
    """
    command = last.command
    if math.isnan(command):
        return last
    if limits.kind == "position":
        command = _towards(limits, last, target, dt)
    elif limits.held == "zero":
        change = math.inf if limits.acceleration is None else limits.acceleration * dt
        command = max(command - change, 0.0) if command > 0 else min(command + change, 0.0)
    # Dividing by the scale and multiplying again must not make a resting command creep.
    action = last.action if command == last.command else limits.action(command)
    return after(limits, last, action, dt)


def at_rest(limits: Limits, last: Last, target: float | None) -> bool:
    """Whether a hold has nothing left to do."""
    if math.isnan(last.command) or (limits.kind != "position" and limits.held == "last"):
        return True
    if limits.kind != "position":
        return last.command == 0
    return last.rate == 0 and (target is None or abs(target - last.command) <= rounding(target, last.command))


def _towards(limits: Limits, last: Last, target: float | None, dt: float) -> float:
    """The next position on the way to a target: as fast as the limits and stopping there allow."""
    if target is None or abs(target - last.command) <= rounding(target, last.command):
        wanted = 0.0
    elif dt == 0:
        wanted = last.rate
    else:
        distance = target - last.command
        wanted = math.copysign(with_braking(abs(distance), dt, limits.acceleration), distance)
    allowed = rates(limits, last, dt)
    return last.command + min(max(wanted, allowed.low), allowed.high) * dt
