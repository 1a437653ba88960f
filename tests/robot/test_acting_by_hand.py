"""A person takes the robot over from the policy, and lets go of it."""

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from episodes.episode import Source
from policies import policy as policies_policy
from policies.policy import Policy
from robot.acting import Actor
from robot.frames import Frame
from robot.reports import EpisodeState
from tests.robot.acting import HANDS, NOW, STAMPS, Recorder, frame, hands, joy, running
from tests.robot.contracts import SECOND, contract


def test_a_person_takes_over_and_lets_go() -> None:
    policy = Recorder()
    actor = running(policy, intervention=HANDS)
    assert actor.hands is not None
    assert actor.step(frame(), NOW).source == Source.POLICY
    actor.hands.receive(joy(0.5, -0.5, 1.0), NOW)
    step = actor.step(frame(), NOW)
    assert step.action == (0.5, -0.5, -0.05)
    assert (step.source, step.policy, step.log_probability) == (Source.INTERVENTION, 0, None)
    assert (actor.steps, len(policy.seen)) == (2, 1)
    actor.hands.receive(joy(0.5, -0.5, 1.0, engaged=False), NOW)
    assert actor.step(frame(), NOW).source == Source.POLICY


def test_a_person_moves_nothing_between_episodes_or_blind() -> None:
    actor = Actor(contract(intervention=HANDS), Recorder)
    assert actor.hands is not None
    actor.hands.receive(joy(0.5, -0.5, 1.0), NOW)
    assert actor.step(frame(), NOW).action is None
    actor.on_episode(EpisodeState("e1", True, 0))
    assert actor.step(frame(missing=("tip",)), NOW).action is None
    assert actor.step(frame(), NOW).source == Source.INTERVENTION


def test_a_device_that_falls_silent_is_let_go_of_after_its_maximum_age() -> None:
    one = hands()
    one.receive(joy(0.5, 0.5, 0.0), NOW)
    assert one.action(NOW + SECOND // 2) is not None
    assert one.action(NOW + SECOND // 2 + 1) is None


def test_a_devices_own_stamp_counts_where_it_has_one() -> None:
    one = hands()
    one.receive(joy(0.5, 0.5, 0.0, stamp=NOW - SECOND), NOW)
    assert one.action(NOW) is None


def test_a_device_whose_clock_is_ahead_is_let_go_of_when_it_falls_silent() -> None:
    one = hands()
    one.receive(joy(0.5, 0.5, 0.0, stamp=NOW + 3600 * SECOND), NOW)
    assert one.action(NOW + 60 * SECOND) is None


def test_a_wish_is_inside_the_limits() -> None:
    one = hands()
    one.receive(joy(9.0, -9.0, -9.0), NOW)
    np.testing.assert_array_equal(one.action(NOW), np.array([1.0, -2.0, 0.1], np.float32).astype(np.float64))


@pytest.mark.parametrize(
    "message",
    [
        SimpleNamespace(axes=[0.5, 0.5, 0.5], buttons=[1]),
        SimpleNamespace(axes=[0.5], buttons=[1, 1]),
        SimpleNamespace(axes=[0.5, 0.5, 0.5]),
        SimpleNamespace(buttons=[1, 1]),
        SimpleNamespace(axes=[0.5, np.nan, 0.5], buttons=[1, 1]),
        SimpleNamespace(axes=[0.5, np.inf, 0.5], buttons=[1, 1]),
    ],
)
def test_a_device_that_does_not_say_everything_is_let_go_of(message: SimpleNamespace) -> None:
    one = hands()
    one.receive(joy(0.5, 0.5, 0.5), NOW)
    assert one.action(NOW) is not None
    one.receive(message, NOW)
    assert one.action(NOW) is None


def test_a_velocity_that_no_axis_drives_is_zero() -> None:
    one = hands(axes=HANDS["axes"][:2])
    one.receive(joy(0.5, 0.25), NOW)
    np.testing.assert_array_equal(one.action(NOW), [0.5, 0.25, 0])


@pytest.mark.parametrize("path", ["buttons", "axes", "header"])
def test_a_list_is_no_button(path: str) -> None:
    one = hands(engaged=path)
    one.receive(joy(0.5, 0.5, 0.5, engaged=False), NOW)
    assert one.action(NOW) is None


def test_a_list_is_no_axis() -> None:
    one = hands(axes=[*HANDS["axes"][:2], {"action": "push", "path": "axes"}])
    one.receive(joy(0.5, 0.5, 0.5), NOW)
    assert one.action(NOW) is None


def test_a_policy_chooses_anew_when_a_person_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chunks:
        """Plans four actions that go on from the state."""

        preparation = SimpleNamespace(mean=torch.zeros(1), history=1)

        def act(self, state: torch.Tensor, features: Any, generator: Any) -> torch.Tensor:
            return (state[:, :1] + torch.arange(4.0)).reshape(1, 4, 1).expand(1, 4, 3)

    monkeypatch.setattr(policies_policy, "actor_hash", lambda _: 7)
    algorithm: Any = Chunks()
    actor = running(Policy(algorithm), intervention=HANDS)
    assert actor.hands is not None
    assert actor.step(frame(), NOW).action == (0.0, 0.0, 0.0)
    actor.hands.receive(joy(0.5, 0.5, 0.0), NOW)
    actor.step(frame(), NOW)
    actor.hands.receive(joy(0.5, 0.5, 0.0, engaged=False), NOW)
    moved = Frame(NOW, np.full(5, 0.75, np.float32), {}, STAMPS, (), ())
    assert actor.step(moved, NOW).action == (0.75, 0.75, 0.75)


def test_a_policy_begins_anew_after_a_gap_and_only_then() -> None:
    policy = Recorder()
    actor = running(policy, intervention=HANDS)
    assert actor.hands is not None
    actor.step(frame(missing=("tip",)), NOW)
    actor.step(frame(), NOW)
    actor.step(frame(NOW + 1), NOW + 1)
    assert policy.seeds == [0], "there was nothing to forget before the first step"
    actor.step(frame(NOW + 2, stale=("tip",)), NOW + 2)
    actor.step(frame(NOW + 3), NOW + 3)
    actor.step(frame(NOW + 4), NOW + 4)
    assert policy.seeds == [0, NOW + 3]
    actor.hands.receive(joy(0.5, 0.5, 0.5), NOW + 5)
    actor.step(frame(NOW + 5), NOW + 5)
    actor.hands.receive(joy(0.5, 0.5, 0.5, engaged=False), NOW + 6)
    actor.on_episode(EpisodeState("e1", False, NOW + 6))
    actor.on_episode(EpisodeState("e2", True, NOW + 7))
    actor.step(frame(NOW + 7), NOW + 7)
    assert policy.seeds == [0, NOW + 3, 1], "an episode begins with its own seed"


def test_a_policys_history_is_what_the_recording_will_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every observation with a step: its own, those in a chunk, and a person's; none of a tick that nothing came of."""

    class Remembering:
        """Notes which places it is shown; a chunk of two."""

        preparation = SimpleNamespace(mean=torch.zeros(1), history=3)
        shown: ClassVar[list[list[float]]] = []

        def act(self, state: torch.Tensor, features: Any, generator: Any) -> torch.Tensor:
            self.shown.append(state[0, :, 0].tolist())
            return torch.zeros(1, 2, 3)

    monkeypatch.setattr(policies_policy, "actor_hash", lambda _: 7)
    algorithm: Any = Remembering()
    actor = running(Policy(algorithm), intervention=HANDS)
    assert actor.hands is not None
    recorded: list[float] = []

    def tick(place: float, *, engaged: bool = False, missing: tuple[str, ...] = ()) -> None:
        actor.hands.receive(joy(0.5, 0.5, 0.0, engaged=engaged), NOW)
        seen = Frame(NOW, np.full(5, place, np.float32), {}, STAMPS, missing, ())
        if actor.step(seen, NOW).action is not None:
            recorded.append(place)

    for place in (1.0, 2.0, 3.0):
        tick(place)
    tick(4.0, engaged=True)
    tick(5.0, engaged=True)
    tick(6.0)
    tick(7.0, missing=("tip",))
    tick(8.0)
    tick(9.0)
    assert recorded == [1, 2, 3, 4, 5, 6, 8, 9]
    assert algorithm.shown == [[1, 1, 1], [1, 2, 3], [4, 5, 6], [5, 6, 8]]
    actor.on_episode(EpisodeState("e1", False, NOW))
    actor.on_episode(EpisodeState("e2", True, NOW))
    tick(1.0)
    assert algorithm.shown[-1] == [1, 1, 1]


def test_messages_of_rclpy_move_the_robot(ros_message) -> None:
    one = hands()
    message = ros_message("sensor_msgs/msg/Joy")
    message.axes, message.buttons = [0.5, -0.25, 0.0], [0, 1]
    message.header.stamp.sec = NOW // SECOND
    one.receive(message, NOW)
    np.testing.assert_array_equal(one.action(NOW), [0.5, -0.25, 0.0])
