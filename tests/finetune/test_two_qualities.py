"""FamO2O where the answer is known: imitate where the logs are good, improve on them where they are poor."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import firsthand
from finetune.config import resolve
from finetune.pretrain import pretrain
from finetune.run import Run
from policies.checkpoint import load_checkpoint
from policies.famo2o import FamO2O
from sim.two_qualities import pay

SMALL = ("hidden=[64, 64]", "learning_rate=0.002", "discount=0", "checkpoint_every=2000")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 120 episodes, and a pretrained family: the benchmark in small."""
    path = tmp_path_factory.mktemp("two-qualities")
    command = ["collect", str(path / "store"), "--task", "two-qualities", "--episodes", "120"]
    assert firsthand.main(command) == 0
    settings = {"steps": 2000, "hidden": [64, 64], "learning_rate": 2e-3, "discount": 0.0, "device": "cpu"}
    pretrain(path / "store", path / "family", resolve("famo2o", None, None, settings))
    return path


@pytest.fixture
def family(folder: Path) -> FamO2O:
    algorithm = load_checkpoint(Run.open(folder / "family").last).algorithm
    assert isinstance(algorithm, FamO2O)
    return algorithm


PLACES = torch.linspace(-0.99, 0.99, 100).unsqueeze(1)


def test_the_coefficient_is_low_where_the_logs_are_good_and_high_where_they_are_poor(family: FamO2O) -> None:
    chosen = family.coefficient(PLACES).numpy()
    assert chosen[:45].max() < 3 < chosen[55:].min()
    assert chosen[55:].mean() - chosen[:45].mean() > 1


def test_choosing_pays_more_than_any_one_coefficient_of_the_family(family: FamO2O) -> None:
    x = PLACES[:, 0].numpy()
    observation = family.preparation.observation(PLACES, None)
    ours = pay(x, *family.act(PLACES)[:, 0].numpy().T).mean()
    alone = []
    for beta in np.linspace(1, 5, 17):
        with torch.no_grad():
            given = family.actor.given(observation, torch.full((len(x),), float(beta)))
            alone.append(pay(x, *family.actor.family.mean(given).numpy().T).mean())
    assert ours > max(alone) + 0.05


def test_the_whole_way_goes_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a store to a report with the commands alone; the task knows no success, and the summaries say so."""
    run, online = str(folder / "run"), str(folder / "online")
    settings = [word for setting in SMALL for word in ("--set", setting)]
    pretrained = ["pretrain", str(folder / "store"), "--run", run, "--algorithm", "famo2o", "--steps", "20"]
    capsys.readouterr()
    for command in (
        [*pretrained, "--device", "cpu", *settings],
        ["finetune", run, "--run", online, "--task", "two-qualities", "--episodes", "2"],
        ["evaluate", online, "--task", "two-qualities", "--episodes", "2"],
        ["report", online],
    ):
        assert firsthand.main(command) == 0, command
    said = capsys.readouterr().out
    assert "2 episodes, 40 steps; the task knows no success" in said
    assert "success -" in said
    assert firsthand.main(["evaluate", online, "--task", "two-qualities", "--episodes", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["success_rate"] is None and document["length_mean"] == 20
    lines = [json.loads(line) for line in (folder / "online" / "metrics.jsonl").read_text().splitlines()]
    assert all(1 < line["coefficient"] < 5 for line in lines if "coefficient" in line)
    assert (folder / "online" / "report.html").exists()
