"""Simulated episodes are clean: nothing is called a fault in them, and what is put into them is found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.episode import Episode
from episodes.inspect import inspect_store
from episodes.quality.survey import survey
from episodes.store import Store
from sim.collect import collect
from sim.operators import make_operator
from sim.task import make_task
from tests.episodes.quality.logs import rows_of


def recorded(spec: str, operator: str, episodes: int, folder: Path | None = None, cameras=()) -> list[Episode]:
    """Episodes of a task; in a store, too, where a folder is given."""
    task = make_task(spec, cameras=cameras, image_size=(32, 32))
    log = list(collect(task, lambda quality: make_operator(operator, task, quality), range(episodes)))
    if folder is not None:
        Store.create(folder / "store", task.contract).append(log)
    return log


@pytest.mark.parametrize(
    ("spec", "operator", "episodes", "cameras"),
    [
        ("pusht:horizon=60", "random", 5, ("image",)),
        ("halfcheetah:horizon=120", "random", 4, ()),
        ("hopper", "random", 12, ()),
        ("walker2d", "random", 6, ()),
        ("lift-quick", "scripted", 5, ()),
    ],
)
def test_a_simulated_log_is_clean(spec, operator, episodes, cameras, tmp_path):
    recorded(spec, operator, episodes, tmp_path, cameras)
    inspection = inspect_store(tmp_path / "store", pictures=True)
    assert [each for each in inspection.findings if each.episode is not None] == []
    assert inspection.document["suspicious"] == []


def frozen(episode: Episode) -> Episode:
    state = episode.state.copy()
    state[20:50, 3] = state[20, 3]
    return replace(episode, state=state)


def dropped(episode: Episode) -> Episode:
    keep = np.r_[0:30, 33 : len(episode.state)]
    assert episode.observation_time is not None
    return replace(
        episode,
        state=episode.state[keep],
        action=episode.action[keep[:-1]],
        observation_time=episode.observation_time[keep],
        action_time=None,
        **dict.fromkeys(("reward", "success", "cost", "source", "action_proposed", "log_probability", "policy")),
    )


def clock(episode: Episode) -> Episode:
    assert episode.observation_time is not None
    time = episode.observation_time.copy()
    time[60:] += 3_000_000_000
    return replace(episode, observation_time=time, action_time=None)


def clipped(episode: Episode) -> Episode:
    return replace(episode, action=np.clip(episode.action, -0.4, 0.4))


@pytest.mark.parametrize(
    ("put", "kind"), [(frozen, "frozen state"), (dropped, "gap"), (clock, "clock"), (clipped, "clipped")]
)
def test_a_fault_in_a_simulated_log_is_found(put, kind, cheetahs):
    contract = make_task("halfcheetah:horizon=120").contract
    log = [each if number != 2 else put(each) for number, each in enumerate(cheetahs)]
    found = [each for each in survey(contract, lambda: rows_of(log)).findings if each.episode is not None]
    assert {(each.episode, each.kind) for each in found} == {(2, kind)}


@pytest.fixture(scope="module")
def cheetahs() -> list[Episode]:
    return recorded("halfcheetah:horizon=120", "random", 5)
