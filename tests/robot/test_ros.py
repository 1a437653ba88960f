"""Finding rclpy: none, one, or two of them."""

import os
import sys
from pathlib import Path

import pytest

from episodes.errors import InputError
from robot import ros
from robot.ros import installations, make_message, message_class, require_ros


def with_rclpy(folder: Path) -> str:
    (folder / "rclpy").mkdir(parents=True)
    (folder / "rclpy" / "__init__.py").touch()
    return str(folder)


def test_every_rclpy_on_the_path_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = with_rclpy(tmp_path / "one"), with_rclpy(tmp_path / "two")
    (tmp_path / "none" / "rclpy").mkdir(parents=True)
    (tmp_path / "link").symlink_to(one)
    monkeypatch.setattr(sys, "path", [one, str(tmp_path / "none"), two, one, str(tmp_path / "link"), "/nowhere"])
    assert installations() == [f"{one}/rclpy", f"{two}/rclpy"]


def test_an_empty_entry_of_the_path_is_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_rclpy(tmp_path / "here")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [""])
    assert installations() == [f"{here}/rclpy"]


def test_where_there_is_none_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        InputError, match=r"no ROS 2: rclpy cannot be imported; source .* or run `pip install"
    ) as refused:
        require_ros()
    assert "\n" not in str(refused.value)


def test_where_there_are_two_it_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = with_rclpy(tmp_path / "one"), with_rclpy(tmp_path / "two")
    monkeypatch.setattr(sys, "path", [one, two])
    with pytest.raises(InputError, match="do not mix") as refused:
        require_ros()
    assert one in str(refused.value)
    assert two in str(refused.value)


@pytest.mark.parametrize(("before", "after"), [("", sys.prefix), ("/opt/ros/kilted", "/opt/ros/kilted")])
def test_a_sourced_ros_keeps_its_prefix_and_the_registrys_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    monkeypatch.setattr(sys, "path", [with_rclpy(tmp_path)])
    monkeypatch.setenv("AMENT_PREFIX_PATH", before)
    require_ros()
    assert os.environ["AMENT_PREFIX_PATH"] == after


@pytest.mark.parametrize("name", ["no_such_msgs/msg/Thing", "json/msg/Thing", "os/path/join2"])
def test_a_type_whose_package_is_missing_is_said_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"type {name}: its package is not installed for Python") as refused:
        message_class(name)
    assert "\n" not in str(refused.value)


def test_a_type_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up_msgs" / "msg").mkdir(parents=True)
    (tmp_path / "made_up_msgs" / "msg" / "__init__.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cls = message_class("made_up_msgs/msg/Thing")
    assert message_class("made_up_msgs/msg/Thing") is cls
    first, second = ros.make_message("made_up_msgs/msg/Thing"), ros.make_message("made_up_msgs/msg/Thing")
    assert type(first) is type(second) is cls
    assert first is not second


def test_messages_and_services_of_ros_are_made(ros_message) -> None:
    assert list(make_message("sensor_msgs/msg/JointState").position) == []
    assert hasattr(message_class("std_srvs/srv/Trigger"), "Request")
