"""Videos: pictures to an MP4 that every browser plays."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from finetune.run import Run


def save_video(run: Run, name: str, frames: Sequence[np.ndarray], rate: float) -> None:
    """Keep an episode's pictures in a run's `videos` folder."""
    (run.path / "videos").mkdir(exist_ok=True)
    (run.path / "videos" / f"{name}.mp4").write_bytes(encode_mp4(frames, rate))


def encode_mp4(frames: Sequence[np.ndarray], rate: float) -> bytes:
    """H.264 in MP4 from (H, W, 3) uint8 pictures with even sides, `rate` pictures a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "26"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
