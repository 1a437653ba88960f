"""What a person would say of a simulated state in one coarse sentence, to adapt vision-language models with."""

import numpy as np

from episodes.errors import InputError
from sim.base import Task

LIFT = (
    (
        "the robot arm is away from the red cube",
        "the cube lies on the table and the gripper is far from it",
        "the gripper is nowhere near the cube",
    ),
    (
        "the gripper is close to the red cube",
        "the robot hand hovers over the cube",
        "the arm has come near the cube on the table",
    ),
    (
        "the gripper is around the cube on the table",
        "the fingers are at the cube, which is still on the table",
        "the gripper touches the red cube",
    ),
    (
        "the red cube is lifted off the table",
        "the robot holds the cube up in the air",
        "the gripper has lifted the cube",
    ),
)
NEAR, AT = 0.09, 0.025
"""Distances of grip point and cube [m] under which the hand is near the cube, and around it."""

PUSHT = (
    (
        "the grey block is far from the green target",
        "the T-shaped block lies beside its target",
        "nothing of the target is covered",
    ),
    (
        "the block covers a part of the green target",
        "the T-shaped block has reached its target but is turned or off",
        "some of the target is covered",
    ),
    (
        "the block covers most of the green target",
        "the T-shaped block is almost in place",
        "only a little of the target is still to be seen",
    ),
    (
        "the block lies on the green target",
        "the T-shaped block covers its target",
        "the target is covered",
    ),
)
COVERED = (0.1, 0.55, 0.82)
"""Fractions of the target from which the second, third and fourth sentences of Push-T hold."""


def captions(task: Task, state: np.ndarray, rng: np.random.Generator) -> list[str]:
    """One sentence per state, shape (N, S), in one of three wordings drawn by chance.

    Raises:
        InputError: for a task that nobody has written sentences for.
    """
    words, stage = _stages(task, np.asarray(state, np.float64))
    wording = rng.integers(len(words[0]), size=len(stage))
    return [words[s][w] for s, w in zip(stage.tolist(), wording.tolist(), strict=True)]


def _stages(task: Task, state: np.ndarray) -> tuple[tuple[tuple[str, ...], ...], np.ndarray]:
    """The sentences of a task, and which of them hold in each state."""
    kind = task.name.partition(":")[0]
    if kind in ("lift", "lift-quick"):
        names = task.contract.state_names
        apart = np.linalg.norm(state[:, [names.index(f"cube_from_eef_{axis}") for axis in "xyz"]], axis=1)
        stage = np.where(apart < AT, 2, np.where(apart < NEAR, 1, 0))
        return LIFT, np.where(task.score(state)[1] > 0, 3, stage)
    if kind == "pusht":
        return PUSHT, np.searchsorted(COVERED, task.score(state)[0], side="right")
    raise InputError(f"task {task.name!r}: there are captions for lift, lift-quick and pusht; write others by hand")
