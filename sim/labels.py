"""The label set that a simulator gives: its own reward for every logged state."""

import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.snapshot import Snapshot
from episodes.store import Store
from sim.base import Task
from sim.truth import score_episode


def env_labels(snapshot: Snapshot, task: Task, name: str) -> LabelSet:
    """Reward, success and the end of the task for every logged step, recomputed from the states.

    A step ends the task where the state after it is a success and the task ends with success, or where the log says
    that the task terminated. A step whose next observation the log lacks has no label; where such a step is one that
    could be learned from, its episode is not covered; nor is one that was collected with observation noise, whose
    `logged` labels are the true ones.

    Raises:
        InputError: where the task cannot score states, or the store holds another layout than the task's.
    """
    if not snapshot.episodes:
        raise InputError(f"{snapshot.path}: holds no episodes to label")
    if not task.scores_states:
        raise InputError(f"task {task.name!r}: its reward is no function of the state; use the labels 'logged' instead")
    check_states(snapshot, task)
    state, parts, covered = snapshot.column("state"), [], np.ones(snapshot.episodes, bool)
    terminated = np.zeros(snapshot.steps, np.float32)
    step_starts, observation_starts = snapshot.step_starts, snapshot.observation_starts
    for index in range(snapshot.episodes):
        steps = int(snapshot.step_ends[index]) - step_starts[index]
        reward, success = score_episode(
            task, state[observation_starts[index] : snapshot.observation_ends[index]], int(steps)
        )
        parts.append((reward, success))
        last = int(snapshot.step_ends[index]) - 1
        if task.terminates_on_success:
            terminated[step_starts[index] : last + 1] = np.nan_to_num(success)
        if snapshot.terminated[index]:
            terminated[last] = 1.0
            covered[index] = not np.isnan(reward[-1])
        # A noisy sensor's state is not the state: what would be read off it never happened.
        covered[index] &= "obs_noise" not in snapshot.metadata[index]["origin"]
    empty = np.zeros(0, np.float32)
    values = {
        "reward": np.concatenate([reward for reward, _ in parts] or [empty]),
        "success": np.concatenate([success for _, success in parts] or [empty]),
        "terminated": terminated,
    }
    provenance = {
        "method": "env",
        "judge": "env",
        "task": task.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "snapshot": snapshot.id,
    }
    return LabelSet(name, values, covered, provenance)


def label_with_env(store: Store, task: Task, name: str) -> dict[str, Any]:
    """Write the label set, and say what it amounts to: what `firsthand label --json` prints."""
    snapshot = store.snapshot()
    began = time.monotonic()
    labels = env_labels(snapshot, task, name)
    seconds = time.monotonic() - began
    store.write_labels(labels)
    starts = snapshot.step_starts
    reward, success = (np.nan_to_num(labels.values[key]) for key in ("reward", "success"))
    return {
        "labels": name,
        "method": "env",
        "judge": "env",
        "pairs": 0,
        "unsure": 0,
        "accuracy": None,
        "spearman": None,
        "frames_per_second": snapshot.steps / seconds,
        "episodes": int(labels.covered.sum()),
        "uncovered": int((~labels.covered).sum()),
        "return_mean": float(np.add.reduceat(reward, starts)[labels.covered].mean()),
        "success_rate": float(np.maximum.reduceat(success, starts)[labels.covered].mean()),
    }


def check_states(snapshot: Snapshot, task: Task) -> None:
    """Raise an InputError unless the store's states are the task's."""
    if task.contract.state_names != snapshot.contract.state_names:
        raise InputError(
            f"{snapshot.path}: its state is not task {task.name!r}'s: "
            f"{_first_difference(snapshot.contract.state_names, task.contract.state_names)}"
        )


def _first_difference(got: list[str], expected: list[str]) -> str:
    if len(got) != len(expected):
        return f"{len(got)} entries, expected {len(expected)}"
    mine, theirs = next((a, b) for a, b in zip(got, expected, strict=True) if a != b)
    return f"entry {mine!r}, expected {theirs!r}"
