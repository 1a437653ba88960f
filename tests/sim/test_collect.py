"""Collecting: qualities are drawn per episode, and from nothing else."""

import numpy as np
import pytest

from episodes.errors import InputError
from sim.collect import collect
from sim.operators import RandomOperator
from sim.task import make_task


@pytest.fixture
def task():
    return make_task("pusht:horizon=2")


def qualities(task, seeds, **options):
    drawn = []

    def operator(quality):
        drawn.append(quality)
        return RandomOperator(task)

    episodes = list(collect(task, operator, seeds, **options))
    assert [episode.origin for episode in episodes] == [f"{task.name} seed {seed}" for seed in seeds]
    return drawn


def test_qualities_fill_their_range_evenly(task):
    drawn = qualities(task, range(200), quality=(0.2, 0.6))
    assert min(drawn) >= 0.2
    assert max(drawn) <= 0.6
    assert np.mean(drawn) == pytest.approx(0.4, abs=0.03)


def test_a_quality_depends_on_its_episode_and_the_seed_alone(task):
    assert qualities(task, [4, 5, 6])[1:] == qualities(task, [5, 6])
    assert qualities(task, [4], seed=1) != qualities(task, [4], seed=2)


def test_progress_hears_of_every_episode(task):
    heard = []
    episodes = list(collect(task, lambda quality: RandomOperator(task), [1, 2], heard.append))
    assert heard == episodes


def test_a_range_that_is_none_is_refused(task):
    for quality in ((0.5, 0.2), (-0.1, 1.0), (0.0, 1.5)):
        with pytest.raises(InputError, match="quality"):
            next(collect(task, lambda _: RandomOperator(task), [1], quality=quality))
