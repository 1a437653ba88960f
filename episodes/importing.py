"""Importing: from a source to a store, a group of episodes per commit, nothing twice."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from episodes.episode import Episode, EpisodeError
from episodes.errors import InputError
from episodes.importers.source import Importer
from episodes.store import Store, open_or_create

GROUP_BYTES = 256 * 2**20
"""Episodes are committed together up to this size: large enough to be fast, small enough for memory."""


@dataclass
class ImportResult:
    """What an import did; the episodes counted are the new ones."""

    episodes: int = 0
    steps: int = 0
    transitions: int = 0
    already_there: int = 0
    """Episodes of the source that the store had before: an interrupted import can simply be run again."""
    left_out: list[dict[str, str]] = field(default_factory=list)
    """`episode` (its key in the source) and `reason` of every one that could not be used."""


def import_into(
    source: Importer, path: Path, progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> ImportResult:
    """Bring a source's episodes into the store at `path`, which is made if there is none.

    Raises:
        InputError: where the store holds another layout, or nothing in the source can be used; the store is as it was.
    """
    result = ImportResult()
    known = _digests(path, source)
    group: list[Episode] = []
    unsaid: list[dict[str, str]] = []
    for key, episode in progress(source.episodes()):
        if isinstance(episode, EpisodeError):
            result.left_out.append({"episode": key, "reason": str(episode)})
            unsaid.append(result.left_out[-1])
            continue
        digest = episode.digest()
        if digest in known:
            result.already_there += 1
            continue
        known.add(digest)
        group.append(episode)
        if sum(_bytes(each) for each in group) >= GROUP_BYTES:
            _commit(group, unsaid, source, path, result)
    if group:
        _commit(group, unsaid, source, path, result)
    if not result.episodes and not result.already_there:
        first = result.left_out[0] if result.left_out else {"episode": "-", "reason": "the source holds no episodes"}
        raise InputError(
            f"nothing could be imported into {path}: {len(result.left_out)} episodes left out; "
            f"the first, {first['episode']}: {first['reason']}"
        )
    return result


def _digests(path: Path, source: Importer) -> set[str]:
    """Of the episodes that are there already; also refuses a store of another layout before any work is done."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return set()
    store = open_or_create(path, source.contract)
    return {metadata["digest"] for metadata in store.snapshot().metadata}


def _commit(
    group: list[Episode], unsaid: list[dict[str, str]], source: Importer, path: Path, result: ImportResult
) -> None:
    store: Store = open_or_create(path, source.contract)
    store.append(group, unsaid)
    unsaid.clear()
    store.flush()
    result.episodes += len(group)
    result.steps += sum(episode.steps for episode in group)
    result.transitions += sum(episode.transitions for episode in group)
    group.clear()


def _bytes(episode: Episode) -> int:
    return sum(images.nbytes for images in episode.images.values()) + episode.state.nbytes + episode.action.nbytes
