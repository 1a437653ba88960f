"""The error of a user's input, and the nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """Something that was given cannot be used.

    The message is one line: what is wrong, where, and what would be right. The command line prints it and exits with 2.
    """


def unknown(kind: str, name: str, choices: Iterable[str], where: str = "") -> InputError:
    """An error for a name that is not among the choices, with the nearest valid one."""
    known = sorted(choices)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    place = f" in {where}" if where else ""
    return InputError(f"unknown {kind} {name!r}{place}; {hint}known: {', '.join(known) or 'none'}")
