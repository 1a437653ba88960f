"""Label sets: named values per step beside the raw data, with where they came from and what they cover."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from episodes.errors import InputError

LOGGED = "logged"
"""The name of the labels that the source itself recorded; always there, never written."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Values per step for the episodes that are covered; immutable once it is in a store."""

    name: str
    values: dict[str, np.ndarray]
    """Per name (`reward`, `success`, `terminated`, `cost`, ...): shape (N,), float32; NaN where there is no label."""
    covered: np.ndarray
    """Shape (E,), bool: the episodes that can be learned from with these labels."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was made: method, model, date, agreement, ..."""

    def extended(self, episodes: int, steps: int) -> "LabelSet":
        """The same labels for a store that has grown: what came later is not covered."""
        covered = np.zeros(episodes, bool)
        covered[: len(self.covered)] = self.covered
        values = {}
        for name, labelled in self.values.items():
            values[name] = np.full(steps, np.nan, np.float32)
            values[name][: len(labelled)] = labelled
        return LabelSet(self.name, values, covered, self.provenance)


def check_label_name(name: str) -> None:
    """Raise InputError unless the name can be a new label set's."""
    if name == LOGGED:
        raise InputError(f"label set {LOGGED!r} is what the source itself recorded; choose another name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name == "zarr.json":
        raise InputError(f"label set name {name!r}: letters, digits, '_', '.' and '-' only, a letter or digit first")
