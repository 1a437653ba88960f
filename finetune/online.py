"""Fine-tuning in one process: a policy acts in a simulated task and learns from that beside the offline data."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from episodes.errors import InputError
from episodes.sampler import Sampler, shares
from episodes.store import Store, open_or_create
from episodes.transitions import Transitions
from episodes.typed import STRICT, parse, plain
from finetune.config import TrainConfig
from finetune.data import OfflineData, load_offline
from finetune.evaluate import check_fits, evaluate
from finetune.pretrain import choose_device, last_metrics, scalars
from finetune.run import MetricsLog, Run
from policies.algorithm import Algorithm
from policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from policies.policy import Policy
from policies.registry import learns_online
from rewards.labeller import EpisodeLabeller, Labeller
from sim.base import Task
from sim.rollout import rollout
from sim.task import make_task

FIRST_EPISODE_SEED = 2_000_000
"""Online episodes' seeds begin here (plus 10,000 per run seed): no overlap with collection or evaluation."""


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """Everything that decides how a pretrained run goes on learning.

    Online episodes are rewarded as the run's label set was made: by looking, where a judge's preferences or a success
    classifier made it, and else by the simulator.
    """

    __pydantic_config__ = STRICT

    task: str
    gap: str = ""
    """What differs from the simulator that the offline data is from; see `sim.gaps`."""
    episodes: Annotated[int, Field(gt=0, le=10_000)] = 100
    updates_per_step: Annotated[int, Field(ge=1)] = 1
    """Made after each episode, this many for each of its steps."""
    offline_share: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Of every batch, exactly."""
    actor_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of the policy while online; the pretraining's, before its decay, where None."""
    warm_up_episodes: Annotated[int, Field(ge=1)] = 1
    """Episodes before the first update."""
    seed: Annotated[int, Field(ge=0, lt=100_000)] = 0
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    """Episodes between evaluations while learning; 0 for none."""
    evaluation_episodes: Annotated[int, Field(gt=0)] = 20
    checkpoint_every: Annotated[int, Field(gt=0)] = 10
    """Episodes."""


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What `firsthand finetune --json` prints."""

    run: str
    steps: int
    """Updates since pretraining began."""
    updates_per_second: float | None
    metrics: dict[str, float]
    episodes: int
    online_steps: int
    online_success_rate: float | None
    """Of the stochastic policy, while it learned; None where the task cannot succeed."""
    cumulative_regret: float | None
    """Mean over the online episodes of 1 - success."""


def finetune(
    parent: Path, run_path: Path, config: OnlineConfig, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> FinetuneResult:
    """Begin an online run from a pretrained one and carry it to its end."""
    parent_config = Run.open(parent).config
    train = parse(TrainConfig, parent_config["train"], f"{parent}/config.yaml")
    if not learns_online(train.algorithm):
        raise InputError(f"{parent}: algorithm {train.algorithm!r} cannot learn from rewards; fine-tune an 'iql' run")
    # Whatever can be refused is refused before the run's folder is made.
    Run.check_free(run_path)
    choose_device(train.device)
    saved = _beginning(parent, config)
    data = load_offline(Path(parent_config["data"]["store"]), train, parent_config["data"]["snapshot"])
    labeller = _labeller(data, train)
    task = _task(config, saved, labeller)
    check_fits(saved.contract, saved.camera, task)
    run = Run.create(
        run_path,
        {
            "kind": "finetune",
            "parent": str(parent.resolve()),
            "parent_checkpoint": saved.hash,
            "online": plain(config),
            "train": plain(train),
            "data": data.origin,
        },
    )
    return _Session(run, config, train, data, saved, task, labeller).learn(progress)


def resume(run_path: Path, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> FinetuneResult:
    """Go on from the newest complete checkpoint; episodes after it are acted again and come out the same."""
    run = Run.open(run_path)
    written = run.config
    if written["kind"] != "finetune":
        raise InputError(f"{run_path}: is a run of kind {written['kind']!r}, which `firsthand pretrain` resumes")
    train = parse(TrainConfig, written["train"], f"{run_path}/config.yaml")
    config = parse(OnlineConfig, written["online"], f"{run_path}/config.yaml")
    if run.has_checkpoint():
        saved = load_checkpoint(run.last)
    else:
        saved = _beginning(Path(written["parent"]), config)
        if saved.hash != written["parent_checkpoint"]:
            raise InputError(f"{run_path}: its parent {written['parent']} has changed since; begin a new run")
    data = load_offline(Path(written["data"]["store"]), train, written["data"]["snapshot"])
    labeller = _labeller(data, train)
    task = _task(config, saved, labeller)
    return _Session(run, config, train, data, saved, task, labeller).learn(progress)


class _Session:
    """One call's worth of online learning."""

    def __init__(
        self,
        run: Run,
        config: OnlineConfig,
        train: TrainConfig,
        data: OfflineData,
        saved: Checkpoint,
        task: Task,
        labeller: EpisodeLabeller | None,
    ):
        self.run, self.config, self.train, self.data, self.saved, self.task = run, config, train, data, saved, task
        self.labeller = labeller
        self.device = choose_device(train.device)
        self.algorithm: Algorithm = saved.algorithm.to(self.device)
        self.encoder = data.encoder
        self.policy = Policy(self.algorithm, camera=saved.camera, encoder=self.encoder, deterministic=False)
        self.store: Store = open_or_create(run.path / "episodes", task.contract)
        self.online = Transitions(
            train.sampling,
            len(task.contract.state),
            len(task.contract.action),
            data.transitions.feature_size,
        ).to(self.device)
        offline_rows, online_rows = shares(train.batch_size, [config.offline_share, 1 - config.offline_share])
        seed = int(np.random.SeedSequence([train.seed, config.seed]).generate_state(1)[0])
        self.sampler = Sampler([(data.transitions.to(self.device), offline_rows)], seed)
        self.sampler.sources.append((self.online, online_rows))
        self.done = 0
        self.successes: list[float] = []
        self.online_steps = 0

    def learn(self, progress: Callable[[Iterable[int]], Iterable[int]]) -> FinetuneResult:
        self._restore()
        first_update, metrics = self.algorithm.step, {}
        seconds = 0.0
        begun = self.run.has_checkpoint()
        with MetricsLog(self.run, resume_at=self.done if begun else -1) as log:
            if not begun:
                self._evaluate(log, 0)
                self._save(0)
            for number in progress(range(self.done, self.config.episodes)):
                outcome = self._act(number)
                began = time.monotonic()
                if number + 1 >= self.config.warm_up_episodes:
                    metrics = self._update(int(outcome["length"]))
                seconds += time.monotonic() - began
                log.write(number + 1, outcome | metrics)
                self._evaluate(log, number + 1)
                if (number + 1) % self.config.checkpoint_every == 0 or number + 1 == self.config.episodes:
                    self._save(number + 1)
        updates = self.algorithm.step - first_update
        rate = float(np.mean(self.successes)) if self.successes else None
        return FinetuneResult(
            run=str(self.run.path),
            steps=self.algorithm.step,
            updates_per_second=updates / seconds if updates else None,
            metrics=metrics or last_metrics(self.run),
            episodes=self.config.episodes,
            online_steps=self.online_steps,
            online_success_rate=rate,
            cumulative_regret=None if rate is None else 1 - rate,
        )

    def _restore(self) -> None:
        """What the checkpoint knew: the sampler, and the online episodes up to it."""
        if "online_episodes" not in self.saved.note:
            return
        self.done = int(self.saved.note["online_episodes"])
        self.sampler.load_state_dict(self.saved.beside)
        snapshot = self.store.snapshot()
        for index in range(self.done):
            self._learn_from(snapshot.episode(index))

    def _act(self, number: int) -> dict[str, float]:
        """One episode of the stochastic policy, into the run's own store and the online source."""
        seed = FIRST_EPISODE_SEED + 10_000 * self.config.seed + number
        episode = rollout(self.task, self.policy, seed)
        snapshot = self.store.snapshot()
        if snapshot.episodes > number:
            # Acted before a crash, after the checkpoint: the same seed and the same policy must have done the same.
            if snapshot.metadata[number]["digest"] != episode.digest():
                raise InputError(f"{self.run.path}: episode {number} does not repeat itself; the run cannot be resumed")
        else:
            self.store.append([episode])
        return self._learn_from(episode)

    def _learn_from(self, episode: Any) -> dict[str, float]:
        features = None
        if self.encoder is not None:
            features = self.encoder.encode(episode.images[self.saved.camera])
        outcome = {}
        if self.labeller is None:
            self.online.add_episode(episode, features)
        else:
            labels = self.labeller(episode)
            ends = labels.get("terminated", np.arange(episode.steps) == episode.steps - 1 if episode.terminated else 0)
            terminated = np.broadcast_to(ends, episode.steps) > 0
            self.online.add(episode.state, episode.action, labels["reward"], terminated, features)
            if "success" in labels:
                outcome["online/success_seen"] = float(np.nanmax(labels["success"]))
        if episode.success is not None:
            outcome["online/success"] = float(episode.success.max())
            self.successes.append(outcome["online/success"])
        self.online_steps += episode.steps
        return outcome | {
            "online/return": float(episode.reward.sum()),
            "online/best_reward": float(episode.reward.max()),
            "length": float(episode.steps),
        }

    def _update(self, steps: int) -> dict[str, float]:
        info = {}
        for _ in range(steps * self.config.updates_per_step):
            info = self.algorithm.update(self.sampler.sample())
        return scalars(info)

    def _evaluate(self, log: MetricsLog, number: int) -> None:
        if not self.config.evaluate_every or number % self.config.evaluate_every:
            return
        policy = Policy(self.algorithm, camera=self.saved.camera, encoder=self.encoder)
        summary = evaluate(self.task, policy, self.config.evaluation_episodes).summary()
        keys = ("success_rate", "return_mean", "best_reward_mean")
        log.write(number, {f"evaluation/{key}": summary[key] for key in keys if summary[key] is not None})

    def _save(self, number: int) -> None:
        # A checkpoint that is on the disk must not speak of episodes that are not.
        self.store.flush()
        save_checkpoint(
            self.run.checkpoint(number),
            self.algorithm,
            self.data.contract,
            camera=self.saved.camera,
            encoder=self.saved.encoder,
            beside=self.sampler.state_dict(),
            note={"online_episodes": number, "step": self.algorithm.step},
        )
        self.run.mark_last(number)


def _beginning(parent: Path, config: OnlineConfig) -> Checkpoint:
    """The parent's newest checkpoint, as an online run begins with it: the learner alone, whatever else it was."""
    saved = load_checkpoint(Run.open(parent).last)
    # Online, the actor's learning rate stays up: the offline schedule has come down to zero.
    saved.algorithm.decay_steps = None
    if config.actor_learning_rate is not None:
        rates = {"actor_learning_rate": config.actor_learning_rate}
        saved.algorithm.config = replace(saved.algorithm.config, **rates)
    return replace(saved, beside={}, note={})


def _labeller(data: OfflineData, train: TrainConfig) -> EpisodeLabeller | None:
    """What labels online episodes, where the offline ones were labelled by looking."""
    return None if data.labeller is None else EpisodeLabeller(Labeller.load(data.labeller), choose_device(train.device))


def _task(config: OnlineConfig, saved: Checkpoint, labeller: EpisodeLabeller | None) -> Task:
    """The task with the pictures that policy and labeller look at, of the size that they know."""
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
