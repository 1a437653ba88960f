"""Episodes whose pictures are larger than memory ought to be."""

import tracemalloc

import h5py
import numpy as np
import pytest

from episodes.importers import images, open_source
from episodes.importing import import_into
from episodes.store import Store
from tests.episodes.importers.lerobot_files import V2, V3, write
from tests.episodes.importers.test_diffusion_policy import write as write_zarr
from tests.episodes.importers.test_fuzz import robomimic, seen_through_minari

SIZE = (480, 640)
SOURCES = {
    "lerobot-2": lambda path: write(path, V2, (3, 4)),
    "lerobot-3": lambda path: write(path, V3, (3, 4), images=True),
    "zarr": lambda path: write_zarr(path, [3, 6]),
    "robomimic": robomimic,
    "minari": seen_through_minari,
}


@pytest.mark.parametrize("name", SOURCES)
def test_pictures_in_a_file_are_those_in_memory(name, tmp_path, load, monkeypatch):
    source = SOURCES[name](tmp_path / "a")
    held = load(source)
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    mapped = load(source)
    assert [e.digest() for e in mapped.episodes.values()] == [e.digest() for e in held.episodes.values()]
    (camera,) = held.contract.camera_names
    assert all(
        len(np.unique(episode.images[camera])) > 1 or name == "robomimic" for episode in mapped.episodes.values()
    )


def test_an_import_never_holds_the_pictures_of_an_episode(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY", 2**20)
    source = open_source(write(tmp_path / "a", V3, (30, 30), codec="mpeg4"), image_size=SIZE)
    tracemalloc.start()
    try:
        import_into(source, tmp_path / "store")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 28 MB an episode. What is compressed at once is some frames of 1 MB.
    assert peak < 20e6
    assert Store.open(tmp_path / "store").snapshot().images("front").shape == (60, *SIZE, 3)


def test_no_room_for_pictures_is_told(tmp_path, load, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    monkeypatch.setattr(images, "LARGE_FILES", tmp_path / "none")
    left_out = load(write(tmp_path / "a", V2)).left_out
    assert len(left_out) == 3
    assert all("no room for 0.0 GB of pictures" in why and "--image-size" in why for why in left_out.values())


def test_pictures_larger_than_any_camera_s_are_no_pictures(tmp_path, load):
    path = robomimic(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        for name in ("obs", "next_obs"):
            for demo in ("demo_0", "demo_1", "demo_2"):
                del file[f"data/{demo}/{name}/front_image"]
                shape, chunks = (4, 60_000, 60_000, 3), (1, 1000, 1000, 3)  # 43 GB that take no room in the file
                file.create_dataset(f"data/{demo}/{name}/front_image", shape=shape, dtype="u1", chunks=chunks)
    found = load(path)
    assert len(found.episodes) == 3 and not found.contract.cameras and "obs/front_image" in found.importer.ignored
