"""From a judge to a reward model: pairs are chosen, asked about and learned from, in rounds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from episodes.errors import InputError
from episodes.typed import STRICT
from rewards.answers import Answers
from rewards.asking import Asked, ask
from rewards.inputs import Inputs
from rewards.judge import Judge, Verdict
from rewards.moments import Moments
from rewards.pairs import SAMPLERS, by_disagreement
from rewards.reward_model import Fit, RewardConfig, RewardEnsemble, fit, scores

Bar = Callable[[Iterable[Any]], Iterable[Any]]

CANDIDATES = 10
"""Candidate pairs per pair that is asked about where the members' disagreement chooses."""


@dataclass(frozen=True, slots=True)
class AskingConfig:
    """Which pairs are put to the judge, and how."""

    __pydantic_config__ = STRICT

    pairs: Annotated[int, Field(gt=0)] = 2000
    sampling: Literal["uniform", "stratified", "same_episode"] = "uniform"
    rounds: Annotated[int, Field(gt=0)] = 1
    """From the second round on, the pairs on which the model's members disagree most."""
    both_orders: bool = True
    """Ask about (a, b) and (b, a), and call a disagreement unsure: judges like one side better."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A reward model and the answers that it is made of."""

    ensemble: RewardEnsemble
    scores: np.ndarray
    """Shape (members, N observations)."""
    asked: list[Asked]
    fit: Fit

    def counted(self) -> dict[str, int]:
        """What came of the pairs."""
        return {
            "pairs": len(self.asked),
            "decided": len(decided(self.asked)),
            "unsure": sum(pair.verdict is Verdict.UNSURE for pair in self.asked),
            "invalid": sum(pair.verdict is Verdict.INVALID for pair in self.asked),
            "same_pictures": sum(pair.verdict is None for pair in self.asked),
        }


def learn_preferences(
    judge: Judge,
    moments: Moments,
    among: np.ndarray,
    task: str,
    inputs: Inputs,
    answers: Answers | None,
    asking: AskingConfig,
    reward: RewardConfig,
    rng: np.random.Generator,
    bar: Callable[[str], Bar] = lambda _: iter,
) -> Learned:
    """Ask about pairs of the rows `among`, and train on the answers that decide; score every observation.

    Raises:
        InputError: where hardly any pair was decided.
    """
    asked: list[Asked] = []
    learned: Learned | None = None
    for number in range(asking.rounds):
        count = asking.pairs // asking.rounds + (number < asking.pairs % asking.rounds)
        candidates = SAMPLERS[asking.sampling](moments, among, count * (CANDIDATES if learned else 1), rng)
        chosen = candidates if learned is None else by_disagreement(candidates, learned.scores, count)
        asked += ask(judge, moments, chosen, task, answers, both_orders=asking.both_orders, progress=bar("ask"))
        usable = decided(asked)
        if len(usable) < 2 * reward.members:
            raise InputError(
                f"of {len(asked)} pairs, judge {judge.name!r} decided {len(usable)}: too few to learn from; ask about "
                "more pairs, or look at its answers (a margin may be too wide, a goal text may not fit)"
            )
        ensemble = RewardEnsemble(reward, inputs.shape, inputs.mean, inputs.std)
        pairs = np.array([[pair.first, pair.second] for pair in usable])
        better = np.array([pair.verdict is Verdict.SECOND for pair in usable])
        fitted = fit(ensemble, inputs, pairs, better, reward, bar("learn"))
        learned = Learned(ensemble, scores(ensemble, inputs, np.arange(len(moments))), asked, fitted)
    assert learned is not None
    return learned


def decided(asked: Sequence[Asked]) -> list[Asked]:
    """The pairs with a better moment: "unsure" and "invalid" are no labels, and not ones of equal worth either."""
    return [pair for pair in asked if pair.verdict in (Verdict.FIRST, Verdict.SECOND)]
