"""Episodes that are held out: nothing is learned from them, and predictions are measured on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.store import Store
from finetune import held_out
from finetune.data import load_offline
from finetune.held_out import action_errors, in_words
from finetune.pretrain import pretrain, resume
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.policy import Policy
from sim.collect import collect
from sim.operators import RandomOperator
from tests.episodes.making import make_episode
from tests.finetune.conftest import see_through

ARM = Contract(
    "arm",
    state=(StateEntry("elbow", "rad"), StateEntry("grip")),
    action=(ActionEntry("elbow_target", "rad", reference="elbow"), ActionEntry("grip"), ActionEntry("lamp")),
    rate=10.0,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ten episodes of two to six steps, every other one with the observation after the last action."""
    store = Store.create(tmp_path / "log", ARM)
    store.append([make_episode(n, 2 + n % 5, contract=ARM, final=n % 2 > 0, columns=()) for n in range(10)])
    return tmp_path / "log"


def cloned(log: Path, config, **settings) -> Run:
    path = log.with_name("run")
    pretrain(log, path, config(algorithm="bc", chunk=2, **({"steps": 3, "held_out": 0.3} | settings)))
    return Run.open(path)


def test_the_share_is_drawn_by_the_seed_and_not_learned_from(log, config):
    first, again, other = (
        load_offline(log, config(algorithm="bc", chunk=1, held_out=0.3, seed=seed)) for seed in (0, 0, 1)
    )
    held = first.origin["held_out"]
    assert len(set(held)) == 3 and held == again.origin["held_out"] != other.origin["held_out"]
    assert (first.origin["episodes"], first.origin["unlabelled_episodes"]) == (7, 0)
    snapshot = Store.open(log).snapshot()
    kept = [snapshot.episode(index) for index in range(10) if index not in held]
    assert len(first.transitions) == sum(episode.transitions for episode in kept)
    actions = np.concatenate([episode.action[: episode.transitions] for episode in kept])
    np.testing.assert_array_equal(first.transitions.all_actions().action[:, 0], actions)


def test_without_a_share_nothing_changes(log, config):
    data = load_offline(log, config(algorithm="bc"))
    assert data.origin["episodes"] == 10 and "held_out" not in data.origin


def test_a_run_that_is_gone_on_with_holds_out_the_same(log, tmp_path, config):
    whole = cloned(log, config)
    before = whole.config["data"]["held_out"]
    (whole.path / "last").unlink()
    resume(whole.path)
    assert Run.open(whole.path).config["data"]["held_out"] == before


def test_what_stays_within_the_held_out_episodes_does_not_shape_the_preparation(log, config):
    held = load_offline(log, config(algorithm="bc", held_out=0.3)).origin["held_out"]
    snapshot = Store.open(log).snapshot()
    moved = Store.create(log.with_name("moved"), ARM)
    episodes = [snapshot.episode(index) for index in range(10)]
    moved.append([replace(e, state=e.state + 1000 * (n in held)) for n, e in enumerate(episodes)])
    preparations = []
    for path in (log, log.with_name("moved")):
        pretrain(path, path.with_name(f"{path.name}-run"), config(algorithm="bc", steps=1, held_out=0.3))
        saved = load_checkpoint(Run.open(path.with_name(f"{path.name}-run")).last)
        preparations.append(saved.algorithm.preparation)
    np.testing.assert_array_equal(preparations[0].mean, preparations[1].mean)


def test_errors_are_those_of_every_step_but_the_first(log, config):
    run = cloned(log, config)
    errors = action_errors(run)
    held, snapshot = run.config["data"]["held_out"], Store.open(log).snapshot()
    assert errors.episodes == held and errors.steps == sum(snapshot.episode(index).steps - 1 for index in held)
    learned = np.concatenate([snapshot.episode(index).action for index in range(10) if index not in held])
    policy = Policy.load(run.last)
    for place, index in enumerate(held):
        episode: Episode = snapshot.episode(index)
        found: dict[str, list[np.ndarray]] = {name: [] for name in held_out.PREDICTORS}
        for step in range(1, episode.steps):
            policy.reset(0)  # Else it would go on with the chunk that it planned a step before.
            guesses = {
                "policy": policy.act({"state": episode.state[step]}),
                "hold": np.array([*episode.state[step], np.nan]),
                "last": episode.action[step - 1],
                "mean": learned.mean(0),
            }
            for name, guess in guesses.items():
                found[name].append(np.abs(guess - episode.action[step]))
        for name, rows in found.items():
            np.testing.assert_allclose(errors.error[name][place], np.mean(rows, 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(errors.spread, learned.std(0), rtol=1e-5)
    np.testing.assert_allclose(errors.relative("last"), (errors.error["last"] / learned.std(0)).mean(1), rtol=1e-5)


def test_what_it_says(log, config):
    errors = action_errors(cloned(log, config))
    said = errors.summary()
    assert [entry["name"] for entry in said["entries"]] == ["elbow_target", "grip", "lamp"]
    assert said["entries"][2]["hold"] is None and said["relative_error"]["hold"]["mean"] is None
    low, high = said["relative_error"]["policy"]["interval"]
    assert low <= said["relative_error"]["policy"]["mean"] <= high
    lines = in_words(errors).splitlines()
    assert lines[2].startswith("elbow_target [rad]") and "3 held-out episodes" in lines[0]
    assert lines[4].split()[2] == lines[5].split()[-3] == "-"


def test_a_policy_that_sees_is_asked_with_its_features(tmp_path, config, walk, _middle, monkeypatch):
    """The same as by its own eyes, frame by frame."""
    task = walk(cameras=("eye",))
    store = Store.create(tmp_path / "seen", task.contract)
    store.append(list(collect(task, lambda quality: RandomOperator(task), range(6))))
    see_through(_middle, monkeypatch)
    monkeypatch.setattr("finetune.held_out.load_encoder", lambda name: _middle)
    settings = {"steps": 2, "chunk": 1, "camera": "eye", "held_out": 0.5, "state_entries": ["y"]}
    pretrain(tmp_path / "seen", tmp_path / "run", config(algorithm="bc", **settings))
    run = Run.open(tmp_path / "run")
    errors = action_errors(run)
    policy, episode = Policy.load(run.last), store.snapshot().episode(errors.episodes[0])
    guesses = [
        policy.act({"state": episode.state[step], "image/eye": episode.images["eye"][step]})
        for step in range(1, episode.steps)
    ]
    expected = np.abs(np.array(guesses) - episode.action[1:]).mean(0)
    np.testing.assert_allclose(errors.error["policy"][0], expected, rtol=1e-4, atol=1e-6)


def test_a_run_that_held_out_nothing_is_refused(log, config):
    with pytest.raises(InputError, match=r"learned from every episode; begin a run with --set held_out=0\.2"):
        action_errors(cloned(log, config, held_out=0.0))


def test_a_share_that_leaves_nothing_is_refused(log, config):
    with pytest.raises(InputError, match=r"of 10 episodes held_out=0\.96 leaves none to learn from"):
        load_offline(log, config(algorithm="bc", held_out=0.96))


def test_episodes_of_one_step_cannot_be_measured(tmp_path, config):
    store = Store.create(tmp_path / "log", ARM)
    store.append([make_episode(n, 1, contract=ARM, columns=()) for n in range(4)])
    with pytest.raises(InputError, match="held out 1 episodes of one step"):
        action_errors(cloned(tmp_path / "log", config))
