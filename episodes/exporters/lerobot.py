"""LeRobot dataset v3.0, as LeRobot's own `LeRobotDataset` reads it.

Rules:

- The state is `observation.state`, the action `action`, with the contract's names; a camera is
  `observation.images.NAME`, as PNG inside the parquet files, or as H.264 in mp4 where video is asked for.
- A row is a step. The observation after the last action has no row, and stays behind.
- `timestamp` counts rows at the store's rate, as LeRobot demands; the true times are in columns of ours. A store that
  says no rate counts one row a second.
- `next.reward` and `next.success` are there where some episode has them, NaN where another has not. `next.done` is
  true at the steps that end the task, and `next.truncated` at the last step of an episode that was cut off.
- What LeRobot has no place for is in columns `firsthand.*` and in `meta/firsthand.parquet`, which only the importer
  here looks into.
- Statistics are over all pixels and rows. Columns of ours have none.
- `meta/info.json`, which makes a folder a dataset, is written last.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from episodes.contract import Contract
from episodes.episode import COLUMNS as EVERY
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.exporters.lerobot_files import (
    FILE_BYTES,
    FILES_PER_CHUNK,
    Episodes,
    Rows,
    column,
    episode_schema,
    write_tasks,
)
from episodes.exporters.lerobot_pictures import FILE_BYTES as VIDEO_BYTES
from episodes.exporters.lerobot_pictures import Video, png_column
from episodes.exporters.lerobot_stats import Stats, merged, of_pictures, of_rows
from episodes.exporters.outgoing import Outgoing
from episodes.files import whole_folder
from episodes.importers.lerobot_export import COLUMNS, CONTRACT, FILE, stored_as
from episodes.importers.lerobot_names import ACTION, STATE
from episodes.typed import plain

Feature = dict[str, Any]


class LeRobot:
    """Writes a LeRobot dataset."""

    format: ClassVar[str] = "LeRobot dataset v3.0"
    left_behind: tuple[str, ...]

    def __init__(self, outgoing: Outgoing, *, video: bool) -> None:
        self._contract = outgoing.snapshot.contract
        if video and not self._contract.cameras:
            raise InputError(f"{outgoing.snapshot.path}: holds no pictures to make a video of; leave --video out")
        self._columns = outgoing.columns
        self._video = video
        self.left_behind = (*outgoing.left_behind(), *self._left_behind(outgoing))

    @contextmanager
    def writing(self, out: Path) -> Iterator[Callable[[Episode, np.ndarray], None]]:
        with whole_folder(out) as folder, closing(_Dataset(folder, self._contract, self._columns, self._video)) as data:
            yield data.add
            data.finish()

    def _left_behind(self, outgoing: Outgoing) -> Iterator[str]:
        ends = len(outgoing) - outgoing.without_final
        if ends:
            yield f"the observation after the last action of {ends} of {len(outgoing)} episodes"
        if self._contract.rate is None:
            yield "times in LeRobot's own column: the store says no rate, so timestamp counts one row a second"
        if self._video:
            yield f"the exact pixels of {', '.join(self._contract.camera_names)}: mp4 loses some, PNG none"


class _Dataset:
    """A dataset that is being written."""

    def __init__(self, folder: Path, contract: Contract, columns: frozenset[str], video: bool) -> None:
        (folder / "meta").mkdir()
        self._folder, self._contract = folder, contract
        self._rate = max(Fraction(contract.rate or 1).limit_denominator(10**6), Fraction(1, 10**6))
        cameras = {f"observation.images.{camera.name}": camera for camera in contract.cameras}
        self._names = {key: camera.name for key, camera in cameras.items()}
        self._videos = {key: Video(folder, key, camera, self._rate) for key, camera in cameras.items() if video}
        self._features = features(contract, columns)
        for key, made in self._videos.items():
            camera = cameras[key]
            said = {"height": camera.height, "width": camera.width, "channels": 3, "codec": "h264", "fps": self._fps}
            said |= {"pix_fmt": made.pixel_format, "is_depth_map": False}
            about = {f"video.{name}": value for name, value in said.items()} | {"has_audio": False}
            self._features[key] |= {"dtype": "video", "info": about}
        self._rows = Rows(folder)
        numbers = [key for key in self._features if key not in cameras and key not in COLUMNS]
        self._episodes = Episodes(folder, episode_schema(numbers, list(cameras), list(self._videos)))
        self._kept: list[dict[str, Any]] = []
        self._tasks: dict[str, int] = {}
        self._stats: dict[str, Stats] = {}
        self._frames = 0

    @property
    def _fps(self) -> int | float:
        """LeRobot wants a whole number where it is one."""
        return self._rate.numerator if self._rate.denominator == 1 else float(self._rate)

    def add(self, episode: Episode, ends: np.ndarray) -> None:
        index, steps = len(self._kept), episode.steps
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        values = {
            **per_frame(episode, ends, self._features),
            "timestamp": (np.arange(steps) / float(self._rate)).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, index),
            "index": np.arange(self._frames, self._frames + steps),
            "task_index": np.full(steps, task),
        }
        images = {key: episode.images[name][:steps] for key, name in self._names.items()}
        pictures = {key: png_column(rows) for key, rows in images.items() if key not in self._videos}
        table = pa.table({key: column(rows) for key, rows in values.items()} | pictures)
        stats: dict[str, Stats | None] = {key: of_rows(rows) for key, rows in values.items() if key not in COLUMNS}
        stats |= {key: of_pictures(rows) for key, rows in images.items()}
        merged(self._stats, stats)
        row = {
            "episode_index": index,
            "tasks": [episode.task],
            "length": steps,
            **self._rows.add(table, list(pictures)),
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + steps,
        }
        for key, video in self._videos.items():
            row |= video.add(images[key])
        for key, found in stats.items():
            row |= {f"stats/{key}/{name}": value for name, value in self._document(key, found).items()}
        self._episodes.add(row)
        self._kept.append({"place": episode.place, "origin": episode.origin, "evaluation": episode.evaluation})
        self._frames += steps

    def finish(self) -> None:
        """Close the files, and write what is known only at the end."""
        self.close()
        write_tasks(self._folder, list(self._tasks))
        kept = [{"episode_index": index, **said} for index, said in enumerate(self._kept)]
        says = {CONTRACT: json.dumps(plain(self._contract))}
        pq.write_table(pa.Table.from_pylist(kept).replace_schema_metadata(says), self._folder / FILE)
        self._write("stats", {key: self._document(key, stats) for key, stats in self._stats.items()})
        parts = "chunk-{chunk_index:03d}/file-{file_index:03d}"
        info = {
            "codebase_version": "v3.0",
            "robot_type": self._contract.name,
            "total_episodes": len(self._kept),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": int(FILE_BYTES / 1e6),
            "video_files_size_in_mb": int(VIDEO_BYTES / 1e6),
            "fps": self._fps,
            "splits": {"train": f"0:{len(self._kept)}"},
            "data_path": f"data/{parts}.parquet",
            "video_path": f"videos/{{video_key}}/{parts}.mp4" if self._videos else None,
            "features": self._features,
        }
        self._write("info", info)

    def close(self) -> None:
        for part in (self._rows, self._episodes, *self._videos.values()):
            part.close()

    def _document(self, key: str, stats: Stats | None) -> dict[str, Any]:
        return {} if stats is None else stats.document(picture=key in self._names)

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        (self._folder / f"meta/{name}.json").write_text(json.dumps(document, indent=4, allow_nan=False))


def features(contract: Contract, columns: frozenset[str]) -> dict[str, Feature]:
    """What `meta/info.json` says of every column, with pictures as images."""
    found: dict[str, Feature] = {}
    for key, names in ((STATE, contract.state_names), (ACTION, contract.action_names)):
        if names:
            found[key] = {"dtype": "float32", "shape": [len(names)], "names": names}
    for camera in contract.cameras:
        shape, names = [camera.height, camera.width, 3], ["height", "width", "channels"]
        found[f"observation.images.{camera.name}"] = {"dtype": "image", "shape": shape, "names": names}

    def number(dtype: str, size: int = 1) -> Feature:
        return {"dtype": dtype, "shape": [size], "names": None}

    found |= {f"next.{name}": number("float32") for name in ("reward", "success") if name in columns}
    found |= {f"next.{name}": number("bool") for name in ("done", "truncated")}
    for key, kept in COLUMNS.items():
        if kept.name in columns:
            dtype = stored_as(np.empty(0, kept.dtype)).dtype.name
            found[key] = number(dtype, len(contract.action) if kept.width == "action" else 1)
    found |= {"timestamp": number("float32")}
    return found | {key: number("int64") for key in ("frame_index", "episode_index", "index", "task_index")}


def per_frame(episode: Episode, ends: np.ndarray, wanted: Mapping[str, Feature]) -> dict[str, np.ndarray]:
    """An episode's columns for the wanted features: of what it has not, what a store has there."""
    steps = episode.steps
    last = np.arange(steps) == steps - 1
    found = {STATE: episode.state[:steps], ACTION: episode.action, "next.done": ends, "next.truncated": last & ~ends}
    places = {**COLUMNS, **{f"next.{c.name}": c for c in EVERY if c.name in ("reward", "success")}}
    for key, kept in places.items():
        values = getattr(episode, kept.name)
        if values is None:
            tail = episode.action.shape[1:] if kept.width == "action" else ()
            values = np.full((steps, *tail), kept.fill, kept.dtype)
        found[key] = stored_as(values[:steps])
    return {key: values for key, values in found.items() if key in wanted}
