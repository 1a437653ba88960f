"""The actor decides at every tick: by the policy, by a person, or that the robot shall hold still."""

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from episodes.contract import Contract
from episodes.episode import Source
from episodes.errors import InputError
from policies import policy as policies_policy
from policies.feasibility import Judgement, Ruling
from policies.policy import Policy
from robot.acting import Actor, Hands, check_policy_fits
from robot.contract import Intervention
from robot.frames import Frame
from robot.reports import ActorStep, EpisodeState, decode, encode
from tests.robot.contracts import SECOND, contract

NOW = 100 * SECOND
STAMPS = (NOW - 2, NOW - 1)
HANDS: dict[str, Any] = {
    "topic": "joy",
    "engaged": "buttons[1]",
    "max_age": 0.5,
    "axes": [
        {"action": "to_shoulder", "path": "axes[0]", "absolute": True},
        {"action": "to_elbow", "path": "axes[1]", "absolute": True},
        {"action": "push", "path": "axes[2]", "scale": -0.05},
    ],
}


class Recorder:
    """A policy that notes what it is asked, and answers with its number."""

    def __init__(self, number: int = 1):
        self.policy_hash = 1000 + number
        self.number = number
        self.seeds: list[int] = []
        self.seen: list[dict[str, np.ndarray]] = []
        self.watched: list[dict[str, np.ndarray]] = []

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def replan(self, seed: int) -> None:
        self.seeds.append(seed)

    def observe(self, observation: dict[str, np.ndarray]) -> None:
        self.watched.append(observation)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self.seen.append(observation)
        return np.array([0.1, 0.2, self.number], np.float32)


def frame(tick: int = NOW, missing: tuple[str, ...] = (), stale: tuple[str, ...] = (), **images: np.ndarray) -> Frame:
    return Frame(tick, np.arange(5, dtype=np.float32), images, STAMPS, missing, stale)


def joy(*axes: float, engaged: bool = True, stamp: int = 0) -> SimpleNamespace:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=stamp // SECOND, nanosec=stamp % SECOND))
    return SimpleNamespace(header=header, axes=list(axes), buttons=[0, int(engaged)])


def running(policy: Any = None, stamp: int = 0, **changes: Any) -> Actor:
    policy = policy or Recorder()
    actor = Actor(contract(**changes), lambda: policy)
    actor.on_episode(EpisodeState("e1", True, stamp))
    return actor


def hands(**changes: Any) -> Hands:
    robot = contract(intervention={**HANDS, **changes})
    assert isinstance(robot.intervention, Intervention)
    layout = robot.layout()
    return Hands(robot.intervention, layout.action_names, layout.action_low, layout.action_high)


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


def test_when_nobody_says_any_more_that_an_episode_goes_on_nothing_is_wanted() -> None:
    one = running()
    assert one.step(frame(NOW), NOW).action is not None
    one.abandon()
    step = one.step(frame(NOW + 1), NOW + 1)
    assert (step.action, step.episode, one.running) == (None, "", False)


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


# A person takes over.


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


# Whether a policy can serve a robot.


def trained(**changes: Any) -> Contract:
    return contract(**changes).layout()


WRIST = {"name": "wrist", "topic": "wrist/image", "height": 8, "width": 6, "rate": 10, "max_age": 0.2}


def test_a_policy_fits_the_robot_that_it_was_trained_on() -> None:
    check_policy_fits(trained(), None, contract())
    check_policy_fits(trained(cameras=[WRIST]), "wrist", contract(cameras=[WRIST]))


def test_limits_may_differ() -> None:
    check_policy_fits(trained(commands__0__fields__0__low=-0.5), None, contract())


def test_a_camera_that_the_policy_does_not_see_may_be_missing() -> None:
    check_policy_fits(trained(cameras=[WRIST]), None, contract())


@pytest.mark.parametrize(
    ("changes", "camera", "said"),
    [
        (
            {"observations__1__fields__0__name": "tip_z"},
            None,
            "contract 'arm' does not fit the policy: state entry 4 is ('tip_x', 'm'), expected ('tip_z', 'm')",
        ),
        ({"observations__1__fields__0__unit": ""}, None, "state entry 4 is ('tip_x', 'm'), expected ('tip_x', '')"),
        (
            {"observations__1__fields__1": {"path": "point.y", "name": "tip_y"}},
            None,
            "state 5 entries, expected 6",
        ),
        ({"commands__1__fields__0__name": "pull"}, None, "action entry 2 is ('push', 'm'), expected ('pull', 'm')"),
        ({"name": "leg"}, None, "contract 'arm': the policy was trained on 'leg', another robot's layout"),
        ({"rate": 20}, None, "contract 'arm': 10 Hz, and the policy was trained at 20 Hz"),
        ({"cameras": [WRIST]}, "wrist", "the policy sees camera 'wrist' at 8x6; it has: none"),
    ],
)
def test_a_policy_of_another_robot_is_refused(changes: dict[str, Any], camera: str | None, said: str) -> None:
    with pytest.raises(InputError) as refused:
        check_policy_fits(trained(**changes), camera, contract())
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_camera_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="at 8x6; it has: wrist 4x6"):
        check_policy_fits(trained(cameras=[WRIST]), "wrist", contract(cameras=[{**WRIST, "height": 4}]))


def test_a_policy_that_does_not_say_what_it_was_trained_on_is_refused() -> None:
    with pytest.raises(InputError, match="does not say what it was trained on"):
        check_policy_fits(None, None, contract())


def test_a_policy_of_no_rate_fits_any() -> None:
    layout = trained()
    check_policy_fits(Contract(layout.name, layout.state, layout.action, layout.cameras), None, contract())
