"""A history of observations on its whole way: who acts sees what was learned from."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.errors import InputError
from episodes.store import Store
from episodes.transitions import SamplingConfig, Transitions
from finetune.config import resolve
from finetune.data import load_offline
from finetune.evaluate import evaluate
from finetune.held_out import action_errors
from finetune.learner import learning_config
from finetune.online import OnlineConfig, finetune
from finetune.online import resume as resume_online
from finetune.pretrain import pretrain, resume
from finetune.run import Run
from finetune.trajectories import Trajectories
from policies.checkpoint import load_checkpoint
from policies.policy import Policy
from policies.uni_o4 import UniO4
from sim.base import Task
from sim.collect import collect
from sim.gaps import Gap
from sim.operators import RandomOperator
from sim.rollout import rollout
from tests.finetune.killing import Killed, until

MODEL = {"members": 2, "elites": 1, "hidden": [8], "epochs": 2}
UNI_O4 = {"algorithm": "uni_o4", "members": 2, "starts": 8, "rollout_steps": 3, "hidden": [16, 16], "dynamics": MODEL}
UNI_O4 |= {"gate_every": 4, "reward_bias": -1.0, "batch_steps": 20, "minibatch": 8, "epochs": 2}
KINDS = {
    "one action at a time": {"algorithm": "bc", "dropout": 0.0},
    "chunks": {"algorithm": "iql", "chunk": 3, "reward_bias": -1.0},
    "uni_o4": UNI_O4,
}


def configured(**settings: Any):
    run = {"algorithm": "bc", "steps": 40, "batch_size": 16, "checkpoint_every": 10, "hidden": [16], "device": "cpu"}
    known = run | {"history": 3} | settings
    return resolve(known.pop("algorithm"), None, None, known)


def watched(policy: Policy) -> list[torch.Tensor]:
    """What the actor's network will be shown to act on, in order."""
    shown: list[torch.Tensor] = []
    name = "mean" if policy.deterministic else "sample"
    ask = getattr(policy.algorithm.actor, name)

    def noted(observation: torch.Tensor, *more: Any) -> torch.Tensor:
        shown.append(observation)
        return ask(observation, *more)

    setattr(policy.algorithm.actor, name, noted)
    return shown


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("history", [1, 3, 20])
def test_who_acts_sees_what_was_learned_from(kind: str, history: int, store: Path, tmp_path: Path) -> None:
    """Logged episodes, observation by observation, to the bit: at their beginning, in chunks, one after the other."""
    config = configured(**KINDS[kind], history=history)
    pretrain(store, tmp_path / "run", config)
    policy = Policy.load(Run.open(tmp_path / "run").last)
    learned = load_offline(store, config).transitions
    snapshot, shown, first = Store.open(store).snapshot(), watched(policy), 0
    for number in range(6):
        episode = snapshot.episode(number)
        policy.reset(number)
        shown.clear()
        for state in episode.state[:-1]:
            policy.act({"state": state})
        chosen = torch.arange(first, first + episode.steps, config.sampling.chunk)
        first += episode.steps
        expected = policy.algorithm.preparation(learned.batch(chosen)).observation
        assert torch.equal(torch.cat(shown), expected)
        assert expected.shape[1] == 2 * history


def test_what_is_imagined_moves_on_as_what_is_seen_does(store: Path, tmp_path: Path) -> None:
    """From windows of the data on every one has the last two observations of the one before, to the bit."""
    pretrain(store, tmp_path / "run", configured(**UNI_O4))
    algorithm = load_checkpoint(Run.open(tmp_path / "run").last).algorithm
    assert isinstance(algorithm, UniO4)
    gate = algorithm.gate
    imagined = gate.dynamics.rollout(gate.starts, algorithm.actor.mean, 4).observation
    assert torch.equal(imagined[1:, :, :4], imagined[:-1, :, 2:])
    assert (imagined[1:, :, 4:] != imagined[:-1, :, 4:]).all()


def test_who_learns_online_learns_from_what_it_saw(store: Path, walk: Callable, tmp_path: Path) -> None:
    """Of PPO's own episodes, and of the transitions that the others make of them; whatever else is drawn."""
    pretrain(store, tmp_path / "run", configured(**UNI_O4))
    algorithm = load_checkpoint(Run.open(tmp_path / "run").last).algorithm
    assert isinstance(algorithm, UniO4)
    policy, sampling = Policy(algorithm, deterministic=False), SamplingConfig(history=3)
    own, replayed = Trajectories(algorithm, sampling), Transitions(sampling, 2, 2)
    shown = watched(policy)
    for seed in range(3):
        shown.clear()
        episode = rollout(walk(), policy, seed)
        assert episode.reward is not None
        ends = np.append(np.zeros(episode.steps - 1, bool), episode.terminated)
        own.add(seed + 1, episode, episode.reward, ends, None)
        assert torch.equal(own.trajectories[-1].observation, torch.cat(shown))
        assert torch.equal(own.trajectories[-1].next_observation[:-1], own.trajectories[-1].observation[1:])
        before = len(replayed)
        replayed.add_episode(episode)
        batch = algorithm.preparation(replayed.batch(torch.arange(before, len(replayed))))
        assert torch.equal(batch.observation, torch.cat(shown))
        assert torch.equal(batch.next_observation, own.trajectories[-1].next_observation)


def test_episodes_that_were_acted_with_another_history_are_refused(store: Path, walk: Callable, tmp_path: Path) -> None:
    """Their log densities are not those of what is learned from."""
    pretrain(store, tmp_path / "run", configured(**UNI_O4))
    algorithm = load_checkpoint(Run.open(tmp_path / "run").last).algorithm
    assert isinstance(algorithm, UniO4)

    class Forgetful(Policy):
        def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
            self._window.clear()
            return super().act(observation)

    episode = rollout(walk(), Forgetful(algorithm, deterministic=False), 0)
    ends = np.zeros(episode.steps, bool)
    with pytest.raises(InputError, match="its log probabilities are not those of its proposed actions"):
        Trajectories(algorithm, SamplingConfig(history=3)).add(1, episode, np.zeros(episode.steps), ends, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_with_a_history_resumes_as_if_it_had_not_been_broken(
    kind: str, store: Path, tmp_path: Path, same_run: Callable
) -> None:
    pretrain(store, tmp_path / "whole", configured(**KINDS[kind]))
    with pytest.raises(Killed):
        pretrain(store, tmp_path / "killed", configured(**KINDS[kind]), until(33))
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("algorithm", ["", "rlpd", "uni_o4"])
def test_it_goes_online_with_its_history_and_resumes(
    algorithm: str, store: Path, walks: Callable, tmp_path: Path, same_run: Callable
) -> None:
    kind = UNI_O4 if algorithm == "uni_o4" else {"algorithm": "iql", "reward_bias": -1.0}
    pretrain(store, tmp_path / "run", configured(**kind))
    settings = {"task": "walk", "episodes": 6, "checkpoint_every": 2, "evaluate_every": 3, "evaluation_episodes": 3}
    config = learning_config(OnlineConfig, settings | {"algorithm": algorithm})
    finetune(tmp_path / "run", tmp_path / "whole", config)
    with pytest.raises(Killed):
        finetune(tmp_path / "run", tmp_path / "killed", config, until(5))
    resume_online(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")
    assert load_checkpoint(Run.open(tmp_path / "whole").last).algorithm.preparation.history == 3


def test_held_out_actions_are_predicted_from_the_history_of_their_episode(store: Path, tmp_path: Path) -> None:
    """As by a policy that is shown the episode from its beginning; its first step is not measured."""
    pretrain(store, tmp_path / "run", configured(held_out=0.2))
    errors = action_errors(Run.open(tmp_path / "run"))
    policy, snapshot = Policy.load(Run.open(tmp_path / "run").last), Store.open(store).snapshot()
    for place, number in enumerate(errors.episodes):
        episode = snapshot.episode(number)
        policy.reset(0)
        guesses = np.array([policy.act({"state": state}) for state in episode.state[: episode.steps]])
        expected = np.abs(guesses - episode.action)[1:].mean(0)
        np.testing.assert_allclose(errors.error["policy"][place], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mix", ["real", "sim", "naive", "h2o"])
def test_a_simulator_is_not_mixed_in_beside_a_history(mix: str, store: Path, walks: Callable, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "run", configured(algorithm="iql", reward_bias=-1.0))
    config = learning_config(OnlineConfig, {"task": "walk", "mix": mix, "episodes": 2})
    with pytest.raises(InputError, match="sees a history of 3, and rollouts with --mix begin in the middle") as refusal:
        finetune(tmp_path / "run", tmp_path / "mixed", config)
    assert "\n" not in str(refusal.value) and not (tmp_path / "mixed").exists()


@pytest.mark.parametrize("value", [0, -1, 1.5, "all"])
def test_a_history_is_a_number_of_observations(value: Any) -> None:
    with pytest.raises(InputError, match="history"):
        configured(history=value)


def test_a_run_from_before_there_were_histories_goes_on(store: Path, walks: Callable, tmp_path: Path) -> None:
    pretrain(store, tmp_path / "run", configured(algorithm="iql", history=1, reward_bias=-1.0))
    written = (tmp_path / "run" / "config.yaml").read_text()
    older = re.sub(r"\n +history: 1", "", written)
    assert older != written
    (tmp_path / "run" / "config.yaml").write_text(older)
    state = load_checkpoint(Run.open(tmp_path / "run").last).algorithm.state_dict()
    assert not [name for name in state if "history" in name]
    finetune(tmp_path / "run", tmp_path / "on", learning_config(OnlineConfig, {"task": "walk", "episodes": 2}))
    assert load_checkpoint(Run.open(tmp_path / "on").last).algorithm.preparation.history == 1


# A task that a single observation does not tell enough of ------------------------------------------------------------


class Conveyor(Task):
    """What a sensor sees is under the arm a step later, and is to be met there: -(place of a step ago - action)^2."""

    has_success = False

    def __init__(self) -> None:
        entries = StateEntry("seen", "m"), StateEntry("under_the_arm", "m")
        contract = Contract("conveyor", entries, (ActionEntry("reached", "m", -1.5, 1.5),), rate=1.0)
        super().__init__("conveyor", contract, "meet what comes", 6, Gap())
        self._reset(0)

    def _reset(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])
        self._now = self._rng.uniform(-1.5, 1.5, 2)

    def _advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        reward = -float((self._now[1] - action[0]) ** 2)
        self._now = np.array([self._rng.uniform(-1.5, 1.5), self._now[0]])
        return reward, False, False, {}

    def _state(self) -> np.ndarray:
        return self._now

    def _image(self, camera: str, height: int, width: int) -> np.ndarray:
        return np.zeros((height, width, 3), np.uint8)

    def render(self) -> np.ndarray:
        return self._image("", 256, 256)


def test_uni_o4_does_offline_and_online_what_it_needs_a_history_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the sensor alone the best is to wait in the middle, for 6 variances of 0.75: -4.5. With a history that is so
    for the first step only, for -0.75. Chance earns -9."""
    task = Conveyor()
    store = Store.create(tmp_path / "store", task.contract)
    store.append(list(collect(task, lambda quality: RandomOperator(task), range(80))))
    learning = {"steps": 600, "batch_size": 128, "hidden": [32], "learning_rate": 5e-3, "target_rate": 0.05}
    learning |= {"state_entries": ["seen"], "discount": 0.5, "reward_bias": 0.0, "expectile": 0.8}
    learning |= {"improvement_learning_rate": 2e-3, "improvement_share": 0.5, "rollout_steps": 5, "starts": 64}
    model = {"members": 2, "elites": 1, "hidden": [32], "epochs": 15, "learning_rate": 5e-3}
    returns = {}
    for history in (1, 3):
        run = tmp_path / str(history)
        pretrain(tmp_path / "store", run, configured(**(UNI_O4 | learning | {"dynamics": model, "history": history})))
        returns[history] = evaluate(task, Policy.load(Run.open(run).last), 40).returns.mean()
    assert returns[1] < -4 and returns[3] > -2.75
    monkeypatch.setattr("finetune.online.make_task", lambda spec, **options: Conveyor())
    settings = {
        "task": "conveyor",
        "episodes": 30,
        "evaluate_every": 30,
        "evaluation_episodes": 40,
        "checkpoint_every": 30,
    }
    settings |= {"algorithm": "uni_o4", "batch_steps": 60}
    finetune(tmp_path / "3", tmp_path / "online", learning_config(OnlineConfig, settings))
    lines = Run.open(tmp_path / "online").metrics()
    evaluated = [line["evaluation/return_mean"] for line in lines if "evaluation/return_mean" in line]
    assert evaluated[0] == pytest.approx(returns[3]) and evaluated[1] > returns[3] - 0.5
