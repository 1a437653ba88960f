"""A snapshot: what a store held at one commit. Reading it never waits and never changes."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr

from episodes.contract import Contract, contract_from
from episodes.episode import COLUMNS, Episode
from episodes.errors import InputError, unknown
from episodes.labels import LOGGED, LabelSet

FORMAT = "firsthand episodes"


class StoreError(InputError):
    """The store could not be opened, read or written; what it held before is untouched."""


@dataclass
class Snapshot:
    """Reads columns over all episodes, or one episode."""

    id: str
    path: Path
    contract: Contract
    root: zarr.Group

    @cached_property
    def step_ends(self) -> np.ndarray:
        """Shape (E,), int64: the row after each episode's last step."""
        return self._read("episode/step_end")

    @cached_property
    def observation_ends(self) -> np.ndarray:
        """Shape (E,), int64: the row after each episode's last observation."""
        return self._read("episode/observation_end")

    @cached_property
    def step_starts(self) -> np.ndarray:
        """Shape (E,), int64: the row of each episode's first step."""
        return self.step_ends - lengths(self.step_ends)

    @cached_property
    def observation_starts(self) -> np.ndarray:
        """Shape (E,), int64: the row of each episode's first observation."""
        return self.observation_ends - lengths(self.observation_ends)

    @cached_property
    def terminated(self) -> np.ndarray:
        """Shape (E,), bool; an episode that did not terminate was truncated."""
        return self._read("episode/terminated")

    @cached_property
    def metadata(self) -> list[dict[str, Any]]:
        """Per episode: task, place, origin, digest and the hash of the contract that the store had then."""
        return [json.loads(str(text)) for text in self._read("episode/metadata")]

    @cached_property
    def left_out(self) -> list[dict[str, str]]:
        """`episode` and `reason` of everything that imports could not use."""
        return list(self.root.attrs.get("left_out", []))  # type: ignore[arg-type]

    @property
    def episodes(self) -> int:
        return len(self.step_ends)

    @property
    def steps(self) -> int:
        return int(self.step_ends[-1]) if self.episodes else 0

    @property
    def observations(self) -> int:
        return int(self.observation_ends[-1]) if self.episodes else 0

    @property
    def transitions(self) -> int:
        """Steps that can be learned from; see `Episode.transitions`."""
        return int(self.steps - (~self.has_final_observation & ~self.terminated).sum())

    @property
    def has_final_observation(self) -> np.ndarray:
        """Shape (E,), bool: whether the observation after the last action is there."""
        return lengths(self.observation_ends) == lengths(self.step_ends) + 1

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) of a column of `episodes.episode.COLUMNS`, by name; all of them where nothing is said."""
        per = {column.name: column.per for column in COLUMNS}
        if name not in per:
            raise unknown("column", name, per)
        return self._read(f"{per[name]}/{name}", slice(start, stop))

    def images(self, camera: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Frames of one camera, rows [start, stop) of the observations: (n, H, W, 3) uint8."""
        if camera not in self.contract.camera_names:
            raise unknown("camera", camera, self.contract.camera_names, str(self.path))
        return self._read(f"image/{camera}", slice(start, stop))

    def images_at(self, camera: str, rows: np.ndarray) -> np.ndarray:
        """Frames of one camera at single rows of the observations, which are read side by side: (n, H, W, 3) uint8."""
        if camera not in self.contract.camera_names:
            raise unknown("camera", camera, self.contract.camera_names, str(self.path))
        return self._read(f"image/{camera}", rows)

    def episode(self, index: int) -> Episode:
        """One episode as it was appended."""
        if not 0 <= index < self.episodes:
            raise InputError(f"{self.path}: no episode {index}; it has {self.episodes}, counted from 0")
        rows = {
            "step": slice(int(self.step_starts[index]), int(self.step_ends[index])),
            "observation": slice(int(self.observation_starts[index]), int(self.observation_ends[index])),
        }
        values = {}
        for column in COLUMNS:
            part = self._read(f"{column.per}/{column.name}", rows[column.per])
            optional = column.name not in ("state", "action")
            values[column.name] = None if optional and column.is_absent(part) else part
        start, stop = rows["observation"].start, rows["observation"].stop
        metadata = self.metadata[index]
        return Episode(
            **values,
            images={camera: self.images(camera, start, stop) for camera in self.contract.camera_names},
            terminated=bool(self.terminated[index]),
            truncated=not self.terminated[index],
            task=metadata["task"],
            place=metadata["place"],
            origin=metadata["origin"],
            evaluation=metadata.get("evaluation", False),
        )

    @property
    def label_names(self) -> list[str]:
        """The label sets, the source's own (`logged`) first where any episode has a reward."""
        group = self.root["labels"]
        assert isinstance(group, zarr.Group)
        logged = [LOGGED] if self._logged_labels().covered.any() else []
        return logged + sorted(group.group_keys())

    def labels(self, name: str) -> LabelSet:
        """A label set by name, as long as the store is now: episodes that came later are not covered."""
        if name == LOGGED:
            return self._logged_labels()
        if name not in self.label_names:
            raise unknown("label set", name, self.label_names, str(self.path))
        group = self.root[f"labels/{name}"]
        assert isinstance(group, zarr.Group)
        arrays = {key: self._read(f"labels/{name}/{key}") for key in group.array_keys()}
        covered = arrays.pop("covered")
        return LabelSet(name, arrays, covered, dict(group.attrs["provenance"])).extended(self.episodes, self.steps)  # type: ignore[arg-type]

    def _logged_labels(self) -> LabelSet:
        """What the source recorded; an episode is covered where every step has a reward."""
        reward, success = self.column("reward"), self.column("success")
        missing = np.add.reduceat(np.isnan(reward), self.step_starts) if len(reward) else np.zeros(0)
        return LabelSet(LOGGED, {"reward": reward, "success": success}, missing == 0, {"method": "logged"})

    @property
    def feature_names(self) -> list[str]:
        """The derived tables with a row per observation, as frozen image features are."""
        group = self.root["features"]
        assert isinstance(group, zarr.Group)
        return sorted(group.group_keys())

    def features(self, name: str, stop: int, start: int = 0) -> np.ndarray | None:
        """Rows [start, stop) of a derived table, one per observation, as many of them as it has; None where there is
        no table."""
        if f"features/{name}" not in self.root:
            return None
        return self._read(f"features/{name}/values", slice(start, stop))

    def feature_rows(self, name: str) -> int:
        """How many rows a derived table has; 0 where there is none."""
        if f"features/{name}" not in self.root:
            return 0
        array = self.root[f"features/{name}/values"]
        assert isinstance(array, zarr.Array)
        return array.shape[0]

    def _read(self, path: str, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        array = self.root[path]
        assert isinstance(array, zarr.Array)
        try:
            return np.asarray(array[rows] if isinstance(rows, slice) else array.oindex[rows])
        except (OSError, RuntimeError, ValueError, icechunk.IcechunkError) as error:
            raise StoreError(
                f"{self.path}: is damaged: {path} cannot be read ({first_line(error)}); "
                "restore it or import its logs again"
            ) from None


def open_snapshot(session: icechunk.Session, path: Path) -> Snapshot:
    """The snapshot that a read-only session looks at."""
    root = zarr.open_group(session.store, mode="r")
    contract = contract_from(root.attrs["contract"], str(path))  # type: ignore[arg-type]
    return Snapshot(session.snapshot_id, path, contract, root)


def ends_of_task(snapshot: Snapshot, labels: LabelSet) -> np.ndarray:
    """Shape (N,), bool: the steps that end the task, by the label set where it says so, else by the log."""
    logged = np.zeros(snapshot.steps, bool)
    logged[snapshot.step_ends - 1] = snapshot.terminated
    labelled = labels.values.get("terminated")
    return logged if labelled is None else np.where(np.isnan(labelled), logged, labelled > 0)


def first_line(error: Exception) -> str:
    """What an error of Icechunk says, less the frame that it draws around it."""
    lines = [line.strip(" │|x×╰─▶") for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)


def lengths(ends: np.ndarray) -> np.ndarray:
    """Rows per episode, from their ends."""
    return np.diff(ends, prepend=0)
