"""Node `sim_robot`: a simulated task behind the topics of a ros2_control robot."""

import array
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import Trigger

from episodes.errors import InputError
from episodes.typed import parse
from robot.contract import RobotContract
from robot.controllers import Controller
from robot.nodes.shell import EVERYTHING, RELIABLE, STATES, Shell
from robot.reports import EPISODE_TOPIC, OUTCOME_TOPIC, TRUTH_TOPIC, EpisodeState, encode
from robot.ros import make_message, message_class
from robot.simulated import Faults, Outgoing, SimulatedRobot
from robot.ticking import FIFO_PRIORITY, ask_for_realtime
from sim.base import Task
from sim.task import make_task

CLOCK_STEP = 0.01
"""Between two messages on /clock where simulated time is paced [s]."""
REPEAT = 0.5
"""In lock-step, time without an answer after which an observation is published again [s]."""
RESET_TIMEOUT = 20.0
"""[s]"""
FAULT = "fault."


class SimRobotNode(Shell):
    """In lock-step (`real_time_factor` 0) a step is made when every command topic has answered the observation.

    Else it is made when its period is over, as fast as the factor says. The world begins to move with an episode's
    first command; in lock-step it stands still with the episode's end, and else when the task ends or is reset.

    What goes wrong is said by the parameters `fault.*` (see `Faults`), which can be set at any time; -1 takes one away.
    """

    def __init__(self) -> None:
        super().__init__("sim_robot")
        self.task_name = self.parameter("task", "lift-quick", "the simulated task, as `firsthand collect --task`")
        self.gap = self.parameter("gap", "", "what differs from the simulator, such as friction=0.3")
        self.factor = float(self.parameter("real_time_factor", 1.0, "simulated seconds per second; 0 is lock-step"))
        self.seed = self.parameter("seed", 0, "of the first episode")
        self.judges = self.parameter("judges", True, "say how the task goes; else somebody else does, and ends it")
        if self.factor < 0:
            raise InputError(f"real_time_factor {self.factor:g}: expected 0 (lock-step) or more")
        # A robot's own computer has the time. A simulation that is faster takes all it can get.
        self.priority = FIFO_PRIORITY if 0 < self.factor <= 1 else None
        self._given = {name: self._fault_parameter(name) for name in Faults.__dataclass_fields__}
        self._faults = _faults(self._given)
        self._robot: SimulatedRobot | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.add_on_set_parameters_callback(self._on_parameters)

    def configure(self) -> None:
        contract = self.read_contract()
        self._episode = ""
        self._running = self._begun = self._ending = False
        self._wanted: Callable[[], Any] | None = None
        """What begins the next episode, where somebody waits for that: a reset, or going on."""
        self._beginnings = 0
        self._newest: list[Outgoing] = []
        cameras = tuple(camera.name for camera in contract.cameras)
        size = (contract.cameras[0].height, contract.cameras[0].width) if cameras else (84, 84)
        task = make_task(self.task_name, cameras=cameras, image_size=size, gap=self.gap or None)
        if not self.judges:
            _check_somebody_ends(contract, task)
            task.terminates_on_success = False
        self.robot = SimulatedRobot(contract, task, make_message, _as_data, self._faults, self.seed)
        self._robot = self.robot
        self._clock_out = self.create_publisher(Clock, "/clock", RELIABLE)
        # What it knows is kept apart, to measure by it whoever judges.
        self._outcome = self.create_publisher(String, OUTCOME_TOPIC if self.judges else TRUTH_TOPIC, STATES)
        self._publishers_of = {
            topic: self.create_publisher(message_class(kind), topic, RELIABLE)
            for topic, kind in self.robot.topics.items()
        }
        for controller in self.robot.controllers:
            command = controller.command
            self.create_subscription(message_class(command.type), command.topic, self._taker(controller), EVERYTHING)
        # The recorder says it again and again, and what counts is when it first did: that one must not be overtaken.
        self.create_subscription(String, EPISODE_TOPIC, self._on_episode, STATES)
        self.create_service(Trigger, "sim_robot/reset", partial(self._on_begin, lambda: self.robot.reset()))
        self.create_service(Trigger, "sim_robot/go_on", partial(self._on_begin, lambda: self.robot.go_on()))
        self.every(1.0, self._on_diagnostics)

    def activate(self) -> None:
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def cleanup(self) -> None:
        self._robot = None

    def _run(self) -> None:
        try:
            with self._changed:
                self.robot.reset()
            self._publish()
            if self.factor == 0:
                self._run_in_lock_step()
            else:
                self._run_paced()
        except Exception as error:
            self.fail(error)
        finally:
            # Whoever draws next may be another thread, and what draws belongs to this one.
            self.robot.task.close()

    def _run_in_lock_step(self) -> None:
        while True:
            with self._changed:
                told = self._moving and self.robot.told
                self._changed.wait_for(lambda: self._ending or self._wanted or self._due(), timeout=REPEAT)
                if self._ending:
                    return
                outcome, begins = None, self._wanted
                if begins:
                    self._begin(begins)
                # A controller that was never told anything is not waited for, where the others were long ago: an answer
                # in several commands is not to be taken for half of it.
                elif self._due() or (told and self._moving and self.robot.told):
                    outcome = self.robot.step()
                    self.robot.expect()
            self._publish(outcome)
            if begins:
                self._say_begun()

    @property
    def _moving(self) -> bool:
        return self._running and not self.robot.ended

    def _due(self) -> bool:
        return self._moving and self.robot.answered

    def _run_paced(self) -> None:
        contract = self.robot.contract
        # Drawing takes long, and would keep everybody else from the processor.
        if self.realtime and self.priority is not None and not contract.cameras:
            ask_for_realtime(self.priority)
        period = contract.period / 1e9 / self.factor
        deadline = time.monotonic()
        while True:
            deadline = max(deadline + period, time.monotonic())
            began = self.robot.stamp
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(min(left, CLOCK_STEP))
                passed = contract.period - max(deadline - time.monotonic(), 0.0) * self.factor * 1e9
                self._publish_clock(began + min(int(passed), contract.period))
            with self._changed:
                if self._ending:
                    return
                outcome, begins = None, self._wanted
                self._begun |= self._running and self.robot.told
                if begins:
                    self._begin(begins)
                elif self._begun and not self.robot.ended:
                    outcome = self.robot.step()
                else:
                    self.robot.wait()
                self.robot.expect()
            self._publish(outcome)
            if begins:
                self._say_begun()

    def _begin(self, begin: Callable[[], Any]) -> None:
        """Called while the lock is held."""
        begin()
        self._wanted, self._running, self._begun = None, False, False

    def _say_begun(self) -> None:
        """Only now: whoever asked for it starts an episode, and that must not begin on an old observation."""
        with self._changed:
            self._beginnings += 1
            self._changed.notify_all()

    def _publish(self, outcome: Any = None) -> None:
        """Publish the newest observation; in lock-step that may be again, for whoever was not there yet."""
        self._publish_clock(self.robot.stamp)
        for outgoing in self.robot.messages():
            if outgoing.delay == 0:
                self._publishers_of[outgoing.topic].publish(outgoing.message)
            else:
                delay = outgoing.delay / (self.factor or 1.0)
                threading.Timer(delay, self._publish_late, [outgoing]).start()
        if outcome is not None:
            self._outcome.publish(self.say(encode(outcome)))

    def _publish_late(self, outgoing: Outgoing) -> None:
        if not self._ending:
            self._publishers_of[outgoing.topic].publish(outgoing.message)

    def _publish_clock(self, stamp: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp, 1_000_000_000)
        self._clock_out.publish(message)

    def _taker(self, controller: Controller) -> Callable[[Any, Any], None]:
        def take(message: Any, info: Any) -> None:
            with self._changed:
                controller.receive(message, self.robot.stamp, info["source_timestamp"])
                self._changed.notify_all()

        return take

    def _on_episode(self, message: String, info: Any) -> None:
        state = self.heard(EpisodeState, message)
        if state is None:
            return
        with self._changed:
            if state.running and state.episode != self._episode:
                # What was sent before belongs to another time. But its first command may be here before we hear of it.
                self.robot.expect(info["source_timestamp"])
                self.robot.turn(backward=self.robot.contract.is_backward(state.task))
            self._episode, self._running = state.episode, state.running
            self._changed.notify_all()

    def _on_begin(
        self, begin: Callable[[], Any], request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if not self.active:
            response.success, response.message = False, "not begun: the node is not active"
            return response
        with self._changed:
            before = self._beginnings
            self._wanted = begin
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._beginnings > before or self._ending, RESET_TIMEOUT)
            response.success = self._beginnings > before
        response.message = f"seed {self.robot.seed}" if response.success else "the simulation does not answer"
        return response

    def _fault_parameter(self, name: str) -> float:
        """Declare it; -1 where nothing is said of it."""
        none: float = -1 if name == "seed" else -1.0
        return self.parameter(FAULT + name, none, "a fault; see Faults in robot/simulated.py", fixed=False)

    def _on_parameters(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        given = {p.name.removeprefix(FAULT): p.value for p in parameters if p.name.startswith(FAULT)}
        try:
            faults = _faults(self._given | given)
            with self._changed:
                if self._robot is not None:
                    self._robot.faults = faults
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._given, self._faults = self._given | given, faults
        return SetParametersResult(successful=True)

    def _on_diagnostics(self) -> None:
        values: dict[str, Any] = {"task": self.task_name, "seed": self.robot.seed}
        for controller in self.robot.controllers:
            counts, topic = controller.counts, controller.command.topic
            values |= {f"{topic} {key}": value for key, value in vars(counts).items()}
        inactive = [c.command.topic for c in self.robot.controllers if not c.active]
        beyond = [c.command.topic for c in self.robot.controllers if c.counts.outside]
        if inactive:
            self.publish_diagnostics("error", f"controller off: {', '.join(inactive)}", values)
        elif beyond:
            self.publish_diagnostics("warn", f"commands beyond the robot's own limits: {', '.join(beyond)}", values)
        else:
            self.publish_diagnostics("ok", "simulating", values)


def _faults(given: dict[str, float]) -> Faults:
    return parse(Faults, {name: value for name, value in given.items() if value >= 0}, "faults")


def _check_somebody_ends(contract: RobotContract, task: Task) -> None:
    """The world stands still at the task's horizon: an episode has to be over by then."""
    limit = contract.max_steps
    if limit is None or limit > task.horizon:
        raise InputError(
            f"contract {contract.name!r}: max_steps {'is missing' if limit is None else limit}; where the simulation "
            f"does not judge it is needed, and at most the task's {task.horizon}"
        )


def _as_data(data: bytes) -> Any:
    return array.array("B", data)


def make() -> SimRobotNode:
    return SimRobotNode()
