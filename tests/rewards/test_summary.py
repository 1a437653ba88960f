"""What people read of a labelling: every number that is known, and none that is not."""

from typing import Any

from rewards.summary import text_of

LEAST: dict[str, Any] = {
    "labels": "mine",
    "method": "success",
    "judge": None,
    "shape": "sparse",
    "episodes": 12,
    "pairs": 0,
    "unsure": 0,
    "accuracy": None,
    "spearman": None,
    "spearman_time": None,
    "seconds": 2.04,
    "frames_per_second": 1234.6,
}
"""Of a labelling about which nothing could be measured."""
PAIRS = {"pairs": 60, "decided": 40, "unsure": 15, "invalid": 4, "same_pictures": 1, "agreement": 0.876}
SUCCESS = {"threshold": 0.5, "false_positive_rate": 0.008, "miss_rate": 0.25, "success_rate": 0.5}
TRUE = {
    "episodes": 9,
    "successes": 5,
    "false_successes": 1,
    "early_successes": 3,
    "missed_successes": 2,
    "false_positive_rate": 0.0123,
}


def test_nothing_is_said_of_what_is_not_known():
    assert text_of(LEAST).splitlines() == [
        "label set 'mine': 12 episodes labelled, shape sparse",
        "  1235 frames/s, 2.0 s in all",
    ]


def test_pairs_are_told_by_what_became_of_them():
    line = text_of(LEAST | PAIRS).splitlines()[1]
    assert line == (
        "  pairs      60: 40 decided, 15 unsure, 4 invalid, 1 showed the same; "
        "the reward model agrees with 88% of answers that were kept aside"
    )


def test_accuracy_is_told_with_its_quarters_where_there_are_any():
    quarters = [{"accuracy": 0.6}, {"accuracy": None}, {"accuracy": 0.9}, {"accuracy": 1.0}]
    document = LEAST | {"accuracy": 0.8125, "judge_by_difference": quarters, "model_accuracy": 0.75}
    _, judge, model, _ = text_of(document).splitlines()
    assert judge == (
        "  judge      81.2% of its decisions are right "
        "(60.0%, -, 90.0%, 100.0% from the least to the most different quarter)"
    )
    assert model == "  model      75.0% right on the episodes that were learned from"


def test_correlations_carry_their_sign_and_what_they_are_with():
    text = text_of(LEAST | {"spearman": 0.914, "spearman_time": -0.25})
    assert "  spearman   +0.91 with the true reward, -0.25 with time, in the episodes that were learned from" in text
    text = text_of(LEAST | {"spearman": 0.0, "held_out": 2})
    assert "  spearman   +0.00 with the true reward, in held-out episodes" in text, "none is not the same as not known"


def test_successes_are_told_with_what_was_measured_and_on_what():
    lines = text_of(LEAST | SUCCESS | {"success": TRUE}).splitlines()
    assert lines[1] == (
        "  success    in 50% of the episodes; the threshold of 0.50 is where 0.8% of marked frames are false "
        "and 25% missed"
    )
    assert lines[2] == (
        "  unmarked   9 episodes: 1 of 4 failures called a success, 2 of 5 successes missed, 3 called early; "
        "1.2% of the frames without success are called one"
    )
    assert "; - of the frames" in text_of(LEAST | SUCCESS | {"success": TRUE | {"false_positive_rate": None}})
