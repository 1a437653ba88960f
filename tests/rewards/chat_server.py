"""An endpoint on this machine that does what a test tells it, and remembers what it was asked."""

import base64
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """All text of the message."""
        return "\n".join(part["text"] for part in self._content if part["type"] == "text")

    @property
    def pictures(self) -> list[np.ndarray]:
        """All pictures of the message, RGB."""
        addresses = [part["image_url"]["url"] for part in self._content if part["type"] == "image_url"]
        coded = [base64.b64decode(address.removeprefix("data:image/png;base64,")) for address in addresses]
        decoded = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in coded]
        return [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in decoded if image is not None]

    @property
    def _content(self) -> list[dict[str, Any]]:
        return self.body["messages"][0]["content"]


@dataclass(frozen=True)
class Response:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """[s] before the first byte."""
    reset: bool = False
    """Break the connection off in the middle of the body."""


Behaviour = Callable[[Request], Response]


class ChatServer(ThreadingHTTPServer):
    """Serves until it is shut down, a thread for each connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behave: Behaviour):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave = behave
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._lock = threading.Lock()
        self._at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @contextmanager
    def counted(self, request: Request) -> Iterator[None]:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # A body would wait 40 ms for the headers to be acknowledged.
    server: ChatServer  # type: ignore[assignment]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(self.path, dict(self.headers.items()), body)
        with self.server.counted(request):
            response = self.server.behave(request)
            time.sleep(response.delay)
        try:
            self._send(response)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # Whoever asked did not wait.

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in {"Content-Type": "application/json", **response.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body) + response.reset))
        self.end_headers()
        self.wfile.write(response.body)
        if response.reset:
            # Closing without lingering sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests' output is not the place."""


@contextmanager
def serving(behave: Behaviour) -> Iterator[ChatServer]:
    """A server that behaves like this, for the time of a `with`."""
    server = ChatServer(behave)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(text: str | None, finish: str = "stop", **changes: Any) -> Response:
    """A chat completion."""
    message = {"role": "assistant", "content": text, **changes.pop("message", {})}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    return Response(json.dumps(body).encode(), **changes)


def fails(status: int, message: str = "sorry", **headers: str) -> Response:
    """An error as OpenAI tells it; headers as `Retry_After="3"`."""
    body = json.dumps({"error": {"message": message, "type": "some_error"}}).encode()
    return Response(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def in_turn(*responses: Response | Behaviour) -> Behaviour:
    """One response after the other; the last one again and again."""
    left = list(responses)
    lock = threading.Lock()

    def behave(request: Request) -> Response:
        with lock:
            response = left.pop(0) if len(left) > 1 else left[0]
        return response if isinstance(response, Response) else response(request)

    return behave


def brightness(image: np.ndarray) -> int:
    return round(float(image.mean()))


def honest(request: Request) -> Response:
    """A model to which brighter is nearer to the goal, and white is success, whichever way it is asked."""
    shown = [brightness(picture) for picture in request.pictures]
    if not shown:
        # The second stage: it knows of the pictures only what the first said of them.
        described = next(line for line in request.text.splitlines() if line.startswith("Brightness: "))
        first, second = map(int, described.removeprefix("Brightness: ").split())
        return says(f"So of {first} and {second}, in 1 of 10 cases...\nANSWER: {_brighter(first, second)}")
    if "probability" in request.text:
        return says(json.dumps({"reasoning": "bright", "probability": shown[0] / 255}))
    if "response_format" in request.body:
        return says(json.dumps({"reasoning": "bright", "answer": _brighter(*shown)}))
    return says(f"Brightness: {shown[0]} {shown[1]}")


def _brighter(first: int, second: int) -> str:
    return "UNSURE" if first == second else "FIRST" if first > second else "SECOND"
