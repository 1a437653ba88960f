"""Files in pieces: they come whole and right or not at all, whatever is lost, repeated, changed or made up."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import InputError
from robot import parcels
from robot.parcels import PATIENCE, Content, Fetch, Offer, Parcel, Shelf, Wanted, decode_offer, decode_wanted, encode


class Sides:
    """Somebody who has parcels and somebody who wants them, and the messages between."""

    def __init__(self, here: Path, there: Path):
        self.here, self.there = here, there
        for folder in (here, there):
            folder.mkdir(exist_ok=True)
        self.shelf = Shelf(here)
        self.came: list[str] = []
        self.now = 0.0
        self.fetch = self.fetching()

    def fetching(self) -> Fetch:
        return Fetch(
            self.there, lambda parcel: (self.there / parcel.name).exists(), lambda parcel: self.came.append(parcel.name)
        )

    def offer(self, *names: str) -> None:
        offer = self.shelf.put(names)
        if offer is not None:
            self.fetch.offered(decode_offer(encode(offer)))

    def step(self, *, lost: bool = False, change: Callable[[bytes], bytes] = bytes) -> bool:
        """A question and its answer; whether anything was asked."""
        wanted = self.fetch.wanted(self.now)
        if wanted is None:
            self.now += PATIENCE
            wanted = self.fetch.wanted(self.now)
        if wanted is None:
            return False
        piece = self.shelf.piece(decode_wanted(encode(wanted)))
        if not lost and piece is not None:
            self.fetch.received(wanted, change(piece))
        return True

    def until_quiet(self, most: int = 200) -> None:
        while self.step():
            most -= 1
            assert most, "it never ends"


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sides:
    monkeypatch.setattr(parcels, "PIECE", 100)
    return Sides(tmp_path / "here", tmp_path / "there")


def folder(path: Path, **files: bytes) -> bytes:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return b"".join(files.values())


def test_files_come_as_they_are_and_in_order(sides: Sides) -> None:
    for name, size in (("b", 1050), ("a", 7), ("c", 100)):
        (sides.here / name).write_bytes(os.urandom(size))
    sides.offer("b", "a", "c")
    assert sides.fetch.missing == 3
    sides.until_quiet()
    assert sides.came == ["b", "a", "c"]
    assert sides.fetch.missing == 0
    for name in "abc":
        assert (sides.here / name).read_bytes() == (sides.there / name).read_bytes()


def test_so_do_folders(sides: Sides) -> None:
    folder(sides.here / "000012", tensors=os.urandom(333), description=b"{}", nothing=b"")
    sides.offer("000012")
    sides.until_quiet()
    for name in ("tensors", "description", "nothing"):
        assert (sides.here / "000012" / name).read_bytes() == (sides.there / "000012" / name).read_bytes()
    assert [path.name for path in sides.there.iterdir()] == ["000012"]


@given(st.lists(st.sampled_from(["well", "lost", "died", "repeated"]), max_size=30), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_whatever_is_lost_on_the_way_it_comes(tmp_path_factory: pytest.TempPathFactory, fates: list[str], size: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parcels, "PIECE", 64)
        base = tmp_path_factory.mktemp("parcels")
        sides = Sides(base / "here", base / "there")
        data = os.urandom(size)
        (sides.here / "one").write_bytes(data)
        sides.offer("one")
        for fate in fates:
            if fate == "died":
                sides.fetch = sides.fetching()
                sides.fetch.offered(Offer((parcels.parcel_of(sides.here / "one"),)))
            elif fate == "repeated":
                wanted = sides.fetch.wanted(sides.now) or Wanted("one", "", 0)
                piece = sides.shelf.piece(wanted) or b""
                sides.fetch.received(wanted, piece)
                sides.fetch.received(wanted, piece)
            else:
                sides.step(lost=fate == "lost")
            assert not (sides.there / "one").exists() or (sides.there / "one").read_bytes() == data
        sides.until_quiet()
        assert (sides.there / "one").read_bytes() == data
        assert len(list(sides.there.iterdir())) == 1


def test_what_is_damaged_on_the_way_is_not_kept_and_fetched_again(sides: Sides) -> None:
    data = os.urandom(250)
    (sides.here / "one").write_bytes(data)
    sides.offer("one")
    sides.step(change=lambda piece: piece[:-1] + bytes([piece[-1] ^ 1]))
    sides.step()
    sides.step()
    assert sides.fetch.problem == "one: what came is not what was offered; it is fetched again"
    assert not list(sides.there.iterdir())
    sides.until_quiet()
    assert (sides.there / "one").read_bytes() == data
    assert sides.fetch.problem == ""


def test_nothing_is_asked_for_twice_before_there_was_time_for_an_answer(sides: Sides) -> None:
    (sides.here / "one").write_bytes(b"data")
    sides.offer("one")
    asked = sides.fetch.wanted(0.0)
    assert asked == Wanted("one", "", 0)
    assert sides.fetch.wanted(PATIENCE - 0.01) is None
    assert sides.fetch.wanted(PATIENCE) == asked


def test_what_is_offered_no_more_is_given_up_for_what_is(sides: Sides) -> None:
    """The newest policy is all that is wanted."""
    for number in (1, 2):
        folder(sides.here / f"{number}", tensors=os.urandom(500))
    sides.offer("1")
    sides.step()
    sides.step()
    sides.offer("2")
    sides.until_quiet()
    assert sides.came == ["2"]


def test_the_same_offer_is_made_once(sides: Sides) -> None:
    (sides.here / "one").write_bytes(b"data")
    assert sides.shelf.put(["one"]) is not None
    assert sides.shelf.put(["one"]) is None
    assert sides.shelf.put([]) == Offer(())


def test_many_are_looked_through_in_several_calls_and_then_offered(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a history of recordings is there for everybody else meanwhile."""
    digested: list[str] = []
    seconds = iter(range(100))
    monkeypatch.setattr(parcels, "_digest", lambda path: digested.append(path.name) or "0" * 64)
    monkeypatch.setattr(parcels.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(parcels, "DIGESTING", 1.5)
    names = [f"{number}" for number in range(4)]
    for name in names:
        (sides.here / name).write_bytes(b"data")
    assert sides.shelf.put(names) is None
    assert digested == names[:1]
    assert sides.shelf.piece(Wanted("0", "", 0)) is None
    offers = [sides.shelf.put(names) for _ in range(4)]
    assert digested == names
    assert [len(offer.parcels) for offer in offers if offer is not None] == [4]
    assert sides.shelf.piece(Wanted("0", "", 0)) == b"data"


def test_files_are_looked_for_when_there_is_an_offer_and_not_again(sides: Sides) -> None:
    looked: list[str] = []
    sides.fetch = Fetch(sides.there, lambda parcel: bool(looked.append(parcel.name)), lambda _: None)
    for name in "abc":
        (sides.here / name).write_bytes(b"data")
    sides.offer(*"abc")
    sides.until_quiet()
    assert sides.fetch.missing == 0
    assert looked == ["a", "b", "c"]
    sides.offer(*"ab")
    assert looked[3:] == ["a", "b"]


def test_what_is_on_its_way_goes_on_when_something_is_offered_before_it(sides: Sides) -> None:
    for name in "ab":
        (sides.here / name).write_bytes(os.urandom(250))
    sides.offer("b")
    sides.step()
    sides.offer("a", "b")
    sides.until_quiet()
    assert sides.came == ["b", "a"]
    assert sides.fetch.missing == 0


NOWHERE = ["../secret", "/etc/passwd", "..", ".", ".hidden", "a/b"]


@pytest.mark.parametrize(("name", "inside"), [*((n, i) for n in NOWHERE for i in (False, True)), ("", False)])
def test_nobody_writes_anywhere_else(name: str, inside: bool, sides: Sides) -> None:
    content = Content(name if inside else "", 4, "0" * 64)
    with pytest.raises(InputError, match="is offered under the name"):
        sides.fetch.offered(Offer((Parcel("fine" if inside else name, (content,)),)))
    assert sides.fetch.wanted(0.0) is None


def test_nobody_reads_anything_else(sides: Sides, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (sides.here / "other").write_bytes(b"other")
    folder(sides.here / "one", tensors=b"tensors")
    sides.shelf.put(["one"])
    for parcel, path in (("../secret", ""), ("other", ""), ("one", "../../secret"), ("one", "../other"), ("one", "")):
        assert sides.shelf.piece(Wanted(parcel, path, 0)) is None
    assert sides.shelf.piece(Wanted("one", "tensors", 7)) is None
    assert sides.shelf.piece(Wanted("one", "tensors", -1)) is None
    assert sides.shelf.piece(Wanted("one", "tensors", 5)) == b"rs"


def test_a_piece_that_nobody_asked_for_is_let_go_of(sides: Sides) -> None:
    (sides.here / "one").write_bytes(b"data")
    sides.offer("one")
    sides.fetch.received(Wanted("one", "", 0), b"evil")
    wanted = sides.fetch.wanted(0.0)
    assert wanted == Wanted("one", "", 0)
    sides.fetch.received(Wanted("one", "", 2), b"evil")
    sides.until_quiet()
    assert (sides.there / "one").read_bytes() == b"data"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"parcels": 3}', '{"parcels": [], "more": 1}', "null"])
def test_what_is_no_message_is_refused(text: str) -> None:
    for decode in (decode_offer, decode_wanted):
        with pytest.raises(InputError):
            decode(text)


def test_a_disk_that_is_full_is_told_of_and_tried_again_after_a_while(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "one")

    (sides.here / "one").write_bytes(b"data")
    with monkeypatch.context() as patch:
        patch.setattr(parcels._Arriving, "add", full)
        sides.offer("one")
        sides.step()
        assert sides.fetch.problem == "one: No space left on device"
        assert not list(sides.there.iterdir())
    assert sides.fetch.wanted(sides.now) is None
    sides.until_quiet()
    assert (sides.came, sides.fetch.problem) == (["one"], "")


def test_what_a_killed_process_has_left_is_cleared_away_and_nothing_else(sides: Sides) -> None:
    for name in (".one.123", ".one.more", ".recorder", ".oneness.1"):
        (sides.there / name).write_bytes(b"left")
    folder(sides.there / ".one.77", tensors=b"left")
    (sides.here / "one").write_bytes(b"data")
    sides.offer("one")
    sides.until_quiet()
    assert sorted(path.name for path in sides.there.iterdir()) == [".oneness.1", ".recorder", "one"]


def test_a_parcel_never_lies_in_memory(sides: Sides) -> None:
    """What has come of it is on the disk, hidden, until it is whole."""
    (sides.here / "one").write_bytes(os.urandom(350))
    sides.offer("one")
    sides.step()
    sides.step()
    (unfinished,) = sides.there.iterdir()
    assert unfinished.name.startswith(".one.")
    assert unfinished.read_bytes() == (sides.here / "one").read_bytes()[:200]
