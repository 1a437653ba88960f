"""The store with several processes: recorders killed at any moment, and writers and a reader at the same time.

`FIRSTHAND_LONG=1` kills fifty times; `pytest -s` then shows where the kills fell.
"""

import os
import random
import sys
import time
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from episodes.labels import LabelSet
from episodes.snapshot import Snapshot
from episodes.store import Store, open_or_create
from tests.episodes.making import SEEING, differences, go, make_episode, recorded, start

KILLS = 50 if os.environ.get("FIRSTHAND_LONG") else 8
PATIENCE = 60.0
"""[s] What waits for a dead process waits for ever; this leaves room for a machine that is busy with something else."""


def assert_whole(snapshot: Snapshot, since: int = 0) -> list[int]:
    """Every episode from `since` on is exactly the one of its number, in all its columns; returns the numbers."""
    numbers = [int(metadata["origin"].removeprefix("number ")) for metadata in snapshot.metadata]
    for index in range(since, snapshot.episodes):
        expected = recorded(numbers[index])
        assert not differences(snapshot.episode(index), expected)
        assert snapshot.metadata[index]["digest"] == expected.digest()
    return numbers


def assert_not_ragged(snapshot: Snapshot) -> None:
    """Every column ends where the last episode ends."""
    steps, observations = snapshot.steps, snapshot.observations
    for group, rows in (("step", steps), ("observation", observations), ("image", observations)):
        for name, array in snapshot.root[group].arrays():
            assert array.shape[0] == rows, f"{group}/{name}"
    for name, array in snapshot.root["episode"].arrays():
        assert array.shape[0] == snapshot.episodes, f"episode/{name}"


@pytest.fixture
def crowd():
    """Processes to start, none of which outlives the test."""
    processes = []
    yield lambda *arguments: processes.append(start(*arguments)) or processes[-1]
    for process in processes:
        process.kill()
        process.communicate()


def test_a_recorder_killed_at_any_moment_loses_nothing_it_acknowledged(tmp_path: Path, crowd, monkeypatch):
    """Every acknowledged episode is there and complete, nothing partial is visible, the next writer works at once."""
    monkeypatch.setattr("episodes.store.LOCK_TIMEOUT", PATIENCE)
    path = tmp_path / "store"
    store = Store.create(path, SEEING)
    dice, fell, waits, expected = random.Random(), Counter(), [], []
    recorder = crowd("record", path, 0)
    for kill in range(KILLS):
        first = len(expected)
        go(recorder)
        # At any moment of the first append or of one of the next: a machine that is slow takes longer for each.
        said = [recorder.stdout.readline() for _ in range(dice.randrange(1, 6))]
        time.sleep(dice.uniform(0, 1.5) * float(np.median([0.1, *waits])))
        recorder.kill()
        said += recorder.stdout.read().splitlines(keepends=True)
        recorder.wait()
        # A line that was cut short by the kill is no acknowledgement.
        words = [line.split() for line in said if line.endswith("\n")]
        acknowledged = [int(number) for word, number in words if word == "done"]
        begun = [int(number) for word, number in words if word == "begin"]

        seen = store.snapshot()
        assert Store.open(path).snapshot().id == seen.id
        numbers = assert_whole(seen, since=first)
        assert_not_ragged(seen)
        assert numbers[:first] == expected
        assert numbers[first:][: len(acknowledged)] == acknowledged == list(range(first, first + len(acknowledged)))
        # Of what was not acknowledged only the last one can be there, and then it is whole.
        unsaid = numbers[first + len(acknowledged) :]
        assert unsaid in ([], begun[len(acknowledged) :])
        fell["between appends" if len(begun) == len(acknowledged) else "in an append"] += 1
        fell["after its commit, before its acknowledgement"] += len(unsaid)
        expected = numbers

        # The next recorder loads its libraries while this process is the next writer.
        recorder = crowd("record", path, len(expected) + 1) if kill + 1 < KILLS else None
        began = time.monotonic()
        store.append([recorded(len(expected))])
        waits.append(time.monotonic() - began)
        expected = [*expected, len(expected)]
    assert assert_whole(Store.open(path).snapshot()) == expected
    store.collect_garbage(grace=timedelta(0))  # with it goes what the killed left half done
    assert assert_whole(Store.open(path).snapshot()) == expected
    assert fell["in an append"] > 0, "no kill hit an append: the test has shown nothing"
    sys.stdout.write(
        f"\n{KILLS} kills: {dict(fell)}; {len(expected)} episodes, all whole; "
        f"the next writer took {np.median(waits):.3f} s (median), {max(waits):.3f} s (longest)\n"
    )


def test_two_writers_and_a_reader_lose_nothing_and_see_nothing_half_done(tmp_path: Path, crowd):
    """And this process, which reads, is a labeller beside them."""
    path, far = tmp_path / "store", 10_000
    store = Store.create(path, SEEING)
    writers = [crowd("record", path, far * n) for n in (0, 1)]
    for writer in writers:
        go(writer)
    reader, seen, growths, turns, labelled = Store.open(path), [], 0, 0, {}
    deadline = time.monotonic() + PATIENCE
    while (growths < 4 or turns < 4) and time.monotonic() < deadline:
        snapshot = reader.snapshot()
        numbers = assert_whole(snapshot, since=len(seen))
        assert_not_ragged(snapshot)
        assert numbers[: len(seen)] == seen, "what was seen once stays where it was"
        if len(numbers) > len(seen):
            seen, growths = numbers, growths + 1
            turns = sum(a // far != b // far for a, b in pairwise(seen))
            labelled[f"n{len(seen)}"] = snapshot
            values = {"reward": np.arange(snapshot.steps, dtype=np.float32)}
            store.write_labels(LabelSet(f"n{len(seen)}", values, np.ones(len(seen), bool)))
    assert growths >= 4 and turns >= 4, "they did not work at the same time"

    acknowledged = []
    for n, writer in enumerate(writers):
        output, errors = writer.communicate()  # which ends its stdin, and so the writer
        assert writer.returncode == 0, errors
        acknowledged.append([int(line.split()[1]) for line in output.splitlines() if line.startswith("done")])
        assert acknowledged[n] == list(range(far * n, far * n + len(acknowledged[n])))
    final = Store.open(path).snapshot()
    numbers = assert_whole(final)
    assert [[number for number in numbers if number // far == n] for n in (0, 1)] == acknowledged
    assert final.label_names == ["logged", *sorted(labelled)]
    for name, snapshot in labelled.items():
        labels = final.labels(name)
        assert labels.covered.tolist() == [True] * snapshot.episodes + [False] * (final.episodes - snapshot.episodes)
        np.testing.assert_array_equal(labels.values["reward"][: snapshot.steps], np.arange(snapshot.steps))
        assert np.isnan(labels.values["reward"][snapshot.steps :]).all()


def test_two_programs_that_make_the_same_store_both_have_it(tmp_path: Path, crowd):
    for attempt in range(2):
        path = tmp_path / str(attempt) / "store"
        makers = [crowd("create", path) for _ in range(2)]
        for maker in makers:
            go(maker)
        for maker in makers:
            output, errors = maker.communicate()
            assert output.endswith("open\n"), errors
        assert Store.open(path).contract == SEEING
        assert [item.name for item in path.parent.iterdir()] == ["store"]


def test_a_program_killed_while_it_makes_a_store_leaves_a_store_or_none(tmp_path: Path, crowd):
    dice = random.Random()
    for kill in range(KILLS // 3):
        path = tmp_path / str(kill)
        maker = crowd("create", path)
        go(maker)
        time.sleep(dice.uniform(0, 0.15))
        maker.kill()
        maker.communicate()
        if path.exists():
            assert Store.open(path).snapshot().episodes == 0
        store = open_or_create(path, SEEING)
        store.append([make_episode(0, contract=SEEING)])
        assert store.snapshot().episodes == 1
