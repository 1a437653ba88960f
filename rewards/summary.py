"""What a labelling amounts to, for people."""

from typing import Any


def text_of(document: dict[str, Any]) -> str:
    """A few lines about the document that `label` returns."""
    lines = [f"label set {document['labels']!r}: {document['episodes']} episodes labelled, shape {document['shape']}"]
    lines += [f"  {subject:<10} {words}" for subject, words in rows_of(document)]
    lines.append(f"  {document['frames_per_second']:.0f} frames/s, {document['seconds']:.1f} s in all")
    return "\n".join(lines)


def rows_of(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What was found out, by subject: a word, and a sentence."""
    where = "held-out episodes" if document.get("held_out") else "the episodes that were learned from"
    rows = []
    if document["pairs"]:
        rows.append(
            (
                "pairs",
                f"{document['pairs']}: {document['decided']} decided, {document['unsure']} unsure, "
                f"{document['invalid']} invalid, {document['same_pictures']} showed the same; "
                f"the reward model agrees with {document['agreement']:.0%} of answers that were kept aside",
            )
        )
    if document["accuracy"] is not None:
        rows.append(("judge", f"{document['accuracy']:.1%} of its decisions are right{_by(document, 'judge')}"))
    if document.get("model_accuracy") is not None:
        rows.append(("model", f"{document['model_accuracy']:.1%} right on {where}{_by(document, 'model')}"))
    correlations = [
        f"{document[key]:+.2f} with {words}"
        for key, words in (("spearman", "the true reward"), ("spearman_time", "time"))
        if document.get(key) is not None
    ]
    if correlations:
        rows.append(("spearman", f"{', '.join(correlations)}, in {where}"))
    if "threshold" in document:
        rows.append(
            (
                "success",
                f"in {document['success_rate']:.0%} of the episodes; the threshold of {document['threshold']:.2f} is "
                f"where {document['false_positive_rate']:.1%} of marked frames are false and "
                f"{document['miss_rate']:.0%} missed",
            )
        )
    if true := document.get("success"):
        rows.append(
            (
                "unmarked",
                f"{true['episodes']} episodes: {true['false_successes']} of "
                f"{true['episodes'] - true['successes']} failures called a success, {true['missed_successes']} of "
                f"{true['successes']} successes missed, {true['early_successes']} called early; "
                f"{_share(true['false_positive_rate'])} of the frames without success are called one",
            )
        )
    return rows


def _by(document: dict[str, Any], who: str) -> str:
    rows = document.get(f"{who}_by_difference") or []
    shares = [_share(row["accuracy"]) for row in rows]
    return f" ({', '.join(shares)} from the least to the most different quarter)" if shares else ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
