"""Videos: what PyAV reads back is what was put in."""

import io

import av
import numpy as np
import pytest

from finetune.run import Run
from finetune.video import encode_mp4, save_video


def pictures(count: int) -> list[np.ndarray]:
    """Each of its own flat colour."""
    return [np.full((48, 64, 3), (10 * index, 120, 240 - 10 * index), np.uint8) for index in range(count)]


@pytest.mark.parametrize(("count", "rate"), [(1, 10.0), (17, 10.0), (20, 12.5)])
def test_a_video_decodes_to_its_pictures_at_its_rate(count, rate):
    frames = pictures(count)
    with av.open(io.BytesIO(encode_mp4(frames, rate))) as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(stream.average_rate) == pytest.approx(rate)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert len(decoded) == count
    for got, sent in zip(decoded, frames, strict=True):
        assert got.shape == sent.shape
        assert np.abs(got.astype(int) - sent).mean() < 6


def test_a_video_lies_in_its_runs_folder(tmp_path):
    run = Run.create(tmp_path, {})
    save_video(run, "walk-0", pictures(3), 10.0)
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["walk-0.mp4"]
