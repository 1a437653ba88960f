"""What is known of a robot at a moment, and for how long it has been known: everything that the page shows.

Pure: it is given messages with the steady time at which they came, and keeps a bounded amount of them. It never says
that something is so, only that it was so when it was heard last.
"""

import json
import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from episodes.episode import Source
from robot.contract import RobotContract
from robot.guardian import Verdict
from robot.monitor.history import History, hexadecimal
from robot.monitor.samples import Samples, age, plain
from robot.monitor.stopping import Stopping
from robot.reports import ActorStep, EpisodeState, Outcome, Sent, of
from robot.state_reader import StateReader

EVENTS = 30
"""Verdicts with a reason that are kept."""
EXPECTED = ("guardian", "actor", "recorder")
"""Nodes whose absence is worth a word; others are shown once they were heard."""
EXACT = 2**53
"""From here on a browser rounds whole numbers."""
MOST_WORDS = 40
"""Most entries of the learner's state that are shown."""


@dataclass(slots=True)
class Status:
    """What a node said of itself last."""

    heard: int
    level: str
    summary: str
    values: dict[str, str]


@dataclass(slots=True)
class Answer:
    """A command that the guardian sent."""

    action: tuple[float, ...]
    verdict: int
    reason: str


@dataclass(slots=True)
class Event:
    """A verdict that had a reason, and for how many steps in a row it was given."""

    first: int
    last: int
    verdict: int
    reason: str
    count: int = 1


def _worse(before: Answer, answer: Answer) -> Answer:
    """Of two answers in one sample the newer command, and the worse verdict."""
    worst = max(answer, before, key=lambda one: one.verdict)
    return Answer(answer.action, worst.verdict, worst.reason)


class Watch:
    """Takes what is heard, from one thread, and tells it to any other.

    Args:
        contract: of the robot.
        began: steady time of the beginning, from which the page's times count [ns].
    """

    def __init__(self, contract: RobotContract, began: int):
        self.contract = contract
        self._began = began
        self._lock = threading.Lock()
        self._size = len(contract.action_fields)
        self._readers = [StateReader(observation) for observation in contract.observations]
        self._inputs: list[Samples[list[float | None]]] = [Samples() for _ in contract.observations]
        self._problems = [""] * len(contract.observations)
        self._proposed: Samples[tuple[float, ...] | None] = Samples()
        self._sent: Samples[Answer] = Samples(_worse)
        self._events: deque[Event] = deque(maxlen=EVENTS)
        self._history = History()
        self._nodes: dict[str, Status] = {}
        self._source = ""
        self._asks = ""
        self._stopped: bool | None = None
        self._stopping = Stopping()
        self._reason = ""
        self._episode_heard: int | None = None
        self._learned: dict[bool, tuple[dict[str, Any], int]] = {}
        """What the learner said, and when; that of the task that undoes the other under True."""

    def wants(self, index: int, at: int) -> bool:
        """Whether another message of an observation would be shown: who decides that before reading it saves much."""
        return at >= self._inputs[index].due

    def on_input(self, index: int, message: Any, at: int) -> None:
        """A message of an observation, by its number in the contract."""
        with self._lock:
            try:
                values = plain(self._readers[index].read(message).tolist())
            except (LookupError, ValueError) as error:
                self._problems[index] = str(error)
                return
            self._problems[index] = ""
            self._inputs[index].add(at, values)

    def on_step(self, step: ActorStep, at: int) -> None:
        with self._lock:
            self._history.on_step(step)
            if step.action is None or len(step.action) == self._size:
                self._proposed.add(at, step.action)
            self._source = "" if step.action is None else _source(step.source)

    def on_sent(self, sent: Sent, at: int) -> None:
        with self._lock:
            self._history.on_sent(sent)
            if len(sent.action) == self._size:
                self._sent.add(at, Answer(sent.action, sent.verdict, sent.reason))
            if sent.verdict <= Verdict.PASSED:
                return
            newest = self._events[-1] if self._events else None
            if newest is not None and (newest.verdict, newest.reason) == (sent.verdict, sent.reason):
                newest.last, newest.count = at, newest.count + 1
            else:
                self._events.append(Event(at, at, sent.verdict, sent.reason))

    def on_stopped(self, stopped: bool) -> None:
        with self._lock:
            self._stopped = stopped
            self._stopping.latched(stopped)

    def on_reason(self, reason: str) -> None:
        with self._lock:
            self._reason = reason

    def on_episode(self, state: EpisodeState, at: int) -> None:
        with self._lock:
            self._history.on_episode(state)
            self._episode_heard = at

    def on_outcome(self, outcome: Outcome) -> None:
        with self._lock:
            self._history.on_outcome(outcome)

    def on_policy(self, policy: str) -> None:
        """The policy that the next episode begins with."""
        with self._lock:
            self._history.ready = policy

    def on_learner(self, said: str, at: int, *, backward: bool = False) -> None:
        """A learner's state, as it was written: what this release does not know of is shown all the same."""
        try:
            content = json.loads(said)
        except (ValueError, RecursionError):
            return
        if not isinstance(content, dict):
            return
        with self._lock:
            policy = content.pop("policy", 0)
            if isinstance(policy, int) and not backward:
                self._history.learned = hexadecimal(policy)
            # A list of names for programs; people see how many episodes there were.
            content.pop("recordings", None)
            self._learned[backward] = dict(list(_flat(content).items())[:MOST_WORDS]), at

    def on_asks(self, asks: str) -> None:
        """What a person is asked to do; empty for nothing."""
        with self._lock:
            self._asks = asks

    def on_node(self, name: str, level: str, summary: str, values: dict[str, str], at: int) -> None:
        """What a node says of itself once a second."""
        with self._lock:
            self._nodes[name] = Status(at, level, summary, values)

    def stop(self, now: int) -> None:
        """Somebody wants the robot to stop."""
        with self._lock:
            self._stopping.ask(now)

    def stop_due(self, now: int) -> bool:
        """Whether the guardian is to be asked to stop now."""
        with self._lock:
            return self._stopping.due(now)

    def stop_tried(self, now: int, problem: str = "") -> None:
        with self._lock:
            self._stopping.tried(now, problem)

    def stop_answered(self, stopped: bool, message: str) -> None:
        with self._lock:
            self._stopping.answer(stopped, message)

    def document(self, now: int, since: float = 0.0, episode: int = 0) -> dict[str, Any]:
        """Everything, for JSON.

        Args:
            since: from when on curves are told [s since the beginning]; a sample that was told may have changed.
            episode: number of the first episode that is told.
        """
        # No later than now: a whole number of nanoseconds has to come of it.
        start = self._began + round(min(max(since, 0.0), self.seconds(now)) * 1e9)
        with self._lock:
            return {
                "now": self.seconds(now),
                "inputs": [
                    self._curves(samples, start, now) | {"problem": problem}
                    for samples, problem in zip(self._inputs, self._problems, strict=True)
                ],
                "proposed": self._curves(self._proposed, start, now),
                "sent": self._answers(start, now),
                "events": [
                    {
                        "age": age(event.last, now),
                        "verdict": event.verdict,
                        "reason": event.reason,
                        "count": event.count,
                    }
                    for event in reversed(self._events)
                ],
                "guardian": self._guardian(now),
                "stop": self._stopping.document(now),
                "nodes": self._status(now),
                "episode": self._episode(now),
                "episodes": [told.document() for told in self._history.episodes if told.number >= episode],
                "policies": self._history.policies(),
                "acting": self._history.acting,
                "ready": self._history.ready,
                "learned": self._history.learned,
                "learner": self._learning(now, backward=False),
                "undoing": self._learning(now, backward=True),
            }

    def seconds(self, at: int) -> float:
        """A steady time [ns] on the page's clock [s]."""
        return round((at - self._began) / 1e9, 4)

    def _curves(self, samples: Samples[Any], start: int, now: int) -> dict[str, Any]:
        found = samples.since(start)
        return {
            "age": age(samples.heard, now),
            "t": [self.seconds(at) for at, _ in found],
            "values": [None if row is None else plain(row) for _, row in found],
        }

    def _answers(self, start: int, now: int) -> dict[str, Any]:
        found = self._sent.since(start)
        return {
            "age": age(self._sent.heard, now),
            "t": [self.seconds(at) for at, _ in found],
            "values": [plain(answer.action) for _, answer in found],
            "verdict": [answer.verdict for _, answer in found],
        }

    def _guardian(self, now: int) -> dict[str, Any]:
        status = self._nodes.get("guardian")
        values = {} if status is None else status.values
        counts = {verdict.name.lower(): _whole(values.get(verdict.name.lower())) for verdict in Verdict if verdict}
        return {
            "age": age(None if status is None else status.heard, now),
            "stopped": self._stopped,
            "reason": self._reason,
            "enabled": {"True": True, "False": False}.get(values.get("enabled", "")),
            "counts": counts,
            "others": "" if values.get("other publishers", "none") == "none" else values["other publishers"],
        }

    def _status(self, now: int) -> list[dict[str, Any]]:
        names = [*EXPECTED, *sorted(set(self._nodes) - set(EXPECTED))]
        found = []
        for name in names:
            status = self._nodes.get(name)
            if status is None:
                found.append({"name": name, "age": None, "level": "", "summary": ""})
            else:
                heard = age(status.heard, now)
                found.append({"name": name, "age": heard, "level": status.level, "summary": status.summary})
        return found

    def _episode(self, now: int) -> dict[str, Any]:
        told = self._history.current
        document = {} if told is None else told.document() | {"task": told.state.task}
        return document | {"age": age(self._episode_heard, now), "source": self._source, "asks": self._asks}

    def _learning(self, now: int, *, backward: bool) -> dict[str, Any] | None:
        """None where no learner was ever heard."""
        status = self._nodes.get(of("learner", backward))
        said, heard = self._learned.get(backward, (None, None))
        if status is None and said is None:
            return None
        return {
            "age": age(None if status is None else status.heard, now),
            "level": "" if status is None else status.level,
            "summary": "" if status is None else status.summary,
            "values": {} if status is None else status.values,
            "said": said,
            "said_age": age(heard, now),
        }


def _source(number: int) -> str:
    return Source(number).name.lower() if number in set(Source) else ""


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _flat(content: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Entries of nested mappings under joined names, each as something that a browser shows exactly."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            found |= _flat(value, f"{name} ")
        elif isinstance(value, float):
            found[name] = value if math.isfinite(value) else str(value)
        elif value is None or isinstance(value, bool | str):
            found[name] = value
        elif isinstance(value, int):
            found[name] = value if abs(value) < EXACT else f"{value:016x}"
        else:
            found[name] = json.dumps(value)
    return found
