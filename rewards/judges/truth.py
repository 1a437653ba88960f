"""The simulator's own reward as a judge, for measuring the others."""

from collections.abc import Iterator, Sequence

import numpy as np

from rewards.judge import Answer, Frame, Pair, Verdict


class TruthJudge:
    """Looks the true reward of a moment up."""

    name = "env"
    identity = ""
    symmetric = True

    def __init__(self, reward: np.ndarray, success: np.ndarray):
        """Both of shape (N observations,), NaN where there is none, as before an episode's first step."""
        self._reward, self._success = reward, success

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        for position, (first, second) in enumerate(pairs):
            gain = self._reward[second.observation] - self._reward[first.observation]
            if np.isnan(gain) or gain == 0:
                yield position, Answer(Verdict.UNSURE, "no true difference")
            else:
                yield position, Answer(Verdict.SECOND if gain > 0 else Verdict.FIRST)

    def succeeds(self, frames: Sequence[Frame], task: str) -> Iterator[tuple[int, float]]:
        for position, frame in enumerate(frames):
            yield position, float(self._success[frame.observation])
