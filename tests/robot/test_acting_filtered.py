"""The actor behind the feasibility filter: what passes, what is replaced, and that the robot is held."""

from typing import Any

import numpy as np
import pytest

from episodes.episode import Source
from policies.feasibility import Judgement, Ruling
from robot.acting import Actor
from robot.reports import ActorStep, EpisodeState, decode, encode
from tests.robot.acting import HANDS, NOW, STAMPS, Recorder, frame, joy, running
from tests.robot.contracts import contract


class Strict:
    """A filter that rules as it is told to."""

    def __init__(self, ruling: Ruling, action: np.ndarray | None = None):
        self.judged = Judgement(ruling, action, "")
        self.seeds: list[int] = []
        self.asked: list[tuple[Any, Any, Any]] = []

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def judge(self, observation: Any, own: np.ndarray, policy: object = None) -> Judgement:
        self.asked.append((observation, own, policy))
        return self.judged if self.judged.ruling != Ruling.OWN else Judgement(Ruling.OWN, own, "")


def judged_by(judge: Strict, policy: Any = None, **changes: Any) -> Actor:
    policy = policy or Recorder()
    actor = Actor(contract(**changes), lambda: policy, judge=judge)
    actor.on_episode(EpisodeState("e1", True, 0))
    return actor


def test_what_the_filter_lets_pass_is_the_policys_own_action() -> None:
    judge, policy = Strict(Ruling.OWN), Recorder()
    policy.log_probability = -1.5  # type: ignore[attr-defined]
    step = judged_by(judge, policy).step(frame(), NOW)
    alone = running(policy).step(frame(), NOW)
    assert (step.ruling, step.proposed) == ("own", None)
    assert (step.action, step.policy, step.log_probability) == (alone.action, 1001, -1.5)
    ((observation, own, asked),) = judge.asked
    np.testing.assert_array_equal(observation["state"], np.arange(5))
    assert own.tolist() == pytest.approx([0.1, 0.2, 1]) and asked is policy


def test_an_alternative_is_wanted_instead_and_says_so() -> None:
    policy = Recorder()
    policy.log_probability = -1.5  # type: ignore[attr-defined]
    step = judged_by(Strict(Ruling.ALTERNATIVE, np.array([0.0, -0.5, 0.25], np.float32)), policy).step(frame(), NOW)
    assert step.action == (0.0, -0.5, 0.25) and step.ruling == "alternative" and step.acts
    assert step.proposed is not None and step.proposed == pytest.approx((0.1, 0.2, 1))
    assert step.log_probability is None, "it was not drawn from the policy"
    assert decode(ActorStep, encode(step)) == step


def test_where_the_filter_stops_the_robot_holds_still_and_the_step_counts() -> None:
    actor = judged_by(Strict(Ruling.STOP))
    step = actor.step(frame(), NOW)
    assert step.action is None and step.ruling == "stop" and step.acts and step.proposed is not None
    assert actor.steps == 1 and actor.rulings[Ruling.STOP] == 1
    assert not ActorStep(NOW, "e1", STAMPS, None).acts, "one that sees nothing wants nothing"


def test_a_person_is_guarded_and_not_filtered() -> None:
    judge = Strict(Ruling.STOP)
    actor = judged_by(judge, intervention=HANDS)
    assert actor.hands is not None
    actor.hands.receive(joy(0.1, 0.0, 1.0), NOW)
    step = actor.step(frame(), NOW)
    assert step.action is not None and step.source == Source.INTERVENTION and step.ruling == "" and not judge.asked


def test_the_filter_begins_anew_with_every_episode() -> None:
    judge = Strict(Ruling.OWN)
    actor = judged_by(judge)
    actor.on_episode(EpisodeState("e1", False, NOW))
    actor.on_episode(EpisodeState("e2", True, 0))
    assert judge.seeds == [0, 1]
