"""Putting pairs to a judge: no question twice, no pair that shows the same, and no opinion that hangs on the order."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes.errors import InputError
from rewards.answers import Answers, Question, digest
from rewards.judge import Answer, Frame, Judge, Pair, Verdict
from rewards.moments import Moments

SAME_BELOW = 0.005
"""Root mean square difference of two pictures, of 1, under which they show the same; a camera's noise is about that."""
AT_A_TIME = 128
"""Pairs whose pictures are in memory together."""


NOT_ANSWERED = Answer(Verdict.INVALID, "not answered")
"""What a judge left out counts as unreadable now, and is not kept: it is asked again the next time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One pair and what came of it."""

    first: int
    """Row of the store's observations."""
    second: int
    difference: float
    """Of the pictures, root mean square, of 1; the largest of the cameras."""
    verdict: Verdict | None
    """None where the pictures show the same, and nobody was asked."""
    rationale: str = ""


def ask(
    judge: Judge,
    moments: Moments,
    pairs: np.ndarray,
    task: str,
    answers: Answers | None,
    *,
    both_orders: bool = True,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[Asked]:
    """What the judge says of each pair, in order.

    Args:
        pairs: shape (n, 2), rows of observations.
        answers: where answers are kept and looked up first; None keeps none.
        both_orders: ask about (a, b) and (b, a), and count a disagreement as unsure: judges like one side better.
        progress: wraps what is gone through.
    """
    asked: list[Asked] = []
    for rows in progress(_parts(pairs)):
        frames = {frame.observation: frame for frame in moments.frames(np.unique(rows))}
        shown = [(frames[int(a)], frames[int(b)]) for a, b in rows]
        apart = [_difference(first, second) for first, second in shown]
        worth = [index for index, difference in enumerate(apart) if difference >= SAME_BELOW]
        opinions = _opinions(judge, [shown[index] for index in worth], task, answers)
        if both_orders and not judge.symmetric:
            turned = _opinions(judge, [(shown[i][1], shown[i][0]) for i in worth], task, answers)
            opinions = [_agreed(one, other) for one, other in zip(opinions, turned, strict=True)]
        by_index = dict(zip(worth, opinions, strict=True))
        for index, ((first, second), difference) in enumerate(zip(shown, apart, strict=True)):
            opinion = by_index.get(index)
            verdict, rationale = (opinion.verdict, opinion.rationale) if opinion else (None, "")
            asked.append(Asked(first.observation, second.observation, difference, verdict, rationale))
    return asked


def score(
    judge: Judge,
    moments: Moments,
    rows: np.ndarray,
    task: str,
    answers: Answers | None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> np.ndarray:
    """The judge's probability that the task is done, for each row: shape (n,), NaN where it gave none."""
    found = np.full(len(rows), np.nan)
    keep = answers if judge.identity else None
    for start in progress(range(0, len(rows), AT_A_TIME)):
        frames = list(moments.frames(rows[start : start + AT_A_TIME]))
        questions = [_question(judge, task, (frame,)) for frame in frames] if keep is not None else []
        known = {i: kept for i, question in enumerate(questions) if keep and (kept := keep.get(question))}
        for index, (value, _) in known.items():
            found[start + index] = float(value)
        unknown = [index for index in range(len(frames)) if index not in known]
        for position, value in judge.succeeds([frames[index] for index in unknown], task):
            found[start + unknown[position]] = value
            if keep is not None:
                keep.put(questions[unknown[position]], repr(float(value)))
    return found


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + AT_A_TIME] for start in range(0, len(rows), AT_A_TIME)]


def _difference(first: Frame, second: Frame) -> float:
    """0 for the same observation; infinite for two others where there are no pictures to compare."""
    if first.observation == second.observation:
        return 0.0
    if not first.images:
        return float("inf")
    squares = [np.mean((first.images[name].astype(np.float32) - second.images[name]) ** 2) for name in first.images]
    return float(np.sqrt(max(squares)) / 255)


def _opinions(judge: Judge, pairs: Sequence[Pair], task: str, answers: Answers | None) -> list[Answer]:
    """An answer per pair: the kept one where there is one, else the judge's, which is kept as soon as it comes."""
    if answers is None or not judge.identity:
        given = dict(judge.prefer(pairs, task))
        return [given.get(index, NOT_ANSWERED) for index in range(len(pairs))]
    questions = [_question(judge, task, pair) for pair in pairs]
    found: dict[str, Answer] = {}
    for question in questions:
        if kept := answers.get(question):
            if kept[0] not in set(Verdict):
                raise InputError(
                    f"{answers.path}: holds {kept[0]!r} as an answer to a pair; it is damaged, give another"
                )
            found[question.key] = Answer(Verdict(kept[0]), kept[1])
    # The same question may stand here more than once; it is asked once.
    to_ask = {question.key: index for index, question in enumerate(questions) if question.key not in found}
    indices = list(to_ask.values())
    for position, answer in judge.prefer([pairs[index] for index in indices], task):
        question = questions[indices[position]]
        found[question.key] = answer
        answers.put(question, answer.verdict.value, answer.rationale)
    return [found.get(question.key, NOT_ANSWERED) for question in questions]


def _agreed(answer: Answer, turned: Answer) -> Answer:
    """One answer from those to a pair in both orders."""
    if Verdict.INVALID in (answer.verdict, turned.verdict):
        return answer if answer.verdict is Verdict.INVALID else turned
    if answer.verdict == turned.verdict.swapped:
        return answer
    return Answer(Verdict.UNSURE, answer.rationale)


def _question(judge: Judge, task: str, frames: Sequence[Frame]) -> Question:
    return Question(judge.name, judge.identity, task, tuple(digest(frame.images) for frame in frames))
