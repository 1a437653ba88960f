"""What is feasible: the learned set against the true one, the filter's margin, violations and return, and its cost.

    python -m benchmarks.feasibility point-robot --out runs/feasibility
    python -m benchmarks.feasibility speed-limit --out runs/feasibility

`point-robot` has a true feasible set that is known by reachability on a grid. `speed-limit` is HalfCheetah under twice
the gravity, learned from somebody else's logs (`FIRSTHAND_DATA`), most of which run faster than it may. Logs, seeds and
budgets are fixed here. Every training seed is a job that writes one JSON file; a second call does what is missing.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.learning import EVALUATION_SEED, SEEDS, gravity_store
from episodes.cost_labels import label_with_constraints
from episodes.errors import InputError
from episodes.files import write_whole
from episodes.store import Store
from finetune.calibrating import Steps, calibrated, steps_of
from finetune.config import resolve
from finetune.evaluate import evaluate
from finetune.intervals import paired_difference, rate_interval
from finetune.pretrain import pretrain
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.feasibility import FeasibilityFilter, FilteredPolicy
from policies.fisor import FISOR
from policies.policy import Policy
from sim.collect import collect
from sim.operators import make_operator
from sim.reachability import FeasibleSet, depth
from sim.task import make_task

OTHER_LOGS = 100_000
"""Between the collection seeds of what is learned from, calibrated on and measured on."""
COSTS = "constraints"
"""The label set with costs; `penalty X` is the same with X taken from the reward of every violating step."""


@dataclass(frozen=True)
class Method:
    """How a policy comes to be, and what it is filtered by."""

    algorithm: str
    settings: dict[str, Any]
    labels: str = COSTS
    constrained: bool = False
    """Whether it is a baseline that knows of the constraint in the usual ways."""


@dataclass(frozen=True)
class Study:
    task: str
    gap: str
    episodes: int
    """Evaluated, per training seed."""
    horizon: int
    """Steps before a violation in which an accepted action counts as false-safe."""
    penalties: tuple[float, ...]
    methods: dict[str, Method]
    make_logs: Callable[[Path], None]
    """Makes the stores `train`, `held-out` and `fresh` in a folder."""
    rate: float
    """False-safe rate that the margin is calibrated to."""
    known: bool = False
    """Whether the true feasible set is known."""


def point_robot_logs(folder: Path) -> None:
    """Episodes of the scripted operator, of low to middling quality: 700, and twice 200 of others."""
    task = make_task("point-robot")
    for number, (name, episodes) in enumerate((("train", 700), ("held-out", 200), ("fresh", 200))):
        store = Store.create(folder / name, task.contract)
        seeds = range(number * OTHER_LOGS, number * OTHER_LOGS + episodes)
        store.append(list(collect(task, lambda q: make_operator("scripted", task, q), seeds, quality=(0.0, 0.6))))


def cheetah_logs(folder: Path) -> None:
    """Of every five episodes of an agent that learned HalfCheetah the first three, the fourth, and the fifth."""
    gravity_store(folder / "all")
    snapshot = Store.open(folder / "all").snapshot()
    for name, places in (("train", (0, 1, 2)), ("held-out", (3,)), ("fresh", (4,))):
        store = Store.create(folder / name, snapshot.contract)
        store.append([snapshot.episode(index) for index in range(snapshot.episodes) if index % 5 in places])


def _methods(
    steps: int, penalties: tuple[float, ...], limit: float, fisor: dict[str, Any], both: dict[str, Any]
) -> dict[str, Method]:
    sharp = both | {"steps": steps, "expectile": 0.9, "inverse_temperature": 10.0}
    return {
        "bc": Method("bc", both | {"steps": steps}),
        "iql": Method("iql", sharp),
        **{f"iql, penalty {x:g}": Method("iql", sharp, f"penalty-{x:g}", constrained=True) for x in penalties},
        "iql_lagrangian": Method("iql_lagrangian", sharp | {"cost_limit": limit}, constrained=True),
        "fisor": Method("fisor", both | fisor),
    }


_FISOR = {
    "steps": 14_000,
    "feasibility_expectile": 0.99,
    "learning_rate": 1e-3,
    "critic_decay": True,
    "target_rate": 0.02,
    "actor_rate": 0.005,
    "hidden": [128, 128],
    "width": 64,
    "blocks": 2,
}

STUDIES = {
    "point-robot": Study(
        task="point-robot",
        gap="",
        episodes=100,
        horizon=5,
        penalties=(2.0, 10.0),
        methods=_methods(3_000, (2.0, 10.0), 0.1, _FISOR, {"reward_scale": 0.1}),
        make_logs=point_robot_logs,
        rate=0.1,
        known=True,
    ),
    "speed-limit": Study(
        task="halfcheetah:horizon=300,speed_limit=4",
        gap="gravity=2",
        episodes=20,
        horizon=5,
        penalties=(2.0, 10.0),
        methods=_methods(5_000, (2.0, 10.0), 0.1, _FISOR, {"reward_scale": 0.23, "hidden": [128, 128]}),
        make_logs=cheetah_logs,
        # 16 of the 20 held-out episodes violate something, and certify no less than 17 %.
        rate=0.2,
    ),
}


def logs(study: Study, folder: Path) -> None:
    """The stores of a study with all their label sets."""
    if (folder / "fresh").exists():
        return
    study.make_logs(folder)
    constraints = make_task(study.task).constraints
    assert constraints is not None
    for name in ("train", "held-out", "fresh"):
        store = Store.open(folder / name)
        label_with_constraints(store, constraints, COSTS)
        for penalty in study.penalties:
            label_with_constraints(store, constraints, f"penalty-{penalty:g}", penalty=penalty)


def all_steps(path: Path) -> Steps:
    """What was seen, done, and came of it, in all of a store."""
    snapshot = Store.open(path).snapshot()
    return steps_of(snapshot, snapshot.labels(COSTS).values["cost"], list(range(snapshot.episodes)))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def feasible_set(model: FISOR, truth: FeasibleSet, state: np.ndarray) -> dict[str, float]:
    """The learned set against the true one at some states: a state is feasible where V_h and h both say so."""
    outside, true = depth(state[:, :2]) <= 0, truth.feasible(state)
    learned = outside & (model.feasibility(torch.from_numpy(state.astype(np.float32))).numpy() <= 0)
    doomed = outside & ~true
    return {
        "IoU": overlap(learned, true),
        "trivial judge's IoU": overlap(outside, true),
        "IoU of the doomed": overlap(outside & ~learned, doomed),
        "doomed called feasible": float((learned & doomed).sum() / doomed.sum()),
        "feasible called infeasible": float((true & ~learned).sum() / true.sum()),
    }


def truly_safe(judge: FeasibilityFilter, truth: FeasibleSet, steps: Steps) -> dict[str, Any]:
    """On episodes that nothing was fitted to: how often an accepted action was truly a false step."""
    accepted = judge.q_h(steps.state, steps.action) <= -judge.margin
    safe = truth.action_is_safe(steps.state, steps.action)
    # A state that is lost already is no action's fault.
    savable = truth.feasible(steps.state)
    wrong = accepted & ~safe & savable
    return {
        "episodes": len(steps.episodes),
        "false-safe episodes": sum(bool(wrong[part].any()) for part in steps.episodes),
        "false steps accepted": float(wrong.sum() / (~safe & savable).sum()),
        "safe steps accepted": float((accepted & safe).sum() / safe.sum()),
    }


def shortly_before(judge: FeasibilityFilter, steps: Steps, horizon: int) -> dict[str, Any]:
    """The same by what the log itself shows: violating episodes with an action accepted shortly before."""
    accepted = judge.q_h(steps.state, steps.action) <= -judge.margin
    violating = [part for part in steps.episodes if (steps.cost[part] > 0).any()]
    firsts = [part.start + int(np.argmax(steps.cost[part] > 0)) for part in violating]
    false = sum(
        bool(accepted[max(first + 1 - horizon, part.start) : first + 1].any())
        for first, part in zip(firsts, violating, strict=True)
    )
    quiet = [accepted[part] for part in steps.episodes if not (steps.cost[part] > 0).any()]
    share = float(np.concatenate(quiet).mean()) if quiet else None
    return {"violating episodes": len(violating), "false-safe episodes": false, "steps of others accepted": share}


def timings(judge: FeasibilityFilter, policy: Policy, state: np.ndarray, repetitions: int) -> dict[str, Any]:
    """Of one judgement [ms]: where the own action is accepted, and where all alternatives are needed."""
    found: dict[str, Any] = {}
    for name, threshold in (("own action accepted", -np.inf), ("alternatives needed", np.inf)):
        measured = FeasibilityFilter(judge.model, familiarity=judge.familiarity)
        measured.margin = threshold
        wall, cpu = [], []
        for index in range(repetitions):
            observation = {"state": state[index * len(state) // repetitions].astype(np.float32)}
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


def behaviour(study: Study, make: Callable[[Any], Any]) -> dict[str, Any]:
    """Per-episode outcomes of what is made for a task."""
    task = make_task(study.task, gap=study.gap or None)
    operator = make(task)
    found = evaluate(task, operator, study.episodes, seed=EVALUATION_SEED)
    task.close()
    assert found.violations is not None
    succeeds = not np.isnan(found.success).any()
    return {
        "violations": found.violations.tolist(),
        "lengths": found.lengths.tolist(),
        "returns": found.returns.tolist(),
        "success": found.success.tolist() if succeeds else None,
        "rulings": {str(k): v for k, v in operator.counts.items()} if isinstance(operator, FilteredPolicy) else None,
    }


def job(study: Study, seed: int, folder: Path) -> dict[str, Any]:
    """Everything of one training seed."""
    for name, method in study.methods.items():
        run = folder / f"{name}-{seed}"
        if not Run(run).has_checkpoint():
            settings = {"labels": method.labels, "log_every": 1000, "seed": seed, **method.settings}
            pretrain(folder / "train", run, resolve(method.algorithm, None, None, settings))
    model = load_checkpoint(Run.open(folder / f"fisor-{seed}").last).algorithm
    assert isinstance(model, FISOR)
    train, held_out, fresh = (all_steps(folder / name) for name in ("train", "held-out", "fresh"))
    calibration, judge = calibrated(model, train, held_out, study.rate, study.horizon)

    def load(name: str) -> Policy:
        return Policy.load(Run.open(folder / f"{name}-{seed}").last)

    def published() -> Policy:
        policy = load("fisor")
        assert isinstance(policy.algorithm, FISOR)
        policy.algorithm.actor.ranking = "least_infeasible"
        return policy

    def filtered(name: str) -> Callable[[Any], FilteredPolicy]:
        return lambda task: FilteredPolicy(load(name), judge, lambda _: task.hold_action())

    makers: dict[str, Callable[[Any], Any]] = {
        **{name: (lambda task, name=name: load(name)) for name in study.methods},
        "fisor, published ranking": lambda task: published(),
        **{f"{name} + filter": filtered(name) for name in ("iql", "fisor")},
    }
    found: dict[str, Any] = {
        "calibration": calibration.text(),
        "margin": calibration.margin,
        "fresh": shortly_before(judge, fresh, study.horizon),
        "methods": {name: behaviour(study, make) for name, make in makers.items()},
        "milliseconds": timings(judge, load("iql"), fresh.state, 300),
    }
    if study.known:
        truth = FeasibleSet()
        uniform = np.random.default_rng(0).uniform(-1, 1, (20_000, 4))
        found["set"] = {
            "uniform": feasible_set(model, truth, uniform),
            "visited": feasible_set(model, truth, fresh.state),
        }
        found["truth"] = {
            "0": truly_safe(FeasibilityFilter(model), truth, fresh),
            "calibrated, and known": truly_safe(judge, truth, fresh),
        }
    return found


def _interval(values: list[np.ndarray], digits: int = 2) -> str:
    mean, low, high = paired_difference(values, [np.zeros_like(each) for each in values])
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(study: Study, found: dict[int, dict[str, Any]]) -> str:
    """What was measured so far, as Markdown."""
    lines = [f"training seeds: {', '.join(map(str, found))}; {study.episodes} evaluation episodes each", ""]
    seeds = list(found.values())
    if study.known:
        names = list(seeds[0]["set"]["uniform"])
        lines += [f"| states | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for where in ("uniform", "visited"):
            cells = (", ".join(f"{each['set'][where][name]:.3f}" for each in seeds) for name in names)
            lines.append(f"| {where} | {' | '.join(cells)} |")
        columns = "episodes with a false step accepted | false steps accepted | safe steps accepted"
        lines += ["", f"| margin | {columns} |", "|---|---|---|---|"]
        for margin in ("0", "calibrated, and known"):
            rows = [each["truth"][margin] for each in seeds]
            false, episodes = (sum(row[key] for row in rows) for key in ("false-safe episodes", "episodes"))
            low, high = rate_interval(false, episodes)
            rates = (
                ", ".join(f"{row[f'{kind} accepted']:.3f}" for row in rows) for kind in ("false steps", "safe steps")
            )
            each = ", ".join(str(row["false-safe episodes"]) for row in rows)
            lines.append(f"| {margin} | {each}: {false} of {episodes} [{low:.3f}, {high:.3f}] | {' | '.join(rates)} |")
        lines.append("")
    lines += [
        f"- seed {seed}: {each['calibration']}; on fresh episodes {each['fresh']}" for seed, each in found.items()
    ]
    lines += ["", "| method | episodes with violations | violating steps | return | success |", "|---|---|---|---|---|"]
    outcome: dict[str, dict[str, list[np.ndarray]]] = {}
    for name in seeds[0]["methods"]:
        rows = [each["methods"][name] for each in seeds]
        violations = [np.array(row["violations"]) for row in rows]
        returns = [np.array(row["returns"]) for row in rows]
        shares = [v / np.array(row["lengths"]) for v, row in zip(violations, rows, strict=True)]
        outcome[name] = {"violating steps": violations, "return": returns}
        success = _interval([np.array(row["success"]) for row in rows]) if rows[0]["success"] is not None else ""
        cells = [_interval([(v > 0).astype(float) for v in violations]), _interval(shares, 3), _interval(returns, 1)]
        lines.append(f"| {name} | {' | '.join(cells)} | {success} |")
    lines.append("")
    baselines = [name for name, method in study.methods.items() if method.constrained]
    best = max(baselines, key=lambda name: np.mean(np.concatenate(outcome[name]["return"])))
    for ours in ("fisor", "iql + filter", "fisor + filter"):
        for theirs in baselines:
            mean, low, high = paired_difference(outcome[ours]["violating steps"], outcome[theirs]["violating steps"])
            verdict = "fewer" if high < 0 else "more" if low > 0 else "as many"
            lines.append(f"- violating steps, {ours} - {theirs}: {mean:+.2f} [{low:+.2f}, {high:+.2f}]: {verdict}")
        mean, low, high = paired_difference(outcome[ours]["return"], outcome[best]["return"])
        verdict = "no worse" if high >= 0 else "worse"
        lines.append(f"- return, {ours} - {best} (the best of them): {mean:+.1f} [{low:+.1f}, {high:+.1f}]: {verdict}")
    for name in ("iql + filter", "fisor + filter"):
        lines.append(f"- rulings, {name}: {', '.join(str(each['methods'][name]['rulings']) for each in seeds)}")
    lines += ["", "| judgement (first seed) | CPU p50, p99 [ms] | wall p50, p99 [ms] |", "|---|---|---|"]
    for name, row in seeds[0]["milliseconds"].items():
        cells = (f"{row[kind][0]:.2f}, {row[kind][1]:.2f}" for kind in ("cpu", "wall"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study, folder = STUDIES[options.study], options.out / options.study
    found: dict[int, dict[str, Any]] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logs(study, folder)
        for seed in SEEDS:
            file = folder / f"seed-{seed}.json"
            if not file.exists():
                write_whole(file, json.dumps(job(study, seed, folder), indent=2))
            found[seed] = json.loads(file.read_text())
            print(table(study, found), flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
