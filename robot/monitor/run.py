"""The monitor as a program: from a contract to a page, until it is interrupted."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rclpy.utilities import get_rmw_implementation_identifier

from robot.contract_file import read_robot_contract
from robot.monitor.listening import TRANSPORTS, Listener, read_picture
from robot.monitor.serving import Server, Site
from robot.monitor.views import Views
from robot.monitor.watch import Watch

FINDING = 10.0
"""Longest time that nodes are looked for, which say where the contract is [s]."""
RANGE, PROFILES = "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_DEFAULT_PROFILES_FILE"
NICE = 5
"""How much this process stands back behind those that move the robot."""


@contextlib.contextmanager
def monitoring(namespace: str, contract: Path | None, port: int) -> Iterator[str]:
    """Serve the page for as long as the block lasts; gives its address.

    Args:
        contract: of the robot; None asks the nodes that are up.
        port: 0 takes one that is free.

    Raises:
        InputError: where the port is taken, or there is no contract that can be read.
    """
    # Before anything that takes long.
    robot = None if contract is None else read_robot_contract(contract)
    server = Server(port)
    try:
        with Listener(namespace) as listener:
            if robot is None:
                robot = read_robot_contract(listener.contract_path(FINDING))
            watch = Watch(robot, time.monotonic_ns())
            views = Views(robot.cameras, read_picture)
            listener.begin(watch, views)
            server.begin(Site(watch, views, listener.stop, namespace))
            try:
                yield server.url
            finally:
                server.end()
    finally:
        server.server_close()


def monitor(namespace: str, contract: Path | None, port: int, say: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted (SIGINT) or told to end (SIGTERM); `say` is given its address."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    # Ctrl-Z would freeze it, and with it, where the middleware shares memory, those who share it.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    try:
        with _by_loopback(), monitoring(namespace, contract, port) as url:
            say(url)
            while True:
                time.sleep(1.0)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _by_loopback() -> Iterator[None]:
    """Hear this machine's nodes over its sockets, where ROS 2 is told to stay on this machine.

    rmw_fastrtps shares memory then, whatever else it is told, and who shares memory can hold up the others. Fast DDS
    reads such a profile once in a process: this is for a program, before anything else of ROS 2.
    """
    local = os.environ.get(RANGE) == "LOCALHOST"
    said = PROFILES in os.environ or TRANSPORTS in os.environ
    if not local or said or not get_rmw_implementation_identifier().startswith("rmw_fastrtps"):
        yield
        return
    os.environ |= {RANGE: "SYSTEM_DEFAULT", PROFILES: str(Path(__file__).with_name("loopback.xml"))}
    try:
        yield
    finally:
        os.environ[RANGE] = "LOCALHOST"
        del os.environ[PROFILES]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
