"""Minari datasets, laid out as Minari 0.5 and its forerunners lay them out."""

import json
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from episodes.episode import Source
from episodes.errors import InputError
from episodes.importers import detect, open_source

BOX = {"type": "Box", "dtype": "float64", "shape": [3], "low": [-1.0] * 3, "high": [1.0] * 3}
ACTION = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-2.0, -1.0], "high": [2.0, float("inf")]}
PICTURE = {"type": "Box", "dtype": "uint8", "shape": [36, 40, 3], "low": 0, "high": 255}


def dataset(folder: Path, *episodes: dict[str, Any], old: bool = False, **said: Any) -> Path:
    """A dataset of these episodes, each a mapping of paths to arrays; `old` keeps what is said in the file itself."""
    data = folder / "data"
    data.mkdir(parents=True)
    metadata = {
        "total_episodes": len(episodes),
        "data_format": "hdf5",
        "observation_space": json.dumps(BOX),
        "action_space": json.dumps(ACTION),
    } | said
    if not old:
        (data / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(data / "main_data.hdf5", "w") as file:
        file.attrs.update(metadata if old else {})
        for number, arrays in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "seed": 3, "total_steps": len(arrays.get("rewards", []))})
            for path, values in arrays.items():
                group[path] = values
    return folder


def episode(steps: int = 5, seed: int = 0, terminated: bool = False, **changes: Any) -> dict[str, Any]:
    """What an episode has, by path; a change to None takes it away."""
    rng = np.random.default_rng(seed)
    arrays = {
        "observations": rng.normal(size=(steps + 1, 3)),
        "actions": rng.normal(size=(steps, 2)).astype(np.float32),
        "rewards": rng.normal(size=steps),
        "terminations": (np.arange(steps) == steps - 1) & terminated,
        "truncations": (np.arange(steps) == steps - 1) & (not terminated),
    } | changes
    return {path: values for path, values in arrays.items() if values is not None}


def dict_episode(parts: dict[str, Any], steps: int = 5, **changes: Any) -> dict[str, Any]:
    inside = {f"observations/{name}": values for name, values in parts.items()}
    return episode(steps, observations=None, **changes) | inside


def jpeg(image: np.ndarray) -> np.ndarray:
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].ravel()


def pictures(rows: int, seed: int = 0) -> np.ndarray:
    """Smooth ones, which JPEG keeps well; red grows to the right and green downwards."""
    image = np.zeros((rows, 36, 40, 3), np.uint8)
    image[..., 0] = np.linspace(0, 250, 40).astype(np.uint8)
    image[..., 1] = np.linspace(0, 250, 36).astype(np.uint8)[:, None]
    image[..., 2] = (10 * np.arange(rows) + seed)[:, None, None].astype(np.uint8)
    return image


def test_every_value_comes_in_as_it_is(tmp_path, load):
    written = [episode(5, 0, True), episode(4, 1)]
    found = load(dataset(tmp_path / "a", *written))
    assert (len(found.episodes), found.steps, found.transitions) == (2, 9, 9)
    for each, arrays in zip(found.episodes.values(), written, strict=True):
        np.testing.assert_array_equal(each.state, arrays["observations"].astype(np.float32))
        np.testing.assert_array_equal(each.action, arrays["actions"])
        np.testing.assert_array_equal(each.reward, arrays["rewards"].astype(np.float32))
        assert each.has_final_observation and each.observation_time is None and each.success is None
    assert [each.terminated for each in found.episodes.values()] == [True, False]
    assert found.contract.state_names == [f"observation.{i}" for i in range(3)]
    assert [(entry.name, entry.low, entry.high) for entry in found.contract.action] == [
        ("action.0", -2.0, 2.0),
        ("action.1", -1.0, None),
    ]


@pytest.mark.parametrize("name", [".", "data", "data/main_data.hdf5"])
def test_a_dataset_is_known_by_its_folder_its_data_and_its_file(tmp_path, name):
    path = dataset(tmp_path / "a", episode()) / name
    assert detect(path).format == "Minari HDF5"
    assert len(open_source(path)) == 1


def test_older_datasets_say_what_they_are_in_the_file(tmp_path, load):
    found = load(dataset(tmp_path / "a", episode(), old=True, env_spec=json.dumps({"id": "AdroitHandDoor-v1"})))
    assert found.contract.name == "AdroitHandDoor" and found.contract.action[0].low == -2.0
    (each,) = found.episodes.values()
    assert (each.task, each.place) == ("adroit hand door", "sim")


def test_a_file_that_says_nothing_is_taken_by_its_arrays(tmp_path, load):
    folder = dataset(tmp_path / "a", episode())
    (folder / "data" / "metadata.json").unlink()
    found = load(folder / "data" / "main_data.hdf5")
    assert found.contract.name == "minari" and found.contract.action[0].low is None
    assert next(iter(found.episodes.values())).place == ""


def test_nested_observations_are_in_sorted_order_and_pictures_are_cameras(tmp_path, load):
    rng = np.random.default_rng(0)
    parts = {
        "object": rng.normal(size=(6, 2)),
        "inner/pose": rng.normal(size=(6, 1)).astype(np.float32),
        "eye": pictures(6),
        "depth": rng.normal(size=(6, 4, 4)),
        "mission": np.array([b"go"] * 6, h5py.string_dtype()),
        "mode": np.arange(6) % 4,
    }
    found = load(dataset(tmp_path / "a", dict_episode(parts)))
    assert found.contract.state_names == ["inner.pose.0", "mode.0", "object.0", "object.1"]
    assert found.importer.ignored == ("observations/depth", "observations/mission")
    (each,) = found.episodes.values()
    np.testing.assert_array_equal(each.state[:, 1], np.arange(6) % 4)
    np.testing.assert_array_equal(each.state[:, 2:], parts["object"].astype(np.float32))
    np.testing.assert_array_equal(each.images["eye"], parts["eye"])


def test_tuples_and_discrete_actions(tmp_path, load):
    parts = {f"_index_{i}": np.full((6, 1), i) for i in range(11)}
    space = {
        "type": "Tuple",
        "subspaces": [{"type": "Discrete", "n": 3}, BOX | {"shape": [1], "low": [-4], "high": [4]}],
    }
    written = dict_episode(parts, actions=None) | {
        "actions/_index_0": np.array([0, 2, 1, 0, 2]),
        "actions/_index_1": np.ones((5, 1)),
    }
    found = load(dataset(tmp_path / "a", written, action_space=json.dumps(space)))
    (each,) = found.episodes.values()
    # _index_10 comes after _index_9.
    assert each.state[0].tolist() == list(range(11))
    assert found.contract.state_names[-1] == "observation.10.0"
    assert each.action[:, 0].tolist() == [0, 2, 1, 0, 2]
    assert [(e.name, e.low, e.high) for e in found.contract.action] == [
        ("action.0.0", None, None),
        ("action.1.0", -4, 4),
    ]


@pytest.mark.parametrize("sizes", ["equal", "different"])
def test_pictures_kept_as_jpeg_are_decoded(tmp_path, load, sizes):
    frames = pictures(6)
    rows = [jpeg(frame) for frame in frames]
    longest = max(len(row) for row in rows)
    if sizes == "equal":  # a decoder does not mind what comes after the end of a picture
        values: Any = np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
    else:
        values = np.empty(6, h5py.vlen_dtype(np.uint8))
        values[:] = rows
    space = {"type": "Dict", "subspaces": {"eye": PICTURE, "pose": BOX}}
    folder = tmp_path / "a"
    dataset(folder, dict_episode({"pose": np.ones((6, 3))}), observation_space=json.dumps(space), jpeg_encoding=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        kind = None if sizes == "equal" else h5py.vlen_dtype(np.uint8)
        file["episode_0/observations"].create_dataset("eye", data=values, dtype=kind)
    found = load(folder)
    (each,) = found.episodes.values()
    assert found.contract.camera_names == ["eye"] and each.state.shape == (6, 3)
    assert np.abs(each.images["eye"].astype(int) - frames).max() < 12
    smaller = load(folder, image_size=(18, 20))
    assert next(iter(smaller.episodes.values())).images["eye"].shape == (6, 18, 20, 3)
    assert load(folder, cameras=()).contract.cameras == ()


def test_observations_that_are_pictures_alone_are_one_camera(tmp_path, load):
    found = load(dataset(tmp_path / "a", episode(observations=pictures(6))))
    (each,) = found.episodes.values()
    assert found.contract.camera_names == ["image"] and each.state.shape == (6, 0)


@pytest.mark.parametrize(
    ("success", "wanted"),
    [
        (np.array([0, 0, 0, 1, 0, 1], bool), [0, 0, 1, 0, 1]),
        (np.array([1, 0, 0, 0, 0, 0]), [0, 0, 0, 0, 0]),
        (np.array([0, 0, 1, 0, 1], bool), None),  # of which observations is not clear
        (np.array([0.5, 0, 0, 0, 0, 0]), None),
        (np.array([b"no"] * 6), None),
    ],
)
def test_infos_say_the_success_of_the_observation_they_came_with(tmp_path, load, success, wanted):
    found = load(dataset(tmp_path / "a", episode() | {"infos/success": success, "infos/x": np.zeros(6)}))
    (each,) = found.episodes.values()
    assert (None if each.success is None else each.success.tolist()) == wanted
    assert found.importer.ignored == ("infos/x",)


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ({"dataset_id": "D4RL/door/human-v2"}, Source.DEMONSTRATION),
        ({"algorithm_name": "demonstrations by hand"}, Source.DEMONSTRATION),
        ({"dataset_id": "mujoco/hopper/expert-v0", "algorithm_name": "SAC"}, Source.UNKNOWN),
    ],
)
def test_who_acted(tmp_path, load, said, source):
    (each,) = load(dataset(tmp_path / "a", episode(), **said)).episodes.values()
    assert each.source.tolist() == [source] * 5


def test_an_unusable_episode_is_left_out_with_its_reason(tmp_path, load):
    found = load(
        dataset(
            tmp_path / "a",
            episode(),
            episode(observations=np.zeros((5, 3))),
            episode(observations=np.full((6, 3), np.nan)),
            episode(observations=np.zeros((6, 4))),
            episode(terminations=np.array([0, 1, 0, 0, 0], bool)),
            episode(rewards=np.zeros(4)),
            episode(actions=None),
            episode(0),
            episode(actions=np.array([b"left"] * 5)),
            episode(terminations=np.zeros((5, 2))),
            episode(3, 7),
        )
    )
    assert list(found.episodes) == ["episode_0", "episode_10"]
    assert found.left_out == {
        "episode_1": "ragged: observations has 5 rows, expected 6",
        "episode_2": "state is not finite at step 0",
        "episode_3": "observations has size 4, the contract was made from size 3",
        "episode_4": "it terminates at step 1 and goes on to step 4",
        "episode_5": "ragged: rewards has shape (4,) for 5 actions",
        "episode_6": "it has no observations and actions",
        "episode_7": "it has no steps",
        "episode_8": "actions is |S4 of shape (5,), expected numbers per step",
        "episode_9": "terminations is float64 of shape (5, 2), expected flags for 5 steps",
    }


def test_a_broken_picture_costs_its_episode(tmp_path, load):
    space = {"type": "Dict", "subspaces": {"eye": PICTURE, "pose": BOX}}
    whole = np.stack([np.pad(row, (0, 2000))[:2000] for row in map(jpeg, pictures(6))])
    broken, small = whole.copy(), whole.copy()
    broken[2] = 0
    small[4] = np.pad(jpeg(pictures(1)[0, :30]), (0, 2000))[:2000]
    written = [dict_episode({"pose": np.ones((6, 3)), "eye": eye}) for eye in (whole, broken, small)]
    found = load(dataset(tmp_path / "a", *written, observation_space=json.dumps(space)))
    assert found.left_out == {
        "episode_1": "observations/eye: row 2 is no JPEG, expected a picture 36x40",
        "episode_2": "observations/eye: row 4 is 30x40, expected a picture 36x40",
    }


def test_a_dataset_in_another_storage_is_refused_with_what_to_do(tmp_path):
    folder = dataset(tmp_path / "a", episode())
    (folder / "data" / "main_data.hdf5").unlink()
    with pytest.raises(InputError, match=r"not kept in HDF5: there is no main_data.hdf5; let Minari write it again"):
        open_source(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"observation_space": 3, "action_space": "{", "env_spec": []}', "\x00"]
)
def test_a_broken_description_is_one_line_or_none(tmp_path, load, content):
    folder = dataset(tmp_path / "a", episode())
    (folder / "data" / "metadata.json").write_text(content)
    try:
        assert len(load(folder).episodes) == 1
    except InputError as error:
        assert "metadata.json" in str(error) and "\n" not in str(error)


def test_an_unknown_camera_is_told_with_the_known_ones(tmp_path):
    folder = dataset(tmp_path / "a", dict_episode({"eye": pictures(6)}))
    with pytest.raises(InputError, match=r"unknown camera 'eyes' in .*did you mean 'eye'"):
        open_source(folder, cameras=["eyes"])
