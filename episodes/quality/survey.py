"""Everything that is measured of a store's columns, in two passes over them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from episodes.contract import Contract
from episodes.quality.duplicates import Duplicates
from episodes.quality.extent import Extent
from episodes.quality.findings import Finding
from episodes.quality.jumps import Jumps
from episodes.quality.limits import Limits
from episodes.quality.measures import Cells, Coverage
from episodes.quality.nearness import Map, Nearness
from episodes.quality.rows import Rows
from episodes.quality.sketches import Distinct
from episodes.quality.stillness import Stillness
from episodes.quality.timing import Timing

Pass = Callable[[], Iterable[Rows]]
"""Goes through the episodes of a store; may be called again."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the columns of E episodes say."""

    lengths: np.ndarray
    """Shape (E,): steps."""
    returns: np.ndarray
    """Shape (E,): the sum of what the source rewarded; NaN where a step has no reward."""
    timing: Timing
    limits: Limits
    stillness: Stillness
    coverage: Coverage | None
    """None where there are no steps."""
    map: Map | None
    findings: list[Finding]


def survey(contract: Contract, episodes: Pass, reference: Pass | None = None) -> Survey:
    """Measure a store.

    Args:
        reference: of the same layout; its state-action pairs are what coverage is a share of.
    """
    extent = Extent(contract)
    timing, limits, stillness = Timing(contract.rate), Limits(contract), Stillness(contract, extent)
    duplicates, jumps, nearness = Duplicates(), Jumps(contract, extent), Nearness(contract.rate)
    lengths, returns = [], []
    for rows in episodes():
        lengths.append(len(rows.action))
        returns.append(rows.reward.sum(dtype=np.float64))
        for each in (timing, limits, duplicates, nearness):
            each.add(rows)
        extent.learn(rows)
        jumps.learn(rows)
    grid = extent if reference is None else _extent_of_both(contract, episodes, reference)
    cells, distinct = Cells(grid), Distinct()
    for rows in episodes():
        jumps.add(rows)
        stillness.add(rows)
        distinct.add(cells.place(rows))
    coverage = None
    if steps := sum(lengths):
        of = steps if reference is None else cells.count(reference())
        coverage = Coverage(distinct.count / max(of, 1), distinct.count, of, reference is not None)
    found = [finding for each in (timing, limits, stillness, jumps, duplicates) for finding in each.findings()]
    return Survey(
        np.array(lengths, np.int64), np.array(returns), timing, limits, stillness, coverage, nearness.map(), found
    )


def _extent_of_both(contract: Contract, episodes: Pass, reference: Pass) -> Extent:
    """What the store and its reference span together: they are compared on one grid."""
    extent = Extent(contract)
    for rows in chain(episodes(), reference()):
        extent.learn(rows)
    return extent
