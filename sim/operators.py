"""Who acts in a simulated task: at random, or a script that does it as well as it is told to: Lift, putting the lifted
cube back, the point robot."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np

from episodes.contract import Contract
from episodes.episode import Source
from episodes.errors import InputError, unknown
from sim.base import Observation, Reversible, Task
from sim.linear_quadratic import LinearQuadraticTask, ScriptedLinearQuadratic
from sim.point_robot import DISCS, GOAL, MAX_ACCELERATION, MAX_SPEED, RATE, PointRobotTask
from sim.two_qualities import ScriptedTwoQualities, TwoQualitiesTask


class Operator(Protocol):
    """Chooses actions. A policy may also have `policy_hash: int`, and of its last action what it was before limits cut
    anything off, `proposed: np.ndarray`, and the `log_probability: float` of that."""

    source: Source

    def reset(self, seed: int) -> None:
        """Begin an episode; everything random in it follows from the seed."""
        ...

    def act(self, observation: Observation) -> np.ndarray:
        """Shape (A,), float32, in the contract's units."""
        ...


class RandomOperator:
    """Uniform inside the contract's limits."""

    source = Source.SCRIPTED

    def __init__(self, task: Task):
        self._low, self._high = task.contract.action_low, task.contract.action_high
        if not (np.isfinite(self._low).all() and np.isfinite(self._high).all()):
            raise InputError(f"random actions need limits, and the contract of {task.name!r} has entries without")
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 2])

    def act(self, observation: Observation) -> np.ndarray:
        return self._rng.uniform(self._low, self._high).astype(np.float32)


class _Hand(ABC):
    """A script for a hand and a cube: sees only the state, by the contract's names.

    Below a quality of 1 it makes the mistakes of a tired person, and what comes of them is up to the physics. How far
    each goes in an episode is drawn from the episode's seed.
    """

    source = Source.SCRIPTED

    def __init__(self, task: Task, quality: float = 1.0):
        check_quality(quality)
        _need_lift(task.contract, task.name)
        self.quality = float(quality)
        self._low, self._high = task.contract.action_low, task.contract.action_high
        names = task.contract.state_names
        self._eef = [names.index(f"eef_{axis}") for axis in "xyz"]
        self._cube = [names.index(f"cube_{axis}") for axis in "xyz"]
        self._rate = float(task.contract.rate or 20.0)
        self.reset(0)

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Begin an episode; begins with `_begin`."""

    def _begin(self, rng: np.random.Generator, pauses: float) -> float:
        """Draw from this generator, with so many pauses per second at the most; returns how far mistakes go, 0 to 1.25.

        Small mistakes are forgiven by the fingers' width: this curve makes success fall about evenly with quality.
        """
        lapse = 1.25 * (1.0 - self.quality) ** 0.6
        self._rng, self._pause, self._pause_rate = rng, 0, pauses * lapse
        # Standard deviation of the tremor [m]: white noise, of the same density at any rate.
        self._tremor = 0.012 * lapse * np.sqrt(self._rate / 10)
        return lapse

    def _hesitates(self) -> bool:
        """Whether nothing is done in this step."""
        if self._pause == 0 and self._rng.random() < self._pause_rate / self._rate:
            self._pause = int(self._rng.uniform(0.3, 1.0) * self._rate)
        if self._pause == 0:
            return False
        self._pause -= 1
        return True

    def _trembling(self, target: np.ndarray) -> np.ndarray:
        return target + self._rng.normal(0.0, self._tremor, 3)

    def _moved(self, eef: np.ndarray, target: np.ndarray, grip: float) -> np.ndarray:
        """The action that brings the hand from where it is to a target [m], the fingers at -1 (open) to 1 (closed)."""
        action = np.zeros(len(self._low))
        # The controller covers about half of what is asked for in a step, so that asking for double arrives sooner.
        action[:3] = 2.0 * (target - eef)
        action[-1] = grip
        return np.clip(action, self._low, self._high).astype(np.float32)


class ScriptedLift(_Hand):
    """Lifts the cube: over it, down, close, up; again from the start where the cube is lost.

    Its mistakes: it reaches beside the cube, closes too early, hesitates, and trembles.
    """

    OVER = 0.08
    """Height above the cube at which it comes in [m]."""
    REACHED = 0.012
    """Distance from a waypoint that counts as there [m]."""
    CLOSING = 0.5
    """Time that the fingers are given to close [s]."""

    def reset(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 3])
        lapse = self._begin(rng, pauses=0.5)
        # Beside the cube, in a random direction: past about 4 cm the fingers no longer straddle it.
        angle = rng.uniform(0, 2 * np.pi)
        aside = abs(rng.normal(0.0, 0.036 * lapse))
        self._offset = np.array([aside * np.cos(angle), aside * np.sin(angle), 0.0])
        # Closing this far above the cube's middle [m].
        self._early = max(0.0, rng.normal(0.0, 0.035 * lapse))
        self._phase = "over"
        self._closed = 0

    def act(self, observation: Observation) -> np.ndarray:
        state = observation["state"].astype(np.float64)
        eef, cube = state[self._eef], state[self._cube]
        if self._hesitates():
            return self._moved(eef, eef, 1.0 if self._phase in ("close", "up") else -1.0)
        target, grip = self._plan(eef, cube + self._offset)
        return self._moved(eef, self._trembling(target), grip)

    def _plan(self, eef: np.ndarray, cube: np.ndarray) -> tuple[np.ndarray, float]:
        """Where to go, and what the fingers do there: -1 open, 1 closed."""
        aside = float(np.hypot(*(cube - eef)[:2]))
        above = float(eef[2] - cube[2])
        if self._phase == "over" and aside < self.REACHED:
            self._phase = "down"
        elif self._phase == "down" and above < self.REACHED / 2 + self._early:
            self._phase, self._closed = "close", 0
        elif self._phase == "close":
            self._closed += 1
            if self._closed >= self.CLOSING * self._rate:
                self._phase = "up"
        elif self._phase == "up" and above > 0.04 + self._early:
            self._phase = "over"
        if self._phase == "over":
            return cube + np.array([0.0, 0.0, self.OVER]), -1.0
        if self._phase == "down":
            return cube, -1.0
        if self._phase == "close":
            return eef, 1.0
        return eef + np.array([0.0, 0.0, 0.1]), 1.0


class ScriptedPutBack(_Hand):
    """Puts the lifted cube back into the middle of the table: over it, down, open, up; fetches it where it got lost.

    Its mistakes: it puts the cube down beside where it should, lets go too early, hesitates, and trembles.

    Args:
        aside: how far from there it puts the cube on purpose, shape (2,) [m].
    """

    TABLE = 0.8
    """Height of the table top [m]."""
    WITHIN = 0.02
    """How far from the table's middle it puts the cube at most, along each axis [m]."""
    CARRYING = 0.05
    """Height of the cube's centre above the table top on the way [m]."""
    LOST = 0.04
    """Distance of the cube from the grip point from which it is not held any more [m]."""
    OPENING = 0.3
    """Time that the fingers are given to open [s]."""

    def __init__(self, task: Task, quality: float = 1.0, *, aside: np.ndarray | tuple[float, float] = (0.0, 0.0)):
        self._aside = np.asarray(aside, float)
        # What goes wrong with fetching is another's mistake.
        self._fetch = ScriptedLift(task)
        super().__init__(task, quality)

    def reset(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 9])
        self._seed = seed
        lapse = self._begin(rng, pauses=0.8)
        self._offset = self._aside + rng.normal(0.0, 0.02 * lapse, 2)
        # Height above the table from which the cube falls [m].
        self._early = max(0.0, rng.normal(0.0, 0.03 * lapse))
        self._opened = 0
        self._phase = "over"

    def act(self, observation: Observation) -> np.ndarray:
        state = observation["state"].astype(np.float64)
        eef, cube = state[self._eef], state[self._cube]
        if self._hesitates():
            return self._moved(eef, eef, self._grip)
        target = self._plan(eef, cube)
        return self._fetch.act(observation) if target is None else self._moved(eef, self._trembling(target), self._grip)

    @property
    def _grip(self) -> float:
        return -1.0 if self._phase in ("open", "up") else 1.0

    def _plan(self, eef: np.ndarray, cube: np.ndarray) -> np.ndarray | None:
        """Where the hand shall go; None while it fetches the cube."""
        height = cube[2] - self.TABLE
        place = np.clip(cube[:2], -self.WITHIN, self.WITHIN) + self._offset
        held = float(np.linalg.norm(cube - eef)) < self.LOST
        if self._phase == "fetch" and height > self.CARRYING - 0.01:
            self._phase = "over"
        elif self._phase in ("over", "down") and not held:
            self._phase = "up"
        elif self._phase == "over" and float(np.hypot(*(place - cube[:2]))) < ScriptedLift.REACHED:
            self._phase = "down"
        elif self._phase == "down" and height < 0.025 + self._early:
            self._phase, self._opened = "open", 0
        elif self._phase == "open":
            self._opened += 1
            if self._opened >= self.OPENING * self._rate:
                self._phase = "up"
        elif self._phase == "up" and eef[2] - cube[2] > ScriptedLift.OVER:
            # It was not put back, or nobody would ask any more. The next time it takes more care.
            self._phase, self._offset, self._early = "fetch", self._aside, 0.0
            self._fetch.reset(self._seed)
        if self._phase == "fetch":
            return None
        if self._phase == "over":
            return np.array([*(eef[:2] + place - cube[:2]), eef[2] + self.CARRYING - height])
        if self._phase == "down":
            return eef + np.array([0.0, 0.0, 0.015 - height])
        return eef if self._phase == "open" else eef + np.array([0.0, 0.0, 0.1])


class ScriptedPoint:
    """Goes to the goal around the discs, as a hand on a joystick would.

    At its best it looks ahead by as far as it needs to stop, and swerves. Below, it does what people do: it looks too
    late and not far enough, strays to other places first, and now and then holds the stick at full deflection for a
    while, wherever that leads. How much of this there is in an episode is drawn from the episode's seed.
    """

    source = Source.SCRIPTED

    SPEED = 0.5
    """That it likes to go at, at its best [m/s]."""
    MARGIN = 0.12
    """That it likes to keep from a disc, at its best [m]."""

    def __init__(self, task: Task, quality: float = 1.0):
        check_quality(quality)
        self.quality = float(quality)
        self._centers, self._radii = np.array(DISCS)[:, :2], np.array(DISCS)[:, 2]
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = rng = np.random.default_rng([seed, 7])
        lapse = 1.0 - self.quality
        self._speed = self.SPEED + lapse * rng.uniform(0, MAX_SPEED - self.SPEED)
        # Of the room that it needs, how much it looks at; where careless, it does not look at all.
        self._care = max(0.0, 1.0 - lapse * rng.uniform(0, 1.5))
        self._strays = [rng.uniform(-0.9, 0.9, 2) for _ in range(rng.poisson(1.5 * lapse))]
        # Slips per second.
        self._slip_rate = 0.6 * lapse
        self._slip, self._left = np.zeros(2), 0

    def act(self, observation: Observation) -> np.ndarray:
        state = observation["state"].astype(np.float64)
        position, speed = state[:2], state[2:]
        if self._strays and np.linalg.norm(self._strays[0] - position) < 0.2:
            self._strays.pop(0)
        if not self._left and self._rng.random() < self._slip_rate / RATE:
            self._left = int(self._rng.uniform(0.3, 1.5) * RATE)
            self._slip = self._rng.choice([-1.0, 0.0, 1.0], 2) * MAX_ACCELERATION
        if self._left:
            self._left -= 1
            wanted = self._slip
        else:
            target = self._strays[0] if self._strays else np.array(GOAL)
            wanted = 3.0 * (self._velocity(position, speed, target) - speed)
        tremor = self._rng.normal(0.0, 0.1 * (1.0 - self.quality), 2)
        return np.clip(wanted + tremor, -MAX_ACCELERATION, MAX_ACCELERATION).astype(np.float32)

    def _velocity(self, position: np.ndarray, speed: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Where it wants to go [m/s]: towards the target, along the discs that are in the way."""
        way = target - position
        distance = max(float(np.linalg.norm(way)), 1e-6)
        wanted = way / distance * min(self._speed, np.sqrt(2 * 0.7 * MAX_ACCELERATION * distance))
        away = position - self._centers
        gap = np.linalg.norm(away, axis=1) - self._radii
        outward = away / np.linalg.norm(away, axis=1)[:, None]
        closing = np.maximum(-(speed @ outward.T), 0)
        room = self._care * (self.MARGIN + closing**2 / MAX_ACCELERATION)
        for i in np.flatnonzero((gap < room) & (room > 0)):
            inward = -float(wanted @ outward[i])
            if inward > 0:
                # Along the disc's edge instead, to the side that the target is on.
                along = np.array([-outward[i][1], outward[i][0]])
                along *= 1.0 if along @ way >= 0 else -1.0
                wanted = along * self._speed + outward[i] * 0.5 * self._speed * (1 - gap[i] / room[i])
        return wanted


def check_quality(quality: float) -> None:
    """Raise an InputError unless it is a fraction."""
    if not 0 <= quality <= 1:
        raise InputError(f"quality must be in [0, 1], got {quality}")


def make_operator(name: str, task: Task, quality: float = 1.0) -> Operator:
    """The operator of that name for a task.

    Raises:
        InputError: for an unknown name, or a task that there is no script for.
    """
    scripts: dict[type, Any] = {
        LinearQuadraticTask: ScriptedLinearQuadratic,
        PointRobotTask: ScriptedPoint,
        TwoQualitiesTask: ScriptedTwoQualities,
    }
    lift = ScriptedPutBack if isinstance(task, Reversible) and task.backward else ScriptedLift
    script = scripts.get(type(task), lift)
    operators: dict[str, Any] = {
        "scripted": lambda: script(task, quality),
        "random": lambda: RandomOperator(task),
    }
    if name not in operators:
        raise unknown("operator", name, operators)
    return operators[name]()


def _need_lift(contract: Contract, name: str) -> None:
    """Raise an InputError unless a contract is Lift's."""
    needed = [f"{body}_{axis}" for body in ("eef", "cube") for axis in "xyz"]
    moves = ["delta_x", "delta_y", "delta_z"]
    fits = contract.action_names[:3] == moves and contract.action_names[-1] == "gripper"
    if not fits or not set(needed) <= set(contract.state_names):
        scripted = "lift, lift-quick, lift-back, lift-back-quick, point-robot, two-qualities and linear-quadratic"
        raise InputError(f"there is no script for task {name!r}; there is one for {scripted}")
