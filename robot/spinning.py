"""A node that a program has beside what else it does: it hears in a thread of its own, and calls services."""

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from episodes.errors import InputError

APPEARING = 60.0
"""Longest time that nodes are waited for [s]; loading a policy takes a while on a slow machine."""
ANSWERING = 30.0
"""Longest time that a service may take [s]."""


NAME = r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*"
"""Of a namespace, or of a service in it."""


class RefusedError(InputError):
    """A service was asked, and said no."""


class SpinningNode:
    """A context manager, in a context of its own: it ends when this does, whatever else the process does with ROS 2.

    Args:
        name: of the node.
        namespace: of the robot's topics; empty for none.
        options: of `rclpy.node.Node`.

    Raises:
        InputError: for a namespace that is none.
    """

    node: Node

    def __init__(self, name: str, namespace: str = "", **options: Any):
        namespace = namespace.strip("/")
        if namespace and not re.fullmatch(NAME, namespace):
            raise InputError(f"namespace {namespace!r}: expected words of letters, digits and _, with / between them")
        self.namespace = f"/{namespace}" if namespace else ""
        self._name, self._options = name, options

    def __enter__(self) -> "SpinningNode":
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(self._name, namespace=self.namespace, context=self._context, **self._options)
        self._clients: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=self._name, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(timeout=2.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def call(
        self,
        service: str,
        request: Any = None,
        *,
        wait: float = APPEARING,
        timeout: float | None = ANSWERING,
        lost: Callable[[], bool] = lambda: False,
    ) -> str:
        """Call a Trigger (or, with a request, a SetBool); returns what it said.

        Args:
            wait: until somebody offers it [s].
            timeout: until it has answered [s]; None waits for as long as somebody offers it.
            lost: whether who was asked has gone, though another one may offer the service.

        Raises:
            InputError: where nobody offers the service, or nobody answers.
            RefusedError: where the answer is no.
        """
        if service not in self._clients:
            kind = Trigger if request is None else SetBool
            self._clients[service] = self.node.create_client(kind, service)
        client = self._clients[service]
        if not client.wait_for_service(timeout_sec=wait):
            raise InputError(f"nobody offers {service}; start the nodes: firsthand up sim|deploy ...")
        future = client.call_async(Trigger.Request() if request is None else request)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not done.wait(max(min(1.0, deadline - time.monotonic()), 0.0)):
            if time.monotonic() > deadline:
                raise InputError(f"{service} did not answer within {timeout:g} s")
            if lost() or not client.service_is_ready():
                raise InputError(f"{service} did not answer, and who was asked is gone")
        answer: Any = future.result()
        if not answer.success:
            raise RefusedError(f"{service}: {answer.message}")
        return answer.message

    def by_spinning(self, destroy: Callable[[Any], Any], entity: Any) -> Future:
        """Let the thread that spins destroy a part of the node: it would otherwise find half of it, and end."""
        return self._executor.create_task(destroy, entity)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
