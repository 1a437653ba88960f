"""Small stores of every shape that a contract allows, and what an import of their export has to bring back."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.episode import Episode
from episodes.importers.source import Importer
from episodes.snapshot import Snapshot
from episodes.store import Store
from tests.episodes.making import OPTIONAL, differences, make_episode

STATES = (
    (),
    ("x",),
    ("arm.x", "arm.y", "arm.z"),
    ("grip.0", "grip.1", "base"),
    ("q.x", "q.y", "q.z", "q.w", "p.1", "p.0"),
    ("a.pos", "b.pos", "a.0", "b", "a.1"),
    ("arm.x", "arm.y", "arm.z", "arm"),
    ("front_image", "state"),
)
"""Names that go together as one observation, ones that only look like it, and ones that would be taken for another."""

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    cameras = draw(st.sampled_from([(), ("front",), ("wrist.left", "c")]))
    states = draw(st.sampled_from(STATES if cameras else STATES[1:]))
    references = st.sampled_from([None, *states])
    return Contract(
        draw(TEXT),
        state=tuple(StateEntry(name, draw(st.sampled_from(["", "m"])), draw(st.booleans())) for name in states),
        action=tuple(
            ActionEntry(
                f"u{i}", "rad", draw(st.sampled_from([None, -1.5])), draw(st.none() | st.just(2.0)), draw(references)
            )
            for i in range(draw(st.integers(1, 3)))
        ),
        cameras=tuple(Camera(name, draw(st.integers(1, 5)), draw(st.integers(1, 5))) for name in cameras),
        rate=draw(st.sampled_from([None, 10.0, 12.5, 30.0])),
    )


@st.composite
def episodes(draw: st.DrawFn, contract: Contract, columns: Any = None) -> Episode:
    columns = st.lists(st.sampled_from(OPTIONAL), unique=True) if columns is None else columns
    return make_episode(
        draw(st.integers(0, 99)),
        draw(st.integers(1, 4)),
        contract=contract,
        final=draw(st.booleans()),
        terminated=draw(st.booleans()),
        columns=draw(columns),
        task=draw(TEXT),
        place=draw(st.sampled_from(["real", "sim", ""])),
        origin=draw(TEXT),
        evaluation=draw(st.booleans()),
    )


@st.composite
def stores(draw: st.DrawFn) -> tuple[Contract, list[Episode]]:
    contract = draw(contracts())
    return contract, draw(st.lists(episodes(contract), min_size=1, max_size=3))


def stored(path: Path, contract: Contract, episodes: list[Episode]) -> Snapshot:
    store = Store.create(path, contract)
    store.append(episodes)
    return store.snapshot()


def assert_brings_back(source: Importer, contract: Contract, expected: list[Episode]) -> None:
    """The source gives these episodes, to the bit and in order."""
    assert source.contract == contract and not source.ignored and len(source) == len(expected)
    for (key, got), want in zip(source.episodes(), expected, strict=True):
        assert isinstance(got, Episode), f"{key}: {got}"
        assert not differences(got, want), key
        assert got.digest() == want.digest()
