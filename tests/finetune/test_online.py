"""Fine-tuning: killed and resumed it is the unbroken run, and it learns from exactly what it recorded."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.encoders import Encoder
from episodes.errors import InputError
from episodes.store import Store
from episodes.transitions import Transitions
from episodes.typed import parse
from finetune.config import TrainConfig
from finetune.experience import Experience
from finetune.learner import Beginning, Learner
from finetune.online import FIRST_EPISODE_SEED, OnlineConfig, finetune, resume, seeds_of_collection
from finetune.pretrain import pretrain
from finetune.report import write_report
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint
from policies.iql import IQL
from rewards.labeller import EpisodeLabeller, Labeller
from tests.finetune.killing import Killed, until


def online(**settings) -> OnlineConfig:
    return OnlineConfig(**({"task": "walk", "episodes": 5, "checkpoint_every": 2, "evaluate_every": 2} | settings))


@pytest.fixture
def batches(monkeypatch) -> list:
    """Every batch that IQL learned from while the test ran."""
    seen = []
    update = IQL.update
    monkeypatch.setattr(IQL, "update", lambda self, batch: seen.append(batch) or update(self, batch))
    return seen


def logged(run: Path) -> int:
    """The newest logged step, -1 where there is none."""
    file = run / "metrics.jsonl"
    whole = file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []
    return json.loads(whole[-1])["step"] if whole else -1


# Bit for bit -----------------------------------------------------------------------------------------------------


def test_a_run_killed_by_sigkill_and_resumed_is_the_unbroken_run_bit_for_bit(pusht_parent, tmp_path, root, same_run):
    """Another process, between two checkpoints: parameters, optimisers, sampler, recorded episodes and metrics."""
    settings = ["checkpoint_every=3", "updates_per_step=8", "evaluate_every=4", "evaluation_episodes=1"]
    arguments = ["finetune", str(pusht_parent), "--task", "pusht:horizon=5", "--episodes", "14"]
    arguments += [word for setting in settings for word in ("--set", setting)]
    process = subprocess.Popen(
        [sys.executable, "-m", "firsthand", *arguments, "--run", str(tmp_path / "killed")],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        while logged(tmp_path / "killed") not in (4, 5, 7, 8, 10, 11):
            assert process.poll() is None, "it was to be killed while it ran"
            time.sleep(0.001)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    acted = Store.open(tmp_path / "killed" / "episodes").snapshot().episodes
    assert 3 <= int(Run.open(tmp_path / "killed").last.name) <= acted < 14
    resume(tmp_path / "killed")
    config = OnlineConfig(
        task="pusht:horizon=5",
        episodes=14,
        checkpoint_every=3,
        updates_per_step=8,
        evaluate_every=4,
        evaluation_episodes=1,
    )
    finetune(pusht_parent, tmp_path / "whole", config)
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_wherever_a_run_dies_it_comes_out_the_same(parent, walks, tmp_path, same_run):
    """Before the first episode, before, at and after a checkpoint, in the last episode, and twice."""
    whole = finetune(parent, tmp_path / "whole", online())
    for deaths in ([0], [1], [2], [4], [3, 1]):
        run = tmp_path / "-".join(map(str, deaths))
        with pytest.raises(Killed):
            finetune(parent, run, online(), until(deaths[0]))
        for death in deaths[1:]:
            with pytest.raises(Killed):
                resume(run, until(death))
        result = resume(run)
        same_run(tmp_path / "whole", run)
        assert (result.steps, result.metrics, result.episodes) == (whole.steps, whole.metrics, 5)
        assert (result.online_steps, result.online_success_rate) == (whole.online_steps, whole.online_success_rate)


@pytest.mark.parametrize("where", ["MetricsLog.write", "Learner.take", "_Session._save", "Run.mark_last"])
def test_a_death_between_two_writes_loses_nothing(where, parent, walks, tmp_path, same_run, monkeypatch):
    """After an episode is stored and before it is learned from; after a line and before its checkpoint; and so on."""
    finetune(parent, tmp_path / "whole", online())
    owner, name = where.split(".")
    owner = getattr(__import__("finetune.online", fromlist=[owner]), owner)
    real = getattr(owner, name)
    for fatal in (1, 2, 3):
        calls = []

        def dying(self, *arguments, calls=calls, fatal=fatal, **options):
            calls.append(1)
            if len(calls) == fatal:
                raise Killed
            return real(self, *arguments, **options)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, name, dying)
            finetune(parent, tmp_path / str(fatal), online())
        resume(tmp_path / str(fatal))
        same_run(tmp_path / "whole", tmp_path / str(fatal))


def test_a_finished_run_resumes_to_itself(parent, walks, tmp_path, same_run):
    done = finetune(parent, tmp_path / "run", online())
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    again = resume(tmp_path / "run")
    assert (again.steps, again.online_steps, again.online_success_rate) == (
        done.steps,
        done.online_steps,
        done.online_success_rate,
    )
    assert again.updates_per_second is None and set(done.metrics) <= set(again.metrics)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_an_episode_that_does_not_repeat_itself_is_refused(parent, walks, tmp_path):
    """The simulator has changed since: going on would mix two worlds."""
    with pytest.raises(Killed):
        finetune(parent, tmp_path / "run", online(), until(3))
    walks(horizon=5)
    with pytest.raises(InputError, match=r"episode \d does not repeat itself"):
        resume(tmp_path / "run")


def test_a_parent_that_has_changed_before_the_first_checkpoint_is_refused(parent, walks, store, tmp_path, config):
    with pytest.raises(Killed):
        finetune(parent, tmp_path / "run", online(), until(0))
    (tmp_path / "run" / "last").unlink()
    (parent / "config.yaml").unlink()
    pretrain(store, parent, config(chunk=1, steps=50))
    with pytest.raises(InputError, match="has changed since"):
        resume(tmp_path / "run")


# What is learned from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "offline"), [(0.5, 8), (0.25, 4), (0.0, 0), (0.9, 14)])
def test_every_batch_has_exactly_its_shares(share, offline, parent, walks, tmp_path, batches, store):
    """Online rows are told by their states, none of which the offline store holds. 16 rows; 0.9 of them are 14.4."""
    finetune(parent, tmp_path / "run", online(offline_share=share, episodes=3, evaluate_every=0))
    known = {row.tobytes() for row in Store.open(store).snapshot().column("state")}
    acted = {row.tobytes() for row in Store.open(tmp_path / "run" / "episodes").snapshot().column("state")}
    assert not known & acted
    assert len(batches) > 10
    for batch in batches:
        rows = [row.numpy().tobytes() for row in batch.state]
        assert (sum(row in known for row in rows), sum(row in acted for row in rows)) == (offline, 16 - offline)


def test_the_runs_own_store_holds_what_was_learned_from(parent, walks, tmp_path, monkeypatch):
    learned = []
    add = Experience.add
    monkeypatch.setattr(
        Experience, "add", lambda self, episode, look: learned.append(episode) or add(self, episode, look)
    )
    finetune(parent, tmp_path / "run", online(evaluate_every=0))
    snapshot = Store.open(tmp_path / "run" / "episodes").snapshot()
    assert snapshot.episodes == len(learned) == 5
    for index, episode in enumerate(learned):
        stored = snapshot.episode(index)
        for name in ("state", "action", "reward", "success", "source"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(episode, name))
        assert (stored.terminated, stored.truncated) == (episode.terminated, episode.truncated)
        assert stored.origin == f"walk seed {FIRST_EPISODE_SEED + index}"


def test_online_rewards_are_scaled_as_the_offline_ones(parent, walks, tmp_path, batches):
    """The parent was trained on success - 1; terminated rows are successes, at reward 0."""
    finetune(parent, tmp_path / "run", online(episodes=12, offline_share=0.0, updates_per_step=3))
    reward = torch.cat([batch.reward for batch in batches])
    mask = torch.cat([batch.mask for batch in batches])
    assert set(reward.tolist()) <= {-1.0, 0.0}
    assert torch.equal(reward == 0.0, mask == 0.0)


def test_updates_follow_the_steps_after_the_warm_up(parent, walks, tmp_path, batches):
    result = finetune(
        parent, tmp_path / "run", online(episodes=6, warm_up_episodes=3, updates_per_step=2, evaluate_every=0)
    )
    lengths = np.diff(Store.open(tmp_path / "run" / "episodes").snapshot().step_ends, prepend=0)
    assert len(batches) == 2 * lengths[2:].sum()
    assert result.steps == 30 + len(batches)
    lines = Run.open(tmp_path / "run").metrics()
    assert [line["length"] for line in lines] == lengths.tolist()
    assert ["critic_loss" in line for line in lines] == [False, False, True, True, True, True]


def test_it_acts_stochastically_on_seeds_of_its_own(parent, walks, tmp_path, monkeypatch):
    from finetune import online as module

    tasks = []
    make = module.make_task
    monkeypatch.setattr(module, "make_task", lambda *a, **o: tasks.append(make(*a, **o)) or tasks[-1])
    for seed in (0, 3):
        finetune(parent, tmp_path / str(seed), online(episodes=2, seed=seed, evaluate_every=2, evaluation_episodes=2))
    first, second = FIRST_EPISODE_SEED, FIRST_EPISODE_SEED + 30_000
    evaluation = [1_000_000, 1_000_001]
    assert tasks[0].seeds == [*evaluation, first, first + 1, *evaluation]
    assert tasks[1].seeds == [*evaluation, second, second + 1, *evaluation]
    episode = Store.open(tmp_path / "0" / "episodes").snapshot().episode(0)
    policy = load_checkpoint(tmp_path / "0" / "checkpoint" / "000000000").algorithm
    mean = policy.act(torch.from_numpy(episode.state[:-1]))[:, 0].numpy()
    assert np.abs(episode.action - mean).max() > 0.1


@pytest.mark.parametrize(("settings", "rate"), [({}, 3e-4), ({"actor_learning_rate": 2e-5}, 2e-5)])
def test_the_learning_rate_stays_up_online(settings, rate, parent, walks, tmp_path, monkeypatch):
    """The parent's schedule had come down to zero. Resumed, too."""
    rates = []
    update = IQL.update

    def spy(self, batch):
        info = update(self, batch)
        rates.append(self.optimisers["actor"].param_groups[0]["lr"])
        return info

    monkeypatch.setattr(IQL, "update", spy)
    assert load_checkpoint(Run.open(parent).last).algorithm.decay_steps == 30
    with pytest.raises(Killed):
        finetune(parent, tmp_path / "run", online(**settings), until(3))
    resume(tmp_path / "run")
    assert set(rates) == {rate}


def test_the_policy_that_goes_on_is_the_parents(parent, walks, tmp_path):
    finetune(parent, tmp_path / "run", online(episodes=1, warm_up_episodes=2))
    ours = load_checkpoint(tmp_path / "run" / "checkpoint" / "000000001").algorithm.state_dict()
    theirs = load_checkpoint(Run.open(parent).last)
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.algorithm.state_dict().items())
    assert Run.open(tmp_path / "run").config["parent_checkpoint"] == theirs.hash


def test_a_fine_tuned_run_can_be_fine_tuned_again(parent, walks, tmp_path, same_run):
    """It begins anew, with the learner that it was left with and no episodes of its own."""
    first = finetune(parent, tmp_path / "first", online())
    second = finetune(tmp_path / "first", tmp_path / "second", online(episodes=4, seed=1))
    assert second.steps > first.steps
    assert Store.open(tmp_path / "second" / "episodes").snapshot().episodes == 4
    assert [line["step"] for line in Run.open(tmp_path / "second").metrics()] == [0, 1, 2, 2, 3, 4, 4]
    with pytest.raises(Killed):
        finetune(tmp_path / "first", tmp_path / "killed", online(episodes=4, seed=1), until(2))
    resume(tmp_path / "killed")
    same_run(tmp_path / "second", tmp_path / "killed")


def test_seeds_of_the_run_give_other_runs(parent, walks, tmp_path):
    states = set()
    for seed in (0, 1):
        finetune(parent, tmp_path / str(seed), online(seed=seed))
        states.add((Run.open(tmp_path / str(seed)).last / "state.safetensors").read_bytes())
    assert len(states) == 2


def test_the_numbers_at_the_end_are_the_episodes(parent, walks, tmp_path):
    result = finetune(parent, tmp_path / "run", online(episodes=12))
    snapshot = Store.open(tmp_path / "run" / "episodes").snapshot()
    episodes: list[Any] = [snapshot.episode(index) for index in range(12)]
    success = [episode.success.max() for episode in episodes]
    assert 0 < np.mean(success) < 1, "a mixture, or this shows nothing"
    assert result.online_success_rate == pytest.approx(np.mean(success))
    assert result.cumulative_regret == pytest.approx(1 - np.mean(success))
    assert (result.online_steps, result.episodes, result.run) == (snapshot.steps, 12, str(tmp_path / "run"))
    lines = [line for line in Run.open(tmp_path / "run").metrics() if "online/success" in line]
    assert [line["online/success"] for line in lines] == success
    assert [line["online/return"] for line in lines] == success
    assert {"critic_loss", "actor_loss", "weight_clipped"} <= set(result.metrics)


def test_the_record_says_which_policy_acted(parent, walks, tmp_path):
    """Another one in every episode after the warm-up; the one of a checkpoint acts in the episode after it."""
    finetune(parent, tmp_path / "run", online(warm_up_episodes=2, checkpoint_every=1))
    snapshot = Store.open(tmp_path / "run" / "episodes").snapshot()
    episodes: list[Any] = [snapshot.episode(index) for index in range(5)]
    names = [set(episode.policy.tolist()) for episode in episodes]
    assert all(len(each) == 1 for each in names)
    first, second, third, fourth, fifth = (each.pop() for each in names)
    assert first == second and len({second, third, fourth, fifth}) == 4
    assert first == actor_hash(load_checkpoint(Run.open(parent).last).algorithm)
    assert fifth == actor_hash(load_checkpoint(tmp_path / "run" / "checkpoint" / "000000004").algorithm)


def test_a_task_that_cannot_succeed_has_no_regret(parent, walks, walk, tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "has_success", False)
    result = finetune(parent, tmp_path / "run", online())
    assert result.online_success_rate is result.cumulative_regret is None
    lines = Run.open(tmp_path / "run").metrics()
    assert not any("online/success" in line or "evaluation/success_rate" in line for line in lines)
    assert Path(write_report(Run.open(tmp_path / "run"))).exists()


# On labels that were made by looking ------------------------------------------------------------------------------


@pytest.fixture
def looking(labelled, config, walks, tmp_path):
    """Pretrains on one of the label sets; `walks` is what is acted in then."""

    def on(labels: str, **settings) -> Path:
        path = tmp_path / f"parent-{labels}"
        pretrain(labelled, path, config(**({"labels": labels, "chunk": 1, "steps": 20, "discount": 0.95} | settings)))
        return path

    return on


@pytest.fixture
def added(monkeypatch) -> list[tuple[np.ndarray, ...]]:
    """State, action, reward and terminated of every episode that the learner got online."""
    got = []
    add = Transitions.add

    def spy(self, state, action, reward, terminated, features=None):
        got.append((state, action, reward, terminated))
        return add(self, state, action, reward, terminated, features)

    monkeypatch.setattr("finetune.experience.Transitions.add", spy)
    return got


@pytest.mark.parametrize("labels", ["seen", "sparse"])
def test_online_episodes_are_labelled_by_looking_as_the_offline_ones_were(labels, looking, labelled, tmp_path, added):
    """Their rewards are the labeller's, and the classifier, not the simulator, says what ends the task."""
    parent = looking(labels)
    added.clear()
    finetune(parent, tmp_path / "run", online(episodes=12, evaluate_every=0))
    label_episode = EpisodeLabeller(Labeller.load(labelled / "labellers" / labels), torch.device("cpu"))
    snapshot = Store.open(tmp_path / "run" / "episodes").snapshot()
    assert len(added) == snapshot.episodes == 12
    differ = 0
    for index, (state, action, reward, terminated) in enumerate(added):
        episode: Any = snapshot.episode(index)
        values = label_episode(episode)
        np.testing.assert_array_equal(state, episode.state)
        np.testing.assert_array_equal(action, episode.action)
        np.testing.assert_array_equal(reward, values["reward"])
        np.testing.assert_array_equal(terminated, values["success"] > 0)
        assert (episode.reward == episode.success).all(), "the record keeps what the simulator said"
        differ += (terminated != (episode.success > 0)).any()
    assert differ > 2, "or this shows nothing"
    lines = [line for line in Run.open(tmp_path / "run").metrics() if "online/success_seen" in line]
    assert [line["online/success_seen"] for line in lines] == [float(each[3].any()) for each in added]
    assert {line["online/success_seen"] for line in lines} == {0.0, 1.0}


def test_without_a_classifier_the_simulator_ends_the_task_and_the_labeller_rewards(looking, labelled, tmp_path, added):
    parent = looking("states")
    added.clear()
    finetune(parent, tmp_path / "run", online(episodes=12, evaluate_every=0))
    label_episode = EpisodeLabeller(Labeller.load(labelled / "labellers" / "states"), torch.device("cpu"))
    snapshot = Store.open(tmp_path / "run" / "episodes").snapshot()
    ended = 0
    for index, (_, _, reward, terminated) in enumerate(added):
        episode = snapshot.episode(index)
        np.testing.assert_array_equal(reward, label_episode(episode)["reward"])
        assert terminated.tolist() == [False] * (episode.steps - 1) + [episode.terminated]
        ended += episode.terminated
    assert 0 < ended < 12
    assert not any("online/success_seen" in line for line in Run.open(tmp_path / "run").metrics())


def test_what_is_learned_from_online_is_what_was_labelled(looking, tmp_path, batches):
    """All the way into the batches: rewards -1 and 0, and no bootstrap after a success that was seen."""
    parent = looking("sparse")
    batches.clear()
    finetune(parent, tmp_path / "run", online(episodes=12, offline_share=0.0, updates_per_step=3, evaluate_every=0))
    reward, mask = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("reward", "mask"))
    assert set(reward.tolist()) == {-1.0, 0.0}
    assert torch.equal(reward == 0.0, mask == 0.0)


@pytest.mark.parametrize("labels", ["seen", "states"])
def test_labelled_by_looking_a_run_comes_out_the_same_wherever_it_dies(labels, looking, tmp_path, same_run):
    parent = looking(labels)
    whole = finetune(parent, tmp_path / "whole", online())
    for death in (0, 3, 4):
        with pytest.raises(Killed):
            finetune(parent, tmp_path / str(death), online(), until(death))
        result = resume(tmp_path / str(death))
        same_run(tmp_path / "whole", tmp_path / str(death))
        assert result.online_success_rate == whole.online_success_rate


def test_whoever_comes_back_need_not_look_at_old_pictures_again(looking, tmp_path, monkeypatch):
    """Neither for the policy nor for the labels: what was seen is in the run's own store."""
    finetune(looking("seen", camera="eye"), tmp_path / "run", online())
    looked = []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, frames: looked.append(frames) or encode(self, frames))
    run = Run.open(tmp_path / "run")
    settings = parse(OnlineConfig, run.config["online"], "config")
    learner = Learner(run, settings, Beginning.of_run(run, settings))
    learner.restore(Store.open(run.path / "episodes"))
    assert learner.experience.episodes == learner.learned == 5
    assert looked == []


@pytest.mark.parametrize(
    ("labels", "settings", "cameras"),
    [
        ("seen", {}, ("eye",)),
        ("seen", {"camera": "eye"}, ("eye",)),
        ("states", {"camera": "eye"}, ("eye",)),
        ("states", {}, ()),
    ],
)
def test_the_task_is_asked_for_the_pictures_that_policy_and_labeller_look_at(
    labels, settings, cameras, looking, tmp_path, monkeypatch
):
    """Each camera once, of the size that the store's pictures have."""
    from finetune import online as module

    asked, parent, make = [], looking(labels, **settings), module.make_task

    def spy(spec, **options):
        asked.append((options["cameras"], options["image_size"]))
        return make(spec, **options)

    monkeypatch.setattr(module, "make_task", spy)
    finetune(parent, tmp_path / "run", online(episodes=2))
    resume(tmp_path / "run")
    assert [each[0] for each in asked] == [cameras, cameras]
    if cameras:
        assert [each[1] for each in asked] == [(5, 7), (5, 7)]
        assert Store.open(tmp_path / "run" / "episodes").snapshot().images("eye").shape[1:] == (5, 7, 3)


def test_cameras_of_different_sizes_are_refused():
    """A task renders all of its cameras in one size."""
    from finetune.online import _task

    cameras = (Camera("eye", 4, 6), Camera("side", 5, 7), Camera("top", 9, 9))
    contract = Contract("walk", (StateEntry("x"),), (ActionEntry("a"),), cameras)
    saved: Any = SimpleNamespace(camera="eye", contract=contract, image_size=(4, 6))
    labeller: Any = SimpleNamespace(cameras=("side", "eye"))
    with pytest.raises(
        InputError, match=r"cameras eye, side, eye have different sizes, \[\(4, 6\), \(5, 7\)\]: a task"
    ):
        _task(online(), SimpleNamespace(saved=saved, labeller=labeller))


def test_a_judges_own_scores_are_refused_online(looking, tmp_path):
    parent = looking("direct")
    with pytest.raises(
        InputError, match="judge's own scores, and no new episode has them; use other labels"
    ) as refusal:
        finetune(parent, tmp_path / "run", online())
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_labeller_that_is_gone_is_told_before_and_after_the_run_is_begun(looking, labelled, tmp_path):
    parent = looking("seen")
    with pytest.raises(Killed):
        finetune(parent, tmp_path / "begun", online(), until(2))
    (labelled / "labellers" / "seen").rename(tmp_path / "moved")
    for go_on in (lambda: finetune(parent, tmp_path / "run", online()), lambda: resume(tmp_path / "begun")):
        with pytest.raises(
            InputError, match=r"labellers/seen: holds no labeller; `firsthand label` makes one"
        ) as refusal:
            go_on()
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()
    # Pretraining needs only the labels.
    pretrain(labelled, tmp_path / "again", parse(TrainConfig, Run.open(parent).config["train"], "again"))


# What is refused -------------------------------------------------------------------------------------------------


def test_cloning_cannot_go_on_online(store, walks, tmp_path, config):
    pretrain(store, tmp_path / "bc", config(algorithm="bc"))
    with pytest.raises(InputError, match=r"algorithm 'bc' cannot learn from rewards; fine-tune an 'iql' run"):
        finetune(tmp_path / "bc", tmp_path / "run", online())
    assert not (tmp_path / "run").exists()


def test_a_task_of_another_layout_is_refused(parent, tmp_path):
    for task, gap, message in (
        ("hopper", "", r"task 'hopper': its state entries are not .* trained on: 11 .*expected 2"),
        ("hoper", "", r"unknown task 'hoper'; did you mean 'hopper'\?"),
        ("pusht", "gain=0", "gain"),
        ("pusht", "gian=2", r"unknown key 'gian'.*did you mean 'gain'\?"),
    ):
        with pytest.raises(InputError, match=message):
            finetune(parent, tmp_path / "run", online(task=task, gap=gap))
    assert not (tmp_path / "run").exists()


def test_a_missing_parent_or_store_and_a_taken_folder_are_refused(parent, walks, store, tmp_path):
    with pytest.raises(InputError, match="is no run"):
        finetune(tmp_path / "nowhere", tmp_path / "run", online())
    with pytest.raises(InputError, match="a run is there already"):
        finetune(parent, parent, online())
    store.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="no such store"):
        finetune(parent, tmp_path / "run", online())
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_refused_before_the_folder_is_made(parent, walks, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    text = (parent / "config.yaml").read_text()
    (parent / "config.yaml").write_text(text.replace("device: cpu", "device: cuda"))
    with pytest.raises(InputError, match="no CUDA GPU"):
        finetune(parent, tmp_path / "run", online())
    assert not (tmp_path / "run").exists()


def test_only_a_fine_tuning_run_is_resumed_here(parent):
    with pytest.raises(InputError, match=r"kind 'pretrain', which `firsthand pretrain` resumes"):
        resume(parent)


@pytest.mark.parametrize(
    "settings",
    [
        {"episodes": 0},
        {"episodes": 10_001},
        {"updates_per_step": 0},
        {"offline_share": 1.0},
        {"offline_share": -0.1},
        {"warm_up_episodes": 0},
        {"seed": -1},
        {"seed": 500_000},
        {"evaluate_every": -1},
        {"checkpoint_every": 0},
        {"episods": 3},
    ],
)
def test_values_that_make_no_sense_are_refused_by_key(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        parse(OnlineConfig, {"task": "walk"} | settings, "finetune")


def test_seeds_of_collection_evaluation_and_learning_do_not_meet():
    from finetune.evaluate import FIRST_SEED

    assert seeds_of_collection(0, 3) == [0, 1, 2] and seeds_of_collection(2, 2) == [20_000, 20_001]
    assert max(seeds_of_collection(99, 10_000)) < FIRST_SEED
    assert FIRST_SEED + 100_000 < FIRST_EPISODE_SEED
    assert FIRST_EPISODE_SEED + 10_000 * 99_999 + 9_999 < 2**32
    for seed, episodes in ((100, 1), (-1, 1), (0, 10_001)):
        with pytest.raises(InputError, match=f"seed {seed} with {episodes} episodes"):
            seeds_of_collection(seed, episodes)
