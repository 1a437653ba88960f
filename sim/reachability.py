"""The point robot's true feasible set: from where, and by which actions, every disc can still be avoided for ever.

The undiscounted safety value V(s) = max(h(s), min_a V(f(s, a))) on a grid over (x, vx, y, vy), by iterating it from
V = h until nothing changes. V(s) <= 0 is feasible. x and y meet in the discs and in the goal, and nowhere else: their
dynamics are independent of each other, so that one backup is a product with a sparse matrix per axis.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from sim.point_robot import ARENA, CONSTRAINTS, GOAL, GOAL_RADIUS, MAX_ACCELERATION, MAX_SPEED, move

NAMES = ("x", "y", "vx", "vy")
CONVERGED = 1e-6
MOST_SWEEPS = 1000


@dataclass(frozen=True)
class FeasibleSet:
    """The safety value on a grid, and between its points by interpolating linearly.

    The value of a state is that of the whole future, the state itself included. What an action is worth is the value of
    the state that it leads to.
    """

    positions: int = 41
    """Grid points per axis in [-1, 1] m."""
    speeds: int = 41
    """Grid points per axis in [-1, 1] m/s."""
    accelerations: int = 3
    """Tried per axis, limits included: to evade, nothing is better than all that there is, or nothing."""

    @property
    def actions(self) -> np.ndarray:
        """Shape (A,): what is tried per axis [m/s^2]."""
        return np.linspace(-MAX_ACCELERATION, MAX_ACCELERATION, self.accelerations)

    @cached_property
    def grid(self) -> np.ndarray:
        """Shape (P * S, 2): position and speed along one axis; the value's rows are x, vx, its columns y, vy."""
        position, speed = np.linspace(-ARENA, ARENA, self.positions), np.linspace(-MAX_SPEED, MAX_SPEED, self.speeds)
        return np.stack(np.meshgrid(position, speed, indexing="ij"), axis=-1).reshape(-1, 2)

    @cached_property
    def values(self) -> np.ndarray:
        """Shape (P * S, P * S), float32."""
        steps = [self._interpolation(self._moved(a)).astype(np.float32) for a in self.actions]
        x, y = np.repeat(self.grid[:, 0], len(self.grid)), np.tile(self.grid[:, 0], len(self.grid))
        h = depth(np.stack([x, y], axis=1)).reshape(len(self.grid), -1).astype(np.float32)
        # Smaller by a cell: interpolating across its edge would promise an end to what passes by.
        within = GOAL_RADIUS - 2 * ARENA / (self.positions - 1)
        ended = (np.hypot(x - GOAL[0], y - GOAL[1]) <= within).reshape(h.shape)
        value = h
        for _ in range(MOST_SWEEPS):
            after = [step @ value for step in steps]
            best = np.min([step @ row.T for step in steps for row in after], axis=0).T
            # Nothing follows where the task has ended.
            backed_up = np.where(ended, h, np.maximum(h, best))
            if np.abs(backed_up - value).max() < CONVERGED:
                return backed_up
            value = backed_up
        raise RuntimeError(f"the reachability value did not converge within {MOST_SWEEPS} sweeps")

    def value(self, state: np.ndarray) -> np.ndarray:
        """V of N states (N, 4) of x, y, vx, vy: shape (N,). At most 0 where the state is feasible."""
        x_rows, x_shares = self._corners(state[:, [0, 2]])
        y_rows, y_shares = self._corners(state[:, [1, 3]])
        around = self.values[x_rows[:, :, None], y_rows[:, None, :]]
        return np.einsum("ni,nij,nj->n", x_shares, around, y_shares)

    def feasible(self, state: np.ndarray) -> np.ndarray:
        """Shape (N,), bool: a disc is not touched now, and need never be."""
        return self.value(state) <= 0

    def action_is_safe(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Shape (N,), bool: whether N actions (N, 2) lead from N states to feasible ones."""
        return self.feasible(move(state, action))

    def _moved(self, acceleration: float) -> np.ndarray:
        state = np.zeros((len(self.grid), 4))
        state[:, [0, 2]] = self.grid
        return move(state, np.array([acceleration, 0.0]))[:, [0, 2]]

    def _interpolation(self, points: np.ndarray) -> csr_array:
        """The matrix (N, P * S) that takes values on the grid to those at N points."""
        columns, shares = self._corners(points)
        rows = np.repeat(np.arange(len(points)), columns.shape[1])
        return csr_array((shares.ravel(), (rows, columns.ravel())), shape=(len(points), len(self.grid)))

    def _corners(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The grid points around N points (position, speed), and the share that each has: shape (N, 4) both."""
        size, most = np.array([self.positions, self.speeds]), np.array([ARENA, MAX_SPEED])
        at = np.clip((points + most) / (2 * most) * (size - 1), 0, size - 1)
        low = np.minimum(at.astype(int), size - 2)
        upper = at - low
        found = []
        for right, fast in ((0, 0), (0, 1), (1, 0), (1, 1)):
            index = (low[:, 0] + right) * self.speeds + low[:, 1] + fast
            share = np.abs(1 - right - upper[:, 0]) * np.abs(1 - fast - upper[:, 1])
            found.append((index, share))
        return np.stack([index for index, _ in found], axis=1), np.stack([share for _, share in found], axis=1)


def depth(position: np.ndarray) -> np.ndarray:
    """How deep inside a disc N positions (N, 2) are [m]: minus the distance to the nearest one outside of all."""
    state = np.concatenate([position, np.zeros_like(position)], axis=1)
    return np.max(list(CONSTRAINTS.excess(state, NAMES).values()), axis=0)
