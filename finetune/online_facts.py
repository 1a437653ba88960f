"""What happened while a run learned online, in words: for its report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode import Source
from episodes.snapshot import Snapshot
from episodes.store import Store
from finetune.run import Run

ENDS = 20
"""Episodes at the beginning and at the end that are compared."""
PASSED = 1
"""The verdict of a command that was sent as proposed; any above it was not."""

Facts = list[tuple[str, str]]


def online_facts(run: Run, metrics: Sequence[dict[str, Any]]) -> Facts:
    """Name and finding, of what the metrics and the run's own episodes say."""
    return [*_of_metrics(metrics), *_of_episodes(run.path / "episodes")]


def _of_metrics(metrics: Sequence[dict[str, Any]]) -> Facts:
    acted = [line for line in metrics if "length" in line]
    if not acted:
        return []
    facts = [("episodes", f"{len(acted)}, {sum(line['length'] for line in acted):.0f} steps")]
    success = [line["online/success"] for line in acted if "online/success" in line]
    if success:
        count = min(ENDS, len(success))
        first, last = np.mean(success[:count]), np.mean(success[-count:])
        facts.append(("success while learning", f"{first:.2f} in the first {count} episodes, {last:.2f} in the last"))
        facts.append(("cumulative regret", f"{1 - np.mean(success):.2f}"))
    facts += [*_labels(acted), *_trials(metrics)]
    taken = [line["online/intervened"] * line["length"] for line in acted if "online/intervened" in line]
    if taken:
        facts.append(("people", f"took over in {len(taken)} episodes, for {sum(taken):.0f} steps"))
    return facts


def _labels(acted: Sequence[dict[str, Any]]) -> Facts:
    """What the labels said of episodes of which something else is known, too."""
    both = [
        (line["online/success_seen"], line["online/success"])
        for line in acted
        if {"online/success_seen", "online/success"} <= line.keys()
    ]
    facts = []
    if both:
        seen, told = np.array(both).T > 0
        words = (
            f"call {seen.sum()} of {len(seen)} episodes a success, of which {(seen & ~told).sum()} were said to be none"
        )
        facts.append(("labels", f"{words}, and miss {(told & ~seen).sum()}"))
    left_out = sum(line.get("online/left_out", 0.0) for line in acted)
    if left_out:
        facts.append(("left out", f"{left_out:.0f} episodes, whose labels could not be right"))
    return facts


def _trials(metrics: Sequence[dict[str, Any]]) -> Facts:
    """Evaluations while it learned."""
    tried = [(line["step"], line["evaluation/success_rate"]) for line in metrics if "evaluation/success_rate" in line]
    if not tried:
        return []
    step, best = max(tried, key=lambda each: (each[1], each[0]))
    facts = [("best policy", f"{best:.2f} when it was evaluated after {step} episodes")]
    back = [line for line in metrics if "evaluation/back_to" in line]
    words = ", ".join(f"after {line['step']} episodes to that of {line['evaluation/back_to']:.0f}" for line in back)
    return [*facts, ("went back", words or "never")]


def _of_episodes(path: Path) -> Facts:
    if not path.is_dir():
        return []
    snapshot = Store.open(path).snapshot()
    facts = []
    policies = len(set(_policies(snapshot)))
    if policies:
        facts.append(("policies that acted", f"{policies}"))
    verdict = snapshot.column("verdict")
    if verdict.any():
        changed = int((verdict > PASSED).sum())
        facts.append(("guardian", f"{changed} of {len(verdict)} commands were not sent as proposed"))
    return facts


def _policies(snapshot: Snapshot) -> list[int]:
    """Of every step that a policy acted in."""
    acted = snapshot.column("source") == Source.POLICY
    return [policy for policy in snapshot.column("policy")[acted].tolist() if policy]
