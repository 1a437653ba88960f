"""Telling formats apart by their content, and files that are missing, damaged or something else."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from episodes.episode import Episode
from episodes.errors import InputError
from episodes.importers import detect, open_source


def d4rl(path: Path) -> Path:
    rng = np.random.default_rng(0)
    columns = {
        "observations": rng.normal(size=(50, 3)).astype(np.float32),
        "actions": rng.normal(size=(50, 2)).astype(np.float32),
        "rewards": rng.normal(size=50).astype(np.float32),
        "terminals": np.arange(50) % 10 == 9,
    }
    if path.suffix == ".npz":
        np.savez_compressed(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file.create_dataset(name, data=values, compression="gzip" if values.ndim == 2 else None)
    return path


def robomimic(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for key in ("demo_0", "demo_1"):
            file[f"data/{key}/actions"] = np.ones((6, 2))
            file[f"data/{key}/obs/object"] = np.ones((6, 2))
    return path


def minari(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["action_space"] = '{"type": "Box", "shape": [2], "low": [-1, -1], "high": [1, 1]}'
        for key in ("episode_0", "episode_1"):
            file[f"{key}/observations/goal"] = np.ones((7, 2))
            file[f"{key}/observations/inner/arm"] = np.ones((7, 3))
            file[f"{key}/actions"] = np.ones((6, 2))
            file[f"{key}/rewards"] = np.ones(6)
            file[f"{key}/terminations"] = np.arange(6) == 5
            file[f"{key}/infos/success"] = np.zeros(7, bool)
    return path


def refused(path: Path) -> str:
    """The message with which a source is refused: one line that begins with its path."""
    with pytest.raises(InputError) as error:
        for _ in open_source(path).episodes():
            pass
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(path))
    return message


def test_content_decides_not_the_name(tmp_path):
    assert detect(d4rl(tmp_path / "a.npz").rename(tmp_path / "b.hdf5")).format == "D4RL"
    assert detect(d4rl(tmp_path / "c.hdf5").rename(tmp_path / "d.npz")).format == "D4RL"
    assert detect(robomimic(tmp_path / "e.hdf5").rename(tmp_path / "e")).format == "robomimic HDF5"
    assert detect(minari(tmp_path / "f.hdf5").rename(tmp_path / "f")).format == "Minari HDF5"


def test_the_real_files_are_told_apart(data):
    assert detect(data("lift/lift_ph_10.hdf5")).format == "robomimic HDF5"
    assert detect(data("door/door_human_25.hdf5")).format == "D4RL"
    assert detect(data("cheetah_gravity2/replay_100k.npz")).format == "D4RL"
    assert detect(data("pusht/pusht_cchi_v7_replay.zarr")).format == "Diffusion Policy zarr"


def test_what_is_no_known_format_is_told_with_what_was_found(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to import\n")
    (tmp_path / "zero").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "pictures").mkdir(parents=True)
    np.savez(tmp_path / "other.npz", x=np.zeros(3), y=np.zeros(3))
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"], file["data"] = np.zeros(3), np.zeros(3)
    h5py.File(tmp_path / "empty.hdf5", "w").close()
    for name, found in (
        ("notes.txt", "a file of 18 bytes that is neither HDF5 nor npz"),
        ("zero", "a file of 0 bytes"),
        ("empty", "an empty folder"),
        ("folder", "a folder with pictures"),
        ("other.npz", "a zip archive with x.npy, y.npy"),
        ("other.hdf5", "HDF5 with data, x"),
        ("empty.hdf5", "an empty HDF5 file"),
    ):
        message = refused(tmp_path / name)
        assert f"found {found}" in message
        assert all(known in message for known in ("robomimic HDF5", "Diffusion Policy zarr", "D4RL"))
    assert "no such file or folder" in refused(tmp_path / "missing.hdf5")


def test_a_zipped_zarr_is_told_to_be_unzipped(tmp_path):
    (tmp_path / "a" / "meta" / "episode_ends").mkdir(parents=True)
    (tmp_path / "a" / "meta" / "episode_ends" / ".zarray").write_text("{}")
    assert "unzip" in refused(Path(shutil.make_archive(str(tmp_path / "a.zarr"), "zip", tmp_path / "a")))


def test_an_image_size_must_be_positive(tmp_path):
    with pytest.raises(InputError, match="image size 0x84"):
        open_source(robomimic(tmp_path / "a.hdf5"), image_size=(0, 84))


@pytest.mark.parametrize("make", [d4rl, robomimic, minari])
def test_a_cut_hdf5_is_refused_wherever_it_was_cut(tmp_path, make):
    whole = make(tmp_path / "whole.hdf5").read_bytes()
    path = tmp_path / "cut.hdf5"
    for length in {*range(0, 64), *range(64, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        refused(path)


def test_a_cut_npz_is_refused_wherever_it_was_cut(tmp_path):
    whole = d4rl(tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in {*range(0, 64), *range(64, len(whole), 13), len(whole) - 1}:
        path.write_bytes(whole[:length])
        refused(path)


@pytest.mark.parametrize(
    "name", ["lift/lift_ph_10.hdf5", "door/door_human_25.hdf5", "cheetah_gravity2/replay_100k.npz"]
)
def test_the_real_files_cut_are_refused(data, tmp_path, name):
    source = data(name)
    path = tmp_path / source.name
    shutil.copyfile(source, path)
    path.chmod(0o600)
    for share in (0.999, 0.7, 0.3, 0.01):
        with path.open("r+b") as file:
            file.truncate(int(source.stat().st_size * share))
        assert "cut short" in refused(path)


def test_a_flipped_bit_in_an_npz_never_changes_a_number(tmp_path):
    """Every flip is refused, or lies where the archive keeps nothing that an episode is made of."""
    original = d4rl(tmp_path / "whole.npz")
    raw, wanted = original.read_bytes(), [item.digest() for _, item in open_source(original).episodes()]
    path, caught = tmp_path / "flipped.npz", 0
    positions = np.random.default_rng(1).choice(len(raw) * 8, 600, replace=False)
    for position in positions.tolist():
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = [item.digest() for _, item in open_source(path).episodes() if isinstance(item, Episode)]
        except InputError as error:
            assert "\n" not in str(error)
            caught += 1
        else:
            assert found == wanted
    assert caught > 400


@pytest.mark.parametrize("make", [d4rl, robomimic, minari])
def test_a_flipped_bit_in_an_hdf5_is_never_a_traceback(tmp_path, make):
    """Without checksums a number may change, but whatever cannot be read is told in one line."""
    raw = make(tmp_path / "whole.hdf5").read_bytes()
    path = tmp_path / "flipped.hdf5"
    refusals = 0
    for position in np.random.default_rng(2).choice(min(len(raw), 4096) * 8, 250, replace=False).tolist():
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            for _ in open_source(path).episodes():
                pass
        except InputError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals > 5


def test_a_name_that_is_not_utf8_is_only_a_name(tmp_path):
    path = d4rl(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        file[b"m\xe4rz"] = np.zeros(3)
    source = open_source(path)
    assert len(source) == 5 and source.ignored == ("m\\xe4rz",)
    with h5py.File(path, "r+") as file:
        del file["actions"]
    assert "HDF5 with m\\xe4rz, observations" in refused(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: neither a file nor a folder"):
        detect(tmp_path / "pipe")
