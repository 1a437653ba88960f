"""Export to LeRobot: laid out as its own reader wants it, and all that it can hold comes back."""

import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.episode import COLUMNS, Episode, EpisodeError
from episodes.errors import InputError
from episodes.exporters import lerobot_files, lerobot_pictures
from episodes.exporters.lerobot_stats import Stats, of_pictures, of_rows
from episodes.exporting import export_store
from episodes.importers import open_source
from tests.episodes.exporters.stores import assert_brings_back, stored, stores
from tests.episodes.making import OPTIONAL, PLAIN, SEEING, make_episode

FLIPS = 2000 if os.environ.get("FIRSTHAND_LONG") else 40


def held(episode: Episode) -> Episode:
    """What LeRobot has rows for: as many observations as actions."""
    per_observation = [column.name for column in COLUMNS if column.per == "observation"]
    values = {name: getattr(episode, name) for name in per_observation}
    rows = {name: None if v is None else v[: episode.steps] for name, v in values.items()}
    return replace(episode, **rows, images={name: v[: episode.steps] for name, v in episode.images.items()})


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(stores())
def test_export_and_import_again_is_the_identity_for_what_has_a_row(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("any")
    contract, episodes = drawn
    snapshot = stored(folder / "store", contract, episodes)
    result = export_store(folder / "store", folder / "out", "lerobot")
    wanted = [held(snapshot.episode(index)) for index in range(snapshot.episodes)]
    assert_brings_back(open_source(folder / "out"), contract, wanted)
    ends = sum(episode.has_final_observation for episode in episodes)
    line = f"the observation after the last action of {ends} of {len(episodes)} episodes"
    assert (line in result.left_behind) == (ends > 0)
    assert any("no rate" in line for line in result.left_behind) == (contract.rate is None)


TIMED = replace(SEEING, rate=10.0)


@pytest.fixture
def exported(tmp_path: Path):
    """A function that gives the folder that comes of these episodes."""

    def export(*episodes: Episode, contract: Contract = TIMED, video: bool = False) -> Path:
        stored(tmp_path / "store", contract, list(episodes))
        export_store(tmp_path / "store", tmp_path / "out", "lerobot", video=video)
        return tmp_path / "out"

    return export


def test_it_has_everything_that_lerobots_reader_asks_for(exported):
    ended = make_episode(1, 3, contract=SEEING, terminated=True, columns=("reward", "success"))
    cut = make_episode(2, 2, contract=SEEING, task="other", columns=("policy",))
    path = exported(ended, cut)
    info = json.loads((path / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10 and isinstance(info["fps"], int)
    assert [info[f"total_{what}"] for what in ("episodes", "frames", "tasks")] == [2, 5, 2]
    assert info["video_path"] is None and info["splits"] == {"train": "0:2"}
    features = info["features"]
    assert features["observation.state"] == {"dtype": "float32", "shape": [2], "names": ["x", "v"]}
    assert features["observation.images.front"]["shape"] == [4, 6, 3]
    assert features["observation.images.front"]["dtype"] == "image"
    table = pq.read_table(path / "data/chunk-000/file-000.parquet")
    assert sorted(table.column_names) == sorted(features)
    assert table.schema.field("observation.state").type == pa.list_(pa.float32(), 2)
    assert table.schema.field("action").type == pa.float32()
    said = json.loads(table.schema.metadata[b"huggingface"])
    assert said["info"]["features"]["observation.images.c"] == {"_type": "Image"}
    rows = table.to_pydict()
    assert rows["episode_index"] == [0, 0, 0, 1, 1] and rows["frame_index"] == [0, 1, 2, 0, 1]
    assert rows["index"] == [0, 1, 2, 3, 4] and rows["task_index"] == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(rows["timestamp"], [0, 0.1, 0.2, 0, 0.1], atol=1e-7)
    assert rows["next.done"] == [False, False, True, False, False]
    assert rows["next.truncated"] == [False, False, False, False, True]
    np.testing.assert_array_equal(rows["next.reward"], [*ended.reward, np.nan, np.nan])
    np.testing.assert_array_equal(rows["next.success"], [*ended.success, np.nan, np.nan])
    np.testing.assert_array_equal(np.uint64(np.array(rows["firsthand.policy"][3:]).view(np.uint64)), cut.policy)
    image = cv2.imdecode(np.frombuffer(rows["observation.images.front"][3]["bytes"], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(image[..., ::-1], cut.images["front"][0])
    tasks = pq.read_table(path / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["push the block", "other"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    first, second = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert (first["length"], first["dataset_from_index"], first["dataset_to_index"]) == (3, 0, 3)
    assert (second["length"], second["dataset_from_index"], second["dataset_to_index"]) == (2, 3, 5)
    assert second["tasks"] == ["other"] and second["data/file_index"] == second["meta/episodes/file_index"] == 0
    np.testing.assert_allclose(first["stats/action/mean"], ended.action.mean(0), rtol=1e-6)
    assert second["stats/next.reward/mean"] is None
    stats = json.loads((path / "meta/stats.json").read_text())
    both = np.concatenate([ended.action, cut.action])
    np.testing.assert_allclose(stats["action"]["std"], both.std(0), rtol=1e-6)
    assert stats["next.reward"]["count"] == [3] and np.shape(stats["observation.images.c"]["q50"]) == (3, 1, 1)
    assert not any(key.startswith("firsthand") for key in stats)


def test_statistics_are_numpys_own():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 2)), rng.normal(3, 2, size=(4, 2))
    images = rng.integers(0, 256, (3, 5, 4, 3), np.uint8)
    numbers, pictures = of_rows(a), of_pictures(images)
    assert numbers is not None
    for found, values in ((numbers, a), (pictures, images.reshape(-1, 3) / 255)):
        np.testing.assert_allclose(found.low, values.min(0))
        np.testing.assert_allclose(found.high, values.max(0))
        np.testing.assert_allclose(found.mean, values.mean(0))
        np.testing.assert_allclose(found.variance, values.var(0))
    np.testing.assert_allclose(numbers.quantiles[2], np.median(a, axis=0))
    middle = np.quantile(images.reshape(-1, 3) / 255, 0.5, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(pictures.quantiles[2], middle)
    assert pictures.count == 3
    more = of_rows(b)
    assert isinstance(more, Stats)
    both, joined = np.concatenate([a, b]), numbers + more
    np.testing.assert_allclose([joined.mean, joined.variance], [both.mean(0), both.var(0)])
    np.testing.assert_allclose([joined.low, joined.high], [both.min(0), both.max(0)])
    assert joined.count == 11 and of_rows(np.full(3, np.nan)) is None


def smooth(episode: Episode) -> Episode:
    """With pictures that a video codec keeps: one grey level each."""
    level = np.arange(len(episode.state)) * 40 % 200 + 20
    images = {
        n: np.broadcast_to(level[:, None, None, None], v.shape).astype(np.uint8) for n, v in episode.images.items()
    }
    return replace(episode, images=images)


VIEW = replace(PLAIN, cameras=(Camera("front", 16, 24), Camera("odd", 17, 15)), rate=12.5)


def test_videos_go_on_over_episodes_and_come_back_nearly(exported, monkeypatch):
    monkeypatch.setattr(lerobot_pictures, "FILE_BYTES", 1000)
    monkeypatch.setitem(lerobot_pictures.OPTIONS, "tune", "zerolatency")  # The encoder holds nothing back.
    monkeypatch.setattr(lerobot_files, "FILE_BYTES", 1500)
    episodes = [smooth(make_episode(n, 4 + n, contract=VIEW, columns=())) for n in range(5)]
    path = exported(*episodes, contract=VIEW, video=True)
    info = json.loads((path / "meta/info.json").read_text())
    assert info["fps"] == 12.5 and info["features"]["observation.images.odd"]["info"]["video.pix_fmt"] == "yuv444p"
    places = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    files = [row["videos/observation.images.front/file_index"] for row in places]
    assert files[0] == 0 < files[-1] and files.count(0) > 1, "both going on and beginning anew should be seen"
    assert places[-1]["data/file_index"] > 0
    for row, after in pairwise(places):
        begins = after["videos/observation.images.front/from_timestamp"]
        same = row["videos/observation.images.front/file_index"] == after["videos/observation.images.front/file_index"]
        assert begins == (row["videos/observation.images.front/to_timestamp"] if same else 0)
    with av.open(str(path / "videos/observation.images.front/chunk-000/file-000.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and float(stream.average_rate or 0) == 12.5
    for (_, got), want in zip(open_source(path).episodes(), episodes, strict=True):
        assert isinstance(got, Episode)
        for name, images in got.images.items():
            np.testing.assert_allclose(images.mean((1, 2, 3)), want.images[name][: want.steps].mean((1, 2, 3)), atol=4)
        np.testing.assert_array_equal(got.action, want.action)


def test_a_video_of_nothing_is_refused(tmp_path):
    stored(tmp_path / "store", PLAIN, [make_episode(0)])
    with pytest.raises(InputError, match="holds no pictures to make a video of"):
        export_store(tmp_path / "store", tmp_path / "out", "lerobot", video=True)
    stored(tmp_path / "seen", SEEING, [make_episode(0, contract=SEEING)])
    with pytest.raises(InputError, match="--video is for LeRobot"):
        export_store(tmp_path / "seen", tmp_path / "out", "robomimic", video=True)


def test_without_what_is_ours_it_is_a_dataset_like_any_other(exported):
    path = exported(make_episode(1, 3, contract=SEEING, terminated=True), make_episode(2, 2, contract=SEEING))
    (path / "meta/firsthand.parquet").unlink()
    source = open_source(path)
    found = [episode for _, episode in source.episodes()]
    assert [episode.terminated for episode in found if isinstance(episode, Episode)] == [True, False]
    assert source.contract.name == "seeing" and source.contract.state_names == ["x", "v"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.replace_schema_metadata({}), "cannot be read, damaged"),
        (lambda table: table.replace_schema_metadata({"contract": "[]"}), "contract: name"),
        (lambda table: table.drop_columns("episode_index"), "cannot be read, damaged"),
    ],
)
def test_what_is_kept_and_damaged_is_refused_in_one_line(exported, change, message):
    path = exported(make_episode(1, contract=SEEING))
    file = path / "meta/firsthand.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    with pytest.raises(InputError, match=message) as error:
        open_source(path)
    assert "\n" not in str(error.value)


def test_an_episode_that_is_kept_and_damaged_is_left_out(exported):
    path = exported(make_episode(1, contract=SEEING), make_episode(2, contract=SEEING))
    file = path / "meta/firsthand.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(1, "place", pa.array(["sim", "moon"])), file)
    first, second = (item for _, item in open_source(path).episodes())
    assert isinstance(first, Episode) and isinstance(second, EpisodeError) and "place" in str(second)


def test_a_dataset_that_was_changed_since_says_so(exported):
    path = exported(make_episode(1, contract=SEEING))
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["observation.state"]["shape"] = [1]
    (path / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"2 entries where observation\.state has shape"):
        open_source(path)


def test_a_damaged_export_is_never_a_traceback(exported):
    path = exported(*(make_episode(n, contract=SEEING, columns=OPTIONAL) for n in range(3)))
    files = sorted(file for file in path.rglob("*.*") if file.is_file())
    rng, outcomes = np.random.default_rng(6), []
    for number in range(FLIPS):
        file = files[number % len(files)]
        raw = file.read_bytes()
        damaged, at = bytearray(raw), int(rng.integers(len(raw) * 8))
        damaged[at // 8] ^= 1 << at % 8
        file.write_bytes(raw[: at // 8] if number % 3 == 0 else damaged)
        try:
            found = [item for _, item in open_source(path).episodes()]
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.append("refused")
        else:
            assert all("\n" not in str(item) for item in found if isinstance(item, EpisodeError))
            outcomes += ["left out" if isinstance(item, EpisodeError) else "imported" for item in found]
        file.write_bytes(raw)
    assert {"refused", "imported"} <= set(outcomes)


def test_an_action_that_is_wide_and_one_that_is_not(exported):
    contract = Contract("wide", (StateEntry("a"),), tuple(ActionEntry(f"u{i}") for i in range(3)), rate=5.0)
    path = exported(make_episode(3, 2, contract=contract, columns=("action_proposed",)), contract=contract)
    table = pq.read_table(path / "data/chunk-000/file-000.parquet")
    assert table.schema.field("firsthand.action_proposed").type == pa.list_(pa.float32(), 3)
    assert table.schema.field("observation.state").type == pa.float32()
