"""Guardians of small arms, for tests."""

from typing import Any

from robot.guardian import Verdict
from tests.robot.guarding import Bench, command, contract_of, entry

NONE, PASSED, CLAMPED, HELD, STOPPED = Verdict
FORCE = {"topic": "wrench", "limit": 20.0, "max_age": 0.1}
DEAD_MAN = {"topic": "joy", "path": "buttons[4]", "max_age": 0.3}


def joint(**more: Any) -> dict[str, Any]:
    return entry(**({"measured": "q", "velocity": 1.0, "acceleration": 5.0} | more))


def arm(**more: Any) -> Bench:
    """One joint in [-1, 1], 1 rad/s and 5 rad/s^2 at most, at 10 Hz."""
    safety = {key: more.pop(key) for key in list(more) if key not in ("lock_step", "state", "hold")}
    options = {"hold": more.pop("hold")} if "hold" in more else {}
    state = more.pop("state", ("q",))
    return Bench(contract_of(command("position", joint(), **options), state=state, **safety), **more)


def moving(bench: Bench) -> Bench:
    """Enabled, and after two steps at 0.5 rad/s: at 0.05 and 0.1."""
    bench.enable()
    assert [bench.ask(0.05).verdict, bench.ask(0.1).verdict] == [PASSED, PASSED]
    bench.values["q"] = 0.1
    return bench


def twist(**more: Any) -> Bench:
    """One velocity in [-1, 1] that moves q, which has to stay in [-1, 1]."""
    limits = {"measured": "q", "position": (-1.0, 1.0), "acceleration": 5.0}
    return Bench(contract_of(command("velocity", entry(**(limits | more.pop("limits", {})))), **more))
