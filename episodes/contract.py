"""The contract: what one step of a robot consists of."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter

from episodes.errors import InputError
from episodes.typed import STRICT, parse, plain, read_yaml

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One number of the flat state vector."""

    __pydantic_config__ = STRICT

    name: Name
    unit: str = ""
    """SI unit, or empty where the source does not say."""
    periodic: bool = False
    """An angle [rad] that turns all the way round: 0 and 2 pi are the same. A policy sees its sine and cosine."""


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """One number of the action, as it is sent."""

    __pydantic_config__ = STRICT

    name: Name
    unit: str = ""
    low: float | None = None
    """Smallest value that may be sent, in `unit`; None where unknown."""
    high: float | None = None
    reference: str | None = None
    """State entry that this action is an absolute target for, so that it can also be expressed relative to it."""


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera, at the size that is stored and trained on."""

    __pydantic_config__ = STRICT

    name: Name
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Contract:
    """What one step of this robot consists of: state entries, cameras and action entries, in order, at a rate."""

    __pydantic_config__ = STRICT

    name: str
    state: tuple[StateEntry, ...]
    action: tuple[ActionEntry, ...]
    cameras: tuple[Camera, ...] = ()
    rate: Annotated[float, Field(gt=0)] | None = None
    """Steps per second [Hz]; None where the source does not say."""

    @property
    def state_names(self) -> list[str]:
        return [entry.name for entry in self.state]

    @property
    def action_names(self) -> list[str]:
        return [entry.name for entry in self.action]

    @property
    def camera_names(self) -> list[str]:
        return [camera.name for camera in self.cameras]

    @property
    def action_low(self) -> np.ndarray:
        """Shape (A,), minus infinity where there is no limit."""
        return np.array([-np.inf if e.low is None else e.low for e in self.action], np.float32)

    @property
    def action_high(self) -> np.ndarray:
        """Shape (A,), infinity where there is no limit."""
        return np.array([np.inf if e.high is None else e.high for e in self.action], np.float32)

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the contract in canonical JSON.

        What is left at its default is left out, so that a new optional key does not rename every contract there is.
        """
        said = TypeAdapter(Contract).dump_python(self, mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def check(self) -> "Contract":
        """Return self if names are unique, limits ordered and references known.

        Raises:
            InputError: saying which entry is wrong.
        """
        for kind, names in (("state", self.state_names), ("action", self.action_names), ("camera", self.camera_names)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InputError(f"contract {self.name!r}: {kind} entry {twice[0]!r} is listed twice")
        if not self.state and not self.cameras:
            raise InputError(f"contract {self.name!r}: neither state entries nor cameras, nothing can be observed")
        if not self.action:
            raise InputError(f"contract {self.name!r}: no action entries")
        for entry in self.action:
            if entry.low is not None and entry.high is not None and not entry.low < entry.high:
                raise InputError(
                    f"contract {self.name!r}: action {entry.name!r}: low {entry.low} is not below high {entry.high}"
                )
            if entry.reference is not None and entry.reference not in self.state_names:
                raise InputError(
                    f"contract {self.name!r}: action {entry.name!r}: reference {entry.reference!r} is no state entry"
                )
        return self

    def layout_difference(self, other: "Contract") -> str | None:
        """The first way in which two contracts' steps cannot share a store, in words; None where they can.

        Limits may differ: they do not change what the numbers mean. A rate does, because displacements are per step;
        and names do, because two robots' entries may be called the same.
        """
        for kind, mine, theirs in (
            ("state", _named(self.state), _named(other.state)),
            ("action", _named(self.action), _named(other.action)),
            ("camera", [plain(c) for c in self.cameras], [plain(c) for c in other.cameras]),
        ):
            if len(mine) != len(theirs):
                return f"{kind} size {len(mine)} against {len(theirs)}"
            for index, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                if a != b:
                    return f"{kind} entry {index} is {a} against {b}"
        for what, own, others in (("name", self.name, other.name), ("rate", self.rate, other.rate)):
            if own != others:
                return f"{what} {own!r} against {others!r}"
        return None


def contract_from(mapping: dict, where: str) -> Contract:
    """A checked contract from a mapping (YAML or JSON)."""
    return parse(Contract, mapping, where).check()


def read_contract(path: Path) -> Contract:
    """A checked contract from a YAML file."""
    return contract_from(read_yaml(path), str(path))


def _named(entries: tuple[StateEntry, ...] | tuple[ActionEntry, ...]) -> list[tuple[str, str]]:
    return [(entry.name, entry.unit) for entry in entries]
