"""The command line where something must never happen: costs, learning from them, violations told."""

import json
from pathlib import Path

import pytest
import torch

from tests.command_line import run

torch.set_num_threads(1)

WALL = "keep_out: {left: {box: {x: [-1, 0.0]}, near: 0.1}}\n"
LABEL = ["label", "points", "--method", "constraints"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of the point robot and of another task, and files of constraints."""
    folder = tmp_path_factory.mktemp("constrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in (
            ["collect", "points", "--task", "point-robot:horizon=40", "--episodes", 8, "--quality", "0:0.5"],
            ["collect", "other", "--task", "pusht:horizon=3", "--operator", "random", "--episodes", 1],
            [*LABEL, "--task", "point-robot"],
        ):
            assert run(*arguments) == 0, arguments
        (folder / "wall.yaml").write_text(WALL)
        (folder / "nowhere.yaml").write_text("limits: {far: {entry: x, high: 99}}\n")
        (folder / "mistyped.yaml").write_text("limits: {far: {entry: x, hihg: 99}}\n")
        (folder / "unknown.yaml").write_text("limits: {far: {entry: xx, high: 99}}\n")
    return folder


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """The workspace, as the current folder; nothing printed so far."""
    monkeypatch.chdir(workspace)
    capfd.readouterr()
    return workspace


def test_costs_of_a_file_are_a_label_set(here, capfd):
    assert run(*LABEL, "--config", "wall.yaml", "--name", "wall", "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["labels"], document["method"], document["rewards"]) == ("wall", "constraints", "logged")
    assert document["constraints"][0]["violations"] > 0 and not document["warnings"]
    assert run("inspect", "points", "--json") == 0
    assert "wall" in json.loads(capfd.readouterr().out)["labels"]


def test_logs_without_a_violation_are_labelled_with_a_warning(here, capfd):
    assert run(*LABEL, "--config", "nowhere.yaml", "--name", "nowhere") == 0
    assert "WARNING: no step of these logs violates anything" in capfd.readouterr().out


REFUSED = {
    "no source": ([*LABEL, "--name", "n"], "expected one of --config FILE"),
    "two sources": ([*LABEL, "--task", "point-robot", "--config", "wall.yaml"], "got --config and --task"),
    "what decides nothing": ([*LABEL, "--task", "point-robot", "--judge", "clip"], "--judge decides nothing here"),
    "name taken": ([*LABEL, "--task", "point-robot"], "label set 'constraints' exists"),
    "mistyped": ([*LABEL, "--config", "mistyped.yaml"], "unknown key 'hihg'"),
    "unknown entry": ([*LABEL, "--config", "unknown.yaml", "--name", "n"], "unknown state entry 'xx'"),
    "missing file": ([*LABEL, "--config", "none.yaml", "--name", "n"], "none.yaml: cannot be read"),
    "unknown rewards": ([*LABEL, "--config", "wall.yaml", "--rewards", "loged"], "did you mean 'logged'"),
    "another task's": (["label", "other", "--method", "constraints", "--task", "point-robot"], "its state is not task"),
    "a task without": ([*LABEL, "--task", "pusht"], "task 'pusht' has no constraints of its own"),
    "no robot's contract": ([*LABEL, "--contract", "wall.yaml", "--name", "n"], "wall.yaml"),
    "rewards of another method": (
        ["label", "points", "--task", "x", "--rewards", "logged"],
        "--rewards is for --method",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(here, capfd, case):
    arguments, message = REFUSED[case]
    assert run(*arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err


SMALL = ["--set", "hidden=[8]", "--set", "width=8", "--set", "blocks=1", "--set", "batch_size=8", "--device", "cpu"]


def test_a_safe_policy_is_learned_resumed_and_evaluated(here, capfd):
    given = ["pretrain", "points", "--algorithm", "fisor", "--labels", "constraints", "--run", "safe", "--steps", 4]
    assert run(*given, *SMALL, "--json") == 0
    assert json.loads(capfd.readouterr().out)["metrics"]["feasibility_critic_loss"] > 0
    assert run("pretrain", "--run", "safe", "--resume", "--json") == 0
    capfd.readouterr()
    assert run("evaluate", "safe", "--task", "point-robot:horizon=5", "--episodes", 3) == 0
    assert "violations in " in capfd.readouterr().out
    assert run("evaluate", "safe", "--task", "point-robot:horizon=5", "--episodes", 3, "--json") == 0
    assert 0 <= json.loads(capfd.readouterr().out)["violated_rate"] <= 1


def test_learning_from_logs_without_violations_is_warned_of(here, capfd):
    assert run(*LABEL, "--config", "nowhere.yaml", "--name", "harmless") == 0
    capfd.readouterr()
    given = ["pretrain", "points", "--algorithm", "fisor", "--labels", "harmless", "--run", "warned", "--steps", 1]
    assert run(*given, *SMALL) == 0
    assert "firsthand: WARNING: label set 'harmless': no step violates anything" in capfd.readouterr().err


def test_learning_without_costs_is_refused(here, capfd):
    assert run("pretrain", "points", "--algorithm", "fisor", "--run", "none", *SMALL) == 2
    assert "label set 'logged' has no costs" in capfd.readouterr().err
