"""The recorder's node, in this process: what it says while the disk takes its time, and what it leaves behind."""

import errno
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from episodes.errors import InputError
from episodes.files import write_whole
from robot import into_store
from robot.bags import open_bag
from robot.pictures import picture_from
from robot.reports import EPISODE_TOPIC, EpisodeState, decode
from robot.taping import Tape
from tests.robot.contracts import mapping
from tests.robot.processes import Probe, write_contract

STRING = "std_msgs/msg/String"


class Disk:
    """Answers at once, but for a file that somebody waits for while it is `slow`."""

    def __init__(self) -> None:
        self.slow = self.full = False
        self.asked, self._free = threading.Event(), threading.Event()

    def __call__(self, _: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.slow:
            self.asked.set()
            assert self._free.wait(60.0)

    def let_go(self) -> None:
        self.slow = False
        self._free.set()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.let_go()


class Recording:
    """The node, who hears it, and what it sees."""

    def __init__(self, node: Any, probe: Probe, make: Callable[[str], Any]):
        self.node, self.probe, self._make = node, probe, make

    def see(self) -> None:
        stamp = self.node.get_clock().now().to_msg()
        joints, tip = self._make("sensor_msgs/msg/JointState"), self._make("geometry_msgs/msg/PointStamped")
        joints.name, joints.position, joints.velocity = ["shoulder", "elbow"], [0.0, 0.0], [0.0, 0.0]
        for topic, kind, message in (
            ("joint_states", "sensor_msgs/msg/JointState", joints),
            ("tip", "geometry_msgs/msg/PointStamped", tip),
        ):
            message.header.stamp = stamp
            self.probe.publish(topic, kind, message)

    def begin(self) -> str:
        def begun() -> str:
            self.see()
            answer = self.probe.call("recorder/start")
            return answer.message if answer.success else ""

        return self.probe.wait("an episode begins", begun)

    def said(self) -> list[EpisodeState]:
        return self.probe.reports(EpisodeState, EPISODE_TOPIC)

    def recorded(self) -> list[str]:
        return [heard.message.data for heard in self.probe.heard("recorder/recorded")]


@pytest.fixture
def make_recorder(
    tmp_path: Path, disk: Disk, ros_message: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Makes a node that is configured, with a contract that has changes, and parameters."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from robot.nodes import recorder

    # What is in this process is not the node's alone.
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr(recorder, "Tape", partial(Tape, fsync=disk))
    ended: list[Callable[[], None]] = []

    def make(changes: dict[str, Any] | None = None, **parameters: str) -> Any:
        parameters = {
            "contract": str(write_contract(tmp_path / "arm.yaml", mapping(**changes or {}))),
            "bags": str(tmp_path / "bags"),
            "autostart": "false",
        } | parameters
        given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        rclpy.init(args=["test", "--ros-args", *given], signal_handler_options=SignalHandlerOptions.NO)
        node = recorder.make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)

        def end() -> None:
            disk.let_go()
            if node.active:
                node.trigger_deactivate()
            executor.shutdown(timeout_sec=5.0)
            thread.join(5.0)
            node.destroy_node()
            rclpy.try_shutdown()

        ended.append(end)
        node.trigger_configure()
        thread.start()
        return node

    yield make
    for end in ended:
        end()


@pytest.fixture
def recording(make_recorder: Callable[..., Any], ros_message: Callable[[str], Any]) -> Iterator[Recording]:
    node = make_recorder()
    node.trigger_activate()
    probe = Probe()
    probe.listen(EPISODE_TOPIC, STRING, latched=True)
    probe.listen("recorder/recorded", STRING, latched=True)
    yield Recording(node, probe, ros_message)
    probe.close()


def test_while_the_disk_is_slow_an_episode_is_said_to_go_on(recording: Recording, disk: Disk) -> None:
    name = recording.begin()
    disk.slow = True
    assert disk.asked.wait(30.0)
    recording.probe.forget()
    recording.probe.wait(
        "it is said again and again", lambda: sum(state.running for state in recording.said()) > 5, 30.0
    )
    assert {state.episode for state in recording.said()} == {name}
    assert recording.node.keeper.state.running


def test_an_episode_is_under_way_until_the_disk_has_it(
    recording: Recording, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is waited for is the end.
    monkeypatch.setattr("robot.nodes.recorder.SYNC", math.inf)
    name = recording.begin()
    disk.slow = True
    assert recording.probe.call("recorder/stop").success
    assert disk.asked.wait(30.0)
    refused = recording.probe.call("recorder/start")
    assert (refused.success, refused.message) == (False, f"the recording of {name} is not complete yet; try again")
    assert recording.recorded() == []
    disk.let_go()
    recording.probe.wait("it is recorded", recording.recorded, 30.0)
    assert Path(recording.recorded()[0]).stem == name
    assert recording.begin() != name


def test_what_waits_to_be_imported_is_noted_and_keeps_nobody_waiting(
    make_recorder: Callable[..., Any],
    ros_message: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = Disk()

    def write(path: Path, content: str) -> None:
        notes(0)
        write_whole(path, content)

    monkeypatch.setattr(into_store, "write_whole", write)
    node = make_recorder(store=str(tmp_path / "store"))
    node.trigger_activate()
    probe = Probe()
    recording = Recording(node, probe, ros_message)
    try:
        probe.listen("recorder/recorded", STRING, latched=True)
        name = recording.begin()
        notes.slow = True
        assert probe.call("recorder/stop").success
        assert notes.asked.wait(30.0)
        assert probe.call("recorder/stop").message == "no episode is under way", "it is answered meanwhile"
        assert recording.recorded() == []
        notes.let_go()
        (path,) = probe.wait("it is recorded", recording.recorded, 30.0)
        assert Path(path).stem == name
    finally:
        notes.let_go()
        probe.close()


def test_who_ends_the_recorder_waits_for_what_it_records(
    recording: Recording, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robot.nodes.recorder.SYNC", math.inf)
    name = recording.begin()
    disk.slow = True
    ending = threading.Thread(target=recording.node.trigger_deactivate, daemon=True)
    ending.start()
    assert disk.asked.wait(30.0)
    ending.join(0.5)
    assert ending.is_alive()
    disk.let_go()
    ending.join(30.0)
    (path,) = recording.probe.wait("it is recorded", recording.recorded, 30.0)
    with open_bag(Path(path)) as bag:
        states = [decode(EpisodeState, each.message.data) for each in bag.messages(["/episode"])]
    assert (states[-1].episode, states[-1].reason) == (name, "the recorder was stopped")


@pytest.mark.parametrize("sync", [0.0, math.inf], ids=["under way", "at the end"])
def test_a_disk_that_becomes_full_ends_a_recording_and_not_the_next(
    recording: Recording, disk: Disk, monkeypatch: pytest.MonkeyPatch, sync: float
) -> None:
    monkeypatch.setattr("robot.nodes.recorder.SYNC", sync)
    recording.probe.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    recording.begin()
    disk.full = True
    if sync:
        assert recording.probe.call("recorder/stop").success
    problem = "recording stopped: No space left on device"
    recording.probe.wait("it says so", lambda: recording.probe.status("recorder")[:2] == (2, problem), 30.0)
    reason = "stopped" if sync else problem
    recording.probe.wait(f"it ended: {reason}", lambda: recording.said()[-1].reason == reason, 30.0)
    assert recording.recorded() == []
    disk.full = False
    name = recording.begin()
    assert recording.probe.call("recorder/stop").success
    (path,) = recording.probe.wait("it is recorded", recording.recorded, 30.0)
    assert Path(path).stem == name


def test_pictures_are_decoded_where_an_episode_begins(
    make_recorder: Callable[..., Any], ros_message: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from robot import frames

    decoded: list[str] = []

    def decode_picture(message: Any, camera: Any) -> np.ndarray:
        decoded.append(camera.name)
        return picture_from(message, camera)

    monkeypatch.setattr(frames, "picture_from", decode_picture)
    kind = "sensor_msgs/msg/CompressedImage"
    camera = {"name": "wrist", "topic": "image", "type": kind, "height": 2, "width": 2, "rate": 10, "max_age": 0.25}
    node = make_recorder({"cameras": [camera]})
    node.trigger_activate()
    probe = Probe()
    recording = Recording(node, probe, ros_message)

    def see(data: bytes) -> None:
        recording.see()
        picture = ros_message(kind)
        picture.header.stamp, picture.data = node.get_clock().now().to_msg(), data
        probe.publish("image", kind, picture)

    def start(data: bytes) -> Any:
        see(data)
        return probe.call("recorder/start")

    try:
        refused = start(b"no picture")
        assert (refused.success, refused.message.split(":")[0]) == (False, "nothing has come on image")
        picture = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
        probe.wait("an episode begins", lambda: start(picture).success)
        assert set(decoded) == {"wrist"}
        decoded.clear()
        for _ in range(9):
            see(picture)
        probe.listen("recorder/recorded", STRING, latched=True)
        assert probe.call("recorder/stop").success
        (path,) = probe.wait("it is recorded", recording.recorded, 30.0)
        with open_bag(Path(path)) as bag:
            assert len(list(bag.messages(["/image"]))) >= 6, "one from before, and these"
        assert decoded == []
        assert start(picture).success
        # However many there are: to decode them takes so long that everything else would be too old.
        assert decoded == ["wrist"]
    finally:
        probe.close()


def test_an_activation_that_fails_halfway_leaves_nothing_behind(
    make_recorder: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    def refused(*_: object) -> None:
        raise InputError("no imports today")

    (tmp_path / "file").touch()
    node = make_recorder(store=str(tmp_path / "store"), backward_bags=str(tmp_path / "file" / "deep"))
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    (tmp_path / "file").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("robot.nodes.recorder.IntoStore", refused)
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert "recorder" not in [thread.name for thread in threading.enumerate()]
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
