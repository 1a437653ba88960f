"""Learning on a robot: Lift through ROS 2, behind a gap, from the policy that IQL pretrained without it.

    python -m benchmarks.online --out runs/online
    python -m benchmarks.online --out runs/online --only rlpd --episodes 300

Four nodes and the learner as processes, in lock-step: an episode begins when the one before was learned from. Every
(method, seed) is a job that goes on where it was left; a second call does only what is missing. The store, the gap, the
seeds and the budget are fixed here, before the methods run. Evaluated on the robot's own simulator, without ROS. In
`... helped` the scripted operator takes over by a joystick where the arm strays from the cube, for two seconds at most.
In `... seen` nobody asks the simulator: success classifiers label the logs and judge the robot, through a camera.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.labelling import SEEN, seen_policies
from benchmarks.learning import EVALUATION_SEED, SEEDS, STUDIES, is_made, run_study, settings_of, verdict
from episodes.episode import Source
from episodes.errors import InputError
from episodes.files import write_whole
from episodes.store import Store
from finetune.evaluate import evaluate
from finetune.intervals import paired_difference, seeds_interval
from finetune.online import FIRST_EPISODE_SEED
from finetune.run import Run
from policies.policy import Policy
from robot.bag_writer import PART
from robot.contract_file import read_robot_contract
from robot.demo import with_cameras
from robot.table import contracts
from robot.up import running
from sim.labels import env_labels
from sim.operators import make_operator
from sim.task import make_task

TASK, GAP = "lift-quick:placement=0.04", "friction=0.5,mass=1.5,delay_steps=1"
EPISODES, EVALUATED = 300, 100
CONTRACT, RATE = "panda_lift_sim.yaml", 10
"""The robot's, and its steps per second."""


@dataclass(frozen=True)
class Method:
    """How learning goes on from the pretrained policy."""

    settings: dict[str, Any] = field(default_factory=dict)
    """As `firsthand finetune --set`; nothing is IQL, as it was pretrained."""
    helped: int = 0
    """How often a person takes over."""
    start: str = "pretrained"
    """What it goes on from; who judged that, judges on."""


STARTS = {"pretrained": "simulation", "pretrained, seen": "classifier"}
RLPD = {"algorithm": "rlpd", "critics": 5, "updates_per_step": 4, "warm_up_episodes": 10}
METHODS = {
    "iql": Method(),
    "cal_ql": Method({"algorithm": "cal_ql", "sampled_actions": 4}),
    "rlpd": Method(RLPD),
    "rlpd, at once": Method({**RLPD, "warm_up_on_returns": False, "actor_learning_rate": 3e-4}),
    "iql, helped": Method(helped=20),
    "iql, seen": Method(start="pretrained, seen"),
}
COMPARED = (
    *((name, method.start) for name, method in METHODS.items()),
    *((name, "iql") for name in METHODS if name != "iql"),
)


def on_robot(method: Method, parent: Path, folder: Path, seed: int, episodes: int) -> dict[str, Any]:
    """Learn from so many episodes on the robot; begun before, it goes on."""
    from benchmarks.bystander import Bystander, Hand, with_joystick
    from robot.session import learn_on_robot

    contract = contracts() / CONTRACT
    judge = STARTS[method.start]
    if judge == "classifier":
        seeing = with_cameras(contract, Store.open(Run.open(parent).config["data"]["store"]).contract.cameras)
        contract = folder.with_suffix(".yaml")
        write_whole(contract, seeing)
    if method.helped:
        contract = with_joystick(contract, folder.with_suffix(".yaml"))
    settings = {"seed": seed, **method.settings}
    given = {
        "contract": str(contract),
        "run": str(parent),
        "new": str(folder),
        "task": TASK,
        "gap": GAP,
        "real_time_factor": 0.0,
        "judge": judge,
        "settings": json.dumps(settings),
        "seed": next_seed(seed, folder),
    }
    began = time.monotonic()
    with (
        running("finetune", given, lambda line: print(line) if "ERROR" in line else None),
        Bystander() as bystander,
    ):
        if method.helped:
            task = make_task(TASK)
            names = task.contract.state_names
            bystander.lend(Hand(make_operator("scripted", task, 1.0), names, method.helped, _helped(folder)), contract)
        found = learn_on_robot(episodes, enable=True, wait=True, timeout=600.0)
        learner = bystander.learner
    return {
        "seconds": time.monotonic() - began,
        "acted": len(found),
        "acted_steps": sum(each.steps for each in found),
        "changed": sum(each.changed for each in found),
        "learner": learner,
    }


def recordings(folder: Path) -> int:
    """How many episodes the robot has recorded, whether or not the store has them."""
    return len(list((folder / "bags").glob("*.mcap")))


def next_seed(seed: int, *folders: Path) -> int:
    """For a simulator that is begun now: what it used before counts, also for a recording that was cut off."""
    begun = sum(len(list((folder / "bags").glob(f"*.mcap{end}"))) for folder in folders for end in ("", PART))
    return FIRST_EPISODE_SEED + 10_000 * seed + begun


def _helped(folder: Path) -> int:
    """How many of its episodes a person has taken over in."""
    if not (folder / "episodes").exists():
        return 0
    snapshot = Store.open(folder / "episodes").snapshot()
    taken = snapshot.column("source") == Source.INTERVENTION
    return sum(int(taken[a:b].any()) for a, b in zip(snapshot.step_starts, snapshot.step_ends, strict=True))


def checked(folder: Path) -> dict[str, Any]:
    """What must hold of every run: nothing beyond the limits was sent, and every recording is in the store."""
    snapshot = Store.open(folder / "episodes").snapshot()
    layout = read_robot_contract(contracts() / CONTRACT).layout()
    action = snapshot.column("action")
    beyond = (action < layout.action_low) | (action > layout.action_high)
    starts = snapshot.step_starts
    told = np.nan_to_num(snapshot.labels("logged").values["success"])
    true = np.nan_to_num(env_labels(snapshot, make_task(TASK), "true").values["success"])
    return {
        "steps": snapshot.steps,
        "commands_beyond": int(beyond.any(1).sum()),
        "recordings": recordings(folder),
        "episodes": snapshot.episodes,
        "told": np.maximum.reduceat(told, starts).tolist(),
        "successes": np.maximum.reduceat(true, starts).tolist(),
        "helped": _helped(folder),
    }


def evaluated(run: Path) -> dict[str, list[float]]:
    """Deterministic and stochastic, on the same seeds for everybody."""
    task, found = make_task(TASK, gap=GAP), {}
    for mode, deterministic in (("deterministic", True), ("stochastic", False)):
        policy = Policy.load(Run.open(run).last, deterministic=deterministic)
        found[mode] = evaluate(task, policy, EVALUATED, seed=EVALUATION_SEED).success.tolist()
    task.close()
    return found


def pretrained(start: str, out: Path, seed: int) -> Path:
    """The run that a method goes on from; made where it is missing."""
    if STARTS[start] == "classifier":
        return seen_policies(out / "lift-seen") / f"{SEEN}-{seed}"
    run_study(STUDIES["lift"], out / "lift", ["iql"])
    return out / "lift" / f"iql-{seed}"


def job(name: str, seed: int, folder: Path, episodes: int) -> dict[str, Any]:
    if name in STARTS:
        return evaluated(pretrained(name, folder.parent, seed))
    run = folder / f"{name}-{seed}"
    parent = pretrained(METHODS[name].start, folder.parent, seed)
    told = on_robot(METHODS[name], parent, run, seed, episodes)
    return {**evaluated(run), **checked(run), **told}


def made_with(name: str, episodes: int) -> str:
    """Everything that a job's result depends on beside its seed: one made with other settings is not this method's."""
    start = METHODS[name].start if name in METHODS else name
    # What the classifier's start is made with, its own benchmark looks after.
    inherited = settings_of(STUDIES["lift"], "iql") if STARTS[start] == "simulation" else SEEN
    evaluation = f"{TASK} {GAP} {EVALUATED} {EVALUATION_SEED} {start}: {inherited}"
    return evaluation if name in STARTS else f"{evaluation}, {METHODS[name]} {CONTRACT} {episodes}"


def compared(name: str, other: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> str:
    """A line of the paired difference; a verdict where all seeds are there, two where they say alone what their
    episodes do not."""
    mean, low, high = paired_difference(ours, theirs)
    line = f"- {name} - {other}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    if len(ours) < len(SEEDS):
        return f"{line} ({len(ours)} of {len(SEEDS)} seeds)"
    least, most = seeds_interval(ours, theirs)
    line += f", by the seeds alone [{least:+.3f}, {most:+.3f}]"
    episodes, seeds = verdict(low, high), verdict(least, most)
    if episodes == seeds:
        return f"{line}: it {episodes} it"
    return f"{line}: by its episodes it {episodes} it, by the seeds alone it {seeds} it"


def table(folder: Path) -> str:
    """What has been measured so far, as Markdown."""
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for name in (*STARTS, *METHODS):
        files = {seed: folder / f"{name}-{seed}.json" for seed in SEEDS}
        results[name] = {seed: json.loads(file.read_text()) for seed, file in files.items() if file.exists()}
    lines = [
        "| method | success per seed | deterministic [95 %] | stochastic [95 %] | regret | beyond limits | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seeds in results.items():
        if not seeds:
            lines.append(f"| {name} | owed | | | | | |")
            continue
        per_seed = ", ".join(f"{np.mean(found['deterministic']):.2f}" for found in seeds.values())
        cells = [_mean(seeds, mode) for mode in ("deterministic", "stochastic")]
        online = [found for found in seeds.values() if "successes" in found]
        cells.append(", ".join(f"{1 - np.mean(found['successes']):.2f}" for found in online))
        cells.append(
            f"{sum(f['commands_beyond'] for f in online)} of {sum(f['steps'] for f in online)}" if online else ""
        )
        cells.append(str(sum(f["recordings"] - f["episodes"] for f in online)) if online else "")
        lines.append(f"| {name} | {per_seed} | {' | '.join(cells)} |")
    lines.append("")
    for name, other in COMPARED:
        both = sorted(results[other].keys() & results[name].keys())
        if both:
            first, second = (
                [np.array(results[which][seed]["deterministic"]) for seed in both] for which in (name, other)
            )
            lines.append(compared(name, other, first, second))
    lines += [
        f"- {name}, seed {seed}: {found['acted_steps'] / RATE / found['seconds']:.2f} s of robot time per second, "
        f"{found['learner'].get('updates', '?')} updates since pretraining began, the learner waited "
        f"{found['learner'].get('waiting', '?')} of the time; a person took over in {found['helped']} episodes; "
        f"successes told of and true: {sum(found['told']):.0f}, {sum(found['successes']):.0f}, the same in "
        f"{np.mean(np.equal(found['told'], found['successes'])):.0%}"
        for name, seeds in results.items()
        for seed, found in seeds.items()
        if "learner" in found
    ]
    return "\n".join(lines)


def _mean(seeds: dict[int, dict[str, Any]], mode: str) -> str:
    values = [np.array(found[mode]) for found in seeds.values()]
    mean, low, high = paired_difference(values, [np.zeros_like(each) for each in values])
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], choices=METHODS, help="these methods only")
    parser.add_argument("--seed", action="append", type=int, default=[], help="these seeds only")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    options = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    folder = options.out / f"lift-{options.episodes}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        methods = options.only or list(METHODS)
        starts = {METHODS[name].start for name in methods}
        for seed in options.seed or SEEDS:
            for name in (*(start for start in STARTS if start in starts), *methods):
                file = folder / f"{name}-{seed}.json"
                settings = made_with(name, options.episodes)
                if is_made(file, settings):
                    continue
                result = {**job(name, seed, folder, options.episodes), "settings": settings}
                when = {"machine": platform.machine(), "date": datetime.now(UTC).date().isoformat()}
                write_whole(file, json.dumps(result | when))
                print(table(folder), flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
