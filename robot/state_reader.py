"""The state entries that a message makes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from robot.contract import Observation
from robot.messages import MessagePath, path_of

_LARGEST = float(np.finfo(np.float32).max)


class StateReader:
    """Reads one input's messages.

    Joints are found by their names. Where they are in a message hardly ever changes, so it is remembered until it does.
    """

    def __init__(self, source: Observation):
        self._fields: list[tuple[MessagePath, tuple[str, ...], float]] = []
        for item in source.fields:
            joints = source.joints if item.joint is None else (item.joint,)
            self._fields.append((path_of(item.path), joints, item.scale))
        self._names_path = path_of(source.names)
        self._frame = source.frame_id
        self._by_name = any(joints for _, joints, _ in self._fields)
        self._names: list[str] | None = None
        self._places: list[tuple[list[int], int]] = []
        """Of every field's joints, and the last of them."""

    def read(self, message: Any) -> np.ndarray:
        """The values in the order of the state: shape (n,), float32.

        Raises:
            LookupError: where a field, a joint or a joint's value is missing, or all of it is in another frame.
            ValueError: where a number is not finite.
        """
        if self._frame:
            _check_frame(message, self._frame)
        if self._by_name:
            self._find(self._names_path.get(message))
        found: list[float] = []
        for number, (path, joints, scale) in enumerate(self._fields):
            value = path.get(message)
            if joints:
                places = self._checked(number, value)
                # Numbers of an array cost more, taken one by one.
                numbers = value.tolist() if hasattr(value, "tolist") else value
                found += [float(numbers[place]) * scale for place in places]
            else:
                found.append(_number(value, path.text) * scale)
        # Not true of any that is not finite, nor of one that is too large for a float32.
        if sum(map(abs, found)) < _LARGEST:
            return np.array(found, np.float32)
        with np.errstate(over="ignore"):
            values = np.array(found, np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"not finite: {values.tolist()}")
        return values

    def _find(self, names: Sequence[str]) -> None:
        """Where the joints of every field are among a message's names."""
        if names == self._names:
            return
        place = {name: index for index, name in enumerate(names)}
        for _, joints, _ in self._fields:
            for joint in joints:
                if joint not in place:
                    self._names = None
                    raise LookupError(f"there is no joint {joint!r}; there are: {', '.join(names)}")
        found = [[place[joint] for joint in joints] for _, joints, _ in self._fields]
        self._places = [(places, max(places, default=-1)) for places in found]
        self._names = list(names)

    def _checked(self, number: int, value: Any) -> list[int]:
        """The places of a field's joints, which all have a value: an effort may be left empty."""
        places, last = self._places[number]
        if not hasattr(value, "__len__"):
            raise LookupError(f"{self._fields[number][0].text}: is no list of a number per joint")
        if last >= len(value):
            joint = next(j for j, place in zip(self._fields[number][1], places, strict=True) if place >= len(value))
            raise LookupError(f"joint {joint!r} has no value: {len(value)} values for {len(self._names or ())} names")
        return places


def _check_frame(message: Any, expected: str) -> None:
    found = getattr(getattr(message, "header", None), "frame_id", "")
    if found != expected:
        raise LookupError(f"is in frame {found!r}, expected {expected!r}")


def _number(value: Any, path: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise LookupError(f"{path}: is no number; with several joints say which: joints, or joint") from None
