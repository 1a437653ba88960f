"""Importers: other people's files as episodes. What a file is, is decided by its content and never by its name."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py

from episodes.errors import InputError
from episodes.importers.d4rl import D4RL
from episodes.importers.diffusion_policy import DiffusionPolicy
from episodes.importers.lerobot import LeRobot
from episodes.importers.lerobot_info import is_lerobot
from episodes.importers.minari import Minari, is_minari_file, is_minari_folder
from episodes.importers.robomimic import Robomimic
from episodes.importers.source import FileImporter, Importer, listed, member_names, reading

FORMATS: tuple[type[FileImporter], ...] = (Robomimic, DiffusionPolicy, D4RL, LeRobot, Minari)

__all__ = ["FORMATS", "Importer", "detect", "open_source"]


def open_source(
    path: Path | str,
    *,
    task: str = "",
    cameras: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Importer:
    """The importer of a file or folder, whatever its format.

    Args:
        path: What to import.
        task: What was to be done, in words; empty takes what the source says, if it says anything.
        cameras: Names of the cameras to import; None takes all of them, an empty sequence none.
        image_size: (height, width) [px] to resize every camera to by area averaging; None keeps the source's sizes.

    Raises:
        InputError: where the source is missing, damaged or of no known format, or a camera is not in it.
    """
    path = Path(path)
    if image_size is not None and min(image_size) < 1:
        raise InputError(f"image size {image_size[0]}x{image_size[1]}: expected a height and a width of at least 1 px")
    return detect(path)(path, task=task, cameras=cameras, image_size=image_size)


def detect(path: Path) -> type[FileImporter]:
    """The importer class for what lies at `path`.

    Raises:
        InputError: saying what was looked at, what was found there, and which formats are known.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return _detect_folder(path)
    if not path.is_file():  # Reading a pipe would wait for ever.
        raise InputError(f"{path}: neither a file nor a folder")
    with reading(path), path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"\x89HDF"):
        return _detect_hdf5(path)
    if head.startswith(b"PK"):
        return _detect_zip(path)
    if head.startswith((b"\x89MCAP", b"SQLite")):
        raise _bag(path)
    raise _no_format(path, f"a file of {path.stat().st_size} bytes that is neither HDF5 nor npz")


def _detect_folder(path: Path) -> type[FileImporter]:
    with reading(path):
        names = [entry.name for entry in path.iterdir()]
    if (path / "data").is_dir() and (path / "meta" / "episode_ends").is_dir():
        return DiffusionPolicy
    if is_lerobot(path):
        return LeRobot
    if is_minari_folder(path):
        return Minari
    if any(name.endswith((".mcap", ".db3")) for name in names):
        raise _bag(path)
    raise _no_format(path, f"a folder with {listed(names)}" if names else "an empty folder")


def _detect_hdf5(path: Path) -> type[FileImporter]:
    with reading(path), h5py.File(path) as file:
        names = member_names(file)
        data = file.get("data")
        minari = is_minari_file(names, file)
        demos = isinstance(data, h5py.Group) and any(
            isinstance(data.get(key), h5py.Group) for key in member_names(data)
        )
    if demos:
        return Robomimic
    if {"observations", "actions"} <= set(names):
        return D4RL
    if minari:
        return Minari
    raise _no_format(path, f"HDF5 with {listed(names)}" if names else "an empty HDF5 file")


def _detect_zip(path: Path) -> type[FileImporter]:
    with reading(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if {"observations.npy", "actions.npy"} <= set(names):
        return D4RL
    if any(name.endswith("episode_ends/.zarray") for name in names):
        raise InputError(f"{path}: a zipped zarr folder: unzip it and import the folder")
    raise _no_format(path, f"a zip archive with {listed(names)}" if names else "an empty zip archive")


def _bag(path: Path) -> InputError:
    return InputError(
        f"{path}: a ROS 2 bag; which of its topics make a step is said by a robot's contract: give --contract FILE"
    )


def _no_format(path: Path, found: str) -> InputError:
    known = "; ".join(f"{importer.format} ({importer.layout})" for importer in FORMATS)
    return InputError(f"{path}: no known format: found {found}; known: {known}")
