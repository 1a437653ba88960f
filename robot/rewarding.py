"""Whether the task is done, said at once: the rewarder without ROS."""

from typing import Protocol

import numpy as np

from robot.reports import ActorStep, Outcome


class Seen(Protocol):
    """See `rewards.watching.Seen`."""

    @property
    def probability(self) -> float: ...
    @property
    def success(self) -> bool: ...
    @property
    def from_start(self) -> bool: ...


class Watch(Protocol):
    """Looks at frames: `rewards.watching.SuccessWatch`, or what a test says."""

    cameras: tuple[str, ...]

    def begin(self) -> None: ...
    def see(self, images: dict[str, np.ndarray]) -> Seen: ...


class Rewarder:
    """From what the cameras saw at the actor's steps to outcomes, until an episode is a success."""

    def __init__(self, watch: Watch):
        self._watch = watch
        self._episode = ""
        self._frames = 0
        self._over = False
        self.probability = float("nan")
        """That the newest frame shows a success."""
        self.successes = 0
        """Episodes that were called one."""
        self.from_start = 0
        """Episodes in a row that would have been a success before anything was done."""

    def see(self, step: ActorStep, images: dict[str, np.ndarray]) -> Outcome | None:
        """Look at the frame of a step. What an action has led to is known from the second one on."""
        if step.episode != self._episode:
            self._episode, self._frames, self._over = step.episode, 0, False
            self._watch.begin()
        if not step.episode or self._over:
            return None
        seen = self._watch.see(images)
        self._frames += 1
        self.probability = seen.probability
        if self._frames == 1:
            self.from_start = self.from_start + 1 if seen.from_start else 0
            return None
        self._over = seen.success
        self.successes += seen.success
        return Outcome(step.tick, seen.success, seen.success)
