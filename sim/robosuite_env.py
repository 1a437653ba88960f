"""Making robosuite environments: quiet, without its renderer, and as a pure function of a seed.

robosuite 1.5.1 takes its randomness from numpy's global generator and its physics step from a global macro. Both are
set here, and nowhere else, and put back.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# robosuite tells at its import and in make() about macros and optional packages that nobody here uses.
logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)

_mujoco_gl = os.environ.get("MUJOCO_GL")

import robosuite  # noqa: E402
from robosuite import macros  # noqa: E402
from robosuite.controllers import load_composite_controller_config  # noqa: E402

# Its import sets MUJOCO_GL to egl, whether there is an EGL or not; a child process would then fail to import MuJoCo.
if _mujoco_gl is not None:
    os.environ["MUJOCO_GL"] = _mujoco_gl
else:
    os.environ.pop("MUJOCO_GL", None)

_MODEL_SEED = 0
"""robosuite draws some sizes (Lift's cube edge, 40 to 44 mm) when it makes a model: every task gets the same."""


def make(environment: str, rate: float, physics_step: float) -> Any:
    """robosuite's environment of that name with one Panda arm at a rate [Hz]: OSC_POSE deltas in [-1, 1], a gripper."""
    with _globals(_MODEL_SEED, physics_step):
        env = robosuite.make(
            environment,
            robots="Panda",
            controller_configs=load_composite_controller_config(robot="Panda"),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            # Its "mjviewer" would be opened at every reset, even without has_renderer.
            renderer="mujoco",
            # Reloading the model at every reset costs a second, and a gap and a renderer hold on to the model.
            hard_reset=False,
            ignore_done=True,
            control_freq=rate,
        )
    # It truncates rate / step to a whole number: keep rounding errors from costing a step.
    env.control_timestep *= 1 + 1e-9
    return env


def reset(env: Any, seed: int, physics_step: float) -> None:
    """Begin the episode that a seed in [0, 2^32) names."""
    with _globals(seed, physics_step):
        env.reset()


@contextmanager
def _globals(seed: int, physics_step: float) -> Iterator[None]:
    """numpy's global generator and robosuite's physics step [s] as given, and as they were afterwards."""
    state = np.random.get_state()
    step = macros.SIMULATION_TIMESTEP
    np.random.seed(seed)
    macros.SIMULATION_TIMESTEP = physics_step
    try:
        yield
    finally:
        macros.SIMULATION_TIMESTEP = step
        np.random.set_state(state)
