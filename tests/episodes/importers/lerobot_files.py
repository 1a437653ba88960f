"""Small LeRobot datasets of v2.1 and v3.0 for the tests of their importer."""

import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS, HEIGHT, WIDTH = 10, 24, 32
V2, V3 = "v2.1", "v3.0"


def level(frame: int) -> int:
    """How bright a frame is, counted through all episodes: neighbours differ by more than a codec loses."""
    return 16 + frame * 37 % 224


def encode(path: Path, frames: range, codec: str = "libx264") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options={"g": "3", "x264-params": "log-level=-1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), level(frame), np.uint8), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def png(frame: int) -> dict[str, Any]:
    return {"bytes": cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), (level(frame), 20, 10)))[1].tobytes(), "path": ""}


def number(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def write(
    path: Path, version: str = V2, lengths=(5, 4, 6), *, info=None, codec="libx264", images=False, per_frame=None
) -> Path:
    """A dataset whose state tells the frame, counted through all episodes, as does its camera `front`.

    `per_frame` has more columns, each with a value for every frame; `info` changes `meta/info.json`.
    """
    total = sum(lengths)
    starts = np.cumsum([0, *lengths])
    camera = {"dtype": "image" if images else "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "ch"]}
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["pan.pos", "lift.pos"]}},
        "action": {"dtype": "float32", "shape": [2], "names": ["pan.pos", "grip"]},
        "observation.images.front": camera,
        "timestamp": number("float32"),
        **{key: number("int64") for key in ("frame_index", "episode_index", "index", "task_index")},
    }
    columns: dict[str, Any] = {
        "observation.state": pa.array([[float(t), -1.0] for t in range(total)], pa.list_(pa.float32(), 2)),
        "action": pa.array([[t / 2, 3.0] for t in range(total)], pa.list_(pa.float32())),
        "timestamp": pa.array([t / FPS for n in lengths for t in range(n)], pa.float32()),
        "frame_index": [t for n in lengths for t in range(n)],
        "episode_index": [i for i, n in enumerate(lengths) for _ in range(n)],
        "index": list(range(total)),
        "task_index": [i % 2 for i, n in enumerate(lengths) for _ in range(n)],
    }
    if images:
        columns["observation.images.front"] = [png(t) for t in range(total)]
    for key, values in (per_frame or {}).items():
        columns[key] = values
        features[key] = number("bool" if isinstance(values[0], bool) else "float32")
        if isinstance(values[0], list):
            features[key]["shape"] = [len(values[0])]
    data = pa.table(columns)
    parts = "chunk-{chunk_index:03d}/file-{file_index:03d}" if version == V3 else "episode_{episode_index:06d}"
    chunk = "" if version == V3 else "chunk-{episode_chunk:03d}/"
    said = {
        "codebase_version": version,
        "robot_type": "so100",
        "fps": FPS,
        "chunks_size": 1000,
        "total_episodes": len(lengths),
        "data_path": f"data/{chunk}{parts}.parquet",
        "video_path": f"videos/{chunk}{{video_key}}/{parts}.mp4",
        "features": features,
    }
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(said | (info or {})))
    tasks = [{"task_index": 0, "task": "lift"}, {"task_index": 1, "task": "place"}]
    if version != V3:
        (path / "meta" / "tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
        rows = [{"episode_index": i, "tasks": [tasks[i % 2]["task"]], "length": n} for i, n in enumerate(lengths)]
        (path / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        (path / "data" / "chunk-000").mkdir(parents=True)
        for i, n in enumerate(lengths):
            pq.write_table(data.slice(starts[i], n), path / f"data/chunk-000/episode_{i:06d}.parquet")
            if not images:
                video = f"videos/chunk-000/observation.images.front/episode_{i:06d}.mp4"
                encode(path / video, range(starts[i], starts[i] + n), codec)
        return path
    pq.write_table(
        pa.table({"task_index": [0, 1], "__index_level_0__": ["lift", "place"]}), path / "meta/tasks.parquet"
    )
    rows = [
        {"episode_index": i, "length": n, "data/chunk_index": 0, "data/file_index": 0}
        | {f"videos/observation.images.front/{key}_index": 0 for key in ("chunk", "file")}
        | {
            "videos/observation.images.front/from_timestamp": starts[i] / FPS,
            "videos/observation.images.front/to_timestamp": starts[i + 1] / FPS,
        }
        for i, n in enumerate(lengths)
    ]
    for folder in ("meta/episodes", "data"):
        (path / folder / "chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(data, path / "data/chunk-000/file-000.parquet", row_group_size=7)
    if not images:
        encode(path / "videos/observation.images.front/chunk-000/file-000.mp4", range(total), codec)
    return path


def change(path: Path, **what: Any) -> None:
    """Set keys of `meta/info.json`; None takes one away."""
    file = path / "meta" / "info.json"
    info = {key: value for key, value in (json.loads(file.read_text()) | what).items() if value is not None}
    file.write_text(json.dumps(info))


def seen(episodes: dict[str, Any]) -> list[float]:
    """Every frame's brightness, in order."""
    return np.concatenate([e.images["front"][..., 0].mean((1, 2)) for e in episodes.values()]).tolist()
