"""What was found while a label set was made, as `labellers/NAME/evidence.json` in the store keeps it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from episodes.errors import InputError
from episodes.snapshot import Snapshot
from episodes.typed import parse
from rewards.asking import Asked
from rewards.judge import Verdict
from rewards.success import SuccessFit
from rewards.summary import rows_of
from rewards.worth import Made

Row = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class AskedEntry:
    """A pair in the file; see `Asked`."""

    first: Row
    second: Row
    difference: float | None
    verdict: Verdict | None
    rationale: str

    def pair(self) -> Asked:
        apart = float("inf") if self.difference is None else self.difference
        return Asked(self.first, self.second, apart, self.verdict, self.rationale)


@dataclass(frozen=True, slots=True)
class SuccessEntry:
    """The marked frames in the file; see `SuccessFit`."""

    rows: tuple[Row, ...]
    done: tuple[bool, ...]
    probability: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    threshold: float
    temperature: float

    def fit(self) -> SuccessFit:
        rows, done, probability = np.array(self.rows, np.int64), np.array(self.done, bool), np.array(self.probability)
        return SuccessFit(rows, done, probability, self.threshold, self.temperature)


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """The whole file; keys that later versions add are passed over."""

    document: dict[str, Any]
    held_out: tuple[Row, ...]
    asked: tuple[AskedEntry, ...] = ()
    success: SuccessEntry | None = None


@dataclass(frozen=True)
class Evidence:
    """How a label set came about; rows and episodes are those of the store."""

    document: dict[str, Any]
    """What `firsthand label --json` printed."""
    held_out: tuple[int, ...]
    """Episodes that no pair was drawn from."""
    asked: list[Asked]
    success: SuccessFit | None

    @property
    def truth(self) -> str | None:
        """The label set that the labels were measured against."""
        return self.document.get("truth")

    @classmethod
    def load(cls, file: Path, snapshot: Snapshot) -> "Evidence":
        """Read the file back.

        Raises:
            InputError: where there is none, or it is damaged or another store's.
        """
        try:
            content = json.loads(file.read_text())
            if not isinstance(content, dict):
                raise ValueError(f"expected an object, got {type(content).__name__}")
            entries = parse(EvidenceFile, content, "evidence")
            _check(entries, snapshot)
        except FileNotFoundError:
            raise InputError(f"{file} does not exist") from None
        except (OSError, ValueError, KeyError, TypeError, InputError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
            raise InputError(f"{file} is damaged ({why})") from None
        fit = None if entries.success is None else entries.success.fit()
        return cls(entries.document, entries.held_out, [entry.pair() for entry in entries.asked], fit)


def _check(entries: EvidenceFile, snapshot: Snapshot) -> None:
    """Raise ValueError where the file speaks of what the store does not hold, or its lists do not belong together."""
    rows_of(entries.document)
    rows = [row for entry in entries.asked for row in (entry.first, entry.second)]
    if entries.success is not None:
        marked = entries.success
        if not len(marked.rows) == len(marked.done) == len(marked.probability):
            raise ValueError(
                f"success: {len(marked.rows)} rows, {len(marked.done)} done and {len(marked.probability)} probability, "
                "expected as many of each"
            )
        rows += marked.rows
    if rows and max(rows) >= snapshot.observations:
        raise ValueError(f"observation {max(rows)}, expected less than the store's {snapshot.observations}")
    if entries.held_out and max(entries.held_out) >= snapshot.episodes:
        raise ValueError(f"held-out episode {max(entries.held_out)}, expected less than {snapshot.episodes}")


def evidence_of(document: dict[str, Any], held_out: list[int], made: Made) -> dict[str, Any]:
    """The content of the file for what a labelling made."""
    content: dict[str, Any] = {"document": document, "held_out": held_out}
    if made.learned is not None:
        content["asked"] = [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": pair.difference if np.isfinite(pair.difference) else None,
                "verdict": None if pair.verdict is None else pair.verdict.value,
                "rationale": pair.rationale,
            }
            for pair in made.learned.asked
        ]
    if made.success is not None:
        fit = made.success
        content["success"] = {
            "rows": fit.rows.tolist(),
            "done": fit.done.tolist(),
            "probability": fit.probability.tolist(),
            "threshold": fit.threshold,
            "temperature": fit.temperature,
        }
    return content
