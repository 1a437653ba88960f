"""Which commands may go out: per number of the action, the intervals that its limits leave, and what they share.

Everything is in the unit of what is sent. The last command is c0, it was reached at the rate r0, dt has passed since.

A *position* command c has the rate r = (c - c0) / dt. Beside low <= c <= high, |r| <= v and |r - r0| <= a dt it has to
leave room to brake; for r > 0, and towards `low` likewise:

    r dt + r^2 / (2 a) <= high - c0                                                                              (1)

That is enough for every later dt, even or not. Let dt1 pass until the next command, and let it brake as hard as it may,
r1 = max(r - a dt1, 0). If r1 = 0, nothing moves any more. Else r = r1 + a dt1, so that

    r^2 / (2 a)  =  r1 dt1 + r1^2 / (2 a) + a dt1^2 / 2  >=  r1 dt1 + r1^2 / (2 a),

and as (1) left r^2 / (2 a) <= high - c, it is true of r1 and c again. So the hardest braking is always inside all of
these limits: only a leash can leave nothing.

A *velocity* command c is held until the next one comes, at most a horizon h later. What it moves was measured at q, an
age ago, and has moved on with c0 since. For c > 0, and downwards likewise:

    q + max(c0, 0) age + c h + c^2 / (2 a) <= the upper end of `position`                                        (2)

Braking from c at intervals of at most h needs no more than c h + c^2 / (2 a): while a braking line falls by d, a
velocity that is held meanwhile moves by at most d h / 2 more than the line does, and in the last interval by at most
what is left of c times h. And (2) is true of the hardest braking c1 = c - a dt1 again, if what is moved moves as it is
told and dt1 <= h: of c h + c^2 / (2 a), c dt1 is used and c1 h + c1^2 / (2 a) is needed, and a dt1 (h - dt1 / 2) is
left over. Without an acceleration limit it stops at once, and the squares fall away.
"""

import math
from dataclasses import dataclass

from robot.contract import Command, CommandField, Interval, RobotContract


@dataclass(frozen=True, slots=True)
class Limits:
    """What one number of the action has to keep to."""

    name: str
    kind: str
    """Of the command: `position`, `velocity` or `effort`."""
    held: str
    """What is sent to hold still: `last`, `measured` or `zero`."""
    low: float
    """Of the action, in the action's unit."""
    high: float
    scale: float
    """What is sent is the action times this."""
    floor: float
    """Of what is sent, as everything below."""
    ceiling: float
    velocity: float | None
    acceleration: float | None
    position: Interval | None
    leash: float | None

    def command(self, action: float) -> float:
        """What is sent for an action; between `floor` and `ceiling` whatever is rounded."""
        return min(max(action * self.scale, self.floor), self.ceiling)

    def action(self, command: float) -> float:
        return min(max(command / self.scale, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Last:
    """What an entry was told last."""

    action: float
    command: float
    """NaN where nothing is known of it."""
    rate: float = 0.0
    """At which it came there [1/s]; of a position command that has an acceleration limit, else 0."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is measured of what an entry moves."""

    value: float
    age: float
    """[s]"""


@dataclass(slots=True)
class Span:
    """An interval, and which limit each of its ends is from."""

    low: float = -math.inf
    high: float = math.inf
    low_by: str = ""
    high_by: str = ""
    near: float = 0.0
    """Ends that cross by this much do so by rounding."""

    def narrow(self, low: float, high: float, low_by: str, high_by: str = "") -> None:
        """Leave what is also between `low` and `high`."""
        if low > self.low:
            self.low, self.low_by = low, low_by
        if high < self.high:
            self.high, self.high_by = high, high_by or low_by

    @property
    def empty(self) -> bool:
        return self.low > self.high + self.near

    def nearest(self, value: float, last: float) -> tuple[float, str]:
        """The value inside that is nearest to another, and which limit bound it: none where it is inside itself.

        Args:
            last: the command that the interval was reckoned from: what is outside only by its rounding is inside.
        """
        near = rounding(value, 0.0 if math.isnan(last) else last)
        if value < self.low - near:
            return self.low, self.low_by
        if value > self.high + near:
            return self.high, self.high_by
        return value, ""


def limits_of(contract: RobotContract) -> list[Limits]:
    """The limits of every number of the action, in order."""
    return [_limits(command, entry) for command, entry in contract.action_fields]


def admissible(limits: Limits, last: Last, dt: float, reading: Reading | None, horizon: float) -> Span:
    """The commands that may go out now.

    Args:
        dt: since the last command [s]; 0 admits what can be had in no time.
        reading: of what this moves, where it is measured.
        horizon: longest time until somebody can command something else [s].
    """
    found = Span(limits.floor, limits.ceiling, "low", "high", rounding(limits.floor, limits.ceiling))
    known = not math.isnan(last.command)
    if limits.kind == "position":
        if known and not (limits.velocity is None and limits.acceleration is None):
            rate = rates(limits, last, dt)
            found.narrow(last.command + rate.low * dt, last.command + rate.high * dt, rate.low_by, rate.high_by)
        if limits.leash is not None and reading is not None:
            found.narrow(reading.value - limits.leash, reading.value + limits.leash, "leash")
        return found
    if known and limits.acceleration is not None:
        change = limits.acceleration * dt
        found.narrow(last.command - change, last.command + change, "acceleration")
    if limits.kind == "velocity" and reading is not None:
        room = with_room(limits, last, reading, horizon)
        found.narrow(room.low, room.high, "position")
    return found


def rates(limits: Limits, last: Last, dt: float) -> Span:
    """The rates that a position command may have, (1) included. Never empty: the hardest braking is among them."""
    found = Span()
    if limits.velocity is not None:
        found.narrow(-limits.velocity, limits.velocity, "velocity")
    if limits.acceleration is not None:
        slowest, fastest = last.rate - limits.acceleration * dt, last.rate + limits.acceleration * dt
        found.narrow(slowest, fastest, "acceleration")
        down = with_braking(last.command - limits.floor, dt, limits.acceleration)
        up = with_braking(limits.ceiling - last.command, dt, limits.acceleration)
        # Only rounding makes this ask for harder braking than there is.
        found.narrow(min(-down, fastest), max(up, slowest), "low", "high")
    return found


def with_room(limits: Limits, last: Last, reading: Reading, horizon: float) -> Span:
    """The velocities that leave room to brake inside `position`, (2). Outside already, none that leads further out."""
    found = Span()
    if limits.position is not None:
        low, high = limits.position
        above = high - reading.value - max(last.command, 0.0) * reading.age
        below = reading.value - max(-last.command, 0.0) * reading.age - low
        up = with_braking(above, horizon, limits.acceleration)
        down = with_braking(below, horizon, limits.acceleration)
        found.narrow(-down, up, "position")
    return found


def after(limits: Limits, last: Last, action: float, dt: float) -> Last:
    """What is known of an entry when an action has been sent for it."""
    command = limits.command(action)
    if limits.kind != "position" or limits.acceleration is None or math.isnan(last.command):
        return Last(action, command)
    if dt == 0:
        return Last(action, command, last.rate)
    if command == last.command:
        return Last(action, command)
    # In a very short dt the rounding of a command is a rate of its own.
    allowed = rates(limits, last, dt)
    return Last(action, command, min(max((command - last.command) / dt, allowed.low), allowed.high))


def with_braking(room: float, time: float, acceleration: float | None) -> float:
    """The largest r with r time + r^2 / (2 acceleration) <= room; 0 where there is no room."""
    if room <= 0:
        return 0.0
    # Farther than any robot goes; of more, squares and sums overflow, and what is no number bounds nothing.
    room = min(room, 1e100)
    divisor = time if acceleration is None else (time + math.sqrt(time * time + 2 * room / acceleration)) / 2
    return room / divisor if divisor > 0 else 0.0


def rounding(*values: float) -> float:
    """How far sums of such numbers may be off."""
    return 8 * math.ulp(max(map(abs, values)))


def _limits(command: Command, entry: CommandField) -> Limits:
    return Limits(
        name=entry.name,
        kind=command.kind,
        held=command.held,
        low=entry.low,
        high=entry.high,
        scale=entry.scale,
        floor=-_largest(-entry.low, entry.scale),
        ceiling=_largest(entry.high, entry.scale),
        velocity=entry.velocity,
        acceleration=entry.acceleration,
        position=entry.position,
        leash=entry.leash,
    )


def _largest(high: float, scale: float) -> float:
    """The largest command that is `high` at most when it is divided by the scale again."""
    command = high * scale
    while command / scale > high:
        command = math.nextafter(command, -math.inf)
    return command
