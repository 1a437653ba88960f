"""How fast bags are imported, beside reading and decoding them and nothing else, and in how much memory.

    python -m benchmarks.bags --megabytes 1000

Two bags, each as MCAP and as sqlite3: `camera`, of a raw 640x480 camera at 30 Hz, seven joints at 500 Hz and commands
at 20 Hz; and `states`, the same without the camera and a tenth of the size. `reader` is rosbags' own AnyReader, every
message decoded; `import` makes frames, cuts episodes, scales pictures to 96x128 and commits all of it to a store. Each
runs in a process of its own, which times its work without its start; they take turns, and the ratio is the median over
the turns.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from episodes.importing import import_into
from robot.bag_import import BagSource
from robot.contract_file import read_robot_contract

JOINTS = [f"joint{number}" for number in range(1, 8)]
STATES, COMMANDS, PICTURES = 500, 20, 30
"""Messages per second."""
HEIGHT, WIDTH = 480, 640
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
types = get_typestore(Stores.ROS2_JAZZY)


def contract_file(path: Path, *, camera: bool) -> Path:
    """What is in the bag; an episode every ten seconds, as commands pause."""
    fields = [
        {"path": f"data[{number}]", "name": f"{joint}_target", "unit": "rad", "low": -3.0, "high": 3.0}
        for number, joint in enumerate(JOINTS)
    ]
    states = {
        "topic": "joint_states",
        "type": "sensor_msgs/msg/JointState",
        "rate": STATES,
        "max_age": 0.1,
        "joints": JOINTS,
        "fields": [{"path": "position", "unit": "rad"}, {"path": "velocity", "unit": "rad/s"}],
    }
    commands = {
        "topic": "controller/commands",
        "type": "std_msgs/msg/Float64MultiArray",
        "kind": "position",
        "on_silence": "repeats_last",
        "fields": fields,
    }
    contract: dict[str, Any] = {
        "version": 1,
        "name": "bags",
        "rate": COMMANDS,
        "observations": [states],
        "commands": [commands],
        "episodes": {"by": "gaps", "gap": 0.5},
    }
    if camera:
        contract["cameras"] = [
            {"name": "scene", "topic": "image", "height": 96, "width": 128, "rate": PICTURES, "max_age": 0.2}
        ]
    path.write_text(yaml.safe_dump(contract))
    return path


def messages(size: int, *, camera: bool) -> Iterator[tuple[str, str, int, Any]]:
    """Topic, type, time [ns] and message, in order, until there are so many bytes."""
    make = types.types
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8).reshape(-1) for _ in range(8)]
    layout = make["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    written, number = 0, 0
    while written < size:
        at = START + number * SECOND // STATES
        stamp = make["builtin_interfaces/msg/Time"](sec=at // SECOND, nanosec=at % SECOND)
        header = make["std_msgs/msg/Header"](stamp=stamp, frame_id="")
        values = np.sin(number / STATES + np.arange(7))
        kind = "sensor_msgs/msg/JointState"
        yield "/joint_states", kind, at, make[kind](header, JOINTS, values, values, np.zeros(7))
        written += 300
        # Nobody commands in the last second of ten.
        if number % (STATES // COMMANDS) == 0 and number // STATES % 10 < 9:
            kind = "std_msgs/msg/Float64MultiArray"
            yield "/controller/commands", kind, at + 1, make[kind](layout, values)
        if camera and number * PICTURES // STATES != (number - 1) * PICTURES // STATES:
            kind = "sensor_msgs/msg/Image"
            picture = pictures[number % len(pictures)]
            yield "/image", kind, at + 2, make[kind](header, HEIGHT, WIDTH, "rgb8", 0, 3 * WIDTH, picture)
            written += len(picture)
        number += 1


def write(folder: Path, storage: StoragePlugin, size: int, *, camera: bool) -> Path:
    """A bag as `ros2 bag record` makes it."""
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connections: dict[str, Any] = {}
        for topic, kind, at, message in messages(size, camera=camera):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(connections[topic], at, types.serialize_cdr(message, kind))
    return folder


def read(bag: Path, contract: Path, store: Path) -> int:
    """Every message, decoded; how many."""
    count = 0
    with AnyReader([bag], default_typestore=types) as reader:
        for connection, _, raw in reader.messages():
            reader.deserialize(raw, connection.msgtype)
            count += 1
    return count


def bring_in(bag: Path, contract: Path, store: Path) -> int:
    """Into a store; how many messages were gone through."""
    source = BagSource(bag, read_robot_contract(contract))
    result = import_into(source, store)
    assert result.episodes, "nothing was imported"
    return source.message_count


def timed(work: Callable[[Path, Path, Path], int], paths: tuple[Path, Path, Path]) -> tuple[float, float]:
    """Messages per second, and the most memory that the process had [MB]."""
    began = time.perf_counter()
    count = work(*paths)
    rate = count / (time.perf_counter() - began)
    return rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def measure(bag: Path, contract: Path, turns: int) -> dict[str, float]:
    rates: dict[str, list[float]] = {"reader": [], "import": []}
    memory: dict[str, float] = {}
    for turn in range(turns):
        for name, work in (("reader", read), ("import", bring_in)):
            # A process of its own: what one leaves in memory is not the other's.
            spawn = multiprocessing.get_context("spawn")
            with tempfile.TemporaryDirectory() as folder, spawn.Pool(1) as pool:
                rate, megabytes = pool.apply(timed, (work, (bag, contract, Path(folder) / "store")))
            rates[name].append(rate)
            memory[name] = max(memory.get(name, 0.0), megabytes)
            print(f"{bag.name} turn {turn} {name}: {rate:.0f} messages/s, {megabytes:.0f} MB", file=sys.stderr)
    return {
        "reader": statistics.median(rates["reader"]),
        "import": statistics.median(rates["import"]),
        "ratio": statistics.median(i / r for i, r in zip(rates["import"], rates["reader"], strict=True)),
        "memory": memory["import"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="of the bag with a camera")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    print("| bag | MB | reader [messages/s] | import | ratio | peak memory [MB] |\n" + "|---" * 6 + "|", flush=True)
    for storage in (StoragePlugin.MCAP, StoragePlugin.SQLITE3):
        for camera in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                name = f"{'camera' if camera else 'states'}, {storage.name.lower()}"
                size = round(options.megabytes * 1e6 / (1 if camera else 10))
                bag = write(Path(folder) / "bag", storage, size, camera=camera)
                contract = contract_file(Path(folder) / "contract.yaml", camera=camera)
                megabytes = sum(file.stat().st_size for file in bag.iterdir()) / 1e6
                row = measure(bag, contract, options.turns)
            rows.append({"bag": name, "megabytes": megabytes, **row})
            print(
                f"| {name} | {megabytes:.0f} | {row['reader']:.0f} | {row['import']:.0f} | {row['ratio']:.2f} "
                f"| {row['memory']:.0f} |",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
