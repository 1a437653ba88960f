"""The numbers that say whether a store can be learned from: lengths, returns, saturation, dead entries, time skew."""

from dataclasses import dataclass

import numpy as np

from episodes.contract import Contract

AT_LIMIT = 1e-3
"""An action within this share of its range from a limit is at the limit."""
LATE = 2.0
"""A step that took longer than this many median steps is a gap."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median and largest of some values."""

    least: float
    median: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:g} to {self.most:g}, median {self.median:g}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a store, in numbers."""

    episodes: int
    steps: int
    lengths: Spread | None
    """Steps per episode; None where there are no episodes."""
    returns: Spread | None
    """Undiscounted sum of rewards per episode; None where no episode has rewards throughout."""
    unrewarded: int
    """Episodes that lack a reward somewhere and are not in `returns`."""
    saturation: dict[str, float]
    """Share of steps at a limit, per action entry that has one."""
    constant: tuple[str, ...]
    """State entries that never change, in any episode: nothing can be learned from them."""
    period: Spread | None
    """Time between observations [s]; None where the store has no stamps."""
    unstamped: int
    """Episodes without stamps."""
    backwards: int
    """Observations that are stamped no later than the one before them in their episode."""
    gaps: int
    """Steps longer than twice the median one."""

    def text(self) -> str:
        """A dozen lines for people."""
        lines = [f"episodes     {self.episodes}, {self.steps} steps"]
        if self.lengths:
            lines.append(f"lengths      {self.lengths} steps")
        if self.returns:
            partly = f" ({self.unrewarded} episodes have no or not all rewards)" if self.unrewarded else ""
            lines.append(f"returns      {self.returns}{partly}")
        else:
            lines.append("returns      no rewards")
        worst = sorted(self.saturation.items(), key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{name} {share:.1%}" for name, share in worst if share > 0)
        lines.append(f"at a limit   {shares or 'no action' if self.saturation else 'no limits known'}")
        some = ", ".join(self.constant[:5]) + (f" and {len(self.constant) - 5} more" if len(self.constant) > 5 else "")
        lines.append(f"constant     {some or 'no state entry'}")
        if self.period:
            lines.append(f"period       {self.period} s")
            lines.append(f"time         {self.backwards} stamps not increasing, {self.gaps} gaps over twice the median")
        if self.unstamped:
            lines.append(f"no stamps    {self.unstamped} episodes")
        return "\n".join(lines)


def summarise(
    contract: Contract,
    states: np.ndarray,
    observation_ends: np.ndarray,
    actions: np.ndarray,
    step_ends: np.ndarray,
    observation_time: np.ndarray,
    rewards: np.ndarray | None = None,
) -> Summary:
    """The summary of E episodes that lie one after the other.

    Args:
        contract: Names the columns and gives the action limits.
        states: Shape (O, S).
        observation_ends: Shape (E,), the row after each episode's last observation.
        actions: Shape (N, A).
        step_ends: Shape (E,), the row after each episode's last step.
        observation_time: Shape (O,) [ns]; an episode whose stamps are all 0 has none.
        rewards: Shape (N,), NaN where there is none.
    """
    lengths = np.diff(step_ends, prepend=0)
    returns = np.empty(0) if rewards is None else _sums(rewards, step_ends)
    rewarded = np.isfinite(returns)
    steps_of_time, unstamped = _periods(observation_time, observation_ends)
    forward = steps_of_time[steps_of_time > 0]
    return Summary(
        episodes=len(lengths),
        steps=len(actions),
        lengths=_spread(lengths),
        returns=_spread(returns[rewarded]),
        unrewarded=len(lengths) - int(rewarded.sum()),
        saturation=_saturation(contract, actions),
        constant=_constant(contract, states),
        period=_spread(forward * 1e-9),
        unstamped=unstamped,
        backwards=int((steps_of_time <= 0).sum()),
        gaps=int((forward > LATE * np.median(forward)).sum()) if len(forward) else 0,
    )


def _spread(values: np.ndarray) -> Spread | None:
    return Spread(float(values.min()), float(np.median(values)), float(values.max())) if len(values) else None


def _sums(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sum per episode, shape (E,), in double precision."""
    starts = np.concatenate([[0], ends])[:-1].astype(int)
    return np.array([values[start:end].sum(dtype=np.float64) for start, end in zip(starts, ends, strict=True)])


def _saturation(contract: Contract, actions: np.ndarray) -> dict[str, float]:
    low, high = contract.action_low.astype(np.float64), contract.action_high.astype(np.float64)
    room = np.where(np.isfinite(high - low), AT_LIMIT * (high - low), 0.0)
    share = ((actions <= low + room) | (actions >= high - room)).mean(0) if len(actions) else np.zeros(len(low))
    limited = np.isfinite(low) | np.isfinite(high)
    return {name: float(share[i]) for i, name in enumerate(contract.action_names) if limited[i]}


def _constant(contract: Contract, states: np.ndarray) -> tuple[str, ...]:
    if len(states) < 2:
        return ()
    return tuple(np.array(contract.state_names, object)[states.min(0) == states.max(0)])


def _periods(time: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, int]:
    """Differences between neighbouring stamps of the same episode [ns], and how many episodes have no stamps."""
    starts = np.concatenate([[0], ends])[:-1].astype(int)
    stamped = [time[start:end] for start, end in zip(starts, ends, strict=True) if time[start:end].any()]
    differences = [np.diff(part) for part in stamped]
    return np.concatenate([np.empty(0, np.int64), *differences]), len(ends) - len(stamped)
