"""Pretraining where something must never happen: costs that are needed, what is warned of, resuming, acting."""

import shutil

import numpy as np
import pytest
import torch

from episodes.constraints import Constraints, Limit
from episodes.cost_labels import label_with_constraints
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import Store
from finetune.data import load_offline
from finetune.evaluate import evaluate
from finetune.pretrain import pretrain, resume
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.policy import Policy

FISOR = {"algorithm": "fisor", "hidden": [8], "width": 8, "blocks": 1, "candidates": 4}


@pytest.fixture
def costed(store):
    """Random walks, of which some come to the left of x = -0.5, labelled."""
    left = Constraints(limits={"left": Limit("x", low=-0.5, near=0.1)})
    label_with_constraints(Store.open(store), left, "costs")
    return store


def test_a_run_learns_from_costs_and_acts(costed, tmp_path, config, walk):
    heard = []
    result = pretrain(costed, tmp_path / "run", config(labels="costs", **FISOR), say=heard.append)
    assert not heard and not result.warnings
    assert {"feasibility_value_loss", "feasibility_critic_loss", "critic_loss", "actor_loss"} <= set(result.metrics)
    policy = Policy.load(Run.open(tmp_path / "run").last)
    task = walk()
    first = evaluate(task, policy, 3).summary()
    assert evaluate(task, policy, 3).summary() == first


def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(costed, tmp_path, config, same_run):
    settings = config(labels="costs", **FISOR)
    pretrain(costed, tmp_path / "unbroken", settings)
    run = shutil.copytree(tmp_path / "unbroken", tmp_path / "broken")
    for folder in sorted((run / "checkpoint").iterdir())[1:]:
        shutil.rmtree(folder)
    (run / "last").write_text(next((run / "checkpoint").iterdir()).name + "\n")
    resume(run)
    for file in ("last", "metrics.jsonl"):
        assert (run / file).read_bytes() == (tmp_path / "unbroken" / file).read_bytes()
    ours, theirs = (load_checkpoint(Run.open(path).last) for path in (run, tmp_path / "unbroken"))
    assert ours.hash == theirs.hash and torch.equal(ours.beside["generator"], theirs.beside["generator"])


def test_without_costs_it_says_how_to_get_some(store, tmp_path, config):
    with pytest.raises(InputError, match="'logged' has no costs, which fisor learns from; make one with"):
        pretrain(store, tmp_path / "run", config(**FISOR))
    assert not (tmp_path / "run").exists()


def test_costs_with_holes_are_refused(store, tmp_path, config):
    opened = Store.open(store)
    steps = opened.snapshot().steps
    values = {"reward": np.zeros(steps, np.float32), "cost": np.full(steps, -1, np.float32)}
    values["cost"][3] = np.nan
    opened.write_labels(LabelSet("holes", values, np.ones(60, bool)))
    with pytest.raises(InputError, match="'holes' covers episodes, and not all their steps have a cost"):
        load_offline(store, config(labels="holes", **FISOR))


def test_costs_without_rewards_are_refused(store, tmp_path, config):
    opened = Store.open(store)
    cost = np.full(opened.snapshot().steps, -1, np.float32)
    opened.write_labels(LabelSet("bare", {"cost": cost}, np.ones(60, bool)))
    with pytest.raises(InputError, match="'bare' has no rewards, only"):
        load_offline(store, config(labels="bare", **FISOR))


def test_logs_that_violate_nothing_and_rewards_that_say_nothing_are_warned_of(store, tmp_path, config):
    opened = Store.open(store)
    steps = opened.snapshot().steps
    values = {"reward": np.ones(steps, np.float32), "cost": np.full(steps, -1, np.float32)}
    opened.write_labels(LabelSet("safe", values, np.ones(60, bool)))
    heard = []
    result = pretrain(store, tmp_path / "run", config(labels="safe", steps=2, **FISOR), say=heard.append)
    assert len(result.warnings) == len(heard) == 2
    assert "no step violates anything" in heard[0] and "every reward is 1" in heard[1]
    assert not load_offline(store, config(labels="safe")).warnings, "IQL asks for no costs"


def test_who_needs_no_costs_learns_from_the_same_label_set(costed, tmp_path, config):
    pretrain(costed, tmp_path / "with", config(labels="costs", chunk=1))
    pretrain(costed, tmp_path / "without", config(chunk=1))
    ours, theirs = (load_checkpoint(Run.open(tmp_path / run).last).hash for run in ("with", "without"))
    assert ours == theirs


def test_it_is_not_gone_on_with_online(costed, tmp_path, config, walks):
    from finetune.online import OnlineConfig, finetune

    pretrain(costed, tmp_path / "run", config(labels="costs", steps=2, **FISOR))
    for algorithm, message in (("", "'fisor' does not learn online"), ("rlpd", "nothing else starts from")):
        with pytest.raises(InputError, match=message):
            finetune(tmp_path / "run", tmp_path / "new", OnlineConfig(task="walk", algorithm=algorithm))
