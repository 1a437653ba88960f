"""What is dear to make, and what needs ROS 2."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from episodes.errors import InputError
from robot.ros import installations, make_message, require_ros
from sim.task import Task, make_task


@pytest.fixture(autouse=True, scope="module")
def ordinary() -> None:
    """Something in the tests of other rooms gets the highest real-time priority, and what is started inherits it."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="session")
def lift_quick() -> Task:
    return make_task("lift-quick")


@pytest.fixture
def ros_message(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Makes rclpy's messages, which check what is put into them, as they do where somebody looks for mistakes."""
    if not installations():
        pytest.skip("no ROS 2 for Python")
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.environ.get("AMENT_PREFIX_PATH", ""))
    monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
    try:
        require_ros()
        make_message("sensor_msgs/msg/JointState")
    except InputError as error:
        pytest.skip(f"no ROS 2 for Python: {error}")
    return make_message
