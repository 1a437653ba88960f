"""A judge that asks a vision-language model at an OpenAI-compatible endpoint (Gemini, GPT, vLLM, Ollama, llama.cpp).

The questions are those of RL-VLM-F (Wang et al., 2024) in words of our own: a first one with both pictures, about what
is in them and how they differ with respect to the goal; a second one without pictures, about which is nearer to it,
going by that description.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field

from episodes.errors import InputError
from episodes.typed import STRICT
from rewards.judge import Answer, Frame, Pair, Verdict
from rewards.judges.crew import Ask, Budget, Crew
from rewards.judges.endpoint import MALFORMED, Endpoint, EndpointConfig, Reply, TurnedDownError

INTRODUCTION = """A robot works towards this goal: {task}

Here is how it looks at {moments}."""

DESCRIBE = """Go only by what can be seen, in a few sentences each:
1. What is where at FIRST?
2. What is where at SECOND?
3. Which differences between the two matter for the goal, and for which of them does each one speak? If nothing that
matters differs, or it cannot be made out, say so.
The names say nothing about time: either may have come before the other."""

DECIDE = """A robot works towards this goal: {task}

Somebody who looked at two moments of its work, called FIRST and SECOND, wrote this:

{description}

Going by this description, at which of the two moments is the goal nearer to being reached? You may think about it in a
few sentences. Then end with a line of its own that is exactly one of these three, and write nothing after it:
ANSWER: FIRST
ANSWER: SECOND
ANSWER: UNSURE
The last one is for a description that shows no difference towards the goal, or leaves open which is nearer."""

COMPARE = """At which of the two moments is the goal nearer to being reached? Go only by what can be seen; the names say
nothing about time. Reply with nothing but a JSON object of two entries: "reasoning", what is where at each moment and
which differences matter for the goal, in a few sentences; and "answer", one of "FIRST", "SECOND" and "UNSURE", the
last one where no difference matters or it cannot be made out."""

SUCCEEDS = """How probable is it that at this moment the goal is reached, not only nearly? Go only by what can be seen.
Reply with nothing but a JSON object of two entries: "reasoning", what of the goal is fulfilled and what is not, in a
few sentences; and "probability", a number from 0 (certainly not reached) to 1 (certainly reached)."""

VERDICTS = {verdict.name: verdict for verdict in (Verdict.FIRST, Verdict.SECOND, Verdict.UNSURE)}

_ANSWER_LINE = re.compile(r"[\s*_#>`]*ANSWER[\s*_`]*:(.*)", re.IGNORECASE)
"""A line that gives an answer, whichever; models like to set it in bold."""
_CHOICE = re.compile(r"[\s*_`\"]*(FIRST|SECOND|UNSURE)[\s*_`\".]*", re.IGNORECASE)
"""The rest of such a line, where it is an answer that was asked for."""
_END_OF_THOUGHTS = "</think>"
"""Models that think aloud reply after it; what would be its beginning is often cut away with the prompt."""


@dataclass(frozen=True, slots=True)
class ChatConfig(EndpointConfig):
    __pydantic_config__ = STRICT

    stages: Literal[1, 2] = 2
    """2 describes first and decides then, by the description alone; 1 asks for both at once, at half the requests."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """None leaves it to the endpoint: some models take no other than their own."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of one reply; None leaves it to the endpoint. Models that think count their thoughts."""
    smallest_side: Annotated[int, Field(ge=0)] = 224
    """Pixels. Smaller pictures are enlarged by a whole factor: models see little in a tiny one. 0 enlarges none."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Questions that are put side by side."""
    budget: Annotated[int, Field(ge=1)] | None = None
    """Most requests that this judge makes, retries included; None is no limit."""


class ChatJudge:
    """Puts moments to a vision-language model. One call of `prefer` or `succeeds` at a time.

    An answer that cannot be read is not asked for again: at temperature 0 it would be the same. A question to which
    there was no answer at all, while there was one to others, is left out with a warning.

    Args:
        endpoint: instead of the one of the config, for tests.

    Raises:
        InputError: for a URL that cannot be used, a missing key, or a budget below one question.
    """

    name = "chat"
    symmetric = False

    def __init__(self, config: ChatConfig, endpoint: Endpoint | None = None):
        if config.budget is not None and config.budget < config.stages:
            raise InputError(f"a budget of {config.budget} does not reach for one question of {config.stages} requests")
        self.config = config
        self._endpoint = endpoint or Endpoint(config)
        self._crew = Crew(self._endpoint, config.concurrency, Budget(config.budget))
        decisive = ("model", "stages", "temperature", "max_tokens", "smallest_side")
        settings = {name: getattr(config, name) for name in decisive}
        self.identity = json.dumps({"endpoint": self._endpoint.place, "prompts": _prompts_hash(), **settings})

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        """See `Judge.prefer`; the rationale is all that the model said.

        Raises:
            InputError: there are no pictures, or as `Crew.answers`.
        """
        _check_pictures(frame for pair in pairs for frame in pair)
        compare = self._compare_in_two if self.config.stages == 2 else self._compare_at_once
        questions = [partial(compare, pair, task) for pair in pairs]
        for position, answer in self._crew.answers(questions, self.config.stages):
            yield position, _invalid("", f"turned down: {answer}") if isinstance(answer, TurnedDownError) else answer

    def succeeds(self, frames: Sequence[Frame], task: str) -> Iterator[tuple[int, float]]:
        """See `Judge.succeeds`.

        Raises:
            InputError: there are no pictures, or as `Crew.answers`.
        """
        _check_pictures(iter(frames))
        questions = [partial(self._succeeds, frame, task) for frame in frames]
        for position, answer in self._crew.answers(questions, 1):
            yield position, float("nan") if isinstance(answer, TurnedDownError) else answer

    def estimate(self, pairs: int, both_orders: bool) -> dict[str, float]:
        """What asking about so many pairs takes if nothing has to be tried again and nothing is known already."""
        orders = 2 if both_orders else 1
        requests_each = orders * self.config.stages
        found: dict[str, float] = {"requests": pairs * requests_each, "pictures_per_camera": pairs * orders * 2}
        if self.config.budget is not None:
            found["pairs_within_budget"] = min(pairs, self.config.budget // requests_each)
        if self.config.requests_per_minute:
            found["minutes_at_least"] = found["requests"] / self.config.requests_per_minute
        if self.config.max_tokens:
            found["reply_tokens_at_most"] = found["requests"] * self.config.max_tokens
        return found

    async def _compare_in_two(self, pair: Pair, task: str, ask: Ask) -> Answer:
        description = await ask(self._body(self._show_pair(pair, task, DESCRIBE)))
        if description.flaw:
            return _invalid(description.text, description.flaw)
        prompt = DECIDE.format(task=task, description=_after_thoughts(description.text))
        decision = await ask(self._body([_say(prompt)]))
        return _answer(decision, verdict_of_line, before=description.text + "\n\n")

    async def _compare_at_once(self, pair: Pair, task: str, ask: Ask) -> Answer:
        schema = {"reasoning": {"type": "string"}, "answer": {"type": "string", "enum": list(VERDICTS)}}
        return _answer(await ask(self._body(self._show_pair(pair, task, COMPARE), schema)), verdict_of_json)

    async def _succeeds(self, frame: Frame, task: str, ask: Ask) -> float:
        shown = [_say(INTRODUCTION.format(task=task, moments="one moment")), *self._show(frame.images, "")]
        schema = {"reasoning": {"type": "string"}, "probability": {"type": "number"}}
        reply = await ask(self._body([*shown, _say(SUCCEEDS)], schema))
        return float("nan") if reply.flaw else probability_of_json(reply.text)

    def _show_pair(self, pair: Pair, task: str, question: str) -> list[dict[str, Any]]:
        introduction = INTRODUCTION.format(task=task, moments="two moments, called FIRST and SECOND")
        first, second = (self._show(frame.images, name) for frame, name in zip(pair, ("FIRST", "SECOND"), strict=True))
        return [_say(introduction), *first, *second, _say(question)]

    def _show(self, images: Mapping[str, np.ndarray], moment: str) -> list[dict[str, Any]]:
        """All pictures of a moment, each under the name of the moment and the camera."""
        parts = []
        for camera, image in images.items():
            address = "data:image/png;base64," + base64.b64encode(png(image, self.config.smallest_side)).decode()
            parts += [
                _say(f"{moment}, camera {camera}:".removeprefix(", ")),
                {"type": "image_url", "image_url": {"url": address}},
            ]
        return parts

    def _body(self, content: list[dict[str, Any]], schema: dict[str, Any] | None = None) -> dict[str, Any]:
        """Of a request: one message, and what was set."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": content}]}
        if self.config.temperature is not None:
            body["temperature"] = self.config.temperature
        if self.config.max_tokens is not None:
            body["max_tokens"] = self.config.max_tokens
        if schema:
            whole = {"type": "object", "properties": schema, "required": list(schema), "additionalProperties": False}
            named = {"name": "answer", "strict": True, "schema": whole}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body


def png(image: np.ndarray, smallest_side: int) -> bytes:
    """A picture, shape (H, W, 3), uint8, enlarged to a shorter side of at least so many pixels.

    By a whole factor and without interpolation, so that a model sees the pixels that there are.
    """
    factor = max(-(-smallest_side // min(image.shape[:2])), 1)
    enlarged = image.repeat(factor, axis=0).repeat(factor, axis=1)
    return cv2.imencode(".png", cv2.cvtColor(enlarged, cv2.COLOR_RGB2BGR))[1].tobytes()


def verdict_of_line(text: str) -> Verdict:
    """The verdict of a reply that shall end with the line `ANSWER: FIRST`, `ANSWER: SECOND` or `ANSWER: UNSURE`.

    It is valid if the last line that is not empty is one of these, be it in lower case, in bold or with a full stop,
    and no other line that begins with `ANSWER:` says anything else. A reply that is nothing but one of the three words
    is valid, too. What stands anywhere else decides nothing.
    """
    reply = _after_thoughts(text)
    if reply in VERDICTS:
        return VERDICTS[reply]
    lines = [_ANSWER_LINE.fullmatch(line) for line in reply.splitlines()]
    choices = [_CHOICE.fullmatch(line[1]) for line in lines if line]
    names = {choice[1].upper() if choice else "" for choice in choices}
    # The last line is not empty: the reply is stripped.
    ends_with_answer = bool(lines) and lines[-1] is not None
    return VERDICTS.get(names.pop(), Verdict.INVALID) if ends_with_answer and len(names) == 1 else Verdict.INVALID


def verdict_of_json(text: str) -> Verdict:
    """The verdict of a reply that shall be a JSON object whose `answer` is FIRST, SECOND or UNSURE, exactly so."""
    answer = _entry(text, "answer")
    return VERDICTS.get(answer, Verdict.INVALID) if isinstance(answer, str) else Verdict.INVALID


def probability_of_json(text: str) -> float:
    """The probability of a reply that shall be a JSON object with a number in [0, 1] as `probability`; else NaN."""
    value = _entry(text, "probability")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    return float(value) if 0 <= value <= 1 else float("nan")


def _entry(text: str, name: str) -> object:
    """An entry of the JSON object that a text is, be it fenced as code; None where there is none, or more than one."""
    lines = _after_thoughts(text).split("\n")
    if len(lines) > 2 and lines[0].strip() in ("```", "```json") and lines[-1] == "```":
        lines = lines[1:-1]
    try:
        pairs = json.loads("\n".join(lines), object_pairs_hook=_Pairs)
    except MALFORMED:
        return None
    found = [value for key, value in pairs if key == name] if isinstance(pairs, _Pairs) else []
    return found[0] if len(found) == 1 else None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its entries, of which a dictionary would keep the last one of each name."""


def _after_thoughts(text: str) -> str:
    return text.rpartition(_END_OF_THOUGHTS)[2].strip()


def _answer(reply: Reply, read: Callable[[str], Verdict], before: str = "") -> Answer:
    text = before + reply.text
    if reply.flaw:
        return _invalid(text, reply.flaw)
    return Answer(read(reply.text), text)


def _invalid(text: str, flaw: str) -> Answer:
    return Answer(Verdict.INVALID, f"{text}\n[{flaw}]".lstrip())


def _say(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _check_pictures(frames: Iterator[Frame]) -> None:
    if not all(frame.images for frame in frames):
        raise InputError("the chat judge goes by pictures, and these moments have none; name a camera")


def _prompts_hash() -> str:
    """Of all that is said to a model, and of how its answer is read."""
    prompts = [INTRODUCTION, DESCRIBE, DECIDE, COMPARE, SUCCEEDS, _ANSWER_LINE.pattern, _CHOICE.pattern]
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]
