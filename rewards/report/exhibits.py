"""What a report shows of a judge's answers and of a success classifier, as charts."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from episodes.charts import COLOURS, MUTED, bar_chart, calibration_chart, roc_chart
from rewards.asking import Asked
from rewards.judge import Verdict
from rewards.report.curves import calibration, roc, share_interval
from rewards.success import SuccessFit

QUARTERS = 4
"""Groups of equally many pairs, by how much their pictures differ."""
CHANCE = 0.5
"""How often whoever guesses is right."""

KINDS = {
    "decided": ((Verdict.FIRST, Verdict.SECOND), COLOURS[0]),
    "unsure": ((Verdict.UNSURE,), COLOURS[1]),
    "invalid": ((Verdict.INVALID,), COLOURS[3]),
    "same": ((None,), MUTED),
}
"""What can come of a pair: which verdicts that is, None where nobody was asked, and a colour."""


def judge_charts(asked: Sequence[Asked], document: dict[str, Any], truth: np.ndarray | None) -> list[str]:
    """How many answers decide, and how often they are right, by how different the moments of a pair are.

    Args:
        document: what `firsthand label --json` printed.
        truth: the true reward per observation, shape (N,), where it is known.
    """
    charts = [_counts(asked)] if asked else []
    apart = np.array([pair.difference for pair in asked])
    if len(asked) and np.isfinite(apart).all():
        edges = np.quantile(apart, np.linspace(0, 1, QUARTERS + 1))
        place = np.clip(np.searchsorted(edges, apart, side="right") - 1, 0, QUARTERS - 1)
        charts.append(_kinds(asked, edges, place))
        if truth is not None:
            charts.append(_right_by_pictures(asked, edges, place, truth))
    for key, title in (("judge", "Judge: how often right"), ("model", "Model, held-out episodes: how often right")):
        if rows := document.get(f"{key}_by_difference"):
            names = _names([rows[0]["difference"][0], *(row["difference"][1] for row in rows)])
            known = [(round((row["accuracy"] or 0) * row["decided"]), row["decided"]) for row in rows]
            charts.append(_right(title, "true difference of the rewards", names, known))
    return charts


def success_charts(fit: SuccessFit) -> list[str]:
    """The ROC and the reliability of a success classifier, on marked frames that it had not learned from."""
    charts = []
    if (curve := roc(fit.probability, fit.done)) is not None:
        found, false = 1 - fit.miss_rate, fit.false_positive_rate
        words = f"threshold {fit.threshold:.2f}:\n{found:.0%} of successes found,\n{false:.1%} of the others pass"
        title = f"ROC, area {curve.area:.3f}"
        charts.append(roc_chart(title, curve.false_rate, curve.true_rate, (false, found), words))
    bins = calibration(fit.probability, fit.done)
    charts.append(
        calibration_chart(
            "Calibration, and how many frames say so",
            [each.said for each in bins],
            [each.found for each in bins],
            [each.interval for each in bins],
            [each.count for each in bins],
            fit.threshold,
        )
    )
    return charts


def _counts(asked: Sequence[Asked]) -> str:
    counts = [sum(pair.verdict in verdicts for pair in asked) for verdicts, _ in KINDS.values()]
    return bar_chart(
        f"What came of {len(asked)} pairs", "", list(KINDS), {"pairs": counts}, texts=[str(count) for count in counts]
    )


def _kinds(asked: Sequence[Asked], edges: np.ndarray, place: np.ndarray) -> str:
    """The shares of decided, unsure and invalid answers by the difference of the pictures."""
    counts = np.bincount(place, minlength=QUARTERS)
    parts, colours = {}, []
    for name, (verdicts, colour) in KINDS.items():
        of_kind = np.array([pair.verdict in verdicts for pair in asked])
        if of_kind.any():
            parts[name] = np.bincount(place[of_kind], minlength=QUARTERS) / np.maximum(counts, 1)
            colours.append(colour)
    title = "What came of the pairs, as shares"
    return bar_chart(title, "difference of the pictures", _names(edges), parts, colours=colours, share=True)


def _right_by_pictures(asked: Sequence[Asked], edges: np.ndarray, place: np.ndarray, truth: np.ndarray) -> str:
    gain = np.array([truth[pair.second] - truth[pair.first] for pair in asked])
    decided = np.array([pair.verdict in (Verdict.FIRST, Verdict.SECOND) for pair in asked])
    right = np.array([pair.verdict is Verdict.SECOND for pair in asked]) == (gain > 0)
    usable = decided & np.isfinite(gain) & (gain != 0)
    known = [(int((right & usable & (place == n)).sum()), int((usable & (place == n)).sum())) for n in range(QUARTERS)]
    return _right("Judge: how often right", "difference of the pictures", _names(edges), known)


def _right(title: str, x_label: str, names: Sequence[str], known: Sequence[tuple[int, int]]) -> str:
    """Bars of how many of how many answers are right."""
    return bar_chart(
        title,
        x_label,
        names,
        {"right": [right / of if of else np.nan for right, of in known]},
        texts=[f"{right / of:.0%} of {of}" if of else "none" for right, of in known],
        intervals=[share_interval(right, of) if of else None for right, of in known],
        level=CHANCE,
        share=True,
    )


def _names(edges: Sequence[float] | np.ndarray) -> list[str]:
    """What stands under the bars between these edges: two digits of the largest."""
    digits = int(np.clip(2 - np.ceil(np.log10(max(edges[-1], 1e-9))), 0, 9))
    return [f"{low:.{digits}f}–{high:.{digits}f}" for low, high in pairwise(edges)]
