"""Counts what gets past the guardian, a real process, when an actor asks for anything.

    python -m benchmarks.guarding --commands 100000

Proposals are inside the limits, outside of them, jumping from end to end, not finite, of a wrong length, old, or made
from a robot that somebody pushes away. Every command that arrives is held against the contract's limits, by code that
shares nothing with the guardian's. A stop is rearmed and enabled again, as a person would.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import numpy as np
import yaml

from robot.ros import make_message, message_class, require_ros
from robot.table import NodeSpec
from robot.up import Up

RATE = 50.0
PERIOD = round(1e9 / RATE)
LOW, HIGH, FASTEST, HARDEST, LEASH = -1.5, 1.5, 1.0, 4.0, 0.2
TWIST, TWIST_CHANGE, ROOM = 0.25, 1.0, (-0.4, 0.4)
STATE = ("joint_a", "joint_b", "eef_x")


def contract_file(path: Path) -> Path:
    """Two joints by position and one axis by velocity, with every limit there is."""
    joint = {"unit": "rad", "low": LOW, "high": HIGH, "velocity": FASTEST, "acceleration": HARDEST, "leash": LEASH}
    contract = {
        "version": 1,
        "name": "guarding",
        "rate": RATE,
        "observations": [
            {
                "topic": "joint_states",
                "type": "sensor_msgs/msg/JointState",
                "rate": RATE,
                "max_age": 0.1,
                "joints": list(STATE),
                "fields": [{"path": "position", "name": "{joint}", "unit": "rad"}],
            }
        ],
        "commands": [
            {
                "topic": "forward_position_controller/commands",
                "type": "std_msgs/msg/Float64MultiArray",
                "kind": "position",
                "on_silence": "repeats_last",
                "fields": [
                    {"path": "data[0]", "name": "a", "measured": "joint_a", **joint},
                    {"path": "data[1]", "name": "b", "measured": "joint_b", **joint},
                ],
            },
            {
                "topic": "twist",
                "type": "geometry_msgs/msg/TwistStamped",
                "kind": "velocity",
                "on_silence": "stops",
                "silence": 0.1,
                "fields": [
                    {
                        "path": "twist.linear.x",
                        "name": "x",
                        "unit": "m",
                        "low": -TWIST / RATE,
                        "high": TWIST / RATE,
                        "scale": RATE,
                        "measured": "eef_x",
                        "position": list(ROOM),
                        "acceleration": TWIST_CHANGE,
                    }
                ],
            },
        ],
        "safety": {"watchdog": 0.02},
    }
    path.write_text(yaml.safe_dump(contract))
    return path


class Robot:
    """Follows commands, is pushed around, and counts what it should never have been sent."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.position = np.zeros(3)
        self.told: deque[np.ndarray] = deque([self.position.copy()], maxlen=3)
        """What was published of it last: the guardian may not have heard the newest yet."""
        self.commands = 0
        self.violations: Counter[str] = Counter()
        self.twist = 0.0
        self.enabling = False
        """Whether the guardian is being enabled, and its next command may be the first one."""
        self._last: dict[str, np.ndarray] = {}

    def joints(self, values: np.ndarray) -> None:
        self.commands += 1
        self._check("position", (values >= LOW).all() and (values <= HIGH).all())
        self._check("finite", bool(np.isfinite(values).all()))
        before = self._last.get("joints")
        if self.enabling and any(np.allclose(values, told[:2], atol=1e-6) for told in self.told):
            # The first command: where the arm was measured, wherever that is from what was held before.
            self.enabling = False
        elif before is not None:
            # Nothing says how much time the guardian took to have passed; never more than one and a half periods.
            fits = (abs(values - before) <= FASTEST * 1.5 / RATE * (1 + 1e-9)).all()
            self._check("velocity", fits)
            if not fits:
                print(f"from {before} to {values}, measured {list(self.told)}, enabling {self.enabling}")
        self._last["joints"] = values
        # Somewhat behind, as arms are.
        self.position[:2] += 0.7 * (values - self.position[:2])

    def axis(self, value: float) -> None:
        self.commands += 1
        self._check("twist", abs(value) <= TWIST)
        before = self._last.get("axis")
        if before is not None:
            self._check("twist change", bool(abs(value - before[0]) <= TWIST_CHANGE * 1.5 / RATE * (1 + 1e-9)))
        self._last["axis"] = np.array([value])
        self.twist = value

    def pass_time(self) -> None:
        """A period, in which now and then somebody pushes."""
        self.position[2] += self.twist / RATE
        self._check("workspace", bool(ROOM[0] <= self.position[2] <= ROOM[1]))
        if self.rng.random() < 0.002:
            self.position[:2] += self.rng.normal(0, 0.3, 2)

    def begin_anew(self) -> None:
        """After a stop: the arm was put back inside its limits."""
        self.twist = 0.0
        self.position = np.clip(self.position, [LOW, LOW, ROOM[0]], [HIGH, HIGH, ROOM[1]]) * 0.9

    def _check(self, what: str, holds: Any) -> None:
        if not holds:
            self.violations[what] += 1


def proposal(rng: np.random.Generator, position: np.ndarray) -> tuple[str, list[float]]:
    """What an actor might ask for, and what to call it."""
    kinds = ("near", "far", "ends", "not finite", "wrong length")
    kind = str(rng.choice(kinds, p=[0.5, 0.2, 0.295, 0.003, 0.002]))
    if kind == "near":
        values = [*(position[:2] + rng.normal(0, 0.05, 2)), rng.normal(0, 0.002)]
    elif kind == "far":
        values = list(rng.normal(0, 100, 3))
    elif kind == "ends":
        values = [*rng.choice([LOW, HIGH], 2), rng.choice([-1, 1]) * TWIST / RATE]
    elif kind == "not finite":
        values = [*rng.normal(0, 0.1, 2), rng.choice([np.nan, np.inf, -np.inf])]
    else:
        values = [0.0] * int(rng.choice([0, 1, 2, 4]))
    return kind, [float(value) for value in values]


class Bench:
    """The robot's and the actor's side of the guardian."""

    def __init__(self, robot: Robot):
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from robot.reports import SENT_TOPIC, STEP_TOPIC
        from robot.spinning import SpinningNode

        self.robot = robot
        self._beside = SpinningNode("guarding").__enter__()
        node = self._beside.node
        self.stopped = ""
        self.verdicts: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._answered = 0
        self._arrived = [0, 0]
        string = message_class("std_msgs/msg/String")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._states = node.create_publisher(message_class("sensor_msgs/msg/JointState"), "joint_states", 10)
        self._clock_out = node.create_publisher(message_class("rosgraph_msgs/msg/Clock"), "/clock", 10)
        self._steps = node.create_publisher(string, STEP_TOPIC, 10)
        node.create_subscription(string, SENT_TOPIC, self._on_sent, 100)
        node.create_subscription(string, "guardian/reason", self._on_reason, latched)
        topic = "forward_position_controller/commands"
        node.create_subscription(message_class("std_msgs/msg/Float64MultiArray"), topic, self._on_joints, 100)
        node.create_subscription(message_class("geometry_msgs/msg/TwistStamped"), "twist", self._on_twist, 100)
        self.stamp = time.time_ns()

    def observe(self) -> None:
        clock: Any = make_message("rosgraph_msgs/msg/Clock")
        clock.clock.sec, clock.clock.nanosec = divmod(self.stamp, 1_000_000_000)
        self._clock_out.publish(clock)
        message: Any = make_message("sensor_msgs/msg/JointState")
        self.robot.told.append(self.robot.position.copy())
        message.name, message.position = list(STATE), [float(value) for value in self.robot.position]
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.stamp, 1_000_000_000)
        self._states.publish(message)

    def step(self, values: list[float], tick: int, wait: float = 0.25) -> bool:
        """Propose, and wait for the answer; False where there was none, as after a stop."""
        from robot.reports import ActorStep, encode

        message: Any = make_message("std_msgs/msg/String")
        message.data = encode(ActorStep(tick, "guarding", (self.stamp,), tuple(values), 1))
        with self._changed:
            before, arrived = self._answered, list(self._arrived)
            self._steps.publish(message)
            return self._changed.wait_for(
                lambda: (
                    bool(self.stopped)
                    or (self._answered > before and all(a > b for a, b in zip(self._arrived, arrived, strict=True)))
                ),
                wait,
            )

    def idle(self) -> None:
        """An actor is there, and waits."""
        from robot.reports import ActorStep, encode

        message: Any = make_message("std_msgs/msg/String")
        message.data = encode(ActorStep(self.stamp, "", (self.stamp,), None))
        self._steps.publish(message)

    def call(self, service: str, enable: bool | None = None) -> bool:
        """Whether the answer was yes."""
        from robot.spinning import RefusedError

        request = None if enable is None else message_class("std_srvs/srv/SetBool").Request(data=enable)
        try:
            self._beside.call(service, request, timeout=5.0)
            return True
        except RefusedError:
            return False

    def go_on(self) -> None:
        """Rearm where it is stopped, and enable."""
        while True:
            self.robot.begin_anew()
            self.stamp += PERIOD
            self.observe()
            self.idle()
            if self.stopped:
                self.call("guardian/rearm")
            with self._changed:
                self.robot.enabling = True
            if self.call("guardian/enable", True):
                self.stopped = ""
                return
            self.call("guardian/enable", False)
            time.sleep(0.02)

    def close(self) -> None:
        self._beside.__exit__()

    def _on_sent(self, message: Any) -> None:
        from robot.reports import Sent, decode

        sent = decode(Sent, message.data)
        with self._changed:
            self.verdicts[sent.verdict] += 1
            self._answered += 1
            self._changed.notify()

    def _on_reason(self, message: Any) -> None:
        with self._changed:
            if message.data:
                self.stopped = message.data
                self.reasons[message.data.split(":")[0].split(",")[0]] += 1
            self._changed.notify()

    def _on_joints(self, message: Any) -> None:
        with self._changed:
            self.robot.joints(np.array(message.data))
            self._arrived[0] += 1
            self._changed.notify()

    def _on_twist(self, message: Any) -> None:
        with self._changed:
            self.robot.axis(message.twist.linear.x)
            self._arrived[1] += 1
            self._changed.notify()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    require_ros()
    robot = Robot(options.seed)
    asked: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        contract = contract_file(Path(folder) / "contract.yaml")
        specs = [NodeSpec("guardian", {"contract": str(contract), "lock_step": True, "use_sim_time": True})]
        nodes = Up(specs, "", "", lambda line: None)
        bench = Bench(robot)
        try:
            bench.go_on()
            while robot.commands < options.commands:
                if (name := nodes.ended()) is not None:
                    raise RuntimeError(nodes.problem(name))
                if bench.stopped:
                    bench.go_on()
                kind, values = proposal(robot.rng, robot.position)
                asked[kind] += 1
                bench.stamp += PERIOD
                robot.pass_time()
                bench.observe()
                # An old step now and then, as from an actor that hangs.
                old = robot.rng.random() < 0.002
                asked["old"] += old
                bench.step(values, bench.stamp - (100 * PERIOD if old else 0))
        finally:
            bench.close()
            nodes.stop()
    violations = sum(robot.violations.values())
    print(f"{robot.commands} commands in {time.monotonic() - began:.0f} s, {violations} outside of a limit")
    for name, counts in (("violations", robot.violations), ("asked", asked), ("stops", bench.reasons)):
        print(f"{name}: " + (", ".join(f"{key} {count}" for key, count in counts.most_common(12)) or "none"))
    print("verdicts: " + ", ".join(f"{key} {count}" for key, count in sorted(bench.verdicts.items())))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
