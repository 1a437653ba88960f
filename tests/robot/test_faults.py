"""What goes wrong on a robot, over real processes: a stop with its reason, a robot at rest, nothing outside limits."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from episodes.episode import Episode
from finetune.run import Run
from policies.checkpoint import DESCRIPTION, load_checkpoint, save_checkpoint
from robot.bag_import import BagSource
from robot.bag_writer import PART
from robot.bags import open_bag
from robot.reports import ActorStep, EpisodeState, decode, encode
from robot.ros import make_message
from sim.task import make_task
from tests.robot.contracts import ROOT, SHIPPED
from tests.robot.processes import WAIT, Nodes, Probe, Rig, write_contract

pytest_plugins = ("tests.robot.process_fixtures",)

STRING, FLOATS, BOOL = "std_msgs/msg/String", "std_msgs/msg/Float64MultiArray", "std_msgs/msg/Bool"
X, Y, Z, GRIPPER = (f"{name}_controller/commands" for name in ("x", "y", "z", "gripper"))
KINDS = {
    X: {"on_silence": "repeats_last", "allow_runaway": True},
    Y: {"on_silence": "stops", "silence": 0.15},
    Z: {"on_silence": "holds_position"},
}
"""One axis with each kind of controller."""
FASTEST = 0.5
"""Of every axis, by the contract [m/s]."""
ACCELERATION = 10.0
"""Likewise [m/s^2]."""
TOO_LATE = 0.4
"""From this age on an observation says nothing [s]."""


def contract_of_three_kinds() -> dict[str, Any]:
    """The simulated Panda with a controller per axis, and everything that a guardian can watch."""
    content = yaml.safe_load(SHIPPED.read_text())
    for observation in content["observations"]:
        observation["max_age"] = TOO_LATE
    axes = []
    for (topic, manners), field in zip(KINDS.items(), content["commands"][0]["fields"], strict=True):
        axes.append(
            {"topic": topic, "type": FLOATS, "kind": "velocity", **manners, "fields": [field | {"path": "data[0]"}]}
        )
    content["commands"] = [*axes, content["commands"][1]]
    content["max_steps"] = 300
    content["safety"] |= {
        "silence": 0.6,
        "force": {"topic": "wrench", "limit": 30, "max_age": TOO_LATE},
        "dead_man": {"topic": "pedal", "type": BOOL, "path": "data", "max_age": 1.0},
        "stop_topic": "emergency_stop",
    }
    return content


class Robot(Rig):
    """The rig of this file: somebody has a foot on the pedal."""

    def __init__(self, nodes: Nodes, probe: Probe, run: Path, bags: Path):
        super().__init__(nodes, probe)
        self.run, self.bags = run, bags
        self.pedal: bool | None = True
        publisher = probe.node.create_publisher(type(make_message(BOOL)), "pedal", 1)
        message = make_message(BOOL)

        def step_on_it() -> None:
            if self.pedal is not None:
                message.data = self.pedal
                publisher.publish(message)

        probe.node.create_timer(0.05, step_on_it)

    def start_actor(self) -> None:
        self.nodes.start("actor", run=str(self.run), trigger="clock")

    def start_recorder(self) -> None:
        self.nodes.start("recorder", bags=str(self.bags), place="sim")

    def fault(self, **faults: float) -> None:
        answers = self.probe.set("sim_robot", **{f"fault__{name}": value for name, value in faults.items()})
        assert all(answer.successful for answer in answers), answers

    def at_rest(self) -> None:
        """Wait until what is measured of the hand does not change any more."""

        def still() -> bool:
            hand = self.hand(4)
            return len(hand) == 4 and float(np.ptp(hand, axis=0).max()) < 1e-3

        self.probe.wait("the robot is at rest", still)

    def check_what_was_sent(self) -> None:
        """Every command that the robot was sent was inside its limits; and the last ones ask for rest."""
        for topic in KINDS:
            speeds = np.array([0.0, *(values[0] for _, values in self.commands(topic))])
            assert np.isfinite(speeds).all()
            assert np.abs(speeds).max() <= FASTEST
            # One and a half periods at most; where nothing moved, nothing was sent.
            assert np.abs(np.diff(speeds)).max(initial=0.0) <= ACCELERATION * 0.15 + 1e-9
            assert speeds[-1] == 0
        assert all(abs(values[0]) <= 1 for _, values in self.commands(GRIPPER))

    def check_stop(self, expected: str) -> None:
        """The guardian stopped with a reason, the robot came to rest, and it goes on only when told so twice."""
        reason = self.stopped()
        assert expected in reason
        self.at_rest()
        self.check_what_was_sent()
        state = self.ended(self.episode)
        assert state.reason == f"the guardian stopped: {reason}"
        refused = self.probe.call("guardian/enable", "std_srvs/srv/SetBool", data=True)
        assert not refused.success
        assert refused.message == f"not enabled: stopped, {reason}; rearm it first"
        assert not self.probe.call("recorder/start").success


@pytest.fixture(scope="module")
def started(domain: int, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A robot in real time under a policy that moves on and on."""
    folder = tmp_path_factory.mktemp("faults")
    shutil.copytree(runs / "steady", folder / "run")
    nodes = Nodes(write_contract(folder / "robot.yaml", contract_of_three_kinds()), use_sim_time=True)
    probe = Probe()
    try:
        nodes.start("sim_robot", task="lift-quick:horizon=400")
        nodes.start("guardian")
        robot = Robot(nodes, probe, folder / "run", folder / "bags")
        # One that never said anything counts as pressed.
        probe.publish("emergency_stop", BOOL, make_message(BOOL), "LATCHED")
        robot.start_actor()
        robot.start_recorder()
        robot.ready()
        yield robot
    finally:
        nodes.stop()
        probe.close()


@pytest.fixture
def robot(started: Robot) -> Robot:
    """It again, as it was, whatever the test before this one has left."""
    started.fault(drop=-1.0, late=-1.0, nan=-1.0, freeze_after=-1.0, clock_back_after=-1.0, push=-1.0)
    started.pedal = True
    if not started.nodes.running("actor"):
        started.start_actor()
    if not started.nodes.running("recorder"):
        started.start_recorder()
    return started


# Those who decide are lost.


def test_an_actor_that_is_killed_in_motion_leaves_a_robot_at_rest(robot: Robot) -> None:
    robot.moving()
    robot.nodes.kill("actor")
    robot.check_stop("no step of the actor for ")
    robot.start_actor()
    robot.probe.forget()
    robot.probe.wait("the new actor is there", lambda: robot.steps)
    assert all(not robot.commands(topic) for topic in KINDS), "and moves nothing"
    robot.moving()


def test_two_actors_at_once_are_noticed(robot: Robot) -> None:
    second, actors = Nodes(robot.nodes.contract, use_sim_time=True), robot.probe.node.count_publishers
    # One that was killed is believed to be there for a while.
    robot.probe.wait("there is one", lambda: actors("actor/step") == 1)
    try:
        second.start("actor", run=str(robot.run), trigger="clock")
        robot.probe.wait("both are there", lambda: actors("actor/step") == 2)
        robot.begin()
        robot.check_stop("there are two actors")
    finally:
        second.stop()


def test_an_actor_with_a_policy_of_another_robot_does_not_start(robot: Robot, tmp_path: Path) -> None:
    content = yaml.safe_load(robot.nodes.contract.read_text()) | {"rate": 20}
    other = Nodes(write_contract(tmp_path / "faster.yaml", content))
    other.start("actor", run=str(robot.run))
    assert other.said("actor") == (
        "node actor ended with 2: firsthand: contract 'lift': 20 Hz, and the policy was trained at 10 Hz"
    )


def put_checkpoint(robot: Robot, step: int, **changes: Any) -> None:
    """Put another checkpoint in the run's place of honour, with another description."""
    run = Run(robot.run)
    folder = run.checkpoint(step)
    if not folder.exists():
        shutil.copytree(run.last, folder)
    content = json.loads((folder / DESCRIPTION).read_text()) | changes
    (folder / DESCRIPTION).write_text(json.dumps(content))
    run.mark_last(step)


def test_a_newer_policy_that_does_not_fit_is_not_taken_and_the_old_one_goes_on(robot: Robot) -> None:
    name = robot.moving()
    (before,) = {step.policy for step in robot.steps if step.episode == name and step.action is not None}
    robot.probe.call("recorder/stop")
    contract = json.loads((Run(robot.run).last / DESCRIPTION).read_text())["contract"]
    put_checkpoint(robot, 400, contract=contract | {"rate": 20.0})
    level, said, _ = robot.probe.wait("it is refused", lambda: (found := robot.probe.status("actor"))[0] == 2 and found)
    assert level == 2
    assert "the policy was trained at 20 Hz" in said
    name = robot.moving()
    assert {step.policy for step in robot.steps if step.episode == name and step.action is not None} == {before}
    run = Run(robot.run)
    run.mark_last(300)
    robot.probe.call("recorder/stop")
    robot.probe.wait("all is well", lambda: robot.probe.status("actor")[0] == 0)


def test_a_policy_that_wants_nonsense_moves_nothing(robot: Robot) -> None:
    run = Run(robot.run)
    broken = load_checkpoint(run.last)
    with torch.no_grad():
        for weight in broken.algorithm.actor.parameters():
            weight.fill_(torch.nan)
    save_checkpoint(run.checkpoint(500), broken.algorithm, broken.contract)
    run.mark_last(500)

    def loaded(step: int) -> bool:
        return robot.probe.status("actor")[2].get("policy", "").endswith(f"{step:09d}")

    robot.probe.call("recorder/stop")
    try:
        robot.probe.wait("the broken one is there", lambda: loaded(500))
        robot.begin()
        robot.check_stop("delta_x: nan is not finite")
        assert all(not any(values) for topic in KINDS for _, values in robot.commands(topic))
    finally:
        run.mark_last(300)
        robot.probe.wait("the good one is there", lambda: loaded(300))


# What is measured is lost.


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"freeze_after": 0.0}, "ms old, expected at most 400 ms"),
        ({"nan": 1.0}, "ms old, expected at most 400 ms"),
        ({"late": 1.0, "late_by": 0.5}, "ms old, expected at most 400 ms"),
        ({"clock_back_after": 0.0}, "set back"),
        ({"push": 80.0}, "N, the limit 30 N"),
    ],
    ids=["frozen", "not numbers", "half a second late", "clock set back", "pushed"],
)
def test_a_robot_that_cannot_be_seen_or_is_pushed_is_stopped(
    robot: Robot, faults: dict[str, float], expected: str
) -> None:
    robot.moving()
    robot.fault(**faults)
    try:
        reason = robot.stopped()
        assert expected in reason or ("clock_back_after" in faults and "went back" in reason)
    finally:
        robot.fault(**dict.fromkeys(faults, -1.0))
    robot.check_stop(reason)


# People.


def test_a_stop_button_stops(robot: Robot) -> None:
    robot.moving()
    pressed = make_message(BOOL)
    pressed.data = True
    robot.probe.publish("emergency_stop", BOOL, pressed)
    robot.check_stop("emergency_stop was pressed")
    still = robot.probe.call("guardian/rearm")
    assert (still.success, still.message) == (False, "not rearmed: the stop button is pressed")
    pressed.data = False
    robot.probe.publish("emergency_stop", BOOL, pressed)
    robot.insist("guardian/rearm")


def test_a_stop_button_that_nobody_could_press_stops(robot: Robot) -> None:
    robot.moving()
    robot.probe.silence("emergency_stop")
    robot.check_stop("emergency_stop: nobody publishes the stop button any more")
    assert not robot.probe.call("guardian/rearm").success
    robot.probe.publish("emergency_stop", BOOL, make_message(BOOL), "LATCHED")
    robot.insist("guardian/rearm")


def test_who_calls_stop_stops(robot: Robot) -> None:
    robot.moving()
    assert robot.probe.call("guardian/stop").success
    robot.check_stop("somebody called guardian/stop")


@pytest.mark.parametrize("how", [False, None], ids=["let go", "silent"])
def test_a_dead_mans_switch_holds_the_robot_for_as_long_as_nobody_holds_it(robot: Robot, how: bool | None) -> None:
    robot.moving()
    robot.pedal = how
    try:
        # An answer to the actor between episodes, which holds as well, may still be on its way.
        robot.probe.wait("it is held", lambda: any("dead-man switch" in sent.reason for sent in robot.sent))
        robot.at_rest()
        assert robot.reason == ""
    finally:
        robot.pedal = True
    robot.probe.forget()
    robot.probe.wait("it goes on", lambda: any(sent.verdict == 1 for sent in robot.sent))
    assert robot.reason == ""


def test_somebody_else_who_commands_is_named_and_the_controllers_have_their_manners(robot: Robot) -> None:
    probe = robot.probe
    robot.moving()
    nonsense = make_message(FLOATS)
    nonsense.data = [float("nan")]
    try:
        probe.publish(X, FLOATS, nonsense)
        named = "/probe on x_controller/commands"
        assert robot.stopped() == f"somebody else publishes commands: {named}"
        probe.wait("diagnostics name it", lambda: probe.status("guardian")[2].get("other publishers") == named)
        robot.at_rest()
        probe.wait("it is dropped", lambda: probe.status("sim_robot")[2].get(f"{X} not_finite") == "1")
        nonsense.data = [0.1, 0.1]
        probe.publish(X, FLOATS, nonsense)
        probe.wait("it is off", lambda: probe.status("sim_robot")[1] == f"controller off: {X}")
        refused = probe.call("guardian/rearm")
        assert (refused.success, refused.message) == (False, f"not rearmed: somebody else publishes commands: {named}")
    finally:
        probe.silence(X)
    robot.moving()
    probe.wait("it works again", lambda: probe.status("sim_robot")[0] == 0)


# The recorder is lost.


def test_a_full_disk_ends_the_recording_loudly_and_not_the_guarding(robot: Robot) -> None:
    name = robot.moving()
    pid = robot.nodes.pid("recorder")
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (2048, hard))
    try:
        assert robot.ended(name).reason == "recording stopped: File too large"
        robot.probe.wait(
            "it says so", lambda: robot.probe.status("recorder")[:2] == (2, "recording stopped: File too large")
        )
        refused = robot.probe.call("recorder/start")
        assert (refused.success, refused.message) == (False, "recording stopped: File too large")
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert robot.reason == ""
    robot.at_rest()
    robot.check_what_was_sent()
    robot.probe.wait("it is enabled", lambda: robot.probe.status("guardian")[2].get("enabled") == "True")
    name = robot.moving()
    robot.probe.call("recorder/stop")
    assert robot.recorded(name).is_file()


def test_of_a_power_cut_between_two_syncs_everything_before_is_left(robot: Robot) -> None:
    name = robot.moving(steps=18)
    robot.nodes.kill("recorder")
    part = robot.bags / f"{name}.mcap{PART}"
    with part.open("r+b") as file:
        file.truncate(part.stat().st_size - 100)
    ((_, episode),) = BagSource(part, robot.contract, place="sim").episodes()
    assert isinstance(episode, Episode)
    assert episode.steps >= 3
    assert episode.truncated
    sent = {sent.tick: sent.action for sent in robot.sent if sent.episode == name}
    actions = [sent[tick] for tick in episode.observation_time[: episode.steps].tolist()]
    assert episode.action.tobytes() == np.array(actions, np.float32).tobytes()
    robot.start_recorder()
    # Nobody knows of that episode any more, and nobody acts in it.
    robot.probe.wait("the actor is told", lambda: robot.states and robot.states[-1].episode == "")
    robot.at_rest()
    robot.moving()


def test_the_recording_of_a_recorder_that_is_told_to_end_knows_how_it_ended(robot: Robot) -> None:
    name = robot.moving(steps=8)
    robot.nodes.stop("recorder")
    with open_bag(robot.bags / f"{name}.mcap") as bag:
        states = [decode(EpisodeState, each.message.data) for each in bag.messages(["/episode"])]
    assert [state.reason for state in states if state.episode == name and not state.running] == [
        "the recorder was stopped"
    ]
    robot.start_recorder()
    robot.probe.wait("it is there again", lambda: robot.states[-1].episode == "")
    robot.at_rest()
    robot.moving()


# At last the one who guards.


def test_a_guardian_that_is_killed_leaves_what_the_controllers_do(robot: Robot) -> None:
    robot.moving()
    robot.nodes.kill("guardian")
    last = robot.states_seen()[0][-1]
    robot.probe.wait("what was under way has come", lambda: robot.states_seen()[0][-1] >= last + 200_000_000)
    before = {topic: len(robot.commands(topic)) for topic in KINDS}
    speeds = {topic: robot.commands(topic)[-1][1][0] for topic in KINDS}
    assert all(speed > 0 for speed in speeds.values())
    # From here on nobody says anything more; what the robot does is its controllers'.
    ticks, _ = robot.states_seen()
    killed = int(ticks[-1])
    robot.probe.wait("a second has passed", lambda: robot.states_seen()[0][-1] >= killed + 1_500_000_000)
    ticks, states = robot.states_seen()
    seen = states[ticks >= killed + 500_000_000][:, :3]
    moved = seen[-1] - seen[0]
    assert {topic: len(robot.commands(topic)) for topic in KINDS} == before
    assert moved[0] > 0.01, "a velocity that is repeated runs away"
    assert abs(moved[1]) < 0.005, "a controller with a time-out has stopped"
    assert abs(moved[2]) < 0.005, "one that holds its position holds it"
    reasons = len(robot.probe.heard("guardian/reason"))
    robot.nodes.start("guardian")
    robot.probe.wait("it is back", lambda: len(robot.probe.heard("guardian/reason")) > reasons)
    assert robot.reason == ""
    robot.probe.call("recorder/stop")
    assert {topic: len(robot.commands(topic)) for topic in KINDS} == before, "and moves nothing by itself"


# Mistakes of who set it up.


def test_a_contract_that_allows_more_than_the_robot_can_is_clipped_and_told(other_domain: int, tmp_path: Path) -> None:
    content = yaml.safe_load(SHIPPED.read_text())
    for field in content["commands"][0]["fields"]:
        field |= {"low": -0.1, "high": 0.1}
    nodes = Nodes(write_contract(tmp_path / "wide.yaml", content), use_sim_time=True)
    probe = Probe()
    try:
        nodes.start("sim_robot", real_time_factor=0.0, seed=3)
        nodes.start("guardian", lock_step=True)
        rig = Rig(nodes, probe)
        probe.wait("it is seen", lambda: len(rig.states_seen()[0]))

        def enabled() -> bool:
            probe.publish("actor/step", STRING, make_string(encode(ActorStep(1, "", (), None))))
            return probe.call("guardian/enable", "std_srvs/srv/SetBool", data=True).success

        probe.wait("an actor is heard", enabled)
        probe.publish("episode", STRING, make_string(encode(EpisodeState("by hand", True, 1))), "LATCHED")
        acted: list[int] = []

        def act() -> bool:
            ticks, _ = rig.states_seen()
            if len(ticks) and ticks[-1] not in acted:
                acted.append(int(ticks[-1]))
                step = ActorStep(acted[-1], "by hand", (acted[-1],) * 4, (0.08, 0.0, 0.02, -1.0))
                probe.publish("actor/step", STRING, make_string(encode(step)))
            return len(acted) > 8

        probe.wait("some steps", act)
        _, states = rig.states_seen()
        _, said, values = probe.wait("it is told", lambda: (f := probe.status("sim_robot"))[0] == 1 and f)
    finally:
        nodes.stop()
        probe.close()
    assert said == "commands beyond the robot's own limits: servo_node/delta_twist_cmds"
    assert float(values["servo_node/delta_twist_cmds largest_excess"]) == pytest.approx(0.3)
    task = make_task("lift-quick")
    observation, _ = task.reset(seed=3)
    expected = [observation["state"]]
    for _ in range(len(states) - 1):
        expected.append(task.step(np.array([0.05, 0.0, 0.02, -1.0], np.float32))[0]["state"])
    assert np.stack(expected).tobytes() == states.tobytes()


def make_string(text: str) -> Any:
    message = make_message(STRING)
    message.data = text
    return message


def test_nodes_do_not_outlive_the_one_who_started_them(other_domain: int, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from robot.table import NodeSpec; from robot.up import Up; "
        f"up = Up([NodeSpec('recorder', {{'contract': {str(SHIPPED)!r}, 'bags': {str(tmp_path)!r}}})], '', '', print); "
        "print(up.pid('recorder'), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert parent.stdout is not None
    probe = Probe()
    try:
        node = int(parent.stdout.readline())
        probe.wait("the node is there", lambda: "recorder" in probe.node.get_node_names())
        parent.send_signal(signal.SIGKILL)
        parent.wait(WAIT)
        probe.wait("it is gone", lambda: not Path(f"/proc/{node}").exists())
    finally:
        probe.close()
        parent.kill()
        parent.stdout.close()


def node_says(path: list[str]) -> str:
    """What `firsthand node guardian` says with these folders for packages, and only these."""
    program = f"import sys; sys.path[:0] = {path!r}; import firsthand; sys.exit(firsthand.main(['node', 'guardian']))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], cwd="/", capture_output=True, text=True, timeout=WAIT
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def packages(folder: Path) -> Path:
    """A copy of this environment's packages without ROS 2."""
    folder.mkdir()
    for entry in Path(np.__file__).parent.parent.iterdir():
        if entry.name != "rclpy":
            (folder / entry.name).symlink_to(entry)
    return folder


def test_without_ros_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    said = node_says([str(ROOT), str(packages(tmp_path / "site"))])
    assert said == (
        "firsthand: no ROS 2: rclpy cannot be imported; source a ROS 2 installation "
        "(such as . /opt/ros/jazzy/setup.sh), or run `pip install -c constraints.txt -e '.[ros]'`; never both\n"
    )


def test_with_two_it_is_said_which(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        found.append(tmp_path / name)
        (found[-1] / "rclpy").mkdir(parents=True)
        (found[-1] / "rclpy" / "__init__.py").touch()
    said = node_says([str(ROOT), *map(str, found), str(packages(tmp_path / "site"))])
    assert said.startswith(f"firsthand: two installations of rclpy, {found[0]}/rclpy and {found[1]}/rclpy: ")
    assert said.count("\n") == 1
