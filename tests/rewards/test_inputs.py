"""What a reward model looks at: every row is itself, and a frame is read once."""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewards.inputs import PIXELS, Pixels, Table


def test_a_table_knows_by_what_it_is_standardised():
    values = np.array([[0.0, 10], [2, 10], [4, 10]])
    table = Table(values)
    assert table.shape == (2,)
    np.testing.assert_allclose(table.mean, [2, 10])
    np.testing.assert_allclose(table.std, [2 + 1e-3, 1e-3], rtol=1e-5, err_msg="it may be nothing")
    rows = table.at(np.array([2, 0, 2]))
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(rows, [[4, 10], [0, 10], [4, 10]])


class Reader:
    """Frames whose pixels say row and camera, and which rows were read."""

    def __init__(self, size: int = PIXELS):
        self.size, self.rows = size, []

    def __call__(self, rows: np.ndarray) -> Iterator[Mapping[str, np.ndarray]]:
        for row in rows.tolist():
            self.rows.append(row)
            yield {
                name: np.full((self.size, self.size, 3), [row, offset, 7], np.uint8)
                for name, offset in (("left", 1), ("right", 2))
            }


def test_cameras_lie_on_top_of_each_other_in_their_order():
    pixels = Pixels(["right", "left"], Reader())
    assert pixels.shape == (6, PIXELS, PIXELS)
    found = pixels.at(np.array([9, 4]))
    assert found.dtype == torch.uint8
    assert found.shape == (2, 6, PIXELS, PIXELS)
    assert found.float().mean((2, 3)).tolist() == [[9, 2, 7, 9, 1, 7], [4, 2, 7, 4, 1, 7]]
    assert float((found[0].float() - pixels.mean).max() / pixels.std) == pytest.approx(9 / 255)


def test_larger_frames_are_averaged_down_and_rows_stay_rows():
    image = np.zeros((2 * PIXELS, 2 * PIXELS, 3), np.uint8)
    image[:2] = 200  # two rows make one
    image[2, ::2] = 100  # a quarter of four
    pixels = Pixels(["front"], lambda rows: iter([{"front": image}]))
    found = pixels.at(np.array([0]))[0, 0]
    assert found[0].tolist() == [200] * PIXELS
    assert found[1].tolist() == [25] * PIXELS
    assert not found[2:].any()


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 12))
def test_every_row_is_its_own_frame_whatever_is_kept(asked: list[list[int]], kept: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pixels, "KEPT", kept)
        reader = Reader()
        pixels = Pixels(["left"], reader)
        for rows in asked:
            assert pixels.at(np.array(rows))[:, 0, 40, 40].tolist() == rows
    if kept >= 10:
        assert sorted(reader.rows) == sorted({row for rows in asked for row in rows}), "each is read once"
    assert len(pixels._kept) <= kept
