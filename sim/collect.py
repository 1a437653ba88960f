"""Episodes of mixed quality, as real logs are."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from episodes.episode import Episode
from episodes.errors import InputError
from sim.base import Task
from sim.operators import Operator
from sim.rollout import rollout


def collect(
    task: Task,
    make_operator: Callable[[float], Operator],
    seeds: Sequence[int],
    progress: Callable[[Episode], None] | None = None,
    *,
    quality: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    record_images: bool = True,
) -> Iterator[Episode]:
    """One episode per seed, each by an operator of its own quality.

    Args:
        task: where.
        make_operator: an operator of a quality in [0, 1].
        seeds: of the episodes.
        progress: called with each episode before it is handed out.
        quality: range that each episode's quality is drawn from, uniformly.
        seed: of those draws. An episode's quality depends on this and its own seed, not on which others are collected.
        record_images: whether the episodes keep the task's cameras.

    Raises:
        InputError: for a range that is not inside [0, 1].
    """
    low, high = quality
    if not 0 <= low <= high <= 1:
        raise InputError(f"quality must be a range inside [0, 1], got {low} to {high}")
    for episode_seed in seeds:
        drawn = np.random.default_rng(np.random.SeedSequence([seed, episode_seed])).uniform(low, high)
        episode = rollout(task, make_operator(float(drawn)), episode_seed, record_images=record_images)
        if progress is not None:
            progress(episode)
        yield episode
