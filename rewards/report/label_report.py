"""A label set's report: one HTML file that shows what the labels say, and how far they can be believed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from episodes.charts import MARGINS
from episodes.errors import InputError
from episodes.files import write_whole
from episodes.page import render
from episodes.store import Store
from rewards.asking import Asked
from rewards.judge import Verdict
from rewards.marks import negative_line
from rewards.report import findings
from rewards.report.choosing import choose
from rewards.report.exhibits import judge_charts, success_charts
from rewards.report.findings import FoundSuccess
from rewards.report.material import Material
from rewards.report.timelines import chart, strip
from rewards.summary import rows_of

MOST = 12
"""Pairs, or successes, that are shown of a kind."""
SMALL, LARGE = 104, 176
"""Longest sides of the pictures under a timeline, and of others [pixel]."""

UNDECIDED_WORDS = "Those whose pictures differ most come first."
WRONG_WORDS = "Those that were farthest from right come first. The blue border shows what the judge preferred."
CLASSIFIER_WORDS = (
    "Each was judged by a classifier that had not learned from its episode. Probabilities are calibrated as if both "
    "answers were equally frequent: they read high where most frames show no success."
)
MARKED_WORDS = (
    "A classifier that had not learned from these frames took them for successes. They are marked already: look "
    "whether the marks are right."
)
UNMARKED_WORDS = "Add these lines to the file of marks, and label again under another name."
UNCHECKED_WORDS = (
    "The least sure come first. Where a picture shows no success, add its line to the file of marks, under negatives, "
    "and label again under another name."
)


def write_label_report(store: Store, name: str, out: Path | None = None, episodes: int = 8) -> Path:
    """Write the report of a label set.

    Args:
        out: the file; where None, `report.html` beside the labeller in the store, and for labels that no labeller
            made, `STORE-NAME.html` beside the store.
        episodes: whose timelines are shown.

    Returns:
        The file.

    Raises:
        InputError: where there is no such label set, or no place for the file.
    """
    material = Material.of(store.snapshot(), name)
    file = out or default_file(store, name)
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else f"there is no folder {file.parent}"
        raise InputError(f"{file}: {what}; --out takes the name of a file in a folder that exists")
    html = render(
        Path(__file__).with_name("label_report.html.j2"),
        name=name,
        margins=(100 * MARGINS[0], 100 * (1 - MARGINS[1])),
        facts=_facts(material),
        notes=material.notes,
        truth=None if material.known.true_reward is None else material.truth,
        cameras=material.moments.cameras,
        scaled="score" in material.labels.values,
        timelines=_timelines(material, episodes),
        judge=_judge(material),
        answers=_answers(material),
        success=_success(material),
        configuration=yaml.safe_dump(material.labels.provenance, sort_keys=False, allow_unicode=True),
    )
    write_whole(file, html)
    return file


def default_file(store: Store, name: str) -> Path:
    """Where a report goes when nobody says: with the labeller, else beside the store."""
    folder = store.path / "labellers" / name
    if folder.is_dir():
        return folder / "report.html"
    path = store.path if store.path.name not in ("", "..") else store.path.resolve()
    return path.with_name(f"{path.name}-{name}.html")


HOW = {"method": "", "judge": "judge", "shape": "shape"}
"""Keys of a label set's provenance that say how it was made, and the words for them."""


def _facts(material: Material) -> list[tuple[str, str]]:
    """The head: what was labelled how, and the numbers in words."""
    made, snapshot = material.labels.provenance, material.snapshot
    covered = material.labels.covered
    document = {} if material.evidence is None else material.evidence.document
    facts = [
        ("store", str(snapshot.path)),
        ("task", made.get("task")),
        ("method", ", ".join(f"{word} {made[key]}".strip() for key, word in HOW.items() if made.get(key))),
        ("made", f"{made['date']}, on snapshot {made['snapshot']}" if "date" in made else None),
        ("truth", f"label set {material.truth}" if material.truth else None),
        ("episodes", f"{covered.sum()} of the store's {snapshot.episodes}" + _returns(material)),
        *(rows_of(document) if document else []),
    ]
    return [(subject, words) for subject, words in facts if words]


def _returns(material: Material) -> str:
    sums = material.known.returns
    covered = material.labels.covered
    if sums is None or not covered.any():
        return ""
    sums = sums[covered]
    return f"; return {sums.mean():.2f} in the mean, {sums.min():.2f} to {sums.max():.2f}"


def _timelines(material: Material, most: int) -> list[dict[str, Any]]:
    evidence, snapshot = material.evidence, material.snapshot
    held_out, fit = ((), None) if evidence is None else (evidence.held_out, evidence.success)
    chosen = choose(material.known, material.labels.covered, held_out, fit, most)
    return [
        {
            "episode": episode,
            "reasons": "; ".join(reasons),
            "outcome": "terminated" if snapshot.terminated[episode] else "truncated",
            "chart": chart(material.known, episode),
            "strips": _strips(material, episode),
        }
        for episode, reasons in chosen.items()
    ]


def _strips(material: Material, episode: int) -> list[dict[str, Any]]:
    """Per camera, the pictures under a timeline."""
    rows = material.known.rows(episode)
    shown = [rows.start + observation for observation in strip(rows.stop - rows.start)]
    pictures = material.pictures(shown, SMALL)
    called = material.known.values.get("success", np.zeros(material.snapshot.observations))
    return [
        {
            "camera": camera,
            "cells": [
                {"observation": row - rows.start, "picture": pictures[row][number], "called": bool(called[row] > 0)}
                for row in shown
            ],
        }
        for number, camera in enumerate(material.moments.cameras)
    ]


def _judge(material: Material) -> dict[str, Any] | None:
    evidence = material.evidence
    if evidence is None:
        return None
    charts = judge_charts(evidence.asked, evidence.document, material.known.true_reward)
    compared = any(evidence.document.get(f"{who}_by_difference") for who in ("judge", "model"))
    return {"charts": charts, "compared": compared} if charts else None


def _answers(material: Material) -> list[dict[str, Any]]:
    """Groups of answers to look at."""
    asked = [] if material.evidence is None else material.evidence.asked
    true = material.known.true_reward
    groups = [
        ("Unsure or invalid", UNDECIDED_WORDS, findings.undecided(asked)),
        ("Wrong by the truth", WRONG_WORDS, [] if true is None else findings.wrong(asked, true)),
    ]
    return [_answer_group(material, *group) for group in groups if group[2]]


def _answer_group(material: Material, title: str, words: str, found: Sequence[Asked]) -> dict[str, Any]:
    shown = found[:MOST]
    pictures = material.pictures([row for pair in shown for row in (pair.first, pair.second)], LARGE)
    return {
        "title": f"{title}: {_of(found)}",
        "words": words,
        "pairs": [_pair(material, pair, pictures) for pair in shown],
    }


def _pair(material: Material, pair: Asked, pictures: dict[int, list[str]]) -> dict[str, Any]:
    true = material.known.true_reward
    sides = []
    for row, preferred in ((pair.first, Verdict.FIRST), (pair.second, Verdict.SECOND)):
        episode, observation = material.place(row)
        sides.append(
            {
                "episode": episode,
                "observation": observation,
                "pictures": pictures[row],
                "preferred": pair.verdict is preferred,
                "true": None if true is None or not np.isfinite(true[row]) else f"{true[row]:.2f}",
            }
        )
    verdict = "" if pair.verdict is None else pair.verdict.value
    return {"sides": sides, "verdict": verdict, "rationale": pair.rationale}


def _success(material: Material) -> dict[str, Any] | None:
    """Charts of the success classifier, and its successes that are none."""
    fit = None if material.evidence is None else material.evidence.success
    if fit is None:
        return None
    known, moments = material.known, material.moments
    nothing = np.full(len(moments), np.nan)
    called, probability = known.values.get("success", nothing), known.values.get("success_probability", nothing)
    marked = findings.marked_episodes(moments, fit)
    found = findings.false_marked(moments, fit)
    in_marked = _group(material, "False successes in marked frames", MARKED_WORDS, found, lines=False)
    if known.true_success is not None:
        found = findings.false_unmarked(moments, called, known.true_success, probability, marked)
        group = _group(material, "False successes in episodes that nobody marked", UNMARKED_WORDS, found)
        # Only what is certain may be copied without a look.
        group["lines"] = "\n".join(["negatives:", *(f"  {each['line']}" for each in group["shown"])])
    else:
        found = findings.unchecked(moments, called, probability, marked)
        group = _group(material, "Successes that nobody has checked", UNCHECKED_WORDS, found)
    return {
        "words": f"{len(fit.done)} marked frames, {fit.done.sum()} of them done. {CLASSIFIER_WORDS}",
        "charts": success_charts(fit),
        "groups": [each for each in (in_marked, group) if each["shown"]],
    }


def _of(found: Sequence[Any]) -> str:
    """How many there are, and how many of them are shown."""
    return str(len(found)) if len(found) <= MOST else f"{MOST} of {len(found)}"


def _group(
    material: Material, title: str, words: str, found: Sequence[FoundSuccess], *, lines: bool = True
) -> dict[str, Any]:
    shown = found[:MOST]
    pictures = material.pictures([each.row for each in shown], LARGE)
    return {
        "title": f"{title}: {_of(found)}",
        "words": words,
        "shown": [
            {
                "episode": each.moment.episode,
                "observation": material.place(each.row)[1],
                "pictures": pictures[each.row],
                "probability": None if np.isnan(each.probability) else f"{each.probability:.2f}",
                "words": each.words,
                "line": negative_line(each.moment) if lines else None,
            }
            for each in shown
        ],
        "lines": None,
    }
