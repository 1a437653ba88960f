"""How a learned reward and a success meet the learner: four ways, with one scale.

`score` is the learned reward r(s') of the observation after each step, brought to [-1, 0]; `before` the same of the
observation that the step began at. All arrays have shape (T,); steps without an observation after them are NaN.
"""

from enum import StrEnum

import numpy as np


class Shape(StrEnum):
    """What becomes of score and success."""

    AS_IS = "as_is"
    """r = score: as published. Success only ends the episode."""
    POTENTIAL = "potential"
    """r = success - 1 + gamma Phi(s') - Phi(s) with Phi = score, and 0 once the task is done: the best policy is that
    of the sparse reward (Ng, Harada & Russell, 1999), found with less searching."""
    BONUS = "bonus"
    """r = score, and `bonus` more at success."""
    SPARSE = "sparse"
    """r = success - 1: the score is only written down."""


def shaped(
    shape: Shape,
    score: np.ndarray | None,
    before: np.ndarray | None,
    success: np.ndarray | None,
    gamma: float,
    bonus: float,
) -> np.ndarray:
    """The reward of each step, shape (T,), float32.

    Args:
        success: 1 where the task is done after a step, else 0; None where nobody knows, which suits `AS_IS` only.
        gamma: the discount that a learner will use, which `POTENTIAL` is made for.
    """
    if shape is Shape.AS_IS and score is not None:
        reward = score
    elif shape is Shape.BONUS and score is not None and success is not None:
        reward = score + bonus * success
    elif shape is Shape.POTENTIAL and score is not None and before is not None and success is not None:
        reward = success - 1 + gamma * np.where(success > 0, 0.0, score) - before
    elif shape is Shape.SPARSE and success is not None:
        reward = success - 1
    else:
        raise ValueError(f"{shape}: needs a score or a success that is not there")
    return np.asarray(reward, np.float32)


def scale_of(scores: np.ndarray) -> tuple[float, float]:
    """What to take off scores, shape (N,), and divide them by, so that they span [-1, 0].

    A tanh gives at most [-1, 1] and often a sliver of it, an unbounded network anything; the inverse temperature of a
    learner means the same only if rewards do. Quantiles, because single frames can score far off.
    """
    low, high = np.quantile(scores[np.isfinite(scores)], (0.01, 0.99))
    return float(high), float(max(high - low, 1e-6))


def scaled(scores: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Scores in [-1, 0]."""
    top, span = scale
    return np.clip((scores - top) / span, -1.0, 0.0)
