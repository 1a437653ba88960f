# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled classes have no stubs.)
"""robosuite's tasks with a Panda arm: Lift in full, the others by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import mujoco
import numpy as np
from pydantic import Field

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.errors import InputError
from episodes.typed import STRICT
from sim import robosuite_env
from sim.base import UnstableError, check_size, entries
from sim.gaps import Gap
from sim.mujoco_task import MujocoTask, cameras_of
from sim.operators import Operator, ScriptedLift, ScriptedPutBack

POSITION_LIMIT = 0.05
"""Largest commanded displacement per step along an axis [m]; robosuite's own scale of OSC_POSE."""
ROTATION_LIMIT = 0.5
"""Largest commanded rotation per step about an axis [rad]."""
LIFT_HEIGHT = 0.04
"""Height of the cube's centre above the table top from which it counts as lifted [m]; robosuite's own criterion."""

CUBE_HALF = 0.02
"""Height of the cube's centre above the table top while it lies there, about [m]."""
LYING_HEIGHT = 0.03
"""Height of the cube's centre above the table top up to which it counts as put down [m]."""
CLEAR = 0.06
"""Height of the grip point above a cube that was put down from which the next lift can begin [m]."""
OPEN = 0.03
"""Distance of each finger from the middle from which the fingers count as open [m]; of at most 0.04."""

Actions = Literal["xyz+rotation+gripper", "xyz+gripper"]


@dataclass(frozen=True, slots=True)
class RobosuiteSettings:
    """Settings of a robosuite task."""

    __pydantic_config__ = STRICT

    rate: Annotated[float, Field(gt=0, le=500)] = 20.0
    """Steps per second [Hz]."""
    actions: Actions = "xyz+rotation+gripper"
    """What an action commands. Without rotation the hand keeps its orientation."""
    horizon: Annotated[int, Field(gt=0)] = 500
    physics_step: Annotated[float, Field(gt=0, le=0.01)] = 0.002
    """Time step of the physics [s]."""
    hold: Annotated[int, Field(gt=0)] = 1
    """Steps in a row that success has to last before it ends an episode."""

    def check(self, where: str) -> None:
        """Raise an InputError unless a whole number of physics steps makes a step."""
        ratio = 1 / (self.rate * self.physics_step)
        if abs(ratio - round(ratio)) > 1e-6 or ratio < 1:
            raise InputError(
                f"{where}: at rate={self.rate:g} Hz a step is {ratio:.3f} physics steps of {self.physics_step:g} s, "
                "expected a whole number"
            )


@dataclass(frozen=True, slots=True)
class LiftSettings(RobosuiteSettings):
    """Settings of Lift."""

    __pydantic_config__ = STRICT

    horizon: Annotated[int, Field(gt=0)] = 80
    reward: Literal["success", "shaped"] = "success"
    """1 for success and else 0; or in [0, 1]: half for the hand's nearness to the cube, half for the cube's height."""
    placement: Annotated[float, Field(gt=0, le=0.2)] = 0.03
    """How far from the table's middle the cube may lie at first, along each axis [m]."""
    back_within: Annotated[float, Field(gt=0, le=0.2)] = 0.06
    """How far from there it may be put back [m]: the next lift has to find it, but nobody put it there."""
    goal: Literal["lift", "back"] = "lift"
    """What is to be done: lift the cube; or put it back, beginning where a lift has ended."""
    lost: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the episodes of putting back that begin where one has failed: the cube lies beside where it should."""

    def check(self, where: str) -> None:
        RobosuiteSettings.check(self, where)
        if self.goal == "back" and self.reward == "shaped":
            raise InputError(f"{where}: reward=shaped is for goal=lift; putting the cube back has reward=success")
        if self.goal == "lift" and self.lost:
            raise InputError(
                f"{where}: lost={self.lost:g} is for goal=back; a cube that is to be lifted always lies there"
            )


OTHERS = {
    "door": ("Door", "open the door"),
    "stack": ("Stack", "stack the red cube on the green cube"),
    "nutassembly": ("NutAssembly", "fit both nuts onto their pegs"),
    "nutassemblysquare": ("NutAssemblySquare", "fit the square nut onto the square peg"),
    "nutassemblyround": ("NutAssemblyRound", "fit the round nut onto the round peg"),
    "pickplace": ("PickPlace", "put every object into its bin"),
    "pickplacecan": ("PickPlaceCan", "put the can into its bin"),
    "pickplacemilk": ("PickPlaceMilk", "put the milk carton into its bin"),
    "pickplacebread": ("PickPlaceBread", "put the bread into its bin"),
    "pickplacecereal": ("PickPlaceCereal", "put the cereal box into its bin"),
    "toolhang": ("ToolHang", "assemble the frame and hang the tool on it"),
    "wipe": ("Wipe", "wipe the dirt off the table"),
}
"""robosuite's one-armed tasks besides Lift: its name and the instruction."""

_HAND = [*entries("m", "eef_x", "eef_y", "eef_z"), *entries("", "eef_qx", "eef_qy", "eef_qz", "eef_qw")]
_FINGERS = ("finger_left", "finger_right")
_CUBE = [
    *entries("m", "cube_x", "cube_y", "cube_z"),
    *entries("", "cube_qx", "cube_qy", "cube_qz", "cube_qw"),
    *entries("m", "cube_from_eef_x", "cube_from_eef_y", "cube_from_eef_z"),
]
_MOVES = tuple(ActionEntry(f"delta_{axis}", "m", -POSITION_LIMIT, POSITION_LIMIT) for axis in "xyz")
_TURNS = tuple(ActionEntry(f"delta_r{axis}", "rad", -ROTATION_LIMIT, ROTATION_LIMIT) for axis in "xyz")
_GRIPPER = ActionEntry("gripper", "", -1.0, 1.0)


def xyzw(wxyz: np.ndarray) -> np.ndarray:
    """MuJoCo's quaternion in the order of everything outside."""
    return wxyz[[1, 2, 3, 0]]


class RobosuiteTask(MujocoTask):
    """A robosuite task with one Panda arm.

    Actions are displacements of the hand in the base's axes, from where it is, followed for one step by robosuite's
    OSC_POSE controller (stiffness 150 /s^2, critically damped, so that one step at 20 Hz covers a part of it), and the
    gripper, -1 open to 1 closed, of which robosuite takes the sign. The reward is 1 for success, else 0, and success
    ends the episode.
    """

    terminates_on_success = True
    video_camera = "agentview"
    hidden_groups = (0,)  # robosuite's collision shapes

    def __init__(
        self,
        name: str,
        environment: str,
        instruction: str,
        settings: RobosuiteSettings,
        *,
        cameras: Sequence[str] = (),
        image_size: tuple[int, int] = (84, 84),
        gap: Gap | None = None,
    ):
        size = check_size(image_size)
        settings.check(name)
        self._physics_step = settings.physics_step
        self.hold = settings.hold
        env = robosuite_env.make(environment, settings.rate, settings.physics_step)
        self._env = env
        self._rotates = settings.actions == "xyz+rotation+gripper"
        robot = env.robots[0]
        self._hand_body = env.sim.model.body_name2id(robot.robot_model.eef_name["right"])
        self._grip_site = robot.eef_site_id["right"]
        self._gripper = robot.gripper["right"]
        self._fingers = list(robot._ref_gripper_joint_pos_indexes.get("right") or [])
        model, data = env.sim.model._model, env.sim.data._data
        moves = (*_MOVES, *(_TURNS if self._rotates else ()), *((_GRIPPER,) if self._fingers else ()))
        contract = Contract(
            name=environment.lower(),
            state=tuple(StateEntry(*entry) for entry in self._bind_state()),
            action=moves,
            cameras=cameras_of(model, cameras, size, name),
            rate=settings.rate,
        )
        super().__init__(name, contract, instruction, settings.horizon, gap or Gap(), model, data)

    def _bind_state(self) -> list[tuple[str, str]]:
        """Find what the state is read from; name and unit of every state entry."""
        sizes = {
            name: np.size(observable.obs)
            for name, observable in self._env._observables.items()
            if observable.modality == "object" and observable.is_enabled() and observable.is_active()
        }
        self._objects = list(sizes)
        names = [f"{name}_{index}" for name, size in sizes.items() for index in range(size)]
        return [*_HAND, *entries("m", *_FINGERS[: len(self._fingers)]), *entries("", *names)]

    def push(self, force: np.ndarray) -> None:
        """Push the gripper with a force [N] along the world's axes, shape (3,), until told otherwise or reset."""
        body = self._env.sim.model.body_name2id(self._gripper.root_body)
        self._data.xfrc_applied[body, :3] = force

    def wrench(self) -> np.ndarray:
        """What the sensor between arm and gripper feels, its weight included: force [N] and torque [Nm], shape (6,)."""
        names = self._gripper.important_sensors
        return np.concatenate([self._data.sensor(names[kind]).data for kind in ("force_ee", "torque_ee")])

    def _reset(self, seed: int) -> None:
        robosuite_env.reset(self._env, seed, self._physics_step)
        self._sync()

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self._env.step(self._normalised(action))
        self.check_stable()
        self._sync()
        success = self._succeeded()
        return float(success), success, False, {}

    def _normalised(self, action: np.ndarray) -> np.ndarray:
        """The controller's input in [-1, 1] for an action in metres and radians."""
        turns = action[3:6] / ROTATION_LIMIT if self._rotates else np.zeros(3)
        return np.concatenate([action[:3] / POSITION_LIMIT, turns, action[3 + 3 * self._rotates :]], dtype=np.float64)

    def _sync(self) -> None:
        # Its last physics step leaves positions in space one step behind the joints.
        self._env.sim.forward()

    def _succeeded(self) -> bool:
        return bool(self._env._check_success())

    def _hand(self) -> np.ndarray:
        """Grip point [m], hand's orientation xyzw, and finger joints [m]."""
        data = self._data
        return np.concatenate(
            [data.site_xpos[self._grip_site], xyzw(data.xquat[self._hand_body]), data.qpos[self._fingers]]
        )

    def _state(self) -> np.ndarray:
        observations = self._env._get_observations(force_update=True)
        return np.concatenate([self._hand(), *(np.atleast_1d(observations[name]) for name in self._objects)])


class LiftTask(RobosuiteTask):
    """Lift a cube off a table; or put it back, so that it can be lifted again. Both are told from the state alone.

    Put back is a cube that lies near the table's middle again, below a hand that is open and clear of it.
    An episode of putting back begins where a scripted lift has ended, with the cube just off the table between the
    fingers; or, in a share `lost` of them, where the script has then let go of it in the wrong place, and the hand has
    gone home. Or it goes on where a lift in the same world has ended, whoever did that: see `backward`.
    """

    scores_states = True

    INSTRUCTIONS = ("lift the red cube off the table", "put the red cube back on the table")
    PATIENCE = 5.0
    """For how long a script may try to do something before an episode of putting back [s]."""
    HOME = 0.02
    """How far from where it begins the hand still is at home [m]."""

    def __init__(self, name: str, settings: LiftSettings, **options: Any):
        self._shaped = settings.reward == "shaped"
        self._back_within, self._lost = settings.back_within, settings.lost
        super().__init__(name, "Lift", self.INSTRUCTIONS[0], settings, **options)
        self._begins_lifted = self.backward = settings.goal == "back"
        reach = [-settings.placement, settings.placement]
        self._env.placement_initializer.x_range = self._env.placement_initializer.y_range = reach

    @property
    def backward(self) -> bool:
        """Whether the cube is to be put back; may be changed between episodes."""
        return self._backward

    @backward.setter
    def backward(self, backward: bool) -> None:
        self._backward = backward
        self.instruction = self.INSTRUCTIONS[backward]

    def _bind_state(self) -> list[tuple[str, str]]:
        env = self._env
        self._cube = env.cube_body_id
        self._table = np.asarray(env.model.mujoco_arena.table_offset, float)
        names = [*_HAND, *entries("m", *_FINGERS), *_CUBE]
        places = {name: place for place, (name, _) in enumerate(names)}
        self._position = [places[f"cube_{axis}"] for axis in "xyz"]
        self._apart = [places[f"cube_from_eef_{axis}"] for axis in "xyz"]
        self._grip = [places[name] for name in _FINGERS]
        # The state is read straight from MuJoCo; robosuite would compute all of it again at every physics step.
        for observable in list(env._observables):
            env.modify_observable(observable, "enabled", False)
        return names

    def _reset(self, seed: int) -> None:
        super()._reset(seed)
        self._home = self._hand()[:3]
        if not self._begins_lifted:
            return
        # Held in about as many ways as there are seeds; at the script's best where that does not do it.
        rng = np.random.default_rng([seed, 8])
        drawn = float(rng.uniform(0.7, 1.0))
        if not self._act(ScriptedLift(self, drawn), seed, self._lifted):
            super()._reset(seed)
            if not self._act(ScriptedLift(self), seed, self._lifted):
                raise UnstableError(f"{self.name}: the script does not lift the cube of seed {seed}")
        if rng.random() < self._lost:
            # To beyond where it should be on one axis at least, and wherever that leads.
            aside = rng.uniform(-1.0, 1.0, 2)
            aside *= self._back_within * rng.uniform(1.2, 2.0) / np.abs(aside).max()
            self._act(ScriptedPutBack(self, aside=aside), seed, lambda s: self._let_go(s) & ~self._put_back(s))
            self.go_home()

    def go_home(self) -> None:
        """Bring an empty hand to where an episode of lifting begins: first up, then there, with open fingers."""
        for _ in range(round(self.PATIENCE * (self.contract.rate or 0.0))):
            state = self._state().astype(np.float32)
            hand, holds = self._hand()[:3], np.linalg.norm(state[self._apart]) < ScriptedPutBack.LOST
            if holds and self._height(state[None])[0] >= LYING_HEIGHT:
                return
            away = self._home - hand
            if np.linalg.norm(away) < self.HOME:
                return
            if away[2] > self.HOME:
                # Above whatever lies around.
                away[:2] = 0.0
            action = np.zeros_like(self._low)
            # As scripts do: the controller covers about half of what is asked for in a step.
            action[:3], action[-1] = 2.0 * away, -1.0
            super()._advance(np.clip(action, self._low, self._high))

    def _act(self, operator: Operator, seed: int, done: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Let a script act until states, shape (1, S), are so; whether they were in time."""
        operator.reset(seed)
        for _ in range(round(self.PATIENCE * (self.contract.rate or 0.0))):
            state = self._state().astype(np.float32)
            if done(state[None])[0]:
                return True
            super()._advance(operator.act({"state": state}))
        return False

    def _sync(self) -> None:
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _state(self) -> np.ndarray:
        hand = self._hand()
        cube = self._data.xpos[self._cube]
        return np.concatenate([hand, cube, xyzw(self._data.xquat[self._cube]), cube - hand[:3]])

    def _succeeded(self) -> bool:
        # From the state as it is stored, so that labelling a log gives what the log says.
        return bool(self._score(self._state().astype(np.float32)[None])[1][0])

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        _, success, ended, extra = super()._advance(action)
        return float(self._score(self._state().astype(np.float32)[None])[0][0]), success, ended, extra

    def _score(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._backward:
            back = self._put_back(state)
            return back, back
        lifted = self._lifted(state)
        if not self._shaped:
            return lifted, lifted
        near = 1 - np.tanh(5 * np.linalg.norm(state[:, self._apart], axis=1))
        height = np.clip((self._height(state) - LIFT_HEIGHT) / (LIFT_HEIGHT - CUBE_HALF) + 1, 0, 1)
        return 0.5 * near + 0.5 * height, lifted

    def _lifted(self, state: np.ndarray) -> np.ndarray:
        return state[:, self._position[2]] > np.float32(self._table[2] + LIFT_HEIGHT)

    def _put_back(self, state: np.ndarray) -> np.ndarray:
        beside = np.abs(state[:, self._position[:2]] - self._table[:2]).max(1)
        return (beside <= self._back_within) & self._let_go(state)

    def _let_go(self, state: np.ndarray) -> np.ndarray:
        """Whether the cube lies on the table below an open hand, wherever that is."""
        # The second finger's joint counts the other way.
        opened = np.abs(state[:, self._grip]).min(1) > OPEN
        return (self._height(state) < LYING_HEIGHT) & opened & (-state[:, self._apart[2]] > CLEAR)

    def _height(self, state: np.ndarray) -> np.ndarray:
        """Of the cube's centre above the table top [m]."""
        return state[:, self._position[2]] - self._table[2]
