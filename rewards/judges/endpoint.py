"""One request to an OpenAI-compatible endpoint: tried again where that helps, and the key in nobody's hands."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import httpx2
from pydantic import Field

from episodes.errors import InputError
from episodes.typed import STRICT
from rewards.judges import access

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

LONGEST_BACKOFF = 60.0
"""[s] between two tries, unless the endpoint asks for more."""
LONGEST_PAUSE = 600.0
"""[s] that an endpoint may ask for; where it wants more, a day's quota is used up and somebody has to decide."""
SHORTEST_SECRET = 8
"""Characters of a key that is worth hiding. Servers without keys are given words like `none`, which occur in texts."""

# What comes of reading JSON as something that it is not; too many opening brackets end in a RecursionError.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)

_FLAWS = {"length": "cut off at the longest reply that is allowed", "content_filter": "withheld by a filter"}


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    __pydantic_config__ = STRICT

    url: str
    """Up to and including the version: `http://127.0.0.1:8000/v1`."""
    model: str
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Evenly spaced; None is as many as the endpoint takes."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """[s] of one request, from connecting to the last byte."""
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    """Further tries of a request that failed for a reason that may pass."""
    key_variable: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; null where the endpoint needs none."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said."""

    text: str
    flaw: str = ""
    """Why the text is not a whole answer: refused, cut off, withheld or empty."""


class TurnedDownError(Exception):
    """The endpoint takes requests, but not this one: too large, or against its rules. The text says why."""


class NoAnswerError(Exception):
    """Every try failed, each for a reason that might have passed. The text says the last one."""


class _TryAgainError(Exception):
    """This try failed and the next may not."""

    def __init__(self, reason: str, wait: float | None = None, *, everybody: bool = False):
        super().__init__(reason)
        self.wait = wait
        """[s] that the endpoint asked for, if it did."""
        self.everybody = everybody
        """Whether there are too many requests, and not only this one was unlucky."""


class Pace:
    """Lets requests through evenly spaced, and none while the endpoint wants to be left alone."""

    def __init__(self, per_minute: float | None, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep):
        self._interval = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._sleep = sleep
        self._opens = clock()

    async def turn(self) -> None:
        """Wait until the next request may be made."""
        # Who wakes first goes; the others find the gate closed again.
        while (wait := self._opens - self._clock()) > 0:
            await self._sleep(wait)
        self._opens = self._clock() + self._interval

    def pause(self, seconds: float) -> None:
        self._opens = max(self._opens, self._clock() + seconds)


class Endpoint:
    """Where a model is asked.

    Raises:
        InputError: for a URL that cannot be used, or a key that is missing or cannot be sent.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ):
        parts = access.parts_of(config.url)
        self.config = config
        self.place = parts.netloc + parts.path
        """Host and path."""
        self._url = f"{parts.scheme}://{self.place}"
        self._local = access.is_local(parts.hostname or "")
        self._key = access.key_for(parts, config.key_variable)
        self._pace = Pace(config.requests_per_minute, clock, sleep)
        self._sleep = sleep
        self._jitter = jitter
        self._heard = False

    def client(self, connections: int) -> httpx2.AsyncClient:
        """What `ask` sends through; to be closed by the caller."""
        return httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=None,  # `_once` times the whole request; these would start anew with every byte.
            limits=httpx2.Limits(max_connections=connections),
            trust_env=not self._local,  # To a proxy, 127.0.0.1 is another machine.
        )

    async def ask(self, client: httpx2.AsyncClient, body: dict[str, Any], pay: Callable[[], None]) -> Reply:
        """The model's reply.

        Args:
            body: of the request, without the model.
            pay: called before every request that is made; what it raises ends the asking.

        Raises:
            TurnedDownError: this request is not wanted.
            NoAnswerError: no try succeeded.
            InputError: no request will succeed before somebody does something about it.
        """
        for attempt in range(self.config.retries + 1):
            await self._pace.turn()
            pay()
            try:
                return await self._once(client, body)
            except _TryAgainError as trouble:
                if attempt == self.config.retries:
                    raise NoAnswerError(f"{trouble} (tries: {attempt + 1})") from None
                await self._back_off(attempt, trouble)
        raise AssertionError("the last try returns or raises")

    async def _back_off(self, attempt: int, trouble: _TryAgainError) -> None:
        """Exponentially longer, and with jitter, so that those who failed together do not come back together."""
        wait = trouble.wait
        if wait is None:
            wait = min(2.0**attempt, LONGEST_BACKOFF) * (1 + self._jitter()) / 2
        if trouble.everybody:
            self._pace.pause(wait)
        else:
            await self._sleep(wait)

    async def _once(self, client: httpx2.AsyncClient, body: dict[str, Any]) -> Reply:
        try:
            async with asyncio.timeout(self.config.timeout):
                response = await client.post(f"{self._url}/chat/completions", json={"model": self.config.model, **body})
        except TimeoutError:
            raise _TryAgainError(f"no answer within {self.config.timeout:g} s") from None
        except httpx2.ConnectError as error:
            reason = f"cannot be reached ({self._clean(str(error))})"
            if self._heard:
                raise _TryAgainError(reason) from None
            raise InputError(f"{self._url}: {reason}; see whether the url is right and the endpoint is up") from None
        except httpx2.RequestError as error:
            raise _TryAgainError(f"the connection broke ({self._clean(str(error)) or type(error).__name__})") from None
        self._heard = True
        return self._read(response)

    def _read(self, response: httpx2.Response) -> Reply:
        """The reply in a response, or what its status means."""
        status = response.status_code
        if status == 200:
            return self._reply(response)
        said = f"{status}: {self._said(response)}"
        # Gemini answers 400 to a wrong key, and marks it with this word in the error's details.
        if status in (401, 403) or (status == 400 and "API_KEY_INVALID" in response.text):
            # Without what the endpoint says: some quote a part of the key.
            name = self.config.key_variable
            do = f"see whether the key in {name} is right" if self._key else f"put its key into {name or 'a variable'}"
            raise InputError(f"{self._url}: gives no access to {self.config.model!r} ({status}); {do}")
        if status in (400, 413, 422):
            raise TurnedDownError(said)
        if status in (408, 425, 429) or status >= 500:
            raise _TryAgainError(said, self._asked_wait(response), everybody=status in (429, 503))
        if status == 404:
            do = f"see whether the url ends like .../v1 and there is a model {self.config.model!r}"
            raise InputError(f"{self._url}: not found ({said}); {do}")
        raise InputError(f"{self._url}: does not take requests ({said})")

    def _reply(self, response: httpx2.Response) -> Reply:
        try:
            choice = json.loads(response.text)["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            refusal, text = message.get("refusal"), _text(message.get("content"))
        except MALFORMED:
            kind = self._clean(response.headers.get("content-type", "no content type"))
            raise _TryAgainError(f"the answer is no chat completion but {kind}: {self._said(response)}") from None
        if refusal:
            return Reply(self._clean(str(refusal)), "refused")
        flaw = _FLAWS.get(str(finish), "") or ("" if text.strip() else "empty")
        return Reply(self._clean(text), flaw)

    def _asked_wait(self, response: httpx2.Response) -> float | None:
        wait = retry_after(response.headers.get("retry-after", ""), datetime.now(UTC))
        if wait is not None and wait > LONGEST_PAUSE:
            raise InputError(
                f"{self._url}: wants no request for {wait:.0f} s ({response.status_code}: {self._said(response)}); "
                "run the same command again then"
            )
        return wait

    def _said(self, response: httpx2.Response) -> str:
        """The beginning of what an endpoint says of an error, in one line."""
        if response.has_redirect_location:
            return self._clean(f"moved to {response.headers['location']}; give that url")
        try:
            found = json.loads(response.text)
            error = (found[0] if isinstance(found, list) else found)["error"]
            whole = error["message"] if isinstance(error, dict) else error
        except MALFORMED:
            whole = response.text
        # Cleaned first: a key that is cut in half would not be found any more.
        return " ".join(self._clean(str(whole)).split())[:200]

    def _clean(self, text: str) -> str:
        """Without the key, should somebody echo it, and without halves of characters, which no file takes."""
        if len(self._key) >= SHORTEST_SECRET:
            text = text.replace(self._key, "[key]")
        return text.encode("utf-8", "replace").decode("utf-8")


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header, which gives them or a date; None where it gives neither."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    # `nan` is a float, too.
    return max(seconds, 0.0) if seconds == seconds else None


def _text(content: object) -> str:
    """A message's text, which is a string, nothing, or parts of which some are text."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TypeError(f"content is {type(content).__name__}")
    return "".join(part["text"] for part in content if part["type"] == "text")
