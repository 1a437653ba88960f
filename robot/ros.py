"""Finding rclpy, once, and saying what to do where there is none or where there are two."""

import importlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from episodes.errors import InputError

TWO_WAYS = (
    "source a ROS 2 installation (such as . /opt/ros/jazzy/setup.sh), or run "
    "`pip install -c constraints.txt -e '.[ros]'`; never both"
)


def require_ros() -> None:
    """Make rclpy importable, or say why it is not.

    Raises:
        InputError: where there is no rclpy, or two.
    """
    found = installations()
    if not found:
        raise InputError(f"no ROS 2: rclpy cannot be imported; {TWO_WAYS}")
    if len(found) > 1:
        raise InputError(
            f"two installations of rclpy, {found[0]} and {found[1]}: their libraries do not mix; leave the terminal "
            "where the other ROS 2 is sourced, or `pip uninstall ros-rclpy`"
        )
    # The registry's packages are in the environment itself, where a sourced ROS 2 has a prefix of its own.
    if not os.environ.get("AMENT_PREFIX_PATH"):
        os.environ["AMENT_PREFIX_PATH"] = sys.prefix


def installations() -> list[str]:
    """The folders on the path that have an rclpy."""
    found: list[str] = []
    for entry in sys.path:
        folder = Path(entry or ".") / "rclpy"
        if (folder / "__init__.py").is_file() and str(folder.resolve()) not in found:
            found.append(str(folder.resolve()))
    return found


@cache
def message_class(name: str) -> Any:
    """The class of a message or service type: `std_msgs/msg/Bool`, `std_srvs/srv/Trigger`.

    Raises:
        InputError: where its package is not installed.
    """
    package, kind, leaf = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), leaf)
    except (ImportError, AttributeError) as error:
        raise InputError(f"type {name}: its package is not installed for Python ({error})") from None


def make_message(name: str) -> Any:
    """A new message of a type."""
    return message_class(name)()
