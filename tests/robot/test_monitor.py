"""What the monitor keeps and tells: bounded, with ages, and nothing as so that was only so once."""

import json
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from robot.contract import CameraTopic, RobotContract
from robot.contract_file import robot_contract_from
from robot.monitor.history import EPISODES, POLICIES, History
from robot.monitor.layout import Entry, grouped, layout, silence, state_limits
from robot.monitor.samples import SLOT, SPAN, Samples, age, plain
from robot.monitor.stopping import AGAIN, ANSWERING, REMEMBERED, TRYING, Stopping
from robot.monitor.views import AGAIN as PICTURE
from robot.monitor.views import SIDE, View
from robot.monitor.watch import EVENTS, Watch
from robot.reports import ActorStep, EpisodeState, LearnerState, Outcome, Sent, encode
from tests.robot.contracts import SECOND, SHIPPED, contract, joint_state, make, tip

BEGAN = 1000 * SECOND


def watching(**changes: object) -> Watch:
    return Watch(contract(**changes), BEGAN)


def step(
    tick: int, episode: str = "e-1", action: tuple[float, ...] | None = (0.5, 0.0, 0.0), policy: int = 7
) -> ActorStep:
    return ActorStep(tick, episode, (), action, 1, policy)


def sent(tick: int, verdict: int, reason: str = "", episode: str = "e-1", first: float = 0.5) -> Sent:
    return Sent(tick, episode, (first, 0.0, 0.0), verdict, reason)


# Samples.


@given(st.lists(st.integers(0, SLOT * 3), min_size=1, max_size=300))
def test_samples_are_a_slot_apart_none_is_older_than_the_span_and_the_newest_is_there(gaps: list[int]) -> None:
    samples: Samples[int] = Samples()
    at = 5
    for number, gap in enumerate(gaps):
        at += gap
        samples.add(at, number)
    found = samples.since(0)
    times = [time for time, _ in found]
    assert all(later - sooner >= SLOT for sooner, later in pairwise(times))
    assert times[0] >= at - SPAN
    assert found[-1][1] == len(gaps) - 1
    assert samples.heard == at


def test_samples_are_bounded_however_fast_they_come() -> None:
    samples: Samples[int] = Samples()
    for number in range(50_000):
        samples.add(number * SPAN // 10_000, number)
    assert len(samples) <= SPAN // SLOT + 1
    assert samples.since(0)[0][0] >= 4 * SPAN


def test_what_is_told_again_is_only_what_may_have_changed() -> None:
    samples: Samples[str] = Samples(lambda before, row: before + row)
    for at, row in ((0, "a"), (SLOT, "b"), (SLOT + 1, "c"), (3 * SLOT, "d")):
        samples.add(at, row)
    assert samples.since(0) == [(0, "a"), (SLOT, "bc"), (3 * SLOT, "d")]
    assert samples.since(SLOT) == [(SLOT, "bc"), (3 * SLOT, "d")]
    assert samples.since(SLOT + 1) == [(3 * SLOT, "d")]
    assert samples.since(4 * SLOT) == []


def test_an_age_is_of_what_was_heard_and_none_of_what_never_was() -> None:
    assert age(None, 5) is None
    assert age(2 * SECOND, 5 * SECOND) == 3.0
    assert age(5 * SECOND, 2 * SECOND) == 0.0, "a thread that read the clock earlier"
    assert plain([0.1234567, float("nan"), float("inf"), -2.0]) == [0.123457, None, None, -2.0]


# Layout.


def test_numbers_of_one_unit_that_begin_alike_share_a_chart() -> None:
    told = layout(robot_contract_from(yaml.safe_load(SHIPPED.read_text()), "panda"))
    charts = [(chart["title"], chart["unit"], [c["name"] for c in chart["curves"]]) for chart in told["state"]]
    assert charts[0] == ("eef", "m", ["eef_x", "eef_y", "eef_z"])
    assert charts[1] == ("eef", "", ["eef_qx", "eef_qy", "eef_qz", "eef_qw"])
    assert charts[-1] == ("cube_from_eef", "m", ["cube_from_eef_x", "cube_from_eef_y", "cube_from_eef_z"])
    assert sum(len(names) for _, _, names in charts) == 19
    last = told["state"][-1]["curves"][2]
    assert (last["input"], last["column"]) == (3, 2)
    assert [action["name"] for action in told["action"]] == ["delta_x", "delta_y", "delta_z", "gripper"]
    assert told["action"][3]["limits"] == (-1, 1)
    assert json.loads(json.dumps(told)) is not None


def test_those_that_are_alone_share_a_chart_with_their_unit() -> None:
    names = ["pan_joint", "lift_joint", "grip", "hand_x", "hand_y"]
    found = grouped([Entry(name, "m" if name[0] == "h" else "rad", 0, i) for i, name in enumerate(names)])
    assert [(title, [e.name for e in part]) for title, part in found] == [
        ("others", ["pan_joint", "lift_joint", "grip"]),
        ("hand", ["hand_x", "hand_y"]),
    ]
    assert grouped([Entry("a_joint", "", 0, 0), Entry("b_joint", "", 0, 1)])[0][0] == "joint"
    assert grouped([Entry("grip", "m", 0, 0)])[0][0] == "grip"


def test_more_curves_than_can_be_told_apart_are_several_charts() -> None:
    found = grouped([Entry(f"joint_{i}", "rad", 0, i) for i in range(11)])
    assert [(title, len(part)) for title, part in found] == [("joint (1 of 2)", 8), ("joint (2 of 2)", 3)]


def test_where_an_entry_has_to_stay_is_the_narrowest_of_what_the_contract_says() -> None:
    limits = state_limits(robot_contract_from(yaml.safe_load(SHIPPED.read_text()), "panda"))
    # The workspace from below, the command's position from above.
    assert limits == {"eef_x": (-0.35, 0.35), "eef_y": (-0.35, 0.35), "eef_z": (0.79, 1.3)}
    # A position command is a target for what it moves, in the unit of what is sent.
    scaled = contract(commands__0__fields__0__scale=2.0)
    assert state_limits(scaled) == {"shoulder": (-2.0, 2.0), "elbow": (-2.0, 2.0)}
    assert silence(0.1) == 1.0
    assert silence(3.0) == 6.0


# Episodes and policies.


def test_an_episode_is_told_from_its_beginning_to_its_success() -> None:
    history = History()
    for _ in range(3):
        history.on_episode(EpisodeState("e-1", True, 10, "lift"))
    history.on_step(step(11, policy=5))
    history.on_step(step(12, policy=5))
    history.on_step(step(13, action=None))
    history.on_step(step(14, episode="e-0"))
    history.on_sent(sent(11, 1))
    history.on_sent(sent(12, 2))
    history.on_sent(sent(12, 2, episode=""))
    (told,) = history.episodes
    assert told.document() == {
        "number": 1,
        "name": "e-1",
        "running": True,
        "success": None,
        "steps": 2,
        "changed": 1,
        "policy": "0000000000000005",
        "reason": "",
    }
    history.on_episode(EpisodeState("e-1", False, 20, "lift", True, True, "success"))
    assert (told.success, told.state.reason) == (True, "success")
    assert (told.steps, told.changed) == (2, 1)
    history.on_step(step(19, policy=5))
    history.on_sent(sent(19, 2))
    history.on_step(step(20, policy=5))
    assert (told.steps, told.changed) == (3, 2), "one that came late, and none from its end on"
    history.on_episode(EpisodeState("e-2", True, 30))
    assert [one.number for one in history.episodes] == [1, 2]


def test_a_stop_that_the_filter_wants_is_a_step() -> None:
    history = History()
    history.on_episode(EpisodeState("e-1", True, 10, "lift"))
    history.on_step(step(11))
    history.on_step(replace(step(12, action=None), ruling="stop"))
    history.on_step(step(13, action=None))
    (told,) = history.episodes
    assert told.document()["steps"] == 2


def test_success_that_nobody_said_at_the_end_is_what_was_told_of_the_steps_even_late() -> None:
    history = History()
    history.on_episode(EpisodeState("e-1", True, 10))
    history.on_outcome(Outcome(10, True, True))
    history.on_episode(EpisodeState("e-1", False, 20, reason="time limit"))
    (told,) = history.episodes
    assert told.success is None, "what was told of before it began says nothing"
    history.on_outcome(Outcome(20, False, False, True))
    assert told.success is False
    history.on_outcome(Outcome(21, True, True))
    assert told.success is False, "that was after its end"
    history.on_outcome(Outcome(18, True, False))
    history.on_outcome(Outcome(19, False, False))
    assert told.success is True, "once is enough"
    said = EpisodeState("e-1", False, 20, terminated=True, success=False)
    history.on_episode(said)
    assert told.success is False, "whoever ended it knows better"


def test_the_step_that_ended_an_episode_is_not_of_it() -> None:
    history = History()
    history.on_episode(EpisodeState("e-1", True, 10))
    for tick in (11, 12, 13):
        history.on_step(step(tick))
        history.on_sent(sent(tick, 2))
    history.on_episode(EpisodeState("e-1", False, 13, reason="time limit"))
    (told,) = history.episodes
    assert (told.steps, told.changed) == (2, 2)


def test_who_comes_late_shows_the_last_episode_and_guesses_nothing() -> None:
    history = History()
    history.on_episode(EpisodeState("", False, 0))
    assert history.current is None
    history.on_episode(EpisodeState("e-7", False, 20, reason="stopped"))
    (told,) = history.episodes
    assert (told.number, told.success, told.steps) == (1, None, 0)


def test_episodes_are_bounded_and_keep_their_numbers() -> None:
    history = History()
    for number in range(EPISODES + 5):
        history.on_episode(EpisodeState(f"e-{number}", True, number))
    assert len(history.episodes) == EPISODES
    assert [history.episodes[0].number, history.episodes[-1].number] == [6, EPISODES + 5]


def test_every_policy_has_its_episodes_and_successes() -> None:
    history = History()
    for number, (policy, success) in enumerate([(3, True), (3, False), (2**64 - 1, None), (3, True)], 1):
        history.on_episode(EpisodeState(f"e-{number}", True, number))
        history.on_step(step(number, f"e-{number}", policy=policy))
        history.on_episode(EpisodeState(f"e-{number}", False, number, terminated=success is not None, success=success))
    history.ready = "0000000000000009"
    assert history.policies() == [
        {"policy": "0000000000000003", "first": 1, "episodes": 3, "judged": 3, "successes": 2},
        {"policy": "f" * 16, "first": 3, "episodes": 1, "judged": 0, "successes": 0},
        {"policy": "0000000000000009", "first": None, "episodes": 0, "judged": 0, "successes": 0},
    ]
    for number in range(100, 120):
        history.on_episode(EpisodeState(f"e-{number}", True, number))
        history.on_step(step(number, f"e-{number}", policy=number))
    assert len(history.policies()) == POLICIES


# Stopping.


def test_a_stop_is_confirmed_only_when_it_was_answered_and_is_latched() -> None:
    stop = Stopping()
    assert stop.document(0)["state"] == ""
    assert not stop.due(0)
    stop.ask(0)
    assert stop.due(0)
    stop.tried(0)
    assert not stop.due(AGAIN - 1)
    stop.answer(True, "stopped")
    assert stop.document(1)["state"] == "asking", "it has not said that it is latched"
    assert not stop.due(AGAIN)
    stop.latched(True)
    assert stop.document(2)["state"] == "confirmed"
    stop.latched(False)
    assert stop.document(3)["state"] == "", "rearmed"


def test_a_latch_from_before_is_no_answer() -> None:
    stop = Stopping()
    stop.latched(True)
    stop.ask(0)
    stop.tried(0)
    assert stop.document(ANSWERING)["state"] == "asking"
    assert stop.document(ANSWERING + 1)["state"] == "failed"


def test_it_is_asked_again_until_it_is_answered_and_not_for_ever() -> None:
    stop = Stopping()
    stop.ask(0)
    tries = 0
    for now in range(0, 2 * TRYING, AGAIN // 5):
        if stop.due(now):
            tries += 1
            stop.tried(now, "nobody offers guardian/stop")
    assert tries == TRYING // AGAIN + 1
    told = stop.document(TRYING + 1)
    assert (told["state"], told["problem"], told["trying"]) == ("failed", "nobody offers guardian/stop", False)
    assert stop.document(REMEMBERED + 1)["state"] == ""


def test_one_that_failed_may_still_come_true_and_can_be_asked_for_anew() -> None:
    stop = Stopping()
    stop.ask(0)
    stop.tried(0)
    stop.answer(False, "refused")
    assert stop.document(2 * ANSWERING) | {"age": 0} == {
        "state": "failed",
        "tries": 1,
        "problem": "refused",
        "age": 0,
        "trying": True,
    }
    stop.ask(3 * ANSWERING)
    assert stop.document(3 * ANSWERING)["state"] == "asking"
    assert stop.due(3 * ANSWERING), "at once"
    stop.answer(True, "")
    stop.latched(True)
    assert stop.document(5 * ANSWERING)["state"] == "confirmed"


def test_pressing_again_while_it_is_asked_does_not_begin_the_wait_anew() -> None:
    stop = Stopping()
    stop.ask(0)
    stop.tried(0)
    stop.ask(ANSWERING // 2)
    assert stop.document(ANSWERING + 1)["state"] == "failed"


# All of it.


def test_before_anything_is_heard_nothing_is_claimed() -> None:
    told = watching().document(BEGAN + SECOND)
    assert told["now"] == 1.0
    assert [one["age"] for one in told["inputs"]] == [None, None]
    assert (told["proposed"]["age"], told["sent"]["age"], told["episode"]["age"]) == (None, None, None)
    assert told["guardian"]["stopped"] is None
    assert told["guardian"]["enabled"] is None
    assert told["learner"] is None
    assert [(node["name"], node["age"]) for node in told["nodes"]] == [
        ("guardian", None),
        ("actor", None),
        ("recorder", None),
    ]
    json.dumps(told, allow_nan=False)


def test_measurements_are_told_by_input_with_their_age_and_what_is_wrong_with_them() -> None:
    watch = watching()
    watch.on_input(0, joint_state(5, position=[0.25, -0.5], velocity=[1.0, 2.0]), BEGAN + SECOND)
    watch.on_input(1, tip(5, 40.0), BEGAN + 2 * SECOND)
    first, second = watch.document(BEGAN + 4 * SECOND)["inputs"]
    assert first == {"age": 3.0, "t": [1.0], "values": [[0.25, -0.5, 1.0, 2.0]], "problem": ""}
    assert (second["age"], second["values"]) == (2.0, [[0.04]])
    watch.on_input(0, joint_state(6, names=("shoulder",)), BEGAN + 5 * SECOND)
    first = watch.document(BEGAN + 5 * SECOND)["inputs"][0]
    assert first["age"] == 4.0, "a message that cannot be read is no news of the robot"
    assert "'elbow'" in first["problem"]
    assert not watch.wants(0, BEGAN + SECOND + SLOT - 1)
    assert watch.wants(0, BEGAN + SECOND + SLOT)


def test_of_verdicts_in_one_sample_the_worst_is_told_and_every_reason() -> None:
    watch = watching()
    at = BEGAN + SECOND
    for number, (verdict, reason) in enumerate([(1, ""), (4, "too far"), (1, "")]):
        watch.on_sent(sent(number, verdict, reason, first=0.1 * number), at + number)
    told = watch.document(at)
    assert (told["sent"]["verdict"], told["sent"]["values"]) == ([4], [[0.2, 0.0, 0.0]])
    for number in range(3):
        watch.on_sent(sent(9 + number, 2, "push: low"), at + (1 + number) * SECOND)
    told = watch.document(at + 4 * SECOND)
    assert told["sent"]["verdict"] == [4, 2, 2, 2]
    assert told["events"] == [
        {"age": 1.0, "verdict": 2, "reason": "push: low", "count": 3},
        {"age": 4.0 - 1e-9, "verdict": 4, "reason": "too far", "count": 1},
    ]
    for number in range(2 * EVENTS):
        watch.on_sent(sent(100 + number, 3, f"reason {number}"), at + 5 * SECOND)
    assert len(watch.document(at + 5 * SECOND)["events"]) == EVENTS


def test_steps_that_are_of_another_robot_or_want_nothing_make_no_curve() -> None:
    watch = watching()
    watch.on_step(step(1), BEGAN)
    watch.on_step(step(2, action=(1.0,)), BEGAN + SECOND)
    watch.on_sent(Sent(2, "e", (1.0,), 1), BEGAN + SECOND)
    watch.on_step(step(3, action=None), BEGAN + 2 * SECOND)
    told = watch.document(BEGAN + 2 * SECOND)
    assert told["proposed"]["values"] == [[0.5, 0.0, 0.0], None]
    assert told["sent"]["values"] == []


def test_numbers_that_json_does_not_have_are_none() -> None:
    watch = watching()
    watch.on_step(step(1, action=(float("nan"), float("inf"), 1.0)), BEGAN)
    told = json.loads(json.dumps(watch.document(BEGAN), allow_nan=False))
    assert told["proposed"]["values"] == [[None, None, 1.0]]


def test_only_what_is_new_is_told_to_who_has_the_rest() -> None:
    watch = watching()
    for number in range(5):
        at = BEGAN + number * SECOND
        watch.on_step(step(number), at)
        watch.on_episode(EpisodeState(f"e-{number}", True, number + 1), at)
    told = watch.document(BEGAN + 5 * SECOND, since=2.5, episode=4)
    assert told["proposed"]["t"] == [3.0, 4.0]
    assert [one["number"] for one in told["episodes"]] == [4, 5]
    assert watch.document(BEGAN, since=1e300)["proposed"]["t"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(watch.document(BEGAN + 5 * SECOND, since=-1e300)["proposed"]["t"]) == 5


def test_what_the_guardian_says_has_the_age_of_its_newest_word() -> None:
    watch = watching()
    watch.on_stopped(True)
    watch.on_reason("the stop button is pressed")
    values = {"passed": "12", "clamped": "3", "enabled": "False", "other publishers": "/x on servo"}
    watch.on_node("guardian", "error", "stopped", values, BEGAN)
    told = watch.document(BEGAN + 9 * SECOND)["guardian"]
    assert (told["age"], told["stopped"], told["reason"]) == (9.0, True, "the stop button is pressed")
    assert (told["counts"]["passed"], told["counts"]["clamped"], told["counts"]["held"]) == (12, 3, None)
    assert (told["enabled"], told["others"]) == (False, "/x on servo")


def test_a_learner_is_shown_with_whatever_it_says() -> None:
    watch = watching()
    watch.on_learner(encode(LearnerState(4, 900, 2**63 + 1, recordings=("today-0004",))), BEGAN)
    told = watch.document(BEGAN + SECOND)
    assert told["learned"] == "8000000000000001"
    assert (told["learner"]["age"], told["learner"]["said_age"]) == (None, 1.0)
    assert told["learner"]["said"] == {"episodes": 4, "updates": 900, "problem": "", "learned": 0, "behind": 0}
    more = {"episodes": 5, "best": {"success": 0.75, "of": [1, 2]}, "seed": 2**60, "loss": float("nan"), "on": True}
    watch.on_learner(json.dumps(more), BEGAN)
    watch.on_node("learner", "ok", "learning", {"behind": "2"}, BEGAN)
    told = json.loads(json.dumps(watch.document(BEGAN + SECOND), allow_nan=False))["learner"]
    assert told["said"] == {
        "episodes": 5,
        "best success": 0.75,
        "best of": "[1, 2]",
        "seed": "1000000000000000",
        "loss": "nan",
        "on": True,
    }
    assert (told["age"], told["values"]) == (1.0, {"behind": "2"})


def test_who_learns_to_undo_the_task_is_shown_beside() -> None:
    watch = watching()
    assert watch.document(BEGAN)["undoing"] is None
    watch.on_learner(encode(LearnerState(4, 900, 7)), BEGAN)
    watch.on_learner(encode(LearnerState(2, 80, 9)), BEGAN, backward=True)
    watch.on_node("backward/learner", "error", "labels differ", {"behind": "1"}, BEGAN)
    told = watch.document(BEGAN + SECOND)
    assert (told["learner"]["said"]["episodes"], told["learner"]["summary"]) == (4, "")
    assert (told["undoing"]["said"]["episodes"], told["undoing"]["summary"]) == (2, "labels differ")
    assert told["learned"] == f"{7:016x}", "the policies are those of the task"


@pytest.mark.parametrize("nonsense", ["", "[]", "{", "3", '{"policy": "x"}', "[" * 100_000])
def test_nonsense_of_a_learner_ends_nothing(nonsense: str) -> None:
    watch = watching()
    watch.on_learner(nonsense, BEGAN)
    assert watch.document(BEGAN)["learned"] == ""


def test_a_person_who_has_the_robot_or_is_asked_for_something_is_told() -> None:
    watch = watching()
    watch.on_episode(EpisodeState("e-1", True, 1, "lift"), BEGAN)
    watch.on_step(ActorStep(2, "e-1", (), (0.0, 0.0, 0.0), 2), BEGAN)
    watch.on_asks("put the cube back")
    told = watch.document(BEGAN)["episode"]
    assert (told["name"], told["task"], told["source"]) == ("e-1", "lift", "intervention")
    assert told["asks"] == "put the cube back"


# Pictures.

CAMERA = CameraTopic("eye", "eye/image", 8, 8, 10, 0.1, crop=(0, 0, 300, 600))


def picture(red: int) -> "np.ndarray":
    return np.dstack([np.full((300, 700), value, np.uint8) for value in (red, 0, 0)])


def image(red: int) -> object:
    message = make("sensor_msgs/msg/Image")
    message.height, message.width, message.encoding, message.step = 300, 700, "rgb8", 2100
    message.data = picture(red).reshape(-1)
    return message


class Counted:
    """Reads messages of which only the red is sent, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, data: bytes) -> object:
        self.count += 1
        return image(data[0])


def test_a_picture_is_made_when_somebody_looks_once_for_all_who_look() -> None:
    read = Counted()
    view = View(CAMERA, read)
    assert view.show(0) is None
    assert view.document(0) == {"name": "eye", "number": 0, "age": None}
    for number in range(100):
        view.take(bytes([number]), number)
    assert read.count == 0
    shown = view.show(SECOND)
    assert shown is not None
    assert (shown.number, shown.heard, read.count) == (100, 99, 1)
    decoded = cv2.imdecode(np.frombuffer(shown.data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (SIDE // 2, SIDE, 3), "cropped, and as large as it came, up to a limit"
    assert abs(int(decoded[50, 50, 2]) - 99) < 8
    assert view.show(2 * SECOND) is shown
    view.take(bytes([200]), 2 * SECOND)
    assert view.show(SECOND + PICTURE - 1) is shown, "however many look"
    newer = view.show(SECOND + PICTURE)
    assert newer is not None
    assert (newer.number, newer.heard, read.count) == (101, 2 * SECOND, 2)
    assert view.document(5 * SECOND) == {"name": "eye", "number": 101, "age": 3.0}


def test_a_picture_that_cannot_be_read_says_why() -> None:
    view = View(CAMERA, lambda _: make("sensor_msgs/msg/Image"))
    view.take(b"", 0)
    with pytest.raises(ValueError, match="encoding ''; known: rgb8"):
        view.show(0)


def test_every_contract_that_is_shipped_has_a_layout() -> None:
    for path in SHIPPED.parent.glob("*.yaml"):
        shipped: RobotContract = robot_contract_from(yaml.safe_load(path.read_text()), path.name)
        told = layout(shipped)
        shown = [curve["name"] for chart in told["state"] for curve in chart["curves"]]
        assert sorted(shown) == sorted(entry.name for entry in shipped.layout().state)
        assert all(len(chart["curves"]) <= 8 for chart in told["state"])
