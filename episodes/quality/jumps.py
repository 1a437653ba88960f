"""Discontinuities: steps over which the state changes by far more than it ever does."""

import numpy as np

from episodes.contract import Contract
from episodes.quality.extent import NOTHING, Extent
from episodes.quality.findings import Finding, some
from episodes.quality.rows import Rows
from episodes.quality.sketches import Thinned

FAR = 10.0
"""Times the 99th percentile of an entry's changes that a jump is larger than. Contacts and catching up make tails of
three to five times."""
LEAST_CHANGES = 50
"""Changes of an entry that must be known before any is called unusual."""
KEPT = 2**16
"""Steps that percentiles are taken from."""
TURN = 2 * np.pi
SAME = 0.05
"""A jump is a whole turn, or a change of sign, to within this share."""


class Jumps:
    """Two looks at every episode: `learn` how far entries go in a step, then `add`, which judges."""

    def __init__(self, contract: Contract, extent: Extent) -> None:
        self._extent = extent
        self._names = contract.state_names
        self._periodic = np.array([entry.periodic for entry in contract.state], bool)
        self._quaternions = _quaternions(self._names)
        self._changes = Thinned(KEPT)
        self._usual: np.ndarray | None = None
        self._found: list[Finding] = []
        self._turns: dict[str, int] = {}
        self._signs: dict[str, int] = {}

    def learn(self, rows: Rows) -> None:
        self._changes.add(self._per_period(rows).astype(np.float32))

    @property
    def usual(self) -> np.ndarray:
        """Shape (S,): the 99th percentile of each entry's changes per step, of those that are any; infinite where too
        few are known. To be asked for when all episodes have been learned from."""
        if self._usual is None:
            changes = self._changes.rows
            self._usual = np.full(len(self._names), np.inf)
            for entry, column in enumerate(changes.T if len(changes) else ()):
                moved = column[column > NOTHING * self._extent.state_range[entry]]
                if len(moved) >= LEAST_CHANGES:
                    self._usual[entry] = np.percentile(moved, 99)
        return self._usual

    def add(self, rows: Rows) -> None:
        far = self._per_period(rows) > FAR * self.usual
        if not far.any():
            return
        before, after = rows.state[:-1].astype(np.float64), rows.state[1:].astype(np.float64)
        size = np.abs(after - before)
        within = self._extent.state_range <= (1 + SAME) * TURN
        turns = far & (np.abs(size - TURN) <= SAME * TURN) & within & ~self._periodic
        # One number may happen to jump to minus itself; of a quaternion at least two do so at once.
        signs = far & ~turns & (np.abs(after + before) <= SAME * size)
        signs &= signs.sum(1, keepdims=True) >= 2
        for mask, counts in ((turns, self._turns), (signs, self._signs)):
            for entry in np.flatnonzero(mask.any(0)):
                counts[self._names[entry]] = counts.get(self._names[entry], 0) + int(mask[:, entry].sum())
        self._say(rows, size, far & ~turns & ~signs)

    def findings(self) -> list[Finding]:
        found = list(self._found)
        if self._turns:
            words = f"{some(list(self._turns))} jump by 2 pi: say `periodic: true` of them in a contract"
            found.append(Finding("turns over", words))
        if self._signs:
            words = f"{some(list(self._signs), 4)} change sign from one step to the next: q and -q are one rotation"
            found.append(Finding("changes sign", words))
        return found

    def _say(self, rows: Rows, size: np.ndarray, jump: np.ndarray) -> None:
        if not jump.any():
            return
        relative = np.where(jump, size / self.usual, 0)
        step, entry = np.unravel_index(relative.argmax(), relative.shape)
        names = [self._names[i] for i in np.flatnonzero(jump.any(0))]
        words = (
            f"{some(names)} jump in {int(jump.any(1).sum())} steps; {self._names[entry]} by {size[step, entry]:.3g} "
        )
        words += f"after step {step}, {relative[step, entry]:.0f} times what 99 of 100 changes stay below"
        self._found.append(Finding("jump", words, rows.episode, self._names[entry]))

    def _per_period(self, rows: Rows) -> np.ndarray:
        """Absolute change per entry and step, shape (O - 1, S); over a gap in the stamps it is spread over the gap."""
        state = rows.state.astype(np.float64)
        change = np.diff(state, axis=0)
        change[:, self._periodic] = np.angle(np.exp(1j * change[:, self._periodic]))
        for group in self._quaternions:
            other_way = np.linalg.norm(state[1:, group] + state[:-1, group], axis=1)
            flipped = other_way < np.linalg.norm(change[:, group], axis=1)
            change[np.ix_(flipped, group)] = (state[1:, group] + state[:-1, group])[flipped]
        change = np.abs(change)
        if rows.stamped:
            steps = np.diff(rows.observation_time)
            forward = steps[steps > 0]
            if len(forward):
                change /= np.maximum(np.rint(steps / np.median(forward)), 1)[:, None]
        return change


def _quaternions(names: list[str]) -> list[list[int]]:
    """The places of the four entries `<...quat...>.x` to `.w`, of every quaternion that is named so."""
    place = {name: index for index, name in enumerate(names)}
    prefixes = {name.rpartition(".")[0] for name in names if "quat" in name.lower()}
    groups = [[f"{prefix}.{axis}" for axis in "xyzw"] for prefix in sorted(prefixes)]
    return [[place[name] for name in group] for group in groups if place.keys() >= set(group)]
