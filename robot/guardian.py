"""The guardian: has the last word on every command, and leaves a robot that holds still when anything is lost.

Pure: it has no clock and no thread. Whoever feeds it gives two times with every call: `now`, ROS time [ns], by which
the ages of messages are judged (simulated where the robot is), and `steady`, monotonic time [ns], by which liveness is.
"""

import math
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from episodes.errors import InputError
from robot.commanding import Commanding
from robot.contract import RobotContract
from robot.intervals import Reading, limits_of
from robot.reports import ActorStep
from robot.step_order import StepOrder
from robot.surroundings import Lookout, Surroundings

CLOCK_TOLERANCE = 1_000_000
"""By so much may `now` go back [ns]; more, and somebody set the clock."""
NO_ACTOR = "no step of an actor was heard"
"""Why it cannot be enabled before there is one."""
LOCK_STEP_SILENCE = 5_000_000_000
"""Shortest silence that is one in lock-step [ns]: simulated time stands still while somebody computes."""


class Verdict(IntEnum):
    """What became of a step; episodes store it."""

    NONE = 0
    """Nothing was sent: motion is not enabled."""
    PASSED = 1
    """What was proposed, to the last bit."""
    CLAMPED = 2
    """The nearest admissible command."""
    HELD = 3
    """Holding still for now."""
    STOPPED = 4
    """Holding still until somebody rearms and enables."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What goes out."""

    action: np.ndarray
    """Shape (A,), float64, in the action's units; NaN where nothing is known of an entry."""
    commands: np.ndarray
    """Shape (A,), float64: action times scale. Nothing is published on a topic that has a NaN."""
    verdict: Verdict
    reason: str = ""
    dt: float = 0.0
    """Time that its limits were counted from [s]."""


@dataclass(slots=True)
class _Hold:
    """A time in which the robot is brought to rest and kept there."""

    reason: str
    targets: list[float | None] | None = None
    """Where positions are to be held; None until something has been measured."""
    resting: int = 0
    """Commands that were sent at rest."""


class Guardian:
    """Checks steps against a contract, and brakes where one cannot be followed or none comes.

    The time since the last command, dt, is what all limits count from. It is never taken for longer than one and a
    half periods: a pause must not allow a leap, as the robot has long come to rest where it was. Nor is it taken for a
    period where less has passed: steps that come in a burst must not double the rate. In lock-step it is the difference
    of ticks, and one period after a rest, as simulated time only goes on with a command; braking in silence goes by
    steady time.

    At rest nothing is published between episodes or after a stop, so that who brings the robot back does not fight the
    guardian; it goes on from where the robot is measured then.

    A position that is not measured (a gripper's) is not known before it is first commanded: it is NaN until then, and
    then starts anywhere between its low and high.
    """

    def __init__(self, contract: RobotContract, *, lock_step: bool = False):
        self.stopped: str | None = None
        """Why it was stopped, first; None while it is not."""
        self.enabled = False
        self.counts: Counter[Verdict] = Counter()
        """Of steps."""
        safety = contract.safety
        self._lock_step = lock_step
        self._period = contract.period
        self._watchdog = safety.watchdog
        silence = 2 * contract.period if safety.silence is None else round(safety.silence * 1e9)
        self._silence = max(silence, LOCK_STEP_SILENCE) if lock_step else silence
        # Longest time until a command is replaced or `watch` looks again at where it leads [s].
        self._horizon = contract.period / 1e9 + max(contract.period / 2e9, safety.watchdog)
        limits = limits_of(contract)
        self._commanding = Commanding(limits)
        self._lookout = Lookout(contract, limits)
        self._order = StepOrder([entry.name for entry in limits], contract.period, silence)
        self._hold: _Hold | None = None
        self._quiet = False
        """Whether nothing is published: between episodes the robot may be moved by others, to reset it."""
        self._began = False
        self._decided = 0
        self._tick = 0
        self._heard: int | None = None
        """When a step came last."""
        self._newest: dict[str, int] = {}

    def enable(self, around: Surroundings, now: int, steady: int) -> Decision:
        """Allow motion, from where the robot is measured. The first command holds it there.

        Raises:
            InputError: with the reason why it is refused.
        """
        if self.stopped is not None:
            raise InputError(f"not enabled: stopped, {self.stopped}; rearm it first")
        if self.enabled:
            raise InputError("not enabled: it is already; disable it first to begin anew")
        if not self._resting:
            raise InputError("not enabled: it is still braking; try again when it stands still")
        reason = self._lookout.danger(around, now) or self._lookout.released(around, now) or self._absence(steady)
        if reason:
            raise InputError(f"not enabled: {reason}")
        if reason := self._lookout.outside(around) or self._lookout.unfit(around):
            raise InputError(f"not enabled: {reason}; move it inside by hand or by the robot's own means")
        hold = self._hold_here(around, now, "enabled, and no step yet")
        hold.resting = 1
        self.enabled = self._began = True
        self._order.clear()
        self._newest = {}
        self._clock_fault("watch", now)
        self._heard = self._decided = steady
        return self._decision(Verdict.HELD, hold.reason)

    def disable(self) -> None:
        """Forbid motion; what moves brakes, by what `watch` and `step` return."""
        if self.enabled:
            self.enabled = False
            self._pause("disabled")

    def stop(self, reason: str) -> None:
        """Forbid motion until somebody rearms; what moves brakes, by what `watch` and `step` return."""
        if self.stopped is None:
            self.stopped = reason
        self.enabled = False
        if self._began:
            self._pause(reason)

    def rearm(self, around: Surroundings, now: int, steady: int) -> None:
        """Forget a stop whose cause is gone. Motion has to be enabled again.

        Raises:
            InputError: where nothing was stopped, or there still is a reason to.
        """
        if self.stopped is None:
            raise InputError("not rearmed: it is not stopped")
        if reason := self._lookout.danger(around, now) or self._lookout.outside(around):
            raise InputError(f"not rearmed: {reason}")
        self.stopped = None

    def step(self, step: ActorStep, around: Surroundings, now: int, steady: int) -> Decision | None:
        """Answer a step of the actor; None where nothing is to be published, as motion is not enabled."""
        self._notice_pause(steady)
        decision, dt = None, self._since_last(step, steady)
        if self.enabled:
            fault = self._clock_fault("step", now) or self._order.fault(step, now) or self._silence_fault(steady)
            free = self._may_move(around, now, fault)
            if self.enabled and self._quiet and (step.episode or step.action is not None):
                self._resume(around, now)
            free = free and self.enabled
            if free and step.action is not None:
                decision = self._followed(step.action, around, now, dt)
            elif free:
                self._pause("the actor wants to hold still")
        decision = decision or self._held(around, now, dt, step)
        if decision is not None and not np.isnan(decision.commands).all():
            self._decided = steady
        self._tick, self._heard = step.tick, steady
        self.counts[Verdict.NONE if decision is None else decision.verdict] += 1
        return decision

    def watch(self, around: Surroundings, now: int, steady: int) -> Decision | None:
        """Look for silence and danger, and brake; to be called every `safety.watchdog`. None: nothing to publish."""
        self._notice_pause(steady)
        if self.enabled:
            fault = self._clock_fault("watch", now) or self._silence_fault(steady)
            moving = self._may_move(around, now, fault) and self._hold is None
            if moving and not self._lock_step:
                # Its successor is late, and may never come.
                overrun = self._commanding.overrun(self._readings(around, now), self._watchdog)
                if overrun:
                    self._pause(f"{overrun}, and no new step")
        # A hold brakes at this pace, which may be slower than the steps'.
        longest = 1.5 * max(self._period / 1e9, self._watchdog)
        decision = self._held(around, now, min(max(steady - self._decided, 0) / 1e9, longest), None)
        if decision is not None:
            self._decided = steady
        return decision

    @property
    def _resting(self) -> bool:
        """Whether nothing moves by a command."""
        if self._hold is None:
            return not self._began
        return self._commanding.at_rest(self._hold.targets or [None] * len(self._commanding.limits))

    def _may_move(self, around: Surroundings, now: int, fault: str) -> bool:
        """Stop or pause where there is a reason to; whether there was none."""
        fault = fault or self._lookout.danger(around, now)
        released = "" if fault else self._lookout.released(around, now)
        fault = fault or ("" if released else self._lookout.outside(around))
        if fault:
            self.stop(fault)
        elif released:
            self._pause(released)
        return not fault and not released

    def _clock_fault(self, caller: str, now: int) -> str:
        # In lock-step a step is judged at its own tick, which the clock that `watch` is told may not have reached yet.
        key = caller if self._lock_step else ""
        newest = self._newest.get(key, now)
        self._newest[key] = max(newest, now)
        return f"the clock went back by {(newest - now) / 1e6:.0f} ms" if now < newest - CLOCK_TOLERANCE else ""

    def _silence_fault(self, steady: int) -> str:
        # Between episodes a simulation that waits gives an actor nothing to answer.
        return "" if self._lock_step and self._resting else self._absence(steady)

    def _absence(self, steady: int) -> str:
        if self._heard is None:
            return NO_ACTOR
        silence = 0 if self._lock_step and not self.enabled else steady - self._heard
        return f"no step of the actor for {silence / 1e6:.0f} ms" if silence > self._silence else ""

    def _notice_pause(self, steady: int) -> None:
        """A position that was sent more than a step ago has been reached: it stands, and need not be braked."""
        if not self._lock_step and steady - self._decided > 1.5 * self._period:
            self._commanding.stand()

    def _since_last(self, step: ActorStep, steady: int) -> float:
        """What counts of the time between two commands [s]."""
        passed = steady - self._decided
        if self._lock_step:
            passed = self._period if self._resting else step.tick - self._tick
        return min(max(passed, 0), 1.5 * self._period) / 1e9

    def _pause(self, reason: str) -> None:
        """Hold still from now on."""
        if self._hold is None:
            self._hold = _Hold(reason)
        self._hold.reason = reason

    def _resume(self, around: Surroundings, now: int) -> None:
        """Go on after a time in which others may have moved the robot: from where it is now, and not back to before."""
        if reason := self._lookout.unfit(around):
            self.stop(reason)
            return
        self._hold_here(around, now, "" if self._hold is None else self._hold.reason)

    def _hold_here(self, around: Surroundings, now: int, reason: str) -> _Hold:
        """Hold the robot where it is, whatever was sent before."""
        self._commanding.begin(self._lookout.readings(around, now))
        self._hold = _Hold(reason, self._commanding.targets(self._readings(around, now)))
        self._quiet = False
        return self._hold

    def _followed(self, proposal: tuple[float, ...], around: Surroundings, now: int, dt: float) -> Decision | None:
        """The admissible action that is nearest to a proposal; None, and stopped, where there is none."""
        horizon = max(dt, self._period / 1e9) if self._lock_step else self._horizon
        spans = self._commanding.admissible(self._readings(around, now), dt, horizon)
        if reason := self._commanding.contradiction(spans):
            self.stop(reason)
            return None
        bounds = self._commanding.follow(proposal, spans, dt)
        self._hold = None
        return self._decision(Verdict.CLAMPED if bounds else Verdict.PASSED, bounds, dt)

    def _held(self, around: Surroundings, now: int, dt: float, step: ActorStep | None) -> Decision | None:
        """The next command of a hold; None where there is none, or it is at rest and nobody asked."""
        hold = self._hold
        if hold is None:
            return None
        verdict, reason = (Verdict.HELD, hold.reason) if self.stopped is None else (Verdict.STOPPED, self.stopped)
        if hold.targets is None:
            hold.targets = self._commanding.targets(self._readings(around, now))
        if self._lock_step and self.enabled and step is not None and not step.episode:
            # Between episodes simulated time stands still. What is sent then would be taken for the next one's answer.
            hold = self._hold_here(around, now, reason)
            hold.resting = 1
        # The command at rest is repeated once, as one may be lost; in lock-step none is, and each lets time go on.
        if self._resting and hold.resting > (0 if self._lock_step else 1):
            stopped = self.stopped is not None
            if step is None or not (self.enabled or stopped):
                return None
            if stopped or not step.episode:
                self._quiet = True
                return self._decision(verdict, reason, publish=False)
        assert hold.targets is not None
        self._commanding.brake(hold.targets, dt)
        hold.resting += self._resting
        return self._decision(verdict, reason, dt)

    def _readings(self, around: Surroundings, now: int) -> list[Reading | None]:
        return self._lookout.readings(around, now, self._commanding.last)

    def _decision(self, verdict: Verdict, reason: str, dt: float = 0.0, *, publish: bool = True) -> Decision:
        action = np.array([last.action for last in self._commanding.last], np.float64)
        commands = np.array([last.command if publish else math.nan for last in self._commanding.last], np.float64)
        return Decision(action, commands, verdict, reason, dt)
