"""Node `recorder`: episodes as MCAP files, and from there into the store."""

import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from std_msgs.msg import String
from std_srvs.srv import Trigger

from episodes.errors import InputError
from robot.bag_writer import BagWriter
from robot.frames import Arrival, Frame, Frames
from robot.into_store import IntoStore
from robot.nodes.resetting import GIVEN_UP, Resetting
from robot.nodes.shell import EVERYTHING, LATCHED, STATES, Shell
from robot.recording import EpisodeKeeper, check_seen, out_of_reach, recorded_topics
from robot.reports import (
    EPISODE_TOPIC,
    OUTCOME_TOPIC,
    SENT_TOPIC,
    STEP_TOPIC,
    TRUTH_TOPIC,
    ActorStep,
    EpisodeState,
    Outcome,
    Sent,
    encode,
)
from robot.ros import message_class
from robot.taping import Tape

REPEAT = 0.25
"""Between two times that an episode is said to be under way [s]."""
SYNC = 1.0
"""Between two times that the disk is asked for [s]: what a power cut may cost."""
IMPORT = 6.0
"""How long imports that are under way are waited for at the end [s]: with the last answers less than `up` waits."""
STRING = "std_msgs/msg/String"
DIAGNOSTICS = "/diagnostics"

UNRELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)


class RecorderNode(Shell):
    """Starts, ends and keeps episodes. A full disk ends the recording, loudly, and nothing else."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.folder = Path(self.parameter("bags", "bags", "folder for the episodes' MCAP files"))
        self.store = self.parameter("store", "", "store that every episode is brought into; empty keeps bags only")
        backward = self.parameter("backward_bags", "", "folder for those that undo the task; empty begins none")
        backward_store = self.parameter("backward_store", "", "store that those are brought into")
        self.places = {False: (self.folder, self.store)}
        """Folder and store of each direction; of `True`, backward, only where there is one."""
        if backward:
            self.places[True] = (Path(backward), backward_store)
        self.place = self.parameter("place", "real", "real or sim")
        self.judged = self.parameter("judged", False, "begin no episode before somebody says how the task goes")
        self._lock = threading.RLock()
        self._imports: dict[Path, IntoStore] = {}
        """By folder."""

    def configure(self) -> None:
        contract = self.contract = self.read_contract()
        self.keeper = EpisodeKeeper(contract, datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3])
        self._problem = self._stopped = ""
        self._acknowledged = 0
        self._last_step: ActorStep | None = None
        self._end_heard = False
        self._frames = Frames(contract)
        self._pictures = {camera.topic: message_class(camera.type) for camera in contract.cameras}
        reports = [(topic, STRING) for topic in (STEP_TOPIC, SENT_TOPIC, EPISODE_TOPIC, OUTCOME_TOPIC, TRUTH_TOPIC)]
        self._topics = recorded_topics(contract, [*reports, (DIAGNOSTICS, "diagnostic_msgs/msg/DiagnosticArray")])
        self._names = {topic: self.resolve_topic_name(topic) for topic in self._topics}
        # The first frame of an episode may be made of what came before it began.
        ages = {source.topic: source.max_age for source in (*contract.observations, *contract.cameras)}
        before = {self._names[topic]: round(2e9 * age) + contract.period for topic, age in ages.items()}
        self._tape = Tape({self._names[topic]: kind for topic, kind in self._topics.items()}, before)
        self._episode = self.create_publisher(String, EPISODE_TOPIC, LATCHED)
        self._recorded = self.create_publisher(String, "recorder/recorded", LATCHED)
        for topic, kind in self._topics.items():
            self._listen(topic, message_class(kind) if topic != DIAGNOSTICS else DiagnosticArray)
        self.create_subscription(String, "guardian/reason", self._on_guardian, LATCHED)
        # A reset takes as long as it takes, and everything else goes on meanwhile.
        apart = ReentrantCallbackGroup()
        self._resetting = Resetting(self, contract.reset, apart)
        for name, answer in (
            ("start", self._start),
            ("start_evaluation", partial(self._start, evaluation=True)),
            ("start_backward", partial(self._start, backward=True)),
            ("stop", self._stop_episode),
            ("success", self._success),
            ("failure", self._failure),
            ("ready", self._hands_are_done),
        ):
            self.create_service(Trigger, f"recorder/{name}", answer)
        self.create_service(Trigger, "recorder/reset", self._reset, callback_group=apart)
        self.create_service(Trigger, "recorder/go_on", self._go_on, callback_group=apart)
        self.every(1.0, self._on_second)
        self.every(REPEAT, self._say_again)

    def activate(self) -> None:
        self._tape.claim(folder for folder, _ in self.places.values())
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._working = True
        try:
            self._publish(self.keeper.state)
            self._thread.start()
            for folder, store in self.places.values():
                if store:
                    imports = IntoStore(folder, store, self.contract_path, self.place, self._say_problem)
                    imports.start()
                    self._imports[folder] = imports
        except Exception:
            # Else the next try would find the folders taken, by this node.
            self._stop_working()
            raise

    def deactivate(self) -> None:
        with self._lock:
            if self.keeper.state.running:
                self._publish(self.keeper.end(self.now(), time.monotonic_ns(), reason="the recorder was stopped"))
        self._resetting.cancel("the recorder was stopped")
        self._stop_working()

    def _stop_working(self) -> None:
        self._working = False
        if self._thread.is_alive():
            # What belongs to the last action is still heard meanwhile. Not where a lifecycle manager asks, since the
            # thread that answers is the one that hears: then the second passes in vain. Longer only the disk may take,
            # and a recording that is complete is noted before the imports end.
            self._thread.join()
        # Only a thread that has failed leaves one.
        if (file := self._tape.end()) is not None:
            self._close(file)
        deadline = time.monotonic() + IMPORT
        for imports in self._imports.values():
            imports.stop(max(deadline - time.monotonic(), 0.0))
        self._imports.clear()
        self._tape.release()

    def _listen(self, topic: str, cls: Any) -> None:
        """Hear everything on a topic, also where its publisher does not promise that all of it comes."""

        def take(data: bytes, info: Any) -> None:
            self._take(topic, cls, data, info["source_timestamp"])

        def listen_to_unreliable(_: Any) -> None:
            if topic not in heard:
                heard.add(topic)
                self.create_subscription(cls, topic, take, UNRELIABLE, raw=True)

        heard: set[str] = set()
        events = SubscriptionEventCallbacks(incompatible_qos=listen_to_unreliable)
        qos = STATES if topic == EPISODE_TOPIC else EVERYTHING
        self.create_subscription(cls, topic, take, qos, raw=True, event_callbacks=events)

    def _take(self, topic: str, cls: Any, data: bytes, published: int) -> None:
        with self._lock:
            try:
                self._tape.take(self._names[topic], data, time.time_ns(), published)
            except OSError as error:
                self._lost(error)
            if topic in self._pictures:
                return
            if topic in self._frames.topics:
                self._frames.add(topic, deserialize_message(data, cls), published)
            elif topic in (STEP_TOPIC, SENT_TOPIC, OUTCOME_TOPIC, EPISODE_TOPIC):
                self._on_report(topic, deserialize_message(data, cls))

    def _on_report(self, topic: str, message: Any) -> None:
        """What somebody says of an episode, this node itself included: then the recording has it."""
        steady = time.monotonic_ns()
        if topic == STEP_TOPIC and (step := self.heard(ActorStep, message)) is not None:
            self._last_step = step
            self._publish(self.keeper.on_step(step, self.now(), steady))
        elif topic == SENT_TOPIC and (sent := self.heard(Sent, message)) is not None:
            self.keeper.on_sent(sent)
        elif topic == OUTCOME_TOPIC and (outcome := self.heard(Outcome, message)) is not None:
            self._publish(self.keeper.on_outcome(outcome, steady))
        elif topic == EPISODE_TOPIC and (state := self.heard(EpisodeState, message)) is not None:
            self._end_heard |= state == self.keeper.state and not state.running

    def _on_guardian(self, message: String) -> None:
        """A stop is the end of an episode: nobody goes on from there before somebody has looked."""
        with self._lock:
            self._stopped = message.data
            if self._stopped and self.keeper.state.running:
                reason = f"the guardian stopped: {self._stopped}"
                self._publish(self.keeper.end(self.now(), time.monotonic_ns(), reason=reason))

    def _lost(self, error: OSError) -> None:
        """Nothing more can be written: say so until somebody starts another episode."""
        self._say_problem(f"recording stopped: {error.strerror or error}")
        if self.keeper.state.running:
            self._publish(self.keeper.end(self.now(), time.monotonic_ns(), reason=self._problem))
        self.keeper.recording = False

    def _say_problem(self, text: str) -> None:
        self._problem = text
        self.get_logger().error(text)

    def _publish(self, state: EpisodeState | None) -> None:
        if state is not None:
            self._episode.publish(self.say(encode(state)))

    def _say_again(self) -> None:
        """Whoever moves the robot goes on for as long as somebody is there who could end it."""
        with self._lock:
            if self.active and self.keeper.state.running:
                self._publish(self.keeper.state)

    def _start(self, request: Any, response: Any, *, evaluation: bool = False, backward: bool = False) -> Any:
        with self._lock:
            try:
                response.message = self._begin(evaluation=evaluation, backward=backward)
                response.success = True
            except InputError as error:
                response.success, response.message = False, str(error)
        return response

    def _begin(self, *, evaluation: bool, backward: bool) -> str:
        """Begin an episode; its name."""
        if backward not in self.places:
            raise InputError("not started: there is no folder for what undoes the task; give it backward_bags")
        if not self.active:
            raise InputError("not started: the node is not active")
        self._check_judged("started")
        if self._resetting.under_way:
            raise InputError("not started: a reset is under way; recorder/stop gives it up")
        if self._has_stopped:
            raise InputError(f"the guardian has stopped: {self._stopped}; rearm and enable it")
        frame = self._newest()
        state = self.keeper.start(frame, frame.tick, evaluation=evaluation, backward=backward)
        try:
            self._tape.begin(self.places[backward][0] / f"{state.episode}.mcap")
        except OSError as error:
            self._lost(error)
            raise InputError(self._problem) from None
        self._problem, self._last_step, self._end_heard = "", None, False
        self._publish(state)
        return state.episode

    def _newest(self) -> Frame:
        """What is known now."""
        now = self.now()
        # To decode every picture, only to know that there is one, keeps a core busy.
        for topic, cls in self._pictures.items():
            for data, _, published in reversed(self._tape.recent(self._names[topic])):
                message = deserialize_message(data, cls)
                arrivals = self._frames.add(topic, message, published)
                stamps = self._frames.stamps(topic, message, published)
                seen = all(arrival is not Arrival.UNUSABLE for arrival, _ in arrivals)
                if seen and all((stamp or 0) <= now for stamp in stamps):
                    break
        # A simulated clock may arrive after what it stamps.
        return self._frames.frame(max(now, self._frames.common_stamp()))

    @property
    def _has_stopped(self) -> bool:
        # Whoever publishes that may be gone, and what it said last is still here.
        return bool(self._stopped and self.count_publishers("guardian/reason"))

    def _check_judged(self, what: str) -> None:
        if self.judged and not self.count_publishers(OUTCOME_TOPIC):
            raise InputError(f"not {what}: nobody says how the task goes ({OUTCOME_TOPIC}); start the rewarder")

    def _end(self, response: Any, **how: Any) -> Any:
        with self._lock:
            try:
                self._publish(self.keeper.end(self.now(), time.monotonic_ns(), **how))
                response.success, response.message = True, self.keeper.state.episode
            except InputError as error:
                response.success, response.message = False, str(error)
        return response

    def _stop_episode(self, request: Any, response: Any) -> Any:
        if self._resetting.under_way:
            self._resetting.cancel(f"{GIVEN_UP}: recorder/stop was called")
            response.success, response.message = True, "the reset was given up"
            return response
        return self._end(response, reason="stopped")

    def _success(self, request: Any, response: Any) -> Any:
        return self._end(response, terminated=True, success=True, reason="success")

    def _failure(self, request: Any, response: Any) -> Any:
        return self._end(response, terminated=True, success=False, reason="failure")

    async def _reset(self, request: Any, response: Any) -> Any:
        """Reset as the contract says, and answer when it is done. What a person does ends with `recorder/ready`."""
        try:
            self._check_between_episodes("reset")
            response.message = await self._resetting.reset()
            response.success = True
        except InputError as error:
            response.success, response.message = False, str(error)
        return response

    async def _go_on(self, request: Any, response: Any) -> Any:
        """Make ready for an episode that begins where the last one has ended. Answers why that needs a person first;
        nothing where it needs none."""
        try:
            self._check_between_episodes("gone on")
            frame = self._newest()
            check_seen(frame)
            stopped = f"the guardian has stopped: {self._stopped}; look why, then call guardian/rearm"
            response.message = stopped if self._has_stopped else out_of_reach(self.contract, frame)
            if not response.message:
                await self._resetting.between()
            response.success = True
        except InputError as error:
            response.success, response.message = False, str(error)
        return response

    def _check_between_episodes(self, what: str) -> None:
        if not self.active:
            raise InputError(f"not {what}: the node is not active")
        with self._lock:
            self.keeper.check_idle()
        self._check_judged(what)

    def _hands_are_done(self, request: Any, response: Any) -> Any:
        response.success = self._resetting.ready()
        response.message = "" if response.success else "nobody was asked for anything"
        return response

    def _run(self) -> None:
        """Bring to the disk, and finish episodes."""
        synced = time.monotonic()
        try:
            while self._working or self.keeper.recording:
                time.sleep(0.02)
                with self._lock:
                    steady = time.monotonic_ns()
                    self._publish(self.keeper.on_time(self.now(), steady))
                    file = None
                    if self.keeper.finished(self._last_step, steady, told=self._end_heard) is not None:
                        file = self._tape.end()
                        # Nothing else begins before it is on the disk.
                        self.keeper.recording = file is not None
                # Without the lock: a disk that takes seconds must not keep anybody from hearing how things are.
                if file is not None:
                    self._close(file)
                elif time.monotonic() - synced >= SYNC:
                    synced = time.monotonic()
                    self._sync()
        except Exception as error:
            self.fail(error)

    def _sync(self) -> None:
        try:
            self._tape.sync()
        except OSError as error:
            with self._lock:
                self._lost(error)

    def _close(self, file: BagWriter) -> None:
        """Finish what was recorded; from here on the episode is acknowledged."""
        try:
            file.close()
        except OSError as error:
            file.abandon()
            with self._lock:
                self._lost(error)
            return
        # First noted, then acknowledged: killed in between, it still comes into the store.
        if file.path.parent in self._imports:
            self._imports[file.path.parent].add(file.path)
        with self._lock:
            self.keeper.recording = False
            self._acknowledged += 1
            self.get_logger().info(f"episode {file.path}: {file.messages} messages")
            self._recorded.publish(self.say(str(file.path)))

    def _on_second(self) -> None:
        self._resetting.look()
        state = self.keeper.state
        problem = next(filter(None, (self._problem, *(imports.problem for imports in self._imports.values()))), "")
        values = {
            "episode": state.episode,
            "acknowledged": self._acknowledged,
            "to be imported": sum(imports.waiting for imports in self._imports.values()),
            "waiting for hands": bool(self._resetting.asks),
        }
        if problem:
            self.publish_diagnostics("error", problem, values)
        elif self._resetting.asks:
            self.publish_diagnostics("warn", f"please: {self._resetting.asks}; then call recorder/ready", values)
        else:
            summary = f"recording {state.episode}" if self.keeper.recording else "waiting"
            self.publish_diagnostics("ok", summary, values)


def make() -> RecorderNode:
    return RecorderNode()
