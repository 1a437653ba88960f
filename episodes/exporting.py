"""Exporting: from a store to another project's format, an episode at a time, whole or not at all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.errors import InputError
from episodes.exporters import Outgoing, make_exporter
from episodes.labels import LOGGED
from episodes.store import Store


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export did."""

    format: str
    labels: str
    """Whose rewards and successes went out."""
    episodes: int
    steps: int
    left_behind: list[str]
    """What of the store has no place in the format, a line each."""


def export_store(
    path: Path,
    out: Path,
    format: str,
    *,
    labels: str = LOGGED,
    video: bool = False,
    tell: Callable[[str], Any] = lambda line: None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> ExportResult:
    """Write the episodes of the store at `path` to `out`, which must not exist.

    Args:
        format: A key of `exporters.FORMATS`.
        labels: The label set whose rewards and successes go out; the episodes that it does not cover stay.
        video: Write pictures as video instead of one by one, where the format has both.
        tell: Is given each line of what is left behind, before anything is written.

    Raises:
        InputError: where `out` exists, or the store, the labels or the format cannot be used; nothing was written.
    """
    snapshot = Store.open(path).snapshot()
    outgoing = Outgoing(snapshot, snapshot.labels(labels))
    exporter = make_exporter(format, outgoing, video=video)
    _check_free(out, path)
    for line in exporter.left_behind:
        tell(line)
    with exporter.writing(out) as add:
        for episode, ends in progress(outgoing):
            add(episode, ends)
    return ExportResult(format, labels, len(outgoing), outgoing.steps, list(exporter.left_behind))


def _check_free(out: Path, store: Path) -> None:
    """Refuse to write over what is there, and into the store."""
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: exists, and an export never replaces anything; give a name that is free")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; make it first")
    if out.resolve().is_relative_to(store.resolve()):
        raise InputError(f"{out}: lies in the store itself; give a place outside of it")
