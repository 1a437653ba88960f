"""Captions in a file of lines: read to the row they speak of, and refused by the line that is wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import InputError
from rewards.captions import read_captions, write_captions
from tests.rewards.conftest import log_of, logs

LOG = log_of([2, 3, 1], [True, False, True])
"""3, 3 and 2 observations."""


def line(episode: object, observation: object, text: object = "it is near") -> str:
    return json.dumps({"episode": episode, "observation": observation, "text": text})


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_a_caption_is_of_the_row_where_its_observation_lies(tmp_path: Path):
    path = written(tmp_path, line(2, 1, "done"), line(0, 0, "far"), line(1, 0, "far"), line(0, 2, "é 抓 \u2028"))
    assert read_captions(path, LOG) == ([7, 0, 3, 2], ["done", "far", "far", "é 抓 \u2028"])


@settings(max_examples=25)
@given(logs(), st.data())
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, log: tuple[list[int], list[bool]], data: st.DataObject
):
    snapshot = log_of([*log[0], 1], [*log[1], True])
    words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
    texts = data.draw(st.lists(words, min_size=snapshot.observations, max_size=snapshot.observations))
    texts[-2:] = ["one", "other"]
    path = tmp_path_factory.mktemp("captions") / "captions.jsonl"
    write_captions(path, snapshot, texts)
    assert read_captions(path, snapshot) == (list(range(snapshot.observations)), texts)
    assert len(path.read_text().splitlines()) == len(texts)


def test_there_has_to_be_a_caption_for_every_observation(tmp_path: Path):
    for count in (7, 9):
        with pytest.raises(ValueError):
            write_captions(tmp_path / "captions.jsonl", LOG, ["text"] * count)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("near", "expected .*on one line"),
        ("", "expected .*on one line"),
        ("3", "expected .*on one line"),
        ("[0, 1]", "expected .*on one line"),
        ('{"episode": 0, "observation": 1', "expected .*on one line"),
        ("[" * 100_000, "expected .*on one line"),
        ('{"episode": 0, "observation": 1}', "text"),
        ('{"episode": 0, "observation": 1, "txt": "a"}', "unknown key 'txt'.*did you mean 'text'"),
        (line(-1, 0), "episode"),
        (line(0, 0.5), "observation"),
        (line("one", 0), "episode"),
        (line(0, 0, ""), "text"),
        (line(0, 0, 7), "text"),
        (line(0, 0, None), "text"),
        (line(3, 0), "a_store has no episode 3, observation 0"),
        (line(1, 3), "a_store has no episode 1, observation 3"),
        (line(10**30, 0), "a_store has no episode"),
    ],
    ids=lambda value: value[:60],
)
def test_a_line_that_is_no_caption_is_told_by_its_number(tmp_path: Path, wrong: str, words: str):
    path = written(tmp_path, line(0, 0), line(0, 1, "it is there"), wrong, "this too")
    with pytest.raises(InputError, match=words) as caught:
        read_captions(path, LOG)
    assert f"{path}:3" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_one_sentence_alone_teaches_nothing(tmp_path: Path):
    with pytest.raises(InputError, match="has 1 different captions; a model learns from at least 2"):
        read_captions(written(tmp_path, line(0, 0), line(0, 1)), LOG)
    with pytest.raises(InputError, match="has 0 different captions"):
        read_captions(written(tmp_path), LOG)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "binary", "."):
        with pytest.raises(InputError, match="cannot be read"):
            read_captions(tmp_path / name, LOG)
