# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled classes have no stubs.)
"""Gaps: how the world that a policy meets differs from the one that its data came from."""

import weakref
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Annotated

import mujoco
import numpy as np
from pydantic import Field

from episodes.errors import InputError
from episodes.typed import STRICT, parse

Factor = Annotated[float, Field(ge=0, le=1e3, allow_inf_nan=False)]
PositiveFactor = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]

PHYSICS = ("gravity", "friction", "mass", "damping")
"""The keys that change a MuJoCo model."""
SIGNALS = ("delay_steps", "gain", "obs_noise")
"""The keys that change what goes in and out of any task, one without such a model, too."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference in dynamics. The default is no difference."""

    __pydantic_config__ = STRICT

    gravity: Factor = 1.0
    """Factor on `opt.gravity`."""
    friction: Factor = 1.0
    """Factor on every geom's (and contact pair's) friction coefficients."""
    mass: PositiveFactor = 1.0
    """Factor on every body's mass and inertia."""
    damping: Factor = 1.0
    """Factor on every degree of freedom's damping."""
    delay_steps: Annotated[int, Field(ge=0, le=1000)] = 0
    """Steps by which an action arrives late; until the first arrives, the task's hold action acts."""
    gain: PositiveFactor = 1.0
    """Factor on the action; where an action is an absolute target, on its distance from what it is a target for."""
    obs_noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Standard deviation of Gaussian noise on every state entry, in the entry's own unit."""

    @classmethod
    def parse(cls, text: str) -> "Gap":
        """From `gravity=2,friction=0.3`; empty is no gap.

        Raises:
            InputError: for an unknown key, a value that does not fit, or a key given twice.
        """
        return parse(cls, parse_settings(text, f"gap {text!r}"), f"gap {text!r}")

    def __str__(self) -> str:
        """What `parse` reads back: only what differs from no gap."""
        return ",".join(f"{name}={getattr(self, name)!r}" for name in self.given)

    @property
    def given(self) -> list[str]:
        """The names of what differs from no gap."""
        return [item.name for item in fields(self) if getattr(self, item.name) != item.default]

    @property
    def has_physics(self) -> bool:
        return any(name in PHYSICS for name in self.given)

    def compose(self, other: "Gap") -> "Gap":
        """Both gaps at once: factors multiply, delays add, independent noises add in quadrature."""
        return Gap(
            gravity=self.gravity * other.gravity,
            friction=self.friction * other.friction,
            mass=self.mass * other.mass,
            damping=self.damping * other.damping,
            delay_steps=self.delay_steps + other.delay_steps,
            gain=self.gain * other.gain,
            obs_noise=float(np.hypot(self.obs_noise, other.obs_noise)),
        )

    def check_keys(self, allowed: Collection[str], where: str) -> None:
        """Raise an InputError if this gap changes something that a task does not have."""
        for name in self.given:
            if name not in allowed:
                raise InputError(f"{where} takes no gap in {name!r}; it takes: {', '.join(sorted(allowed))}")


def parse_settings(text: str, where: str) -> dict[str, str]:
    """`a=1,b=2` as a dictionary.

    Raises:
        InputError: for a part without `=`, or a key given twice.
    """
    settings: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise InputError(f"{where}: expected key=value, got {part!r}")
        if key in settings:
            raise InputError(f"{where}: {key!r} is given twice")
        settings[key] = value
    return settings


_SCALED = {
    "gravity": ("opt.gravity",),
    "friction": ("geom_friction", "pair_friction"),
    "mass": ("body_mass", "body_inertia"),
    "damping": ("dof_damping",),
}

_DERIVED = (
    "body_subtreemass",
    "body_invweight0",
    "dof_invweight0",
    "dof_M0",
    "tendon_invweight0",
    "actuator_acc0",
    "stat.meaninertia",
    "stat.meanmass",
    "stat.meansize",
    "stat.extent",
    "stat.center",
)
"""What `mj_setConst` computes from masses (and, for pictures, from shapes). Put back as it was when a gap goes."""

_nominal: "weakref.WeakKeyDictionary[mujoco.MjModel, dict[str, np.ndarray]]" = weakref.WeakKeyDictionary()
"""What each model was like before its first gap, for as long as the model lives."""


def apply_gap(model: mujoco.MjModel, gap: Gap) -> None:
    """Change a live model's physics to what it was made with, times the gap's factors.

    Always from the values that the model was made with, so that applying twice, or one gap after another, never
    compounds. Without a gap in physics a model is left as it is, or put back.
    """
    if model not in _nominal:
        if not gap.has_physics:
            return
        names = [name for names in _SCALED.values() for name in names]
        _nominal[model] = {name: np.array(_get(model, name)) for name in (*names, *_DERIVED)}
    restore(model)
    for key, names in _SCALED.items():
        for name in names:
            _set(model, name, _nominal[model][name] * getattr(gap, key))
    if gap.mass != 1.0:
        # The solver's scales follow from the masses. The picture's scales do not, and stay.
        mujoco.mj_setConst(model, mujoco.MjData(model))
        for name in ("stat.meansize", "stat.extent", "stat.center"):
            _set(model, name, _nominal[model][name])


def restore(model: mujoco.MjModel) -> None:
    """Put a model's physics back, bit for bit, to what it was before its first gap."""
    for name, value in _nominal.get(model, {}).items():
        _set(model, name, value)


def _get(model: mujoco.MjModel, name: str) -> np.ndarray:
    owner, _, leaf = name.rpartition(".")
    return getattr(getattr(model, owner) if owner else model, leaf)


def _set(model: mujoco.MjModel, name: str, value: np.ndarray) -> None:
    owner, _, leaf = name.rpartition(".")
    target = getattr(model, owner) if owner else model
    if np.ndim(value):
        getattr(target, leaf)[...] = value
    else:
        setattr(target, leaf, float(value))


def as_gap(gap: "Gap | str | None") -> Gap:
    """A gap from itself, from text, or none."""
    if gap is None:
        return Gap()
    return Gap.parse(gap) if isinstance(gap, str) else gap
