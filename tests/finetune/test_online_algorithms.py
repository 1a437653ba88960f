"""Going on with another algorithm than the one that pretrained: from its policy, or from nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from episodes.errors import InputError
from finetune.config import resolve
from finetune.learner import Beginning, Learner, learning_config
from finetune.online import OnlineConfig, finetune, resume
from finetune.pretrain import pretrain
from finetune.report import write_report
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.famo2o import FamO2O
from policies.registry import make_algorithm
from tests.finetune.killing import Killed, until

SMALL = {"critics": 2, "updates_per_actor_update": 2}
AT_ONCE = {"actor_warm_up": 0}


def configured(algorithm: str, **settings: Any) -> OnlineConfig:
    common = {"task": "walk", "episodes": 3, "checkpoint_every": 2, "updates_per_step": 2, "algorithm": algorithm}
    small = SMALL if algorithm == "rlpd" else {"sampled_actions": 2}
    return learning_config(OnlineConfig, common | AT_ONCE | small | settings)


@pytest.mark.parametrize("algorithm", ["rlpd", "cal_ql"])
def test_it_begins_with_the_pretrained_policy_and_resumes_bit_for_bit(
    algorithm: str, parent: Path, walks, tmp_path: Path, same_run
) -> None:
    config = configured(algorithm)
    result = finetune(parent, tmp_path / "whole", config)
    assert result.steps > 0
    began = load_checkpoint(tmp_path / "whole" / "checkpoint" / "000000000").algorithm
    pretrained = load_checkpoint(Run.open(parent).last).algorithm
    state = torch.randn(6, 2)
    assert began.name == algorithm
    torch.testing.assert_close(began.act(state), pretrained.act(state))
    ended = load_checkpoint(Run.open(tmp_path / "whole").last).algorithm
    assert not torch.equal(ended.act(state), began.act(state))

    with pytest.raises(Killed):
        finetune(parent, tmp_path / "killed", config, until(2))
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.fixture
def family(store: Path, config, tmp_path: Path) -> Path:
    """A pretrained FamO2O run of one action at a time."""
    pretrain(store, tmp_path / "family", config(algorithm="famo2o", chunk=1, steps=30, reward_bias=-1.0))
    return tmp_path / "family"


def test_a_family_goes_on_with_the_coefficients_that_it_chooses(family: Path, walks, tmp_path: Path, same_run) -> None:
    config = OnlineConfig(task="walk", episodes=3, checkpoint_every=2, evaluate_every=2)
    finetune(family, tmp_path / "whole", config)
    pretrained = load_checkpoint(Run.open(family).last).algorithm
    began = load_checkpoint(tmp_path / "whole" / "checkpoint" / "000000000").algorithm
    ended = load_checkpoint(Run.open(tmp_path / "whole").last).algorithm
    assert isinstance(pretrained, FamO2O) and isinstance(began, FamO2O) and isinstance(ended, FamO2O)
    assert (pretrained.online, began.online, ended.online) == (False, True, True)
    state = torch.randn(6, 2)
    torch.testing.assert_close(began.act(state), pretrained.act(state))
    assert not torch.equal(ended.coefficient(state), began.coefficient(state))
    with pytest.raises(Killed):
        finetune(family, tmp_path / "killed", config, until(2))
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")
    page = write_report(Run.open(tmp_path / "whole")).read_text()
    assert page.count("Balance coefficient") == page.count("Share of clipped weights") > 0


def test_a_family_takes_another_s_place_and_gives_way_from_nothing_only(
    parent: Path, family: Path, walks, tmp_path: Path
) -> None:
    for begun, algorithm, words in (
        (parent, "famo2o", "starts from no other's"),
        (family, "rlpd", "nothing else starts"),
    ):
        settings = {"critics": 2} if algorithm == "rlpd" else {}
        config = {"task": "walk", "episodes": 1, "algorithm": algorithm, "updates_per_step": 1} | settings
        with pytest.raises(InputError, match=f"{words}.*from_policy=false"):
            finetune(begun, tmp_path / "run", learning_config(OnlineConfig, config))
        finetune(begun, tmp_path / algorithm, learning_config(OnlineConfig, config | {"from_policy": False}))
    learned = load_checkpoint(Run.open(tmp_path / "famo2o").last).algorithm
    assert isinstance(learned, FamO2O) and learned.online


def test_from_nothing_the_policy_is_another_one(parent: Path, walks, tmp_path: Path) -> None:
    finetune(parent, tmp_path / "run", configured("rlpd", from_policy=False))
    began = load_checkpoint(tmp_path / "run" / "checkpoint" / "000000000").algorithm
    pretrained = load_checkpoint(Run.open(parent).last).algorithm
    state = torch.randn(6, 2)
    assert not torch.allclose(began.act(state), pretrained.act(state), atol=1e-2)
    assert torch.equal(began.preparation.mean, pretrained.preparation.mean)


def test_every_seed_begins_with_critics_of_its_own_also_when_it_is_taken_up_again(
    parent: Path, walks, tmp_path: Path
) -> None:
    def states(seed: int) -> list[dict[str, torch.Tensor]]:
        config = configured("rlpd", seed=seed)
        begun = Beginning.of_parent(parent, config)
        again = Beginning.of_run(Run.create(tmp_path / f"run-{seed}", begun.written(parent, config)), config)
        return [each.saved.algorithm.state_dict() for each in (begun, again)]

    (first, first_again), (second, second_again) = states(0), states(1)
    for one, again in ((first, first_again), (second, second_again)):
        assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(first["generator"], second["generator"])
    critic = next(key for key in first if key.startswith("module/critic/weights"))
    assert not torch.equal(first[critic], second[critic])
    # The pretraining's seed, which is 0, is the one of all who gave none.
    train = Beginning.of_parent(parent, configured("rlpd")).train
    fresh = make_algorithm(
        "rlpd", train.algorithm_config(), load_checkpoint(Run.open(parent).last).algorithm.preparation, seed=0
    )
    assert torch.equal(fresh.state_dict()[critic], first[critic])


def test_batches_are_drawn_by_another_seed_than_the_learner_that_gets_them(parent: Path, walks, tmp_path: Path) -> None:
    config = configured("rlpd", seed=1)
    beginning = Beginning.of_parent(parent, config)
    learner = Learner(Run.create(tmp_path / "run", beginning.written(parent, config)), config, beginning)
    drawn_by = learner.experience._sampler._generator.initial_seed()
    assert learner.algorithm.generator.initial_seed() != drawn_by


def test_settings_that_do_not_fit_together_are_refused_where_a_run_begins(parent: Path) -> None:
    with pytest.raises(InputError, match="offline_share_last is reached after anneal_episodes"):
        Beginning.of_parent(parent, configured("rlpd", offline_share_last=0.1))


def test_what_it_learned_can_be_fine_tuned_again_by_itself_and_by_another(parent: Path, walks, tmp_path: Path) -> None:
    finetune(parent, tmp_path / "first", configured("rlpd"))
    state = torch.randn(6, 2)
    left = load_checkpoint(Run.open(tmp_path / "first").last).algorithm
    for name, config in (
        ("same", OnlineConfig(task="walk", episodes=1, updates_per_step=1)),
        ("other", configured("cal_ql", episodes=1)),
    ):
        finetune(tmp_path / "first", tmp_path / name, config)
        began = load_checkpoint(tmp_path / name / "checkpoint" / "000000000").algorithm
        torch.testing.assert_close(began.act(state), left.act(state))
    assert load_checkpoint(tmp_path / "same" / "checkpoint" / "000000000").algorithm.name == "rlpd"


def test_unless_told_otherwise_it_updates_as_often_as_its_authors_did(parent: Path, walks, tmp_path: Path) -> None:
    config = configured("rlpd", updates_per_step=None, episodes=1)
    result = finetune(parent, tmp_path / "run", config)
    assert result.steps == 20 * result.online_steps


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"updates_per_step": 4}, (4, 0.05, 3000)),
        ({}, (20, 0.05, 3000)),
        ({"from_policy": False, "updates_per_step": 4}, (4, 1.0, 0)),
        ({"updates_per_step": 4, "updates_per_actor_update": 2, "actor_warm_up": 7}, (2, 0.05, 7)),
    ],
)
def test_unless_told_otherwise_it_does_not_forget_what_it_starts_from(
    settings: dict[str, Any], told: tuple[int, float, int], parent: Path
) -> None:
    """And its policy moves once per step, however many updates there are."""
    config = learning_config(OnlineConfig, {"task": "walk", "algorithm": "rlpd", "critics": 2} | settings)
    learner = Beginning.of_parent(parent, config).saved.algorithm.config
    assert (learner.updates_per_actor_update, learner.initial_temperature, learner.actor_warm_up) == told
    assert not learner.entropy_backup
    assert learner.warm_up_on_returns == bool(told[2])
    assert learner.actor_learning_rate == (3e-5 if told[2] else None)


def test_what_was_logged_of_an_episode_is_of_all_its_updates(parent: Path, walks, tmp_path: Path) -> None:
    """The policy moves in one of five here, and hardly ever in the last one."""
    config = configured("rlpd", updates_per_actor_update=5, actor_warm_up=0, episodes=2)
    finetune(parent, tmp_path / "run", config)
    last = Run.open(tmp_path / "run").metrics()[-1]
    assert {"critic_loss", "actor_loss", "temperature", "entropy"} <= last.keys()


def test_a_pretrained_run_of_its_own_kind_may_be_less_conservative_online(store: Path, tmp_path: Path) -> None:
    small = {"hidden": [16, 16], "steps": 2, "batch_size": 16, "device": "cpu", "sampled_actions": 2}
    pretrain(store, tmp_path / "parent", resolve("cal_ql", None, None, small))
    settings = {"task": "walk", "algorithm": "cal_ql", "conservative_weight": 0.01}
    beginning = Beginning.of_parent(tmp_path / "parent", learning_config(OnlineConfig, settings))
    assert beginning.saved.algorithm.config.conservative_weight == 0.01
    assert beginning.train.learner["sampled_actions"] == 2


def test_one_that_was_pretrained_moves_its_policy_once_per_step_too(store: Path, tmp_path: Path) -> None:
    small = {"hidden": [16, 16], "steps": 2, "batch_size": 16, "device": "cpu", "critics": 2}
    pretrain(store, tmp_path / "parent", resolve("rlpd", None, None, small))
    for settings, expected in (({}, 20), ({"updates_per_step": 4}, 4)):
        config = learning_config(OnlineConfig, {"task": "walk"} | settings)
        beginning = Beginning.of_parent(tmp_path / "parent", config)
        assert beginning.saved.algorithm.config.updates_per_actor_update == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"algorithm": "rldp"}, "unknown algorithm 'rldp'; did you mean 'rlpd'"),
        ({"algorithm": "rlpd", "critcs": 5}, "unknown key 'critcs'"),
        ({"algorithm": "rlpd", "critics": 1}, "critics"),
        ({"critics": 5}, "unknown key 'critics'"),
        ({"from_policy": False}, "from_policy=false: the run is of 'iql' itself"),
        ({"algorithm": "iql", "from_policy": False}, "from_policy=false: the run is of 'iql' itself"),
        ({"algorithm": "bc"}, "cannot learn from rewards"),
        ({"algorithm": "iql", "expectile": 0.8}, "expectile: settings of 'iql' were fixed"),
        ({"algorithm": "rlpd", "hidden": [7, 7]}, "has layers"),
    ],
)
def test_what_cannot_be_done_is_said(settings: dict[str, Any], words: str, parent: Path, walks, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        finetune(parent, tmp_path / "run", learning_config(OnlineConfig, {"task": "walk", "episodes": 1} | settings))
    assert not (tmp_path / "run").exists()
