"""Offline pretraining: a store under a label set becomes a run with a policy."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from episodes.errors import InputError
from episodes.sampler import Sampler
from episodes.typed import parse, plain
from finetune.config import TrainConfig
from finetune.data import OfflineData, load_offline
from finetune.run import MetricsLog, Run
from policies.algorithm import Algorithm, Info
from policies.checkpoint import load_checkpoint, save_checkpoint
from policies.preparation import prepare_from
from policies.registry import make_algorithm

Progress = Callable[[Iterable[int]], Iterable[int]]
"""Wraps the steps of long work, as `tqdm` does."""


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """What `firsthand pretrain --json` prints."""

    run: str
    steps: int
    updates_per_second: float | None
    """Over this call's updates; None where there was nothing left to do."""
    metrics: dict[str, float]
    """The last ones that were logged."""
    warnings: tuple[str, ...] = ()
    """What the data cannot teach; see `OfflineData.warnings`."""


def pretrain(
    store: Path,
    run_path: Path,
    config: TrainConfig,
    progress: Progress = iter,
    say: Callable[[str], None] = lambda line: None,
) -> PretrainResult:
    """Begin a run and carry it to its end. What the data cannot teach is said before it is learned from."""
    # Whatever can be refused is refused before the run's folder is made.
    Run.check_free(run_path)
    choose_device(config.device)
    data = load_offline(store, config)
    for warning in data.warnings:
        say(f"WARNING: {warning}")
    algorithm = fresh_algorithm(config, data)
    run = Run.create(run_path, {"kind": "pretrain", "train": plain(config), "data": data.origin})
    return _learn(run, config, data, algorithm, _sampler(config, data), progress)


def resume(run_path: Path, progress: Progress = iter) -> PretrainResult:
    """Go on from the newest complete checkpoint: the result is the unbroken run's, bit for bit on the CPU."""
    run = Run.open(run_path)
    written = run.config
    if written["kind"] != "pretrain":
        raise InputError(f"{run_path}: is a run of kind {written['kind']!r}, which `firsthand finetune` resumes")
    config = parse(TrainConfig, written["train"], f"{run_path}/config.yaml")
    data = load_offline(Path(written["data"]["store"]), config, written["data"]["snapshot"])
    sampler = _sampler(config, data)
    if not run.has_checkpoint():
        return _learn(run, config, data, fresh_algorithm(config, data), sampler, progress)
    saved = load_checkpoint(run.last)
    sampler.load_state_dict(saved.beside)
    return _learn(run, config, data, saved.algorithm, sampler, progress)


def fresh_algorithm(config: TrainConfig, data: OfflineData) -> Algorithm:
    """A learner at its start, prepared for the data and with all of it seen once."""
    preparation = prepare_from(
        data.transitions,
        data.contract,
        normalise=config.normalise,
        relative_actions=config.relative_actions,
        state_entries=config.state_entries,
    )
    decay_steps = config.steps if config.cosine_decay else None
    algorithm = make_algorithm(
        config.algorithm, config.algorithm_config(), preparation, seed=config.seed, decay_steps=decay_steps
    )
    device = choose_device(config.device)
    algorithm.to(device).survey(data.transitions.to(device), config.steps)
    return algorithm


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: no CUDA GPU is available here; use cpu or auto")
    return torch.device(name)


def scalars(info: Info) -> dict[str, float]:
    """An algorithm's info as numbers: here, and only here, the device is waited for.

    Raises:
        InputError: where one is not finite: what was learned since the last checkpoint is worth nothing.
    """
    numbers = {name: float(value) for name, value in info.items()}
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise InputError(f"learning diverged: {name} is {number}; try a smaller learning_rate or reward_scale")
    return numbers


def _sampler(config: TrainConfig, data: OfflineData) -> Sampler:
    return Sampler([(data.transitions, config.batch_size)], config.seed)


def _learn(
    run: Run, config: TrainConfig, data: OfflineData, algorithm: Algorithm, sampler: Sampler, progress: Progress
) -> PretrainResult:
    device = choose_device(config.device)
    algorithm.to(device)
    data.transitions.to(device)
    first, metrics = algorithm.step, {}
    began = time.monotonic()
    with MetricsLog(run, resume_at=first) as log:
        for step in progress(range(first + 1, config.steps + 1)):
            info = algorithm.update(sampler.sample())
            saves = step % config.checkpoint_every == 0 or step == config.steps
            if saves or step % config.log_every == 0:
                metrics = scalars(info)
                log.write(step, metrics)
            if saves:
                _save(run, config, data, algorithm, sampler)
    seconds = time.monotonic() - began
    done = config.steps - first
    rate = done / seconds if done else None
    return PretrainResult(str(run.path), config.steps, rate, metrics or last_metrics(run), data.warnings)


def _save(run: Run, config: TrainConfig, data: OfflineData, algorithm: Algorithm, sampler: Sampler) -> None:
    save_checkpoint(
        run.checkpoint(algorithm.step),
        algorithm,
        data.contract,
        camera=config.camera,
        encoder=None if config.camera is None else config.encoder,
        beside=sampler.state_dict(),
        note={"step": algorithm.step},
    )
    run.mark_last(algorithm.step)


def last_metrics(run: Run) -> dict[str, Any]:
    """The newest logged line."""
    lines = run.metrics()
    return {key: value for key, value in lines[-1].items() if key != "step"} if lines else {}
