"""Fine-tuning in one process: a policy acts in a simulated task and learns from that beside the offline data."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from episodes.encoders import look_into
from episodes.errors import InputError
from episodes.store import Store, open_or_create
from episodes.typed import STRICT, parse
from finetune.evaluate import check_fits, evaluate
from finetune.experience import Mixture
from finetune.h2o import GapConfig
from finetune.learner import Beginning, Learner, LearningConfig, logged_of
from finetune.mixing import Branches, Mix, WeightedExperience
from finetune.pretrain import last_metrics
from finetune.rewarded import check_rewards
from finetune.run import MetricsLog, Run
from finetune.trials import Trial
from policies.checkpoint import actor_hash
from policies.policy import Policy
from sim.base import Task
from sim.rollout import rollout
from sim.task import make_task

FIRST_EPISODE_SEED = 2_000_000
"""Online episodes' seeds begin here (plus 10,000 per run seed): no overlap with collection or evaluation."""


@dataclass(frozen=True, slots=True)
class OnlineConfig(LearningConfig):
    """How a run goes on learning, and in which task it acts for that."""

    __pydantic_config__ = STRICT

    task: str = ""
    gap: str = ""
    """What differs from the simulator that the offline data is from; see `sim.gaps`. With `mix`, what differs between
    the simulator and the real robot: the policy is evaluated with it, and acts without."""
    mix: Mix | None = None
    """The task is a simulator of the robot that the offline data is from; what is learned from then."""
    branch_steps: Annotated[int, Field(gt=0)] | None = None
    """Of a rollout with `mix`, at most; those of the task's own episodes where None."""
    gap_hidden: tuple[Annotated[int, Field(gt=0)], ...] = GapConfig().hidden
    """Of the networks that tell the simulator's dynamics from the real ones, with `--mix h2o`."""
    episodes: Annotated[int, Field(gt=0, le=10_000)] = 100
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    """Episodes between evaluations while learning; 0 for none."""
    evaluation_episodes: Annotated[int, Field(gt=0)] = 20

    def shares(self, episodes: int, *, interventions: bool) -> tuple[float, float, float]:
        """The log alone and the simulator alone are mixtures, too: all make as many updates."""
        if self.mix == "real":
            return 1.0, 0.0, 0.0
        if self.mix == "sim":
            return 0.0, 1.0, 0.0
        return LearningConfig.shares(self, episodes, interventions=interventions)

    def check(self) -> None:
        LearningConfig.check(self)
        if self.branch_steps is not None and self.mix is None:
            raise InputError("branch_steps are of rollouts beside a real log; give --mix, too")
        if self.gap_hidden != GapConfig().hidden and self.mix != "h2o":
            raise InputError("gap_hidden is of the networks of --mix h2o; give that, too")
        if self.mix in ("real", "sim"):
            given = [item.name for item in fields(Mixture) if getattr(self, item.name) != item.default]
            if given:
                raise InputError(f"{', '.join(given)}: --mix {self.mix} learns from one source alone; leave it out")
        if self.mix in ("naive", "h2o") and 0 in (self.offline_share, self.offline_share_last):
            raise InputError(f"--mix {self.mix} with an offline_share of 0 has no real rows; give --mix sim for that")


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What `firsthand finetune --json` prints."""

    run: str
    steps: int
    """Updates since pretraining began, of what it ended with: those that were given up do not count."""
    updates_per_second: float | None
    """Of all, those that were given up included."""
    metrics: dict[str, float]
    episodes: int
    online_steps: int
    online_success_rate: float | None
    """Of the stochastic policy, while it learned; None where the task cannot succeed."""
    cumulative_regret: float | None
    """Mean over the online episodes of 1 - success."""
    dropped_rollouts: int
    """In which the simulator blew up."""


def finetune(
    parent: Path, run_path: Path, config: OnlineConfig, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> FinetuneResult:
    """Begin an online run from a pretrained one and carry it to its end."""
    # Whatever can be refused is refused before the run's folder is made.
    Run.check_free(run_path)
    check_rewards(Run.open(parent), config.task)
    beginning = Beginning.of_parent(parent, config)
    history = beginning.train.sampling.history
    if config.mix is not None and history > 1:
        # The first observation repeated would say of a robot at speed that it stands still.
        raise InputError(
            f"{parent}: sees a history of {history}, and rollouts with --mix begin in the middle of a log without one; "
            "give a run with a history of 1"
        )
    acting, evaluated = _tasks(config, beginning)
    check_fits(beginning.saved.contract, beginning.saved.camera, acting)
    run = Run(run_path)
    learner = _learner(run, config, beginning)
    Run.create(run_path, beginning.written(parent, config))
    return _Session(learner, config, acting, evaluated).learn(progress)


def resume(run_path: Path, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> FinetuneResult:
    """Go on from the newest complete checkpoint; episodes after it are acted again and come out the same."""
    run = Run.open(run_path)
    written = run.config
    if written["kind"] != "finetune":
        raise InputError(f"{run_path}: is a run of kind {written['kind']!r}, which `firsthand pretrain` resumes")
    config = parse(OnlineConfig, written["online"], f"{run_path}/config.yaml")
    beginning = Beginning.of_run(run, config)
    return _Session(_learner(run, config, beginning), config, *_tasks(config, beginning)).learn(progress)


def _learner(run: Run, config: OnlineConfig, beginning: Beginning) -> Learner:
    if config.mix != "h2o":
        return Learner(run, config, beginning)
    return Learner(run, config, beginning, partial(WeightedExperience, gap=GapConfig(hidden=config.gap_hidden)))


class _Session:
    """One call's worth of online learning."""

    def __init__(self, learner: Learner, config: OnlineConfig, task: Task, evaluated: Task):
        self.learner, self.config, self.task, self.run = learner, config, task, learner.run
        self.evaluated = evaluated
        self.branches = None
        if config.mix is not None:
            self.branches = Branches(task, learner.data.transitions, config.branch_steps)
        self.policy = Policy(
            learner.algorithm, camera=learner.saved.camera, encoder=learner.encoder, deterministic=False
        )
        self.store: Store = open_or_create(self.run.path / "episodes", task.contract)

    def learn(self, progress: Callable[[Iterable[int]], Iterable[int]]) -> FinetuneResult:
        learner = self.learner
        learner.restore(self.store)
        metrics: dict[str, float] = {}
        seconds, updates = 0.0, 0
        begun = self.run.has_checkpoint()
        with MetricsLog(self.run, resume_at=learner.learned if begun else -1) as log:
            if not begun:
                self._evaluate(log, 0)
                self._save()
            for number in progress(range(learner.learned, self.config.episodes)):
                outcome = self._act(number)
                began, before = time.monotonic(), learner.algorithm.step
                learned = learner.learn()
                # By episode: a learner that goes back to its best policy counts from there again.
                updates += learner.algorithm.step - before
                metrics = learned or metrics
                seconds += time.monotonic() - began
                log.write(number + 1, outcome | learned)
                due = (number + 1) % self.config.checkpoint_every == 0 or number + 1 == self.config.episodes
                if self._evaluate(log, number + 1) or due:
                    self._save()
        rate = float(np.mean(learner.successes)) if learner.successes else None
        return FinetuneResult(
            run=str(self.run.path),
            steps=learner.algorithm.step,
            updates_per_second=updates / seconds if updates else None,
            metrics=metrics or last_metrics(self.run),
            episodes=self.config.episodes,
            online_steps=learner.experience.steps,
            online_success_rate=rate,
            cumulative_regret=None if rate is None else 1 - rate,
            dropped_rollouts=int(sum(line.get("online/dropped", 0) for line in self.run.metrics())),
        )

    def _act(self, number: int) -> dict[str, float]:
        """One episode of the stochastic policy, into the run's own store and to the learner."""
        seed = FIRST_EPISODE_SEED + 10_000 * self.config.seed + number
        if self.branches is None:
            episode, told = rollout(self.task, self.policy, seed), {}
        else:
            episode, dropped = self.branches.rollout(self.policy, seed)
            told = {"online/dropped": float(dropped)}
        snapshot = self.store.snapshot()
        if snapshot.episodes > number:
            # Acted before a crash, after the checkpoint: the same seed and the same policy must have done the same.
            if snapshot.metadata[number]["digest"] != episode.digest():
                raise InputError(f"{self.run.path}: episode {number} does not repeat itself; the run cannot be resumed")
        else:
            self.store.append([episode])
        return self.learner.take(episode, look_into(self.store, number, episode)) | told

    def _evaluate(self, log: MetricsLog, number: int) -> bool:
        """Whether the policy was evaluated: then it has to be kept, to be gone back to."""
        if not self.config.evaluate_every or number % self.config.evaluate_every:
            return False
        learner = self.learner
        policy = Policy(learner.algorithm, camera=learner.saved.camera, encoder=learner.encoder)
        summary = evaluate(self.evaluated, policy, self.config.evaluation_episodes).summary()
        keys = ("success_rate", "return_mean", "best_reward_mean")
        logged = {f"evaluation/{key}": summary[key] for key in keys if summary[key] is not None}
        if summary["success_rate"] is not None:
            episodes = summary["episodes"]
            successes = round(summary["success_rate"] * episodes)
            trial, best = Trial(actor_hash(learner.algorithm), number, successes, episodes), learner.trials.best
            # The same policy does the same again: fixed seeds, and no noise. That says nothing new.
            if best is not None and best.policy == trial.policy:
                # But what is kept with it does: critics learn while the policy rests.
                learner.trials.best = replace(best, checkpoint=number)
                logged |= logged_of(trial)
            else:
                logged |= learner.judge(trial)
        log.write(number, logged)
        return True

    def _save(self) -> None:
        # A checkpoint that is on the disk must not speak of episodes that are not.
        self.store.flush()
        self.learner.save()


def _tasks(config: OnlineConfig, beginning: Beginning) -> tuple[Task, Task]:
    """The task that is acted in, and the one that is evaluated in."""
    real = _task(config, beginning)
    return (real if config.mix is None else _task(replace(config, gap=""), beginning)), real


def _task(config: OnlineConfig, beginning: Beginning) -> Task:
    """The task with the pictures that policy and labeller look at, of the size that they know."""
    saved, labeller = beginning.saved, beginning.labeller
    wanted = (() if saved.camera is None else (saved.camera,)) + (() if labeller is None else labeller.cameras)
    sizes = {(c.height, c.width) for c in saved.contract.cameras if c.name in wanted}
    if len(sizes) > 1:
        raise InputError(f"cameras {', '.join(wanted)} have different sizes, {sorted(sizes)}: a task has one")
    size = sizes.pop() if sizes else saved.image_size
    return make_task(config.task, cameras=tuple(dict.fromkeys(wanted)), image_size=size, gap=config.gap or None)


def seeds_of_collection(seed: int, episodes: int) -> list[int]:
    """The seeds that `firsthand collect` uses for its episodes: below those of evaluation and online learning."""
    if not 0 <= seed < 100 or episodes > 10_000:
        raise InputError(f"seed {seed} with {episodes} episodes: a seed is 0 to 99 and has room for 10,000 episodes")
    return [10_000 * seed + number for number in range(episodes)]
