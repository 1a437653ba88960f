"""Adapting a vision-language model to a domain that CLIP never saw, or training a small one from nothing.

The loss is CLIP's (Radford et al., 2021) with one difference: captions here come from a few dozen sentences, so frames
of one batch that carry the same sentence are positives of each other instead of negatives.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from episodes.encoders import computes_bfloat16
from episodes.errors import InputError
from episodes.files import whole_folder
from episodes.snapshot import Snapshot
from episodes.typed import STRICT, plain
from episodes.vision_language import CONFIG_FILE, import_beside_torchvision, load_vision_language
from rewards.augment import BRIGHTNESS, SHIFT, altered
from rewards.moments import Moments, split_episodes

SMALL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 96, "head_width": 32},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}
"""A model that two cores train in a minute: CLIP's own ResNet with one block per stage, 1.4 million weights to look
with, and CLIP's tokenizer. The convolutions are why a few thousand frames suffice."""
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""Of the small model's pixels; pretrained models bring their own."""


@dataclass(frozen=True, slots=True)
class AdaptConfig:
    """How a model is adapted."""

    __pydantic_config__ = STRICT

    model: str | None = None
    """A model to begin with, as `load_vision_language` takes it; None trains the small one from nothing."""
    steps: Annotated[int, Field(gt=0)] = 220
    batch_size: Annotated[int, Field(gt=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Its peak; for a pretrained model 1e-5 is usual."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    shift: Annotated[float, Field(ge=0, lt=0.5)] = SHIFT
    """Frames are shifted by up to this part of their size ..."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = BRIGHTNESS
    """... and made brighter or darker by up to this part."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Part of the episodes that is only measured on."""
    shuffle: bool = False
    """Deal the captions out at random: a control, which must not be able to judge anything."""
    seed: Annotated[int, Field(ge=0)] = 0


def adapt(
    snapshot: Snapshot,
    camera: str,
    rows: Iterable[int],
    texts: list[str],
    folder: Path,
    config: AdaptConfig,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Train on captioned frames and write the model as a folder that `load_vision_language` takes.

    Args:
        rows: of the store's observations; one per caption.

    Returns:
        What was measured: `caption_accuracy` is the share of held-out frames that are nearer to their own caption than
        to another one drawn by chance; 0.5 is guessing.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists; an adapted model gets a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from None
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 11]))
    moments = Moments.of(snapshot, [camera])
    row = np.array(list(rows), np.int64)
    captioned, of_row = np.unique(moments.episode[row], return_inverse=True)
    aside = split_episodes(len(captioned), config.held_out, rng)[of_row]
    sentences = sorted(set(texts))
    said = np.array([sentences.index(text) for text in texts])
    if config.shuffle:
        said = rng.permutation(said)
    if len(set(said[~aside])) < 2:
        raise InputError("the captioned episodes are too few: what is left to train on has fewer than 2 captions")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network, tokenizer, preprocessing, model_config = _beginning(config)
        frames = snapshot.images_at(camera, row)
        tokens = tokenizer(sentences)
        look = _Look(preprocessing)
        _train(network, frames[~aside], said[~aside], tokens, look, config, rng, progress)
        accuracy = None
        if aside.any():
            accuracy = _caption_accuracy(network, look(frames[aside]), said[aside], tokens, rng)
    found = {
        "caption_accuracy": accuracy,
        "captions": len(texts),
        "sentences": len(sentences),
        "held_out_captions": int(aside.sum()),
        "steps": config.steps,
    }
    with whole_folder(folder) as unfinished:
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(weights, unfinished / "open_clip_model.safetensors")
        written = {"model_cfg": model_config, "preprocess_cfg": preprocessing}
        (unfinished / CONFIG_FILE).write_text(json.dumps(written, indent=2))
        # Read back as whoever uses it will: what cannot be read is no model.
        found["weights"] = load_vision_language(str(unfinished)).weights
        provenance = {"config": plain(config), "store": str(snapshot.path), "snapshot": snapshot.id, "camera": camera}
        (unfinished / "adapted.json").write_text(json.dumps({**provenance, **found, "texts": sentences}, indent=2))
    return {"model": str(folder), **found}


class _Look:
    """Frames, shape (n, H, W, 3) uint8, as the network takes them: resized and normalised."""

    def __init__(self, preprocessing: dict[str, Any]):
        self._mean = torch.tensor(preprocessing["mean"]).view(3, 1, 1)
        self._std = torch.tensor(preprocessing["std"]).view(3, 1, 1)
        self._size = int(np.ravel(preprocessing["size"])[0])

    def __call__(self, frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        pixels = functional.interpolate(pixels, (self._size, self._size), mode="bilinear", antialias=True)
        return (pixels - self._mean) / self._std


def _beginning(config: AdaptConfig) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Network, tokenizer, preprocessing and architecture to start from."""
    open_clip = import_beside_torchvision("open_clip")
    if config.model is None:
        network = open_clip.CLIP(**SMALL)
        tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=SMALL["text_cfg"]["context_length"])
        size = SMALL["vision_cfg"]["image_size"]
        preprocessing = {"size": size, "mode": "RGB", "mean": list(MEAN), "std": list(STD), "resize_mode": "squash"}
        return network, tokenizer, preprocessing, SMALL
    model = load_vision_language(config.model)
    if (Path(config.model) / CONFIG_FILE).is_file():
        architecture = json.loads((Path(config.model) / CONFIG_FILE).read_text())["model_cfg"]
    else:
        architecture = open_clip.get_model_config(config.model.partition(":")[0])
    if architecture is None:
        raise InputError(f"{config.model}: only MODEL:CHECKPOINT, MODEL:TAG and adapted folders can be adapted further")
    preprocessing = {**model.network.visual.preprocess_cfg, "size": model.size}
    return model.network, model.tokenizer, preprocessing, architecture


def _train(
    network: Any,
    frames: np.ndarray,
    said: np.ndarray,
    tokens: Tensor,
    look: _Look,
    config: AdaptConfig,
    rng: np.random.Generator,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)
    # Sentences equally often, whatever they are said of: most frames of a log show the approach.
    counts = np.bincount(said)
    weight = 1 / counts[said]
    weight /= weight.sum()
    network.train().to(memory_format=torch.channels_last)
    for _ in progress(range(config.steps)):
        chosen = rng.choice(len(frames), config.batch_size, p=weight)
        present, which = np.unique(said[chosen], return_inverse=True)
        pictures = look(altered(frames[chosen], rng, config.shift, config.brightness))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        # With channels last and where bfloat16 is native, both passes take 40 % of the time.
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bfloat16(torch.device("cpu"))):
            images = network.encode_image(pictures, normalize=True)
            sentences = network.encode_text(tokens[present], normalize=True)
        cosines = images.float() @ sentences.float().T
        loss = contrastive_loss(network.logit_scale.exp() * cosines, torch.from_numpy(which))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            network.logit_scale.clamp_(max=float(np.log(100)))
    network.eval().to(memory_format=torch.contiguous_format)


def contrastive_loss(logits: Tensor, which: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy where several frames may carry the same sentence.

    Args:
        logits: shape (B, K): B frames against the K different sentences of the batch.
        which: shape (B,): each frame's sentence; every sentence has at least one frame.
    """
    of_sentence = functional.one_hot(which, logits.shape[1]).T.float()
    of_sentence = of_sentence / of_sentence.sum(1, keepdim=True)
    to_frames = -(of_sentence * logits.T.log_softmax(1)).sum(1).mean()
    return (functional.cross_entropy(logits, which) + to_frames) / 2


def _caption_accuracy(
    network: Any, images: Tensor, said: np.ndarray, tokens: Tensor, rng: np.random.Generator
) -> float:
    with torch.no_grad():
        vectors = torch.cat([network.encode_image(part, normalize=True) for part in images.split(256)])
        near = (vectors @ network.encode_text(tokens, normalize=True).T).numpy()
    other = (said + rng.integers(1, near.shape[1], len(said))) % near.shape[1]
    frames = np.arange(len(said))
    return float((near[frames, said] > near[frames, other]).mean())
