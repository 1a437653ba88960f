"""In real time, in a namespace, with a person who resets, and messages that come late or not at all."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from episodes.episode import Episode, Source
from robot.bag_import import BagSource
from robot.contract import state_entries
from robot.contract_file import read_robot_contract
from robot.frames import Arrival, Frames
from robot.heard_episode import RobotEpisode
from robot.messages import header_stamp
from robot.outgoing import command_message, observation_message
from robot.ros import make_message
from robot.session import run_episodes
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, Rig, write_contract

pytest_plugins = ("tests.robot.process_fixtures",)

HANDS = "put the cube back"
SEED_IN_FILE = 77


@pytest.fixture(scope="module")
def real_time(domain: int, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A robot in a namespace whose messages come late, or not at all."""
    folder = tmp_path_factory.mktemp("real-time")
    content = yaml.safe_load(SHIPPED.read_text()) | {"reset": {"hands": HANDS}}
    content["safety"]["silence"] = 2.0
    for observation in content["observations"]:
        observation["max_age"] = 1.0
    parameters = {"/left/sim_robot": {"ros__parameters": {"seed": SEED_IN_FILE, "fault.drop": 0.1}}}
    file = write_contract(folder / "more.yaml", parameters)
    nodes = Nodes(write_contract(folder / "robot.yaml", content), namespace="left", params_file=str(file))
    probe = Probe("/left")
    try:
        nodes.start_set("sim", run=str(runs / "steady"), bags=str(folder / "bags"), task="lift-quick:horizon=400")
        yield Rig(nodes, probe)
    finally:
        nodes.stop()
        probe.close()


@pytest.fixture(scope="module")
def by_hand(real_time: Rig) -> tuple[RobotEpisode, list[str]]:
    """An episode that was run while a person was there, and what the person was asked."""
    probe, found, asked = real_time.probe, [], []

    def run() -> None:
        found.extend(run_episodes(1, enable=True, namespace="left", say=asked.append))

    session = threading.Thread(target=run, daemon=True)
    session.start()
    probe.wait("somebody is asked", lambda: any(h.message.data == HANDS for h in probe.heard("recorder/asks")))
    assert not any(state.running for state in real_time.states)
    again = probe.call("recorder/reset")
    assert (again.success, again.message) == (False, "a reset is under way already")
    assert real_time.insist("sim_robot/reset") == f"seed {SEED_IN_FILE}"
    probe.set("sim_robot", fault__late=0.25, fault__late_by=0.25)
    assert session.is_alive()
    assert not any(state.running for state in real_time.states)
    real_time.insist("recorder/ready")
    probe.wait("the session ends", lambda: not session.is_alive())
    assert found, real_time.nodes.lines
    return found[0], asked


def test_a_reset_by_hands_asks_for_them_and_waits(real_time: Rig, by_hand: tuple[RobotEpisode, list[str]]) -> None:
    found, asked = by_hand
    assert asked == [f"please: {HANDS}; then: firsthand call recorder/ready"]
    assert [heard.message.data for heard in real_time.probe.heard("recorder/asks")] == ["", HANDS, ""][-2:]
    assert found.steps > 0
    assert not real_time.probe.call("recorder/ready").success, "nobody was asked for anything"


def test_who_gave_the_permission_to_move_takes_it_back(real_time: Rig, by_hand: tuple[RobotEpisode, list[str]]) -> None:
    real_time.probe.wait("it is not enabled", lambda: real_time.probe.status("guardian")[2].get("enabled") == "False")


def test_what_is_imported_is_what_the_actor_saw_whatever_came_late_or_never(
    real_time: Rig, by_hand: tuple[RobotEpisode, list[str]]
) -> None:
    found, _ = by_hand
    ((_, episode),) = BagSource(real_time.recorded(found.name), real_time.contract, place="sim").episodes()
    assert isinstance(episode, Episode)
    values: dict[tuple[str, int], np.ndarray] = {}
    for source in real_time.contract.observations:
        for heard in real_time.probe.heard(source.topic):
            frames = Frames(real_time.contract, cameras=False)
            ((arrival, _),) = frames.add(source.topic, heard.message, 0)
            assert arrival is Arrival.NEW
            stamp = header_stamp(heard.message)
            assert stamp is not None
            state = frames.frame(stamp).state
            values[source.topic, stamp] = state[~np.isnan(state)]
    topics = [source.topic for source in real_time.contract.observations]
    steps = {step.tick: step for step in real_time.steps}
    late = 0
    for tick, state in zip(episode.observation_time.tolist(), episode.state, strict=True):
        stamps = steps[tick].stamps
        seen = np.concatenate([values[topic, stamp] for topic, stamp in zip(topics, stamps, strict=True)])
        np.testing.assert_array_equal(state, seen)
        late += len(set(stamps)) > 1
    assert episode.steps == found.steps
    assert late > 0, "something was late or lost"
    sent = {sent.tick: sent.action for sent in real_time.sent if sent.episode == found.name}
    actions = [sent[tick] for tick in episode.observation_time[: episode.steps].tolist()]
    assert episode.action.tobytes() == np.array(actions, np.float32).tobytes()


def test_nodes_are_ended_together_and_the_robot_is_at_rest(
    real_time: Rig, by_hand: tuple[RobotEpisode, list[str]]
) -> None:
    probe = real_time.probe
    probe.set("sim_robot", fault__late=-1.0, fault__drop=-1.0)
    real_time.insist("sim_robot/reset")
    real_time.enable()
    probe.forget()
    name = real_time.insist("recorder/start")

    def moved() -> int:
        return sum(any(sent.action[:3]) for sent in real_time.sent if sent.episode == name and sent.action)

    probe.wait("it moves", lambda: moved() >= 5)
    assert real_time.nodes.stop() == [0, 0, 0, 0]
    twists = [values for _, values in real_time.commands("servo_node/delta_twist_cmds")]
    assert any(map(any, twists))
    assert not any(twists[-1])
    speeds = np.abs(np.diff([[0.0, 0.0, 0.0], *twists], axis=0))
    assert speeds.max() <= 1.0 + 1e-9, "at 10 m/s^2 within a period"
    (end,) = [state for state in real_time.states if state.episode == name and not state.running]
    assert not end.terminated
    assert real_time.recorded(name).is_file()


# Somebody else moves the robot.


def test_what_a_person_does_is_recorded_without_anybody_of_ours(other_domain: int, tmp_path: Path) -> None:
    nodes = Nodes(SHIPPED)
    probe = Probe()
    contract = read_robot_contract(SHIPPED)
    layout = contract.layout()
    sent: list[int] = []

    def robot() -> None:
        """Publishes as drivers do: nobody is promised that all of it comes."""
        stamp, number = time.time_ns(), len(sent)
        for source in contract.observations:
            values = [float(number)] * len(state_entries(source))
            message = observation_message(source, values, stamp, make_message)
            probe.publish(source.topic, source.type, message, "SENSORS")
        for command in contract.commands:
            message = command_message(command, [0.25] * len(command.fields), stamp, 1, make_message)
            probe.publish(command.topic, command.type, message)
        sent.append(stamp)

    try:
        nodes.start_set("record", bags=str(tmp_path / "bags"))
        probe.listen("recorder/recorded", "std_msgs/msg/String", latched=True)
        # Services are there before their node is active.
        probe.wait("it is active", lambda: "not active" not in probe.call("recorder/start").message)
        refused = probe.call("recorder/start")
        assert not refused.success
        assert refused.message.startswith("nothing has come on cartesian_pose_broadcaster/pose, joint_states, ")
        robot()
        driver = probe.node.create_timer(contract.period / 1e9, robot)
        name = probe.wait("an episode begins", lambda: (a := probe.call("recorder/start")).success and a.message)
        begun = len(sent)
        probe.wait("some steps", lambda: len(sent) > begun + 12)
        assert probe.call("recorder/success").success
        (done,) = probe.wait("it is recorded", lambda: probe.heard("recorder/recorded"))
        driver.cancel()
    finally:
        nodes.stop()
        probe.close()
    path = Path(done.message.data)
    assert path.stem == name
    ((_, episode),) = BagSource(path, contract).episodes()
    assert isinstance(episode, Episode)
    assert episode.steps >= 8
    assert (episode.source == Source.DEMONSTRATION).all()
    assert episode.terminated
    assert episode.success is not None
    assert episode.success[-1] == 1
    assert episode.place == "real"
    assert (np.diff(episode.state[:, 0]) >= 0).all()
    np.testing.assert_allclose(episode.action, np.tile([0.025, 0.025, 0.025, 0.25], (episode.steps, 1)), rtol=1e-6)
    assert episode.state.shape[1] == len(layout.state)
