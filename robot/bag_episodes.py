"""Episodes out of a bag that says nothing of them: by the contract's rule, in steps at the contract's rate.

- A tick is every period from the first moment of an episode at which all inputs are there, none is too old, and every
  command topic has been used. The observation of a tick is what was known then, by the messages' stamps.
- The action of a step is the newest command of its period. Where there is none, the command before it counts as long as
  the controller follows it (see `Commands`); what a controller that has stopped does is zero.
- The observation after the last action is the last one, so there is always one more than there are actions.
- An episode is also ended, truncated, where an input is missing or too old at a tick, and where the clock was set back.
  What is left of it is another episode. Stretches of less than two steps are left out.
- Ticks of the last second before the place where a bag is cut off are not used: nobody knows what was still to come.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from episodes.episode import Episode, EpisodeError, Source
from robot.bag_inputs import Commands, Inputs
from robot.bag_rules import BEGINNING, Closing, Mark, Marks, Pauses, Reported, Rule, Whole
from robot.bags import BagMessage
from robot.contract import RobotContract
from robot.frames import Frame

LATE = 1_000_000_000
"""By how much a message may come late [ns of stamps]; ticks are looked at when the newest stamp is this far on."""
FEWEST_STEPS = 2
FOREVER = 2**62
"""After every stamp [ns]."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an episode is told that is not in its messages."""

    origin: str
    task: str
    place: Literal["real", "sim", ""]


class Cutter:
    """Makes episodes of messages in the order of the log."""

    def __init__(self, robot: RobotContract, inputs: Inputs, setting: Setting):
        self._robot, self._inputs, self._setting = robot, inputs, setting
        self._layout = robot.layout()
        self._commands = {
            command.topic: Commands(command, robot.period, inputs.seen.inputs[command.topic])
            for command in robot.commands
        }
        rule = robot.episodes
        self._pauses = Pauses(rule.gap, robot.period) if rule.by == "gaps" else None
        self._marks: Marks | None = None
        if rule == Reported.RULE:
            self._marks = Reported()
        elif rule.by in ("events", "topic"):
            self._marks = Marks(rule)
        self._rule: Rule = self._pauses or self._marks or Whole()
        self._frames: list[Frame] = []
        """Of the episode under way."""
        self._actions: list[tuple[np.ndarray, int]] = []
        """One less, each with the time at which it was sent [ns]."""
        self._begin = BEGINNING
        """From where on the episode under way lasts [ns]."""
        self._search = BEGINNING
        """From where on the next one may begin [ns]."""
        self._first: int | None = None
        """Tick that times are told from."""
        self._due = 0
        """Before this there is nothing to be done [ns]."""
        self._number = 0
        self._short: tuple[str, str, int] | None = None
        """Key and reason of the first of some stretches that are too short, and how many there are."""

    def take(self, topic: str, message: BagMessage) -> Iterable[tuple[str, Episode | EpisodeError]]:
        if self._marks is not None and topic == self._robot.episodes.topic:
            try:
                self._marks.add(message)
            except LookupError as error:
                self._inputs.seen.inputs[topic].spoil(f"{topic}: {error}")
        if topic in self._commands:
            stamp = self._commands[topic].add(message)
            if self._pauses is not None and stamp is not None:
                self._pauses.add(stamp)
        if topic in self._inputs.topics:
            stamps = self._inputs.stamps(topic, message)
            if self._inputs.jumps(topic, stamps):
                return self._begin_anew(topic, message, stamps)
            self._inputs.add(topic, message, stamps)
        # Most messages are between two ticks.
        return self._catch_up() if self._inputs.newest - LATE >= self._due else ()

    def _begin_anew(
        self, topic: str, message: BagMessage, stamps: list[int | None]
    ) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """Take the first message after the clock was set back."""
        yield from self._advance(self._inputs.newest)
        yield from self._finish(None, "the clock was set back")
        self._clear()
        self._inputs.add(topic, message, stamps)
        yield from self._catch_up()

    def hole(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """Here messages are missing that nobody knows: what was seen of a pause does not count."""
        if self._frames:
            yield from self._finish(self._rule.closing(self._since(), FOREVER), "the bag is damaged in it")
        yield from self._finish(None, "the bag is damaged in it")
        self._clear()

    def _catch_up(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        yield from self._advance(self._inputs.newest - LATE)
        self._due = self._frames[-1].tick + self._robot.period if self._frames else 0

    def end(self, cut: str | None) -> Iterator[tuple[str, Episode | EpisodeError]]:
        if cut is None:
            yield from self._advance(self._inputs.newest, known=FOREVER)
        elif self._frames:
            # Whether a pause would have gone on is not known, and so what was seen in it does not count.
            yield from self._finish(self._rule.closing(self._since(), FOREVER), "the bag is cut off")
        yield from self._finish(None, "the bag ends")
        if self._first is None and self._short is None:
            self._leave_out(self._why_nothing())
        yield from self._left_out()

    def _advance(self, until: int, known: int | None = None) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """Go through the ticks up to a moment. Up to `known`, what was said of episodes is complete."""
        known = until if known is None else known
        while True:
            tick = self._frames[-1].tick + self._robot.period if self._frames else self._beginning(known)
            if tick is None:
                self._forget_before(until)
                return
            closing = self._rule.closing(self._since(), known) if self._frames else None
            if closing is not None and closing.stamp < tick:
                yield from self._finish(closing, "")
                continue
            if tick > until:
                return
            frame = self._inputs.frame(tick)
            if not frame.usable:
                yield from self._finish(None, _why(frame))
                self._search = tick + 1
                continue
            if self._frames:
                self._actions.append(self._action(self._frames[-1].tick, tick))
            self._frames.append(frame)
            self._forget_before(tick - 1)

    def _since(self) -> int:
        """What was said between an episode's beginning and its last tick has been looked at."""
        return max(self._begin, self._frames[-1].tick - 1)

    def _beginning(self, known: int) -> int | None:
        """The tick with which the next episode begins; None where that is not known yet."""
        used = [commands.first for commands in self._commands.values()]
        if None in used:
            return None
        begin = max(self._search, *(stamp for stamp in used if stamp is not None))
        while (opening := self._rule.opening(begin)) is not None:
            tick = self._inputs.usable_from(opening)
            if tick is None:
                return None
            closing = self._rule.closing(opening, known)
            if closing is None or tick <= closing.stamp:
                self._first = tick if self._first is None else self._first
                self._begin = opening
                return tick
            self._leave_out("an input is missing or too old in all of it")
            self._search = begin = closing.resume
        return None

    def _action(self, begin: int, end: int) -> tuple[np.ndarray, int]:
        """What the robot was told in a step, shape (A,), and when [ns]."""
        parts = [commands.between(begin, end) for commands in self._commands.values()]
        return np.concatenate([values for values, _ in parts]), max(stamp for _, stamp in parts)

    def _finish(self, closing: Closing | None, why: str) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """End the episode under way, if one is."""
        frames, actions = self._frames, self._actions
        self._frames, self._actions = [], []
        if closing is not None:
            self._search = closing.resume
            frames = [frame for frame in frames if frame.tick <= closing.stamp]
            actions = actions[: max(len(frames) - 1, 0)]
        if not frames:
            return
        if len(actions) < FEWEST_STEPS:
            begin = (frames[0].tick - (self._first or 0)) / 1e9
            self._leave_out(f"{len(actions)} steps from {begin:.2f} s on" + (f": {why}" if why else ""))
            return
        yield from self._left_out()
        for frame in frames:
            self._inputs.used(frame)
        key = self._key()
        try:
            yield key, self._episode(key, frames, actions, Mark.STOP if closing is None else closing.mark)
        except EpisodeError as error:
            yield key, error

    def _episode(self, key: str, frames: list[Frame], actions: list[tuple[np.ndarray, int]], mark: Mark) -> Episode:
        success = None
        if mark in (Mark.SUCCESS, Mark.FAILURE):
            success = np.zeros(len(actions), np.float32)
            success[-1] = mark is Mark.SUCCESS
        terminated = mark in (Mark.SUCCESS, Mark.FAILURE)
        return Episode(
            state=np.stack([frame.state for frame in frames]),
            action=np.stack([action for action, _ in actions]),
            terminated=terminated,
            truncated=not terminated,
            images={
                camera.name: np.stack([frame.images[camera.name] for frame in frames]) for camera in self._robot.cameras
            },
            observation_time=np.array([frame.tick for frame in frames], np.int64),
            action_time=np.array([stamp for _, stamp in actions], np.int64),
            source=np.full(len(actions), Source.DEMONSTRATION, np.uint8),
            success=success,
            task=self._setting.task or self._robot.task,
            place=self._setting.place,
            origin=f"{self._setting.origin}/{key}",
        ).check(self._layout)

    def _forget_before(self, stamp: int) -> None:
        self._inputs.forget_before(stamp)
        self._rule.forget_before(stamp)
        for commands in self._commands.values():
            commands.forget_before(stamp)

    def _clear(self) -> None:
        self._due = 0
        self._inputs.clear()
        self._rule.clear()
        for commands in self._commands.values():
            commands.clear()
        self._search = BEGINNING

    def _key(self) -> str:
        self._number += 1
        return str(self._number - 1)

    def _leave_out(self, why: str) -> None:
        """Neighbours are told together: an input that is too slow makes one at every tick."""
        key, first, count = self._short or (self._key(), why, 0)
        self._short = key, first, count + 1

    def _left_out(self) -> Iterator[tuple[str, EpisodeError]]:
        if self._short is not None:
            key, why, count = self._short
            self._short = None
            yield key, EpisodeError(why if count == 1 else f"{count} pieces that are too short; the first: {why}")

    def _why_nothing(self) -> str:
        """Why there was no moment at which an episode could begin."""
        if silent := self._inputs.missing():
            return f"nothing usable on {', '.join(silent)}"
        if unused := [topic for topic, commands in self._commands.items() if commands.first is None]:
            return f"no usable command on {', '.join(unused)}"
        starts = [commands.first for commands in self._commands.values() if commands.first is not None]
        if max(starts) > self._inputs.newest:
            return (
                f"the first command is from {max(starts) / 1e9:.3f} s and the last observation from "
                f"{self._inputs.newest / 1e9:.3f} s: if they are from two clocks, record with --use-sim-time"
            )
        return "no moment of an episode at which all inputs are there and none is too old"


def _why(frame: Frame) -> str:
    """Why a frame cannot be used."""
    parts = [f"nothing on {', '.join(frame.missing)}"] if frame.missing else []
    parts += [f"too old: {', '.join(frame.stale)}"] if frame.stale else []
    return "; ".join(parts)
