"""Checkpoints: every tensor of a learner in one safetensors file beside what rebuilds it, as JSON. No pickle."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from episodes.contract import Contract, contract_from
from episodes.errors import InputError
from episodes.files import whole_folder
from episodes.typed import STRICT, parse, plain
from policies.algorithm import Algorithm, preparation_in
from policies.registry import config_class, make_algorithm

TENSORS, DESCRIPTION = "state.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class _Description:
    """The file `state.json`."""

    __pydantic_config__ = STRICT

    algorithm: str
    config: dict[str, Any]
    decay_steps: int | None
    contract: dict[str, Any]
    camera: str | None
    encoder: str | None
    sha256: str
    note: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A learner as it was saved."""

    algorithm: Algorithm
    contract: Contract
    camera: str | None
    """The camera whose frozen features the policy sees."""
    encoder: str | None
    """The encoder that makes them."""
    beside: dict[str, Tensor]
    """Tensors of the caller's that were saved with it, such as a sampler's generator."""
    note: dict[str, Any]
    """Numbers and words of the caller's that were saved with it."""
    hash: str
    """SHA-256 of the tensors: what the checkpoint is called when it is handed over."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of that camera's frames [px]."""
        sizes = {camera.name: (camera.height, camera.width) for camera in self.contract.cameras}
        return sizes.get(self.camera or "", (84, 84))


def save_checkpoint(
    path: Path,
    algorithm: Algorithm,
    contract: Contract,
    *,
    camera: str | None = None,
    encoder: str | None = None,
    beside: dict[str, Tensor] | None = None,
    note: dict[str, Any] | None = None,
) -> str:
    """Write a checkpoint folder, whole or not at all.

    Returns:
        The hash of its tensors.
    """
    tensors = algorithm.state_dict() | {f"beside/{key}": value for key, value in (beside or {}).items()}
    data = save(tensors)
    digest = sha256(data).hexdigest()
    description = _Description(
        algorithm=algorithm.name,
        config=plain(algorithm.config),
        decay_steps=algorithm.decay_steps,
        contract=plain(contract),
        camera=camera,
        encoder=encoder,
        sha256=digest,
        note=note or {},
    )
    with whole_folder(path) as folder:
        (folder / TENSORS).write_bytes(data)
        (folder / DESCRIPTION).write_text(json.dumps(plain(description), indent=2))
    return digest


def actor_hash(algorithm: Algorithm) -> int:
    """What a policy is called in the record of its actions: the first 64 bits of the SHA-256 of what decides them."""
    tensors = {**algorithm.actor.state_dict(), **algorithm.preparation.tensors()}
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    return int.from_bytes(sha256(content).digest()[:8], "big")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        InputError: where it is missing, damaged, or its tensors are not the ones that were described.
    """
    where = str(path / DESCRIPTION)
    try:
        described = json.loads((path / DESCRIPTION).read_text())
        data = (path / TENSORS).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no checkpoint that can be read ({type(error).__name__}: {error})") from None
    if not isinstance(described, dict):
        raise InputError(
            f"{where}: expected an object, got {type(described).__name__}: damaged; use another checkpoint"
        )
    description = parse(_Description, described, where)
    digest = sha256(data).hexdigest()
    if digest != description.sha256:
        raise InputError(f"{path / TENSORS}: does not match its description: damaged or replaced; use another one")
    config = parse(config_class(description.algorithm), description.config, where)
    contract = contract_from(description.contract, where)
    try:
        state = load(data)
        algorithm = make_algorithm(
            description.algorithm, config, preparation_in(state), seed=0, decay_steps=description.decay_steps
        )
        algorithm.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # Whole, and of something else than it says.
        found = " ".join(str(error).split())
        raise InputError(f"{path}: holds no {description.algorithm!r} as it is described: {found}") from None
    return Checkpoint(
        algorithm=algorithm,
        contract=contract,
        camera=description.camera,
        encoder=description.encoder,
        beside={key.removeprefix("beside/"): value for key, value in state.items() if key.startswith("beside/")},
        note=description.note,
        hash=digest,
    )
