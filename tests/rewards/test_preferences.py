"""From answers to a reward: in rounds, from those that decide, and for every moment."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import InputError
from rewards.asking import Asked
from rewards.inputs import Table
from rewards.judge import Answer, Pair, Verdict
from rewards.judges.progress import ProgressJudge
from rewards.moments import Moments
from rewards.pairs import by_disagreement
from rewards.preferences import CANDIDATES, AskingConfig, Learned, decided, learn_preferences
from rewards.reward_model import RewardConfig
from tests.rewards.labelling import BLIND, EPISODES, Watched, ways

REWARD = RewardConfig(
    inputs="state", members=2, hidden=(8,), updates=50, learning_rate=0.02, weight_decay=0.0, dropout=0.0
)


@pytest.fixture
def moments(tmp_path: Path) -> Moments:
    return Moments.of(ways(tmp_path / "store", contract=BLIND).snapshot(), ())


def learned_from(moments: Moments, judge: ProgressJudge, among: np.ndarray | None = None, **asking) -> Learned:
    table = Table(moments.snapshot.column("state"))
    config = AskingConfig(**({"pairs": 60, "sampling": "same_episode"} | asking))
    rows = np.arange(len(moments)) if among is None else among
    return learn_preferences(judge, moments, rows, "go", table, None, config, REWARD, np.random.default_rng(0))


def test_the_later_moment_gets_the_larger_reward(moments: Moments):
    learned = learned_from(moments, ProgressJudge(), pairs=300)
    assert learned.scores.shape == (2, len(moments))
    one, *_, last = learned.scores.mean(0).reshape(EPISODES, -1).T
    assert (last > one).all()
    assert learned.counted() == {"pairs": 300, "decided": 300, "unsure": 0, "invalid": 0, "same_pictures": 0}
    assert learned.fit.agreement > 0.8


def test_only_the_rows_that_may_be_asked_about_are_but_all_are_scored(moments: Moments):
    judge = Watched()
    learned = learned_from(moments, judge, among=moments.of_episodes(np.arange(EPISODES) < 3))
    assert judge.episodes == {0, 1, 2}
    assert learned.scores.shape[1] == len(moments)


@pytest.mark.parametrize(("pairs", "rounds", "parts"), [(60, 1, [60]), (61, 3, [21, 20, 20]), (8, 8, [1] * 8)])
def test_rounds_share_the_pairs(pairs: int, rounds: int, parts: list[int], moments: Moments, monkeypatch):
    asked = []

    class Counting(ProgressJudge):
        def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
            asked.append(len(pairs))
            return super().prefer(pairs, task)

    if pairs == 8:
        with pytest.raises(InputError, match="of 1 pairs, judge 'progress' decided 1: too few"):
            learned_from(moments, Counting(), pairs=pairs, rounds=rounds)
        return
    learned = learned_from(moments, Counting(), pairs=pairs, rounds=rounds)
    assert asked == parts and len(learned.asked) == pairs


def test_from_the_second_round_on_the_members_disagreement_chooses(moments: Moments, monkeypatch):
    drawn = []

    def spy(candidates: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
        drawn.append((len(candidates), scores.shape, count))
        return by_disagreement(candidates, scores, count)

    monkeypatch.setattr("rewards.preferences.by_disagreement", spy)
    learned_from(moments, ProgressJudge(), pairs=90, rounds=3)
    assert drawn == [(30 * CANDIDATES, (2, len(moments)), 30)] * 2


def test_what_was_asked_before_is_learned_from_in_every_round(moments: Moments, monkeypatch):
    from rewards import preferences

    sizes, fit = [], preferences.fit
    monkeypatch.setattr(
        preferences, "fit", lambda e, i, pairs, *rest: sizes.append(len(pairs)) or fit(e, i, pairs, *rest)
    )
    learned_from(moments, ProgressJudge(), pairs=60, rounds=3)
    assert sizes == [20, 40, 60]


class Wavering(ProgressJudge):
    """Decides every third pair, is unsure of the next and cannot be read at the one after."""

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        others = (Answer(Verdict.UNSURE), Answer(Verdict.INVALID))
        for position, answer in super().prefer(pairs, task):
            yield position, others[position % 3 - 1] if position % 3 else answer


def test_unsure_and_invalid_are_counted_and_no_labels(moments: Moments, monkeypatch):
    from rewards import preferences

    given, fit = [], preferences.fit
    monkeypatch.setattr(
        preferences,
        "fit",
        lambda e, i, pairs, better, *rest: given.append((pairs, better)) or fit(e, i, pairs, better, *rest),
    )
    learned = learned_from(moments, Wavering(), pairs=60)
    assert learned.counted() == {"pairs": 60, "decided": 20, "unsure": 20, "invalid": 20, "same_pictures": 0}
    (pairs, better) = given[0]
    kept = [pair for index, pair in enumerate(learned.asked) if index % 3 == 0]
    assert pairs.tolist() == [[pair.first, pair.second] for pair in kept]
    assert better.tolist() == [moments.progress[pair.second] > moments.progress[pair.first] for pair in kept]


def test_too_few_decisions_say_how_many_and_what_to_do(moments: Moments):
    class Silent(ProgressJudge):
        def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
            yield from ((position, Answer(Verdict.UNSURE)) for position in range(len(pairs)))

    words = (
        r"of 60 pairs, judge 'progress' decided 0: too few to learn from; ask about more pairs, or look at its answers"
    )
    with pytest.raises(InputError, match=words) as refusal:
        learned_from(moments, Silent())
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=r"of 3 pairs, .* decided 3"):
        learned_from(moments, ProgressJudge(), pairs=3)
    assert learned_from(moments, ProgressJudge(), pairs=4).counted()["decided"] == 4, "two for each member are enough"


def test_the_same_generator_gives_the_same_model(moments: Moments):
    one, other = (learned_from(moments, ProgressJudge(), rounds=2) for _ in range(2))
    assert one.scores.tobytes() == other.scores.tobytes() and one.asked == other.asked


def test_decided_are_those_with_a_better_moment():
    pair = Asked(0, 1, 1.0, Verdict.FIRST)
    verdicts = [Verdict.FIRST, Verdict.UNSURE, None, Verdict.SECOND, Verdict.INVALID]
    asked = [replace(pair, verdict=verdict) for verdict in verdicts]
    assert decided(asked) == [asked[0], asked[3]]
