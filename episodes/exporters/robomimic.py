"""robomimic HDF5, as robomimic's own `SequenceDataset` reads it.

Rules:

- Episodes are `data/demo_0`, `data/demo_1`, ... in the store's order, with `actions`, `dones` and `obs/`. They have
  `rewards` where there are some, and `next_obs/` where the observation after the last action is known.
- State entries that follow each other under one name, `NAME.x NAME.y NAME.z` or `NAME.0 NAME.1 ...`, are one key `NAME`
  of `obs/`; every other entry is a key of its own. Cameras are `NAME_image`, uint8, (T, H, W, 3), RGB, top row first.
- Actions are in the store's units. robomimic expects -1 to 1, and scales others since its 0.5, where told to
  (`action_config`, `min_max`).
- `dones` is 1 at the steps that end the task, and nowhere in an episode that was truncated.
- The environment has the contract's name, is of the kind that gets no treatment of its own, and has no settings,
  because a store knows none.
- What robomimic has no place for lies in groups `firsthand`, which only the importer here looks into.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from episodes.contract import Contract
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.exporters.outgoing import Outgoing
from episodes.files import whole_file
from episodes.importers.exported import NAME, kept_of
from episodes.importers.robomimic_demo import BESIDE
from episodes.importers.robomimic_export import CONTRACT, STATE_KEYS
from episodes.typed import plain

GYM = 2
"""robomimic's number for environments that it gives no treatment of their own."""

_NUMBERED = (("x", "y", "z"), ("x", "y", "z", "w"))


class Robomimic:
    """Writes a robomimic file."""

    format: ClassVar[str] = "robomimic HDF5"
    left_behind: tuple[str, ...]

    def __init__(self, outgoing: Outgoing, *, video: bool) -> None:
        if video:
            raise InputError("--video is for LeRobot: robomimic's pictures are arrays")
        self._contract = outgoing.snapshot.contract
        self._keys = state_keys(self._contract)
        self.left_behind = (
            *outgoing.left_behind(),
            *self._unscaled(outgoing.largest_action),
            "the simulator's settings: a store has none, so robomimic can learn from the file, and not roll out",
        )

    @staticmethod
    def _unscaled(largest: float) -> Iterator[str]:
        if largest > 1:
            yield (
                f"the scale of actions, which go up to {largest:.4g}: robomimic's own are from -1 to 1, and only its "
                "version 0.5 and later can be told to scale (action_config, min_max)"
            )

    @contextmanager
    def writing(self, out: Path) -> Iterator[Callable[[Episode, np.ndarray], None]]:
        with whole_file(out) as unfinished, h5py.File(unfinished, "w") as file:
            data = file.create_group("data")
            data.attrs["env_args"] = json.dumps({"env_name": self._contract.name, "type": GYM, "env_kwargs": {}})
            # As data sets, because an attribute has to fit into 64 kB.
            file[CONTRACT] = json.dumps(plain(self._contract))
            file[STATE_KEYS] = json.dumps(list(self._keys))

            steps = 0

            def add(episode: Episode, ends: np.ndarray) -> None:
                nonlocal steps
                self._write(data.create_group(f"demo_{len(data)}"), episode, ends)
                steps += episode.steps

            yield add
            data.attrs["total"] = steps

    def _write(self, demo: h5py.Group, episode: Episode, ends: np.ndarray) -> None:
        steps = episode.steps
        demo.attrs["num_samples"] = steps
        demo["actions"] = episode.action
        demo["dones"] = ends.astype(np.int64)
        if episode.reward is not None:
            demo["rewards"] = episode.reward
        for group, rows in (("obs", slice(steps)), ("next_obs", slice(1, steps + 1))):
            if group == "next_obs" and not episode.has_final_observation:
                break
            observed = demo.create_group(group)
            for key, entries in self._keys.items():
                observed[key] = episode.state[rows, entries]
            for camera, images in episode.images.items():
                observed[f"{camera}_image"] = images[rows]
        ours = demo.create_group(NAME)
        ours.attrs["kept"] = json.dumps(kept_of(episode))
        for column in BESIDE:
            values = getattr(episode, column.name)
            if values is not None:
                ours[column.name] = values


def state_keys(contract: Contract) -> dict[str, slice]:
    """Which entries of the state each key of `obs/` has, in the contract's order.

    Entries that follow each other are one key where their names differ only in what comes after the last dot, and that
    is x, y, z, x, y, z, w or 0, 1, 2, ... Where this would call two things the same, all of the state is one key.
    """
    names = contract.state_names
    starts = [index for index in range(len(names)) if index == 0 or _stem(names[index]) != _stem(names[index - 1])]
    keys: list[tuple[str, slice]] = []
    for start, stop in pairwise([*starts, len(names)]):
        if _is_one(names[start:stop]):
            keys.append((_stem(names[start]), slice(start, stop)))
        else:
            keys += [(names[index], slice(index, index + 1)) for index in range(start, stop)]
    called = [key for key, _ in keys] + [f"{camera}_image" for camera in contract.camera_names]
    return dict(keys) if len(set(called)) == len(called) else {"state": slice(len(names))}


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _is_one(names: Sequence[str]) -> bool:
    parts = tuple(name.rpartition(".")[2] for name in names)
    return bool(_stem(names[0])) and (parts in _NUMBERED or parts == tuple(str(index) for index in range(len(parts))))
