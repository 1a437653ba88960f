"""Evaluation: how well an operator does in a simulated task, on seeds fixed beforehand."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes.contract import Contract
from episodes.episode import Episode
from episodes.errors import InputError
from finetune.intervals import mean_interval, rate_interval
from sim.base import Task
from sim.operators import Operator
from sim.rollout import rollout

FIRST_SEED = 1_000_000
"""Evaluation seeds begin here, far from those that episodes to learn from are collected with."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Per-episode outcomes, in the order of the seeds."""

    task: str
    seed: int
    success: np.ndarray
    """Shape (N,), 1 where the episode was ever a success; NaN throughout where the task cannot succeed."""
    returns: np.ndarray
    """Shape (N,): sum of the raw rewards."""
    best_reward: np.ndarray
    """Shape (N,): the largest raw reward; on Push-T the maximum coverage."""
    lengths: np.ndarray
    """Shape (N,): steps."""
    violations: np.ndarray | None = None
    """Shape (N,): steps that led into what the task says must never happen; None where it says nothing."""

    def summary(self) -> dict[str, Any]:
        """The numbers that `firsthand evaluate --json` prints."""
        count = len(self.success)
        succeeds = not np.isnan(self.success).any()
        return {
            "task": self.task,
            "episodes": count,
            "seed": self.seed,
            "success_rate": float(self.success.mean()) if succeeds else None,
            "success_interval": list(rate_interval(int(self.success.sum()), count)) if succeeds else None,
            "return_mean": float(self.returns.mean()),
            "return_interval": list(mean_interval(self.returns)),
            "best_reward_mean": float(self.best_reward.mean()),
            "best_reward_interval": list(mean_interval(self.best_reward)),
            "length_mean": float(self.lengths.mean()),
            **self._violated(),
            "per_episode": {
                "success": self.success.tolist() if succeeds else None,
                "return": self.returns.tolist(),
                "best_reward": self.best_reward.tolist(),
                "length": self.lengths.tolist(),
                "violations": None if self.violations is None else self.violations.tolist(),
            },
        }

    def _violated(self) -> dict[str, Any]:
        if self.violations is None:
            return {"violation_mean": None, "violated_rate": None, "violated_interval": None}
        count, violated = len(self.violations), int((self.violations > 0).sum())
        return {
            "violation_mean": float(self.violations.mean()),
            "violated_rate": violated / count,
            "violated_interval": list(rate_interval(violated, count)),
        }


def check_fits(trained: Contract, camera: str | None, task: Task) -> None:
    """Raise an InputError unless a policy that was trained on one contract, with one of its cameras, fits a task."""
    for kind, expected, there in (
        ("state", trained.state_names, task.contract.state_names),
        ("action", trained.action_names, task.contract.action_names),
    ):
        if expected != there:
            raise InputError(
                f"task {task.name!r}: its {kind} entries are not those that the policy was trained on: "
                f"{len(there)} ({', '.join(there[:3])}, ...), expected {len(expected)} ({', '.join(expected[:3])}, ...)"
            )
    if None not in (trained.rate, task.contract.rate) and trained.rate != task.contract.rate:
        raise InputError(
            f"task {task.name!r}: runs at {task.contract.rate:g} Hz, and the policy was trained at {trained.rate:g} Hz"
        )
    for seen in trained.cameras:
        if seen.name == camera and seen not in task.contract.cameras:
            size = f"{seen.height}x{seen.width}"
            raise InputError(f"task {task.name!r}: the policy sees camera {camera!r} at {size}, and it is not recorded")


def evaluate(
    task: Task,
    operator: Operator,
    episodes: int,
    *,
    seed: int = FIRST_SEED,
    videos: int = 0,
    on_video: Callable[[int, list[np.ndarray]], None] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Evaluation:
    """Run `episodes` episodes on the seeds `seed`, `seed + 1`, ...

    Args:
        videos: how many of the first episodes are rendered and handed to `on_video` with their number.

    Raises:
        InputError: for seeds that a task does not take.
    """
    if not 0 <= seed <= 2**32 - episodes:
        raise InputError(f"seed {seed}: expected 0 to {2**32 - episodes}, so that {episodes} episodes have seeds")
    outcomes = []
    for number in progress(range(episodes)):
        frames: list[np.ndarray] | None = [] if number < videos else None
        episode = rollout(task, operator, seed + number, record_images=False, frames=frames)
        outcomes.append(_outcome(episode))
        if frames is not None and on_video is not None:
            on_video(number, frames)
    success, returns, best, lengths, violations = (np.array(c, np.float64) for c in zip(*outcomes, strict=True))
    told = None if np.isnan(violations).any() else violations
    return Evaluation(task.name, seed, success, returns, best, lengths, told)


def _outcome(episode: Episode) -> tuple[float, float, float, float, float]:
    reward = episode.reward
    assert reward is not None
    success = np.nan if episode.success is None else float(episode.success.max())
    violations = np.nan if episode.cost is None else float((episode.cost > 0).sum())
    return success, float(reward.sum()), float(reward.max()), float(episode.steps), violations
