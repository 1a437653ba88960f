"""Node `rewarder`: says at every step whether the task is done, by the success classifier that made the labels."""

import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from std_msgs.msg import String

from episodes.errors import InputError, unknown
from robot.contract import CameraTopic, RobotContract
from robot.frames import Arrival, Frames
from robot.nodes.shell import EVERYTHING, REPORTS, SENSORS, STATES, Shell
from robot.reports import EPISODE_TOPIC, OUTCOME_TOPIC, STEP_TOPIC, ActorStep, EpisodeState, encode
from robot.rewarding import Rewarder
from robot.ros import message_class

MOST_WAITING = 20
"""Steps that may wait to be looked at before the oldest are given up: in real time what is late is of no use."""
DELAY = 2.0
"""For how long pictures may come before the steps that saw them [s]."""
REMEMBERED = 10
"""Episodes whose direction is kept."""


class RewarderNode(Shell):
    """Looks at the pictures of every step of the actor, in their order.

    It never asks for real time, and nothing waits for it: where it is slow, an episode goes on for as long, and what
    was done after the success is no part of it.
    """

    def __init__(self) -> None:
        super().__init__("rewarder")
        self.run_path = self.parameter("run", "", "run whose labels say what a success looks like")
        self.labeller_path = self.parameter("labeller", "", "folder of what made them; the run's own where empty")
        self.backward_run = self.parameter("backward_run", "", "as run, of what undoes the task")
        self.reliable = self.parameter("reliable_inputs", False, "ask publishers to repeat what was lost")
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def configure(self) -> None:
        from rewards.labeller import Labeller
        from rewards.watching import SuccessWatch

        contract = self.contract = self.read_contract()
        folders = {False: Path(self.labeller_path) if self.labeller_path else _labeller_of(self.run_path)}
        if self.backward_run:
            folders[True] = _labeller_of(self.backward_run)
        watches = {way: SuccessWatch(Labeller.load(folder), torch.device("cpu")) for way, folder in folders.items()}
        names = dict.fromkeys(name for watch in watches.values() for name in watch.cameras)
        cameras = tuple(_camera(contract.cameras, name, self.contract_path) for name in names)
        for watch in watches.values():
            watch.begin()
            # The first time takes long, and must not be the first step of an episode.
            watch.see({camera.name: _nothing(camera) for camera in cameras})
        self._rewarders = {way: Rewarder(watch) for way, watch in watches.items()}
        """Of each direction."""
        self.rewarder = self._rewarders[False]
        """Of the episode that was looked at last."""
        self._directions: dict[str, bool] = {}
        """Of the newest episodes."""
        self._heard_until = 0
        """Stamp of the newest thing that was heard of any [ns]."""
        self._frames = _frames(replace(contract, observations=(), cameras=cameras), reliable=self.reliable)
        self._patience = contract.period / 1e9
        self._steps: deque[tuple[ActorStep, float]] = deque()
        self._unseen = self._given_up = 0
        self._ending = False
        self._outcome: Any = None
        self.create_subscription(String, STEP_TOPIC, self._on_step, REPORTS)
        self.create_subscription(String, EPISODE_TOPIC, self._on_episode, STATES)
        inputs = EVERYTHING if self.reliable else SENSORS
        for topic, kind in {camera.topic: camera.type for camera in cameras}.items():

            def take(message: Any, info: Any, topic: str = topic) -> None:
                self._take(topic, message, info["source_timestamp"])

            self.create_subscription(message_class(kind), topic, take, inputs)
        self.every(1.0, self._on_diagnostics)

    def activate(self) -> None:
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="rewarder", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _on_step(self, message: String) -> None:
        step = self.heard(ActorStep, message)
        if step is None or not step.episode or not step.stamps:
            return
        with self._changed:
            self._steps.append((step, time.monotonic()))
            if not self.reliable and len(self._steps) > MOST_WAITING:
                self._steps.popleft()
                self._given_up += 1
            self._changed.notify()

    def _on_episode(self, message: String) -> None:
        state = self.heard(EpisodeState, message)
        if state is not None:
            with self._changed:
                self._directions[state.episode] = self.contract.is_backward(state.task)
                self._heard_until = state.stamp
                if len(self._directions) > REMEMBERED:
                    del self._directions[next(iter(self._directions))]
                self._changed.notify()

    def _take(self, topic: str, message: Any, published: int) -> None:
        with self._changed:
            found = self._frames.add(topic, message, published)
            if any(arrival is Arrival.CLOCK_JUMP for arrival, _ in found):
                self._steps.clear()
            if not self._steps:
                # Between episodes only the newest picture may still be wanted.
                self._frames.forget_before(self._frames.common_stamp())
            if self._outcome is None and self._frames.common_stamp():
                # Only now it can judge, and that somebody publishes there is how others know.
                self._outcome = self.create_publisher(String, OUTCOME_TOPIC, STATES)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while (found := self._next()) is not None:
                backward, step, images = found
                self.rewarder = self._rewarders[backward]
                outcome = self.rewarder.see(step, images)
                if outcome is not None:
                    self._outcome.publish(self.say(encode(outcome)))
        except Exception as error:
            self.fail(error)

    def _next(self) -> tuple[bool, ActorStep, dict[str, Any]] | None:
        """The next step whose pictures are there, and whether it undoes the task; None when it is time to end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._ending or self._due(), timeout=self._patience)
                if self._ending:
                    return None
                if not self._due():
                    continue
                step, _ = self._steps.popleft()
                frame = self._frames.frame(step.tick)
                self._frames.forget_before(step.tick)
                backward = self._direction(step)
                if frame.usable and backward in self._rewarders:
                    return backward, step, frame.images
                self._unseen += 1

    def _due(self) -> bool:
        """Whether what the oldest step saw is known: a picture that is newer is there, or none is waited for longer."""
        if not self._steps:
            return False
        step, heard = self._steps[0]
        # Topics do not wait for each other. But what was said of an episode may be lost, once there is a newer one.
        known = self._direction(step) is not None or self._heard_until > step.tick
        if self._frames.common_stamp() >= step.tick and known:
            return True
        return not self.reliable and time.monotonic() - heard > self._patience

    def _direction(self, step: ActorStep) -> bool | None:
        """Whether a step is of an episode that undoes the task; None where that is not known."""
        return self._directions.get(step.episode) if len(self._rewarders) > 1 else False

    def _on_diagnostics(self) -> None:
        rewarder = self.rewarder
        values = {
            "probability": f"{rewarder.probability:.3f}",
            "successes": rewarder.successes,
            "waiting": len(self._steps),
            "unseen": self._unseen,
            "given up": self._given_up,
        }
        if self._outcome is None:
            self.publish_diagnostics("warn", f"no picture yet on {', '.join(self._frames.topics)}", values)
        elif rewarder.from_start:
            what = f"the first picture of {rewarder.from_start} episodes in a row is called a success"
            self.publish_diagnostics("error", f"{what}; look at the cameras, or label again", values)
        else:
            self.publish_diagnostics("ok", "watching", values)


def _frames(contract: RobotContract, *, reliable: bool) -> Frames:
    """Of the cameras. Where one of several is dead, only what a waiting step can have seen of the others is kept."""
    kept = None if reliable else (MOST_WAITING + 2) * contract.period / 1e9 + DELAY
    return Frames(contract, kept=kept)


def _labeller_of(run: str) -> Path:
    """What made the labels of a run."""
    from finetune.data import labeller_of
    from finetune.run import Run

    if not run:
        raise InputError("node rewarder: give it a run whose labels were made by looking: -p run:=DIR")
    folder = labeller_of(Run.open(Path(run)))
    if folder is None:
        raise InputError(f"{run}: its labels were not made by looking; nothing here can say whether the task is done")
    return folder


def _camera(cameras: tuple[CameraTopic, ...], name: str, where: str) -> CameraTopic:
    found = next((camera for camera in cameras if camera.name == name), None)
    if found is None:
        raise unknown("camera", name, [camera.name for camera in cameras], where)
    return found


def _nothing(camera: CameraTopic) -> Any:
    return torch.zeros(camera.height, camera.width, 3, dtype=torch.uint8).numpy()


def make() -> RewarderNode:
    return RewarderNode()
