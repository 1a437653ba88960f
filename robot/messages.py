"""Fields of ROS 2 messages by path, alike for rclpy's messages and for those read from a bag."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any

from episodes.errors import InputError

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\[\d+\])*)")


@dataclass(frozen=True, slots=True)
class MessagePath:
    """Where in a message a value is: `pose.position.x`, `data[3]`, `points[0].positions[2]`."""

    text: str
    steps: tuple[str | int, ...]
    _plain: Callable[[Any], Any] | None = field(init=False, repr=False, compare=False)
    """Where there are only fields on the way: gets what is there in one go."""

    def __post_init__(self) -> None:
        fields_only = all(isinstance(step, str) for step in self.steps)
        object.__setattr__(self, "_plain", attrgetter(self.text) if fields_only else None)

    @classmethod
    def parse(cls, text: str) -> "MessagePath":
        """Raises an InputError for what is no path."""
        steps: list[str | int] = []
        for part in text.split("."):
            match = _STEP.fullmatch(part)
            if match is None:
                raise InputError(
                    f"path {text!r}: expected field names joined by dots, such as pose.position.x or data[3]"
                )
            steps.append(match[1])
            steps += [int(index) for index in re.findall(r"\d+", match[2])]
        return cls(text, tuple(steps))

    def get(self, message: Any) -> Any:
        """The value there.

        Raises:
            LookupError: where the message has no such field, or a list in it is too short.
        """
        if self._plain is None:
            return self._walk(message)
        try:
            return self._plain(message)
        except AttributeError:
            # Says which of them is missing.
            return self._walk(message)

    def _walk(self, message: Any) -> Any:
        for step in self.steps:
            if isinstance(step, int):
                if not hasattr(message, "__len__"):
                    raise LookupError(f"{self.text}: there is no list to take number {step} of")
                if step >= len(message):
                    raise LookupError(f"{self.text}: has {len(message)} values, expected more than {step}")
                message = message[step]
            else:
                try:
                    message = getattr(message, step)
                except AttributeError:
                    raise LookupError(f"{self.text}: there is no field {step!r}") from None
        return message


path_of = cache(MessagePath.parse)
"""The same path again costs nothing."""


def header_stamp(message: Any) -> int | None:
    """The header's time [ns]; None where there is no header, or nobody filled it in."""
    header = getattr(message, "header", None)
    if header is None:
        return None
    stamp = header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec or None


def pressed(value: Any) -> bool:
    """Whether a field says that a button or switch is held: true, or a number that is not zero.

    Raises:
        TypeError, ValueError: for what is neither. A list of buttons that nobody presses would be "true".
    """
    number = float(value)
    return math.isfinite(number) and number != 0
