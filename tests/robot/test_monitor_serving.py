"""Who is answered by the monitor's page, and who is not: this machine's own browser, and nobody's page but its own."""

import json
import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np
import pytest

from episodes.errors import InputError
from robot.contract import CameraTopic
from robot.monitor.serving import HEARD, LONGEST_BODY, TOKEN, Server, Site
from robot.monitor.views import Views
from robot.monitor.watch import Watch
from robot.reports import EpisodeState
from tests.pages import Page
from tests.robot.contracts import SECOND, contract, make

CAMERA = {"name": "eye", "topic": "eye/image", "height": 8, "width": 8, "rate": 10, "max_age": 0.1}


def read(data: bytes, kind: str) -> Any:
    """A grey picture as bright as what came says."""
    message = make(kind)
    message.height, message.width, message.encoding, message.step = 8, 8, "mono8", 8
    message.data = np.full(64 if data[0] else 3, data[0], np.uint8)
    return message


class Served:
    """A page that is served, and what it was asked for."""

    def __init__(self, server: Server):
        self.server = server
        self.stops = 0
        self.began = time.monotonic_ns()
        self.watch = Watch(contract(cameras=[CAMERA], task="</script><b>hold</b>"), self.began)
        self.views = Views([CameraTopic(**CAMERA)], read)
        self.site = Site(self.watch, self.views, self.stop, "left")
        self.port: int = server.server_address[1]
        server.begin(self.site)

    def stop(self) -> None:
        self.stops += 1

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """`Host` is what a browser says, unless another one is given."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host=True)
        for name, value in ({"Host": f"127.0.0.1:{self.port}"} | named).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found


@pytest.fixture
def served() -> Iterator[Served]:
    server = Server(0)
    yield Served(server)
    server.end()


def test_the_page_stands_alone_and_nothing_from_outside_may_run_in_it(served: Served) -> None:
    status, headers, content = served.ask("GET", "/")
    page = Page(content.decode())
    assert status == 200
    assert page.open == []
    assert page.links == []
    assert {"link", "iframe", "object", "embed", "base"}.isdisjoint(page.tags)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert re.search(r"script-src 'sha256-[^ ]+';", policy)
    assert not any("http" in part for part in policy.split())
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert b"<b>hold" not in content, "what a contract says is text"


def test_it_listens_on_this_machines_own_address_alone(served: Served) -> None:
    assert served.server.server_address[0] == "127.0.0.1"
    assert served.server.url == f"http://127.0.0.1:{served.port}/"
    # Another address of the same machine's loopback: a server on all addresses would answer.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", served.port), timeout=5)


def test_a_port_that_is_taken_is_refused_in_one_line(served: Served) -> None:
    with pytest.raises(InputError, match=rf"^port {served.port} is taken; give another one: --port, 0 for any"):
        Server(served.port)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:1", "", "127.0.0.2"]
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/state"), ("POST", "/stop")])
def test_a_name_that_somebody_made_lead_here_is_refused(served: Served, method: str, path: str, host: str) -> None:
    headers = {"Host": host, TOKEN.replace("-", "_"): served.site.token}
    status, _, content = served.ask(method, path, **headers)
    assert status == 403
    assert served.site.token.encode() not in content
    assert served.stops == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:9000"])
def test_a_port_that_is_forwarded_is_answered(served: Served, host: str) -> None:
    assert served.ask("GET", "/state", Host=host)[0] == 200


def test_a_stop_needs_the_pages_own_token_and_no_foreign_page(served: Served) -> None:
    token = {TOKEN.replace("-", "_"): served.site.token}
    own = f"http://127.0.0.1:{served.port}"
    for headers in (
        {},
        {TOKEN.replace("-", "_"): "x" + served.site.token[1:]},
        {TOKEN.replace("-", "_"): "ü"},
        {"Origin": own},
        token | {"Origin": "http://evil.example"},
        token | {"Origin": "null"},
        token | {"Origin": f"http://127.0.0.1:{served.port + 1}"},
        token | {"Origin": own.replace("http", "https")},
    ):
        status, _, content = served.ask("POST", "/stop", **headers)
        assert (status, served.stops) == (403, 0), headers
        assert content.startswith(b"refused")
    assert served.ask("GET", "/stop", **token)[0] == 404, "a picture's address stops nothing"
    assert served.ask("POST", "/stop", **token, Content_Length=str(LONGEST_BODY + 1))[0] == 400
    assert served.ask("POST", "/stop", **token, Content_Length="many")[0] == 400
    assert served.stops == 0
    assert served.ask("POST", "/stop", **token, Origin=own)[0] == 202
    assert served.ask("POST", "/stop", **token)[0] == 202
    assert served.stops == 2


def test_the_token_is_in_the_page_and_nowhere_else(served: Served) -> None:
    assert served.site.token.encode() in served.ask("GET", "/")[2]
    assert served.site.token.encode() not in served.ask("GET", "/state")[2]
    assert Site(served.watch, served.views, served.stop).token != served.site.token


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/../pyproject.toml", 404),
        ("GET", "/camera/other.jpg", 404),
        ("GET", "/camera/..%2f..%2fx.jpg", 404),
        ("POST", "/", 404),
        ("GET", "/state?since=soon", 400),
        ("GET", "/state?since=nan", 400),
        ("GET", "/state?episode=inf", 400),
        ("DELETE", "/", 501),
    ],
)
def test_what_is_not_there_is_said(served: Served, method: str, path: str, status: int) -> None:
    assert served.ask(method, path)[0] == status


def test_the_state_is_the_watchs_and_what_it_is_asked_for(served: Served) -> None:
    for number in range(3):
        served.watch.on_episode(EpisodeState(f"e-{number}", True, number + 1), time.monotonic_ns())
    status, headers, content = served.ask("GET", "/state?since=0.5&episode=2")
    told = json.loads(content)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert [one["number"] for one in told["episodes"]] == [2, 3]
    assert told["server"] == served.site.server
    assert told["cameras"] == [{"name": "eye", "number": 0, "age": None}]


def test_a_picture_comes_with_when_it_came(served: Served) -> None:
    path = "/camera/eye.jpg"
    status, _, content = served.ask("GET", path)
    assert (status, content) == (503, b"no picture has come yet\n")
    served.views.views["eye"].take(bytes([200]), served.began + 2 * SECOND)
    status, headers, content = served.ask("GET", path)
    assert (status, headers["Content-Type"], content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert headers[HEARD] == "2.0"
    served.views.views["eye"].take(bytes([0]), served.began + 3 * SECOND)
    time.sleep(0.12)
    status, _, content = served.ask("GET", path)
    assert status == 503
    assert b"cut short" in content


def test_one_connection_carries_many_questions_until_the_end(served: Served) -> None:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/state")
        assert connection.getresponse().read()
    taken = connection.sock
    connection.request("GET", "/state")
    assert connection.getresponse().read()
    assert connection.sock is taken
    served.server.end()
    with pytest.raises((ConnectionError, HTTPException)):
        connection.request("GET", "/state")
        connection.getresponse()
    connection.close()
