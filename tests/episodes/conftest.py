"""Stores for the tests of the data core; the episodes in them come from `making`."""

from pathlib import Path

import pytest

from episodes.store import Store
from tests.episodes.making import PLAIN


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store without cameras."""
    return Store.create(tmp_path / "store", PLAIN)
