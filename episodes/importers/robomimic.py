"""robomimic HDF5, and robosuite's `demo.hdf5` from which robomimic files are made.

Rules:

- Demonstrations are the groups of `data/`, in numeric order. `mask/` (training splits) is not imported.
- The state is every low-dimensional key of `obs/` in sorted order. A file without `obs/` (robosuite's) has the
  flattened MuJoCo state instead: time, positions, velocities of whatever the model has, under numbered names.
- The final observation is the last row of `next_obs/`; without that group there is none.
- Cameras are the keys ending in `_image` of uint8 (T, H, W, 3). robomimic has already turned MuJoCo's
  bottom-row-first pictures: they lie in the file as they should be, RGB with the top row first, and are not turned
  again.
- `dones` means success, or the end of the demonstration, or both, by a flag (`done_mode`) that the file does not
  carry; and it can trail, because recording goes on for some steps after the first success. So an episode is
  terminated only where its last step is done and its last reward is a success, else it is truncated; and all of its
  steps are kept.
- A reward says success only in a file whose rewards are all 0 or 1, with some 1, and whose environment does not say
  that it shapes them. With shaped rewards a positive last one proves nothing: nothing terminates and `success` is
  absent.
- Rewards are raw; `rewards[t]` is of the observation after action `t`.
- Times are counted from the start at the environment's control rate; a file that does not say the rate has none.
- Whatever else a demonstration has is listed as ignored.
- A file that `firsthand export` wrote has groups `firsthand` with what robomimic has no place for. There the contract,
  the columns, the task and the place are the store's own, and an episode is terminated where its last step is done.
- The contract is that of the first usable demonstration. One that has other sizes or keys is left out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
import numpy as np

from episodes.contract import Contract, StateEntry
from episodes.episode import Episode, EpisodeError, Source
from episodes.errors import InputError
from episodes.importers import robomimic_names as names
from episodes.importers.exported import chosen
from episodes.importers.images import camera
from episodes.importers.robomimic_demo import SIM_STATE, Demo, Layout, in_order
from episodes.importers.robomimic_export import read_export
from episodes.importers.source import checked, choose_cameras, member_names, reading, stamps, words


class Robomimic:
    """Episodes of a robomimic or robosuite HDF5 file."""

    format: ClassVar[str] = "robomimic HDF5"
    layout: ClassVar[str] = "HDF5 with groups data/demo_*"
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
        with reading(path), h5py.File(path) as file:
            data = file.require_group("data")
            self._keys = in_order(member_names(data))
            attributes = {key: data.attrs[key] for key in names.ENVIRONMENT if key in data.attrs}
            self._export = read_export(file, path)
        self._environment = names.read_environment(attributes, path)
        self._given_task = task
        self._task = task or words(names.environment_name(self._environment))
        # Real robots' demonstrations are kept in this layout, too: only a named environment says it was a simulation.
        self._place: Literal["sim", ""] = "sim" if names.environment_name(self._environment) else ""
        self._rate = names.control_rate(self._environment)
        with self._opened() as file:
            self._sparse = not names.shaped(self._environment) and _rewards_are_sparse(file, self._keys)
            self._layout, self.contract = self._first_usable(file, cameras, image_size)
        self.ignored = self._layout.ignored

    def __len__(self) -> int:
        return len(self._keys)

    def episodes(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        with self._opened() as file:
            for key in self._keys:
                try:
                    episode = self._episode(file, key, self._layout, self.contract)
                except EpisodeError as error:
                    yield key, error
                else:
                    yield key, episode

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        with reading(self._path):
            file = h5py.File(self._path)
        with file:
            yield file

    def _first_usable(
        self, file: h5py.File, wanted: Sequence[str] | None, image_size: tuple[int, int] | None
    ) -> tuple[Layout, Contract]:
        """The layout and contract of the first demonstration that can be used; images are not read for this."""
        why: list[str] = []
        for key in self._keys:
            try:
                found = Demo(file, key).layout
                found = found if self._export is None else self._export.layout(found)
                layout = found.with_cameras(list(choose_cameras(found.videos, wanted, self._path)))
                contract = checked(self._contract(layout, image_size), self._path)
                self._episode(file, key, layout.with_cameras(()), self._contract(layout.with_cameras(()), None))
            except EpisodeError as error:
                why.append(f"{key}: {error}")
            else:
                return layout, contract
        raise InputError(f"{self._path}: none of {len(self._keys)} demonstrations can be used; {why[0]}")

    def _contract(self, layout: Layout, image_size: tuple[int, int] | None) -> Contract:
        if self._export is not None:
            return chosen(self._export.contract, layout.videos, image_size)
        robosuite = names.is_robosuite(self._environment)
        state: list[StateEntry] = []
        for key, size in layout.state.items():
            state += names.state_entries("sim_state" if key == SIM_STATE else key, size, robosuite=robosuite)
        return Contract(
            name=names.environment_name(self._environment) or "robomimic",
            state=tuple(state),
            action=names.action_entries(layout.action, self._environment),
            cameras=tuple(camera(name, (0, *shape), image_size) for name, shape in layout.videos.items()),
            rate=self._rate,
        )

    def _episode(self, file: h5py.File, key: str, layout: Layout, contract: Contract) -> Episode:
        """One demonstration, checked.

        Raises:
            EpisodeError: where it is not laid out like the contract's or cannot be used.
        """
        demo = Demo(file, key)
        difference = demo.layout.difference(layout)
        if difference:
            raise EpisodeError(difference)
        action = demo.actions()
        steps = len(action)
        final = demo.has_final(layout)
        rewards, dones = demo.per_step("rewards", steps), demo.per_step("dones", steps)
        done = dones is not None and bool(dones[-1])
        if self._export is None:
            fields = self._told(key, steps, final, rewards, done)
        else:
            fields = {"terminated": done, **demo.exported()}
            fields["task"] = self._given_task or fields["task"]
        return Episode(
            state=demo.state(layout, steps, final=final),
            action=action,
            truncated=not fields["terminated"],
            images={each.name: demo.video(each, steps, final=final) for each in contract.cameras},
            reward=rewards,
            **fields,
        ).check(contract)

    def _told(self, key: str, steps: int, final: bool, rewards: np.ndarray | None, done: bool) -> dict[str, Any]:
        """The fields of an episode that the format itself leaves to be told by other signs."""
        success = (rewards > 0).astype(np.float32) if rewards is not None and self._sparse else None
        return {
            "terminated": bool(success is not None and success[-1] and done),
            "success": success,
            "observation_time": stamps(steps + final, self._rate),
            "action_time": stamps(steps, self._rate),
            "source": np.full(steps, Source.DEMONSTRATION, np.uint8),
            "task": self._task,
            "place": self._place,
            "origin": f"{self._path.name}:{key}",
        }


def _rewards_are_sparse(file: h5py.File, keys: Sequence[str]) -> bool:
    """Whether rewards are 0 or 1 throughout, and 1 somewhere, so that 1 means success."""
    succeeded = False
    for key in keys:
        try:
            demo = Demo(file, key)
            rewards = demo.per_step("rewards", len(demo.actions()))
        except EpisodeError:
            continue  # The reason comes up again, and is told, when the demonstration itself is read.
        if rewards is not None and np.isfinite(rewards).all():
            if not np.isin(rewards, (0, 1)).all():
                return False
            succeeded = succeeded or bool((rewards == 1).any())
    return succeeded
