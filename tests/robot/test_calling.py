"""A person calls services without the `ros2` command."""

from collections.abc import Iterator
from typing import Any

import pytest

from episodes.errors import InputError
from tests.robot.processes import Probe

pytest_plugins = ("tests.robot.process_fixtures",)


@pytest.fixture
def asked(other_domain: int) -> Iterator[list[Any]]:
    """What two services were asked; `guardian/enable` refuses to be switched on."""
    from robot.ros import message_class

    said: list[Any] = []

    def start(request: Any, response: Any) -> Any:
        said.append("start")
        response.success, response.message = True, "episode-1"
        return response

    def enable(request: Any, response: Any) -> Any:
        said.append(request.data)
        response.success, response.message = not request.data, "an input is missing"
        return response

    probe = Probe("arm")
    probe.node.create_service(message_class("std_srvs/srv/Trigger"), "recorder/start", start)
    probe.node.create_service(message_class("std_srvs/srv/SetBool"), "guardian/enable", enable)
    yield said
    probe.close()


def test_a_service_is_called_and_its_answer_told(asked: list[Any]) -> None:
    from robot.calling import call_service

    assert call_service("recorder/start", namespace="arm") == "episode-1"
    assert call_service("guardian/enable", False, namespace="arm") == "an input is missing"
    assert asked == ["start", False]


def test_a_refusal_is_an_error_with_its_reason(asked: list[Any]) -> None:
    from robot.calling import call_service

    with pytest.raises(InputError, match=r"^guardian/enable: an input is missing$"):
        call_service("guardian/enable", True, namespace="arm")


def test_what_cannot_be_called_is_said_with_what_can_be(asked: list[Any]) -> None:
    from robot.calling import call_service

    with pytest.raises(InputError, match=r"nobody offers recorder/begin; .* arm/guardian/enable, arm/recorder/start"):
        call_service("recorder/begin", namespace="arm")
    with pytest.raises(InputError, match="guardian/enable: say true or false"):
        call_service("guardian/enable", namespace="arm")
    with pytest.raises(InputError, match="recorder/start: takes neither"):
        call_service("recorder/start", True, namespace="arm")
    assert asked == []


def test_what_is_no_name_is_refused_before_anything_is_looked_for() -> None:
    pytest.importorskip("rclpy", reason="no ROS 2 for Python")
    from robot.calling import call_service

    with pytest.raises(InputError, match="service 'recorder start': expected a name such as recorder/start"):
        call_service("recorder start")
    with pytest.raises(InputError, match="namespace 'my robot': expected words"):
        call_service("recorder/start", namespace="my robot")
