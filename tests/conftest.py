"""What every test may rely on: one thread per process, repeatable examples, and other people's data where it lies."""

import os
from pathlib import Path

# Before torch is imported: with several test processes on few cores its threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# What several files of tests share has assertions, too.
pytest.register_assert_rewrite("tests.command_line")

ROOT = Path(__file__).resolve().parent.parent

# Examples are drawn anew on every run at home and are the same on every run in CI; a slow machine is no failure.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with other people's data: FIRSTHAND_DATA, else ../shared/data; tests skip where there is none."""
    folder = Path(os.environ.get("FIRSTHAND_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data at {folder} (set FIRSTHAND_DATA)")
    return folder
