"""The page over HTTP, to this machine alone."""

import base64
import contextlib
import errno
import hashlib
import json
import math
import re
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from markupsafe import Markup

from episodes.errors import InputError
from episodes.page import render
from robot.monitor.layout import layout
from robot.monitor.views import Views
from robot.monitor.watch import Watch

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("told.js", "curves.js", "success.js", "panels.js", "stop.js", "begin.js")
ADDRESS = "127.0.0.1"
HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")
"""What a browser on this machine calls it, on whatever port: it may be forwarded by ssh. Any other name in a request is
somebody's who has made it lead here."""
TOKEN = "X-Firsthand-Token"  # noqa: S105
HEARD = "X-Heard"
"""Of a picture: when it came, on the page's clock [s]."""
LONGEST_BODY = 1024
IDLE = 20.0
"""For how long a connection is kept on which nobody asks anything [s]."""


class Site:
    """What is served: the page, what it asks for, and the stop.

    Args:
        stop: is called when somebody presses the button.
    """

    def __init__(self, watch: Watch, views: Views, stop: Callable[[], None], namespace: str = ""):
        self.watch, self.views, self.stop = watch, views, stop
        self.token = secrets.token_urlsafe(24)
        # Told to everybody who asks for the state, so it is not the token: a page of an earlier server finds out.
        self.server = secrets.token_hex(8)
        script = "\n".join((PAGE / name).read_text() for name in SCRIPTS)
        told = layout(watch.contract) | {"token": self.token, "server": self.server, "namespace": namespace}
        self.page = render(
            PAGE / "monitor.html.j2",
            name=watch.contract.name,
            namespace=namespace,
            cameras=watch.contract.cameras,
            script=Markup(script),  # noqa: S704 (our own file)
            layout=told,
        )
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        self.policy = (
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' blob:; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )

    def state(self, since: float, episode: int) -> dict[str, Any]:
        now = time.monotonic_ns()
        document = self.watch.document(now, since, episode)
        return document | {"server": self.server, "cameras": self.views.document(now)}


class Server(ThreadingHTTPServer):
    """Listens on this machine's own address from when it is made; answers within the block.

    Raises:
        InputError: where the port is taken or not ours to take.
    """

    daemon_threads = True
    site: Site

    def __init__(self, port: int):
        self._open: set[socket.socket] = set()
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"port {port} is taken; give another one: --port, 0 for any that is free") from None
            raise InputError(f"port {port}: {error.strerror or error}; give another one: --port") from None

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        # As HTTPServer does, but without asking a name server for this machine's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no news; anything else is a bug."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def begin(self, site: Site) -> None:
        """Answer, on a thread of its own, until `end`."""
        self.site = site
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Answer nobody any more, not even on the connections that are there."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _RefusalError(Exception):
    """A request that is not answered."""

    def __init__(self, status: HTTPStatus, why: str):
        self.status, self.why = status, why


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "firsthand", ""
    timeout = IDLE
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def _answered(self, answer: Callable[[str, dict[str, list[str]]], None]) -> None:
        try:
            self._check_host()
            parts = urlsplit(self.path)
            answer(unquote(parts.path), parse_qs(parts.query))
        except _RefusalError as refused:
            # What was sent with it has not been read: nothing else can follow on this connection.
            self.close_connection = True
            self._send(refused.status, "text/plain; charset=utf-8", f"{refused.why}\n".encode())

    def _get(self, path: str, query: dict[str, list[str]]) -> None:
        site = self.server.site
        if path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", site.page.encode())
        elif path == "/state":
            since, episode = self._number(query, "since"), self._number(query, "episode")
            self._send_json(HTTPStatus.OK, site.state(since, int(episode)))
        elif path.startswith("/camera/") and path.endswith(".jpg"):
            self._send_picture(path.removeprefix("/camera/").removesuffix(".jpg"))
        else:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self, path: str, query: dict[str, list[str]]) -> None:
        site = self.server.site
        if path != "/stop":
            raise _RefusalError(HTTPStatus.NOT_FOUND, "there is no such page")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise _RefusalError(HTTPStatus.FORBIDDEN, f"refused: {origin!r} is another site")
        if not secrets.compare_digest(self.headers.get(TOKEN, "").encode(), site.token.encode()):
            raise _RefusalError(HTTPStatus.FORBIDDEN, f"refused: without this page's {TOKEN}; load the page again")
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > LONGEST_BODY:
            raise _RefusalError(HTTPStatus.BAD_REQUEST, f"expected a body of at most {LONGEST_BODY} bytes")
        self.rfile.read(int(length))
        site.stop()
        self._send_json(HTTPStatus.ACCEPTED, {"asked": True})

    def _check_host(self) -> None:
        if not HOST.fullmatch(self.headers.get("Host", "")):
            raise _RefusalError(HTTPStatus.FORBIDDEN, f"refused: this page is at {self.server.url}")

    def _number(self, query: dict[str, list[str]], name: str) -> float:
        try:
            number = float(query.get(name, ["0"])[-1])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise _RefusalError(HTTPStatus.BAD_REQUEST, f"{name}: expected a number")
        return number

    def _send_picture(self, name: str) -> None:
        view = self.server.site.views.views.get(name)
        if view is None:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "there is no such camera")
        try:
            shown = view.show(time.monotonic_ns())
        except ValueError as error:
            raise _RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        if shown is None:
            raise _RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, "no picture has come yet")
        heard = self.server.site.watch.seconds(shown.heard)
        self._send(HTTPStatus.OK, "image/jpeg", shown.data, {HEARD: f"{heard}"})

    def _send_json(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
        self._send(status, "application/json", text.encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": self.server.site.policy,
            # Nobody else's page may show a picture of this one, either.
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in (headers | (more or {})).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """A request is no news."""
