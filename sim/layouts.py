"""Made-up episodes: a scene that is moved by hand instead of by an operator, for pictures of every stage of a task."""

from collections.abc import Iterator, Sequence

import numpy as np

from episodes.episode import Episode, Source
from episodes.errors import InputError
from sim.base import Task
from sim.pusht import PushTTask

STEPS = 24
GOAL = (256.0, 256.0, np.pi / 4)
"""Push-T's target: x, y [px], angle [rad]."""


def check_layouts(task: Task) -> PushTTask:
    """Push-T, which alone has layouts.

    Raises:
        InputError: for another task.
    """
    if not isinstance(task, PushTTask):
        raise InputError(f"task {task.name!r}: there are layouts for pusht; for others use an operator that acts")
    return task


def layout_episodes(task: Task, seeds: Sequence[int]) -> Iterator[Episode]:
    """Per seed, the block on a straight way from anywhere to somewhere on the target, the finger anywhere about it.

    Nothing here follows the physics: these episodes show what states look like, not what actions do.

    Raises:
        InputError: for another task than Push-T.
    """
    pusht = check_layouts(task)
    for seed in seeds:
        rng = np.random.default_rng([seed, 5])
        start = np.array([rng.uniform(100, 400), rng.uniform(100, 400), rng.uniform(-np.pi, np.pi) + GOAL[2]])
        stop = GOAL + rng.normal(0, (5.0, 5.0, 0.05))
        share = (
            1 - np.linspace(1, 0, STEPS + 1)[:, None] ** 2
        )  # slower near the target, where a step makes a difference
        block = start + share * (stop - start)
        away, angle = rng.uniform(30, 130, STEPS + 1), rng.uniform(0, 2 * np.pi, STEPS + 1)
        agent = block[:, :2] + away[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        states = np.concatenate([np.clip(agent, 15, 495), block[:, :2], block[:, 2:] % (2 * np.pi)], axis=1)
        yield _episode(pusht, states.astype(np.float32), seed)


def _episode(task: PushTTask, states: np.ndarray, seed: int) -> Episode:
    task.reset(seed=seed)
    seen = [task.observe_at(state) for state in states]
    reward, success = task.score(states[1:])
    return Episode(
        state=states,
        action=np.stack([task.clip(state[:2]) for state in states[1:]]),
        terminated=False,
        truncated=True,
        images={name: np.stack([item[f"image/{name}"] for item in seen]) for name in task.contract.camera_names},
        source=np.full(len(states) - 1, Source.SCRIPTED, np.uint8),
        reward=reward,
        success=success,
        task=task.instruction,
        place="sim",
        origin=f"{task.name} layout {seed}",
    )
