"""Episodes out of bags that this project recorded: what the actor saw, what was sent, and how it ended, as it was.

- A step is a step of the actor with an action whose `Sent` is in the bag. Its observation is the frame of exactly the
  messages that the actor saw; its action is what the guardian sent. A stop that the feasibility filter wants after the
  first of them is a step, too: its action is how the guardian held the robot. Before anything was sent, nobody knows
  how a gripper is held that is not measured; those are no steps.
- The observation after the last action is that of the actor's next step, whatever became of that one.
- An episode ends where its `EpisodeState` says so, or with the outcome that ended the task. Steps after that were made
  before the actor had heard of it, and are no part of it.
- Where a message that a step saw is not in the bag, the episode ends before that step, truncated. Where two steps or
  more have no action, or were never made, it ends before them: what came of the last action was not seen.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from episodes.episode import Episode, EpisodeError
from episodes.errors import InputError
from episodes.importers.source import reason
from robot.bag_episodes import Setting
from robot.bag_inputs import Inputs
from robot.bags import BagMessage
from robot.contract import RobotContract
from robot.frames import Frame
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
    finite,
)

STRING = "std_msgs/msg/String"
"""What reports come in."""
WAIT = 1_000_000_000
"""How long after a report what belongs to it may be logged [ns]."""
MARGIN = 2_000_000_000
"""Stamps that steps may be behind the newest one [ns]."""
PAUSE = 2.5
"""Periods that are too long between two steps: one step without an action is passed over, two are not."""

R = TypeVar("R", ActorStep, Sent, EpisodeState, Outcome)


@dataclass(slots=True)
class _Episode:
    """An episode under way."""

    name: str
    task: str = ""
    steps: list[tuple[ActorStep, Frame]] = field(default_factory=list)
    """With an action."""
    after: tuple[int, Frame] | None = None
    """How many steps came before the first one without an action, and what that one saw."""
    lost: str = ""
    """Why no more steps are taken."""
    resumed: int = 0
    """Tick of the step before which nothing was done for too long, where that is why [ns]."""
    evaluation: bool = False
    ended: EpisodeState | None = None
    deadline: int = 0
    """Log time until which steps are waited for after its end [ns]."""


class Recordings:
    """Makes episodes of messages in the order of the log.

    Args:
        whole: the contract that was recorded under.
        robot: the same with the wanted cameras only.
    """

    def __init__(self, whole: RobotContract, robot: RobotContract, inputs: Inputs, setting: Setting):
        self._robot, self._inputs, self._setting = robot, inputs, setting
        self._layout = robot.layout()
        count = len(whole.observations)
        self._sizes = count, count + len(whole.cameras)
        """Of the stamps of a step, without and with cameras."""
        self._places = [*range(count), *(count + whole.cameras.index(camera) for camera in robot.cameras)]
        self._queue: deque[tuple[int, ActorStep | EpisodeState]] = deque()
        """What was logged when, and is looked at when everything that belongs to it has come."""
        self._sent: dict[tuple[str, int], tuple[Sent, int]] = {}
        """By episode and tick, with the time at which it was published [ns]."""
        self._unknown: set[tuple[str, int]] = set()
        """Episode and tick of what was sent and has a number that nobody knows."""
        self._outcomes: list[Outcome] = []
        """By stamp."""
        self._open: _Episode | None = None
        self._over = ""
        """Name of the last episode that is finished with."""

    def take(self, topic: str, message: BagMessage) -> Iterator[tuple[str, Episode | EpisodeError]]:
        if topic in self._inputs.topics:
            stamps = self._inputs.stamps(topic, message)
            if self._inputs.jumps(topic, stamps):
                yield from self._break_off("the clock was set back")
            self._inputs.add(topic, message, stamps)
            oldest = next((item.tick for _, item in self._queue if isinstance(item, ActorStep)), self._inputs.newest)
            self._inputs.forget_before(min(oldest, self._inputs.newest) - self._inputs.oldest_age - MARGIN)
        elif topic == STEP_TOPIC and (step := self._decoded(ActorStep, topic, message)) is not None:
            self._queue.append((message.logged, step))
        elif topic == EPISODE_TOPIC and (state := self._decoded(EpisodeState, topic, message)) is not None:
            self._queue.append((message.logged, state))
        elif topic == SENT_TOPIC and (sent := self._decoded(Sent, topic, message)) is not None:
            if sent.episode and finite(sent.action):
                self._sent[sent.episode, sent.tick] = sent, message.published
            elif sent.episode:
                self._unknown.add((sent.episode, sent.tick))
        elif topic == OUTCOME_TOPIC and (outcome := self._decoded(Outcome, topic, message)) is not None:
            insort(self._outcomes, outcome, key=lambda each: each.stamp)
        yield from self._work_off(message.logged - WAIT)

    def hole(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """Here messages are missing that nobody knows."""
        yield from self._break_off("the recording is damaged in it")

    def _break_off(self, why: str) -> Iterator[tuple[str, Episode | EpisodeError]]:
        yield from self._work_off(None)
        if self._open is not None and self._open.steps:
            yield from self._finish(why)
        self._inputs.clear()
        self._outcomes.clear()

    def end(self, cut: str | None) -> Iterator[tuple[str, Episode | EpisodeError]]:
        yield from self._work_off(None)
        yield from self._finish("the recording ends in it")
        if not self._over:
            yield "-", EpisodeError("the actor made no step of an episode")

    def _decoded(self, cls: type[R], topic: str, message: BagMessage) -> R | None:
        try:
            return decode(cls, message.message.data)
        except InputError as error:
            self._inputs.seen.notes.append(f"{topic}: a message that cannot be read: {error}")
            return None

    def _work_off(self, until: int | None) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """Look at what was logged up to a moment; None: at all of it."""
        while self._queue and (until is None or self._queue[0][0] <= until):
            logged, item = self._queue.popleft()
            if self._open is not None and self._open.ended is not None and logged > self._open.deadline:
                yield from self._finish()
            if isinstance(item, EpisodeState):
                yield from self._on_state(item, logged)
            elif item.stamps:
                yield from self._on_step(item)

    def _on_state(self, state: EpisodeState, logged: int) -> Iterator[tuple[str, Episode | EpisodeError]]:
        if state.running:
            yield from self._begin(state.episode)
        episode = self._open
        if episode is None or episode.name != state.episode or episode.ended is not None:
            return
        episode.task = state.task or episode.task
        episode.evaluation = state.evaluation
        if not state.running:
            episode.ended, episode.deadline = state, logged + WAIT

    def _begin(self, name: str) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """A message is of this episode; what is still said of one that is over is of no interest."""
        if name != self._over and (self._open is None or self._open.name != name):
            yield from self._finish()
            self._open = _Episode(name)

    def _on_step(self, step: ActorStep) -> Iterator[tuple[str, Episode | EpisodeError]]:
        if step.episode:
            yield from self._begin(step.episode)
        episode = self._open
        if episode is None or episode.lost:
            return
        acted = step.acts and step.episode == episode.name and (step.action is not None or bool(episode.steps))
        known = episode.after is not None and episode.after[0] == len(episode.steps)
        if not acted and (known or not episode.steps):
            return
        frame = self._frame(step)
        if acted and episode.steps and step.tick <= episode.steps[-1][0].tick:
            episode.lost = "the clock was set back"
        elif acted and frame.missing:
            episode.lost = f"a message that step {len(episode.steps)} saw is not in it ({', '.join(frame.missing)})"
        elif acted and episode.steps and step.tick - episode.steps[-1][0].tick > PAUSE * self._robot.period:
            pause = (step.tick - episode.steps[-1][0].tick) / 1e9
            episode.lost = f"nothing was done for {pause:.1f} s after step {len(episode.steps) - 1}"
            episode.resumed = step.tick
        elif acted:
            episode.steps.append((step, frame))
        elif not frame.missing:
            episode.after = len(episode.steps), frame

    def _frame(self, step: ActorStep) -> Frame:
        """What the actor saw. Pictures that it did not look at are what it would have seen."""
        without, all_inputs = self._sizes
        if len(step.stamps) == all_inputs:
            stamps = tuple(step.stamps[place] for place in self._places)
        elif len(step.stamps) == without:
            stamps = (*step.stamps, *self._inputs.newest_stamps(step.tick)[without:])
        else:
            raise InputError(
                f"{self._setting.origin}: a step of the actor names {len(step.stamps)} messages, and the contract has "
                f"{all_inputs} inputs: it was recorded under another contract"
            )
        return self._inputs.at(step.tick, stamps)

    def _finish(self, why: str = "") -> Iterator[tuple[str, Episode | EpisodeError]]:
        """End the episode under way, if one is; `why` is for one that nobody has ended."""
        episode, self._open = self._open, None
        if episode is None:
            return
        self._over = episode.name
        if episode.ended is None:
            episode.lost = episode.lost or why or "nobody said that it was over"
        try:
            yield episode.name, self._episode(episode)
        except EpisodeError as error:
            yield episode.name, error
        self._sent = {key: sent for key, sent in self._sent.items() if key[0] != episode.name}
        self._unknown = {key for key in self._unknown if key[0] != episode.name}
        if episode.steps:
            last = episode.steps[-1][0].tick
            self._outcomes = [outcome for outcome in self._outcomes if outcome.stamp > last]

    def _episode(self, episode: _Episode) -> Episode:
        if not episode.steps:
            raise EpisodeError(episode.lost or "the actor wanted nothing in it")
        end = self._end(episode)
        self._leave_out_unknown(episode)
        steps = [step for step, _ in episode.steps]
        count = next((i for i, step in enumerate(steps) if step.tick >= end or self._key(step) not in self._sent), None)
        count = len(steps) if count is None else count
        # What came after the end is nothing that was lost.
        lost = episode.lost if episode.resumed < end else ""
        if any(step.tick < end and self._key(step) in self._sent for step in steps[count:]):
            lost = f"what the guardian sent at step {count} is not in it"
        if lost:
            count = self._judged(episode, count)
        if count == 0:
            raise EpisodeError(lost or "nothing was sent in it")
        if lost:
            self._inputs.seen.notes.append(f"episode {episode.name} has {count} steps: {lost}")
        return self._built(episode, count, whole=not lost)

    def _leave_out_unknown(self, episode: _Episode) -> None:
        """Begin with the first step of which is known what was sent."""
        count = next((i for i, (s, _) in enumerate(episode.steps) if self._key(s) not in self._unknown), None)
        count = len(episode.steps) if count is None else count
        del episode.steps[:count]
        if episode.after is not None:
            episode.after = (episode.after[0] - count, episode.after[1]) if episode.after[0] > count else None

    def _end(self, episode: _Episode) -> int:
        """From this stamp on no step belongs to an episode [ns]."""
        begin = episode.steps[0][0].tick
        ends = [o.stamp for o in self._outcomes if (o.terminated or o.truncated) and o.stamp > begin]
        ends += [] if episode.ended is None else [episode.ended.stamp]
        return min(ends, default=2**63)

    def _key(self, step: ActorStep) -> tuple[str, int]:
        return step.episode, step.tick

    def _judged(self, episode: _Episode, count: int) -> int:
        """Of some steps, how many to keep where recording may have stopped before the outcome of the last ones."""
        outcomes = self._outcomes_of(episode, count)
        if not any(outcomes):
            return count
        return max(i for i, outcome in enumerate(outcomes) if outcome is not None) + 1

    def _following(self, episode: _Episode, count: int) -> Frame | None:
        """The observation after so many steps."""
        frame = episode.steps[count][1] if count < len(episode.steps) else None
        if episode.after is not None and episode.after[0] == count:
            frame = episode.after[1]
        if frame is None or frame.tick - episode.steps[count - 1][0].tick > 1.5 * self._robot.period:
            return None
        return frame

    def _outcomes_of(self, episode: _Episode, count: int) -> list[Outcome | None]:
        """For each step the newest outcome of what came of it."""
        ticks = [step.tick for step, _ in episode.steps[:count]]
        final = self._following(episode, count) if count else None
        ticks.append(final.tick if final is not None else (ticks[-1:] or [0])[0] + round(1.5 * self._robot.period))
        places = [bisect_right(self._outcomes, tick, key=lambda each: each.stamp) for tick in ticks]
        return [self._outcomes[end - 1] if end > begin else None for begin, end in pairwise(places)]

    def _built(self, episode: _Episode, count: int, *, whole: bool) -> Episode:
        """The episode of its first steps; `whole` if none is missing at its end."""
        steps = [step for step, _ in episode.steps[:count]]
        frames = [frame for _, frame in episode.steps[:count]]
        final = self._following(episode, count)
        frames += [] if final is None else [final]
        for frame in frames:
            self._inputs.used(frame)
        sent = [self._sent[self._key(step)] for step in steps]
        outcomes = self._outcomes_of(episode, count)
        ended = episode.ended if whole else None
        last = outcomes[-1]
        terminated = ended.terminated if ended is not None else last is not None and last.terminated
        return Episode(
            state=np.stack([frame.state for frame in frames]),
            action=_column([answer.action for answer, _ in sent], np.float32),
            terminated=terminated,
            truncated=not terminated,
            images={
                camera.name: np.stack([frame.images[camera.name] for frame in frames]) for camera in self._robot.cameras
            },
            observation_time=np.array([frame.tick for frame in frames], np.int64),
            action_time=np.array([published for _, published in sent], np.int64),
            source=_column([step.source for step in steps], np.uint8),
            reward=self._rewards(episode, outcomes),
            success=_successes(outcomes, None if ended is None else ended.success),
            action_proposed=_column(
                [step.action if step.proposed is None else step.proposed for step in steps], np.float32
            ),
            log_probability=_column([_number(step.log_probability) for step in steps], np.float32),
            policy=_column([step.policy for step in steps], np.uint64),
            verdict=_column([answer.verdict for answer, _ in sent], np.uint8),
            task=self._setting.task or episode.task or self._robot.task,
            place=self._setting.place,
            origin=f"{self._setting.origin}/{episode.name}",
            evaluation=episode.evaluation,
        ).check(self._layout)

    def _rewards(self, episode: _Episode, outcomes: list[Outcome | None]) -> np.ndarray | None:
        """Shape (T,); None where nobody said, or not for every step: a reward that is not known is not zero."""
        rewards = [outcome.reward for outcome in outcomes if outcome is not None and outcome.reward is not None]
        if len(rewards) == len(outcomes):
            return _column(rewards, np.float32)
        if rewards:
            lost = len(outcomes) - len(rewards)
            self._inputs.seen.notes.append(f"episode {episode.name}: no rewards, {lost} of {len(outcomes)} are missing")
        return None


def _successes(outcomes: list[Outcome | None], success: bool | None) -> np.ndarray | None:
    """Shape (T,); what was said of the episode's end counts more than what was said of its last step."""
    if success is None and not any(outcomes):
        return None
    known = [_number(None if outcome is None else float(outcome.success)) for outcome in outcomes]
    values = np.array(known, np.float32) if any(outcomes) else np.zeros(len(outcomes), np.float32)
    if success is not None:
        values[-1] = success
    return values


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _column(values: list[Any], dtype: type) -> np.ndarray:
    """Numbers of all steps, one row each."""
    try:
        return np.array(values, dtype)
    except (OverflowError, ValueError) as error:
        raise EpisodeError(f"a report that does not fit: {reason(error)}") from None
