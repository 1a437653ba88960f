"""Timelines: how an episode's labels go over time, beside the truth where it is known."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from episodes.charts import COLOURS, INK, Curve, Panel, Stretch, stacked_chart
from episodes.snapshot import Snapshot
from rewards.moments import per_observation
from rewards.report.findings import stretches
from rewards.shaping import scale_of, scaled


@dataclass(frozen=True)
class Known:
    """Everything that is known of each observation, shape (N,) each; NaN in part, and None where there is nothing."""

    snapshot: Snapshot
    values: dict[str, np.ndarray]
    """Of the label set."""
    returns: np.ndarray | None
    """Shape (E,): the sum of each episode's rewards; steps without one count nothing."""
    true_reward: np.ndarray | None
    true_success: np.ndarray | None
    threshold: float | None

    @classmethod
    def of(
        cls, snapshot: Snapshot, values: dict[str, np.ndarray], truth: dict[str, np.ndarray], threshold: float | None
    ) -> "Known":
        """Of labels per step; `truth` is empty where none is known."""
        at, true = (
            {name: per_observation(snapshot, column) for name, column in each.items() if np.isfinite(column).any()}
            for each in (values, truth)
        )
        sums = None
        if "reward" in values and snapshot.episodes:
            sums = np.add.reduceat(np.nan_to_num(values["reward"]), snapshot.step_starts)
        return cls(snapshot, at, sums, true.get("reward"), true.get("success"), threshold)

    def rows(self, episode: int) -> slice:
        return slice(int(self.snapshot.observation_starts[episode]), int(self.snapshot.observation_ends[episode]))


def chart(known: Known, episode: int) -> str:
    """Reward, score and success of an episode, over its observations, as SVG."""
    rows = known.rows(episode)
    length = rows.stop - rows.start
    step = max(1, -(-length // 12))
    return stacked_chart("observation", (-0.5, length - 0.5), list(_panels(known, rows)), np.arange(0, length, step))


def strip(length: int, most: int = 10) -> list[int]:
    """The observations in the middle of so many equal parts of an episode: their pictures stand under their times."""
    parts = min(length, most)
    return [int((2 * part + 1) * length / (2 * parts)) for part in range(parts)]


def _panels(known: Known, rows: slice) -> Iterator[Panel]:
    x = np.arange(rows.stop - rows.start)
    at = {name: values[rows] for name, values in known.values.items()}
    score, reward = at.get("score"), at.get("reward")
    if score is not None:
        curves = [Curve("learned score (band: spread of the ensemble)", x, score, COLOURS[0], at.get("score_spread"))]
        if known.true_reward is not None:
            true = scaled(known.true_reward, scale_of(known.true_reward))[rows]
            curves.append(Curve("true reward, scaled", x, true, COLOURS[1], dashed=True))
        yield Panel("score", curves, limits=(-1.08, 0.08))
    if reward is not None and (score is None or not np.allclose(reward, score, equal_nan=True)):
        yield Panel(
            "reward", [Curve("reward that a learner gets", x, reward, INK)], limits=_span(known.values["reward"])
        )
    if score is None and known.true_reward is not None:
        curve = Curve("true reward", x, known.true_reward[rows], COLOURS[1], dashed=True)
        yield Panel("true reward", [curve], limits=_span(known.true_reward))
    if "success" in at:
        yield _success_panel(known, at, rows)


def _success_panel(known: Known, at: dict[str, np.ndarray], rows: slice) -> Panel:
    x = np.arange(rows.stop - rows.start)
    shaded = [Stretch("success called", _spans(at["success"]), COLOURS[2], (0, 0.86), 0.25)]
    if known.true_success is not None:
        spans = _spans(known.true_success[rows])
        shaded.append(Stretch("truly done", spans, COLOURS[1], (0.92, 1), 0.9))
    if "success_probability" not in at:
        return Panel("success", [Curve("success", x, at["success"], COLOURS[2])], shaded[1:], limits=(-0.05, 1.2))
    curve = Curve("probability of success", x, at["success_probability"], COLOURS[2])
    level = None if known.threshold is None else ("threshold", known.threshold)
    return Panel("success", [curve], shaded, level, (-0.05, 1.2))


def _span(values: np.ndarray) -> tuple[float, float]:
    """Limits that all episodes fit into, so that they can be compared."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room


def _spans(success: np.ndarray) -> list[tuple[float, float]]:
    return [(first - 0.5, last + 0.5) for first, last in stretches(success > 0)]
