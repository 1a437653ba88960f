"""LeRobot datasets, v2.0 to v3.0: numbers in parquet, pictures in mp4 or beside the numbers, what is where in `meta/`.

Rules:

- The state is `observation.state`, and after it every other list of floats under `observation.` in sorted order, such
  as velocities and efforts. The action is `action`. Names are those of `meta/info.json` if there is a different one for
  each entry, else numbers. Everything else is ignored and listed.
- LeRobot says no units, and not whether an action is a target or a displacement. Only where state and action share a
  name that ends in `.pos`, as its own robots write it, the action is a target for that state entry.
- Cameras are the features of kind `video` and `image` with three channels; `observation.images.wrist` is called
  `wrist`. Depth maps are ignored and listed.
- A frame belongs to a row if its time is the nearest to the row's `timestamp` (in v3.0 after the clip's start), and no
  farther than half a period. An episode with a row that has none, or without its video, is left out.
- There is no observation after the last action. An episode is terminated where its last row has `next.success` (and
  `next.done` where there is such a column). Without `next.success` it is terminated where its last row is done and its
  rewards are 0 and at last 1. `next.done` alone ends demonstrations as well as tasks, and proves nothing. Everything
  else is truncated, and then its last step is no transition.
- Where `next.truncated` stands beside `next.done`, the two are told apart: an episode whose last row is done and not
  truncated is terminated.
- `next.reward` is kept raw, and an episode in which it is NaN throughout has none. `success` is `next.success`; without
  that column it is absent.
- Who acted is a demonstrator, unless a column `complementary_info.is_intervention` tells a human's steps from a
  policy's.
- The task in words is that of the rows' `task_index`; several are joined by `; `. A real robot is not told from a
  simulated one.
- Times are the rows' `timestamp`, from the episode's start, for the observation and the action alike.
- A dataset that `firsthand export` wrote has `meta/firsthand.parquet`. Then the contract, the times, who acted and
  where are the store's own, from there and from columns `firsthand.*`.
- One episode is read at a time: its rows in batches, its frames one by one, each decoded once.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from episodes.contract import Camera, Contract
from episodes.episode import Episode, EpisodeError, Source
from episodes.errors import InputError
from episodes.importers import lerobot_names as names
from episodes.importers.exported import chosen, said
from episodes.importers.lerobot_export import COLUMNS, as_stored, read_export
from episodes.importers.lerobot_info import Feature, read_info, read_tasks
from episodes.importers.lerobot_layout import Entry, read_layout
from episodes.importers.lerobot_rows import EPISODE, Rows, table
from episodes.importers.lerobot_videos import CameraVideos, embedded_images
from episodes.importers.source import LATEST, checked, choose_cameras, listed, numbers, reading, safe_name

PER_FRAME = ("next.reward", "next.success", "next.done", "next.truncated", "complementary_info.is_intervention")
"""Columns with one number a frame that an episode is made of where they are there."""

BOOKKEEPING = ("timestamp", "frame_index", EPISODE, "index", "task_index")


class LeRobot:
    """Episodes of a LeRobot dataset."""

    format: ClassVar[str] = "LeRobot dataset"
    layout: ClassVar[str] = "folder with meta/info.json"
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
        self._info = info = read_info(path)
        self._task = task
        self._tasks = {} if task else read_tasks(path, info)
        with reading(path / "meta" / "info.json"):
            self._pictures = choose_cameras(names.cameras(info.features), cameras, path)
            self._state = names.state_keys(info.features)
            self._export = read_export(path, info.features)
            action = info.features.get(names.ACTION)
            if action is None or not names.is_table(action) or not (self._state or self._pictures):
                raise InputError(
                    f"{path}: expected an action and a state or cameras, each frame's numbers in a list; "
                    f"meta/info.json has {listed(info.features) or 'nothing'}"
                )
            state = names.state_entries(info.features)
            contract = Contract(
                name=safe_name(info.robot_type if _says(info.robot_type) else path.resolve().name),
                state=state,
                action=names.action_entries(action, state),
                cameras=tuple(Camera(n, *(image_size or (p.height, p.width))) for n, p in self._pictures.items()),
                rate=info.fps,
            )
        if self._export is not None:
            contract = chosen(self._export.contract, self._pictures, image_size)
        self.contract = checked(contract, path)
        self._layout = read_layout(path, info, [p.key for p in self._pictures.values() if p.in_video])
        self._columns = self._wanted_columns()
        self.ignored = tuple(self._left_aside())

    def __len__(self) -> int:
        return len(self._layout)

    def episodes(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        heavy = any(not picture.in_video for picture in self._pictures.values())
        rows = Rows(self._path, self._columns, batch=64 if heavy else 4096)
        with ExitStack() as stack:
            videos = {
                to.name: stack.enter_context(closing(CameraVideos(self._path, self._pictures[to.name], to)))
                for to in self.contract.cameras
            }
            for key, entry in self._layout.entries():
                yield key, entry if isinstance(entry, EpisodeError) else self._read(entry, rows, videos)

    def _read(self, entry: Entry, rows: Rows, videos: dict[str, CameraVideos]) -> Episode | EpisodeError:
        """An episode, or why it cannot be used. Nothing here keeps it: the next one may be as large."""
        try:
            return self._episode(entry, rows, videos)
        except EpisodeError as error:
            return error

    def _episode(self, entry: Entry, rows: Rows, videos: dict[str, CameraVideos]) -> Episode:
        data = rows.episode(entry.index, entry.files)
        if len(data) != entry.length or not len(data):
            raise EpisodeError(f"ragged: {len(data)} rows in the parquet file, meta/ says {entry.length}")
        times = self._times(data)
        reward, success, done, truncated, intervened = (self._per_frame(data, key) for key in PER_FRAME)
        terminated = _terminated(reward, success, done, truncated)
        if self._export is None:
            fields = self._told(entry, times, success, intervened)
        else:
            fields = {"success": success, **self._export.fields(entry.index), **self._kept(data)}
        fields["task"] = self._task or self._task_of(data)
        return Episode(
            state=np.concatenate(
                [np.zeros((len(data), 0), np.float32), *(self._table(data, key) for key in self._state)], axis=1
            ),
            action=self._table(data, names.ACTION),
            terminated=terminated,
            truncated=not terminated,
            images={to.name: self._images(to, entry, data, times, videos[to.name]) for to in self.contract.cameras},
            reward=reward,
            **fields,
        ).check(self.contract)

    def _told(
        self, entry: Entry, times: np.ndarray, success: np.ndarray | None, intervened: np.ndarray | None
    ) -> dict[str, Any]:
        """The fields of an episode that the format itself leaves to be told by other signs."""
        source = np.full(len(times), Source.DEMONSTRATION, np.uint8)
        if intervened is not None:
            source = np.where(intervened > 0, Source.INTERVENTION, Source.POLICY).astype(np.uint8)
        stamps = np.rint(times * 1e9).astype(np.int64)
        return {
            "observation_time": stamps,
            "action_time": stamps.copy(),
            "source": source,
            "success": None if success is None else (success > 0).astype(np.float32),
            "origin": f"{self._path.resolve().name}:episode_{entry.index:06d}",
        }

    def _kept(self, data: pa.Table) -> dict[str, np.ndarray | None]:
        """The columns of an episode that an export of ours keeps beside LeRobot's."""
        found: dict[str, np.ndarray | None] = {}
        for key, column in COLUMNS.items():
            if key in self._columns:
                rows = as_stored(table(data[key], self._info.features[key].shape[0], key), column)
                found[column.name] = said(column, rows if column.width else rows[:, 0])
        return found

    def _images(self, to: Camera, entry: Entry, data: pa.Table, times: np.ndarray, videos: CameraVideos) -> np.ndarray:
        """Shape (T, H, W, 3), uint8, at the contract's size."""
        picture = self._pictures[to.name]
        if not picture.in_video:
            return embedded_images(data[picture.key], picture, to)
        return videos.images(entry.clips[picture.key], times, tolerance=0.5 / self._info.fps)

    def _table(self, data: pa.Table, key: str) -> np.ndarray:
        """Shape (T, entries), float32."""
        return numbers(table(data[key], self._info.features[key].shape[0], key), key)

    def _per_frame(self, data: pa.Table, key: str) -> np.ndarray | None:
        """Shape (T,), float32; None where the dataset has no such column, or it says nothing of the episode."""
        if key not in self._columns:
            return None
        values = numbers(table(data[key], 1, key)[:, 0], key)
        if np.isnan(values).all():
            return None
        exact = self._export is not None and key == "next.success"
        if not exact and not np.isfinite(values).all():
            raise EpisodeError(f"{key} is not finite at step {int(np.argmin(np.isfinite(values)))}")
        return values

    def _times(self, data: pa.Table) -> np.ndarray:
        """Shape (T,), float64, rising [s]: of each row from the episode's start."""
        if "timestamp" not in self._columns:
            return np.arange(len(data)) / self._info.fps
        times = table(data["timestamp"], 1, "timestamp")[:, 0].astype(np.float64)
        # Written so that it is true of NaN, too.
        wrong = ~((times >= 0) & (times < LATEST) & (np.diff(times, prepend=-1.0) > 0))
        if wrong.any():
            step = int(np.argmax(wrong))
            raise EpisodeError(f"timestamp is {times[step]:g} s at step {step}, expected times from 0 on that rise")
        return times

    def _task_of(self, data: pa.Table) -> str:
        if "task_index" not in self._columns:
            return ""
        indices = table(data["task_index"], 1, "task_index")[:, 0].tolist()
        for index in dict.fromkeys(indices):
            if index not in self._tasks:
                raise EpisodeError(f"task_index {index} is none of the {len(self._tasks)} tasks in meta/")
        return "; ".join(self._tasks[index] for index in dict.fromkeys(indices))

    def _wanted_columns(self) -> list[str]:
        features = self._info.features
        told = ("timestamp", *(() if self._task else ("task_index",)), *PER_FRAME)
        return [
            *self._state,
            names.ACTION,
            *(picture.key for picture in self._pictures.values() if not picture.in_video),
            *(key for key in told if key in features and _is_number(features[key])),
            *(key for key in COLUMNS if self._export is not None and key in features and names.is_table(features[key])),
        ]

    def _left_aside(self) -> Iterator[str]:
        used = {*self._columns, *BOOKKEEPING, *(picture.key for picture in self._pictures.values())}
        yield from sorted(set(self._info.features) - used)
        yield from names.misnamed(self._info.features)
        total = self._info.total_episodes
        if total is not None and total > len(self):
            yield f"{total - len(self)} of {total} episodes: meta/ says nothing of where they are"


def _terminated(
    reward: np.ndarray | None, success: np.ndarray | None, done: np.ndarray | None, truncated: np.ndarray | None
) -> bool:
    """Whether the task itself ended with the last step, of what there is of shape (T,)."""
    if done is not None and not done[-1]:
        return False
    if done is not None and truncated is not None:
        return not truncated[-1]
    if success is not None:
        return bool(success[-1])
    if reward is None or done is None:
        return False
    return reward[-1] == 1 and np.unique(reward).tolist() == [0, 1]


def _is_number(feature: Feature) -> bool:
    return feature.shape in ((), (1,)) and feature.dtype not in ("string", "video", "image")


def _says(robot_type: object) -> bool:
    return isinstance(robot_type, str) and robot_type not in ("", "unknown")
