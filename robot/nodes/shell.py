"""What every node has: typed parameters, one life cycle, one way to end, diagnostics."""

import faulthandler
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from episodes.errors import InputError
from robot.contract import RobotContract
from robot.contract_file import read_robot_contract
from robot.reports import decode
from robot.restarting import BAD_INPUT
from robot.ticking import SWITCH, ask_for_realtime, ask_for_realtime_middleware

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
COMMANDS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STATES = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Every change of what is latched, not only the last, also for who comes late."""
REPORTS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""What was said last also reaches those who want it and come late: two sides do not find each other in one moment."""
SENSORS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Takes what reliable and best-effort publishers send, and never makes either wait."""
EVERYTHING = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)

R = TypeVar("R")

LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


class Shell(LifecycleNode):
    """A node that is configured and activated by itself when it starts, or by whoever manages it.

    A node fills in `configure`, `activate`, `deactivate` and `cleanup`; an exception in one is logged (rclpy would
    swallow it) and fails the transition. Whatever `configure` makes of publishers, subscriptions, services, clients and
    timers is taken down again by itself.
    """

    priority: int | None = None
    """That SCHED_FIFO is asked for with, for the thread that receives and the middleware's; None asks for nothing."""

    def __init__(self, name: str):
        super().__init__(name)
        self.failure: BaseException | None = None
        """What ended the node, where something did."""
        # Not an event: a signal's handler may put into this queue whatever it interrupts.
        self._ended: SimpleQueue[None] = SimpleQueue()
        self.contract_path = self.parameter("contract", "", "YAML file of the robot's contract")
        self.autostart = self.parameter("autostart", True, "configure and activate without being told to")
        self.realtime = self.parameter("realtime", True, "ask for SCHED_FIFO, and do without where it is refused")
        with_input = self.parameter("end_with_input", False, "end when standard input does: whoever started it is gone")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._kept = self._entities()
        self.active = self.began = self.ending = False
        if with_input:
            threading.Thread(target=self._end_with_input, daemon=True).start()

    def parameter(self, name: str, default: Any, what: str, *, fixed: bool = True) -> Any:
        """Declare a typed parameter and read it."""
        self.declare_parameter(name, default, ParameterDescriptor(description=what, read_only=fixed))
        return self.get_parameter(name).value

    def read_contract(self) -> RobotContract:
        if not self.contract_path:
            raise InputError(f"node {self.get_name()}: give it a contract: -p contract:=FILE")
        return read_robot_contract(Path(self.contract_path))

    def now(self) -> int:
        """ROS time [ns]."""
        return self.get_clock().now().nanoseconds

    def every(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something again and again, whatever a simulated clock does."""
        self.create_timer(seconds, work, clock=self._steady_clock)

    def say(self, report: str) -> String:
        return String(data=report)

    def heard(self, cls: type[R], message: String) -> R | None:
        """A report; None for what is none: somebody else's mistake ends nobody here."""
        try:
            return decode(cls, message.data)
        except InputError as error:
            self.get_logger().warn(f"a message that cannot be read: {error}", throttle_duration_sec=5.0)
            return None

    def publish_diagnostics(self, level: str, summary: str, values: dict[str, Any]) -> None:
        """One status, named after the node."""
        # Two robots' nodes have the same names, and this topic is everybody's.
        name = self.get_fully_qualified_name().removeprefix("/")
        status = DiagnosticStatus(level=LEVELS[level], name=f"{name}: state", message=summary)
        status.hardware_id = "firsthand"
        status.values = [KeyValue(key=key, value=f"{value}") for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def fail(self, error: BaseException) -> None:
        """End the node because of an error; from any thread."""
        if self.failure is None:
            self.failure = error
        self.stop()

    def configure(self) -> None:
        """Read the contract, make publishers and subscriptions."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop working, and leave the robot still."""

    def cleanup(self) -> None:
        """Let go of what `configure` made beside publishers, subscriptions, services, clients and timers."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._transition(self.configure)
        if result != TransitionCallbackReturn.SUCCESS:
            self._take_down()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)
        result = self._transition(self.activate)
        self.active = result == TransitionCallbackReturn.SUCCESS
        self.began |= self.active
        # What is there now stays. To look through all of it again for garbage would stop a tick for 50 ms and more.
        gc.collect()
        gc.freeze()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        result = self._transition(self.deactivate)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._take_down()
        return self._transition(self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self.active:
            self.active = False
            self._transition(self.deactivate)
        self.stop()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return TransitionCallbackReturn.FAILURE

    def run_until_stopped(self) -> None:
        """Work until a signal, a shutdown or an error."""
        if self.autostart:
            for transition in (self.trigger_configure, self.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    return
        self._ended.get()

    def stop(self) -> None:
        """End the node; from any thread, and from a signal's handler."""
        self._ended.put(None)

    def _transition(self, work: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            work()
        except InputError as error:
            self.get_logger().error(str(error))
            self._refused(error)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.get_logger().error(traceback.format_exc())
            self._refused(error)
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _refused(self, error: Exception) -> None:
        """A manager may put right what was wrong and try again; nobody else will."""
        if self.autostart or not isinstance(error, InputError):
            self.failure = self.failure or error

    def _entities(self) -> list[Any]:
        made = (self.publishers, self.subscriptions, self.services, self.clients, self.timers)
        return [entity for kind in made for entity in kind]

    def _take_down(self) -> None:
        """Destroy what was made since the node itself was."""
        kinds: list[tuple[Iterable[Any], Callable[[Any], bool]]] = [
            (self.timers, self.destroy_timer),
            (self.subscriptions, self.destroy_subscription),
            (self.services, self.destroy_service),
            (self.clients, self.destroy_client),
            (self.publishers, self.destroy_publisher),
        ]
        for found, destroy in kinds:
            for entity in [entity for entity in found if entity not in self._kept]:
                destroy(entity)

    def _end_with_input(self) -> None:
        while sys.stdin.buffer.read(4096):
            pass
        self.stop()


def run_node(make: Callable[[], Shell], arguments: Sequence[str] | None = None) -> int:
    """Run one node until it is told to stop. Returns the exit status: 2 where what it was told keeps it from beginning,
    1 for what ended it later, or for another error."""
    # A crash below Python says where it came from.
    faulthandler.enable()
    sys.setswitchinterval(SWITCH)
    # Our own handlers: rclpy's would take its context away before the last command is sent.
    rclpy.init(args=[sys.argv[0], *(arguments or [])], signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: node.stop())
        thread = threading.Thread(target=_spin, args=(executor, node), name="executor", daemon=True)
        thread.start()
        node.run_until_stopped()
        if node.active:
            node.trigger_deactivate()
        node.ending = True
        executor.shutdown(timeout_sec=1.0)
        thread.join(timeout=2.0)
        if node.failure is not None:
            return _told(node.failure, BAD_INPUT if not node.began else 1)
        return 0
    except InputError as error:
        return _told(error)
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def _told(error: BaseException, status: int = BAD_INPUT) -> int:
    if isinstance(error, InputError):
        sys.stderr.write(f"firsthand: {error}\n")
        return status
    traceback.print_exception(error)
    return 1


def _spin(executor: SingleThreadedExecutor, node: Shell) -> None:
    if node.realtime and node.priority is not None:
        node.realtime = ask_for_realtime(node.priority)
        ask_for_realtime_middleware(node.priority)
    try:
        executor.spin()
    except ExternalShutdownException:
        node.stop()
    except Exception as error:
        # An executor that is shut down takes away what a callback under way still uses.
        if not node.ending:
            node.fail(error)


def hard_exit(status: int) -> None:
    """Leave at once: the middleware's threads may hang when everything is torn down in order."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
