"""A contrastive vision-language model as a judge: the moment that looks more like the goal's description is better."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import expit

from episodes.errors import InputError
from episodes.typed import STRICT, plain
from rewards.judge import Answer, Frame, Pair, Verdict
from rewards.sight import Sight


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """What the model is asked to compare pictures with."""

    __pydantic_config__ = STRICT

    goal: str | None = None
    """Describes the scene when the task is done; the task's own text where None."""
    baseline: str | None = None
    """Describes the scene while the task is not done. What it has in common with the goal is projected out:
    goal-baseline regularisation (Rocamonde et al., 2024, "Vision-language models are zero-shot reward models")."""
    regularisation: Annotated[float, Field(ge=0, le=1)] = 1.0
    """alpha of that paper: 0 compares with the goal alone, 1 looks at nothing but the way from baseline to goal."""
    margin: Annotated[float, Field(ge=0)] = 0.01
    """Differences of scores up to this are unsure. Scores are cosines, or where there is a baseline, are like them."""


class ClipJudge:
    """Compares moments by their pictures' features, which are made once and kept with the store."""

    name = "clip"
    symmetric = True

    def __init__(self, sight: Sight, config: ClipConfig):
        if sight.model is None:
            raise InputError(
                f"judge 'clip' compares pictures with texts, and encoder {sight.encoder.name!r} knows none"
            )
        self._sight, self._model, self.config = sight, sight.model, config
        self.identity = f"{sight.encoder.key} {plain(config)}"
        self._encoded: dict[str, np.ndarray] = {}

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        """Scores are compared; up to the margin they say nothing."""
        scores = self.score([frame for pair in pairs for frame in pair], task).reshape(-1, 2)
        for position, (first, second) in enumerate(scores.tolist()):
            if abs(first - second) <= self.config.margin:
                verdict = Verdict.UNSURE
            else:
                verdict = Verdict.FIRST if first > second else Verdict.SECOND
            yield position, Answer(verdict, f"{first:.4f} against {second:.4f}")

    def succeeds(self, frames: Sequence[Frame], task: str) -> Iterator[tuple[int, float]]:
        """The model's choice between goal and baseline, as in zero-shot classification; without a baseline, the cosine
        brought to [0, 1]."""
        pictures = self._pictures(frames)
        goal, baseline = self._texts(task)
        if baseline is None:
            probability = np.clip((pictures @ goal + 1) / 2, 0, 1)
        else:
            probability = expit(self._model.logit_scale * (pictures @ (goal - baseline)))
        yield from enumerate(probability.tolist())

    def score(self, frames: Sequence[Frame], task: str) -> np.ndarray:
        """Shape (N,): 1 - |(alpha P + 1 - alpha) (x - g)|^2 / 2, P being the projection onto the line from baseline to
        goal g, and x a moment's picture (the paper's equation 3). Without a baseline, the cosine of x and g."""
        pictures = self._pictures(frames)
        goal, baseline = self._texts(task)
        left = pictures - goal
        if baseline is None:
            return 1 - (left**2).sum(1) / 2
        way = (goal - baseline) / np.linalg.norm(goal - baseline)
        along = (left @ way) ** 2
        beside = (left**2).sum(1) - along
        return 1 - (along + (1 - self.config.regularisation) ** 2 * beside) / 2

    def _texts(self, task: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Goal and baseline as unit vectors."""
        texts = [self.config.goal or task, *([self.config.baseline] if self.config.baseline else [])]
        if task not in self._encoded:
            self._encoded[task] = self._model.encode_texts(texts)
        goal, *rest = self._encoded[task]
        if rest and np.allclose(goal, rest[0], atol=1e-6):
            raise InputError(f"judge 'clip': baseline {texts[1]!r} is to the model the same as goal {texts[0]!r}")
        return goal, rest[0] if rest else None

    def _pictures(self, frames: Sequence[Frame]) -> np.ndarray:
        """Shape (N, F): unit vectors; of several cameras their mean, at unit length again."""
        rows = np.array([frame.observation for frame in frames], np.int64)
        tables = [table[rows] for table in self._sight.tables.values()]
        mean = np.sum([table / np.linalg.norm(table, axis=1, keepdims=True) for table in tables], axis=0)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)
