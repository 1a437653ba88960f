"""From a FISOR run to a filter that can be trusted as far as it says: calibrated on episodes kept aside.

The margin comes of held-out episodes that violate something (`policies.calibration`), and what counts as known of the
distance between held-out steps and those that were learned from.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from episodes.errors import InputError
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.typed import parse
from finetune.config import TrainConfig
from finetune.data import learned_from
from finetune.run import Run
from policies.calibration import Calibration, Familiarity, approach, calibrate
from policies.checkpoint import load_checkpoint
from policies.feasibility import FeasibilityFilter, rows_of
from policies.filter_file import CalibratedFilter, judging_model, load_filter, save_filter
from policies.fisor import FISOR

FILTER = "filter"
"""Folder of a run that holds its filter."""
HORIZON = 5
"""Steps before a violation in which an accepted action counts against the filter, where nobody says another number."""
MOST_LOGGED = 20_000
"""Logged steps that familiarity is judged by, at most, as a robot asks at every step: more are thinned out, and the
radius grows with the gaps."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Logged steps of some episodes."""

    state: np.ndarray
    """Shape (N, S): what each action was chosen in."""
    action: np.ndarray
    """Shape (N, A)."""
    cost: np.ndarray
    """Shape (N,): h of what it led to; NaN where nothing was seen after it."""
    episodes: list[slice]


def steps_of(snapshot: Snapshot, cost: np.ndarray, episodes: list[int]) -> Steps:
    """The steps of these episodes, `cost` having a value for every step of the snapshot."""
    state, action = snapshot.column("state"), snapshot.column("action")
    states, actions, costs, bounds, end = [], [], [], [], 0
    for index in episodes:
        first, last = int(snapshot.step_starts[index]), int(snapshot.step_ends[index])
        seen = int(snapshot.observation_starts[index])
        states.append(state[seen : seen + last - first])
        actions.append(action[first:last])
        costs.append(cost[first:last])
        bounds.append(slice(end, end := end + last - first))
    return Steps(np.concatenate(states), np.concatenate(actions), np.concatenate(costs), bounds)


@dataclass(frozen=True, slots=True)
class FilterResult:
    """What `firsthand calibrate --json` prints."""

    run: str
    filter: str
    margin: float
    certified: float
    false_safe: int
    violating_episodes: int
    smallest: float
    """The smallest rate that so many violating episodes could certify."""
    radius: float
    safe_accepted: float | None
    """Of the steps of held-out episodes that violate nothing, the share that is accepted; None where there are none."""
    text: str


def calibrated(
    model: FISOR, learned: Steps, held_out: Steps, rate: float, horizon: int
) -> tuple[Calibration, FeasibilityFilter]:
    """A filter whose margin keeps to a false-safe rate on held-out steps.

    Raises:
        InputError: as `calibrate`.
    """
    stride = -(-len(learned.state) // MOST_LOGGED)
    logged = rows_of(model, learned.state[::stride], learned.action[::stride])
    familiarity = Familiarity.of(logged, rows_of(model, held_out.state, held_out.action))
    q_h = FeasibilityFilter(model, familiarity=familiarity).q_h(held_out.state, held_out.action)
    found = calibrate([approach(q_h[part], held_out.cost[part], horizon) for part in held_out.episodes], rate)
    return found, FeasibilityFilter(model, margin=found.margin, familiarity=familiarity)


def calibrate_run(
    run: Run, rate: float, horizon: int = HORIZON, store: Path | None = None, labels: str | None = None
) -> FilterResult:
    """Calibrate the newest checkpoint of a run, and keep the filter beside it.

    Args:
        rate: false-safe rate that is promised of violating episodes.
        store: of the episodes to calibrate on; those that the run held out where None.
        labels: their label set with costs; of the run's name where None.

    Raises:
        InputError: for a run of another algorithm, one that kept nothing aside, another robot's episodes, or too few.
    """
    saved = load_checkpoint(run.last)
    model = judging_model(saved, run.path)
    data, train = run.config["data"], parse(TrainConfig, run.config["train"], f"{run.path}/config.yaml")
    snapshot = Store.open(Path(data["store"])).snapshot(data["snapshot"])
    used, aside = learned_from(snapshot, train)
    learned = steps_of(snapshot, used.values["cost"], np.flatnonzero(used.covered).tolist())
    if store is not None:
        held_out = _others(store, labels or train.labels, snapshot)
    elif aside:
        held_out = steps_of(snapshot, used.values["cost"], aside)
    else:
        raise InputError(
            f"{run.path}: learned from every episode; begin a run with --set held_out=0.2 to keep some aside, or "
            "calibrate on others: --store STORE"
        )
    found, judge = calibrated(model, learned, held_out, rate, horizon)
    folder = run.path / FILTER
    save_filter(folder, judge, found, saved)
    accepted = judge.q_h(held_out.state, held_out.action) <= -judge.margin
    quiet = [accepted[part] for part in held_out.episodes if not (held_out.cost[part] > 0).any()]
    assert judge.familiarity is not None
    return FilterResult(
        run=str(run.path),
        filter=str(folder),
        margin=found.margin,
        certified=found.certified,
        false_safe=found.false_safe,
        violating_episodes=found.episodes,
        smallest=found.smallest,
        radius=judge.familiarity.radius,
        safe_accepted=float(np.concatenate(quiet).mean()) if quiet else None,
        text=found.text(),
    )


def filter_of(run: Run) -> CalibratedFilter:
    """The filter that was calibrated for a run's newest checkpoint.

    Raises:
        InputError: where there is none, or it was calibrated for an older one.
    """
    return load_filter(run.path / FILTER, run.last)


def _others(path: Path, labels: str, learned_from: Snapshot) -> Steps:
    """The steps of another store, of the episodes that its label set covers."""
    snapshot = Store.open(path).snapshot()
    ours, theirs = (replace(each.contract, cameras=()) for each in (learned_from, snapshot))
    difference = ours.layout_difference(theirs)
    if difference is not None:
        raise InputError(f"{path}: is of another contract than what was learned from: {difference}")
    there = snapshot.labels(labels)
    if "cost" not in there.values:
        raise InputError(
            f"{path}: label set {labels!r} has no costs; make one with `firsthand label --method constraints`"
        )
    return steps_of(snapshot, there.values["cost"], np.flatnonzero(there.covered).tolist())
