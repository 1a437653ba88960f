"""The file of answers: on the disk at once, under everything that an answer depends on, whoever else is writing."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import InputError
from rewards.answers import Answers, Question, digest
from tests.rewards.conftest import greys

QUESTION = Question("chat", "model at 0", "tidy up", ("a1", "b2"))

WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
QUESTIONS = st.builds(Question, WORDS, WORDS, WORDS, st.lists(WORDS, min_size=1, max_size=3).map(tuple))

WRITER = """
import sys
from pathlib import Path
from rewards.answers import Answers, Question

path, who, first, stop = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
print("ready", flush=True)
sys.stdin.readline()
answers = Answers(Path(path))
for number in range(first, stop):
    answers.put(Question("chat", "it", "task", (str(number),)), who, f"{who} says {number}")
print("done", flush=True)
if who == "waiting":
    sys.stdin.readline()
answers.close()
"""
"""Puts the answers `first` to `stop`."""


def writer(path: Path, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own, ready to write."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), *map(str, arguments)],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"PYTHONPATH": "."},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def ended(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait until they are done, all of them well."""
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert not any(errors), "".join(errors)[-2000:]


@given(QUESTIONS, QUESTIONS)
def test_different_questions_have_different_keys(one: Question, other: Question):
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize(
    "change",
    [
        {"judge": "clip"},
        {"identity": "model at 1"},
        {"task": "tidy up!"},
        {"pictures": ("b2", "a1")},
        {"pictures": ("a1",)},
        {"pictures": ("a1b2",)},
        {"judge": "chatmodel", "identity": " at 0"},
    ],
    ids=str,
)
def test_an_answer_to_one_question_is_none_to_another(answers: Answers, change: dict[str, str]):
    answers.put(QUESTION, "first")
    assert answers.get(replace(QUESTION, **change)) is None
    assert answers.get(QUESTION) == ("first", "")


@settings(max_examples=25)
@given(st.dictionaries(WORDS, st.tuples(WORDS, WORDS), max_size=5))
def test_what_was_put_is_got_also_after_it_was_closed(tmp_path_factory: pytest.TempPathFactory, said):
    path = tmp_path_factory.mktemp("said") / "answers.sqlite"
    writing = Answers(path)
    for task, (value, rationale) in said.items():
        writing.put(replace(QUESTION, task=task), value, rationale)
    writing.close()
    reading = Answers(path)
    assert reading.count() == len(said)
    assert {task: reading.get(replace(QUESTION, task=task)) for task in said} == said
    reading.close()


def test_half_a_letter_in_a_judge_s_words_does_not_lose_the_answer(answers: Answers):
    """A reply that is cut off in the middle of an emoji is half of one in JSON, which no file can hold."""
    answers.put(QUESTION, "first", "well done \ud83d")
    kept = answers.get(QUESTION)
    assert kept is not None
    assert kept[0] == "first"
    assert kept[1].startswith("well done")


def test_the_first_answer_stays(answers: Answers):
    answers.put(QUESTION, "first", "one")
    answers.put(QUESTION, "second", "other")
    assert answers.get(QUESTION) == ("first", "one")
    assert answers.count() == 1


def test_anybody_can_look_an_answer_up(answers: Answers):
    answers.put(QUESTION, "first", "it is closer")
    with sqlite3.connect(answers.path) as file:
        (row,) = file.execute("SELECT judge, identity, task, pictures, value, rationale, date FROM answers")
    assert row[:-1] == ("chat", "model at 0", "tidy up", '["a1", "b2"]', "first", "it is closer")
    assert row[-1].startswith("20")


def test_what_was_put_survives_a_killed_process(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    process = writer(path, "waiting", 0, 31)
    go([process])
    assert process.stdout is not None
    while process.stdout.readline() != "done\n":
        assert process.poll() is None
    process.kill()
    process.communicate()
    answers = Answers(path)
    assert answers.count() == 31
    assert answers.get(Question("chat", "it", "task", ("30",))) == ("waiting", "waiting says 30")
    answers.close()


def test_two_processes_can_write_one_file_at_once(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    Answers(path).close()
    processes = [writer(path, "one", 0, 60), writer(path, "other", 30, 90)]
    go(processes)
    ended(processes)
    answers = Answers(path)
    said = [answers.get(Question("chat", "it", "task", (str(number),))) for number in range(90)]
    answers.close()
    assert all(said)
    for number, (who, words) in enumerate(filter(None, said)):
        assert words == f"{who} says {number}", "an answer is one process's, never a mixture"
    assert {who for who, _ in filter(None, said[:30])} == {"one"}
    assert {who for who, _ in filter(None, said[60:])} == {"other"}


def test_whoever_comes_while_another_begins_the_file_waits(tmp_path: Path):
    path, begun = tmp_path / "answers.sqlite", threading.Event()

    def begin() -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begun.set()
        time.sleep(0.3)
        other.execute("COMMIT")
        other.close()

    thread = threading.Thread(target=begin)
    thread.start()
    begun.wait()
    try:
        answers = Answers(path)
        answers.put(QUESTION, "first")
        assert answers.get(QUESTION) == ("first", "")
        answers.close()
    finally:
        thread.join()


def filled(path: Path) -> bytes:
    answers = Answers(path)
    for number in range(100):
        answers.put(replace(QUESTION, task=str(number)), "first", "words " * 40)
    answers.close()
    return path.read_bytes()


def used(path: Path) -> None:
    """Open, read and write."""
    answers = Answers(path)
    try:
        for number in range(100):
            answers.get(replace(QUESTION, task=str(number)))
            answers.put(replace(QUESTION, task=f"new {number}"), "first")
    finally:
        answers.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"this is no database at all" * 40,
        lambda data: data[:5000],
        lambda data: data[:4096] + bytes(len(data) - 4096),
        lambda data: data[:4096] + os.urandom(len(data) - 4096),
        lambda data: b"\0" * 100 + data[100:],
    ],
    ids=["garbage", "truncated", "zeroed", "overwritten", "no header"],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, damage):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(damage(filled(path)))
    with pytest.raises(InputError, match="cannot be used to keep answers") as caught:
        used(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["", "a_file/answers.sqlite"])
def test_a_place_where_no_file_can_be_is_told_in_one_line(tmp_path: Path, place: str):
    (tmp_path / "a_file").touch()
    with pytest.raises(InputError, match="cannot be used to keep answers") as caught:
        Answers(tmp_path / place)
    assert "\n" not in str(caught.value)


def test_another_program_s_database_is_not_written_into(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE answers (question TEXT, said TEXT)")
    with pytest.raises(InputError, match="cannot be used to keep answers"):
        used(path)


def test_the_same_pictures_are_the_same_question_wherever_they_lie():
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    other = image + np.uint8(1)
    striding = np.repeat(image, 2, axis=0)[::2]
    assert not striding.flags.c_contiguous
    assert digest({"a": image, "b": other}) == digest({"b": other.copy(), "a": striding})


def test_other_pictures_are_another_question():
    image, other = greys([10, 11])
    changed = image.copy()
    changed[2, 3, 1] += 1
    questions = [
        {"a": image},
        {"b": image},
        {"a": changed},
        {"a": image.transpose(1, 0, 2)},
        {"a": image, "b": image},
        {"a": image, "b": other},
        {"a": other, "b": image},
        {},
    ]
    assert len({digest(images) for images in questions}) == len(questions)
