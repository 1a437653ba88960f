"""Bringing the robot back to where an episode can begin: by a service, or by asking a person and waiting."""

from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from episodes.errors import InputError
from robot.contract import Reset
from robot.nodes.shell import LATCHED, Shell

REFUSED = "was not done"
"""Said where the robot's own service has refused: asked again at once it would only refuse again."""
GIVEN_UP = "given up"
"""Said where somebody did not want to wait any longer."""


class Resetting:
    """One reset at a time; it takes as long as it takes."""

    def __init__(self, node: Shell, reset: Reset, group: CallbackGroup):
        """`group`: of callbacks that may run while `reset` waits."""
        self._node, self._how = node, reset
        self._waiting: Future[Any] | None = None
        self._calling: Any = None
        """The client of a service that is waited for; None where none is, as while a person is."""
        self._client = self._between = None
        if reset.service is not None:
            self._client = node.create_client(Trigger, reset.service, callback_group=group)
        if reset.between is not None:
            self._between = node.create_client(Trigger, reset.between, callback_group=group)
        self._asks = node.create_publisher(String, "recorder/asks", LATCHED)

    @property
    def asks(self) -> str:
        """What a person is asked for; empty where nobody is."""
        return self._how.hands if self._waiting is not None and self._calling is None else ""

    @property
    def under_way(self) -> bool:
        """Whether the robot is being brought back now."""
        return self._waiting is not None

    async def reset(self) -> str:
        """Reset; what was said when it was done.

        Raises:
            InputError: where it was not done.
        """
        if self._waiting is not None:
            raise InputError("a reset is under way already")
        if self._how.hands:
            self._node.get_logger().warn(f"please: {self._how.hands}; then call recorder/ready")
            self._asks.publish(self._node.say(self._how.hands))
            try:
                await self._for(Future(executor=self._node.executor))
            finally:
                self._asks.publish(self._node.say(""))
            return "done by hand"
        if self._client is None:
            return "the contract names no reset"
        return await self._called(self._client)

    async def between(self) -> str:
        """Do what is done between two episodes without a reset; what was said when it was done.

        Raises:
            InputError: where it was not done.
        """
        if self._waiting is not None:
            raise InputError("a reset is under way")
        return "" if self._between is None else await self._called(self._between)

    async def _called(self, client: Any) -> str:
        if not client.service_is_ready():
            raise InputError(f"nobody offers {client.srv_name}")
        self._calling = client
        try:
            answer = await self._for(client.call_async(Trigger.Request()))
        finally:
            self._calling = None
        if not answer.success:
            raise InputError(f"{client.srv_name} {REFUSED}: {answer.message}")
        return answer.message

    async def _for(self, future: Future[Any]) -> Any:
        self._waiting = future
        try:
            return await future
        finally:
            self._waiting = None

    def ready(self) -> bool:
        """A person has done it. Whether one was asked to."""
        if not self.asks or self._waiting is None or self._waiting.done():
            return False
        self._waiting.set_result(None)
        return True

    def cancel(self, why: str) -> None:
        """Wait no longer."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(InputError(why))

    def look(self) -> None:
        """Give up where nobody is there any more who could answer; to be called now and then."""
        if self._calling is not None and not self._calling.service_is_ready():
            self.cancel(f"{self._calling.srv_name}: who offered it is gone")
