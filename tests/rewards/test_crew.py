import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from episodes.errors import InputError
from rewards.judges.crew import IN_A_ROW, Ask, Budget, Crew, Question
from rewards.judges.endpoint import TurnedDownError
from tests.rewards.chat_server import ChatServer, Request, Response, fails, says, serving
from tests.rewards.test_endpoint import endpoint_at

BROKEN = "broken"
UNWANTED = "unwanted"


def echo(request: Request) -> Response:
    """Says what it is asked, but for two kinds of question that come to nothing."""
    if request.text.startswith(BROKEN):
        return fails(500, "out of memory")
    return fails(400, "indecent") if request.text.startswith(UNWANTED) else says(request.text)


async def put(texts: tuple[str, ...], ask: Ask) -> str:
    """Ask for each text; the replies one after the other."""
    replies = [await ask({"messages": [{"content": [{"type": "text", "text": text}]}]}) for text in texts]
    return " ".join(reply.text for reply in replies)


def questions(*texts: str, stages: int = 1) -> list[Question[str]]:
    return [partial(put, (text,) * stages) for text in texts]


def crew_at(server: ChatServer, concurrency: int = 1, budget: int | None = None, retries: int = 0) -> Crew:
    return Crew(endpoint_at(server.url, retries=retries), concurrency, Budget(budget))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(echo) as server:
        yield server


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "asking"]


class Gate:
    """Lets no request through before so many have come, or somebody opens it."""

    def __init__(self, requests: int):
        self._requests, self._come = requests, 0
        self._changed, self._open = threading.Condition(), False

    def __call__(self, request: Request) -> Response:
        with self._changed:
            self._come += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open or self._come >= self._requests, 30.0)
        return says(request.text)

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()


def test_every_question_gets_its_own_answer_and_is_put_once(server: ChatServer):
    texts = [f"number {number}" for number in range(50)]
    answers = list(crew_at(server, concurrency=8).answers(questions(*texts), 1))
    assert sorted(answers) == list(enumerate(texts))
    assert len(server.requests) == 50


def test_no_question_needs_no_endpoint(server: ChatServer):
    assert list(crew_at(server).answers([], 1)) == []


@pytest.mark.parametrize("concurrency", [1, 3, 40])
def test_as_many_requests_as_allowed_are_in_flight(concurrency: int):
    allowed = min(concurrency, 12)
    with serving(Gate(allowed)) as server:
        assert len(list(crew_at(server, concurrency).answers(questions(*"abcdefghijkl"), 1))) == 12
        assert server.most_at_once == allowed


def test_whoever_has_a_running_event_loop_can_ask(server: ChatServer):
    async def notebook() -> list[object]:
        return list(crew_at(server).answers(questions("a"), 1))

    assert asyncio.run(notebook()) == [(0, "a")]


def test_answers_come_before_the_last_question_is_put():
    gate = Gate(10)
    with serving(lambda request: says("a") if request.text == "a" else gate(request)) as server:
        answers = crew_at(server).answers(questions(*"abcdefghij"), 1)
        assert next(answers) == (0, "a")
        assert len(server.requests) <= 3
        gate.open()
        assert len(list(answers)) == 9


def test_closing_early_cancels_what_is_in_flight_and_asks_nothing_more():
    with serving(lambda request: says(request.text, delay=0 if request.text == "a" else 20.0)) as server:
        answers = crew_at(server, concurrency=4).answers(questions(*"abcdefghij"), 1)
        assert next(answers) == (0, "a")
        begun = time.monotonic()
        answers.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begun < 10.0, "nobody waits for the others"
        time.sleep(0.1)
        assert len(server.requests) <= 5


def test_an_interrupt_goes_through_to_the_caller(server: ChatServer):
    answers = crew_at(server).answers(questions(*"abcdefghij"), 1)
    next(answers)
    with pytest.raises(KeyboardInterrupt):
        answers.throw(KeyboardInterrupt)  # type: ignore[attr-defined]


def test_a_fault_of_a_question_is_shown_as_it_is(server: ChatServer):
    async def faulty(ask: Ask) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(crew_at(server).answers([faulty], 1))


@pytest.mark.parametrize("concurrency", [1, 3, 8])
@pytest.mark.parametrize("budget", [2, 7, 12])
@pytest.mark.parametrize("stages", [1, 2])
def test_the_budget_is_never_exceeded_and_whole_questions_are_made_of_it(budget: int, concurrency: int, stages: int):
    with serving(echo) as server:
        crew = crew_at(server, concurrency, budget)
        asked = questions(*"abcdefghijklmnopqrst", stages=stages)
        answers = []
        with pytest.raises(InputError) as caught:
            answers += crew.answers(asked, stages)  # `+=` keeps what came before the error.
        assert len(server.requests) == budget // stages * stages
        assert len(answers) == budget // stages
    assert str(caught.value) == (
        f"the budget of {budget} requests is spent (a question takes {stages}): {budget // stages} of 20 questions of "
        "this part are answered; run the same command again to go on with the rest"
    )


def test_retries_are_paid_for():
    lock = threading.Lock()
    seen: set[str] = set()

    def first_time_fails(request: Request) -> Response:
        with lock:
            known = request.text in seen
            seen.add(request.text)
        return says(request.text) if known else fails(500)

    with serving(first_time_fails) as server:
        answers = []
        with pytest.raises(InputError, match="budget of 9 requests is spent"):
            answers += crew_at(server, concurrency=3, budget=9, retries=3).answers(questions(*"abcdefghij"), 1)
        assert len(server.requests) == 9
        assert len(answers) >= 3


def test_the_budget_spans_all_calls_and_gets_back_what_a_question_did_not_need(server: ChatServer):
    crew = crew_at(server, budget=6)
    # Each sets two requests aside and makes one.
    assert len(list(crew.answers(questions("a", "b", "c"), 2))) == 3
    assert len(list(crew.answers(questions("d"), 2))) == 1
    with pytest.raises(InputError, match="0 of 1"):
        list(crew.answers(questions("e", stages=3), 3))


def test_an_endpoint_that_is_down_ends_the_asking_and_what_was_answered_before_is_handed_out(server: ChatServer):
    answers = []
    with pytest.raises(
        InputError, match=rf"{IN_A_ROW} questions in a row got no answer \(the last: 500: out of memory"
    ):
        answers += crew_at(server).answers(questions("a", "b", *[BROKEN] * 10, "c"), 1)
    assert answers == [(0, "a"), (1, "b")]
    assert len(server.requests) == 2 + IN_A_ROW


def test_failures_are_counted_from_call_to_call(server: ChatServer):
    crew = crew_at(server)
    assert list(crew.answers(questions(*[BROKEN] * (IN_A_ROW - 1)), 1)) == []
    with pytest.raises(InputError, match="in a row"):
        list(crew.answers(questions(BROKEN), 1))


def test_a_question_that_fails_while_others_do_not_is_left_out_with_a_warning(
    server: ChatServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    asked = questions(*(["a", BROKEN] * IN_A_ROW))
    assert [position for position, _ in crew_at(server).answers(asked, 1)] == list(range(0, 10, 2))
    assert "no answer to 5 of 10 questions (the last: 500: out of memory (tries: 1))" in caplog.text


def test_a_question_that_is_turned_down_has_that_as_its_answer(server: ChatServer):
    answers = dict(crew_at(server).answers(questions(UNWANTED, "a", *[UNWANTED] * 7, "b"), 1))
    assert sorted(answers) == list(range(10))
    assert (answers[1], answers[9]) == ("a", "b")
    assert all(isinstance(answers[i], TurnedDownError) for i in (0, 2, 3, 4, 5, 6, 7, 8))


def test_where_all_first_questions_are_turned_down_the_settings_are_blamed_and_no_question(server: ChatServer):
    answers = []
    with pytest.raises(InputError, match=f"turned down each of the first {IN_A_ROW} questions \\(400: indecent\\)"):
        answers += crew_at(server).answers(questions(*[UNWANTED] * 10), 1)
    assert answers == []
    assert len(server.requests) == IN_A_ROW


def test_few_questions_that_are_all_turned_down_are_answers_after_all(server: ChatServer):
    assert [position for position, _ in crew_at(server).answers(questions(UNWANTED, UNWANTED), 1)] == [0, 1]
