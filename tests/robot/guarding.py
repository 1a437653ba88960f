"""A guardian on the bench: contracts in a line, time that a test moves on, and what all decisions must be true of."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot.contract import RobotContract, state_entries
from robot.contract_file import robot_contract_from
from robot.frames import Frame
from robot.guardian import Decision, Guardian, Surroundings, Verdict
from robot.intervals import Limits, limits_of
from robot.reports import ActorStep

START = 1_000_000_000_000
"""[ns]"""


def entry(name: str = "x", low: float = -1.0, high: float = 1.0, **more: Any) -> dict[str, Any]:
    """One number of the action, as YAML has it."""
    return {"name": name, "low": low, "high": high, **more}


def command(kind: str, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A command topic, as YAML has it."""
    topic = more.pop("topic", f"{kind}_{entries[0]['name']}")
    silence = {"on_silence": "stops", "silence": 0.5} if kind != "position" else {"on_silence": "holds_position"}
    return {
        "topic": topic,
        "type": "std_msgs/msg/Float64MultiArray",
        "kind": kind,
        "fields": [{"path": f"data[{index}]", **one} for index, one in enumerate(entries)],
        **silence,
        **more,
    }


def contract_of(
    *commands: dict[str, Any],
    state: tuple[str, ...] = ("q",),
    periodic: tuple[str, ...] = (),
    rate: float = 10.0,
    max_age: float = 0.15,
    **safety: Any,
) -> RobotContract:
    """A contract whose state entries come on a topic each: `about/<name>`."""
    observations = [
        {
            "topic": f"about/{name}",
            "type": "std_msgs/msg/Float64",
            "rate": rate,
            "max_age": max_age,
            "stamp": "publish",
            "fields": [{"path": "data", "name": name, "periodic": name in periodic}],
        }
        for name in state
    ]
    mapping = {"version": 1, "name": "bench", "rate": rate, "observations": observations, "commands": list(commands)}
    return robot_contract_from(mapping | {"safety": safety}, "bench")


def limits_in(kind: str, held: str | None = None, **fields: Any) -> Limits:
    """The limits of a single entry."""
    hold = {} if held is None else {"hold": held}
    return limits_of(contract_of(command(kind, entry(**fields), **hold)))[0]


@dataclass
class Bench:
    """A guardian, what it sees, and a clock."""

    contract: RobotContract
    lock_step: bool = False
    values: dict[str, float] = field(default_factory=dict)
    """What is measured; 0 where nothing else is said."""
    ages: dict[str, float] = field(default_factory=dict)
    """Of topics, each named by its first entry [s]."""
    missing: set[str] = field(default_factory=set)
    """Topics, each named by its first entry."""
    ahead: dict[str, float] = field(default_factory=dict)
    """Of the missing ones, how far ahead of now all is that they said, each by its topic [s]."""
    around: dict[str, Any] = field(default_factory=dict)
    """Of the surroundings, what is not as it should be."""
    now: int = START
    steady: int = 7
    """Another origin than `now`'s: they must not be mixed up."""
    tick: int = START

    def __post_init__(self) -> None:
        self.guardian = Guardian(self.contract, lock_step=self.lock_step)
        self.sources = self.contract.observations
        self.names = [name for source in self.sources for name, _, _ in state_entries(source)]

    @classmethod
    def of(cls, contract: RobotContract, *, lock_step: bool = False, **values: float) -> "Bench":
        """Of any contract."""
        return cls(contract, lock_step, values)

    def pass_time(self, seconds: float) -> None:
        passed = round(seconds * 1e9)
        self.now += passed
        self.steady += passed

    def surroundings(self) -> Surroundings:
        state = np.array([self.values.get(name, 0.0) for name in self.names], np.float32)
        first = [state_entries(source)[0][0] for source in self.sources]
        stamps = tuple(self.now - round(1e9 * self.ages.get(name, 0.0)) for name in first)
        missing = tuple(s.topic for s, name in zip(self.sources, first, strict=True) if name in self.missing)
        old = zip(self.sources, stamps, strict=True)
        stale = tuple(source.topic for source, stamp in old if self.now - stamp > 1e9 * source.max_age)
        ahead = {topic: round(1e9 * seconds) for topic, seconds in self.ahead.items()}
        frame = Frame(self.now, state, {}, stamps, missing, stale, ahead)
        usual = {"force": 0.0, "force_stamp": self.now, "dead_man": True, "dead_man_stamp": self.now}
        usual |= {"stop_stamp": self.now}
        return Surroundings(frame, **(usual | self.around))

    def enable(self) -> Decision:
        if not self.guardian.enabled:
            # An actor is there, and waits.
            self.give(ActorStep(self.now, "", (), None))
        return self.guardian.enable(self.surroundings(), self.now, self.steady)

    def rearm(self) -> None:
        self.guardian.rearm(self.surroundings(), self.now, self.steady)

    def next(self, *action: float | None, after: float = 0.1, episode: str = "one") -> ActorStep:
        """The step that an actor takes when some time has passed; `None` wants to hold still."""
        self.pass_time(after)
        self.tick = self.now
        return ActorStep(self.now, episode, (), None if action == (None,) else action)  # type: ignore[arg-type]

    def give(self, step: ActorStep) -> Decision | None:
        return self.guardian.step(step, self.surroundings(), self.now, self.steady)

    def ask(self, *action: float | None, after: float = 0.1, episode: str = "one") -> Decision:
        """What the guardian makes of a step."""
        decision = self.give(self.next(*action, after=after, episode=episode))
        assert decision is not None
        return decision

    def watch(self, after: float = 0.05) -> Decision | None:
        self.pass_time(after)
        return self.guardian.watch(self.surroundings(), self.now, self.steady)

    def come_to_rest(self, after: float = 0.05) -> list[Decision]:
        """Look on until nothing is sent any more."""
        sent = []
        while (decision := self.watch(after)) is not None:
            sent.append(decision)
            assert len(sent) < 10_000, "it never comes to rest"
        return sent


@dataclass
class Told:
    """What a judge knows of one entry."""

    command: float = math.nan
    rate: float = 0.0
    coarse: float = 0.0
    """How far the rate may be off, as commands are rounded."""


class Judge:
    """Reckons anew, from what was published alone, whether it was inside all limits.

    In lock-step, steps have to come a period apart.
    """

    def __init__(self, bench: Bench):
        self.bench = bench
        self.limits = limits_of(bench.contract)
        self.measured = [item.measured for _, item in bench.contract.action_fields]
        self.told = [Told() for _ in self.limits]
        self.steady = 0
        self.quiet = False

    def saw_enable(self, decision: Decision) -> None:
        """Motion begins: every position that is measured is sent where it is, and everything else stands still."""
        assert decision.verdict is Verdict.HELD
        for index, (limits, told) in enumerate(zip(self.limits, self.told, strict=True)):
            sent = decision.commands[index]
            if limits.kind == "position" and self.measured[index] is not None:
                assert math.isclose(sent, self._place(index), rel_tol=1e-12, abs_tol=1e-300)
            elif limits.held == "zero" or (limits.kind == "effort" and math.isnan(told.command)):
                assert sent == 0
            else:
                assert sent == told.command or (math.isnan(sent) and math.isnan(told.command))
            self.told[index] = Told(sent)
        self._passed(decision)
        self.quiet = False

    def saw(self, decision: Decision, step: ActorStep | None) -> None:
        """Any other decision; `step` is what it answers."""
        assert np.isnan(decision.commands).all() or self.steady, "nothing moves before it was enabled"
        moved = decision.verdict in (Verdict.PASSED, Verdict.CLAMPED)
        if self.quiet and (moved or not np.isnan(decision.commands).all()):
            self._resume()
        dt = self._dt(step)
        if not self.bench.lock_step and self.bench.steady - self.steady > 1.5 * self.bench.contract.period:
            # What was sent so long ago has been reached, and stands.
            for told in self.told:
                told.rate = 0.0
        for index, (limits, told) in enumerate(zip(self.limits, self.told, strict=True)):
            sent, action = decision.commands[index], decision.action[index]
            if math.isnan(sent):
                assert not moved
                continue
            assert limits.low <= action <= limits.high
            assert limits.low <= sent / limits.scale <= limits.high
            assert limits.low * limits.scale <= sent <= limits.high * limits.scale
            assert math.isclose(sent, action * limits.scale, rel_tol=4e-16, abs_tol=1e-300)
            if not math.isnan(told.command):
                self._check_change(limits, told, sent, dt)
            if moved:
                self._check_place(index, limits, told, sent)
            self.told[index] = self._after(limits, told, sent, dt)
        if step is not None and decision.verdict is Verdict.PASSED:
            assert step.action is not None
            assert decision.action.tobytes() == np.array(step.action, np.float64).tobytes()
            assert decision.reason == ""
        else:
            assert decision.reason
        self._passed(decision)

    def speeds(self) -> list[float]:
        """How fast everything goes by what it was told."""
        return [
            0.0
            if math.isnan(told.command) or (limits.kind == "effort" and limits.held == "last")
            else abs(told.rate if limits.kind == "position" else told.command)
            for limits, told in zip(self.limits, self.told, strict=True)
        ]

    def _place(self, index: int) -> float:
        """Where an entry is, moved inside its limits by the rounding of a float32 at most."""
        name = self.measured[index]
        assert name is not None
        value = float(np.float32(self.bench.values.get(name, 0.0)))
        return min(max(value, self.limits[index].floor), self.limits[index].ceiling)

    def _resume(self) -> None:
        for index, limits in enumerate(self.limits):
            if limits.kind == "position" and self.measured[index] is not None:
                self.told[index] = Told(self._place(index))
        self.quiet = False

    def _dt(self, step: ActorStep | None) -> float:
        period = self.bench.contract.period
        passed = self.bench.steady - self.steady
        if self.bench.lock_step and step is not None:
            passed = period
        watchdog = self.bench.contract.safety.watchdog * 1e9
        longest = 1.5 * (period if step is not None else max(period, watchdog))
        return min(max(passed, 0), longest) / 1e9

    def _check_change(self, limits: Limits, told: Told, sent: float, dt: float) -> None:
        coarse = _coarse(told.command, sent)
        change = sent - told.command
        if limits.kind != "position":
            if limits.acceleration is not None:
                assert abs(change) <= limits.acceleration * dt * (1 + 1e-9) + coarse
            return
        if limits.velocity is not None:
            assert abs(change) <= limits.velocity * dt * (1 + 1e-9) + coarse
        if limits.acceleration is not None:
            # Compared as distances, where a rounded command is off by the same whatever dt is.
            expected, freedom = told.rate * dt, limits.acceleration * dt * dt
            assert abs(change - expected) <= freedom * (1 + 1e-9) + coarse + told.coarse * dt

    def _after(self, limits: Limits, told: Told, sent: float, dt: float) -> Told:
        if limits.kind != "position" or limits.acceleration is None or math.isnan(told.command):
            return Told(sent)
        if dt == 0:
            return Told(sent, told.rate, told.coarse)
        if sent == told.command:
            return Told(sent)
        rate, coarse = (sent - told.command) / dt, _coarse(told.command, sent) / dt
        # A rate that can only be told coarsely is also known from the one before.
        most = limits.acceleration * dt + told.coarse
        rate = min(max(rate, told.rate - most), told.rate + most)
        coarse = min(coarse, 2 * most)
        slack = 1e-9 * (limits.ceiling - limits.floor) + abs(rate) * coarse / limits.acceleration + _coarse(sent)
        room = limits.ceiling - sent if rate > 0 else sent - limits.floor
        assert rate**2 / (2 * limits.acceleration) <= room + slack, "it cannot brake any more"
        return Told(sent, rate, coarse)

    def _check_place(self, index: int, limits: Limits, told: Told, sent: float) -> None:
        name = self.measured[index]
        if name is None:
            return
        value = float(np.float32(self.bench.values.get(name, 0.0)))
        if limits.leash is not None:
            assert abs(sent - value) <= limits.leash * (1 + 1e-9) + _coarse(sent, value)
        if limits.position is not None and limits.kind == "velocity":
            age = self.bench.ages.get(name, 0.0)
            brake = 0.0 if limits.acceleration is None else sent**2 / (2 * limits.acceleration)
            on = abs(sent) * self.bench.contract.period / 1e9 + brake
            low, high = limits.position
            # A velocity that is less than the rounding of the one before leads nowhere.
            nothing = _coarse(0.0 if math.isnan(told.command) else told.command)
            if sent > nothing:
                assert value + max(told.command, 0.0) * age + on <= high + 1e-9
            if sent < -nothing:
                assert value + min(told.command, 0.0) * age - on >= low - 1e-9

    def _passed(self, decision: Decision) -> None:
        if np.isnan(decision.commands).all() and decision.verdict in (Verdict.HELD, Verdict.STOPPED):
            self.quiet = bool(self.steady)
            self.steady = self.steady or self.bench.steady
            if self.bench.lock_step:
                # Simulated time stands still between episodes, and each begins at rest.
                still = zip(self.limits, self.told, strict=True)
                self.told = [Told(0.0 if limits.held == "zero" else told.command) for limits, told in still]
        else:
            self.steady = self.bench.steady


def _coarse(*values: float) -> float:
    return 16 * math.ulp(max(map(abs, values)))
