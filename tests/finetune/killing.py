"""Runs that die in the middle: what goes on from there has to come out as if nothing had happened."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Killed(Exception):
    pass


def until(count: int) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A progress wrapper that dies after so many updates, episodes or rounds."""

    def progress(items: Iterable[Any]) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == count:
                raise Killed
            yield item

    return progress
