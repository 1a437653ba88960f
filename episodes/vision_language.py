"""Vision-language models of open_clip: pictures and sentences as vectors that can be compared.

open_clip is imported only when a model is asked for.
"""

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from episodes.errors import InputError, unknown

CONFIG_FILE = "open_clip_config.json"
"""What makes a folder one of open_clip's models."""


@dataclass(frozen=True, slots=True)
class VisionLanguage:
    """A contrastive model: two towers into one space."""

    name: str
    network: Any
    """open_clip's; loaded in float32 on the CPU. An encoder that is made of it may move the half that sees pictures."""
    tokenizer: Any
    mean: torch.Tensor
    """Shape (3, 1, 1), of pixels in [0, 1]."""
    std: torch.Tensor
    size: int
    """Side of the square that pictures are resized to."""
    weights: str
    """`digest_of` the network."""

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Sentences as unit vectors: (N, F) float32."""
        with torch.no_grad():
            vectors = self.network.encode_text(self.tokenizer(texts), normalize=True)
        return vectors.float().numpy()

    @property
    def logit_scale(self) -> float:
        """What cosines were multiplied by when the model was trained to tell captions apart."""
        return float(self.network.logit_scale.detach().exp())


def load_vision_language(name: str) -> VisionLanguage:
    """A model by name.

    Args:
        name: `MODEL:CHECKPOINT` with a local `.pt` or `.safetensors` file, `MODEL:TAG` with one of open_clip's
            pretrained tags, `hf-hub:OWNER/NAME`, or the path of a folder that `firsthand adapt` made.

    Raises:
        InputError: where there is no such model, its weights are missing or of another architecture, or the hub that
            has them cannot be reached.
    """
    open_clip = import_beside_torchvision("open_clip")
    if (Path(name) / CONFIG_FILE).is_file():
        source, pretrained = f"local-dir:{name}", None
    elif name.startswith("hf-hub:") and name != "hf-hub:":
        source, pretrained = name, None
    else:
        source, pretrained = _model_and_weights(open_clip, name)
    try:
        asked = nullcontext() if _is_here(source, pretrained) else _hub_asked_once()
        # A network is filled with chance before its weights are read; that chance is nobody else's.
        with _QuietLog(), asked, torch.random.fork_rng(devices=[]):
            network = open_clip.create_model(source, pretrained=pretrained, require_pretrained=True).eval()
            tokenizer = open_clip.get_tokenizer(source)
            visual = network.visual
            size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
            mean, std = (torch.tensor(visual.preprocess_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    except Exception as error:  # whatever open_clip, torch, safetensors and the hub make of files that are none
        raise _explained(name, pretrained, error) from None
    return VisionLanguage(name, network, tokenizer, mean, std, int(size), digest_of(network, mean, std, size))


def digest_of(network: torch.nn.Module, *beside: Any) -> str:
    """A network as 16 hexadecimal digits: its parameters and buffers, its layers, and what else decides its output.

    Weights that were moved are the same; two activations on the same weights are not.
    """
    whole = sha256(f"{network} {beside}".encode())
    for key, value in sorted(network.state_dict().items()):
        whole.update(key.encode())
        whole.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:16]


def _model_and_weights(open_clip: ModuleType, name: str) -> tuple[str, str]:
    """The two halves of `MODEL:WEIGHTS`, both looked at."""
    model, _, weights = name.partition(":")
    if not model or not weights:
        raise InputError(
            f"vision-language model {name!r}: expected MODEL:CHECKPOINT (for example ViT-B-32:/path/to/weights.pt), "
            "MODEL:TAG, hf-hub:OWNER/NAME, or a folder that `firsthand adapt` made"
        )
    if model not in open_clip.list_models():
        raise unknown("open_clip model", model, open_clip.list_models())
    if not Path(weights).is_file() and weights not in open_clip.list_pretrained_tags_by_model(model):
        if "/" in weights or Path(weights).suffix:
            raise InputError(f"{name!r}: no weights at {weights}; download a checkpoint of {model} and give its path")
        raise unknown(f"weights of {model}", weights, open_clip.list_pretrained_tags_by_model(model))
    return model, weights


def _explained(name: str, pretrained: str | None, error: Exception) -> InputError:
    said = " ".join(str(error).split())[:160]
    if "local-dir" in name or (Path(name) / CONFIG_FILE).is_file():
        return InputError(f"{name}: is damaged as a model's folder ({said}); make it again with `firsthand adapt`")
    if pretrained is not None and Path(pretrained).is_file():
        return InputError(f"{name}: these weights are not of that model, or damaged ({said}); give a checkpoint of it")
    return InputError(
        f"{name}: its weights could not be fetched ({said}); without a connection to the model hub, copy a checkpoint "
        "here and give its path: MODEL:/path/to/weights.safetensors"
    )


def _is_here(source: str, pretrained: str | None) -> bool:
    return source.startswith("local-dir:") or (pretrained is not None and Path(pretrained).is_file())


@contextmanager
def _hub_asked_once() -> Iterator[None]:
    """Where the model hub cannot be reached only what was fetched before is used; its library would ask on and on."""
    from huggingface_hub import constants, get_session

    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            get_session().head(constants.ENDPOINT, timeout=3)
    except Exception:  # the hub's library is built on one HTTP client or another, each with errors of its own
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


class _QuietLog:
    """Keeps open_clip's notes on what it loads off the terminal; what fails is said by an error."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)


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
