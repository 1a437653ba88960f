"""What a store holds and what it is worth, as one document and as text for people."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode import Source
from episodes.errors import InputError
from episodes.quality.appearance import Appearance
from episodes.quality.findings import KINDS, Finding, by_episode
from episodes.quality.measures import ALL_DIFFERENT, Coverage, trajectory_quality
from episodes.quality.rows import episode_rows
from episodes.quality.survey import Survey, survey
from episodes.quality.verdict import Facts, Labelled, Verdict, judge
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.summary import summarise

BY_CHOICE = (Source.DEMONSTRATION, Source.INTERVENTION, Source.SCRIPTED)
"""Whose actions were meant to do the task well."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that was found out about a store."""

    document: dict[str, Any]
    text: str
    snapshot: Snapshot
    survey: Survey
    labelled: tuple[Labelled, ...]
    """The label sets with rewards."""
    appearance: Appearance | None
    """None where pictures were not looked at."""
    findings: list[Finding]
    verdict: Verdict

    @property
    def suspicious(self) -> dict[int, list[Finding]]:
        """The faults of every episode that has any, the most suspicious first."""
        return by_episode(self.findings)


def inspect_store(
    path: Path,
    *,
    pictures: bool = False,
    reference: Path | None = None,
    return_range: tuple[float, float] | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Inspection:
    """Read a whole store, its images only if asked for.

    Args:
        pictures: look at the cameras, too; that takes longest.
        reference: a store of the same layout, whose state-action pairs coverage is a share of.
        return_range: the returns that trajectory quality counts as 0 and 1.
        progress: wraps the episodes of every camera as they are gone through.
    """
    snapshot = Store.open(path).snapshot()
    beside = None if reference is None else _reference(reference, snapshot)
    measured = survey(
        snapshot.contract,
        lambda: episode_rows(snapshot),
        None if beside is None else lambda: episode_rows(beside),
    )
    appearance = Appearance(snapshot) if pictures and snapshot.contract.cameras else None
    if appearance is not None:
        appearance.look(progress)
    findings = [*measured.findings, *(appearance.findings() if appearance else [])]
    words: dict[str, str] = {}
    labelled = []
    for name in snapshot.label_names:
        each, words[name] = _labelled(snapshot, name, return_range)
        labelled += [each] if each else []
    suspicious = by_episode(findings)
    verdict = judge(_facts(snapshot, tuple(labelled), measured, len(suspicious)))
    document = _document(snapshot, measured, labelled, findings, verdict)
    document["pictures_looked_at"] = appearance is not None
    text = _text(path, snapshot, measured, words, labelled, suspicious, verdict, document)
    return Inspection(document, text, snapshot, measured, tuple(labelled), appearance, findings, verdict)


def _reference(path: Path, snapshot: Snapshot) -> Snapshot:
    beside = Store.open(path).snapshot()
    difference = snapshot.contract.layout_difference(beside.contract)
    if difference:
        raise InputError(f"{path}: is no reference for {snapshot.path}, it has another layout: {difference}")
    return beside


def _labelled(snapshot: Snapshot, name: str, return_range: tuple[float, float] | None) -> tuple[Labelled | None, str]:
    """What a label set says of the covered episodes, None without rewards, and in words; steps without a label count
    nothing."""
    labels = snapshot.labels(name)
    covered = int(labels.covered.sum())
    words = f"{covered} of {snapshot.episodes} episodes"
    if "reward" not in labels.values or not covered:
        return None, words
    returns = np.add.reduceat(np.nan_to_num(labels.values["reward"]).astype(np.float64), snapshot.step_starts)
    returns[~labels.covered] = np.nan
    success, succeeded = labels.values.get("success"), None
    if success is not None and np.isfinite(success).any():
        # fmax: an episode succeeds where any step is known to, and is not known where none is.
        succeeded = np.where(labels.covered, np.fmax.reduceat(success, snapshot.step_starts), np.nan)
    each = Labelled(name, returns, succeeded, trajectory_quality(returns, return_range))
    words += f", mean return {np.nanmean(returns):.3f}"
    if each.quality is not None:
        words += f", TQ {each.quality.value:.2f} ({each.quality.low:.4g} to {each.quality.high:.4g})"
    return each, words


def _facts(snapshot: Snapshot, labelled: tuple[Labelled, ...], measured: Survey, suspicious: int) -> Facts:
    source = snapshot.column("source")
    return Facts(
        episodes=snapshot.episodes,
        transitions=snapshot.transitions,
        suspicious=suspicious,
        demonstrated=float(np.isin(source, BY_CHOICE).mean()) if len(source) else 0.0,
        cameras=len(snapshot.contract.cameras),
        simulated=any(metadata["place"] == "sim" for metadata in snapshot.metadata),
        labelled=labelled,
        support=measured.map.support if measured.map else None,
    )


def _document(
    snapshot: Snapshot, measured: Survey, labelled: list[Labelled], findings: list[Finding], verdict: Verdict
) -> dict[str, Any]:
    contract, pace = snapshot.contract, measured.timing.pace
    names, counts = np.unique(snapshot.column("source"), return_counts=True)
    means = {each.name: float(np.nanmean(each.returns)) for each in labelled}
    return {
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
        "return_mean": {name: means.get(name) for name in snapshot.label_names},
        "contract": contract.name,
        "contract_hash": contract.hash,
        "snapshot": snapshot.id,
        "tq": {each.name: each.quality.document() for each in labelled if each.quality},
        "saco": measured.coverage.document() if measured.coverage else None,
        "support": measured.map.support if measured.map else None,
        "timing": pace.document() if pace else None,
        "suspicious": list(by_episode(findings)),
        "findings": [finding.document() for finding in findings],
        "verdict": verdict.document(),
    }


def _text(
    path: Path,
    snapshot: Snapshot,
    measured: Survey,
    labels: dict[str, str],
    labelled: list[Labelled],
    suspicious: dict[int, list[Finding]],
    verdict: Verdict,
    document: dict[str, Any],
) -> str:
    contract = snapshot.contract
    cameras = ", ".join(f"{c.name} {c.height}x{c.width}" for c in contract.cameras) or "none"
    unseen = " (not looked at: --html does)" if contract.cameras and not document["pictures_looked_at"] else ""
    lines = [
        f"{path}  (contract {contract.name} {contract.hash})",
        summarise(measured).text(),
        f"transitions  {snapshot.transitions}, {document['terminated']} episodes terminated",
        f"state        {len(contract.state)}: {_few(contract.state_names)}",
        f"action       {len(contract.action)}: {_few(contract.action_names)}",
        f"cameras      {cameras}{unseen}",
        f"rate         {'unknown' if contract.rate is None else f'{contract.rate:g} Hz'}",
        f"tasks        {'; '.join(task or '(none said)' for task in document['tasks'])}",
        f"sources      {', '.join(f'{name} {count}' for name, count in document['sources'].items())} (steps)",
        *(f"labels       {name}: {words}" for name, words in labels.items()),
        *([f"left out     {len(snapshot.left_out)} episodes at import"] if snapshot.left_out else []),
        *([f"SACo         {coverage_words(measured.coverage)}"] if measured.coverage else []),
        f"suspicious   {_suspicious(suspicious, snapshot.episodes)}",
        f"verdict      {verdict.headline}",
    ]
    return "\n".join(lines)


def coverage_words(coverage: Coverage) -> str:
    """SACo in words."""
    if coverage.given:
        return f"{coverage.value:.2f}: {coverage.unique} different state-action pairs, the reference has {coverage.of}"
    words = f"{coverage.value:.2f}: {coverage.unique} of {coverage.of} state-action pairs are different"
    return f"{words}, too fine a grid to tell" if coverage.value > ALL_DIFFERENT else words


def _suspicious(suspicious: dict[int, list[Finding]], episodes: int) -> str:
    if not suspicious:
        return "no episode"
    worst = [f"{episode} ({KINDS[found[0].kind]})" for episode, found in suspicious.items()]
    return f"{len(worst)} of {episodes} episodes: {_few(worst, 3)}"


def _few(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
