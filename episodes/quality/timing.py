"""Time: the period, how even it is, what is missing, and clocks that were set."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes.quality.findings import Finding
from episodes.quality.rows import Rows
from episodes.quality.sketches import Thinned

MISSING = 0.5
"""Periods more than its due that a step and its neighbours may take together. More, and a frame is missing; a frame
that only came late is made up for by the next one."""
CLOCK = 5.0
"""From so many missing periods on it is asked whether the robot went on in them, or only the clock."""
AS_BEFORE = 2.0
"""Times the largest change of a step nearby that half of the moving entries stay below where only the clock jumped."""
OTHER_RATE = 0.1
"""Share by which an episode's median period may differ from the contract's."""
EVEN_NS = 10_000
"""Steps that differ by no more were counted at a rate; measured ones differ by at least the clock's own jitter."""
UNEVEN = 0.5
"""From this share of the period on, between the 5th and the 95th percentile of steps, they are called uneven."""
OUT_OF_TURN = 0.01
"""Share of an episode's actions that may be stamped before their observation, or after the next one."""
KEPT = 2**20
"""Steps that percentiles are taken from."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the time of a whole store goes by."""

    least: float
    """Of the steps that go forward [s]; so are the next two."""
    median: float
    most: float
    jitter: float
    """From the 5th to the 95th percentile of those steps, as a share of the median."""
    lag: tuple[float, float] | None
    """Median and 95th percentile of how long after its observation an action is stamped [s]; None without stamps."""

    def document(self) -> dict[str, Any]:
        return {
            "period": {"least": self.least, "median": self.median, "most": self.most},
            "jitter": self.jitter,
            "action_lag": None if self.lag is None else {"median": self.lag[0], "p95": self.lag[1]},
        }


class Timing:
    """What the stamps of episodes say."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._steps = Thinned(KEPT)
        self._lags = Thinned(KEPT)
        self._ends = [np.inf, -np.inf]
        self._found: list[Finding] = []
        self.unstamped = 0
        """Episodes without stamps."""
        self.backwards = 0
        """Observations that are stamped no later than the one before them."""
        self.gaps = 0
        """Steps in which a frame is missing."""
        self.seconds: list[float] = []
        """Per episode, from the first observation to the last [s]; NaN without stamps."""

    def add(self, rows: Rows) -> None:
        if not rows.stamped:
            self.unstamped += 1
            self.seconds.append(np.nan)
            return
        steps = np.diff(rows.observation_time)
        self.seconds.append(float(rows.observation_time[-1] - rows.observation_time[0]) * 1e-9)
        forward = steps[steps > 0]
        self.backwards += len(steps) - len(forward)
        if not len(forward):
            return
        self._steps.add(forward)
        self._ends = [min(self._ends[0], int(forward.min())), max(self._ends[1], int(forward.max()))]
        period = float(np.median(forward))
        self._judge_stamps(rows, steps, period)
        self._judge_gaps(rows, steps, period)
        if rows.action_time.any():
            self._judge_order(rows, period)

    @property
    def pace(self) -> Pace | None:
        """None where nothing is stamped."""
        steps = self._steps.rows
        if not len(steps):
            return None
        low, median, high = np.percentile(steps, [5, 50, 95])
        lags = self._lags.rows
        lag = (float(np.median(lags)) * 1e-9, float(np.percentile(lags, 95)) * 1e-9) if len(lags) else None
        least, most = self._ends
        return Pace(least * 1e-9, float(median) * 1e-9, most * 1e-9, float((high - low) / median), lag)

    @property
    def steps(self) -> np.ndarray:
        """Steps that go forward [s], evenly thinned."""
        return self._steps.rows * 1e-9

    def findings(self) -> list[Finding]:
        return [*self._found, *self._notes()]

    def _notes(self) -> list[Finding]:
        pace, episodes = self.pace, len(self.seconds)
        notes = []
        if self.unstamped:
            who = "no episode has" if self.unstamped == episodes else f"{self.unstamped} of {episodes} episodes have no"
            notes.append(Finding("no stamps", f"{who} stamps: rate, gaps and clocks cannot be looked at there"))
        if pace is None:
            return notes
        even = (pace.most - pace.least) * 1e9 <= EVEN_NS
        if even:
            words = (
                f"all steps take {pace.median * 1e3:.4g} ms to within {EVEN_NS // 1000} µs: they were counted at a "
                "rate, not measured, so a frame that was lost before the log was made does not show in them"
            )
            notes.append(Finding("even stamps", words))
        if pace.jitter > UNEVEN:
            words = f"9 of 10 steps take from one length to another that differ by {pace.jitter:.0%} of the median, "
            words += f"{pace.median * 1e3:.4g} ms"
            notes.append(Finding("jitter", words))
        return notes

    def _say(self, kind: str, rows: Rows, words: str) -> None:
        self._found.append(Finding(kind, words, rows.episode))

    def _judge_stamps(self, rows: Rows, steps: np.ndarray, period: float) -> None:
        """Stamps that go back or repeat, and another rate than the contract's."""
        back = np.flatnonzero(steps < 0)
        if len(back):
            more = f" and {len(back) - 1} more times" if len(back) > 1 else ""
            self._say("clock", rows, f"stamps go back by {-steps[back[0]] * 1e-9:.3g} s after step {back[0]}{more}")
        if same := int((steps == 0).sum()):
            self._say("repeated", rows, f"{same} observations have the stamp of the one before")
        if self._rate and abs(period * 1e-9 * self._rate - 1) > OTHER_RATE:
            self._say("rate", rows, f"runs at {1e9 / period:.4g} Hz, the contract says {self._rate:g} Hz")

    def _judge_gaps(self, rows: Rows, steps: np.ndarray, period: float) -> None:
        """Steps that are too long, and that their neighbours do not make up for."""
        padded = np.pad(np.maximum(steps, 0).astype(np.float64), 1, constant_values=period)
        around = padded[:-2] + padded[1:-1] + padded[2:]
        long = np.flatnonzero((steps > (1 + MISSING) * period) & (around > (3 + MISSING) * period))
        clock = [row for row in long if steps[row] > (1 + CLOCK) * period and _goes_on(rows.state, int(row))]
        self.gaps += len(long) - len(clock)
        if clock:
            words = f"time jumps by {steps[clock[0]] * 1e-9:.3g} s after step {clock[0]} and the state goes on"
            self._say("clock", rows, words)
        lost = np.setdiff1d(long, clock)
        if len(lost):
            frames = int(np.rint(steps[lost] / period - 1).sum())
            longest = lost[steps[lost].argmax()]
            words = f"about {frames} {'frame is' if frames == 1 else 'frames are'} missing"
            words += f" in {len(lost)} places" if len(lost) > 1 else ""
            gap = "the longest gap is" if len(lost) > 1 else "the gap is"
            self._say("gap", rows, f"{words}: {gap} {steps[longest] * 1e-9:.3g} s, after step {longest}")

    def _judge_order(self, rows: Rows, period: float) -> None:
        """Actions belong between their observation and the next one."""
        lag = rows.action_time - rows.observation_time[: len(rows.action_time)]
        self._lags.add(lag)
        following = rows.observation_time[1 : len(lag) + 1]
        early = int((lag < 0).sum())
        late = int((rows.action_time[: len(following)] > following).sum())
        if early > OUT_OF_TURN * len(lag):
            self._say("order", rows, f"{early} of {len(lag)} actions are stamped before their observation")
        if late > OUT_OF_TURN * len(lag):
            self._say("order", rows, f"{late} of {len(lag)} actions are stamped after the next observation")


def _goes_on(state: np.ndarray, row: int, around: int = 5) -> bool:
    """Whether the state changes over the step from `row` on no more than it does over the steps beside it.

    Most of what moves in a robot that goes on for the missing time would have gone much farther. Of one that stands
    still this cannot be told, and then it is not said.
    """
    change = np.abs(np.diff(state[max(row - around, 0) : row + around + 2].astype(np.float64), axis=0))
    here = min(row, around)
    beside = np.delete(change, here, axis=0).max(0, initial=0)
    moving = beside > 0
    return bool(moving.any() and np.median(change[here, moving] / beside[moving]) <= AS_BEFORE)
