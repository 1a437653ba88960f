"""What commands share: what they return, how arguments are read, progress bars."""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

Result = tuple[dict[str, Any] | list[Any], str]
"""What a command has to say: as one JSON document, and to a person."""


RULINGS = ("own", "alternative", "stop")
"""Of the feasibility filter; see `policies.feasibility.Ruling`."""


class Add(Protocol):
    """Adds a command to the command line: its name, what carries it out, and what it is for."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], Result], text: str
    ) -> argparse.ArgumentParser: ...


def task_of(options: argparse.Namespace, cameras: Iterable[str], image_size: tuple[int, int]) -> Any:
    from sim.task import make_task

    return make_task(options.task, cameras=tuple(cameras), image_size=image_size, gap=options.gap or None)


def note(text: str) -> None:
    print(f"firsthand: {text}", file=sys.stderr, flush=True)


def bar(unit: str, total: int | None = None) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A progress bar on stderr, as a wrapper of what is gone through."""
    from tqdm import tqdm

    return lambda items: tqdm(items, total=total, unit=f" {unit}", file=sys.stderr)


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    try:
        size = int(height), int(width or height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected HEIGHTxWIDTH, for example 84x84") from None
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected sides of at least 1")
    return size


def quality_range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        ends = float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LOW:HIGH or one number") from None
    if not 0 <= ends[0] <= ends[1] <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a range inside 0:1")
    return ends


def return_range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LOW:HIGH, for example 0:1") from None
    if not -math.inf < ends[0] < ends[1] < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected two numbers, the smaller one first")
    return ends


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


def seconds(text: str) -> float:
    """A time that something may take."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time above 0 in seconds")
    return value


def seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a seed, a whole number from 0 to 2^32 - 1")
    return int(text)


def rulings_of(episodes: Iterable[Any]) -> dict[str, int] | None:
    """What the feasibility filter decided in all of these; None where there was none."""
    found = sum((Counter(episode.rulings) for episode in episodes), Counter())
    return {ruling: found[ruling] for ruling in RULINGS} if found else None


def ruled(counts: dict[str, int] | None) -> str:
    if counts is None:
        return ""
    own, replaced, stopped = (counts[ruling] for ruling in RULINGS)
    return f"; the filter let {own} actions pass, replaced {replaced} and stopped at {stopped}"


def rate_of(successes: Iterable[bool | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [success for success in successes if success is not None]
    return sum(known) / len(known) if known else None
