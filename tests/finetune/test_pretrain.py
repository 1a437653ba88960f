"""Pretraining: killed and resumed it is the unbroken run; what cannot be used is refused before anything is written."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import Store
from finetune.config import resolve
from finetune.pretrain import choose_device, pretrain, resume
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.iql import IQL
from tests.finetune.killing import Killed, until

TINY = Contract("tiny", (StateEntry("x"),), (ActionEntry("a"),))


def logged(run: Path) -> int:
    """The newest logged step, 0 where there is none."""
    file = run / "metrics.jsonl"
    whole = file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []
    return json.loads(whole[-1])["step"] if whole else 0


def test_a_run_killed_by_sigkill_and_resumed_is_the_unbroken_run_bit_for_bit(store, tmp_path, root, same_run):
    """Another process, between two checkpoints, IQL with dropout and decay: parameters, optimisers, both generators."""
    arguments = ["pretrain", str(store), "--steps", "800", "--chunk", "2", "--seed", "5", "--device", "cpu"]
    for setting in ("hidden=[16, 16]", "dropout=0.25", "batch_size=16", "checkpoint_every=100", "log_every=10"):
        arguments += ["--set", setting]
    process = subprocess.Popen(
        [sys.executable, "-m", "firsthand", *arguments, "--run", str(tmp_path / "killed")],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (logged(tmp_path / "killed") >= 120 and logged(tmp_path / "killed") % 100 in (20, 30, 40, 50)):
            assert process.poll() is None, "it was to be killed while it ran"
            time.sleep(0.001)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 100 <= int(Run.open(tmp_path / "killed").last.name) < 800
    resume(tmp_path / "killed")
    file = {"hidden": [16, 16], "dropout": 0.25}
    settings = {"steps": 800, "chunk": 2, "seed": 5, "batch_size": 16, "checkpoint_every": 100, "log_every": 10}
    pretrain(store, tmp_path / "whole", resolve("iql", None, {"learner": file, "device": "cpu"}, settings))
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("algorithm", ["bc", "iql", "famo2o"])
def test_wherever_a_run_dies_it_comes_out_the_same(algorithm, store, tmp_path, config, same_run):
    """Before the first checkpoint, right before, at and after one, and twice."""
    settings = config(algorithm=algorithm)
    pretrain(store, tmp_path / "whole", settings)
    for deaths in ([3], [9], [10], [11], [24, 8], [39]):
        run = tmp_path / "-".join(map(str, deaths))
        with pytest.raises(Killed):
            pretrain(store, run, settings, until(deaths[0]))
        for death in deaths[1:]:
            with pytest.raises(Killed):
                resume(run, until(death))
        result = resume(run)
        assert (result.run, result.steps) == (str(run), 40)
        same_run(tmp_path / "whole", run)


def test_the_same_configuration_gives_the_same_run_and_another_seed_another(store, tmp_path, config):
    states = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain(store, tmp_path / name, config(seed=seed))
        states[name] = (Run.open(tmp_path / name).last / "state.safetensors").read_bytes()
    assert states["a"] == states["b"] != states["c"]


def test_a_finished_run_resumes_to_itself(store, tmp_path, config):
    finished = pretrain(store, tmp_path / "run", config())
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    again = resume(tmp_path / "run")
    assert (again.steps, again.metrics, again.updates_per_second) == (40, finished.metrics, None)
    after = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    assert before == after


def test_a_run_goes_on_with_the_data_it_began_with(store, tmp_path, config, same_run):
    """The store has grown since, and was cleaned up."""
    pretrain(store, tmp_path / "whole", config())
    with pytest.raises(Killed):
        pretrain(store, tmp_path / "killed", config(), until(24))
    opened = Store.open(store)
    opened.append([opened.snapshot().episode(0)] * 3)
    opened.collect_garbage(grace=timedelta(0))
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_run_says_what_it_learned_from_and_how(store, tmp_path, config):
    pretrain(store, tmp_path / "run", config(seed=4))
    snapshot = Store.open(store).snapshot()
    written = Run.open(tmp_path / "run").config
    assert written["kind"] == "pretrain"
    assert (written["train"]["seed"], written["train"]["sampling"]["chunk"], written["train"]["steps"]) == (4, 2, 40)
    assert written["train"]["learner"]["expectile"] == 0.7
    assert written["data"] == {
        "store": str(store),
        "snapshot": snapshot.id,
        "labels": "logged",
        "episodes": 60,
        "unlabelled_episodes": 0,
        "transitions": snapshot.transitions,
        "contract": "walk",
        "contract_hash": snapshot.contract.hash,
    }
    saved = load_checkpoint(Run.open(tmp_path / "run").last)
    assert saved.contract == snapshot.contract
    assert (saved.algorithm.step, saved.algorithm.decay_steps, saved.note) == (40, 40, {"step": 40})


def test_the_written_configuration_repeats_the_run(store, tmp_path, config):
    pretrain(store, tmp_path / "a", config(seed=4))
    pretrain(store, tmp_path / "b", resolve(None, None, Run.open(tmp_path / "a").config["train"]))
    one, other = ((Run.open(tmp_path / name).last / "state.safetensors").read_bytes() for name in "ab")
    assert one == other


def test_metrics_are_logged_at_their_steps_and_the_last_ones_returned(store, tmp_path, config):
    result = pretrain(store, tmp_path / "run", config(steps=13, log_every=5))
    lines = Run.open(tmp_path / "run").metrics()
    assert [line["step"] for line in lines] == [5, 10, 13]
    names = {"value_loss", "value", "actor_loss", "advantage", "weight_clipped", "std", "critic_loss", "q"}
    assert set(lines[-1]) == names | {"step"}
    assert result.metrics == {key: value for key, value in lines[-1].items() if key != "step"}
    assert result.updates_per_second is not None and result.updates_per_second > 0


def test_decay_is_over_the_runs_steps_or_off(store, tmp_path, config):
    for name, decays in (("on", True), ("off", False)):
        pretrain(store, tmp_path / name, config(cosine_decay=decays))
        algorithm = load_checkpoint(Run.open(tmp_path / name).last).algorithm
        assert algorithm.decay_steps == (40 if decays else None)


def test_iql_gets_there_from_random_walks_where_cloning_does_not(store, tmp_path, walk):
    """The whole way through: store, labels, sampling, learning, checkpoint, policy, evaluation."""
    from finetune.evaluate import evaluate
    from policies.policy import Policy

    rate = {}
    settings = {"hidden": [32, 32], "steps": 400, "batch_size": 64, "learning_rate": 3e-3, "device": "cpu"}
    for algorithm in ("bc", "iql"):
        own = settings | ({"target_rate": 0.05} if algorithm == "iql" else {})
        pretrain(store, tmp_path / algorithm, resolve(algorithm, "sparse", None, own))
        policy = Policy.load(Run.open(tmp_path / algorithm).last)
        rate[algorithm] = evaluate(walk(), policy, 20).success.mean()
    assert rate["iql"] >= 0.9
    assert rate["bc"] <= 0.5


def test_a_run_that_diverges_stops_and_keeps_what_was_sound(store, tmp_path, config, monkeypatch):
    """No checkpoint holds what is not finite, even where the checkpoint is not a logged step."""
    update = IQL.update

    def diverging(self, batch):
        info = update(self, batch)
        if self.step > 23:
            with torch.no_grad():
                self.actor.log_std.fill_(float("nan"))
        return info | {"actor_loss": self.actor.log_std.detach().sum()}

    monkeypatch.setattr(IQL, "update", diverging)
    with pytest.raises(InputError, match="learning diverged: actor_loss is nan"):
        pretrain(store, tmp_path / "run", config(log_every=1000))
    run = Run.open(tmp_path / "run")
    assert run.last.name == "000000020"
    assert all(tensor.isfinite().all() for tensor in load_checkpoint(run.last).algorithm.state_dict().values())
    assert [line["step"] for line in run.metrics()] == [10, 20]


# What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "enf"}, r"unknown label set 'enf' in .*; did you mean 'env'\? known: costs, env, logged"),
        ({"labels": "costs"}, "label set 'costs' has no rewards"),
        ({"camera": "frnt"}, r"unknown camera 'frnt'.*known: none"),
        ({"state_entries": ["z"]}, "unknown state entry 'z'"),
        ({"state_entries": []}, "would see nothing"),
        ({"relative_actions": True}, "names no reference"),
        ({"device": "cuda:9"}, "no CUDA GPU|cuda:9"),
    ],
)
def test_bad_settings_leave_no_run(settings, message, store, tmp_path, config):
    if torch.cuda.is_available() and "device" in settings:
        pytest.skip("this machine has a GPU")
    snapshot = Store.open(store).snapshot()
    covered = np.ones(snapshot.episodes, bool)
    for name, key in (("env", "reward"), ("costs", "cost")):
        Store.open(store).write_labels(LabelSet(name, {key: np.zeros(snapshot.steps, np.float32)}, covered))
    with pytest.raises(InputError, match=message) as refusal:
        pretrain(store, tmp_path / "run", config(**settings))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_store_that_is_missing_or_empty_leaves_no_run(store, tmp_path, config):
    with pytest.raises(InputError, match="no such store"):
        pretrain(tmp_path / "nowhere", tmp_path / "run", config())
    with pytest.raises(InputError, match="is a store, not a run"):
        pretrain(tmp_path / "nowhere", store, config())
    Store.create(tmp_path / "empty", TINY)
    with pytest.raises(InputError, match="holds no episodes"):
        pretrain(tmp_path / "empty", tmp_path / "run", config())
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "nowhere").exists()


def test_episodes_without_rewards_are_nothing_to_learn_from(tmp_path, config):
    store = Store.create(tmp_path / "store", TINY)
    store.append([Episode(np.zeros((3, 1), np.float32), np.zeros((2, 1), np.float32), False, True)])
    with pytest.raises(InputError, match="covers no episode; make one with `firsthand label`"):
        pretrain(tmp_path / "store", tmp_path / "run", config())
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_left_as_it_is(store, tmp_path, config):
    pretrain(store, tmp_path / "run", config())
    before = (tmp_path / "run" / "config.yaml").read_bytes(), (Run.open(tmp_path / "run").last).name
    with pytest.raises(InputError, match="a run is there already"):
        pretrain(store, tmp_path / "run", config(seed=9))
    assert before == ((tmp_path / "run" / "config.yaml").read_bytes(), (Run.open(tmp_path / "run").last).name)


def test_only_a_pretraining_run_is_resumed_here(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        resume(tmp_path / "nowhere")
    Run.create(tmp_path / "other", {"kind": "finetune", "train": {}, "data": {}, "parent": "", "online": {}})
    with pytest.raises(InputError, match=r"kind 'finetune', which `firsthand finetune` resumes"):
        resume(tmp_path / "other")


def test_auto_is_a_device_that_is_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
