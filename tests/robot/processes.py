"""Nodes in processes of their own, which can be killed, and a probe that hears and says whatever a test wants."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from robot.contract import RobotContract
from robot.contract_file import read_robot_contract
from robot.frames import Frames
from robot.messages import header_stamp
from robot.reports import (
    EPISODE_TOPIC,
    OUTCOME_TOPIC,
    SENT_TOPIC,
    STEP_TOPIC,
    ActorStep,
    EpisodeState,
    Outcome,
    Sent,
    decode,
)
from robot.table import NodeSpec, Value
from robot.table import nodes as specs_of
from robot.up import Up

WAIT = 150.0
"""Longest time that anything is waited for [s]: two busy cores are slow."""
logger = logging.getLogger("nodes")
logger.setLevel(logging.INFO)

T = TypeVar("T")
Message = Any


class Heard:
    """A message, and when it came [s of monotonic time]."""

    def __init__(self, message: Message):
        self.message, self.at = message, time.monotonic()
        self._report: Any = None

    def report(self, cls: type[T]) -> T:
        """What a node said in it, decoded once."""
        if self._report is None:
            self._report = decode(cls, self.message.data)
        return self._report


class Probe:
    """A node in the test's own process."""

    def __init__(self, namespace: str = ""):
        from robot.spinning import SpinningNode

        self._beside = SpinningNode("probe", namespace).__enter__()
        self.node = self._beside.node
        self.changed = threading.Condition()
        self._heard: dict[str, list[Heard]] = {}
        self._latched: set[str] = set()
        self._publishers: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}

    def close(self) -> None:
        self._beside.__exit__()

    def listen(self, topic: str, kind: str, *, latched: bool = False) -> None:
        """From now on hear a topic."""
        from robot.nodes.shell import EVERYTHING, STATES
        from robot.ros import message_class

        if topic in self._heard:
            return
        self._heard[topic] = []
        self._latched |= {topic} if latched else set()

        def take(message: Message) -> None:
            with self.changed:
                self._heard[topic].append(Heard(message))
                self.changed.notify_all()

        self.node.create_subscription(message_class(kind), topic, take, STATES if latched else EVERYTHING)

    def heard(self, topic: str) -> list[Heard]:
        with self.changed:
            return list(self._heard[topic])

    def reports(self, cls: type[T], topic: str) -> list[T]:
        """What nodes said to each other, decoded."""
        return [heard.report(cls) for heard in self.heard(topic)]

    def forget(self) -> None:
        """From here on only what comes next counts, and what is latched."""
        with self.changed:
            for topic, heard in self._heard.items():
                del heard[: -1 if topic in self._latched else len(heard)]

    def wait(self, what: str, condition: Callable[[], T], timeout: float = WAIT) -> T:
        """Wait until something is so; returns what the condition did."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < deadline, f"still not so after {timeout:g} s: {what}"
            with self.changed:
                self.changed.wait(0.05)
        return found

    def publish(self, topic: str, kind: str, message: Message, qos: str = "RELIABLE", listeners: int = 1) -> None:
        """Say something; so many listeners have been found first. `qos` is the name of one in robot/nodes/shell.py."""
        from robot.nodes import shell
        from robot.ros import message_class

        if topic not in self._publishers:
            quality = getattr(shell, qos)
            publisher = self._publishers[topic] = self.node.create_publisher(message_class(kind), topic, quality)
            self.wait(f"{listeners} listen on {topic}", lambda: publisher.get_subscription_count() >= listeners)
        self._publishers[topic].publish(message)

    def silence(self, topic: str) -> None:
        """Publish there no more."""
        ended = self._beside.by_spinning(self.node.destroy_publisher, self._publishers.pop(topic))
        self.wait(f"{topic} is let go", ended.done)

    def call(self, service: str, kind: str = "std_srvs/srv/Trigger", **fields: Any) -> Any:
        """Call a service and wait for its answer."""
        return self.wait(f"{service} answers", self.ask(service, kind, **fields))

    def ask(self, service: str, kind: str = "std_srvs/srv/Trigger", **fields: Any) -> Callable[[], Any]:
        """Call a service; returns what gives the answer when it is there, and None until then."""
        from robot.ros import message_class

        if service not in self._clients:
            self._clients[service] = self.node.create_client(message_class(kind), service)
        client = self._clients[service]
        self.wait(f"somebody offers {service}", client.service_is_ready)
        future = client.call_async(message_class(kind).Request(**fields))
        return future.result

    def set(self, node: str, **values: Value) -> Any:
        """Set parameters of a node."""
        from rclpy.parameter import Parameter

        parameters = [Parameter(name.replace("__", "."), value=v).to_parameter_msg() for name, v in values.items()]
        answer = self.call(f"{node}/set_parameters", "rcl_interfaces/srv/SetParameters", parameters=parameters)
        return answer.results

    def status(self, node: str) -> tuple[int, str, dict[str, str]]:
        """The newest diagnostics of a node: level, summary, values."""
        name = f"{self.node.get_namespace()}/{node}".lstrip("/")
        statuses = [s for h in self.heard("/diagnostics") for s in h.message.status if s.name == f"{name}: state"]
        if not statuses:
            return -1, "", {}
        return statuses[-1].level[0], statuses[-1].message, {value.key: value.value for value in statuses[-1].values}


class Nodes:
    """Nodes of one robot. Each can be killed, and started again."""

    def __init__(self, contract: Path, namespace: str = "", params_file: str = "", **common: Value):
        self.contract = contract
        self._namespace, self._params_file = namespace, params_file
        self._common: dict[str, Value] = {"contract": str(contract), **common}
        self._processes: dict[str, Up] = {}
        self.lines: list[str] = []

    def start(self, name: str, **parameters: Value) -> None:
        """`fault__drop` is the parameter `fault.drop`."""
        given = {key.replace("__", "."): value for key, value in parameters.items()}
        self._start([NodeSpec(name, self._common | given)])

    def start_set(self, kind: str, **given: Value) -> None:
        """Start what `firsthand up` starts."""
        self._start(specs_of(kind, self._common | given))

    def _start(self, specs: Sequence[NodeSpec]) -> None:
        processes = Up(specs, self._namespace, self._params_file, self._say)
        self._processes |= {spec.path: processes for spec in specs}

    def _say(self, line: str) -> None:
        self.lines.append(line)
        logger.info(line)

    def pid(self, name: str) -> int:
        return self._processes[name].pid(name)

    def kill(self, name: str) -> float:
        """SIGKILL; when that was [s of monotonic time]."""
        os.kill(self.pid(name), signal.SIGKILL)
        at = time.monotonic()
        self.ended(name)
        return at

    def ended(self, name: str) -> int:
        """Wait for a node's end; with what it ended."""
        deadline = time.monotonic() + WAIT
        while (status := self._processes[name].status(name)) is None:
            assert time.monotonic() < deadline, f"{name} does not end"
            time.sleep(0.01)
        return status

    def running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].status(name) is None

    def said(self, name: str) -> str:
        """How a node ended, and its last words."""
        self.ended(name)
        return self._processes[name].problem(name)

    def stop(self, *names: str) -> list[int]:
        """End nodes, all where none is named; with what they ended."""
        names = names or tuple(self._processes)
        for name in names:
            self._processes[name].stop()
        return [self.ended(name) for name in names]


class Rig:
    """A simulated robot with its nodes, and a probe beside them that hears all of it."""

    def __init__(self, nodes: Nodes, probe: Probe):
        self.nodes, self.probe = nodes, probe
        self.episode = ""
        """That `begin` has begun."""
        self.contract: RobotContract = read_robot_contract(nodes.contract)
        for topic in (STEP_TOPIC, SENT_TOPIC, OUTCOME_TOPIC):
            probe.listen(topic, "std_msgs/msg/String")
        for topic in (EPISODE_TOPIC, "guardian/reason", "recorder/recorded", "recorder/asks"):
            probe.listen(topic, "std_msgs/msg/String", latched=True)
        probe.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        for source in (*self.contract.observations, *self.contract.commands):
            probe.listen(source.topic, source.type)

    @property
    def steps(self) -> list[ActorStep]:
        return self.probe.reports(ActorStep, STEP_TOPIC)

    @property
    def sent(self) -> list[Sent]:
        return self.probe.reports(Sent, SENT_TOPIC)

    @property
    def states(self) -> list[EpisodeState]:
        return self.probe.reports(EpisodeState, EPISODE_TOPIC)

    @property
    def outcomes(self) -> list[Outcome]:
        return self.probe.reports(Outcome, OUTCOME_TOPIC)

    @property
    def reason(self) -> str:
        """Why the guardian has stopped; empty while it has not."""
        heard = self.probe.heard("guardian/reason")
        return heard[-1].message.data if heard else ""

    def commands(self, topic: str) -> list[tuple[float, list[float]]]:
        """When and what was sent to a topic."""
        from robot.messages import path_of

        (command,) = (command for command in self.contract.commands if command.topic == topic)
        paths = [path_of(field.path) for field in command.fields]
        return [(h.at, [float(path.get(h.message)) for path in paths]) for h in self.probe.heard(topic)]

    def states_seen(self) -> tuple[np.ndarray, np.ndarray]:
        """What the robot measured where all of it came: stamps [ns], shape (n,), and states, shape (n, S)."""
        frames = Frames(self.contract, cameras=False, kept=None)
        for topic in frames.topics:
            for heard in self.probe.heard(topic):
                frames.add(topic, heard.message, 0)
        first = self.contract.observations[0].topic
        stamps = sorted({header_stamp(heard.message) or 0 for heard in self.probe.heard(first)})
        found = [frames.frame(stamp) for stamp in stamps]
        found = [frame for frame in found if set(frame.stamps) == {frame.tick}]
        return np.array([frame.tick for frame in found]), np.array([frame.state for frame in found])

    def hand(self, newest: int) -> np.ndarray:
        """Where the hand was measured the last so many times [m], shape (n, 3)."""
        poses = [h.message.pose.position for h in self.probe.heard("cartesian_pose_broadcaster/pose")[-newest:]]
        return np.array([[pose.x, pose.y, pose.z] for pose in poses])

    def ready(self) -> None:
        """Wait until the nodes are there and hear each other."""
        probe = self.probe
        for topic in (STEP_TOPIC, SENT_TOPIC, EPISODE_TOPIC):
            probe.wait(f"somebody publishes {topic}", lambda topic=topic: probe.node.count_publishers(topic))
        self.insist("recorder/reset")

    def insist(self, service: str, kind: str = "std_srvs/srv/Trigger", **fields: Any) -> str:
        """Call until it is granted; what it said."""
        said = [""]

        def granted() -> bool:
            answer = self.probe.call(service, kind, **fields)
            said[0] = answer.message
            return answer.success

        try:
            self.probe.wait(f"{service} is granted", granted)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said: {said[0]}; the nodes said: {self.nodes.lines[-8:]}") from None
        return said[0]

    def enable(self) -> None:
        self.insist("guardian/enable", "std_srvs/srv/SetBool", data=True)

    def begin(self) -> str:
        """Reset, enable where it is not, and start an episode; its name."""
        if self.reason:
            self.insist("guardian/rearm")
        self.probe.call("guardian/enable", "std_srvs/srv/SetBool", data=False)
        if self.states and self.states[-1].running:
            self.probe.call("recorder/stop")
        self.insist("recorder/reset")
        self.enable()
        self.probe.forget()

        def started() -> str:
            # Where the guardian has stopped in between, no start is granted before it is rearmed.
            if self.reason:
                self.probe.call("guardian/rearm")
                self.probe.call("guardian/enable", "std_srvs/srv/SetBool", data=True)
            answer = self.probe.call("recorder/start")
            return answer.message if answer.success else ""

        self.episode = self.probe.wait("an episode begins", started)
        return self.episode

    def moving(self, steps: int = 4) -> str:
        """An episode under way in which so many commands have moved the robot; begun anew where it did not come so far.

        A machine that is too busy lets steps come late, and then the guardian rightly stops.
        """
        for _ in range(5):
            name = self.begin()
            self.probe.wait("it moves or stops", lambda: self.reason or len(self._followed()) >= steps)
            if not self.reason:
                return name
        raise AssertionError(f"the guardian stops again and again: {self.reason}")

    def stopped(self) -> str:
        """Wait for a stop of the guardian; its reason."""
        return self.probe.wait("the guardian stops", lambda: self.reason)

    def ended(self, name: str) -> EpisodeState:
        """Wait for the end of an episode."""
        return self.probe.wait(
            f"{name} ends", lambda: next((s for s in self.states if s.episode == name and not s.running), None)
        )

    def recorded(self, name: str) -> Path:
        """Wait until an episode's file is complete."""

        def found() -> Path | None:
            paths = [Path(heard.message.data) for heard in self.probe.heard("recorder/recorded")]
            return next((path for path in paths if path.stem == name), None)

        return self.probe.wait(f"{name} is on the disk", found)

    def _followed(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.verdict in (1, 2) and any(abs(a) > 1e-4 for a in sent.action[:3])]


def write_contract(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path
