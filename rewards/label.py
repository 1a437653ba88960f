"""Labelling a store: features once per frame, pairs, answers, a reward model, a success classifier, one label set."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from pydantic import Field

from episodes.encoders import whole_name
from episodes.errors import InputError
from episodes.labels import LabelSet, check_label_name
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.typed import STRICT, plain
from rewards.answers import Answers
from rewards.asking import score
from rewards.evidence import evidence_of
from rewards.inputs import Inputs
from rewards.judge import Judge
from rewards.judges.chat import ChatJudge
from rewards.judges.make import JudgeConfig, check_judge, make_judge
from rewards.labeller import Labeller, LabellerConfig, inputs_of
from rewards.marks import Marks
from rewards.moments import Moments, split_episodes
from rewards.preferences import AskingConfig, Bar, Learned, learn_preferences
from rewards.shaping import Shape, scale_of, scaled
from rewards.sight import Sight
from rewards.success import SuccessClassifier, SuccessFit, check_marked, train_success
from rewards.worth import Made, truth_of, worth


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """Everything that decides what labels a store gets, beside the store, the marks and the judge's answers."""

    __pydantic_config__ = STRICT

    labeller: LabellerConfig
    method: Literal["preference", "score", "success"] = "preference"
    """What gives a score: a model of the judge's preferences; the judge's own score of each frame, the published
    baseline; or nothing, and there is only the success."""
    judge: Literal["clip", "chat", "progress", "env"] = "clip"
    judges: JudgeConfig = field(default_factory=JudgeConfig)
    asking: AskingConfig = field(default_factory=AskingConfig)
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Part of the episodes that no pair is drawn from: what the labels are worth is measured there."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


def label(
    store: Store,
    name: str,
    config: LabelConfig,
    *,
    marks: Marks | None = None,
    truth: str | None = None,
    answers: Path | None = None,
    bar: Callable[[str], Bar] = lambda _: iter,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Make a label set for the whole store.

    Args:
        name: of the label set. What made it is kept in the store's folder, under `labellers/<name>`.
        marks: successes and failures; without them there is no success classifier.
        truth: a label set with true rewards, to measure against, and for judge `env` to judge by.
        answers: the file of answers; `answers.sqlite` in the store's folder where None.
        bar: makes a progress bar of a description.
        say: takes a line about what is going to happen.

    Returns:
        What `firsthand label --json` prints.
    """
    check_label_name(name)
    try:
        with FileLock(store.path / "labelling.lock").acquire(timeout=0):
            labelling = _Labelling(store, name, config, marks, truth)
            return labelling.run(answers or store.path / "answers.sqlite", bar, say)
    except Timeout:
        raise InputError(f"{store.path}: is being labelled by another process; wait until it has finished") from None


class _Labelling:
    """One labelling: everything is checked before anything is looked at, and looked at before anything is asked."""

    def __init__(self, store: Store, name: str, config: LabelConfig, marks: Marks | None, truth: str | None):
        self.store, self.name, self.snapshot = store, name, store.snapshot()
        self.config = _checked(config, name, self.snapshot, marks)
        self.truth = None if truth is None else truth_of(self.snapshot, truth)
        self.moments = Moments.of(self.snapshot, self.config.labeller.cameras)
        self.examples = None if marks is None else marks.examples(self.snapshot)
        if self.examples is not None:
            check_marked(self.moments.episode[self.examples[0]], self.examples[1])
        # Apart, so that another mark does not change which pairs are asked about: those answers are kept.
        split, altering, asking = np.random.SeedSequence([config.seed, 3]).spawn(3)
        self.altering, self.pairing = np.random.default_rng(altering), np.random.default_rng(asking)
        self.aside = split_episodes(self.snapshot.episodes, config.held_out, np.random.default_rng(split))
        self.device = _device(config.device)
        check_judge(self.config.judge, self.config.judges, self.truth, asked=self.config.method != "success")

    def run(self, answers_path: Path, bar: Callable[[str], Bar], say: Callable[[str], None]) -> dict[str, Any]:
        began, snapshot, work = time.monotonic(), self.snapshot, self.config.labeller
        sight = None
        if work.encoder is not None:
            sight = Sight.of(self.store, snapshot, work.cameras, work.encoder, self.device)
        success = self._learn_success(sight)
        judge, learned, members = None, None, None
        if self.config.method != "success":
            with _opened(answers_path) as answers:
                judge = make_judge(self.config.judge, self.config.judges, sight, self.truth)
                say(_announced(judge, self.config, snapshot))
                if self.config.method == "preference":
                    learned = self._learn_preferences(judge, sight, answers, bar)
                    members = learned.scores
                else:
                    members = _direct_scores(judge, self.moments, work.task, answers, bar)[None]
        scale = (0.0, 1.0) if members is None else scale_of(members.mean(0))
        classifier = None if success is None else success[0]
        weights = None if sight is None else sight.encoder.key
        labeller = Labeller(work, None if learned is None else learned.ensemble, scale, classifier, weights)
        values = labeller.combined(
            snapshot,
            None if members is None else scaled(members.mean(0), scale),
            None if learned is None else learned.scores.std(0) / scale[1],
            self._probability(classifier, sight),
        )
        made = Made(values, members, learned, None if success is None else success[1])
        document = self._document(made, time.monotonic() - began)
        evidence = evidence_of(document, np.flatnonzero(self.aside).tolist(), made)
        labeller.save(self.store.path / "labellers" / self.name, evidence)
        identity = "" if judge is None else judge.identity
        self.store.write_labels(self._label_set(values, document, {"weights": weights, "judge_identity": identity}))
        return document

    def _probability(self, classifier: SuccessClassifier | None, sight: Sight | None) -> np.ndarray | None:
        """Of success, for every observation; where a person marked a frame, what the person said."""
        if classifier is None or sight is None or self.examples is None:
            return None
        rows, done = self.examples
        probability = classifier.probability(sight.joined())
        probability[rows] = done
        return probability

    def _learn_success(self, sight: Sight | None) -> tuple[SuccessClassifier, SuccessFit] | None:
        """A success classifier from the marked frames."""
        if self.examples is None or sight is None:
            return None
        work, (rows, done) = self.config.labeller, self.examples
        altered = sight.altered(self.snapshot, rows, work.success.augmentations, self.altering)
        text = sight.text(work.success_text or work.task)
        episode = self.moments.episode[rows]
        return train_success(sight.joined()[rows], altered, rows, done, episode, text, work.success)

    def _learn_preferences(
        self, judge: Judge, sight: Sight | None, answers: Answers, bar: Callable[[str], Bar]
    ) -> Learned:
        """A reward model from pairs of the episodes that are not held out."""
        work, among = self.config.labeller, self.moments.of_episodes(~self.aside)
        inputs = _inputs(work, self.moments, sight)
        return learn_preferences(
            judge, self.moments, among, work.task, inputs, answers, self.config.asking, work.reward, self.pairing, bar
        )

    def _document(self, made: Made, seconds: float) -> dict[str, Any]:
        config, work = self.config, self.config.labeller
        return {
            "labels": self.name,
            "method": config.method,
            "judge": None if config.method == "success" else config.judge,
            "shape": work.shape.value,
            "truth": None if self.truth is None else self.truth.labels,
            "episodes": self.snapshot.episodes,
            "held_out": int(self.aside.sum()),
            **({"pairs": 0, "unsure": 0} if made.learned is None else made.learned.counted()),
            **worth(self.snapshot, self.moments, self.aside, made, self.truth),
            "seconds": seconds,
            "frames_per_second": self.snapshot.observations * max(len(work.cameras), 1) / seconds,
        }

    def _label_set(
        self, values: dict[str, np.ndarray], document: dict[str, Any], looked_with: dict[str, Any]
    ) -> LabelSet:
        snapshot, work = self.snapshot, self.config.labeller
        covered = np.ones(snapshot.episodes, bool)
        if "terminated" not in values:
            # Such a step could be learned from and has no reward: what came after it was not recorded.
            covered = ~(snapshot.terminated & np.isnan(values["reward"][snapshot.step_ends - 1]))
        provenance = {
            "method": self.config.method,
            "judge": document["judge"],
            "task": work.task,
            "shape": work.shape.value,
            **({"discount": work.discount} if work.shape is Shape.POTENTIAL else {}),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "snapshot": snapshot.id,
            "labeller": f"labellers/{self.name}",
            **looked_with,
            "config": plain(self.config),
            "agreement": {key: document.get(key) for key in ("accuracy", "spearman", "pairs", "unsure", "agreement")},
        }
        return LabelSet(self.name, values, covered, provenance)


def _announced(judge: Judge, config: LabelConfig, snapshot: Snapshot) -> str:
    """What will be asked, before anything is paid for."""
    if config.method == "score":
        price = ", less what it has answered before: as many requests" if isinstance(judge, ChatJudge) else ""
        return f"judge {judge.name!r} will score {snapshot.observations} frames{price}"
    if not isinstance(judge, ChatJudge):
        return f"judge {judge.name!r} will compare {config.asking.pairs} pairs"
    estimate = judge.estimate(config.asking.pairs, config.asking.both_orders)
    words = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in estimate.items())
    return f"judge 'chat' will compare {config.asking.pairs} pairs, less what it has answered before: {words}"


def _checked(config: LabelConfig, name: str, snapshot: Snapshot, marks: Marks | None) -> LabelConfig:
    """The configuration with what follows from the store; refused where it cannot be carried out."""
    path, work = snapshot.path, config.labeller
    if name in snapshot.label_names:
        raise InputError(f"{path}: label set {name!r} exists, and label sets are never changed; give another --name")
    if not snapshot.episodes:
        raise InputError(f"{path}: holds no episodes to label")
    if not work.task.strip():
        raise InputError("the task is empty: say in one sentence what is to be done (--task TEXT)")
    if config.method == "success" and marks is None:
        raise InputError("method 'success' learns from marked episodes: give a file of marks (--marks FILE)")
    if marks is None and work.shape is not Shape.AS_IS:
        raise InputError(f"shape {work.shape.value!r} needs a success classifier: give a file of marks (--marks FILE)")
    if config.method == "success" and work.shape is not Shape.SPARSE:
        raise InputError(f"method 'success' gives no score, which shape {work.shape.value!r} is made of; use sparse")
    if config.asking.rounds > config.asking.pairs:
        raise InputError(f"{config.asking.pairs} pairs cannot be dealt out to {config.asking.rounds} rounds")
    if len(set(work.cameras)) < len(work.cameras):
        raise InputError(f"a camera is named twice: {', '.join(work.cameras)}")
    looks = config.judge in ("clip", "chat") and config.method != "success"
    features = marks is not None or (config.judge == "clip" and looks)
    features |= config.method == "preference" and work.reward.inputs == "features"
    if features and work.encoder is None:
        raise InputError("these labels look at features, and the encoder is null; name one with --encoder")
    pixels = config.method == "preference" and work.reward.inputs == "pixels"
    if not (looks or features or pixels):
        return replace(config, labeller=replace(work, cameras=(), encoder=None))
    cameras = work.cameras or tuple(snapshot.contract.camera_names)
    if not cameras:
        raise InputError(
            f"{path}: holds no pictures, and these labels are made by looking; label by the state alone with "
            "--judge progress or env and --set reward.inputs=state, without marks"
        )
    encoder = whole_name(work.encoder) if features and work.encoder is not None else None
    return replace(config, labeller=replace(work, cameras=cameras, encoder=encoder))


def _inputs(work: LabellerConfig, moments: Moments, sight: Sight | None) -> Inputs:
    def read(rows: np.ndarray) -> Iterator[Mapping[str, np.ndarray]]:
        return (frame.images for frame in moments.frames(rows))

    state = moments.snapshot.column
    return inputs_of(work, lambda: state("state"), lambda: None if sight is None else sight.joined(), read)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this machine has none; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def _opened(path: Path) -> Iterator[Answers]:
    answers = Answers(path)
    try:
        yield answers
    finally:
        answers.close()


def _direct_scores(
    judge: Judge, moments: Moments, task: str, answers: Answers, bar: Callable[[str], Bar]
) -> np.ndarray:
    """The judge's own score of every observation: shape (N,). One that could not be read counts as the worst."""
    found = score(judge, moments, np.arange(len(moments)), task, answers, bar("score"))
    if np.isnan(found).all():
        raise InputError(f"judge {judge.name!r} gave no score that could be read")
    return np.where(np.isnan(found), np.nanmin(found), found)
