"""Diffusion Policy's zarr folders: arrays over all steps in `data/`, and where episodes end in `meta/episode_ends`.

Rules:

- The action is `data/action`. The state is `data/state`; where there is none, every table whose name begins with
  `robot` (real-robot and UMI recordings), in sorted order. Cameras are the arrays (N, H, W, 3) of uint8 or float;
  `img` is called `image`. Everything else is ignored and listed, and so are rows after the last end.
- There is no final observation and there are no rewards: every episode is truncated by its end, and its last step is
  no transition.
- Float images are 0..255, or 0..1 where the first block that is not all black nowhere exceeds 1; an episode with
  values outside is left out.
- Push-T is recognised by a state of 5 and an action of 2 beside `keypoint` and `n_contacts`, or beside a task text
  that names it: then the entries have names and units, and the target that is the action can be taken relative to the
  agent.
- zarr reads a chunk that is missing as zeros. Half a copied folder would train a robot on those, so episodes that need
  a missing chunk are left out. (zarr 3 may be told not to write a chunk that is all zeros; such an episode is left out
  too, until the folder is written again with `write_empty_chunks`.)
- State and action are read when the source is opened, images in blocks of whole chunks, each decoded once.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import zarr

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.episode import Episode, EpisodeError, Source
from episodes.errors import InputError
from episodes.importers.images import camera, gathered, is_video, to_uint8
from episodes.importers.source import (
    checked,
    choose_cameras,
    listed,
    numbers,
    reading,
    safe_name,
    stamps,
)
from episodes.importers.zarr_rows import Rows

PUSHT = Contract(
    name="pusht",
    rate=10.0,
    state=(
        *(StateEntry(name, "px") for name in ("agent_x", "agent_y", "block_x", "block_y")),
        StateEntry("block_angle", "rad", periodic=True),
    ),
    action=(
        ActionEntry("target_x", "px", low=0.0, high=512.0, reference="agent_x"),
        ActionEntry("target_y", "px", low=0.0, high=512.0, reference="agent_y"),
    ),
)
"""Push-T without its camera, whose size is the file's."""

PUSHT_TASK = "push the T-shaped block onto the T-shaped target"


class DiffusionPolicy:
    """Episodes of a Diffusion Policy zarr folder."""

    format: ClassVar[str] = "Diffusion Policy zarr"
    layout: ClassVar[str] = "folder with zarr arrays data/* and meta/episode_ends"
    contract: Contract
    ignored: tuple[str, ...]

    def __init__(
        self,
        path: Path,
        *,
        task: str = "",
        cameras: Sequence[str] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        self._path = path
        arrays, self._ends = _open(path)
        state_names = _state_names(arrays)
        videos = {_camera_name(name): name for name, array in arrays.items() if is_video(array.shape, array.dtype)}
        videos = choose_cameras(videos, cameras, path)
        if "action" not in arrays or not (state_names or videos):
            raise InputError(
                f"{path}: expected data/action and a state or camera images beside it; data/ has "
                + (listed(arrays) or "nothing")
            )
        used = {*state_names, "action", *videos.values()}
        rows = min(arrays[name].shape[0] for name in used)
        _check_ends(self._ends, rows, path)
        with reading(path):
            self._rows = {name: Rows(arrays[name], path / "data" / name, f"data/{name}") for name in sorted(used)}
            peaks = {name: self._rows[key].peak() for name, key in videos.items() if arrays[key].dtype.kind == "f"}
        self._state = self._tables(state_names, rows)
        self._action = self._tables(["action"], rows)
        self._videos = videos
        self._scale = {name: 255.0 if peaks.get(name, 255.0) <= 1.0 else 1.0 for name in videos}
        pusht = _is_pusht(self._state, self._action, arrays, task)
        self._task = task or (PUSHT_TASK if pusht else "")
        self._place: Literal["sim", ""] = "sim" if pusht else ""
        layout = PUSHT if pusht else self._generic(state_names)
        sized = tuple(camera(name, arrays[key].shape, image_size) for name, key in videos.items())
        self.contract = checked(replace(layout, cameras=sized), path)
        beyond = [f"rows {self._ends[-1]} to {rows - 1}: after the last end"] if rows > self._ends[-1] else []
        self.ignored = (*(f"data/{name}" for name in sorted(set(arrays) - used)), *beyond)

    def __len__(self) -> int:
        return len(self._ends)

    def episodes(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        starts = np.concatenate([[0], self._ends[:-1]])
        for index, (start, end) in enumerate(zip(starts, self._ends, strict=True)):
            try:
                episode = self._episode(int(start), int(end))
            except EpisodeError as error:
                yield f"episode_{index}", error
            else:
                yield f"episode_{index}", episode

    def _episode(self, start: int, end: int) -> Episode:
        for rows in self._rows.values():
            gone = rows.missing(start, end)
            if gone is not None:
                raise EpisodeError(f"{rows.name}: the chunk of rows {gone[0]} to {gone[1]} has no file, half copied?")
        steps = end - start
        return Episode(
            state=self._state[start:end].copy(),
            action=self._action[start:end].copy(),
            terminated=False,
            truncated=True,
            images={to.name: self._images(to, start, end) for to in self.contract.cameras},
            observation_time=stamps(steps, self.contract.rate),
            action_time=stamps(steps, self.contract.rate),
            source=np.full(steps, Source.DEMONSTRATION, np.uint8),
            task=self._task,
            place=self._place,
            origin=f"{self._path.name}:{start}-{end - 1}",
        ).check(self.contract)

    def _images(self, to: Camera, start: int, end: int) -> np.ndarray:
        """Shape (T, H, W, 3), uint8, at the contract's size."""
        rows = self._rows[self._videos[to.name]]
        pieces = (to_uint8(images, self._scale[to.name]) for images in rows.pieces(start, end))
        return gathered(pieces, end - start, to)

    def _tables(self, names: Sequence[str], rows: int) -> np.ndarray:
        """Shape (rows, entries), float32: the named arrays side by side."""
        columns = [np.zeros((rows, 0), np.float32)]
        for name in names:
            with reading(f"{self._path}: data/{name}"):
                values = self._rows[name].all()
            try:
                columns.append(numbers(values[:rows], f"data/{name}").reshape(rows, int(np.prod(values.shape[1:]))))
            except EpisodeError as error:
                raise InputError(f"{self._path}: {error}") from None
        return np.concatenate(columns, axis=1)

    def _generic(self, state_names: Sequence[str]) -> Contract:
        state = [
            StateEntry(f"{safe_name(name)}.{index}")
            for name in state_names
            for index in range(int(np.prod(self._rows[name].shape[1:])))
        ]
        action = [ActionEntry(f"action.{index}") for index in range(self._action.shape[1])]
        return Contract(name=safe_name(self._path.name.split(".")[0]), state=tuple(state), action=tuple(action))


def _open(path: Path) -> tuple[dict[str, zarr.Array], np.ndarray]:
    """The arrays of `data/` by name, and `meta/episode_ends`."""
    # zarr only warns of a folder without metadata; here it is refused.
    with reading(path), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not recognized as a component")
        root = zarr.open_group(path, mode="r")
        data, ends = root["data"], root["meta/episode_ends"]
        members = dict(data.members()) if isinstance(data, zarr.Group) else {}
        folders = sorted(entry.name for entry in (path / "data").iterdir() if entry.is_dir())
    if not isinstance(ends, zarr.Array) or ends.ndim != 1:
        raise InputError(f"{path}: meta/episode_ends is not a list of row numbers")
    with reading(f"{path}: meta/episode_ends"):
        rows = Rows(ends, path / "meta" / "episode_ends", "meta/episode_ends")
        gone, values = rows.missing(0, ends.shape[0]), rows.all()
    if gone:
        raise InputError(f"{path}: meta/episode_ends: the chunk of episodes {gone[0]} to {gone[1]} has no file")
    lost = [name for name in folders if name not in members and name != "c"]
    if lost:
        raise InputError(f"{path}: data/{lost[0]} is a folder without zarr metadata, half copied?")
    return {name: member for name, member in members.items() if isinstance(member, zarr.Array) and member.ndim}, values


def _check_ends(ends: np.ndarray, rows: int, path: Path) -> None:
    """Refuse ends that cannot cut `rows` rows into episodes. An end that repeats is an episode without steps."""
    if len(ends) == 0 or ends.dtype.kind not in "iu":
        raise InputError(f"{path}: meta/episode_ends is {ends.dtype} {ends.shape}, expected a list of row numbers")
    before = np.concatenate([[0], ends[:-1].astype(np.int64)])
    falling = np.flatnonzero(ends.astype(np.int64) < before)
    if len(falling):
        at = int(falling[0])
        raise InputError(f"{path}: meta/episode_ends falls from {before[at]} to {ends[at]} at episode {at}")
    if ends[-1] > rows:
        raise InputError(f"{path}: meta/episode_ends goes up to {ends[-1]}, data/ has only {rows} rows")


def _state_names(arrays: dict[str, zarr.Array]) -> list[str]:
    if "state" in arrays:
        return ["state"]
    return sorted(name for name, array in arrays.items() if name.startswith("robot") and array.ndim == 2)


def _camera_name(array_name: str) -> str:
    return "image" if array_name == "img" else safe_name(array_name)


def _is_pusht(state: np.ndarray, action: np.ndarray, arrays: dict[str, zarr.Array], task: str) -> bool:
    named = re.search(r"\bpush[-_ ]?t\b", task, re.IGNORECASE) is not None
    return state.shape[1] == 5 and action.shape[1] == 2 and (named or {"keypoint", "n_contacts"} <= set(arrays))
