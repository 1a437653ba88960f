"""The actor decides at every tick: by the policy, or that the robot shall hold still."""

from typing import Any

import numpy as np
import pytest

from episodes.episode import Source
from episodes.errors import InputError
from robot.acting import Actor, Waiting
from robot.frames import Frame
from robot.reports import ActorStep, EpisodeState, decode, encode
from robot.step_order import StepOrder
from tests.robot.acting import NOW, STAMPS, Recorder, frame, running
from tests.robot.contracts import SECOND, contract


def test_between_episodes_nothing_is_wanted() -> None:
    policy = Recorder()
    actor = Actor(contract(), lambda: policy)
    assert not actor.running
    assert actor.step(frame(), NOW + 7) == ActorStep(NOW, "", STAMPS, None, late=7)
    actor.on_episode(EpisodeState("e1", True, 0))
    actor.on_episode(EpisodeState("e1", False, NOW))
    assert actor.step(frame(), NOW).action is None
    assert actor.step(frame(), NOW).episode == ""
    assert policy.seen == []


@pytest.mark.parametrize("stochastic", [False, True])
def test_an_evaluation_is_acted_by_the_mean_whatever_else_is(stochastic: bool) -> None:
    policy, seen = Recorder(), []
    actor = Actor(contract(), lambda: policy, stochastic=stochastic)
    for number, evaluation in enumerate([False, True, True, False]):
        state = EpisodeState(f"e{number}", True, 0, evaluation=evaluation)
        seen.append((actor.stays(state), actor.on_episode(state), policy.deterministic))
        actor.on_episode(EpisodeState(f"e{number}", False, NOW, evaluation=evaluation))
    assert [deterministic for _, _, deterministic in seen] == [not stochastic, True, True, not stochastic]
    # Episodes that are to show how good a policy is are all of the same one.
    assert [stays for stays, _, _ in seen] == [False, False, True, False]


def test_in_an_episode_the_policy_is_asked_once_per_step() -> None:
    policy = Recorder(3)
    actor = running(policy)
    image = np.zeros((2, 2, 3), np.uint8)
    step = actor.step(frame(wrist=image), NOW + 11)
    assert (step.tick, step.episode, step.stamps, step.late) == (NOW, "e1", STAMPS, 11)
    assert step.action == (float(np.float32(0.1)), float(np.float32(0.2)), 3.0)
    assert (step.source, step.policy, step.log_probability) == (Source.POLICY, 1003, None)
    (seen,) = policy.seen
    assert set(seen) == {"state", "image/wrist"}
    np.testing.assert_array_equal(seen["state"], np.arange(5))
    assert seen["image/wrist"] is image
    assert decode(ActorStep, encode(step)) == step


def test_what_was_drawn_is_told_as_it_was_before_limits_cut_it_off() -> None:
    policy: Any = Recorder()
    policy.proposed, policy.log_probability = np.array([9.0, 0.2, 1.0], np.float32), -2.0
    step = running(policy).step(frame(), NOW)
    assert step.proposed == pytest.approx((9.0, 0.2, 1.0)) and step.action == pytest.approx((0.1, 0.2, 1))
    assert step.log_probability == -2.0


def test_a_policy_that_knows_how_likely_its_action_was_says_so() -> None:
    policy: Any = Recorder()
    policy.log_probability = -1.5
    assert running(policy).step(frame(), NOW).log_probability == -1.5


@pytest.mark.parametrize("seen", [frame(missing=("tip",)), frame(stale=("tip",)), frame(tick=NOW - 1)])
def test_nothing_is_wanted_of_what_cannot_be_seen_or_was_before_the_episode(seen: Frame) -> None:
    policy = Recorder()
    actor = running(policy, stamp=NOW)
    step = actor.step(seen, NOW)
    assert (step.action, step.episode, step.source, step.policy) == (None, "e1", Source.UNKNOWN, 0)
    assert step.stamps == STAMPS
    assert policy.seen == []
    assert actor.steps == 0
    assert actor.step(frame(), NOW).action is not None
    assert actor.steps == 1


def test_an_action_at_a_limit_is_the_contracts_limit_and_every_other_is_left_alone() -> None:
    class AtLimits(Recorder):
        def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
            return np.array([-1.0, 0.3, sign * 0.1], np.float32)

    for sign in (1, -1):
        action = running(AtLimits()).step(frame(), NOW).action
        assert action == (-1.0, float(np.float32(0.3)), sign * 0.1)


def test_nonsense_of_a_policy_is_left_to_the_guardian() -> None:
    class Broken(Recorder):
        def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
            return np.array([np.nan, np.inf, 1e9])

    action = running(Broken()).step(frame(), NOW).action
    assert action is not None
    assert np.isnan(action[0])
    assert action[1:] == (np.inf, 1e9)


def test_every_episode_begins_with_a_seed_of_its_own() -> None:
    policy = Recorder()
    actor = Actor(contract(), lambda: policy)
    for name in ("e1", "e2", "e3"):
        actor.on_episode(EpisodeState(name, True, 0))
        actor.on_episode(EpisodeState(name, True, 0))
        actor.step(frame(), NOW)
        assert actor.steps == 1
        actor.on_episode(EpisodeState(name, False, 1))
    assert policy.seeds == [0, 1, 2]


def test_an_actor_that_is_started_again_draws_otherwise() -> None:
    policy = Recorder()
    for stamp in (7, 8):
        actor = Actor(contract(), lambda: policy, by_number=False)
        actor.on_episode(EpisodeState(f"e{stamp}", True, stamp))
    assert policy.seeds == [7, 8]


def test_when_nobody_says_any_more_that_an_episode_goes_on_nothing_is_wanted() -> None:
    one = running()
    assert one.step(frame(NOW), NOW).action is not None
    one.abandon()
    step = one.step(frame(NOW + 1), NOW + 1)
    assert (step.action, step.episode, one.running) == (None, "", False)


def test_an_episode_that_was_over_stays_over() -> None:
    """The guardian would take an actor that goes on with it for another one."""
    one = running()
    order = StepOrder(["to_shoulder", "to_elbow", "push"], one.contract.period, SECOND)
    period, again = one.contract.period, EpisodeState("e1", True, 0)
    ticks = [NOW + k * period for k in range(4)]
    faults = [order.fault(one.step(frame(ticks[0]), ticks[0]), ticks[0])]
    one.abandon()
    for tick in ticks[1:3]:
        faults.append(order.fault(one.step(frame(tick), tick), tick))
        one.on_episode(again)
        assert not one.running
    one.on_episode(EpisodeState("e1", False, NOW))
    one.on_episode(EpisodeState("e2", True, NOW))
    step = one.step(frame(ticks[3]), ticks[3])
    assert (step.episode, step.action is not None) == ("e2", True)
    assert [*faults, order.fault(step, ticks[3])] == [""] * 4


def test_a_policy_is_changed_between_episodes_only() -> None:
    made = [Recorder(number) for number in range(3)]
    waiting = iter(made)
    actor = Actor(contract(), lambda: next(waiting))
    actor.prepare()
    actor.on_episode(EpisodeState("e1", True, 0))
    assert actor.step(frame(), NOW).policy == 1001
    with pytest.raises(AssertionError, match="not changed while it acts"):
        actor.prepare()
    assert actor.step(frame(), NOW).policy == 1001
    actor.on_episode(EpisodeState("e1", False, 1))
    actor.prepare()
    actor.on_episode(EpisodeState("e2", True, 2))
    assert actor.step(frame(), NOW).policy == 1002
    assert [policy.seeds for policy in made] == [[], [0], [1]]


def test_another_task_has_another_policy_even_while_one_is_evaluated() -> None:
    actor = Actor(contract(), Recorder)
    assert actor.begins(EpisodeState("e1", True, 0, "lift"))
    actor.on_episode(EpisodeState("e1", True, 0, "lift", evaluation=True))
    assert not actor.begins(EpisodeState("e1", True, 0, "lift"))
    assert not actor.begins(EpisodeState("e1", False, 0, "lift"))
    assert actor.stays(EpisodeState("e2", True, 1, "lift", evaluation=True))
    assert not actor.stays(EpisodeState("e2", True, 1, "put back", evaluation=True))
    # Its end was not heard.
    assert actor.begins(EpisodeState("e2", True, 1, "put back"))


def test_a_policy_that_cannot_be_loaded_leaves_the_last_one() -> None:
    first = Recorder(1)

    def load() -> Recorder:
        if loads:
            raise InputError("torn")
        loads.append(1)
        return first

    loads: list[int] = []
    actor = Actor(contract(), load)
    with pytest.raises(InputError, match="torn"):
        actor.prepare()
    actor.on_episode(EpisodeState("e1", True, 0))
    assert actor.step(frame(), NOW).policy == 1001


@pytest.mark.parametrize(("came", "over"), [([60, 70, 80, 148], 150), ([100], 150), ([160], 210), ([5000], 5050)])
def test_an_input_that_does_not_come_is_waited_for_half_a_period(came: list[int], over: int) -> None:
    """However often another one comes, and not because that one comes late; a period is of 100."""
    waiting = Waiting(100)
    waiting.stepped(NOW)
    assert not any(waiting.over(NOW + at) for at in came)
    assert not waiting.over(NOW + over - 1)
    assert waiting.over(NOW + over)
    waiting.stepped(NOW + over)
    assert not waiting.over(NOW + over + 149)
    waiting.forget()
    assert not waiting.over(10)
    assert waiting.over(150)
