"""What every importer is and needs: the protocol, and reading a file that may be damaged."""

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import h5py
import numpy as np

from episodes.contract import Contract, contract_from
from episodes.episode import Episode, EpisodeError
from episodes.errors import InputError, unknown
from episodes.typed import plain

T = TypeVar("T")

DAMAGE = (
    OSError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the HDF5, zip and zarr libraries raise on a damaged file. Only looking into files stands under `reading` and
`damaged`, so that a mistake of ours is not told as damage."""


LATEST = 2**63 / 1e9
"""Beyond this time [s] an int64 of nanoseconds ends."""

BLOCK_ROWS = 64
"""Images to read at once, or as many as are in a chunk: where a chunk is one, many are decoded together."""

BLOCK_BYTES = 64 * 2**20
"""Where images are large, fewer are read at once."""


class Importer(Protocol):
    """A source of episodes in someone else's format.

    It reads what is small when it is made, and the images of one episode at a time.
    """

    format: ClassVar[str]
    """The format's name, such as `robomimic HDF5`."""
    layout: ClassVar[str]
    """What the format is recognised by, in a few words."""
    contract: Contract
    """Of what will be imported: after the choice of cameras and of their size."""
    ignored: tuple[str, ...]
    """What is in the source and not imported."""

    def __len__(self) -> int:
        """Number of episodes in the source, usable or not."""
        ...

    def episodes(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        """For every episode its key in the source, and the checked episode or why it cannot be used."""
        ...


class FileImporter(Importer, Protocol):
    """An importer of a format that says itself what its numbers are."""

    def __init__(
        self, path: Path, *, task: str, cameras: Sequence[str] | None, image_size: tuple[int, int] | None
    ) -> None: ...


@contextmanager
def reading(where: Path | str) -> Iterator[None]:
    """Turn what a file library raises on a damaged file into a one-line InputError that begins with `where`."""
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{where}: cannot be read, damaged or cut short: {reason(error)}") from None


@contextmanager
def damaged(what: str) -> Iterator[None]:
    """Turn the same into an EpisodeError: damage inside one episode costs that episode, not the file."""
    try:
        yield
    except DAMAGE as error:
        raise EpisodeError(f"{what} cannot be read, damaged: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """An error's message on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def listed(names: Iterable[str], most: int = 6) -> str:
    """Some names in words: the first few, and how many more."""
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def member_names(group: h5py.Group) -> list[str]:
    """Names of what is in an HDF5 group. One that is not UTF-8, which h5py gives as bytes, is written with escapes."""
    return [name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name) for name in group]


def blocks(array: h5py.Dataset, what: str) -> Iterator[np.ndarray]:
    """The rows of an array in blocks of whole chunks, each decoded once.

    Raises:
        EpisodeError: where they are damaged.
    """
    chunk = array.chunks[0] if array.chunks else 1
    wanted = min(BLOCK_ROWS, BLOCK_BYTES // max(array.nbytes // max(len(array), 1), 1))
    rows = max(-(-wanted // chunk), 1) * chunk
    for start in range(0, len(array), rows):
        with damaged(what):
            block = np.asarray(array[start : start + rows])
        yield block


def words(camel: str) -> str:
    """`NutAssemblySquare` as `nut assembly square`: a task text where the source only has the environment's name."""
    return " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", camel)).lower()


def safe_name(name: str) -> str:
    """The name with what a contract does not allow replaced by underscores."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return name if name[:1].isalnum() else f"x{name}"


def choose_cameras(available: dict[str, T], wanted: Sequence[str] | None, where: Path) -> dict[str, T]:
    """The wanted ones of the available cameras, in sorted order; None wants all."""
    for name in wanted or ():
        if name not in available:
            raise unknown("camera", name, available, str(where))
    return {name: available[name] for name in sorted(available) if wanted is None or name in wanted}


def checked(contract: Contract, where: Path) -> Contract:
    """The contract after the checks that one read from a file goes through."""
    return contract_from(plain(contract), str(where))


def numbers(values: np.ndarray, what: str) -> np.ndarray:
    """`values` as float32. What does not fit becomes infinite, which the episode's check then refuses.

    Raises:
        EpisodeError: where they are not real numbers.
    """
    if values.dtype.kind not in "fiub":
        raise EpisodeError(f"{what} is {values.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def stamps(count: int, rate: float | None) -> np.ndarray | None:
    """Shape (count,), int64 [ns]: times from the episode's start at a known rate [Hz], None where it is unknown.

    Raises:
        EpisodeError: where the rate is so low that the last of them is beyond what 64 bits hold.
    """
    if rate is None:
        return None
    if count / rate >= LATEST:
        raise EpisodeError(f"at {rate:g} Hz its {count} observations take longer than 64 bits of nanoseconds can say")
    return np.rint(np.arange(count) * (1e9 / rate)).astype(np.int64)
