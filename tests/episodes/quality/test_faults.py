"""Faults that are put into a clean log are found where they were put, and a clean log has none."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes.episode import Episode
from episodes.inspect import inspect_store
from episodes.quality.findings import KINDS, Finding
from episodes.quality.survey import survey
from episodes.store import Store
from tests.episodes.quality.logs import ARM, BLIND, CAMERA_FAULTS, COLUMN_FAULTS, clean_log, rows_of

SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def faults_of(log: list[Episode]) -> list[Finding]:
    found = survey(BLIND, lambda: rows_of(log)).findings
    return [each for each in found if each.episode is not None]


def faults_seen(log: list[Episode], path: Path) -> list[Finding]:
    Store.create(path, ARM).append(log)
    return [each for each in inspect_store(path, pictures=True).findings if each.episode is not None]


@EXAMPLES
@given(SEEDS, st.integers(1, 12))
def test_a_clean_log_has_no_faults(seed, episodes):
    assert faults_of(clean_log(seed, episodes)) == []


@pytest.mark.parametrize("name", COLUMN_FAULTS)
@EXAMPLES
@given(SEEDS, st.integers(4, 12))
def test_a_fault_is_found_in_the_episode_that_has_it(name, seed, episodes):
    put, kind = COLUMN_FAULTS[name]
    rng = np.random.default_rng(seed)
    log, bad = clean_log(seed, episodes), int(rng.integers(episodes))
    log[bad] = put(log[bad], rng)
    found = faults_of(log)
    assert {each.episode for each in found} == {bad}, found
    assert kind in {each.kind for each in found}


@EXAMPLES
@given(SEEDS, st.integers(2, 8))
def test_an_episode_that_is_there_twice_is_found_the_second_time(seed, episodes):
    rng = np.random.default_rng(seed)
    log = clean_log(seed, episodes)
    first = int(rng.integers(episodes))
    log.append(log[first])
    (found,) = faults_of(log)
    assert (found.kind, found.episode) == ("duplicate", episodes)
    assert f"episode {first}" in found.words


@pytest.mark.parametrize("seed", range(3))
def test_cameras_of_a_clean_log_have_no_faults(seed, tmp_path):
    assert faults_seen(clean_log(seed, 5, cameras=True), tmp_path / "store") == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CAMERA_FAULTS)
def test_a_fault_of_a_camera_is_found_in_the_episode_that_has_it(name, seed, tmp_path):
    put, kind = CAMERA_FAULTS[name]
    rng = np.random.default_rng(seed)
    log, bad = clean_log(seed, 6, cameras=True), int(rng.integers(6))
    log[bad] = put(log[bad], rng)
    found = faults_seen(log, tmp_path / "store")
    assert {(each.episode, each.kind) for each in found} == {(bad, kind)}
    if kind == "swapped camera":
        assert {each.where for each in found} == {"front", "wrist"}


def test_every_kind_of_fault_is_tried():
    tried = {kind for _, kind in (COLUMN_FAULTS | CAMERA_FAULTS).values()}
    assert tried | {"duplicate"} == set(KINDS)


def test_many_faults_in_one_log_are_told_apart():
    rng = np.random.default_rng(0)
    log = clean_log(0, 30)
    bad = rng.choice(30, len(COLUMN_FAULTS), replace=False).tolist()
    for episode, (put, _) in zip(bad, COLUMN_FAULTS.values(), strict=True):
        log[episode] = put(log[episode], rng)
    found = {(each.episode, each.kind) for each in faults_of(log)}
    assert {(episode, kind) for episode, (_, kind) in zip(bad, COLUMN_FAULTS.values(), strict=True)} <= found
    assert {episode for episode, _ in found} == set(bad)
