"""The label set that constraints give: h(s) for every logged step, beside the rewards of another label set."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from episodes.constraints import LOGGED_COST, Constraints
from episodes.errors import InputError
from episodes.labels import LOGGED, LabelSet, check_label_name
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.typed import plain


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the logs show of one constraint: without violations nobody can learn where they begin."""

    constraint: str
    violations: int
    """Steps that led into a violation."""
    violated_episodes: int
    near_misses: int
    """Steps that led closer than `near`, and to no violation; 0 for a constraint that does not say what is near."""
    worst: float | None
    """The largest excess over the limit, in the constraint's own unit; below 0 the smallest distance to it. None for
    costs that the source recorded, which have no unit."""

    def text(self) -> str:
        """One line for people."""
        worst = "" if self.worst is None else f", worst {self.worst:+.3g} beyond the limit"
        return (
            f"{self.constraint}: {self.violations} steps violate it, in {self.violated_episodes} episodes, "
            f"{self.near_misses} are near misses{worst}"
        )


def cost_labels(
    snapshot: Snapshot, constraints: Constraints, name: str, rewards: str | None = None, penalty: float = 0.0
) -> tuple[LabelSet, list[Coverage]]:
    """A label set whose `cost` is h of what each step led to, and what the logs show of each constraint.

    As with rewards, a step is labelled by what came of it; where the log lacks the observation after a step it has no
    label, and where that step is one that could be learned from, its episode is not covered. `reward`, `success` and
    `terminated` are those of another label set, so that one name holds all that a constrained learner needs.

    Args:
        rewards: the label set whose rewards go along; where None the source's own, if it recorded any.
        penalty: taken from the reward of every step that led into a violation, for learners that know rewards alone.

    Raises:
        InputError: for an empty store, a state entry or label set that is not there, a source without costs where
            `logged` asks for them, a penalty that is none or without rewards, or where nothing is covered.
    """
    check_label_name(name)
    if not snapshot.episodes:
        raise InputError(f"{snapshot.path}: holds no episodes to label")
    excess = _per_step(snapshot, constraints)
    parts = [constraints.part(key, values) for key, values in excess.items()]
    recorded = None
    if constraints.logged:
        recorded = snapshot.column("cost").astype(np.float64)
        if np.isnan(recorded).all():
            raise InputError(f"{snapshot.path}: its source recorded no costs; leave out logged: true")
        parts.append(np.where(np.isnan(recorded), np.nan, np.where(recorded > 0, constraints.violation, -1.0)))
    cost = np.max(parts, axis=0).astype(np.float32)
    covered = _covered(snapshot, cost)
    values, provenance = {"cost": cost}, _provenance(snapshot, constraints)
    base = _rewards(snapshot, rewards)
    if not 0 <= penalty < np.inf:
        raise InputError(f"penalty {penalty:g}: expected a number of at least 0")
    if penalty and base is None:
        raise InputError(f"{snapshot.path}: there are no rewards to take a penalty from")
    if base is not None:
        values |= {key: base.values[key] for key in ("reward", "success", "terminated") if key in base.values}
        covered &= base.covered
        provenance |= {key: base.provenance[key] for key in ("labeller", "discount") if key in base.provenance}
        provenance |= {"rewards": base.name, "rewards_made_by": base.provenance}
        if penalty:
            # A cost that is not known is no violation that could be shown.
            values["reward"] = (values["reward"] - penalty * (cost > 0)).astype(np.float32)
            provenance["penalty"] = penalty
    if not covered.any():
        raise InputError(f"{snapshot.path}: no episode has all its costs" + (" and rewards" if base else ""))
    found = [
        _coverage(snapshot, covered, key, values, constraints.named[key].near or 0.0) for key, values in excess.items()
    ]
    if recorded is not None:
        found.append(_coverage(snapshot, covered, LOGGED_COST, recorded, 0.0))
    return LabelSet(name, values, covered, provenance), found


def label_with_constraints(
    store: Store, constraints: Constraints, name: str, rewards: str | None = None, penalty: float = 0.0
) -> tuple[dict[str, Any], str]:
    """Write the label set, and say what it amounts to: what `firsthand label` prints, as a document and in words."""
    snapshot = store.snapshot()
    began = time.monotonic()
    labels, coverage = cost_labels(snapshot, constraints, name, rewards, penalty)
    seconds = time.monotonic() - began
    store.write_labels(labels)
    cost = labels.values["cost"][_rows(snapshot, labels.covered)]
    known = cost[~np.isnan(cost)]
    warnings = warnings_of(coverage)
    document = {
        "labels": name,
        "method": "constraints",
        "judge": None,
        "pairs": 0,
        "unsure": 0,
        "accuracy": None,
        "spearman": None,
        "frames_per_second": snapshot.steps / seconds,
        "episodes": int(labels.covered.sum()),
        "uncovered": int((~labels.covered).sum()),
        "rewards": labels.provenance.get("rewards"),
        "violation_rate": float((known > 0).mean()),
        "constraints": [plain(each) for each in coverage],
        "warnings": warnings,
    }
    rewarded = f"rewards of {document['rewards']!r}" if document["rewards"] else "no rewards"
    lines = [
        f"label set {name!r}: {document['episodes']} episodes labelled, {document['uncovered']} not covered, "
        f"{document['violation_rate']:.1%} of the steps violate something; {rewarded}",
        *(f"  {each.text()}" for each in coverage),
        *(f"  WARNING: {warning}" for warning in warnings),
    ]
    return document, "\n".join(lines)


def warnings_of(coverage: list[Coverage]) -> list[str]:
    """What a learner cannot know for want of examples, in words."""
    unseen = [each.constraint for each in coverage if not each.violations]
    if len(unseen) == len(coverage):
        return ["no step of these logs violates anything: what leads to a violation cannot be learned from them"]
    return [f"no step violates {name!r}: what leads to it cannot be learned from these logs" for name in unseen]


def _per_step(snapshot: Snapshot, constraints: Constraints) -> dict[str, np.ndarray]:
    """Per constraint, its excess at the observation after each step: shape (N,), NaN where there is no such row."""
    state, names = snapshot.column("state"), snapshot.contract.state_names
    after = np.full(snapshot.steps, -1)
    for index in range(snapshot.episodes):
        first, stop = int(snapshot.observation_starts[index]) + 1, int(snapshot.observation_ends[index])
        start = int(snapshot.step_starts[index])
        after[start : start + stop - first] = np.arange(first, stop)
    return {
        name: np.where(after < 0, np.nan, excess[after]) for name, excess in constraints.excess(state, names).items()
    }


def _covered(snapshot: Snapshot, cost: np.ndarray) -> np.ndarray:
    """Shape (E,), bool: episodes in which every step that can be learned from has a cost."""
    covered = np.empty(snapshot.episodes, bool)
    final = snapshot.has_final_observation | snapshot.terminated
    for index in range(snapshot.episodes):
        usable = int(snapshot.step_ends[index]) - (not final[index])
        covered[index] = not np.isnan(cost[int(snapshot.step_starts[index]) : usable]).any()
    return covered


def _rewards(snapshot: Snapshot, name: str | None) -> LabelSet | None:
    if name is None and LOGGED not in snapshot.label_names:
        return None
    base = snapshot.labels(name or LOGGED)
    if "reward" not in base.values:
        raise InputError(f"{snapshot.path}: label set {base.name!r} has no rewards, only {sorted(base.values)}")
    return base


def _rows(snapshot: Snapshot, covered: np.ndarray) -> np.ndarray:
    """Shape (N,), bool: the steps of the covered episodes."""
    return np.repeat(covered, snapshot.step_ends - snapshot.step_starts)


def _coverage(snapshot: Snapshot, covered: np.ndarray, name: str, excess: np.ndarray, near: float) -> Coverage:
    shown = np.where(_rows(snapshot, covered), excess, np.nan)
    violated = shown > 0
    return Coverage(
        constraint=name,
        violations=int(violated.sum()),
        violated_episodes=int(np.logical_or.reduceat(violated, snapshot.step_starts).sum()),
        near_misses=int(((shown <= 0) & (shown > -near)).sum()),
        worst=None if name == LOGGED_COST else float(np.nanmax(shown)),
    )


def _provenance(snapshot: Snapshot, constraints: Constraints) -> dict[str, Any]:
    return {
        "method": "constraints",
        "judge": None,
        "constraints": plain(constraints),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "snapshot": snapshot.id,
    }
