"""What the monitor hears of a robot's nodes, and the one thing that it asks for: a stop.

A bystander: whatever comes often is subscribed to without a promise that all of it comes, and nothing comes through
memory that is shared, so that nobody ever waits for a monitor that is slow, stopped or gone.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from episodes.errors import InputError
from robot.contract import RobotContract
from robot.monitor.views import Views
from robot.monitor.watch import Watch
from robot.nodes.shell import LATCHED, LEVELS, STATES
from robot.reports import (
    BACKWARD,
    EPISODE_TOPIC,
    LEARNER_TOPIC,
    OUTCOME_TOPIC,
    POLICY_TOPIC,
    SENT_TOPIC,
    STEP_TOPIC,
    ActorStep,
    EpisodeState,
    Outcome,
    Sent,
    decode,
    of,
)
from robot.ros import message_class
from robot.spinning import SpinningNode

LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Pictures and measurements: only the newest is shown."""
PASSING = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Reports: as many as come while this process is kept from the processor."""
TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
"""Variable of the environment that Fast DDS looks at; other middleware does not know it."""
LOOK = 0.05
"""Between two looks whether somebody wants a stop that was not answered yet [s]."""
MOST_PENDING = 40
"""Calls of one stop that may be without an answer."""
TELLING = ("guardian", "recorder", "actor", "sim_robot")
"""Nodes that know where the robot's contract is."""

R = TypeVar("R")


class Listener:
    """A node that hears; a context manager.

    Args:
        namespace: of the robot's topics.
    """

    def __init__(self, namespace: str = ""):
        self._beside = SpinningNode("monitor", namespace, enable_rosout=False)
        self._namespace = self._beside.namespace
        self._watch: Watch | None = None
        self._asking = threading.Lock()

    def __enter__(self) -> "Listener":
        with _apart():
            self._node = self._beside.__enter__().node
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.__exit__()

    def contract_path(self, timeout: float) -> Path:
        """Where the nodes that are up have the robot's contract from.

        Raises:
            InputError: where no node answers within `timeout` s, or its file is not on this machine.
        """
        found = self._parameter("contract", TELLING, timeout)
        if not found:
            where = f" in namespace {self._namespace}" if self._namespace else ""
            raise InputError(
                f"no node of a robot answers{where}: start them (firsthand up ...), say --namespace, or give --contract"
            )
        path = Path(found)
        if not path.is_file():
            raise InputError(f"the robot's contract, {path}, is not on this machine: give --contract FILE")
        return path

    def _parameter(self, name: str, nodes: Sequence[str], timeout: float) -> str:
        """A parameter's text, of the first of these nodes that has one; empty where none answers in time."""
        clients = [self._node.create_client(GetParameters, f"{node}/get_parameters") for node in nodes]
        deadline = time.monotonic() + timeout
        asked: dict[int, Any] = {}
        try:
            while time.monotonic() < deadline:
                for place, client in enumerate(clients):
                    if place not in asked and client.service_is_ready():
                        asked[place] = client.call_async(GetParameters.Request(names=[name]))
                for future in asked.values():
                    if future.done() and future.result().values and future.result().values[0].string_value:
                        return future.result().values[0].string_value
                time.sleep(LOOK)
            return ""
        finally:
            for client in clients:
                self._beside.by_spinning(self._node.destroy_client, client)

    def begin(self, watch: Watch, views: Views) -> None:
        """From now on tell what is heard."""
        self._watch = watch
        self._stop = self._node.create_client(Trigger, "guardian/stop")
        self._pending: deque[Any] = deque()
        contract = watch.contract
        self._listen_to_inputs(contract, watch)
        for camera in contract.cameras:
            view = views.views[camera.name]
            self._listen(message_class(camera.type), camera.topic, view.take, LATEST, raw=True)
        self._listen(String, STEP_TOPIC, _reading(ActorStep, watch.on_step), PASSING)
        self._listen(String, SENT_TOPIC, _reading(Sent, watch.on_sent), PASSING)
        self._listen(String, OUTCOME_TOPIC, _reading(Outcome, lambda outcome, _: watch.on_outcome(outcome)), PASSING)
        self._listen(String, EPISODE_TOPIC, _reading(EpisodeState, watch.on_episode), STATES)
        self._listen(String, LEARNER_TOPIC, lambda m, at: watch.on_learner(m.data, at), LATCHED)
        undoing = of(LEARNER_TOPIC, True)
        self._listen(String, undoing, lambda m, at: watch.on_learner(m.data, at, backward=True), LATCHED)
        self._listen(String, POLICY_TOPIC, lambda m, _: watch.on_policy(m.data), LATCHED)
        self._listen(String, "recorder/asks", lambda m, _: watch.on_asks(m.data), LATCHED)
        self._listen(String, "guardian/reason", lambda m, _: watch.on_reason(m.data), LATCHED)
        self._listen(Bool, "guardian/stopped", lambda m, _: watch.on_stopped(m.data), LATCHED)
        self._listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, PASSING)
        self._node.create_timer(LOOK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Ask the guardian to stop the robot, now, and again until it says that it has; from any thread."""
        assert self._watch is not None, "it has begun"
        self._watch.stop(time.monotonic_ns())
        self._look()

    def _listen_to_inputs(self, contract: RobotContract, watch: Watch) -> None:
        by_topic: dict[str, list[int]] = {}
        for index, observation in enumerate(contract.observations):
            by_topic.setdefault(observation.topic, []).append(index)
        for topic, indices in by_topic.items():
            cls = message_class(contract.observations[indices[0]].type)

            def take(data: bytes, at: int, indices: list[int] = indices, cls: Any = cls) -> None:
                # Most messages of a fast sensor are not shown, and reading one is what costs.
                wanted = [index for index in indices if watch.wants(index, at)]
                if wanted:
                    message = deserialize_message(data, cls)
                    for index in wanted:
                        watch.on_input(index, message, at)

            self._listen(cls, topic, take, LATEST, raw=True)

    def _listen(
        self, cls: Any, topic: str, take: Callable[[Any, int], None], qos: QoSProfile, *, raw: bool = False
    ) -> None:
        def heard(message: Any, info: Any) -> None:
            at = time.monotonic_ns()
            if qos in (LATCHED, STATES):
                # What is latched may have been said long ago.
                at -= max(time.time_ns() - info["source_timestamp"], 0)
            take(message, at)

        self._node.create_subscription(cls, topic, heard, qos, raw=raw)

    def _on_diagnostics(self, message: Any, at: int) -> None:
        assert self._watch is not None
        before = f"{self._namespace.removeprefix('/')}/" if self._namespace else ""
        levels = {level: name for name, level in LEVELS.items()}
        for status in message.status:
            name, separator, _ = status.name.removeprefix(before).partition(": ")
            ours = status.hardware_id == "firsthand" and status.name.startswith(before)
            if ours and separator and "/" not in name.removeprefix(f"{BACKWARD}/"):
                values = {value.key: value.value for value in status.values}
                self._watch.on_node(name, levels.get(status.level, "error"), status.message, values, at)

    def _look(self) -> None:
        """Ask for a stop where one is wanted and not answered."""
        assert self._watch is not None
        now = time.monotonic_ns()
        with self._asking:
            if not self._watch.stop_due(now):
                return
            while self._pending and (self._pending[0].done() or len(self._pending) >= MOST_PENDING):
                # One that is never answered would be kept for ever.
                self._stop.remove_pending_request(self._pending.popleft())
            if not self._stop.service_is_ready():
                self._watch.stop_tried(now, "nobody offers guardian/stop")
                return
            future = self._stop.call_async(Trigger.Request())
            self._pending.append(future)
            self._watch.stop_tried(now)
        future.add_done_callback(self._on_answer)

    def _on_answer(self, future: Any) -> None:
        assert self._watch is not None
        if future.cancelled() or future.exception() is not None:
            self._watch.stop_answered(False, f"the call failed: {future.exception()}")
            return
        self._watch.stop_answered(future.result().success, future.result().message)


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Make nodes that hear over sockets only, unless somebody has said how.

    Fast DDS has locks in the memory that it shares: a process that is frozen at the wrong moment can hold up everybody
    who writes there, for seconds. A socket that nobody reads only loses. With ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
    rmw_fastrtps shares memory whatever is asked for.
    """
    if TRANSPORTS in os.environ:
        yield
        return
    os.environ[TRANSPORTS] = "UDPv4"
    try:
        yield
    finally:
        del os.environ[TRANSPORTS]


def _reading(cls: type[R], take: Callable[[R, int], None]) -> Callable[[Any, int], None]:
    """Takes what can be read as a report; what cannot be is somebody else's mistake, and told by who acts on it."""

    def read(message: Any, at: int) -> None:
        with contextlib.suppress(InputError):
            take(decode(cls, message.data), at)

    return read


def read_picture(data: bytes, kind: str) -> Any:
    """A message of a camera, from what came."""
    return deserialize_message(data, message_class(kind))
