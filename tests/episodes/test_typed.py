"""Reading settings: what does not fit is refused by name, in one line, with the nearest valid name."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from episodes.errors import InputError, unknown
from episodes.typed import STRICT, parse, plain, read_yaml


@dataclass(frozen=True, slots=True)
class Inner:
    __pydantic_config__ = STRICT

    width: int = 3
    kind: Literal["round", "square"] = "round"


@dataclass(frozen=True, slots=True)
class Outer:
    __pydantic_config__ = STRICT

    name: str
    one: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    share: Annotated[float, Field(ge=0, le=1)] = 0.5


@given(
    st.builds(
        Outer,
        name=st.text(),
        one=st.builds(Inner, width=st.integers(-(10**6), 10**6), kind=st.sampled_from(["round", "square"])),
        maybe=st.none() | st.builds(Inner, width=st.integers(0, 9)),
        many=st.lists(st.builds(Inner, width=st.integers(0, 9)), max_size=3).map(tuple),
        share=st.floats(0, 1),
    )
)
def test_what_is_written_plain_is_read_back_the_same(value: Outer):
    assert parse(Outer, plain(value), "file") == value
    assert parse(Outer, yaml.safe_load(yaml.safe_dump(plain(value))), "file") == value


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (
            {"name": "a", "shaer": 1},
            "unknown key 'shaer' in file; did you mean 'share'? known: many, maybe, name, one,",
        ),
        ({"nam": "a"}, "unknown key 'nam' in file; did you mean 'name'?"),
        ({"name": "a", "zzz": 1}, "unknown key 'zzz' in file; known: many"),
        ({"name": "a", "one": {"widht": 1}}, "unknown key 'widht' in file.one; did you mean 'width'? known: kind, wid"),
        ({"name": "a", "maybe": {"widht": 1}}, "unknown key 'widht' in file.maybe; did you mean 'width'?"),
        ({"name": "a", "many": [{}, {"knid": 1}]}, "unknown key 'knid' in file.many.1; did you mean 'kind'?"),
        ({}, "file: name: Field required"),
        ({"name": 5}, "file: name: Input should be a valid string, got 5"),
        ({"name": "a", "share": 1.5}, "file: share: Input should be less than or equal to 1, got 1.5"),
        ({"name": "a", "share": None}, "file: share: Input should be a valid number, got None"),
        ({"name": "a", "one": {"kind": "oval"}}, "file: one.kind: Input should be 'round' or 'square', got 'oval'"),
        ({"name": "a", "one": {"width": 2.5}}, "file: one.width: "),
        ({"name": "a", "one": [1]}, "file: one: "),
        ({"name": "a", "many": {"width": 1}}, "file: many: "),
        ({"name": "a", 7: 1}, "7"),
    ],
)
def test_a_mistake_is_told_in_one_line_by_name_and_place(mapping: dict, words: str):
    with pytest.raises(InputError) as caught:
        parse(Outer, mapping, "file")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_comes_with_the_nearest_and_all_valid_ones():
    assert str(unknown("camera", "wirst", ["wrist", "front"], "store")) == (
        "unknown camera 'wirst' in store; did you mean 'wrist'? known: front, wrist"
    )
    assert str(unknown("camera", "x", [])) == "unknown camera 'x'; known: none"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1, 2", "not valid YAML"),
        (b"a: 1\n b: 2", "not valid YAML"),
        (b"- 1\n- 2", "expected a mapping of keys to values, got list"),
        (b"", "expected a mapping of keys to values, got NoneType"),
        (b"just words", "got str"),
        (b"\xff\xfe\x00\x01", "cannot be read"),
        (b"a: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_its_path_in_one_line(tmp_path, content: bytes, words: str):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path, make):
    path = tmp_path / "settings.yaml"
    make(path)
    with pytest.raises(InputError, match=r"settings\.yaml: cannot be read"):
        read_yaml(path)
