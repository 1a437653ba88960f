"""Episodes out of our own bags: exactly what the actor saw and the guardian sent, and how it ended."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.episode import Episode, EpisodeError
from episodes.errors import InputError
from robot.bag_import import BagSource
from robot.contract import RobotContract
from robot.reports import ActorStep, EpisodeState, Outcome, Sent, decode, encode
from tests.robot.bagmaking import (
    CAMERA,
    Logged,
    arm,
    joint_state,
    make,
    nanoseconds,
    recording,
    report,
    write_bag,
    write_mcap,
)


def source_of(messages: list[Logged], folder: Path, robot: RobotContract | None = None, **how: Any) -> BagSource:
    return BagSource(write_mcap(folder / "bag.mcap", messages), robot or arm(), **how)


def one(messages: list[Logged], folder: Path, robot: RobotContract | None = None, **how: Any) -> Episode:
    ((_, episode),) = source_of(messages, folder, robot, **how).episodes()
    assert isinstance(episode, Episode), episode
    return episode


def changed(messages: list[Logged], kind: type, change: Callable[[Any], Any]) -> list[Logged]:
    """The messages with some reports changed, or left out where `change` gives None."""
    topic = {ActorStep: "/actor/step", Sent: "/guardian/sent", Outcome: "/outcome", EpisodeState: "/episode"}[kind]
    found = []
    for each in messages:
        if each.topic == topic:
            content = change(decode(kind, each.message.data))
            if content is not None:
                found.append(replace(each, message=make("std_msgs/msg/String", data=encode(content))))
        else:
            found.append(each)
    return found


def seen_at(k: int) -> float:
    return 1.0 + k / 10 - 0.005


@pytest.mark.parametrize("namespace", ["", "/cell/left"])
def test_an_episode_is_what_the_actor_saw_and_the_guardian_sent(tmp_path: Path, namespace: str) -> None:
    messages = [replace(each, topic=namespace + each.topic) for each in recording()]
    episode = one(messages, tmp_path)
    # The newer states with 77 in them were there, and the actor had not seen them.
    assert episode.state[:, 0] == pytest.approx([seen_at(k) for k in range(11)])
    assert episode.action.tolist() == [[k, -k / 2] for k in range(10)]
    assert episode.action_proposed is not None and episode.action_proposed.tolist() == [[k, -k] for k in range(10)]
    assert episode.observation_time is not None and episode.action_time is not None
    assert episode.observation_time.tolist() == [nanoseconds(1.0 + k / 10) for k in range(11)]
    assert episode.action_time.tolist() == [nanoseconds(1.0 + k / 10 + 0.008) for k in range(10)]
    assert episode.policy is not None and episode.policy.tolist() == [2**63 + k for k in range(10)]
    assert episode.log_probability is not None and episode.log_probability.tolist() == [-0.5 * k for k in range(10)]
    assert episode.source is not None and set(episode.source) == {1}
    assert episode.verdict is not None and set(episode.verdict) == {2}
    assert episode.reward == pytest.approx([k / 10 for k in range(10)])
    assert episode.success is not None and episode.success.tolist() == [0] * 9 + [1]
    assert episode.terminated and not episode.truncated
    assert (episode.task, episode.place, episode.origin) == ("reach far", "real", "bag.mcap/one")


def test_a_stop_that_the_filter_wants_is_a_step_of_how_the_robot_was_held(tmp_path: Path) -> None:
    def ruled(step: ActorStep) -> ActorStep:
        if step.tick == nanoseconds(1.4):
            return replace(step, action=None, log_probability=None, ruling="stop", proposed=(7.0, 8.0))
        if step.tick == nanoseconds(1.6):
            return replace(step, log_probability=None, ruling="alternative", proposed=(9.0, 9.5))
        return replace(step, ruling="own" if step.action is not None else "")

    episode = one(changed(recording(), ActorStep, ruled), tmp_path)
    # As the guardian sent them, in every step.
    assert episode.action.tolist() == [[k, -k / 2] for k in range(10)]
    assert episode.action_proposed is not None and episode.log_probability is not None
    assert episode.action_proposed[[3, 4, 5, 6]].tolist() == [[3, -3], [7, 8], [5, -5], [9, 9.5]]
    assert np.isnan(episode.log_probability).tolist() == [k in (4, 6) for k in range(10)]


def test_stops_before_the_first_action_are_no_steps(tmp_path: Path) -> None:
    """How a gripper is held that was never commanded nobody knows."""

    def ruled(step: ActorStep) -> ActorStep:
        first = step.tick < nanoseconds(1.2)
        return replace(step, action=None, ruling="stop", proposed=step.action) if first else step

    episode = one(changed(recording(), ActorStep, ruled), tmp_path)
    assert episode.action.tolist() == [[k, -k / 2] for k in range(2, 10)]


def test_pictures_are_those_that_the_actor_saw(tmp_path: Path) -> None:
    episode = one(recording(camera=True), tmp_path, arm(cameras=[CAMERA]))
    assert episode.images["front"][:, 0, 0, 0].tolist() == [100 + k for k in range(11)]
    without = one(recording(camera=True), tmp_path, arm(cameras=[CAMERA]), cameras=[])
    assert without.images == {} and without.state.tolist() == episode.state.tolist()


def test_pictures_that_the_actor_did_not_look_at_are_those_that_it_would_have_seen(tmp_path: Path) -> None:
    blind = changed(recording(camera=True), ActorStep, lambda step: replace(step, stamps=step.stamps[:1]))
    episode = one(blind, tmp_path, arm(cameras=[CAMERA]))
    assert episode.images["front"][:, 0, 0, 0].tolist() == [100 + k for k in range(11)]


def test_of_two_cameras_the_wanted_one_is_taken(tmp_path: Path) -> None:
    rear = {**CAMERA, "name": "rear", "topic": "rear/image"}
    robot = arm(cameras=[rear, CAMERA])

    def with_rear(step: ActorStep) -> ActorStep:
        return replace(step, stamps=(step.stamps[0], 1, step.stamps[1]))

    messages = changed(recording(camera=True), ActorStep, with_rear)
    episode = one(messages, tmp_path, robot, cameras=["front"])
    assert episode.images["front"][:, 0, 0, 0].tolist() == [100 + k for k in range(11)]


def test_an_evaluation_is_known_for_one(tmp_path: Path) -> None:
    assert not one(recording(), tmp_path).evaluation
    assert one(changed(recording(), EpisodeState, lambda state: replace(state, evaluation=True)), tmp_path).evaluation


def test_an_episode_that_nobody_ended_well_is_truncated(tmp_path: Path) -> None:
    episode = one(recording(terminated=False), tmp_path)
    assert episode.truncated and episode.steps == 10
    assert episode.success is not None and not episode.success.any()


def test_what_a_person_said_of_the_end_counts_more_than_the_last_outcome(tmp_path: Path) -> None:
    def say(state: EpisodeState) -> EpisodeState:
        return state if state.running else replace(state, terminated=True, success=False)

    episode = one(changed(recording(), EpisodeState, say), tmp_path)
    assert episode.terminated and episode.success is not None and episode.success[-1] == 0
    bare = changed(changed(recording(), EpisodeState, say), Outcome, lambda _: None)
    episode = one(bare, tmp_path)
    assert episode.terminated and episode.reward is None
    assert episode.success is not None and episode.success.tolist() == [0] * 10


def test_without_outcomes_and_without_a_word_nothing_is_known_of_success(tmp_path: Path) -> None:
    episode = one(changed(recording(terminated=False), Outcome, lambda _: None), tmp_path)
    assert episode.success is None and episode.reward is None


def test_a_reward_that_is_missing_is_not_made_up(tmp_path: Path) -> None:
    def lose(outcome: Outcome) -> Outcome | None:
        return None if outcome.reward == 0.3 else outcome

    source = source_of(changed(recording(), Outcome, lose), tmp_path)
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode)
    assert episode.reward is None and episode.success is not None and np.isnan(episode.success[3])
    assert source.seen.notes == ["episode one: no rewards, 1 of 10 are missing"]


def test_steps_after_the_end_are_no_part_of_an_episode_and_the_first_is_its_last_observation(tmp_path: Path) -> None:
    def go_on(step: ActorStep) -> ActorStep:
        # The actor has not heard yet that the episode is over.
        late = nanoseconds(2.0) <= step.tick
        return replace(step, episode="one", action=(5.0, 5.0)) if late else step

    messages = changed(recording(), ActorStep, go_on)
    messages += [report(2.01, "/guardian/sent", Sent(nanoseconds(2.0), "one", (5.0, 5.0), 1))]
    episode = one(messages, tmp_path)
    assert episode.steps == 10 and episode.terminated
    assert episode.state[:, 0] == pytest.approx([seen_at(k) for k in range(11)])


def test_an_episode_without_a_look_at_its_end_has_no_last_observation(tmp_path: Path) -> None:
    episode = one(recording(after=0), tmp_path)
    assert episode.steps == 10 and len(episode.state) == 10 and episode.terminated
    assert episode.reward == pytest.approx([k / 10 for k in range(10)])


def test_a_look_long_after_the_end_is_not_what_came_of_the_last_action(tmp_path: Path) -> None:
    (later,) = recording("", 2.5, 0, ended=False, after=1)[-1:]
    state = joint_state(2.495, {"shoulder": 5.0, "elbow": 5.0}, logged=2.501)
    assert later.topic == "/actor/step"
    episode = one([*recording(after=0), state, later], tmp_path)
    assert not episode.has_final_observation and episode.steps == 10


def test_a_recording_says_in_which_namespace_its_robot_is(tmp_path: Path) -> None:
    mine = [replace(each, topic=f"/left{each.topic}") for each in recording()]
    others = [replace(each, topic=f"/right{each.topic}") for each in recording() if each.topic == "/joint_states"]
    episode = one(mine + others, tmp_path)
    assert episode.state.tolist() == one(recording(), tmp_path).state.tolist()


def test_a_step_in_which_the_actor_held_still_is_no_step(tmp_path: Path) -> None:
    def hold(step: ActorStep) -> ActorStep:
        return replace(step, action=None) if step.tick == nanoseconds(1.4) else step

    episode = one(changed(recording(), ActorStep, hold), tmp_path)
    assert episode.action[:, 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert episode.has_final_observation


@pytest.mark.parametrize("told", [True, False])
def test_where_nothing_was_done_for_long_the_episode_ends(tmp_path: Path, told: bool) -> None:
    """A camera dropped out, or the actor hung: what was seen afterwards is not what one action led to."""

    def hold(step: ActorStep) -> ActorStep | None:
        pause = nanoseconds(1.4) <= step.tick < nanoseconds(1.8)
        return (replace(step, action=None) if told else None) if pause or step.tick >= nanoseconds(1.9) else step

    source = source_of(changed(recording(), ActorStep, hold), tmp_path)
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode)
    assert episode.action[:, 0].tolist() == [0, 1, 2, 3]
    assert episode.truncated and not episode.terminated
    assert episode.success is not None and not episode.success.any()
    assert episode.state[:, 0] == pytest.approx([seen_at(k) for k in range(5 if told else 4)])
    assert source.seen.notes == ["episode one has 4 steps: nothing was done for 0.5 s after step 3"]


def test_a_pause_after_the_end_takes_nothing_from_an_episode(tmp_path: Path) -> None:
    def go_on(step: ActorStep) -> ActorStep:
        # The actor has not heard yet that the episode is over.
        return replace(step, episode="one", action=(5.0, 5.0)) if step.tick >= nanoseconds(2.3) else step

    source = source_of(changed(recording(after=4), ActorStep, go_on), tmp_path)
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode) and not source.seen.notes
    assert episode.steps == 10 and episode.terminated and episode.has_final_observation


@pytest.mark.parametrize("unknown", [1, 4, 10])
def test_before_anything_was_sent_to_a_gripper_that_is_not_measured_there_are_no_steps(
    tmp_path: Path, unknown: int
) -> None:
    def hold(sent: Sent) -> Sent:
        return replace(sent, action=(0.0, float("nan"))) if sent.tick < nanoseconds(1.0 + unknown / 10) else sent

    source = source_of(changed(recording(), Sent, hold), tmp_path)
    ((_, episode),) = source.episodes()
    if unknown == 10:
        assert isinstance(episode, EpisodeError) and str(episode) == "nothing was sent in it"
        return
    assert isinstance(episode, Episode)
    assert episode.action[:, 0].tolist() == list(range(unknown, 10))
    assert episode.state[:, 0] == pytest.approx([seen_at(k) for k in range(unknown, 11)])
    assert episode.terminated and not source.seen.notes


def test_the_robot_may_have_held_still_when_the_episode_ended(tmp_path: Path) -> None:
    def hold(step: ActorStep) -> ActorStep:
        return replace(step, action=None) if step.tick >= nanoseconds(1.7) else step

    episode = one(changed(recording(terminated=False), ActorStep, hold), tmp_path)
    assert episode.steps == 7
    # What was seen right after the last action, and not when somebody said that it was over.
    assert episode.state[-1, 0] == pytest.approx(seen_at(7))


@pytest.mark.parametrize("lost", ["state", "sent"])
def test_where_a_message_was_lost_the_episode_ends_before_it(tmp_path: Path, lost: str) -> None:
    messages = recording()
    if lost == "state":
        messages = [
            each for each in messages if not (each.topic == "/joint_states" and each.logged == 1.0 + 0.6 + 0.001)
        ]
    else:
        messages = changed(messages, Sent, lambda sent: None if sent.tick == nanoseconds(1.6) else sent)
    source = source_of(messages, tmp_path)
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode)
    assert episode.steps == 6 and episode.truncated and not episode.terminated
    assert episode.success is not None and not episode.success.any()
    assert len(source.seen.notes) == 1 and "episode one has 6 steps" in source.seen.notes[0]
    # Without its answer the step is still an observation; without its messages it is none.
    assert episode.has_final_observation == (lost == "sent")


def test_an_episode_of_which_nothing_is_left_is_told(tmp_path: Path) -> None:
    messages = [each for each in recording() if each.topic != "/joint_states" or each.logged > 1.05]
    ((key, episode),) = source_of(messages, tmp_path).episodes()
    assert key == "one" and isinstance(episode, EpisodeError)
    assert str(episode) == "a message that step 0 saw is not in it (joint_states)"
    silent = changed(recording(), Sent, lambda _: None)
    ((_, episode),) = source_of(silent, tmp_path).episodes()
    assert str(episode) == "nothing was sent in it"
    idle = changed(recording(), ActorStep, lambda step: replace(step, action=None))
    ((_, episode),) = source_of(idle, tmp_path).episodes()
    assert str(episode) == "the actor wanted nothing in it"


def test_a_recording_without_an_episode_is_told(tmp_path: Path) -> None:
    messages = [each for each in recording() if each.topic in ("/joint_states", "/actor/step")]
    between = changed(messages, ActorStep, lambda step: replace(step, episode="", action=None))
    (connected,) = [each for each in recording() if each.topic == "/episode" and each.logged < 1]
    blank = replace(connected, message=make("std_msgs/msg/String", data=encode(EpisodeState("", False, 0))))
    sent = next(each for each in recording() if each.topic == "/guardian/sent")
    ((_, reason),) = source_of([*between, blank, sent], tmp_path).episodes()
    assert str(reason) == "the actor made no step of an episode"


def test_several_episodes_in_several_files_are_all_there(tmp_path: Path) -> None:
    messages = recording("a", 1.0) + recording("b", 4.0, 7, terminated=False) + recording("c", 6.0, 5)
    expected = [episode for _, episode in source_of(messages, tmp_path).episodes()]
    assert [episode.steps for episode in expected if isinstance(episode, Episode)] == [10, 7, 5]
    for storage in ("mcap", "sqlite3"):
        bag = write_bag(tmp_path / storage, messages, storage=storage, files=4)
        found = list(BagSource(bag, arm()).episodes())
        assert [key for key, _ in found] == ["a", "b", "c"]
        assert [e.digest() for _, e in found if isinstance(e, Episode)] == [
            e.digest() for e in expected if isinstance(e, Episode)
        ]


def test_a_simulation_that_starts_anew_sets_the_clock_back(tmp_path: Path) -> None:
    again = [replace(each, logged=each.logged + 60, published=each.logged + 60) for each in recording("b")]
    found = list(source_of(recording("a") + again, tmp_path, place="sim").episodes())
    first, second = (episode for _, episode in found)
    assert isinstance(first, Episode) and isinstance(second, Episode)
    assert first.state.tolist() == second.state.tolist() and first.terminated and second.terminated
    assert first.reward is not None and second.reward is not None and first.reward.tolist() == second.reward.tolist()
    assert second.place == "sim"


def test_a_clock_that_is_set_back_ends_the_episode(tmp_path: Path) -> None:
    def back(each: Logged) -> Logged:
        """Ten seconds less on every stamp from 1.55 s on; the log's own clock is another one."""
        if each.logged < 1.55:
            return each
        (earlier,) = [
            other
            for other, same in zip(recording("one", -9.0), recording("one", 1.0), strict=True)
            if same.topic == each.topic and same.logged == each.logged
        ][:1]
        return replace(earlier, logged=each.logged, published=each.logged)

    source = source_of([back(each) for each in recording()], tmp_path)
    ((key, episode),) = source.episodes()
    assert key == "one" and isinstance(episode, Episode)
    assert episode.truncated and 4 <= episode.steps <= 6
    assert episode.state[:, 0] == pytest.approx([seen_at(k) for k in range(len(episode.state))])
    assert "the clock was set back" in source.seen.notes[0]


def test_messages_may_be_logged_up_to_a_second_after_the_step_that_saw_them(tmp_path: Path) -> None:
    expected = one(recording(), tmp_path)
    late = [
        replace(each, logged=each.logged + 0.7)
        if each.topic in ("/joint_states", "/guardian/sent", "/outcome")
        else each
        for each in recording()
    ]
    episode = one(late, tmp_path)
    assert episode.state.tolist() == expected.state.tolist()
    assert episode.action.tolist() == expected.action.tolist()
    assert episode.reward is not None and expected.reward is not None
    assert episode.reward.tolist() == expected.reward.tolist()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recording_that_is_cut_off_anywhere_gives_a_prefix(tmp_path: Path, storage: str) -> None:
    messages = recording("a", 1.0, 12, camera=True) + recording("b", 4.0, 12, camera=True)
    robot = arm(cameras=[CAMERA])
    bag = write_bag(tmp_path / "bag", messages, storage=storage)
    (path,) = [file for file in bag.iterdir() if file.name.startswith("bag_")]
    whole = [episode for _, episode in BagSource(path, robot).episodes()]
    content, short, steps = path.read_bytes(), tmp_path / f"short{path.suffix}", 0
    for length in np.random.default_rng(4).integers(0, len(content), 50).tolist():
        short.write_bytes(content[:length])
        try:
            found = list(BagSource(short, robot).episodes())
        except InputError:
            continue
        for number, (_, episode) in enumerate(found):
            expected = whole[number]
            assert isinstance(expected, Episode)
            if isinstance(episode, EpisodeError):
                assert number == len(found) - 1
                continue
            steps += episode.steps
            assert episode.steps == expected.steps or (number == len(found) - 1 and episode.truncated)
            for name in ("state", "action", "reward", "success", "action_proposed", "policy", "verdict"):
                mine, full = getattr(episode, name), getattr(expected, name)
                np.testing.assert_array_equal(mine, full[: len(mine)], name)
            images = episode.images["front"]
            np.testing.assert_array_equal(images, expected.images["front"][: len(images)])
    # On the average the cut is in the middle.
    assert steps > 50 * 24 / 4


def test_a_recording_that_ends_in_an_episode_is_truncated_there(tmp_path: Path) -> None:
    source = source_of(recording(terminated=False, ended=False, after=0), tmp_path)
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode) and episode.truncated and episode.steps == 10
    assert source.seen.notes == ["episode one has 10 steps: the recording ends in it"]


def test_the_outcome_that_ended_the_task_counts_where_the_recorder_did_not_get_to_say_it(tmp_path: Path) -> None:
    episode = one(recording(ended=False), tmp_path)
    assert episode.terminated and episode.success is not None and episode.success[-1] == 1


def test_a_recording_under_another_contract_is_refused(tmp_path: Path) -> None:
    rear = {**CAMERA, "name": "rear", "topic": "front/image"}
    messages = recording(camera=True)
    with pytest.raises(
        InputError, match="names 2 messages, and the contract has 3 inputs: it was recorded under another"
    ):
        list(source_of(messages, tmp_path, arm(cameras=[CAMERA, rear])).episodes())


def test_reports_that_cannot_be_read_or_do_not_fit_are_told(tmp_path: Path) -> None:
    broken = [
        replace(each, message=make("std_msgs/msg/String", data="{")) if each.logged == 1.0 + 0.5 + 0.008 else each
        for each in recording()
    ]
    source = source_of(broken, tmp_path)
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode) and episode.steps == 5
    assert "guardian/sent: a message that cannot be read: Sent: not JSON" in source.seen.notes[0]
    for change in ({"policy": 2**64}, {"source": 300}, {"source": 9}, {"action": (1.0,)}):
        odd = changed(
            recording(), ActorStep, lambda step, change=change: replace(step, **change) if step.action else step
        )
        ((_, reason),) = source_of(odd, tmp_path).episodes()
        assert isinstance(reason, EpisodeError)


def test_a_policy_that_wants_nonsense_is_kept_as_what_it_wanted(tmp_path: Path) -> None:
    nan = float("nan")
    odd = changed(recording(), ActorStep, lambda step: replace(step, action=(nan, nan)) if step.action else step)
    episode = one(odd, tmp_path)
    assert episode.action_proposed is not None and np.isnan(episode.action_proposed).all()
    assert np.isfinite(episode.action).all()


def test_a_recording_that_was_cut_off_costs_none_of_those_after_it(tmp_path: Path) -> None:
    """As in a folder whose recorder was killed, and started again."""
    for number, name in enumerate(("one", "two", "three")):
        write_mcap(tmp_path / f"{number}-{name}.mcap", recording(name, 1.0 + 10 * number))
    cut = tmp_path / "1-two.mcap"
    content = cut.read_bytes()
    cut.unlink()
    (tmp_path / "1-two.mcap.part").write_bytes(content[: len(content) * 2 // 3])
    source = BagSource(tmp_path, arm())
    found = dict(source.episodes())
    assert list(found) == ["one", "two", "three"]
    lengths = [episode.steps for episode in found.values() if isinstance(episode, Episode)]
    assert lengths[0] == lengths[2] == 10
    assert 0 < lengths[1] < 10
    assert [isinstance(e, Episode) and e.terminated for e in found.values()] == [True, False, True]
    assert any("episode two has" in note for note in source.seen.notes)


def test_what_is_damaged_at_its_end_is_no_more_than_that(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two")):
        write_mcap(tmp_path / f"{number}-{name}.mcap", recording(name, 1.0 + 10 * number))
    last = tmp_path / "1-two.mcap"
    last.write_bytes(last.read_bytes()[: len(last.read_bytes()) * 2 // 3])
    found = dict(BagSource(tmp_path, arm()).episodes())
    assert list(found) == ["one", "two"]
