import asyncio
import json
import logging
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from rewards.judges.endpoint import (
    LONGEST_BACKOFF,
    Endpoint,
    EndpointConfig,
    NoAnswerError,
    Pace,
    Reply,
    TurnedDownError,
    retry_after,
)
from tests.rewards.chat_server import Behaviour, Request, Response, fails, in_turn, says, serving

KEY = "sk-secret-0123456789"
NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
HTML = Response(b"<html><body>Please sign in</body></html>", headers={"Content-Type": "text/html"})
HALF = Response(says("fine").body[:40])
RESET = Response(says("fine").body, reset=True)
DEEP = Response(b"[" * 100_000)


class FakeTime:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def endpoint_at(url: str, time: FakeTime | None = None, **settings: Any) -> Endpoint:
    time = time or FakeTime()
    return Endpoint(
        EndpointConfig(url=url, model="eye-1", **settings), clock=time, sleep=time.sleep, jitter=lambda: 1.0
    )


def ask(endpoint: Endpoint, times: int = 1) -> Reply:
    """One question after the other through one client; the last one's reply."""

    async def go() -> Reply:
        reply = Reply("nobody was asked")
        async with endpoint.client(1) as client:
            for _ in range(times):
                reply = await endpoint.ask(client, {"messages": [], "temperature": 0.0}, lambda: None)
        return reply

    return asyncio.run(go())


def ask_server(behave: Behaviour, time: FakeTime | None = None, **settings: Any) -> tuple[Reply, list[Request]]:
    with serving(behave) as server:
        return ask(endpoint_at(server.url, time, **settings)), server.requests


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return KEY


@pytest.fixture(autouse=True)
def no_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_request_says_which_model_and_what_and_carries_the_key(key: str):
    reply, requests = ask_server(lambda _: says("fine"))
    assert reply == Reply("fine")
    assert [(request.path, request.body) for request in requests] == [
        ("/v1/chat/completions", {"model": "eye-1", "messages": [], "temperature": 0.0})
    ]
    assert requests[0].headers["Authorization"] == f"Bearer {key}"


def test_an_endpoint_on_this_machine_needs_no_key():
    reply, requests = ask_server(lambda _: says("fine"))
    assert reply == Reply("fine")
    assert "Authorization" not in requests[0].headers


@pytest.mark.parametrize(
    "trouble",
    [*(fails(status) for status in (408, 425, 429, 500, 502, 503, 504, 529)), HTML, HALF, RESET, DEEP],
    ids=["408", "425", "429", "500", "502", "503", "504", "529", "html", "half", "reset", "deep"],
)
def test_what_may_pass_is_tried_again(trouble: Response):
    reply, requests = ask_server(in_turn(trouble, trouble, says("fine")))
    assert reply == Reply("fine")
    assert len(requests) == 3


def test_a_request_that_takes_too_long_is_given_up_and_made_again():
    reply, requests = ask_server(in_turn(says("late", delay=3.0), says("fine")), timeout=1.0)
    assert reply == Reply("fine")
    assert len(requests) == 2


def test_waits_grow_twofold_until_the_tries_are_used_up():
    time = FakeTime()
    with serving(lambda _: fails(500, "out of memory")) as server:
        with pytest.raises(NoAnswerError, match=r"500: out of memory \(tries: 9\)"):
            ask(endpoint_at(server.url, time, retries=8))
        assert len(server.requests) == 9
    assert time.naps == [1, 2, 4, 8, 16, 32, LONGEST_BACKOFF, LONGEST_BACKOFF]


def test_waits_are_shortened_by_chance_to_half_at_most():
    time = FakeTime()
    endpoint = Endpoint(
        EndpointConfig("http://127.0.0.1:1/v1", "eye-1"), clock=time, sleep=time.sleep, jitter=lambda: 0
    )
    with serving(in_turn(fails(500), says("fine"))) as server:
        endpoint._url = server.url
        ask(endpoint)
    assert time.naps == [0.5]


@pytest.mark.parametrize("status", [429, 503])
def test_the_endpoint_is_left_alone_for_as_long_as_it_asks(status: int):
    time = FakeTime()
    reply, _ = ask_server(in_turn(fails(status, Retry_After="7"), says("fine")), time)
    assert reply == Reply("fine")
    assert time.naps == [7]


def test_a_date_until_which_to_wait_is_understood():
    time = FakeTime()
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    ask_server(in_turn(fails(429, Retry_After=until), says("fine")), time)
    assert 90 < time.now <= 100


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_not_wanted_is_made_once_and_the_reason_told(status: int):
    with serving(lambda _: fails(status, "too many pixels")) as server:
        with pytest.raises(TurnedDownError, match=f"^{status}: too many pixels$"):
            ask(endpoint_at(server.url))
        assert len(server.requests) == 1


WRONG_KEY = {"error": {"code": 400, "message": "not valid", "details": [{"reason": "API_KEY_INVALID"}]}}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (fails(401), "gives no access to 'eye-1' (401); see whether the key in OPENAI_API_KEY is right"),
        (fails(403), "gives no access to 'eye-1' (403)"),
        (Response(json.dumps([WRONG_KEY]).encode(), 400), "see whether the key in OPENAI_API_KEY is right"),
        (
            fails(404, "no such model"),
            "no such model); see whether the url ends like .../v1 and there is a model 'eye-1'",
        ),
        (fails(405, "use GET"), "does not take requests (405: use GET)"),
        (fails(301, Location="https://elsewhere/v1"), "(301: moved to https://elsewhere/v1; give that url)"),
        (fails(429, "daily quota", Retry_After="86400"), "wants no request for 86400 s (429: daily quota)"),
    ],
    ids=["401", "403", "gemini", "404", "405", "moved", "quota"],
)
def test_what_somebody_has_to_do_something_about_is_said_in_one_line_after_one_request(
    response: Response, expected: str, key: str
):
    with serving(lambda _: response) as server:
        with pytest.raises(InputError) as caught:
            ask(endpoint_at(server.url))
        assert len(server.requests) == 1
        assert str(caught.value).startswith(f"http://127.0.0.1:{server.server_port}/v1: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_no_key_is_set_and_one_is_wanted_the_variable_is_named():
    with pytest.raises(InputError, match=r"\(401\); put its key into OPENAI_API_KEY"):
        ask_server(lambda _: fails(401))


def test_an_endpoint_that_is_not_there_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        time = FakeTime()
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(
            InputError, match=r"cannot be reached .* see whether the url is right and the endpoint is up"
        ):
            ask(endpoint_at(url, time))
    assert time.naps == []


def test_an_endpoint_that_goes_away_for_a_while_is_waited_for():
    time = FakeTime()
    with serving(lambda _: says("fine")) as server:
        endpoint = endpoint_at(server.url, time, retries=2)
        ask(endpoint)
    with pytest.raises(NoAnswerError, match=r"cannot be reached .*\(tries: 3\)"):
        ask(endpoint)
    assert time.naps == [1, 2]


@pytest.mark.parametrize(
    ("response", "reply"),
    [
        (says(None, message={"refusal": "I do not look at robots."}), Reply("I do not look at robots.", "refused")),
        (says("ANSWER: FI", "length"), Reply("ANSWER: FI", "cut off at the longest reply that is allowed")),
        (says("", "content_filter"), Reply("", "withheld by a filter")),
        (says(None), Reply("", "empty")),
        (says(" \n"), Reply(" \n", "empty")),
        (says("half a \ud83d"), Reply("half a ?")),
        (says("long " * 200_000), Reply("long " * 200_000)),
        (says([{"type": "thinking"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Reply("ab")),  # type: ignore[arg-type]
        (Response(says("fine").body, headers={"Content-Type": "text/plain"}), Reply("fine")),
    ],
    ids=["refusal", "length", "filter", "none", "blank", "surrogate", "long", "parts", "plain"],
)
def test_a_reply_is_the_whole_text_and_says_what_is_wrong_with_it(response: Response, reply: Reply):
    assert ask_server(lambda _: response)[0] == reply


def echo(status: int, **headers: str) -> Behaviour:
    return lambda request: fails(status, "you sent " + "x" * 165 + request.headers["Authorization"], **headers)


@pytest.mark.parametrize(
    "behave",
    [
        *(echo(status) for status in (400, 401, 403, 404, 405, 413, 429, 500)),
        echo(301, Location=f"https://elsewhere/{KEY}"),
        lambda request: Response(request.headers["Authorization"].encode(), headers={"Content-Type": KEY}),
        lambda _: Response(b'{"error": "' + "".join(f"\\u{ord(c):04x}" for c in KEY).encode() + b'"}', 500),
    ],
    ids=["400", "401", "403", "404", "405", "413", "429", "500", "301", "no-json", "escaped"],
)
def test_no_error_tells_the_key_not_even_if_the_endpoint_echoes_it(
    behave: Behaviour, key: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    with serving(behave) as server:
        endpoint = endpoint_at(server.url, retries=1)
        with pytest.raises((InputError, TurnedDownError, NoAnswerError)) as caught:
            ask(endpoint)
        assert server.requests[0].headers["Authorization"].endswith(key)
    # Not a half of it either.
    assert key[:12] not in f"{caught.value} {caught.value!r} {endpoint!r} {endpoint.config!r} {endpoint.place}"
    assert key not in "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("rewards"))
    assert key not in "\n".join(record.getMessage() for record in caplog.records if "request" in record.getMessage())


def test_a_reply_that_echoes_the_key_is_cleared_of_it(key: str):
    assert ask_server(lambda _: says(f"your key is {key}"))[0] == Reply("your key is [key]")


def test_a_word_for_no_key_is_left_in_what_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert ask_server(lambda _: says("none of them"))[0] == Reply("none of them")


def test_a_missing_key_is_said_before_anything_is_asked():
    with pytest.raises(InputError, match=r"api\.example\.com: needs a key; .* environment variable EYE_KEY"):
        endpoint_at("https://api.example.com/v1", key_variable="EYE_KEY")
    endpoint_at("https://api.example.com/v1", key_variable="")


@pytest.mark.parametrize("value", ["two words of it", "line\nbreak-in-it", "schlüssel-mit-ü"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with pytest.raises(InputError, match="holds characters that no key has") as caught:
        endpoint_at("https://api.example.com/v1")
    assert value not in str(caught.value)


def test_a_key_goes_without_encryption_only_to_machines_nearby(key: str):
    with pytest.raises(InputError, match=r"api\.example\.com: the key in OPENAI_API_KEY would be sent .* use https"):
        endpoint_at("http://api.example.com/v1")
    for near in ("127.0.0.1:8000", "localhost", "[::1]", "0.0.0.0:8000", "192.168.1.5", "gpu", "gpu.local"):
        endpoint_at(f"http://{near}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://host/v1",
        "https://",
        "http://[::1",
        "http://host:port/v1",
        "http://a\nb/v1",
        f"https://me:{KEY}@host/v1",
        f"https://host/v1?key={KEY}",
        f"https://host/v1#{KEY}",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str, key: str):
    with pytest.raises(InputError) as caught:
        endpoint_at(url)
    assert key not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("end", ["", "/", "/chat/completions"])
def test_the_place_is_host_and_path_however_the_url_ends(end: str):
    assert endpoint_at("http://localhost:8000/v1" + end).place == "localhost:8000/v1"


@given(st.text() | st.floats().map(str) | st.dates().map(str))
def test_no_retry_after_header_is_too_strange(value: str):
    wait = retry_after(value, NOW)
    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("12", 12),
        ("1.5", 1.5),
        ("-3", 0),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("Mon, 04 May 2026 12:00:30 GMT", 30),
        ("Mon, 04 May 2026 14:00:30 +0200", 30),
        ("Mon, 04 May 2026 11:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None):
    assert retry_after(value, NOW) == seconds


def turns(pace: Pace, time: FakeTime, count: int) -> list[float]:
    """When so many who wait together get their turns."""

    async def turn() -> float:
        await pace.turn()
        return time()

    async def go() -> list[float]:
        return sorted(await asyncio.gather(*(turn() for _ in range(count))))

    return asyncio.run(go())


def test_turns_are_as_far_apart_as_the_limit_says():
    time = FakeTime()
    at = turns(Pace(30, time, time.sleep), time, 5)
    assert at[0] == 0
    assert all(later - earlier >= 2 for earlier, later in pairwise(at))


def test_without_a_limit_nobody_waits():
    time = FakeTime()
    assert turns(Pace(None, time, time.sleep), time, 100) == [0.0] * 100


def test_nobody_gets_a_turn_in_a_pause_and_a_shorter_one_does_not_end_it():
    time = FakeTime()
    pace = Pace(60, time, time.sleep)
    pace.pause(10)
    pace.pause(3)
    at = turns(pace, time, 3)
    assert at[0] == 10
    assert all(later - earlier >= 1 for earlier, later in pairwise(at))
