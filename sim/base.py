"""What every simulated task is: a small Gymnasium environment in the units of a contract."""

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium import spaces

from episodes.constraints import Constraints
from episodes.contract import Contract
from episodes.errors import InputError
from sim.gaps import Gap

Observation = dict[str, np.ndarray]

RENDER_SIZE = 256
"""Height and width of the pictures of `Task.render` [px]."""


class UnstableError(RuntimeError):
    """The physics gave a value that is not finite, or absurd: what came of the episode is worth nothing."""


@runtime_checkable
class Reversible(Protocol):
    """A task that can be turned, in the same world, to undoing what it does."""

    backward: bool
    """Whether it is; may be changed between episodes."""


@runtime_checkable
class Homing(Protocol):
    """A task whose robot can bring itself to where episodes begin, whatever has become of the world."""

    def go_home(self) -> None:
        """Before an episode goes on where the last one has come to; what is held stays where it is."""
        ...


class Task(gymnasium.Env[Any, np.ndarray]):
    """A task in simulation, seen through a contract.

    An observation is a dictionary: `state`, float32, shape (S,), in the contract's units, and `image/<camera>`, uint8,
    shape (H, W, 3), top row first, for each of the contract's cameras. An action is a float32 vector in the contract's
    units. With a seed an episode is a pure function of the seed and the actions, whatever ran before.

    What of a gap goes in and out (delay, gain, noise) is done here, once for all tasks. A task fills in the methods
    that begin with an underscore.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium's own)
    render_mode = "rgb_array"

    scores_states = False
    """Whether `score` can tell the reward of being in a state."""
    starts_anywhere = False
    """Whether an episode can begin in a state that is given."""
    terminates_on_success = False
    has_success = True
    """Whether the task can succeed at all: running faster cannot."""
    constraints: Constraints | None = None
    """What must never happen, where the task says so; `info["cost"]` is then 1 for a step that led into it, else 0."""
    hold = 1
    """Steps in a row that success has to last before it ends an episode: who records a robot stops a little late."""

    def __init__(self, name: str, contract: Contract, instruction: str, horizon: int, gap: Gap):
        self.name = name
        """The specification that this task was made from."""
        self.contract = contract.check()
        self.instruction = instruction
        """What is to be done, in one sentence."""
        self.horizon = horizon
        """Steps after which an episode is truncated."""
        self.gap = gap
        self._low, self._high = contract.action_low, contract.action_high
        self.action_space = spaces.Box(self._low, self._high, dtype=np.float32)
        boxes: dict[str, spaces.Space[Any]] = {"state": spaces.Box(-np.inf, np.inf, (len(contract.state),), np.float32)}
        for camera in contract.cameras:
            boxes[f"image/{camera.name}"] = spaces.Box(0, 255, (camera.height, camera.width, 3), np.uint8)
        self.observation_space = spaces.Dict(boxes)
        names = contract.state_names
        # Per action entry, the state entry that it is a target for, or -1.
        self._reference = np.array([-1 if e.reference is None else names.index(e.reference) for e in contract.action])
        self._steps: int | None = None
        self._begun = False
        self._held = 0
        self._waiting: deque[np.ndarray] = deque()
        self._noise = np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Begin an episode. Without a seed one is drawn from the generator that the last seed began.

        Args:
            options: where `starts_anywhere`, `state` may be the state to begin in, shape (S,), in the contract's units.

        Raises:
            ValueError: for a seed outside [0, 2^32), other options, or a state of another shape or that is not finite.
        """
        start = (options or {}).get("state") if self.starts_anywhere else None
        if options and (start is None or len(options) > 1):
            taken = "only the reset option 'state'" if self.starts_anywhere else "no reset options"
            raise ValueError(f"{self.name}: takes {taken}, got {sorted(options)}")
        if seed is not None and not 0 <= seed < 2**32:
            raise ValueError(f"{self.name}: seed must be in [0, 2^32), got {seed}")
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**32)) if seed is None else seed
        self._noise = np.random.default_rng([episode_seed, 1])
        self._reset(episode_seed)
        if start is not None:
            self.set_state(start)
        self._begun = True
        return self.go_on(), {"success": False, "seed": episode_seed}

    def go_on(self) -> Observation:
        """Begin an episode where the last one has come to, without a reset; nothing that was sent is still under way.

        Raises:
            RuntimeError: before the first `reset`.
        """
        if not self._begun:
            raise RuntimeError(f"{self.name}: there is no episode to go on from; call reset first")
        self._waiting = deque(self.hold_action() for _ in range(self.gap.delay_steps))
        self._steps = self._held = 0
        return self._observe()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One step of the contract's rate with an action in its units, clipped to its limits.

        Raises:
            ValueError: for an action of another shape, or one that is not finite.
            UnstableError: where the simulation became unstable; that ends the episode.
            RuntimeError: before `reset`, or after the end of an episode.
        """
        if self._steps is None:
            raise RuntimeError(f"{self.name}: no episode is under way; call reset first")
        self._waiting.append(self.clip(action))
        reward, success, ended, extra = self._advance(self._with_gain(self._waiting.popleft()))
        self._steps += 1
        self._held = self._held + 1 if success else 0
        terminated = bool(ended or (self.terminates_on_success and self._held >= self.hold))
        truncated = not terminated and self._steps >= self.horizon
        if terminated or truncated:
            self._steps = None
        observation = self._observe()
        if not (np.isfinite(reward) and np.isfinite(observation["state"]).all()):
            self._steps = None
            raise UnstableError(f"{self.name}: the simulation became unstable (its state or reward is not finite)")
        info = {"success": bool(success), **extra}
        if self.constraints is not None:
            # As with the reward, of the true state: a noisy sensor's is not where the robot is.
            info["cost"] = float(self.constraints.h(self._state()[None], self.contract.state_names)[0] > 0)
        return observation, float(reward), terminated, truncated, info

    def clip(self, action: np.ndarray) -> np.ndarray:
        """The action as it is sent: float32, shape (A,), inside the contract's limits.

        Raises:
            ValueError: for an action of another shape, or one that is not finite.
        """
        action = np.asarray(action, np.float32)
        if action.shape != self._low.shape:
            raise ValueError(f"{self.name}: got an action of shape {action.shape}, expected {self._low.shape}")
        if not np.isfinite(action).all():
            raise ValueError(f"{self.name}: got action {action.tolist()}, expected finite values")
        return np.clip(action, self._low, self._high)

    def set_state(self, state: np.ndarray) -> None:
        """Put the simulation where a state says, shape (S,), in the contract's units; what that leaves open is as after
        a reset.

        Raises:
            ValueError: where `starts_anywhere` is false, the state has another shape, or is not finite.
        """
        if not self.starts_anywhere:
            raise ValueError(f"{self.name}: cannot be put into a state; starts_anywhere is false")
        state = np.asarray(state, np.float64)
        if state.shape != (len(self.contract.state),) or not np.isfinite(state).all():
            raise ValueError(
                f"{self.name}: got a state of shape {state.shape}, expected {len(self.contract.state)} finite values"
            )
        self._set_state(state)

    def _set_state(self, state: np.ndarray) -> None:
        raise ValueError(f"{self.name}: starts_anywhere is true, but there is no _set_state")

    def _with_gain(self, action: np.ndarray) -> np.ndarray:
        if self.gap.gain == 1.0:
            return action
        origin = np.where(self._reference >= 0, self._state()[self._reference], 0.0)
        return np.clip(origin + self.gap.gain * (action - origin), self._low, self._high).astype(np.float32)

    def _observe(self) -> Observation:
        state = self._state()
        if self.gap.obs_noise:
            state = state + self._noise.normal(0.0, self.gap.obs_noise, state.shape)
        observation = {"state": state.astype(np.float32)}
        for camera in self.contract.cameras:
            observation[f"image/{camera.name}"] = self._image(camera.name, camera.height, camera.width)
        return observation

    def hold_action(self) -> np.ndarray:
        """Shape (A,): the action that asks for nothing new, and stops what moves. For deltas and torques, zero."""
        return np.zeros_like(self._low)

    def score(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The reward of being in each of N states, shape (N, S): reward and success, float32, shape (N,) each.

        Raises:
            ValueError: where `scores_states` is false, or the states have another shape.
        """
        if not self.scores_states:
            raise ValueError(f"{self.name}: its reward is not a function of the state entries; scores_states is false")
        state = np.asarray(state)
        if state.ndim != 2 or state.shape[1] != len(self.contract.state):
            raise ValueError(
                f"{self.name}: got states of shape {state.shape}, expected (N, {len(self.contract.state)})"
            )
        reward, success = self._score(state)
        return reward.astype(np.float32), success.astype(np.float32)

    def _score(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise ValueError(f"{self.name}: scores_states is true, but there is no _score")

    @abstractmethod
    def _reset(self, seed: int) -> None:
        """Put the simulation at the beginning of the episode that a seed names."""

    @abstractmethod
    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """One step: reward, success, whether the task ended for another reason, and what else is to be told."""

    @abstractmethod
    def _state(self) -> np.ndarray:
        """Shape (S,), float64: the true state, in the contract's units."""

    @abstractmethod
    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        """Shape (height, width, 3), uint8, top row first."""

    @abstractmethod
    def render(self) -> np.ndarray:
        """Shape (256, 256, 3), uint8, RGB, top row first: a picture for videos."""


def entries(unit: str, *names: str) -> list[tuple[str, str]]:
    """Name and unit pairs of state entries that share a unit."""
    return [(name, unit) for name in names]


def check_size(image_size: Sequence[int]) -> tuple[int, int]:
    """Height and width of pictures, checked.

    Raises:
        InputError: unless it is two positive whole numbers.
    """
    if len(image_size) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in image_size):
        raise InputError(f"image size must be a positive height and width, got {tuple(image_size)}")
    return int(image_size[0]), int(image_size[1])
