"""Damage for other people's files, and what has to be true of an import of them whatever it is."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from episodes.errors import InputError
from episodes.importers import open_source
from episodes.importing import import_into
from episodes.store import Store

LONG = int(os.environ.get("FIRSTHAND_LONG") or 0)
"""How many times as many examples as in a quick run; 0 is a quick run."""

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


def survives(path: Path, store: Path) -> str:
    """Import what may be damaged: there is a whole store afterwards, or one line that says why, and no store."""
    try:
        result = import_into(open_source(path), store)
    except InputError as error:
        assert "\n" not in str(error) and not store.exists()
        return "refused"
    snapshot = Store.open(store).snapshot()
    assert (snapshot.episodes, snapshot.steps) == (result.episodes, result.steps) and result.episodes > 0
    assert [snapshot.episode(index).digest() for index in range(snapshot.episodes)] == [
        metadata["digest"] for metadata in snapshot.metadata
    ]
    assert all("\n" not in each["reason"] for each in result.left_out)
    return "left out" if result.left_out else "imported"


def change(document: Any, draw: Any) -> Any:
    """A document of JSON with one place in it taken away or made anything; `draw` is hypothesis's."""
    if not isinstance(document, dict | list) or not document:
        return draw(ANYTHING)
    place: Any = document
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3))):
            break
        place = place[key]
    if draw(st.booleans()):
        place[key] = draw(ANYTHING)
    else:
        del place[key]
    return document


def damage(raw: bytes, rng: np.random.Generator) -> bytes:
    """A file with a bit flipped, a byte or a few overwritten, a piece missing, or its end."""
    if not raw:
        return b"\0"
    at, kind = int(rng.integers(len(raw))), int(rng.integers(5))
    if kind == 0:
        return raw[:at]
    broken = bytearray(raw)
    if kind <= 2:
        broken[at] ^= 1 << int(rng.integers(8))
    elif kind == 3:
        broken[at : at + 8] = rng.bytes(min(8, len(raw) - at))
    else:
        del broken[at : at + int(rng.integers(1, 64))]
    return bytes(broken)
