"""The robot does a task and undoes it by turns: the nodes as processes, in lock-step, and a person who judges."""

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from episodes.episode import Source
from episodes.errors import InputError
from episodes.store import Store, open_or_create
from finetune.config import resolve
from finetune.pretrain import pretrain
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint
from robot.alternating import NOBODY_YET, TRIES
from robot.reset_free import ResetFree, learn_reset_free
from robot.session import Session
from sim.rollout import rollout
from sim.task import make_task
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, Rig, write_contract

pytest_plugins = ("tests.robot.process_fixtures",)

torch.set_num_threads(1)

WAYS = {False: "forward", True: "backward"}
TASKS = {False: "lift the red cube off the table", True: "put the red cube back on the table"}


class Still:
    """Asks for nothing but open fingers."""

    source = Source.SCRIPTED

    def __init__(self, size: int):
        self._action = np.array([0.0] * (size - 1) + [-1.0], np.float32)

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return self._action


class Judge:
    """A person who says of every episode how it ended, some steps after it began."""

    def __init__(self, rig: Rig, successes: list[bool]):
        self._rig = rig
        self._thread = threading.Thread(target=self._run, args=(successes,), daemon=True)
        self._thread.start()

    def _run(self, successes: list[bool]) -> None:
        rig, judged = self._rig, {state.episode for state in self._rig.states}
        for success in successes:

            def begun() -> str:
                state = rig.states[-1] if rig.states else None
                moved = state and sum(sent.episode == state.episode for sent in rig.sent) >= 4
                return state.episode if state and moved and state.running and state.episode not in judged else ""

            judged.add(rig.probe.wait("an episode is under way", begun))
            rig.probe.call(f"recorder/{'success' if success else 'failure'}")

    def done(self) -> None:
        self._thread.join(timeout=10.0)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for each direction, and neither moves: an episode may last until somebody ends it."""
    folder, task = tmp_path_factory.mktemp("still"), make_task("lift-quick")
    store = open_or_create(folder / "store", task.contract)
    store.append([rollout(task, Still(4), seed) for seed in range(2)])
    store.flush()
    for seed, name in enumerate(WAYS.values()):
        settings = {"steps": 100, "device": "cpu", "hidden": [32, 32], "learning_rate": 3e-3, "seed": seed}
        pretrain(folder / "store", folder / name, resolve("bc", None, None, settings))
    return folder


@pytest.fixture(scope="module")
def robot(domain: int, still: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Path]]:
    """Nodes of a robot that has a thousand steps for an episode, and the folder of what they learn."""
    folder = tmp_path_factory.mktemp("made")
    content: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    nodes, probe = Nodes(write_contract(folder / "robot.yaml", content | {"max_steps": 1000})), Probe()
    try:
        nodes.start_set(
            "finetune",
            run=str(still / "forward"),
            new=str(folder / "forward"),
            backward=str(still / "backward"),
            backward_new=str(folder / "backward"),
            task="lift-quick:horizon=1000",
            real_time_factor=0.0,
            judge="nobody",
            stochastic="false",
            settings="{algorithm: rlpd, critics: 2, updates_per_step: 1, warm_up_episodes: 100}",
        )
        yield Rig(nodes, probe), folder
    finally:
        nodes.stop()
        probe.close()


@pytest.fixture(scope="module")
def found(robot: tuple[Rig, Path]) -> ResetFree:
    """Nine episodes: the last has a person before it."""
    successes = [True, True, False, True, *[False] * TRIES, True, True]
    judge = Judge(robot[0], successes)
    told = learn_reset_free(len(successes), person_every=len(successes) - 1, enable=True, wait=True)
    judge.done()
    assert [episode.success for episode in told.episodes] == successes
    return told


def test_each_direction_has_its_policy_its_store_and_its_learner(robot: tuple[Rig, Path], found: ResetFree) -> None:
    ways = [episode.backward for episode in found.episodes]
    assert ways == [False, True, False, False, *[True] * TRIES, False, False]
    assert found.asked == [NOBODY_YET, f"{len(ways) - 1} episodes without one"]
    for backward, name in WAYS.items():
        run = Run.open(robot[1] / name)
        acted = [episode for episode in found.episodes if episode.backward == backward]
        snapshot = Store.open(run.path / "episodes").snapshot()
        assert snapshot.episodes == len(acted)
        assert [snapshot.episode(index).task for index in range(len(acted))] == [TASKS[backward]] * len(acted)
        assert int(run.last.name) == len(acted)
        # Nothing is learned before the hundredth episode: what acts is what each began with, and the two differ.
        begun = actor_hash(load_checkpoint(run.last).algorithm)
        assert {episode.policy for episode in acted} == {begun}
    assert len({episode.policy for episode in found.episodes}) == 2


def test_an_episode_begins_where_the_one_before_has_ended(robot: tuple[Rig, Path], found: ResetFree) -> None:
    snapshots = [Store.open(robot[1] / name / "episodes").snapshot() for name in WAYS.values()]
    episodes = [snapshot.episode(index) for snapshot in snapshots for index in range(snapshot.episodes)]
    episodes.sort(key=lambda episode: 0 if episode.observation_time is None else int(episode.observation_time[0]))
    assert len(episodes) == len(found.episodes)
    # Who ends an episode by hand is ahead of a world that still moves: what was published in between tells the way.
    stamps, states = robot[0].states_seen()
    place = [name in ("cube_x", "cube_y", "cube_z") for name in snapshots[0].contract.state_names]
    leaps = []
    for before, after in pairwise(episodes):
        assert before.observation_time is not None and after.observation_time is not None
        first, last = np.searchsorted(stamps, [before.observation_time[-1], after.observation_time[0]])
        assert stamps[last] == after.observation_time[0] and last > first
        leaps.append(float(np.abs(np.diff(states[first : last + 1, place], axis=0)).max()))
    assert max(leaps[:-1]) < 1e-2, "nobody has"
    assert leaps[-1] > 1e-2, "a person has put the cube in its place"


def test_who_has_stopped_is_rearmed_by_a_person_and_by_nobody_else(robot: tuple[Rig, Path], found: ResetFree) -> None:
    rig, _ = robot
    said: list[str] = []

    def person(text: str) -> None:
        assert not said or rig.reason, "somebody else has rearmed"
        said.append(text)
        if "guardian/rearm" in text:
            rig.insist("guardian/rearm")

    rig.insist("guardian/stop")
    rig.stopped()
    with Session() as session:
        assert session.go_on().startswith("the guardian has stopped")
    judge = Judge(rig, [True])
    again = learn_reset_free(len(found.episodes) + 1, person_every=9, enable=True, wait=True, say=person)
    judge.done()
    assert again.asked == [NOBODY_YET]
    assert len(said) == 2
    assert not again.episodes[0].backward


def test_nobody_is_asked_more_often_than_always(domain: int) -> None:
    with pytest.raises(InputError, match="a person is asked every 0 episodes, expected 1 or more"):
        learn_reset_free(1, person_every=0, enable=False)


def test_a_run_of_another_robot_is_no_backward_run(other_domain: int, still: Path, tmp_path: Path) -> None:
    other = make_task("point-robot")
    store = open_or_create(tmp_path / "store", other.contract)
    store.append([rollout(other, Still(2), 0)])
    store.flush()
    pretrain(tmp_path / "store", tmp_path / "point", resolve("bc", None, None, {"steps": 10, "device": "cpu"}))
    nodes = Nodes(SHIPPED)
    try:
        nodes.start("actor", run=str(still / "forward"), backward_run=str(tmp_path / "point"))
        assert nodes.ended("actor") == 2
        assert "contract 'lift' does not fit the policy: state" in nodes.said("actor")
    finally:
        nodes.stop()
