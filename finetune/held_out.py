"""How near a policy's actions come to the logged ones, in episodes that it did not learn from.

A small error says that the log was understood; it does not say how well the policy would do the task. Beside it stand
predictors that need no learning: in a log of slow movements at a high rate they are hard to beat.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from episodes.contract import Contract
from episodes.encoders import features_of, load_encoder
from episodes.errors import InputError
from episodes.history import windows
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.typed import parse
from finetune.config import TrainConfig
from finetune.data import learned_from
from finetune.intervals import mean_interval
from finetune.run import Run
from policies.checkpoint import load_checkpoint

PREDICTORS = ("policy", "hold", "last", "mean")
"""`hold` stays where the robot is: the state entry that the action is a target for, or that has its name. `last` is the
logged action of the step before. `mean` is that of the episodes that were learned from."""


@dataclass(frozen=True, slots=True)
class ActionErrors:
    """Mean absolute errors of one-step predictions, per held-out episode and action entry."""

    run: str
    contract: Contract
    episodes: list[int]
    steps: int
    """Each episode's first one is left out: it has no last action."""
    error: dict[str, np.ndarray]
    """Per predictor: shape (E, A), in the entries' units; NaN where a predictor says nothing of an entry."""
    spread: np.ndarray
    """Shape (A,): standard deviation of the actions that were learned from."""

    def relative(self, predictor: str) -> np.ndarray:
        """Shape (E,): the error in standard deviations of the actions, averaged over entries that vary."""
        moving = self.spread > 1e-6
        if not moving.any():
            return np.full(len(self.episodes), np.nan)
        return (self.error[predictor][:, moving] / self.spread[moving]).mean(1)

    def summary(self) -> dict[str, Any]:
        """The numbers that `firsthand evaluate --held-out --json` prints."""
        relative: dict[str, Any] = {}
        for name in PREDICTORS:
            values = self.relative(name)
            known = bool(np.isfinite(values).all())
            relative[name] = {
                "mean": float(values.mean()) if known else None,
                "interval": list(mean_interval(values)) if known else None,
            }
        means = {name: self.error[name].mean(0) for name in PREDICTORS}
        entries = [
            {"name": entry.name, "unit": entry.unit, "spread": float(self.spread[index])}
            | {name: None if np.isnan(means[name][index]) else float(means[name][index]) for name in PREDICTORS}
            for index, entry in enumerate(self.contract.action)
        ]
        return {
            "run": self.run,
            "episodes": len(self.episodes),
            "held_out": self.episodes,
            "steps": self.steps,
            "relative_error": relative,
            "entries": entries,
        }


def action_errors(run: Run) -> ActionErrors:
    """Compare a run's policy, by its mean action, with the log it learned from, on the episodes that were held out.

    Raises:
        InputError: where none were.
    """
    data = run.config["data"]
    store = Store.open(Path(data["store"]))
    snapshot = store.snapshot(data["snapshot"])
    labels, held_out = learned_from(snapshot, parse(TrainConfig, run.config["train"], f"{run.path}/config.yaml"))
    if not held_out:
        raise InputError(
            f"{run.path}: learned from every episode; begin a run with --set held_out=0.2 to keep some of them aside"
        )
    bounds = list(_bounds(snapshot, held_out))
    if not bounds:
        raise InputError(f"{run.path}: held out {len(held_out)} episodes of one step, expected longer ones")
    action, state = snapshot.column("action"), snapshot.column("state")
    learned = action[np.repeat(labels.covered, snapshot.step_ends - snapshot.step_starts)]
    mean, spread = learned.mean(0), learned.std(0)
    predicted = _policy(run, store, snapshot, state)
    errors: dict[str, list[np.ndarray]] = {name: [] for name in PREDICTORS}
    steps = 0
    for _, start, stop, first in bounds:
        logged, seen = action[start + 1 : stop], slice(first + 1, first + stop - start)
        steps += len(logged)
        guesses = {
            "policy": predicted(seen, first),
            "hold": _held(snapshot.contract, state[seen]),
            "last": action[start : stop - 1],
            "mean": np.broadcast_to(mean, logged.shape),
        }
        for name, guess in guesses.items():
            errors[name].append(np.abs(guess - logged).mean(0))
    stacked = {name: np.stack(rows) for name, rows in errors.items()}
    episodes = [index for index, *_ in bounds]
    return ActionErrors(str(run.path), snapshot.contract, episodes, steps, stacked, spread)


def in_words(errors: ActionErrors) -> str:
    """A table for a person: per action entry, and over all of them."""
    summary = errors.summary()
    lines = [
        f"{errors.run}: {summary['episodes']} held-out episodes, {errors.steps} steps; mean absolute error of actions",
        f"{'':28}" + "".join(f"{name:>10}" for name in PREDICTORS),
    ]
    for entry in summary["entries"]:
        label = f"{entry['name']} [{entry['unit']}]" if entry["unit"] else entry["name"]
        lines.append(f"{label:28}" + "".join(_cell(entry[name]) for name in PREDICTORS))
    over_all = (summary["relative_error"][name]["mean"] for name in PREDICTORS)
    return "\n".join([*lines, f"{'all, in standard deviations':28}" + "".join(map(_cell, over_all))])


def _cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:10.4f}"


def _bounds(snapshot: Snapshot, episodes: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Of each episode with a second step: itself, its first step row, the one after its last, its first observation."""
    for index in episodes:
        start, stop = int(snapshot.step_starts[index]), int(snapshot.step_ends[index])
        if stop - start > 1:
            yield index, start, stop, int(snapshot.observation_starts[index])


def _policy(run: Run, store: Store, snapshot: Snapshot, state: np.ndarray) -> Any:
    """A function from rows of observations, and their episode's first, to the policy's first action at each: (n, A)."""
    saved = load_checkpoint(run.last)
    features = None
    if saved.camera is not None and saved.encoder is not None:
        features = torch.from_numpy(features_of(store, snapshot, saved.camera, load_encoder(saved.encoder)))

    states, history = torch.from_numpy(state), saved.algorithm.preparation.history

    def act(rows: slice, first: int) -> np.ndarray:
        seen = None if features is None else features[rows]
        row = torch.arange(rows.start, rows.stop)
        window = windows(states, row, torch.full_like(row, first), history)
        return saved.algorithm.act(window, seen)[:, 0].numpy()

    return act


def _held(contract: Contract, state: np.ndarray) -> np.ndarray:
    """Shape (n, A): the measured values of what the actions drive; NaN where nothing names one."""
    names = contract.state_names
    held = np.full((len(state), len(contract.action)), np.nan, np.float32)
    for index, entry in enumerate(contract.action):
        name = entry.reference or entry.name
        if name in names:
            held[:, index] = state[:, names.index(name)]
    return held
