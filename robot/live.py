"""Recording what is published now, for as long as it takes to look at it."""

import time
from pathlib import Path
from typing import Any

from episodes.errors import InputError
from robot.bag_writer import BagWriter
from robot.contract import RobotContract
from robot.nodes.shell import SENSORS
from robot.recording import recorded_topics
from robot.ros import message_class
from robot.spinning import SpinningNode

DISCOVERY = 2.0
"""Time that publishers are given to be found [s]."""


def record(contract: RobotContract, path: Path, seconds: float, namespace: str = "") -> set[str]:
    """Write an MCAP file of the contract's topics, with the types that they really have; returns those that are there.

    Raises:
        InputError: where none of them is published.
    """
    with SpinningNode("check", namespace) as beside:
        node = beside.node
        time.sleep(DISCOVERY)
        types = {name: kinds[0] for name, kinds in node.get_topic_names_and_types() if node.count_publishers(name)}
        names = {topic: node.resolve_topic_name(topic) for topic in recorded_topics(contract, ())}
        there = {topic: name for topic, name in names.items() if name in types}
        if not there:
            wanted = ", ".join(names.values())
            raise InputError(f"nobody publishes any of {wanted}; start the robot's driver, or say --namespace")
        writer = BagWriter(path)
        for name in there.values():
            writer.add_topic(name, types[name])
        for name in there.values():

            def take(data: bytes, info: Any, name: str = name) -> None:
                writer.write(name, data, time.time_ns(), info["source_timestamp"])

            node.create_subscription(message_class(types[name]), name, take, SENSORS, raw=True)
        time.sleep(seconds)
    writer.close()
    return set(there)
