"""What is feasible: the learned set against the true one, the filter's margin, violations and return, and its cost.

    python -m benchmarks.feasibility --out runs/feasibility

The point robot (`sim/point_robot.py`), whose true feasible set is known by reachability on a grid. Logs, seeds and
budgets are fixed here. Runs that are in the folder already are not made again. Prints Markdown and writes
`feasibility.json`.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from episodes.cost_labels import label_with_constraints
from episodes.files import write_whole
from episodes.snapshot import Snapshot
from episodes.store import Store
from finetune.config import resolve
from finetune.evaluate import evaluate
from finetune.intervals import rate_interval
from finetune.pretrain import pretrain
from finetune.run import Run
from policies.calibration import Calibration, Familiarity, approach, calibrate
from policies.checkpoint import load_checkpoint
from policies.feasibility import FeasibilityFilter, FilteredPolicy, rows_of
from policies.fisor import FISOR
from policies.policy import Policy
from sim.collect import collect
from sim.operators import make_operator
from sim.point_robot import CONSTRAINTS, MAX_ACCELERATION, MAX_SPEED, RATE
from sim.reachability import FeasibleSet, depth
from sim.task import make_task

TASK = "point-robot"
QUALITY = (0.0, 0.6)
HELD_OUT_SEED = 100_000
EVALUATION_SEED = 5_000_000
RATE_ASKED = 0.1
"""False-safe rate that the margin is calibrated to."""
HORIZON = 5
"""Steps before a violation in which an accepted action counts as false-safe."""

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "bc": ("bc", {"steps": 3000}),
    "iql": ("iql", {"steps": 3000, "expectile": 0.9, "inverse_temperature": 10.0, "reward_scale": 0.1}),
    "fisor": (
        "fisor",
        {
            "steps": 8000,
            "reward_scale": 0.1,
            "feasibility_expectile": 0.99,
            "learning_rate": 5e-4,
            "target_rate": 0.02,
            "actor_rate": 0.005,
            "hidden": [128, 128],
            "width": 64,
            "blocks": 2,
        },
    ),
}


def logs(path: Path, episodes: int, first: int) -> Snapshot:
    """Episodes of the scripted operator, of low to middling quality, labelled by the task's own constraints."""
    if not path.exists():
        task = make_task(TASK)
        store = Store.create(path, task.contract)
        seeds = range(first, first + episodes)
        store.append(list(collect(task, lambda q: make_operator("scripted", task, q), seeds, quality=QUALITY)))
        label_with_constraints(store, CONSTRAINTS, "constraints")
    return Store.open(path).snapshot()


def steps_of(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[slice]]:
    """Per step: the state it was chosen in, the action, h of what it led to; and the steps of each episode."""
    rows = np.concatenate(
        [np.arange(a, b - 1) for a, b in zip(snapshot.observation_starts, snapshot.observation_ends, strict=True)]
    )
    cost = snapshot.labels("constraints").values["cost"]
    parts = [slice(int(a), int(b)) for a, b in zip(snapshot.step_starts, snapshot.step_ends, strict=True)]
    return snapshot.column("state")[rows], snapshot.column("action"), cost, parts


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def feasible_set(model: FISOR, truth: FeasibleSet, state: np.ndarray) -> dict[str, float]:
    """The learned set against the true one at some states: a state is feasible where V_h and h both say so."""
    outside, true = depth(state[:, :2]) <= 0, truth.feasible(state)
    learned = outside & (model.feasibility(torch.from_numpy(state.astype(np.float32))).numpy() <= 0)
    doomed = outside & ~true
    return {
        "states": len(state),
        "iou": overlap(learned, true),
        "iou_of_what_touches_nothing_now": overlap(outside, true),
        "iou_of_the_doomed": overlap(outside & ~learned, doomed),
        "doomed_called_feasible": float((learned & doomed).sum() / doomed.sum()),
        "feasible_called_infeasible": float((true & ~learned).sum() / true.sum()),
    }


def margin_of(model: FISOR, train: Snapshot, held_out: Snapshot) -> tuple[Calibration, FeasibilityFilter]:
    """Calibrate on the held-out episodes; a filter with that margin."""
    familiarity = Familiarity.of(rows_of(model, *steps_of(train)[:2]), rows_of(model, *steps_of(held_out)[:2]))
    judge = FeasibilityFilter(model, familiarity=familiarity)
    state, action, cost, parts = steps_of(held_out)
    q_h = judge.q_h(state, action)
    found = calibrate([approach(q_h[part], cost[part], HORIZON) for part in parts], RATE_ASKED)
    return found, FeasibilityFilter(model, margin=found.margin, familiarity=familiarity)


def truly_safe(judge: FeasibilityFilter, truth: FeasibleSet, snapshot: Snapshot) -> dict[str, Any]:
    """On episodes that nothing was fitted to: how often an accepted action was truly a false step."""
    state, action, _, parts = steps_of(snapshot)
    accepted = judge.q_h(state, action) <= -judge.margin
    safe = truth.action_is_safe(state, action)
    # A state that is lost already is no action's fault.
    savable = truth.feasible(state)
    wrong = accepted & ~safe & savable
    episodes = [bool(wrong[part].any()) for part in parts]
    return {
        "episodes": len(parts),
        "false_safe_episodes": sum(episodes),
        "false_safe_interval": list(rate_interval(sum(episodes), len(parts))),
        "false_safe_steps": float(wrong.sum() / (~safe & savable).sum()),
        "safe_steps_accepted": float((accepted & safe).sum() / safe.sum()),
    }


def brake(observation: dict[str, np.ndarray]) -> np.ndarray:
    """What a stop is to the point robot."""
    speed = np.clip(observation["state"][2:], -MAX_SPEED, MAX_SPEED)
    return np.clip(-speed * RATE, -MAX_ACCELERATION, MAX_ACCELERATION).astype(np.float32)


def timings(judge: FeasibilityFilter, policy: Policy, state: np.ndarray, repetitions: int) -> dict[str, Any]:
    """Of one judgement [ms]: where the own action is accepted, and where all alternatives are needed."""
    found: dict[str, Any] = {}
    for name, threshold in (("own action accepted", -np.inf), ("alternatives needed", np.inf)):
        measured = FeasibilityFilter(judge.model, familiarity=judge.familiarity)
        measured.margin = threshold
        wall, cpu = [], []
        for index in range(repetitions):
            observation = {"state": state[index % len(state)].astype(np.float32)}
            own = policy.act(observation)
            began, thread = time.perf_counter(), time.thread_time()
            measured.judge(observation, own, policy)
            cpu.append(time.thread_time() - thread)
            wall.append(time.perf_counter() - began)
        found[name] = {
            kind: [float(v) for v in np.percentile(np.array(values) * 1e3, [50, 99])]
            for kind, values in (("cpu", cpu), ("wall", wall))
        }
    return found


def behaviour(make: Callable[[], Any], episodes: int) -> dict[str, Any]:
    summary = evaluate(make_task(TASK), make(), episodes, seed=EVALUATION_SEED).summary()
    return {key: value for key, value in summary.items() if key != "per_episode"}


def measure(folder: Path, train_episodes: int, held_out_episodes: int, episodes: int) -> dict[str, Any]:
    """Everything, as one document."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    train = logs(folder / "train", train_episodes, 0)
    held_out = logs(folder / "held-out", held_out_episodes, HELD_OUT_SEED)
    fresh = logs(folder / "fresh", held_out_episodes, 2 * HELD_OUT_SEED)
    for name, (algorithm, settings) in METHODS.items():
        if not Run(folder / name).has_checkpoint():
            labelled = {"labels": "constraints", "log_every": 1000, **settings}
            pretrain(folder / "train", folder / name, resolve(algorithm, None, None, labelled))
    model = load_checkpoint(Run.open(folder / "fisor").last).algorithm
    assert isinstance(model, FISOR)
    truth = FeasibleSet()
    uniform = np.random.default_rng(0).uniform(-1, 1, (20_000, 4))
    visited = steps_of(fresh)[0]
    calibration, judge = margin_of(model, train, held_out)

    def load(name: str) -> Policy:
        return Policy.load(Run.open(folder / name).last)

    def published() -> Policy:
        policy = load("fisor")
        acting = policy.algorithm
        assert isinstance(acting, FISOR)
        acting.actor.ranking = "least_infeasible"
        return policy

    filtered = {name: FilteredPolicy(load(name), judge, brake) for name in ("bc", "iql", "fisor")}
    methods: dict[str, Callable[[], Any]] = {
        "operator of quality 0.6": lambda: make_operator("scripted", make_task(TASK), 0.6),
        **{name: (lambda name=name: load(name)) for name in METHODS},
        "fisor, published ranking": published,
        **{f"{name} + filter": (lambda each=each: each) for name, each in filtered.items()},
    }
    return {
        "machine": platform.machine(),
        "train_episodes": train_episodes,
        "train_steps": train.steps,
        "held_out_episodes": held_out_episodes,
        "evaluation_episodes": episodes,
        "set": {"uniform": feasible_set(model, truth, uniform), "visited": feasible_set(model, truth, visited)},
        "calibration": calibration.text(),
        "margin": calibration.margin,
        "truth": {
            "margin 0": truly_safe(FeasibilityFilter(model), truth, fresh),
            "calibrated": truly_safe(judge, truth, fresh),
        },
        "methods": {name: behaviour(make, episodes) for name, make in methods.items()},
        "rulings": {name: {str(k): v for k, v in each.counts.items()} for name, each in filtered.items()},
        "milliseconds": timings(judge, load("iql"), visited, 300),
    }


def table(found: dict[str, Any]) -> str:
    """The document as Markdown."""
    lines = [
        f"{found['train_episodes']} episodes, {found['train_steps']} steps; one training seed; "
        f"{found['evaluation_episodes']} evaluation episodes",
        "",
        "| states | IoU | IoU of `h <= 0` | IoU of the doomed | doomed called feasible | feasible called infeasible |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found["set"].items():
        numbers = " | ".join(f"{value:.3f}" for key, value in row.items() if key != "states")
        lines.append(f"| {name} ({row['states']}) | {numbers} |")
    lines += ["", found["calibration"], ""]
    lines += ["| margin | episodes with a false step accepted | false steps accepted | safe steps accepted |"]
    lines += ["|---|---|---|---|"]
    for name, row in found["truth"].items():
        low, high = row["false_safe_interval"]
        share = f"{row['false_safe_episodes']} of {row['episodes']} [{low:.3f}, {high:.3f}]"
        lines.append(f"| {name} | {share} | {row['false_safe_steps']:.3f} | {row['safe_steps_accepted']:.3f} |")
    lines += ["", "| method | episodes with violations | violating steps | success | return |", "|---|---|---|---|---|"]
    for name, row in found["methods"].items():
        rates = [(row[f"{key}_rate"], row[f"{key}_interval"]) for key in ("violated", "success")]
        violated, success = (f"{rate:.2f} [{low:.2f}, {high:.2f}]" for rate, (low, high) in rates)
        low, high = row["return_interval"]
        lines.append(
            f"| {name} | {violated} | {row['violation_mean']:.2f} | {success} | "
            f"{row['return_mean']:.1f} [{low:.1f}, {high:.1f}] |"
        )
    lines += ["", *(f"- {name} + filter: {counts}" for name, counts in found["rulings"].items())]
    lines += ["", "| judgement | CPU p50, p99 [ms] | wall p50, p99 [ms] |", "|---|---|---|"]
    for name, row in found["milliseconds"].items():
        lines.append(
            f"| {name} | {row['cpu'][0]:.2f}, {row['cpu'][1]:.2f} | {row['wall'][0]:.2f}, {row['wall'][1]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train-episodes", type=int, default=700)
    parser.add_argument("--held-out-episodes", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=100)
    options = parser.parse_args()
    found = measure(options.out, options.train_episodes, options.held_out_episodes, options.episodes)
    write_whole(options.out / "feasibility.json", json.dumps(found, indent=2))
    print(table(found))


if __name__ == "__main__":
    main()
