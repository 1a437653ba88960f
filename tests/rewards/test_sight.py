"""Frames as frozen features: every camera in its place, altered copies that stay what they show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.encoders import Encoder
from episodes.errors import InputError
from episodes.store import Store
from rewards import sight
from rewards.augment import BRIGHTNESS, SHIFT, altered
from rewards.sight import Sight
from tests.episodes.making import SEEING, make_episode
from tests.rewards.conftest import greys, log_of


def means() -> Encoder:
    """The mean of each colour, in [0, 1]."""
    return Encoder("means", lambda pixels: pixels.mean((2, 3)), torch.zeros(3, 1, 1), torch.ones(3, 1, 1), "m", None)


def test_cameras_are_side_by_side_in_their_order():
    left, right = np.arange(8.0).reshape(4, 2), 10 + np.arange(12.0).reshape(4, 3)
    seen = Sight(means(), None, {"right": right, "left": left})
    np.testing.assert_array_equal(seen.joined(), np.concatenate([right, left], axis=1))


def test_altered_copies_are_of_the_rows_that_were_asked_for_camera_by_camera():
    pictures = {"left": greys([10, 20, 30, 40, 50, 60]), "right": greys([200, 200, 200, 200, 100, 100])}
    snapshot = log_of([5], pictures=pictures)
    tables = {"right": np.zeros((6, 3), np.float32), "left": np.zeros((6, 3), np.float32)}
    copies = Sight(means(), None, tables).altered(snapshot, np.array([5, 0]), 4, np.random.default_rng(0))
    assert copies.shape == (4, 2, 6)
    plain = np.array([[100, 60], [200, 10]])[None, :, :, None] / 255
    found = copies.reshape(4, 2, 2, 3) / plain
    assert (np.abs(found - 1) <= BRIGHTNESS + 0.1).all()
    assert len(np.unique(copies[:, 0, 0])) == 4, "every copy is altered in its own way"


def test_no_copies_are_none():
    seen = Sight(means(), None, {"a": np.zeros((6, 3), np.float32), "b": np.zeros((6, 2), np.float32)})
    pictures = {"a": greys(range(6)), "b": greys(range(6))}
    none = seen.altered(log_of([5], pictures=pictures), np.array([1, 2]), 0, np.random.default_rng(0))
    assert none.shape == (0, 2, 5)


@given(st.integers(0, 2**32), st.integers(1, 250))
@settings(max_examples=30)
def test_an_even_picture_stays_even_and_about_as_bright(seed: int, level: int):
    found = altered(greys([level] * 3, 20, 30), np.random.default_rng(seed))
    assert found.shape == (3, 20, 30, 3)
    assert found.dtype == np.uint8
    flat = found.reshape(3, -1)
    assert (flat == flat[:, :1]).all()
    assert (flat[:, 0] >= np.floor((1 - BRIGHTNESS) * level)).all()
    assert (flat[:, 0] <= np.ceil((1 + BRIGHTNESS) * level)).all()


def test_what_is_too_bright_stays_white():
    found = altered(greys([250] * 50), np.random.default_rng(0)).reshape(50, -1)[:, 0]
    assert found.max() == 255
    assert found.min() > 190


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_a_picture_moves_by_a_twentieth_at_most_and_its_edge_is_repeated(seed: int):
    height, width = 40, 60
    picture = np.zeros((1, height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(height)[:, None], np.arange(width)
    (found,) = altered(picture, np.random.default_rng(seed), brightness=0.0).astype(int)
    down, across = found[20, 30, :2] - [20, 30]
    assert abs(down) <= SHIFT * height and abs(across) <= SHIFT * width
    np.testing.assert_array_equal(
        found[..., 0], np.clip(np.arange(height) + down, 0, height - 1)[:, None] + 0 * found[..., 0]
    )
    np.testing.assert_array_equal(found[..., 1], np.clip(np.arange(width) + across, 0, width - 1) + 0 * found[..., 1])


def test_frames_are_altered_each_in_its_own_way_and_stay_as_they_were():
    picture = np.random.default_rng(0).integers(0, 256, (1, 40, 60, 3), np.uint8)
    frames = np.repeat(picture, 8, axis=0)
    before = frames.copy()
    found = altered(frames, np.random.default_rng(1))
    np.testing.assert_array_equal(frames, before)
    assert len({frame.tobytes() for frame in found}) == 8
    np.testing.assert_array_equal(found, altered(frames, np.random.default_rng(1)))


@pytest.fixture
def seeing(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store", SEEING)
    store.append([make_episode(0, contract=SEEING)])
    return store


def test_an_encoder_without_texts_sees_and_knows_no_sentence(seeing: Store, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(sight, "load_encoder", lambda *given, **options: asked.append((given, options)) or means())
    found = Sight.of(seeing, seeing.snapshot(), ["front", "c"], "efficientnet_lite0", torch.device("cpu"))
    assert asked == [(("efficientnet_lite0", torch.device("cpu")), {"fast": True})]
    assert list(found.tables) == ["front", "c"]
    for camera, table in found.tables.items():
        expected = seeing.snapshot().images(camera).mean((1, 2)) / 255
        np.testing.assert_allclose(table, expected, rtol=1e-4)
    assert found.model is None and found.text("a cube") is None


@pytest.mark.parametrize("name", ["eficientnet_lite0", "open_clip:", "open_clip:ViT-B-32:/nowhere/w.pt"])
def test_what_cannot_be_had_is_told_in_one_line(seeing: Store, name: str):
    with pytest.raises(InputError) as caught:
        Sight.of(seeing, seeing.snapshot(), ["front"], name, torch.device("cpu"))
    assert "\n" not in str(caught.value)
