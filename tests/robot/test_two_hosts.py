"""The learner on a host of its own: two folders that have nothing in common, and only topics between them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from episodes.store import Store
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint
from robot.session import learn_on_robot
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, Rig

pytest_plugins = ("tests.robot.process_fixtures",)

SETTINGS = "{algorithm: rlpd, critics: 2, updates_per_step: 1}"


@pytest.fixture(scope="module")
def hosts(domain: int, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Path, Path]]:
    """A simulated robot in lock-step, and a learner elsewhere."""
    robot, learner = (tmp_path_factory.mktemp(name) for name in ("robot", "learner"))
    shutil.copytree(runs / "lift", robot / "lift")
    nodes, probe = Nodes(SHIPPED), Probe()
    try:
        nodes.start_set(
            "sim", run=str(robot / "lift"), new=str(robot / "new"), bags=str(robot / "bags"), real_time_factor=0.0
        )
        there = Nodes(SHIPPED)
        there.start_set("learn", run=str(runs / "lift"), new=str(learner / "new"), settings=SETTINGS, place="sim")
        try:
            yield Rig(there, probe), robot, learner / "new"
        finally:
            there.stop()
    finally:
        nodes.stop()
        probe.close()


def test_recordings_go_there_and_policies_come_back(hosts: tuple[Rig, Path, Path]) -> None:
    _, robot, new = hosts
    found = learn_on_robot(3, enable=True, wait=True)
    acted = [episode.policy for episode in found]
    run = Run.open(new)
    assert acted[1:] == [actor_hash(load_checkpoint(run.checkpoint(number)).algorithm) for number in (1, 2)]
    for recording in (robot / "bags").glob("*.mcap"):
        assert (new / "bags" / recording.name).read_bytes() == recording.read_bytes()
    assert Store.open(new / "episodes").snapshot().episodes == 3
    assert not (robot / "new" / "episodes").exists()


def test_who_carries_may_die_and_nothing_is_lost(hosts: tuple[Rig, Path, Path]) -> None:
    """What was recorded meanwhile comes later."""
    rig, robot, new = hosts
    rig.nodes.kill("courier")
    (found,) = learn_on_robot(4, enable=True)
    rig.nodes.start(
        "courier", side="learner", new=str(new), bags=str(new / "bags"), store=str(new / "episodes"), place="sim"
    )
    later = learn_on_robot(5, enable=True, wait=True)
    assert found.name not in [episode.name for episode in later]
    recordings = sorted(path.name for path in (robot / "bags").glob("*.mcap"))
    assert sorted(path.name for path in (new / "bags").glob("*.mcap")) == recordings
    rig.probe.wait(
        "all is in the store", lambda: Store.open(new / "episodes").snapshot().episodes == len(recordings) >= 5
    )
