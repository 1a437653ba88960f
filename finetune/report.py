"""A run's report: one HTML file that holds everything it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from episodes.charts import line_chart, success_chart
from episodes.files import write_whole
from episodes.page import data_uri, render
from finetune.gap_map import gap_chart, has_gap
from finetune.online_facts import online_facts
from finetune.run import Run

CHARTS = (
    ("Losses", ("value_loss", "critic_loss")),
    ("Policy loss", ("actor_loss",)),
    ("Values", ("value", "q")),
    ("Advantage", ("advantage",)),
    ("Share of clipped weights", ("weight_clipped",)),
    ("Policy's standard deviation", ("std",)),
    ("Simulated rows: mean weight, and share of clipped ones", ("simulated_weight", "simulated_weight_clipped")),
    ("Learned dynamics gap, mean over simulated rows [nats]", ("dynamics_gap",)),
    ("Telling real from simulated", ("discriminator_pair_loss", "discriminator_triple_loss")),
    ("Balance coefficient, over the states of a batch", ("coefficient", "coefficient_spread")),
)
"""Which metrics share a chart."""


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One line of the report's table."""

    who: str
    task: str
    episodes: int
    success: str
    best_reward: str
    returns: str
    length: str


def write_report(run: Run, beside: Sequence[tuple[str, dict[str, Any]]] = ()) -> Path:
    """Write `report.html` into a run's folder.

    Args:
        beside: evaluations of others to compare with, as (who, `Evaluation.summary()`).

    Returns:
        The file.
    """
    lineage = _with_parents(run)
    chapters = [_chapter(each) for each in lineage]
    rows = [row_of(who, summary) for who, summary in beside]
    rows += [row_of(f"{run_.path.name}: {name}", s) for run_ in lineage for name, s in run_.evaluations().items()]
    videos = [
        (f"{each.path.name}: {file.stem}", data_uri("video/mp4", file.read_bytes()))
        for each in lineage
        for file in sorted((each.path / "videos").glob("*.mp4"))
    ]
    html = render(
        Path(__file__).with_name("report.html.j2"), name=run.path.name, rows=rows, videos=videos, chapters=chapters
    )
    file = run.path / "report.html"
    write_whole(file, html)
    return file


def row_of(who: str, summary: dict[str, Any]) -> EvaluationRow:
    """An evaluation's summary in words."""

    def between(mean: float, interval: Sequence[float], digits: int) -> str:
        return f"{mean:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"

    return EvaluationRow(
        who=who,
        task=summary["task"],
        episodes=summary["episodes"],
        success="-"
        if summary["success_rate"] is None
        else between(summary["success_rate"], summary["success_interval"], 2),
        best_reward=between(summary["best_reward_mean"], summary["best_reward_interval"], 2),
        returns=between(summary["return_mean"], summary["return_interval"], 1),
        length=f"{summary['length_mean']:.1f}",
    )


def _with_parents(run: Run) -> list[Run]:
    """The run that everything began with first."""
    parent = run.config.get("parent")
    return [*(_with_parents(Run.open(Path(parent))) if parent and Path(parent).exists() else []), run]


def _chapter(run: Run) -> dict[str, Any]:
    """Charts and configuration of one run."""
    config, metrics = run.config, run.metrics()
    x_label = "update" if config["kind"] == "pretrain" else "episode"
    charts = []
    if config["kind"] == "finetune":
        charts.append(success_chart("Success while learning (stochastic)", _column(metrics, "online/success")[1]))
        best = _column(metrics, "online/best_reward")
        charts.append(line_chart("Largest reward of each episode", x_label, {"": best}))
        evaluated = _column(metrics, "evaluation/success_rate")
        if evaluated[0]:
            charts.append(line_chart("Evaluated success (deterministic)", x_label, {"": evaluated}))
    for title, names in CHARTS:
        series = {name: _column(metrics, name) for name in names}
        if any(x for x, _ in series.values()):
            charts.append(line_chart(title, x_label, series))
    if has_gap(run):
        charts.append(gap_chart(run))
    return {
        "name": run.path.name,
        "kind": config["kind"],
        "facts": online_facts(run, metrics) if config["kind"] == "finetune" else [],
        "charts": charts,
        "config": yaml.safe_dump(config, sort_keys=False),
    }


def _column(metrics: Sequence[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    found = [(line["step"], line[name]) for line in metrics if name in line]
    return [x for x, _ in found], [y for _, y in found]
