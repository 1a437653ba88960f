"""How a robot's numbers are laid out on the page: which share a chart, and between which limits they have to stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robot.contract import Interval, RobotContract, state_entries

MOST_CURVES = 8
"""Of one chart: more cannot be told apart."""
LEAST_SILENCE = 1.0
"""Shortest time without a message after which something is shown as silent [s]: a browser asks now and then only."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A number of the state, and where it comes from."""

    name: str
    unit: str
    source: int
    """Number of the observation ..."""
    column: int
    """... and the place in it."""


def layout(contract: RobotContract) -> dict[str, Any]:
    """What the page has to know of a robot before it is told anything."""
    limits = state_limits(contract)
    entries = [
        Entry(name, unit, source, column)
        for source, observation in enumerate(contract.observations)
        for column, (name, unit, _) in enumerate(state_entries(observation))
    ]
    charts = [
        {
            "title": title,
            "unit": found[0].unit,
            "curves": [
                {"name": e.name, "input": e.source, "column": e.column, "limits": limits.get(e.name)} for e in found
            ],
        }
        for title, found in grouped(entries)
    ]
    actions = [{"name": f.name, "unit": f.unit, "limits": (f.low, f.high)} for _, f in contract.action_fields]
    return {
        "name": contract.name,
        "task": contract.task,
        "rate": contract.rate,
        "state": charts,
        "action": actions,
        "inputs": [{"name": o.topic, "silence": silence(o.max_age)} for o in contract.observations],
        "cameras": [{"name": c.name, "topic": c.topic, "silence": silence(c.max_age)} for c in contract.cameras],
    }


def silence(max_age: float) -> float:
    """From which age on something is shown as silent [s]."""
    return max(LEAST_SILENCE, 2 * max_age)


def state_limits(contract: RobotContract) -> dict[str, Interval]:
    """Where entries of the state have to stay, by the workspace and by the commands that move them."""
    found: dict[str, Interval] = {}

    def narrow(name: str, low: float, high: float) -> None:
        before = found.get(name, (low, high))
        found[name] = max(low, before[0]), min(high, before[1])

    for name, interval in contract.safety.workspace.items():
        narrow(name, *interval)
    for command, field in contract.action_fields:
        if field.measured is None:
            continue
        if field.position is not None:
            narrow(field.measured, *field.position)
        elif command.kind == "position":
            narrow(field.measured, field.low * field.scale, field.high * field.scale)
    return found


def grouped(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Entries that share a chart, with its title: those of one unit whose names begin alike, as `cube_x`, `cube_y` do.

    Those that are alone with their beginning, as `elbow_velocity` may be, share one with all others of their unit.
    """
    alike: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        alike.setdefault((entry.name.rpartition("_")[0] or entry.name, entry.unit), []).append(entry)
    groups: dict[tuple[str, str], list[Entry]] = {}
    for (beginning, unit), found in alike.items():
        groups.setdefault((beginning if len(found) > 1 else "", unit), []).extend(found)
    charts = []
    for (beginning, _), found in groups.items():
        parts = [found[place : place + MOST_CURVES] for place in range(0, len(found), MOST_CURVES)]
        for number, part in enumerate(parts, 1):
            title = beginning or _shared(part)
            charts.append((title if len(parts) == 1 else f"{title} ({number} of {len(parts)})", part))
    return charts


def _shared(entries: Sequence[Entry]) -> str:
    """What names of different beginnings have in common: the ending of `elbow_joint` and `wrist_joint`."""
    endings = {entry.name.rpartition("_")[2] for entry in entries}
    if len(entries) == 1:
        return entries[0].name
    return endings.pop() if len(endings) == 1 else "others"
