"""Importing: from a source to a store, a group of episodes per commit, nothing twice."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from episodes.contract import Contract
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
    source: Importer,
    path: Path,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    contract: Contract | None = None,
    *,
    refuse_repeated: bool = False,
) -> ImportResult:
    """Bring a source's episodes into the store at `path`, which is made if there is none.

    Args:
        contract: says what the source's numbers mean where the source itself does not; its own where None.
        refuse_repeated: take nothing from a source of which the store has an episode already; else the others are
            taken. A source is then read twice, unless the store is empty.

    Raises:
        InputError: where the store holds another layout, nothing in the source can be used, or something is repeated
            that is to be refused; the store is as it was.
    """
    if contract is not None:
        _check_sizes(source.contract, contract)
    contract = contract or source.contract
    result = ImportResult()
    known = _digests(path, contract)
    if refuse_repeated and known:
        _refuse_repeated(progress(source.episodes()), known, path)
    group: list[Episode] = []
    size = 0
    unsaid: list[dict[str, str]] = []
    for key, episode in progress(source.episodes()):
        if isinstance(episode, EpisodeError):
            result.left_out.append({"episode": key, "reason": str(episode)})
            unsaid.append(result.left_out[-1])
            continue
        digest = episode.digest()
        if known[digest]:
            known[digest] -= 1
            result.already_there += 1
            continue
        group.append(episode)
        size += _bytes(episode)
        if size >= GROUP_BYTES:
            _commit(group, unsaid, contract, path, result)
            size = 0
    if group or (unsaid and (result.episodes or result.already_there)):
        _commit(group, unsaid, contract, path, result)
    if not result.episodes and not result.already_there:
        first = result.left_out[0] if result.left_out else {"episode": "-", "reason": "the source holds no episodes"}
        raise InputError(
            f"nothing could be imported into {path}: {len(result.left_out)} episodes left out; "
            f"the first, {first['episode']}: {first['reason']}"
        )
    return result


def _check_sizes(source: Contract, given: Contract) -> None:
    """Raise an InputError unless a given contract can stand for the source's own."""
    for what, there, said in (
        ("state entries", len(source.state), len(given.state)),
        ("action entries", len(source.action), len(given.action)),
        ("cameras", _cameras(source), _cameras(given)),
    ):
        if there != said:
            raise InputError(f"contract {given.name!r}: says {said} {what}, the source has {there}")


def _cameras(contract: Contract) -> str:
    return ", ".join(f"{camera.name} {camera.height}x{camera.width}" for camera in contract.cameras) or "no"


def _digests(path: Path, contract: Contract) -> Counter[str]:
    """Of the episodes that are there already; also refuses a store of another layout before any work is done.

    Counted, because a source may hold the same episode twice, and then the store shall, too.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return Counter()
    store = open_or_create(path, contract)
    return Counter(metadata["digest"] for metadata in store.snapshot().metadata)


def _refuse_repeated(found: Iterable[tuple[str, Episode | EpisodeError]], known: Counter[str], path: Path) -> None:
    """Raise an InputError where the store has one of the episodes found; all are looked at before any is added."""
    for key, episode in found:
        if isinstance(episode, Episode) and known[episode.digest()]:
            raise InputError(f"{path}: has episode {key} of this source already; nothing was imported")


def _commit(
    group: list[Episode], unsaid: list[dict[str, str]], contract: Contract, path: Path, result: ImportResult
) -> None:
    store: Store = open_or_create(path, contract)
    # Where the source was there in part, the import before this one may have said what it left out.
    said = store.snapshot().left_out if result.already_there else []
    store.append(group, [each for each in unsaid if each not in said])
    unsaid.clear()
    store.flush()
    result.episodes += len(group)
    result.steps += sum(episode.steps for episode in group)
    result.transitions += sum(episode.transitions for episode in group)
    group.clear()


def _bytes(episode: Episode) -> int:
    return sum(images.nbytes for images in episode.images.values()) + episode.state.nbytes + episode.action.nbytes
