"""What tests with processes share: a domain of their own, and policies made in seconds. A plugin of such test files."""

import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from episodes.episode import Source
from episodes.errors import InputError
from robot.ros import make_message, require_ros

DOMAINS = range(40, 61)
"""ROS_DOMAIN_IDs that tests take one of; above 101 there are no ports for them."""


class Steady:
    """Does the same all the time."""

    source = Source.SCRIPTED

    def __init__(self, action: Sequence[float]):
        self._action = np.array(action, np.float32)

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return self._action


@pytest.fixture(scope="session")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A ROS_DOMAIN_ID that no other test on this machine has now; skips where there is no ROS 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMENT_PREFIX_PATH", os.environ.get("AMENT_PREFIX_PATH", ""))
        patch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("ros-log")))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        try:
            require_ros()
            make_message("diagnostic_msgs/msg/DiagnosticArray")
        except InputError as error:
            pytest.skip(f"no ROS 2 for Python: {error}")
        with _domain_of_its_own(patch) as number:
            yield number


@pytest.fixture
def other_domain(domain: int) -> Iterator[int]:
    """Another one, for a test that would meet the nodes of the others."""
    with pytest.MonkeyPatch.context() as patch, _domain_of_its_own(patch) as number:
        yield number


@contextmanager
def _domain_of_its_own(patch: pytest.MonkeyPatch) -> Iterator[int]:
    for number in random.sample(DOMAINS, len(DOMAINS)):
        lock = FileLock(Path(tempfile.gettempdir()) / f"firsthand-ros-domain-{number}.lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        patch.setenv("ROS_DOMAIN_ID", str(number))
        try:
            yield number
        finally:
            lock.release()
        return
    pytest.skip("every ROS_DOMAIN_ID is taken")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: `lift` lifts the cube now and then and has checkpoints 150 and 300; `steady` moves on and on."""
    from episodes.store import open_or_create
    from finetune.config import resolve
    from finetune.pretrain import pretrain
    from sim.operators import ScriptedLift
    from sim.rollout import rollout
    from sim.task import make_task

    folder, task = tmp_path_factory.mktemp("runs"), make_task("lift-quick")
    quick = {"steps": 300, "checkpoint_every": 150, "device": "cpu", "hidden": [64, 64], "learning_rate": 3e-3}
    blind = {"state_entries": ["eef_qw"], "cosine_decay": False}
    for name, operator, seeds, settings in (
        ("lift", ScriptedLift(task), range(10), quick),
        ("steady", Steady([0.006, 0.006, 0.006, -1.0]), range(3), quick | blind),
    ):
        store = open_or_create(folder / f"{name}-store", task.contract)
        store.append([rollout(task, operator, seed) for seed in seeds])
        store.flush()
        pretrain(folder / f"{name}-store", folder / name, resolve("bc", None, None, settings))
    return folder
