"""Typed dataclasses from YAML, JSON and command lines: unknown keys and wrong values are refused by name."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from episodes.errors import InputError, unknown

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Set as `__pydantic_config__` of every dataclass that a file can fill."""


def parse(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """The dataclass `cls` filled from `mapping`.

    Raises:
        InputError: naming the first key that is unknown (with the nearest valid one) or whose value does not fit.
    """
    try:
        return _adapter(cls).validate_python(dict(mapping))
    except ValidationError as error:
        # A misspelt key is also a missing one, and its own name says more.
        first = next((e for e in error.errors() if e["type"] == "unexpected_keyword_argument"), error.errors()[0])
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            where = ".".join([where, *(str(part) for part in first["loc"][:-1])])
            raise unknown("key", str(first["loc"][-1]), _keys_beside(cls, first["loc"]), where) from None
        # What a missing key was looked for in is everything there is.
        got = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise InputError(f"{where}: {path or 'value'}: {first['msg']}{got}") from None


@cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    """Making one takes a thousand times as long as using it."""
    return TypeAdapter(cls)


def plain(value: Any) -> Any:
    """A dataclass as dictionaries, lists and scalars that YAML and JSON can hold."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, got {type(content).__name__}")
    return content


def parse_settings(words: list[str]) -> dict[str, Any]:
    """`key=value` words of a command line; values are YAML scalars or lists."""
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"setting {word!r}: expected key=value")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"setting {word!r}: {value!r} is no YAML value") from None
        if isinstance(settings[key], str):
            settings[key] = _number(settings[key])
    return settings


def _number(text: str) -> str | float:
    """YAML 1.1 reads `1e-3` as text; everybody else reads a number."""
    try:
        return float(text)
    except ValueError:
        return text


def _keys_beside(cls: Any, location: tuple[int | str, ...]) -> list[str]:
    """The valid keys at the place where an unknown one was found: walk the type hints along the location."""
    for part in location[:-1]:
        if isinstance(part, str) and dataclasses.is_dataclass(cls):
            cls = get_type_hints(cls).get(part)
            if get_origin(cls) is dict:
                # What comes next is one of the mapping's own keys.
                continue
        # Of `tuple[X, ...]`, `X | None` and the like, the dataclass inside is the one that has keys.
        cls = next((inner for inner in get_args(cls) if dataclasses.is_dataclass(inner)), cls)
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
