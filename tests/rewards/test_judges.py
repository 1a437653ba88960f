"""The judges that look something up: time, and the simulator's truth; and what a judge by name needs."""

import math

import numpy as np
import pytest

from episodes.errors import InputError
from rewards.judge import Frame, Judge, Verdict
from rewards.judges.chat import ChatConfig, ChatJudge
from rewards.judges.make import JudgeConfig, Truth, make_judge
from rewards.judges.progress import ProgressJudge
from rewards.judges.truth import TruthJudge

FIRST, SECOND, UNSURE = Verdict.FIRST, Verdict.SECOND, Verdict.UNSURE


def frame(observation: int, episode: int = 0, progress: float = 0.0) -> Frame:
    return Frame({}, observation, episode, progress)


def verdicts(judge: Judge, *pairs: tuple[Frame, Frame]) -> list[Verdict]:
    said = dict(judge.prefer(pairs, "whatever"))
    assert sorted(said) == list(range(len(pairs)))
    return [said[position].verdict for position in range(len(pairs))]


@pytest.mark.parametrize("verdict", Verdict)
def test_an_opinion_turned_round_twice_is_the_same(verdict: Verdict):
    assert verdict.swapped.swapped is verdict
    assert (verdict.swapped is verdict) == (verdict not in (FIRST, SECOND))


def test_in_one_episode_the_later_moment_is_better():
    early, late = frame(0, 2, 0.2), frame(1, 2, 0.7)
    assert verdicts(ProgressJudge(), (early, late), (late, early)) == [SECOND, FIRST]


def test_moments_of_different_episodes_or_of_one_time_have_no_common_clock():
    judge = ProgressJudge()
    pairs = [(frame(0, 0, 0.1), frame(9, 1, 0.9)), (frame(3, 0, 0.5), frame(3, 0, 0.5))]
    assert verdicts(judge, *pairs) == [UNSURE, UNSURE]


def test_time_s_score_is_how_far_in_a_moment_is():
    assert dict(ProgressJudge().succeeds([frame(5, 0, 1.0), frame(2, 0, 0.4)], "")) == {0: 1.0, 1: 0.4}


NAN = float("nan")
TRUTH = TruthJudge(np.array([NAN, 1.0, 3.0, 3.0, -2.0]), np.array([NAN, 0.0, 1.0, 1.0, 0.0]))


def test_the_moment_with_the_higher_true_reward_is_better():
    pairs = [(frame(1), frame(2)), (frame(2), frame(1)), (frame(4), frame(3)), (frame(1), frame(4))]
    assert verdicts(TRUTH, *pairs) == [SECOND, FIRST, SECOND, FIRST]


def test_no_true_difference_or_none_that_is_known_is_unsure():
    assert verdicts(TRUTH, (frame(2), frame(3)), (frame(0), frame(2)), (frame(2), frame(0))) == [UNSURE] * 3


def test_the_true_success_is_looked_up_and_is_nothing_where_there_is_none():
    found = dict(TRUTH.succeeds([frame(2), frame(4), frame(0)], ""))
    assert (found[0], found[1]) == (1.0, 0.0)
    assert math.isnan(found[2])


@pytest.mark.parametrize("judge", [ProgressJudge(), TRUTH], ids=lambda judge: judge.name)
def test_what_is_looked_up_is_not_kept_and_asked_in_one_order(judge: Judge):
    assert judge.identity == ""
    assert judge.symmetric


def test_a_judge_is_made_by_its_name():
    values = np.zeros(3)
    chat = JudgeConfig(chat=ChatConfig(url="http://127.0.0.1:9/v1", model="m"))
    assert isinstance(make_judge("progress", JudgeConfig(), None, None), ProgressJudge)
    assert isinstance(make_judge("env", JudgeConfig(), None, Truth("env", values, values)), TruthJudge)
    assert isinstance(make_judge("chat", chat, None, None), ChatJudge)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("clip", "judge 'clip' needs a vision-language model: --model MODEL:CHECKPOINT"),
        ("chat", "judge 'chat' needs an endpoint and a model: --url URL --model NAME"),
        ("env", r"judge 'env' compares true rewards: name the label set .*--truth NAME"),
    ],
)
def test_what_a_judge_needs_and_was_not_given_is_told(name: str, words: str):
    with pytest.raises(InputError, match=words) as caught:
        make_judge(name, JudgeConfig(), None, None)
    assert "\n" not in str(caught.value)
