"""Starting one node by its name."""

from collections.abc import Sequence
from importlib import import_module

from episodes.errors import unknown
from robot.ros import require_ros

NODES = ("sim_robot", "actor", "guardian", "recorder", "rewarder", "learner", "courier")


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a node until it is told to stop; `arguments` as ros2 has them (`--ros-args ...`). Returns the exit status."""
    if name not in NODES:
        raise unknown("node", name, NODES)
    require_ros()
    from robot.nodes.shell import hard_exit, run_node

    status = run_node(import_module(f"robot.nodes.{name}").make, arguments)
    hard_exit(status)
    return status
