"""The feasibility filter on a robot: what it lets pass is as without it, and where it stops the robot is held."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from episodes.constraints import Constraints, Limit
from episodes.cost_labels import label_with_constraints
from episodes.episode import Episode
from episodes.store import Store
from finetune.calibrating import FILTER, steps_of
from finetune.config import resolve
from finetune.pretrain import pretrain
from finetune.run import Run
from policies.calibration import Calibration, Familiarity
from policies.checkpoint import load_checkpoint, save_checkpoint
from policies.feasibility import FeasibilityFilter, rows_of
from policies.filter_file import save_filter
from policies.fisor import FISOR
from policies.policy import Policy
from robot.bag_import import BagSource
from robot.guardian import Verdict
from robot.heard_episode import RobotEpisode
from robot.session import run_episodes
from sim.rollout import rollout
from sim.task import make_task
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, Rig, write_contract

pytest_plugins = ("tests.robot.process_fixtures",)

FIRST_SEED = 1_000_000
SHORT = {"max_steps": 10}
"""While the gripper was never told anything, a simulation in lock-step waits a second for it in every step."""
TINY = {"steps": 2, "hidden": [8], "width": 8, "blocks": 1, "candidates": 4, "labels": "costs", "device": "cpu"}


@pytest.fixture(scope="module")
def judging(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Makes a fisor run whose critics think well of everything, and whose filter knows what is as near to the log."""
    store = shutil.copytree(runs / "lift-store", tmp_path_factory.mktemp("judging") / "store")
    high = Constraints(limits={"high": Limit("eef_z", high=2.0)})
    label_with_constraints(Store.open(store), high, "costs")

    def make(radius: float) -> Path:
        run = Run(store.parent / f"fisor-{radius:g}")
        pretrain(store, run.path, resolve("fisor", None, None, TINY))
        saved = load_checkpoint(run.last)
        model = saved.algorithm
        assert isinstance(model, FISOR)
        with torch.no_grad():
            for name, value in model.actor.feasibility.named_parameters():
                value.fill_(-1.0 if "bias" in name else 0.0)
        save_checkpoint(run.last, model, saved.contract)
        snapshot = Store.open(store).snapshot()
        steps = steps_of(snapshot, np.zeros(snapshot.steps), list(range(snapshot.episodes)))
        known = Familiarity(rows_of(model, steps.state, steps.action), radius)
        promised = Calibration(0.5, 0.1, 0.1, 0, 30, 0.095)
        judge = FeasibilityFilter(model, margin=promised.margin, familiarity=known)
        save_filter(run.path / FILTER, judge, promised, load_checkpoint(run.last))
        return run.path

    return make


@pytest.fixture
def acting(domain: int, runs: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[Rig, list[RobotEpisode]]]]:
    """Runs two episodes of `lift` in lock-step behind a filter."""
    contract = yaml.safe_load(SHIPPED.read_text())
    nodes = Nodes(write_contract(tmp_path / "robot.yaml", contract))
    probe = Probe()

    def act(judge: Path, **changes: Any) -> tuple[Rig, list[RobotEpisode]]:
        write_contract(nodes.contract, contract | changes)
        places = {"run": str(runs / "lift"), "bags": str(tmp_path / "bags"), "filter": str(judge)}
        nodes.start_set("sim", real_time_factor=0.0, seed=FIRST_SEED, **places)
        rig = Rig(nodes, probe)
        rig.ready()
        return rig, run_episodes(2, enable=True)

    try:
        yield act
    finally:
        nodes.stop()
        probe.close()


def imported(rig: Rig, name: str) -> Episode:
    ((_, episode),) = BagSource(rig.recorded(name), rig.contract, place="sim").episodes()
    assert isinstance(episode, Episode)
    return episode


def test_what_is_feasible_goes_out_as_without_a_filter(judging, acting, runs: Path) -> None:
    rig, found = acting(judging(1e9))
    task = make_task("lift-quick")
    policy = Policy.load(Run.open(runs / "lift").last)
    for number, episode in enumerate(found):
        wanted = rollout(task, policy, FIRST_SEED + number)
        assert (episode.steps, episode.rulings) == (wanted.steps, {"own": wanted.steps})
        assert imported(rig, episode.name).action.tobytes() == wanted.action.tobytes()
    rig.probe.wait("diagnostics", lambda: rig.probe.status("actor")[2].get("filter: own"))
    task.close()


def test_where_nothing_is_accepted_the_robot_is_held_and_the_episode_goes_on(judging, acting) -> None:
    """The radius leaves some of the policy's steps unknown."""
    rig, found = acting(judging(1.0), **SHORT)
    for episode in found:
        # A recording is there when all that belongs to it was heard.
        recorded = imported(rig, episode.name) if episode.steps else None
        steps = {s.tick: s for s in rig.steps if s.episode == episode.name and s.acts}
        sent = {s.tick: s for s in rig.sent if s.episode == episode.name}
        stops = [tick for tick, step in steps.items() if step.ruling == "stop" and tick in sent]
        assert episode.rulings["stop"] >= 1 and stops
        for tick in stops:
            assert sent[tick].verdict == Verdict.HELD and steps[tick].proposed is not None
            np.testing.assert_allclose(sent[tick].action[:3], 0, atol=1e-9)
        if recorded is None:
            continue
        assert recorded.steps == episode.steps
        ticks = recorded.observation_time[: recorded.steps].tolist()
        assert set(ticks) <= set(steps)
        assert np.diff(ticks).tolist() == [100_000_000] * (len(ticks) - 1), "no step is missing in between"
        held = np.array([steps[tick].ruling == "stop" for tick in ticks])
        assert recorded.verdict is not None and recorded.action_proposed is not None
        assert (recorded.verdict[held] == Verdict.HELD).all()
        assert np.isfinite(recorded.action_proposed).all()


def test_an_episode_that_is_stopped_from_its_beginning_is_none_to_learn_from(judging, acting) -> None:
    """Nothing of the policy's is like the logs; whoever waits until it was learned from would wait for ever."""
    rig, found = acting(judging(0.0), **SHORT)
    for episode in found:
        assert episode.steps == 0 and not episode.success and set(episode.rulings) == {"stop"}
        ((_, refused),) = BagSource(rig.recorded(episode.name), rig.contract, place="sim").episodes()
        assert "the actor wanted nothing in it" in str(refused)


def test_without_the_filter_that_was_asked_for_nothing_moves(judging, runs: Path, domain: int, tmp_path: Path) -> None:
    nodes = Nodes(write_contract(tmp_path / "robot.yaml", yaml.safe_load(SHIPPED.read_text())))
    run = judging(2.0)
    shutil.rmtree(run / FILTER)
    try:
        nodes.start("actor", run=str(runs / "lift"), filter=str(run))
        assert "no filter is there; make one with `firsthand calibrate" in nodes.said("actor")
    finally:
        nodes.stop()


def test_a_filter_of_another_robot_is_refused(judging, runs: Path, domain: int, tmp_path: Path) -> None:
    nodes = Nodes(write_contract(tmp_path / "robot.yaml", yaml.safe_load(SHIPPED.read_text())))
    run = Run.open(judging(3.0))
    saved = load_checkpoint(run.last)
    assert isinstance(saved.algorithm, FISOR)
    save_checkpoint(run.last, saved.algorithm, dataclasses.replace(saved.contract, name="another"))
    try:
        nodes.start("actor", run=str(runs / "lift"), filter=str(run.path))
        assert "the policy was trained on 'another', another robot's layout" in nodes.said("actor")
    finally:
        nodes.stop()
