"""Diffusion Policy zarr folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes.episode import Source
from episodes.errors import InputError
from episodes.importers import open_source
from episodes.importers.diffusion_policy import PUSHT


def write(
    path: Path, ends, *, rows: int | None = None, chunk: int = 4, zarr_format=2, dtype="float32", without=(), **more
) -> Path:
    """A small folder. State entry 0 and every pixel of image t tell t."""
    rows = int(ends[-1]) if rows is None else rows
    ramp = np.arange(rows)
    arrays = {
        "state": np.repeat(ramp[:, None], 3, 1).astype(np.float32) + 1,
        "action": np.repeat(ramp[:, None], 2, 1).astype(np.float32) + 1,
        "img": (np.zeros((1, 6, 8, 3)) + ramp[:, None, None, None] + 2).astype(dtype),
        **more,
    }
    with zarr.config.set({"array.write_empty_chunks": True}):  # zarr 3 leaves out chunks of zeros, zarr 2 did not
        root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        for name, values in arrays.items():
            if name not in without:
                chunks = (chunk, *values.shape[1:])
                root.create_array(f"data/{name}", shape=values.shape, dtype=values.dtype, chunks=chunks)[:] = values
        ends = np.asarray(ends)
        root.create_array("meta/episode_ends", shape=ends.shape, dtype=ends.dtype, chunks=(len(ends) or 1,))[:] = ends
    return path


def test_pusht_is_imported_whole(data, load):
    path = data("pusht/pusht_cchi_v7_replay.zarr")
    pusht = load(path, cameras=())
    assert (len(pusht.episodes), pusht.steps, pusht.transitions) == (206, 25_650, 25_650 - 206)
    assert pusht.left_out == {} and pusht.contract == PUSHT
    assert pusht.importer.ignored == ("data/img", "data/keypoint", "data/n_contacts")
    for episode in pusht.episodes.values():
        assert episode.truncated and not episode.terminated and episode.reward is None and episode.place == "sim"
        assert episode.source is not None and (episode.source == Source.DEMONSTRATION).all()
        assert episode.observation_time is not None and (np.diff(episode.observation_time) == 100_000_000).all()


def test_pusht_pictures_are_the_ones_of_their_steps(data):
    """The agent is a blue disc at state 0 and 1 [px of 512]: only in RGB, top row first, at the right step."""
    importer = open_source(data("pusht/pusht_cchi_v7_replay.zarr"))
    assert [(c.name, c.height, c.width) for c in importer.contract.cameras] == [("image", 96, 96)]
    for number, (_, episode) in enumerate(importer.episodes()):
        image = episode.images["image"]
        for step in (0, len(image) // 2, len(image) - 1):
            red, green, blue = np.moveaxis(image[step].astype(int), -1, 0)
            disc = np.argwhere((blue > 200) & (red < 120) & (green < 180))
            if len(disc):
                x, y = disc[:, 1].mean() / 96 * 512, disc[:, 0].mean() / 96 * 512
                assert abs(x - episode.state[step, 0]) < 12 and abs(y - episode.state[step, 1]) < 12
        if number == 6:
            break


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_every_row_arrives_once_whatever_the_chunks(tmp_path, load, zarr_format, dtype, chunk):
    file = load(write(tmp_path / "a.zarr", [3, 11, 12, 90], chunk=chunk, zarr_format=zarr_format, dtype=dtype))
    assert [e.steps for e in file.episodes.values()] == [3, 8, 1, 78]
    assert [e.transitions for e in file.episodes.values()] == [2, 7, 0, 77]
    state = np.concatenate([e.state for e in file.episodes.values()])
    images = np.concatenate([e.images["image"] for e in file.episodes.values()])
    np.testing.assert_array_equal(state[:, 0], np.arange(90) + 1)
    np.testing.assert_array_equal(images[:, 5, 7, 2], np.arange(90) + 2)
    assert images.dtype == np.uint8 and images.shape == (90, 6, 8, 3)
    assert file.contract.state_names == ["state.0", "state.1", "state.2"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(1, 12))
def test_any_ends_cut_the_data_without_rest(tmp_path, load, lengths, chunk):
    ends = np.cumsum(lengths)
    file = load(write(tmp_path / "a.zarr", ends, chunk=chunk))
    assert [e.steps for e in file.episodes.values()] == [n for n in lengths if n]
    assert len(file.left_out) == lengths.count(0) and all("no steps" in r for r in file.left_out.values())
    images = np.concatenate([e.images["image"][:, 0, 0, 0] for e in file.episodes.values()])
    np.testing.assert_array_equal(images, np.arange(ends[-1]) + 2)


def test_every_end_is_a_truncation(tmp_path, load):
    """The format has no failures and no time limits, so nothing may be taken for a termination."""
    file = load(write(tmp_path / "a.zarr", [3, 8]))
    assert [(e.terminated, e.truncated, e.transitions) for e in file.episodes.values()] == [
        (False, True, 2),
        (False, True, 4),
    ]


def test_pusht_is_recognised_by_its_arrays_or_its_task(tmp_path, load):
    state = np.zeros((6, 5), np.float32) + 1
    more = {"keypoint": np.ones((6, 9, 2), np.float32), "n_contacts": np.ones((6, 1), np.float32)}
    by_arrays = load(write(tmp_path / "a.zarr", [6], state=state, **more))
    by_task = load(write(tmp_path / "b.zarr", [6], state=state), task="Push-T with a human")
    neither = load(write(tmp_path / "c.zarr", [6], state=state), task="push the table")
    assert by_arrays.contract.name == by_task.contract.name == "pusht" and by_arrays.contract.rate == 10
    assert [a.reference for a in by_arrays.contract.action] == ["agent_x", "agent_y"]
    assert neither.contract.rate is None and neither.contract.state_names[0] == "state.0"
    assert neither.episodes["episode_0"].observation_time is None and neither.episodes["episode_0"].place == ""
    assert load(write(tmp_path / "d.zarr", [6]), task="pusht").contract.name == "d"  # state 3 is no Push-T


def test_float_pictures_from_0_to_1_are_scaled(tmp_path, load):
    img = np.zeros((4, 2, 2, 3), np.float32)
    img[1], img[2] = 0.5, 1.0
    file = load(write(tmp_path / "a.zarr", [4], img=img))
    assert file.episodes["episode_0"].images["image"][:, 0, 0, 0].tolist() == [0, 128, 255, 0]


def test_a_black_beginning_does_not_decide_the_scale(tmp_path, load):
    """One frame a chunk: the first ones are black or nearly so, and the rest shows that values go up to 255."""
    img = np.zeros((90, 2, 2, 3), np.float32)
    img[2:], img[3:] = 1, 200
    file = load(write(tmp_path / "a.zarr", [90], chunk=1, img=img))
    assert file.episodes["episode_0"].images["image"][:5, 0, 0, 0].tolist() == [0, 0, 1, 200, 200]


@pytest.mark.parametrize("value", [-1.0, 256.0, np.nan, np.inf])
def test_a_pixel_that_is_no_pixel_leaves_its_episode_out(tmp_path, load, value):
    img = np.full((8, 2, 2, 3), 7, np.float32)
    img[5, 0, 0, 0] = value
    file = load(write(tmp_path / "a.zarr", [4, 8], img=img))
    assert list(file.episodes) == ["episode_0"]
    assert "expected 0 to 255" in file.left_out["episode_1"]


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([3, 2, 8], "falls from 3 to 2 at episode 1"),
        ([-1, 8], "falls from 0 to -1 at episode 0"),
        ([3, 9], "goes up to 9, data/ has only 8 rows"),
        ([], "expected a list of row numbers"),
        ([2.5, 8.0], "expected a list of row numbers"),
    ],
)
def test_ends_that_cannot_be_are_refused(tmp_path, load, ends, message):
    with pytest.raises(InputError, match=message):
        load(write(tmp_path / "a.zarr", np.asarray(ends, int if not ends or ends[0] != 2.5 else float), rows=8))


def test_rows_after_the_last_end_are_listed(tmp_path, load):
    file = load(write(tmp_path / "a.zarr", [3, 6], rows=8))
    assert file.steps == 6 and file.importer.ignored == ("rows 6 to 7: after the last end",)


def test_without_a_state_the_robot_tables_are_the_state(tmp_path, load):
    pose, grip = np.ones((6, 2), np.float32), np.full((6, 1), 5, np.float32)
    path = write(tmp_path / "a.zarr", [6], without=["state"], robot_pose=pose, robot_grip=grip, stage=grip[:, 0])
    file = load(path)
    assert file.contract.state_names == ["robot_grip.0", "robot_pose.0", "robot_pose.1"]
    assert file.episodes["episode_0"].state[0].tolist() == [5, 1, 1] and file.importer.ignored == ("data/stage",)


def test_pictures_alone_can_be_observed(tmp_path, load):
    path = write(tmp_path / "a.zarr", [6], without=["state"])
    assert load(path).episodes["episode_0"].state.shape == (6, 0)
    with pytest.raises(InputError, match="expected data/action and a state or camera images"):
        load(path, cameras=())
    with pytest.raises(InputError, match="expected data/action"):
        load(write(tmp_path / "b.zarr", [6], without=["action"]))


def test_nan_actions_leave_their_episode_out(tmp_path, load):
    action = np.ones((8, 2), np.float32)
    action[6, 1] = np.nan
    file = load(write(tmp_path / "a.zarr", [4, 8], action=action))
    assert file.left_out == {"episode_1": "action is not finite at step 2"}


def test_an_unknown_camera_is_told_with_the_nearest(tmp_path, load):
    with pytest.raises(InputError, match=r"unknown camera 'imag'.*did you mean 'image'"):
        load(write(tmp_path / "a.zarr", [6]), cameras=["imag"])


def test_pictures_are_resized(tmp_path, load):
    file = load(write(tmp_path / "a.zarr", [6]), image_size=(3, 4))
    assert file.contract.cameras[0].height == 3 and file.contract.cameras[0].width == 4
    assert file.episodes["episode_0"].images["image"][:, 2, 3, 1].tolist() == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("array", "chunk", "zarr_format"), [("img", "1.0.0.0", 2), ("action", "1.0", 2), ("state", "c/1/0", 3)]
)
def test_a_missing_chunk_is_not_read_as_zeros(tmp_path, load, array, chunk, zarr_format):
    path = write(tmp_path / "a.zarr", [3, 6, 12], zarr_format=zarr_format)
    (path / "data" / array / chunk).unlink()
    file = load(path)
    assert list(file.episodes) == ["episode_0"]
    assert all(f"data/{array}: the chunk of rows 4 to 7 has no file" in why for why in file.left_out.values())


def test_a_chunk_that_lies_about_its_size_leaves_its_episodes_out(tmp_path, load):
    path = write(tmp_path / "a", [64, 128], chunk=64)
    chunk = path / "data" / "img" / "1.0.0.0"
    raw = bytearray(chunk.read_bytes())
    raw[4:8] = b"\xff\xff\xff\xff"  # Blosc's count of the bytes that come out, below zero.
    chunk.write_bytes(raw)
    found = load(path)
    assert list(found.episodes) == ["episode_0"] and "img cannot be read, damaged" in found.left_out["episode_1"]


def test_a_damaged_picture_chunk_leaves_its_episodes_out(tmp_path, load):
    path = write(tmp_path / "a.zarr", [64, 128, 200], chunk=64, dtype="uint8")
    chunk = path / "data" / "img" / "1.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    file = load(path)
    assert list(file.episodes) == ["episode_0", "episode_2"]
    assert "data/img cannot be read" in file.left_out["episode_1"]


def test_missing_ends_are_not_read_as_zeros(tmp_path, load):
    path = write(tmp_path / "a.zarr", [3, 6])
    (path / "meta" / "episode_ends" / "0").unlink()
    with pytest.raises(InputError, match="meta/episode_ends: the chunk of episodes 0 to 1 has no file"):
        load(path)


@pytest.mark.parametrize("array", ["state", "action"])
def test_a_damaged_table_is_an_input_error(tmp_path, load, array):
    path = write(tmp_path / "a.zarr", [6])
    chunk = path / "data" / array / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(InputError, match=f"data/{array}: cannot be read") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fault", ["cut", "gone", "nonsense"])
def test_damaged_metadata_is_an_input_error(tmp_path, load, zarr_format, fault):
    whole = write(tmp_path / "whole.zarr", [6], zarr_format=zarr_format)
    for place in ("data/state", "data/action", "meta/episode_ends"):
        path = tmp_path / "a.zarr"
        shutil.copytree(whole, path)
        file = path / place / (".zarray" if zarr_format == 2 else "zarr.json")
        if fault == "cut":
            file.write_text(file.read_text()[:30])
        elif fault == "gone":
            file.unlink()
        else:
            file.write_text(json.dumps({**json.loads(file.read_text()), "shape": "many"}))
        with pytest.raises(InputError, match=r"a\.zarr: ") as error:
            load(path)
        assert "\n" not in str(error.value)
        shutil.rmtree(path)
