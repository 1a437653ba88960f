"""Whether a contract describes a bag: what is wrong is found, and named with what to do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from episodes.errors import InputError
from robot.bag_check import Finding, check_bag
from robot.contract import RobotContract
from robot.contract_file import read_robot_contract
from tests.robot.bagmaking import CAMERA, Logged, arm, driving, floats, joint_state, text, write_mcap


def check(messages: list[Logged], folder: Path, robot: RobotContract | None = None, **how: Any) -> dict[str, Finding]:
    found = check_bag(robot or arm(), write_mcap(folder / "bag.mcap", messages), **how)
    assert len({finding.what for finding in found}) == len(found)
    assert all(finding.ok == (finding.remedy == "") for finding in found)
    return {finding.what: finding for finding in found}


def wrong(found: dict[str, Finding]) -> dict[str, str]:
    return {what: finding.detail for what, finding in found.items() if not finding.ok}


def observing(**changes: Any) -> RobotContract:
    (observation,) = arm().observations
    return replace(arm(), observations=(replace(observation, **changes),))


def test_a_bag_that_fits_has_a_finding_for_everything_and_all_are_ok(tmp_path: Path) -> None:
    found = check(driving(0, 4, camera=True), tmp_path, arm(cameras=[CAMERA]))
    assert wrong(found) == {}
    assert list(found) == [
        "joint_states",
        "front/image",
        "arm_controller/commands",
        "joint_states rate",
        "joint_states age",
        "front/image rate",
        "front/image age",
        "arm_controller/commands rate",
        "arm_controller/commands shoulder",
        "arm_controller/commands elbow",
    ]
    assert found["joint_states"].detail == "200 messages of sensor_msgs/msg/JointState on /joint_states"
    assert found["joint_states rate"].detail == "50 Hz, 50 Hz in the contract"


def test_topics_that_are_missing_or_empty_or_of_another_type_are_found(tmp_path: Path) -> None:
    states = [each for each in driving(0, 4) if each.topic == "/joint_states"]
    found = wrong(check(states, tmp_path))
    assert list(found) == ["arm_controller/commands"]
    assert found["arm_controller/commands"].startswith(
        "topic /arm_controller/commands of the contract is not in the bag"
    )
    other = wrong(check([*states, text(0.0, "go", "/arm_controller/commands")], tmp_path))
    assert (
        "is std_msgs/msg/String in the bag, and std_msgs/msg/Float64MultiArray in" in other["arm_controller/commands"]
    )
    rule = {"by": "topic", "topic": "recording", "type": "std_msgs/msg/Bool"}
    assert list(wrong(check(driving(0, 4), tmp_path, arm(episodes=rule)))) == ["recording"]


def test_a_rate_that_is_off_by_more_than_half_is_found(tmp_path: Path) -> None:
    assert wrong(check(driving(0, 4), tmp_path, observing(rate=70))) == {}
    assert wrong(check(driving(0, 4), tmp_path, observing(rate=36))) == {}
    for rate in (80, 30):
        found = check(driving(0, 4), tmp_path, observing(rate=rate))
        assert list(wrong(found)) == ["joint_states rate"]
        assert found["joint_states rate"].remedy == "rate: 50"


def test_inputs_that_are_too_old_at_ticks_are_found(tmp_path: Path) -> None:
    quiet = [each for each in driving(0, 4) if each.topic != "/joint_states" or not 1.5 < each.logged < 2.5]
    found = check(quiet, tmp_path)
    assert list(wrong(found)) == ["joint_states age"]
    # At ticks every 0.1 s, in the 1 s in which nothing came.
    assert (
        "0.000 s median, 0.900 s at most, too old (over 0.2 s) at 17.5% of 40 ticks" in found["joint_states age"].detail
    )
    assert wrong(check(quiet, tmp_path, observing(max_age=1.0))) == {}


def test_joints_that_are_missing_are_found(tmp_path: Path) -> None:
    messages = [each for each in driving(0, 4) if each.topic != "/joint_states"]
    messages += [joint_state(k / 50, {"shoulder": 0.0, "ellbow": 0.0}) for k in range(200)]
    found = wrong(check(messages, tmp_path))
    assert list(found) == ["joint_states content"]
    assert (
        "200 of 200 messages cannot be used, the first: joint_states: there is no joint 'elbow'"
        in found["joint_states content"]
    )


def test_headers_without_a_stamp_are_found(tmp_path: Path) -> None:
    messages = [each for each in driving(0, 4) if each.topic != "/joint_states"]
    messages += [joint_state(None, {"shoulder": 0.0, "elbow": 0.0}, logged=k / 50) for k in range(200)]
    found = check(messages, tmp_path)
    assert wrong(found) == {"joint_states stamps": "200 messages whose header says no time"}
    assert found["joint_states stamps"].remedy == "stamp: publish"
    assert wrong(check(messages, tmp_path, observing(stamp="publish"))) == {}


def test_a_clock_that_was_set_back_is_found(tmp_path: Path) -> None:
    after = [replace(each, logged=each.logged + 50, published=each.logged) for each in driving(2, 4)]
    assert wrong(check([*driving(50, 52), *after], tmp_path)) == {"joint_states clock": "set back 1 times"}


def test_commands_outside_of_their_limits_are_found(tmp_path: Path) -> None:
    messages = [*driving(0, 2), *(floats(2 + k / 10, [0.0, 208.0]) for k in range(5))]
    found = wrong(check(messages, tmp_path))
    # Twice the elbow's angle is sent.
    assert found == {"arm_controller/commands elbow": "from 0.05 to 104 rad, limits -99 to 99; 5 of 25 outside"}


def test_commands_that_cannot_be_used_are_found(tmp_path: Path) -> None:
    found = wrong(check([*driving(0, 2), floats(1.0, [0.0])], tmp_path))
    assert list(found) == ["arm_controller/commands content"]
    assert "1 commands cannot be used, the first" in found["arm_controller/commands content"]


def test_a_bag_that_is_cut_off_is_found(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "bag.mcap", driving(0, 4))
    path.write_bytes(path.read_bytes()[:-4000])
    found = [finding for finding in check_bag(arm(), path) if not finding.ok]
    assert [finding.what for finding in found] == ["bag"] and "cut off at byte" in found[0].detail


def test_topics_are_looked_for_in_a_namespace(tmp_path: Path) -> None:
    messages = [replace(each, topic=f"/left{each.topic}") for each in driving(0, 2)]
    assert wrong(check(messages, tmp_path, namespace="left")) == {}
    assert len(wrong(check(messages, tmp_path, namespace="right"))) == 2


def test_what_is_no_bag_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no bag"):
        check_bag(arm(), tmp_path)


def test_the_contract_of_the_real_log_fits_it(shared_data: Path) -> None:
    folder = shared_data / "robot_log" / "bagfile"
    if not folder.is_dir():
        pytest.skip(f"no real log at {folder}")
    found = check_bag(read_robot_contract(Path(__file__).with_name("robot_log.yaml")), folder)
    assert all(finding.ok for finding in found) and len(found) > 20
