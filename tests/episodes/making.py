"""Small episodes that come out the same for the same number, and processes that write them.

python -m tests.episodes.making record STORE FIRST    waits for a line, then appends, saying so, until stdin ends
python -m tests.episodes.making create STORE          waits for a line, then opens the store or makes it
"""

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.episode import Episode

ROOT = Path(__file__).resolve().parents[2]

PLAIN = Contract(
    "toy", state=(StateEntry("x", "m"), StateEntry("v", "m/s")), action=(ActionEntry("u", "m/s", low=-1.0, high=1.0),)
)
"""Two numbers seen, one sent, no camera."""

SEEING = replace(PLAIN, name="seeing", cameras=(Camera("front", 4, 6), Camera("c", 3, 3)))
"""The same with two cameras. One has the name that zarr gives its chunks."""

OPTIONAL = (
    "observation_time",
    "action_time",
    "source",
    "reward",
    "success",
    "cost",
    "action_proposed",
    "log_probability",
    "policy",
    "verdict",
)


def make_episode(
    number: int,
    steps: int = 5,
    *,
    contract: Contract = PLAIN,
    final: bool = True,
    terminated: bool = False,
    columns: Sequence[str] = ("reward",),
    **changes: Any,
) -> Episode:
    """An episode of random numbers: with the observation after the last action if `final`, and with these columns."""
    rng = np.random.default_rng([number, steps, final, terminated])
    rows = steps + final

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    every = {
        "observation_time": 1_700_000_000_000_000_000 + np.cumsum(rng.integers(1, 10**8, rows)),
        "action_time": 1_700_000_000_000_000_000 + np.cumsum(rng.integers(1, 10**8, steps)),
        "source": rng.integers(1, 5, steps).astype(np.uint8),
        "reward": floats(steps),
        "success": rng.integers(0, 2, steps).astype(np.float32),
        "cost": floats(steps),
        "action_proposed": floats(steps, len(contract.action)),
        "log_probability": floats(steps),
        "policy": rng.integers(1, 2**64, steps, dtype=np.uint64),
        "verdict": rng.integers(1, 4, steps).astype(np.uint8),
    }
    episode = Episode(
        state=floats(rows, len(contract.state)),
        action=floats(steps, len(contract.action)),
        terminated=terminated,
        truncated=not terminated,
        images={c.name: rng.integers(0, 256, (rows, c.height, c.width, 3), np.uint8) for c in contract.cameras},
        task="push the block",
        place="sim",
        origin=f"number {number}",
        **{name: every[name] for name in columns},
    )
    return replace(episode, **changes)


def differences(got: Episode, expected: Episode) -> list[str]:
    """The fields in which two episodes differ, to the bit."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        return type(a) is type(b) and a == b

    return [n for n in Episode.__dataclass_fields__ if not same(getattr(got, n), getattr(expected, n))]


def recorded(number: int) -> Episode:
    """What the recording process appends as its episode of this number."""
    return make_episode(
        number,
        4 + number % 5,
        contract=SEEING,
        final=number % 3 > 0,
        terminated=number % 2 > 0,
        columns=OPTIONAL if number % 4 else ("reward", "observation_time"),
    )


def start(command: str, store: Path, *arguments: Any) -> subprocess.Popen[str]:
    """A process of this file's commands, which waits for a line on its stdin. Never a fork: Icechunk hangs in those."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.episodes.making", command, str(store), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    """Let a started process begin, once it has its libraries loaded."""
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    process.stdin.write("go\n")
    process.stdin.flush()


def _main(command: str, path: str, *arguments: str) -> None:
    from episodes.store import Store, open_or_create

    def say(*words: Any) -> None:
        sys.stdout.write(" ".join(map(str, words)) + "\n")
        sys.stdout.flush()

    store = Store.open(path) if command == "record" else None
    say("ready")
    if not sys.stdin.readline():
        return  # the test is gone
    if store is None:
        open_or_create(Path(path), SEEING)
        say("open")
        return
    for number in count(int(*arguments)):
        if select.select([sys.stdin], [], [], 0)[0]:
            return
        episode = recorded(number)
        say("begin", number)
        store.append([episode])
        say("done", number)


if __name__ == "__main__":
    _main(*sys.argv[1:])
