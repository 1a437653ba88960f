"""LeRobot datasets that are damaged: an episode is left out with its reason, or the whole is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes.errors import InputError
from episodes.importers import open_source
from tests.episodes.importers.damage import change as change_json
from tests.episodes.importers.damage import survives
from tests.episodes.importers.lerobot_files import V2, V3, change, encode, level, seen, write

Fault = Callable[[Path], Any]


def column(name: str, step: int, value: float) -> Fault:
    """A change to the data of v2.1's second episode."""

    def put(path: Path) -> None:
        file = path / "data/chunk-000/episode_000001.parquet"
        rows = pq.read_table(file).to_pydict()
        rows[name][step] = [value, value] if isinstance(rows[name][step], list) else value
        pq.write_table(pa.table(rows), file)

    return put


def replaced(name: str, old: str, new: str) -> Fault:
    return lambda path: (path / name).write_text((path / name).read_text().replace(old, new))


VIDEO = "videos/chunk-000/observation.images.front/episode_000001.mp4"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda path: (path / VIDEO).unlink(), f"no video for camera front: {VIDEO} is not there"),
        (lambda path: (path / VIDEO).write_bytes(b"no video" * 9), f"camera front: {VIDEO} cannot be read, damaged"),
        (lambda path: encode(path / VIDEO, range(5, 8)), "no frame for 0.300 s, the nearest is at 0.200 s"),
        (
            lambda path: (path / "data/chunk-000/episode_000001.parquet").unlink(),
            "episode_000001.parquet: no such file",
        ),
        (replaced("meta/episodes.jsonl", '"length": 4', '"length": 7'), "4 rows in the parquet file, meta/ says 7"),
        (column("action", 2, np.nan), "action is not finite at step 2"),
        (column("timestamp", 2, 0.05), "timestamp is 0.05 s at step 2, expected times from 0 on that rise"),
        (column("timestamp", 3, np.nan), "timestamp is nan s at step 3"),
        (column("timestamp", 3, 0.36), "no frame for 0.360 s, the nearest is at 0.300 s"),
        (column("task_index", 1, 9), "task_index 9 is none of the 2 tasks"),
        (column("episode_index", 0, 7), "ragged: 3 rows in the parquet file, meta/ says 4"),
    ],
)
def test_a_fault_costs_its_episode_and_says_why(tmp_path, load, fault, reason):
    path = write(tmp_path / "a")
    fault(path)
    file = load(path)
    assert list(file.episodes) == ["episode_000000", "episode_000002"] and reason in file.left_out["episode_000001"]
    np.testing.assert_allclose(seen(file.episodes), [level(t) for t in (*range(5), *range(9, 15))], atol=8)


@pytest.mark.parametrize("number", [5, 6, 8])
def test_a_damaged_frame_costs_no_other_episode_of_its_file(tmp_path, load, number):
    path = write(tmp_path / "a", V3, codec="mpeg4")
    file = path / "videos/observation.images.front/chunk-000/file-000.mp4"
    with av.open(str(file)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        assert packet.pos is not None
    raw = bytearray(file.read_bytes())
    raw[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    file.write_bytes(raw)
    damaged = load(path)
    assert list(damaged.episodes) == ["episode_000000", "episode_000002"]
    assert "camera front: videos/observation.images.front" in damaged.left_out["episode_000001"]
    np.testing.assert_allclose(seen(damaged.episodes), [level(t) for t in (*range(5), *range(9, 15))], atol=8)


def test_a_clip_does_not_go_on_in_the_next_episode(tmp_path, load):
    path = write(tmp_path / "a", V3)
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(file).to_pydict()
    rows["videos/observation.images.front/to_timestamp"][0] = 0.3
    rows["videos/observation.images.front/from_timestamp"][2] = float("nan")
    pq.write_table(pa.table(rows), file)
    assert load(path).left_out == {
        "episode_000000": "camera front: frames up to 0.400 s, the clip in "
        "videos/observation.images.front/chunk-000/file-000.mp4 is only 0.300 s long",
        "episode_000002": "meta/episodes: videos/observation.images.front/from_timestamp is nan",
    }


def gone(name: str) -> Fault:
    return lambda path: (path / name).unlink()


def said(**what: Any) -> Fault:
    return lambda path: change(path, **what)


V3_EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.mark.parametrize(
    ("version", "fault", "message"),
    [
        (V2, said(codebase_version="v1.6"), "'v1.6', expected v2.0, v2.1, v3.0: convert it first"),
        (V2, said(codebase_version="v4.0"), "'v4.0', expected v2.0, v2.1, v3.0: write it as v3.0"),
        (V2, lambda path: (path / "meta").rename(path / "meta_data"), "LeRobot dataset v1.x, expected"),
        (V2, said(fps=None), "no 'fps'"),
        (V2, said(fps=-1), "fps: Input should be greater than 0, got -1"),
        (V2, said(features={"action": {"dtype": "float32"}}), "features.action.shape"),
        (V2, said(features=7), "features: Input should be"),
        (V2, said(features={"a\n": {}}), "expected a name in printable"),
        (V2, said(features={}), "expected an action and a state or cameras"),
        (V2, said(data_path="../{episode_index}.parquet"), "expected one below the dataset's folder"),
        (V2, said(data_path="{episode}.parquet"), r"unknown \{episode\}, known: episode_chunk, episode_index"),
        (V3, said(video_path=None), "no video_path"),
        (V2, replaced("meta/info.json", '"fps"', "fps"), "info.json: cannot be read, damaged or cut short"),
        (V2, replaced("meta/episodes.jsonl", "}\n", "\n"), "episodes.jsonl line 1: cannot be read"),
        (V2, replaced("meta/episodes.jsonl", '"length": 4', '"length": -4'), "episodes.1.length"),
        (V2, replaced("meta/episodes.jsonl", '"episode_index": 2', '"episode_index": 1'), "lists episode 1 twice"),
        (V2, replaced("meta/tasks.jsonl", '"task": ', '"tusk": '), "tasks.0.task"),
        (V2, replaced("meta/tasks.jsonl", "lift", r"\ud800"), "tasks.0.task: Value error, 'utf-8' codec"),
        (V3, gone("meta/tasks.parquet"), "tasks.parquet: cannot be read"),
        (V3, gone(V3_EPISODES), "meta/episodes has no chunk"),
        (V3, lambda path: pq.write_table(pa.table({"length": [1]}), path / V3_EPISODES), "no column 'episode_index'"),
    ],
)
def test_what_cannot_be_used_at_all_is_refused_in_one_line(tmp_path, version, fault, message):
    path = write(tmp_path / "a", version)
    fault(path)
    with pytest.raises(InputError, match=message) as error:
        open_source(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_episodes_that_meta_does_not_list_are_told(tmp_path, load):
    path = write(tmp_path / "a")
    replaced("meta/episodes.jsonl", '{"episode_index": 1, "tasks": ["place"], "length": 4}\n', "")(path)
    file = load(path)
    assert list(file.episodes) == ["episode_000000", "episode_000002"]
    assert file.importer.ignored == ("1 of 3 episodes: meta/ says nothing of where they are",)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize(
    ("version", "names"), [(V2, ["info.json", "episodes.jsonl", "tasks.jsonl"]), (V3, ["info.json"])]
)
def test_any_metadata_is_imported_or_refused(tmp_path_factory, version, names, data):
    folder = tmp_path_factory.mktemp("any")
    path = write(folder / "a", version, lengths=(2, 2), codec="mpeg4")
    file = path / "meta" / data.draw(st.sampled_from(names))
    lines = file.read_text().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    document = change_json(json.loads(lines[number]), data.draw)
    lines[number] = json.dumps(document)
    file.write_text("\n".join(lines))
    survives(path, folder / "store")


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("version", [V2, V3])
def test_a_flipped_bit_or_a_cut_is_never_a_traceback(tmp_path, version, images):
    """Without checksums a number may change, but whatever cannot be read is told."""
    path = write(tmp_path / "a", version, lengths=(3, 4), images=images)
    rng, outcomes = np.random.default_rng(5), []
    files = sorted(file for file in path.rglob("*.*") if file.suffix in (".parquet", ".mp4"))
    for number in range(40):
        file = files[number % len(files)]
        raw = file.read_bytes()
        at = int(rng.integers(len(raw) * 8))
        flipped = bytearray(raw)
        flipped[at // 8] ^= 1 << at % 8
        file.write_bytes(raw[: at // 8] if number % 3 == 0 else flipped)
        outcomes.append(survives(path, tmp_path / f"store{number}"))
        file.write_bytes(raw)
    assert "imported" in outcomes and ("left out" if version == V2 else "refused") in outcomes
