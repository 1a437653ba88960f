"""Episodes on a robot: when one begins and ends, and what has to be there for it. The recorder without ROS."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from episodes.errors import InputError
from robot.contract import RobotContract
from robot.frames import Frame
from robot.reports import ActorStep, EpisodeState, Outcome, Sent

AFTER = 1_000_000_000
"""Longest that recording goes on after an episode's end, for what belongs to its last action [ns of steady time]."""
GRACE = 1_000_000_000
"""By how much an episode may last longer than its steps take, before time alone ends it [ns]."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An episode that was recorded to its end."""

    state: EpisodeState
    complete: bool
    """Whether the observation after the last action was seen."""


class EpisodeKeeper:
    """Says which episode is under way. Everybody else listens to `state`."""

    def __init__(self, contract: RobotContract, prefix: str):
        """`prefix`: of episode names, which have to be unique among all recordings of a store."""
        self.contract = contract
        self.state = EpisodeState("", False, 0)
        self.recording = False
        """Whether messages are kept: from an episode's start to the observation after its last action."""
        self._prefix = prefix
        self._number = 0
        self._until = 0
        self._begin()

    def _begin(self) -> None:
        """Nothing is known yet of what happened in an episode."""
        self._acted: set[int] = set()
        """Ticks of the actor's steps that want something."""
        self._answered: set[int] = set()
        """Ticks that the guardian answered."""
        self._judged = 0
        """Stamp of the newest outcome."""
        self._closing = 0
        """Stamp at which time is up, while whoever judges has not come so far; else 0."""

    def start(self, frame: Frame, now: int, *, evaluation: bool = False, backward: bool = False) -> EpisodeState:
        """Begin an episode; `backward` is one of the task that undoes the other.

        Raises:
            InputError: where one is under way, an input is missing or old, or nothing undoes the task.
        """
        reset = self.contract.reset
        if backward and not reset.task:
            raise InputError("nothing undoes the task: the contract has no reset.task")
        self.check_idle()
        check_seen(frame)
        self._number += 1
        self._begin()
        self.recording = True
        name = f"{self._prefix}-{self._number:04d}"
        task = reset.task if backward else self.contract.task
        self.state = EpisodeState(name, True, now, task, evaluation=evaluation)
        return self.state

    def check_idle(self) -> None:
        """Raise an InputError while there is something to record."""
        if self.state.running:
            raise InputError(f"episode {self.state.episode} is still under way; stop it first")
        if self.recording:
            raise InputError(f"the recording of {self.state.episode} is not complete yet; try again")

    def end(
        self, now: int, steady: int, *, terminated: bool = False, success: bool | None = None, reason: str = ""
    ) -> EpisodeState:
        """End the episode at a stamp: the observation of that moment is its last.

        Raises:
            InputError: where none is under way.
        """
        if not self.state.running:
            raise InputError("no episode is under way")
        self._until = steady + AFTER
        self._closing = 0
        state = self.state
        self.state = replace(state, running=False, stamp=now, terminated=terminated, success=success, reason=reason)
        return self.state

    def on_outcome(self, outcome: Outcome, steady: int) -> EpisodeState | None:
        """What is known of the task; ends the episode where the task has ended. Returns the state where it changed."""
        if not self.recording or (self.state.running and outcome.stamp <= self.state.stamp):
            return None
        self._judged = max(self._judged, outcome.stamp)
        if not self.state.running:
            return None
        closing = self._closing
        if not (outcome.terminated or outcome.truncated) or (closing and outcome.stamp > closing):
            return self._time_is_up(closing, steady) if closing else None
        success = outcome.success if outcome.terminated else None
        reason = "the task ended" if outcome.terminated else "time limit"
        return self.end(outcome.stamp, steady, terminated=outcome.terminated, success=success, reason=reason)

    def on_step(self, step: ActorStep, now: int, steady: int) -> EpisodeState | None:
        """A step of the actor; too many end the episode. Returns the state where it changed."""
        if not self.recording or step.episode != self.state.episode or not step.acts:
            return None
        self._acted.add(step.tick)
        if not self.state.running:
            return None
        if self.contract.max_steps is not None and len(self._acted) > self.contract.max_steps:
            return None if self._closing else self._time_is_up(step.tick, steady)
        return None

    def _time_is_up(self, stamp: int, steady: int) -> EpisodeState | None:
        """No step after this stamp counts. Whoever judges is waited for: the last ones may have made it a success."""
        if self._judged and self._judged < stamp:
            self._closing, self._until = stamp, steady + AFTER
            return None
        return self.end(stamp, steady, reason="time limit")

    def on_sent(self, sent: Sent) -> None:
        """An answer of the guardian."""
        if self.recording and sent.episode == self.state.episode:
            self._answered.add(sent.tick)

    def on_time(self, now: int, steady: int) -> EpisodeState | None:
        """Time alone ends an episode in which nobody makes steps any more. Returns the state where it changed."""
        if not self.state.running or self.contract.max_steps is None:
            return None
        if self._closing and steady > self._until:
            return self.end(self._closing, steady, reason="time limit")
        if now <= self.state.stamp + self.contract.max_steps * self.contract.period + GRACE:
            return None
        return self.end(now, steady, reason="time limit")

    def finished(self, seen: ActorStep | None, steady: int, *, told: bool = True) -> Ended | None:
        """Whether the recording of an ended episode is over: everything that belongs to it has come, or will not.

        Args:
            seen: the actor's newest step.
            told: whether the recording itself has the episode's end.
        """
        if not self.recording or self.state.running:
            return None
        complete = seen is not None and bool(seen.stamps) and seen.tick >= self.state.stamp
        if not (complete and told and self._settled()) and steady < self._until:
            return None
        self.recording = False
        return Ended(self.state, complete)

    def _settled(self) -> bool:
        """Whether what is sent by others about the last step has come, too: topics do not wait for each other."""
        unanswered = {tick for tick in self._acted - self._answered if tick < self.state.stamp}
        # Where nobody guards, or nobody judges, there is nothing to wait for.
        return not (self._answered and unanswered) and (not self._judged or self._judged >= self.state.stamp)


def check_seen(frame: Frame) -> None:
    """Raise an InputError unless every input is there and new enough."""
    if frame.missing:
        raise InputError(f"nothing has come on {', '.join(frame.missing)}: start what publishes it")
    if frame.stale:
        raise InputError(f"what came last on {', '.join(frame.stale)} is too old: look at what publishes it")


def out_of_reach(contract: RobotContract, frame: Frame) -> str:
    """What keeps the robot from going on by itself where the last episode has left it; empty where nothing does."""
    names = contract.layout().state_names
    for name, (low, high) in contract.reset.within.items():
        value = float(frame.state[names.index(name)])
        if not low <= value <= high:
            return f"{name} is {value:.3g}, outside {low:g} to {high:g}"
    return ""


def recorded_topics(contract: RobotContract, extra: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Topic to type of everything that a recording holds."""
    topics = {source.topic: source.type for source in (*contract.observations, *contract.cameras, *contract.commands)}
    safety = contract.safety
    for part in (safety.force, safety.dead_man, contract.intervention):
        if part is not None:
            topics[part.topic] = part.type
    if safety.stop_topic is not None:
        topics[safety.stop_topic] = "std_msgs/msg/Bool"
    return topics | dict(extra)
