"""Files from one host to another in pieces, over whatever carries messages: who wants them asks, and checks what came.

A parcel is one file or a folder of files under a name, and never changes. The side that has parcels says which; the
other asks for pieces, one after another, writes a parcel whole when all of it is there and its digests are right, and
asks again for what did not come. So either side may die and come back.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ConfigDict

from episodes.errors import InputError
from episodes.files import whole_folder, write_whole
from episodes.typed import parse

PIECE = 256 * 1024
"""Bytes in a piece: a message that every transport takes."""
PATIENCE = 2.0
"""Time after which what was asked for and did not come is asked for again [s]."""

_EXACT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Content:
    """A file of a parcel."""

    __pydantic_config__ = _EXACT

    path: str
    """Inside the parcel; empty where the parcel is this one file."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Parcel:
    __pydantic_config__ = _EXACT

    name: str
    files: tuple[Content, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is, in the order in which it is to be fetched."""

    __pydantic_config__ = _EXACT

    parcels: tuple[Parcel, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A piece of a file."""

    __pydantic_config__ = _EXACT

    parcel: str
    path: str
    offset: int


def parcel_of(path: Path) -> Parcel:
    """A file, or a folder with the files in it."""
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())
    contents = []
    for file in files:
        data = file.read_bytes()
        contents.append(Content("" if file == path else file.name, len(data), sha256(data).hexdigest()))
    return Parcel(path.name, tuple(contents))


class Shelf:
    """The side that has parcels: those below a folder that it was told of.

    Nothing outside of what was offered is ever given out, whatever is asked for.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._parcels: dict[str, Parcel] = {}

    def put(self, names: Sequence[str]) -> Offer | None:
        """Offer these and no others; the offer where it is another than before, else None."""
        parcels = {name: self._parcels.get(name) or parcel_of(self._folder / name) for name in names}
        if list(parcels) == list(self._parcels):
            return None
        self._parcels = parcels
        return Offer(tuple(parcels.values()))

    def piece(self, wanted: Wanted) -> bytes | None:
        """The bytes from an offset on; None for what is not offered, or not there any more."""
        parcel = self._parcels.get(wanted.parcel)
        content = None if parcel is None else next((each for each in parcel.files if each.path == wanted.path), None)
        if content is None or not 0 <= wanted.offset < max(content.size, 1):
            return None
        path = self._folder / wanted.parcel
        try:
            with (path / wanted.path if wanted.path else path).open("rb") as file:
                file.seek(wanted.offset)
                return file.read(PIECE)
        except OSError:
            return None


class Fetch:
    """The side that wants parcels: one after the other, in the order of the offer.

    Args:
        folder: where they come to.
        have: whether a parcel is there already.
        arrived: is told of every parcel that has come, whole.
    """

    def __init__(self, folder: Path, have: Callable[[Parcel], bool], arrived: Callable[[Parcel], None]):
        self._folder, self._have, self._arrived = folder, have, arrived
        self._offered: tuple[Parcel, ...] = ()
        self._parcel: Parcel | None = None
        self._got: dict[str, bytearray] = {}
        self._asked: tuple[Wanted, float] | None = None
        self.problem = ""
        """What was wrong with what came last; empty once something came whole."""

    @property
    def missing(self) -> int:
        """Parcels that are offered and not here."""
        return sum(not self._have(parcel) for parcel in self._offered)

    def offered(self, offer: Offer) -> None:
        """Take a new offer.

        Raises:
            InputError: for a name that would leave the folder, or be hidden in it.
        """
        for parcel in offer.parcels:
            for name in (parcel.name, *(content.path for content in parcel.files if content.path)):
                if not name or PurePosixPath(name).name != name or name.startswith("."):
                    raise InputError(f"a parcel is offered under the name {name!r}: not the name of a file")
        self._offered = offer.parcels
        if self._parcel is not None and self._parcel not in self._offered:
            self._give_up()

    def wanted(self, now: float) -> Wanted | None:
        """What to ask for now [s of steady time]; None while an answer is waited for, or nothing is missing."""
        if self._asked is not None and now - self._asked[1] < PATIENCE:
            return None
        if self._parcel is None:
            self._parcel = next((each for each in self._offered if not self._have(each)), None)
            self._got = {}
        if self._parcel is None:
            return None
        for content in self._parcel.files:
            got = len(self._got.setdefault(content.path, bytearray()))
            if got < content.size:
                wanted = Wanted(self._parcel.name, content.path, got)
                self._asked = wanted, now
                return wanted
        # A parcel of nothing but empty files.
        self._finish()
        return None

    def received(self, wanted: Wanted, data: bytes) -> None:
        """A piece that was asked for; anything else is let go of."""
        if self._asked is None or wanted != self._asked[0] or self._parcel is None or not data:
            return
        self._asked = None
        self._got[wanted.path] += data
        if all(len(self._got.get(content.path, b"")) >= content.size for content in self._parcel.files):
            self._finish()

    def _finish(self) -> None:
        parcel, got = self._parcel, self._got
        assert parcel is not None
        self._give_up()
        for content in parcel.files:
            if sha256(got[content.path]).hexdigest() != content.sha256:
                self.problem = f"{parcel.name}: what came is not what was offered; it is fetched again"
                return
        try:
            self._write(parcel, got)
        except OSError as error:
            self.problem = f"{self._folder / parcel.name}: {error.strerror or error}"
            return
        self.problem = ""
        self._arrived(parcel)

    def _write(self, parcel: Parcel, got: dict[str, bytearray]) -> None:
        path = self._folder / parcel.name
        if "" in got:
            write_whole(path, bytes(got[""]))
            return
        with whole_folder(path) as folder:
            for name, data in got.items():
                (folder / name).write_bytes(data)

    def _give_up(self) -> None:
        self._parcel, self._got, self._asked = None, {}, None


def encode(said: Offer | Wanted) -> str:
    return json.dumps(asdict(said), separators=(",", ":"))


def decode_offer(text: str) -> Offer:
    """Raises an InputError for what is none."""
    return parse(Offer, _object(text), "offer")


def decode_wanted(text: str) -> Wanted:
    """Raises an InputError for what is none."""
    return parse(Wanted, _object(text), "wanted")


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"expected an object, got {type(content).__name__}")
    return content
