"""A filter made of a run: on episodes kept aside, for one checkpoint, whole on the disk or not there."""

import json
import shutil

import numpy as np
import pytest
import torch

from episodes.constraints import Constraints, Limit
from episodes.cost_labels import label_with_constraints
from episodes.errors import InputError
from episodes.store import Store
from finetune.calibrating import calibrate_run, calibrated, filter_of, steps_of
from finetune.pretrain import pretrain, resume
from finetune.run import Run
from policies.checkpoint import load_checkpoint, save_checkpoint
from policies.feasibility import Ruling
from sim.operators import RandomOperator
from tests.finetune.conftest import collected

FISOR = {"algorithm": "fisor", "hidden": [8], "width": 8, "blocks": 1, "candidates": 4, "labels": "costs", "chunk": 1}
LEFT = Constraints(limits={"left": Limit("x", low=-0.5, near=0.1)})


@pytest.fixture
def costed(store):
    label_with_constraints(Store.open(store), LEFT, "costs")
    return store


@pytest.fixture
def run(costed, tmp_path, config):
    pretrain(costed, tmp_path / "run", config(held_out=0.5, **FISOR))
    return Run.open(tmp_path / "run")


def others(path, walk, episodes=80, name="costs"):
    """Walks that nothing was learned from."""
    store = collected(path, walk(), episodes, operator=RandomOperator(walk()))
    label_with_constraints(store, LEFT, name)
    return store


def test_steps_are_what_was_seen_done_and_what_came_of_it(costed):
    snapshot = Store.open(costed).snapshot()
    cost = snapshot.labels("costs").values["cost"]
    found = steps_of(snapshot, cost, [3, 0])
    for part, index in zip(found.episodes, (3, 0), strict=True):
        episode = snapshot.episode(index)
        np.testing.assert_array_equal(found.state[part], episode.state[: episode.steps])
        np.testing.assert_array_equal(found.action[part], episode.action)
        after = episode.state[1 : episode.steps + 1, 0]
        np.testing.assert_array_equal(found.cost[part] > 0, after < -0.5)
    assert found.episodes[-1].stop == len(found.state) == len(found.cost)


def test_a_run_is_calibrated_on_what_it_held_out_and_the_filter_comes_back_as_it_was(run):
    snapshot = Store.open(run.path.parent / "store").snapshot()
    held_out = run.config["data"]["held_out"]
    cost = snapshot.labels("costs").values["cost"]
    found = calibrate_run(run, 0.5)
    violating = [index for index in held_out if (steps_of(snapshot, cost, [index]).cost > 0).any()]
    assert found.violating_episodes == len(violating) and 0 < len(violating) < len(held_out)
    assert found.certified <= 0.5 and found.margin >= 0
    loaded = filter_of(run)
    assert loaded.calibration.margin == loaded.filter.margin == found.margin
    quiet = steps_of(snapshot, cost, [index for index in held_out if index not in violating])
    accepted = loaded.filter.q_h(quiet.state, quiet.action) <= -found.margin
    assert found.safe_accepted == pytest.approx(accepted.mean())
    learned = [i for i in range(snapshot.episodes) if i not in held_out]
    model = load_checkpoint(run.last).algorithm
    _, fresh = calibrated(model, steps_of(snapshot, cost, learned), steps_of(snapshot, cost, held_out), 0.5, 5)
    steps = steps_of(snapshot, cost, held_out)
    np.testing.assert_array_equal(loaded.filter.q_h(steps.state, steps.action), fresh.q_h(steps.state, steps.action))
    assert loaded.contract == snapshot.contract


def test_what_it_promises_holds_of_the_episodes_it_was_calibrated_on(run):
    """At most the certified number of violating episodes has an accepted step shortly before the violation."""
    found = calibrate_run(run, 0.4, horizon=3)
    judge = filter_of(run).filter
    snapshot = Store.open(run.path.parent / "store").snapshot()
    cost = snapshot.labels("costs").values["cost"]
    accepted = 0
    for index in run.config["data"]["held_out"]:
        steps = steps_of(snapshot, cost, [index])
        if (steps.cost > 0).any():
            first = int(np.argmax(steps.cost > 0))
            before = slice(max(first - 2, 0), first + 1)
            accepted += bool((judge.q_h(steps.state[before], steps.action[before]) <= -judge.margin).any())
    assert accepted == found.false_safe


def test_the_filter_has_the_margin_that_was_calibrated(run):
    """Critics that think well of everything by different amounts: only a margin tells what is accepted."""
    snapshot = Store.open(run.path.parent / "store").snapshot()
    cost = snapshot.labels("costs").values["cost"]
    saved = load_checkpoint(run.last)
    with torch.no_grad():
        judging = dict(saved.algorithm.actor.feasibility.named_parameters())
        for parameter in judging.values():
            parameter.mul_(5)
        [parameter for name, parameter in judging.items() if "bias" in name][-1].fill_(-30.0)
    save_checkpoint(run.last, saved.algorithm, saved.contract)
    found = calibrate_run(run, 0.4)
    assert found.margin > 1
    loaded = filter_of(run).filter
    quiet = [i for i in run.config["data"]["held_out"] if not (steps_of(snapshot, cost, [i]).cost > 0).any()]
    steps = steps_of(snapshot, cost, quiet)
    q_h = loaded.q_h(steps.state, steps.action)
    assert found.safe_accepted == pytest.approx((q_h <= -found.margin).mean())
    assert (q_h <= 0).mean() > found.safe_accepted, "without the margin more would pass"


def test_other_episodes_can_be_calibrated_on(costed, run, tmp_path, walk):
    others(tmp_path / "others", walk)
    found = calibrate_run(run, 0.3, store=tmp_path / "others")
    assert found.violating_episodes > calibrate_run(run, 0.5).violating_episodes


def test_other_episodes_have_to_be_of_the_same_robot_and_have_costs(run, tmp_path, walk):
    others(tmp_path / "others", walk, episodes=4, name="mine")
    with pytest.raises(InputError, match="unknown label set 'costs'"):
        calibrate_run(run, 0.3, store=tmp_path / "others")
    with pytest.raises(InputError, match="'logged' has no costs; make one with"):
        calibrate_run(run, 0.3, store=tmp_path / "others", labels="logged")
    task = walk()
    task.contract = task.contract.__class__("other", task.contract.state, task.contract.action, (), task.contract.rate)
    collected(tmp_path / "foreign", task, 2, operator=RandomOperator(task))
    with pytest.raises(InputError, match="is of another contract than what was learned from"):
        calibrate_run(run, 0.3, store=tmp_path / "foreign", labels="logged")
    assert not (run.path / "filter").exists()


def test_a_run_that_kept_nothing_aside_says_how_to(costed, tmp_path, config):
    pretrain(costed, tmp_path / "all", config(**FISOR))
    with pytest.raises(InputError, match=r"learned from every episode; begin a run with --set held_out=0.2"):
        calibrate_run(Run.open(tmp_path / "all"), 0.3)


def test_too_few_violating_episodes_leave_no_filter(run):
    with pytest.raises(InputError, match="held-out episodes violate something, which certifies"):
        calibrate_run(run, 0.01)
    assert not (run.path / "filter").exists()


def test_another_algorithm_judges_nothing(parent):
    with pytest.raises(InputError, match="is a run of iql, and feasibility is what fisor learns"):
        calibrate_run(Run.open(parent), 0.3)


def test_without_a_filter_it_says_how_to_make_one(run):
    with pytest.raises(InputError, match="no filter is there; make one with `firsthand calibrate"):
        filter_of(run)


def test_a_filter_is_of_one_checkpoint_alone(run):
    """What was learned since has other critics: its margin would promise what nobody looked at."""
    calibrate_run(run, 0.5)
    older = sorted((run.path / "checkpoint").iterdir())[0]
    (run.path / "last").write_text(older.name + "\n")
    with pytest.raises(InputError, match=r"was calibrated for another checkpoint than .*; calibrate again"):
        filter_of(run)


def test_a_damaged_filter_is_refused(run):
    calibrate_run(run, 0.5)
    whole = shutil.copytree(run.path / "filter", run.path / "whole")

    def refused(why):
        with pytest.raises(InputError, match=why):
            filter_of(run)
        shutil.rmtree(run.path / "filter")
        shutil.copytree(whole, run.path / "filter")

    tensors = run.path / "filter" / "filter.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    refused("does not match its description: damaged or replaced")
    tensors.unlink()
    refused("is no filter that can be read")
    description = run.path / "filter" / "filter.json"
    for text in ("", "[]", "{}", "{broken"):
        description.write_text(text)
        refused("is no filter that can be read")
    for margin in (-1.0, float("nan")):
        content = json.loads((whole / "filter.json").read_text())
        content["calibration"]["margin"] = margin
        description.write_text(json.dumps(content))
        refused("margin")
    assert filter_of(run).calibration.rate == 0.5


def test_calibrating_again_replaces_the_filter(run):
    calibrate_run(run, 0.5)
    again = calibrate_run(run, 0.4)
    assert filter_of(run).calibration.rate == 0.4 and filter_of(run).filter.margin == again.margin


def test_a_resumed_run_is_filtered_as_the_unbroken_one(run, tmp_path):
    """The filter follows from the checkpoint and the log alone."""
    calibrate_run(run, 0.5)
    broken = shutil.copytree(run.path, tmp_path / "broken")
    for folder in sorted((broken / "checkpoint").iterdir())[1:]:
        shutil.rmtree(folder)
    (broken / "last").write_text(next((broken / "checkpoint").iterdir()).name + "\n")
    resume(broken)
    calibrate_run(Run.open(broken), 0.5)
    for name in ("filter.json", "filter.safetensors"):
        assert (broken / "filter" / name).read_bytes() == (run.path / "filter" / name).read_bytes()


def test_what_was_never_logged_is_stopped(run):
    calibrate_run(run, 0.5)
    judge = filter_of(run).filter
    far = {"state": np.array([40.0, 40.0], np.float32)}
    assert judge.judge(far, np.zeros(2, np.float32)).ruling == Ruling.STOP
