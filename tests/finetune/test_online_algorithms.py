"""Going on with another algorithm than the one that pretrained: from its policy, or from nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from episodes.errors import InputError
from finetune.learner import learning_config
from finetune.online import OnlineConfig, finetune, resume
from finetune.run import Run
from policies.checkpoint import load_checkpoint

SMALL = {"critics": 2, "updates_per_actor_update": 2}


def configured(algorithm: str, **settings: Any) -> OnlineConfig:
    common = {"task": "walk", "episodes": 3, "checkpoint_every": 2, "updates_per_step": 2, "algorithm": algorithm}
    return learning_config(OnlineConfig, common | (SMALL if algorithm == "rlpd" else {"sampled_actions": 2}) | settings)


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

    class Killed(Exception):
        pass

    def until_two(items):
        for number, item in enumerate(items):
            if number == 2:
                raise Killed
            yield item

    with pytest.raises(Killed):
        finetune(parent, tmp_path / "killed", config, until_two)
    resume(tmp_path / "killed")
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_from_nothing_the_policy_is_another_one(parent: Path, walks, tmp_path: Path) -> None:
    finetune(parent, tmp_path / "run", configured("rlpd", from_policy=False))
    began = load_checkpoint(tmp_path / "run" / "checkpoint" / "000000000").algorithm
    pretrained = load_checkpoint(Run.open(parent).last).algorithm
    state = torch.randn(6, 2)
    assert not torch.allclose(began.act(state), pretrained.act(state), atol=1e-2)
    assert torch.equal(began.preparation.mean, pretrained.preparation.mean)


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
    ("settings", "words"),
    [
        ({"algorithm": "rldp"}, "unknown algorithm 'rldp'; did you mean 'rlpd'"),
        ({"algorithm": "rlpd", "critcs": 5}, "unknown key 'critcs'"),
        ({"algorithm": "rlpd", "critics": 1}, "critics"),
        ({"critics": 5}, "unknown key 'critics'"),
        ({"algorithm": "bc"}, "cannot learn from rewards"),
        ({"algorithm": "iql", "expectile": 0.8}, "expectile: settings of 'iql' were fixed"),
        ({"algorithm": "rlpd", "hidden": [7, 7]}, "has layers"),
    ],
)
def test_what_cannot_be_done_is_said(settings: dict[str, Any], words: str, parent: Path, walks, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        finetune(parent, tmp_path / "run", learning_config(OnlineConfig, {"task": "walk", "episodes": 1} | settings))
    assert not (tmp_path / "run").exists()
