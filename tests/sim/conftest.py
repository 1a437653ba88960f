"""Tasks that are dear to make, and other people's data."""

import os
from pathlib import Path

import numpy as np
import pytest

from sim.task import Task, make_task


@pytest.fixture(scope="session")
def lift_quick() -> Task:
    return make_task("lift-quick")


@pytest.fixture(scope="session")
def lift_back() -> Task:
    return make_task("lift-back-quick")


@pytest.fixture(scope="session")
def lift() -> Task:
    return make_task("lift")


@pytest.fixture
def pusht() -> Task:
    return make_task("pusht")


@pytest.fixture(scope="session")
def human_pusht() -> dict[str, np.ndarray]:
    """Human demonstrations of Push-T: state (N, 5), action (N, 2), episode_ends (206,)."""
    import zarr

    data = Path(os.environ.get("FIRSTHAND_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = data / "pusht" / "pusht_cchi_v7_replay.zarr"
    if not path.is_dir():
        pytest.skip(f"no Push-T demonstrations at {path} (set FIRSTHAND_DATA)")
    root = zarr.open_group(str(path), mode="r")
    names = ("data/state", "data/action", "meta/episode_ends")
    return {name.split("/")[1]: np.asarray(root[name]) for name in names}
