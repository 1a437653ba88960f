"""A labeller that is kept: it labels later episodes as it labelled its store, and says so where it is damaged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from episodes.encoders import Encoder
from episodes.errors import InputError
from episodes.store import Store
from rewards.label import label
from rewards.labeller import EpisodeLabeller, Labeller
from rewards.marks import Marks
from tests.rewards.labelling import FAST, MARKS, colours, configured, way, ways

CPU = torch.device("cpu")

KINDS: dict[str, tuple[list[str], Marks | None]] = {
    "states": (["reward.inputs=state"], None),
    "states with marks": (["reward.inputs=state"], MARKS),
    "features": (["reward.inputs=features"], None),
    "features with marks": (["reward.inputs=features"], MARKS),
    "features of one camera": (["reward.inputs=features", "labeller.cameras=[side]", "labeller.shape=bonus"], MARKS),
    "pixels": (["reward.inputs=pixels", "reward.updates=2"], None),
    "pixels with marks": (["reward.inputs=pixels", "reward.updates=2", "labeller.shape=as_is"], MARKS),
    "success only": (["method=success"], MARKS),
}


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """Stands in for whatever encoder is asked for."""
    encoder = colours()
    for module in ("rewards.sight", "rewards.labeller"):
        monkeypatch.setattr(f"{module}.load_encoder", lambda name, device, fast: encoder)
    return encoder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """A store labelled in one of the ways above; the label set has the kind's name."""
    store = ways(tmp_path_factory.mktemp("labeller") / "store")

    def of(kind: str) -> Store:
        name = kind.replace(" ", "-")
        if name not in store.snapshot().label_names:
            settings, marks = KINDS[kind]
            label(store, name, configured(*settings, config=FAST, marked=marks is not None), marks=marks)
        return store

    return of


def folder_of(store: Store, kind: str) -> Path:
    return store.path / str(store.snapshot().labels(kind.replace(" ", "-")).provenance["labeller"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_is_labelled_as_the_store_that_holds_it(kind: str, labelled):
    """State, features and pixels; with and without a classifier; one camera and two. Where a person marked frames, the
    store says what the person said."""
    store = labelled(kind)
    snapshot = store.snapshot()
    expected = snapshot.labels(kind.replace(" ", "-")).values
    label_episode = EpisodeLabeller(Labeller.load(folder_of(store, kind)), CPU)
    assert {"reward"} < expected.keys() or kind == "success only"
    for index in range(6 if KINDS[kind][1] else 0, snapshot.episodes):
        values = label_episode(snapshot.episode(index))
        steps = slice(int(snapshot.step_starts[index]), int(snapshot.step_ends[index]))
        assert values.keys() == expected.keys()
        for name, value in values.items():
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, expected[name][steps], rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.ptp(expected["reward"]) > 0.1, "or everything would be the same"


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_gives_the_same_values_to_the_bit(kind: str, labelled, tmp_path: Path):
    store = labelled(kind)
    first = Labeller.load(folder_of(store, kind))
    first.save(tmp_path / "again", {"document": {}})
    second = Labeller.load(tmp_path / "again")
    assert (second.config, second.scale, second.weights) == (first.config, first.scale, first.weights)
    for number in (20, 21):
        one, other = (EpisodeLabeller(each, CPU)(way(number)) for each in (first, second))
        assert {name: value.tobytes() for name, value in one.items()} == {k: v.tobytes() for k, v in other.items()}


def test_with_other_weights_than_it_was_made_with_it_is_refused(labelled, encoder, monkeypatch):
    """Features of another network mean something else, and would be labelled by in silence."""
    labeller = Labeller.load(folder_of(labelled("features"), "features"))
    assert labeller.weights == encoder.key
    monkeypatch.setattr("rewards.labeller.load_encoder", lambda *_, **__: replace(encoder, weights="0ther"))
    with pytest.raises(InputError, match=r"has weights 0ther, and the labels were made with c0105; put those back"):
        EpisodeLabeller(labeller, CPU)
    # In another arithmetic, as another machine may compute, they are the same network.
    EpisodeLabeller(replace(labeller, weights="0ther.bfloat16"), CPU)


def test_the_cameras_that_it_needs_are_those_that_it_was_made_with(labelled):
    for kind, cameras in (("features", ("eye", "side")), ("features of one camera", ("side",)), ("states", ())):
        assert EpisodeLabeller(Labeller.load(folder_of(labelled(kind), kind)), CPU).cameras == cameras


def test_of_several_episodes_none_is_labelled_by_another(labelled):
    """A success that the classifier saw at one episode's end is not held into the next one."""
    label_episode = EpisodeLabeller(Labeller.load(folder_of(labelled("success only"), "success only")), CPU)
    alone = label_episode(way(21))["success"]
    assert label_episode(way(20))["success"][-1] == 1
    np.testing.assert_array_equal(label_episode(way(21))["success"], alone)


def test_without_its_last_observation_an_episode_has_no_reward_for_its_last_step(labelled):
    label_episode = EpisodeLabeller(
        Labeller.load(folder_of(labelled("features with marks"), "features with marks")), CPU
    )
    whole, short = label_episode(way(20)), label_episode(way(20, final=False))
    assert np.isnan(short["reward"][-1]) and np.isfinite(whole["reward"]).all()
    np.testing.assert_allclose(short["reward"][:-1], whole["reward"][:-1], rtol=1e-4, atol=1e-5)
    assert short["terminated"][-1] == 0, "what was not seen ends nothing"


def test_success_is_seen_at_the_end_of_what_was_done_and_ends_it(labelled):
    """Worked out from the pictures: the brightest end of the way was marked, for three observations."""
    label_episode = EpisodeLabeller(Labeller.load(folder_of(labelled("success only"), "success only")), CPU)
    for number in range(20, 28):
        values = label_episode(way(number))
        assert values["success"].max() == (number % 2 == 0), number
        assert values["success"][:5].max() == 0
        np.testing.assert_array_equal(values["terminated"], values["success"])
        np.testing.assert_array_equal(values["reward"], values["success"] - 1)


def test_a_judges_own_scores_label_no_new_episode(encoder, tmp_path: Path):
    store = ways(tmp_path / "store", 4)
    label(store, "direct", configured("method=score"))
    with pytest.raises(InputError, match="judge's own scores, and no new episode has them; use other labels"):
        EpisodeLabeller(Labeller.load(store.path / "labellers" / "direct"), CPU)


def test_a_judges_own_scores_do_not_matter_where_only_success_counts(tmp_path: Path):
    store = ways(tmp_path / "store", 6)
    label(store, "direct", configured("method=score", "labeller.shape=sparse", marked=True), marks=MARKS)
    values = EpisodeLabeller(Labeller.load(store.path / "labellers" / "direct"), CPU)(way(20))
    np.testing.assert_array_equal(values["reward"], values["success"] - 1)


# Damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(labelled, tmp_path: Path) -> Path:
    """A whole labeller, with a reward model and a classifier, of the test's own."""
    return shutil.copytree(folder_of(labelled("features with marks"), "features with marks"), tmp_path / "copy")


def test_all_that_it_holds_is_json_and_safetensors(copy: Path):
    """Nothing that runs when it is read."""
    kinds = {"labeller.json", "evidence.json", "reward.safetensors", "success.safetensors"}
    assert {file.name for file in copy.iterdir()} == kinds
    for file in copy.iterdir():
        assert json.loads(file.read_text()) if file.suffix == ".json" else load_file(file)


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        EpisodeLabeller(Labeller.load(folder), CPU)
    assert "\n" not in str(refusal.value)
    assert str(folder) in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("name", ["labeller.json", "reward.safetensors", "success.safetensors"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_one_line(name: str, share: float, copy: Path):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: int(share * len(content))])
    assert "is damaged" in refused(copy) and "label again" in refused(copy)


@pytest.mark.parametrize("name", ["reward.safetensors", "success.safetensors"])
def test_a_network_that_is_gone_is_not_left_out_in_silence(name: str, copy: Path):
    """Without its classifier it would go on, and end no episode ever; without its rewards, say something else."""
    (copy / name).unlink()
    assert "is damaged" in refused(copy)


@pytest.mark.parametrize("key", ["config", "scale", "shape"])
@pytest.mark.parametrize("value", ["missing", None, 3, "x", []])
def test_a_description_without_one_of_its_entries_is_one_line(key: str, value, copy: Path):
    description = json.loads((copy / "labeller.json").read_text())
    if value == "missing":
        del description[key]
    else:
        description[key] = value
    (copy / "labeller.json").write_text(json.dumps(description))
    with pytest.raises(InputError) as refusal:
        EpisodeLabeller(Labeller.load(copy), CPU)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "{", "", "\xff"])
def test_a_description_that_is_none_is_one_line(content: str, copy: Path):
    (copy / "labeller.json").write_bytes(content.encode("latin-1"))
    assert "is damaged" in refused(copy)


def test_a_description_that_does_not_fit_its_networks_is_one_line(copy: Path):
    text = (copy / "labeller.json").read_text()
    for old, new, words in (
        ('"hidden": [\n        8\n', '"hidden": [\n        9\n', "is damaged"),
        ('"members": 2', '"members": 3', "is damaged"),
        ('"folds": 2', '"folds": 3', "is damaged"),
        ('"members": 2', '"membrs": 2', "unknown key 'membrs'.*did you mean 'members'"),
        ('"shape": "potential"', '"shape": "potent"', "shape"),
    ):
        assert text.count(old) == 1, old
        (copy / "labeller.json").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=words):
            Labeller.load(copy)
        refused(copy)


def test_without_a_folder_or_with_a_file_in_its_place_it_is_one_line(tmp_path: Path):
    assert "holds no labeller; `firsthand label` makes one" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("{}")
    refused(tmp_path / "file")


def test_a_labeller_that_cannot_be_written_leaves_no_half_of_one(copy: Path, tmp_path: Path, monkeypatch):
    labeller = Labeller.load(copy)
    monkeypatch.setattr("rewards.labeller.save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        labeller.save(tmp_path / "new" / "one", {})
    assert not list((tmp_path / "new").iterdir())


def test_values_need_what_the_labeller_looks_at(copy: Path):
    """A scale other than the store's would move all rewards: it is part of what is kept."""
    labeller = Labeller.load(copy)
    moved = replace(labeller, scale=(labeller.scale[0] + 1, labeller.scale[1]))
    one, other = (EpisodeLabeller(each, CPU)(way(20))["score"] for each in (labeller, moved))
    assert (one > other).all()
