"""Charts for reports, as SVG text."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED = "#1f2933", "#9aa5b1"
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777")


def line_chart(title: str, x_label: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """One small chart; `series` maps a name to its x and y values."""
    figure, axes = _empty(title, x_label)
    for colour, (name, (x, y)) in zip(COLOURS * len(series), series.items(), strict=False):
        axes.plot(x, y, color=colour, linewidth=1.3, label=name)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def success_chart(title: str, success: Sequence[float], window: int = 20) -> str:
    """Success per episode as dots and the mean of the last `window` as a line."""
    figure, axes = _empty(title, "episode")
    episodes = range(1, len(success) + 1)
    axes.plot(episodes, success, "|", color=MUTED, markersize=5)
    means = [float(np.mean(success[max(0, n - window) : n])) for n in episodes]
    axes.plot(episodes, means, color=COLOURS[2], linewidth=1.6)
    axes.set_ylim(-0.05, 1.05)
    return _svg(figure)


def _empty(title: str, x_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 2.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(x_label, fontsize=8, color=INK)
    axes.tick_params(labelsize=7, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    # Fixed salt and no date: the same numbers give the same file.
    with mpl.rc_context({"svg.hashsalt": "firsthand", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
