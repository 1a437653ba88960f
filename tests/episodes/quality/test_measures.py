"""TQ and SACo against values worked out by hand, and against the authors' way of making cells."""

import numpy as np
import pytest

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.quality.measures import EDGES, trajectory_quality
from episodes.quality.rows import Rows
from episodes.quality.survey import survey

LINE = Contract("line", state=(StateEntry("x"),), action=(ActionEntry("u"),))


def rows(*pairs: tuple[float, float], episode: int = 0) -> Rows:
    """An episode of these states and actions, and a last observation."""
    states, actions = np.array(pairs, np.float32).T
    none = np.zeros(len(states), np.int64)
    return Rows(
        episode,
        np.append(states, states[-1])[:, None],
        actions[:, None],
        np.append(none, 0),
        none,
        np.full(len(states), np.nan),
    )


def test_quality_lies_between_the_worst_and_the_best_episode_of_the_store():
    quality = trajectory_quality(np.array([2.0, 10.0, np.nan, 4.0]))
    assert quality is not None
    # The mean is 16 / 3; (16 / 3 - 2) / 8 = 5 / 12.
    assert quality.value == pytest.approx(5 / 12)
    assert (quality.low, quality.high, quality.given) == (2, 10, False)


def test_quality_is_relative_to_the_returns_that_are_given_and_may_leave_them():
    quality = trajectory_quality(np.array([2.0, 10.0]), (0.0, 4.0))
    assert quality is not None and quality.value == 1.5 and quality.given


@pytest.mark.parametrize("returns", [[], [np.nan], [3.0], [3.0, 3.0, np.nan]])
def test_without_two_different_returns_there_is_no_quality(returns):
    assert trajectory_quality(np.array(returns, float)) is None


def test_equal_returns_have_a_quality_where_a_range_is_given():
    quality = trajectory_quality(np.array([3.0, 3.0]), (1.0, 5.0))
    assert quality is not None and quality.value == 0.5


def test_coverage_counts_pairs_in_different_cells():
    # x from 0 to 99 makes cells of width 1; u is 0 or 1. The second and third share a cell, the last is seen again.
    log = [rows((0, 0), (1.2, 0), (1.7, 0)), rows((1.2, 1), (99, 1), (0, 0), episode=1)]
    coverage = survey(LINE, lambda: log).coverage
    assert coverage is not None
    assert (coverage.unique, coverage.of, coverage.given) == (4, 6, False)
    assert coverage.value == pytest.approx(4 / 6)


def test_coverage_is_a_share_of_the_references_on_a_grid_that_holds_both():
    log = [rows((0, 0), (0.4, 0), (9, 1))]
    reference = [rows((0, 0), (50, 0), (99, 1), (98.9, 1), (20, 0))]
    coverage = survey(LINE, lambda: log, lambda: reference).coverage
    assert coverage is not None
    # The reference stretches the grid to 0..99, where 0 and 0.4 are one cell; 99 and 98.9 are in two.
    assert (coverage.unique, coverage.of, coverage.given) == (2, 5, True)


def test_cells_are_those_of_the_authors():
    """They place values by `np.digitize` between 100 evenly spaced edges from the smallest to the largest."""
    rng = np.random.default_rng(0)
    pairs = rng.uniform(-1, 1, (5000, 2)).astype(np.float32)
    edges = [np.linspace(*np.array([c.min(), c.max()], float), num=EDGES) for c in pairs.T]
    theirs = {tuple(np.digitize(value, edge) for value, edge in zip(p, edges, strict=True)) for p in pairs}
    coverage = survey(LINE, lambda: [rows(*map(tuple, pairs))]).coverage
    assert coverage is not None and coverage.unique == len(theirs)
    assert coverage.unique < 5000  # or nothing was tried


def test_an_empty_store_has_no_coverage():
    assert survey(LINE, lambda: []).coverage is None
