"""A labeller: what turns frames into rewards and successes, kept so that later episodes get the same labels."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from episodes.encoders import Encoder, Look, load_encoder, look_at
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.files import whole_folder
from episodes.typed import STRICT, parse, plain
from rewards.inputs import Inputs, Pixels, Read, Table
from rewards.moments import Rows, RowsOfOne, per_step
from rewards.reward_model import RewardConfig, RewardEnsemble, scores
from rewards.shaping import Shape, scaled, shaped
from rewards.success import SuccessClassifier, SuccessConfig, debounced


@dataclass(frozen=True, slots=True)
class LabellerConfig:
    """What a labeller looks at, and what it makes of it."""

    __pydantic_config__ = STRICT

    task: str
    """What is to be done, in words."""
    cameras: tuple[str, ...] = ()
    encoder: str | None = None
    """By the name that `load_encoder` takes; None where nothing looks at features."""
    reward: RewardConfig = field(default_factory=RewardConfig)
    success: SuccessConfig = field(default_factory=SuccessConfig)
    success_text: str | None = None
    """What the success classifier is told; the task's text where None."""
    shape: Shape = Shape.AS_IS
    discount: Annotated[float, Field(ge=0, le=1)] = 0.95
    """The learner's, which potentials are made for."""
    bonus: Annotated[float, Field(ge=0)] = 10.0


@dataclass(frozen=True, slots=True)
class _Description:
    """The file `labeller.json`."""

    __pydantic_config__ = STRICT

    config: LabellerConfig
    scale: tuple[float, float]
    shape: tuple[int, ...] | None
    """Of one row of what the reward model looks at; None where there is none."""
    classifier: bool
    """Whether there is one."""
    weights: str | None


@dataclass(frozen=True)
class Labeller:
    """Has a reward model, a success classifier, or both."""

    config: LabellerConfig
    ensemble: RewardEnsemble | None
    scale: tuple[float, float]
    """Of the ensemble's scores on the store that they were learned on; see `shaping.scale_of`."""
    classifier: SuccessClassifier | None
    weights: str | None = None
    """The key of the encoder whose features both were learned on."""

    def values(self, rows: Rows, inputs: Inputs | None, features: np.ndarray | None) -> dict[str, np.ndarray]:
        """Per step, shape (T,), float32: `reward`, and what it is made of.

        Args:
            rows: of a snapshot or an episode.
            inputs: what the reward model looks at; see `inputs_of`.
            features: what the success classifier looks at, shape (N observations, F).
        """
        score = spread = probability = None
        if self.ensemble is not None and inputs is not None:
            members = scores(self.ensemble, inputs, np.arange(rows.observations))
            score, spread = scaled(members.mean(0), self.scale), members.std(0) / self.scale[1]
        if self.classifier is not None and features is not None:
            probability = self.classifier.probability(features)
        return self.combined(rows, score, spread, probability)

    def combined(
        self, rows: Rows, score: np.ndarray | None, spread: np.ndarray | None, probability: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Labels from what is known of each observation, shape (N,): scaled score, its spread, success probability."""
        values: dict[str, np.ndarray] = {}
        success = None
        if probability is not None and self.classifier is not None:
            passed = probability >= float(self.classifier.threshold)
            done = debounced(passed, rows.observation_starts, self.classifier.config.hold)
            success = per_step(rows, done.astype(np.float32))
            values["success"] = success
            values["success_probability"] = per_step(rows, probability)
            # The classifier alone decides what ends the task: what the log calls its end need not be a success.
            values["terminated"] = np.nan_to_num(success)
        before = None
        if score is not None:
            values["score"] = per_step(rows, score)
            before = per_step(rows, score, before=True)
        if spread is not None:
            values["score_spread"] = per_step(rows, spread)
        config = self.config
        values["reward"] = shaped(config.shape, values.get("score"), before, success, config.discount, config.bonus)
        return values

    def save(self, folder: Path, evidence: dict[str, Any]) -> None:
        """Write everything as one folder, with what was found while it was made."""
        with whole_folder(folder) as unfinished:
            shape = None if self.ensemble is None else tuple(self.ensemble.shape)
            description = plain(_Description(self.config, self.scale, shape, self.classifier is not None, self.weights))
            for name, network in (("reward", self.ensemble), ("success", self.classifier)):
                if network is not None:
                    save_file(
                        {k: v.contiguous() for k, v in network.state_dict().items()}, unfinished / f"{name}.safetensors"
                    )
            (unfinished / "labeller.json").write_text(json.dumps(description, indent=2))
            (unfinished / "evidence.json").write_text(json.dumps(evidence))

    @classmethod
    def load(cls, folder: Path) -> "Labeller":
        """Read a labeller back.

        Raises:
            InputError: where there is none, or it is damaged.
        """
        try:
            content = json.loads((folder / "labeller.json").read_text())
            if not isinstance(content, dict):
                raise ValueError(f"labeller.json holds {type(content).__name__}, expected an object")
            written = parse(_Description, content, "labeller.json")
            ensemble = classifier = None
            if written.shape is not None:
                ensemble = _ensemble(written.config, written.shape, load_file(folder / "reward.safetensors"))
            if written.classifier:
                classifier = _classifier(written.config, load_file(folder / "success.safetensors"))
        except FileNotFoundError as error:
            what = "holds no labeller" if "labeller.json" in str(error) else f"is damaged ({error})"
            raise InputError(f"{folder}: {what}; `firsthand label` makes one") from None
        except (OSError, ValueError, TypeError, LookupError, RuntimeError, SafetensorError, InputError) as error:
            raise InputError(f"{folder}: is damaged ({' '.join(str(error).split())[:160]}); label again") from None
        return cls(written.config, ensemble, written.scale, classifier, written.weights)


class EpisodeLabeller:
    """Labels single episodes as a label set's store was labelled: what the robot did a moment ago, for one.

    Raises:
        InputError: where the labels cannot be made of what a robot sees.
    """

    def __init__(self, labeller: Labeller, device: torch.device):
        config = labeller.config
        if labeller.ensemble is None and config.shape is not Shape.SPARSE:
            raise InputError("these labels are a judge's own scores, and no new episode has them; use other labels")
        self.cameras = config.cameras
        """Whose pictures an episode has to have."""
        self._labeller = labeller
        self._encoder = encoder_of_labeller(labeller, device)

    def __call__(self, episode: Episode, look: Look | None = None) -> dict[str, np.ndarray]:
        """As `Labeller.values`; `look` is how its pictures are looked at, and encodes them where None."""
        rows = RowsOfOne(episode.steps, len(episode.state))
        features, look = None, look or look_at(episode)
        if self._encoder is not None:
            features = np.concatenate([look(name, self._encoder) for name in self.cameras], axis=1)

        def read(chosen: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
            for row in chosen.tolist():
                yield {name: episode.images[name][row] for name in self.cameras}

        inputs = inputs_of(self._labeller.config, lambda: episode.state, lambda: features, read)
        return self._labeller.values(rows, inputs, features)


def encoder_of_labeller(labeller: Labeller, device: torch.device) -> Encoder | None:
    """What makes the features that a labeller looks at; None where it looks at none.

    Raises:
        InputError: where it is not the encoder that the labels were made with.
    """
    name = labeller.config.encoder
    if name is None:
        return None
    encoder = load_encoder(name, device, fast=True)
    if encoder.weights != (labeller.weights or "").partition(".")[0]:
        raise InputError(
            f"encoder {name!r} has weights {encoder.weights}, and the labels were made with {labeller.weights}; "
            "put those back, or label again"
        )
    return encoder


def inputs_of(
    config: LabellerConfig,
    state: Callable[[], np.ndarray],
    features: Callable[[], np.ndarray | None],
    read: Read,
) -> Inputs:
    """What the reward model looks at, of every observation, by what the configuration says that this is."""
    if config.reward.inputs == "state":
        return Table(state())
    if config.reward.inputs == "pixels":
        return Pixels(config.cameras, read)
    table = features()
    assert table is not None, "features are made wherever a reward model looks at them"
    return Table(table)


def _ensemble(config: LabellerConfig, shape: tuple[int, ...], state: dict[str, torch.Tensor]) -> RewardEnsemble:
    ensemble = RewardEnsemble(config.reward, shape, state["mean"], state["std"])
    ensemble.load_state_dict(state)
    return ensemble.eval()


def _classifier(config: LabellerConfig, state: dict[str, torch.Tensor]) -> SuccessClassifier:
    text = state["text"]
    classifier = SuccessClassifier(len(state["mean"]), text.numpy() if len(text) else None, config.success)
    classifier.load_state_dict(state)
    return classifier.eval()
