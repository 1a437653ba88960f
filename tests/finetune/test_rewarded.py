"""What comes online is rewarded as the offline data is, or learning does not begin."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import Store
from finetune.learner import Beginning, LearningConfig
from finetune.pretrain import pretrain
from finetune.rewarded import check_rewards
from finetune.run import Run
from sim.collect import collect
from sim.labels import env_labels
from sim.operators import make_operator
from sim.task import make_task

TASK = "point-robot"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten episodes whose rewards a simulator recorded."""
    task = make_task(TASK)
    store = Store.create(tmp_path_factory.mktemp("logs") / "store", task.contract)
    store.append(list(collect(task, lambda q: make_operator("scripted", task, q), list(range(10)))))
    return store


def run_on(logs: Store, tmp_path: Path, config: Any, name: str, labels: LabelSet | None) -> Run:
    if labels is not None:
        logs.write_labels(labels)
    pretrain(logs.path, tmp_path / "run", config(labels=name, steps=1, chunk=1, batch_size=8))
    return Run.open(tmp_path / "run")


def made_by(logs: Store, name: str, more: float = 0.0, **provenance: Any) -> LabelSet:
    """The task's own rewards, and more of it, as if something else had made them."""
    found = env_labels(logs.snapshot(), make_task(TASK), name)
    reward = found.values["reward"] + np.float32(more)
    return replace(found, values={"reward": reward}, provenance=found.provenance | provenance)


def test_the_task_that_the_rewards_are_from_gives_them_online_too(logs: Store, tmp_path: Path, config: Any) -> None:
    check_rewards(run_on(logs, tmp_path, config, "env", made_by(logs, "env")), TASK)


def test_so_does_one_of_another_name_that_gives_the_same(logs: Store, tmp_path: Path, config: Any) -> None:
    labels = made_by(logs, "same", task="point-robot:far=1")
    check_rewards(run_on(logs, tmp_path, config, "same", labels), TASK)


def test_one_that_rewards_the_same_states_otherwise_is_refused(logs: Store, tmp_path: Path, config: Any) -> None:
    run = run_on(logs, tmp_path, config, "other", made_by(logs, "other", 0.5, task="point-robot:far=1"))
    with pytest.raises(InputError, match="label set 'other' has the rewards of task 'point-robot:far=1', and"):
        check_rewards(run, TASK)


def test_a_task_of_another_layout_is_refused_in_one_line(logs: Store, tmp_path: Path, config: Any) -> None:
    run = run_on(logs, tmp_path, config, "layout", made_by(logs, "layout"))
    with pytest.raises(InputError, match="its state is not task 'pusht''s"):
        check_rewards(run, "pusht")


def test_rewards_that_nothing_on_a_robot_gives_are_refused_there(logs: Store, tmp_path: Path, config: Any) -> None:
    run = run_on(logs, tmp_path, config, "logged", None)
    check_rewards(run, TASK)
    with pytest.raises(InputError, match="label set 'logged' has rewards that nothing on a robot gives"):
        check_rewards(run)


def test_successes_can_be_said_and_what_was_seen_can_be_looked_for(logs: Store, tmp_path: Path, config: Any) -> None:
    steps = logs.snapshot().steps
    sparse = LabelSet("sparse", {"reward": np.eye(1, steps, dtype=np.float32)[0]}, np.ones(10, bool))
    check_rewards(run_on(logs, tmp_path, config, "sparse", sparse))
    seen = made_by(logs, "seen", labeller="labellers/seen")
    check_rewards(run_on(logs, tmp_path / "looking", config, "seen", seen))


def test_a_penalty_that_nobody_takes_online_is_refused(logs: Store, tmp_path: Path, config: Any) -> None:
    run = run_on(logs, tmp_path, config, "taken", made_by(logs, "taken", penalty=10.0))
    with pytest.raises(InputError, match="label set 'taken' takes a penalty of 10 from what violates something"):
        Beginning.of_parent(run.path, LearningConfig())
