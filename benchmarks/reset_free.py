"""Lift without a person who resets: lift, put back, lift again, through ROS 2, learning in both directions.

    python -m benchmarks.reset_free --out runs/reset-free
    python -m benchmarks.reset_free --out runs/reset-free --seed 0

Two policies are pretrained by IQL, each from a store of its own of mixed quality. Then the robot's nodes, in lock-step,
run so many episodes with two learners beside them, and a person is asked where `firsthand finetune --ros --reset-free`
asks one. Beside it stands the same robot that a person resets for every episode, and that only lifts. Every (way, seed)
is a job that goes on where it was left; a second call does only what is missing. Stores, seeds and budgets are fixed
here, before the ways run. The person is a program: it puts the cube where a seed says, and rearms a guardian that has
stopped; each visit is counted, and so is every time that a job was begun anew.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.learning import is_made
from benchmarks.online import next_seed
from episodes.errors import InputError
from episodes.files import write_whole
from episodes.store import Store
from finetune import pretrain
from finetune.config import resolve
from finetune.evaluate import evaluate
from finetune.intervals import rate_interval
from finetune.online import seeds_of_collection
from finetune.run import Run
from policies.policy import Policy
from robot.up import running
from sim.collect import collect
from sim.labels import env_labels
from sim.operators import make_operator
from sim.task import make_task

SEEDS = (0, 1, 2)
EVALUATION_SEED = 5_000_000
LOGGED, STEPS = 100, 8_000
"""Episodes per direction in the logs, and updates of the pretraining."""
EPISODES, EVALUATED, PERSON_EVERY = 100, 50, 20


@dataclass(frozen=True)
class Direction:
    """What is done, and the seeds that its log is collected with."""

    name: str
    task: str
    seed: int


FORWARD = Direction("forward", "lift-quick:placement=0.04", 0)
BACKWARD = Direction("backward", "lift-back-quick:placement=0.04,lost=0.4", 1)
"""The robot's second and third tries begin where the one before has failed; the log has to show that, too."""
WAYS = ("reset-free", "resets")


def make_store(direction: Direction, path: Path) -> None:
    """Episodes by the scripted operator, quality drawn uniformly from [0, 1]."""
    task = make_task(direction.task)
    store = Store.create(path, task.contract)
    seeds = seeds_of_collection(direction.seed, LOGGED)
    for episode in collect(task, lambda quality: make_operator("scripted", task, quality), seeds):
        store.append([episode])
    store.write_labels(env_labels(store.snapshot(), task, "env"))
    task.close()


def pretrained(direction: Direction, folder: Path, seed: int) -> Path:
    """The run that a direction begins with; made where it is missing."""
    store, run = folder / f"{direction.name}-store", folder / f"{direction.name}-iql-{seed}"
    if not store.exists():
        # Made beside its place: a store that is there is the whole one.
        unfinished = store.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make_store(direction, unfinished)
        unfinished.rename(store)
    if (run / "config.yaml").exists():
        pretrain.resume(run)
    else:
        settings = {"labels": "env", "steps": STEPS, "device": "cpu"}
        pretrain.pretrain(store, run, resolve("iql", "sparse", {"seed": seed}, settings))
    return run


class Person:
    """Comes when it is asked, which is noted in a file, and rearms a guardian that has stopped."""

    def __init__(self, notes: Path):
        self._notes = notes

    def __call__(self, text: str) -> None:
        if text.startswith("a person is needed: "):
            with self._notes.open("a") as file:
                file.write(text.removeprefix("a person is needed: ") + "\n")
        if "guardian/rearm" in text:
            self.rearm()

    def rearm(self) -> None:
        from benchmarks.bystander import Bystander

        with Bystander() as bystander:
            bystander.rearm()


def on_robot(way: str, parents: dict[str, Path], folder: Path, seed: int, person: Person) -> None:
    """Act and learn from so many episodes; begun before, it goes on."""
    from robot.reset_free import learn_reset_free
    from robot.session import learn_on_robot

    given = {
        "run": str(parents["forward"]),
        "new": str(folder / "forward"),
        "task": FORWARD.task,
        "real_time_factor": 0.0,
        "judge": "simulation",
        "settings": json.dumps({"seed": seed}),
        "seed": next_seed(seed, folder / "forward", folder / "backward"),
    }
    if way == "reset-free":
        given |= {"backward": str(parents["backward"]), "backward_new": str(folder / "backward")}
    with running("finetune", given, lambda line: print(line) if "ERROR" in line else None):
        if way == "reset-free":
            learn_reset_free(EPISODES, person_every=PERSON_EVERY, enable=True, wait=True, timeout=600.0, say=person)
            return
        while True:
            try:
                learn_on_robot(EPISODES, enable=True, wait=True, timeout=600.0)
                return
            except InputError as error:
                if "rearm it first" not in str(error):
                    raise
                person.rearm()


def acted(folder: Path) -> dict[str, list[float]]:
    """Success of every episode that is in the stores of a job, in order, per direction."""
    found = {}
    for name in ("forward", "backward"):
        store = folder / name / "episodes"
        found[name] = []
        if store.exists():
            snapshot = Store.open(store).snapshot()
            # What nobody said of a step was no success.
            success = np.nan_to_num(snapshot.labels("logged").values["success"])
            rows = zip(snapshot.step_starts, snapshot.step_ends, strict=True)
            found[name] = [float(success[first:last].max()) for first, last in rows]
    return found


def evaluated(direction: Direction, run: Path) -> list[float]:
    """Success of the mean action from resets, on the same seeds for everybody."""
    task = make_task(direction.task)
    policy = Policy.load(Run.open(run).last, deterministic=True)
    success = evaluate(task, policy, EVALUATED, seed=EVALUATION_SEED).success.tolist()
    task.close()
    return success


def acting(way: str, folder: Path, out: Path, seed: int) -> dict[str, Any]:
    """What happened on the robot."""
    parents = {each.name: pretrained(each, out, seed) for each in (FORWARD, BACKWARD)}
    folder.mkdir(parents=True, exist_ok=True)
    notes = folder / "asked.txt"
    on_robot(way, parents, folder, seed, Person(notes))
    found = acted(folder)
    asked = notes.read_text().splitlines() if notes.exists() else ["a reset"] * len(found["forward"])
    return {"acted": found, "asked": asked}


def afterwards(way: str, folder: Path, out: Path, seed: int) -> dict[str, Any]:
    """How good the policies are before and after."""
    ways = (FORWARD, BACKWARD) if way == "reset-free" else (FORWARD,)
    found = {}
    for each in ways:
        if way == "reset-free":
            found[f"{each.name} pretrained"] = evaluated(each, pretrained(each, out, seed))
        found[each.name] = evaluated(each, folder / each.name)
    return found


def made_with(part: str, way: str) -> str:
    """Everything that a part's result depends on beside its seed: one made with other settings is not this way's."""
    directions = (FORWARD, BACKWARD) if way == "reset-free" else (FORWARD,)
    robot = f"{way} {directions} {LOGGED} {STEPS} {EPISODES}" + (f" {PERSON_EVERY}" if way == "reset-free" else "")
    return robot if part == "acting" else f"{robot} {EVALUATED} {EVALUATION_SEED}"


def table(out: Path) -> str:
    """What has been measured so far, as Markdown."""
    lines = [
        "| way | seed | episodes forward, backward | a person came | forward success [95 %] | backward success [95 %] "
        "| forward, afterwards from resets (pretrained) | backward |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        for seed in SEEDS:
            files = [out / f"{way}-{seed}" / name for name in ("acting.json", "afterwards.json")]
            if not files[0].exists():
                lines.append(f"| {way} | {seed} | owed | | | | | |")
                continue
            found = json.loads(files[0].read_text())
            after = json.loads(files[1].read_text()) if files[1].exists() else {}
            both = [found["acted"][name] for name in ("forward", "backward")]
            cells = [way, str(seed), ", ".join(str(len(each)) for each in both), str(len(found["asked"]))]
            cells += [_rate(each) for each in both]
            cells += [_after(after, name) for name in ("forward", "backward")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rate(success: Sequence[float]) -> str:
    if not success:
        return ""
    low, high = rate_interval(int(sum(success)), len(success))
    return f"{np.mean(success):.2f} [{low:.2f}, {high:.2f}]"


def _after(after: dict[str, list[float]], name: str) -> str:
    if name not in after:
        return ""
    before = after.get(f"{name} pretrained")
    return f"{np.mean(after[name]):.2f}" + ("" if before is None else f" ({np.mean(before):.2f})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--way", action="append", choices=WAYS, default=[], help="these ways only")
    parser.add_argument("--seed", action="append", type=int, default=[], help="these seeds only")
    options = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    when = {"machine": platform.machine(), "date": datetime.now(UTC).date().isoformat()}
    try:
        for seed in options.seed or SEEDS:
            for part in (acting, afterwards):
                for way in options.way or WAYS:
                    folder = options.out / f"{way}-{seed}"
                    file = folder / f"{part.__name__}.json"
                    settings = made_with(part.__name__, way)
                    if is_made(file, settings):
                        continue
                    result = part(way, folder, options.out, seed) | when | {"settings": settings}
                    write_whole(file, json.dumps(result))
                    print(table(options.out), flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
