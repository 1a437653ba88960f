"""A calibrated filter as files: good for the one checkpoint that it was calibrated for, and for no other."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from episodes.contract import Contract
from episodes.errors import InputError
from episodes.files import whole_folder
from episodes.typed import parse, plain
from policies.calibration import Calibration, Familiarity
from policies.checkpoint import Checkpoint, load_checkpoint
from policies.feasibility import FeasibilityFilter
from policies.fisor import FISOR

TENSORS, DESCRIPTION = "filter.safetensors", "filter.json"


@dataclass(frozen=True, slots=True)
class CalibratedFilter:
    """A filter, and what is to be known before it judges anybody."""

    filter: FeasibilityFilter
    contract: Contract
    """Of the states and actions that it judges."""
    calibration: Calibration


def judging_model(saved: Checkpoint, where: Path) -> FISOR:
    """The model of a checkpoint, where it is one that can judge.

    Raises:
        InputError: for another algorithm's.
    """
    model = saved.algorithm
    if not isinstance(model, FISOR):
        raise InputError(f"{where}: is a run of {model.name}, and feasibility is what fisor learns")
    return model


def save_filter(folder: Path, judge: FeasibilityFilter, calibration: Calibration, checkpoint: Checkpoint) -> None:
    """Write a filter's folder, whole or not at all; a filter without familiarity is none to be kept."""
    if judge.familiarity is None:
        raise InputError(f"{folder}: a filter that takes everything for known is not kept")
    data = save({"logged": torch.from_numpy(judge.familiarity.logged).contiguous()})
    description: dict[str, Any] = {
        "calibration": plain(calibration),
        "radius": judge.familiarity.radius,
        "checkpoint": checkpoint.hash,
        "sha256": sha256(data).hexdigest(),
    }
    with whole_folder(folder) as unfinished:
        (unfinished / TENSORS).write_bytes(data)
        (unfinished / DESCRIPTION).write_text(json.dumps(description, indent=2))


def load_filter(folder: Path, checkpoint: Path) -> CalibratedFilter:
    """Read a filter's folder and the checkpoint that it judges by.

    Raises:
        InputError: where either is missing or damaged, or the filter was calibrated for another checkpoint.
    """
    if not (folder / DESCRIPTION).is_file():
        how = "`firsthand calibrate RUN --false-safe RATE`, of a fisor run"
        raise InputError(f"{folder}: no filter is there; make one with {how}")
    saved = load_checkpoint(checkpoint)
    model = judging_model(saved, checkpoint)
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        data = (folder / TENSORS).read_bytes()
        if sha256(data).hexdigest() != description["sha256"]:
            raise InputError(f"{folder / TENSORS}: does not match its description: damaged or replaced")
        logged, made_for, radius = load(data)["logged"].numpy(), description["checkpoint"], float(description["radius"])
        calibration = parse(Calibration, description["calibration"], str(folder / DESCRIPTION))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder}: is no filter that can be read ({type(error).__name__}: {error})") from None
    if made_for != saved.hash:
        raise InputError(
            f"{folder}: was calibrated for another checkpoint than {checkpoint}; calibrate again: "
            f"firsthand calibrate {folder.parent}"
        )
    judge = FeasibilityFilter(model, margin=calibration.margin, familiarity=Familiarity(logged, radius))
    return CalibratedFilter(judge, saved.contract, calibration)
