"""Bounded summaries: exact while short, near when long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.quality.sketches import Distinct, Thinned


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(2, 50))
def test_what_is_thinned_is_every_kth_row_of_all(sizes, most):
    everything = np.arange(sum(sizes))
    thinned = Thinned(most)
    for end, size in zip(np.cumsum(sizes, dtype=int), sizes, strict=True):
        thinned.add(everything[end - size : end])
    every = 1
    while -(-len(everything) // every) > most:
        every *= 2
    assert thinned.rows.tolist() == everything[::every].tolist()


def test_nothing_thinned_is_nothing():
    assert len(Thinned(5).rows) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3)), max_size=200))
def test_different_rows_are_counted_exactly_while_they_are_few(rows):
    distinct = Distinct(most=64)
    for start in range(0, len(rows), 17):
        distinct.add(np.array(rows[start : start + 17]).reshape(-1, 2))
    assert distinct.count == len(set(rows))


def test_many_different_rows_are_counted_to_a_few_per_cent():
    distinct = Distinct(most=4096)
    rows = np.arange(200_000)
    for part in np.array_split(np.stack([rows // 400, rows % 400], axis=1), 20):
        distinct.add(part)
        distinct.add(part[::2])  # seen again: counts nothing
    # The standard error is 1 in sqrt(4096), 1.6 %.
    assert distinct.count == pytest.approx(200_000, rel=0.06)


def test_the_order_of_numbers_in_a_row_matters():
    distinct = Distinct()
    distinct.add(np.array([[1, 2], [2, 1], [1, 2], [0, 3], [3, 0]]))
    assert distinct.count == 4
