"""Which policy was the best when it was tried, and when to go back to it."""

import json

import pytest

from finetune.trials import Trial, Trials


def tried(trials: Trials, policy: int, *outcomes: bool) -> None:
    for outcome in outcomes:
        trials.add(policy, outcome)


def keeping(tolerated: float | None = 0.2, **policies: int) -> Trials:
    """Policies `p1`, `p2`, ... are in these checkpoints."""
    trials = Trials(tolerated)
    trials.checkpoints = {int(name[1:]): number for name, number in policies.items()}
    return trials


def test_episodes_of_one_policy_that_follow_each_other_are_one_trial() -> None:
    trials = keeping(p7=40)
    assert trials.finished(7) is None
    tried(trials, 7, True, False, True)
    assert trials.finished(7) is None, "it goes on"
    assert trials.finished(None) == Trial(7, 40, 2, 3)
    assert trials.finished(None) is None, "that was told"


def test_another_policy_is_another_trial() -> None:
    trials = keeping(p7=40, p8=50)
    tried(trials, 7, True)
    assert trials.finished(8) == Trial(7, 40, 1, 1)
    tried(trials, 8, False)
    assert trials.finished(None) == Trial(8, 50, 0, 1)


def test_a_policy_that_is_not_kept_is_no_way_back() -> None:
    trials = keeping(p7=40)
    tried(trials, 9, True)
    assert trials.finished(None) is None
    tried(trials, 7, True)
    assert trials.finished(None) == Trial(7, 40, 1, 1)


@pytest.mark.parametrize(
    ("rates", "back_to"),
    [
        ([5], None),
        ([5, 8], None),
        ([8, 6], None),
        ([8, 4], None),
        ([8, 3], 1),
        ([10, 6], 1),
        ([5, 8, 2], 2),
        ([8, 8, 2], 2),
        ([8, 7, 2], 1),
        ([8, 2, 7], None),
    ],
)
def test_one_that_is_much_worse_than_the_best_by_more_than_chance_is_given_up(
    rates: list[int], back_to: int | None
) -> None:
    """Of ten episodes each, where 8 and 4 may be chance (Fisher: 0.085), 8 and 3 (0.035) and 10 and 6 (0.043) are not.
    Of equals the newer is the best: it has learned more."""
    trials = Trials(0.2)
    for number, successes in enumerate(rates, 1):
        found = trials.judge(Trial(100 + number, number, successes, 10))
    assert (None if found is None else found.checkpoint) == back_to


def test_a_difference_that_is_no_accident_and_small_is_tolerated() -> None:
    trials = Trials(0.2)
    trials.judge(Trial(1, 1, 95, 100))
    assert trials.judge(Trial(2, 2, 75, 100)) is None
    assert trials.judge(Trial(3, 3, 74, 100)) == trials.best == Trial(1, 1, 95, 100)


def test_a_trial_that_was_cut_short_is_nothing_to_go_by() -> None:
    trials = Trials(0.2)
    assert trials.judge(Trial(1, 1, 4, 4)) is None
    assert trials.best is None
    trials.judge(Trial(2, 2, 7, 10))
    assert trials.judge(Trial(3, 3, 0, 4)) is None
    assert trials.best == Trial(2, 2, 7, 10)


def test_the_more_were_tried_the_less_it_takes_to_be_the_luckiest() -> None:
    """Fisher: 8 and 3 of ten are no accident of 5 %, but may be one of 2.5 %; 8 and 2 (0.011) are neither."""
    trials = Trials(0.2)
    for number, successes in enumerate((8, 7), 1):
        trials.judge(Trial(number, number, successes, 10))
    assert trials.judge(Trial(3, 3, 3, 10)) is None
    assert trials.judge(Trial(4, 4, 1, 10)) == Trial(1, 1, 8, 10)


def test_the_best_may_be_tried_again_and_then_more_is_known_of_it() -> None:
    trials = Trials(0.2)
    trials.judge(Trial(1, 1, 10, 10))
    assert trials.judge(Trial(1, 4, 5, 10)) is None
    assert trials.best == Trial(1, 4, 15, 20)


def test_who_tolerates_everything_never_goes_back() -> None:
    trials = Trials(None)
    assert trials.judge(Trial(1, 1, 10, 10)) is None
    assert trials.judge(Trial(2, 2, 0, 10)) is None


def test_what_is_needed_is_kept() -> None:
    trials = keeping(p7=40, p8=50, p9=60)
    assert trials.wanted() == set()
    trials.judge(Trial(7, 40, 3, 6))
    tried(trials, 8, True)
    assert trials.wanted() == {40, 50}
    assert trials.wanted([9, 1]) == {40, 50, 60}
    trials.kept([50, 60])
    assert trials.checkpoints == {8: 50, 9: 60}


def test_it_goes_on_where_it_was_left() -> None:
    trials = keeping(p7=40, **{f"p{2**64 - 1}": 50})
    trials.judge(Trial(2**64 - 1, 50, 3, 5))
    tried(trials, 7, True, False)
    again = Trials(0.2)
    again.restore(json.loads(json.dumps(trials.note())))
    assert (again.best, again.checkpoints, again.judged) == (trials.best, trials.checkpoints, 1)
    assert again.under_way == Trial(7, 40, 1, 2)
    assert again.finished(None) == trials.finished(None) == Trial(7, 40, 1, 2)
