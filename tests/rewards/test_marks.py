"""Marks: what a person said about a few episodes, as examples that a classifier learns from; never a guess."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from episodes.labels import LabelSet
from rewards.marks import Marks, Moment, Success, marks_from, read_marks, write_marks
from tests.rewards.conftest import log_of

LOG = log_of([5, 5, 4, 1], [True, False, True, True])
"""6, 5, 5 and 2 observations; their first rows are 0, 6, 11 and 16."""


def examples(marks: Marks) -> dict[int, bool]:
    rows, done = marks.examples(LOG)
    assert rows.dtype == np.int64 and done.dtype == bool
    assert (np.diff(rows) > 0).all(), "in the store's order, none twice"
    return dict(zip(rows.tolist(), done.tolist(), strict=True))


def test_a_success_is_done_from_the_marked_observation_on_and_the_one_before_is_neither():
    assert examples(Marks(successes=(Success(1, 3),))) == {6: False, 7: False, 9: True, 10: True}


def test_a_success_from_its_first_observation_on_has_nothing_before_it():
    assert examples(Marks(successes=(Success(3, 0),))) == {16: True, 17: True}
    assert examples(Marks(successes=(Success(3, 1),))) == {17: True}


def test_of_a_success_without_a_beginning_the_last_three_are_done():
    assert examples(Marks(successes=(Success(0),))) == {0: False, 1: False, 3: True, 4: True, 5: True}
    assert examples(Marks(successes=(Success(3),))) == {16: True, 17: True}, "of a shorter one all"


def test_a_failure_is_never_done():
    assert examples(Marks(failures=(2, 3))) == dict.fromkeys(range(11, 18), False)


def test_moments_that_only_look_done_are_not_with_both_their_ends():
    marks = Marks(successes=(Success(0, 4),), negatives=(Moment(1, 2, 4), Moment(0, 3, 3)))
    assert examples(marks) == {0: False, 1: False, 2: False, 3: False, 4: True, 5: True, 8: False, 9: False, 10: False}


def test_saying_the_same_twice_is_no_contradiction():
    once = Marks(successes=(Success(0, 4),), failures=(1,))
    twice = Marks(successes=(Success(0, 4), Success(0, 4)), failures=(1, 1), negatives=(Moment(1, 0, 4),))
    assert examples(twice) == examples(once)


def test_no_marks_are_no_examples():
    assert examples(Marks()) == {}


@pytest.mark.parametrize(
    ("marks", "place"),
    [
        (Marks(successes=(Success(1, 3),), failures=(1,)), "episode 1, observation 3"),
        (Marks(successes=(Success(2),), failures=(2,)), "episode 2, observation 2"),
        (Marks(successes=(Success(1, 3),), negatives=(Moment(1, 1, 4),)), "episode 1, observation 3"),
        (Marks(successes=(Success(0, 1), Success(0, 4))), "episode 0, observation [12]"),
    ],
)
def test_marks_that_contradict_each_other_are_refused(marks: Marks, place: str):
    with pytest.raises(InputError, match=f"marks contradict each other on {place}"):
        marks.examples(LOG)


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (Marks(successes=(Success(4),)), "a_store has no episode 4; it has 4, counted from 0"),
        (Marks(failures=(7,)), "a_store has no episode 7"),
        (Marks(negatives=(Moment(4, 0, 0),)), "a_store has no episode 4"),
        (Marks(successes=(Success(1, 5),)), "episode 1 has no observation 5; it has 5, counted from 0"),
        (Marks(negatives=(Moment(3, 0, 2),)), "episode 3 has no observation 2"),
        (Marks(negatives=(Moment(3, 2, 1),)), "episode 3"),
        (Marks(negatives=(Moment(0, 3, 1),)), "episode 0"),
    ],
    ids=str,
)
def test_what_is_not_there_cannot_be_marked(marks: Marks, words: str):
    with pytest.raises(InputError, match=words) as caught:
        marks.examples(LOG)
    assert "\n" not in str(caught.value)


INDEX = st.integers(0, 10**6)
MARKS = st.builds(
    Marks,
    st.lists(st.builds(Success, INDEX, st.none() | INDEX), max_size=4).map(tuple),
    st.lists(INDEX, max_size=4).map(tuple),
    st.lists(st.builds(Moment, INDEX, INDEX, INDEX), max_size=4).map(tuple),
)


@given(MARKS)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, marks: Marks):
    path = tmp_path_factory.mktemp("marks") / "marks.yaml"
    write_marks(path, marks)
    assert read_marks(path) == marks


def test_a_file_says_from_and_to(tmp_path: Path):
    text = """
    successes:
      - {episode: 3, from: 31}      # done from this observation on
      - {episode: 8}
    failures: [0, 1]
    negatives:
      - {episode: 4, from: 10, to: 14}
    """
    (tmp_path / "marks.yaml").write_text(text)
    marks = read_marks(tmp_path / "marks.yaml")
    assert marks == Marks((Success(3, 31), Success(8)), (0, 1), (Moment(4, 10, 14),))
    write_marks(tmp_path / "again.yaml", marks)
    content = yaml.safe_load((tmp_path / "again.yaml").read_text())
    assert content == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("successes: [", "not valid YAML"),
        ("", "expected a mapping"),
        ("[1, 2]", "expected a mapping"),
        ("success: [{episode: 1}]", "unknown key 'success'.*did you mean 'successes'"),
        ("successes: 3", "successes"),
        ("successes: [3]", r"successes: expected entries like \{episode: 3, from: 31\}, got 3"),
        ("successes: [{from: 3}]", "successes.*episode"),
        ("successes: [{episode: -1}]", "successes.0.episode: .*greater than or equal to 0"),
        ("successes: [{episode: 1.5}]", "successes.0.episode"),
        ("successes: [{episode: one}]", "successes.0.episode"),
        ("successes: [{episode: 1, form: 3}]", "unknown key 'form'"),
        ("failures: [1, x]", "failures.1"),
        ("failures: {episode: 1}", "failures"),
        ("failures: [[0, 1]]", "failures.0"),
        ("negatives: [{episode: 4, from: 10}]", "negatives"),
        ("negatives: [{episode: 4, from: 10, to: -3}]", "negatives.0"),
        ("1: 2", "Keys should be strings, got 1"),
        ("failures: !!python/object:os.system {}", "not valid YAML"),
        ("\0", "not valid YAML"),
    ],
)
def test_a_file_that_says_no_marks_is_told_in_one_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "marks.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_marks(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["successes: [{episode: 1, form: 3}]", "negatives: [{episode: 4, from: 10}]"])
def test_it_is_told_in_the_words_of_the_file(tmp_path: Path, text: str):
    """Not in those of the code, in which `from` is no name."""
    path = tmp_path / "marks.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_marks(path)
    said = str(caught.value).removeprefix(str(path))
    assert "start" not in said and "stop" not in said
    assert "from" in said or "to" in said.split()


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", "binary.yaml", "."):
        with pytest.raises(InputError, match="cannot be read"):
            read_marks(tmp_path / name)


def labels(*successes: list[float]) -> LabelSet:
    values: dict[str, Any] = {"success": np.concatenate(successes).astype(np.float32)}
    return LabelSet("env", values, np.ones(len(successes), bool))


def test_marks_from_labels_are_what_a_person_would_say_of_the_pictures():
    """A step's label is of the observation after it: the first success of step 2 is seen at observation 3."""
    known = labels([0, 0, 1, 1, 0], [0, 0, 0, 0, np.nan], [1, 0, 0, 0], [0])
    marks = marks_from(LOG, known, 2, 1, [3, 2, 0, 1])
    assert marks == Marks((Success(2, 1), Success(0, 3)), (3,))
    assert marks_from(LOG, known, 1, 2, range(4)) == Marks((Success(0, 3),), (1, 3))
    assert marks_from(LOG, known, 1, 0, [2]).examples(LOG)[0].tolist() == [12, 13, 14, 15]


def test_more_marks_than_there_are_episodes_for_are_refused():
    known = labels([0, 0, 1, 1, 0], [0, 0, 0, 0, np.nan], [1, 0, 0, 0], [0])
    for asked, among in (((3, 1), range(4)), ((1, 3), range(4)), ((1, 1), [0, 2])):
        with pytest.raises(InputError, match="are to be marked; label set 'env' has"):
            marks_from(LOG, known, *asked, among)
    with pytest.raises(InputError, match="label set 'r' does not say which steps succeeded"):
        marks_from(LOG, LabelSet("r", {}, np.ones(4, bool)), 1, 1, range(4))
