"""Cost labels: of what a step led to, beside rewards, with what the logs show of each constraint."""

import json

import numpy as np
import pytest

from episodes.constraints import Constraints, Limit
from episodes.cost_labels import cost_labels, label_with_constraints, warnings_of
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import Store

WALL = Constraints(limits={"wall": Limit("x", high=1.0, near=0.5)}, violation=10)


def walk(*positions: float, final: bool = True, terminated: bool = False, reward: bool = True, **columns) -> Episode:
    """One observation per position; x is the position."""
    state = np.array([[x, 0.0] for x in positions], np.float32)
    steps = len(positions) - final
    return Episode(
        state,
        np.zeros((steps, 1), np.float32),
        terminated=terminated,
        truncated=not terminated,
        reward=np.arange(steps, dtype=np.float32) if reward else None,
        **columns,
    )


def test_a_step_costs_what_it_led_to(store: Store):
    store.append([walk(0, 0.75, 1.5, 0.5), walk(2.0, 0.0, 0.9, final=False)])
    labels, _ = cost_labels(store.snapshot(), WALL, "costs")
    np.testing.assert_allclose(labels.values["cost"], [-0.5, 10, -1, -1, -0.2, np.nan], rtol=1e-5)
    assert labels.values["cost"].dtype == np.float32 and labels.covered.all()


def test_an_end_of_the_task_that_nobody_saw_has_no_cost_to_learn_from(store: Store):
    store.append([walk(0, 0.5, final=False, terminated=True), walk(0, 0.5, final=False)])
    assert cost_labels(store.snapshot(), WALL, "costs")[0].covered.tolist() == [False, True]


def test_the_rewards_of_another_label_set_go_along_with_where_they_came_from(store: Store):
    store.append([walk(0, 0.75), walk(0, 0.5)])
    seen = {"reward": np.array([3.0, 4.0], np.float32), "terminated": np.array([1.0, 0.0], np.float32)}
    made_by = {"method": "success", "labeller": "labellers/seen", "discount": 0.9}
    store.write_labels(LabelSet("seen", seen, np.array([True, False]), made_by))
    labels, _ = cost_labels(store.snapshot(), WALL, "costs", "seen")
    for name, values in seen.items():
        np.testing.assert_array_equal(labels.values[name], values)
    assert labels.covered.tolist() == [True, False]
    assert labels.provenance["rewards"] == "seen" and labels.provenance["rewards_made_by"] == made_by
    assert (labels.provenance["labeller"], labels.provenance["discount"]) == ("labellers/seen", 0.9)
    logged = cost_labels(store.snapshot(), WALL, "more")[0]
    np.testing.assert_array_equal(logged.values["reward"], [0, 0])


def test_a_penalty_is_taken_from_the_reward_of_what_violates_and_from_no_other(store: Store):
    store.append([walk(0, 1.5, 1.0, 3.0, 1.1, final=False)])
    labels, _ = cost_labels(store.snapshot(), WALL, "costs", penalty=2.5)
    # At the limit nothing is violated, and the last step's cost is not known.
    np.testing.assert_array_equal(labels.values["reward"], [0 - 2.5, 1, 2 - 2.5, 3 - 2.5, 4])
    assert labels.values["reward"].dtype == np.float32 and labels.provenance["penalty"] == 2.5
    assert "penalty" not in cost_labels(store.snapshot(), WALL, "costs")[0].provenance
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"penalty .*: expected a number of at least 0"):
            cost_labels(store.snapshot(), WALL, "costs", penalty=wrong)


def test_a_penalty_needs_rewards(store: Store):
    store.append([walk(0, 1.5, reward=False)])
    with pytest.raises(InputError, match="there are no rewards to take a penalty from"):
        cost_labels(store.snapshot(), WALL, "costs", penalty=1.0)


def test_logs_without_rewards_get_costs_alone(store: Store):
    store.append([walk(0, 0.75, reward=False)])
    labels, _ = cost_labels(store.snapshot(), WALL, "costs")
    assert list(labels.values) == ["cost"] and "rewards" not in labels.provenance


def test_what_the_source_counted_as_a_cost_is_binary(store: Store):
    store.append([walk(0, 0.75, 0.75, cost=np.array([0.0, 0.2], np.float32)), walk(0, 0.75)])
    both = Constraints(limits=WALL.limits, violation=10, logged=True)
    labels, coverage = cost_labels(store.snapshot(), both, "costs")
    np.testing.assert_allclose(labels.values["cost"], [-0.5, 10, np.nan])
    assert labels.covered.tolist() == [True, False], "the second episode's source counted nothing"
    assert [(each.constraint, each.violations) for each in coverage] == [("wall", 0), ("logged cost", 1)]
    alone, _ = cost_labels(store.snapshot(), Constraints(logged=True), "alone")
    np.testing.assert_allclose(alone.values["cost"], [-1, 25, np.nan])


def test_coverage_counts_violations_near_misses_and_the_worst(store: Store):
    """Of covered episodes only; where an episode begins is nobody's doing."""
    store.append([walk(9, 1.5, 1.25, 0.75), walk(0, 0.6, 0.2), walk(0, 7, final=False, terminated=True)])
    coverage = cost_labels(store.snapshot(), WALL, "costs")[1][0]
    assert (coverage.violations, coverage.violated_episodes, coverage.near_misses) == (2, 1, 2)
    assert coverage.worst == pytest.approx(0.5)
    assert "wall: 2 steps violate it, in 1 episodes, 2 are near misses, worst +0.5" in coverage.text()


def test_logs_that_violate_nothing_are_warned_of(store: Store):
    store.append([walk(0, 0.75)])
    both = Constraints(limits={**WALL.limits, "floor": Limit("x", low=0.8)})
    document, text = label_with_constraints(store, WALL, "safe")
    assert document["warnings"] and "WARNING: no step of these logs violates anything" in text
    coverage = cost_labels(store.snapshot(), both, "both")[1]
    assert warnings_of(coverage) == ["no step violates 'wall': what leads to it cannot be learned from these logs"]


def test_the_document_says_what_was_written(store: Store):
    store.append([walk(0, 0.75, 1.5), walk(0, 0.5, 0.5, final=False)])
    document, _ = label_with_constraints(store, WALL, "costs")
    json.dumps(document, allow_nan=False)
    assert document["violation_rate"] == pytest.approx(1 / 4), "of the steps with a cost"
    assert (document["labels"], document["rewards"], document["episodes"]) == ("costs", "logged", 2)
    assert document["constraints"][0]["near_misses"] == 1 and not document["warnings"]
    back = store.snapshot().labels("costs")
    assert back.provenance["constraints"]["limits"]["wall"]["high"] == 1.0
    with pytest.raises(InputError, match="'costs' exists"):
        label_with_constraints(store, WALL, "costs")


def test_what_cannot_be_labelled_is_refused(store: Store):
    with pytest.raises(InputError, match="holds no episodes"):
        cost_labels(store.snapshot(), WALL, "costs")
    store.append([walk(0, 0.75, final=False, terminated=True)])
    for given, rewards, message in (
        (WALL, None, "no episode has all its costs"),
        (WALL, "sen", "unknown label set 'sen'"),
        (Constraints(logged=True), None, "its source recorded no costs"),
        (Constraints(limits={"wall": Limit("z", high=1)}), None, "unknown state entry 'z' in constraint 'wall'"),
    ):
        with pytest.raises(InputError, match=message):
            cost_labels(store.snapshot(), given, "costs", rewards)
    with pytest.raises(InputError, match="logged"):
        cost_labels(store.snapshot(), WALL, "logged")
