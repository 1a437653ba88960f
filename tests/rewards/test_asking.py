"""Pairs before a judge: nothing is asked for nothing or twice, no opinion hangs on the order, "unsure" is no label."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from rewards import asking, preferences
from rewards.answers import Answers
from rewards.asking import Asked, ask, score
from rewards.inputs import Table
from rewards.judge import Answer, Frame, Verdict
from rewards.moments import Moments
from rewards.pairs import by_disagreement
from rewards.preferences import AskingConfig, decided, learn_preferences
from rewards.reward_model import RewardConfig
from tests.rewards.conftest import Counting, brighter, greys, log_of

FIRST, SECOND, UNSURE, INVALID = Verdict.FIRST, Verdict.SECOND, Verdict.UNSURE, Verdict.INVALID
TASK = "make it bright"


def grey_moments(*levels: int) -> Moments:
    """One episode whose observations are grey planes of these levels."""
    return Moments.of(log_of([len(levels) - 1], pictures={"front": greys(levels)}), ["front"])


def put(judge: Counting, moments: Moments, pairs: list[tuple[int, int]], answers: Answers | None = None, **options):
    return ask(judge, moments, np.array(pairs).reshape(-1, 2), options.pop("task", TASK), answers, **options)


def test_every_pair_gets_its_own_verdict_in_the_order_that_it_was_put():
    moments = grey_moments(0, 50, 100, 150)
    asked = put(Counting(), moments, [(3, 0), (1, 2), (0, 3), (2, 1)])
    assert [(pair.first, pair.second, pair.verdict) for pair in asked] == [
        (3, 0, FIRST),
        (1, 2, SECOND),
        (0, 3, SECOND),
        (2, 1, FIRST),
    ]
    assert {pair.rationale for pair in asked} == {"because"}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12), st.integers(1, 4))
def test_so_it_is_however_many_pairs_are_in_memory_together(pairs: list[tuple[int, int]], at_a_time: int):
    moments = grey_moments(0, 50, 100, 150, 200, 250)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "AT_A_TIME", at_a_time)
        asked = put(Counting(), moments, pairs)
    assert [(pair.first, pair.second) for pair in asked] == pairs
    assert [pair.verdict for pair in asked] == [
        None if one == other else FIRST if one > other else SECOND for one, other in pairs
    ]


def test_nobody_is_asked_about_pictures_that_show_the_same():
    judge = Counting()
    asked = put(judge, grey_moments(100, 101, 102, 100), [(0, 1), (0, 3), (2, 2), (0, 2)])
    assert [pair.verdict for pair in asked] == [None, None, None, SECOND]
    assert set(judge.pairs) == {(0, 2), (2, 0)}
    np.testing.assert_allclose([pair.difference for pair in asked], [1 / 255, 0, 0, 2 / 255], rtol=1e-6)


def test_the_difference_is_the_root_mean_square_of_all_pixels():
    images = greys([100, 100])
    images[1, 1, 2] = [100, 103, 96]
    moments = Moments.of(log_of([1], pictures={"front": images}), ["front"])
    (asked,) = put(Counting(), moments, [(0, 1)])
    assert asked.difference == pytest.approx(np.sqrt((3**2 + 4**2) / (4 * 6 * 3)) / 255)
    assert asked.verdict is None


def test_one_camera_that_sees_a_difference_is_enough():
    pictures = {"near": greys([100, 100]), "far": greys([100, 140])}
    (asked,) = put(Counting(), Moments.of(log_of([1], pictures=pictures), ["near", "far"]), [(0, 1)])
    assert asked.difference == pytest.approx(40 / 255)
    assert asked.verdict is SECOND


def test_without_pictures_only_a_moment_and_itself_are_the_same():
    judge = Counting(lambda first, second: SECOND if second.progress > first.progress else FIRST)
    asked = put(judge, Moments.of(log_of([2]), []), [(0, 2), (1, 1)])
    assert [(pair.verdict, pair.difference) for pair in asked] == [(SECOND, np.inf), (None, 0.0)]


@pytest.mark.parametrize(
    ("symmetric", "both_orders", "orders"), [(False, True, 2), (False, False, 1), (True, True, 1), (True, False, 1)]
)
def test_both_orders_are_asked_unless_turning_a_pair_round_says_nothing_new(
    symmetric: bool, both_orders: bool, orders: int
):
    judge = Counting(symmetric=symmetric)
    asked = put(judge, grey_moments(0, 100, 200), [(0, 1), (2, 1)], both_orders=both_orders)
    assert [pair.verdict for pair in asked] == [SECOND, FIRST]
    assert sorted(judge.pairs) == sorted([(0, 1), (2, 1), (1, 0), (1, 2)][: 2 * orders])


@pytest.mark.parametrize(
    ("said", "turned", "verdict"),
    [
        (FIRST, SECOND, FIRST),
        (SECOND, FIRST, SECOND),
        (FIRST, FIRST, UNSURE),
        (SECOND, SECOND, UNSURE),
        (UNSURE, UNSURE, UNSURE),
        (FIRST, UNSURE, UNSURE),
        (UNSURE, FIRST, UNSURE),
        (INVALID, FIRST, INVALID),
        (SECOND, INVALID, INVALID),
        (UNSURE, INVALID, INVALID),
    ],
)
def test_only_what_is_said_in_both_orders_counts(said: Verdict, turned: Verdict, verdict: Verdict):
    judge = Counting(lambda first, second: said if first.observation == 0 else turned)
    (asked,) = put(judge, grey_moments(0, 100), [(0, 1)])
    assert asked.verdict is verdict


@pytest.mark.parametrize("side", [FIRST, SECOND])
def test_a_judge_that_likes_one_side_better_decides_nothing(side: Verdict):
    moments = grey_moments(*range(0, 250, 10))
    pairs = [(a, b) for a in range(25) for b in range(0, 25, 7) if a != b]
    asked = put(Counting(lambda first, second: side), moments, pairs)
    assert {pair.verdict for pair in asked} == {UNSURE}
    assert decided(asked) == []
    assert len(decided(put(Counting(lambda first, second: side), moments, pairs, both_orders=False))) == len(pairs)


def test_what_a_judge_leaves_out_is_unreadable_now_and_asked_again_the_next_time(answers: Answers):
    moments = grey_moments(0, 100, 200)
    silent = Counting(lambda first, second: None if 2 in (first.observation, second.observation) else SECOND)
    once = put(silent, moments, [(0, 1), (0, 2)], answers, both_orders=False)
    assert [pair.verdict for pair in once] == [SECOND, INVALID]
    judge = Counting()
    again = put(judge, moments, [(0, 1), (0, 2)], answers, both_orders=False)
    assert [pair.verdict for pair in again] == [SECOND, SECOND]
    assert judge.pairs == [(0, 2)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """Answers of a judge to three pairs, in both orders."""
    path = tmp_path / "kept.sqlite"
    answers = Answers(path)
    put(Counting(), grey_moments(0, 100, 200), [(0, 1), (1, 2), (2, 0)], answers)
    answers.close()
    yield path


def test_nothing_is_asked_twice(kept: Path):
    answers, judge = Answers(kept), Counting(lambda first, second: INVALID)
    asked = put(judge, grey_moments(0, 100, 200), [(1, 2), (0, 1), (2, 0), (2, 1)], answers)
    answers.close()
    assert judge.pairs == []
    assert [pair.verdict for pair in asked] == [SECOND, SECOND, FIRST, FIRST]
    assert {pair.rationale for pair in asked} == {"because"}


def test_the_same_pictures_are_not_asked_about_again_in_another_place_of_another_store(kept: Path):
    answers, judge = Answers(kept), Counting()
    put(judge, grey_moments(7, 7, 200, 100, 0), [(4, 3)], answers)
    answers.close()
    assert judge.pairs == []


@pytest.mark.parametrize("change", ["identity", "name", "task", "camera", "picture"])
def test_another_judge_task_camera_or_picture_is_another_question(kept: Path, change: str):
    answers, judge = Answers(kept), Counting()
    moments, task = grey_moments(0, 100, 200), TASK
    if change in ("identity", "name"):
        judge = replace(judge, **{change: "another"})
    elif change == "task":
        task = "make it dark"
    elif change == "camera":
        moments = Moments.of(log_of([2], pictures={"back": greys([0, 100, 200])}), ["back"])
    else:
        moments = grey_moments(0, 101, 200)
    put(judge, moments, [(0, 1)], answers, task=task)
    answers.close()
    assert sorted(judge.pairs) == [(0, 1), (1, 0)]


def test_an_answer_in_one_order_is_none_in_the_other(answers: Answers):
    moments, judge = grey_moments(0, 100), Counting()
    put(judge, moments, [(0, 1)], answers, both_orders=False)
    put(judge, moments, [(1, 0)], answers, both_orders=False)
    assert judge.pairs == [(0, 1), (1, 0)]


def test_the_same_question_twice_among_the_pairs_is_put_once(answers: Answers):
    judge = Counting()
    moments = grey_moments(0, 100, 0, 100)
    asked = put(judge, moments, [(0, 1), (2, 3), (0, 1), (1, 0), (0, 3)], answers)
    assert [pair.verdict for pair in asked] == [SECOND, SECOND, SECOND, FIRST, SECOND]
    assert len(judge.pairs) == 2
    assert [(pair.first, pair.second) for pair in asked] == [(0, 1), (2, 3), (0, 1), (1, 0), (0, 3)]


@pytest.mark.parametrize("after", [0, 1, 3, 5, 7])
def test_an_interruption_costs_nothing_that_was_answered(tmp_path: Path, after: int):
    moments, pairs = grey_moments(0, 60, 120, 180), [(0, 1), (1, 2), (2, 3), (3, 0)]
    answers, judge = Answers(tmp_path / "answers.sqlite"), Counting(breaks_after=after)
    with pytest.raises(ConnectionError, match="lost"):
        put(judge, moments, pairs, answers)
    answers.close()
    answers, again = Answers(tmp_path / "answers.sqlite"), Counting()
    asked = put(again, moments, pairs, answers)
    answers.close()
    assert [pair.verdict for pair in asked] == [SECOND, SECOND, SECOND, FIRST]
    assert len(judge.pairs) == after
    assert len(again.pairs) == 8 - after
    assert not set(judge.pairs) & set(again.pairs)


def test_what_is_looked_up_instead_of_seen_is_not_kept(answers: Answers):
    for number in range(1, 3):
        judge = Counting(identity="")
        put(judge, grey_moments(0, 100), [(0, 1)], answers)
        score(judge, grey_moments(0, 100), np.arange(2), TASK, answers)
        assert (len(judge.pairs), len(judge.frames), answers.count()) == (2, 2, 0), number


def test_every_frame_gets_its_own_score(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asking, "AT_A_TIME", 3)
    judge = Counting(success=lambda frame: None if frame.observation == 4 else frame.observation / 10)
    found = score(judge, grey_moments(*range(8)), np.array([7, 4, 1, 1, 0, 5]), TASK, None)
    np.testing.assert_allclose(found, [0.7, np.nan, 0.1, 0.1, 0, 0.5])


def test_no_frame_is_scored_twice_and_a_zero_is_a_score(answers: Answers):
    moments = grey_moments(0, 50, 100)
    judge = Counting(success=lambda frame: [0.0, None, 0.1][frame.observation], breaks_after=3)
    first = score(judge, moments, np.arange(3), TASK, answers)
    np.testing.assert_allclose(first, [0, np.nan, 0.1])
    again = Counting(success=lambda frame: 1.0)
    np.testing.assert_allclose(score(again, moments, np.array([2, 1, 0]), TASK, answers), [0.1, 1, 0])
    assert again.frames == [1]


def test_an_interruption_costs_no_score_that_was_given(answers: Answers):
    moments = grey_moments(0, 50, 100)
    with pytest.raises(ConnectionError):
        score(Counting(breaks_after=2), moments, np.arange(3), TASK, answers)
    again = Counting()
    np.testing.assert_allclose(score(again, moments, np.arange(3), TASK, answers), [0, 0.5, 1])
    assert again.frames == [0]


def test_a_score_is_no_answer_to_a_pair_nor_of_other_pictures(answers: Answers):
    moments, judge = grey_moments(0, 100), Counting()
    score(judge, moments, np.arange(2), TASK, answers)
    put(judge, moments, [(0, 1)], answers)
    score(judge, grey_moments(0, 101), np.arange(2), TASK, answers)
    assert len(judge.pairs) == 2
    assert judge.frames == [1, 0, 1]


def test_only_a_decision_is_a_label():
    verdicts = [FIRST, None, UNSURE, SECOND, INVALID]
    asked = [Asked(number, number + 1, 0.5, verdict) for number, verdict in enumerate(verdicts)]
    assert [pair.first for pair in decided(asked)] == [0, 3]


SMALL = RewardConfig(inputs="state", hidden=(8,), updates=25, batch_size=32, members=2)


def learned_from(judge: Counting, sampling: str = "uniform", pairs: int = 60, rounds: int = 1, rows: int = 20):
    """Learn the brightness of a line of greys, of whose last two nobody is asked."""
    levels = np.linspace(0, 250, rows).astype(int).tolist()
    asking_config = AskingConfig(pairs=pairs, sampling=sampling, rounds=rounds)  # type: ignore[arg-type]
    moments = grey_moments(*levels)
    inputs = Table(np.array(levels, np.float32)[:, None])
    rng = np.random.default_rng(0)
    among = np.arange(rows - 2)
    return learn_preferences(judge, moments, among, TASK, inputs, None, asking_config, SMALL, rng)


def test_unsure_and_invalid_are_dropped_only_after_the_question():
    def torn(first: Frame, second: Frame) -> Verdict:
        together = first.observation + second.observation
        return UNSURE if together % 3 == 0 else INVALID if together % 3 == 1 else brighter(first, second)

    judge = Counting(torn, symmetric=True)
    learned = learned_from(judge)
    counted = learned.counted()
    together = [(pair.first + pair.second) % 3 for pair in learned.asked if pair.first != pair.second]
    same = sum(pair.first == pair.second for pair in learned.asked)
    assert counted == {
        "pairs": 60,
        "decided": together.count(2),
        "unsure": together.count(0),
        "invalid": together.count(1),
        "same_pictures": same,
    }
    assert len(judge.pairs) == 60 - same
    assert learned.scores.shape == (2, 20), "also of the two that nobody was asked about"
    assert min(counted.values()) > 0


def test_a_later_round_asks_where_the_members_disagree_and_learns_from_all(monkeypatch: pytest.MonkeyPatch):
    chosen = []

    def noted(candidates: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
        chosen.append((len(candidates), scores.shape, by_disagreement(candidates, scores, count)))
        return chosen[-1][2]

    monkeypatch.setattr(preferences, "by_disagreement", noted)
    learned = learned_from(Counting(), pairs=31, rounds=3)
    asked = [[pair.first, pair.second] for pair in learned.asked]
    assert len(asked) == 31, "11, 10 and 10"
    assert [(candidates, shape) for candidates, shape, _ in chosen] == [(100, (2, 20))] * 2
    assert asked[11:21] == chosen[0][2].tolist()
    assert asked[21:] == chosen[1][2].tolist()
    assert learned.counted()["decided"] == sum(pair.verdict is not None for pair in learned.asked)


def test_too_few_decisions_are_told_with_what_can_be_done():
    with pytest.raises(InputError, match=r"of 60 pairs, judge 'counting' decided 0: .* ask about more pairs") as caught:
        learned_from(Counting(lambda first, second: Answer(UNSURE)))
    assert "\n" not in str(caught.value)
