"""How fast logs of other formats come in and go out, beside the bare decoder and the bare parquet reader.

    python -m benchmarks.formats --repetitions 3

The logs are the Unitree G1's of `FIRSTHAND_DATA` (docs/formats.md): parquet of 100 episodes, and AV1 of 12 of them at
640x480. `bare` reads the same files with PyAV or pyarrow and nothing else, to RGB or numpy. An import commits to a
store, pictures scaled to 120x160. An export is of the store with pictures, beside reading the store, and beside
encoding its frames. They take turns in one process; rates and ratios are medians over the turns.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np
import pyarrow.parquet as pq

from episodes.exporting import export_store
from episodes.importers import open_source
from episodes.importing import import_into
from episodes.store import Store

SIZE = (120, 160)
DATA = Path(os.environ.get("FIRSTHAND_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))


def decode(source: Path) -> int:
    """Frames of every mp4, to RGB."""
    frames = 0
    for file in sorted(source.glob("videos/*/*/*.mp4")):
        with av.open(str(file)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                frame.to_ndarray(format="rgb24")
                frames += 1
    return frames


def read_parquet(source: Path) -> int:
    """Rows of every parquet file, state and action to numpy."""
    rows = 0
    for file in sorted(source.glob("data/*/*.parquet")):
        table = pq.read_table(file)
        for name in ("observation.state", "action"):
            table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        rows += len(table)
    return rows


def read_store(store: Path) -> int:
    snapshot = Store.open(store).snapshot()
    return sum(snapshot.episode(index).steps for index in range(snapshot.episodes))


def encode_png(images: np.ndarray) -> int:
    for image in images:
        cv2.imencode(".png", image)
    return len(images)


def imported(source: Path, store: Path, **options: Any) -> int:
    shutil.rmtree(store, ignore_errors=True)
    return import_into(open_source(source, **options), store).steps


def exported(store: Path, out: Path, format: str, **options: Any) -> int:
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    return export_store(store, out, format, **options).steps


def measure(parts: dict[str, Callable[[], int]], repetitions: int) -> dict[str, list[float]]:
    """Frames per second of each part, turn by turn."""
    rates: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(repetitions):
        # Whoever goes first may find colder caches: each part begins a turn at some time.
        names = list(parts)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            frames = parts[name]()
            rates[name].append(frames / (time.perf_counter() - began))
    return rates


BESIDE = {
    "import: 12 episodes with AV1": "bare: decode AV1",
    "import: 100 episodes of parquet": "bare: read parquet",
    "export: robomimic": "bare: read the store",
    "export: lerobot, PNG": "bare: encode PNG",
    "export: lerobot, mp4": "bare: read the store",
}


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    source = DATA / "g1_bottle"
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        imported(source, where / "seen", image_size=SIZE)
        images = Store.open(where / "seen").snapshot().images("cam_high")
        outs = {"robomimic": where / "a.hdf5", "lerobot, PNG": where / "png", "lerobot, mp4": where / "mp4"}
        parts: dict[str, Callable[[], int]] = {
            "bare: decode AV1": lambda: decode(source),
            "import: 12 episodes with AV1": lambda: imported(source, where / "again", image_size=SIZE),
            "bare: read parquet": lambda: read_parquet(source),
            "import: 100 episodes of parquet": lambda: imported(source, where / "blind", cameras=()),
            "bare: read the store": lambda: read_store(where / "seen"),
            "bare: encode PNG": lambda: encode_png(images),
            "export: robomimic": lambda: exported(where / "seen", outs["robomimic"], "robomimic"),
            "export: lerobot, PNG": lambda: exported(where / "seen", outs["lerobot, PNG"], "lerobot"),
            "export: lerobot, mp4": lambda: exported(where / "seen", outs["lerobot, mp4"], "lerobot", video=True),
        }
        rates = measure(parts, options.repetitions)
        sizes = {f"export: {name}": size(path) / 1e6 for name, path in outs.items()}
    print("| what | frames/s | range | beside | share of its speed | size |\n|---|---|---|---|---|---|")
    for name, found in rates.items():
        beside = BESIDE.get(name)
        pairs = zip(found, rates[beside], strict=True) if beside else ()
        share = f"{statistics.median(a / b for a, b in pairs):.2f}" if beside else ""
        held = f"{sizes[name]:.0f} MB" if name in sizes else ""
        low, high = min(found), max(found)
        print(
            f"| {name} | {statistics.median(found):.0f} | {low:.0f} to {high:.0f} | {beside or ''} | {share} | {held} |"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"\npeak memory of all of it: {peak:.0f} MB")
    if options.json:
        document = {"frames_per_second": rates, "megabytes": sizes, "peak_megabytes": peak, "size": SIZE}
        options.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
