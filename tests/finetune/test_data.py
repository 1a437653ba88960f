"""What a run learns from: covered episodes, a pinned snapshot, features of a camera."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from episodes.episode import Episode
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import Store
from finetune.config import TrainConfig, resolve
from finetune.data import load_offline
from finetune.pretrain import pretrain
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.policy import Policy


def test_episodes_that_a_label_set_does_not_cover_are_left_out_and_counted(store, config):
    opened = Store.open(store)
    snapshot = opened.snapshot()
    covered = np.ones(snapshot.episodes, bool)
    covered[[0, 7]] = False
    opened.write_labels(LabelSet("env", {"reward": np.ones(snapshot.steps, np.float32)}, covered))
    opened.append([snapshot.episode(3)])
    data = load_offline(store, config(labels="env", chunk=1))
    assert (data.origin["episodes"], data.origin["unlabelled_episodes"]) == (58, 3)
    lengths = np.diff(snapshot.step_ends, prepend=0)
    assert len(data.transitions) == data.origin["transitions"] == lengths[covered].sum()


def test_episodes_that_are_left_out_do_not_shape_the_normalisation(store, tmp_path, config):
    opened = Store.open(store)
    snapshot = opened.snapshot()
    far = snapshot.episode(0)
    opened.append([replace(far, state=far.state + 1000)])
    covered = np.arange(61) < 60
    opened.write_labels(LabelSet("env", {"reward": np.zeros(opened.snapshot().steps, np.float32)}, covered))
    pretrain(store, tmp_path / "run", config(labels="env", chunk=1, steps=1))
    preparation = load_checkpoint(Run.open(tmp_path / "run").last).algorithm.preparation
    known = snapshot.column("state").astype(np.float64)
    np.testing.assert_allclose(preparation.mean, known.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(preparation.std, known.std(0) + 1e-3, rtol=1e-4)


def test_cloning_needs_no_rewards(store, tmp_path, config):
    """The same run as with rewards: they change nothing. What needs rewards is told how to get some."""
    opened = Store.open(store)
    snapshot = opened.snapshot()
    bare = Store.create(tmp_path / "bare", snapshot.contract)
    bare.append([replace(snapshot.episode(index), reward=None, success=None) for index in range(snapshot.episodes)])
    for path, name in ((store, "with"), (tmp_path / "bare", "without")):
        pretrain(path, tmp_path / name, config(algorithm="bc"))
    states = [(Run.open(tmp_path / name).last / "state.safetensors").read_bytes() for name in ("with", "without")]
    assert states[0] == states[1]
    with pytest.raises(InputError, match=r"covers no episode; make one with `firsthand label`.*there is none yet"):
        load_offline(tmp_path / "bare", config(algorithm="iql"))


def test_the_snapshot_is_pinned_against_cleaning_up(store, config):
    opened = Store.open(store)
    first = load_offline(store, config())
    opened.append([opened.snapshot().episode(0)])
    opened.collect_garbage(grace=timedelta(0))
    again = load_offline(store, config(), first.origin["snapshot"])
    assert again.origin == first.origin
    assert len(load_offline(store, config()).transitions) > len(again.transitions)


def test_labels_decide_the_reward(store, config):
    opened = Store.open(store)
    snapshot = opened.snapshot()
    reward = np.arange(snapshot.steps, dtype=np.float32)
    opened.write_labels(LabelSet("count", {"reward": reward}, np.ones(snapshot.episodes, bool)))
    settings = config(labels="count", chunk=1, reward_scale=2.0, reward_bias=-1.0)
    batch = load_offline(store, settings).transitions.all_actions()
    assert batch.reward.tolist() == (2 * reward - 1).tolist()


class Brightness:
    """An encoder of one feature."""

    name = weights = key = "brightness"

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1).mean(1, keepdims=True).astype(np.float32)


@pytest.fixture
def seen(walk, tmp_path, monkeypatch):
    """A store of walks with a camera, and a cheap encoder under every name."""
    from sim.operators import RandomOperator
    from sim.rollout import rollout

    for module in ("finetune.data", "policies.policy"):
        monkeypatch.setattr(f"{module}.load_encoder", lambda name: Brightness())
    task = walk(cameras=("eye",))
    opened = Store.create(tmp_path / "seen", task.contract)
    opened.append([rollout(task, RandomOperator(task), seed) for seed in range(6)])
    return tmp_path / "seen"


def test_a_camera_stands_beside_the_state_all_the_way(seen, walk, walks, tmp_path, config, same_run):
    """Pretrained, saved, loaded, acting, fine-tuned and resumed with frozen features."""
    from finetune.evaluate import evaluate
    from finetune.online import OnlineConfig, finetune, resume

    pretrain(seen, tmp_path / "run", config(camera="eye", chunk=1, state_entries=["y"]))
    saved = load_checkpoint(Run.open(tmp_path / "run").last)
    assert saved.algorithm.preparation.observation_size == 2
    assert (saved.camera, saved.encoder, saved.image_size) == ("eye", "efficientnet_lite0", (4, 6))
    frames = Store.open(seen).snapshot().images("eye")
    assert saved.algorithm.preparation.mean[1].item() == pytest.approx(frames.mean(), rel=1e-4)
    policy = Policy.load(Run.open(tmp_path / "run").last)
    assert evaluate(walk(cameras=("eye",)), policy, 2).lengths.min() > 0
    online = OnlineConfig(task="walk", episodes=4, checkpoint_every=2)
    finetune(tmp_path / "run", tmp_path / "whole", online)
    assert Store.open(tmp_path / "whole" / "episodes").snapshot().images("eye").shape[1:] == (4, 6, 3)

    def progress(items):
        yield from list(items)[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(tmp_path / "run", tmp_path / "killed", online, progress)
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_an_unknown_camera_is_refused_before_any_encoder_is_loaded(seen, config, monkeypatch):
    monkeypatch.setattr("finetune.data.load_encoder", lambda name: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"unknown camera 'eyes' in .*; did you mean 'eye'\? known: eye"):
        load_offline(seen, config(camera="eyes"))


def test_an_unlabelled_step_in_a_covered_episode_is_refused(store, config):
    opened = Store.open(store)
    snapshot = opened.snapshot()
    reward = np.zeros(snapshot.steps, np.float32)
    reward[2] = np.nan
    opened.write_labels(LabelSet("holes", {"reward": reward}, np.ones(snapshot.episodes, bool)))
    with pytest.raises(InputError, match="covers episode 0"):
        load_offline(store, config(labels="holes"))


def test_an_episode_without_its_last_observation_gives_one_transition_less(tmp_path, walk, config):
    opened = Store.create(tmp_path / "store", walk().contract)
    episode = Episode(
        state=np.zeros((3, 2), np.float32),
        action=np.zeros((3, 2), np.float32),
        terminated=False,
        truncated=True,
        reward=np.zeros(3, np.float32),
    )
    opened.append([episode])
    assert len(load_offline(tmp_path / "store", config(chunk=1)).transitions) == 2


# Labels that were made by looking --------------------------------------------------------------------------------


def made_by(labels: str, *, preset: str = "labelled", **settings) -> TrainConfig:
    return resolve("iql", preset, None, {"labels": labels, "device": "cpu"} | settings)


@pytest.mark.parametrize("labels", ["seen", "sparse", "states"])
def test_what_was_labelled_by_looking_is_learned_from_as_it_was_labelled(labels, labelled):
    """Rewards to the bit, with no bias. Where there is a success classifier, it alone says what ends the task, and what
    came after that is left out."""
    snapshot = Store.open(labelled).snapshot()
    values, logged = snapshot.labels(labels).values, snapshot.labels("logged").values["success"]
    ends = values.get("terminated", logged)
    before = np.concatenate([np.cumsum(e) - e for e in np.split(ends, snapshot.step_ends[:-1])])
    data = load_offline(labelled, made_by(labels))
    batch = data.transitions.all_actions()
    assert batch.reward.tolist() == values["reward"][before == 0].tolist()
    assert (1 - batch.mask).tolist() == ends[before == 0].tolist()
    assert data.labeller == labelled / "labellers" / labels
    if labels != "states":
        assert (ends != logged).any() and (before > 0).any(), "or this shows nothing"


def test_what_nobody_made_by_looking_has_no_labeller(store, config):
    assert load_offline(store, config()).labeller is None


@pytest.mark.parametrize("discount", [0.9, 0.99, 0.9500001])
def test_potentials_refuse_another_discount_and_say_what_to_do(discount, labelled):
    with pytest.raises(InputError) as refusal:
        load_offline(labelled, made_by("seen", discount=discount))
    said = str(refusal.value)
    assert f"label set 'seen' has potentials for a discount of 0.95, and this run's is {discount:g}" in said
    assert "give --set discount=0.95, or label with --set labeller.discount=" in said and "\n" not in said
    # Rewards without potentials mean the same under any discount, and cloning has none.
    load_offline(labelled, made_by("sparse", discount=discount))
    load_offline(labelled, resolve("bc", None, None, {"labels": "seen", "discount": discount}))


@pytest.mark.parametrize("labels", ["seen", "sparse", "states", "direct"])
def test_labels_made_by_looking_refuse_a_bias_and_say_what_to_do(labels, labelled):
    """`sparse` is the preset for logged successes: -1 for a step would be counted twice, and change the best policy.
    Cloning takes no rewards."""
    with pytest.raises(InputError) as refusal:
        load_offline(labelled, made_by(labels, preset="sparse"))
    said = str(refusal.value)
    assert f"label set {labels!r} has rewards as a learner takes them, and this run would add -1 to each" in said
    assert "give --preset labelled, or --set reward_bias=0" in said and "\n" not in said
    with pytest.raises(InputError, match=r"would add 0\.5"):
        load_offline(labelled, made_by(labels, reward_bias=0.5))
    load_offline(labelled, made_by(labels, preset="sparse", reward_bias=0.0))
    load_offline(labelled, resolve("bc", "sparse", None, {"labels": labels}))


def test_what_a_label_set_means_is_checked_before_any_encoder_is_loaded(labelled, monkeypatch):
    monkeypatch.setattr("finetune.data.load_encoder", lambda *_: pytest.fail("loaded"))
    others: list[dict[str, Any]] = [{"discount": 0.9}, {"reward_bias": -1.0}]
    for settings in others:
        with pytest.raises(InputError, match=r"label set .seen."):
            load_offline(labelled, made_by("seen", camera="eye", **settings))


def test_a_label_set_that_is_refused_leaves_no_run(labelled, tmp_path):
    with pytest.raises(InputError, match="potentials for a discount"):
        pretrain(labelled, tmp_path / "run", made_by("seen", discount=0.5, steps=1))
    assert not (tmp_path / "run").exists()
