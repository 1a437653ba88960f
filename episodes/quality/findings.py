"""What a look at a store can find, and which episodes it makes suspicious."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

KINDS = {
    "clock": "the clock was set",
    "gap": "frames are missing",
    "repeated": "stamps are repeated",
    "order": "actions are stamped out of turn",
    "rate": "another rate than the contract's",
    "frozen state": "a state entry stood still while the rest moved",
    "frozen camera": "a picture stood still while the robot moved",
    "blank camera": "a picture shows nothing",
    "swapped camera": "a camera shows what another one should",
    "other view": "a camera shows something else than in the other episodes",
    "jump": "the state jumps",
    "outside limits": "actions outside of the contract's limits",
    "clipped": "actions were cut off",
    "duplicate": "an episode is there twice",
}
"""Every fault that is looked for, in words. Each belongs to one episode."""

STAMP_KINDS = ("clock", "gap", "repeated", "order", "rate")
"""Faults that only stamps show."""
CAMERA_KINDS = ("frozen camera", "blank camera", "swapped camera", "other view")
"""Faults that only pictures show."""

NOTES = {
    "even stamps": "stamps were counted, not measured",
    "no stamps": "there are no stamps",
    "jitter": "steps are of uneven length",
    "saturated": "actions are often at a limit",
    "constant": "state entries that never change",
    "turns over": "an angle jumps by a whole turn",
    "changes sign": "numbers change sign together, as a quaternion does",
}
"""What is worth knowing of a store and is no fault of any one episode."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    kind: str
    """A key of `KINDS` or `NOTES`."""
    words: str
    """What was found, with numbers."""
    episode: int | None = None
    """None for what concerns the store."""
    where: str = ""
    """The entry or camera."""

    def document(self) -> dict[str, Any]:
        return asdict(self)


def by_episode(findings: Iterable[Finding]) -> dict[int, list[Finding]]:
    """The faults of every episode that has any, the most suspicious episode first: by kinds of fault, then faults."""
    found: dict[int, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.episode is not None:
            found[finding.episode].append(finding)
    order = sorted(found, key=lambda e: (-len({f.kind for f in found[e]}), -len(found[e]), e))
    return {episode: found[episode] for episode in order}


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
