"""A run: one folder with its configuration, metrics, checkpoints and evaluations."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from torch.utils.tensorboard import SummaryWriter

from episodes.errors import InputError
from episodes.files import write_whole
from episodes.typed import read_yaml

CONFIG, METRICS, LAST, CHECKPOINTS = "config.yaml", "metrics.jsonl", "last", "checkpoint"

KEPT_CHECKPOINTS = 3
"""The newest ones; older ones are deleted when a new one is complete."""


class Run:
    """Where a run's files are, and how they are written: whole, or one line at a time."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> "Run":
        """A new run with its fully resolved configuration."""
        cls.check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_whole(path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False))
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from None
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise an InputError unless a new run can be made here."""
        if path.is_file():
            raise InputError(f"{path}: is a file; a run is a folder")
        _refuse_store(path)
        if (path / CONFIG).exists():
            raise InputError(f"{path}: a run is there already; give --resume to go on with it, or another folder")

    @classmethod
    def open(cls, path: Path) -> "Run":
        """An existing run."""
        _refuse_store(path)
        if not (path / CONFIG).is_file():
            raise InputError(f"{path}: is no run (it has no {CONFIG}); `firsthand pretrain` makes one")
        return cls(path)

    @property
    def config(self) -> dict[str, Any]:
        """What the run was begun with: `kind`, `train`, `data` and, online, `parent` and `online`."""
        config = read_yaml(self.path / CONFIG)
        needed = ("kind", "train", "data", *(("parent", "online") if config.get("kind") == "finetune" else ()))
        missing = [key for key in needed if key not in config]
        if missing:
            raise InputError(f"{self.path / CONFIG}: lacks {missing[0]!r}: damaged, or no run's; begin a new run")
        return config

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint at a step."""
        return self.path / CHECKPOINTS / f"{step:09d}"

    @property
    def last(self) -> Path:
        """The newest complete checkpoint."""
        try:
            name = (self.path / LAST).read_text().strip()
        except FileNotFoundError:
            raise InputError(f"{self.path}: has no complete checkpoint yet") from None
        except OSError as error:
            raise InputError(f"{self.path / LAST}: {error.strerror or error}") from None
        return self.path / CHECKPOINTS / name

    def has_checkpoint(self) -> bool:
        return (self.path / LAST).is_file()

    def mark_last(self, step: int, keep: Collection[int] = ()) -> list[int]:
        """Say that the checkpoint at this step is complete, and let go of old ones; returns which are there.

        Args:
            keep: old ones that have to stay.
        """
        write_whole(self.path / LAST, f"{step:09d}\n")
        complete = sorted(p for p in (self.path / CHECKPOINTS).iterdir() if not p.name.startswith("."))
        spared = {self.checkpoint(each) for each in (step, *keep)}
        for old in [each for each in complete[:-KEPT_CHECKPOINTS] if each not in spared]:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
            complete.remove(old)
        return [int(each.name) for each in complete]

    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines; a last one that a crash cut short is left out."""
        lines = []
        if (self.path / METRICS).exists():
            for line in (self.path / METRICS).read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return lines

    def save_evaluation(self, name: str, evaluation: Mapping[str, Any]) -> None:
        folder = self.path / "evaluations"
        folder.mkdir(exist_ok=True)
        write_whole(folder / f"{name}.json", json.dumps(dict(evaluation), indent=2))

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The saved evaluations by name."""
        files = sorted((self.path / "evaluations").glob("*.json"))
        return {file.stem: json.loads(file.read_text()) for file in files}


def _refuse_store(path: Path) -> None:
    if (path / "refs").is_dir():
        raise InputError(f"{path}: is a store, not a run; give a run another folder")


class MetricsLog:
    """Appends scalars to `metrics.jsonl` and to TensorBoard events."""

    def __init__(self, run: Run, resume_at: int = 0):
        # What was logged after the checkpoint that a resumed run goes on from will be logged again.
        kept = [line for line in run.metrics() if line["step"] <= resume_at]
        write_whole(run.path / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = (run.path / METRICS).open("a")
        self._events = SummaryWriter(str(run.path / "tensorboard"), purge_step=resume_at + 1 if resume_at else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._events.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
