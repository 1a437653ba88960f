"""When an episode begins and ends, and when its recording is over."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from episodes.errors import InputError
from robot.contract_file import read_robot_contract
from robot.frames import Frame
from robot.recording import AFTER, GRACE, EpisodeKeeper, out_of_reach, recorded_topics
from robot.reports import ActorStep, Outcome, Sent
from tests.robot.contracts import SECOND, SHIPPED, contract

NOW = 100 * SECOND
STEADY = 5 * SECOND


def frame(missing: tuple[str, ...] = (), stale: tuple[str, ...] = ()) -> Frame:
    return Frame(NOW, np.zeros(5, np.float32), {}, (NOW, NOW), missing, stale)


def begun(**changes: Any) -> EpisodeKeeper:
    keeper = EpisodeKeeper(contract(**changes), "monday")
    keeper.start(frame(), NOW)
    return keeper


def step(tick: int, episode: str = "monday-0001", action: tuple[float, ...] | None = (0.0,)) -> ActorStep:
    return ActorStep(tick, episode, (tick, tick), action)


def outcome(stamp: int, *, success: bool = False, terminated: bool = False, truncated: bool = False) -> Outcome:
    return Outcome(stamp, success, terminated, truncated)


def test_nothing_is_under_way_at_first() -> None:
    keeper = EpisodeKeeper(contract(), "monday")
    assert (keeper.state.running, keeper.recording, keeper.state.episode) == (False, False, "")
    assert keeper.finished(step(NOW), STEADY) is None


def test_an_episode_begins_with_a_name_of_its_own_and_the_task() -> None:
    keeper = EpisodeKeeper(contract(), "monday")
    state = keeper.start(frame(), NOW)
    assert (state.episode, state.running, state.stamp, state.task) == ("monday-0001", True, NOW, "hold still")
    assert (state.terminated, state.success, state.reason) == (False, None, "")
    assert keeper.state is state
    assert keeper.recording


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (frame(missing=("tip", "joint_states")), "nothing has come on tip, joint_states: start what publishes it"),
        (frame(stale=("tip",)), "what came last on tip is too old: look at what publishes it"),
        (frame(missing=("tip",), stale=("joint_states",)), "nothing has come on tip"),
    ],
)
def test_an_episode_does_not_begin_blind(seen: Frame, said: str) -> None:
    keeper = EpisodeKeeper(contract(), "monday")
    with pytest.raises(InputError, match=said):
        keeper.start(seen, NOW)
    assert (keeper.state.running, keeper.recording) == (False, False)
    assert keeper.start(frame(), NOW).episode == "monday-0001", "a refusal uses no name up"


def test_an_episode_does_not_begin_before_the_last_one_is_recorded() -> None:
    keeper = begun()
    with pytest.raises(InputError, match="episode monday-0001 is still under way; stop it first"):
        keeper.start(frame(), NOW)
    keeper.end(NOW + 1, STEADY)
    with pytest.raises(InputError, match="monday-0001"):
        keeper.start(frame(), NOW + 2)
    assert keeper.finished(step(NOW + 1), STEADY) is not None
    assert keeper.start(frame(), NOW + 2).episode == "monday-0002"


@pytest.mark.parametrize("success", [True, False])
def test_a_person_says_how_an_episode_ended(success: bool) -> None:
    keeper = begun()
    state = keeper.end(NOW + 7, STEADY, terminated=True, success=success, reason="success")
    assert (state.episode, state.running, state.stamp) == ("monday-0001", False, NOW + 7)
    assert (state.terminated, state.success, state.reason, state.task) == (True, success, "success", "hold still")
    assert keeper.recording


def test_what_is_stopped_was_neither_a_success_nor_the_end_of_the_task() -> None:
    state = begun().end(NOW + 7, STEADY, reason="stopped")
    assert (state.terminated, state.success) == (False, None)


def test_what_is_not_under_way_cannot_be_ended() -> None:
    keeper = EpisodeKeeper(contract(), "monday")
    for _ in range(2):
        with pytest.raises(InputError, match="no episode is under way"):
            keeper.end(NOW, STEADY)
        if not keeper.recording:
            keeper.start(frame(), NOW)
            keeper.end(NOW + 1, STEADY)


def test_an_outcome_that_ends_nothing_changes_nothing() -> None:
    keeper = begun()
    assert keeper.on_outcome(outcome(NOW + 1, success=True), STEADY) is None
    assert keeper.state.running


@pytest.mark.parametrize("success", [True, False])
def test_a_task_that_ended_ends_the_episode_at_its_last_observation(success: bool) -> None:
    keeper = begun()
    state = keeper.on_outcome(outcome(NOW + 9, success=success, terminated=True), STEADY)
    assert state is not None
    assert (state.stamp, state.running, state.terminated, state.success) == (NOW + 9, False, True, success)
    assert state.reason == "the task ended"
    assert keeper.on_outcome(outcome(NOW + 10, terminated=True), STEADY) is None


@pytest.mark.parametrize("success", [True, False])
def test_a_task_whose_time_ran_out_did_not_end(success: bool) -> None:
    state = begun().on_outcome(outcome(NOW + 9, success=success, truncated=True), STEADY)
    assert state is not None
    assert (state.terminated, state.success, state.reason) == (False, None, "time limit")


def test_an_outcome_from_before_the_episode_is_not_its_own() -> None:
    keeper = begun()
    assert keeper.on_outcome(outcome(NOW - 1, terminated=True), STEADY) is None
    assert keeper.state.running


def test_an_outcome_of_the_first_observation_is_the_last_episodes() -> None:
    keeper = begun()
    assert keeper.on_outcome(outcome(NOW, terminated=True), STEADY) is None


def test_an_episode_has_as_many_actions_as_the_contract_allows() -> None:
    keeper = begun(max_steps=3)
    for number in range(3):
        assert keeper.on_step(step(NOW + number), NOW, STEADY) is None
    state = keeper.on_step(step(NOW + 3), NOW + 9, STEADY)
    assert state is not None
    assert (state.stamp, state.terminated, state.success) == (NOW + 3, False, None)
    assert state.reason == "time limit"
    assert keeper.finished(step(NOW + 3), STEADY) is not None, "its last observation is there already"


def test_stops_that_the_filter_wants_count_and_steps_that_want_nothing_do_not() -> None:
    """A robot that is held still again and again has only so many steps, too."""
    keeper = begun(max_steps=2)
    stop = replace(step(NOW, action=None), ruling="stop")
    for number, want in enumerate([stop, step(NOW, action=None), stop]):
        assert keeper.on_step(replace(want, tick=NOW + number), NOW, STEADY) is None
    state = keeper.on_step(replace(stop, tick=NOW + 3), NOW + 9, STEADY)
    assert state is not None and (state.stamp, state.reason) == (NOW + 3, "time limit")


def test_only_the_episodes_own_actions_count() -> None:
    keeper = begun(max_steps=1)
    for tick in range(NOW + 1, NOW + 5):
        for other in (step(tick, episode=""), step(tick, episode="sunday-0001"), step(tick, action=None)):
            assert keeper.on_step(other, NOW, STEADY) is None
    for _ in range(3):
        assert keeper.on_step(step(NOW), NOW, STEADY) is None, "one step is one step"
    assert keeper.on_step(step(NOW + 9), NOW, STEADY) is not None


def test_the_next_episode_is_counted_from_its_own_start() -> None:
    keeper = begun(max_steps=2)
    keeper.on_step(step(NOW), NOW, STEADY)
    keeper.end(NOW + 1, STEADY)
    keeper.finished(step(NOW + 1), STEADY)
    keeper.start(frame(), NOW + 2)
    for number in range(2):
        assert keeper.on_step(step(NOW + number, "monday-0002"), NOW, STEADY) is None
    assert keeper.on_step(step(NOW + 2, "monday-0002"), NOW, STEADY) is not None


def test_without_a_limit_an_episode_goes_on() -> None:
    keeper = begun()
    for number in range(1000):
        assert keeper.on_step(step(NOW + number), NOW, STEADY) is None


def test_a_recording_is_over_when_the_observation_after_the_last_action_was_seen() -> None:
    keeper = begun()
    assert keeper.finished(step(NOW + 99), STEADY) is None, "it is still under way"
    keeper.end(NOW + 10, STEADY, reason="stopped")
    assert keeper.finished(step(NOW + 9), STEADY) is None
    assert keeper.finished(None, STEADY) is None
    assert keeper.finished(ActorStep(NOW + 11, "", (), None), STEADY) is None, "it saw nothing"
    ended = keeper.finished(step(NOW + 10), STEADY)
    assert ended is not None
    assert ended.complete
    assert ended.state.reason == "stopped"
    assert not keeper.recording
    assert keeper.finished(step(NOW + 11), STEADY) is None, "it is said once"


def test_a_recording_does_not_wait_for_ever() -> None:
    keeper = begun()
    keeper.end(NOW + 10, STEADY)
    assert keeper.finished(step(NOW + 9), STEADY + AFTER - 1) is None
    ended = keeper.finished(step(NOW + 9), STEADY + AFTER)
    assert ended is not None
    assert not ended.complete


def test_what_is_seen_late_is_still_complete() -> None:
    keeper = begun()
    keeper.end(NOW + 10, STEADY)
    ended = keeper.finished(step(NOW + 10), STEADY + 10 * AFTER)
    assert ended is not None
    assert ended.complete


def sent(tick: int, episode: str = "monday-0001") -> Sent:
    return Sent(tick, episode, (0.0,), 0)


def stepped(*ticks: int, **changes: Any) -> EpisodeKeeper:
    """An episode with steps at these ticks, stopped after the last."""
    keeper = begun(**changes)
    for tick in ticks:
        keeper.on_step(step(tick), NOW, STEADY)
    keeper.end(ticks[-1] + 1, STEADY, reason="stopped")
    return keeper


def test_the_guardians_answer_to_the_last_step_is_waited_for() -> None:
    keeper = stepped(NOW, NOW + 1)
    keeper.on_sent(sent(NOW))
    assert keeper.finished(step(NOW + 2), STEADY) is None
    keeper.on_sent(sent(NOW + 1, "sunday-0001"))
    assert keeper.finished(step(NOW + 2), STEADY) is None
    keeper.on_sent(sent(NOW + 1))
    assert keeper.finished(step(NOW + 2), STEADY) is not None


def test_where_nobody_guards_no_answer_is_waited_for() -> None:
    assert stepped(NOW, NOW + 1).finished(step(NOW + 2), STEADY) is not None


def test_a_step_after_the_end_needs_no_answer() -> None:
    keeper = stepped(NOW)
    keeper.on_sent(sent(NOW))
    keeper.on_step(step(NOW + 1), NOW, STEADY)
    assert keeper.finished(step(NOW + 1), STEADY) is not None


def test_a_step_that_is_heard_of_after_the_end_needs_its_answer() -> None:
    keeper = stepped(NOW, NOW + 5)
    keeper.on_sent(sent(NOW))
    keeper.on_sent(sent(NOW + 5))
    keeper.on_step(step(NOW + 4), NOW, STEADY)
    assert keeper.finished(step(NOW + 6), STEADY) is None
    keeper.on_sent(sent(NOW + 4))
    assert keeper.finished(step(NOW + 6), STEADY) is not None


def test_an_answer_that_never_comes_is_not_waited_for_for_ever() -> None:
    keeper = stepped(NOW, NOW + 1)
    keeper.on_sent(sent(NOW))
    assert keeper.finished(step(NOW + 2), STEADY + AFTER - 1) is None
    ended = keeper.finished(step(NOW + 2), STEADY + AFTER)
    assert ended is not None
    assert ended.complete


def test_where_somebody_judges_the_last_observation_is_judged() -> None:
    keeper = begun()
    keeper.on_outcome(outcome(NOW + 1), STEADY)
    keeper.end(NOW + 3, STEADY)
    assert keeper.finished(step(NOW + 3), STEADY) is None
    keeper.on_outcome(outcome(NOW + 2), STEADY)
    assert keeper.finished(step(NOW + 3), STEADY) is None
    assert keeper.on_outcome(outcome(NOW + 3, terminated=True), STEADY) is None, "it has ended already"
    assert keeper.finished(step(NOW + 3), STEADY) is not None


def test_the_end_itself_has_to_be_in_the_recording() -> None:
    keeper = stepped(NOW)
    assert keeper.finished(step(NOW + 1), STEADY, told=False) is None
    assert keeper.finished(step(NOW + 1), STEADY, told=True) is not None


def test_what_was_answered_in_one_episode_is_forgotten_in_the_next() -> None:
    keeper = stepped(NOW)
    keeper.on_sent(sent(NOW))
    keeper.on_outcome(outcome(NOW + 1), STEADY)
    assert keeper.finished(step(NOW + 1), STEADY) is not None
    keeper.start(frame(), NOW + 2)
    keeper.on_step(step(NOW + 2, "monday-0002"), NOW, STEADY)
    keeper.end(NOW + 3, STEADY)
    assert keeper.finished(step(NOW + 3), STEADY) is not None


def test_time_alone_ends_an_episode_in_which_nobody_acts() -> None:
    keeper = begun(max_steps=20)
    limit = NOW + 2 * SECOND + GRACE
    assert keeper.on_time(limit, STEADY) is None
    state = keeper.on_time(limit + 1, STEADY)
    assert state is not None
    assert (state.stamp, state.terminated, state.success, state.reason) == (limit + 1, False, None, "time limit")
    assert keeper.on_time(limit + 2, STEADY) is None


def test_time_ends_nothing_where_no_limit_was_given() -> None:
    assert begun().on_time(NOW + 10**6 * SECOND, STEADY) is None


def test_everything_that_the_contract_names_is_recorded() -> None:
    whole = contract(
        cameras=[{"name": "w", "topic": "w/image", "height": 2, "width": 2, "rate": 10, "max_age": 1}],
        safety__force={"topic": "wrench", "limit": 20, "max_age": 0.1},
        safety__dead_man={"topic": "pedal", "path": "data", "type": "std_msgs/msg/Bool", "max_age": 0.1},
        safety__stop_topic="stop",
        intervention={
            "topic": "joy",
            "engaged": "buttons[0]",
            "max_age": 0.5,
            "axes": [
                {"action": "to_shoulder", "path": "axes[0]", "absolute": True},
                {"action": "to_elbow", "path": "axes[1]", "absolute": True},
            ],
        },
    )
    assert recorded_topics(whole, [("episode", "std_msgs/msg/String")]) == {
        "joint_states": "sensor_msgs/msg/JointState",
        "tip": "geometry_msgs/msg/PointStamped",
        "w/image": "sensor_msgs/msg/Image",
        "arm/commands": "std_msgs/msg/Float64MultiArray",
        "servo": "geometry_msgs/msg/TwistStamped",
        "wrench": "geometry_msgs/msg/WrenchStamped",
        "pedal": "std_msgs/msg/Bool",
        "joy": "sensor_msgs/msg/Joy",
        "stop": "std_msgs/msg/Bool",
        "episode": "std_msgs/msg/String",
    }


def test_the_shipped_contract_has_six_topics_to_record() -> None:
    assert len(recorded_topics(read_robot_contract(SHIPPED), [])) == 6


def limited() -> EpisodeKeeper:
    """Three steps are all, and somebody has judged the first."""
    keeper = begun(max_steps=3)
    for number in range(1, 4):
        keeper.on_step(step(NOW + number), NOW, STEADY)
    keeper.on_outcome(outcome(NOW + 2), STEADY)
    return keeper


def test_when_time_is_up_whoever_judges_is_waited_for() -> None:
    """It may be behind, and what the last steps led to decides what the episode was."""
    keeper = limited()
    assert keeper.on_step(step(NOW + 4), NOW, STEADY) is None
    assert keeper.on_step(step(NOW + 5), NOW, STEADY) is None
    assert keeper.on_outcome(outcome(NOW + 3), STEADY) is None
    state = keeper.on_outcome(outcome(NOW + 4, success=True, terminated=True), STEADY)
    assert state is not None
    assert (state.running, state.stamp, state.terminated, state.success) == (False, NOW + 4, True, True)


def test_when_nothing_was_achieved_it_ends_where_time_was_up() -> None:
    keeper = limited()
    keeper.on_step(step(NOW + 4), NOW, STEADY)
    state = keeper.on_outcome(outcome(NOW + 4), STEADY)
    assert state is not None
    assert (state.running, state.stamp, state.terminated, state.reason) == (False, NOW + 4, False, "time limit")


def test_what_was_achieved_after_time_was_up_does_not_count() -> None:
    keeper = limited()
    keeper.on_step(step(NOW + 4), NOW, STEADY)
    state = keeper.on_outcome(outcome(NOW + 5, success=True, terminated=True), STEADY)
    assert state is not None
    assert (state.stamp, state.terminated, state.success, state.reason) == (NOW + 4, False, None, "time limit")


def test_a_judge_that_falls_silent_is_not_waited_for_any_longer() -> None:
    keeper = limited()
    keeper.on_step(step(NOW + 4), NOW, STEADY)
    assert keeper.on_time(NOW, STEADY + AFTER) is None
    keeper.on_outcome(outcome(NOW + 3), STEADY + AFTER)
    assert keeper.on_time(NOW, STEADY + 2 * AFTER) is None
    state = keeper.on_time(NOW, STEADY + 2 * AFTER + 1)
    assert state is not None
    assert (state.stamp, state.reason) == (NOW + 4, "time limit")


def test_the_next_episode_knows_nothing_of_that() -> None:
    keeper = limited()
    keeper.on_step(step(NOW + 4), NOW, STEADY)
    keeper.end(NOW + 5, STEADY, reason="stopped")
    keeper.recording = False
    keeper.start(frame(), NOW + 10)
    assert keeper.on_time(NOW + 10, STEADY + 2 * AFTER) is None


def test_an_evaluation_is_one_to_its_end_and_the_next_episode_is_none() -> None:
    keeper = EpisodeKeeper(contract(), "monday")
    assert keeper.start(frame(), NOW, evaluation=True).evaluation
    assert keeper.end(NOW + 1, STEADY, reason="stopped").evaluation
    keeper.recording = False
    assert not keeper.start(frame(), NOW + 2).evaluation


BACKWARD: dict[str, Any] = {"hands": "put it in its place", "task": "move away", "within": {"elbow": [-0.5, 1]}}


def test_an_episode_says_which_of_two_tasks_it_is_of() -> None:
    robot = contract(reset=BACKWARD)
    tasks = []
    for backward in (False, True, False):
        keeper = EpisodeKeeper(robot, "monday")
        tasks.append(keeper.start(frame(), NOW, backward=backward).task)
    assert tasks == ["hold still", "move away", "hold still"]
    assert [robot.is_backward(task) for task in tasks] == [False, True, False]


def test_nothing_is_undone_that_nothing_undoes() -> None:
    assert not contract(task="").is_backward("")
    with pytest.raises(InputError, match=r"nothing undoes the task: the contract has no reset\.task"):
        EpisodeKeeper(contract(), "monday").start(frame(), NOW, backward=True)


@pytest.mark.parametrize(
    ("elbow", "said"),
    [
        (-0.5, ""),
        (1.0, ""),
        (1.25, "elbow is 1.25, outside -0.5 to 1"),
        (-0.75, "elbow is -0.75, outside -0.5 to 1"),
        (np.nan, "elbow is nan, outside -0.5 to 1"),
    ],
)
def test_what_is_out_of_reach_is_said(elbow: float, said: str) -> None:
    state = np.array([9, elbow, 9, 9, 9], np.float32)
    assert out_of_reach(contract(reset=BACKWARD), Frame(NOW, state, {}, (NOW, NOW), (), ())) == said
    assert out_of_reach(contract(), Frame(NOW, state, {}, (NOW, NOW), (), ())) == ""
