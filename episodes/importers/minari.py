"""Minari HDF5: a folder with `data/main_data.hdf5`, or that file itself.

Rules:

- Episodes are the groups `episode_<n>`, in numeric order.
- What the numbers are is said by `metadata.json` beside the file, since Minari 0.5, and before that by the file's own
  attributes; where neither is there, by the arrays, and then pictures kept as JPEG cannot be told from numbers.
- The state is every number and every list of numbers under `observations`, nested ones (Dict and Tuple spaces) in
  sorted order. Pictures are cameras: uint8 of (T + 1, H, W, 3), or JPEG. Grey pictures, depth maps and texts are
  ignored and listed.
- Actions are every array under `actions`, in the same way, with the limits of a Box space.
- There is always an observation after the last action: an episode with another number of rows is left out.
- An episode is terminated where its last step is in `terminations`, whatever `truncations` says, else truncated. One
  that goes on after a termination is left out: it is two.
- `infos/success` is the success of the step that led to an observation, as infos come with observations; all others are
  ignored and listed.
- Nothing says the rate: there are no stamps.
- Steps are demonstrations where the dataset's name or its algorithm says `human` or `demonstration`, else of unknown
  source.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
import numpy as np

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.episode import Episode, EpisodeError, Source
from episodes.errors import InputError
from episodes.importers import minari_layout as layouts
from episodes.importers.images import camera
from episodes.importers.minari_layout import Layout, Leaf
from episodes.importers.source import (
    checked,
    choose_cameras,
    damaged,
    member_names,
    numbers,
    reading,
    safe_name,
    words,
)

FILE = "main_data.hdf5"


def is_minari_folder(path: Path) -> bool:
    """Whether a folder is a Minari dataset, or its `data`; in whatever storage."""
    return any((folder / FILE).is_file() or _describes(folder / "metadata.json") for folder in (path, path / "data"))


def is_minari_file(names: Sequence[str], file: h5py.File) -> bool:
    """Whether an HDF5 file with these members is Minari's."""
    groups = [file.get(name) for name in names if re.fullmatch(r"episode_\d+", name)]
    return any(isinstance(group, h5py.Group) and "actions" in member_names(group) for group in groups)


class Minari:
    """Episodes of a Minari dataset."""

    format: ClassVar[str] = "Minari HDF5"
    layout: ClassVar[str] = f"HDF5 with groups episode_*, or a folder with {FILE}"
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
        self._path = _file_of(path)
        with reading(self._path), h5py.File(self._path) as file:
            self._keys = layouts.in_order([name for name in member_names(file) if re.fullmatch(r"episode_\d+", name)])
            metadata = dict(file.attrs) | _metadata(self._path.parent / "metadata.json")
        self._space = layouts.parsed_space(metadata.get("observation_space"))
        environment = layouts.parsed_space(metadata.get("env_spec"))
        env = str(environment.get("id") or "") if isinstance(environment, dict) else ""
        self._name = re.sub(r"-v\d+$", "", env or str(metadata.get("dataset_id") or "minari"))
        self._task = task or words(re.sub(r"-v\d+$", "", env.rpartition("/")[2]))
        # Real robots' logs may be kept in this layout, too: only a named environment says that it was a simulation.
        self._place: Literal["sim", ""] = "sim" if env else ""
        said = f"{metadata.get('dataset_id', '')} {metadata.get('algorithm_name', '')} {path}".lower()
        self._source = Source.DEMONSTRATION if "human" in said or "demonstration" in said else Source.UNKNOWN
        with reading(self._path), h5py.File(self._path) as file:
            self._layout, self.contract = self._first_usable(
                file, layouts.parsed_space(metadata.get("action_space")), cameras, image_size
            )
        self.ignored = self._layout.ignored

    def __len__(self) -> int:
        return len(self._keys)

    def episodes(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        with reading(self._path):
            file = h5py.File(self._path)
        with file:
            for key in self._keys:
                try:
                    episode = self._episode(file, key, self._layout, self.contract)
                except EpisodeError as error:
                    yield key, error
                else:
                    yield key, episode

    def _first_usable(
        self, file: h5py.File, action_space: Any, wanted: Sequence[str] | None, image_size: tuple[int, int] | None
    ) -> tuple[Layout, Contract]:
        """The layout and contract of the first episode that can be used; images are not read for this."""
        why: list[str] = []
        for key in self._keys:
            try:
                found = layouts.look(_group(file, key), self._space)
                chosen = choose_cameras(dict(found.videos), wanted, self._path)
                layout = replace(found, videos=chosen)
                contract = checked(self._contract(layout, action_space, image_size), self._path)
                blind = replace(layout, videos={})
                if blind.state:
                    self._episode(file, key, blind, replace(contract, cameras=()))
            except EpisodeError as error:
                why.append(f"{key}: {error}")
            else:
                return layout, contract
        raise InputError(f"{self._path}: none of {len(self._keys)} episodes can be used; {why[0] if why else 'none'}")

    def _contract(self, layout: Layout, action_space: Any, image_size: tuple[int, int] | None) -> Contract:
        state = [StateEntry(name) for leaf in layout.state for name in _entries(leaf, "observation")]
        action = []
        for leaf in layout.action:
            ends = zip(*layouts.limits(action_space, leaf.path, leaf.size), strict=True)
            named = zip(_entries(leaf, "action"), ends, strict=True)
            action += [ActionEntry(name, low=low, high=high) for name, (low, high) in named]
        return Contract(
            name=self._name,
            state=tuple(state),
            action=tuple(action),
            cameras=tuple(camera(name, (0, v.height, v.width, 3), image_size) for name, v in layout.videos.items()),
        )

    def _episode(self, file: h5py.File, key: str, layout: Layout, contract: Contract) -> Episode:
        """One episode, checked.

        Raises:
            EpisodeError: where it is not laid out like the contract's or cannot be used.
        """
        group = _group(file, key)
        difference = layouts.look(group, self._space).difference(layout)
        if difference:
            raise EpisodeError(difference)
        steps = len(layouts.read(group, layout.action[0].path))
        terminations = _flags(group, "terminations", steps)
        early = np.flatnonzero(terminations[:-1])
        if len(early):
            raise EpisodeError(f"it terminates at step {early[0]} and goes on to step {steps - 1}")
        terminated = bool(steps and terminations[-1])
        return Episode(
            state=layouts.table(group, layout.state, steps + 1),
            action=layouts.table(group, layout.action, steps),
            terminated=terminated,
            truncated=not terminated,
            images={
                each.name: layouts.images(group, layout.videos[each.name], steps + 1, each) for each in contract.cameras
            },
            source=np.full(steps, self._source, np.uint8),
            reward=_rewards(group, steps),
            success=_success(group, steps),
            task=self._task,
            place=self._place,
            origin=f"{self._path.parent.parent.name}/{self._path.name}:{key}",
        ).check(contract)


def _group(file: h5py.File, key: str) -> h5py.Group:
    with damaged(key):
        group = file[key]
    if not isinstance(group, h5py.Group) or not {"observations", "actions"} <= set(member_names(group)):
        raise EpisodeError("it has no observations and actions")
    return group


def _flags(group: h5py.Group, name: str, steps: int) -> np.ndarray:
    """Shape (steps,), bool; none is set where the episode has no such array."""
    if name not in member_names(group):
        return np.zeros(steps, bool)
    values = layouts.read(group, name)
    if values.shape != (steps,) or values.dtype.kind not in "biu":
        raise EpisodeError(f"{name} is {values.dtype} of shape {values.shape}, expected flags for {steps} steps")
    return values != 0


def _rewards(group: h5py.Group, steps: int) -> np.ndarray | None:
    if "rewards" not in member_names(group):
        return None
    values = numbers(layouts.read(group, "rewards"), "rewards")
    if values.size != steps:
        raise EpisodeError(f"ragged: rewards has shape {values.shape} for {steps} actions")
    return values.reshape(steps)


def _success(group: h5py.Group, steps: int) -> np.ndarray | None:
    """Shape (steps,): 1 where the observation after the action is a success; None where infos do not say."""
    if "infos" not in member_names(group):
        return None
    with damaged("infos"):
        infos = group.require_group("infos")
        there = "success" in member_names(infos)
    if not there:
        return None
    values = layouts.read(group, layouts.SUCCESS)
    if values.size != steps + 1 or values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        return None
    return values.reshape(-1)[1:].astype(np.float32)


def _entries(leaf: Leaf, kind: str) -> list[str]:
    """`observation.0` of an array, `achieved_goal.0` of a member of a Dict, `1.0` of a Tuple's as `observation.1.0`."""
    parts = [part.removeprefix("_index_") for part in leaf.path.split("/")[1:]]
    name = ".".join(parts)
    prefix = safe_name(name) if parts and not parts[0].isdigit() else ".".join([kind, *parts])
    return [f"{prefix}.{index}" for index in range(leaf.size)]


def _file_of(path: Path) -> Path:
    """The HDF5 file of a dataset's folder.

    Raises:
        InputError: where the dataset is kept in another storage.
    """
    if path.is_file():
        return path
    for folder in (path, path / "data"):
        if (folder / FILE).is_file():
            return folder / FILE
    raise InputError(
        f"{path}: a Minari dataset that is not kept in HDF5: there is no {FILE}; let Minari write it again with "
        'data_format="hdf5"'
    )


def _metadata(path: Path) -> dict[str, Any]:
    """What Minari says of a dataset, since its version 0.5; nothing where there is no such file."""
    if not path.is_file():
        return {}
    with reading(path):
        found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise InputError(f"{path}: is {type(found).__name__}, expected a mapping")
    return found


def _describes(path: Path) -> bool:
    """Whether a file is a Minari dataset's description."""
    try:
        found = json.loads(path.read_text()) if path.is_file() else None
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"data_format", "total_episodes"} <= set(found)
