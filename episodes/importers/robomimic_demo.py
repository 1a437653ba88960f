"""One demonstration of a robomimic file: what it has, and its arrays. Whatever is wrong with it is an EpisodeError."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import h5py
import numpy as np

from episodes.contract import Camera
from episodes.episode import COLUMNS, EpisodeError
from episodes.importers.exported import KEPT, NAME, kept_from, said
from episodes.importers.images import gathered, is_video
from episodes.importers.source import blocks, damaged, member_names, numbers, safe_name

SIM_STATE = "states"
"""The flattened MuJoCo state, which stands for observations in a file that has none."""


BESIDE = tuple(column for column in COLUMNS if column in KEPT or column.name == "success")
"""The columns of an episode that lie in a demonstration's group `firsthand`, where an export of ours wrote the file."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a demonstration has."""

    action: int
    """Size of an action."""
    state: dict[str, int]
    """Size of each low-dimensional observation, by key in sorted order; `states` alone where there is no `obs/`."""
    videos: dict[str, tuple[int, ...]]
    """Shape (H, W, 3) of each camera's images, by the camera's name."""
    ignored: tuple[str, ...]
    """Everything else."""

    def with_cameras(self, wanted: Collection[str]) -> "Layout":
        return replace(self, videos={name: shape for name, shape in self.videos.items() if name in wanted})

    def difference(self, expected: "Layout") -> str | None:
        """The first thing in which this is not what is expected, in words; it may have more cameras."""
        if self.action != expected.action:
            return f"action size {self.action}, the contract has {expected.action}"
        for key in sorted({*self.state, *expected.state}):
            size, want = self.state.get(key), expected.state.get(key)
            if size != want:
                return f"observation {key!r} has size {size}, the contract was made from size {want}"
        for name, shape in expected.videos.items():
            if self.videos.get(name) != shape:
                return f"camera {name!r} has images {self.videos.get(name)}, the contract was made from {shape}"
        return None


class Demo:
    """A group of `data/`."""

    def __init__(self, file: h5py.File, key: str) -> None:
        with damaged(key):
            group = file[f"data/{key}"]
            if not isinstance(group, h5py.Group):
                raise EpisodeError("not a group of arrays")
            self._group = group
            # What is there is decided by the listed names: `in` and `get` take a damaged link for nothing.
            self._names = set(member_names(group))
            self.layout = self._look()

    def actions(self) -> np.ndarray:
        """Shape (T, A), float32."""
        values = numbers(self._rows("actions"), "actions")
        if len(values) == 0:
            raise EpisodeError("it has no steps")
        return values

    def per_step(self, key: str, steps: int) -> np.ndarray | None:
        """Shape (T,), float32; None where the demonstration has no such array."""
        if key not in self._names:
            return None
        values = numbers(self._rows(key), key)
        if values.size != steps:
            raise EpisodeError(f"ragged: {key} has shape {values.shape} for {steps} actions")
        return values.reshape(steps)

    def has_final(self, layout: Layout) -> bool:
        """Whether `next_obs/` has everything that the layout observes."""
        if "next_obs" not in self._names:
            return False
        with damaged("next_obs"):
            there = set(member_names(self._group.require_group("next_obs")))
        return there.issuperset([*layout.state, *(f"{name}_image" for name in layout.videos)])

    def state(self, layout: Layout, steps: int, *, final: bool) -> np.ndarray:
        """Shape (T + 1, S) with the final observation, else (T, S), float32: the low-dimensional observations."""
        parts = [numbers(self._observed(key, steps, final), key) for key in layout.state]
        rows = steps + final
        return np.concatenate(
            [
                np.zeros((rows, 0), np.float32),
                *(part.reshape(rows, size) for part, size in zip(parts, layout.state.values(), strict=True)),
            ],
            axis=1,
        )

    def video(self, to: Camera, steps: int, *, final: bool) -> np.ndarray:
        """Shape (T + 1, H, W, 3) with the final observation, else (T, H, W, 3), uint8, at the camera's size."""
        name = f"{to.name}_image"
        table = self._table(f"obs/{name}", steps)
        last = [self._last(name, table.shape)] if final else []
        return gathered(chain(blocks(table, name), last), steps + final, to)

    def exported(self) -> dict[str, Any]:
        """The fields of an episode that an export of ours keeps beside the format's own."""
        if NAME not in self._names:
            raise EpisodeError(f"it has no group {NAME}, which `firsthand export` gives to every demonstration")
        with damaged(NAME):
            group = self._group.require_group(NAME)
            there = member_names(group)
            columns = {c.name: said(c, np.asarray(group[c.name])) if c.name in there else None for c in BESIDE}
            kept = dict(json.loads(str(group.attrs["kept"])))
        return columns | kept_from(kept, f"{NAME}: kept")

    def _look(self) -> Layout:
        actions = self._group["actions"] if "actions" in self._names else None
        if not isinstance(actions, h5py.Dataset) or actions.ndim != 2:
            raise EpisodeError(f"actions is {getattr(actions, 'shape', 'missing')}, expected a table (steps, entries)")
        if "obs" not in self._names:
            raw = self._group[SIM_STATE] if SIM_STATE in self._names else None
            if not isinstance(raw, h5py.Dataset) or raw.ndim != 2:
                raise EpisodeError("it has neither obs/ nor a table of states")
            return Layout(actions.shape[1], {SIM_STATE: raw.shape[1]}, {}, self._beside(SIM_STATE))
        observed = self._group.require_group("obs")
        state: dict[str, int] = {}
        videos: dict[str, tuple[int, ...]] = {}
        ignored = list(self._beside("obs"))
        for key in sorted(member_names(observed)):
            values = observed[key]
            if not isinstance(values, h5py.Dataset):
                ignored.append(f"obs/{key}")
                continue
            shape, name = values.shape, key.removesuffix("_image")
            if name != key and is_video(shape, values.dtype) and values.dtype == np.uint8 and safe_name(name) == name:
                videos[name] = shape[1:]
            elif len(shape) in (1, 2) and values.dtype.kind in "fiub":
                state[key] = int(np.prod(shape[1:]))
            else:
                ignored.append(f"obs/{key}")
        return Layout(actions.shape[1], state, videos, tuple(ignored))

    def _beside(self, observed: str) -> tuple[str, ...]:
        """The arrays that are not imported, beside the observations."""
        return tuple(sorted(self._names - {"actions", "rewards", "dones", "next_obs", NAME, observed}))

    def _observed(self, key: str, steps: int, final: bool) -> np.ndarray:
        """An observation's rows, and after them the last one of `next_obs/` where the final one is asked for."""
        name = key if key == SIM_STATE else f"obs/{key}"
        with damaged(name):
            values = np.asarray(self._table(name, steps))
        return np.concatenate([values, self._last(key, values.shape)]) if final else values

    def _last(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """Shape (1, ...): the observation after the last action, where the others have this shape."""
        with damaged(f"next_obs/{key}"):
            following = self._group[f"next_obs/{key}"]
            if not isinstance(following, h5py.Dataset) or following.shape != shape:
                found = getattr(following, "shape", "that of a group")
                raise EpisodeError(f"ragged: next_obs/{key} has shape {found}, obs/{key} {shape}")
            return np.asarray(following[-1:])

    def _table(self, name: str, steps: int) -> h5py.Dataset:
        """An array with a row per step."""
        with damaged(name):
            values = self._group[name]
        if not isinstance(values, h5py.Dataset):
            raise EpisodeError(f"{name} is not an array")
        if len(values) != steps:
            raise EpisodeError(f"ragged: {name} has {len(values)} rows for {steps} actions")
        return values

    def _rows(self, key: str) -> np.ndarray:
        with damaged(key):
            return np.asarray(self._group[key])


def in_order(keys: Collection[str]) -> list[str]:
    """`demo_2` before `demo_10`."""
    return sorted(keys, key=lambda key: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)])
