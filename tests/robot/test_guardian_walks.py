"""Whatever robot, actor and people do: every command that ever goes out is inside all limits and can be braked from."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from episodes.errors import InputError
from robot.guardian import Decision, Verdict
from robot.intervals import Limits
from robot.reports import ActorStep
from tests.robot.guarding import Bench, Judge, command, contract_of, entry

MOVED = (Verdict.PASSED, Verdict.CLAMPED)
EVENTS = (
    *("step",) * 12,
    *("creep",) * 6,
    *("burst",) * 2,
    *("watch",) * 3,
    *("recover",) * 3,
    *("hold", "idle", "follow", "lag", "push", "nonsense", "late", "age", "stale", "missing", "fresh"),
    *("release", "press", "force", "foreign", "stop", "stop and rest", "rearm", "enable", "disable", "clock"),
)


@st.composite
def commands(draw: st.DrawFn, index: int) -> dict[str, Any]:
    """A command of any kind with any limits, wide, tight or contradictory."""
    kind = draw(st.sampled_from(("position", "position", "velocity", "effort")))
    scale = draw(st.sampled_from((1.0, 1.0, 10.0, 0.1, 3.0)))
    half = draw(st.sampled_from((0.01, 0.5, 2.0))) / scale
    middle = half * draw(st.sampled_from((0.0, 0.0, 0.7, -3.0 if kind == "position" else -1.0)))
    fields: dict[str, Any] = {"low": middle - half, "high": middle + half, "scale": scale}
    if draw(st.booleans()):
        fields["acceleration"] = draw(st.sampled_from((0.3, 5.0, 60.0)))
    if kind == "position":
        if draw(st.booleans()):
            fields["velocity"] = draw(st.sampled_from((0.1, 1.0, 8.0)))
        if draw(st.integers(0, 3)) == 0:
            fields["leash"] = draw(st.sampled_from((0.02, 0.3)))
    elif draw(st.booleans()):
        reach = draw(st.sampled_from((0.02, 1.0)))
        fields["position"] = (-reach, reach)
    if {"acceleration", "velocity", "leash", "position"} & fields.keys() or draw(st.booleans()):
        fields["measured"] = f"q{index}"
    held = {"position": [None, None], "velocity": [None], "effort": [None, "last"]}[kind]
    if kind == "position" and "measured" in fields:
        held = [None, "measured"]
    hold = draw(st.sampled_from(held))
    return command(kind, entry(f"x{index}", **fields), **({} if hold is None else {"hold": hold}))


@st.composite
def benches(draw: st.DrawFn) -> Bench:
    """A robot of one to three numbers."""
    some = [draw(commands(index)) for index in range(draw(st.integers(1, 3)))]
    safety: dict[str, Any] = {"watchdog": draw(st.sampled_from((0.05, 0.004)))}
    if draw(st.booleans()):
        safety["dead_man"] = {"topic": "joy", "path": "buttons[0]", "max_age": 1.0}
    if draw(st.booleans()):
        safety["force"] = {"topic": "wrench", "limit": 10.0, "max_age": 1.0}
    if draw(st.booleans()):
        safety["workspace"] = {"q0": (-1.5, 1.5)}
    rate = draw(st.sampled_from((5.0, 10.0, 100.0)))
    contract = contract_of(*some, state=("q0", "q1", "q2"), rate=rate, max_age=1.5 / rate, **safety)
    return Bench(contract, lock_step=draw(st.booleans()))


numbers = st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=3)
walks = st.lists(st.tuples(st.sampled_from(EVENTS), numbers, st.floats(0, 1)), min_size=1, max_size=60)


@dataclass
class Walk:
    """Carries out events, and looks at everything that comes out."""

    bench: Bench

    def __post_init__(self) -> None:
        self.judge = Judge(self.bench)
        self.guardian = self.bench.guardian
        self.period = self.bench.contract.period / 1e9
        self.dead_man = self.bench.contract.safety.dead_man is not None
        self.moves = 0
        self.was_stopped: str | None = None
        self.recover()

    def carry_out(self, event: str, numbers: list[float], share: float) -> None:
        bench, after = self.bench, self.period * 2 * share
        match event:
            case "step" | "burst" | "late":
                passed = {"step": after, "burst": after / 1000, "late": after + 2 * self.period}[event]
                self.step(tuple(self._anywhere(numbers)), passed)
            case "creep":
                self.step(tuple(self._nearby(numbers)), after)
            case "nonsense":
                values = (math.nan, math.inf, -math.inf, 1e308, *self._anywhere(numbers))
                self.step(tuple(values[round(5 * abs(n)) % len(values)] for n in numbers[: len(self.limits)]), after)
            case "hold" | "idle":
                self.step(None, after, "" if event == "idle" else "one")
            case "watch":
                self.watch(after / 4)
            case "stop and rest":
                self.guardian.stop("drawn")
                self.rest(after / 2)
            case "stop":
                self.guardian.stop("drawn")
            case "disable":
                self.guardian.disable()
            case "enable" | "rearm" | "recover":
                getattr(self, event)()
            case "clock":
                # By too much, now and then. In lock-step it is also what dt is made of.
                bench.now -= 0 if bench.lock_step else round(share * 4e6)
            case _:
                self.change(event, numbers, share)
        self._look()

    def change(self, event: str, numbers: list[float], share: float) -> None:
        """What happens around the robot."""
        bench = self.bench
        match event:
            case "follow" | "lag":
                self._follow(1.0 if event == "follow" else share)
            case "push":
                bench.values |= {f"q{i}": bench.values.get(f"q{i}", 0.0) + number for i, number in enumerate(numbers)}
            case "age":
                bench.ages = {f"q{i}": abs(number) * self.period for i, number in enumerate(numbers)}
            case "stale":
                bench.ages = {f"q{round(2 * share)}": 2 * self.period}
            case "missing":
                bench.missing = {f"q{round(2 * share)}"}
            case "fresh":
                bench.ages, bench.missing, bench.around = {}, set(), {}
            case "release" | "press":
                bench.around["dead_man"] = event == "press"
            case "force":
                bench.around["force"] = math.nan if share > 0.9 else 20 * share
            case "foreign":
                bench.around["foreign"] = ("/somebody",)

    def step(self, action: tuple[float, ...] | None, after: float, episode: str = "one") -> None:
        bench = self.bench
        if bench.lock_step:
            after = self.period
        bench.pass_time(max(after, 1e-9))
        tick = bench.tick + bench.contract.period
        if not -bench.contract.period < bench.now - tick < 2 * bench.contract.period:
            tick = bench.now
        if bench.lock_step:
            tick = bench.now
        bench.tick = tick
        step = ActorStep(tick, episode, (), action)
        decision = bench.give(step)
        if decision is None:
            assert not self.guardian.enabled
            assert max(self.judge.speeds()) < 1e-9
            return
        if decision.verdict in MOVED:
            self._check_may_move(step)
        self._take(decision, step)
        if self.bench.contract.safety.watchdog > 0.01:
            self._follow(0.5)

    def watch(self, after: float) -> Decision | None:
        if self.bench.lock_step:
            # Simulated time stands still.
            self.bench.steady += round(after * 1e9)
            after = 0.0
        decision = self.bench.watch(after)
        if decision is not None:
            assert decision.verdict not in MOVED
            self._take(decision, None)
        return decision

    def rest(self, after: float) -> None:
        """Nothing but braking, and soon nothing at all."""
        speeds, start = self.judge.speeds(), [told.command for told in self.judge.told]
        braked = [
            abs(told.command) + told.rate**2 / (2 * limits.acceleration) if limits.acceleration else 0.0
            for limits, told in zip(self.limits, self.judge.told, strict=True)
        ]
        for _ in range(100_000):
            # Were no time to pass, nothing could be braked.
            if self.watch(max(after, self.period / 50)) is None:
                break
            slower = self.judge.speeds()
            for limits, before, now in zip(self.limits, speeds, slower, strict=True):
                assert limits.held == "measured" or now <= before + 1e-9 * (1 + before)
            speeds = slower
        else:
            pytest.fail("it never comes to rest")
        assert max(speeds) < 1e-9
        for limits, told, before, most in zip(self.limits, self.judge.told, start, braked, strict=True):
            if limits.kind == "position" and limits.held == "last" and not math.isnan(before):
                far = most - abs(before) if limits.acceleration else 0.0
                assert abs(told.command - before) <= far * (1 + 1e-6) + 1e-9

    def enable(self) -> None:
        try:
            decision = self.bench.enable()
        except InputError:
            return
        assert self.guardian.stopped is None
        self.judge.saw_enable(decision)

    def rearm(self) -> None:
        try:
            self.bench.rearm()
        except InputError:
            return
        assert not self.guardian.enabled
        self.was_stopped = None

    def recover(self) -> None:
        """A person makes everything as it should be."""
        if self.guardian.enabled:
            return
        bench = self.bench
        bench.ages, bench.missing, bench.around = {}, set(), {}
        bench.values = {}
        for limits, name in zip(self.limits, self.judge.measured, strict=True):
            if name is not None and limits.kind == "position":
                middle = (limits.floor + limits.ceiling) / 2
                bench.values[name] = middle if abs(middle) < 1.5 else math.copysign(1.5, middle)
        self.rest(0.0)
        self.rearm()
        self.enable()

    @property
    def limits(self) -> list[Limits]:
        return self.judge.limits

    def _anywhere(self, numbers: list[float]) -> list[float]:
        """Inside and outside the limits."""
        return [
            (limits.low + limits.high) / 2 + number * (limits.high - limits.low) / 2
            for limits, number in zip(self.limits, numbers, strict=False)
        ]

    def _nearby(self, numbers: list[float]) -> list[float]:
        """About as far as one may go in a period."""
        found = []
        for limits, told, number in zip(self.limits, self.judge.told, numbers, strict=False):
            here = (limits.floor + limits.ceiling) / 2 if math.isnan(told.command) else told.command
            reach = (limits.velocity or limits.acceleration or 1.0) * self.period
            found.append((here + number * reach) / limits.scale)
        return found

    def _follow(self, share: float) -> None:
        """What is moved goes where it is told, or a part of the way."""
        for limits, told, name in zip(self.limits, self.judge.told, self.judge.measured, strict=True):
            if name is None or math.isnan(told.command) or limits.kind == "effort":
                continue
            here = self.bench.values.get(name, 0.0)
            way = told.command - here if limits.kind == "position" else told.command * self.period
            self.bench.values[name] = here + share * way

    def _take(self, decision: Decision, step: ActorStep | None) -> None:
        if self.was_stopped is not None:
            assert decision.verdict is Verdict.STOPPED
        self.judge.saw(decision, step)
        self.moves += decision.verdict in MOVED

    def _look(self) -> None:
        stopped = self.guardian.stopped
        if stopped is not None:
            assert stopped
            assert not self.guardian.enabled
            assert self.was_stopped in (None, stopped), "the first reason stays"
        elif self.was_stopped is not None:
            pytest.fail("a stop went away by itself")
        self.was_stopped = stopped

    def _check_may_move(self, step: ActorStep) -> None:
        """Reckoned from the bench alone: nothing moves unless everything is as it should be."""
        bench, safety = self.bench, self.bench.contract.safety
        assert step.action is not None
        assert all(map(math.isfinite, step.action))
        needed = {name for name in self.judge.measured if name} | set(safety.workspace)
        assert not needed & bench.missing
        assert all(bench.ages.get(name, 0.0) <= 1.5 * self.period + 1e-9 for name in needed)
        assert not bench.around.get("foreign")
        assert bench.around.get("dead_man", True) or not self.dead_man
        assert safety.force is None or bench.around.get("force", 0.0) <= safety.force.limit
        for name, (low, high) in safety.workspace.items():
            assert low <= np.float32(bench.values.get(name, 0.0)) <= high


@settings(max_examples=500)
@given(benches(), walks)
def test_every_command_is_inside_all_limits(bench: Bench, events: list[tuple[str, list[float], float]]):
    walk = Walk(bench)
    for event, numbers, share in events:
        walk.carry_out(event, numbers, share)
    # Wherever it has got to, it can be braked.
    bench.guardian.stop("the walk is over")
    walk.rest(walk.period * 1.5)


@pytest.mark.parametrize("seed", range(12))
def test_long_walks_move_and_stay_inside_all_limits(seed: int):
    rng = np.random.default_rng(seed)
    arm = contract_of(
        command("position", entry("x0", measured="q0", velocity=1.0, acceleration=4.0), topic="arm"),
        command("velocity", entry("x1", measured="q1", position=(-0.6, 0.6), acceleration=3.0, scale=10 / 3)),
        command("position", entry("x2", low=0.0, high=0.08)),
        state=("q0", "q1", "q2"),
    )
    walk = Walk(Bench(arm, lock_step=seed % 3 == 0))
    for _ in range(1500):
        event = EVENTS[rng.integers(0, len(EVENTS))] if rng.random() < 0.2 else "creep"
        walk.carry_out(event, rng.uniform(-1.5, 1.5, 3).tolist(), float(rng.uniform(0.2, 0.8)))
        walk.recover()

    # Else nothing would have been tested.
    assert walk.moves > 700


@settings(max_examples=150)
@given(
    st.none() | st.sampled_from((0.4, 3.0, 30.0)),
    st.sampled_from((5.0, 10.0, 50.0)),
    st.sampled_from((0.05, 0.01)),
    st.floats(-0.9, 0.9),
    st.integers(0, 2**32),
    st.floats(0, 1),
)
# The watchdog, at whose pace it brakes, is slower than the steps.
@example(acceleration=3.0, rate=50.0, watchdog=0.05, start=0.0, seed=0, stubborn=1.0)
def test_a_velocity_that_is_obeyed_never_leaves_its_position_even_if_the_actor_dies(
    acceleration: float | None, rate: float, watchdog: float, start: float, seed: int, stubborn: float
):
    limits = {"low": -2.0, "high": 2.0, "measured": "q", "position": (-1.0, 1.0), "acceleration": acceleration}
    contract = contract_of(command("velocity", entry(**limits)), rate=rate, max_age=1.0, watchdog=watchdog)
    bench = Bench(contract, values={"q": start})
    rng = np.random.default_rng(seed)
    judge, period = Judge(bench), 1 / rate
    judge.saw_enable(bench.enable())
    place, speed, dies = start, 0.0, int(rng.integers(5, 40))
    steps, next_step, next_watch = 0, period, watchdog
    clock, sent = 0.0, []
    while clock < 60 * period + 5:
        passed = min(next_step, next_watch) - clock
        clock += passed
        place += speed * passed
        bench.values["q"] = place
        # Only float32 comes between.
        assert -1 - 1e-6 <= place <= 1 + 1e-6
        if next_step <= next_watch:
            bench.pass_time(passed)
            bench.tick += bench.contract.period
            wanted = float(np.sign(rng.uniform(-1, 1) + stubborn)) * float(rng.uniform(0.5, 2))
            decision = bench.give(ActorStep(bench.tick, "one", (), (wanted,)))
            # At a jitter of half a period a step is one and a half periods late at most.
            steps += 1
            next_step = period * (steps + 1 + float(rng.uniform(-0.24, 0.24))) if steps < dies else math.inf
            assert decision is not None
            judge.saw(decision, ActorStep(bench.tick, "one", (), (wanted,)))
        else:
            decision = bench.watch(passed)
            next_watch += watchdog
            if decision is not None:
                judge.saw(decision, None)
        if decision is not None and not np.isnan(decision.commands).any():
            speed = float(decision.commands[0])
        sent.append(speed)

    assert bench.guardian.stopped is not None
    assert speed == 0
    assert max(map(abs, sent)) > 0
