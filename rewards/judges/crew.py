"""Many questions to an endpoint side by side, within a budget.

Requests are made by one event loop in one thread, not by a pool of threads: what is in flight can be cancelled,
so that an interrupt ends at once, and what is counted is counted in one place. The caller may have a loop of its own.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import httpx2

from episodes.errors import InputError
from rewards.judges.endpoint import Endpoint, NoAnswerError, Reply, TurnedDownError

R = TypeVar("R")
Ask = Callable[[dict[str, Any]], Awaitable[Reply]]
Question = Callable[[Ask], Awaitable[R]]
"""Asks as often as it has to, and makes an answer of the replies."""

IN_A_ROW = 5
"""Questions that come to nothing one after the other before the endpoint, not the question, is taken for the cause."""

_log = logging.getLogger(__name__)


class _SpentError(Exception):
    """The budget has no request left."""


class Budget:
    """How many requests may still be made; taken before they are made, so that it is never overdrawn."""

    def __init__(self, limit: int | None):
        self.limit = limit
        self._taken = 0

    def take(self, requests: int) -> bool:
        """Set requests aside: all of them, or none."""
        if self.limit is not None and self._taken + requests > self.limit:
            return False
        self._taken += requests
        return True

    def give_back(self, requests: int) -> None:
        self._taken -= requests


class _Purse:
    """What is set aside for one question."""

    def __init__(self, budget: Budget, requests: int):
        self._budget = budget
        self.left = requests

    def pay(self) -> None:
        """For one request: of what is set aside, or, after retries, of what nobody has set aside."""
        if self.left:
            self.left -= 1
        elif not self._budget.take(1):
            raise _SpentError


@dataclass
class _Work(Generic[R]):
    """The questions of one call, and how far they are."""

    questions: Sequence[Question[R]]
    out: "SimpleQueue[tuple[int, R | TurnedDownError] | None]"
    answered: int = 0
    doubtful: list[tuple[int, TurnedDownError]] = field(default_factory=list)
    """Turned down before the endpoint has answered anything: are they to blame, or is it how we ask?"""
    failed: list[str] = field(default_factory=list)
    """Reasons of questions that got no answer."""
    spent: bool = False

    def hand_out(self, position: int, answer: "R | TurnedDownError") -> None:
        self.answered += 1
        self.out.put((position, answer))

    def believe_doubtful(self) -> None:
        for position, reason in self.doubtful:
            self.hand_out(position, reason)
        self.doubtful.clear()


class Crew:
    """Puts questions to an endpoint. One call of `answers` at a time; the budget spans all of them."""

    def __init__(self, endpoint: Endpoint, concurrency: int, budget: Budget):
        self.endpoint = endpoint
        self.concurrency = concurrency
        self.budget = budget
        self._has_answered = False
        self._failures_in_a_row = 0

    def answers(
        self, questions: Sequence[Question[R]], requests_each: int
    ) -> Iterator[tuple[int, R | TurnedDownError]]:
        """Positions and answers, as they come. What got none although the endpoint is up is left out, with a warning.

        Closing the iterator cancels what is in flight and leaves no thread behind.

        Args:
            requests_each: set aside in the budget before a question is begun, so that few are left half answered.

        Raises:
            InputError: the endpoint is down, gives no access or turns everything down, or the budget is spent. All that
                was answered has been handed out before.
        """
        if not questions:
            return
        work = _Work(questions, SimpleQueue())
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._put(work, requests_each))
        task.add_done_callback(lambda _: work.out.put(None))
        thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])), name="asking")
        thread.start()
        try:
            while (found := work.out.get()) is not None:
                yield found
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join()
            loop.close()
        task.result()

    async def _put(self, work: _Work[R], requests_each: int) -> None:
        """Put all questions, and say what became of those that were not answered."""
        todo = iter(enumerate(work.questions))
        hands = min(self.concurrency, len(work.questions))
        try:
            async with self.endpoint.client(hands) as client, asyncio.TaskGroup() as group:
                for _ in range(hands):
                    group.create_task(self._work_off(todo, client, work, requests_each))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        work.believe_doubtful()
        if work.spent:
            raise InputError(
                f"the budget of {self.budget.limit} requests is spent (a question takes {requests_each}): "
                f"{work.answered} of {len(work.questions)} questions of this part are answered; "
                "run the same command again to go on with the rest"
            )
        if work.failed:
            _log.warning(
                "%s: no answer to %d of %d questions (the last: %s); run the same command again to ask them again",
                self.endpoint.place,
                len(work.failed),
                len(work.questions),
                work.failed[-1],
            )

    async def _work_off(
        self,
        todo: Iterator[tuple[int, Question[R]]],
        client: httpx2.AsyncClient,
        work: _Work[R],
        requests_each: int,
    ) -> None:
        """Put one question after the other, until there are no more or the budget does not reach for the next."""
        for position, question in todo:
            if not self.budget.take(requests_each):
                work.spent = True
                return
            purse = _Purse(self.budget, requests_each)
            try:
                answer = await question(lambda body, purse=purse: self.endpoint.ask(client, body, purse.pay))
            except TurnedDownError as reason:
                self._turned_down(position, reason, work)
            except NoAnswerError as reason:
                self._failed(str(reason), work)
            except _SpentError:
                work.spent = True
            else:
                self._has_answered = True
                self._failures_in_a_row = 0
                work.believe_doubtful()
                work.hand_out(position, answer)
            finally:
                self.budget.give_back(purse.left)

    def _turned_down(self, position: int, reason: TurnedDownError, work: _Work[Any]) -> None:
        self._failures_in_a_row = 0
        if self._has_answered:
            work.hand_out(position, reason)
            return
        work.doubtful.append((position, reason))
        if len(work.doubtful) >= IN_A_ROW:
            raise InputError(
                f"{self.endpoint.place}: turned down each of the first {IN_A_ROW} questions ({reason}); "
                "see whether the model takes pictures and these settings"
            )

    def _failed(self, reason: str, work: _Work[Any]) -> None:
        work.failed.append(reason)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= IN_A_ROW:
            raise InputError(
                f"{self.endpoint.place}: {IN_A_ROW} questions in a row got no answer (the last: {reason}); "
                "see whether the endpoint is up, and run the same command again to go on"
            )
