"""The store: episodes in one versioned zarr, each complete or absent.

Icechunk over zarr v3. Columns are concatenated over episodes, with the index of their ends beside them. A writer has
its arrays ready first, then takes the lock, opens a fresh session, writes, commits and lets go. Readers look at one
snapshot and never wait.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr
import zarr.errors
from filelock import FileLock
from zarr.codecs import ZstdCodec

from episodes.contract import Contract, contract_from
from episodes.episode import COLUMNS, Episode
from episodes.labels import LabelSet, check_label_name
from episodes.snapshot import FORMAT, Snapshot, StoreError, first_line, open_snapshot
from episodes.typed import plain

VERSION = 1
"""Of the layout. A store of a newer version is refused, never guessed at."""

ROWS_PER_CHUNK = 1024
"""Of flat columns. An append rewrites the part-filled last chunk, so it must stay small."""

LOCK_TIMEOUT = 300.0
"""How long a writer waits for another before it gives up with an error [s]; a commit takes milliseconds to seconds."""

MANIFEST_FRAMES = 4096
"""Image chunks listed in one manifest: an append rewrites the last manifest only."""


class Store:
    """Episodes of one layout in a folder. Get one from `create` or `open`."""

    def __init__(self, path: Path, repository: icechunk.Repository):
        self.path = path
        self._repository = repository

    @classmethod
    def create(cls, path: Path | str, contract: Contract) -> "Store":
        """A new, empty store. The folder must not exist, or be empty.

        It is made beside its place and moved there whole, so a store that exists is a store that opens.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path}: is a file; a store is a folder")
        if path.exists() and any(path.iterdir()):
            raise StoreError(f"{path}: is not empty; a new store needs a new or an empty folder")
        place = path.resolve()
        if place == Path.cwd():
            raise StoreError(f"{path}: is the current folder, which cannot be replaced; give the store a folder in it")
        contract = contract_from(plain(contract), f"contract {contract.name!r}")
        unfinished = place.with_name(f".{place.name}.{os.getpid()}.creating")
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            repository = icechunk.Repository.create(_storage(unfinished), config=_config())
            repository.save_config()
            session = repository.writable_session("main")
            _lay_out(zarr.open_group(session.store, mode="w"), contract)
            session.commit("create")
            unfinished.rename(place)
        except (OSError, icechunk.IcechunkError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise StoreError(f"{path}: cannot be created: {first_line(error)}") from None
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """An existing store. Opening never creates."""
        path = Path(path)
        if not path.exists():
            raise StoreError(f"{path}: no such store; `firsthand import` and `firsthand collect` make one")
        if not path.is_dir():
            raise StoreError(f"{path}: is a file; a store is a folder")
        if not (path / "refs").is_dir():
            raise StoreError(f"{path}: is not a store (it has no refs/ inside)")
        try:
            repository = icechunk.Repository.open(_storage(path))
            root = zarr.open_group(repository.readonly_session("main").store, mode="r")
            attributes: dict[str, Any] = dict(root.attrs)
        except (OSError, icechunk.IcechunkError, zarr.errors.BaseZarrError, ValueError) as error:
            raise StoreError(
                f"{path}: is damaged and does not open ({first_line(error)}); restore it or import its logs again"
            ) from None
        if attributes.get("format") != FORMAT:
            raise StoreError(f"{path}: is damaged: its newest snapshot holds no episodes' layout; restore it")
        if int(attributes["version"]) > VERSION:
            raise StoreError(
                f"{path}: is of version {attributes['version']}, newer than this program's {VERSION}; update firsthand"
            )
        return cls(path, repository)

    @property
    def contract(self) -> Contract:
        return self.snapshot().contract

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """What the store holds now, or held at a snapshot: never changes afterwards."""
        try:
            if snapshot_id is None:
                session = self._repository.readonly_session("main")
            else:
                session = self._repository.readonly_session(snapshot_id=snapshot_id)
            return open_snapshot(session, self.path)
        except (OSError, icechunk.IcechunkError, zarr.errors.BaseZarrError) as error:
            raise StoreError(f"{self.path}: cannot be read: {first_line(error)}") from None

    def append(self, episodes: Sequence[Episode], left_out: Sequence[dict[str, str]] = ()) -> str:
        """Add episodes in one commit: when this returns they are all there, and before that none is.

        Args:
            left_out: `episode` and `reason` of what their source had beside them that could not be used.

        Returns:
            The id of the new snapshot.

        Raises:
            EpisodeError: where an episode is not whole or does not fit the contract; nothing was written.
            StoreError: where the storage failed; nothing became visible.
        """
        snapshot = self.snapshot()
        if not episodes and not left_out:
            return snapshot.id
        for episode in episodes:
            episode.check(snapshot.contract)
        rows = _concatenate(episodes, snapshot.contract) if episodes else {}

        def write(root: zarr.Group) -> None:
            _append_rows(root, rows)
            if left_out:
                before: Any = root.attrs.get("left_out", [])
                root.attrs["left_out"] = [*before, *left_out]

        return self._commit(write, f"append {len(episodes)} episodes")

    def write_labels(self, labels: LabelSet) -> str:
        """Add a label set. A name is used once: labelling again makes a new set."""
        check_label_name(labels.name)

        def write(root: zarr.Group) -> None:
            if f"labels/{labels.name}" in root:
                raise StoreError(f"{self.path}: label set {labels.name!r} exists, and label sets are never changed")
            _check_fits(labels, _read_array(root, "episode/step_end"), self.path)
            group = root.create_group(f"labels/{labels.name}", attributes={"provenance": labels.provenance})
            _write_array(group, "covered", labels.covered)
            for name, values in labels.values.items():
                _write_array(group, name, values)

        return self._commit(write, f"label {labels.name}")

    def write_features(self, name: str, values: np.ndarray, provenance: dict[str, Any], start: int = 0) -> str:
        """Add rows to a derived table with one row per observation, as frozen image features are.

        Args:
            values: shape (n, F), for the observations from `start` on. Features are a cache: what two writers compute
                for the same row is the same, so rows that are there already are left as they are.
        """

        def write(root: zarr.Group) -> None:
            if f"features/{name}" not in root:
                if start == 0:
                    group = root.create_group(f"features/{name}", attributes={"provenance": provenance})
                    _write_array(group, "values", values)
                return
            array = root[f"features/{name}/values"]
            assert isinstance(array, zarr.Array)
            there = array.shape[0]
            if start > there:
                raise StoreError(
                    f"{self.path}: features {name!r} have {there} rows, and the next ones begin at {start}"
                )
            if there < start + len(values):
                array.resize((start + len(values), *array.shape[1:]))
                array[there:] = values[there - start :]

        return self._commit(write, f"features {name}")

    def tag(self, name: str, snapshot_id: str) -> None:
        """Name a snapshot, so that `collect_garbage` spares it. A name stays with the snapshot that it was given to."""
        with self._writing(f"tag {name}"):
            if name not in self._repository.list_tags():
                self._repository.create_tag(name, snapshot_id=snapshot_id)
            elif (tagged := self._repository.lookup_tag(name)) != snapshot_id:
                raise StoreError(f"{self.path}: tag {name!r} names snapshot {tagged}, and tags are never moved")

    def collect_garbage(self, grace: timedelta = timedelta(hours=1)) -> int:
        """Forget untagged snapshots older than `grace` and free what only they used.

        Returns:
            Bytes that were freed.
        """
        with self._writing("collecting garbage"):
            before = datetime.now(UTC) - grace
            self._repository.expire_snapshots(older_than=before)
            return self._repository.garbage_collect(delete_object_older_than=before).bytes_deleted

    def flush(self) -> None:
        """Wait until the operating system has everything on the disk; Icechunk itself never asks for that."""
        os.sync()

    def _commit(self, write: Callable[[zarr.Group], None], message: str) -> str:
        with self._writing(message):
            session = self._repository.writable_session("main")
            write(zarr.open_group(session.store, mode="r+"))
            return session.commit(message) if session.has_uncommitted_changes else session.snapshot_id

    @contextmanager
    def _writing(self, message: str) -> Iterator[None]:
        """Hold the lock, and say what failed where the storage does."""
        # Advisory, by the kernel: a holder that is killed lets go at once. Who waits looks often, or a writer with many
        # commits in a row (an import) would keep the others (a recorder) out for seconds.
        try:
            with FileLock(self.path / "writer.lock", timeout=LOCK_TIMEOUT).acquire(poll_interval=0.005):
                yield
        except (OSError, icechunk.IcechunkError) as error:
            raise StoreError(
                f"{self.path}: {message} failed, the store is as it was before: {first_line(error)}"
            ) from error


def open_or_create(path: Path, contract: Contract) -> Store:
    """The store at a path, made if there is none; an existing one must hold the same layout."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        try:
            return Store.create(path, contract)
        except StoreError:
            if not (path / "refs").is_dir():
                raise
            # Another process made it in the meantime.
    store = Store.open(path)
    difference = store.contract.layout_difference(contract)
    if difference:
        raise StoreError(f"{path}: holds another layout: {difference}; a store holds one, use another folder")
    return store


def _storage(path: Path) -> icechunk.Storage:
    return icechunk.local_filesystem_storage(str(path))


def _config() -> icechunk.RepositoryConfig:
    config = icechunk.RepositoryConfig.default()
    frames = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.path_matches("/image/.*"): {
                icechunk.ManifestSplitDimCondition.Axis(0): MANIFEST_FRAMES
            }
        }
    )
    config.manifest = icechunk.ManifestConfig(splitting=frames)
    return config


def _lay_out(root: zarr.Group, contract: Contract) -> None:
    """The empty arrays of a new store."""
    root.attrs.update({"format": FORMAT, "version": VERSION, "contract": plain(contract)})
    widths = {"state": (len(contract.state),), "action": (len(contract.action),), "": ()}
    for column in COLUMNS:
        tail = widths[column.width]
        root.create_array(
            f"{column.per}/{column.name}",
            shape=(0, *tail),
            chunks=(ROWS_PER_CHUNK, *(max(n, 1) for n in tail)),
            dtype=column.dtype,
            fill_value=column.fill,
        )
    for camera in contract.cameras:
        frame = (camera.height, camera.width, 3)
        root.create_array(
            f"image/{camera.name}",
            shape=(0, *frame),
            chunks=(1, *frame),
            dtype="uint8",
            fill_value=0,
            compressors=ZstdCodec(level=1),
        )
    for name, dtype in EPISODE_COLUMNS.items():
        fill = "" if dtype == "string" else 0
        root.create_array(f"episode/{name}", shape=(0,), chunks=(ROWS_PER_CHUNK,), dtype=dtype, fill_value=fill)
    root.create_group("labels")
    root.create_group("features")


EPISODE_COLUMNS = {"step_end": "int64", "observation_end": "int64", "terminated": "bool", "metadata": "string"}


def _concatenate(episodes: Sequence[Episode], contract: Contract) -> dict[str, Sequence[np.ndarray]]:
    """The rows to append to every array, in parts, ready before the lock is taken. Ends count from the first new row.

    Images stay in the parts that they are in: a copy of them would be most of the memory.
    """
    rows: dict[str, Sequence[np.ndarray]] = {}
    for column in COLUMNS:
        parts = []
        for episode in episodes:
            values = getattr(episode, column.name)
            if values is None:
                length = episode.steps if column.per == "step" else len(episode.state)
                tail = {"state": (len(contract.state),), "action": (len(contract.action),), "": ()}[column.width]
                values = np.full((length, *tail), column.fill, column.dtype)
            parts.append(values)
        rows[f"{column.per}/{column.name}"] = [np.concatenate(parts)]
    for camera in contract.camera_names:
        rows[f"image/{camera}"] = [episode.images[camera] for episode in episodes]
    rows["episode/step_end"] = [np.cumsum([episode.steps for episode in episodes])]
    rows["episode/observation_end"] = [np.cumsum([len(episode.state) for episode in episodes])]
    rows["episode/terminated"] = [np.array([episode.terminated for episode in episodes])]
    metadata = [
        json.dumps(
            {"task": e.task, "place": e.place, "origin": e.origin, "digest": e.digest(), "contract": contract.hash}
            | ({"evaluation": True} if e.evaluation else {})
        )
        for e in episodes
    ]
    rows["episode/metadata"] = [np.array(metadata, dtype=np.dtypes.StringDType())]
    return rows


def _append_rows(root: zarr.Group, rows: dict[str, Sequence[np.ndarray]]) -> None:
    for path, parts in rows.items():
        array = root[path]
        assert isinstance(array, zarr.Array)
        start = array.shape[0]
        if path in ("episode/step_end", "episode/observation_end") and start:
            before = int(np.asarray(array[start - 1]))
            parts = [part + before for part in parts]
        array.resize((start + sum(len(part) for part in parts), *array.shape[1:]))
        for values in parts:
            # A column that an episode does not have needs no chunks: its rows are the fill value already.
            if not _is_fill(values, array.fill_value):
                array[start : start + len(values)] = values
            start += len(values)


def _is_fill(values: np.ndarray, fill: Any) -> bool:
    if values.dtype.kind == "f":
        return bool(np.isnan(fill)) and bool(np.isnan(values).all())
    return values.dtype.kind in "iub" and values.ndim == 1 and not values.any()


def _check_fits(labels: LabelSet, step_ends: np.ndarray, path: Path) -> None:
    """Raise StoreError unless the labels have a row for every step of the first episodes, as many as they speak of."""
    episodes = len(labels.covered)
    if episodes > len(step_ends):
        raise StoreError(
            f"{path}: label set {labels.name!r} speaks of {episodes} episodes, the store holds {len(step_ends)}"
        )
    expected = (int(step_ends[episodes - 1]) if episodes else 0,)
    for name, values in labels.values.items():
        if values.shape != expected:
            raise StoreError(
                f"{path}: label set {labels.name!r}: {name} has shape {values.shape}, "
                f"expected {expected} for {episodes} episodes"
            )


def _read_array(root: zarr.Group, path: str) -> np.ndarray:
    array = root[path]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


def _write_array(group: zarr.Group, name: str, values: np.ndarray) -> None:
    chunks = (min(max(len(values), 1), 64 * ROWS_PER_CHUNK // max(int(np.prod(values.shape[1:])), 1) + 1),)
    array = group.create_array(name, shape=values.shape, chunks=(*chunks, *values.shape[1:]), dtype=values.dtype)
    array[...] = values
