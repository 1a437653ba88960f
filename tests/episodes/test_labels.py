"""Label sets: written once, never changed, and they say what they do not cover."""

import numpy as np
import pytest

from episodes.errors import InputError
from episodes.labels import LOGGED, LabelSet, check_label_name
from episodes.store import Store, StoreError
from tests.episodes.making import make_episode


def ramp(steps: int, start: float = 0.0) -> np.ndarray:
    return np.arange(start, start + steps, dtype=np.float32)


@pytest.fixture
def two(store: Store) -> Store:
    """Two episodes, of 5 and of 3 steps."""
    store.append([make_episode(0, 5), make_episode(1, 3, final=False)])
    return store


def test_labels_come_back_with_their_provenance(two: Store):
    given = LabelSet(
        "vlm.v1-a_b",
        {"reward": ramp(8), "success": np.array([0, 0, 0, 0, 1, 0, np.nan, 0], np.float32), "cost": -ramp(8)},
        np.array([True, False]),
        {"method": "preference", "model": {"name": "m", "hash": "ab"}, "agreement": 0.9, "prompts": ["x", "y"]},
    )
    two.write_labels(given)
    back = Store.open(two.path).snapshot().labels("vlm.v1-a_b")
    assert back.name == given.name and back.provenance == given.provenance
    np.testing.assert_array_equal(back.covered, given.covered)
    assert back.values.keys() == given.values.keys()
    for name, values in given.values.items():
        np.testing.assert_array_equal(back.values[name], values)
        assert back.values[name].dtype == np.float32


def test_labels_lie_beside_the_raw_data_and_leave_it_as_it_is(two: Store):
    before = [two.snapshot().episode(index).digest() for index in range(2)]
    two.write_labels(LabelSet("mine", {"reward": ramp(8), "action": ramp(8)}, np.ones(2, bool)))
    assert [two.snapshot().episode(index).digest() for index in range(2)] == before
    np.testing.assert_array_equal(
        two.snapshot().labels(LOGGED).values["reward"],
        np.concatenate([make_episode(0, 5).reward, make_episode(1, 3, final=False).reward]),
    )


def test_a_label_set_is_never_changed(two: Store):
    two.write_labels(LabelSet("mine", {"reward": ramp(8)}, np.ones(2, bool), {"by": "one"}))
    before = two.snapshot().id
    with pytest.raises(StoreError, match="label set 'mine' exists, and label sets are never changed"):
        two.write_labels(LabelSet("mine", {"reward": ramp(8, 1)}, np.ones(2, bool), {"by": "two"}))
    assert two.snapshot().id == before
    labels = two.snapshot().labels("mine")
    assert labels.provenance == {"by": "one"}
    np.testing.assert_array_equal(labels.values["reward"], ramp(8))
    two.write_labels(LabelSet("mine.2", {"reward": ramp(8, 1)}, np.ones(2, bool), {"by": "two"}))
    np.testing.assert_array_equal(two.snapshot().labels("mine").values["reward"], ramp(8))


def test_episodes_that_come_later_are_not_covered(two: Store):
    two.write_labels(LabelSet("mine", {"reward": ramp(8)}, np.array([False, True])))
    two.append([make_episode(2, 4), make_episode(3, 1)])
    labels = two.snapshot().labels("mine")
    np.testing.assert_array_equal(labels.covered, [False, True, False, False])
    np.testing.assert_array_equal(labels.values["reward"], [*ramp(8), *[np.nan] * 5])


def test_labels_made_while_the_store_grew_are_for_the_episodes_they_speak_of(two: Store):
    """A labeller works on a snapshot for hours; recorders go on."""
    snapshot = two.snapshot()
    two.append([make_episode(2, 4)])
    two.write_labels(LabelSet("mine", {"reward": ramp(snapshot.steps)}, np.ones(snapshot.episodes, bool)))
    np.testing.assert_array_equal(two.snapshot().labels("mine").covered, [True, True, False])


@pytest.mark.parametrize(
    ("steps", "episodes", "words"),
    [
        (7, 2, r"reward has shape \(7,\), expected \(8,\) for 2 episodes"),
        (9, 2, r"reward has shape \(9,\), expected \(8,\)"),
        (8, 1, r"reward has shape \(8,\), expected \(5,\) for 1 episodes"),
        (8, 3, "speaks of 3 episodes, the store holds 2"),
        (0, 2, r"expected \(8,\)"),
    ],
)
def test_labels_that_do_not_fit_the_steps_are_refused(two: Store, steps: int, episodes: int, words: str):
    """They could never be taken back, and every reader of the store would trip over them."""
    before = two.snapshot().id
    with pytest.raises(StoreError, match=words):
        two.write_labels(LabelSet("mine", {"reward": ramp(steps)}, np.ones(episodes, bool)))
    assert two.snapshot().id == before and two.snapshot().label_names == [LOGGED]


def test_labels_for_nothing_can_be_written_to_an_empty_store(store: Store):
    store.write_labels(LabelSet("mine", {"reward": ramp(0)}, np.zeros(0, bool)))
    store.append([make_episode(0)])
    assert not store.snapshot().labels("mine").covered.any()


def test_an_unknown_label_set_is_told_with_the_nearest_and_all_that_there_are(two: Store):
    two.write_labels(LabelSet("clip-v1", {"reward": ramp(8)}, np.ones(2, bool)))
    snapshot = two.snapshot()
    with pytest.raises(InputError) as caught:
        snapshot.labels("clip_v1")
    assert str(caught.value) == (
        f"unknown label set 'clip_v1' in {two.path}; did you mean 'clip-v1'? known: clip-v1, logged"
    )
    for name in ("", "/", ".", "..", "clip-v1/reward", "../step", "zarr.json"):
        with pytest.raises(InputError, match="unknown label set"):
            snapshot.labels(name)


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "../x", ".hidden", "-x", "_x", "ü", "a\n", "zarr.json"])
def test_a_name_that_cannot_be_a_label_set_is_refused_before_anything_is_written(two: Store, name: str):
    before = two.snapshot().id
    with pytest.raises(InputError, match="label set name"):
        two.write_labels(LabelSet(name, {"reward": ramp(8)}, np.ones(2, bool)))
    assert two.snapshot().id == before


@pytest.mark.parametrize("name", ["c", "0", "zarr", "covered", "labels", "a.json", "X_1-y.z"])
def test_a_name_that_can_be_a_label_set_is_found_under_it(two: Store, name: str):
    check_label_name(name)
    two.write_labels(LabelSet(name, {"reward": ramp(8), "c": ramp(8, 1)}, np.ones(2, bool)))
    assert two.snapshot().label_names == [LOGGED, name]
    np.testing.assert_array_equal(two.snapshot().labels(name).values["c"], ramp(8, 1))


def test_what_the_source_logged_has_a_name_that_cannot_be_taken(two: Store):
    with pytest.raises(InputError, match="label set 'logged' is what the source itself recorded"):
        two.write_labels(LabelSet(LOGGED, {"reward": ramp(8)}, np.ones(2, bool)))


def test_logged_labels_cover_the_episodes_that_have_rewards(store: Store):
    with_reward, without, short = make_episode(0, 4), make_episode(1, 3, columns=()), make_episode(2, 1)
    store.append([without, with_reward, without, short])
    snapshot = store.snapshot()
    labels = snapshot.labels(LOGGED)
    np.testing.assert_array_equal(labels.covered, [False, True, False, True])
    np.testing.assert_array_equal(labels.values["reward"][3:7], with_reward.reward)
    assert np.isnan(labels.values["success"]).all() and labels.provenance == {"method": "logged"}
    assert snapshot.label_names == [LOGGED]


def test_a_store_without_any_reward_has_no_logged_labels_to_offer(store: Store):
    assert store.snapshot().label_names == []
    store.append([make_episode(0, columns=())])
    assert store.snapshot().label_names == []
    assert not store.snapshot().labels(LOGGED).covered.any()
