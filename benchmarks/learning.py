"""How well each method learns: Lift from a fixed store of mixed quality, Push-T from human demonstrations, a task
whose logs are good in one region and poor in another, and HalfCheetah from a log and a simulator with half the gravity.

    python -m benchmarks.learning lift --out runs/learning
    python -m benchmarks.learning pusht --out runs/learning
    python -m benchmarks.learning two-qualities --out runs/learning
    python -m benchmarks.learning gravity --out runs/learning

Every (method, seed) is a job that writes one JSON file; a second call does only what is missing. Stores, seeds and
budgets are fixed here, before the methods run. The table gives each method's mean with a bootstrap interval over seeds
and episodes, and paired differences on the same evaluation seeds.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when torch is loaded: a second thread on a busy machine waits by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.stats import spearmanr

from episodes.errors import InputError
from episodes.files import write_whole
from episodes.importers import open_source
from episodes.importing import import_into
from episodes.store import Store
from finetune import online, pretrain
from finetune.config import resolve
from finetune.evaluate import evaluate
from finetune.gap_map import has_gap, rollouts_of
from finetune.h2o import DynamicsGap, GapConfig
from finetune.intervals import paired_difference
from finetune.online import seeds_of_collection
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.famo2o import FamO2O
from policies.policy import Policy
from sim.collect import collect
from sim.labels import env_labels
from sim.operators import make_operator
from sim.task import make_task

SEEDS = (0, 1, 2)

EVALUATION_SEED = 5_000_000
"""Of the first evaluation episode: settings were chosen on others."""


@dataclass(frozen=True)
class Method:
    """How one policy comes to be: pretrained with settings, or fine-tuned from another method's."""

    algorithm: str = ""
    settings: dict[str, Any] | None = None
    preset: str | None = None
    parent: str = ""
    online: dict[str, Any] | None = None


@dataclass(frozen=True)
class Study:
    task: str
    measure: str
    """Per-episode outcome that is compared: `success`, `best_reward` or `returns`."""
    evaluation_episodes: int
    make_store: Callable[[Path], None]
    methods: dict[str, Method]
    comparisons: tuple[tuple[str, str], ...]
    look: Callable[[Run], dict[str, float]] = lambda run: {}
    """What else is to be told of each run."""
    gap: str = ""
    """Between the task that is acted in and the one that is evaluated in; see `finetune.online.OnlineConfig.mix`."""


def lift_store(path: Path) -> None:
    """100 episodes by the scripted operator, quality drawn uniformly from [0, 1]."""
    task = make_task("lift-quick")
    store = Store.create(path, task.contract)
    for episode in collect(task, lambda q: make_operator("scripted", task, q), seeds_of_collection(0, 100)):
        store.append([episode])
    store.write_labels(env_labels(store.snapshot(), task, "env"))


def pusht_store(path: Path) -> None:
    """206 human demonstrations without their images, labelled with coverage."""
    folder = Path(os.environ.get("FIRSTHAND_DATA", "../shared/data"))
    import_into(open_source(folder / "pusht" / "pusht_cchi_v7_replay.zarr", cameras=()), path)
    store = Store.open(path)
    store.write_labels(env_labels(store.snapshot(), make_task("pusht"), "env"))


def two_qualities_store(path: Path) -> None:
    """200 episodes of 20 visits by the scripted operator."""
    task = make_task("two-qualities")
    store = Store.create(path, task.contract)
    store.append(list(collect(task, lambda q: make_operator("scripted", task, q), seeds_of_collection(0, 200))))


def gravity_store(path: Path) -> None:
    """100,000 steps of an agent that learned in HalfCheetah under twice the gravity, from its first step on."""
    file = Path(os.environ.get("FIRSTHAND_DATA", "../shared/data")) / "cheetah_gravity2" / "replay_100k.npz"
    import_into(open_source(file), path, contract=make_task("halfcheetah").contract)


def gap_and_truth(run: Run) -> dict[str, float]:
    """How well the learned gap ranks the simulator's errors: each rolled-out step, done once more under the gravity
    that the log is from; the error is the distance of the next states in the log's own deviations."""
    if not has_gap(run):
        return {}
    gap, batch = rollouts_of(run)
    real = make_task("halfcheetah", gap=STUDIES["gravity"].gap)
    truth = []
    for state, action in zip(batch.state.numpy(), batch.action[:, 0].numpy(), strict=True):
        real.reset(seed=0, options={"state": state})
        truth.append(real.step(action)[0]["state"])
    off = (batch.next_state.numpy() - np.stack(truth)) / gap.preparation.std.numpy()
    error = np.linalg.norm(off, axis=1)
    untaught = DynamicsGap(GapConfig(), gap.preparation, seed=0)
    found = {
        "u(s, a) and the error, rank correlation": gap.gap(batch),
        "-log P_real / P_sim and the error": -gap.log_ratio(batch),
        "the same of networks that have learned nothing": -untaught.log_ratio(batch),
    }
    return {name: float(spearmanr(values, error).statistic) for name, values in found.items()}  # type: ignore[union-attr]


def chosen(run: Run) -> dict[str, float]:
    """The mean coefficient that is chosen in either region of `two-qualities`."""
    algorithm = load_checkpoint(run.last).algorithm
    if not isinstance(algorithm, FamO2O):
        return {}
    coefficient = algorithm.coefficient(torch.linspace(-1, 1, 200).unsqueeze(1))
    return {"coefficient, good logs": float(coefficient[:100].mean()), "poor logs": float(coefficient[100:].mean())}


_SMALL = {"steps": 6_000, "hidden": [64, 64], "learning_rate": 1e-3, "discount": 0.0, "labels": "logged"}
_ALONE = {
    f"iql {beta:g}": Method("iql", _SMALL | {"inverse_temperature": beta}) for beta in (1.0, 2.0, 2.5, 3.0, 4.0, 5.0)
}

_MIXED = {"episodes": 120, "branch_steps": 100, "checkpoint_every": 60}
_TELLING = {"mix": "h2o", "gap_hidden": (64, 64)}
_SOFT = {"learner": {"hidden": (64, 64), "actor_warm_up": 1_000, "initial_temperature": 0.1}}

STUDIES = {
    "gravity": Study(
        task="halfcheetah",
        gap="gravity=2",
        measure="returns",
        evaluation_episodes=50,
        make_store=gravity_store,
        methods={
            "iql": Method("iql", {"steps": 5_000, "hidden": [64, 64], "reward_scale": 0.23, "labels": "logged"}),
            "real": Method(parent="iql", online=_MIXED | {"mix": "real"}),
            "h2o": Method(parent="iql", online=_MIXED | _SOFT | _TELLING | {"algorithm": "h2o"}),
            "naive": Method(parent="iql", online=_MIXED | _SOFT | {"mix": "naive", "algorithm": "h2o"}),
            "sim": Method(parent="iql", online=_MIXED | _SOFT | {"mix": "sim", "algorithm": "h2o"}),
            "h2o_plus": Method(parent="iql", online=_MIXED | _SOFT | _TELLING | {"algorithm": "h2o_plus"}),
            "iql-h2o": Method(parent="iql", online=_MIXED | _TELLING),
        },
        comparisons=tuple(
            (ours, other) for ours in ("h2o", "h2o_plus", "iql-h2o") for other in ("real", "sim", "naive")
        ),
        look=gap_and_truth,
    ),
    "two-qualities": Study(
        task="two-qualities",
        measure="returns",
        evaluation_episodes=100,
        make_store=two_qualities_store,
        methods={
            "bc": Method("bc", _SMALL),
            **_ALONE,
            "famo2o": Method("famo2o", _SMALL),
            "famo2o-online": Method(parent="famo2o", online={"episodes": 100}),
            "iql 2-online": Method(parent="iql 2", online={"episodes": 100}),
        },
        comparisons=(
            *(("famo2o", alone) for alone in ("bc", *_ALONE)),
            ("famo2o-online", "famo2o"),
            ("famo2o-online", "iql 2-online"),
        ),
        look=chosen,
    ),
    "lift": Study(
        task="lift-quick",
        measure="success",
        evaluation_episodes=100,
        make_store=lift_store,
        methods={
            "bc": Method("bc", {"steps": 15_000}, preset="sparse"),
            "iql": Method("iql", {"steps": 15_000}, preset="sparse"),
            "iql-online": Method(parent="iql", online={"episodes": 200}),
        },
        comparisons=(("iql", "bc"), ("iql-online", "iql")),
    ),
    "pusht": Study(
        task="pusht",
        measure="best_reward",
        evaluation_episodes=50,
        make_store=pusht_store,
        methods={
            "bc-one-step": Method("bc", {"chunk": 1, "relative_actions": True}, "demonstrations"),
            "bc": Method("bc", {"relative_actions": True}, "demonstrations"),
            "iql": Method("iql", {"steps": 8_000, "reward_scale": 0.1, "relative_actions": True}, "demonstrations"),
            "iql-online": Method(parent="iql", online={"episodes": 15, "offline_share": 0.9}),
        },
        comparisons=(("bc", "bc-one-step"), ("iql", "bc"), ("iql-online", "iql")),
    ),
}


def run_job(study: Study, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one method with one seed and evaluate it, deterministically and stochastically."""
    method, store, run_path = study.methods[name], folder / "store", folder / f"{name}-{seed}"
    began = time.monotonic()
    begun = (run_path / "config.yaml").exists()
    if method.parent and begun:
        online.resume(run_path)
    elif method.parent:
        config = online.OnlineConfig(task=study.task, gap=study.gap, seed=seed, **(method.online or {}))
        online.finetune(folder / f"{method.parent}-{seed}", run_path, config)
    elif begun:
        pretrain.resume(run_path)
    else:
        settings = dict(method.settings or {})
        # Labels that were learned themselves are others for every seed.
        settings["labels"] = str(settings.get("labels", "env")).format(seed=seed)
        train = resolve(method.algorithm, method.preset, {"seed": seed}, settings)
        pretrain.pretrain(store, run_path, train)
    learned = time.monotonic() - began
    task, outcome = make_task(study.task, gap=study.gap or None), {}
    for mode, deterministic in (("deterministic", True), ("stochastic", False)):
        policy = Policy.load(Run.open(run_path).last, deterministic=deterministic)
        result = evaluate(task, policy, study.evaluation_episodes, seed=EVALUATION_SEED)
        Run.open(run_path).save_evaluation(f"{study.task}-{mode}", result.summary())
        outcome[mode] = getattr(result, study.measure).tolist()
    task.close()
    outcome["look"] = study.look(Run.open(run_path))
    return {**outcome, "seconds": learned, "machine": platform.machine(), "settings": settings_of(study, name)}


def settings_of(study: Study, name: str) -> str:
    """Everything that a result depends on beside its seed: a result made with others is not this method's."""
    method = study.methods[name]
    inherited = settings_of(study, method.parent) if method.parent else ""
    where = f"{study.task} {study.gap}".strip()
    return f"{where} {study.evaluation_episodes} {EVALUATION_SEED} {method} {inherited}".strip()


def is_made(file: Path, settings: str) -> bool:
    """Whether a job's result is there. Where it is not the job begins now, or goes on, and what with is noted beside.

    Raises:
        InputError: where it was made, or begun, with other settings.
    """
    begun = file.with_suffix(".begun")
    if file.exists():
        told = json.loads(file.read_text()).get("settings")
    elif begun.exists():
        told = begun.read_text()
    else:
        begun.parent.mkdir(parents=True, exist_ok=True)
        write_whole(begun, settings)
        return False
    if told != settings:
        raise InputError(f"{file}: was begun with other settings, {told}, than now, {settings}; give another --out")
    return file.exists()


def verdict(low: float, high: float) -> str:
    """Of an interval of the paired difference."""
    return "beats" if low > 0 else "is worse than" if high < 0 else "matches"


def table(study: Study, folder: Path) -> str:
    """What has been measured so far, as Markdown."""
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for name in study.methods:
        found = {seed: folder / f"{name}-{seed}.json" for seed in SEEDS}
        results[name] = {seed: json.loads(file.read_text()) for seed, file in found.items() if file.exists()}
    lines = [f"| method | {study.measure} per seed | mean [95 %] | stochastic |", "|---|---|---|---|"]
    for name, seeds in results.items():
        if len(seeds) < len(SEEDS):
            lines.append(f"| {name} | owed ({len(seeds)} of {len(SEEDS)} seeds) | | |")
            continue
        columns = {mode: [np.array(seeds[seed][mode]) for seed in SEEDS] for mode in ("deterministic", "stochastic")}
        zeros = [np.zeros_like(values) for values in columns["deterministic"]]
        cells = []
        for values in columns.values():
            mean, low, high = paired_difference(values, zeros)
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        per_seed = ", ".join(f"{values.mean():.3f}" for values in columns["deterministic"])
        lines.append(f"| {name} | {per_seed} | {cells[0]} | {cells[1]} |")
    lines.append("")
    for name, seeds in results.items():
        looks = [seeds[seed]["look"] for seed in SEEDS if seeds.get(seed, {}).get("look")]
        told = [f"{key} {', '.join(f'{look[key]:.2f}' for look in looks)}" for key in (looks[0] if looks else ())]
        lines += [f"- {name}: {'; '.join(told)}"] if told else []
    for ours, theirs in study.comparisons:
        if min(len(results[ours]), len(results[theirs])) < len(SEEDS):
            continue
        first, second = ([np.array(results[who][seed]["deterministic"]) for seed in SEEDS] for who in (ours, theirs))
        mean, low, high = paired_difference(first, second)
        lines.append(
            f"- {ours} - {theirs}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]: {ours} {verdict(low, high)} {theirs}"
        )
    return "\n".join(lines)


def run_study(study: Study, folder: Path, only: Sequence[str] = ()) -> str:
    """Do what is missing of a study, and return its table.

    Raises:
        InputError: where a result was made with other settings than the study's now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "store").exists():
        # Made beside its place: a store that is there is the whole one.
        shutil.rmtree(folder / "store.unfinished", ignore_errors=True)
        study.make_store(folder / "store.unfinished")
        (folder / "store.unfinished").rename(folder / "store")
    for seed in SEEDS:
        for name in study.methods:
            file = folder / f"{name}-{seed}.json"
            if only and name not in only:
                continue
            if is_made(file, settings_of(study, name)):
                continue
            write_whole(file, json.dumps(run_job(study, name, seed, folder)))
            print(table(study, folder), flush=True)
    return table(study, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], help="these methods only")
    options = parser.parse_args()
    try:
        print(run_study(STUDIES[options.study], options.out / options.study, options.only))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
