"""The main job in minutes on two cores: logs, labels by looking, pretraining, fine-tuning, reports."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from episodes.contract import Camera
from episodes.errors import InputError
from episodes.store import Store
from finetune.config import resolve
from finetune.evaluate import Evaluation, evaluate
from finetune.online import OnlineConfig, finetune, seeds_of_collection
from finetune.pretrain import pretrain
from finetune.report import row_of, write_report
from finetune.run import Run
from finetune.video import save_video
from policies.policy import Policy
from rewards.adapt import AdaptConfig, adapt
from rewards.captions import read_captions, write_captions
from rewards.label import label
from rewards.marks import marks_from, write_marks
from rewards.report.label_report import write_label_report
from rewards.settings import label_config
from rewards.summary import text_of
from sim.captions import captions
from sim.collect import collect
from sim.labels import env_labels
from sim.operators import make_operator
from sim.task import make_task

TASK = "lift-quick"
RECORDED = "lift-quick:hold=4"
"""Recordings go on for a moment after the task is done, as people's do: a success is then more than one picture."""
SENTENCE, BASELINE = "lift the red cube off the table", "the robot arm is away from the cube"
COLLECTED = 100
CAPTIONED = 80
CAPTIONED_SEED = 40
"""Of `seeds_of_collection`: none of these episodes is in the store that is labelled."""
SUCCESSES, FAILURES = 10, 20
STEPS = {"bc": 10_000, "iql": 12_000}
ONLINE_EPISODES = 60
EVALUATION_EPISODES = 50
DEPLOYED_EPISODES = 20

GAP = "friction=0.5,delay_steps=1"
"""What the robot has that the simulator has not that everything before was learned in."""
ROBOT_EPISODES = 30


class Robot(Protocol):
    """A robot with its nodes; see `robot.demo`."""

    def deploy(self, run: Path, folder: Path, episodes: int) -> tuple[Evaluation, str]:
        """What became of so many episodes of a run's policy, recorded below a folder, and a line on that."""
        ...

    def learn(self, run: Path, new: Path, cameras: Sequence[Camera], gap: str, episodes: int) -> str:
        """Go on learning from so many episodes; a line on that."""
        ...


def demo(folder: Path, say: Callable[[str], None], robot: Robot | None = None) -> Path:
    """Collect, label by looking, pretrain, evaluate, fine-tune, evaluate again, deploy, learn on the robot, and report.

    Args:
        folder: a new or empty folder for the stores, the adapted model and the runs.
        say: takes one line at a time.
        robot: that a policy is put on, and learns on; None where there is none.

    Returns:
        The report.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: expected a new or an empty folder")
    stages = _Stages(say)
    task = make_task(TASK)
    with stages.stage(f"collect {COLLECTED} episodes of mixed quality, with a camera"):
        store = _collected(folder / "store", 0, COLLECTED)
    with stages.stage(f"collect {CAPTIONED} others, and adapt a small vision-language model to captions of them"):
        _adapted(folder)
    with stages.stage(f"label by looking: preferences, and {SUCCESSES} successes and {FAILURES} failures marked"):
        found = _labelled(store, folder)
    evaluations: dict[str, Evaluation] = {}
    with stages.stage("evaluate the operator"):
        evaluations["operator, mixed quality"] = _of_store(store)
        evaluations["operator, at its best"] = _evaluated(task, make_operator("scripted", task), folder, None)
    for algorithm, steps in STEPS.items():
        run_path = folder / algorithm
        with stages.stage(f"pretrain {algorithm}, {steps:,} updates"):
            config = resolve(algorithm, "labelled", {"labels": "looked", "steps": steps})
            pretrain(folder / "store", run_path, config, tqdm)
        with stages.stage(f"evaluate {algorithm}"):
            evaluations[algorithm] = _evaluated(task, Policy.load(Run.open(run_path).last), folder, algorithm)
    with stages.stage(f"fine-tune iql online, {ONLINE_EPISODES} episodes, labelled by looking, too"):
        finetune(folder / "iql", folder / "iql-online", OnlineConfig(task=RECORDED, episodes=ONLINE_EPISODES), tqdm)
    with stages.stage("evaluate the fine-tuned policy"):
        policy = Policy.load(Run.open(folder / "iql-online").last)
        evaluations["iql, fine-tuned"] = _evaluated(task, policy, folder, "iql-online")
    if robot is not None:
        with stages.stage(f"the same on a simulated robot through ROS 2, {DEPLOYED_EPISODES} episodes"):
            on_robot, told = robot.deploy(folder / "iql-online", folder, DEPLOYED_EPISODES)
            evaluations["iql, fine-tuned, on ROS 2"] = on_robot
            Run.open(folder / "iql-online").save_evaluation("ros", on_robot.summary())
        say(told)
        other = make_task(TASK, gap=GAP)
        with stages.stage(f"learn on a robot that is not like the simulator ({GAP}), {ROBOT_EPISODES} episodes"):
            told = robot.learn(folder / "iql-online", folder / "iql-robot", store.contract.cameras, GAP, ROBOT_EPISODES)
        say(told)
        with stages.stage("evaluate there what it was begun with and what it became"):
            for who, name in (("iql, fine-tuned, other robot", "iql-online"), ("iql, learned there", "iql-robot")):
                policy = Policy.load(Run.open(folder / name).last)
                evaluations[who] = _evaluated(other, policy, folder, name, "other-robot")
    with stages.stage("write the reports"):
        others = [(who, e.summary()) for who, e in evaluations.items() if who.startswith(("operator", "bc"))]
        report = write_report(Run.open(folder / ("iql-online" if robot is None else "iql-robot")), others)
        of_labels = write_label_report(store, "looked")
    say("")
    say(text_of(found))
    say("")
    say(f"{'who':28s} {'success [95 %]':22s} return  steps")
    for who, evaluation in evaluations.items():
        row = row_of(who, evaluation.summary())
        say(f"{who:28s} {row.success:22s} {evaluation.returns.mean():6.2f} {row.length:>6s}")
    stages.total()
    say(f"the labels: {of_labels}")
    return report


def _collected(path: Path, seed: int, episodes: int) -> Store:
    """A store of episodes by the scripted operator, whose quality is drawn anew for each."""
    task = make_task(RECORDED, cameras=("agentview",))
    store = Store.create(path, task.contract)
    seeds = seeds_of_collection(seed, episodes)
    for episode in tqdm(collect(task, lambda q: make_operator("scripted", task, q), seeds), total=episodes):
        store.append([episode])
    return store


def _adapted(folder: Path) -> None:
    """A vision-language model without any download; the sentences are what a person would say of a picture."""
    snapshot = _collected(folder / "captioned", CAPTIONED_SEED, CAPTIONED).snapshot()
    sentences = captions(make_task(RECORDED), snapshot.column("state"), np.random.default_rng(0))
    write_captions(folder / "captions.jsonl", snapshot, sentences)
    rows, texts = read_captions(folder / "captions.jsonl", snapshot)
    config = AdaptConfig()
    adapt(snapshot, "agentview", rows, texts, folder / "model", config, lambda items: tqdm(items, total=config.steps))


def _labelled(store: Store, folder: Path) -> dict[str, Any]:
    """The label set `looked`, and the simulator's own to measure it against and to stand in for who marks episodes."""
    for name, task in (("env", RECORDED), ("shaped", f"{RECORDED},reward=shaped")):
        store.write_labels(env_labels(store.snapshot(), make_task(task), name))
    snapshot = store.snapshot()
    marks = marks_from(snapshot, snapshot.labels("env"), SUCCESSES, FAILURES, range(snapshot.episodes))
    write_marks(folder / "marks.yaml", marks)
    flags = {"task": SENTENCE, "judge": "clip", "model": str(folder / "model"), "baseline": BASELINE}
    config = label_config(flags, None, (), marked=True)
    return label(store, "looked", config, marks=marks, truth="shaped")


def free_folder(parent: Path) -> Path:
    """The first of `demo-1`, `demo-2`, ... that is not there yet."""
    return next(folder for n in count(1) if not (folder := parent / f"demo-{n}").exists())


class _Stages:
    """Says what is being done and how long it took."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._began = time.monotonic()
        self._number = 0

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        self._number += 1
        began = time.monotonic()
        yield
        self._say(f"[{self._number:2d}] {what}: {time.monotonic() - began:.1f} s")

    def total(self) -> None:
        self._say(f"all: {time.monotonic() - self._began:.0f} s")


def _evaluated(task: Any, operator: Any, folder: Path, run: str | None, name: str = TASK) -> Evaluation:
    """Evaluate on the fixed seeds; a run keeps the numbers and two videos under a name."""

    def keep_video(number: int, frames: list[Any]) -> None:
        if run is not None:
            save_video(Run.open(folder / run), f"{name}-{number}", frames, task.contract.rate)

    def shown(numbers: Iterable[int]) -> Iterable[int]:
        return tqdm(numbers)

    result = evaluate(task, operator, EVALUATION_EPISODES, videos=2 if run else 0, on_video=keep_video, progress=shown)
    if run is not None:
        Run.open(folder / run).save_evaluation(name, result.summary())
    return result


def _of_store(store: Store) -> Evaluation:
    """What the collected episodes themselves amount to, as an evaluation: up to success, without what was held then."""
    snapshot = store.snapshot()
    labels = snapshot.labels("env")
    reward, success = labels.values["reward"], labels.values["success"]
    parts = []
    for start, stop in zip(snapshot.step_starts.tolist(), snapshot.step_ends.tolist(), strict=True):
        done = np.flatnonzero(success[start:stop])
        parts.append((start, start + int(done[0]) + 1 if len(done) else stop))
    return Evaluation(
        TASK,
        0,
        np.array([success[a:b].max() for a, b in parts]),
        np.array([reward[a:b].sum() for a, b in parts]),
        np.array([reward[a:b].max() for a, b in parts]),
        np.array([float(b - a) for a, b in parts]),
    )
