"""What the columns of a LeRobot dataset are: state entries, action entries and cameras, and what they are called."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from episodes.contract import ActionEntry, StateEntry
from episodes.importers.lerobot_info import Feature
from episodes.importers.source import safe_name

STATE = "observation.state"
ACTION = "action"


@dataclass(frozen=True, slots=True)
class Picture:
    """A camera as its feature describes it."""

    key: str
    in_video: bool
    """Whether its frames lie in an mp4; else they are PNG or JPEG in the parquet file."""
    height: int
    width: int


def cameras(features: Mapping[str, Feature]) -> dict[str, Picture]:
    """The colour cameras by name: `observation.images.wrist` is `wrist`. Depth maps and grey images are none."""
    found: dict[str, Picture] = {}
    for key, feature in features.items():
        size = _picture_size(feature) if feature.dtype in ("video", "image") else None
        if size is not None:
            name = safe_name(key.removeprefix("observation.").removeprefix("images."))
            found[safe_name(key) if name in found else name] = Picture(key, feature.dtype == "video", *size)
    return found


def state_keys(features: Mapping[str, Feature]) -> list[str]:
    """`observation.state`, and after it the other lists of floats that were observed, in sorted order."""
    others = [
        key
        for key, feature in features.items()
        if key.startswith("observation.") and key != STATE and is_table(feature) and feature.dtype.startswith("float")
    ]
    return [key for key in (STATE,) if key in features and is_table(features[key])] + sorted(others)


def is_table(feature: Feature) -> bool:
    """Whether a feature is a list of numbers for each frame."""
    return len(feature.shape) == 1 and feature.dtype.rstrip("0123456789") in ("float", "int", "uint", "bool")


def state_entries(features: Mapping[str, Feature]) -> tuple[StateEntry, ...]:
    """In the order of `state_keys`; what is not from `observation.state` has its column's name in front."""
    entries: list[StateEntry] = []
    for key in state_keys(features):
        column = safe_name(key.removeprefix("observation."))
        names = entry_names(features[key])
        if key == STATE and names is not None:
            entries += [StateEntry(name) for name in names]
        else:
            entries += [StateEntry(f"{column}.{name}") for name in names or range(features[key].shape[0])]
    return tuple(entries)


def action_entries(feature: Feature, state: tuple[StateEntry, ...]) -> tuple[ActionEntry, ...]:
    """The action's entries.

    `NAME.pos` is what LeRobot's own robots call a joint's position in the state and its target in the action. Other
    names that are in both may as well be of a displacement, and say nothing.
    """
    names = entry_names(feature) or [f"action.{index}" for index in range(feature.shape[0])]
    positions = {entry.name for entry in state if entry.name.endswith(".pos")}
    return tuple(ActionEntry(name, reference=name if name in positions else None) for name in names)


def entry_names(feature: Feature) -> list[str] | None:
    """A contract's names for a feature's entries; None where it has none, or not one for each."""
    names = [safe_name(name) for name in _flat(feature.names)]
    return names if len(set(names)) == feature.shape[0] == len(names) else None


def misnamed(features: Mapping[str, Feature]) -> Iterator[str]:
    """Of the imported columns, whose names had to be left aside: they are not one for each entry."""
    for key in (*state_keys(features), ACTION):
        count = len(list(_flat(features[key].names)))
        if count > 1 and entry_names(features[key]) is None:
            yield f"the {count} names of the {features[key].shape[0]} entries of {key}"


def _flat(names: Any) -> Iterator[str]:
    """The names in whatever they are wrapped in: `[[a, b]]`, `{"motors": [a, b]}`, `{"a": 0, "b": 1}`."""
    if isinstance(names, str):
        yield names
    elif isinstance(names, Mapping) and all(isinstance(place, int) for place in names.values()):
        yield from sorted(names, key=lambda name: names[name])
    elif isinstance(names, Mapping | list):
        for part in names.values() if isinstance(names, Mapping) else names:
            yield from _flat(part)


def _picture_size(feature: Feature) -> tuple[int, int] | None:
    """(height, width) of a colour camera, whose channels are its last axis or its first; else None."""
    if len(feature.shape) != 3 or min(feature.shape) == 0 or _is_depth(feature):
        return None
    first, second, third = feature.shape
    channels_first = next(_flat(feature.names), "").startswith("channel")
    if third == 3 and not channels_first:
        return first, second
    return (second, third) if first == 3 else None


def _is_depth(feature: Feature) -> bool:
    said = [about for about in (feature.info, feature.video_info) if isinstance(about, Mapping)]
    return any(about.get(key) for about in said for key in ("is_depth_map", "video.is_depth_map"))
