"""A simulator beside the log: exact shares, weights on its rows alone, states to begin in, rollouts that blow up."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import firsthand
from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.errors import InputError
from episodes.store import Store
from episodes.transitions import Batch, MixedBatch, SamplingConfig, Transitions, concatenate
from finetune.config import resolve
from finetune.data import load_offline
from finetune.evaluate import evaluate
from finetune.h2o import DynamicsGap, GapConfig
from finetune.learner import learning_config
from finetune.mixing import MOST_DROPPED, Branches, WeightedExperience
from finetune.online import OnlineConfig, finetune, resume
from finetune.pretrain import pretrain
from finetune.report import write_report
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.iql import IQL
from policies.policy import Policy
from policies.preparation import prepare_from
from sim.base import UnstableError
from sim.collect import collect
from sim.linear_quadratic import LinearQuadraticSettings, LinearQuadraticTask
from sim.operators import RandomOperator, make_operator
from sim.rollout import rollout
from sim.task import make_task
from tests.finetune.killing import Killed, until

TASK, REAL = "linear-quadratic:horizon=12", "gain=0.5"
"""The real cart does half of what it is told."""


@pytest.fixture(scope="module")
def _pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cart")
    task = make_task(TASK, gap=REAL)
    store = Store.create(folder / "store", task.contract)
    store.append(list(collect(task, lambda quality: make_operator("scripted", task, quality), range(20))))
    settings = {"hidden": [8, 8], "steps": 20, "batch_size": 16, "device": "cpu", "normalise": False}
    pretrain(folder / "store", folder / "iql", resolve("iql", None, None, settings))
    return folder


@pytest.fixture
def pretrained(_pretrained: Path) -> Path:
    """An IQL run on the real cart's log; nothing here changes it or its store."""
    return _pretrained / "iql"


def configured(mix: str | None = "h2o", **settings: Any) -> OnlineConfig:
    common = {"task": TASK, "gap": REAL, "mix": mix, "episodes": 4, "branch_steps": 5, "checkpoint_every": 2}
    return learning_config(OnlineConfig, common | settings)


def batches(monkeypatch: pytest.MonkeyPatch, pretrained: Path, run: Path, **settings: Any) -> list[Batch]:
    """Everything that a run learned from."""
    seen: list[Batch] = []
    plain = IQL.update

    def update(self: IQL, batch: Batch) -> Any:
        seen.append(batch)
        return plain(self, batch)

    monkeypatch.setattr(IQL, "update", update)
    finetune(pretrained, run, configured(**settings))
    return seen


# What a batch is made of ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mix", "real"), [("real", 16), ("sim", 0), ("naive", 8), ("h2o", 8)])
def test_a_batch_has_its_exact_shares_and_all_mixtures_make_as_many_updates(
    mix: str, real: int, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = batches(monkeypatch, pretrained, tmp_path / "run", mix=mix)
    logged = load_offline(pretrained.parent / "store", resolve("iql")).transitions.all_actions().state
    assert len(seen) == 4 * 5
    for batch in seen:
        from_log = (batch.state[:, None] == logged[None]).all(2).any(1)
        # A rollout's first state is the log's, too.
        assert real <= int(from_log.sum()) and from_log[:real].all()
        assert mix == "real" or not from_log.all()
        assert isinstance(batch, MixedBatch) == (mix == "h2o")
        if isinstance(batch, MixedBatch):
            assert batch.simulated.tolist() == [False] * 8 + [True] * 8
            assert (batch.weight[:8] == 1).all() and (batch.weight[8:] <= 1).all()


def test_another_share_of_the_log_is_kept_to(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in batches(monkeypatch, pretrained, tmp_path / "run", offline_share=0.75):
        assert isinstance(batch, MixedBatch)
        assert batch.simulated.sum() == 4


def test_the_statistics_are_the_logs_whatever_the_policy_sees(pretrained: Path) -> None:
    """And simulated rows, however far off, change nothing of them."""
    train = resolve("iql", None, None, {"batch_size": 16, "device": "cpu", "normalise": False})
    data = load_offline(pretrained.parent / "store", train)
    config = configured()
    experience = WeightedExperience(data, None, train, config, camera=None, device=torch.device("cpu"), seed=0)
    far = rollout(make_task(TASK), RandomOperator(make_task(TASK)), 0, start=np.array([1e3, 1e3]))
    experience.add(far)
    experience.sample()
    state = data.transitions.observed()[0]
    torch.testing.assert_close(experience.gap.preparation.mean, state.mean(0))
    torch.testing.assert_close(experience.gap.preparation.std, state.std(0, correction=0) + 1e-3)


# Rollouts ---------------------------------------------------------------------------------------------------------


def log_of(states: list[list[float]]) -> Transitions:
    log = Transitions(SamplingConfig(), 2, 1)
    count = len(states) - 1
    zeros = np.zeros(count, np.float32)
    log.add(np.array(states, np.float32), zeros[:, None], zeros, np.zeros(count, bool))
    return log


def test_rollouts_begin_where_a_step_of_the_log_began_and_are_cut() -> None:
    task = make_task(TASK)
    branches = Branches(task, log_of([[0.1, 0.0], [0.2, 0.0], [0.3, 0.0]]), horizon=3)
    episodes = [branches.rollout(RandomOperator(task), seed)[0] for seed in range(20)]
    assert {round(float(episode.state[0, 0]), 3) for episode in episodes} == {0.1, 0.2}
    assert {episode.steps for episode in episodes} == {3}
    again, _ = branches.rollout(RandomOperator(task), 5)
    assert again.digest() == episodes[5].digest()


def test_a_task_that_can_begin_nowhere_else_begins_as_it_does() -> None:
    task = make_task("two-qualities")
    log = Transitions(SamplingConfig(), 1, 2)
    branches = Branches(task, log, horizon=4)
    episode, dropped = branches.rollout(RandomOperator(task), 7)
    assert dropped == 0
    plain = rollout(task, RandomOperator(task), 7, horizon=4)
    assert episode.digest() == plain.digest()


class Fragile(LinearQuadraticTask):
    """Blows up in the second step of every other rollout, or of all."""

    always = False
    _first = 0.0

    def _advance(self, action: np.ndarray) -> Any:
        found = super()._advance(action)
        # By the seed, as physics would: the same rollout blows up again.
        if self._steps == 1 and (self.always or int(abs(self._first) * 1e6) % 2):
            self._x = np.full(2, np.nan)
        return found

    def set_state(self, state: np.ndarray) -> None:
        super().set_state(state)
        self._first = float(self._x[0])


def test_where_no_state_can_be_given_the_next_rollout_has_another_seed() -> None:
    class OnlyWith3(LinearQuadraticTask):
        starts_anywhere = False

        def _reset(self, seed: int) -> None:
            super()._reset(seed)
            self._x = self._x * (np.nan if seed == 3 else 1.0)

    task = OnlyWith3(TASK, LinearQuadraticSettings(horizon=12))
    episode, dropped = Branches(task, log_of([[0.1, 0.0], [0.2, 0.0]]), None).rollout(RandomOperator(task), 3)
    assert (dropped, episode.steps) == (1, 12) and np.isfinite(episode.state).all()


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> type[Fragile]:
    def make(spec: str, *, cameras: Any = (), image_size: Any = (84, 84), gap: Any = None) -> Any:
        if gap:
            return make_task(spec, gap=gap)
        return Fragile(spec, LinearQuadraticSettings(horizon=12))

    monkeypatch.setattr("finetune.online.make_task", make)
    return Fragile


def test_a_rollout_that_blows_up_is_dropped_and_counted_and_the_run_goes_on(
    fragile: type[Fragile], pretrained: Path, tmp_path: Path, same_run: Callable[[Path, Path], None]
) -> None:
    config = configured(episodes=6)
    result = finetune(pretrained, tmp_path / "whole", config)
    lines = Run.open(tmp_path / "whole").metrics()
    assert result.dropped_rollouts == sum(line.get("online/dropped", 0) for line in lines) > 0
    assert (result.episodes, result.online_steps) == (6, 30)
    snapshot = Store.open(tmp_path / "whole" / "episodes").snapshot()
    assert snapshot.episodes == 6 and np.isfinite(snapshot.column("state")).all()
    with pytest.raises(Killed):
        finetune(pretrained, tmp_path / "killed", config, until(3))
    assert resume(tmp_path / "killed").dropped_rollouts == result.dropped_rollouts
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_simulator_that_always_blows_up_is_said_to(
    fragile: type[Fragile], pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fragile, "always", True)
    with pytest.raises(InputError, match=f"{MOST_DROPPED} rollouts in a row were dropped.*became unstable"):
        finetune(pretrained, tmp_path / "run", configured())


def test_without_a_mixture_physics_that_blows_up_is_no_ones_input(
    fragile: type[Fragile], pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fragile, "always", True)
    plain = configured(mix=None, gap="", branch_steps=None)
    with pytest.raises(UnstableError):
        finetune(pretrained, tmp_path / "run", plain)


# Going on, and what is evaluated ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "mix"), [("", "h2o"), ("h2o", "h2o"), ("h2o_plus", "h2o"), ("h2o", "naive")])
def test_a_killed_run_resumes_bit_for_bit(
    algorithm: str, mix: str, pretrained: Path, tmp_path: Path, same_run: Callable[[Path, Path], None]
) -> None:
    config = configured(mix, algorithm=algorithm)
    finetune(pretrained, tmp_path / "whole", config)
    with pytest.raises(Killed):
        finetune(pretrained, tmp_path / "killed", config, until(3))
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")
    learned = load_checkpoint(Run.open(tmp_path / "whole").last)
    assert learned.algorithm.name == (algorithm or "iql")
    assert any(name.startswith("gap/module/") for name in learned.beside) == (mix == "h2o")


def test_it_acts_in_the_simulator_and_is_evaluated_in_the_real_one(pretrained: Path, tmp_path: Path) -> None:
    config = configured("sim", evaluate_every=4, evaluation_episodes=3)
    finetune(pretrained, tmp_path / "run", config)
    run = Run.open(tmp_path / "run")
    policy = Policy.load(run.last)
    logged = [line for line in run.metrics() if "evaluation/return_mean" in line][-1]["evaluation/return_mean"]
    in_real = evaluate(make_task(TASK, gap=REAL), policy, 3).returns.mean()
    in_simulator = evaluate(make_task(TASK), policy, 3).returns.mean()
    assert logged == pytest.approx(in_real) and abs(in_real - in_simulator) > 1e-3
    episode = Store.open(tmp_path / "run" / "episodes").snapshot().episode(0)
    assert "gap" not in episode.origin and episode.steps == 5


# The gap, against the truth ---------------------------------------------------------------------------------------


def stepped(gravity: float, batch: Batch) -> torch.Tensor:
    """What each row's action leads to from its state under so many times the gravity."""
    task, found = make_task("halfcheetah", gap=f"gravity={gravity}"), []
    for state, action in zip(batch.state.numpy(), batch.action[:, 0].numpy(), strict=True):
        task.reset(seed=0, options={"state": state})
        found.append(task.step(action)[0]["state"])
    return torch.from_numpy(np.stack(found))


def test_the_learned_gap_ranks_the_errors_of_simulators_that_are_more_and_less_off() -> None:
    """The log is from twice the gravity, the simulator has half of that, and others lie in between."""
    log, rollouts = Transitions(SamplingConfig(), 17, 6), Transitions(SamplingConfig(), 17, 6)
    real, simulator = make_task("halfcheetah", gap="gravity=2"), make_task("halfcheetah")
    for seed in range(20):
        log.add_episode(rollout(real, RandomOperator(real), seed, horizon=250))
        rollouts.add_episode(rollout(simulator, RandomOperator(simulator), 100 + seed, horizon=250))
    gap = DynamicsGap(GapConfig(hidden=(64, 64), learning_rate=1e-3), prepare_from(log, simulator.contract), seed=0)
    generator = torch.Generator().manual_seed(0)
    told: list[float] = []
    for step in range(601):
        if step in (0, 600):
            rows = rollouts.batch(torch.arange(0, 5000, 25))
            truth, found, errors = stepped(2.0, rows), [], []
            for gravity in (2.0, 1.5, 1.0):
                after = stepped(gravity, rows)
                found.append(-gap.log_ratio(replace(rows, next_state=after)).numpy())
                errors.append(np.linalg.norm((after - truth).numpy() / gap.preparation.std.numpy(), axis=1))
            told.append(spearmanr(np.concatenate(found), np.concatenate(errors))[0])
        parts = [source.batch(torch.randint(5000, (128,), generator=generator)) for source in (log, rollouts)]
        gap.update(concatenate(parts), torch.arange(256) >= 128)
    # To begin with it knows nothing; by now it ranks errors of the same states and actions, too.
    assert told[1] > 0.4 > 0.2 > abs(told[0])


# By name ----------------------------------------------------------------------------------------------------------


def test_the_whole_way_goes_by_name(pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    command = ["finetune", str(pretrained), "--run", run, "--task", TASK, "--gap", REAL, "--mix", "h2o"]
    settings = ["--algorithm", "h2o", "--episodes", "3", "--set", "branch_steps=6", "--json"]
    assert firsthand.main([*command, *settings]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dropped_rollouts"] == 0 and document["online_steps"] == 18
    for name in ("simulated_weight", "simulated_weight_clipped", "dynamics_gap", "gap_regularisation"):
        assert np.isfinite(document["metrics"][name]), name
    assert 0 < document["metrics"]["simulated_weight"] <= 1
    page = write_report(Run.open(Path(run))).read_text()
    for title in ("Where not to trust the simulator", "mean weight, and share of clipped", "Learned dynamics gap"):
        assert page.count(title) == 1, title


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mix": "both"}, "mix"),
        ({"mix": None, "gap": ""}, "branch_steps are of rollouts beside a real log; give --mix"),
        ({"offline_share": 0.0}, "has no real rows; give --mix sim"),
        ({"mix": "real", "offline_share": 0.7}, "offline_share: --mix real learns from one source alone"),
        ({"mix": "sim", "intervention_share": 0.1}, "intervention_share: --mix sim learns from one source alone"),
        ({"branch_steps": 0}, "branch_steps"),
        ({"task": "two-qualities", "gap": ""}, "state entries are not those"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    settings: dict[str, Any], words: str, pretrained: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        finetune(pretrained, tmp_path / "run", configured(**settings))
    assert not (tmp_path / "run").exists()


def test_too_little_real_data_to_tell_a_simulator_by_is_refused(tmp_path: Path) -> None:
    task = make_task(TASK)
    Store.create(tmp_path / "store", task.contract).append([rollout(task, RandomOperator(task), 0)])
    settings = {"hidden": [8, 8], "steps": 2, "batch_size": 16, "device": "cpu"}
    pretrain(tmp_path / "store", tmp_path / "iql", resolve("iql", None, None, settings))
    with pytest.raises(InputError, match=r"12 real transitions; .* takes a batch, 16, or more"):
        finetune(tmp_path / "iql", tmp_path / "run", configured())
    assert not (tmp_path / "run").exists()
    finetune(tmp_path / "iql", tmp_path / "naive", configured("naive"))


def test_a_log_of_other_numbers_is_refused(tmp_path: Path) -> None:
    other = Contract("other", (StateEntry("x", "m"), StateEntry("y", "m")), (ActionEntry("a", "m", -8, 8),), rate=10.0)
    store = Store.create(tmp_path / "store", other)
    task = make_task(TASK)
    store.append([rollout(task, RandomOperator(task), seed) for seed in range(3)])
    settings = {"hidden": [8, 8], "steps": 2, "batch_size": 16, "device": "cpu"}
    pretrain(tmp_path / "store", tmp_path / "iql", resolve("iql", None, None, settings))
    with pytest.raises(InputError, match="its state entries are not those that the policy was trained on"):
        finetune(tmp_path / "iql", tmp_path / "run", configured())


def test_the_networks_that_tell_dynamics_apart_are_as_wide_as_asked_for(pretrained: Path, tmp_path: Path) -> None:
    finetune(pretrained, tmp_path / "run", configured(gap_hidden=[8]))
    state = load_checkpoint(Run.open(tmp_path / "run").last).beside
    assert state["gap/module/of_pair/network.layers.0.weight"].shape[0] == 8
    with pytest.raises(InputError, match="gap_hidden is of the networks of --mix h2o"):
        configured("naive", gap_hidden=[8]).check()
