"""What a LeRobot dataset says of itself in `meta/info.json` and of its tasks, v2.0 to v3.0."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, Field

from episodes.errors import InputError
from episodes.importers.source import listed, reading, reason
from episodes.typed import parse

VERSIONS = ("v2.0", "v2.1", "v3.0")

Size = Annotated[int, Field(ge=0, le=65_536)]
"""Of one axis: more entries or pixels than any robot has would only be a damaged number."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What `info.json` says about a column or a camera."""

    dtype: str
    shape: tuple[Size, ...]
    names: Any = None
    """A list, a list in a list, a mapping of lists, a mapping of names to places, or nothing."""
    info: Any = None
    video_info: Any = None


@dataclass(frozen=True, slots=True)
class Info:
    """The part of `meta/info.json` that an import needs."""

    codebase_version: str
    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    features: dict[str, Feature]
    data_path: str
    video_path: str | None = None
    chunks_size: Annotated[int, Field(gt=0)] = 1000
    total_episodes: int | None = None
    robot_type: Any = None

    @property
    def is_v3(self) -> bool:
        return self.codebase_version == "v3.0"


def _text(text: str) -> str:
    text.encode()  # JSON can write halves of characters, which nothing can print.
    return text


@dataclass(frozen=True, slots=True)
class _Task:
    task_index: int
    task: Annotated[str, AfterValidator(_text)]


@dataclass(frozen=True, slots=True)
class _Tasks:
    tasks: tuple[_Task, ...]


@contextmanager
def also(*kinds: type[Exception]) -> Iterator[None]:
    """Make a library's own kinds of error an OSError, which `reading` and `damaged` know."""
    try:
        yield
    except kinds as error:
        raise OSError(reason(error)) from None


def is_lerobot(path: Path) -> bool:
    """Whether a folder is a LeRobot dataset, of any version.

    Raises:
        InputError: where its `meta/info.json` is damaged.
    """
    if (path / "meta_data" / "info.json").is_file():  # v1.x
        return True
    file = path / "meta" / "info.json"
    if not file.is_file():
        return False
    info = _json(file)
    return isinstance(info, dict) and ("codebase_version" in info or "features" in info)


def read_info(path: Path) -> Info:
    """What `meta/info.json` says.

    Raises:
        InputError: where the version is none that can be read, or something is missing or of the wrong kind.
    """
    file = path / "meta" / "info.json"
    if not file.is_file():
        raise _wrong_version("v1.x", path)
    mapping = _json(file)
    for key in ("codebase_version", "features", "fps", "data_path"):
        if not isinstance(mapping, dict) or key not in mapping:
            raise InputError(f"{file}: no {key!r}, expected as LeRobot {listed(VERSIONS)} writes it")
    if mapping["codebase_version"] not in VERSIONS:
        raise _wrong_version(repr(mapping["codebase_version"]), path)
    features = mapping["features"]
    unprintable = [name for name in features if not name.isprintable()] if isinstance(features, dict) else []
    if unprintable:  # Names are part of paths and of what is said to people.
        raise InputError(f"{file}: feature {unprintable[0]!r}, expected a name in printable characters")
    return parse(Info, mapping, str(file))


def read_tasks(path: Path, info: Info) -> dict[int, str]:
    """The tasks in words, by `task_index`."""
    if not info.is_v3:
        file = path / "meta" / "tasks.jsonl"
        return {task.task_index: task.task for task in parse(_Tasks, {"tasks": json_lines(file)}, str(file)).tasks}
    file = path / "meta" / "tasks.parquet"
    with reading(file), also(pa.ArrowException):
        columns = pq.ParquetFile(file).read().to_pydict()
    # The text is the index of a pandas table, which at first had no name.
    text = next((columns[name] for name in ("task", "__index_level_0__") if name in columns), None)
    if text is None or "task_index" not in columns:
        raise InputError(f"{file}: expected columns task and task_index, got {listed(columns)}")
    rows = [{"task_index": index, "task": task} for index, task in zip(columns["task_index"], text, strict=True)]
    return {task.task_index: task.task for task in parse(_Tasks, {"tasks": rows}, str(file)).tasks}


def _json(file: Path) -> Any:
    with reading(file):
        return json.loads(file.read_bytes())


def json_lines(file: Path) -> list[Any]:
    """What the lines of a file say; empty ones are skipped."""
    values = []
    with reading(file):
        lines = file.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            with reading(f"{file} line {number}"):
                values.append(json.loads(line))
    return values


def _wrong_version(version: str, path: Path) -> InputError:
    older = version.strip("'").startswith("v1")
    remedy = (
        "convert it first, with convert_dataset_v1_to_v2.py of LeRobot" if older else "write it as v3.0 with LeRobot"
    )
    return InputError(f"{path}: LeRobot dataset {version}, expected {listed(VERSIONS)}: {remedy}")
