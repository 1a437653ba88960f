"""D4RL: one long table of steps in HDF5 or npz, to be cut into episodes.

Rules:

- A step ends an episode where `terminals` or `timeouts` is set. Both at once is a termination: the state is
  absorbing, whatever the clock said.
- With `next_observations`, a step also ends an episode (truncated) where the observation after it is not the next
  row's, `||s'_t - s_(t+1)|| > 1e-6`: a log that was cut and joined, or resets nobody marked. The rows could not share
  an episode anyway, whose observations are one sequence.
- With neither `timeouts` nor `next_observations` only terminations can be seen; an unmarked time limit joins two
  episodes by one transition that never happened. With none of the three nothing says where episodes end, and the file
  is refused.
- The rest after the last end is an episode truncated by the end of the log.
- With `next_observations` an episode has its final observation (T + 1), else it has T.
- Rewards are kept raw. `infos/*` and everything else is ignored and listed.
- Actions carry no limits: D4RL does not store them, and human ones exceed the simulator's.
- Steps are demonstrations where the file's name or its attributes say `human` or `demonstration`, else of unknown
  source.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import h5py
import numpy as np

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.episode import Episode, EpisodeError, Source
from episodes.errors import InputError
from episodes.importers.source import checked, choose_cameras, member_names, numbers, reading, reason, words

COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
GAP = 1e-6
"""How far the observation after a step may lie from the next row's and still be the same one."""


class D4RL:
    """Episodes of a D4RL file."""

    format: ClassVar[str] = "D4RL"
    layout: ClassVar[str] = "HDF5 or npz with observations, actions and terminals or timeouts"
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
        del image_size  # The format has no images.
        columns, self.ignored, attributes = _read(path)
        choose_cameras({}, cameras, path)
        self._path = path
        self._columns = _tables(columns, path)
        text = " ".join([path.name, *attributes.values()]).lower()
        self._source = Source.DEMONSTRATION if "human" in text or "demonstration" in text else Source.UNKNOWN
        env = attributes.get("env", attributes.get("env_id", ""))
        self._task = task or words(env)
        # Real robots' logs are kept in this layout, too: only a named environment says that it was a simulation.
        self._place: Literal["sim", ""] = "sim" if env else ""
        flags = {name: self._columns.get(name) for name in ("terminals", "timeouts", "next_observations")}
        if all(values is None for values in flags.values()):
            raise InputError(
                f"{path}: nothing says where episodes end: it has none of terminals, timeouts and next_observations"
            )
        self._ends, self._terminated = split(self._columns["observations"], **flags)
        self.contract = checked(
            Contract(
                name=env or "d4rl",
                state=tuple(StateEntry(f"observation.{i}") for i in range(self._columns["observations"].shape[1])),
                action=tuple(ActionEntry(f"action.{i}") for i in range(self._columns["actions"].shape[1])),
            ),
            path,
        )

    def __len__(self) -> int:
        return len(self._ends)

    def episodes(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        starts = np.concatenate([[0], self._ends[:-1]])
        for index, (start, end, terminated) in enumerate(zip(starts, self._ends, self._terminated, strict=True)):
            try:
                episode = self._episode(int(start), int(end), bool(terminated)).check(self.contract)
            except EpisodeError as error:
                yield f"episode_{index}", error
            else:
                yield f"episode_{index}", episode

    def _episode(self, start: int, end: int, terminated: bool) -> Episode:
        state = self._columns["observations"][start:end]
        following = self._columns.get("next_observations")
        rewards = self._columns.get("rewards")
        return Episode(
            state=state.copy() if following is None else np.concatenate([state, following[end - 1 : end]]),
            action=self._columns["actions"][start:end].copy(),
            terminated=terminated,
            truncated=not terminated,
            source=np.full(end - start, self._source, np.uint8),
            reward=None if rewards is None else rewards[start:end].copy(),
            task=self._task,
            place=self._place,
            origin=f"{self._path.name}:{start}-{end - 1}",
        )


def split(
    observations: np.ndarray,
    terminals: np.ndarray | None,
    timeouts: np.ndarray | None,
    next_observations: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the episodes of a table of N steps end.

    Args:
        observations: Shape (N, S).
        terminals: Shape (N,), bool.
        timeouts: Shape (N,), bool.
        next_observations: Shape (N, S).

    Returns:
        ends: shape (E,), the row after each episode's last one, increasing up to N.
        terminated: shape (E,), bool.
    """
    count = len(observations)
    terminal = np.zeros(count, bool) if terminals is None else terminals
    end = terminal.copy() if timeouts is None else terminal | timeouts
    if next_observations is not None and count > 1:
        with np.errstate(invalid="ignore"):  # infinity less infinity
            gap = np.linalg.norm(next_observations[:-1].astype(np.float64) - observations[1:], axis=1)
        # What is not finite is no gap: an episode that has such a number is left out whole, not imported in two halves.
        end[:-1] |= np.isfinite(gap) & (gap > GAP)
    end[-1:] = True
    last = np.flatnonzero(end)
    return last + 1, terminal[last]


def _read(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...], dict[str, str]]:
    """The columns that are there, the names of the rest, and the file's attributes that are text."""
    if path.open("rb").read(2) == b"PK":
        with reading(path), zipfile.ZipFile(path) as archive:
            # A flipped bit may sit in a name or a header: only an archive whose every checksum holds is looked into.
            broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"{broken} fails its checksum")
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            columns = {
                name: np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
                for name in COLUMNS
                if name in names
            }
        attributes: dict[str, str] = {}
    else:
        with reading(path), h5py.File(path) as file:
            names = member_names(file)
            # By the listed names: `in` and `get` would take a column whose link is damaged for one that is not there.
            columns = {name: np.asarray(file[name]) for name in COLUMNS if name in names}
            attributes = {key: value for key, value in file.attrs.items() if isinstance(value, str)}
    return columns, tuple(sorted(set(names) - set(columns))), attributes


def _tables(columns: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The columns in the types and shapes of an episode; refused where their rows do not belong together."""
    tables: dict[str, np.ndarray] = {}
    rows = len(columns["actions"]) if columns["actions"].ndim else 0
    if rows == 0:
        raise InputError(f"{path}: actions has no rows")
    for name, values in columns.items():
        wide = name in ("observations", "actions", "next_observations")
        if values.ndim == 0 or len(values) != rows:
            raise InputError(f"{path}: {name} has shape {values.shape} where actions has {rows} rows")
        if values.size != rows and not wide:
            raise InputError(f"{path}: {name} has shape {values.shape}, expected one number a step")
        if values.ndim != 2 and wide:
            raise InputError(f"{path}: {name} has shape {values.shape}, expected a table (steps, entries)")
        try:
            table = numbers(values, name)
        except EpisodeError as error:
            raise InputError(f"{path}: {reason(error)}") from None
        if name in ("terminals", "timeouts"):
            table = table != 0
        tables[name] = table if wide else table.reshape(rows)
    following = tables.get("next_observations", tables["observations"])
    if following.shape != tables["observations"].shape:
        raise InputError(
            f"{path}: next_observations has shape {following.shape}, observations {tables['observations'].shape}"
        )
    return tables
