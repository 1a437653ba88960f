"""What the guardian sees beside the actor's step, and what of it is a reason to stop, to pause, or not to begin."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot.contract import RobotContract, state_entries
from robot.frames import Frame
from robot.intervals import Last, Limits, Reading

_ROUNDED = float(np.finfo(np.float32).eps)
"""A state is float32: a robot that stands at its limit may be read this much beyond it, as a part of the value."""


TOLERANCE = 0.005
"""Part of a range by which what is measured may be beyond its limits where motion begins."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the robot and of the people around it."""

    frame: Frame
    """What was measured, as it was known at `now`."""
    force: float | None = None
    """Euclidean norm [N]; None where nothing was heard of it."""
    force_stamp: int = 0
    """[ns]"""
    dead_man: bool = False
    """Whether the switch was held when it was last heard of."""
    dead_man_stamp: int = 0
    """[ns]"""
    stop_pressed: bool = False
    stop_stamp: int = 0
    """When the stop button was last heard of [ns]; 0 where it never was."""
    stop_gone: bool = False
    """Whether nobody publishes the stop button."""
    foreign: tuple[str, ...] = ()
    """Other publishers on command topics, by name."""


class Lookout:
    """Judges the surroundings by a contract. Every judgement is a reason, or empty."""

    def __init__(self, contract: RobotContract, limits: list[Limits]):
        self._safety, self._period, self._limits = contract.safety, contract.period, limits
        self._inputs = contract.observations
        entries = [(number, e) for number, o in enumerate(contract.observations) for e in state_entries(o)]
        self._place = {name: place for place, (_, (name, _, _)) in enumerate(entries)}
        self._input = {name: number for number, (name, _, _) in entries}
        self._periodic = {name for _, (name, _, periodic) in entries if periodic}
        self._measured = [entry.measured for _, entry in contract.action_fields]
        self._needed = list(dict.fromkeys([*(name for name in self._measured if name), *contract.safety.workspace]))

    def danger(self, around: Surroundings, now: int) -> str:
        """Why the robot has to stop, whatever is wanted of it: it is blind, told to stop, or pushes too hard."""
        for name in self._needed:
            if reason := self._unusable(name, around, now):
                return reason
        if reason := self._stop_button(around, now):
            return reason
        if around.foreign and self._safety.foreign_publishers == "stop":
            return f"somebody else publishes commands: {', '.join(around.foreign)}"
        return self._force(around, now)

    def released(self, around: Surroundings, now: int) -> str:
        """Why nobody holds the dead-man switch, where there has to be somebody."""
        switch = self._safety.dead_man
        if switch is None:
            return ""
        if not around.dead_man:
            return "the dead-man switch is not held"
        return self._late(f"the dead-man switch ({switch.topic})", around.dead_man_stamp, switch.max_age, now)

    def outside(self, around: Surroundings) -> str:
        """What has left the place that it has to stay in."""
        for name, (low, high) in self._safety.workspace.items():
            value = self._value(name, around)
            if not low <= value <= high:
                return f"{name} is at {value:.6g}, outside the workspace [{low:g}, {high:g}]"
        for limits, name in zip(self._limits, self._measured, strict=True):
            if limits.kind == "effort" and limits.position is not None and name is not None:
                low, high = limits.position
                value = self._value(name, around)
                if not low <= value <= high:
                    return f"{name} is at {value:.6g}, outside {limits.name}'s position [{low:g}, {high:g}]"
        return ""

    def unfit(self, around: Surroundings) -> str:
        """What is measured where its own limits would not let it be sent."""
        for limits, name in zip(self._limits, self._measured, strict=True):
            if name is None:
                continue
            low, high, kind = limits.floor, limits.ceiling, "low and high"
            if limits.kind != "position":
                low, high = limits.position or (-math.inf, math.inf)
                kind = "position"
            value = self._value(name, around)
            # Where a command may go, a controller may settle a little beyond: it goes on from the limit itself.
            near = max(abs(value) * _ROUNDED, TOLERANCE * (high - low) if math.isfinite(high - low) else 0.0)
            if not low - near <= value <= high + near:
                return f"{name} is at {value:.6g}, outside {limits.name}'s {kind} [{low:g}, {high:g}]"
        return ""

    def readings(self, around: Surroundings, now: int, near: Sequence[Last] | None = None) -> list[Reading | None]:
        """What each entry of the action moves, as it is measured; None where it is not, or not well enough.

        Args:
            near: the last commands; of an angle that turns round, the turn that is nearest to its command is given.
        """
        found: list[Reading | None] = []
        for index, (limits, name) in enumerate(zip(self._limits, self._measured, strict=True)):
            if name is None or self._unusable(name, around, now):
                found.append(None)
                continue
            value = self._value(name, around)
            if near is not None and limits.kind == "position" and name in self._periodic:
                value = _nearest_turn(value, near[index].command)
            found.append(Reading(value, max(now - around.frame.stamps[self._input[name]], 0) / 1e9))
        return found

    def _value(self, name: str, around: Surroundings) -> float:
        return float(around.frame.state[self._place[name]])

    def _unusable(self, name: str, around: Surroundings, now: int) -> str:
        source = self._inputs[self._input[name]]
        if (ahead := around.frame.ahead.get(source.topic, 0)) > self._period:
            return _ahead(source.topic, ahead)
        if source.topic in around.frame.missing:
            return f"{source.topic}: nothing was heard"
        if not math.isfinite(self._value(name, around)):
            return f"{source.topic}: {name} is {self._value(name, around)}, which is no number"
        # Reckoned anew: a frame that somebody forgot to renew says that it is fresh.
        if late := self._late(source.topic, around.frame.stamps[self._input[name]], source.max_age, now):
            return late
        return f"{source.topic}: too old" if source.topic in around.frame.stale else ""

    def _stop_button(self, around: Surroundings, now: int) -> str:
        topic, max_age = self._safety.stop_topic, self._safety.stop_max_age
        if around.stop_pressed:
            return "the stop button is pressed"
        if topic is not None and not around.stop_stamp:
            return f"{topic}: nothing was heard of the stop button"
        if topic is not None and around.stop_gone:
            return f"{topic}: nobody publishes the stop button any more"
        if topic is not None and max_age is not None:
            return self._late(f"the stop button ({topic})", around.stop_stamp, max_age, now)
        return ""

    def _force(self, around: Surroundings, now: int) -> str:
        sensor = self._safety.force
        if sensor is None:
            return ""
        if around.force is None:
            return f"{sensor.topic}: nothing was heard of the force"
        # Not "above the limit": what is no number is not below it.
        if not around.force <= sensor.limit:
            return f"the force is {around.force:.4g} N, the limit {sensor.limit:g} N"
        return self._late(f"the force ({sensor.topic})", around.force_stamp, sensor.max_age, now)

    def _late(self, what: str, stamp: int, max_age: float, now: int) -> str:
        age = now - stamp
        if age > max_age * 1e9:
            return f"{what}: {age / 1e6:.0f} ms old, expected at most {1000 * max_age:g} ms"
        if age < -self._period:
            return _ahead(what, -age)
        return ""


def _ahead(what: str, early: int) -> str:
    return f"{what}: stamped {early / 1e6:.0f} ms after now: the clocks differ"


def _nearest_turn(angle: float, command: float) -> float:
    if math.isnan(command) or abs(angle - command) <= math.pi:
        return angle
    return command + math.remainder(angle - command, 2 * math.pi)
