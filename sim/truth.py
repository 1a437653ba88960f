"""The simulator's own reward for logged states: ground truth for labels."""

import numpy as np

from sim.base import Task


def score_episode(task: Task, state: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Reward and success of the observation after each step of one logged episode.

    Args:
        task: a task with `scores_states`.
        state: shape (steps + 1, S) or (steps, S), in the task's contract.
        steps: number of steps T.

    Returns:
        Reward and success, float32, shape (T,) each: NaN for the last step if the log lacks the observation after it.

    Raises:
        ValueError: for another number of states, or a task that cannot score states.
    """
    state = np.asarray(state)
    if len(state) not in (steps, steps + 1) or steps < 1:
        raise ValueError(
            f"got {len(state)} states for {steps} steps, expected {steps} or {steps + 1}, and at least 1 step"
        )
    reward, success = np.full(steps, np.nan, np.float32), np.full(steps, np.nan, np.float32)
    known = len(state) - 1
    if known:
        reward[:known], success[:known] = task.score(state[1:])
    return reward, success
