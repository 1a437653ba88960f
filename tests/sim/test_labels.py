"""The simulator's reward as a label set: of the next state, with the end of the task, only where it can be known."""

from pathlib import Path

import numpy as np
import pytest

from episodes.episode import Episode
from episodes.errors import InputError
from episodes.store import Store
from sim.base import Task
from sim.collect import collect
from sim.labels import env_labels, label_with_env
from sim.operators import make_operator
from sim.task import make_task

GOAL = [256.0, 256.0, np.pi / 4]
"""Where Push-T wants its block: x, y [px], angle [rad]."""


@pytest.fixture(scope="module")
def pusht() -> Task:
    return make_task("pusht")


def pushed(offsets: list[float], *, terminated: bool = False, origin: str = "") -> Episode:
    """An episode without a final observation, whose block stands this far right of its goal at each step [px]."""
    state = np.array([[100.0, 100.0, GOAL[0] + offset, *GOAL[1:]] for offset in offsets], np.float32)
    action = np.zeros((len(offsets), 2), np.float32)
    return Episode(state, action, terminated=terminated, truncated=not terminated, origin=origin)


def store_of(tmp_path: Path, task: Task, *episodes: Episode) -> Store:
    store = Store.create(tmp_path / "store", task.contract)
    store.append(list(episodes))
    return store


def test_a_step_is_rewarded_for_the_state_after_it(pusht: Task, tmp_path: Path):
    episode = pushed([60.0, 40.0, 20.0])
    labels = env_labels(store_of(tmp_path, pusht, episode).snapshot(), pusht, "env")
    coverage, _ = pusht.score(episode.state)
    assert 0 < coverage[0] < coverage[1] < coverage[2] < 0.95
    np.testing.assert_array_equal(labels.values["reward"], [coverage[1], coverage[2], np.nan])
    np.testing.assert_array_equal(labels.values["success"], [0, 0, np.nan])
    assert labels.covered.all() and not labels.values["terminated"].any()


def test_the_task_ends_where_the_state_after_a_step_is_a_success(pusht: Task, tmp_path: Path):
    labels = env_labels(store_of(tmp_path, pusht, pushed([60.0, 30.0, 0.0, 0.0, 30.0])).snapshot(), pusht, "env")
    np.testing.assert_array_equal(labels.values["terminated"], [0, 1, 1, 0, 0])
    assert labels.values["reward"][1] > 0.99


def test_a_logged_end_without_the_state_after_it_has_no_label_to_learn_from(pusht: Task, tmp_path: Path):
    store = store_of(tmp_path, pusht, pushed([60.0, 40.0], terminated=True), pushed([60.0, 40.0]))
    labels = env_labels(store.snapshot(), pusht, "env")
    assert labels.covered.tolist() == [False, True]
    assert labels.values["terminated"].tolist() == [0, 1, 0, 0]


def test_what_a_noisy_sensor_saw_is_not_labelled(pusht: Task, tmp_path: Path):
    noisy = make_task("pusht:horizon=4", gap="obs_noise=5")
    seen = list(collect(noisy, lambda quality: make_operator("random", noisy), [0]))
    store = store_of(tmp_path, pusht, *seen, pushed([60.0, 40.0, 20.0]))
    assert env_labels(store.snapshot(), pusht, "env").covered.tolist() == [False, True]
    said = label_with_env(store, pusht, "env")
    assert (said["episodes"], said["uncovered"]) == (1, 1)
    coverage, _ = pusht.score(pushed([40.0, 20.0]).state)
    assert said["return_mean"] == pytest.approx(coverage.sum()), "of the covered episodes only"


def test_labelling_a_collected_log_says_what_the_simulator_said(tmp_path: Path):
    task = make_task("lift-quick")
    episodes = list(collect(task, lambda quality: make_operator("scripted", task, quality), [3, 4], quality=(1.0, 1.0)))
    assert all(episode.terminated for episode in episodes)
    store = store_of(tmp_path, task, *episodes)
    labels, logged = env_labels(store.snapshot(), task, "env"), store.snapshot().labels("logged")
    np.testing.assert_array_equal(labels.values["reward"], logged.values["reward"])
    np.testing.assert_array_equal(labels.values["success"], logged.values["success"])
    ends = np.zeros(store.snapshot().steps)
    ends[store.snapshot().step_ends - 1] = 1
    np.testing.assert_array_equal(labels.values["terminated"], ends)


def test_what_cannot_be_scored_is_refused_in_words(pusht: Task, tmp_path: Path):
    store = store_of(tmp_path, pusht, pushed([60.0, 40.0]))
    with pytest.raises(InputError, match="use the labels 'logged' instead"):
        env_labels(store.snapshot(), make_task("hopper"), "env")
    with pytest.raises(InputError, match="5 entries, expected 19"):
        env_labels(store.snapshot(), make_task("lift-quick"), "env")
    empty = Store.create(tmp_path / "empty", pusht.contract)
    with pytest.raises(InputError, match="no episodes to label"):
        env_labels(empty.snapshot(), pusht, "env")
