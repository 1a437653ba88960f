"""Every importer on files with any damage: never a traceback, never half a store.

`FIRSTHAND_LONG=50` takes fifty times as many examples.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes.exporting import export_store
from tests.episodes.exporters.stores import stored
from tests.episodes.importers import lerobot_files as lerobot
from tests.episodes.importers import test_diffusion_policy as diffusion_policy
from tests.episodes.importers import test_minari as minari
from tests.episodes.importers import test_open_source as plain
from tests.episodes.importers.damage import LONG, change, damage, survives
from tests.episodes.making import OPTIONAL, SEEING, make_episode

EXAMPLES = max(1, LONG) * 5


def robomimic(path: Path) -> Path:
    environment = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20, "controller_configs": [{"a": 1}]}}
    with h5py.File(path, "w") as file:
        for number in range(3):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"], demo["rewards"], demo["dones"] = np.ones((4, 2)), np.eye(4)[3], np.eye(4, dtype=int)[3]
            for group in ("obs", "next_obs"):
                demo[f"{group}/object"] = np.ones((4, 2))
                demo.create_dataset(f"{group}/front_image", data=np.ones((4, 5, 6, 3), np.uint8), compression="gzip")
        file["data"].attrs["env_args"] = json.dumps(environment)
    return path


def seen_through_minari(path: Path) -> Path:
    images = minari.pictures(6)
    encoded = np.empty(6, object)
    encoded[:] = [minari.jpeg(image) for image in images]
    space = {"type": "Dict", "subspaces": {"eye": minari.PICTURE, "x": minari.BOX}}
    parts = {"x": np.ones((6, 3))}
    minari.dataset(path, *(minari.dict_episode(parts, seed=n) for n in range(2)), observation_space=json.dumps(space))
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        for number in range(2):
            file[f"episode_{number}/observations"].create_dataset("eye", data=encoded, dtype=h5py.vlen_dtype(np.uint8))
    return path


def exported(path: Path, format: str) -> Path:
    store = path.with_name("exported-store")
    stored(store, SEEING, [make_episode(n, 3, contract=SEEING, columns=OPTIONAL) for n in range(3)])
    export_store(store, path, format)
    shutil.rmtree(store)
    return path


SOURCES: dict[str, Callable[[Path], Path]] = {
    "d4rl": lambda path: plain.d4rl(path.with_suffix(".hdf5")),
    "npz": lambda path: plain.d4rl(path.with_suffix(".npz")),
    "robomimic": robomimic,
    "robomimic-export": lambda path: exported(path, "robomimic"),
    "minari": seen_through_minari,
    "zarr-2": lambda path: diffusion_policy.write(path, [3, 6], zarr_format=2),
    "zarr-3": lambda path: diffusion_policy.write(path, [3, 6], zarr_format=3),
    "lerobot-2": lambda path: lerobot.write(path, lerobot.V2, (3, 4)),
    "lerobot-3": lambda path: lerobot.write(path, lerobot.V3, (3, 4), images=True),
    "lerobot-export": lambda path: exported(path, "lerobot"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: make(folder / name) for name, make in SOURCES.items()}


def files_of(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", SOURCES)
def test_any_damage_to_a_file_is_told_and_never_half_a_store(whole, tmp_path, name):
    source = whole[name]
    assert survives(source, tmp_path / "store") == "imported"
    rng, outcomes = np.random.default_rng(len(name) + 1000 * LONG), Counter()
    for number in range(EXAMPLES * 2):
        # The size of a file says nothing of how much depends on it.
        file = files_of(source)[int(rng.integers(len(files_of(source))))]
        raw = file.read_bytes()
        file.write_bytes(damage(raw, rng))
        store = tmp_path / f"store{number}"
        try:
            outcomes[survives(source, store)] += 1
        finally:
            file.write_bytes(raw)
            shutil.rmtree(store, ignore_errors=True)
    assert outcomes["refused"] + outcomes["left out"] > 0, outcomes


def documents_of(source: Path) -> dict[str, Any]:
    """The JSON in a source, by what to write it back with."""
    if source.is_dir():
        names = (".zarray", ".zattrs", ".zgroup", "zarr.json", "metadata.json", "info.json", "stats.json")
        return {str(file): json.loads(file.read_text()) for file in files_of(source) if file.name in names}
    with h5py.File(source) as file:
        attributes = {
            f"@{key}": json.loads(str(value)) for key, value in file["data"].attrs.items() if key == "env_args"
        }
        ours = {}
        if "firsthand" in file:
            ours = {f"firsthand/{key}": json.loads(file[f"firsthand/{key}"][()]) for key in file["firsthand"]}
            ours["#kept"] = json.loads(str(file["data/demo_0/firsthand"].attrs["kept"]))
    return attributes | ours


def put(source: Path, place: str, document: Any) -> None:
    text = json.dumps(document)
    if source.is_dir():
        Path(place).write_text(text)
        return
    with h5py.File(source, "r+") as file:
        if place.startswith("@"):
            file["data"].attrs[place[1:]] = text
        elif place.startswith("#"):
            file["data/demo_0/firsthand"].attrs[place[1:]] = text
        else:
            del file[place]
            file[place] = text


@pytest.mark.parametrize(
    "name", ["robomimic", "robomimic-export", "minari", "zarr-2", "zarr-3", "lerobot-2", "lerobot-3", "lerobot-export"]
)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_metadata_is_imported_or_refused(whole, tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("any")
    documents = documents_of(whole[name])
    place = data.draw(st.sampled_from(sorted(documents)))
    document = json.loads(json.dumps(documents[place]))
    inside = [key for key in document if str(key).endswith("_space")] if isinstance(document, dict) else []
    if inside and data.draw(st.booleans()):  # Minari's spaces are JSON inside JSON.
        key = data.draw(st.sampled_from(inside))
        document[key] = json.dumps(change(json.loads(document[key]), data.draw))
    else:
        document = change(document, data.draw)
    try:
        put(whole[name], place, document)
        survives(whole[name], folder / "store")
    finally:
        put(whole[name], place, documents[place])
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["lerobot-3", "lerobot-export"])
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_in_a_table_is_imported_or_refused(whole, tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("any")
    file = data.draw(st.sampled_from([file for file in files_of(whole[name]) if file.suffix == ".parquet"]))
    raw = file.read_bytes()
    table = pq.read_table(file)
    column = data.draw(st.sampled_from(table.column_names))
    values: list[Any] = table[column].to_pylist()
    kind = table.schema.field(column).type
    if pa.types.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        anything = st.none() | st.integers(int(limits.min), int(limits.max)) | st.integers(0, 9)
    elif pa.types.is_floating(kind):
        anything = st.none() | st.floats(width=kind.bit_width)
    elif pa.types.is_string(kind):
        anything = st.none() | st.text(max_size=5)
    else:
        anything = st.none()
    values[data.draw(st.integers(0, len(values) - 1))] = data.draw(anything)
    index = table.column_names.index(column)
    if data.draw(st.integers(0, 4)):
        table = table.set_column(index, table.schema.field(column), pa.array(values, kind))
    else:
        table = table.drop_columns(column)
    try:
        pq.write_table(table, file)
        survives(whole[name], folder / "store")
    finally:
        file.write_bytes(raw)
        shutil.rmtree(folder)
