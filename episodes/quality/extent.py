"""How far the numbers of a store go."""

import numpy as np

from episodes.contract import Contract
from episodes.quality.rows import Rows

NOTHING = 1e-6
"""Share of an entry's range below which a change is none: float32 resolves hardly less, and in simulation an object
that lies still creeps by less."""


class Extent:
    """The smallest and the largest value of every entry, of all the episodes that were learned from."""

    def __init__(self, contract: Contract) -> None:
        self._state = np.full((2, len(contract.state)), [[np.inf], [-np.inf]])
        self._action = np.full((2, len(contract.action)), [[np.inf], [-np.inf]])
        self.rows = 0
        """Observations."""

    def learn(self, rows: Rows) -> None:
        self.rows += len(rows.state)
        for ends, values in ((self._state, rows.state), (self._action, rows.action)):
            np.minimum(ends[0], values.min(0), out=ends[0])
            np.maximum(ends[1], values.max(0), out=ends[1])

    @property
    def state_range(self) -> np.ndarray:
        """Shape (S,): from the smallest value to the largest."""
        return self._state[1] - self._state[0]

    @property
    def pair_low(self) -> np.ndarray:
        """Shape (S + A,): the smallest values of states and actions."""
        return np.concatenate([self._state[0], self._action[0]])

    @property
    def pair_range(self) -> np.ndarray:
        """Shape (S + A,)."""
        return np.concatenate([self._state[1] - self._state[0], self._action[1] - self._action[0]])
