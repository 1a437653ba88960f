"""LeRobot datasets of v2.1 and v3.0: what is imported of them."""

import json
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from episodes.episode import Source
from episodes.errors import InputError
from episodes.importers import detect
from tests.episodes.importers.lerobot_files import FPS, HEIGHT, V2, V3, WIDTH, change, level, seen, write

BOTH = pytest.mark.parametrize("version", [V2, V3])


@BOTH
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libsvtav1"])
def test_every_frame_arrives_once_with_its_row(tmp_path, load, version, codec):
    file = load(write(tmp_path / "a", version, codec=codec))
    assert [e.steps for e in file.episodes.values()] == [5, 4, 6] and file.left_out == {}
    np.testing.assert_array_equal(np.concatenate([e.state[:, 0] for e in file.episodes.values()]), np.arange(15))
    np.testing.assert_allclose(seen(file.episodes), [level(t) for t in range(15)], atol=8)


def test_the_real_log_without_its_camera_is_whole(data, load):
    path = data("g1_bottle")
    g1 = load(path, cameras=())
    assert (len(g1.episodes), g1.steps, g1.transitions) == (100, 35_965, 35_865) and g1.left_out == {}
    assert g1.importer.ignored == ("observation.images.cam_high",) and g1.contract.rate == 30
    assert (len(g1.contract.state), len(g1.contract.action)) == (26, 26)
    assert g1.contract.name == "Unitree_G1_Inspire" and g1.contract.state_names[3] == "kLeftElbow"
    for key, episode in g1.episodes.items():
        rows = pq.read_table(path / "data" / "chunk-000" / f"{key}.parquet").to_pydict()
        np.testing.assert_array_equal(episode.state, np.array(rows["observation.state"], np.float32))
        np.testing.assert_array_equal(episode.action, np.array(rows["action"], np.float32))
        np.testing.assert_allclose(episode.observation_time, np.arange(episode.steps) / 30 * 1e9, atol=5000)
        assert episode.truncated and episode.reward is None and episode.success is None and episode.place == ""
        assert episode.task == "Pick up the yellow bottle on the table."


def test_the_real_log_has_pictures_for_twelve_episodes(data, load):
    path = data("g1_bottle")
    g1 = load(path, image_size=(60, 80))
    assert len(g1.episodes) == 12 and len(g1.left_out) == 88
    assert all("no video for camera cam_high" in why and f"{key}.mp4" in why for key, why in g1.left_out.items())
    episode = g1.episodes["episode_000082"]
    with av.open(str(path / "videos/chunk-000/observation.images.cam_high/episode_000082.mp4")) as container:
        frames = {round(frame.time * 30): frame for frame in container.decode(video=0)}
    for step in range(episode.steps):
        image = frames[step].to_ndarray(format="rgb24")
        expected = cv2.resize(image, (80, 60), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(episode.images["cam_high"][step], expected)


@BOTH
def test_what_is_what(tmp_path, load, version):
    file = load(write(tmp_path / "a", version))
    episode = file.episodes["episode_000001"]
    assert detect(tmp_path / "a").format == "LeRobot dataset" and file.contract.name == "so100"
    assert file.contract.state_names == ["pan.pos", "lift.pos"] and file.contract.rate == FPS
    assert [(a.name, a.reference) for a in file.contract.action] == [("pan.pos", "pan.pos"), ("grip", None)]
    assert [(c.name, c.height, c.width) for c in file.contract.cameras] == [("front", HEIGHT, WIDTH)]
    assert episode.action.tolist() == [[t / 2, 3.0] for t in range(5, 9)] and episode.transitions == 3
    np.testing.assert_allclose(episode.observation_time, np.arange(4) * 1e8, atol=10)
    assert [e.task for e in file.episodes.values()] == ["lift", "place", "lift"]
    assert episode.source is not None and (episode.source == Source.DEMONSTRATION).all()
    small = load(tmp_path / "a", image_size=(6, 8), task="stack")
    assert small.episodes["episode_000002"].images["front"].shape == (6, 6, 8, 3)
    assert {e.task for e in small.episodes.values()} == {"stack"}
    with pytest.raises(InputError, match=r"unknown camera 'fron'.*did you mean 'front'"):
        load(tmp_path / "a", cameras=["fron"])


def test_a_file_of_many_episodes_is_decoded_once(tmp_path, load, monkeypatch):
    path, opened = write(tmp_path / "a", V3), []
    whole = av.open
    monkeypatch.setattr(av, "open", lambda name: opened.append(Counting(whole(name))) or opened[-1])
    assert load(path).steps == 15
    assert [video.decoded for video in opened] == [[t / FPS for t in range(15)]]


class Counting:
    """A container that writes down which frames it gave."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.decoded: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def decode(self, stream: Any) -> Any:
        for frame in self._container.decode(stream):
            self.decoded.append(frame.time)
            yield frame


def test_episodes_may_lie_in_any_order(tmp_path, load):
    path = write(tmp_path / "a", V3)
    for name in ("meta/episodes/chunk-000/file-000.parquet", "data/chunk-000/file-000.parquet"):
        rows = pq.read_table(path / name).to_pydict()
        rows["episode_index"] = [2 - index for index in rows["episode_index"]]
        pq.write_table(pa.table(rows), path / name, row_group_size=7)
    file = load(path)
    assert [e.steps for e in file.episodes.values()] == [6, 4, 5]
    order = [*range(9, 15), *range(5, 9), *range(5)]
    np.testing.assert_array_equal(np.concatenate([e.state[:, 0] for e in file.episodes.values()]), order)
    np.testing.assert_allclose(seen(file.episodes), [level(t) for t in order], atol=8)


def test_rows_that_lie_one_file_later_than_said_are_found(tmp_path, load):
    """LeRobot's first converter to v3.0 said so of the first episode of every file but the first."""
    path = write(tmp_path / "a", V3)
    rows = pq.read_table(path / "data/chunk-000/file-000.parquet")
    for number, part in enumerate((rows.slice(0, 9), rows.slice(9))):
        pq.write_table(part, path / f"data/chunk-000/file-00{number}.parquet")
    assert load(path).steps == 15
    (path / "data/chunk-000/file-001.parquet").unlink()
    gone = load(path)
    assert gone.left_out == {"episode_000002": "data/chunk-000/file-000.parquet: no rows with episode_index 2"}


@BOTH
def test_pictures_beside_the_numbers_are_the_same_to_the_bit(tmp_path, load, version):
    images = load(write(tmp_path / "a", version, images=True)).episodes["episode_000001"].images["front"]
    assert images[:, 3, 5].tolist() == [[10, 20, level(t)] for t in range(5, 9)]


@pytest.mark.parametrize(
    ("reward", "success", "done", "terminated"),
    [
        (None, [0, 0, 1], None, True),
        (None, [0, 0, 1], [0, 0, 1], True),
        (None, [0, 0, 1], [0, 0, 0], False),  # a success, but it went on
        (None, [0, 1, 0], [0, 0, 1], False),  # a success that was lost again
        (None, None, [0, 0, 1], False),  # the end of a demonstration
        ([0, 0, 1], None, [0, 0, 1], True),
        ([0, 0, 1], None, None, False),
        ([1, 1, 1], None, [0, 0, 1], False),  # a reward for being upright
        ([0, 0.5, 1], None, [0, 0, 1], False),
        ([0, 0, 1], [0, 0, 0], [0, 0, 1], False),  # what is said counts more than what it was worth
    ],
)
def test_only_a_success_is_a_termination(tmp_path, load, reward, success, done, terminated):
    said = {"next.success": success and list(map(bool, success)), "next.done": done and list(map(bool, done))}
    columns = {"next.reward": reward, **said}
    path = write(tmp_path / "a", lengths=[3], per_frame={key: v for key, v in columns.items() if v is not None})
    episode = load(path, cameras=()).episodes["episode_000000"]
    assert (episode.terminated, episode.truncated) == (terminated, not terminated)
    assert episode.transitions == (3 if terminated else 2)
    for got, expected in ((episode.reward, reward), (episode.success, success)):
        assert got is None if expected is None else np.array_equal(got, expected)


def test_other_observed_floats_follow_the_state_and_the_rest_is_listed(tmp_path, load):
    more = {
        "observation.velocity": [[t / 4, 2.0] for t in range(3)],
        "observation.stage": [True, False, False],
        "complementary_info.is_intervention": [0.0, 1.0, 0.0],
    }
    file = load(write(tmp_path / "a", lengths=[3], per_frame=more), cameras=())
    assert file.contract.state_names == ["pan.pos", "lift.pos", "velocity.0", "velocity.1"]
    assert file.importer.ignored == ("observation.images.front", "observation.stage")
    episode = file.episodes["episode_000000"]
    assert episode.state[2].tolist() == [2, -1, 0.5, 2]
    assert episode.source is not None
    assert episode.source.tolist() == [Source.POLICY, Source.INTERVENTION, Source.POLICY]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a b", "c"], ["a_b", "c"]),
        ([["a", "b"]], ["a", "b"]),
        ({"axes": ["a", "b"]}, ["a", "b"]),
        ({"a": 1, "b": 0}, ["b", "a"]),
        (None, ["state.0", "state.1"]),
        (["state"], ["state.0", "state.1"]),
        (["a", "a"], ["state.0", "state.1"]),
        (["a", "b", "c"], ["state.0", "state.1"]),
        ([["a", 7], {"b": None}], ["state.0", "state.1"]),
    ],
)
def test_names_in_every_wrapping(tmp_path, load, names, expected):
    path = write(tmp_path / "a", lengths=[3])
    features = json.loads((path / "meta" / "info.json").read_text())["features"]
    features["observation.state"]["names"] = names
    change(path, features=features)
    file = load(path)
    assert file.contract.state_names == expected
    told = [f"the {len(names)} names of the 2 entries of observation.state"] if names in (["a", "a"], [*"abc"]) else []
    assert list(file.importer.ignored) == told
