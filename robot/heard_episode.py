"""What somebody who runs episodes hears of them."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from typing import Any, TypeVar

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from std_msgs.msg import String

from episodes.episode import Source
from episodes.errors import InputError
from robot.nodes.shell import REPORTS, STATES
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
    decode,
    finite,
)

SETTLING = 5.0
"""How long may be waited for what belongs to an episode, or for who is known to report on it [s]."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RobotEpisode:
    """What became of an episode on the robot."""

    name: str
    success: bool | None
    """None where nobody said."""
    steps: int
    """That a store has of it: of the actor, answered by the guardian, from the first one with an action on of which is
    known what was sent."""
    reward: float
    """Sum of the rewards that somebody told; 0 where nobody did."""
    best_reward: float
    changed: int
    """Steps whose command was not what the actor had proposed."""
    helped: int
    """Steps in which a person took over."""
    rulings: dict[str, int]
    """Of the feasibility filter, and how often each was made; empty where there is none."""
    policy: int
    """Hash of the policy that acted; 0 where none did."""
    reason: str
    evaluation: bool = False
    truth: bool | None = None
    """Whether it was a success, by a simulation that somebody else judges; None where nobody knows."""
    backward: bool = False
    """Whether it was of the task that undoes the other."""


class HeardEpisode:
    """The newest episode, by what recorder, actor, guardian and judges report.

    Args:
        node: that hears; its callbacks come in another thread than the calls here.
    """

    def __init__(self, node: Node):
        self._node = node
        self._changed = threading.Condition()
        self._state = EpisodeState("", False, 0)
        self._outcomes: list[Outcome] = []
        self._truths: list[Outcome] = []
        self._sent: list[Sent] = []
        self._steps: list[ActorStep] = []
        self._begun: set[str] = set()
        """Episodes that were heard to be under way."""
        self._matched: dict[str, int] = {}
        """Publishers per topic whose messages come."""
        self._recorders = 0
        """That have come so far, those that have gone again included."""
        self._began = 0
        """Stamp of the episode's beginning [ns]."""
        for topic, take, qos in (
            (EPISODE_TOPIC, self._on_episode, STATES),
            (OUTCOME_TOPIC, self._collect(Outcome, self._outcomes), STATES),
            (TRUTH_TOPIC, self._collect(Outcome, self._truths), STATES),
            (SENT_TOPIC, self._collect(Sent, self._sent), REPORTS),
            (STEP_TOPIC, self._collect(ActorStep, self._steps), REPORTS),
        ):
            events = SubscriptionEventCallbacks(matched=partial(self._on_matched, topic))
            node.create_subscription(String, topic, take, qos, event_callbacks=events)

    @property
    def recorders(self) -> int:
        """How many there have been, those that have gone again included: one that is started again counts anew."""
        return self._recorders

    @property
    def sent(self) -> int:
        """Commands that were heard of in this episode."""
        return len(self._sent)

    def clear(self) -> None:
        """Forget what was heard of the last one, when everybody who is known to report is heard."""
        with self._changed:
            self._changed.wait_for(self._hears_all, SETTLING)
            for collected in (self._outcomes, self._truths, self._sent, self._steps):
                collected.clear()

    def ends(self, name: str, timeout: float) -> bool:
        """Wait until it is over, at most `timeout` s.

        Raises:
            InputError: where it is lost with its recorder.
        """
        with self._changed:
            over = self._changed.wait_for(lambda: self._over(name) or self._lost(name), timeout)
            if self._lost(name):
                raise InputError(f"episode {name} is lost: the recorder was started again while it was under way")
            return over

    def told(self, name: str, *, backward: bool) -> RobotEpisode:
        """What became of one that is over, when what others say of its last step has come."""
        with self._changed:
            # The end is told on another topic than what belongs to it.
            self._changed.wait_for(lambda: self._settled(name), SETTLING)
            # Whoever judges may not be known yet; what was told of the task comes all the same, only later.
            self._changed.wait_for(lambda: self._state.success is not None or self._outcomes, SETTLING)
            return self._told(name, backward=backward)

    def _hears_all(self) -> bool:
        """Whether a message of everybody who is known to report would come; the graph knows them sooner."""
        reports = (EPISODE_TOPIC, STEP_TOPIC, SENT_TOPIC, OUTCOME_TOPIC, TRUTH_TOPIC)
        return all(self._matched.get(topic, 0) >= self._node.count_publishers(topic) for topic in reports)

    def _over(self, name: str) -> bool:
        return self._state.episode == name and not self._state.running

    def _lost(self, name: str) -> bool:
        """Whether the recorder, which had begun an episode, knows nothing of it any more."""
        return name in self._begun and self._state.episode != name

    def _settled(self, name: str) -> bool:
        """Whether what others say of the episode's last step has come."""
        judged = not self._outcomes or self._outcomes[-1].stamp >= self._state.stamp
        answered = {sent.tick for sent in self._sent if sent.episode == name}
        return judged and not (answered and self._wanted(name).keys() - answered)

    def _wanted(self, name: str) -> dict[int, ActorStep]:
        """Steps of the episode in which something was wanted, by tick."""
        steps = [step for step in self._steps if step.episode == name and step.acts]
        return {step.tick: step for step in steps if step.tick < self._state.stamp}

    def _told(self, name: str, *, backward: bool) -> RobotEpisode:
        wanted = self._wanted(name)
        sent = [s for s in self._sent if s.episode == name and s.tick in wanted]
        outcomes = [outcome for outcome in self._outcomes if self._began < outcome.stamp <= self._state.stamp]
        truths = [truth.success for truth in self._truths if self._began < truth.stamp <= self._state.stamp]
        rewards = [outcome.reward for outcome in outcomes if outcome.reward is not None]
        succeeded = self._state.success
        if succeeded is None and outcomes:
            succeeded = any(outcome.success for outcome in outcomes)
        begins = dropwhile(
            lambda s: wanted[s.tick].action is None or not finite(s.action), sorted(sent, key=lambda s: s.tick)
        )
        return RobotEpisode(
            name=name,
            success=succeeded,
            steps=len(list(begins)),
            reward=sum(rewards),
            best_reward=max(rewards, default=0.0),
            changed=sum(wanted[s.tick].action not in (None, s.action) for s in sent),
            helped=sum(wanted[s.tick].source == Source.INTERVENTION for s in sent),
            rulings=dict(Counter(wanted[s.tick].ruling for s in sent if wanted[s.tick].ruling)),
            policy=max((step.policy for step in wanted.values()), default=0),
            reason=self._state.reason,
            evaluation=self._state.evaluation,
            truth=any(truths) if truths else None,
            backward=backward,
        )

    def _on_episode(self, message: String) -> None:
        state = _heard(EpisodeState, message)
        if state is None:
            return
        with self._changed:
            self._state = state
            if state.running:
                self._began = state.stamp
                self._begun.add(state.episode)
            self._changed.notify_all()

    def _on_matched(self, topic: str, info: Any) -> None:
        with self._changed:
            self._matched[topic] = info.current_count
            if topic == EPISODE_TOPIC:
                self._recorders = info.total_count
            self._changed.notify_all()

    def _collect(self, cls: Any, into: list[Any]) -> Callable[[String], None]:
        def take(message: String) -> None:
            report = _heard(cls, message)
            # Who waits for a person hears of many steps between episodes.
            between = isinstance(report, ActorStep | Sent) and not report.episode
            if report is not None and not between:
                with self._changed:
                    into.append(report)
                    self._changed.notify_all()

        return take


def _heard(cls: type[R], message: String) -> R | None:
    """A report; None for what is none: somebody else's mistake."""
    try:
        return decode(cls, message.data)
    except InputError:
        return None
