"""A frame is a function of the messages' stamps and of the tick, never of the order in which they arrived."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from robot.frames import JUMP, Arrival, Frame, Frames
from tests.robot.contracts import REMOVED, SECOND, contract, joint_state, make, tip

BEGIN = 1_000 * SECOND
"""When the tests' messages begin [ns]."""
CONTRACT = contract()
CAMERA = {"name": "wrist", "topic": "wrist/image", "height": 2, "width": 2, "rate": 10, "max_age": 0.25}


def frames(**options: Any) -> Frames:
    return Frames(CONTRACT, **options)


def add(into: Frames, topic: str, message: Any, published: int = 1) -> tuple[Arrival, str]:
    (arrival,) = into.add(topic, message, published)
    return arrival


def filled(stamps: list[int], **options: Any) -> Frames:
    """Both inputs with messages at these stamps, in this order."""
    into = frames(**options)
    for stamp in stamps:
        add(into, "joint_states", joint_state(stamp))
        add(into, "tip", tip(stamp))
    return into


def same(a: Frame, b: Frame) -> bool:
    return (a.tick, a.stamps, a.missing, a.stale) == (b.tick, b.stamps, b.missing, b.stale) and bool(
        np.array_equal(a.state, b.state, equal_nan=True)
    )


def picture(stamp: int, value: int) -> Any:
    message = make("sensor_msgs/msg/Image")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    message.height, message.width, message.step, message.encoding = 2, 2, 6, "rgb8"
    message.data = np.full(12, value, np.uint8)
    return message


offsets = st.lists(st.integers(0, JUMP - 1), unique=True, max_size=8)


@given(offsets, offsets, st.integers(-10, JUMP + SECOND), st.data(), st.sampled_from([None, 2.0]))
def test_a_frame_does_not_depend_on_the_order_of_arrival(
    joints: list[int], tips: list[int], tick: int, data: st.DataObject, kept: float | None
) -> None:
    messages = [("joint_states", joint_state(BEGIN + offset)) for offset in joints]
    messages += [("tip", tip(BEGIN + offset)) for offset in tips]
    one, other = frames(kept=kept), frames(kept=kept)
    for topic, message in messages:
        add(one, topic, message)
    for topic, message in data.draw(st.permutations(messages)):
        add(other, topic, message)
    found = one.frame(BEGIN + tick)
    assert same(found, other.frame(BEGIN + tick))
    assert same(found, other.at(BEGIN + tick, found.stamps))
    assert one.common_stamp() == other.common_stamp()


@given(offsets, offsets, st.integers(-10, JUMP + SECOND))
def test_a_frame_is_made_of_the_newest_messages_that_are_not_after_the_tick(
    joints: list[int], tips: list[int], tick: int
) -> None:
    into = frames()
    for offset in joints:
        add(into, "joint_states", joint_state(BEGIN + offset))
    for offset in tips:
        add(into, "tip", tip(BEGIN + offset))
    found = into.frame(BEGIN + tick)
    expected = [max((BEGIN + o for o in some if o <= tick), default=0) for some in (joints, tips)]
    assert list(found.stamps) == expected
    assert found.missing == tuple(t for t, s in zip(("joint_states", "tip"), expected, strict=True) if not s)
    old = [bool(stamp) and BEGIN + tick - stamp > 0.25 * SECOND for stamp in expected]
    assert found.stale == tuple(t for t, stale in zip(("joint_states", "tip"), old, strict=True) if stale)
    assert found.usable == (not found.missing and not found.stale)
    joint, of_tip = (np.float32(stamp % 1000) if stamp else np.float32(np.nan) for stamp in expected)
    row = [joint, joint + 1, joint + 10, joint + 11, np.float32(np.float64(of_tip) * 0.001)]
    np.testing.assert_array_equal(found.state, np.array(row, np.float32))
    assert found.state.dtype == np.float32


@given(st.lists(st.integers(0, JUMP - 1), unique=True, min_size=1), st.integers(0, JUMP), st.integers(0, JUMP))
def test_what_is_forgotten_is_needed_by_no_later_frame(stamps: list[int], before: int, later: int) -> None:
    whole, part = filled([BEGIN + s for s in stamps], kept=None), filled([BEGIN + s for s in stamps], kept=None)
    part.forget_before(BEGIN + before)
    tick = BEGIN + before + later
    assert same(part.frame(tick), whole.frame(tick))


@given(st.lists(st.integers(1, 100), min_size=3, max_size=50), st.floats(0.01, 0.5))
def test_a_reading_is_kept_as_long_as_was_asked_for(gaps: list[int], kept: float) -> None:
    stamps = [int(BEGIN + total * 10_000_000) for total in np.cumsum(gaps)]
    whole, part = filled(stamps, kept=None), filled(stamps, kept=kept)
    for tick in stamps:
        if tick >= stamps[-1] - kept * 1e9:
            assert same(part.frame(tick), whole.frame(tick))
    assert part.frame(stamps[-2]).usable, "the newest may be after the tick"


def test_readings_do_not_pile_up() -> None:
    into = filled([BEGIN + step * SECOND // 10 for step in range(100)], kept=1.0)
    assert into.frame(BEGIN + 2 * SECOND).missing == ("joint_states", "tip")
    assert into.frame(BEGIN + 9 * SECOND).usable


def test_all_is_kept_where_that_was_asked_for() -> None:
    into = filled([BEGIN + step * SECOND for step in range(100)], kept=None)
    assert into.frame(BEGIN).usable


def test_forgetting_lets_go_of_what_is_older() -> None:
    into = filled([BEGIN, BEGIN + 10, BEGIN + 20], kept=None)
    into.forget_before(BEGIN + 15)
    assert into.at(BEGIN + 20, [BEGIN, BEGIN]).missing == ("joint_states", "tip")
    assert into.at(BEGIN + 20, [BEGIN + 10, BEGIN + 10]).usable


def test_forgetting_before_the_first_lets_go_of_nothing() -> None:
    into = filled([BEGIN, BEGIN + 10], kept=None)
    into.forget_before(BEGIN - 1)
    assert into.frame(BEGIN).usable


@given(st.permutations(["shoulder", "elbow", "gripper", "wrist"]))
def test_joints_are_found_by_name(order: list[str]) -> None:
    values = {"shoulder": 1.0, "elbow": 2.0, "gripper": 3.0, "wrist": 4.0}
    message = joint_state(
        BEGIN,
        names=tuple(order),
        position=[values[name] for name in order],
        velocity=[-values[name] for name in order],
    )
    into = frames()
    assert add(into, "joint_states", message) == (Arrival.NEW, "")
    np.testing.assert_array_equal(into.frame(BEGIN).state[:4], [1, 2, -1, -2])


def test_an_effort_that_nobody_asked_for_may_be_missing() -> None:
    message = joint_state(BEGIN)
    assert len(message.effort) == 0
    assert add(frames(), "joint_states", message)[0] is Arrival.NEW


def test_an_effort_that_is_asked_for_and_missing_makes_a_message_unusable() -> None:
    asking = Frames(contract(observations__0__fields__2={"path": "effort", "unit": "Nm"}))
    arrival, why = add(asking, "joint_states", joint_state(BEGIN))
    assert arrival is Arrival.UNUSABLE
    assert why == "joint_states: joint 'shoulder' has no value: 0 values for 2 names"


def test_one_joint_of_its_own_is_found_by_name() -> None:
    field = {"path": "position", "joint": "gripper", "unit": "m"}
    into = Frames(contract(observations__0__fields__2=field))
    message = joint_state(BEGIN, names=("gripper", "elbow", "shoulder"), position=[7, 8, 9], velocity=[0, 0, 0])
    add(into, "joint_states", message)
    np.testing.assert_array_equal(into.frame(BEGIN).state[:5], [9, 8, 0, 0, 7])


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (joint_state(BEGIN, names=("shoulder",)), "joint_states: there is no joint 'elbow'; there are: shoulder"),
        (joint_state(BEGIN, velocity=[1.0]), "joint_states: joint 'elbow' has no value"),
        (joint_state(BEGIN, position=[np.nan, 0]), "joint_states: not finite"),
        (joint_state(BEGIN, velocity=[0, np.inf]), "joint_states: not finite"),
        (joint_state(0), "joint_states: header.stamp is zero or missing; use stamp: publish in the contract"),
        (tip(BEGIN), "joint_states: name: there is no field 'name'"),
    ],
)
def test_a_message_that_says_nothing_is_unusable_and_leaves_the_frame_alone(message: Any, why: str) -> None:
    into = filled([BEGIN - 1])
    before = into.frame(BEGIN)
    arrival, said = add(into, "joint_states", message)
    assert arrival is Arrival.UNUSABLE
    assert said.startswith(why)
    assert same(into.frame(BEGIN), before)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_number_that_is_too_large_for_a_state_is_not_finite() -> None:
    arrival, why = add(frames(), "tip", tip(BEGIN, 1e300))
    assert arrival is Arrival.UNUSABLE
    assert "not finite" in why


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("sensor_msgs/msg/JointState", "position"),
        ("sensor_msgs/msg/JointState", "header"),
        ("geometry_msgs/msg/PointStamped", "point.x[0]"),
    ],
)
def test_a_path_that_leads_to_no_number_makes_a_message_unusable(kind: str, path: str) -> None:
    into = Frames(contract(observations__1__type=kind, observations__1__fields__0__path=path))
    message = joint_state(BEGIN) if kind.endswith("JointState") else tip(BEGIN)
    arrival, why = add(into, "tip", message)
    assert arrival is Arrival.UNUSABLE
    assert path.split("[")[0] in why


def test_a_late_message_is_put_where_it_belongs() -> None:
    into = frames()
    assert add(into, "tip", tip(BEGIN + 20, 1.0))[0] is Arrival.NEW
    assert add(into, "tip", tip(BEGIN + 10, 2.0))[0] is Arrival.LATE
    assert into.frame(BEGIN + 15).state[4] == np.float32(0.002)
    assert into.frame(BEGIN + 20).state[4] == np.float32(0.001)


def test_of_two_messages_with_one_stamp_the_first_counts() -> None:
    into = frames()
    assert add(into, "tip", tip(BEGIN, 1.0))[0] is Arrival.NEW
    assert add(into, "tip", tip(BEGIN, 2.0))[0] is Arrival.REPEATED
    assert into.frame(BEGIN).state[4] == np.float32(0.001)


def test_a_clock_that_is_set_back_makes_that_input_forget() -> None:
    into = filled([BEGIN])
    assert add(into, "tip", tip(BEGIN - JUMP - 1, 5.0))[0] is Arrival.CLOCK_JUMP
    found = into.frame(BEGIN - JUMP)
    assert found.stamps == (0, BEGIN - JUMP - 1)
    assert found.state[4] == np.float32(0.005)
    assert found.missing == ("joint_states",)
    assert into.at(BEGIN, [BEGIN, BEGIN]).missing == ("tip",)
    assert add(into, "tip", tip(BEGIN - JUMP))[0] is Arrival.NEW


def test_up_to_a_second_a_message_is_only_late() -> None:
    into = filled([BEGIN])
    assert add(into, "tip", tip(BEGIN - JUMP))[0] is Arrival.LATE
    assert into.frame(BEGIN).usable


def test_a_message_is_stale_from_its_maximum_age_on() -> None:
    into = filled([BEGIN])
    add(into, "tip", tip(BEGIN + 1))
    assert into.frame(BEGIN + 250_000_000).usable
    found = into.frame(BEGIN + 250_000_001)
    assert found.stale == ("joint_states",)
    assert not found.usable
    assert np.isfinite(found.state).all()


def test_what_is_after_the_tick_is_not_known_yet() -> None:
    found = filled([BEGIN]).frame(BEGIN - 1)
    assert found.missing == ("joint_states", "tip")
    assert np.isnan(found.state).all()
    assert found.state.shape == (5,)
    assert found.stamps == (0, 0)


def test_of_an_input_whose_clock_is_ahead_it_is_known_by_how_much() -> None:
    """So far that nothing of what is kept is before the tick."""
    into = frames(kept=1.0)
    for step in range(20):
        add(into, "joint_states", joint_state(BEGIN + 5 * SECOND + step * SECOND // 10))
    found = into.frame(BEGIN + SECOND)
    assert found.missing == ("joint_states", "tip")
    assert found.ahead == {"joint_states": 5_900_000_000}
    assert into.frame(BEGIN + 6 * SECOND).ahead == {}


def test_a_frame_has_as_many_stamps_as_inputs() -> None:
    with pytest.raises(InputError, match="a frame has 2 inputs, got 1 stamps"):
        frames().at(BEGIN, [BEGIN])


def test_the_stamp_of_publishing_counts_where_the_contract_says_so() -> None:
    into = Frames(contract(observations__1__stamp="publish"))
    assert add(into, "tip", tip(0), BEGIN)[0] is Arrival.NEW
    add(into, "joint_states", joint_state(BEGIN - 1), BEGIN)
    assert into.frame(BEGIN).stamps == (BEGIN - 1, BEGIN)


def test_two_inputs_may_share_a_topic() -> None:
    both = contract(
        observations__1__topic="joint_states",
        observations__1__type="sensor_msgs/msg/JointState",
        observations__1__fields=[{"path": "position", "joint": "gripper", "name": "tip_x", "unit": "m"}],
    )
    into = Frames(both)
    assert into.topics == ["joint_states"]
    whole = joint_state(BEGIN, names=("shoulder", "elbow", "gripper"), position=[1, 2, 3], velocity=[4, 5, 6])
    assert [arrival for arrival, _ in into.add("joint_states", whole, 0)] == [Arrival.NEW, Arrival.NEW]
    np.testing.assert_array_equal(into.frame(BEGIN).state, [1, 2, 4, 5, 3])
    arrivals = into.add("joint_states", joint_state(BEGIN + 1), 0)
    assert [arrival for arrival, _ in arrivals] == [Arrival.NEW, Arrival.UNUSABLE]
    assert into.frame(BEGIN + 1).stamps == (BEGIN + 1, BEGIN)
    assert into.frame(BEGIN - 1).missing == ("joint_states",), "a topic is named once"


def test_the_common_stamp_is_the_oldest_of_the_newest() -> None:
    into = frames()
    assert into.common_stamp() == 0
    add(into, "tip", tip(BEGIN + 5))
    assert into.common_stamp() == 0
    add(into, "joint_states", joint_state(BEGIN + 3))
    assert into.common_stamp() == BEGIN + 3
    add(into, "joint_states", joint_state(BEGIN + 9))
    assert into.common_stamp() == BEGIN + 5


def test_pictures_come_after_the_state_in_the_stamps() -> None:
    seeing = Frames(contract(cameras=[CAMERA]))
    add(seeing, "joint_states", joint_state(BEGIN))
    add(seeing, "tip", tip(BEGIN + 1))
    assert seeing.frame(BEGIN + 2).missing == ("wrist/image",)
    assert seeing.frame(BEGIN + 2).images == {}
    add(seeing, "wrist/image", picture(BEGIN + 2, 77))
    found = seeing.frame(BEGIN + 2)
    assert found.stamps == (BEGIN, BEGIN + 1, BEGIN + 2)
    assert found.state.shape == (5,)
    np.testing.assert_array_equal(found.images["wrist"], np.full((2, 2, 3), 77, np.uint8))


def test_pictures_are_left_out_where_nobody_wants_them() -> None:
    blind = Frames(contract(cameras=[CAMERA]), cameras=False)
    assert blind.topics == ["joint_states", "tip"]
    assert len(blind.frame(BEGIN).stamps) == 2


def test_a_picture_that_cannot_be_read_is_unusable() -> None:
    seeing = Frames(contract(cameras=[CAMERA]))
    message = picture(BEGIN, 1)
    message.data = message.data[:5]
    arrival, why = add(seeing, "wrist/image", message)
    assert arrival is Arrival.UNUSABLE
    assert why.startswith("wrist/image: 5 bytes for 2x2 rgb8")


@given(st.permutations(range(6)), st.integers(0, 6))
def test_pictures_are_those_of_the_stamps_whenever_they_are_looked_at(order: list[int], tick: int) -> None:
    seeing = Frames(contract(cameras=[CAMERA]))
    for offset in order:
        assert add(seeing, "wrist/image", picture(BEGIN + offset, 10 + offset))[0] is not Arrival.UNUSABLE
    assert seeing.frame(BEGIN + tick).images["wrist"].tolist() == np.full((2, 2, 3), 10 + min(tick, 5)).tolist()
    for offset in order:
        found = seeing.at(BEGIN + 6, [0, 0, BEGIN + offset])
        assert found.images["wrist"].tolist() == np.full((2, 2, 3), 10 + offset).tolist()


def test_a_picture_in_another_format_is_looked_at_again() -> None:
    seeing = Frames(contract(cameras=[CAMERA]))
    assert add(seeing, "wrist/image", picture(BEGIN, 1))[0] is Arrival.NEW
    for change in ({"encoding": "yuv422"}, {"width": 3}, {"height": 9}, {"step": 5}):
        message = picture(BEGIN + 1, 1)
        for field, value in change.items():
            setattr(message, field, value)
        assert add(seeing, "wrist/image", message)[0] is Arrival.UNUSABLE, change


def test_nothing_is_remembered_of_compressed_pictures() -> None:
    seeing = Frames(contract(cameras=[{**CAMERA, "type": "sensor_msgs/msg/CompressedImage"}]))
    _, data = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))
    for number in range(20):
        message = make("sensor_msgs/msg/CompressedImage")
        message.header.stamp.sec = number + 1
        message.data = np.concatenate([data.reshape(-1), np.zeros(number, np.uint8)])
        assert add(seeing, "wrist/image", message)[0] is Arrival.NEW
    assert len(seeing._usable) <= 1


def test_a_message_that_is_no_picture_is_unusable() -> None:
    seeing = Frames(contract(cameras=[CAMERA]))
    assert add(seeing, "wrist/image", tip(BEGIN))[0] is Arrival.UNUSABLE


def test_of_two_cameras_on_one_topic_one_is_seen_where_the_other_cannot_be() -> None:
    cropped = {**CAMERA, "name": "detail", "crop": [0, 0, 4, 4]}
    seeing = Frames(contract(cameras=[cropped, CAMERA]))
    arrivals = [arrival for arrival, _ in seeing.add("wrist/image", picture(BEGIN, 1), 0)]
    assert arrivals == [Arrival.UNUSABLE, Arrival.NEW]
    assert list(seeing.frame(BEGIN).images) == ["wrist"]


def test_cameras_alone_make_an_empty_state() -> None:
    only = contract(
        observations=[],
        cameras=[CAMERA],
        commands__0__fields__0__measured=REMOVED,
        commands__0__fields__1__measured=REMOVED,
    )
    into = Frames(only)
    add(into, "wrist/image", picture(BEGIN, 3))
    found = into.frame(BEGIN)
    assert found.usable
    assert found.state.shape == (0,)
    assert found.state.dtype == np.float32


def test_clearing_forgets_everything() -> None:
    into = filled([BEGIN])
    into.clear()
    assert into.frame(BEGIN).missing == ("joint_states", "tip")
    assert into.common_stamp() == 0
    assert add(into, "tip", tip(BEGIN - 5 * SECOND))[0] is Arrival.NEW


def test_messages_of_rclpy_make_the_same_frame_as_those_of_a_bag(ros_message) -> None:
    joints, point = ros_message("sensor_msgs/msg/JointState"), ros_message("geometry_msgs/msg/PointStamped")
    joints.name, joints.position, joints.velocity = ["elbow", "shoulder"], [0.1, 0.2], [0.3, 0.4]
    point.point.x = 0.7
    for message in (joints, point):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(BEGIN + 7, SECOND)
    live, read = frames(), frames()
    add(live, "joint_states", joints)
    add(live, "tip", point)
    add(
        read,
        "joint_states",
        joint_state(BEGIN + 7, names=("elbow", "shoulder"), position=[0.1, 0.2], velocity=[0.3, 0.4]),
    )
    add(read, "tip", tip(BEGIN + 7, 0.7))
    assert live.frame(BEGIN + 7).usable
    assert same(live.frame(BEGIN + 7), read.frame(BEGIN + 7))
