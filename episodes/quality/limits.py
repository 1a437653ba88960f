"""Actions and their limits: outside of them, at them, and cut off within them."""

from collections.abc import Iterator

import numpy as np

from episodes.contract import Contract
from episodes.quality.findings import Finding, some
from episodes.quality.rows import Rows
from episodes.quality.runs import runs

AT_LIMIT = 1e-3
"""An action within this share of its range from a limit is at the limit, and one no farther beyond it is inside."""
OFTEN = 0.1
"""Share of a store's steps at a limit from which on that is worth knowing."""
SWITCH = 3
"""An entry with no more different values than this is a switch, such as a gripper: it is always at a limit."""
VISITS = 3
"""Times that an action must come back to the very same largest or smallest value to be cut off there."""
CUT_SHARE = 0.05
"""Share of an episode's steps that must lie there."""
UNLIKE = 3.0
"""How many times the usual share of such steps an episode must have to stand out, the usual one being the median."""


class Limits:
    """What the actions of episodes say about their limits."""

    def __init__(self, contract: Contract) -> None:
        self._names = contract.action_names
        self._low, self._high = contract.action_low.astype(np.float64), contract.action_high.astype(np.float64)
        both = np.isfinite(self._low) & np.isfinite(self._high)
        self._room = np.where(both, AT_LIMIT * np.where(both, self._high - self._low, 0), 0.0)
        self._found: list[Finding] = []
        self._steps = 0
        self._at_limit = np.zeros(len(self._names), np.int64)
        self._values: list[set[float]] = [set() for _ in self._names]
        self._flat: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []
        self._at_end: list[np.ndarray] = []

    def add(self, rows: Rows) -> None:
        action = rows.action
        self._steps += len(action)
        beyond = np.maximum(action - self._high, self._low - action) - np.maximum(self._room, 1e-6)
        if (beyond > 0).any():
            self._say_outside(rows, beyond)
        self._at_limit += ((action <= self._low + self._room) | (action >= self._high - self._room)).sum(0)
        for values, column in zip(self._values, action.T, strict=True):
            if len(values) <= SWITCH:
                values.update(np.unique(column)[: SWITCH + 1].tolist())
        top, bottom = action.max(0), action.min(0)
        self._ends.append(np.stack([bottom, top]))
        self._flat.append(np.stack([_share_cut(action == bottom), _share_cut(action == top)]))
        self._at_end.append(np.stack([(action == bottom).sum(0), (action == top).sum(0)]))

    @property
    def saturation(self) -> dict[str, float]:
        """Share of steps at a limit, per action entry that has one."""
        share = self._at_limit / max(self._steps, 1)
        limited = np.isfinite(self._low) | np.isfinite(self._high)
        return {name: float(share[i]) for i, name in enumerate(self._names) if limited[i]}

    @property
    def switches(self) -> list[str]:
        """Entries with so few values that being at a limit says nothing."""
        return [name for name, values in zip(self._names, self._values, strict=True) if len(values) <= SWITCH]

    def findings(self) -> list[Finding]:
        often = sorted(self._often(), key=lambda item: -item[1])
        found = [*self._found, *self._cut()]
        if often:
            words = some([f"{place} in {share:.0%} of steps" for place, share in often])
            found.append(Finding("saturated", f"{words}: what more would have done is not in the log"))
        return found

    def _often(self) -> Iterator[tuple[str, float]]:
        """Entries that are often at a limit, and how often; where no limit is known, at the end of what there is."""
        known = self.saturation
        for name, share in known.items():
            if share > OFTEN and name not in self.switches:
                yield f"{name} at a limit", share
        if not self._ends:
            return
        level, at_end = np.array(self._ends), np.array(self._at_end)
        for side, words, end in ((0, "smallest", level[:, 0].min(0)), (1, "largest", level[:, 1].max(0))):
            share = np.where(level[:, side] == end, at_end[:, side], 0).sum(0) / self._steps
            for entry in np.flatnonzero(share > OFTEN):
                name = self._names[entry]
                if name not in known and name not in self.switches:
                    yield f"{name} at its {words} value, {end[entry]:.4g},", float(share[entry])

    def _say_outside(self, rows: Rows, beyond: np.ndarray) -> None:
        steps = int((beyond > 0).any(1).sum())
        worst = int(beyond.max(0).argmax())
        value = rows.action[beyond[:, worst].argmax(), worst]
        names = some([self._names[i] for i in np.flatnonzero((beyond > 0).any(0))])
        limits = f"[{self._low[worst]:g}, {self._high[worst]:g}]"
        words = f"{names} outside of the limits in {steps} steps; {self._names[worst]} goes to {value:g} of {limits}"
        self._found.append(Finding("outside limits", words, rows.episode, self._names[worst]))

    def _cut(self) -> list[Finding]:
        """Episodes that come back to one extreme value much more often than the others, which go beyond it.

        What no episode goes beyond is the end of the range: being there is saturation, and told of the store.
        """
        found = []
        if not self._flat:
            return found
        share, level = np.array(self._flat), np.array(self._ends)
        usual, end = np.median(share, axis=0), np.stack([level[:, 0].min(0), level[:, 1].max(0)])
        cut = (share > CUT_SHARE) & (share > UNLIKE * usual) & (np.abs(level - end) > AT_LIMIT * (end[1] - end[0]))
        for episode, side, entry in np.argwhere(cut).tolist():
            name = self._names[entry]
            if name not in self.switches:
                words = f"{name} is at {level[episode, side, entry]:.4g} in {share[episode, side, entry]:.0%} of the "
                words += (
                    f"steps and never {('below', 'above')[side]} it; other episodes go on to {end[side, entry]:.4g}"
                )
                found.append(Finding("clipped", words, episode, name))
        return found


def _share_cut(at_end: np.ndarray) -> np.ndarray:
    """Share of steps at an extreme value, shape (A,); 0 where it was not visited often enough. `at_end`: (T, A)."""
    visits = (runs(at_end) > 0).sum(0)
    return np.where(visits >= VISITS, at_end.mean(0), 0.0)
