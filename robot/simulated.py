"""A simulated task behind a robot's contract: commands in, observations out, with faults where they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from episodes.errors import InputError
from episodes.typed import STRICT
from robot.contract import RobotContract, state_entries
from robot.controllers import Controller
from robot.messages import path_of
from robot.outgoing import MakeMessage, image_message, observation_message, put, stamp_header
from robot.reports import Outcome
from sim.base import Homing, Reversible, Task

Part = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[float, Field(ge=0)]

BACK = 10_000_000_000
"""By how much a clock is set back [ns]."""
WRENCH = "geometry_msgs/msg/WrenchStamped"


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong between the robot and who listens to it."""

    __pydantic_config__ = STRICT

    drop: Part = 0.0
    """Part of the observation messages, pictures included, that never arrive."""
    late: Part = 0.0
    """Part of them that comes `late_by` later, after newer ones."""
    late_by: Moment = 0.5
    """[s]"""
    nan: Part = 0.0
    """Part of the observation messages without pictures in which a number is NaN."""
    freeze_after: Moment | None = None
    """From then on [s since the start] nothing comes any more."""
    clock_back_after: Moment | None = None
    """Then [s since the start] the clock goes back by 10 s, once."""
    push: Moment = 0.0
    """Force [N] that pushes the hand, at every step in another direction of the horizontal plane."""
    seed: Annotated[int, Field(ge=0)] = 0


@runtime_checkable
class Pushable(Protocol):
    """A task with a hand that can be pushed, and feels it."""

    def push(self, force: np.ndarray) -> None: ...

    def wrench(self) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    topic: str
    message: Any
    delay: float = 0.0
    """[s]"""


class SimulatedRobot:
    """One task as a robot: the pure part of the node `sim_robot`."""

    def __init__(self, contract: RobotContract, task: Task, make: MakeMessage, as_data: Any, faults: Faults, seed: int):
        """`make` and `as_data`: see `outgoing`. `seed`: of the first episode; the next has the next.

        Raises:
            InputError: where the task cannot be what the contract describes.
        """
        self.contract, self.task = contract, task
        difference = contract.layout().layout_difference(task.contract)
        if difference is not None:
            raise InputError(f"task {task.name!r} is not what contract {contract.name!r} describes: {difference}")
        _check_can_be_simulated(contract, task)
        self._make, self._as_data = make, as_data
        self._goal = isinstance(task, Reversible) and task.backward
        low, high = task.contract.action_low.astype(np.float64), task.contract.action_high.astype(np.float64)
        self.controllers: list[Controller] = []
        place = 0
        for command in contract.commands:
            part = slice(place, place + len(command.fields))
            scale = np.array([field.scale for field in command.fields])
            self.controllers.append(Controller(command, low[part] * scale, high[part] * scale))
            place = part.stop
        self._rng = np.random.default_rng([seed, 5, faults.seed])
        self._pushes = np.random.default_rng([seed, 6, faults.seed])
        self.seed = seed
        """Of the episode that is under way, or begins next."""
        self._observation: dict[str, np.ndarray] = {}
        self._passed = contract.period
        """Since the start [ns]; never goes back."""
        after = faults.clock_back_after
        # A clock cannot go back beyond 0.
        self.stamp = self._passed + (0 if after is None else max(BACK - round(after * 1e9), 0))
        """Of the newest observation, in simulated time [ns]."""
        self._jumped = False
        self.faults = faults
        self.ended = True
        """Whether the task's episode is over, or has not begun."""
        self.moved = False
        """Whether a step was made since the last reset."""

    @property
    def faults(self) -> Faults:
        """May be changed at any time."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        if faults.push and not isinstance(self.task, Pushable):
            raise InputError(f"faults: task {self.task.name!r} has no hand that could be pushed")
        self._jumped &= faults.clock_back_after is not None
        self._faults = faults

    @property
    def topics(self) -> dict[str, str]:
        """Topic to type of everything that it publishes."""
        force = self.contract.safety.force
        topics = {source.topic: source.type for source in (*self.contract.observations, *self.contract.cameras)}
        return topics | ({} if force is None else {force.topic: force.type})

    def reset(self) -> int:
        """Begin the next episode, or the same again where nothing has moved in it yet; returns its seed."""
        if self.moved:
            self.seed += 1
        self._observation, _ = self.task.reset(seed=self.seed)
        self.moved = self.ended = False
        for controller in self.controllers:
            controller.reset()
        self._tick()
        return self.seed

    def go_on(self) -> None:
        """Begin the next episode where the last one has come to, the robot brought home first where it can be.

        For who listens a period passes, however long that takes.
        """
        if isinstance(self.task, Homing):
            self.task.go_home()
        self._observation = self.task.go_on()
        self.ended = False
        self._tick()

    def turn(self, *, backward: bool) -> None:
        """From now on judge by what the task does, or by what undoes it.

        Raises:
            InputError: where nothing undoes the task.
        """
        if isinstance(self.task, Reversible):
            self.task.backward = self._goal != backward
        elif backward:
            raise InputError(
                f"task {self.task.name!r}: nothing undoes it; the contract's reset.task is another robot's"
            )

    def wait(self) -> None:
        """A period passes in which the robot is not moved."""
        self._tick()

    def step(self) -> Outcome:
        """A period passes under the commands that are there."""
        assert not self.ended, "reset begins an episode"
        action, place = self.task.hold_action().astype(np.float64), 0
        for controller in self.controllers:
            fields = controller.command.fields
            values = controller.acting(self.stamp)
            if values is not None:
                action[place : place + len(fields)] = values / [field.scale for field in fields]
            place += len(fields)
        self.moved = True
        self._push()
        self._observation, reward, terminated, truncated, info = self.task.step(action.astype(np.float32))
        self._tick()
        self.ended = terminated or truncated
        return Outcome(self.stamp, bool(info["success"]), terminated, truncated, float(reward))

    def expect(self, since: int = 0) -> None:
        """From now on a command is an answer to the newest observation; so is what was published after `since` [ns]."""
        for controller in self.controllers:
            controller.expect(since)

    @property
    def answered(self) -> bool:
        """Whether every controller got a command since `expect`."""
        return all(controller.fresh for controller in self.controllers)

    @property
    def told(self) -> bool:
        """Whether any controller did."""
        return any(controller.fresh for controller in self.controllers)

    def messages(self) -> Iterator[Outgoing]:
        """The newest observation as messages, after what the faults made of them."""
        state = dict(zip(self.task.contract.state_names, self._observation["state"].astype(np.float64), strict=True))
        if self.faults.freeze_after is not None and self._passed >= self.faults.freeze_after * 1e9:
            return
        for source in self.contract.observations:
            values = [state[name] for name, _, _ in state_entries(source)]
            arrives, broken, delay = self._draw()
            if broken:
                values = [float("nan"), *values[1:]]
            if arrives:
                yield Outgoing(source.topic, observation_message(source, values, self.stamp, self._make), delay)
        for camera in self.contract.cameras:
            picture = self._observation[f"image/{camera.name}"]
            arrives, _, delay = self._draw()
            if arrives:
                message = image_message(camera, picture, self.stamp, self._make, self._as_data)
                yield Outgoing(camera.topic, message, delay)
        if self.contract.safety.force is not None:
            yield Outgoing(self.contract.safety.force.topic, self._wrench())

    def _draw(self) -> tuple[bool, bool, float]:
        """Whether a message arrives, whether it is broken, and how late it is [s]."""
        faults, drawn = self.faults, self._rng.random(3)
        return drawn[0] >= faults.drop, drawn[2] < faults.nan, faults.late_by if drawn[1] < faults.late else 0.0

    def _wrench(self) -> Any:
        assert isinstance(self.task, Pushable)
        message, felt = self._make(WRENCH), self.task.wrench()
        stamp_header(message, self.stamp, "")
        for path, value in zip(_WRENCH_PATHS, felt, strict=True):
            put(message, path_of(path).steps, float(value))
        return message

    def _push(self) -> None:
        if isinstance(self.task, Pushable):
            angle = self._pushes.uniform(0, 2 * np.pi)
            self.task.push(self.faults.push * np.array([np.cos(angle), np.sin(angle), 0.0]))

    def _tick(self) -> None:
        self.stamp += self.contract.period
        self._passed += self.contract.period
        after = self.faults.clock_back_after
        if after is not None and not self._jumped and self._passed >= after * 1e9:
            self._jumped = True
            self.stamp = max(self.stamp - BACK, 1)


_WRENCH_PATHS = [f"wrench.{kind}.{axis}" for kind in ("force", "torque") for axis in "xyz"]


def _check_can_be_simulated(contract: RobotContract, task: Task) -> None:
    for camera in contract.cameras:
        if camera.type != "sensor_msgs/msg/Image" or camera.crop is not None:
            raise InputError(
                f"camera {camera.name!r}: a simulated one publishes whole pictures as sensor_msgs/msg/Image, "
                f"and the contract has {camera.type}" + ("" if camera.crop is None else f", crop {list(camera.crop)}")
            )
    force = contract.safety.force
    if force is not None and force.type != WRENCH:
        raise InputError(f"safety.force: a simulated one is published as {WRENCH}, and the contract has {force.type}")
    if force is not None and not isinstance(task, Pushable):
        raise InputError(f"safety.force: task {task.name!r} has no hand that could feel it")
