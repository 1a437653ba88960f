"""State entries that stand still while the robot moves: a sensor, a driver or a topic that stopped."""

import numpy as np

from episodes.contract import Contract
from episodes.quality.extent import NOTHING, Extent
from episodes.quality.findings import Finding, some
from episodes.quality.rows import Rows
from episodes.quality.runs import least_run, longest_two, unusual

LIVELY = 0.2
"""Share of steps in which an entry must usually change (the median over episodes) for its standing still to mean
anything: of one that mostly rests, a fault cannot be told from a rest."""
EPISODES = 4
"""With fewer to compare with, only what moved before it stood still, and moves again, is called a fault: an object that
has not been touched yet, or not any more, looks the same as a sensor that is dead."""
MOVING = 0.5
"""Share of the steps of a stretch in which the rest must move."""


class Stillness:
    """The longest stretch of the very same value, per episode and entry.

    Only the very same value is a fault, but what it is compared with are stretches in which nothing changes to speak
    of: an object that lies still creeps a little in one simulated episode and not in another. So the extent of the
    store has to be known before episodes are added.
    """

    def __init__(self, contract: Contract, extent: Extent) -> None:
        self._names = contract.state_names
        self._least = least_run(contract.rate)
        self._extent = extent
        self._first: list[np.ndarray] = []
        self._longest: list[np.ndarray] = []
        self._resting: list[np.ndarray] = []
        self._second: list[np.ndarray] = []
        self._share: list[np.ndarray] = []
        self._inside: list[np.ndarray] = []
        self._while_moving: list[np.ndarray] = []

    def add(self, rows: Rows) -> None:
        change = np.abs(np.diff(rows.state, axis=0))
        same = change == 0
        first, longest, _ = longest_two(same)
        _, resting, second = longest_two(change <= NOTHING * self._extent.state_range)
        self._first.append(first)
        self._longest.append(longest)
        self._resting.append(resting)
        self._second.append(second)
        self._share.append(_share_changed(same, longest))
        self._inside.append((first > 0) & (first + longest < len(same)))
        self._while_moving.append(_while_moving(rows, same, first, longest, self._least))

    @property
    def constant(self) -> tuple[str, ...]:
        """State entries that never change, in any episode: nothing can be learned from them."""
        if self._extent.rows < 2:
            return ()
        return tuple(name for name, dead in zip(self._names, self._extent.state_range == 0, strict=True) if dead)

    def findings(self) -> list[Finding]:
        found = []
        if self.constant:
            found.append(Finding("constant", f"{some(self.constant, 5)} never change, in any episode"))
        if not self._longest:
            return found
        longest, first = np.array(self._longest), np.array(self._first)
        resting, second = np.array(self._resting), np.array(self._second)
        usual = np.median(np.array(self._share), axis=0)
        frozen = np.array(self._while_moving)
        if len(frozen) < EPISODES:
            frozen &= np.array(self._inside)
        for entry in range(len(self._names)):
            if usual[entry] < LIVELY:
                frozen[:, entry] = False
            else:
                rare = unusual(longest[:, entry], resting[:, entry], second[:, entry], self._least)
                frozen[:, entry] &= rare
        for episode in np.flatnonzero(frozen.any(1)).tolist():
            entries = np.flatnonzero(frozen[episode])
            names = [self._names[entry] for entry in entries]
            entry = entries[longest[episode, entries].argmax()]
            begin, steps = int(first[episode, entry]), int(longest[episode, entry])
            words = f"{some(names)} stood still for {steps} steps from step {begin} on"
            found.append(Finding("frozen state", words, episode, self._names[entry]))
        return found


def _share_changed(same: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """Share of steps in which each entry changes outside of its longest stretch, shape (S,); 0 where that is all."""
    outside = len(same) - longest
    return np.where(outside > 0, (~same).sum(0) / np.maximum(outside, 1), 0.0)


def _while_moving(rows: Rows, same: np.ndarray, first: np.ndarray, longest: np.ndarray, least: int) -> np.ndarray:
    """Shape (S,), bool: whether the rest moved during the longest stretch of each entry.

    The rest is the other entries that move at all, half of which must change in a step; where the whole state stands
    still, as one does whose topic stopped, it is the actions.
    """
    changes = ~same
    lively = changes.mean(0) >= LIVELY if len(same) else np.zeros(same.shape[1], bool)
    commands = (rows.action[1:] != rows.action[:-1]).any(1)
    moving = np.zeros(same.shape[1], bool)
    for entry in np.flatnonzero(longest >= least):
        span = slice(int(first[entry]), int(first[entry] + longest[entry]))
        others = lively.copy()
        others[entry] = False
        if same[span].all():
            moving[entry] = commands[span].mean() >= MOVING if len(commands[span]) else False
        elif others.any():
            moving[entry] = (changes[span][:, others].mean(1) >= 0.5).mean() >= MOVING
    return moving
