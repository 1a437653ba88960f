"""Files from one host to another in pieces, over whatever carries messages: who wants them asks, and checks what came.

A parcel is one file or a folder of files under a name, and never changes. The side that has parcels says which; the
other asks for pieces, one after another, writes a parcel whole when all of it is there and its digests are right, and
asks again for what did not come. So either side may die and come back.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ConfigDict

from episodes.errors import InputError
from episodes.files import whole_file, whole_folder
from episodes.typed import parse

PIECE = 256 * 1024
"""Bytes in a piece: a message that every transport takes."""
PATIENCE = 2.0
"""Time after which what was asked for and did not come is asked for again [s]."""
DIGESTING = 0.5
"""Time after which digests of what is new are gone on with at the next look [s]."""

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
        contents.append(Content("" if file == path else file.name, file.stat().st_size, _digest(file)))
    return Parcel(path.name, tuple(contents))


def _digest(path: Path) -> str:
    """In pieces: a recording may be larger than memory."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


class Shelf:
    """The side that has parcels: those below a folder that it was told of.

    Nothing outside of what was offered is ever given out, whatever is asked for.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._known: dict[str, Parcel] = {}
        self._parcels: dict[str, Parcel] = {}

    def put(self, names: Sequence[str]) -> Offer | None:
        """Offer these and no others; the offer where it is another than before, else None.

        A history may be a hundred gigabytes, and everybody else waits meanwhile: it is looked through in several calls,
        and then offered.
        """
        self._known = {name: self._known[name] for name in names if name in self._known}
        until = time.monotonic() + DIGESTING
        for name in names:
            if name not in self._known:
                if time.monotonic() >= until:
                    return None
                self._known[name] = parcel_of(self._folder / name)
        if list(names) == list(self._parcels):
            return None
        self._parcels = {name: self._known[name] for name in names}
        return Offer(tuple(self._parcels.values()))

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


class _Arriving:
    """A parcel as far as it has come: on the disk, beside its place."""

    def __init__(self, folder: Path, parcel: Parcel):
        self.parcel = parcel
        for left in folder.iterdir():
            # Of a process that was killed over it.
            if left.name.startswith(f".{parcel.name}."):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._stack = ExitStack()
        place = folder / parcel.name
        alone = [content.path for content in parcel.files] == [""]
        self._root = self._stack.enter_context(whole_file(place) if alone else whole_folder(place))
        self._missing = list(parcel.files)
        for content in parcel.files:
            self._file(content.path).write_bytes(b"")

    def wanted(self) -> Wanted | None:
        """The next piece; None where all are there."""
        while self._missing:
            content = self._missing[0]
            got = self._file(content.path).stat().st_size
            if got < content.size:
                return Wanted(self.parcel.name, content.path, got)
            del self._missing[0]
        return None

    def add(self, path: str, data: bytes) -> None:
        with self._file(path).open("ab") as file:
            file.write(data)

    def finish(self) -> bool:
        """Put it in its place, unless it is not what was offered."""
        if any(_digest(self._file(content.path)) != content.sha256 for content in self.parcel.files):
            self.give_up()
            return False
        self._stack.close()
        return True

    def give_up(self) -> None:
        """Nothing of it stays."""
        error = InterruptedError(f"{self.parcel.name} is not wanted any more")
        self._stack.__exit__(type(error), error, None)

    def _file(self, path: str) -> Path:
        return self._root / path if path else self._root


class Fetch:
    """The side that wants parcels: one after the other, in the order of the offer.

    Args:
        folder: where they come to.
        have: whether a parcel is there already.
        arrived: is told of every parcel that has come, whole.
    """

    def __init__(self, folder: Path, have: Callable[[Parcel], bool], arrived: Callable[[Parcel], None]):
        self._folder, self._have, self._arrived = folder, have, arrived
        self._missing: dict[str, Parcel] = {}
        """By name, in the order of the offer, as it was when that was made: to look for all of them takes long."""
        self._arriving: _Arriving | None = None
        self._asked: Wanted | None = None
        self._asked_at = -PATIENCE
        self.problem = ""
        """What was wrong with what came last; empty once something came whole."""

    @property
    def missing(self) -> int:
        """Parcels that are offered and not here."""
        return len(self._missing)

    def offered(self, offer: Offer) -> None:
        """Take a new offer.

        Raises:
            InputError: for a name that would leave the folder, or be hidden in it.
        """
        for parcel in offer.parcels:
            for name in (parcel.name, *(content.path for content in parcel.files if content.path)):
                if not name or PurePosixPath(name).name != name or name.startswith("."):
                    raise InputError(f"a parcel is offered under the name {name!r}: not the name of a file")
        self._missing = {parcel.name: parcel for parcel in offer.parcels if not self._have(parcel)}
        if self._arriving is not None and self._arriving.parcel not in self._missing.values():
            self._give_up()

    def wanted(self, now: float) -> Wanted | None:
        """What to ask for now [s of steady time]; None while an answer is waited for, or nothing is missing."""
        waits = self._asked is not None or (self.problem and self._arriving is None)
        if waits and now - self._asked_at < PATIENCE:
            return None
        if not self._missing:
            return None
        self._asked_at = now
        with self._told_of():
            self._arriving = self._arriving or _Arriving(self._folder, next(iter(self._missing.values())))
            self._asked = self._arriving.wanted()
            if self._asked is None:
                # A parcel of nothing but empty files.
                self._finish()
        return self._asked

    def received(self, wanted: Wanted, data: bytes) -> None:
        """A piece that was asked for; anything else is let go of."""
        if wanted != self._asked or self._arriving is None or not data:
            return
        self._asked = None
        with self._told_of():
            self._arriving.add(wanted.path, data)
            if self._arriving.wanted() is None:
                self._finish()

    def _finish(self) -> None:
        assert self._arriving is not None
        parcel, whole = self._arriving.parcel, self._arriving.finish()
        self._arriving = None
        if whole:
            self.problem = ""
            self._arrived(parcel)
            del self._missing[parcel.name]
        else:
            self.problem = f"{parcel.name}: what came is not what was offered; it is fetched again"

    @contextmanager
    def _told_of(self) -> Iterator[None]:
        """What the disk refuses is a problem, and the parcel begun anew after a while."""
        try:
            yield
        except OSError as error:
            self.problem = f"{error.filename or self._folder}: {error.strerror or error}"
            self._give_up()

    def _give_up(self) -> None:
        if self._arriving is not None:
            with suppress(OSError):
                self._arriving.give_up()
        self._arriving = self._asked = None


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
