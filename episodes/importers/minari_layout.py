"""What an episode of a Minari file is laid out like: numbers, cameras, and what cannot be imported.

Observations and actions are arrays, or groups of arrays where their space is a Dict or a Tuple, whose parts are called
`_index_0`, `_index_1`, ... Pictures lie there as arrays of pixels or, since Minari 0.5, as JPEG: a row of bytes each.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeGuard

import cv2
import h5py
import numpy as np

from episodes.contract import Camera
from episodes.episode import EpisodeError
from episodes.importers.images import gathered, is_video
from episodes.importers.source import blocks, damaged, member_names, numbers, safe_name


@dataclass(frozen=True, slots=True)
class Leaf:
    """An array of numbers, per row of the table."""

    path: str
    """In the episode's group: `observations/achieved_goal`."""
    size: int


@dataclass(frozen=True, slots=True)
class Video:
    """The pictures of one camera."""

    path: str
    height: int
    width: int
    encoded: bool
    """As JPEG."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What an episode has."""

    state: tuple[Leaf, ...]
    action: tuple[Leaf, ...]
    videos: Mapping[str, Video]
    """By the camera's name."""
    ignored: tuple[str, ...]

    def difference(self, expected: "Layout") -> str | None:
        """The first thing in which this is not what is expected, in words; it may have more cameras."""
        for mine, theirs in ((self.state, expected.state), (self.action, expected.action)):
            sizes, wanted = ({leaf.path: leaf.size for leaf in leaves} for leaves in (mine, theirs))
            for path in sorted({*sizes, *wanted}):
                if sizes.get(path) != wanted.get(path):
                    return f"{path} has size {sizes.get(path)}, the contract was made from size {wanted.get(path)}"
        for name, video in expected.videos.items():
            if self.videos.get(name) != video:
                return f"camera {name!r} is {self.videos.get(name)}, the contract was made from {video}"
        return None


KNOWN = {"observations", "actions", "rewards", "terminations", "truncations", "infos"}
SUCCESS = "infos/success"


def look(group: h5py.Group, observation_space: Any) -> Layout:
    """The layout of one episode.

    Args:
        observation_space: as Minari writes it down, None where nothing says it; without it JPEG cannot be told from
            numbers.
    """
    with damaged("its layout"):
        ignored = [name for name in member_names(group) if name not in KNOWN]
        state, videos, others = _observed(group, observation_space)
        action = []
        for path, values in _leaves(group, "actions"):
            if values.ndim < 1 or values.dtype.kind not in "fiub":
                raise EpisodeError(f"{path} is {values.dtype} of shape {values.shape}, expected numbers per step")
            action.append(Leaf(path, int(np.prod(values.shape[1:]))))
        ignored += [*others, *(path for path, _ in _leaves(group, "infos") if path != SUCCESS)]
    return Layout(state, tuple(action), videos, tuple(ignored))


def _observed(group: h5py.Group, space: Any) -> tuple[tuple[Leaf, ...], dict[str, Video], list[str]]:
    """The numbers that make the state, the cameras, and the paths of what is neither."""
    state: list[Leaf] = []
    videos: dict[str, Video] = {}
    others: list[str] = []
    for path, values in _leaves(group, "observations"):
        shape = _space_at(space, path).get("shape")
        name = safe_name(".".join(path.split("/")[1:])) if "/" in path else "image"
        if is_video(values.shape, values.dtype) and values.dtype == np.uint8:
            videos[name] = Video(path, *values.shape[1:3], encoded=False)
        elif _is_picture(shape) and values.dtype.kind in "uO" and values.ndim <= 2:
            videos[name] = Video(path, int(shape[0]), int(shape[1]), encoded=True)
        elif values.ndim in (1, 2) and values.dtype.kind in "fiub":
            state.append(Leaf(path, int(np.prod(values.shape[1:]))))
        else:
            others.append(path)
    return tuple(state), videos, others


def table(group: h5py.Group, leaves: tuple[Leaf, ...], rows: int) -> np.ndarray:
    """Shape (rows, total size), float32: the leaves side by side.

    Raises:
        EpisodeError: where one has another number of rows.
    """
    parts = [np.zeros((rows, 0), np.float32)]
    for leaf in leaves:
        values = numbers(read(group, leaf.path), leaf.path)
        if len(values) != rows:
            raise EpisodeError(f"ragged: {leaf.path} has {len(values)} rows, expected {rows}")
        parts.append(values.reshape(rows, leaf.size))
    return np.concatenate(parts, axis=1)


def images(group: h5py.Group, video: Video, rows: int, to: Camera) -> np.ndarray:
    """Shape (rows, H, W, 3), uint8, RGB, at the camera's size."""
    with damaged(video.path):
        array = group[video.path]
    assert isinstance(array, h5py.Dataset)
    if len(array) != rows:
        raise EpisodeError(f"ragged: {video.path} has {len(array)} rows, expected {rows}")
    pieces = blocks(array, video.path)
    return gathered(_decoded(pieces, video) if video.encoded else pieces, rows, to)


def _decoded(pieces: Iterable[np.ndarray], video: Video) -> Iterator[np.ndarray]:
    """Pictures kept as JPEG one by one, shape (1, H, W, 3), uint8, RGB."""
    for row, data in enumerate(chain.from_iterable(pieces)):
        image = cv2.imdecode(np.asarray(data, np.uint8), cv2.IMREAD_COLOR) if len(data) else None
        if image is None or image.shape != (video.height, video.width, 3):
            found = "no JPEG" if image is None else f"{image.shape[0]}x{image.shape[1]}"
            raise EpisodeError(f"{video.path}: row {row} is {found}, expected a picture {video.height}x{video.width}")
        yield image[None, ..., ::-1]


def read(group: h5py.Group, path: str) -> np.ndarray:
    with damaged(path):
        return np.asarray(group[path])


def parsed_space(text: Any) -> Any:
    """A space as Minari writes it down, in JSON; None where it is not."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def limits(space: Any, path: str, size: int) -> tuple[list[float | None], list[float | None]]:
    """The smallest and largest values of a leaf by its space, None where it has none or does not say."""
    found = _space_at(space, path)
    if found.get("type") != "Box":
        return [None] * size, [None] * size
    return _ends(found.get("low"), size), _ends(found.get("high"), size)


def in_order(names: list[str]) -> list[str]:
    """`episode_2` before `episode_10`."""
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def _leaves(group: h5py.Group, name: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every array below a member of the group, with its path; nothing where there is no such member."""
    if name.rpartition("/")[2] not in member_names(group):
        return
    with damaged(name):
        found = group[name.rpartition("/")[2]]
        below = in_order(member_names(found)) if isinstance(found, h5py.Group) else []
    if isinstance(found, h5py.Dataset):
        yield name, found
    elif isinstance(found, h5py.Group):
        for each in below:
            yield from _leaves(found, f"{name}/{each}")


def _space_at(space: Any, path: str) -> dict[str, Any]:
    """The space of a leaf; empty where nothing says it."""
    for part in path.split("/")[1:]:
        inside = space.get("subspaces") if isinstance(space, dict) else None
        if isinstance(inside, dict):
            space = inside.get(part)
        elif isinstance(inside, list) and part.startswith("_index_") and part[7:].isdigit():
            space = inside[int(part[7:])] if int(part[7:]) < len(inside) else None
        else:
            return {}
    return space if isinstance(space, dict) else {}


def _is_picture(shape: Any) -> TypeGuard[list[int]]:
    return isinstance(shape, list) and len(shape) == 3 and shape[2] == 3 and all(isinstance(n, int) for n in shape)


def _ends(values: Any, size: int) -> list[float | None]:
    try:
        flat = np.broadcast_to(np.asarray(values, float).ravel(), size)
    except (TypeError, ValueError):
        return [None] * size
    return [float(value) if np.isfinite(value) else None for value in flat]
