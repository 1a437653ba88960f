"""Constraints: what a robot must never do, as one number h(s) of named state entries.

h(s) > 0 is a violation and h(s) <= 0 is none, the sign of Zheng et al. (FISOR, 2024). Every constraint has an *excess*
in its own unit, positive where it is violated, and becomes a part of h in one of two forms:

- binary, as published: `violation` where violated, -1 where not;
- signed, where the constraint says how far off is `near`: it falls from 0 to -1 over that distance and stays there, and
  rises from 0 to `violation` over the same distance beyond the limit.

h is the largest part. A violation weighs more than safety does because a discounted backup lets a violation in the far
future shrink: with 25 against -1 and a discount of 0.99 it keeps its sign for 300 steps, with 1 against -1 for 69.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from episodes.errors import InputError, unknown
from episodes.typed import STRICT, parse, read_yaml

Positive = Annotated[float, Field(gt=0)]
Interval = tuple[float, float]
Read = Callable[[str], np.ndarray]
"""A state entry's values by its name: shape (N,), float64."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One state entry between two numbers: a joint's range, a height, the speed of one joint, the force of one axis."""

    __pydantic_config__ = STRICT

    entry: str
    low: float | None = None
    high: float | None = None
    near: Positive | None = None

    def excess(self, read: Read) -> np.ndarray:
        value = read(self.entry)
        below = np.full_like(value, -np.inf) if self.low is None else self.low - value
        above = np.full_like(value, -np.inf) if self.high is None else value - self.high
        return np.maximum(below, above)

    def check(self, where: str) -> None:
        if self.low is None and self.high is None:
            raise InputError(f"{where}: expected low, high or both; without them nothing is limited")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise InputError(f"{where}: low {self.low:g} is not below high {self.high:g}")


@dataclass(frozen=True, slots=True)
class Length:
    """The Euclidean length of some state entries, at most: a hand's speed, a contact's force."""

    __pydantic_config__ = STRICT

    entries: Annotated[tuple[str, ...], Field(min_length=1)]
    most: Positive
    near: Positive | None = None

    def excess(self, read: Read) -> np.ndarray:
        return np.linalg.norm([read(entry) for entry in self.entries], axis=0) - self.most

    def check(self, where: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Workspace:
    """A box that a point must stay inside of: an interval per state entry."""

    __pydantic_config__ = STRICT

    box: Annotated[dict[str, Interval], Field(min_length=1)]
    near: Positive | None = None

    def excess(self, read: Read) -> np.ndarray:
        return np.max([_outside(read(entry), interval) for entry, interval in self.box.items()], axis=0)

    def check(self, where: str) -> None:
        _check_box(self.box, where)


@dataclass(frozen=True, slots=True)
class KeepOut:
    """A volume that a point must stay outside of: a ball (in the plane a disc) around a centre, or a box."""

    __pydantic_config__ = STRICT

    center: dict[str, float] = field(default_factory=dict)
    radius: Positive | None = None
    box: dict[str, Interval] = field(default_factory=dict)
    near: Positive | None = None

    def excess(self, read: Read) -> np.ndarray:
        """How deep inside; outside, minus the Euclidean distance."""
        if self.radius is not None:
            away = np.linalg.norm([read(entry) - middle for entry, middle in self.center.items()], axis=0)
            return self.radius - away
        outside = np.array([_outside(read(entry), interval) for entry, interval in self.box.items()])
        deepest = outside.max(0)
        return np.where(deepest < 0, -deepest, -np.linalg.norm(np.maximum(outside, 0), axis=0))

    def check(self, where: str) -> None:
        if bool(self.box) == bool(self.center) or bool(self.center) != (self.radius is not None):
            raise InputError(f"{where}: expected a box, or a center and a radius")
        _check_box(self.box, where)


@dataclass(frozen=True, slots=True)
class Tilt:
    """The angle between a body's own up and the world's, at most [rad]: what tips over beyond it."""

    __pydantic_config__ = STRICT

    most: Positive
    roll_pitch: tuple[str, str] | None = None
    """State entries [rad]."""
    quaternion: tuple[str, str, str, str] | None = None
    """State entries x, y, z, w."""
    near: Positive | None = None

    def excess(self, read: Read) -> np.ndarray:
        if self.roll_pitch is not None:
            roll, pitch = (read(entry) for entry in self.roll_pitch)
            cosine = np.cos(roll) * np.cos(pitch)
        else:
            x, y, z, w = (read(entry) for entry in self.quaternion or ())
            # Logged quaternions are rounded, and seldom of length one.
            cosine = 1 - 2 * (x * x + y * y) / np.maximum(x * x + y * y + z * z + w * w, 1e-12)
        return np.arccos(np.clip(cosine, -1, 1)) - self.most

    def check(self, where: str) -> None:
        if (self.roll_pitch is None) == (self.quaternion is None):
            raise InputError(f"{where}: expected roll_pitch or quaternion, one of them")


Constraint = Limit | Length | Workspace | KeepOut | Tilt


@dataclass(frozen=True, slots=True)
class Constraints:
    """Named constraints by kind; together they are h(s)."""

    __pydantic_config__ = STRICT

    limits: dict[str, Limit] = field(default_factory=dict)
    lengths: dict[str, Length] = field(default_factory=dict)
    workspaces: dict[str, Workspace] = field(default_factory=dict)
    keep_out: dict[str, KeepOut] = field(default_factory=dict)
    tilts: dict[str, Tilt] = field(default_factory=dict)
    logged: bool = False
    """Whether the cost that the source recorded counts, too: a step is violated where it is above 0."""
    violation: Annotated[float, Field(ge=1)] = 25.0
    """What h is where a constraint is fully violated (`cost_scale` of the published code); -1 is fully safe."""

    @property
    def named(self) -> dict[str, Constraint]:
        """Every constraint on the state by its name."""
        found: dict[str, Constraint] = {}
        for item in fields(self):
            group = getattr(self, item.name)
            if isinstance(group, dict):
                found |= group
        return found

    def check(self, where: str) -> "Constraints":
        """Return self if every constraint says something, and says it once.

        Raises:
            InputError: saying which does not.
        """
        groups = [(item.name, getattr(self, item.name)) for item in fields(self)]
        names = [name for _, group in groups if isinstance(group, dict) for name in group]
        if not names and not self.logged:
            raise InputError(f"{where}: no constraint; known kinds: {', '.join(KINDS)}, or logged: true")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or (self.logged and LOGGED_COST in names):
            raise InputError(f"{where}: two constraints are called {(twice or [LOGGED_COST])[0]!r}")
        for kind, group in groups:
            if isinstance(group, dict):
                for name, constraint in group.items():
                    constraint.check(f"{where}: {kind}.{name}")
        return self

    def excess(self, state: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Per constraint on the state, by how much each of N states, shape (N, S), exceeds it, in its own unit.

        Args:
            names: of the S state entries.

        Raises:
            InputError: for a state entry that is not there, with the nearest one.
        """
        columns = {name: np.asarray(state[:, i], np.float64) for i, name in enumerate(names)}

        def reader(constraint: str) -> Read:
            def read(entry: str) -> np.ndarray:
                if entry not in columns:
                    raise unknown("state entry", entry, names, f"constraint {constraint!r}")
                return columns[entry]

            return read

        return {name: constraint.excess(reader(name)) for name, constraint in self.named.items()}

    def part(self, name: str, excess: np.ndarray) -> np.ndarray:
        """What a constraint's excess is worth in h: see the module."""
        near = self.named[name].near
        if near is None:
            return np.where(excess > 0, self.violation, -1.0)
        return np.where(excess > 0, self.violation, 1.0) * np.clip(excess / near, -1, 1)

    def h(self, state: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """h(s) of N states, shape (N, S): float64, shape (N,). What the source recorded is no part of it."""
        parts = [self.part(name, excess) for name, excess in self.excess(state, names).items()]
        return np.max(parts, axis=0) if parts else np.full(len(state), -1.0)


LOGGED_COST = "logged cost"
"""What the source's own cost is called among constraints."""
KINDS = ("limits", "lengths", "workspaces", "keep_out", "tilts")


def constraints_from(mapping: dict[str, Any], where: str) -> Constraints:
    """Checked constraints from a mapping (YAML or JSON)."""
    return parse(Constraints, mapping, where).check(where)


def read_constraints(path: Path) -> Constraints:
    """Checked constraints from a YAML file."""
    return constraints_from(read_yaml(path), str(path))


def _outside(value: np.ndarray, interval: Interval) -> np.ndarray:
    return np.maximum(interval[0] - value, value - interval[1])


def _check_box(box: dict[str, Interval], where: str) -> None:
    for entry, (low, high) in box.items():
        if not low < high:
            raise InputError(f"{where}: box.{entry}: {low:g} is not below {high:g}")
