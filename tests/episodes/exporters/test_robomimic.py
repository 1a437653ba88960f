"""Export to robomimic: laid out as its own reader wants it, and nothing lost on the way back."""

import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.episode import EpisodeError
from episodes.errors import InputError
from episodes.exporters.robomimic import state_keys
from episodes.exporting import export_store
from episodes.importers import open_source
from tests.episodes.exporters.stores import assert_brings_back, stored, stores
from tests.episodes.making import OPTIONAL, SEEING, make_episode

FLIPS = 5000 if os.environ.get("FIRSTHAND_LONG") else 60


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(stores())
def test_export_and_import_again_is_the_identity(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("any")
    contract, episodes = drawn
    snapshot = stored(folder / "store", contract, episodes)
    export_store(folder / "store", folder / "out.hdf5", "robomimic")
    wanted = [snapshot.episode(index) for index in range(snapshot.episodes)]
    assert_brings_back(open_source(folder / "out.hdf5"), contract, wanted)


@pytest.fixture
def exported(tmp_path: Path):
    """A function that gives the file that comes of these episodes."""

    def export(*episodes, contract: Contract = SEEING) -> h5py.File:
        stored(tmp_path / "store", contract, list(episodes))
        export_store(tmp_path / "store", tmp_path / "out.hdf5", "robomimic")
        return h5py.File(tmp_path / "out.hdf5")

    return export


def test_it_has_everything_that_robomimics_reader_asks_for(exported):
    ended = make_episode(1, 5, contract=SEEING, terminated=True)
    cut = make_episode(2, 3, contract=SEEING, final=False, columns=())
    file = exported(ended, cut)
    assert file["data"].attrs["total"] == 8
    assert json.loads(file["data"].attrs["env_args"]) == {"env_name": "seeing", "type": 2, "env_kwargs": {}}
    first, second = file["data/demo_0"], file["data/demo_1"]
    assert [first.attrs["num_samples"], second.attrs["num_samples"]] == [5, 3]
    np.testing.assert_array_equal(first["actions"], ended.action)
    np.testing.assert_array_equal(first["rewards"], ended.reward)
    np.testing.assert_array_equal(first["dones"], [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(first["obs/v"], ended.state[:5, 1:])
    np.testing.assert_array_equal(first["next_obs/v"], ended.state[1:, 1:])
    np.testing.assert_array_equal(first["obs/front_image"], ended.images["front"][:5])
    np.testing.assert_array_equal(first["next_obs/c_image"], ended.images["c"][1:])
    assert first["obs/front_image"].dtype == np.uint8
    assert "rewards" not in second and "next_obs" not in second
    np.testing.assert_array_equal(second["dones"], [0, 0, 0])


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ("x", "x"),
        ("eef_pos.x eef_pos.y eef_pos.z", "eef_pos"),
        ("quat.x quat.y quat.z quat.w grip.0 grip.1", "quat grip"),
        ("joint.1 joint.0", "joint.1 joint.0"),
        ("one.0 two.0", "one two"),
        ("arm.pos arm.vel", "arm.pos arm.vel"),
        ("a.0 b a.1", "a b a.1"),
        ("a.0 b a.0.x", "a b a.0.x"),
        ("a a.0 a.1", "state"),
        ("c_image", "state"),
    ],
)
def test_entries_of_one_name_are_one_observation(names, keys):
    entries = tuple(StateEntry(name) for name in names.split())
    found = state_keys(Contract("any", entries, (ActionEntry("u"),), SEEING.cameras))
    assert " ".join(found) == keys
    assert np.concatenate([np.arange(len(entries))[part] for part in found.values()]).tolist() == list(
        range(len(entries))
    )


def test_a_task_that_is_given_beats_the_one_that_went_out(exported, tmp_path):
    exported(make_episode(1, contract=SEEING)).close()
    ((_, episode),) = open_source(tmp_path / "out.hdf5", task="other").episodes()
    assert episode.task == "other" and episode.origin == "number 1"


def test_cameras_can_be_chosen_and_resized_from_an_export(exported, tmp_path):
    exported(make_episode(1, contract=SEEING)).close()
    source = open_source(tmp_path / "out.hdf5", cameras=["front"], image_size=(2, 3))
    assert [(c.name, c.height, c.width) for c in source.contract.cameras] == [("front", 2, 3)]
    ((_, episode),) = source.episodes()
    assert episode.images["front"].shape == (6, 2, 3, 3)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("firsthand/contract", "{", "damaged"),
        ("firsthand/contract", "[1]", "damaged"),
        ("firsthand/contract", '{"name": "a", "state": [], "action": []}', "nothing can be observed"),
        ("firsthand/state_keys", '["x"]', "state_keys says"),
        ("firsthand/state_keys", "7", "state_keys"),
        ("data/demo_0/firsthand/source", [9] * 5, "source is int64, expected uint8"),
        ("data/demo_0/firsthand/cost", [1.0], "ragged: cost"),
        ("data/demo_0/firsthand/place", None, "place: Input should be"),
        ("data/demo_0/firsthand", None, "no group firsthand"),
    ],
)
def test_what_is_kept_and_damaged_is_told_in_one_line(exported, tmp_path, path, value, message):
    exported(make_episode(1, contract=SEEING, columns=OPTIONAL)).close()
    with h5py.File(tmp_path / "out.hdf5", "r+") as file:
        if path.endswith("place"):
            file["data/demo_0/firsthand"].attrs["kept"] = '{"place": "moon"}'
        else:
            del file[path]
            if value is not None:
                file[path] = value
    with pytest.raises(InputError, match=message) as error:
        open_source(tmp_path / "out.hdf5")
    assert "\n" not in str(error.value)


def test_a_damaged_export_is_never_a_traceback(exported, tmp_path):
    episodes = [make_episode(number, contract=SEEING, columns=OPTIONAL) for number in range(2)]
    exported(*episodes).close()
    raw = (tmp_path / "out.hdf5").read_bytes()
    rng, outcomes = np.random.default_rng(4), []
    for number in range(FLIPS):
        damaged = bytearray(raw)
        at = int(rng.integers(len(raw) * 8))
        damaged[at // 8] ^= 1 << at % 8
        (tmp_path / "out.hdf5").write_bytes(raw[: at // 8] if number % 10 == 0 else damaged)
        try:
            found = [item for _, item in open_source(tmp_path / "out.hdf5").episodes()]
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.append("refused")
        else:
            outcomes += ["left out" if isinstance(item, EpisodeError) else "imported" for item in found]
    assert {"refused", "imported"} <= set(outcomes)


@pytest.mark.parametrize(("largest", "said"), [(1.0, False), (1.25, True)])
def test_actions_beyond_what_robomimic_takes_are_told_before(tmp_path, largest, said):
    episode = make_episode(0, 4, contract=SEEING)
    action = np.clip(episode.action, -1, 1)
    action[2] = -largest
    stored(tmp_path / "store", SEEING, [replace(episode, action=action)])
    told = []
    export_store(tmp_path / "store", tmp_path / "out.hdf5", "robomimic", tell=told.append)
    assert any("actions, which go up to 1.25" in line for line in told) == said
