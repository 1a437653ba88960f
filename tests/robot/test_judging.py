"""A success classifier judges a simulated robot, in processes: what it says against the same said afterwards."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from episodes.snapshot import Snapshot
from episodes.store import Store
from finetune.config import resolve
from finetune.data import labeller_of
from finetune.pretrain import pretrain
from finetune.run import CONFIG, Run
from rewards.label import label
from rewards.labeller import Labeller
from rewards.marks import marks_from
from rewards.settings import label_config
from rewards.watching import SuccessWatch
from robot.reports import (
    EPISODE_TOPIC,
    OUTCOME_TOPIC,
    STEP_TOPIC,
    ActorStep,
    EpisodeState,
    Outcome,
    encode,
)
from robot.ros import make_message
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
IMAGE, STRING = "sensor_msgs/msg/Image", "std_msgs/msg/String"
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
    store = Store.open(tmp_path / "store")
    started.probe.wait("all are in the store", lambda: store.snapshot().episodes == 5)
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


def picture(stamp: int, pixels: np.ndarray) -> Any:
    message = make_message(IMAGE)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.step = "rgb8", 3 * pixels.shape[1]
    message.data = pixels.tobytes()
    return message


def said(report: ActorStep | EpisodeState) -> Any:
    message = make_message(STRING)
    message.data = encode(report)
    return message


def test_each_direction_is_judged_by_its_own_classifier(domain: int, seen: Path, tmp_path: Path) -> None:
    """The same is seen in both, and the one that judges putting back has a threshold that nothing reaches."""
    for name in ("store", "run"):
        shutil.copytree(seen / name, tmp_path / name)
    described = tmp_path / "run" / CONFIG
    described.write_text(described.read_text().replace(str(seen), str(tmp_path)))
    folder, other = (labeller_of(Run.open(place / "run")) for place in (seen, tmp_path))
    assert folder is not None and other is not None and other.is_relative_to(tmp_path)
    tensors = load_file(other / "success.safetensors")
    save_file({**tensors, "threshold": torch.full_like(tensors["threshold"], 2.0)}, other / "success.safetensors")
    frames, lifted = first_success(Store.open(seen / "store").snapshot(), folder)
    back = "put the red cube back on the table"
    content = yaml.safe_load((seen / "robot.yaml").read_text()) | {"reset": {"hands": "put it there", "task": back}}
    started, probe = Nodes(write_contract(tmp_path / "robot.yaml", content)), Probe()
    try:
        probe.listen(OUTCOME_TOPIC, STRING, latched=True)
        started.start("rewarder", run=str(seen / "run"), backward_run=str(tmp_path / "run"), reliable_inputs=True)
        now = 10**12
        for name, task in (("lifting", content["task"]), ("returning", back)):
            probe.publish(EPISODE_TOPIC, STRING, said(EpisodeState(name, True, now, task=task)), "STATES")
            for frame in frames:
                now += 100_000_000
                probe.publish(CAMERA["topic"], IMAGE, picture(now, frame), "EVERYTHING")
                probe.publish(STEP_TOPIC, STRING, said(ActorStep(now, name, (now,), None)), "REPORTS")
        wanted = [False] * (lifted - 1) + [True] + [False] * (len(frames) - 1)
        found = probe.wait("all was judged", lambda: len(o := judged(probe)) >= len(wanted) and o)
        assert found == wanted
    finally:
        started.stop()
        probe.close()


def first_success(snapshot: Snapshot, folder: Path) -> tuple[np.ndarray, int]:
    """Frames of an episode that a classifier calls a success, and the first frame that it does so at."""
    watch = SuccessWatch(Labeller.load(folder), torch.device("cpu"))
    for number in range(snapshot.episodes):
        frames = snapshot.episode(number).images["agentview"]
        watch.begin()
        successes = [watch.see({"agentview": frame}).success for frame in frames]
        if any(successes):
            return frames, successes.index(True)
    raise AssertionError("nothing is told apart")


def judged(probe: Probe) -> list[bool]:
    return [outcome.success for outcome in probe.reports(Outcome, OUTCOME_TOPIC)]


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
