"""Node `actor`: a policy at the contract's rate."""

import threading
import time
from pathlib import Path
from typing import Any

from std_msgs.msg import String

from episodes.errors import InputError
from robot.acting import Actor, Waiting
from robot.frames import Arrival, Frame, Frames
from robot.messages import header_stamp
from robot.nodes.shell import EVERYTHING, LATCHED, REPORTS, SENSORS, Shell
from robot.reports import EPISODE_TOPIC, LEARNER_TOPIC, POLICY_TOPIC, STEP_TOPIC, ActorStep, EpisodeState, encode, of
from robot.ros import message_class
from robot.ticking import FIFO_PRIORITY, DeadlineThread, Lateness, ask_for_realtime

LOOK_FOR_POLICY = 0.5
"""Between two looks at the run for a newer policy, while no episode is under way [s]."""
OWNER_SILENCE = 2.0
"""The recorder says again and again that an episode is under way. After so long without that, it is over [s]."""
IDLE = 0.5
"""Longest time without an input before one looks whether to end, and says again that nothing is wanted [s]."""


class ActorNode(Shell):
    """Ticks by its own clock (`trigger` clock), or as soon as all inputs have a new message (`trigger` inputs).

    The second is for robots whose inputs come together at the contract's rate, and for simulation in lock-step. An
    input that does not come is waited for half a period, and then done without as long as its last message is not too
    old; in lock-step, where everything comes some time (`reliable_inputs`), it is waited for.
    """

    priority = FIFO_PRIORITY

    def __init__(self) -> None:
        super().__init__("actor")
        self.run_path = self.parameter("run", "", "folder of the run whose policy acts")
        self.new_path = self.parameter("new", "", "run that goes on from it, whose policy acts when there is one")
        self.backward_run = self.parameter("backward_run", "", "as run, of the policy that undoes the task")
        self.backward_new = self.parameter("backward_new", "", "as new, of that one")
        self.stochastic = self.parameter("stochastic", False, "sample actions instead of taking the mean")
        self.filter_path = self.parameter("filter", "", "calibrated fisor run that judges every action; empty: none")
        self.trigger = self.parameter("trigger", "clock", "clock or inputs")
        self.reliable = self.parameter("reliable_inputs", False, "ask publishers to repeat what was lost")
        if self.trigger not in ("clock", "inputs"):
            raise InputError(f"trigger {self.trigger!r}: expected clock or inputs")
        self._lock = threading.Condition()
        self._thread: DeadlineThread | threading.Thread | None = None
        self._looking: threading.Thread | None = None
        self._ending = threading.Event()
        self._look = threading.Event()

    def configure(self) -> None:
        if not self.run_path:
            raise InputError("node actor: give it a run: -p run:=DIR")
        contract = self._contract = self.read_contract()
        self._last_tick = self._newest = 0
        self._wanted_nothing = True
        self._stepped = 0.0
        """When a step was made last, by a clock that nobody sets."""
        self._owner_heard = 0.0
        # Who waits for every message also waits longer for whoever is slow.
        self._owner_silence = 10 * OWNER_SILENCE if self.reliable else OWNER_SILENCE
        self._unusable: dict[str, tuple[int, str]] = {}
        """How many messages of a topic could not be used, and why the newest one could not."""
        self._lateness = Lateness()
        # Of each direction; imported late, since it is heavy.
        from robot.latest_policy import LatestPolicy, judge_of

        paths = {False: (self.run_path, self.new_path)}
        if self.backward_run:
            paths[True] = (self.backward_run, self.backward_new)
        self._latest = {
            backward: LatestPolicy(run, new, contract, deterministic=not self.stochastic)
            for backward, (run, new) in paths.items()
        }
        self._backward = False
        """Whether the newest episode is of the task that undoes the other."""
        judge = judge_of(Path(self.filter_path), contract) if self.filter_path else None
        self.actor = Actor(
            contract,
            lambda: self._latest[self._backward].policy,
            stochastic=self.stochastic,
            judge=judge,
            by_number=self.reliable,
        )
        sees = any(latest.policy.camera is not None for latest in self._latest.values())
        self._frames = Frames(contract, cameras=bool(contract.cameras) and sees)
        self._steps = self.create_publisher(String, STEP_TOPIC, REPORTS)
        self._ready = {way: self.create_publisher(String, of(POLICY_TOPIC, way), LATCHED) for way in self._latest}
        for backward, latest in self._latest.items():
            self.get_logger().info(f"policy {latest.checkpoint}")
            self._say_ready(backward)
            # The run is the truth; this only says that it is worth a look.
            self.create_subscription(String, of(LEARNER_TOPIC, backward), lambda _: self._look.set(), LATCHED)
        inputs = EVERYTHING if self.reliable else SENSORS
        types = {s.topic: s.type for s in (*contract.observations, *contract.cameras)}
        self._by_header = {s.topic for s in (*contract.observations, *contract.cameras) if s.stamp == "header"}
        for topic in self._frames.topics:

            def take(message: Any, info: Any, topic: str = topic) -> None:
                self._take(topic, message, info["source_timestamp"])

            self.create_subscription(message_class(types[topic]), topic, take, inputs)
        if contract.intervention is not None:
            kind = message_class(contract.intervention.type)
            self.create_subscription(kind, contract.intervention.topic, self._on_hands, SENSORS)
        self.create_subscription(String, EPISODE_TOPIC, self._on_episode, LATCHED)
        self._period = contract.period
        self._waiting = Waiting(contract.period)
        self.every(1.0, self._on_diagnostics)

    def activate(self) -> None:
        self._ending.clear()
        if self.trigger == "clock":
            self._thread = DeadlineThread("actor", self._period, self._tick_by_clock, self.fail, realtime=self.realtime)
        else:
            self._thread = threading.Thread(target=self._run_by_inputs, name="actor", daemon=True)
        self._thread.start()
        self._looking = threading.Thread(target=self._look_for_policies, name="policies", daemon=True)
        self._looking.start()

    def deactivate(self) -> None:
        with self._lock:
            self._ending.set()
            self._lock.notify()
        self._look.set()
        if isinstance(self._thread, DeadlineThread):
            self._thread.stop()
        elif self._thread is not None:
            self._thread.join(timeout=2.0)
        if self._looking is not None:
            self._looking.join(timeout=2.0)
        if self._last_tick:
            # Says that nothing more is wanted, so that nobody waits for it.
            self._publish(ActorStep(max(self.now(), self._last_tick + 1), "", (), None))

    def _look_for_policies(self) -> None:
        """Loads between episodes, beside everything else; the next episode begins with what has been loaded."""
        while not self._ending.is_set():
            self._look.wait(LOOK_FOR_POLICY)
            self._look.clear()
            if self._ending.is_set() or self.actor.running:
                continue
            for backward, latest in self._latest.items():
                try:
                    latest.look()
                    latest.problem = ""
                except (InputError, OSError) as error:
                    # A folder on another machine may be away for a moment; the policy that is there goes on.
                    if str(error) != latest.problem:
                        self.get_logger().error(f"the newest policy cannot be used: {error}")
                    latest.problem = str(error)
                except Exception as error:
                    self.fail(error)
                    return
                self._say_ready(backward)

    def _say_ready(self, backward: bool) -> None:
        """Again and again: an episode is not begun before this was heard."""
        self._ready[backward].publish(String(data=f"{self._latest[backward].policy.policy_hash:016x}"))

    def _take(self, topic: str, message: Any, published: int) -> None:
        stamp = (header_stamp(message) or 0) if topic in self._by_header else published
        with self._lock:
            for arrival, why in self._frames.add(topic, message, published):
                if arrival is Arrival.UNUSABLE:
                    self._unusable[topic] = self._unusable.get(topic, (0, ""))[0] + 1, why
                elif arrival is Arrival.CLOCK_JUMP:
                    self.get_logger().warn(f"{topic}: the clock was set back")
                    self._last_tick, self._newest = 0, stamp
                    self._waiting.forget()
                else:
                    self._newest = max(self._newest, stamp)
            self._lock.notify()

    def _on_hands(self, message: Any) -> None:
        with self._lock:
            if self.actor.hands is not None:
                self.actor.hands.receive(message, self.now())

    def _on_episode(self, message: String) -> None:
        state = self.heard(EpisodeState, message)
        if state is None:
            return
        with self._lock:
            if self.actor.begins(state):
                self._prepare(state)
            self.actor.on_episode(state)
            self._owner_heard = time.monotonic()
            self._lock.notify()
        self._look.set()

    def _prepare(self, state: EpisodeState) -> None:
        """Take the policy of what is to be done, the newest there is. Called while the lock is held.

        Raises:
            InputError: where there is none.
        """
        self._backward = self._contract.is_backward(state.task)
        if self._backward not in self._latest:
            raise InputError(f"episode {state.episode}: there is no policy for {state.task!r}; give it backward_run")
        latest = self._latest[self._backward]
        if self.actor.policy is not latest.policy and not self.actor.stays(state):
            # Of the episode before, only the end may not have been heard.
            self.actor.abandon()
            self.actor.prepare()
            self.get_logger().info(f"policy {latest.checkpoint}")

    def _tick_by_clock(self) -> None:
        with self._lock:
            now = self.now()
            step = self._step(self._frames.frame(now), now)
        self._publish(step)

    def _run_by_inputs(self) -> None:
        if self.realtime:
            ask_for_realtime()
        try:
            while not self._ending.is_set():
                with self._lock:
                    tick = self._due()
                    if not tick:
                        self._lock.wait(timeout=self._patience())
                        continue
                    step = self._step(self._frames.frame(tick), max(self.now(), tick))
                self._publish(step)
        except Exception as error:
            self.fail(error)

    def _step(self, frame: Frame, now: int) -> ActorStep:
        """Called while the lock is held."""
        if self.actor.running and time.monotonic() - self._owner_heard > self._owner_silence:
            self.get_logger().error(f"nothing was heard of the episode for {self._owner_silence:g} s: holding still")
            self.actor.abandon()
        step = self.actor.step(frame, now)
        self._last_tick, self._wanted_nothing = frame.tick, not step.acts
        self._waiting.stepped(now)
        self._stepped = time.monotonic()
        return step

    def _due(self) -> int:
        """The tick that a step is due at; 0 where none is."""
        complete, newest = self._frames.common_stamp(), self._newest
        if complete >= self._last_tick + self._period // 2:
            return complete
        if self.reliable:
            # In lock-step nothing comes before there is an answer: an episode begins on what was looked at before, and
            # between episodes somebody who has only just come waits for a step, too.
            due = self.actor.running or time.monotonic() - self._stepped >= IDLE
            return complete if complete == self._last_tick and self._wanted_nothing and due else 0
        partly = self._last_tick and newest >= self._last_tick + self._period // 2
        return newest if partly and self._waiting.over(self.now()) else 0

    def _patience(self) -> float:
        """How long to wait for a message [s]."""
        partly = not self.reliable and self._newest >= self._last_tick + self._period // 2
        return min(IDLE, self._period / 8e9) if partly else IDLE

    def _publish(self, step: ActorStep) -> None:
        self._steps.publish(self.say(encode(step)))
        self._lateness.add(step.late)

    def _on_diagnostics(self) -> None:
        with self._lock:
            unusable = dict(self._unusable)
        values = {
            "policy": self._latest[self._backward].checkpoint,
            "steps": self.actor.steps,
            **({} if self.actor.judge is None else {f"filter: {what}": n for what, n in self.actor.rulings.items()}),
            **self._lateness.summary(),
            **{f"unusable: {topic}": f"{count}, the newest: {why}" for topic, (count, why) in unusable.items()},
            "realtime": self.realtime,
        }
        problem = next(filter(None, (latest.problem for latest in self._latest.values())), "")
        if problem:
            self.publish_diagnostics("error", f"the newest policy cannot be used: {problem}", values)
        else:
            self.publish_diagnostics("ok", "acting" if self.actor.running else "waiting", values)


def make() -> ActorNode:
    return ActorNode()
