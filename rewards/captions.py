"""Captions: sentences on single frames of a store, in a file of JSON lines that people and programs can write."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from episodes.errors import InputError
from episodes.files import write_whole
from episodes.snapshot import Snapshot, lengths
from episodes.typed import STRICT, parse, plain


@dataclass(frozen=True, slots=True)
class Caption:
    """One line of the file."""

    __pydantic_config__ = STRICT

    episode: Annotated[int, Field(ge=0)]
    observation: Annotated[int, Field(ge=0)]
    """Counted from the episode's first."""
    text: Annotated[str, Field(min_length=1)]


def read_captions(path: Path, snapshot: Snapshot) -> tuple[list[int], list[str]]:
    """Rows of the store's observations, and what is said of each.

    Raises:
        InputError: naming the first line that is no caption, or speaks of an observation that is not there.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    counts = lengths(snapshot.observation_ends)
    rows, texts = [], []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise InputError(f'{where}: expected {{"episode": 0, "observation": 12, "text": "..."}} on one line')
        caption = parse(Caption, content, where)
        if caption.episode >= snapshot.episodes or caption.observation >= counts[caption.episode]:
            raise InputError(
                f"{where}: {snapshot.path} has no episode {caption.episode}, observation {caption.observation}"
            )
        rows.append(int(snapshot.observation_starts[caption.episode]) + caption.observation)
        texts.append(caption.text)
    if len(set(texts)) < 2:
        raise InputError(f"{path}: has {len(set(texts))} different captions; a model learns from at least 2")
    return rows, texts


def write_captions(path: Path, snapshot: Snapshot, texts: list[str]) -> None:
    """One caption per observation of the whole snapshot, in order."""
    counts = lengths(snapshot.observation_ends)
    places = [(episode, number) for episode, count in enumerate(counts) for number in range(count)]
    captions = [Caption(e, n, text) for (e, n), text in zip(places, texts, strict=True)]
    write_whole(path, "".join(json.dumps(plain(caption)) + "\n" for caption in captions))
