"""Small bags: messages with their times, written as sqlite3 or MCAP, whole or in pieces."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_typestore

from robot.contract import RobotContract
from robot.contract_file import robot_contract_from
from robot.reports import ActorStep, EpisodeState, Outcome, Sent, encode

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
"""When the bags of the tests begin [ns]."""

types = get_typestore(Stores.ROS2_JAZZY)


@dataclass(frozen=True)
class Logged:
    """A message and its times; `logged` and `published` in seconds from START."""

    topic: str
    type: str
    message: Any
    logged: float
    published: float | None = None

    @property
    def times(self) -> tuple[int, int]:
        """Logged and published [ns]."""
        return nanoseconds(self.logged), nanoseconds(self.logged if self.published is None else self.published)


def nanoseconds(seconds: float) -> int:
    return START + round(seconds * SECOND)


def make(kind: str, **fields: Any) -> Any:
    return types.types[kind](**fields)


def header(stamp: float | None) -> Any:
    """A header; None leaves its stamp zero, as many drivers do."""
    seconds, rest = (0, 0) if stamp is None else divmod(nanoseconds(stamp), SECOND)
    return make(
        "std_msgs/msg/Header", stamp=make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest), frame_id=""
    )


def joint_state(
    stamp: float | None,
    positions: dict[str, float],
    *,
    topic: str = "/joint_states",
    effort: bool = True,
    logged: float | None = None,
) -> Logged:
    values = np.array(list(positions.values()), np.float64)
    message = make(
        "sensor_msgs/msg/JointState",
        header=header(stamp),
        name=list(positions),
        position=values,
        velocity=10 * values,
        effort=100 * values if effort else np.zeros(0),
    )
    assert stamp is not None or logged is not None
    return Logged(topic, "sensor_msgs/msg/JointState", message, (stamp or 0.0) if logged is None else logged)


def floats(at: float, values: Sequence[float], topic: str = "/arm_controller/commands") -> Logged:
    """A command without a header: the time of publishing is its stamp."""
    layout = make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    message = make("std_msgs/msg/Float64MultiArray", layout=layout, data=np.array(values, np.float64))
    return Logged(topic, "std_msgs/msg/Float64MultiArray", message, at)


def trajectory(at: float, joints: Sequence[str], positions: Sequence[float], topic: str = "/arm/trajectory") -> Logged:
    nothing = np.zeros(0)
    point = make(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=np.array(positions, np.float64),
        velocities=nothing,
        accelerations=nothing,
        effort=nothing,
        time_from_start=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
    )
    message = make("trajectory_msgs/msg/JointTrajectory", header=header(at), joint_names=list(joints), points=[point])
    return Logged(topic, "trajectory_msgs/msg/JointTrajectory", message, at)


def image(stamp: float, picture: np.ndarray, topic: str = "/front/image", logged: float | None = None) -> Logged:
    message = make(
        "sensor_msgs/msg/Image",
        header=header(stamp),
        height=picture.shape[0],
        width=picture.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=3 * picture.shape[1],
        data=picture.reshape(-1),
    )
    return Logged(topic, "sensor_msgs/msg/Image", message, stamp if logged is None else logged)


def text(at: float, content: str, topic: str = "/events") -> Logged:
    return Logged(topic, "std_msgs/msg/String", make("std_msgs/msg/String", data=content), at)


def boolean(at: float, value: bool, topic: str = "/recording") -> Logged:
    return Logged(topic, "std_msgs/msg/Bool", make("std_msgs/msg/Bool", data=value), at)


def report(at: float, topic: str, content: ActorStep | Sent | EpisodeState | Outcome) -> Logged:
    return text(at, encode(content), topic)


def write_mcap(
    path: Path,
    messages: Iterable[Logged],
    *,
    chunk_size: int = 4096,
    compression: CompressionType = CompressionType.LZ4,
    chunked: bool = True,
    summary: bool = True,
    in_log_order: bool = True,
    unknown: Sequence[str] = (),
    definitions: dict[str, str] | None = None,
) -> Path:
    """One MCAP file. `unknown` are topics whose schema nobody can read; `definitions` replace the types' own."""
    with path.open("wb") as file:
        nothing = IndexType.NONE
        writer = McapWriter(
            file,
            chunk_size=chunk_size,
            compression=compression,
            use_chunking=chunked,
            index_types=IndexType.ALL if summary else nothing,
            repeat_channels=summary,
            repeat_schemas=summary,
            use_statistics=summary,
            use_summary_offsets=summary,
        )
        writer.start(profile="ros2", library="test")
        channels: dict[str, int] = {}
        for each in sorted(messages, key=lambda m: m.times[0]) if in_log_order else messages:
            if each.topic not in channels:
                content = (definitions or {}).get(each.type) or types.generate_msgdef(each.type, ros_version=2)[0]
                encoding, data = ("unknown", b"") if each.topic in unknown else ("ros2msg", content.encode())
                schema = writer.register_schema(each.type, encoding, data)
                channels[each.topic] = writer.register_channel(each.topic, "cdr", schema)
            logged, published = each.times
            data = each.message if isinstance(each.message, bytes) else types.serialize_cdr(each.message, each.type)
            writer.add_message(channels[each.topic], logged, bytes(data), published)
        writer.finish()
    return path


def write_sqlite(path: Path, messages: Iterable[Logged]) -> Path:
    """One sqlite3 file, as rosbag2 makes it."""
    folder = path.parent / f".{path.stem}"
    with Rosbag2Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections: dict[str, Any] = {}
        for each in sorted(messages, key=lambda m: m.times[0]):
            if each.topic not in connections:
                connections[each.topic] = writer.add_connection(each.topic, each.type, typestore=types)
            writer.write(connections[each.topic], each.times[0], types.serialize_cdr(each.message, each.type))
    (folder / f"{folder.name}.db3").rename(path)
    return path


def write_bag(
    folder: Path, messages: Iterable[Logged], *, storage: str = "mcap", files: int = 1, metadata: bool = True
) -> Path:
    """A folder as `ros2 bag record` makes it, split by time into so many files."""
    folder.mkdir()
    ordered = sorted(messages, key=lambda m: m.times[0])
    ends = [round(len(ordered) * part / files) for part in range(files + 1)]
    names = []
    for number in range(files):
        part = ordered[ends[number] : ends[number + 1]]
        if storage == "mcap":
            names.append(write_mcap(folder / f"bag_{number}.mcap", part).name)
        else:
            names.append(write_sqlite(folder / f"bag_{number}.db3", part).name)
    if metadata:
        write_metadata(folder, names, storage)
    return folder


def write_metadata(folder: Path, names: Sequence[str], storage: str = "mcap") -> None:
    content = {"version": 9, "storage_identifier": storage, "relative_file_paths": list(names)}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": content}))


def arm(**changes: Any) -> RobotContract:
    """A robot of two joints that is told where they shall be, ten times a second."""
    contract = {
        "version": 1,
        "name": "arm",
        "rate": 10,
        "task": "reach",
        "observations": [
            {
                "topic": "joint_states",
                "type": "sensor_msgs/msg/JointState",
                "rate": 50,
                "max_age": 0.2,
                "joints": ["shoulder", "elbow"],
                "fields": [{"path": "position", "unit": "rad"}, {"path": "velocity", "unit": "rad/s"}],
            }
        ],
        "commands": [
            {
                "topic": "arm_controller/commands",
                "type": "std_msgs/msg/Float64MultiArray",
                "kind": "position",
                "on_silence": "repeats_last",
                "fields": [
                    {"path": "data[0]", "name": "shoulder", "unit": "rad", "low": -99, "high": 99},
                    {"path": "data[1]", "name": "elbow", "unit": "rad", "low": -99, "high": 99, "scale": 2},
                ],
            }
        ],
    }
    return robot_contract_from({**contract, **changes}, "arm")


CAMERA = {
    "name": "front",
    "topic": "front/image",
    "height": 8,
    "width": 12,
    "rate": 20,
    "max_age": 0.3,
}
"""For an arm that is looked at."""


def driving(begin: float = 0.0, end: float = 4.0, *, camera: bool = False) -> list[Logged]:
    """An arm that moves: states at 50 Hz that say their own time, commands at 10 Hz in the middle of each period."""
    messages = []
    for k in range(round(begin * 50), round(end * 50)):
        at = k / 50
        messages.append(joint_state(at, {"shoulder": at, "elbow": -at}))
    for k in range(round(begin * 10), round(end * 10)):
        at = k / 10 + 0.05
        messages.append(floats(at, [at, 2 * at]))
    if camera:
        for k in range(round(begin * 20), round(end * 20)):
            picture = np.full((16, 24, 3), k % 256, np.uint8)
            messages.append(image(k / 20, picture))
    return messages


def recording(
    episode: str = "one",
    begin: float = 1.0,
    steps: int = 10,
    *,
    terminated: bool = True,
    camera: bool = False,
    ended: bool = True,
    after: int = 2,
) -> list[Logged]:
    """What this project's recorder keeps of an episode: every report, and the states (and pictures) that it is of.

    Step k is at `begin + k / 10`, saw the state of 5 ms before, wanted [k, -k] and was sent [k, -k / 2]. The outcome of
    a step is about the observation of the next; the last is a success. The actor goes on for `after` ticks.
    """
    messages = [report(begin - 0.2, "/episode", EpisodeState(episode, True, nanoseconds(begin - 0.2), "reach far"))]
    for k in range(-2, steps + after):
        tick = begin + k / 10
        at = tick - 0.005
        messages.append(joint_state(at, {"shoulder": at, "elbow": -at}, logged=tick + 0.001))
        # Came after the actor had looked: newer, and not what it saw.
        messages.append(joint_state(tick - 0.001, {"shoulder": 77.0, "elbow": 77.0}, logged=tick + 0.03))
        stamps = (nanoseconds(at),)
        if camera:
            messages.append(image(at, np.full((16, 24, 3), (k + 100) % 256, np.uint8), logged=tick + 0.002))
            stamps = (nanoseconds(at), nanoseconds(at))
        acting = 0 <= k < steps
        action = (float(k), float(-k)) if acting else None
        step = ActorStep(nanoseconds(tick), episode if acting else "", stamps, action, 1, 2**63 + k, -0.5 * k)
        messages.append(report(tick + 0.005, "/actor/step", step))
        if acting:
            sent = Sent(step.tick, episode, (float(k), -k / 2), 2, "slower")
            messages.append(report(tick + 0.008, "/guardian/sent", sent))
            last = k == steps - 1
            outcome = Outcome(nanoseconds(tick + 0.095), last and terminated, last and terminated, reward=k / 10)
            messages.append(report(tick + 0.102, "/outcome", outcome))
    if ended:
        end = begin + (steps - 1) / 10 + 0.095
        success = True if terminated else None
        state = EpisodeState(episode, False, nanoseconds(end), "reach far", terminated, success, "it is over")
        messages.append(report(end + 0.015, "/episode", state))
    return messages
