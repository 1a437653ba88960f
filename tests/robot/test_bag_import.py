"""Episodes out of other people's bags: what was known when, what was commanded, where episodes begin and end."""

import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType

from episodes.episode import Episode, EpisodeError, Source
from episodes.errors import InputError
from episodes.importing import import_into
from episodes.store import Store
from robot import frames
from robot.bag_import import BagSource
from robot.contract import RobotContract
from robot.contract_file import read_robot_contract
from robot.frames import Arrival
from robot.pictures import picture_from
from robot.reports import EpisodeState, encode
from tests.robot.bagmaking import (
    CAMERA,
    Logged,
    arm,
    boolean,
    driving,
    floats,
    image,
    joint_state,
    nanoseconds,
    text,
    trajectory,
    write_bag,
    write_mcap,
    write_sqlite,
)

ROOT = Path(__file__).resolve().parents[2]
LOG = Path(__file__).with_name("robot_log.yaml")

Found = list[tuple[str, Episode | EpisodeError]]


def found_in(path: Path, robot: RobotContract | None = None, **how: Any) -> Found:
    return list(BagSource(path, robot or arm(), **how).episodes())


def episodes_of(
    messages: Sequence[Logged], folder: Path, robot: RobotContract | None = None, **how: Any
) -> list[Episode]:
    """The episodes of a bag with these messages; nothing may be left out."""
    found = found_in(write_mcap(folder / "bag.mcap", messages), robot, **how)
    assert all(isinstance(episode, Episode) for _, episode in found), found
    return [episode for _, episode in found if isinstance(episode, Episode)]


def reasons(found: Found) -> list[str]:
    return [str(episode) for _, episode in found if isinstance(episode, EpisodeError)]


def seconds(stamps: np.ndarray | None) -> list[float]:
    assert stamps is not None
    return ((stamps - nanoseconds(0)) / 1e9).round(6).tolist()


def test_a_step_is_what_was_known_at_a_tick_and_what_was_commanded_until_the_next(tmp_path: Path) -> None:
    (episode,) = episodes_of(driving(0, 4), tmp_path)
    # Ticks from the first command on, at 10 Hz, up to the last state at 3.98 s.
    assert seconds(episode.observation_time) == [round(0.05 + 0.1 * k, 6) for k in range(40)]
    known = [round(0.04 + 0.1 * k, 6) for k in range(40)]
    assert episode.state[:, 0] == pytest.approx(known)
    assert episode.state[:, 1] == pytest.approx([-at for at in known])
    assert episode.state[:, 2] == pytest.approx([10 * at for at in known])
    # The second field is sent at twice its value.
    assert episode.action[:, 0] == pytest.approx([0.05 + 0.1 * k for k in range(39)])
    assert episode.action[:, 1] == pytest.approx([0.05 + 0.1 * k for k in range(39)])
    assert seconds(episode.action_time) == [round(0.05 + 0.1 * k, 6) for k in range(39)]
    assert episode.has_final_observation and episode.truncated and not episode.terminated
    assert episode.source is not None and set(episode.source) == {Source.DEMONSTRATION}
    assert (episode.task, episode.place, episode.origin) == ("reach", "real", "bag.mcap/0")


@settings(max_examples=20)
@given(st.data())
def test_messages_that_come_late_change_nothing(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("late")
    messages = driving(0, 3)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    most = data.draw(st.floats(0, 0.95))
    late = [
        replace(each, logged=each.logged + most * rng.random()) if each.topic == "/joint_states" else each
        for each in messages
    ]
    (expected,) = episodes_of(messages, folder)
    (episode,) = episodes_of(late, folder)
    assert episode.digest() == expected.digest()


def test_commands_that_come_late_are_put_where_they_belong(tmp_path: Path) -> None:
    messages = driving(0, 4)
    late = [
        replace(each, logged=each.logged + 0.8, published=each.logged) if each.topic.startswith("/arm") else each
        for each in messages
    ]
    (expected,) = episodes_of(messages, tmp_path)
    (episode,) = episodes_of(late, tmp_path)
    np.testing.assert_array_equal(episode.action, expected.action)


def test_of_two_messages_with_one_stamp_the_first_counts(tmp_path: Path) -> None:
    messages = driving(0, 2)
    again = [joint_state(k / 50, {"shoulder": 9.0, "elbow": 9.0}, logged=k / 50 + 0.001) for k in range(100)]
    path = write_mcap(tmp_path / "bag.mcap", messages + again)
    source = BagSource(path, arm())
    (_, episode), *_ = source.episodes()
    assert isinstance(episode, Episode)
    assert episode.digest() == episodes_of(messages, tmp_path)[0].digest()
    assert source.seen.inputs["joint_states"].arrivals[Arrival.REPEATED] == 100


def test_joints_may_be_listed_in_any_order_and_among_others(tmp_path: Path) -> None:
    messages = [each for each in driving(0, 2) if each.topic != "/joint_states"]
    for k in range(100):
        at = k / 50
        mixed = {"wrist": 7.0, "elbow": -at, "shoulder": at}
        messages.append(joint_state(at, mixed if k % 2 else {"shoulder": at, "elbow": -at, "wrist": 7.0}))
    assert episodes_of(messages, tmp_path)[0].digest() == episodes_of(driving(0, 2), tmp_path)[0].digest()


def test_messages_without_the_wanted_effort_are_unusable_and_told(tmp_path: Path) -> None:
    pushing = arm(
        observations=[
            {
                "topic": "joint_states",
                "type": "sensor_msgs/msg/JointState",
                "rate": 50,
                "max_age": 0.2,
                "joints": ["shoulder", "elbow"],
                "fields": [{"path": "effort", "unit": "Nm"}],
            }
        ]
    )
    bare = [
        joint_state(k / 50, {"shoulder": 1.0, "elbow": 2.0}, effort=k % 2 == 0) if k < 100 else each
        for k, each in enumerate(driving(0, 2))
    ]
    path = write_mcap(tmp_path / "bag.mcap", bare)
    source = BagSource(path, pushing)
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode) and set(episode.state[:, 1]) == {200.0}
    seen = source.seen.inputs["joint_states"]
    assert (seen.messages, seen.unusable) == (100, 50)
    assert "joint 'shoulder' has no value" in seen.reason
    assert any("50 unusable" in line for line in source.seen.lines())
    none = [
        replace(each, message=joint_state(0.0, {"shoulder": 1.0, "elbow": 1.0}, effort=False).message)
        if each.topic == "/joint_states"
        else each
        for each in driving(0, 2)
    ]
    found = found_in(write_mcap(tmp_path / "none.mcap", none), pushing)
    assert reasons(found) == ["nothing usable on joint_states"]


def test_headers_without_a_stamp_are_told_with_what_to_do(tmp_path: Path) -> None:
    messages = [each for each in driving(0, 2) if each.topic != "/joint_states"]
    messages += [joint_state(None, {"shoulder": k / 50, "elbow": -k / 50}, logged=k / 50) for k in range(100)]
    path = write_mcap(tmp_path / "bag.mcap", messages)
    source = BagSource(path, arm())
    assert reasons(list(source.episodes())) == ["nothing usable on joint_states"]
    assert "use stamp: publish in the contract" in source.seen.inputs["joint_states"].reason
    (observation,) = arm().observations
    published = replace(arm(), observations=(replace(observation, stamp="publish"),))
    ((_, episode),) = found_in(path, published)
    assert isinstance(episode, Episode)
    assert episode.digest() == episodes_of(driving(0, 2), tmp_path)[0].digest()


def test_a_clock_that_is_set_back_parts_two_episodes(tmp_path: Path) -> None:
    before = driving(50, 52)
    after = [replace(each, logged=each.logged + 50, published=each.logged) for each in driving(2, 4)]
    source = BagSource(write_mcap(tmp_path / "bag.mcap", before + after), arm())
    first, second = (episode for _, episode in source.episodes())
    assert isinstance(first, Episode) and isinstance(second, Episode)
    assert first.truncated and second.truncated
    assert first.state[:, 0].min() == pytest.approx(50.04) and first.state[:, 0].max() == pytest.approx(51.94)
    assert second.state[:, 0].min() >= 2 and second.state[:, 0].max() <= 4
    assert source.seen.inputs["joint_states"].arrivals[Arrival.CLOCK_JUMP] == 1


def test_where_an_input_is_silent_for_too_long_an_episode_ends_and_another_begins(tmp_path: Path) -> None:
    quiet = [each for each in driving(0, 4) if each.topic != "/joint_states" or not 1.5 < each.logged < 2.5]
    first, second = episodes_of(quiet, tmp_path)
    # The last state is from 1.5 s, and it may be 0.2 s old.
    assert seconds(first.observation_time)[-1] == 1.65
    assert seconds(second.observation_time)[0] == 2.5
    assert first.truncated and second.truncated


def test_stretches_of_less_than_two_steps_are_left_out_and_told_together(tmp_path: Path) -> None:
    slow = [each for each in driving(0, 3) if each.topic != "/joint_states" or round(each.logged * 50) % 20 == 0]
    (observation,) = arm().observations
    robot = replace(arm(), observations=(replace(observation, max_age=0.15),))
    found = found_in(write_mcap(tmp_path / "bag.mcap", slow), robot)
    assert len(found) == 1
    assert "pieces that are too short; the first: 1 steps from 0.00 s on: too old: joint_states" in reasons(found)[0]


def test_an_input_that_begins_late_delays_the_first_episode(tmp_path: Path) -> None:
    robot = arm(cameras=[CAMERA])
    messages = [each for each in driving(0, 3, camera=True) if each.topic != "/front/image" or each.logged >= 1]
    (episode,) = episodes_of(messages, tmp_path, robot)
    assert seconds(episode.observation_time)[0] == 1.0


def test_pictures_are_those_that_were_newest_and_have_the_contracts_size(tmp_path: Path) -> None:
    (episode,) = episodes_of(driving(0, 3, camera=True), tmp_path, arm(cameras=[CAMERA]))
    pictures = episode.images["front"]
    assert pictures.shape == (len(episode.state), 8, 12, 3)
    # Twenty a second, each of the shade of its number, and a tick every 0.1 s from 0.05 s on.
    assert pictures[:, 0, 0, 0].tolist() == [1 + 2 * k for k in range(len(pictures))]


def test_pictures_that_no_step_saw_are_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def counted(message: Any, camera: Any) -> np.ndarray:
        made.append(message)
        return picture_from(message, camera)

    monkeypatch.setattr(frames, "picture_from", counted)
    (episode,) = episodes_of(driving(0, 4, camera=True), tmp_path, arm(cameras=[CAMERA]))
    # The first one shows that such pictures can be used; of the others every second is between two ticks.
    assert len(made) == len(episode.state) + 1


def test_a_message_that_one_of_two_inputs_cannot_use_is_told_once(tmp_path: Path) -> None:
    (observation,) = arm().observations
    force = replace(observation, fields=(replace(observation.fields[0], path="effort", unit="Nm"),))
    messages = [each for each in driving(0, 2) if each.topic != "/joint_states"]
    messages += [joint_state(k / 50, {"shoulder": 1.0, "elbow": 2.0}, effort=k % 4 == 0) for k in range(100)]
    source = BagSource(write_mcap(tmp_path / "bag.mcap", messages), replace(arm(), observations=(observation, force)))
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode)
    seen = source.seen.inputs["joint_states"]
    assert (seen.messages, seen.unusable) == (100, 75)


def test_only_the_wanted_cameras_are_imported(tmp_path: Path) -> None:
    second = {**CAMERA, "name": "wrist", "topic": "wrist/image"}
    robot = arm(cameras=[CAMERA, second])
    path = write_mcap(tmp_path / "bag.mcap", driving(0, 2, camera=True))
    with pytest.raises(
        InputError, match="topic /wrist/image of the contract is not in the bag; did you mean /front/im"
    ):
        BagSource(path, robot)
    with pytest.raises(InputError, match="unknown camera 'rear'"):
        BagSource(path, robot, cameras=["rear"])
    source = BagSource(path, robot, cameras=["front"])
    assert source.contract.camera_names == ["front"]
    none = BagSource(path, robot, cameras=[])
    assert none.contract.cameras == () and none.ignored == ("/front/image",)
    ((_, episode),) = none.episodes()
    assert isinstance(episode, Episode) and episode.images == {}


def test_pauses_in_the_commands_part_episodes(tmp_path: Path) -> None:
    robot = arm(episodes={"by": "gaps", "gap": 0.5})
    # Commands from 1.05 to 1.95 s and from 3.05 to 4.95 s, and states all the time.
    messages = [
        each for each in driving(0, 7) if each.topic == "/joint_states" or 1 < each.logged < 2 or 3 < each.logged < 5
    ]
    first, second = episodes_of(messages, tmp_path, robot)
    assert seconds(first.observation_time) == [round(1.05 + 0.1 * k, 6) for k in range(11)]
    assert first.action[:, 0] == pytest.approx([1.05 + 0.1 * k for k in range(10)])
    assert seconds(second.observation_time)[0] == 3.05 and seconds(second.observation_time)[-1] == 5.05
    assert second.action[-1, 0] == pytest.approx(4.95)


def test_pauses_that_are_shorter_do_not(tmp_path: Path) -> None:
    robot = arm(episodes={"by": "gaps", "gap": 1.5})
    messages = [each for each in driving(0, 5) if each.topic == "/joint_states" or not 1.5 < each.logged < 2.5]
    (episode,) = episodes_of(messages, tmp_path, robot)
    assert episode.steps == 49
    # The controller holds what it was told last.
    assert episode.action[15:24, 0] == pytest.approx(1.45)


EVENTS = {
    "by": "events",
    "topic": "events",
    "type": "std_msgs/msg/String",
    "start": ["go"],
    "stop": ["stop"],
    "success": ["done"],
    "failure": ["dropped"],
}


def test_events_say_where_episodes_begin_and_how_they_end(tmp_path: Path) -> None:
    events = [
        (1.0, "go"),
        (2.0, "done"),
        (3.0, "go"),
        (4.02, "dropped"),
        (4.5, "nothing of interest"),
        (5.0, "go"),
        (6.0, "stop"),
        (7.0, "go"),
        (8.0, "go"),
        (8.5, "done"),
        (9.0, "done"),
    ]
    messages = driving(0, 10) + [text(at, name) for at, name in events]
    found = episodes_of(messages, tmp_path, arm(episodes=EVENTS))
    spans = [(seconds(e.observation_time)[0], seconds(e.observation_time)[-1]) for e in found]
    assert spans == [(1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (8.0, 8.5)]
    assert [e.terminated for e in found] == [True, True, False, False, True]
    assert [None if e.success is None else e.success[-1] for e in found] == [1, 0, None, None, 1]
    assert found[0].success is not None and found[0].success[:-1].tolist() == [0] * 9


def test_a_topic_that_is_true_while_an_episode_lasts(tmp_path: Path) -> None:
    rule = {"by": "topic", "topic": "recording", "type": "std_msgs/msg/Bool"}
    flags = [(0.5, True), (0.8, True), (2.0, False), (2.2, False), (3.0, True)]
    messages = driving(0, 5) + [boolean(at, value) for at, value in flags]
    first, second = episodes_of(messages, tmp_path, arm(episodes=rule))
    assert (seconds(first.observation_time)[0], seconds(first.observation_time)[-1]) == (0.5, 2.0)
    assert (seconds(second.observation_time)[0], seconds(second.observation_time)[-1]) == (3.0, 4.9)
    assert first.truncated and second.truncated


def test_the_recorders_reports_are_the_rule_where_somebody_else_moves_the_robot(tmp_path: Path) -> None:
    """As `firsthand up record` leaves it: no actor, whose topic is known and empty."""

    def state(at: float, name: str, running: bool, **end: Any) -> Logged:
        return text(at, encode(EpisodeState(name, running, nanoseconds(at), **end)), "/episode")

    reports = [
        state(0.0, "", False),
        state(0.5, "one", True),
        state(2.0, "one", False, terminated=True, success=True),
        state(3.0, "two", True),
        state(4.0, "two", False, reason="stopped"),
    ]
    first, second = episodes_of([*driving(0, 5), *reports], tmp_path, arm(episodes={"by": "whole"}))
    assert (seconds(first.observation_time)[0], seconds(first.observation_time)[-1]) == (0.5, 2.0)
    assert (seconds(second.observation_time)[0], seconds(second.observation_time)[-1]) == (3.0, 4.0)
    assert first.terminated and first.success is not None and first.success[-1] == 1
    assert second.truncated and set(second.source.tolist()) == {Source.DEMONSTRATION}


def test_an_episode_goes_on_after_the_clock_was_set_back_where_nothing_says_that_it_is_over(tmp_path: Path) -> None:
    rule = {"by": "topic", "topic": "recording", "type": "std_msgs/msg/Bool"}
    after = [replace(each, logged=each.logged + 50, published=each.logged) for each in driving(2, 4)]
    messages = [*driving(50, 52), *after, boolean(50.0, True)]
    first, second = episodes_of(messages, tmp_path, arm(episodes=rule))
    assert first.state[0, 0] > 50 and second.state[0, 0] < 4


def test_an_episode_in_which_an_input_is_missing_is_left_out_and_told(tmp_path: Path) -> None:
    messages = [each for each in driving(0, 6) if each.topic != "/joint_states" or not 2.5 < each.logged < 4.5]
    events = [
        text(1.0, "go"),
        text(2.0, "stop"),
        text(3.0, "go"),
        text(4.0, "stop"),
        text(5.0, "go"),
        text(5.8, "stop"),
    ]
    found = found_in(write_mcap(tmp_path / "bag.mcap", messages + events), arm(episodes=EVENTS))
    assert [isinstance(episode, Episode) for _, episode in found] == [True, False, True]
    assert reasons(found) == ["an input is missing or too old in all of it"]


def velocity(**changes: Any) -> RobotContract:
    command = {
        "topic": "arm_controller/commands",
        "type": "std_msgs/msg/Float64MultiArray",
        "kind": "velocity",
        "on_silence": "stops",
        "silence": 0.25,
        "fields": [{"path": "data[0]", "name": "shoulder", "unit": "rad/s", "low": -3, "high": 3}],
    }
    return arm(commands=[{**command, **changes}])


def with_commands(*commands: tuple[float, float]) -> list[Logged]:
    states = [each for each in driving(0, 3) if each.topic == "/joint_states"]
    return states + [floats(at, [value]) for at, value in commands]


def test_a_command_counts_until_its_controller_has_stopped_and_then_it_is_zero(tmp_path: Path) -> None:
    (episode,) = episodes_of(with_commands((0.0, 1.0), (1.0, 2.0)), tmp_path, velocity())
    # At 0.1 and 0.2 s the first one is not older than 0.25 s.
    assert episode.action[:, 0].tolist()[:13] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2]
    assert set(episode.action[13:, 0]) == {0}


def test_a_velocity_that_the_controller_repeats_counts_until_the_next(tmp_path: Path) -> None:
    robot = velocity(on_silence="repeats_last", silence=None, allow_runaway=True)
    (episode,) = episodes_of(with_commands((0.0, 1.0), (1.0, 2.0)), tmp_path, robot)
    assert episode.action[:10, 0].tolist() == [1] * 10 and set(episode.action[10:, 0]) == {2}


def test_a_velocity_without_a_known_time_out_counts_for_two_periods(tmp_path: Path) -> None:
    robot = velocity(on_silence="holds_position", silence=None)
    (episode,) = episodes_of(with_commands((0.0, 1.0), (0.58, 2.0)), tmp_path, robot)
    # The second one is 0.02 s old at 0.6 s, 0.12 s at 0.7 s, and 0.22 s at 0.8 s.
    assert episode.action[:10, 0].tolist() == [1, 1, 1, 0, 0, 2, 2, 2, 0, 0]


def test_of_several_commands_in_a_step_the_newest_counts(tmp_path: Path) -> None:
    (episode,) = episodes_of(with_commands((0.0, 1.0), (0.03, 2.0), (0.09, 3.0), (0.1, 4.0)), tmp_path, velocity())
    assert episode.action[:2, 0].tolist() == [3, 4]


def test_commands_that_cannot_be_used_are_passed_over_and_told(tmp_path: Path) -> None:
    messages = [*driving(0, 2), floats(0.57, [float("nan"), 1.0]), floats(0.58, [1.0])]
    source = BagSource(write_mcap(tmp_path / "bag.mcap", messages), arm())
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode)
    assert episode.digest() == episodes_of(driving(0, 2), tmp_path)[0].digest()
    seen = source.seen.inputs["arm_controller/commands"]
    assert seen.unusable == 2 and "not finite" in seen.reason


def test_a_trajectory_is_read_by_the_names_of_its_joints(tmp_path: Path) -> None:
    fields = [
        {"path": f"points[0].positions[{i}]", "name": name, "unit": "rad", "low": -3, "high": 3}
        for i, name in enumerate(["shoulder", "elbow"])
    ]
    command = {
        "topic": "arm/trajectory",
        "type": "trajectory_msgs/msg/JointTrajectory",
        "kind": "position",
        "on_silence": "holds_position",
        "joints": ["shoulder", "elbow"],
        "fields": fields,
    }
    states = [each for each in driving(0, 2) if each.topic == "/joint_states"]
    commands = [trajectory(0.0, ["shoulder", "elbow"], [1.0, 2.0]), trajectory(1.0, ["elbow", "shoulder"], [4.0, 3.0])]
    path = write_mcap(tmp_path / "bag.mcap", [*states, *commands, trajectory(1.5, ["elbow"], [9.0])])
    source = BagSource(path, arm(commands=[command]))
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode)
    assert episode.action[0].tolist() == [1, 2] and episode.action[-1].tolist() == [3, 4]
    assert "there is no joint 'shoulder'" in source.seen.inputs["arm/trajectory"].reason


def test_an_episode_begins_with_the_first_command_on_every_topic(tmp_path: Path) -> None:
    (command,) = arm().commands
    gripper = replace(command, topic="gripper/commands", fields=(replace(command.fields[0], name="gripper"),))
    robot = replace(arm(), commands=(command, gripper))
    messages = [*driving(0, 3), floats(1.23, [0.5], "/gripper/commands")]
    (episode,) = episodes_of(messages, tmp_path, robot)
    assert seconds(episode.observation_time)[0] == 1.23
    assert set(episode.action[:, 2]) == {0.5}


def test_two_clocks_are_told(tmp_path: Path) -> None:
    messages = [each for each in driving(0, 3) if each.topic == "/joint_states"]
    messages += [floats(1000.0 + k / 10, [0.0, 0.0]) for k in range(10)]
    found = found_in(write_mcap(tmp_path / "bag.mcap", messages))
    assert len(found) == 1 and "two clocks, record with --use-sim-time" in reasons(found)[0]


@pytest.mark.parametrize("rule", [{"by": "whole"}, {"by": "gaps", "gap": 0.5}, EVENTS])
def test_every_storage_gives_the_same_episodes(tmp_path: Path, rule: dict[str, Any]) -> None:
    robot = arm(cameras=[CAMERA], episodes=rule)
    messages = [each for each in driving(0, 6, camera=True) if each.topic != "/arm_controller/commands"]
    messages += [each for each in driving(0, 6) if each.topic == "/arm_controller/commands" and each.logged % 2 < 1]
    messages += [text(1.0, "go"), text(2.5, "done"), text(3.0, "go"), text(4.0, "stop")]
    digests = {}
    for storage in ("mcap", "sqlite3"):
        for files in (1, 3):
            bag = write_bag(tmp_path / f"{storage}{files}", messages, storage=storage, files=files)
            digests[storage, files] = [e.digest() for _, e in found_in(bag, robot) if isinstance(e, Episode)]
            (bag / "metadata.yaml").unlink()
            digests[storage, files, "crashed"] = [e.digest() for _, e in found_in(bag, robot) if isinstance(e, Episode)]
    assert len(digests["mcap", 1]) >= 1
    assert all(each == digests["mcap", 1] for each in digests.values())


@pytest.mark.parametrize(("storage", "gap", "count"), [("mcap", 0.5, 4), ("mcap", 2.5, 2), ("sqlite3", 0.5, 4)])
def test_a_bag_that_is_cut_off_anywhere_gives_a_prefix_of_its_episodes(
    tmp_path: Path, storage: str, gap: float, count: int
) -> None:
    robot = arm(cameras=[CAMERA], episodes={"by": "gaps", "gap": gap})
    messages = [
        # Pictures come a little late, so that what was known at a cut is not what is in the bag before it.
        replace(each, logged=each.logged + 0.12) if each.topic == "/front/image" else each
        for each in driving(0, 8, camera=True)
        if each.topic != "/arm_controller/commands" or each.logged % (8 / count) < 1.2
    ]
    path = tmp_path / f"bag.{'db3' if storage == 'sqlite3' else 'mcap'}"
    write_sqlite(path, messages) if storage == "sqlite3" else write_mcap(path, messages)
    whole = [episode for _, episode in found_in(path, robot) if isinstance(episode, Episode)]
    assert len(whole) == count
    content, short, got = path.read_bytes(), path.with_stem("short"), 0
    for length in np.random.default_rng(2).integers(0, len(content), 50).tolist():
        short.write_bytes(content[:length])
        try:
            found = found_in(short, robot)
        except InputError:
            continue
        there = [episode for _, episode in found if isinstance(episode, Episode)]
        for number, episode in enumerate(there):
            rows, steps = len(episode.state), episode.steps
            np.testing.assert_array_equal(episode.state, whole[number].state[:rows])
            np.testing.assert_array_equal(episode.images["front"], whole[number].images["front"][:rows])
            np.testing.assert_array_equal(episode.action, whole[number].action[:steps])
            assert rows == len(whole[number].state) or number == len(there) - 1
        got += sum(episode.steps for episode in there)
    # On the average the cut is in the middle.
    assert got > 50 * sum(episode.steps for episode in whole) / 4


def test_topics_are_found_by_namespace_or_where_there_is_only_one(tmp_path: Path) -> None:
    left = [replace(each, topic=f"/left{each.topic}") for each in driving(0, 2)]
    right = [replace(each, topic=f"/cell/right{each.topic}") for each in driving(1, 4)]
    one = write_mcap(tmp_path / "one.mcap", left)
    both = write_mcap(tmp_path / "both.mcap", left + right)
    expected = episodes_of(driving(0, 2), tmp_path)[0].digest()
    for path, namespace in ((one, ""), (one, "left"), (one, "/left/"), (both, "left")):
        ((_, episode),) = found_in(path, namespace=namespace)
        assert isinstance(episode, Episode) and episode.digest() == expected
    with pytest.raises(InputError, match="may be /cell/right/joint_states or /left/joint_states; say which namespace"):
        BagSource(both, arm())
    with pytest.raises(InputError, match="topic /rihgt/joint_states of the contract is not in the bag; did you mean"):
        BagSource(both, arm(), namespace="rihgt")


def test_topics_that_are_missing_or_of_another_type_are_told(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag.mcap", [each for each in driving(0, 2) if each.topic == "/joint_states"])
    with pytest.raises(
        InputError, match="topic /arm_controller/commands of the contract is not in the bag; it holds /j"
    ):
        BagSource(path, arm())
    other = [replace(floats(0.0, [1.0]), topic="/joint_states"), floats(0.0, [1.0, 2.0])]
    with pytest.raises(
        InputError,
        match="/joint_states is std_msgs/msg/Float64MultiArray in the bag, and sensor_msgs/msg/JointState in",
    ):
        BagSource(write_mcap(tmp_path / "other.mcap", other), arm())
    renamed = [
        replace(each, topic="/proprioception") if each.topic == "/joint_states" else each for each in driving(0, 2)
    ]
    with pytest.raises(InputError, match="of type sensor_msgs/msg/JointState there are /proprioception"):
        BagSource(write_mcap(tmp_path / "renamed.mcap", renamed), arm())


def test_an_import_is_what_the_bag_holds_and_nothing_twice(tmp_path: Path) -> None:
    robot = arm(cameras=[CAMERA], episodes=EVENTS)
    events = [(1.0, "go"), (2.0, "done"), (3.0, "go"), (3.1, "stop"), (4.0, "go"), (5.0, "stop")]
    messages = driving(0, 6, camera=True) + [text(at, name) for at, name in events]
    path = write_mcap(tmp_path / "bag.mcap", messages)
    result = import_into(BagSource(path, robot), tmp_path / "store")
    assert (result.episodes, result.steps) == (2, 20)
    assert result.left_out == [{"episode": "1", "reason": "1 steps from 2.00 s on"}]
    again = import_into(BagSource(path, robot), tmp_path / "store")
    assert (again.episodes, again.already_there) == (0, 2)
    with pytest.raises(InputError, match="has episode 0 of this source already"):
        import_into(BagSource(path, robot), tmp_path / "store", refuse_repeated=True)
    snapshot = Store.open(tmp_path / "store").snapshot()
    assert snapshot.episodes == 2 and snapshot.contract.name == "arm"


def test_episodes_may_be_asked_for_twice_and_are_counted(tmp_path: Path) -> None:
    shown: list[int] = []
    path = write_mcap(tmp_path / "bag.mcap", driving(0, 2))

    def progress(messages: Any) -> Any:
        shown.append(0)
        for message in messages:
            shown[-1] += 1
            yield message

    source = BagSource(path, arm(), progress=progress, task="wave", place="")
    first, second = list(source.episodes()), list(source.episodes())
    assert len(source) == 1 and shown == [source.message_count] * 2
    assert isinstance(first[0][1], Episode) and isinstance(second[0][1], Episode)
    assert first[0][1].digest() == second[0][1].digest()
    assert (first[0][1].task, first[0][1].place) == ("wave", "")


def test_a_bag_with_a_clock_of_its_own_was_recorded_in_simulation(tmp_path: Path) -> None:
    clock = replace(text(0.0, ""), topic="/clock")
    (episode,) = episodes_of([*driving(0, 2), clock], tmp_path)
    assert episode.place == "sim"
    (episode,) = episodes_of([*driving(0, 2), clock], tmp_path, place="real")
    assert episode.place == "real"


def test_ages_at_the_ticks_are_told(tmp_path: Path) -> None:
    source = BagSource(write_mcap(tmp_path / "bag.mcap", driving(0, 2)), arm())
    list(source.episodes())
    # A tick 0.01 s after each fifth state.
    assert source.seen.inputs["joint_states"].age == pytest.approx((0.01, 0.01))
    assert source.seen.inputs["joint_states"].messages == 100
    assert source.seen.lines() == []


def imported_in_a_process(path: str) -> None:
    """Say how much memory importing a bag took [MB]."""
    source = BagSource(Path(path), arm(cameras=[CAMERA], episodes={"by": "gaps", "gap": 0.5}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = sum(1 for _ in source.episodes())
    sys.stdout.write(f"{count} {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}")


def test_memory_does_not_grow_with_the_bag(tmp_path: Path) -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    messages = [
        each
        for each in [*driving(0, 60), *(image(k / 20, picture) for k in range(1200))]
        if each.topic != "/arm_controller/commands" or each.logged % 10 < 8
    ]
    path = write_mcap(
        tmp_path / "bag.mcap", messages, compression=CompressionType.NONE, chunk_size=1 << 20, in_log_order=True
    )
    assert path.stat().st_size > 200e6
    code = f"from tests.robot.test_bag_import import imported_in_a_process as run; run({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    count, megabytes = done.stdout.split()
    assert int(count) == 6
    assert float(megabytes) < 60


def test_a_real_log_is_imported(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "robot_log" / "bagfile"
    if not folder.is_dir():
        pytest.skip(f"no real log at {folder}")
    source = BagSource(folder, read_robot_contract(LOG))
    ((_, episode),) = source.episodes()
    assert isinstance(episode, Episode)
    assert source.message_count == 4_217 + 3_998
    assert source.seen.inputs["robot/joint_state"].messages == 4_217
    assert source.seen.inputs["robot/joint_command"].messages == 3_998
    assert not source.seen.lines()
    # From the first command, 1.45 s after the first state, to the end, at 20 Hz.
    assert episode.steps == pytest.approx((42.73 - 1.45) * 20, abs=1)
    names = source.contract.state_names
    insertion = names.index("C1_INSERT")
    # Millimetres became metres, and the robot follows its commands.
    assert episode.state[:, insertion].min() > 0.26 and episode.state[:, insertion].max() < 0.29
    command = source.contract.action_names.index("C1_INSERT")
    following = np.abs(episode.state[1:, insertion] - episode.action[:, command])
    assert np.median(following) < 0.001


def test_of_a_split_bag_a_damaged_file_costs_no_other(tmp_path: Path) -> None:
    """Somebody else's recorder: what is under way ends where the damage is, and begins anew after it."""
    folder = write_bag(tmp_path / "bag", driving(0, 12), files=4)
    broken = folder / "bag_1.mcap"
    broken.write_bytes(broken.read_bytes()[:-3000])
    found = [episode for _, episode in BagSource(folder, arm()).episodes()]
    assert all(isinstance(episode, Episode) for episode in found)
    whole = [e for _, e in BagSource(write_bag(tmp_path / "whole", driving(0, 12), files=4), arm()).episodes()]
    assert len(found) == len(whole) + 1 == 2
    before, after = found
    np.testing.assert_array_equal(before.state, whole[0].state[: len(before.state)])
    np.testing.assert_array_equal(after.state[-50:], whole[0].state[-50:])
    assert 30 < before.steps < 60 < after.steps + 10
