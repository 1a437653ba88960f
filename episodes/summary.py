"""The numbers that say whether a store can be learned from: lengths, returns, saturation, dead entries, time skew."""

from dataclasses import dataclass

import numpy as np

from episodes.quality.survey import Survey


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
    """Steps in which a frame is missing."""

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
            lines.append(f"time         {self.backwards} stamps not increasing, {self.gaps} gaps of a frame or more")
        if self.unstamped:
            lines.append(f"no stamps    {self.unstamped} episodes")
        return "\n".join(lines)


def summarise(survey: Survey) -> Summary:
    """The summary of what was measured."""
    rewarded = np.isfinite(survey.returns)
    pace = survey.timing.pace
    return Summary(
        episodes=len(survey.lengths),
        steps=int(survey.lengths.sum()),
        lengths=spread(survey.lengths),
        returns=spread(survey.returns[rewarded]),
        unrewarded=len(survey.lengths) - int(rewarded.sum()),
        saturation=survey.limits.saturation,
        constant=survey.stillness.constant,
        period=Spread(pace.least, pace.median, pace.most) if pace else None,
        unstamped=survey.timing.unstamped,
        backwards=survey.timing.backwards,
        gaps=survey.timing.gaps,
    )


def spread(values: np.ndarray) -> Spread | None:
    return Spread(float(values.min()), float(np.median(values)), float(values.max())) if len(values) else None
