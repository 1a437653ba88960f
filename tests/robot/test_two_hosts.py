"""The learner on a host of its own: two folders that have nothing in common, and only topics between them."""

import shutil
from collections.abc import Iterable, Iterator
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


def test_a_learner_whose_host_is_gone_is_told_of_and_the_robot_goes_on(hosts: tuple[Rig, Path, Path]) -> None:
    rig, _, _ = hosts
    said: list[str] = []

    def disappearing(numbers: Iterable[int]) -> Iterator[int]:
        for count, number in enumerate(numbers):
            yield number
            if count == 0:
                for node in ("learner", "courier"):
                    rig.nodes.kill(node)
                rig.probe.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
                rig.probe.wait("its courier says so", lambda: "is gone" in rig.probe.status("courier")[1])

    found = learn_on_robot(9, enable=True, say=said.append, progress=disappearing)
    assert len(found) >= 3
    assert len({episode.policy for episode in found[1:]}) == 1
    assert said == ["learner: nobody learns any more; the robot goes on with the policy that it has"]
    assert rig.probe.status("courier")[:2] == (2, "the learner's host is gone; what there is for it is kept")
