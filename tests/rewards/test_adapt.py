"""Adapting a vision-language model: the loss by hand, and a folder that is whole or not there."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from episodes.contract import Camera, Contract
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.vision_language import load_vision_language
from rewards import adapt as module
from rewards.adapt import SMALL, AdaptConfig, adapt, contrastive_loss
from tests.rewards.conftest import ACTION, STATE

RED, BLUE = "it is red", "it is blue"
QUICK = AdaptConfig(steps=2, batch_size=4, held_out=0.25)


def episode(seed: int, rows: int = 10) -> Episode:
    """The first half of the frames is red, the second blue."""
    images = np.random.default_rng(seed).integers(0, 60, (rows, 24, 32, 3)).astype(np.uint8)
    images[: rows // 2, :, :, 0] += 150
    images[rows // 2 :, :, :, 2] += 150
    return Episode(
        np.zeros((rows, 1), np.float32),
        np.zeros((rows - 1, 1), np.float32),
        terminated=False,
        truncated=True,
        images={"front": images},
    )


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Twenty episodes of ten frames."""
    store = Store.create(
        tmp_path_factory.mktemp("adapt") / "store", Contract("toy", STATE, ACTION, (Camera("front", 24, 32),))
    )
    store.append([episode(seed) for seed in range(20)])
    return store.snapshot()


TEXTS = ([RED] * 5 + [BLUE] * 5) * 20


def adapted(snapshot: Snapshot, folder: Path, config: AdaptConfig = QUICK, texts: list[str] = TEXTS, **options):
    return adapt(snapshot, "front", range(len(texts)), texts, folder, config, **options)


def test_the_loss_of_frames_that_all_say_something_else_is_clip_s():
    """Two frames, two sentences: a softmax over each row and over each column."""
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = (np.log1p(np.exp(-2)) + np.log1p(np.exp(-2))) / 2
    columns = (np.log1p(np.exp(-1)) + np.log1p(np.exp(-3))) / 2
    assert float(contrastive_loss(logits, torch.tensor([0, 1]))) == pytest.approx((rows + columns) / 2)


def test_frames_with_the_same_sentence_are_positives_of_each_other():
    """Three frames, of which two say the first sentence: it is happy with either of the two, half with each."""
    logits = np.array([[2.0, 0.5], [1.0, -1.0], [0.0, 3.0]])
    which = [0, 0, 1]
    of_frames = [-logits[i, y] + np.log(np.exp(logits[i]).sum()) for i, y in enumerate(which)]
    log_share = logits - np.log(np.exp(logits).sum(0))
    of_sentences = [-(log_share[0, 0] + log_share[1, 0]) / 2, -log_share[2, 1]]
    expected = (np.mean(of_frames) + np.mean(of_sentences)) / 2
    assert float(contrastive_loss(torch.tensor(logits), torch.tensor(which))) == pytest.approx(expected)


@given(st.integers(1, 4), st.integers(0, 3))
def test_the_loss_does_not_depend_on_the_order_of_frames_and_is_least_where_captions_fit(sentences: int, more: int):
    which = torch.tensor([*range(sentences), *(n % sentences for n in range(more))])
    logits = torch.randn(len(which), sentences, generator=torch.Generator().manual_seed(more))
    order = torch.randperm(len(which), generator=torch.Generator().manual_seed(0))
    loss = float(contrastive_loss(logits, which))
    assert float(contrastive_loss(logits[order], which[order])) == pytest.approx(loss, rel=1e-5)
    fitting = torch.full_like(logits, -50.0)
    fitting[torch.arange(len(which)), which] = 50.0
    counts = np.bincount(which.numpy())
    # A sentence of n frames cannot be sure which of them is meant: log n.
    assert float(contrastive_loss(fitting, which)) == pytest.approx(np.log(counts).mean() / 2, abs=1e-4)


@pytest.fixture(scope="module")
def folder(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was hardly trained."""
    path = tmp_path_factory.mktemp("adapted") / "model"
    adapted(snapshot, path)
    return path


def test_what_was_measured_and_from_what_is_told_and_kept(snapshot: Snapshot, folder: Path, tmp_path: Path):
    said = adapted(snapshot, tmp_path / "model")
    kept = json.loads((folder / "adapted.json").read_text())
    assert said["model"] == str(tmp_path / "model")
    assert (said["captions"], said["sentences"], said["held_out_captions"]) == (200, 2, 50)
    assert 0 <= said["caption_accuracy"] <= 1
    assert said["weights"] == kept["weights"] == load_vision_language(str(folder)).weights
    assert kept["texts"] == sorted([RED, BLUE])
    assert (kept["snapshot"], kept["camera"], kept["config"]["steps"]) == (snapshot.id, "front", 2)
    assert (folder / "open_clip_config.json").is_file()


def test_a_seed_gives_the_same_model_and_nobody_else_s_chance_is_touched(
    snapshot: Snapshot, folder: Path, tmp_path: Path
):
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    adapted(snapshot, tmp_path / "same")
    adapted(snapshot, tmp_path / "other", replace(QUICK, seed=1))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state(legacy=False)["state"]["key"])
    one, same, other = (
        load_file(path / "open_clip_model.safetensors") for path in (folder, tmp_path / "same", tmp_path / "other")
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["token_embedding.weight"], other["token_embedding.weight"])


@pytest.mark.parametrize(("shuffle", "low", "high"), [(False, 0.9, 1.0), (True, 0.3, 0.7)])
def test_captions_are_learned_and_shuffled_ones_teach_nothing(
    snapshot: Snapshot, tmp_path: Path, shuffle: bool, low: float, high: float
):
    config = AdaptConfig(steps=25, batch_size=8, learning_rate=3e-3, held_out=0.5, shuffle=shuffle)
    said = adapted(snapshot, tmp_path / "model", config)
    assert low <= said["caption_accuracy"] <= high
    if not shuffle:
        model = load_vision_language(str(tmp_path / "model"))
        frames = torch.from_numpy(snapshot.images("front", 0, 10)).permute(0, 3, 1, 2) / 255
        pixels = torch.nn.functional.interpolate(frames, (96, 96), mode="bilinear", antialias=True)
        with torch.no_grad():
            seen = model.network.encode_image((pixels - model.mean) / model.std, normalize=True).numpy()
        near = seen @ model.encode_texts([RED, BLUE]).T
        assert (near.argmax(1) == np.repeat([0, 1], 5)).all(), "a judge sees it, too"


def test_a_model_can_be_adapted_further(snapshot: Snapshot, folder: Path, tmp_path: Path):
    config = replace(QUICK, model=str(folder), learning_rate=1e-7, weight_decay=0.0, steps=1)
    adapted(snapshot, tmp_path / "further", config)
    before, after = load_vision_language(str(folder)), load_vision_language(str(tmp_path / "further"))
    assert before.weights != after.weights
    np.testing.assert_allclose(after.encode_texts([RED]), before.encode_texts([RED]), atol=1e-3)
    assert after.tokenizer.context_length == SMALL["text_cfg"]["context_length"]
    assert (after.size, after.mean.tolist(), after.std.tolist()) == (
        before.size,
        before.mean.tolist(),
        before.std.tolist(),
    )


def test_rows_and_captions_belong_together(snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever order they come in, a red frame keeps its caption; held-out episodes are held out whole."""
    seen = []

    def noted(network, frames, said, tokens, look, config, rng, progress) -> None:
        red = frames.mean((1, 2)).argmax(1) == 0
        seen.append((red, said))

    monkeypatch.setattr(module, "_train", noted)
    rows = np.random.default_rng(0).permutation(200)
    said = adapt(snapshot, "front", rows.tolist(), [TEXTS[row] for row in rows], tmp_path / "model", QUICK)
    ((red, said_of_frames),) = seen
    assert (said_of_frames == red).all(), "the sentences are in the alphabet's order, blue before red"
    assert len(red) == 150 and said["held_out_captions"] == 50


def test_an_existing_folder_is_not_written_into(snapshot: Snapshot, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists; an adapted model gets a new folder"):
        adapted(snapshot, tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "notes.txt"]


def test_captions_that_all_say_the_same_are_refused(snapshot: Snapshot, tmp_path: Path):
    with pytest.raises(InputError, match="fewer than 2 captions") as caught:
        adapted(snapshot, tmp_path / "model", texts=[RED] * 200)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_is_not_there_is_told(snapshot: Snapshot, tmp_path: Path):
    with pytest.raises(InputError, match="unknown camera 'fornt'"):
        adapt(snapshot, "fornt", range(200), TEXTS, tmp_path / "model", QUICK)
    assert list(tmp_path.iterdir()) == []


def interrupted(steps: Iterable[int]) -> Iterator[int]:
    yield next(iter(steps))
    raise KeyboardInterrupt


def test_an_interruption_leaves_nothing_behind(snapshot: Snapshot, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        adapted(snapshot, tmp_path / "model", progress=interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(state, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_file", full)
    monkeypatch.setattr(module, "_train", lambda *given: None)
    with pytest.raises(OSError, match="no space left"):
        adapted(snapshot, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
