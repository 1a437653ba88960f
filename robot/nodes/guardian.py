"""Node `guardian`: the only publisher of the robot's commands."""

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from episodes.errors import InputError
from robot.contract_rules import check_guarded
from robot.frames import Arrival, Frames
from robot.guardian import Decision, Guardian, Surroundings, Verdict
from robot.messages import header_stamp, path_of, pressed
from robot.nodes.shell import COMMANDS, EVERYTHING, LATCHED, RELIABLE, REPORTS, SENSORS, Shell
from robot.outgoing import command_message
from robot.reports import SENT_TOPIC, STEP_TOPIC, ActorStep, Sent, decode, encode
from robot.ros import make_message, message_class
from robot.ticking import GUARDIAN_PRIORITY, DeadlineThread

LOOK_FOR_OTHERS = 1.0
"""Between two looks for other publishers of commands [s]; that takes milliseconds, and so it is not part of a tick."""
BRAKING = 8.0
"""Longest time that braking may take when the node is told to end [s]."""
LOCK_STEP_WAIT = 1.0
"""How long a step is kept waiting for the observation that it was made from [s]."""


class GuardianNode(Shell):
    """Answers every step of the actor at once, and looks around on a thread of its own in between."""

    priority = GUARDIAN_PRIORITY

    def __init__(self) -> None:
        super().__init__("guardian")
        self.lock_step = self.parameter("lock_step", False, "simulated time stands still while somebody computes")
        self.pace = float(self.parameter("real_time_factor", 1.0, "of a simulated robot: its seconds per second"))
        if not self.pace > 0:
            raise InputError(f"node guardian: real_time_factor {self.pace:g}: expected more than 0; see lock_step")
        self._lock = threading.Lock()
        self._watch: DeadlineThread | None = None
        self._guardian: Guardian | None = None

    def configure(self) -> None:
        contract = self.contract = self.read_contract()
        self._pending: tuple[ActorStep, int] | None = None
        self._force: tuple[float, int] | None = None
        self._dead_man = (False, 0)
        self._stop_pressed, self._stop_heard = False, 0
        self._foreign: tuple[str, ...] = ()
        self._stop_gone = False
        self._clock_jumped = False
        self._said_stopped: str | None = None
        check_guarded(contract)
        latched = None if self._guardian is None else self._guardian.stopped
        self.guardian = self._guardian = Guardian(contract, lock_step=self.lock_step)
        # A stop is not forgotten by being configured anew.
        self.guardian.stopped = latched
        self._frames = Frames(contract, cameras=False)
        self._scales = np.array([field.scale for _, field in contract.action_fields])
        self._commands = [
            self.create_publisher(message_class(command.type), command.topic, COMMANDS) for command in contract.commands
        ]
        self._sent = self.create_publisher(String, SENT_TOPIC, REPORTS)
        self._stopped = self.create_publisher(Bool, "guardian/stopped", LATCHED)
        self._reason = self.create_publisher(String, "guardian/reason", LATCHED)
        inputs = EVERYTHING if self.lock_step else SENSORS
        types = {source.topic: source.type for source in contract.observations}
        for topic in self._frames.topics:

            def take(message: Any, info: Any, topic: str = topic) -> None:
                self._take(topic, message, info["source_timestamp"])

            self.create_subscription(message_class(types[topic]), topic, take, inputs)
        self.create_subscription(String, STEP_TOPIC, self._on_step, RELIABLE)
        self._subscribe_to_safety()
        self.create_service(SetBool, "guardian/enable", self._on_enable)
        self.create_service(Trigger, "guardian/stop", self._on_stop)
        self.create_service(Trigger, "guardian/rearm", self._on_rearm)
        self.every(LOOK_FOR_OTHERS, self._look_for_others)
        self.every(1.0, self._on_diagnostics)

    def activate(self) -> None:
        self._tell_stopped(always=True)
        period = round(self.contract.safety.watchdog * 1e9 / self.pace)
        self._watch = DeadlineThread(
            "watchdog", period, self._on_watch, self.fail, realtime=self.realtime, priority=GUARDIAN_PRIORITY
        )
        self._watch.start()

    def deactivate(self) -> None:
        """Leave a robot that holds still: brake to rest, and only then let go."""
        if self._watch is not None:
            self._watch.stop()
        with self._lock:
            if self.guardian.enabled:
                self.guardian.stop("the guardian was told to end")
            deadline = time.monotonic() + BRAKING
            while time.monotonic() < deadline:
                decision = self.guardian.watch(self._around(), self.now(), self._steady())
                if decision is None:
                    break
                self._publish(decision)
                time.sleep(self.contract.safety.watchdog / self.pace)
            self._tell_stopped()

    def cleanup(self) -> None:
        self._watch = None

    def _steady(self) -> int:
        """Time that never goes back [ns], as it passes for the robot: a simulated one may be faster or slower."""
        return round(time.monotonic_ns() * self.pace)

    def _subscribe_to_safety(self) -> None:
        safety = self.contract.safety
        if safety.force is not None:
            self.create_subscription(message_class(safety.force.type), safety.force.topic, self._on_force, SENSORS)
        if safety.dead_man is not None:
            kind = message_class(safety.dead_man.type)
            self.create_subscription(kind, safety.dead_man.topic, self._on_dead_man, SENSORS)
        if safety.stop_topic is not None:
            # Whatever a button's publisher offers, one of these hears it; and one hears what was pressed long ago.
            for qos in (RELIABLE, SENSORS, LATCHED):
                quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
                self.create_subscription(Bool, safety.stop_topic, self._on_stop_pressed, qos, event_callbacks=quiet)

    def _take(self, topic: str, message: Any, published: int) -> None:
        with self._lock:
            for arrival, _ in self._frames.add(topic, message, published):
                self._clock_jumped |= arrival is Arrival.CLOCK_JUMP
            self._answer_pending()

    def _on_step(self, message: String) -> None:
        if not self.active:
            return
        try:
            step = decode(ActorStep, message.data)
        except InputError as error:
            with self._lock:
                self.guardian.stop(f"a step that cannot be read: {error}")
            return
        with self._lock:
            # Two at once: whatever is wrong with them, each is judged.
            self._answer_pending(longest=0.0)
            self._pending = (step, time.monotonic_ns())
            self._answer_pending()

    def _answer_pending(self, longest: float = LOCK_STEP_WAIT) -> None:
        """In lock-step a step is judged by the observation that it was made from, which may still be on its way."""
        if self._pending is None:
            return
        step, since = self._pending
        waiting = self.lock_step and step.acts and self._frames.common_stamp() < step.tick
        if waiting and time.monotonic_ns() - since < longest * 1e9:
            return
        self._pending = None
        now = max(self.now(), step.tick) if self.lock_step else self.now()
        decision = self.guardian.step(step, self._around(now), now, self._steady())
        if decision is not None:
            self._publish(decision)
            sent = Sent(
                step.tick, step.episode, tuple(decision.action.tolist()), int(decision.verdict), decision.reason
            )
            self._sent.publish(self.say(encode(sent)))
        self._tell_stopped()

    def _on_watch(self) -> None:
        with self._lock:
            self._answer_pending()
            decision = self.guardian.watch(self._around(), self.now(), self._steady())
            if decision is not None:
                self._publish(decision)
            self._tell_stopped()

    def _around(self, now: int | None = None) -> Surroundings:
        if self._clock_jumped:
            self._clock_jumped = False
            self.guardian.stop("an input's clock was set back")
        force, force_stamp = self._force if self._force is not None else (None, 0)
        return Surroundings(
            frame=self._frames.frame(self.now() if now is None else now),
            force=force,
            force_stamp=force_stamp,
            dead_man=self._dead_man[0],
            dead_man_stamp=self._dead_man[1],
            stop_pressed=self._stop_pressed,
            stop_stamp=self._stop_heard,
            stop_gone=self._stop_gone,
            foreign=self._foreign,
        )

    def _publish(self, decision: Decision) -> None:
        place, stamp = 0, self.now()
        period = max(self.contract.period, round(decision.dt * 1e9))
        for command, publisher in zip(self.contract.commands, self._commands, strict=True):
            values = decision.commands[place : place + len(command.fields)]
            place += len(command.fields)
            # Not a number: nobody has asked this one for anything yet.
            if not np.isnan(values).any():
                publisher.publish(command_message(command, values.tolist(), stamp, period, make_message))

    def _tell_stopped(self, *, always: bool = False) -> None:
        """Publish the latch where it has changed; whoever joins later gets it, too."""
        stopped = self.guardian.stopped
        if stopped == self._said_stopped and not always:
            return
        if stopped is not None:
            self.get_logger().error(f"stopped: {stopped}")
        self._said_stopped = stopped
        self._stopped.publish(Bool(data=stopped is not None))
        self._reason.publish(self.say(stopped or ""))

    def _on_force(self, message: Any) -> None:
        force = self.contract.safety.force
        assert force is not None
        try:
            values = [float(path_of(path).get(message)) for path in force.paths]
        except (LookupError, TypeError, ValueError):
            # No number is below no limit.
            values = [math.nan]
        norm = float(np.linalg.norm(values))
        with self._lock:
            self._force = (norm, header_stamp(message) or self.now())
            # What hits hard and shortly is over before anybody looks.
            if self.guardian.enabled and not norm <= force.limit:
                self.guardian.stop(f"the force was {norm:.4g} N, the limit {force.limit:g} N")

    def _on_dead_man(self, message: Any) -> None:
        switch = self.contract.safety.dead_man
        assert switch is not None
        try:
            held = pressed(path_of(switch.path).get(message))
        except (LookupError, TypeError, ValueError):
            held = False
        with self._lock:
            self._dead_man = (held, header_stamp(message) or self.now())

    def _on_stop_pressed(self, message: Bool) -> None:
        with self._lock:
            # Before the first message on /clock it is 0 o'clock.
            self._stop_pressed, self._stop_heard = message.data, max(self.now(), 1)
            if message.data:
                self.guardian.stop(f"{self.contract.safety.stop_topic} was pressed")
                self._tell_stopped()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        def enable() -> str:
            if not request.data:
                self.guardian.disable()
                return "disabled"
            if not self.active:
                raise InputError("not enabled: the node is not active")
            self._look_for_others()
            self._publish(self.guardian.enable(self._around(), self.now(), self._steady()))
            return "enabled"

        return self._answered(response, enable)

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def stop() -> str:
            self.guardian.stop("somebody called guardian/stop")
            return "stopped"

        return self._answered(response, stop)

    def _on_rearm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def rearm() -> str:
            self.guardian.rearm(self._around(), self.now(), self._steady())
            return "rearmed; enable it to move"

        return self._answered(response, rearm)

    def _answered(self, response: Any, work: Callable[[], str]) -> Any:
        """Do what a service asks for; a refusal is an answer."""
        with self._lock:
            try:
                response.success, response.message = True, work()
            except InputError as error:
                response.success, response.message = False, str(error)
            self._tell_stopped()
        return response

    def _look_for_others(self) -> None:
        """Who else publishes commands, and whether somebody publishes the stop button.

        The graph is slow to forget: whoever is named, or counted, may have left seconds ago.
        """
        own, mine, found = self.get_fully_qualified_name(), 0, []
        for command in self.contract.commands:
            for end in self.get_publishers_info_by_topic(self.resolve_topic_name(command.topic)):
                name = f"{end.node_namespace.rstrip('/')}/{end.node_name}"
                mine += name == own
                if name != own:
                    found.append(f"{name} on {command.topic}")
        if not found and mine > len(self.contract.commands):
            found.append("a second guardian, or one that was killed less than half a minute ago")
        self._foreign = tuple(found)
        button = self.contract.safety.stop_topic
        self._stop_gone = button is not None and not self.count_publishers(self.resolve_topic_name(button))

    def _on_diagnostics(self) -> None:
        with self._lock:
            guardian, watch = self.guardian, self._watch
            values: dict[str, Any] = {verdict.name.lower(): guardian.counts[verdict] for verdict in Verdict if verdict}
            stopped, enabled = guardian.stopped, guardian.enabled
        values |= {"enabled": enabled, "other publishers": ", ".join(self._foreign) or "none"}
        if watch is not None:
            values |= {f"watchdog {key} [ms]": value for key, value in watch.lateness.summary().items()}
            values["realtime"] = watch.realtime
        level = "error" if stopped else "warn" if self._foreign else "ok"
        self.publish_diagnostics(level, f"stopped: {stopped}" if stopped else "guarding", values)


def make() -> GuardianNode:
    return GuardianNode()
