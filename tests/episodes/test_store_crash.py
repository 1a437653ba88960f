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
AT_ONCE = 5.0
"""[s] A writer that had to wait for a dead one's lock would wait for ever; this leaves room for a busy machine."""


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


def test_a_recorder_killed_at_any_moment_loses_nothing_it_acknowledged(tmp_path: Path, crowd):
    """Every acknowledged episode is there and complete, nothing partial is visible, the next writer works at once."""
    path = tmp_path / "store"
    store = Store.create(path, SEEING)
    dice, fell, waits, expected = random.Random(), Counter(), [], []
    recorder = crowd("record", path, 0, 10_000)
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
        recorder = crowd("record", path, len(expected) + 1, 10_000) if kill + 1 < KILLS else None
        began = time.monotonic()
        store.append([recorded(len(expected))])
        waits.append(time.monotonic() - began)
        expected = [*expected, len(expected)]
    assert max(waits) < AT_ONCE
    assert assert_whole(Store.open(path).snapshot()) == expected
    store.collect_garbage(grace=timedelta(0))  # with it goes what the killed left half done
    assert assert_whole(Store.open(path).snapshot()) == expected
    assert fell["in an append"] > 0, "no kill hit an append: the test has shown nothing"
    sys.stdout.write(
        f"\n{KILLS} kills: {dict(fell)}; {len(expected)} episodes, all whole; "
        f"the next writer took {np.median(waits):.3f} s (median), {max(waits):.3f} s (longest)\n"
    )


def test_two_writers_and_a_reader_lose_nothing_and_see_nothing_half_done(tmp_path: Path, crowd):
    """And a labeller beside them: the two writers share the store with this process."""
    path, each = tmp_path / "store", 12
    store = Store.create(path, SEEING)
    writers = [crowd("record", path, 1000 * n, each) for n in (0, 1)]
    for writer in writers:
        go(writer)
    reader, seen, states = Store.open(path), [], 0
    while any(writer.poll() is None for writer in writers):
        snapshot = reader.snapshot()
        numbers = assert_whole(snapshot, since=len(seen))
        assert_not_ragged(snapshot)
        assert numbers[: len(seen)] == seen, "what was seen once stays where it was"
        grown, seen = len(numbers) > len(seen), numbers
        states += grown
        if grown and snapshot.episodes > 3 * len(snapshot.label_names):
            values = {"reward": np.arange(snapshot.steps, dtype=np.float32)}
            store.write_labels(LabelSet(f"n{snapshot.episodes}", values, np.ones(snapshot.episodes, bool)))
    for writer in writers:
        output, errors = writer.communicate()
        assert writer.returncode == 0, errors
        assert output.count("done") == each
    final = Store.open(path).snapshot()
    numbers = assert_whole(final)
    for n in (0, 1):
        assert [number for number in numbers if number // 1000 == n] == list(range(1000 * n, 1000 * n + each))
    assert len(numbers) == 2 * each
    assert states > 1, "the reader came too late to see the store grow"
    switches = sum(a // 1000 != b // 1000 for a, b in pairwise(numbers))
    assert switches > 3, "one writer kept the other out"
    assert len(final.label_names) > 1, "nothing was labelled meanwhile"
    for name in final.label_names:
        if name != "logged":
            labels = final.labels(name)
            assert labels.covered.sum() == int(name[1:])
            steps = int(final.step_ends[int(name[1:]) - 1])
            np.testing.assert_array_equal(labels.values["reward"][:steps], np.arange(steps))
            assert np.isnan(labels.values["reward"][steps:]).all()


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
