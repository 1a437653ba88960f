"""A success classifier judges a simulated robot, in processes: what it says against the same said afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from episodes.store import Store
from finetune.config import resolve
from finetune.data import labeller_of
from finetune.pretrain import pretrain
from finetune.run import Run
from rewards.label import label
from rewards.labeller import Labeller
from rewards.marks import marks_from
from rewards.settings import label_config
from rewards.watching import SuccessWatch
from robot.reports import OUTCOME_TOPIC, Outcome
from robot.session import run_episodes
from robot.table import nodes
from sim.labels import env_labels
from sim.operators import ScriptedLift
from sim.rollout import rollout
from sim.task import make_task
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, Rig, write_contract

pytest_plugins = ("tests.robot.process_fixtures",)

torch.set_num_threads(1)
RECORDED = "lift-quick:hold=4"
CAMERA = {"name": "agentview", "topic": "agentview/image_raw", "height": 48, "width": 48, "rate": 10, "max_age": 0.15}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose labels a success classifier made, and the contract of a robot with that camera."""
    folder = tmp_path_factory.mktemp("seen")
    task = make_task(RECORDED, cameras=("agentview",), image_size=(48, 48))
    store = Store.create(folder / "store", task.contract)
    store.append([rollout(task, ScriptedLift(task, quality=float(seed % 3 > 0)), seed) for seed in range(12)])
    store.write_labels(env_labels(store.snapshot(), make_task(RECORDED), "env"))
    snapshot = store.snapshot()
    marks = marks_from(snapshot, snapshot.labels("env"), 4, 4, range(snapshot.episodes))
    config = label_config({"task": "lift the cube"}, None, ["method=success", "device=cpu"], marked=True)
    label(store, "seen", config, marks=marks)
    settings = {"steps": 300, "device": "cpu", "hidden": [64, 64], "learning_rate": 3e-3, "labels": "seen"}
    pretrain(folder / "store", folder / "run", resolve("bc", None, None, settings))
    content: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    write_contract(folder / "robot.yaml", content | {"cameras": [CAMERA]})
    return folder


@pytest.fixture
def started(domain: int, seen: Path, tmp_path: Path) -> Iterator[Rig]:
    """The nodes that are started for that run where nobody says who shall judge."""
    started, probe = Nodes(seen / "robot.yaml"), Probe()
    try:
        started.start_set(
            "sim",
            run=str(seen / "run"),
            real_time_factor=0.0,
            bags=str(tmp_path / "bags"),
            store=str(tmp_path / "store"),
        )
        yield Rig(started, probe)
    finally:
        started.stop()
        probe.close()


def test_who_judges_is_found_out(seen: Path, tmp_path: Path) -> None:
    given = {"run": str(seen / "run")}
    assert [spec.name for spec in nodes("sim", given | {"contract": str(seen / "robot.yaml")})][-1] == "rewarder"
    assert [spec.name for spec in nodes("sim", given)][-1] == "recorder", "a robot without cameras"


def test_episodes_end_by_what_is_seen_and_are_recorded_so(started: Rig, seen: Path, tmp_path: Path) -> None:
    found = run_episodes(5, enable=True)
    started.nodes.stop()
    snapshot = Store.open(tmp_path / "store").snapshot()
    folder = labeller_of(Run.open(seen / "run"))
    assert folder is not None
    watch = SuccessWatch(Labeller.load(folder), torch.device("cpu"))
    assert snapshot.episodes == len(found) == 5
    for index, told in enumerate(found):
        episode = snapshot.episode(index)
        assert episode.success is not None
        assert episode.reward is None, "nobody rewarded it"
        watch.begin()
        frames = episode.images["agentview"]
        expected = [watch.see({"agentview": frames[row]}).success for row in range(len(frames))]
        assert (episode.success > 0).tolist() == expected[1:]
        assert bool(told.success) == episode.terminated == expected[-1]
        assert episode.steps == told.steps == (len(expected) - 1 if expected[-1] else 40)
        assert told.truth is not None
    assert any(told.success for told in found), "or nothing was tried"


def test_a_classifier_that_always_fires_ends_nothing_and_is_told_of(started: Rig, seen: Path, tmp_path: Path) -> None:
    folder = labeller_of(Run.open(seen / "run"))
    assert folder is not None
    fires = tmp_path / "fires"
    fires.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (fires / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "success.safetensors")
    save_file({**tensors, "threshold": torch.zeros_like(tensors["threshold"])}, fires / "success.safetensors")
    started.nodes.kill("rewarder")
    started.nodes.start("rewarder", labeller=str(fires), use_sim_time=True, reliable_inputs=True)
    started.probe.wait("it watches", lambda: started.probe.node.count_publishers(OUTCOME_TOPIC))
    found = run_episodes(2, enable=True)
    assert [(told.success, told.steps) for told in found] == [(False, 40)] * 2
    outcomes = started.probe.reports(Outcome, OUTCOME_TOPIC)
    assert len(outcomes) >= 70
    assert not any(outcome.success for outcome in outcomes)
    started.probe.wait("it says so", lambda: started.probe.status("rewarder")[0] == 2)
    assert "the first picture of 2 episodes in a row is called a success" in started.probe.status("rewarder")[1]
    assert np.isfinite(float(started.probe.status("rewarder")[2]["probability"]))
