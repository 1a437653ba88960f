"""Vision-language models: the same features from the same weights, and in one line what is wrong with a model."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from episodes.contract import Camera
from episodes.encoders import encoder_of, load_encoder
from episodes.errors import InputError
from episodes.store import Store
from episodes.vision_language import (
    CONFIG_FILE,
    VisionLanguage,
    digest_of,
    import_beside_torchvision,
    load_vision_language,
)
from rewards import adapt as adapting
from rewards.adapt import SMALL, AdaptConfig, adapt
from rewards.sight import Sight
from tests.episodes.making import PLAIN, make_episode

WEIGHTS = "open_clip_model.safetensors"
MODEL = "ViT-S-32-alt"
"""One of open_clip's smallest."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    contract = replace(PLAIN, cameras=(Camera("front", 24, 32),))
    store = Store.create(tmp_path_factory.mktemp("seen") / "store", contract)
    store.append([make_episode(number, contract=contract) for number in range(4)])
    return store


@pytest.fixture(scope="module")
def made(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An adapted model's folder, and the network as it was when it was written."""
    folder = tmp_path_factory.mktemp("made") / "model"
    texts = ["near", "far", "up"] * 8
    networks: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        train = adapting._train
        patch.setattr(adapting, "_train", lambda network, *rest: networks.append(network) or train(network, *rest))
        adapt(store.snapshot(), "front", range(24), texts, folder, AdaptConfig(steps=3, batch_size=4))
    return folder, networks[0]


@pytest.fixture(scope="module")
def model(made: tuple[Path, Any]) -> VisionLanguage:
    return load_vision_language(str(made[0]))


@pytest.fixture
def folder(made: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(made[0], tmp_path / "model")


def test_a_folder_gives_the_very_network_that_was_written(made: tuple[Path, Any], model: VisionLanguage):
    _, network = made
    pixels = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    tokens = model.tokenizer(["near", "a longer sentence than that"])
    with torch.no_grad():
        assert torch.equal(model.network.encode_image(pixels), network.encode_image(pixels))
        assert torch.equal(model.network.encode_text(tokens), network.encode_text(tokens))
    assert not model.network.training
    assert model.weights == digest_of(network, model.mean, model.std, model.size)
    assert model.logit_scale == pytest.approx(float(network.state_dict()["logit_scale"].exp()))


def test_its_pictures_are_prepared_as_it_was_trained(model: VisionLanguage):
    assert model.size == SMALL["vision_cfg"]["image_size"]
    assert model.mean.flatten().tolist() == [0.5] * 3
    assert model.std.flatten().tolist() == [0.25] * 3
    assert model.mean.shape == model.std.shape == (3, 1, 1)


def test_its_tokenizer_cuts_sentences_where_the_small_model_ends(model: VisionLanguage):
    length = SMALL["text_cfg"]["context_length"]
    assert model.tokenizer.context_length == length
    assert model.tokenizer(["word " * 100]).shape == (1, length)
    assert np.isfinite(model.encode_texts(["word " * 100, ""])).all()


def test_sentences_are_unit_vectors_each_its_own(model: VisionLanguage):
    texts = ["near", "far", "the cube is up", "near"]
    vectors = model.encode_texts(texts)
    assert vectors.shape == (4, SMALL["embed_dim"]) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    np.testing.assert_allclose(model.encode_texts(texts[2:3]), vectors[2:3], atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_a_store_is_seen_through_it_once_and_kept_under_its_weights(
    store: Store, model: VisionLanguage, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    cpu = torch.device("cpu")
    snapshot = store.snapshot()
    one = Sight.of(store, snapshot, ["front"], f"open_clip:{folder}", cpu)
    assert one.tables["front"].shape == (24, SMALL["embed_dim"])
    frames = snapshot.images("front")
    exact = encoder_of(model).encode(frames)
    np.testing.assert_allclose(one.tables["front"], exact, atol=0.03 * np.abs(exact).max(), err_msg="in bfloat16")
    text = one.text("near")
    assert text is not None
    np.testing.assert_allclose(text, model.encode_texts(["near"])[0], atol=1e-6)
    moved = shutil.copytree(folder, folder.with_name("moved"))
    monkeypatch.setattr(type(one.encoder), "encode", lambda *given: pytest.fail("it was encoded again"))
    again = Sight.of(store, store.snapshot(), ["front"], f"open_clip:{moved}", cpu)
    np.testing.assert_array_equal(again.tables["front"], one.tables["front"])


def test_the_digest_is_of_the_weights_and_not_of_the_place(model: VisionLanguage, folder: Path):
    moved = folder.rename(folder.with_name("elsewhere"))
    assert load_vision_language(str(moved)).weights == model.weights
    assert load_encoder(f"open_clip:{moved}").weights == model.weights
    state = load_file(moved / WEIGHTS)
    state["logit_scale"] += 1e-3
    save_file(state, moved / WEIGHTS)
    assert load_vision_language(str(moved)).weights != model.weights


def test_the_digest_sees_every_parameter_its_name_and_its_buffers():
    def layers(**changes: float) -> torch.nn.Module:
        network = torch.nn.BatchNorm1d(2)
        with torch.no_grad():
            for name, value in changes.items():
                network.state_dict()[name].fill_(value)
        return network

    digests = [
        digest_of(layers()),
        digest_of(layers(weight=2.0)),
        digest_of(layers(bias=1.0)),
        digest_of(layers(running_mean=1.0)),
        digest_of(layers(num_batches_tracked=1)),
        digest_of(torch.nn.ModuleDict({"a": layers()})),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of(layers()) == digests[0]
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)


def refused(name: str, words: str) -> str:
    with pytest.raises(InputError, match=words) as caught:
        load_vision_language(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "expected MODEL:CHECKPOINT"),
        ("ViT-B-32", "expected MODEL:CHECKPOINT .*or a folder that `firsthand adapt` made"),
        ("ViT-B-32:", "expected MODEL:CHECKPOINT"),
        (":openai", "expected MODEL:CHECKPOINT"),
        ("hf-hub:", "expected MODEL:CHECKPOINT"),
        ("/nowhere/at/all", "expected MODEL:CHECKPOINT"),
        ("ViT-B-33:openai", "unknown open_clip model 'ViT-B-33'; did you mean 'ViT-B-32'"),
        ("ViT-B-32:opnai", "unknown weights of ViT-B-32 'opnai'; did you mean 'openai'"),
        ("ViT-B-32:/nowhere/w.pt", "no weights at /nowhere/w.pt; download a checkpoint of ViT-B-32 and give its path"),
        ("ViT-B-32:weights.safetensors", "no weights at weights.safetensors"),
    ],
)
def test_a_name_that_is_no_model_s_is_told_with_what_would_be(name: str, words: str):
    refused(name, words)


def test_a_folder_that_is_no_model_is_no_model(tmp_path: Path):
    refused(str(tmp_path), "expected MODEL:CHECKPOINT")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewritten(**changes: object) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / CONFIG_FILE).read_text())
        for key, value in changes.items():
            content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
        (folder / CONFIG_FILE).write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / WEIGHTS).unlink(),
        lambda folder: half(folder / WEIGHTS),
        lambda folder: (folder / WEIGHTS).write_bytes(b""),
        lambda folder: (folder / WEIGHTS).write_bytes(b"garbage" * 100),
        lambda folder: save_file({"a": torch.zeros(2)}, folder / WEIGHTS),
        lambda folder: half(folder / CONFIG_FILE),
        lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\xfe\x00"),
        lambda folder: (folder / CONFIG_FILE).write_text("[]"),
        lambda folder: (folder / CONFIG_FILE).write_text("{}"),
        rewritten(model_cfg={"embed_dim": 64}),
        rewritten(model_cfg={"embed_dims": 64}),
        rewritten(model_cfg={"vision_cfg": None}),
        rewritten(preprocess_cfg={"mean": [0.5, 0.5]}),
        rewritten(preprocess_cfg={"mean": "half"}),
        rewritten(preprocess_cfg=3),
    ],
    ids=[
        *("no weights", "half the weights", "empty weights", "garbage", "other weights"),
        *("half a config", "binary config", "a list", "no model", "another width", "unknown setting", "no vision"),
        *("two colours", "no number", "no preprocessing"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(folder: Path, damage: Callable[[Path], object]):
    damage(folder)
    said = refused(str(folder), "is damaged as a model's folder")
    assert said.startswith(str(folder)) and "firsthand adapt" in said


def small(path: Path) -> None:
    """Weights of the model that `firsthand adapt` trains from nothing."""
    with torch.random.fork_rng(devices=[]):
        state = import_beside_torchvision("open_clip").CLIP(**SMALL).state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("garbage.pt", lambda path: path.write_bytes(b"garbage" * 10)),
        ("empty.pt", lambda path: path.touch()),
        ("nothing.pt", lambda path: torch.save({}, path)),
        ("nested.pt", lambda path: torch.save({"state_dict": {}}, path)),
        ("list.pt", lambda path: torch.save([1, 2], path)),
        ("some.pt", lambda path: torch.save({"a": torch.zeros(2)}, path)),
        ("another.pt", small),
        # A dictionary as Python's own pickle writes it: such files may run code, and are not opened.
        ("pickle.pt", lambda path: path.write_bytes(b"\x80\x04\x95\x0b" + bytes(7) + b"}\x94\x8c\x01a\x94K\x01s.")),
        ("garbage.safetensors", lambda path: path.write_bytes(b"garbage" * 10)),
        ("empty.safetensors", lambda path: path.touch()),
        ("nothing.safetensors", lambda path: save_file({}, path)),
        ("some.safetensors", lambda path: save_file({"a": torch.zeros(2)}, path)),
        ("another.safetensors", small),
        ("garbage.npz", lambda path: path.write_bytes(b"PK\x03\x04 garbage")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_weights_of_another_model_or_none_at_all_are_told_in_one_line(
    tmp_path: Path, file: str, write: Callable[[Path], object]
):
    write(tmp_path / file)
    said = refused(f"{MODEL}:{tmp_path / file}", "these weights are not of that model, or damaged")
    assert said.startswith(f"{MODEL}:{tmp_path / file}") and "give a checkpoint of it" in said


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """A model hub that refuses every connection, and how long somebody waited to ask it again [s]."""
    import_beside_torchvision("open_clip")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    waited: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waited.append)
    return waited


@pytest.mark.parametrize("name", ["hf-hub:nobody/nothing", "ViT-B-32:openai"])
def test_a_hub_that_cannot_be_reached_is_told_in_one_line(
    name: str, no_hub: list[float], caplog: pytest.LogCaptureFixture
):
    said = refused(name, "its weights could not be fetched")
    assert said.startswith(name) and "MODEL:/path/to/weights" in said
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", ["hf-hub:nobody/nothing", "ViT-B-32:openai"])
def test_a_hub_that_cannot_be_reached_is_not_waited_for(name: str, no_hub: list[float]):
    refused(name, "its weights could not be fetched")
    assert sum(no_hub) <= 5


def test_what_else_is_logged_is_heard_again_afterwards(model: VisionLanguage, folder: Path):
    before = logging.root.manager.disable
    load_vision_language(str(folder))
    assert logging.root.manager.disable == before
    (folder / WEIGHTS).unlink()
    refused(str(folder), "damaged")
    assert logging.root.manager.disable == before
