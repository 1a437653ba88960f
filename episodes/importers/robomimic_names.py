"""What the numbers of a robomimic file are called: state entries with axes and units, and what its environment says."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from episodes.contract import ActionEntry, StateEntry
from episodes.errors import InputError
from episodes.importers.source import safe_name

ENVIRONMENT = ("env_args", "env_info", "env")
"""The attributes of `data/` that say which environment was recorded."""

_AXES = {3: ("x", "y", "z"), 4: ("x", "y", "z", "w")}

_SUFFIXES = (
    # suffix of the key, size that has axes (None: numbered), unit
    ("_joint_pos", None, "rad"),
    ("_joint_vel", None, "rad/s"),
    ("_pos", 3, "m"),
    ("_quat", 4, ""),  # robosuite's observations are xyzw
    ("_vel_lin", 3, "m/s"),
    ("_vel_ang", 3, "rad/s"),
)


def state_entries(key: str, size: int, *, robosuite: bool) -> list[StateEntry]:
    """The entries of one low-dimensional observation: `robot0_eef_pos.x` in metres, `object.0` where nothing is known.

    Units are given for robosuite only, whose observations have the same ones in every task.
    """
    name = safe_name(key)
    for suffix, axes, unit in _SUFFIXES:
        if key.endswith(suffix) and axes in (None, size):
            parts = _AXES[axes] if axes else range(size)
            return [StateEntry(f"{name}.{part}", unit if robosuite else "") for part in parts]
    return [StateEntry(f"{name}.{index}") for index in range(size)]


def action_entries(size: int, environment: Mapping[str, Any]) -> tuple[ActionEntry, ...]:
    """Numbered actions; from -1 to 1 where a robosuite controller scales them from there to its own range."""
    limit = 1.0 if is_robosuite(environment) and not _absolute(environment) else None
    return tuple(ActionEntry(f"action.{i}", low=None if limit is None else -limit, high=limit) for i in range(size))


def read_environment(attributes: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The environment that a file names: robomimic's `env_args`, or robosuite's `env_info` in the same form."""
    for key in ("env_args", "env_info"):
        if key not in attributes:
            continue
        try:
            value = json.loads(attributes[key])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: attribute {key} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise InputError(f"{path}: attribute {key} is {type(value).__name__}, expected a mapping")
        if key == "env_args":
            return value
        return {"env_name": str(attributes.get("env", value.get("env_name", ""))), "type": 1, "env_kwargs": value}
    return {}


def is_robosuite(environment: Mapping[str, Any]) -> bool:
    """Whether the environment is of robomimic's type 1, robosuite."""
    return environment.get("type", environment.get("env_type")) == 1


def environment_name(environment: Mapping[str, Any]) -> str:
    """`Lift` of `Lift` and of `Lift_D0`: variants are the same task."""
    return re.sub(r"_D\d+$", "", str(environment.get("env_name") or ""))


def control_rate(environment: Mapping[str, Any]) -> float | None:
    """Steps per second [Hz], None where the file does not say."""
    rate = _keywords(environment).get("control_freq")
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def shaped(environment: Mapping[str, Any]) -> bool:
    """Whether rewards were shaped, so that a positive one does not mean success."""
    return bool(_keywords(environment).get("reward_shaping", False))


def _keywords(environment: Mapping[str, Any]) -> Mapping[str, Any]:
    keywords = environment.get("env_kwargs")
    return keywords if isinstance(keywords, Mapping) else {}


def _absolute(value: Any) -> bool:
    """Whether a controller takes absolute targets, which it does not scale from -1..1."""
    if isinstance(value, Mapping):
        if value.get("control_delta") is False or value.get("input_type") == "absolute":
            return True
        return any(_absolute(inner) for inner in value.values())
    return isinstance(value, list) and any(_absolute(inner) for inner in value)
