"""A robot's contract: what it makes of a file, and what it refuses in one line that says what would be right."""

import importlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from episodes.contract import ActionEntry, Camera, StateEntry, contract_from
from episodes.errors import InputError
from episodes.typed import plain
from robot.contract import RobotContract, state_entries
from robot.contract_file import is_robot_contract, json_schema, read_robot_contract, robot_contract_from
from robot.contract_rules import check_guarded
from sim.task import Task
from tests.robot.contracts import REMOVED, ROOT, SHIPPED, SMALL, contract, mapping

FORCE = {"topic": "wrench", "limit": 20, "max_age": 0.1}
HANDS = {
    "topic": "joy",
    "engaged": "buttons[5]",
    "max_age": 0.5,
    "axes": [
        {"action": name, "path": f"axes[{axis}]", "absolute": name != "push"}
        for axis, name in enumerate(("to_shoulder", "to_elbow", "push"))
    ],
}
CAMERA = {"name": "wrist", "topic": "wrist/image", "height": 8, "width": 6, "rate": 10, "max_age": 0.2}


def refusal(**changes: Any) -> str:
    """Why a changed contract is refused: one line that says where it is from."""
    with pytest.raises(InputError) as refused:
        contract(**changes)
    text = str(refused.value)
    assert "\n" not in text
    assert "arm.yaml" in text
    return text


def test_the_shipped_contract_is_the_simulated_task_of_the_demo(lift_quick: Task) -> None:
    layout = read_robot_contract(SHIPPED).layout()
    assert layout == lift_quick.contract
    assert layout.hash == lift_quick.contract.hash


def test_the_shipped_contract_ends_an_episode_where_the_task_does(lift_quick: Task) -> None:
    assert read_robot_contract(SHIPPED).max_steps == lift_quick.horizon


def test_a_file_and_its_mapping_make_the_same_contract() -> None:
    content = yaml.safe_load(SHIPPED.read_text())
    assert robot_contract_from(content, "x") == read_robot_contract(SHIPPED)


def test_a_contract_survives_being_written_and_read_again() -> None:
    first = contract(intervention=HANDS, safety__force=FORCE, cameras=[CAMERA], safety__workspace={"tip_x": [0, 1]})
    assert robot_contract_from(yaml.safe_load(yaml.safe_dump(plain(first))), "again") == first


def test_the_state_is_the_observations_fields_in_order_and_joints_within_a_field() -> None:
    assert contract().layout().state == (
        StateEntry("shoulder", "rad"),
        StateEntry("elbow", "rad"),
        StateEntry("shoulder_velocity", "rad/s"),
        StateEntry("elbow_velocity", "rad/s"),
        StateEntry("tip_x", "m"),
    )


def test_a_joint_of_its_own_makes_one_entry() -> None:
    fields = [
        {"path": "position", "joint": "wrist", "periodic": True},
        {"path": "effort", "joint": "wrist", "name": "e"},
    ]
    entries = state_entries(
        contract(observations__0__fields__2=fields[0], observations__0__fields__3=fields[1]).observations[0]
    )
    assert entries[4:] == [("wrist_position", "", True), ("e", "", False)]


def test_a_field_without_a_name_is_called_by_its_path() -> None:
    (entry,) = state_entries(contract(observations__1__fields__0__name=REMOVED).observations[1])
    assert entry == ("point.x", "m", False)


def test_the_action_is_the_commands_fields_in_order_with_what_they_are_targets_for() -> None:
    assert contract().layout().action == (
        ActionEntry("to_shoulder", "rad", -1, 1, "shoulder"),
        ActionEntry("to_elbow", "rad", -2, 2, "elbow"),
        ActionEntry("push", "m", -0.1, 0.1, None),
    )


def test_a_position_is_a_target_in_the_unit_of_what_it_moves_and_a_velocity_is_none() -> None:
    layout = contract(
        commands__0__fields__0__scale=2,
        commands__0__fields__1__unit="",
        commands__0__fields__1__scale=0.5,
        commands__1__fields__0__measured="tip_x",
        observations__1__fields__0__scale=1,
    ).layout()
    assert [entry.reference for entry in layout.action] == ["shoulder", None, None]


def test_cameras_are_in_the_layout_at_the_size_that_is_stored() -> None:
    assert contract(cameras=[CAMERA]).layout().cameras == (Camera("wrist", 8, 6),)


def test_cameras_alone_can_be_seen() -> None:
    only = contract(
        observations=[],
        cameras=[CAMERA],
        commands__0__fields__0__measured=REMOVED,
        commands__0__fields__1__measured=REMOVED,
    )
    assert only.layout().state == ()


@given(st.floats(0.01, 1e4))
def test_a_period_is_the_inverse_of_the_rate_to_the_nanosecond(rate: float) -> None:
    assert abs(contract(rate=rate).period - 1e9 / rate) <= 0.5


def test_every_number_of_the_action_knows_its_topic() -> None:
    assert [(command.topic, entry.name) for command, entry in contract().action_fields] == [
        ("arm/commands", "to_shoulder"),
        ("arm/commands", "to_elbow"),
        ("servo", "push"),
    ]


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, ["last", "zero"]),
        ({"commands__0__hold": "measured"}, ["measured", "zero"]),
        ({"commands__0__hold": "last", "commands__1__hold": "zero"}, ["last", "zero"]),
        ({"commands__1__kind": "effort"}, ["last", "zero"]),
    ],
)
def test_a_position_is_held_and_all_else_goes_to_zero(changes: dict[str, Any], held: list[str]) -> None:
    assert [command.held for command in contract(**changes).commands] == held


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # What is not there, or called otherwise.
        ({"comands": []}, "unknown key 'comands' in arm.yaml; did you mean 'commands'?"),
        ({"commands__1__on_silense": "stops"}, "unknown key 'on_silense'"),
        ({"commands__0__fields__0__hight": 1}, "unknown key 'hight' in arm.yaml.commands.0.fields.0"),
        ({"observations__1__fields__0__units": "m"}, "did you mean 'unit'?"),
        ({"safety__watchdogs": 1}, "did you mean 'watchdog'?"),
        ({"rate": REMOVED}, "rate: Field required"),
        ({"commands__0__on_silence": REMOVED}, "commands.0.on_silence: Field required"),
        ({"version": REMOVED}, "version: Field required"),
        ({"version": 2}, "version 2, this release reads version 1"),
        ({"version": "1"}, "version '1', this release reads version 1"),
        ({"observations": []}, "neither observations nor cameras"),
        ({"commands": []}, "no commands"),
        ({"observations__1__fields": []}, "observations of tip: no fields"),
        ({"commands__1__fields": []}, "commands to servo: no fields"),
        # Values of the wrong kind.
        ({"rate": 0}, "rate: Input should be greater than 0, got 0"),
        ({"rate": float("nan")}, "rate:"),
        ({"rate": float("inf")}, "rate:"),
        ({"observations__0__max_age": 0}, "observations.0.max_age:"),
        ({"observations__0__rate": -1}, "observations.0.rate:"),
        ({"observations__0__joints": "shoulder"}, "observations.0.joints:"),
        ({"observations__0__type": "sensor_msgs/JointState"}, "observations.0.type:"),
        ({"observations__0__topic": "joint states"}, "observations.0.topic:"),
        ({"observations__0__topic": "/"}, "observations.0.topic:"),
        ({"observations__0__stamp": "arrival"}, "'header' or 'publish'"),
        ({"commands__0__kind": "torque"}, "'position', 'velocity' or 'effort'"),
        ({"commands__0__on_silence": "holds"}, "'holds_position', 'repeats_last' or 'stops'"),
        ({"commands__0__fields__0__name": "to shoulder"}, "commands.0.fields.0.name:"),
        ({"commands__0__fields__0__velocity": 0}, "commands.0.fields.0.velocity:"),
        ({"commands__0__fields__0__acceleration": -1}, "commands.0.fields.0.acceleration:"),
        ({"commands__0__fields__0__low": float("-inf")}, "commands.0.fields.0.low:"),
        ({"max_steps": 0}, "max_steps:"),
        ({"cameras": [{**CAMERA, "height": 0}]}, "cameras.0.height:"),
        ({"cameras": [{**CAMERA, "type": "sensor_msgs/msg/PointCloud2"}]}, "cameras.0.type:"),
        # Units.
        (
            {"observations__1__fields__0__unit": "mm"},
            "observations of tip, point.x: unit 'mm': write unit: m and scale: 0.001",
        ),
        ({"observations__1__fields__0__unit": "cm"}, "write unit: m and scale: 0.01"),
        ({"observations__0__fields__0__unit": "deg"}, "write unit: rad and scale: 0.0174532925"),
        ({"observations__0__fields__1__unit": "deg/s"}, "write unit: rad/s and scale: 0.0174532925"),
        ({"commands__1__fields__0__unit": "mm"}, "commands to servo, push: unit 'mm': write unit: m and scale: 0.001"),
        ({"commands__1__fields__0__unit": "metre"}, "unknown unit 'metre' in commands to servo, push"),
        ({"commands__0__fields__0__unit": "m"}, "unit 'm', and shoulder, its reference, has 'rad'"),
        # Paths and names.
        ({"observations__1__fields__0__path": "point..x"}, "path 'point..x': expected field names joined by dots"),
        ({"observations__0__names": "name["}, "path 'name['"),
        ({"commands__0__fields__0__path": "data[x]"}, "path 'data[x]'"),
        ({"observations__0__fields__0__name": "joint"}, "name 'joint' needs {joint} in it"),
        ({"observations__1__fields__0__name": "elbow_velocity"}, "state entry 'elbow_velocity' is listed twice"),
        ({"commands__1__fields__0__name": "to_elbow"}, "action entry 'to_elbow' is listed twice"),
        ({"cameras": [CAMERA, CAMERA]}, "camera entry 'wrist' is listed twice"),
        # Limits.
        ({"commands__0__fields__0__low": 1}, "commands to arm/commands, to_shoulder: low 1 is not below high 1"),
        ({"commands__0__fields__0__low": 2}, "low 2 is not below high 1"),
        ({"commands__1__fields__0__scale": 0}, "commands to servo, push: scale 0, expected more than 0"),
        ({"commands__1__fields__0__scale": -10}, "scale -10, expected more than 0"),
        ({"observations__1__fields__0__scale": 0}, "observations of tip, point.x: scale 0 makes everything 0"),
        ({"commands__0__fields__0__measured": "shoulde"}, "did you mean 'shoulder'?"),
        ({"commands__1__fields__0__position": [0, 1]}, "position is judged by what is measured"),
        (
            {"commands__0__fields__0__leash": 1, "commands__0__fields__0__measured": REMOVED},
            "leash is judged by what is measured",
        ),
        ({"commands__0__fields__0__position": [0, 1]}, "a position command has low and high"),
        ({"commands__1__fields__0__velocity": 1}, "velocity and leash are limits of position commands"),
        (
            {"commands__1__fields__0__leash": 1, "commands__1__fields__0__measured": "tip_x"},
            "velocity and leash are limits of position commands",
        ),
        (
            {"commands__1__fields__0__position": [1, 0], "commands__1__fields__0__measured": "tip_x"},
            "position 1 is not below 0",
        ),
        # What happens in silence, and what holding still is.
        (
            {"commands__1__on_silence": "repeats_last", "commands__1__silence": REMOVED},
            "commands to servo: an effort or velocity that the controller repeats for ever runs away",
        ),
        (
            {"commands__1__on_silence": "repeats_last", "commands__1__silence": REMOVED, "commands__1__kind": "effort"},
            "velocity that the controller repeats for ever runs away",
        ),
        ({"commands__1__silence": REMOVED}, "`silence` says after how many seconds"),
        ({"commands__0__silence": 0.2}, "`silence` says after how many seconds"),
        ({"commands__1__hold": "measured"}, "only a position can be held where it is measured"),
        ({"commands__0__hold": "zero"}, "position zero is a place"),
        (
            {"commands__0__hold": "measured", "commands__0__fields__1__measured": REMOVED},
            "commands to arm/commands, to_elbow: to be held where it is measured it needs measured",
        ),
        # Everything else that refers to something.
        (
            {"safety__workspace": {"tip_y": [0, 1]}},
            "unknown state entry 'tip_y' in safety.workspace; did you mean 'tip_x'",
        ),
        ({"safety__workspace": {"tip_x": [1, 1]}}, "safety.workspace.tip_x: 1 is not below 1"),
        ({"safety__workspace": {"tip_x": [float("nan"), 1]}}, "safety.workspace"),
        ({"safety__watchdog": 0}, "safety.watchdog:"),
        ({"safety__force": {**FORCE, "limit": 0}}, "safety.force.limit:"),
        ({"safety__force": {**FORCE, "paths": ["wrench..x"]}}, "path 'wrench..x'"),
        ({"safety__dead_man": {"topic": "joy", "path": "", "max_age": 1}}, "path ''"),
        ({"intervention": {**HANDS, "axes": [{"action": "pusch", "path": "axes[0]"}]}}, "did you mean 'push'?"),
        ({"intervention": {**HANDS, "axes": [{"action": "push", "path": "axes["}]}}, "path 'axes['"),
        ({"intervention": {**HANDS, "engaged": "buttons["}}, "path 'buttons['"),
        ({"episodes__by": "events"}, "episodes by events: need a topic and its type"),
        ({"episodes__by": "topic", "episodes__topic": "go"}, "episodes by topic: need a topic and its type"),
        (
            {"episodes": {"by": "events", "topic": "go", "type": "std_msgs/msg/String"}},
            "say which events start one",
        ),
        ({"reset": {"service": "home", "hands": "put it back"}}, "either a service does it or a person's hands do"),
        (
            {"reset": {"hands": "look", "task": "hold still"}},
            "'hold still' is the task itself, expected what undoes it",
        ),
        ({"reset": {"hands": "look", "task": "move"}, "task": ""}, "undoes a task, and the contract names none"),
        ({"reset": {"task": "move"}}, "reset.task: now and then a person has to do it all the same"),
        ({"reset": {"within": {"elbo": [0, 1]}}}, "unknown state entry 'elbo' in reset.within; did you mean 'elbow'?"),
        ({"reset": {"within": {"elbow": [1, 1]}}}, "reset.within.elbow: 1 is not below 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**changes)


def test_a_velocity_that_is_repeated_for_ever_can_be_wanted() -> None:
    changes = {"commands__1__on_silence": "repeats_last", "commands__1__silence": REMOVED}
    assert contract(**changes, commands__1__allow_runaway=True).commands[1].on_silence == "repeats_last"


def test_a_position_that_is_repeated_needs_no_permission() -> None:
    assert contract(commands__0__on_silence="repeats_last").commands[0].allow_runaway is False


def test_a_scaled_target_may_have_another_unit_than_what_it_moves() -> None:
    contract(commands__0__fields__0__unit="m", commands__0__fields__0__scale=2)


def test_a_source_may_be_turned_round() -> None:
    assert contract(observations__1__fields__0__scale=-1).observations[1].fields[0].scale == -1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for content in ("a: [", "- 1", ""):
        path = tmp_path / "arm.yaml"
        path.write_text(content)
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_robot_contract(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_robot_contract(tmp_path / "none.yaml")


def test_a_contract_of_a_store_is_told_from_a_robots(tmp_path: Path) -> None:
    store = tmp_path / "store.yaml"
    store.write_text(yaml.safe_dump(plain(contract().layout())))
    assert is_robot_contract(SHIPPED)
    assert not is_robot_contract(store)


def test_the_schema_describes_every_key_and_allows_no_other() -> None:
    schema = json.loads(json_schema())
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    assert {"version", "name", "rate", "observations", "commands"} == set(schema["required"])
    assert set(SMALL) <= set(schema["properties"])
    for name, definition in schema["$defs"].items():
        assert definition["additionalProperties"] is False, name


def test_the_shipped_contract_follows_the_schema() -> None:
    if importlib.util.find_spec("jsonschema") is None:
        pytest.skip("jsonschema is not installed")
    jsonschema = importlib.import_module("jsonschema")
    content = json.loads(json.dumps(yaml.safe_load(SHIPPED.read_text())))
    jsonschema.validate(content, json.loads(json_schema()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "version": 2}, json.loads(json_schema()))


def test_going_on_as_before_is_not_holding_still() -> None:
    assert "hold" in refusal(commands__1__hold="last")


def test_an_effort_may_be_held_as_it_carries_the_arm() -> None:
    assert contract(commands__1__kind="effort", commands__1__hold="last").commands[1].held == "last"


@pytest.mark.parametrize(
    "changes",
    [
        {"observations__1__fields__0__path": "data[3]", "observations__1__fields__0__name": REMOVED},
        {"observations__1__fields__0__name": "tip x"},
        {"observations__0__joints": ["arm/shoulder", "elbow"], "commands__0__fields__0__measured": REMOVED},
    ],
)
def test_a_layout_that_is_given_to_a_store_can_be_read_again(changes: dict[str, Any]) -> None:
    try:
        layout = contract(**changes).layout()
    except InputError as refused:
        assert "name" in str(refused)  # To refuse such a name is as good.
        return
    assert contract_from(plain(layout), "store") == layout


def test_two_numbers_of_an_action_go_to_two_places() -> None:
    assert "data[0]" in refusal(commands__0__fields__1__path="data[0]")


def test_two_commands_go_to_two_topics() -> None:
    assert "servo" in refusal(commands__0__topic="servo")


def test_a_force_limit_without_anything_to_measure_is_refused() -> None:
    assert "paths" in refusal(safety__force={**FORCE, "paths": []})


@pytest.mark.parametrize("crop", [[-2, 0, 8, 6], [0, -1, 8, 6], [0, 0, 0, 6], [0, 0, 8, -1]])
def test_a_crop_is_inside_a_picture_and_not_empty(crop: list[int]) -> None:
    assert "crop" in refusal(cameras=[{**CAMERA, "crop": crop}])


def test_inputs_on_one_topic_have_one_type() -> None:
    assert "joint_states" in refusal(observations__1__topic="joint_states")


def test_a_person_who_takes_over_positions_drives_all_of_them() -> None:
    assert "to_elbow" in refusal(
        intervention={**HANDS, "axes": [{"action": "to_shoulder", "path": "axes[0]", "absolute": True}]}
    )


def test_a_joystick_does_not_drive_positions_where_it_stands() -> None:
    axes = [{**axis, "absolute": False} for axis in HANDS["axes"]]
    assert "say absolute: true" in refusal(intervention={**HANDS, "axes": axes})
    free = {f"commands__0__fields__{n}__measured": REMOVED for n in (0, 1)}
    assert contract(intervention={**HANDS, "axes": axes}, **free).intervention is not None


def test_what_is_measured_is_in_the_frame_that_is_sent() -> None:
    frames = {"commands__1__fields__0__measured": "tip_x", "observations__1__frame_id": "base_link"}
    assert "sent in frame 'base', and tip_x is measured in 'base_link'" in refusal(**frames)
    assert contract(**frames | {"observations__1__frame_id": "base"})
    assert contract(**frames | {"commands__1__frame_id": REMOVED})


def guarded(changes: dict[str, Any]) -> RobotContract:
    """The small contract with what it lacks before a guardian takes it, changed."""
    lacking = {f"commands__0__fields__{number}__{limit}": 1 for number in (0, 1) for limit in ("velocity", "leash")}
    both = lacking | changes
    return contract(**{key: value for key, value in both.items() if not (key in lacking and value is REMOVED)})


TRAJECTORY = {
    "commands__0__type": "trajectory_msgs/msg/JointTrajectory",
    "commands__0__fields__0__path": "points[0].positions[0]",
    "commands__0__fields__1__path": "points[0].positions[1]",
}
POSE = {"commands__0__type": "geometry_msgs/msg/PoseStamped", "commands__0__fields__0__path": "pose.position.x"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {**TRAJECTORY, "commands__0__joints": ["shoulder", "elbow"]},
        {
            **{f"commands__0__fields__0__{limit}": REMOVED for limit in ("measured", "velocity", "leash")},
            "commands__0__fields__0__unguarded": True,
        },
        {"commands__1__kind": "effort", "commands__1__hold": "last"},
    ],
)
def test_a_guardian_takes_what_it_can_limit(changes: dict[str, Any]) -> None:
    check_guarded(guarded(changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"commands__0__fields__1__leash": REMOVED}, "to_elbow: has no leash"),
        ({"commands__0__fields__0__velocity": REMOVED}, "to_shoulder: has no velocity;"),
        (
            {f"commands__0__fields__0__{limit}": REMOVED for limit in ("measured", "velocity", "leash")},
            "has no measured and no velocity and no leash",
        ),
        ({"commands__0__fields__0__path": "data[2]"}, "data[0] is not listed and would be sent as 0"),
        ({"commands__0__fields__1__path": "data[3]"}, "data[1] is not listed"),
        (TRAJECTORY, "0 joints for 2 numbers"),
        ({**TRAJECTORY, "commands__0__joints": ["a", "b", "c"]}, "3 joints for 2 numbers"),
        ({**POSE, "commands__0__fields__1__path": "pose.position.y"}, "pose.position.z is not listed"),
        ({"commands__1__kind": "effort"}, "say what holds it still"),
    ],
)
def test_a_guardian_does_not_take_what_could_go_anywhere(changes: dict[str, Any], said: str) -> None:
    loose = guarded(changes)
    with pytest.raises(InputError) as refused:
        check_guarded(loose)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", sorted((ROOT / "launch" / "contracts").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_guardian_takes_what_is_shipped(path: Path) -> None:
    check_guarded(read_robot_contract(path))


def test_the_path_of_an_episodes_events_is_checked() -> None:
    rule = {"by": "events", "topic": "go", "type": "std_msgs/msg/String", "path": "data[", "start": ["go"]}
    assert "path 'data['" in refusal(episodes=rule)


@pytest.mark.parametrize("topic", ["a//b", "a/", "a/1b"])
def test_a_topic_that_ros_would_refuse_is_refused(topic: str) -> None:
    assert "topic" in refusal(observations__1__topic=topic)


def test_the_mapping_is_left_as_it_was() -> None:
    content = mapping()
    robot_contract_from(content, "arm.yaml")
    assert content == SMALL
