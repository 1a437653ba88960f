"""A simulated robot behind topics is the simulation itself, and its faults are the same every time."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from episodes.errors import InputError
from robot.contract import RobotContract
from robot.contract_file import read_robot_contract
from robot.controllers import Controller
from robot.frames import Arrival, Frames
from robot.messages import header_stamp
from robot.outgoing import command_message
from robot.pictures import picture_from
from robot.simulated import Faults, Outgoing, SimulatedRobot
from sim.base import Task
from sim.operators import Operator, ScriptedLift
from sim.rollout import rollout
from tests.robot.contracts import SECOND, SHIPPED, SmallTask, contract, make

PERIOD = SECOND // 10
CAMERA = {"name": "wrist", "topic": "wrist/image", "height": 2, "width": 4, "rate": 10, "max_age": 0.25}


def small(faults: Faults | None = None, seed: int = 3, horizon: int = 5, **changes: Any) -> SimulatedRobot:
    robot_contract = contract(**changes)
    task = SmallTask(robot_contract, horizon)
    return SimulatedRobot(robot_contract, task, make, bytes, faults or Faults(), seed)


def command(robot: SimulatedRobot, action: Any) -> None:
    """Send an action to a robot's controllers, as messages."""
    place = 0
    for controller in robot.controllers:
        fields = controller.command.fields
        values = [float(a) * f.scale for a, f in zip(action[place : place + len(fields)], fields, strict=True)]
        place += len(fields)
        controller.receive(command_message(controller.command, values, robot.stamp, PERIOD, make), robot.stamp)


def drive(robot: SimulatedRobot, operator: Operator) -> dict[str, list[Any]]:
    """One episode through messages only."""
    frames = Frames(robot.contract, cameras=False)
    seen: dict[str, list[Any]] = {"state": [], "action": [], "outcome": []}
    operator.reset(robot.reset())
    while True:
        for outgoing in robot.messages():
            for arrival, why in frames.add(outgoing.topic, outgoing.message, 0):
                assert arrival is Arrival.NEW, why
        frame = frames.frame(robot.stamp)
        assert frame.usable
        assert set(frame.stamps) == {robot.stamp}
        seen["state"].append(frame.state)
        if robot.ended:
            return seen
        robot.expect()
        seen["action"].append(operator.act({"state": frame.state}))
        command(robot, seen["action"][-1])
        assert robot.answered
        seen["outcome"].append(robot.step())


@pytest.mark.parametrize("quality", [1.0, 0.4])
def test_an_episode_through_messages_is_the_episode_of_a_rollout(lift_quick: Task, quality: float) -> None:
    operator = ScriptedLift(lift_quick, quality)
    robot = SimulatedRobot(read_robot_contract(SHIPPED), lift_quick, make, bytes, Faults(), 11)
    for seed in (11, 12):
        expected = rollout(lift_quick, operator, seed)
        seen = drive(robot, operator)
        assert np.stack(seen["state"]).tobytes() == expected.state.tobytes()
        assert np.stack(seen["action"]).tobytes() == expected.action.tobytes()
        assert expected.reward is not None
        assert expected.success is not None
        assert np.array([o.reward for o in seen["outcome"]], np.float32).tobytes() == expected.reward.tobytes()
        assert [o.success for o in seen["outcome"]] == [bool(success) for success in expected.success]
        assert (seen["outcome"][-1].terminated, seen["outcome"][-1].truncated) == (
            expected.terminated,
            expected.truncated,
        )
        stamps = [outcome.stamp for outcome in seen["outcome"]]
        assert np.diff(stamps).tolist() == [PERIOD] * (len(stamps) - 1)
    assert all(not c.counts.outside and not c.counts.wrong_size for c in robot.controllers)


def test_a_task_that_the_contract_does_not_describe_is_refused() -> None:
    task = SmallTask(contract())
    with pytest.raises(
        InputError, match=r"task 'small' is not what contract 'arm' describes: state entry 4 is .*'tip_z'"
    ):
        SimulatedRobot(contract(observations__1__fields__0__name="tip_z"), task, make, bytes, Faults(), 0)
    with pytest.raises(InputError, match=r"rate 20\.0 against 10\.0"):
        SimulatedRobot(contract(rate=20), task, make, bytes, Faults(), 0)


def test_the_next_episode_has_the_next_seed() -> None:
    robot = small(seed=7)
    assert robot.ended
    assert robot.reset() == 7
    assert not robot.ended
    robot.step()
    assert robot.reset() == 8


def test_an_episode_in_which_nothing_moved_is_begun_again() -> None:
    robot = small(seed=7)
    robot.reset()
    robot.wait()
    assert not robot.moved
    assert robot.reset() == 7
    robot.step()
    assert robot.moved
    assert robot.seed == 7


def test_an_episode_goes_on_where_the_last_one_has_come_to(lift_quick: Task) -> None:
    """Nothing moves between them; and from then on it is judged whether the cube is back."""
    robot = SimulatedRobot(read_robot_contract(SHIPPED), lift_quick, make, bytes, Faults(), 11)
    operator = ScriptedLift(lift_quick)
    ended = drive(robot, operator)["state"][-1]
    stamp, seed = robot.stamp, robot.seed
    robot.go_on()
    assert (robot.stamp, robot.seed, robot.ended) == (stamp + PERIOD, seed, False)
    frames = Frames(robot.contract)
    for outgoing in robot.messages():
        frames.add(outgoing.topic, outgoing.message, 0)
    assert frames.frame(robot.stamp).state.tobytes() == ended.tobytes()
    # The fingers stay as they were told last.
    robot.turn(backward=True)
    assert not robot.step().success
    robot.turn(backward=False)
    robot.go_on()
    assert robot.step().success


def test_what_nothing_undoes_cannot_be_turned() -> None:
    robot = small()
    robot.turn(backward=False)
    with pytest.raises(InputError, match="nothing undoes it"):
        robot.turn(backward=True)


def test_the_time_goes_on_by_a_period_with_everything_that_happens() -> None:
    robot = small()
    begin = robot.stamp
    robot.reset()
    robot.wait()
    outcome = robot.step()
    assert robot.stamp == begin + 3 * PERIOD == outcome.stamp
    assert {header_stamp(outgoing.message) for outgoing in robot.messages()} == {robot.stamp}


def test_waiting_does_not_move_the_robot() -> None:
    robot = small()
    robot.reset()
    command(robot, [0.5, 0.5, 0.05])
    robot.wait()
    assert isinstance(robot.task, SmallTask)
    assert robot.task.taken == []


def test_an_outcome_is_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = small(horizon=2)
    robot.reset()
    command(robot, [1.0, 0.0, 0.0])
    outcome = robot.step()
    assert (outcome.success, outcome.terminated, outcome.truncated, outcome.reward) == (True, False, False, -1.0)
    assert not robot.ended
    outcome = robot.step()
    assert (outcome.terminated, outcome.truncated) == (False, True)
    assert robot.ended
    json.dumps(outcome.reward)


def test_an_action_comes_to_the_task_as_it_was_meant() -> None:
    robot = small()
    robot.reset()
    action = np.array([0.3, -1.7, 0.07], np.float32)
    command(robot, action)
    robot.step()
    assert isinstance(robot.task, SmallTask)
    assert robot.task.taken == [action.tolist()]


def test_what_is_beyond_the_robots_own_limits_is_clipped_in_what_is_sent() -> None:
    robot = small(commands__1__fields__0__high=0.1)
    robot.reset()
    command(robot, [9.0, 0.0, 5.0])
    robot.step()
    assert isinstance(robot.task, SmallTask)
    assert robot.task.taken == [np.array([1.0, 0.0, 0.1], np.float32).tolist()]
    assert [c.counts.outside for c in robot.controllers] == [1, 1]


def test_a_robot_that_is_told_nothing_gets_the_tasks_action_of_holding() -> None:
    robot = small()
    robot.reset()
    robot.step()
    assert isinstance(robot.task, SmallTask)
    assert robot.task.taken == [[0.0, 0.0, 0.0]]


def test_positions_stay_and_a_velocity_stops_when_nobody_says_anything_more() -> None:
    robot = small()
    robot.reset()
    command(robot, [0.5, 1.5, 0.0625])
    for _ in range(5):
        robot.step()
    assert isinstance(robot.task, SmallTask)
    assert robot.task.taken == [[0.5, 1.5, 0.0625]] * 3 + [[0.5, 1.5, 0.0]] * 2, "silence: 0.25 s"


def test_a_controller_that_was_switched_off_does_not_touch_the_other() -> None:
    robot = small()
    robot.reset()
    command(robot, [0.5, 1.5, 0.0625])
    wrong = make("std_msgs/msg/Float64MultiArray")
    robot.controllers[0].receive(wrong, robot.stamp)
    robot.step()
    assert isinstance(robot.task, SmallTask)
    assert robot.task.taken == [[0.0, 0.0, 0.0625]]
    robot.reset()
    assert all(controller.active for controller in robot.controllers)


def test_an_episode_begins_without_the_last_ones_commands() -> None:
    robot = small()
    robot.reset()
    command(robot, [0.5, 1.5, 0.0625])
    robot.reset()
    assert [controller.acting(robot.stamp) for controller in robot.controllers] == [None, None]


def test_an_observation_is_answered_when_every_controller_was_told_something() -> None:
    robot = small()
    robot.reset()
    robot.expect()
    command(robot, [0, 0, 0])
    assert robot.answered
    robot.expect()
    assert not robot.answered
    first: Controller = robot.controllers[0]
    first.receive(command_message(first.command, [0.0, 0.0], 1, 1, make), 1)
    assert not robot.answered


def test_pictures_are_sent_at_the_contracts_size() -> None:
    robot = small(cameras=[CAMERA])
    robot.reset()
    *_, outgoing = robot.messages()
    assert outgoing.topic == "wrist/image"
    picture = picture_from(outgoing.message, robot.contract.cameras[0])
    np.testing.assert_array_equal(picture, np.broadcast_to(np.array([200, 100, 0], np.uint8), (2, 4, 3)))


@pytest.mark.parametrize("change", [{"type": "sensor_msgs/msg/CompressedImage"}, {"crop": [0, 0, 8, 8]}])
def test_pictures_that_cannot_be_made_are_refused_at_once(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="wrist"):
        small(cameras=[{**CAMERA, **change}])


# Faults.


def sent(faults: Faults, *, seed: int = 0, steps: int = 200) -> list[list[tuple[str, float, bool]]]:
    """Per step, what was sent: topic, delay, and whether a number in it was none."""
    robot = small(faults, seed)
    robot.reset()
    found = []
    for _ in range(steps):
        robot.wait()
        found.append([(o.topic, o.delay, _broken(robot.contract, o)) for o in robot.messages()])
    return found


def _broken(robot_contract: RobotContract, outgoing: Outgoing) -> bool:
    ((arrival, _),) = Frames(robot_contract).add(outgoing.topic, outgoing.message, 0)
    return arrival is Arrival.UNUSABLE


def test_without_faults_everything_is_sent_at_once() -> None:
    assert sent(Faults(), steps=20) == [[("joint_states", 0.0, False), ("tip", 0.0, False)]] * 20


SOME = {"drop": 0.3, "late": 0.3, "late_by": 0.4, "nan": 0.3}


def test_faults_are_the_same_every_time() -> None:
    assert sent(Faults(**SOME, seed=1)) == sent(Faults(**SOME, seed=1))


def test_other_seeds_have_other_faults() -> None:
    one = sent(Faults(**SOME, seed=1))
    assert one != sent(Faults(**SOME, seed=2))
    assert one != sent(Faults(**SOME, seed=1), seed=1)


def test_faults_come_about_as_often_as_was_asked_for() -> None:
    messages = [message for step in sent(Faults(**SOME, seed=4), steps=1000) for message in step]
    assert 1300 < len(messages) < 1500
    assert {delay for _, delay, _ in messages} == {0.0, 0.4}
    assert 0.25 < np.mean([delay > 0 for _, delay, _ in messages]) < 0.35
    assert 0.25 < np.mean([broken for _, _, broken in messages]) < 0.35


def test_one_kind_of_fault_does_not_move_the_others() -> None:
    late = [[d for _, d, _ in step] for step in sent(Faults(late=0.3, late_by=0.4, seed=1))]
    both = [[d for _, d, _ in step] for step in sent(Faults(late=0.3, late_by=0.4, nan=0.5, seed=1))]
    assert late == both


def test_all_and_nothing_are_what_they_say() -> None:
    assert sent(Faults(drop=1.0), steps=20) == [[]] * 20
    assert all(broken for step in sent(Faults(nan=1.0), steps=20) for _, _, broken in step)


def test_pictures_are_lost_and_late_like_everything_else() -> None:
    robot = small(Faults(drop=0.3, late=0.5, nan=0.5, seed=1), cameras=[CAMERA])
    robot.reset()
    pictures = []
    for _ in range(200):
        robot.wait()
        pictures += [outgoing for outgoing in robot.messages() if outgoing.topic == "wrist/image"]
    assert 110 < len(pictures) < 170
    assert {picture.delay for picture in pictures} == {0.0, 0.5}


def test_faults_may_be_changed_while_it_runs() -> None:
    robot = small()
    robot.reset()
    assert len(list(robot.messages())) == 2
    robot.faults = Faults(drop=1.0)
    assert list(robot.messages()) == []
    robot.faults = Faults()
    assert len(list(robot.messages())) == 2


def test_a_robot_without_a_hand_cannot_be_pushed() -> None:
    with pytest.raises(InputError, match="task 'small' has no hand that could be pushed"):
        small(Faults(push=5.0))
    with pytest.raises(InputError, match="task 'small' has no hand that could feel it"):
        small(safety__force={"topic": "wrench", "limit": 20, "max_age": 0.1})


class HandTask(SmallTask):
    """Feels half of what it is pushed with."""

    def push(self, force: np.ndarray) -> None:
        self.pushed = force

    def wrench(self) -> np.ndarray:
        return np.array([*(0.5 * self.pushed), 1.0, 2.0, 3.0])


def test_a_push_is_felt_on_the_contracts_topic() -> None:
    robot_contract = contract(safety__force={"topic": "wrench", "limit": 20, "max_age": 0.1})
    found = []
    for _ in range(2):
        task = HandTask(robot_contract)
        robot = SimulatedRobot(robot_contract, task, make, bytes, Faults(push=8.0, seed=2), 0)
        assert robot.topics["wrench"] == "geometry_msgs/msg/WrenchStamped"
        robot.reset()
        for _ in range(4):
            robot.step()
            *_, outgoing = robot.messages()
            assert outgoing.topic == "wrench"
            assert header_stamp(outgoing.message) == robot.stamp
            wrench = outgoing.message.wrench
            assert np.hypot(wrench.force.x, wrench.force.y) == pytest.approx(4.0)
            assert (wrench.force.z, wrench.torque.x, wrench.torque.y, wrench.torque.z) == (0, 1, 2, 3)
            found.append((wrench.force.x, wrench.force.y))
    assert found[:4] == found[4:]
    assert len(set(found)) == 4


def test_a_frozen_robot_says_nothing_more() -> None:
    robot = small(Faults(freeze_after=1.0))
    robot.reset()
    while robot.stamp + PERIOD < SECOND:
        robot.wait()
        assert len(list(robot.messages())) == 2
    for _ in range(20):
        robot.wait()
        assert list(robot.messages()) == []


def test_a_clock_is_set_back_once() -> None:
    robot = small(Faults(clock_back_after=11.0))
    robot.reset()
    stamps = [robot.stamp]
    for _ in range(250):
        robot.wait()
        stamps.append(robot.stamp)
    jumps = [after - before for before, after in pairwise(stamps) if after - before != PERIOD]
    assert jumps == [PERIOD - 10 * SECOND]
    assert max(stamps) > 11 * SECOND


def test_a_clock_that_is_set_back_is_noticed_by_the_frames() -> None:
    robot = small(Faults(clock_back_after=11.0))
    frames = Frames(robot.contract)
    robot.reset()
    seen = set()
    for _ in range(120):
        robot.wait()
        for outgoing in robot.messages():
            seen |= {arrival for arrival, _ in frames.add(outgoing.topic, outgoing.message, 0)}
    assert seen == {Arrival.NEW, Arrival.CLOCK_JUMP}


def test_a_clock_that_is_set_back_early_is_noticed_too() -> None:
    robot = small(Faults(clock_back_after=0.9))
    frames = Frames(robot.contract)
    robot.reset()
    seen = set()
    for _ in range(20):
        robot.wait()
        for outgoing in robot.messages():
            seen |= {arrival for arrival, _ in frames.add(outgoing.topic, outgoing.message, 0)}
    assert Arrival.CLOCK_JUMP in seen


def test_a_robot_that_is_frozen_stays_frozen_when_its_clock_is_set_back() -> None:
    robot = small(Faults(freeze_after=11.0, clock_back_after=12.0))
    robot.reset()
    while robot.stamp < 11 * SECOND:
        robot.wait()
    for _ in range(50):
        robot.wait()
        assert list(robot.messages()) == []
