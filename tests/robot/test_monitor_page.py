"""The monitor's page in a real browser, beside a real guardian: what it shows, and what becomes of a stop."""

import array
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import yaml

from robot.contract import state_entries
from robot.monitor.run import monitoring
from robot.outgoing import image_message, observation_message
from robot.reports import ActorStep, EpisodeState, LearnerState, Outcome, encode
from robot.ros import make_message
from tests.robot.browser import Browser, path_of_browser
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, write_contract

pytest_plugins = ("tests.robot.process_fixtures",)

CAMERA = {"name": "scene", "topic": "scene/image", "height": 48, "width": 64, "rate": 10, "max_age": 0.2}
LENIENT = 20.0
"""What the guardian lets pass [s]: here it is not to stop because a machine is busy."""
STRING = "std_msgs/msg/String"


def lenient() -> dict:
    """The simulated Panda's contract, with a camera, and a guardian that is in no hurry."""
    content = yaml.safe_load(SHIPPED.read_text()) | {"cameras": [CAMERA]}
    content["safety"]["silence"] = LENIENT
    for observation in content["observations"]:
        observation["max_age"] = LENIENT
    return content


class Robot(threading.Thread):
    """Says ten times a second what drivers, an actor and a recorder would say."""

    def __init__(self, probe: Probe, nodes: Nodes):
        super().__init__(daemon=True)
        from robot.contract_file import read_robot_contract

        self.probe, self.contract = probe, read_robot_contract(nodes.contract)
        self.ending = threading.Event()
        self.sees = True
        self.episode = ""
        self.state: EpisodeState | None = None
        """Of the last episode, said again and again as a recorder does."""
        self.wants = 0.0

    def say(self, topic: str, report: str, qos: str = "REPORTS") -> None:
        message = make_message(STRING)
        message.data = report
        self.probe.publish(topic, STRING, message, qos, listeners=0)

    def run(self) -> None:
        while not self.ending.wait(0.1):
            now = time.time_ns()
            for source in self.contract.observations:
                # The hand is a metre up; everything else is at 0.
                values = [0.9 if name.endswith("_z") else 0.0 for name, _, _ in state_entries(source)]
                message = observation_message(source, values, now, make_message)
                self.probe.publish(source.topic, source.type, message, "SENSORS", listeners=0)
            if self.sees:
                picture = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 3 + 40, (48, 64, 3))
                message = image_message(
                    self.contract.cameras[0], picture, now, make_message, lambda data: array.array("B", data)
                )
                self.probe.publish(CAMERA["topic"], "sensor_msgs/msg/Image", message, "SENSORS", listeners=0)
            self.wants = 0.02 * math.sin(now / 1e9)
            action = (self.wants, 0.0, 0.01, -1.0) if self.episode else None
            self.say("actor/step", encode(ActorStep(now, self.episode, (), action, 1, 0xABCDEF << 40)))
            if (state := self.state) is not None:
                self.say("episode", encode(state), "LATCHED")


@pytest.fixture(scope="module")
def robot(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, Nodes]]:
    path_of_browser()
    nodes = Nodes(write_contract(tmp_path_factory.mktemp("monitor") / "robot.yaml", lenient()))
    probe = Probe()
    robot = Robot(probe, nodes)
    try:
        nodes.start("guardian")
        robot.start()
        probe.wait("the guardian is there", lambda: probe.node.count_publishers("guardian/sent"))
        yield robot, nodes
    finally:
        robot.ending.set()
        robot.join()
        nodes.stop()
        probe.close()


@pytest.fixture
def browser(robot: tuple[Robot, Nodes]) -> Iterator[Browser]:
    # The contract is what the guardian says it is.
    with monitoring("", None, 0) as url, Browser() as browser:
        browser.open(url)
        yield browser
        assert browser.errors == []


def text(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).textContent"


def test_what_the_robot_sees_does_and_learns_is_shown_and_silence_too(
    robot: tuple[Robot, Nodes], browser: Browser
) -> None:
    acting, _ = robot
    assert browser.wait(f"{text('#guardian .big')} === 'motion is not enabled'")
    assert browser.value(text("#learner .big")) == "no learner seen"
    assert browser.value(text("#episode .big")) == "none yet"
    # A picture, and not a black one.
    browser.wait("document.querySelector('figure img').naturalWidth === 64")
    browser.wait("!document.querySelector('figure').classList.contains('silent')")
    brightness = """(() => {
        const canvas = new OffscreenCanvas(64, 48), context = canvas.getContext("2d");
        context.drawImage(document.querySelector("figure img"), 0, 0);
        const data = context.getImageData(0, 0, 64, 48).data;
        return [data[4 * 2], data[4 * 61]];
    })()"""
    left, right = browser.value(brightness)
    assert abs(left - 46) < 16
    assert abs(right - 223) < 16
    # An episode, from its beginning to its success.
    enable = ("guardian/enable", "std_srvs/srv/SetBool")
    acting.probe.wait("it is enabled", lambda: acting.probe.call(*enable, data=True).success)
    begun = time.time_ns()
    acting.state = EpisodeState("today-0001", True, begun, "lift it")
    acting.episode = "today-0001"
    browser.wait(f"{text('#guardian .big')} === 'motion is enabled'")
    browser.wait(f"/^step [1-9]/.test({text('#episode .big')})")
    for name in ("delta_x", "gripper"):
        browser.wait(f"Number(document.querySelector('#commands canvas[data-name={name}]').dataset.points) >= 10")
    browser.wait("Number(document.querySelector('#state canvas').dataset.points) >= 10")
    browser.wait("Number(document.querySelector('#strip').dataset.points) >= 3")
    coloured = """(() => {
        const canvas = document.querySelector("#commands canvas");
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte > 0);
    })()"""
    assert browser.value(coloured)
    acting.episode = ""
    acting.say("outcome", encode(Outcome(time.time_ns(), True, True, reward=1.0)), "STATES")
    acting.state = EpisodeState("today-0001", False, time.time_ns(), "lift it", True, True, "the task ended")
    browser.wait("document.querySelectorAll('#success .episode[data-success=true]').length === 1")
    assert browser.value(text("#episode .big")) == "success"
    assert browser.value(text("#policies td")) == "abcdef00"
    acting.say("learner/state", encode(LearnerState(1, 1234, 77)), "LATCHED")
    browser.wait(f"{text('#learner .facts')}.includes('1234')")
    assert browser.value("document.querySelector('#undoing').hidden"), "nobody learns that"
    acting.say("backward/learner/state", encode(LearnerState(1, 4321, 78)), "LATCHED")
    browser.wait("!document.querySelector('#undoing').hidden")
    browser.wait(f"{text('#undoing .facts')}.includes('4321')")
    # Everything on one wide screen, and nothing beside it.
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    # The camera falls silent: its last picture is not shown as if it were of now.
    acting.sees = False
    browser.wait("document.querySelector('figure').classList.contains('silent')")
    assert browser.value(text("figure .over")).startswith("no picture for ")
    assert browser.value(text("figure .age")).startswith("no picture for ")
    acting.sees = True
    browser.wait("!document.querySelector('figure').classList.contains('silent')")


def test_a_stop_is_what_the_guardian_says_and_its_silence_is_said_in_red(
    robot: tuple[Robot, Nodes], browser: Browser
) -> None:
    acting, nodes = robot
    acting.probe.listen("guardian/stopped", "std_msgs/msg/Bool", latched=True)
    browser.wait("document.querySelectorAll('#nodes .node.ok').length === 1")
    assert browser.value("document.querySelector('#stopping').hidden")
    browser.click("#stop")
    browser.wait(f"{text('#stopping')}.includes('Stopped: somebody called guardian/stop')")
    acting.probe.wait(
        "the guardian itself says so", lambda: any(h.message.data for h in acting.probe.heard("guardian/stopped"))
    )
    refused = acting.probe.call("guardian/enable", "std_srvs/srv/SetBool", data=True)
    assert "rearm it first" in refused.message
    browser.wait(f"{text('#guardian .big')} === 'stopped: somebody called guardian/stop'")
    # It is let go of at a terminal, and the page follows.
    assert acting.probe.call("guardian/rearm").success
    browser.wait("document.querySelector('#stopping').hidden")
    # What it said last was that it is not stopped, and the graph still has its service for a while.
    nodes.kill("guardian")
    browser.click("#stop")
    browser.wait(f"{text('#stopping')}.includes('The guardian did not answer. USE THE HARDWARE STOP.')")
    assert "alarm" in browser.value("document.querySelector('#stopping').className")
    browser.wait(f"{text('#guardian .big')}.startsWith('silent for ')")
    browser.wait("document.querySelectorAll('#nodes .node.silent').length === 1")


def test_a_page_whose_monitor_is_gone_says_so(robot: tuple[Robot, Nodes]) -> None:
    _, nodes = robot
    with Browser() as browser:
        with monitoring("", nodes.contract, 0) as url:
            browser.open(url)
            browser.wait("document.querySelectorAll('#nodes .node').length >= 3")
            assert browser.value("document.querySelector('#gone').hidden")
        browser.wait("document.body.classList.contains('gone')")
        assert "Nothing on this page is current" in browser.value(text("#gone"))
        browser.wait("document.querySelector('figure').classList.contains('silent')")
        browser.click("#stop")
        browser.wait(f"{text('#stopping')}.includes('The stop was not sent. USE THE HARDWARE STOP.')")


def test_it_asks_the_middleware_for_sockets_unless_somebody_has_said_what(
    domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robot import spinning
    from robot.monitor import listening

    found: list[str | None] = []

    class Bare:
        def __init__(self, *_: object, **__: object):
            found.append(os.environ.get(listening.TRANSPORTS))

        def destroy_node(self) -> None:
            pass

    monkeypatch.setattr(spinning, "Node", Bare)
    monkeypatch.setattr(spinning.SingleThreadedExecutor, "add_node", lambda *_: True)
    monkeypatch.delenv(listening.TRANSPORTS, raising=False)
    with listening.Listener():
        assert listening.TRANSPORTS not in os.environ
    monkeypatch.setenv(listening.TRANSPORTS, "LARGE_DATA")
    with listening.Listener():
        pass
    assert found == ["UDPv4", "LARGE_DATA"]


# The command.


def command(*arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "firsthand", "monitor", *arguments]
    # A shell lets what it runs in the background ignore Ctrl-C, and so would this.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_first_and_ends_cleanly(other_domain: int, number: signal.Signals) -> None:
    process = command("--json", "--port", "0", "--contract", str(SHIPPED))
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    port = int(url.removeprefix("http://127.0.0.1:").rstrip("/"))
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/state")
    assert json.loads(connection.getresponse().read())["guardian"]["stopped"] is None
    # Who shares memory with the nodes can hold them up.
    assert "/dev/shm/fast" not in Path(f"/proc/{process.pid}/maps").read_text()
    os.kill(process.pid, signal.SIGTSTP)
    connection.request("GET", "/state")
    assert connection.getresponse().read(), "Ctrl-Z does not freeze it"
    os.kill(process.pid, number)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def test_a_port_that_is_taken_or_a_robot_that_is_not_there_is_one_line(
    other_domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import firsthand
    from robot.monitor import run
    from robot.monitor.serving import Server

    monkeypatch.setattr(run, "FINDING", 0.3)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    taken = Server(0)
    port = str(taken.server_address[1])
    for arguments, why in (
        (["--port", port], f"port {port} is taken; give another one: --port, 0 for any that is free"),
        (
            ["--port", "0"],
            "no node of a robot answers: start them (firsthand up ...), say --namespace, or give --contract",
        ),
        (["--port", "0", "--contract", str(tmp_path / "no.yaml")], "no.yaml"),
    ):
        assert firsthand.main(["monitor", *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert why in said.err
        assert len(said.err.splitlines()) == 1
    taken.server_close()
    with pytest.raises(SystemExit) as refused:
        firsthand.main(["monitor", "--port", "70000"])
    assert refused.value.code == 2
    assert "from 0 to 65535" in capsys.readouterr().err
