"""What learns online: from the offline data and from episodes as they come in. It acts nowhere itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field

from episodes.encoders import Look, look_into
from episodes.episode import Episode
from episodes.errors import InputError, unknown
from episodes.store import Store
from episodes.typed import STRICT, parse, plain
from finetune.config import TrainConfig
from finetune.data import OfflineData, load_offline
from finetune.experience import Experience, Mixture
from finetune.pretrain import choose_device, scalars
from finetune.run import Run
from finetune.trajectories import Trajectories
from finetune.trials import Trial, Trials
from policies.algorithm import Algorithm, Info
from policies.checkpoint import Checkpoint, actor_hash, load_checkpoint, save_checkpoint
from policies.ppo import OnPolicy
from policies.registry import (
    algorithm_names,
    config_class,
    learns_on_policy,
    learns_online,
    make_algorithm,
    needs_rewards,
    online_settings,
    settings_online,
    updates_per_step,
)
from policies.soft_actor_critic import SoftActorCritic
from rewards.labeller import EpisodeLabeller, Labeller


@dataclass(frozen=True, slots=True)
class LearningConfig(Mixture):
    """Everything that decides how a pretrained run goes on learning, wherever the episodes come from.

    Online episodes are rewarded as the run's label set was made: by looking, where a judge's preferences or a success
    classifier made it, and else by the simulator.
    """

    __pydantic_config__ = STRICT

    algorithm: str = ""
    """That learns; the pretrained run's own where empty."""
    learner: dict[str, Any] = field(default_factory=dict)
    """Settings of another algorithm than the run's own, completed with its defaults; or those of the run's own that
    only count online."""
    from_policy: bool = True
    """Whether another algorithm starts from the pretrained policy, or from nothing."""
    updates_per_step: Annotated[int, Field(ge=1)] | None = None
    """Made after each episode, this many for each of its steps; what the algorithm's authors made where None."""
    actor_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Of the policy while online; the pretraining's, before its decay, where None."""
    warm_up_episodes: Annotated[int, Field(ge=1)] = 1
    """Episodes before the first update."""
    tolerated_loss: Annotated[float, Field(ge=0, le=1)] | None = 0.2
    """By how much a policy may succeed less often than the best one that was evaluated. A worse one is given up:
    learning goes on from the best. None never goes back."""
    seed: Annotated[int, Field(ge=0, lt=100_000)] = 0
    checkpoint_every: Annotated[int, Field(gt=0)] = 10
    """Episodes."""


C = TypeVar("C", bound=LearningConfig)


def learning_config(cls: type[C], settings: Mapping[str, Any]) -> C:
    """A configuration of flat settings: what is none of the run's own belongs to the algorithm that it names.

    Raises:
        InputError: naming an unknown key (with the nearest valid one) or a value that does not fit.
    """
    own = {item.name for item in fields(cls)} - {"learner"}
    algorithm = str(settings.get("algorithm", ""))
    of_learner = {item.name for item in fields(config_class(algorithm))} if algorithm else set()
    for key in settings:
        if key not in own | of_learner:
            raise unknown("key", key, own | of_learner, "finetune")
    # A rate that both know is the run's: it is also what a run that keeps its algorithm can be told.
    learner = {key: value for key, value in settings.items() if key in of_learner - own}
    given = {key: value for key, value in settings.items() if key in own}
    return parse(cls, given | ({"learner": learner} if learner else {}), "finetune")


@dataclass(frozen=True, slots=True)
class Beginning:
    """What learning goes on from."""

    train: TrainConfig
    """The pretrained run's, with the algorithm that goes on."""
    saved: Checkpoint
    data: OfflineData
    labeller: EpisodeLabeller | None
    """What labels online episodes, where the offline ones were labelled by looking."""

    @classmethod
    def of_parent(cls, parent: Path, config: LearningConfig) -> "Beginning":
        """Where a new run begins.

        Raises:
            InputError: where the parent cannot be gone on from, or not with these settings.
        """
        config.check()
        written = Run.open(parent).config
        train = _trained_online(parse(TrainConfig, written["train"], f"{parent}/config.yaml"), config)
        if not learns_online(train.algorithm):
            able = ", ".join(name for name in algorithm_names() if learns_online(name))
            why = "does not learn online" if needs_rewards(train.algorithm) else "cannot learn from rewards"
            raise InputError(
                f"{parent}: algorithm {train.algorithm!r} {why}; "
                f"fine-tune an 'iql' run, or give --algorithm, one of: {able}"
            )
        if learns_on_policy(train.algorithm):
            _check_on_policy(config, train.algorithm)
        choose_device(train.device)
        saved = _beginning(parent, config, train)
        return cls._of(train, saved, written["data"])

    @classmethod
    def of_run(cls, run: Run, config: LearningConfig) -> "Beginning":
        """Where a run that was begun goes on: at its newest complete checkpoint, or where it began.

        Raises:
            InputError: where that cannot be had any more.
        """
        written = run.config
        train = parse(TrainConfig, written["train"], f"{run.path}/config.yaml")
        if run.has_checkpoint():
            saved = load_checkpoint(run.last)
        else:
            saved = _beginning(Path(written["parent"]), config, train)
            if saved.hash != written["parent_checkpoint"]:
                raise InputError(f"{run.path}: its parent {written['parent']} has changed since; begin a new run")
        return cls._of(train, saved, written["data"])

    @classmethod
    def _of(cls, train: TrainConfig, saved: Checkpoint, origin: Mapping[str, Any]) -> "Beginning":
        data = load_offline(Path(origin["store"]), train, origin["snapshot"])
        if penalty := data.provenance.get("penalty"):
            raise InputError(
                f"{origin['store']}: label set {origin['labels']!r} takes a penalty of {penalty:g} from what violates "
                "something, and nothing takes that from online episodes; go on from a run whose labels have none"
            )
        labeller = None
        if data.labeller is not None:
            labeller = EpisodeLabeller(Labeller.load(data.labeller), choose_device(train.device))
        return cls(train, saved, data, labeller)

    def written(self, parent: Path, config: LearningConfig) -> dict[str, Any]:
        """The configuration of the run that begins here."""
        return {
            "kind": "finetune",
            "parent": str(parent.resolve()),
            "parent_checkpoint": self.saved.hash,
            "online": plain(config),
            "train": plain(self.train),
            "data": self.data.origin,
        }


class Learner:
    """Takes episodes one by one and learns after each.

    What it has learned follows from where it began and from the episodes in their order: begun again at a checkpoint
    and given the episodes up to there and those after it, it comes out the same, bit for bit on the CPU.
    """

    def __init__(
        self, run: Run, config: LearningConfig, beginning: Beginning, experience: Callable[..., Experience] = Experience
    ):
        self.run, self.config, self.train = run, config, beginning.train
        self.saved, self.data, self.labeller = beginning.saved, beginning.data, beginning.labeller
        device = choose_device(self.train.device)
        self.algorithm: Algorithm = self.saved.algorithm.to(device)
        self.encoder = self.data.encoder
        seed = int(_seeds(self.train, config).generate_state(1)[0])
        own = Trajectories(self.algorithm, self.train.sampling) if isinstance(self.algorithm, OnPolicy) else None
        self.experience = experience(
            self.data, self.labeller, self.train, config, camera=self.saved.camera, device=device, seed=seed, own=own
        )
        self._updates_per_step = config.updates_per_step or updates_per_step(self.train.algorithm)
        self.learned = self.saved_at = 0
        """Episodes that have been taken and learned from, and how many of them the newest checkpoint knows."""
        self.policy = actor_hash(self.algorithm)
        """What the newest checkpoint's policy is called."""
        self.trials = Trials(config.tolerated_loss)
        self.successes: list[float] = []
        """One per episode that was no evaluation, where it is known."""
        self._due = 0
        """Steps that updates are owed for."""

    @property
    def episodes_before(self) -> int:
        """How many episodes the checkpoint that it goes on from has learned from."""
        return int(self.saved.note.get("online_episodes", 0))

    def restore(self, store: Store) -> None:
        """Give back what the checkpoint knew: the store's first episodes, in their order."""
        note = self.saved.note
        if "online_episodes" not in note:
            return
        self.experience.load_state_dict(self.saved.beside)
        self.trials.restore(note["trials"])
        if self.experience.own is not None:
            self.experience.own.since = int(note["own_since"])
        snapshot = store.snapshot()
        for index in range(self.episodes_before):
            episode = snapshot.episode(index)
            self._add(episode, look_into(store, index, episode))
        self._due = 0
        self.learned = self.saved_at = self.episodes_before

    def take(self, episode: Episode, look: Look) -> dict[str, float]:
        """Add an episode to what is learned from; what is to be logged of it.

        Where it ends the trial of a policy that was much worse than the best, learning goes on from that one instead.

        Args:
            look: how its pictures are looked at.
        """
        policy = _policy_of(episode) if episode.evaluation else None
        finished = self.trials.finished(policy)
        logged = {} if finished is None else self.judge(finished)
        outcome = self._add(episode, look)
        if policy is not None and "online/success" in outcome:
            # It was acted by the mean, and is no part of how well it goes while learning.
            outcome["evaluation/success"] = outcome.pop("online/success")
            # Where a person has helped, the outcome says nothing of the policy alone.
            if not episode.helped:
                self.trials.add(policy, bool(outcome["evaluation/success"]))
        return outcome | logged

    def judge(self, trial: Trial) -> dict[str, float]:
        """Make of a trial what is to be made of it; what is to be logged."""
        back_to, logged = self.trials.judge(trial), logged_of(trial)
        if back_to is None:
            return logged
        # In place: whoever acts with this learner's policy goes on with it.
        self.algorithm.load_state_dict(load_checkpoint(self.run.checkpoint(back_to.checkpoint)).algorithm.state_dict())
        if self.experience.own is not None:
            self.experience.own.begin_anew(self.experience.episodes)
        return logged | {"evaluation/back_to": float(back_to.checkpoint)}

    def _add(self, episode: Episode, look: Look) -> dict[str, float]:
        outcome = self.experience.add(episode, look)
        if "online/success" in outcome and not episode.evaluation:
            self.successes.append(outcome["online/success"])
        self._due += 0 if self.experience.left_out else episode.steps
        return outcome

    def learn(self) -> dict[str, float]:
        """The updates that the steps taken are due, unless it is still warming up; the last one's metrics."""
        self.learned += 1
        steps, self._due = self._due, 0
        if self.learned < self.config.warm_up_episodes or not self.experience.ready:
            return {}
        info: Info = {}
        own = self.experience.own
        if own is not None:
            if own.steps >= own.algorithm.episode_steps:
                info = own.algorithm.learn_from(own.trajectories)
                own.begin_anew(self.experience.episodes)
            return scalars(info)
        for _ in range(steps * self._updates_per_step):
            # Not every update has all of it.
            info |= self.algorithm.update(self.experience.sample())
        return scalars(info | self.experience.info)

    def save(self, to_come: Iterable[int] = ()) -> None:
        """A checkpoint, named after the episodes that it has learned from.

        Args:
            to_come: policies that are tried in episodes that it has not taken yet: theirs are kept.
        """
        self.policy = actor_hash(self.algorithm)
        self.trials.checkpoints[self.policy] = self.learned
        note = {"online_episodes": self.learned, "step": self.algorithm.step, "trials": self.trials.note()}
        if self.experience.own is not None:
            note["own_since"] = self.experience.own.since
        save_checkpoint(
            self.run.checkpoint(self.learned),
            self.algorithm,
            self.data.contract,
            camera=self.saved.camera,
            encoder=self.saved.encoder,
            beside=self.experience.state_dict(),
            note=note,
        )
        self.trials.kept(self.run.mark_last(self.learned, self.trials.wanted(to_come)))
        self.saved_at = self.learned


def logged_of(trial: Trial) -> dict[str, float]:
    """What is logged of a trial."""
    return {"evaluation/success_rate": trial.rate, "evaluation/episodes": float(trial.episodes)}


def _check_on_policy(config: LearningConfig, algorithm: str) -> None:
    """Raise an InputError where settings would do nothing, since nothing old is learned from."""
    mixes = {item.name for item in fields(Mixture)} | {"updates_per_step"}
    given = [item.name for item in fields(config) if item.name in mixes and getattr(config, item.name) != item.default]
    if given:
        raise InputError(
            f"{', '.join(given)}: {algorithm!r} learns from its own newest episodes and from nothing else; leave it out"
        )


def _policy_of(episode: Episode) -> int:
    """The policy that acted in it; 0 where none did."""
    return 0 if episode.policy is None else int(episode.policy.max())


def _trained_online(train: TrainConfig, config: LearningConfig) -> TrainConfig:
    """What the pretrained run was told, with the algorithm that goes on."""
    if config.algorithm in ("", train.algorithm):
        if not config.from_policy:
            raise InputError(
                f"from_policy=false: the run is of {train.algorithm!r} itself, which goes on from where it is; "
                "leave it out, or give another --algorithm"
            )
        if fixed := [key for key in config.learner if key not in online_settings(train.algorithm)]:
            raise InputError(
                f"{', '.join(fixed)}: settings of {train.algorithm!r} were fixed when the run was pretrained"
            )
        told = settings_online(train.algorithm, config.updates_per_step, started=False) | config.learner
        if not told:
            return train
        changed = replace(train, learner=train.learner | told)
        return replace(changed, learner=asdict(changed.algorithm_config()))
    told = settings_online(config.algorithm, config.updates_per_step, started=config.from_policy)
    settings = {"hidden": train.learner["hidden"], **told, **config.learner}
    if config.actor_learning_rate is not None:
        settings["actor_learning_rate"] = config.actor_learning_rate
    changed = replace(train, algorithm=config.algorithm, learner=settings)
    return replace(changed, learner=asdict(changed.algorithm_config()))


def _beginning(parent: Path, config: LearningConfig, train: TrainConfig) -> Checkpoint:
    """The parent's newest checkpoint, as an online run begins with it: the learner alone, whatever else it was."""
    saved = load_checkpoint(Run.open(parent).last)
    if saved.algorithm.name != train.algorithm:
        return replace(saved, algorithm=_another(saved.algorithm, config, train), beside={}, note={})
    saved.algorithm.go_online()
    if config.learner or settings_online(train.algorithm, config.updates_per_step, started=False):
        saved.algorithm.config = train.algorithm_config()
    if config.actor_learning_rate is not None:
        rates = {"actor_learning_rate": config.actor_learning_rate}
        saved.algorithm.config = replace(saved.algorithm.config, **rates)
    return replace(saved, beside={}, note={})


def _seeds(train: TrainConfig, config: LearningConfig) -> np.random.SeedSequence:
    """Of an online run; what is spawned from it is another stream than its own."""
    return np.random.SeedSequence([train.seed, config.seed])


def _another(pretrained: Algorithm, config: LearningConfig, train: TrainConfig) -> Algorithm:
    """A fresh learner of another kind, prepared as the pretrained one was."""
    # 0 is what nobody gave: it stays with the pretraining's seed, and such runs come out as they always did.
    (drawn,) = _seeds(train, config).spawn(1)
    seed = int(drawn.generate_state(1)[0]) if config.seed else train.seed
    algorithm = make_algorithm(train.algorithm, train.algorithm_config(), pretrained.preparation, seed=seed)
    algorithm.go_online()
    if config.from_policy:
        if not isinstance(algorithm, SoftActorCritic):
            raise InputError(f"algorithm {train.algorithm!r} starts from no other's policy; give from_policy=false")
        algorithm.start_from(pretrained)
    return algorithm
