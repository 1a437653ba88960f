"""The store in one process: what comes back, what is refused, what survives damage, failing storage and collection."""

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from filelock import FileLock
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from episodes.contract import ActionEntry, Camera, StateEntry
from episodes.episode import Episode, EpisodeError
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import ROWS_PER_CHUNK, VERSION, Store, StoreError, open_or_create
from tests.episodes.making import OPTIONAL, PLAIN, ROOT, SEEING, differences, make_episode

VISIBLE = replace(SEEING, cameras=(Camera("front", 16, 16), Camera("c", 3, 3)))
"""Frames of one camera lie in files of their own, those of the other inside the manifests."""


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def episodes_in(store: Store) -> list[Episode]:
    snapshot = store.snapshot()
    return [snapshot.episode(index) for index in range(snapshot.episodes)]


def assert_holds(store: Store, expected: list[Episode]) -> None:
    """The store holds these episodes, to the bit, and its columns and counts agree with them."""
    snapshot = store.snapshot()
    assert (snapshot.episodes, snapshot.steps) == (len(expected), sum(e.steps for e in expected))
    assert snapshot.observations == sum(len(e.state) for e in expected)
    assert snapshot.transitions == sum(e.transitions for e in expected)
    for index, episode in enumerate(expected):
        assert not differences(snapshot.episode(index), episode), index
        assert snapshot.metadata[index]["digest"] == episode.digest()
    if expected:
        np.testing.assert_array_equal(snapshot.column("action"), np.concatenate([e.action for e in expected]))
        np.testing.assert_array_equal(snapshot.column("state"), np.concatenate([e.state for e in expected]))
    for name in ("source", "verdict", "reward"):
        assert len(snapshot.column(name)) == snapshot.steps


# What comes back


kinds = st.tuples(
    st.integers(1, 6), st.booleans(), st.booleans(), st.lists(st.sampled_from(OPTIONAL), unique=True, max_size=10)
)


# Without shrinking: an example takes a tenth of a second, and a failure would be minutes in coming.
@settings(max_examples=12, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(st.lists(kinds, min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_was_appended_comes_back_to_the_bit(tmp_path_factory, commits):
    path = tmp_path_factory.mktemp("stores") / "store"
    store, expected = Store.create(path, VISIBLE), []
    for commit in commits:
        group = [
            make_episode(
                len(expected) + n, steps, contract=VISIBLE, final=final, terminated=terminated, columns=columns
            )
            for n, (steps, final, terminated, columns) in enumerate(commit)
        ]
        store.append(group)
        expected += group
    assert_holds(Store.open(path), expected)
    shutil.rmtree(path)


def test_every_column_and_both_kinds_of_end_come_back(tmp_path: Path):
    expected = [
        make_episode(n, 1 + n, contract=VISIBLE, final=n % 2 > 0, terminated=n % 4 > 1, columns=OPTIONAL)
        for n in range(8)
    ]
    store = Store.create(tmp_path / "store", VISIBLE)
    store.append(expected[:3])
    store.append(expected[3:])
    assert_holds(Store.open(tmp_path / "store"), expected)
    snapshot = store.snapshot()
    np.testing.assert_array_equal(snapshot.terminated, [e.terminated for e in expected])
    np.testing.assert_array_equal(snapshot.has_final_observation, [e.has_final_observation for e in expected])
    np.testing.assert_array_equal(snapshot.images("c", 2, 5), np.concatenate([e.images["c"] for e in expected])[2:5])


def test_a_column_that_says_nothing_comes_back_as_none_and_counts_as_the_same_recording(store: Store):
    blank = make_episode(0, columns=OPTIONAL)
    blank = replace(blank, verdict=np.zeros(5, np.uint8), policy=np.zeros(5, np.uint64), cost=np.full(5, np.nan, "f4"))
    store.append([blank, make_episode(1, columns=OPTIONAL)])
    back = store.snapshot().episode(0)
    assert back.verdict is None and back.policy is None and back.cost is None
    assert back.digest() == blank.digest() == store.snapshot().metadata[0]["digest"]


def test_zeros_that_mean_something_come_back(store: Store):
    """A black image, a reward of 0 and a success of 0 are no missing values."""
    zero = np.zeros(5, np.float32)
    episode = make_episode(0, columns=(), reward=zero, success=zero, cost=zero, action=np.zeros((5, 1), np.float32))
    store.append([episode])
    assert not differences(store.snapshot().episode(0), episode)


def test_black_frames_come_back(tmp_path: Path):
    episode = make_episode(0, contract=VISIBLE)
    for images in episode.images.values():
        images[2:4] = 0
    store = Store.create(tmp_path / "store", VISIBLE)
    store.append([episode])
    assert not differences(store.snapshot().episode(0), episode)


def test_columns_longer_than_a_chunk_come_back(store: Store):
    """Appends fill up the last chunk, end on its border, and span several."""
    expected = []
    for steps in (ROWS_PER_CHUNK - 1, 1, ROWS_PER_CHUNK, 2 * ROWS_PER_CHUNK + 3, 2):
        expected.append(make_episode(len(expected), steps, columns=("reward", "source")))
        store.append(expected[-1:])
    assert_holds(store, expected)


def test_a_state_of_no_entries_comes_back(tmp_path: Path):
    contract = replace(VISIBLE, state=())
    episode = make_episode(0, contract=contract)
    store = Store.create(tmp_path / "store", contract)
    store.append([episode])
    assert not differences(store.snapshot().episode(0), episode)


def test_any_text_comes_back(store: Store):
    episode = make_episode(0, task='push "T" → 目標\n\t\\', origin="ä/\U0001f916.hdf5:demo_0", place="real")
    store.append([episode])
    back = store.snapshot().episode(0)
    assert (back.task, back.origin, back.place) == (episode.task, episode.origin, "real")


def test_the_contract_comes_back(tmp_path: Path):
    contract = replace(VISIBLE, rate=12.5)
    Store.create(tmp_path / "store", contract)
    assert Store.open(tmp_path / "store").contract == contract
    assert Store.open(tmp_path / "store").contract.hash == contract.hash


def test_an_episode_that_is_not_there_is_refused(store: Store):
    store.append([make_episode(0)])
    for index in (-1, 1):
        with pytest.raises(InputError, match=f"no episode {index}; it has 1"):
            store.snapshot().episode(index)
    with pytest.raises(InputError, match="unknown column 'rewards'; did you mean 'reward'"):
        store.snapshot().column("rewards")
    with pytest.raises(InputError, match="unknown camera 'front'"):
        store.snapshot().images("front")


def test_a_new_store_is_empty(store: Store):
    assert_holds(store, [])
    assert store.snapshot().left_out == [] and store.snapshot().label_names == []


# What is refused


@pytest.mark.parametrize(
    ("episode", "words"),
    [
        (make_episode(9, action=np.full((5, 1), np.nan, np.float32)), "action is not finite at step 0"),
        (make_episode(9, action=np.zeros((5, 2), np.float32)), r"action has shape \(5, 2\), expected \(5, 1\)"),
        (make_episode(9, 0), "no steps"),
        (make_episode(9, truncated=True, terminated=True), "exactly one"),
        (make_episode(9, contract=VISIBLE), "cameras"),
    ],
)
def test_one_bad_episode_keeps_out_all_that_come_with_it(store: Store, episode: Episode, words: str):
    first = make_episode(0)
    store.append([first])
    before = store.snapshot().id
    with pytest.raises(EpisodeError, match=words):
        store.append([make_episode(1), episode, make_episode(2)])
    assert store.snapshot().id == before
    assert_holds(store, [first])


def test_an_episode_of_one_step_is_kept_even_where_it_holds_no_transition(store: Store):
    episode = make_episode(0, 1, final=False)
    store.append([episode])
    assert_holds(store, [episode])
    assert store.snapshot().transitions == 0


def test_appending_nothing_makes_no_snapshot(store: Store):
    before = store.snapshot().id
    assert store.append([]) == before == store.snapshot().id


def test_what_was_left_out_is_remembered_with_or_without_episodes(store: Store):
    one, two = {"episode": "demo_1", "reason": "it has no steps"}, {"episode": "demo_7", "reason": "ragged"}
    store.append([make_episode(0)], [one])
    store.append([make_episode(1)])
    store.append([], [two])
    assert Store.open(store.path).snapshot().left_out == [one, two]
    assert_holds(store, [make_episode(0), make_episode(1)])


@pytest.mark.parametrize("exists", [False, True])
def test_opening_never_creates(tmp_path: Path, exists: bool):
    path = tmp_path / "store"
    if exists:
        path.mkdir()
    with pytest.raises(StoreError, match=r"no such store|is not a store"):
        Store.open(path)
    assert path.exists() == exists and not tree(tmp_path)


def test_opening_and_reading_leave_every_file_as_it_is(store: Store):
    store.append([make_episode(0)])
    before = tree(store.path)
    assert_holds(Store.open(store.path), [make_episode(0)])
    with pytest.raises(InputError):
        store.snapshot().labels("none")
    assert tree(store.path) == before


@pytest.mark.parametrize("call", [Store.open, lambda p: Store.create(p, PLAIN), lambda p: open_or_create(p, PLAIN)])
def test_a_path_that_is_a_file_is_refused_and_left_alone(tmp_path: Path, call):
    path = tmp_path / "store"
    path.write_text("mine")
    with pytest.raises(StoreError, match="is a file; a store is a folder"):
        call(path)
    assert tree(tmp_path) == {"store": b"mine"}


@pytest.mark.parametrize("call", [Store.open, lambda p: Store.create(p, PLAIN), lambda p: open_or_create(p, PLAIN)])
def test_a_device_is_no_folder_either(call):
    with pytest.raises(StoreError, match="a store is a folder"):
        call(Path("/dev/null"))


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty"):
        Store.create(tmp_path, PLAIN)
    for call in (Store.open, lambda p: open_or_create(p, PLAIN)):
        with pytest.raises(StoreError, match="is not a store"):
            call(tmp_path)
    assert tree(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("below", ["a file", "proc"])
def test_a_store_cannot_be_made_where_nothing_can_be_written(tmp_path: Path, below: str):
    """Root may write anywhere; but not below a file, nor into the kernel's own folder."""
    if below == "a file":
        (tmp_path / "file").write_text("mine")
        path = tmp_path / "file" / "store"
    else:
        path = Path("/proc/firsthand-store")
    with pytest.raises(StoreError, match="cannot be created") as caught:
        open_or_create(path, PLAIN)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) in ({}, {"file": b"mine"})


def test_a_store_that_failed_to_be_made_leaves_nothing(tmp_path: Path, monkeypatch):
    def fail(self, message):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(icechunk.Session, "commit", fail)
        with pytest.raises(StoreError, match=r"cannot be created: .*No space left"):
            Store.create(tmp_path / "store", PLAIN)
    assert list(tmp_path.iterdir()) == []
    assert Store.create(tmp_path / "store", PLAIN).snapshot().episodes == 0


def test_a_store_can_be_made_in_an_empty_folder_however_it_is_named(tmp_path: Path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    Store.create(tmp_path / "link", PLAIN).append([make_episode(0)])
    assert Store.open(tmp_path / "real").snapshot().episodes == 1
    monkeypatch.chdir(tmp_path)
    open_or_create(Path("below"), PLAIN)
    assert Store.open(tmp_path / "below").snapshot().episodes == 0


def test_the_current_folder_is_refused_because_it_would_be_pulled_away(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is the current folder"):
        open_or_create(Path(), PLAIN)
    assert not tree(tmp_path)


def test_a_contract_that_could_not_be_read_back_makes_no_store(tmp_path: Path):
    for wrong in (
        replace(PLAIN, state=(StateEntry("a b"),)),
        replace(PLAIN, cameras=(Camera("../c", 3, 3),)),
        replace(PLAIN, cameras=(Camera("c", 0, 3),)),
        replace(PLAIN, action=()),
    ):
        with pytest.raises(InputError):
            Store.create(tmp_path / "store", wrong)
        assert list(tmp_path.iterdir()) == []


def test_one_store_holds_one_layout(store: Store):
    before = tree(store.path)
    wide = replace(PLAIN, action=(*PLAIN.action, ActionEntry("w")))
    with pytest.raises(StoreError, match=r"holds another layout: action size 1 against 2; .* use another folder"):
        open_or_create(store.path, wide)
    with pytest.raises(StoreError, match="holds another layout: camera size 0 against 2"):
        open_or_create(store.path, replace(VISIBLE, name=PLAIN.name))
    with pytest.raises(StoreError, match=r"holds another layout: rate None against 5\.0"):
        open_or_create(store.path, replace(PLAIN, rate=5.0))
    with pytest.raises(StoreError, match="is not empty"):
        Store.create(store.path, PLAIN)
    assert tree(store.path) == before
    loose = replace(PLAIN, action=(replace(PLAIN.action[0], low=-5.0),))
    assert open_or_create(store.path, loose).contract == PLAIN


def change_attributes(store: Store, **attributes) -> None:
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store.path))).writable_session("main")
    zarr.open_group(session.store, mode="r+").attrs.update(attributes)
    session.commit("changed")


def test_a_store_of_a_newer_version_is_refused(store: Store):
    change_attributes(store, version=VERSION + 1)
    with pytest.raises(StoreError, match=f"version {VERSION + 1}, newer than this program's {VERSION}; update"):
        Store.open(store.path)
    change_attributes(store, version=VERSION)
    assert Store.open(store.path).snapshot().episodes == 0


def test_an_icechunk_repository_of_something_else_is_refused(tmp_path: Path):
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "other")))
    with pytest.raises(StoreError, match="other: is damaged"):
        Store.open(tmp_path / "other")
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="w").attrs["format"] = "weather"
    session.commit("weather")
    with pytest.raises(StoreError, match="no episodes' layout"):
        Store.open(tmp_path / "other")


# Damage


def newest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)


def test_without_its_newest_snapshot_a_store_is_damaged_and_not_empty(store: Store):
    """As after a power cut. Icechunk itself would show an empty store."""
    store.append([make_episode(0)])
    newest(store.path / "snapshots").unlink()
    for call in (Store.open, lambda p: open_or_create(p, PLAIN)):
        with pytest.raises(StoreError, match=r"is damaged and does not open .*restore it or import its logs again"):
            call(store.path)


@pytest.mark.parametrize("kept", [["refs"], ["refs", "config.yaml"], ["refs", "snapshots"]])
def test_a_store_of_which_little_is_left_is_damaged_and_not_empty(store: Store, kept: list[str]):
    store.append([make_episode(0)])
    for item in store.path.iterdir():
        if item.name not in kept:
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    before = tree(store.path)
    with pytest.raises(StoreError, match="is damaged"):
        Store.open(store.path).snapshot().episode(0)
    assert tree(store.path) == before


def test_a_folder_with_empty_refs_is_damaged_and_not_empty(tmp_path: Path):
    (tmp_path / "store" / "refs").mkdir(parents=True)
    for call in (Store.open, lambda p: open_or_create(p, PLAIN)):
        with pytest.raises(StoreError, match="is damaged"):
            call(tmp_path / "store")
    assert not tree(tmp_path)


def everything_in(path: Path) -> list:
    snapshot = Store.open(path).snapshot()
    labels = snapshot.labels("given")
    return [
        [snapshot.episode(index).digest() for index in range(snapshot.episodes)],
        [snapshot.metadata, snapshot.left_out, snapshot.contract, snapshot.label_names, labels.provenance],
        [labels.values["reward"].tolist(), labels.covered.tolist()],
    ]


@pytest.mark.parametrize("damage", ["gone", "cut in half", "empty"])
def test_whatever_file_is_damaged_the_store_is_whole_or_says_so(tmp_path: Path, damage: str):
    """Never an exception of a library, and never less than what was there."""
    path = tmp_path / "store"
    store = Store.create(path, VISIBLE)
    for number in range(2):
        store.append([make_episode(number, contract=VISIBLE, columns=OPTIONAL)], [{"episode": "a", "reason": "b"}])
    store.write_labels(LabelSet("given", {"reward": np.arange(10, dtype=np.float32)}, np.ones(2, bool), {"by": "me"}))
    store.collect_garbage(grace=timedelta(0))
    expected = everything_in(path)
    noticed = {}
    for file in [file for file in path.rglob("*") if file.is_file()]:
        content = file.read_bytes()
        file.unlink() if damage == "gone" else file.write_bytes(content[: len(content) // 2] * (damage != "empty"))
        kind = file.relative_to(path).parts[0]
        try:
            assert everything_in(path) == expected, f"{file} {damage}: something else came back"
        except InputError as error:
            noticed[kind] = noticed.get(kind, 0) + 1
            assert re.search("is damaged", str(error)) and "\n" not in str(error)
        file.write_bytes(content)
    assert noticed.keys() >= {"chunks", "manifests", "refs", "snapshots"}
    assert everything_in(path) == expected


def test_a_truncated_manifest_is_told_and_does_not_stop_the_store_from_telling(store: Store):
    store.append([make_episode(0)])
    for manifest in (store.path / "manifests").iterdir():
        os.truncate(manifest, manifest.stat().st_size // 2)
    damaged = Store.open(store.path)
    assert damaged.contract == PLAIN
    with pytest.raises(StoreError, match=r"is damaged: episode/step_end cannot be read .*; restore it or import"):
        damaged.snapshot().episodes  # noqa: B018
    with pytest.raises(StoreError, match="append 1 episodes failed"):
        damaged.append([make_episode(1)])


# Storage that fails while it is written to


class Fails:
    """Lets the first `after` writes through, and fails from then on."""

    def __init__(self, monkeypatch, after: int):
        self.left, self.done = after, 0
        for name in ("set", "set_if_not_exists", "delete", "delete_dir"):
            real = getattr(icechunk.IcechunkStore, name)
            monkeypatch.setattr(icechunk.IcechunkStore, name, self.failing(real))
        real_commit = icechunk.Session.commit

        def commit(session, *args, **kwargs):
            self.count()
            return real_commit(session, *args, **kwargs)

        monkeypatch.setattr(icechunk.Session, "commit", commit)

    def failing(self, real):
        async def call(store, *args, **kwargs):
            self.count()
            return await real(store, *args, **kwargs)

        return call

    def count(self) -> None:
        self.done += 1
        if self.done > self.left:
            raise OSError(errno.ENOSPC, "No space left on device")


WRITES = {
    "append": lambda store: store.append([make_episode(1, contract=VISIBLE, columns=OPTIONAL)], [{"episode": "x"}]),
    "label": lambda store: store.write_labels(LabelSet("more", {"reward": np.zeros(5, np.float32)}, np.ones(1, bool))),
    "features": lambda store: store.write_features("f", np.zeros((2, 3), np.float32), {}, start=4),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_failure_at_any_write_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch, write: str):
    first = make_episode(0, contract=VISIBLE, columns=OPTIONAL)
    store = Store.create(tmp_path / "store", VISIBLE)
    store.append([first])
    store.write_features("f", np.ones((4, 3), np.float32), {})
    before = store.snapshot()
    with monkeypatch.context() as patch:
        writes = Fails(patch, after=10_000)
        WRITES[write](Store.open(shutil.copytree(store.path, tmp_path / "copy")))
    assert writes.done >= 3
    for after in range(writes.done):
        with monkeypatch.context() as patch:
            Fails(patch, after)
            with pytest.raises(StoreError, match=r"failed, the store is as it was before: .*No space left") as caught:
                WRITES[write](store)
            assert "\n" not in str(caught.value)
        now = store.snapshot()
        assert (now.id, now.episodes, now.label_names, now.left_out) == (before.id, 1, before.label_names, [])
    assert_holds(Store.open(store.path), [first])
    np.testing.assert_array_equal(store.snapshot().features("f", 6), np.ones((4, 3)))
    WRITES[write](store)
    store.append([make_episode(2, contract=VISIBLE)])
    assert store.snapshot().episodes == (3 if write == "append" else 2)
    assert not differences(store.snapshot().episode(store.snapshot().episodes - 1), make_episode(2, contract=VISIBLE))


@contextmanager
def largest_file(size: int):
    """The kernel itself refuses to write past this size: EFBIG, for root too. Python ignores the signal with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_files_leaves_the_store_as_it_was(tmp_path: Path):
    """Each kind of file is refused in turn, from the smallest on: chunks, manifests, transaction log, snapshot."""
    first, second = (make_episode(n, contract=VISIBLE, columns=OPTIONAL) for n in (0, 1))
    store = Store.create(tmp_path / "store", VISIBLE)
    store.append([first])
    before, files = store.snapshot().id, tree(store.path)
    copy = Store.open(shutil.copytree(store.path, tmp_path / "copy"))
    copy.append([second])
    written = sorted({len(data) * 9 // 10 for name, data in tree(copy.path).items() if files.get(name) != data})
    assert len(written) > 5
    for size in [0, *written]:
        with largest_file(size), pytest.raises(StoreError, match="append 1 episodes failed, the store is as it was"):
            store.append([second])
        assert store.snapshot().id == before
    assert_holds(Store.open(store.path), [first])
    store.append([second])
    assert_holds(Store.open(store.path), [first, second])


def test_a_lock_that_cannot_be_taken_is_told(store: Store):
    """As in a folder without the right to write."""
    store.append([make_episode(0)])
    lock = store.path / "writer.lock"
    lock.unlink()
    lock.mkdir()
    for write in (
        lambda: store.append([make_episode(1)]),
        lambda: store.tag("mine", store.snapshot().id),
        lambda: store.collect_garbage(),
    ):
        with pytest.raises(StoreError, match="failed, the store is as it was before"):
            write()
    assert_holds(store, [make_episode(0)])
    lock.rmdir()
    store.append([make_episode(1)])
    assert_holds(store, [make_episode(0), make_episode(1)])


def test_a_lock_that_another_holds_for_too_long_is_told(store: Store, monkeypatch):
    monkeypatch.setattr("episodes.store.LOCK_TIMEOUT", 0.05)
    with FileLock(store.path / "writer.lock"):
        with pytest.raises(StoreError, match=r"append 1 episodes failed, the store is as it was before: .*lock"):
            store.append([make_episode(0)])
        assert store.snapshot().episodes == 0, "a reader needs no lock"
    store.append([make_episode(0)])
    assert store.snapshot().episodes == 1


def test_a_failed_append_lets_go_of_the_lock(store: Store, monkeypatch):
    with monkeypatch.context() as patch:
        Fails(patch, 3)
        with pytest.raises(StoreError):
            store.append([make_episode(0)])
    code = "import sys; from filelock import FileLock; FileLock(sys.argv[1]).acquire(timeout=0); print('taken')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.path / "writer.lock")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "taken\n", done.stderr


# Snapshots, tags and garbage


def test_what_a_reader_looks_at_does_not_change_while_others_write(store: Store):
    episodes = [make_episode(n) for n in range(4)]
    first = store.append(episodes[:1])
    reader = Store.open(store.path).snapshot()
    store.append(episodes[1:])
    store.write_labels(LabelSet("late", {"reward": np.zeros(20, np.float32)}, np.ones(4, bool)))
    # Read only now, for the first time.
    assert reader.id == first and reader.episodes == 1 and reader.label_names == ["logged"]
    assert len(reader.column("action")) == 5 and len(reader.metadata) == 1
    assert not differences(reader.episode(0), episodes[0])
    with pytest.raises(InputError, match="unknown label set 'late'"):
        reader.labels("late")
    again = Store.open(store.path).snapshot(first)
    assert again.episodes == 1 and again.id == first
    assert store.snapshot().episodes == 4


def test_a_snapshot_that_is_not_there_is_refused(store: Store):
    for snapshot_id in ("ZZZZZZZZZZZZZZZZZZZ0", "nonsense"):
        with pytest.raises(StoreError, match="store: cannot be read"):
            store.snapshot(snapshot_id)
        with pytest.raises(StoreError, match="tag mine failed"):
            store.tag("mine", snapshot_id)


def test_collecting_spares_what_is_tagged_and_frees_the_rest(tmp_path: Path):
    episodes = [make_episode(n, 30, contract=VISIBLE, columns=OPTIONAL) for n in range(6)]
    store = Store.create(tmp_path / "store", VISIBLE)
    ids = [store.append([episode]) for episode in episodes]
    store.tag("run-a", ids[2])
    size = sum(len(data) for data in tree(store.path).values())
    assert store.collect_garbage() == 0, "everything is younger than the hour of grace"
    assert all(store.snapshot(each).episodes == n + 1 for n, each in enumerate(ids))
    freed = store.collect_garbage(grace=timedelta(0))
    # A kept snapshot is written anew without its forgotten parents, a few bytes longer or shorter.
    assert 0 < freed < size - sum(len(data) for data in tree(store.path).values()) + 1000
    for opened in (store, Store.open(store.path)):
        assert_holds(opened, episodes)
        tagged = opened.snapshot(ids[2])
        assert tagged.episodes == 3 and not differences(tagged.episode(2), episodes[2])
    for gone in (0, 1, 3, 4):
        with pytest.raises(StoreError):
            Store.open(store.path).snapshot(ids[gone])
    more = make_episode(9, contract=VISIBLE)
    store.append([more])
    assert_holds(store, [*episodes, more])
    assert store.snapshot(ids[2]).episodes == 3


def test_labels_and_features_survive_collecting(store: Store):
    store.append([make_episode(0)])
    store.write_labels(LabelSet("mine", {"reward": np.arange(5, dtype=np.float32)}, np.ones(1, bool)))
    store.write_features("f", np.ones((6, 3), np.float32), {})
    store.append([make_episode(1)])
    store.collect_garbage(grace=timedelta(0))
    snapshot = Store.open(store.path).snapshot()
    np.testing.assert_array_equal(snapshot.labels("mine").values["reward"][:5], np.arange(5))
    np.testing.assert_array_equal(snapshot.features("f", 6), np.ones((6, 3)))


def test_a_tag_stays_with_its_snapshot(store: Store):
    one, two = (store.append([make_episode(n)]) for n in (0, 1))
    store.tag("run", one)
    store.tag("run", one)
    with pytest.raises(StoreError, match=f"tag 'run' names snapshot {one}, and tags are never moved"):
        store.tag("run", two)
    store.collect_garbage(grace=timedelta(0))
    assert store.snapshot(one).episodes == 1


# Derived tables


def test_features_are_for_as_many_observations_as_were_there(store: Store):
    store.append([make_episode(0), make_episode(1)])
    old = store.snapshot()
    assert old.features("f", 12) is None
    values = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    store.write_features("f", values[:12], {"encoder": "e"})
    store.append([make_episode(2)])
    np.testing.assert_array_equal(store.snapshot().features("f", 18), values[:12], "as many as there are")
    store.write_features("f", values[12:], {"encoder": "e"}, start=12)
    for count in (18, 12, 5):
        np.testing.assert_array_equal(store.snapshot().features("f", count), values[:count])


def test_rows_of_features_that_are_there_are_left_as_they_are(store: Store):
    """Two that encode the same frames write the same rows; who comes second adds only what is missing."""
    store.append([make_episode(0), make_episode(1)])
    first, second = np.ones((5, 3), np.float32), np.full((12, 3), 2, np.float32)
    store.write_features("f", first, {})
    store.write_features("f", second[:5], {})
    store.write_features("f", second[3:5], {}, start=3)
    np.testing.assert_array_equal(store.snapshot().features("f", 12), first)
    store.write_features("f", second[3:9], {}, start=3)
    np.testing.assert_array_equal(store.snapshot().features("f", 12), np.concatenate([first, second[5:9]]))
    store.write_features("f", second, {})
    np.testing.assert_array_equal(store.snapshot().features("f", 12), np.concatenate([first, second[5:]]))


def test_pictures_at_single_rows_are_those_rows_in_that_order(tmp_path: Path):
    store = Store.create(tmp_path / "store", VISIBLE)
    store.append([make_episode(n, contract=VISIBLE) for n in (0, 1)])
    snapshot, camera = store.snapshot(), VISIBLE.camera_names[0]
    frames = snapshot.images(camera)
    for rows in ([7, 0, 11, 3], [5], [2, 2, 9, 2], []):
        np.testing.assert_array_equal(snapshot.images_at(camera, np.array(rows, np.int64)), frames[rows])
    with pytest.raises(InputError, match=r"unknown camera 'fornt' in "):
        snapshot.images_at("fornt", np.array([0]))
