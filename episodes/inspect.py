"""What a store holds, as one document and as text for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode import Source
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.summary import summarise


@dataclass(frozen=True, slots=True)
class Inspection:
    document: dict[str, Any]
    text: str


def inspect_store(path: Path) -> Inspection:
    """Read the whole store but its images."""
    snapshot = Store.open(path).snapshot()
    contract = snapshot.contract
    names, counts = np.unique(snapshot.column("source"), return_counts=True)
    labels = {name: _label_row(snapshot, name) for name in snapshot.label_names}
    document = {
        "episodes": snapshot.episodes,
        "steps": snapshot.steps,
        "transitions": snapshot.transitions,
        "terminated": int(snapshot.terminated.sum()),
        "state_size": len(contract.state),
        "action_size": len(contract.action),
        "rate": contract.rate,
        "cameras": contract.camera_names,
        "tasks": sorted({metadata["task"] for metadata in snapshot.metadata}),
        "sources": {Source(name).name.lower(): int(count) for name, count in zip(names, counts, strict=True)},
        "labels": snapshot.label_names,
        "left_out": snapshot.left_out,
        "return_mean": {name: row["return_mean"] for name, row in labels.items()},
        "contract": contract.name,
        "contract_hash": contract.hash,
        "snapshot": snapshot.id,
    }
    summary = summarise(
        contract,
        snapshot.column("state"),
        snapshot.observation_ends,
        snapshot.column("action"),
        snapshot.step_ends,
        snapshot.column("observation_time"),
        snapshot.column("reward"),
    )
    cameras = ", ".join(f"{c.name} {c.height}x{c.width}" for c in contract.cameras) or "none"
    lines = [
        f"{path}  (contract {contract.name} {contract.hash})",
        summary.text(),
        f"transitions  {snapshot.transitions}, {document['terminated']} episodes terminated",
        f"state        {len(contract.state)}: {_few(contract.state_names)}",
        f"action       {len(contract.action)}: {_few(contract.action_names)}",
        f"cameras      {cameras}",
        f"rate         {'unknown' if contract.rate is None else f'{contract.rate:g} Hz'}",
        f"tasks        {'; '.join(task or '(none said)' for task in document['tasks'])}",
        f"sources      {', '.join(f'{name} {count}' for name, count in document['sources'].items())} (steps)",
        *(f"labels       {name}: {row['words']}" for name, row in labels.items()),
        *([f"left out     {len(snapshot.left_out)} episodes at import"] if snapshot.left_out else []),
    ]
    return Inspection(document, "\n".join(lines))


def _label_row(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """The mean return of the covered episodes; steps without a label count nothing."""
    labels = snapshot.labels(name)
    covered = int(labels.covered.sum())
    words = f"{covered} of {snapshot.episodes} episodes"
    if "reward" not in labels.values or not covered:
        return {"return_mean": None, "words": words}
    starts = snapshot.step_starts
    returns = np.add.reduceat(np.nan_to_num(labels.values["reward"]), starts)[labels.covered]
    return {"return_mean": float(returns.mean()), "words": f"{words}, mean return {returns.mean():.3f}"}


def _few(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
