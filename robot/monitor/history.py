"""What became of the episodes since somebody began to listen, and which policies acted in them."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from robot.guardian import Verdict
from robot.reports import ActorStep, EpisodeState, Outcome, Sent

EPISODES = 1000
"""That are kept."""
RECENT = 100
"""Steps that may have come before the news that their episode was over already."""
POLICIES = 8
"""Of the newest versions, how many are told."""


@dataclass(slots=True)
class Told:
    """An episode, as far as it was told."""

    number: int
    """From 1 on, since somebody began to listen."""
    state: EpisodeState
    began: int
    """Stamp of its beginning [ns]; 0 where it was under way or over before somebody listened."""
    steps: int = 0
    """Of the actor that wanted something."""
    changed: int = 0
    """Commands that were not what was proposed."""
    policy: int = 0
    """Hash of the policy that acted last; 0 where none did."""
    judged: bool = False
    """Whether somebody told of the task after a step of it ..."""
    succeeded: bool = False
    """... and whether it was a success."""

    @property
    def success(self) -> bool | None:
        """As whoever ended it says, or else by what was told of the task; None where nobody knows yet or at all."""
        if self.state.running:
            return None
        if self.state.success is not None:
            return self.state.success
        return self.succeeded if self.judged else None

    def document(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "name": self.state.episode,
            "running": self.state.running,
            "success": self.success,
            "steps": self.steps,
            "changed": self.changed,
            "policy": hexadecimal(self.policy),
            "reason": self.state.reason,
        }


class History:
    """Episodes and policies, by what the nodes report. Reports may come in any order among topics."""

    def __init__(self) -> None:
        self.episodes: deque[Told] = deque(maxlen=EPISODES)
        self._stepped: deque[int] = deque(maxlen=RECENT)
        self._changed: deque[int] = deque(maxlen=RECENT)
        """Ticks of the newest steps and changed commands that were counted [ns]."""
        self.acting = self.ready = self.learned = ""
        """Policies as 16 hexadecimal digits: that acted last, that the next episode begins with, and the learner's
        newest; empty where nobody told."""

    @property
    def current(self) -> Told | None:
        """The episode that is under way, or was last."""
        return self.episodes[-1] if self.episodes else None

    def on_episode(self, state: EpisodeState) -> None:
        if not state.episode:
            return
        current = self.current
        if current is None or current.state.episode != state.episode:
            number = 1 if current is None else current.number + 1
            # Who comes late does not know when it began, unless it is still under way: that is said again and again.
            self.episodes.append(Told(number, state, state.stamp if state.running else 0))
            self._stepped.clear()
            self._changed.clear()
        else:
            ends = current.state.running and not state.running
            current.state = state
            if ends:
                # A step at its end is not of it any more: it may be what ended it.
                current.steps -= sum(not _within(state, tick) for tick in self._stepped)
                current.changed -= sum(not _within(state, tick) for tick in self._changed)

    def on_step(self, step: ActorStep) -> None:
        if not step.acts:
            return
        if step.policy:
            self.acting = hexadecimal(step.policy)
        current = self._named(step.episode)
        if current is not None:
            current.policy = step.policy or current.policy
            if _within(current.state, step.tick):
                current.steps += 1
                self._stepped.append(step.tick)

    def on_sent(self, sent: Sent) -> None:
        current = self._named(sent.episode)
        if current is not None and sent.verdict == Verdict.CLAMPED and _within(current.state, sent.tick):
            current.changed += 1
            self._changed.append(sent.tick)

    def on_outcome(self, outcome: Outcome) -> None:
        """What is known of the task after a step. The last one of an episode may come after the news of its end."""
        current = self.current
        if current is None or outcome.stamp <= current.began:
            return
        if current.state.running or outcome.stamp <= current.state.stamp:
            current.judged = True
            current.succeeded |= outcome.success

    def policies(self) -> list[dict[str, Any]]:
        """The newest versions, oldest first: how many episodes each acted in, judged, and with success."""
        found: dict[str, dict[str, Any]] = {}
        for episode in self.episodes:
            if episode.policy:
                one = found.setdefault(hexadecimal(episode.policy), _policy(episode.number))
                one["episodes"] += 1
                one["judged"] += episode.success is not None
                one["successes"] += episode.success is True
        for policy in (self.acting, self.ready, self.learned):
            if policy:
                found.setdefault(policy, _policy(None))
        return [{"policy": policy} | one for policy, one in list(found.items())[-POLICIES:]]

    def _named(self, name: str) -> Told | None:
        current = self.current
        return current if current is not None and name and current.state.episode == name else None


def _within(state: EpisodeState, tick: int) -> bool:
    """Whether a step is before the end of its episode, where that is known."""
    return state.running or tick < state.stamp


def _policy(first: int | None) -> dict[str, Any]:
    return {"first": first, "episodes": 0, "judged": 0, "successes": 0}


def hexadecimal(policy: int) -> str:
    """A policy's hash as it is written; empty for none. A browser's numbers do not have as many digits."""
    return f"{policy:016x}" if policy else ""
