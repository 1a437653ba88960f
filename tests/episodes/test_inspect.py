"""What `firsthand inspect` says of a store, against values worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import InputError
from episodes.inspect import inspect_store
from episodes.labels import LabelSet
from episodes.store import Store, StoreError
from tests.episodes.making import PLAIN, SEEING, make_episode

PROMISED = {
    *("episodes", "steps", "transitions", "state_size", "action_size", "cameras", "tasks", "sources", "labels"),
    *("left_out", "return_mean"),
}


def rewarded(number: int, *rewards: float, **changes):
    return make_episode(number, len(rewards), columns=(), reward=np.array(rewards, np.float32), **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = Store.create(tmp_path / "store", replace(PLAIN, rate=20.0))
    human = replace(rewarded(0, 1, 2, 3, terminated=True, task="open"), source=np.array([3, 3, 2], np.uint8))
    store.append([human], [{"episode": "demo_4", "reason": "ragged"}])
    store.append([rewarded(1, 10, 20, final=False, task="close"), make_episode(2, 4, columns=(), task="open")])
    store.write_labels(
        LabelSet(
            "ends",
            {"reward": np.array([0, 1, np.nan, 5, 5, 0, 0, 1, 0], np.float32)},
            np.array([True, False, True]),
        )
    )
    store.write_labels(LabelSet("costs", {"cost": np.zeros(9, np.float32)}, np.ones(3, bool)))
    return store.path


def test_the_document_counts_what_is_there(path: Path):
    document = inspect_store(path).document
    assert {key: document[key] for key in PROMISED} == {
        "episodes": 3,
        "steps": 9,
        "transitions": 8,
        "state_size": 2,
        "action_size": 1,
        "cameras": [],
        "tasks": ["close", "open"],
        "sources": {"unknown": 6, "demonstration": 2, "intervention": 1},
        "labels": ["logged", "costs", "ends"],
        "left_out": [{"episode": "demo_4", "reason": "ragged"}],
        # logged: (6 + 30) / 2; ends: (1 + 1) / 2, of the covered episodes only, and a missing label counts nothing.
        "return_mean": {"logged": 18.0, "costs": None, "ends": 1.0},
    }
    assert document["terminated"] == 1 and document["rate"] == 20.0
    assert document["contract_hash"] == Store.open(path).contract.hash
    assert document["snapshot"] == Store.open(path).snapshot().id


def test_the_document_is_json_as_it_stands(path: Path):
    document = inspect_store(path).document
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_text_says_the_same(path: Path):
    text = inspect_store(path).text
    for words in (
        "3, 9 steps",
        "transitions  8, 1 episodes terminated",
        "state        2: x, v",
        "cameras      none",
        "rate         20 Hz",
        "tasks        close; open",
        "demonstration 2",
        "logged: 2 of 3 episodes, mean return 18.000",
        "costs: 3 of 3 episodes",
        "ends: 2 of 3 episodes, mean return 1.000",
        "left out     1 episodes at import",
    ):
        assert words in text


def test_an_empty_store_is_told_as_empty(tmp_path: Path):
    Store.create(tmp_path / "store", SEEING)
    inspection = inspect_store(tmp_path / "store")
    document = json.loads(json.dumps(inspection.document, allow_nan=False))
    assert (document["episodes"], document["steps"], document["transitions"]) == (0, 0, 0)
    assert document["cameras"] == ["front", "c"] and document["labels"] == [] and document["return_mean"] == {}
    assert "front 4x6, c 3x3" in inspection.text


def test_a_label_set_that_is_older_than_the_newest_episode_counts_what_it_covers(path: Path):
    Store.open(path).append([rewarded(3, 100, 100)])
    inspection = inspect_store(path)
    assert inspection.document["return_mean"]["ends"] == 1.0
    assert "ends: 2 of 4 episodes" in inspection.text


def test_findings_measures_and_a_verdict_stand_in_the_document(path: Path):
    document = inspect_store(path).document
    assert document["tq"]["logged"] == {"value": 0.5, "low": 6.0, "high": 30.0, "given": False}
    assert "ends" not in document["tq"]  # both of its returns are 1
    assert document["saco"] == {"value": 1.0, "unique": 9, "of": 9, "given": False, "edges": 100}
    # Made of random numbers, half of the actions lie outside of -1..1.
    assert document["suspicious"] == sorted({each["episode"] for each in document["findings"]} - {None})
    assert {each["kind"] for each in document["findings"]} >= {"outside limits", "no stamps"}
    assert document["verdict"]["headline"] and document["verdict"]["offline_rl"]["fit"] == "with care"
    assert document["pictures_looked_at"] is False


def test_measures_are_relative_to_what_is_given(path: Path, tmp_path: Path):
    reference = Store.create(tmp_path / "reference", replace(PLAIN, rate=20.0))
    reference.append([make_episode(number, 12, columns=()) for number in (7, 8, 9)])
    document = inspect_store(path, reference=reference.path, return_range=(0.0, 72.0)).document
    assert document["tq"]["logged"] == {"value": 0.25, "low": 0.0, "high": 72.0, "given": True}
    assert document["tq"]["ends"]["value"] == pytest.approx(1 / 72)
    assert document["saco"] == {"value": 0.25, "unique": 9, "of": 36, "given": True, "edges": 100}


def test_a_reference_of_another_layout_is_refused(path: Path, tmp_path: Path):
    Store.create(tmp_path / "other", SEEING)
    with pytest.raises(InputError, match=r"other: is no reference for .*store, it has another layout: camera size 0"):
        inspect_store(path, reference=tmp_path / "other")


def test_pictures_are_looked_at_where_asked_for_and_the_text_says_where_not(tmp_path: Path):
    Store.create(tmp_path / "store", SEEING).append([make_episode(0, contract=SEEING)])
    assert "not looked at" in inspect_store(tmp_path / "store").text
    seen = inspect_store(tmp_path / "store", pictures=True)
    assert "not looked at" not in seen.text and seen.document["pictures_looked_at"] is True


def test_a_label_set_says_which_episodes_succeed(path: Path):
    success = np.array([0, 1, 0, np.nan, np.nan, 0, 0, np.nan, 0], np.float32)
    reward = np.zeros(9, np.float32)
    Store.open(path).write_labels(LabelSet("looked", {"reward": reward, "success": success}, np.ones(3, bool)))
    (looked,) = (each for each in inspect_store(path).labelled if each.name == "looked")
    # Episode 0 succeeds at its second step, of episode 1 nothing is known, episode 2 fails.
    np.testing.assert_array_equal(looked.succeeded, [1, np.nan, 0])
    assert looked.success_rate == 0.5


def test_looking_changes_nothing(path: Path):
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    inspect_store(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_what_cannot_be_read_is_told(path: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no such store"):
        inspect_store(tmp_path / "none")
    for manifest in (path / "manifests").iterdir():
        manifest.write_bytes(b"")
    with pytest.raises(StoreError, match=r"is damaged: .* cannot be read"):
        inspect_store(path)
