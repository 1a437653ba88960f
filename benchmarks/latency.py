"""From an observation to the guarded command, over real processes: how late, how regular.

    python -m benchmarks.latency --seconds 60
    python -m benchmarks.latency --rates 100 --seconds 600 --only fifo+learner

A stand-in for a robot publishes seven joints at a rate; the actor (a policy of 256x256) and the guardian answer.
Measured is the time from the observation's stamp to when the guardian published the command with that stamp, and to
when it arrived in the robot's process, which is written in Python, too. `fifo` asks for SCHED_FIFO; `learner` has IQL
updates running beside it on one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import numpy as np
import yaml

from episodes.episode import Episode
from episodes.store import Store
from finetune.config import resolve
from finetune.pretrain import pretrain
from robot.contract_file import read_robot_contract
from robot.reports import SENT_TOPIC, EpisodeState, Sent, decode, encode
from robot.ros import make_message, message_class, require_ros
from robot.table import NodeSpec
from robot.ticking import SWITCH, DeadlineThread, ask_for_realtime, ask_for_realtime_middleware
from robot.up import Up

JOINTS = [f"joint{number}" for number in range(1, 8)]
CASES = ("plain", "fifo", "plain+learner", "fifo+learner")
WARM_UP = 1.0
"""Left out of the figures [s]."""


def contract_file(path: Path, rate: float) -> Path:
    """Seven joints in and out, at a rate."""
    fields = [
        {
            "path": f"points[0].positions[{number}]",
            "name": f"{joint}_target",
            "unit": "rad",
            "low": -2.0,
            "high": 2.0,
            "measured": joint,
            "velocity": 2.0,
            "acceleration": 20.0,
            "leash": 1.0,
        }
        for number, joint in enumerate(JOINTS)
    ]
    contract = {
        "version": 1,
        "name": "latency",
        "rate": rate,
        "observations": [
            {
                "topic": "joint_states",
                "type": "sensor_msgs/msg/JointState",
                "rate": rate,
                "max_age": 0.5,
                "joints": JOINTS,
                "fields": [
                    {"path": "position", "name": "{joint}", "unit": "rad"},
                    {"path": "velocity", "name": "{joint}_velocity", "unit": "rad/s"},
                ],
            }
        ],
        "commands": [
            {
                "topic": "joint_trajectory_controller/joint_trajectory",
                "type": "trajectory_msgs/msg/JointTrajectory",
                "kind": "position",
                "on_silence": "holds_position",
                "joints": JOINTS,
                "fields": fields,
            }
        ],
        "safety": {"watchdog": 0.02, "silence": 0.5},
    }
    path.write_text(yaml.safe_dump(contract))
    return path


def make_run(folder: Path, contract: Path, name: str) -> Path:
    """A policy of the usual size; what it wants does not matter here."""
    layout = read_robot_contract(contract).layout()
    store = Store.create(folder / f"store-{name}", layout)
    rng = np.random.default_rng(0)
    for _ in range(4):
        state = rng.normal(0, 0.3, (41, 14)).astype(np.float32)
        reward = np.zeros(40, np.float32)
        store.append([Episode(state, state[:-1, :7].copy(), terminated=False, truncated=True, reward=reward)])
    run = folder / f"run-{name}"
    pretrain(store.path, run, resolve("iql", None, None, {"steps": 20}))
    return run


class Robot:
    """Publishes observations at a rate and times the commands that come back."""

    def __init__(self, rate: float):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from rclpy.qos import DurabilityPolicy, QoSProfile

        # The same in every row: it is what measures.
        sys.setswitchinterval(SWITCH)
        rclpy.init()
        self._node = Node("latency")
        self._arrived: list[tuple[int, int]] = []
        """Of every command, when it was sent and when it came [ns]."""
        self._answers: list[str] = []
        """What the guardian says of each, in the same order."""
        self._out = self._node.create_publisher(message_class("sensor_msgs/msg/JointState"), "joint_states", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._episode = self._node.create_publisher(message_class("std_msgs/msg/String"), "episode", latched)
        kind = message_class("trajectory_msgs/msg/JointTrajectory")
        self._node.create_subscription(kind, "joint_trajectory_controller/joint_trajectory", self._take, 1000)
        text = message_class("std_msgs/msg/String")
        self._node.create_subscription(text, SENT_TOPIC, lambda message: self._answers.append(message.data), 1000)
        self._message: Any = make_message("sensor_msgs/msg/JointState")
        self._message.name = JOINTS
        self._message.position = self._message.velocity = [0.0] * 7
        self._ticks = DeadlineThread("robot", round(1e9 / rate), self._publish, lambda error: print(error))
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ticks.start()

    def begin(self) -> None:
        """Enable the guardian and start an episode, as the recorder would."""
        client = self._node.create_client(message_class("std_srvs/srv/SetBool"), "guardian/enable")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if client.wait_for_service(timeout_sec=1.0):
                request = message_class("std_srvs/srv/SetBool").Request(data=True)
                done, future = threading.Event(), client.call_async(request)
                future.add_done_callback(lambda _, done=done: done.set())
                answer: Any = future.result() if done.wait(2.0) else None
                if answer is not None and answer.success:
                    break
            time.sleep(0.1)
        else:
            raise RuntimeError("the guardian could not be enabled")
        now = self._node.get_clock().now().nanoseconds
        state = make_message("std_msgs/msg/String")
        state.data = encode(EpisodeState("latency", True, now))
        # Again and again, as the recorder would.
        self._node.create_timer(0.25, lambda: self._episode.publish(state))

    def stop(self) -> None:
        import rclpy

        self._ticks.stop()
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _publish(self) -> None:
        stamp = time.time_ns()
        self._message.header.stamp.sec, self._message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        self._out.publish(self._message)

    def _take(self, message: Any, info: Any) -> None:
        self._arrived.append((info["source_timestamp"], time.time_ns()))
        self._message.position = list(message.points[0].positions)

    def late(self) -> np.ndarray:
        """Per command: the stamp of the observation that it answers, and how long after that it was sent and came [ns].

        Only answers of the episode have a command each: before it, the guardian holds still and sends nothing.
        """
        answers = [decode(Sent, answer) for answer in self._answers]
        ticks = [answer.tick for answer in answers if answer.episode]
        if not ticks or len(ticks) > len(self._arrived):
            raise RuntimeError(
                f"{len(self._arrived)} commands and {len(ticks)} answers: it was stopped, or one was lost"
            )
        pairs = zip(ticks, self._arrived[-len(ticks) :], strict=True)
        return np.array([(tick, sent - tick, came - tick) for tick, (sent, came) in pairs])

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        ask_for_realtime()
        ask_for_realtime_middleware()
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


@contextmanager
def learner(store: Path, run: Path) -> Iterator[None]:
    """IQL updates without an end, in a process of their own, at ordinary priority."""
    words = ["pretrain", str(store), "--run", str(run), "--algorithm", "iql", "--steps", str(10**8)]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "firsthand", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(10)  # until it updates
        yield
    finally:
        process.kill()
        process.wait()


def measure(folder: Path, rate: float, case: str, seconds: float) -> dict[str, Any]:
    """One row: latencies in milliseconds."""
    contract = contract_file(folder / f"{rate:g}.yaml", rate)
    run = folder / f"run-{rate:g}"
    if not run.exists():
        make_run(folder, contract, f"{rate:g}")
    realtime = case.startswith("fifo")
    common: dict[str, Any] = {"contract": str(contract), "realtime": realtime}
    specs = [
        NodeSpec("guardian", common),
        NodeSpec("actor", common | {"run": str(run), "trigger": "inputs"}),
    ]
    nodes = Up(specs, "", "", lambda line: print(line, file=sys.stderr) if "ERROR" in line else None)
    robot = Robot(rate)
    try:
        robot.start()
        beside = learner(folder / f"store-{rate:g}", folder / f"learner-{rate:g}-{case}")
        with beside if "learner" in case else nullcontext():
            robot.begin()
            time.sleep(WARM_UP + seconds)
            ended = nodes.ended()
            if ended:
                raise RuntimeError(nodes.problem(ended))
    finally:
        robot.stop()
        nodes.stop()
    found = robot.late()
    stamps, late, arrived = found[found[:, 0] >= found[0, 0] + round(WARM_UP * 1e9)].T
    late, arrived = late / 1e6, arrived / 1e6
    expected = round((stamps[-1] - stamps[0]) / 1e9 * rate) + 1
    p50, p99, p999 = np.percentile(late, [50, 99, 99.9])
    return {
        "rate": rate,
        "case": case,
        "commands": len(late),
        "without a command": max(expected - len(late), 0),
        "p50": p50,
        "p99": p99,
        "p99.9": p999,
        "max": late.max(),
        "over 10 ms": int((late > 10).sum()),
        "arrived p50": np.percentile(arrived, 50),
        "arrived p99": np.percentile(arrived, 99),
        "arrived max": arrived.max(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[20, 100, 250, 500], metavar="HZ")
    parser.add_argument("--seconds", type=float, default=60, help="per row, after a second of warm-up")
    parser.add_argument("--only", choices=CASES, action="append", help="these cases (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    require_ros()
    rows = []
    print("| rate [Hz] | case | commands | none | sent: p50 [ms] | p99 | p99.9 | max | over 10 ms ", end="")
    print("| arrived: p50 [ms] | p99 | max |\n" + "|---" * 12 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for rate in options.rates:
            for case in options.only or CASES:
                row = measure(Path(folder), rate, case, options.seconds)
                rows.append(row)
                sent = [f"{row[key]:.2f}" for key in ("p50", "p99", "p99.9", "max")]
                arrived = [f"{row[f'arrived {key}']:.2f}" for key in ("p50", "p99", "max")]
                print(
                    f"| {rate:g} | {case} | {row['commands']} | {row['without a command']} | {' | '.join(sent)} "
                    f"| {row['over 10 ms']} | {' | '.join(arrived)} |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
