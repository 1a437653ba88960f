"""Uni-O4 as a run: it resumes, says what it cannot use, and ends above what it cloned."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.errors import InputError
from episodes.sampler import Sampler
from episodes.store import Store
from episodes.transitions import SamplingConfig, Transitions
from episodes.typed import parse_settings
from finetune.config import TrainConfig, resolve
from finetune.evaluate import evaluate
from finetune.learner import learning_config
from finetune.online import OnlineConfig, finetune
from finetune.pretrain import pretrain, resume
from finetune.run import Run
from policies.algorithm import Algorithm
from policies.checkpoint import load_checkpoint
from policies.networks import EnsembleMLP
from policies.policy import Policy
from policies.uni_o4 import UniO4
from sim.collect import collect
from sim.operators import make_operator
from sim.task import make_task
from tests.finetune.killing import Killed, until

QUICK = {"members": 2, "starts": 8, "rollout_steps": 3, "gate_every": 4, "hidden": [16, 16]}
TASK = "linear-quadratic:horizon=30"
STEPS, BORDER = 900, 540
"""Updates of the run on it, and those of the first phase."""
MODEL = {"members": 2, "elites": 1, "hidden": [16], "epochs": 2}


def quick(**settings: Any) -> TrainConfig:
    run = {"steps": 40, "batch_size": 16, "checkpoint_every": 10, "log_every": 5, "device": "cpu"}
    return resolve("uni_o4", None, None, QUICK | {"dynamics": MODEL} | run | settings)


def test_wherever_a_run_dies_it_comes_out_the_same(store: Path, tmp_path: Path, same_run: Callable) -> None:
    """Before the first checkpoint, in either phase, and around the border at 30."""
    pretrain(store, tmp_path / "whole", quick())
    for deaths in ([3], [11], [24, 8], [29], [30], [31], [39]):
        run = tmp_path / "-".join(map(str, deaths))
        with pytest.raises(Killed):
            pretrain(store, run, quick(), until(deaths[0]))
        for death in deaths[1:]:
            with pytest.raises(Killed):
                resume(run, until(death))
        resume(run)
        same_run(tmp_path / "whole", run)


def test_metrics_say_which_phase_it_is_in(store: Path, tmp_path: Path) -> None:
    result = pretrain(store, tmp_path / "run", quick())
    lines = {line["step"]: set(line) for line in Run.open(tmp_path / "run").metrics()}
    assert {"clone_loss", "disagreement", "value_loss", "critic_loss"} < lines[30]
    assert {"improvement_loss", "ratio_clipped", "score", "imagined_return", "model_error"} < lines[35]
    assert "clone_loss" not in lines[35] and "score" in result.metrics


def test_no_is_no() -> None:
    """Published, any word was a yes."""
    assert [quick(**parse_settings([f"guard={word}"])).learner["guard"] for word in ("false", "true")] == [False, True]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chunk": 2}, "chunk 2"),
        ({"reward_scale": 0.0, "reward_bias": 1e-9}, None),
        ({"reward_scale": 0.0}, "every reward is 0"),
        ({"steps": 1}, "steps 1: an improvement_share of 0.25 leaves none to improve with"),
        ({"dynamics": MODEL | {"elites": 3}}, "elites 3: there are 2 members"),
        ({"dropout": 0.1}, "unknown key 'dropout'"),
        ({"members": 0}, "members"),
    ],
)
def test_what_cannot_be_used_leaves_no_run(settings: dict, words: str | None, store: Path, tmp_path: Path) -> None:
    if words is None:
        pretrain(store, tmp_path / "run", quick(**settings))
        return
    with pytest.raises(InputError, match=words) as refusal:
        pretrain(store, tmp_path / "run", quick(**settings))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_single_episode_is_too_little(store: Path, tmp_path: Path) -> None:
    """Eight steps at most: nothing could be held out."""
    one = Store.create(tmp_path / "one", Store.open(store).snapshot().contract)
    one.append([Store.open(store).snapshot().episode(0)])
    with pytest.raises(InputError, match=r"10 transitions or more|every reward is 0"):
        pretrain(tmp_path / "one", tmp_path / "run", quick())
    assert not (tmp_path / "run").exists()


# A task whose best policy is known ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def carts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 episodes of 30 steps of the linear-quadratic task, of operators of middling quality."""
    task = make_task(TASK)
    path = tmp_path_factory.mktemp("carts") / "store"
    store = Store.create(path, task.contract)
    operator = make_operator("scripted", task, 0.4)
    store.append(list(collect(task, lambda quality: operator, range(40))))
    return path


@pytest.fixture(scope="module")
def learned(carts: Path) -> Path:
    settings = {
        "steps": STEPS,
        "checkpoint_every": BORDER,
        "hidden": [32, 32],
        "batch_size": 128,
        "learning_rate": 2e-3,
        "target_rate": 0.02,
    }
    settings |= {"members": 2, "starts": 64, "rollout_steps": 30, "discount": 0.9, "device": "cpu", "gate_every": 50}
    settings |= {"improvement_learning_rate": 5e-4, "improvement_share": 0.4}
    model = {"members": 3, "elites": 2, "hidden": [32, 32], "epochs": 12, "learning_rate": 3e-3}
    pretrain(carts, carts.parent / "run", resolve("uni_o4", None, None, settings | {"dynamics": model}))
    return carts.parent / "run"


def returns(algorithm: Algorithm) -> np.ndarray:
    return evaluate(make_task(TASK), Policy(algorithm), 30).returns


def test_it_ends_above_what_it_cloned(learned: Path) -> None:
    """And above who made the logs. Nobody is better than the best."""
    task, run = make_task(TASK), Run.open(learned)
    clone, end = (returns(Policy.load(path).algorithm) for path in (run.checkpoint(BORDER), run.last))
    logged, best = (evaluate(task, make_operator("scripted", task, q), 30).returns for q in (0.4, 1.0))
    assert (end - clone).mean() > 1 and (end - logged).mean() > 1
    assert end.mean() <= best.mean() + 0.1


def test_it_goes_on_online_without_a_drop(learned: Path, tmp_path: Path) -> None:
    """The first evaluation is the last one offline; 20 episodes of PPO later it is as good or better."""
    before = returns(load_checkpoint(Run.open(learned).last).algorithm).mean()
    settings = {"task": TASK, "episodes": 20, "algorithm": "uni_o4", "batch_steps": 300, "epochs": 5}
    settings |= {"evaluate_every": 10, "evaluation_episodes": 30}
    finetune(learned, tmp_path / "online", learning_config(OnlineConfig, settings))
    lines = Run.open(tmp_path / "online").metrics()
    evaluated = {line["step"]: line["evaluation/return_mean"] for line in lines if "evaluation/return_mean" in line}
    assert evaluated[0] == pytest.approx(before) and list(evaluated) == [0, 10, 20]
    assert min(evaluated.values()) > before - 0.3


class Outwards(EnsembleMLP):
    """A critic that was tampered with: it thinks the world of whatever pushes the cart away from the middle."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (100 * x[:, :1] * x[:, 2:]).expand(2, -1, -1)


def corrupted(learned: Path, carts: Path, *, guard: bool) -> UniO4:
    """The rest of the run from where the clones are done, with that critic."""
    algorithm = load_checkpoint(Run.open(learned).checkpoint(BORDER)).algorithm
    assert isinstance(algorithm, UniO4) and algorithm.step == BORDER == algorithm.improves_from
    algorithm.config = replace(algorithm.config, guard=guard)
    algorithm.target = Outwards([3, 1], 2, torch.Generator())
    snapshot = Store.open(carts).snapshot()
    rows = Transitions.load(snapshot, snapshot.labels("logged"), SamplingConfig(discount=0.9))
    sampler = Sampler([(rows, 128)], seed=0)
    while algorithm.step < algorithm.improves_until:
        algorithm.update(sampler.sample())
    return algorithm


def test_what_a_corrupted_critic_prefers_does_not_pass(learned: Path, carts: Path) -> None:
    """As published it passes, and ends far below the clones; the guard keeps the clones."""
    clone = load_checkpoint(Run.open(learned).checkpoint(BORDER)).algorithm
    assert isinstance(clone, UniO4)
    fooled, guarded = (corrupted(learned, carts, guard=guard) for guard in (False, True))
    preferred = guarded.gate.worth(guarded.candidates, guarded.target, guarded.value, 30)
    assert (preferred.score > guarded.gate.score).all(), "the critic does prefer what was refused"
    assert (fooled.gate.score > guarded.gate.score).all()
    assert same(guarded.behaviour, clone.behaviour) and not same(fooled.behaviour, clone.behaviour)
    kept, lost = returns(guarded), returns(fooled)
    assert kept.mean() >= returns(clone).mean() - 1 and lost.mean() < kept.mean() - 5
    assert lost.mean() < returns(clone).mean() - 5


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
