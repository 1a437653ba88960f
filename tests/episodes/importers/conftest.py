"""Other people's files: the real ones where they are, and small ones that a test writes."""

import os
from pathlib import Path

import pytest

from episodes.episode import Episode
from episodes.importers import open_source
from episodes.importers.source import Importer

DATA = Path(os.environ.get("FIRSTHAND_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))


@pytest.fixture
def data():
    """A function from a path below the data folder to the whole path; the test is skipped where it is not there."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"{DATA / name} is not there; FIRSTHAND_DATA names the folder with logs to try")
        return DATA / name

    return find


class Imported:
    """Everything an importer gave: its usable episodes, and why it left others out, by key."""

    def __init__(self, importer: Importer) -> None:
        self.importer = importer
        self.contract = importer.contract
        self.episodes: dict[str, Episode] = {}
        self.left_out: dict[str, str] = {}
        for key, item in importer.episodes():
            if isinstance(item, Episode):
                self.episodes[key] = item.check(importer.contract)
            else:
                self.left_out[key] = str(item)
        assert len(importer) == len(self.episodes) + len(self.left_out)

    @property
    def steps(self) -> int:
        return sum(episode.steps for episode in self.episodes.values())

    @property
    def transitions(self) -> int:
        return sum(episode.transitions for episode in self.episodes.values())


@pytest.fixture
def load():
    """A function that imports all of a source."""
    return lambda path, **options: Imported(open_source(path, **options))
