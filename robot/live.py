"""Recording what is published now, for as long as it takes to look at it."""

import threading
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from episodes.errors import InputError
from robot.bag_writer import BagWriter
from robot.contract import RobotContract
from robot.nodes.shell import SENSORS
from robot.recording import recorded_topics
from robot.ros import message_class

DISCOVERY = 2.0
"""Time that publishers are given to be found [s]."""


def record(contract: RobotContract, path: Path, seconds: float, namespace: str = "") -> set[str]:
    """Write an MCAP file of the contract's topics, with the types that they really have; returns those that are there.

    Raises:
        InputError: where none of them is published.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("check", namespace=f"/{namespace.strip('/')}" if namespace else "")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
    thread.start()
    try:
        time.sleep(DISCOVERY)
        types = {name: kinds[0] for name, kinds in node.get_topic_names_and_types() if node.count_publishers(name)}
        names = {topic: node.resolve_topic_name(topic) for topic in recorded_topics(contract, ())}
        there = {topic: name for topic, name in names.items() if name in types}
        if not there:
            wanted = ", ".join(names.values())
            raise InputError(f"nobody publishes any of {wanted}; start the robot's driver, or say --namespace")
        writer = BagWriter(path)
        lock = threading.Lock()
        for name in there.values():
            writer.add_topic(name, types[name])

            def take(data: bytes, info: Any, name: str = name) -> None:
                with lock:
                    writer.write(name, data, time.time_ns(), info["source_timestamp"])

            node.create_subscription(message_class(types[name]), name, take, SENSORS, raw=True)
        time.sleep(seconds)
        with lock:
            executor.shutdown(timeout_sec=1.0)
        writer.close()
        return set(there)
    finally:
        executor.shutdown(timeout_sec=1.0)
        thread.join(timeout=2.0)
        node.destroy_node()
        rclpy.try_shutdown()


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return
