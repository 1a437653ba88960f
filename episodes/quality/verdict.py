"""What a log is good for, in words, and why. Every threshold that decides is in this file.

Behaviour cloning does as well as anything where the mean return is near the best (a high TQ); algorithms that stay
close to the data need good returns or much variety; the more freely an algorithm leaves the data, the more coverage it
needs (Schweighofer et al., 2022). What follows is those findings as rules of thumb, not the measurement of a policy.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from episodes.quality.measures import TrajectoryQuality

Fit = Literal["yes", "with care", "no"]

FEW_EPISODES = 10
"""Fewer say little about any policy."""
FEW_TRANSITIONS = 2_000
"""With fewer, values are learned from next to nothing: benchmarks of offline RL begin at some thousands."""
FEW_TO_IMITATE = 5
"""Fewer successes cannot be imitated on their own."""
MOSTLY = 0.8
SOMETIMES = 0.5
"""Success rates of a log: above the first all of it can be imitated, below the second only its successes. Above the
second share of demonstrated steps, too, it is a log of demonstrations."""
GOOD_QUALITY = 0.7
"""TQ from which on the mean episode is near the best."""
COVERED = 0.5
"""Share of the episodes that a label set must cover."""
SUPPORTED = 0.5
"""Share of observations that another episode must come near to, for parts of episodes to be joined."""
SUSPICIOUS = 0.2
"""Share of suspicious episodes from which on the log should be mended first."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What one label set with rewards says."""

    name: str
    returns: np.ndarray
    """Shape (E,); NaN for episodes that it does not cover."""
    succeeded: np.ndarray | None
    """Shape (E,): 1 where the episode has a success, 0 where none, NaN where not known; None without `success`."""
    quality: TrajectoryQuality | None

    @property
    def covered(self) -> int:
        return int(np.isfinite(self.returns).sum())

    @property
    def success_rate(self) -> float | None:
        known = None if self.succeeded is None else self.succeeded[np.isfinite(self.succeeded)]
        return None if known is None or not len(known) else float(known.mean())


@dataclass(frozen=True, slots=True)
class Facts:
    """What the verdict rests on."""

    episodes: int
    transitions: int
    suspicious: int
    """Episodes with a fault."""
    demonstrated: float
    """Share of the steps of which it is known that a person or a script chose the action."""
    cameras: int
    simulated: bool
    labelled: tuple[Labelled, ...]
    """The label sets that have rewards."""
    support: float | None
    """Share of observations that another episode comes near to."""


@dataclass(frozen=True, slots=True)
class Use:
    """How well a log suits one use."""

    fit: Fit
    why: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    headline: str
    imitation: Use
    offline_rl: Use
    labelling: Use

    def document(self) -> dict[str, Any]:
        return asdict(self)


def judge(facts: Facts) -> Verdict:
    """The verdict on a store."""
    best = max(facts.labelled, key=lambda each: each.covered, default=None)
    imitation, offline, labelling = _imitation(facts, best), _offline(facts, best), _labelling(facts)
    return Verdict(_headline(facts, imitation, offline, labelling), imitation, offline, labelling)


def _imitation(facts: Facts, best: Labelled | None) -> Use:
    if not facts.episodes:
        return Use("no", ["there are no episodes"])
    fit, why = _worth_imitating(facts, best)
    if facts.episodes < FEW_EPISODES:
        fit = _less(fit)
        why.append(f"{_episodes(facts.episodes)} are few")
    return _mended(facts, Use(fit, why))


def _worth_imitating(facts: Facts, best: Labelled | None) -> tuple[Fit, list[str]]:
    rate = best.success_rate if best else None
    if best is not None and best.succeeded is not None and rate is not None:
        successes = int(np.nansum(best.succeeded))
        said = f"{rate:.0%} of the episodes succeed ({best.name})"
        if rate >= MOSTLY:
            return "yes", [said]
        if rate >= SOMETIMES or successes >= FEW_TO_IMITATE:
            return "with care", [f"{said}: imitate those {successes} only"]
        if facts.demonstrated > SOMETIMES:
            return "with care", [f"{said}, though it was demonstrated: is that asked too much, or are they bad?"]
        return "no", [f"{said}: there is nothing to imitate"]
    if best is not None and best.quality is not None:
        value, words = best.quality.value, _between(best)
        if value >= GOOD_QUALITY:
            return "yes", [f"{words}: most episodes are near the best"]
        return "with care", [f"{words}: imitating all of it gives a middling policy; choose the best episodes"]
    if facts.demonstrated > SOMETIMES:
        return "yes", [
            "it was demonstrated; that the demonstrations are good is taken on trust, as nothing in it says so"
        ]
    return "with care", ["nothing says whether the episodes are good, or who acted"]


def _offline(facts: Facts, best: Labelled | None) -> Use:
    if not facts.episodes:
        return Use("no", ["there are no episodes"])
    if best is None or not best.covered:
        return Use("no", ["no label set has rewards: label it first"])
    fit: Fit = "yes"
    why = []
    if best.covered < COVERED * facts.episodes:
        fit = _less(fit)
        why.append(f"{best.name} covers only {best.covered} of {facts.episodes} episodes")
    if best.quality is None and best.success_rate in (None, 0):
        return Use("no", [f"all episodes have the same return and none is known to succeed ({best.name})"])
    if best.quality is None:
        fit = _less(fit)
        why.append("all episodes have the same return: only when a reward comes can be learned from")
    elif best.success_rate == 1:
        fit = _less(fit)
        why.append("every episode succeeds: there is little to prefer one action over another by but how long it takes")
    else:
        why.append(f"rewards tell good episodes from bad ones ({_between(best)})")
    if facts.support is not None and facts.support < SUPPORTED:
        fit = _less(fit)
        why.append(
            f"another episode comes near in {facts.support:.0%} of the observations only: parts of different episodes "
            "can seldom be joined"
        )
    elif facts.support is not None:
        why.append(f"another episode comes near in {facts.support:.0%} of the observations")
    if facts.transitions < FEW_TRANSITIONS:
        fit = _less(fit)
        why.append(f"{facts.transitions} transitions are few")
    return _mended(facts, Use(fit, why))


def _labelling(facts: Facts) -> Use:
    if not facts.episodes:
        return Use("no", ["there are no episodes"])
    already = [f"it already has rewards: {', '.join(each.name for each in facts.labelled)}"] if facts.labelled else []
    if facts.cameras:
        return Use("yes", ["it has pictures that a judge can look at", *already])
    if facts.simulated:
        return Use("with care", ["no pictures; the simulator's own reward can be asked for: --judge env", *already])
    return Use("with care", ["no pictures: only time can be a judge of it (--judge progress)", *already])


def _headline(facts: Facts, imitation: Use, offline: Use, labelling: Use) -> str:
    if not facts.episodes:
        return "Empty."
    uses = {"imitation": imitation.fit, "offline RL": offline.fit}
    good = [name for name, fit in uses.items() if fit == "yes"]
    careful = [name for name, fit in uses.items() if fit == "with care"]
    parts = []
    if good:
        parts.append(f"Good for {' and '.join(good)}.")
    if careful:
        parts.append(f"{'With care also' if good else 'With care'} for {' and '.join(careful)}.")
    if offline.fit == "no" and not facts.labelled and labelling.fit != "no":
        parts.append("For offline RL it has to be labelled." if parts else "Only for labelling.")
    elif not parts:
        parts.append("As it is, good for nothing but labelling anew.")
    if facts.suspicious > SUSPICIOUS * facts.episodes:
        parts.append("Look at what is wrong with it first.")
    return " ".join(parts)


def _mended(facts: Facts, use: Use) -> Use:
    if facts.suspicious <= SUSPICIOUS * facts.episodes:
        return use
    words = f"{facts.suspicious} of {_episodes(facts.episodes)} are suspicious: look at them first"
    return Use(_less(use.fit), [*use.why, words])


def _less(fit: Fit) -> Fit:
    """One step down; no further than `with care`, for it is no reason against a log on its own."""
    return "with care" if fit == "yes" else fit


def _between(best: Labelled) -> str:
    assert best.quality is not None
    return f"TQ {best.quality.value:.2f} from {best.quality.low:.4g} to {best.quality.high:.4g}, {best.name}"


def _episodes(count: int) -> str:
    return f"{count} episode{'s' if count != 1 else ''}"
