import json
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from episodes.errors import InputError
from episodes.snapshot import Snapshot
from episodes.typed import parse
from rewards.answers import Answers, Question
from rewards.asking import Asked, ask, score
from rewards.judge import Answer, Frame, Judge, Verdict
from rewards.judges.chat import (
    ChatConfig,
    ChatJudge,
    png,
    probability_of_json,
    verdict_of_json,
    verdict_of_line,
)
from rewards.judges.endpoint import Endpoint
from rewards.moments import Moments
from tests.rewards.chat_server import (
    Behaviour,
    ChatServer,
    Request,
    Response,
    fails,
    honest,
    in_turn,
    says,
    serving,
)
from tests.rewards.test_endpoint import DEEP, HALF, HTML, KEY, RESET, FakeTime

TASK = "make it bright {really}"
DARK, BRIGHT = 10, 200


class Greys:
    """A snapshot of one camera that saw grey planes, each brighter than the one before."""

    def images_at(self, camera: str, rows: np.ndarray) -> np.ndarray:
        return np.stack([grey(row) for row in rows])


def grey(level: int) -> np.ndarray:
    return np.full((5, 7, 3), level, np.uint8)


def frame(**levels: int) -> Frame:
    return Frame({camera: grey(level) for camera, level in levels.items()}, 0, 0, 0.0)


def moments() -> Moments:
    return Moments(cast(Snapshot, Greys()), ("front",), np.zeros(256, np.int64), np.linspace(0, 1, 256))


def some_pairs(count: int) -> np.ndarray:
    """Different ones, in some of which the first is the brighter one."""
    rng = np.random.default_rng(0)
    rows = np.stack([np.arange(count), np.arange(count) + rng.integers(5, 100, count)], axis=1)
    return np.where(rng.random((count, 1)) < 0.5, rows, rows[:, ::-1])


def judge_at(server: ChatServer, **settings: Any) -> ChatJudge:
    config = ChatConfig(url=server.url, model="eye-1", **settings)
    time = FakeTime()
    return ChatJudge(config, Endpoint(config, clock=time, sleep=time.sleep, jitter=lambda: 1.0))


def prefer_once(behave: Behaviour, **settings: Any) -> tuple[Answer, list[Request]]:
    with serving(behave) as server:
        pair = (frame(front=DARK), frame(front=BRIGHT))
        [(position, answer)] = judge_at(server, **settings).prefer([pair], TASK)
        assert position == 0
        return answer, server.requests


def truth(asked: Sequence[Asked]) -> list[Verdict]:
    return [Verdict.FIRST if one.first > one.second else Verdict.SECOND for one in asked]


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    answers = Answers(tmp_path / "answers.sqlite")
    yield answers
    answers.close()


@pytest.fixture(autouse=True)
def no_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_judge_is_one():
    judge: Judge = ChatJudge(ChatConfig("http://localhost/v1", "eye-1"))
    assert (judge.name, judge.symmetric) == ("chat", False)


@pytest.mark.parametrize(("stages", "concurrency"), [(1, 1), (1, 6), (2, 1), (2, 6)])
def test_an_honest_model_s_answers_arrive_whole_and_nothing_is_asked_twice(
    stages: int, concurrency: int, answers: Answers
):
    pairs = some_pairs(12)
    with serving(honest) as server:
        judge = judge_at(server, stages=stages, concurrency=concurrency)
        asked = ask(judge, moments(), pairs, TASK, answers)
        assert [[one.first, one.second] for one in asked] == pairs.tolist()
        assert [one.verdict for one in asked] == truth(asked)
        assert len(server.requests) == 12 * 2 * stages == judge.estimate(12, True)["requests"]
        again = ask(judge_at(server, stages=stages), moments(), pairs, TASK, answers)
        assert again == asked
        assert len(server.requests) == 12 * 2 * stages


def test_whatever_goes_wrong_on_the_way_every_pair_ends_with_its_right_answer(answers: Answers):
    troubles = [fails(429, Retry_After="2"), fails(500), HTML, HALF, RESET, DEEP, fails(503), says("fine", delay=1.5)]
    lock = threading.Lock()
    seen: set[str] = set()

    def first_time_fails(request: Request) -> Response:
        whole = json.dumps(request.body)
        with lock:
            known = whole in seen
            seen.add(whole)
            return honest(request) if known else troubles[len(seen) % len(troubles)]

    with serving(first_time_fails) as server:
        judge = judge_at(server, concurrency=4, timeout=1.0)
        asked = ask(judge, moments(), some_pairs(10), TASK, answers)
        assert [one.verdict for one in asked] == truth(asked)
        # Each of 10 pairs in two orders and two stages, of which all descriptions are different: twice each.
        assert len(server.requests) == 2 * len(seen) == 2 * 10 * 2 * 2
    assert answers.count() == 20


def test_after_an_interrupt_only_what_is_missing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Interrupted(Answers):
        def put(self, question: Question, value: str, rationale: str = "") -> None:
            super().put(question, value, rationale)
            if self.count() == 7:
                raise KeyboardInterrupt

    pairs = some_pairs(10)
    file = tmp_path / "answers.sqlite"
    with serving(honest) as server:
        with pytest.raises(KeyboardInterrupt):
            ask(judge_at(server, stages=1, concurrency=3), moments(), pairs, TASK, Interrupted(file))
        assert not [thread for thread in threading.enumerate() if thread.name == "asking"]
        # The key tells the requests of the second run from those that the first one left on their way.
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        kept = Answers(file)
        assert kept.count() == 7
        asked = ask(judge_at(server, stages=1), moments(), pairs, TASK, kept)
        assert [one.verdict for one in asked] == truth(asked)
        assert sum("Authorization" in request.headers for request in server.requests) == 20 - 7


def test_after_the_budget_is_spent_the_same_command_goes_on(answers: Answers):
    pairs = some_pairs(10)
    with serving(honest) as server:
        for budget in (15, 15):
            with pytest.raises(InputError, match="budget of 15 requests is spent"):
                ask(judge_at(server, budget=budget, concurrency=3), moments(), pairs, TASK, answers)
        asked = ask(judge_at(server, budget=15), moments(), pairs, TASK, answers)
        assert [one.verdict for one in asked] == truth(asked)
        # Of an odd budget one is left each time: a question takes two.
        assert len(server.requests) == 40


def test_a_pair_without_any_answer_is_asked_again_next_time(answers: Answers):
    pairs = some_pairs(3)

    def stumbles(request: Request) -> Response:
        return fails(500) if len(server.requests) == 2 else honest(request)

    with serving(stumbles) as server:
        judge = judge_at(server, stages=1, concurrency=1, retries=0)
        first = ask(judge, moments(), pairs, TASK, answers, both_orders=False)
        assert [one.verdict is Verdict.INVALID for one in first] == [False, True, False]
        asked = ask(judge, moments(), pairs, TASK, answers, both_orders=False)
        assert [one.verdict for one in asked] == truth(asked)
        assert len(server.requests) == 4


def test_success_is_a_probability_and_is_kept(answers: Answers):
    rows = np.array([0, 51, 255])
    with serving(honest) as server:
        for _ in range(2):
            found = score(judge_at(server), moments(), rows, TASK, answers)
            np.testing.assert_allclose(found, [0, 0.2, 1])
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "response",
    [
        says("0.7"),
        says('{"probability": 1.2}'),
        says('{"probability": "high"}'),
        says(None, message={"refusal": "no"}),
        says('{"probability": 0.5}', "length"),
        fails(400),
    ],
)
def test_a_probability_that_cannot_be_read_is_nan(response: Response):
    with serving(lambda _: response) as server:
        [(position, value)] = judge_at(server).succeeds([frame(front=BRIGHT)], TASK)
    assert position == 0
    assert math.isnan(value)


def test_the_first_stage_sees_all_pictures_under_their_names_and_the_second_none():
    pair = (frame(front=10, wrist=20), frame(front=30, wrist=40))
    with serving(in_turn(says("The second one is brighter."), says("ANSWER: SECOND"))) as server:
        [(_, answer)] = judge_at(server, smallest_side=0).prefer([pair], TASK)
    assert answer == Answer(Verdict.SECOND, "The second one is brighter.\n\nANSWER: SECOND")
    first, second = server.requests
    assert [picture.tolist() for picture in first.pictures] == [grey(level).tolist() for level in (10, 20, 30, 40)]
    labels = [line for line in first.text.splitlines() if ", camera " in line]
    assert labels == ["FIRST, camera front:", "FIRST, camera wrist:", "SECOND, camera front:", "SECOND, camera wrist:"]
    assert TASK in first.text
    assert not second.pictures
    assert TASK in second.text
    assert "The second one is brighter." in second.text


def test_thoughts_of_the_first_stage_are_kept_and_not_passed_on():
    behave = in_turn(says("<think>Hm.</think>Brighter."), says("ANSWER: SECOND"))
    answer, requests = prefer_once(behave)
    assert answer.rationale == "<think>Hm.</think>Brighter.\n\nANSWER: SECOND"
    assert "Hm." not in requests[1].text


def test_one_stage_asks_for_json_of_a_schema():
    answer, [request] = prefer_once(honest, stages=1)
    assert answer.verdict is Verdict.SECOND
    schema = request.body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == ["FIRST", "SECOND", "UNSURE"]
    assert schema["required"] == ["reasoning", "answer"]


def test_settings_are_sent_where_they_are_set():
    _, [request, _] = prefer_once(honest)
    assert (request.body["temperature"], "max_tokens" in request.body) == (0.0, False)
    _, [request, _] = prefer_once(honest, temperature=None, max_tokens=50)
    assert ("temperature" in request.body, request.body["max_tokens"]) == (False, 50)


DESCRIPTION = says("One is brighter.")


@pytest.mark.parametrize(
    ("behave", "rationale"),
    [
        (in_turn(DESCRIPTION, says("It is 1, not 0.")), "One is brighter.\n\nIt is 1, not 0."),
        (in_turn(DESCRIPTION, says("ANSWER: 2")), "One is brighter.\n\nANSWER: 2"),
        (in_turn(DESCRIPTION, says("ANSWER: FIRST", "length")), "One is brighter.\n\nANSWER: FIRST\n[cut off"),
        (in_turn(DESCRIPTION, says(None)), "One is brighter.\n\n\n[empty]"),
        (in_turn(DESCRIPTION, fails(400, "indecent")), "[turned down: 400: indecent]"),
        (in_turn(says(None, message={"refusal": "No robots."}), says("ANSWER: FIRST")), "No robots.\n[refused]"),
        (in_turn(says(""), says("ANSWER: FIRST")), "[empty]"),
        (in_turn(says("One is br", "length"), says("ANSWER: FIRST")), "One is br\n[cut off"),
    ],
)
def test_what_is_no_answer_is_invalid_with_all_that_was_said_and_not_asked_again(behave: Behaviour, rationale: str):
    answer, requests = prefer_once(behave)
    assert answer.verdict is Verdict.INVALID
    assert answer.rationale.startswith(rationale)
    assert len(requests) <= 2


@pytest.mark.parametrize("text", ['{"reasoning": "half', '{"answer": "2"}', "FIRST", ""])
def test_in_one_stage_what_is_no_answer_is_invalid_and_asked_once(text: str):
    answer, requests = prefer_once(lambda _: says(text), stages=1)
    assert (answer.verdict, len(requests)) == (Verdict.INVALID, 1)
    assert answer.rationale.startswith(text)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("ANSWER: FIRST", Verdict.FIRST),
        ("Image 1 is better because 10 of 10 cubes lie in 0... so 1, not 2.\nANSWER: SECOND\n", Verdict.SECOND),
        ("FIRST is worse than SECOND, and FIRST is darker.\n\n**ANSWER: SECOND**\n\n", Verdict.SECOND),
        ("**Answer:** First.", Verdict.FIRST),
        ("  answer : `unsure`", Verdict.UNSURE),
        ("SECOND", Verdict.SECOND),
        (" UNSURE\n", Verdict.UNSURE),
        ("ANSWER: FIRST\nANSWER: FIRST", Verdict.FIRST),
        ("<think>\nANSWER: FIRST\nNo, wait.\n</think>\nANSWER: SECOND", Verdict.SECOND),
        ("ANSWER: FIRST, no, wait.\n</think>\n\nSECOND", Verdict.SECOND),
        ("", Verdict.INVALID),
        ("1", Verdict.INVALID),
        ("-1", Verdict.INVALID),
        ("ANSWER: 1", Verdict.INVALID),
        ("ANSWER: 7", Verdict.INVALID),
        ("ANSWER: THIRD", Verdict.INVALID),
        ("ANSWER:", Verdict.INVALID),
        ("ANSWER: FIRST or SECOND", Verdict.INVALID),
        ("ANSWER: NOT FIRST", Verdict.INVALID),
        ("ANSWER: FIRSTLY", Verdict.INVALID),
        ("The ANSWER: FIRST", Verdict.INVALID),
        ("I would say FIRST", Verdict.INVALID),
        ("FIRST\nSECOND", Verdict.INVALID),
        ("ANSWER: FIRST\nbut it is hard to say", Verdict.INVALID),
        ("ANSWER: FIRST\nANSWER: SECOND\nANSWER: UNSURE", Verdict.INVALID),
        ("ANSWER: 2\nANSWER: FIRST", Verdict.INVALID),
        ("<think>\nANSWER: FIRST", Verdict.FIRST),
        ("<think>ANSWER: FIRST</think>", Verdict.INVALID),
        ("I cannot help with pictures of people.", Verdict.INVALID),
    ],
)
def test_a_reply_s_answer_is_its_last_line(text: str, verdict: Verdict):
    assert verdict_of_line(text) is verdict


WORDS = st.sampled_from(
    [*"\n\n\n *.:{}", "ANSWER", "ANSWER: ", "FIRST", "SECOND", "UNSURE", "first", "0", "1", "10", "<think>", "</think>"]
)


@given(st.text() | st.lists(WORDS).map("".join))
@example("ANSWER: FIRST\x85ANSWER: SECOND")
def test_no_text_has_an_answer_that_its_last_line_does_not_give(text: str):
    verdict = verdict_of_line(text)
    reply = text.split("</think>")[-1].strip()
    if verdict is Verdict.INVALID or reply == verdict.name:
        return
    last = reply.splitlines()[-1].upper()
    assert last.lstrip(" \t*_#>`").startswith("ANSWER")
    assert [name for name in ("FIRST", "SECOND", "UNSURE") if name in last] == [verdict.name]
    # Nothing but the answer stands in the line.
    assert not set(last.replace("ANSWER", "").replace(verdict.name, "")) - set(' \t*_#>`:."\x1f\xa0\u3000')


@given(st.text(alphabet=st.characters(exclude_characters=":<")), st.sampled_from(["FIRST", "SECOND", "UNSURE"]))
def test_whatever_comes_before_the_last_line_is_of_no_account(before: str, name: str):
    assert verdict_of_line(f"{before}\nANSWER: {name}").name == name


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"reasoning": "10 of 2", "answer": "FIRST"}', Verdict.FIRST),
        ('```json\n{"answer": "SECOND"}\n```', Verdict.SECOND),
        ('<think>{"answer": "FIRST"}</think>\n```\n{"answer": "UNSURE"}\n```', Verdict.UNSURE),
        ('{"answer": "first"}', Verdict.INVALID),
        ('{"answer": "INVALID"}', Verdict.INVALID),
        ('{"answer": 0}', Verdict.INVALID),
        ('{"answer": ["FIRST"]}', Verdict.INVALID),
        ('{"answer": {"answer": "FIRST"}}', Verdict.INVALID),
        ('{"answer": "FIRST", "answer": "SECOND"}', Verdict.INVALID),
        ('[{"answer": "FIRST"}]', Verdict.INVALID),
        ('{"reasoning": "FIRST"}', Verdict.INVALID),
        ('Sure! {"answer": "FIRST"}', Verdict.INVALID),
        ('{"answer": "FIRST"} {"answer": "FIRST"}', Verdict.INVALID),
        ('{"answer": "FIR', Verdict.INVALID),
        ('"FIRST"', Verdict.INVALID),
        ("[]", Verdict.INVALID),
        ("[" * 100_000, Verdict.INVALID),
    ],
)
def test_an_answer_in_json_is_one_entry_of_one_object(text: str, verdict: Verdict):
    assert verdict_of_json(text) is verdict


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["FIRST", "SECOND"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["answer", "probability", "reasoning"]), inner),
    max_leaves=5,
)


@given(JSON)
def test_of_any_json_only_what_the_rule_names_is_read(value: Any):
    text = json.dumps(value)
    entries = value if isinstance(value, dict) else {}
    answer, probability = entries.get("answer"), entries.get("probability")
    known = answer in ("FIRST", "SECOND", "UNSURE") if isinstance(answer, str) else False
    assert verdict_of_json(text).name == (answer if known else "INVALID")
    if isinstance(probability, int | float) and not isinstance(probability, bool) and 0 <= probability <= 1:
        assert probability_of_json(text) == probability
    else:
        assert math.isnan(probability_of_json(text))


@given(st.text() | JSON.map(json.dumps).map(lambda text: text[: len(text) // 2]))
def test_no_text_is_too_strange_to_be_read(text: str):
    for read in (verdict_of_line, verdict_of_json):
        assert read(text) in Verdict
    assert not probability_of_json(text) > 1


def test_an_enormous_number_is_no_probability():
    assert math.isnan(probability_of_json('{"probability": ' + "9" * 5000 + "}"))
    assert math.isnan(probability_of_json('{"probability": 1e999}'))


def test_small_pictures_are_enlarged_by_a_whole_factor_and_large_ones_left():
    assert size_of(png(grey(0), 224)) == (5 * 45, 7 * 45)
    assert size_of(png(grey(0), 5)) == size_of(png(grey(0), 0)) == (5, 7)


def size_of(data: bytes) -> tuple[int, int]:
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return height, width


def test_colours_arrive_as_they_are():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    picture = Frame({"front": red}, 0, 0, 0.0)
    with serving(lambda _: says('{"probability": 1}')) as server:
        assert list(judge_at(server, smallest_side=8).succeeds([picture], TASK)) == [(0, 1.0)]
    assert server.requests[0].pictures[0].tolist() == [[[255, 0, 0]] * 8] * 8


def test_the_identity_tells_apart_all_that_an_answer_depends_on_and_nothing_else():
    config = ChatConfig("http://localhost:8000/v1", "eye-1")
    others = [
        {"url": "http://localhost:8001/v1"},
        {"model": "eye-2"},
        {"stages": 1},
        {"temperature": 1.0},
        {"max_tokens": 9},
        {"smallest_side": 0},
    ]
    identities = {ChatJudge(replace(config, **other)).identity for other in ({}, *others)}
    assert len(identities) == 1 + len(others)
    same = replace(config, concurrency=9, retries=1, timeout=3.0, budget=5, requests_per_minute=7.0)
    assert ChatJudge(same).identity == ChatJudge(config).identity


def test_the_key_is_in_no_identity_and_in_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def echo(request: Request) -> Response:
        key = request.headers["Authorization"]
        return fails(400, key) if len(server.requests) == 2 else says(f"{key}\nANSWER: FIRST")

    with serving(echo) as server:
        judge = judge_at(server, concurrency=1)
        ask(judge, moments(), some_pairs(3), TASK, Answers(tmp_path / "answers.sqlite"))
        assert server.requests[0].headers["Authorization"].endswith(KEY)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"[key]" in written
    assert KEY.encode() not in written
    assert KEY not in f"{judge.identity} {judge!r} {judge.config!r}"


def test_moments_without_pictures_are_refused():
    judge = ChatJudge(ChatConfig("http://localhost/v1", "eye-1"))
    with pytest.raises(InputError, match="goes by pictures"):
        list(judge.succeeds([frame()], TASK))
    with pytest.raises(InputError, match="goes by pictures"):
        list(judge.prefer([(frame(front=1), frame())], TASK))


def test_an_estimate_says_what_follows_from_the_settings():
    config = ChatConfig("http://localhost/v1", "eye-1")
    assert ChatJudge(config).estimate(100, both_orders=True) == {"requests": 400, "pictures_per_camera": 400}
    assert ChatJudge(replace(config, stages=1, budget=150, requests_per_minute=20.0, max_tokens=500)).estimate(
        100, both_orders=True
    ) == {
        "requests": 200,
        "pictures_per_camera": 400,
        "pairs_within_budget": 75,
        "minutes_at_least": 10,
        "reply_tokens_at_most": 100_000,
    }


def test_a_budget_below_one_question_is_refused():
    with pytest.raises(InputError, match="budget of 1 does not reach for one question of 2 requests"):
        ChatJudge(ChatConfig("http://localhost/v1", "eye-1", budget=1))


@pytest.mark.parametrize(
    "wrong", [{"stages": 3}, {"budget": 0}, {"concurrency": 0}, {"temperature": -1}, {"timeout": 0}, {"api_key": "x"}]
)
def test_a_setting_that_makes_no_sense_is_refused(wrong: dict[str, Any]):
    with pytest.raises(InputError, match=next(iter(wrong))):
        parse(ChatConfig, {"url": "http://localhost/v1", "model": "eye-1", **wrong}, "chat")
