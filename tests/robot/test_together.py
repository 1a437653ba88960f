"""The nodes as processes: what comes out of a robot behind topics is what went in, step by step."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from episodes.episode import Episode, Source
from episodes.store import Store
from finetune.run import Run
from policies.policy import Policy
from robot.bag_import import BagSource
from robot.heard_episode import RobotEpisode
from robot.ros import make_message, message_class
from robot.session import run_episodes
from sim.rollout import rollout
from sim.task import make_task
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, Rig, write_contract

pytest_plugins = ("tests.robot.process_fixtures",)

FIRST_SEED = 1_000_000
CAMERA = {"name": "agentview", "topic": "agentview/image", "height": 84, "width": 84, "rate": 10, "max_age": 0.15}
INTERVENTION = {
    "topic": "joy",
    "engaged": "buttons[5]",
    "max_age": 1e6,
    "axes": [{"action": "delta_z", "path": "axes[4]", "scale": 0.02}, {"action": "gripper", "path": "axes[2]"}],
}


def sees() -> bool:
    """Whether pictures can be drawn here."""
    try:
        task = make_task("lift-quick", cameras=("agentview",))
        task.reset(seed=0)
        task.close()
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def lock_step(domain: int, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A robot with a camera and a joystick, in lock-step; its episodes go into a store."""
    folder = tmp_path_factory.mktemp("lock-step")
    content = yaml.safe_load(SHIPPED.read_text()) | {"intervention": INTERVENTION}
    content |= {"cameras": [CAMERA]} if sees() else {}
    nodes = Nodes(write_contract(folder / "robot.yaml", content))
    probe = Probe()
    try:
        shutil.copytree(runs / "lift", folder / "run")
        places = {"run": str(folder / "run"), "bags": str(folder / "bags"), "store": str(folder / "store")}
        nodes.start_set("sim", real_time_factor=0.0, seed=FIRST_SEED, **places)
        rig = Rig(nodes, probe)
        rig.ready()
        yield rig
    finally:
        nodes.stop()
        probe.close()


@pytest.fixture(scope="module")
def evaluated(lock_step: Rig) -> list[RobotEpisode]:
    """The first episodes."""
    return run_episodes(3, enable=True)


@pytest.fixture(scope="module")
def expected(lock_step: Rig, runs: Path) -> list[Episode]:
    """The same, in one process."""
    cameras = tuple(camera.name for camera in lock_step.contract.cameras)
    task = make_task("lift-quick", cameras=cameras, image_size=(84, 84))
    policy = Policy.load(Run.open(runs / "lift").last)
    episodes = [rollout(task, policy, FIRST_SEED + number) for number in range(5)]
    task.close()
    return episodes


def imported(bag: Path, rig: Rig) -> Episode:
    ((_, episode),) = BagSource(bag, rig.contract, place="sim").episodes()
    assert isinstance(episode, Episode)
    return episode


def assert_same(found: Episode, wanted: Episode) -> None:
    """What a bag says is the episode in memory, to the last bit."""
    assert found.state.tobytes() == wanted.state.tobytes()
    assert found.action.tobytes() == wanted.action.tobytes()
    assert found.action_proposed is not None
    assert found.action_proposed.tobytes() == wanted.action.tobytes()
    for name in ("reward", "success", "policy", "source"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    assert (found.terminated, found.truncated) == (wanted.terminated, wanted.truncated)
    assert set(found.images) == set(wanted.images)
    for name, images in wanted.images.items():
        assert found.images[name].tobytes() == images.tobytes()
    periods = np.diff(found.observation_time)
    assert set(periods.tolist()) == {100_000_000}


def test_in_lock_step_an_evaluation_is_the_one_in_one_process(
    evaluated: list[RobotEpisode], expected: list[Episode]
) -> None:
    for found, wanted in zip(evaluated, expected, strict=False):
        assert wanted.reward is not None
        assert wanted.success is not None
        assert (found.steps, found.reward, found.best_reward) == (
            wanted.steps,
            float(wanted.reward.sum()),
            float(wanted.reward.max()),
        )
        assert found.success == bool(wanted.success.max())
        assert found.changed == 0, "the guardian changed nothing"
        assert wanted.policy is not None
        assert found.policy == wanted.policy[0]
    assert {wanted.steps for wanted in expected[:3]} != {1}


def test_a_recording_is_the_episode_to_the_last_bit(
    lock_step: Rig, evaluated: list[RobotEpisode], expected: list[Episode]
) -> None:
    for found, wanted in zip(evaluated, expected, strict=False):
        assert_same(imported(lock_step.recorded(found.name), lock_step), wanted)


def test_the_recorder_fills_the_store(lock_step: Rig, evaluated: list[RobotEpisode], expected: list[Episode]) -> None:
    path = lock_step.recorded(evaluated[0].name).parent.parent / "store"

    def stored() -> list[Episode]:
        if not path.is_dir():
            return []
        snapshot = Store.open(path).snapshot()
        return [snapshot.episode(index) for index in range(snapshot.episodes)]

    episodes = lock_step.probe.wait("the store has them", lambda: len(found := stored()) >= 3 and found)
    for found, wanted in zip(episodes, expected, strict=False):
        assert_same(found, wanted)


def policies_of(rig: Rig, episode: str) -> set[int]:
    return {step.policy for step in rig.steps if step.episode == episode and step.action is not None}


def test_a_newer_policy_acts_from_the_next_episode_on(lock_step: Rig, evaluated: list[RobotEpisode]) -> None:
    run = Run(lock_step.recorded(evaluated[0].name).parent.parent / "run")
    probe = lock_step.probe

    def loaded(step: int) -> bool:
        return probe.status("actor")[2].get("policy", "").endswith(f"{step:09d}")

    probe.wait("the newest acts", lambda: loaded(300))
    lock_step.insist("recorder/reset")
    probe.forget()
    # Nobody lets it move: the episode lasts as long as one wants.
    name = lock_step.insist("recorder/start")
    probe.wait("the actor has heard of it", lambda: policies_of(lock_step, name))
    run.mark_last(150)
    probe.forget()
    probe.wait("it has had the time to look", lambda: len(probe.heard("/diagnostics")) >= 12)
    assert loaded(300), "not while one acts"
    lock_step.enable()
    lock_step.ended(name)
    assert policies_of(lock_step, name) == {evaluated[0].policy}
    probe.wait("the other one is there", lambda: loaded(150))
    probe.call("guardian/enable", "std_srvs/srv/SetBool", data=False)
    (after,) = run_episodes(1, enable=True)
    assert after.policy not in (0, evaluated[0].policy)
    assert policies_of(lock_step, after.name) == {after.policy}
    run.mark_last(300)
    probe.wait("the newest acts", lambda: loaded(300))


def joy(up: float, engaged: bool) -> Any:
    message = make_message("sensor_msgs/msg/Joy")
    message.axes, message.buttons = [0.0, 0.0, 0.0, 0.0, up], [0, 0, 0, 0, 0, int(engaged)]
    return message


def test_what_a_person_does_is_recorded_as_that(lock_step: Rig, evaluated: list[RobotEpisode]) -> None:
    probe = lock_step.probe
    lock_step.insist("recorder/reset")
    lock_step.enable()
    # The actor and the recorder; and again and again, as a device does.
    held = [True]
    probe.publish("joy", "sensor_msgs/msg/Joy", joy(0.5, True), listeners=2)
    device = probe.node.create_timer(0.05, lambda: probe.publish("joy", "sensor_msgs/msg/Joy", joy(0.5, held[0])))
    probe.forget()
    time.sleep(0.5)
    name = lock_step.insist("recorder/start")

    def acted() -> int:
        return sum(step.episode == name and step.action is not None for step in lock_step.steps)

    probe.wait("some steps", lambda: acted() >= 4)
    held[0] = False
    lock_step.ended(name)
    device.cancel()
    probe.call("guardian/enable", "std_srvs/srv/SetBool", data=False)
    episode = imported(lock_step.recorded(name), lock_step)
    taken = episode.source == Source.INTERVENTION
    assert taken[:3].all()
    assert (episode.source[~taken] == Source.POLICY).all()
    assert not taken.all()
    np.testing.assert_allclose(episode.action[taken][:, :3], [[0, 0, 0.01]] * int(taken.sum()))
    assert episode.policy is not None
    assert (episode.policy[taken] == 0).all()
    assert (episode.policy[~taken] == evaluated[0].policy).all()
    steps = {step.tick: step for step in lock_step.steps if step.action is not None}
    assert [steps[tick].source for tick in episode.observation_time[: episode.steps].tolist()] == list(episode.source)


CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4


def change(rig: Rig, node: str, number: int) -> None:
    transition = message_class("lifecycle_msgs/msg/Transition")(id=number)
    assert rig.probe.call(f"{node}/change_state", "lifecycle_msgs/srv/ChangeState", transition=transition).success


def test_a_simulation_that_is_late_hears_when_an_episode_has_begun(
    lock_step: Rig, evaluated: list[RobotEpisode]
) -> None:
    """Else it takes the first command for one of before, and everybody waits for somebody else."""
    lock_step.insist("recorder/reset")
    lock_step.enable()
    lock_step.probe.forget()
    os.kill(lock_step.nodes.pid("sim_robot"), signal.SIGSTOP)
    try:
        name = lock_step.insist("recorder/start")
        lock_step.probe.wait("it is said again", lambda: sum(each.episode == name for each in lock_step.states) >= 3)
        lock_step.probe.wait("it is answered", lambda: lock_step.sent)
    finally:
        os.kill(lock_step.nodes.pid("sim_robot"), signal.SIGCONT)
    lock_step.ended(name)
    assert not lock_step.reason
    lock_step.probe.call("guardian/enable", "std_srvs/srv/SetBool", data=False)


def test_a_guardian_that_comes_late_hears_of_an_actor_at_rest(lock_step: Rig, evaluated: list[RobotEpisode]) -> None:
    """Nothing new is to be seen in lock-step, and so the actor says again what it has said when nobody was there."""
    lock_step.insist("recorder/reset")
    for number in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
        change(lock_step, "guardian", number)
    lock_step.enable()
    lock_step.probe.forget()
    lock_step.probe.wait("it is said on and on", lambda: len(lock_step.steps) >= 3)
    assert len({step.tick for step in lock_step.steps}) == 1
    assert not lock_step.reason
    lock_step.probe.call("guardian/enable", "std_srvs/srv/SetBool", data=False)


def test_nodes_go_through_their_lives_again(lock_step: Rig, evaluated: list[RobotEpisode], runs: Path) -> None:
    everybody = ("actor", "guardian", "recorder", "sim_robot")
    for node in everybody:
        change(lock_step, node, DEACTIVATE)
    refused = lock_step.probe.call("guardian/enable", "std_srvs/srv/SetBool", data=True)
    assert (refused.success, refused.message) == (False, "not enabled: the node is not active")
    assert not lock_step.probe.call("recorder/start").success
    assert not lock_step.probe.call("sim_robot/reset").success
    for number in (ACTIVATE, DEACTIVATE, CLEANUP):
        for node in reversed(everybody):
            change(lock_step, node, number)
    publishers = lock_step.probe.node.count_publishers
    lock_step.probe.wait("it is silent", lambda: not publishers("actor/step"))
    for number in (CONFIGURE, ACTIVATE):
        for node in reversed(everybody):
            change(lock_step, node, number)
    for topic in ("actor/step", "guardian/sent", "episode", "joint_states"):
        lock_step.probe.wait(f"{topic} is there", lambda topic=topic: publishers(topic) == 1)
    seed = int(lock_step.insist("recorder/reset").removeprefix("seed "))
    (found,) = run_episodes(1, enable=True)
    cameras = tuple(camera.name for camera in lock_step.contract.cameras)
    task = make_task("lift-quick", cameras=cameras, image_size=(84, 84))
    assert_same(
        imported(lock_step.recorded(found.name), lock_step),
        rollout(task, Policy.load(Run.open(runs / "lift").last), seed),
    )
    task.close()
