"""What `firsthand export` keeps beside a format's own data, so that an import of it brings back what went out."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from episodes.contract import Camera, Contract
from episodes.episode import COLUMNS, Column, Episode, EpisodeError
from episodes.errors import InputError
from episodes.typed import STRICT, parse

NAME = "firsthand"
"""Of groups, files and columns that are ours in somebody else's format."""

KEPT = tuple(column for column in COLUMNS if column.name not in ("state", "action", "reward", "success"))
"""The columns that neither robomimic nor LeRobot has a place for. Success has one in LeRobot alone."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What an episode says of itself in words."""

    __pydantic_config__ = STRICT

    task: str = ""
    place: Literal["real", "sim", ""] = ""
    origin: str = ""
    evaluation: bool = False


def kept_of(episode: Episode) -> dict[str, Any]:
    return asdict(Kept(episode.task, episode.place, episode.origin, episode.evaluation))


def kept_from(mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of an episode that were kept.

    Raises:
        EpisodeError: where they are damaged.
    """
    try:
        return asdict(parse(Kept, mapping, where))
    except InputError as error:
        raise EpisodeError(str(error)) from None


def chosen(contract: Contract, cameras: Collection[str], image_size: tuple[int, int] | None) -> Contract:
    """The contract with the chosen cameras only, at `image_size` (height, width) where one is given."""
    kept = (camera for camera in contract.cameras if camera.name in cameras)
    return replace(contract, cameras=tuple(Camera(c.name, *(image_size or (c.height, c.width))) for c in kept))


def said(column: Column, values: np.ndarray) -> np.ndarray | None:
    """A column's values; None where they say nothing."""
    return None if values.dtype == np.dtype(column.dtype) and column.is_absent(values) else values
