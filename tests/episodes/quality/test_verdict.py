"""What a log is said to be good for, case by case."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from episodes.quality.measures import trajectory_quality
from episodes.quality.verdict import Facts, Labelled, judge


def labelled(returns, succeeded=None, name="env") -> Labelled:
    returns = np.array(returns, float)
    return Labelled(
        name, returns, None if succeeded is None else np.array(succeeded, float), trajectory_quality(returns)
    )


DEMONSTRATED = Facts(100, 20_000, 0, demonstrated=1.0, cameras=1, simulated=False, labelled=(), support=0.8)
MIXED = replace(DEMONSTRATED, labelled=(labelled([0] * 60 + [1] * 40, [0] * 60 + [1] * 40),), demonstrated=0.0)
CLONED = replace(DEMONSTRATED, labelled=(labelled([1] * 95 + [0] * 5, [1] * 95 + [0] * 5),))


@pytest.mark.parametrize(
    ("facts", "imitation", "offline", "labelling"),
    [
        (DEMONSTRATED, "yes", "no", "yes"),
        (replace(DEMONSTRATED, demonstrated=0.2), "with care", "no", "yes"),
        (replace(DEMONSTRATED, cameras=0), "yes", "no", "with care"),
        (replace(DEMONSTRATED, episodes=4), "with care", "no", "yes"),
        (replace(DEMONSTRATED, suspicious=30), "with care", "no", "yes"),
        (MIXED, "with care", "yes", "yes"),
        (CLONED, "yes", "yes", "yes"),
        (replace(MIXED, support=0.2), "with care", "with care", "yes"),
        (replace(MIXED, support=None), "with care", "yes", "yes"),
        (replace(MIXED, transitions=500), "with care", "with care", "yes"),
        (replace(MIXED, suspicious=21), "with care", "with care", "yes"),
        (replace(MIXED, suspicious=20), "with care", "yes", "yes"),
        # All the same return: nothing succeeded, or all did at once.
        (replace(MIXED, labelled=(labelled([0] * 100, [0] * 100),)), "no", "no", "yes"),
        (replace(MIXED, labelled=(labelled([1] * 100, [1] * 100),)), "yes", "with care", "yes"),
        (replace(MIXED, labelled=(labelled([3] * 100),)), "with care", "no", "yes"),
        # Too few successes to imitate, but values can be learned from them.
        (replace(MIXED, labelled=(labelled([0] * 97 + [1] * 3, [0] * 97 + [1] * 3),)), "no", "yes", "yes"),
        # Demonstrations of which none reaches a strict success are not worth nothing.
        (replace(MIXED, labelled=(labelled(range(100), [0] * 100),), demonstrated=1.0), "with care", "yes", "yes"),
        (replace(MIXED, labelled=(labelled(range(100), [0] * 100),)), "no", "yes", "yes"),
        # Returns without successes: TQ decides.
        (replace(MIXED, labelled=(labelled(np.linspace(0, 1, 100)),)), "with care", "yes", "yes"),
        (replace(MIXED, labelled=(labelled([0, *[9] * 99]),)), "yes", "yes", "yes"),
        # A label set of a part of the store.
        (replace(MIXED, labelled=(labelled([0, 1] * 20 + [np.nan] * 60),)), "with care", "with care", "yes"),
        (replace(DEMONSTRATED, episodes=0), "no", "no", "no"),
    ],
)
def test_the_verdict_follows_from_the_facts(facts, imitation, offline, labelling):
    verdict = judge(facts)
    assert (verdict.imitation.fit, verdict.offline_rl.fit, verdict.labelling.fit) == (imitation, offline, labelling)
    assert all(use.why and all(use.why) for use in (verdict.imitation, verdict.offline_rl, verdict.labelling))


@pytest.mark.parametrize(
    ("facts", "headline"),
    [
        (DEMONSTRATED, "Good for imitation. For offline RL it has to be labelled."),
        (MIXED, "Good for offline RL. With care also for imitation."),
        (CLONED, "Good for imitation and offline RL."),
        (replace(MIXED, suspicious=40), "With care for imitation and offline RL. Look at what is wrong with it first."),
        (replace(MIXED, labelled=(labelled([0] * 100, [0] * 100),)), "As it is, good for nothing but labelling anew."),
        (replace(DEMONSTRATED, episodes=0), "Empty."),
    ],
)
def test_the_headline_says_it_in_a_sentence_or_two(facts, headline):
    assert judge(facts).headline == headline


def test_the_label_set_that_covers_most_decides():
    few, many = labelled([0, 1] + [np.nan] * 98, name="few"), labelled([1] * 50 + [5] * 50, name="many")
    for order in ((few, many), (many, few)):
        why = " ".join(judge(replace(MIXED, labelled=order)).offline_rl.why)
        assert "many" in why and "few" not in why


def test_the_worse_the_facts_the_worse_the_fit():
    """No better fact ever makes a worse fit."""
    rank = {"no": 0, "with care": 1, "yes": 2}
    for facts, better in product((DEMONSTRATED, MIXED, CLONED), (1, 2, 3, 4)):
        worse = replace(
            facts,
            support=0.1 if better == 1 else facts.support,
            suspicious=90 if better == 2 else 0,
            transitions=10 if better == 3 else facts.transitions,
            demonstrated=0.0 if better == 4 else facts.demonstrated,
        )
        for use in ("imitation", "offline_rl", "labelling"):
            assert rank[getattr(judge(worse), use).fit] <= rank[getattr(judge(facts), use).fit]
