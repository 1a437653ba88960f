"""Charts for reports, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED = "#1f2933", "#9aa5b1"
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777")

Values = Sequence[float] | np.ndarray
"""NaN where there is none."""
Interval = tuple[float, float]

MARGINS = (0.08, 0.985)
"""Where the axes of a `stacked_chart` begin and end, as parts of its width: what stands under one keeps to them."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel, with a band round it where `spread` is given."""

    name: str
    x: Values
    y: Values
    colour: str
    spread: Values | None = None
    """The band's half width."""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the x axis that is shaded in every panel that has it."""

    name: str
    parts: Sequence[Interval]
    colour: str
    height: Interval = (0.0, 1.0)
    """From where to where, as parts of the panel's height."""
    strength: float = 0.2


@dataclass(frozen=True, slots=True)
class Panel:
    """One of several charts over the same x axis."""

    y_label: str
    curves: Sequence[Curve]
    stretches: Sequence[Stretch] = ()
    level: tuple[str, float] | None = None
    """Name and height of a horizontal line."""
    limits: Interval | None = None


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


def stacked_chart(x_label: str, x_limits: Interval, panels: Sequence[Panel], x_ticks: Values) -> str:
    """Wide panels under each other with one x axis, which lies between `MARGINS`; legends stand above."""
    height = 1.15 * len(panels) + 0.45
    figure = Figure(figsize=(10.6, height))
    left, right = MARGINS
    figure.subplots_adjust(left=left, right=right, bottom=0.42 / height, top=1 - 0.22 / height, hspace=0.42)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, number + 1)
        _style(axes)
        _draw(axes, panel)
        axes.set_xlim(*x_limits)
        axes.set_xticks(x_ticks)
        axes.tick_params(labelbottom=number == len(panels) - 1)
    figure.axes[-1].set_xlabel(x_label, fontsize=8, color=INK)
    return _svg(figure)


def bar_chart(
    title: str,
    x_label: str,
    places: Sequence[str],
    parts: Mapping[str, Values],
    *,
    colours: Sequence[str] = COLOURS,
    texts: Sequence[str] = (),
    intervals: Sequence[Interval | None] = (),
    level: float | None = None,
    share: bool = False,
) -> str:
    """Bars side by side.

    Args:
        places: what stands under each bar.
        parts: what a bar is stacked of: a name and a height per bar.
        texts: what stands above each bar.
        intervals: from where to where each bar's value may lie.
        level: where a dashed line is drawn, for comparison.
        share: heights are shares of 1.
    """
    figure, axes = _empty(title, x_label)
    x = np.arange(len(places))
    below = np.zeros(len(places))
    for colour, (name, heights) in zip(colours, parts.items(), strict=False):
        axes.bar(x, heights, 0.66, bottom=below, color=colour, label=name, zorder=2)
        below = below + np.nan_to_num(np.asarray(heights, float))
    tops = below.copy()
    for place, interval in enumerate(intervals):
        if interval is not None:
            axes.vlines(place, *interval, color=INK, linewidth=1.1, zorder=3)
            tops[place] = max(tops[place], interval[1])
    for place, text in enumerate(texts):
        axes.annotate(
            text, (place, tops[place]), (0, 2), textcoords="offset points", ha="center", fontsize=7, color=INK
        )
    if level is not None:
        axes.axhline(level, color=INK, linewidth=0.8, linestyle="--", zorder=3)
    axes.set_xticks(x, places)
    axes.grid(axis="x", visible=False)
    axes.set_ylim(0, 1.14 if share else max(float(tops.max(initial=0)), 1e-9) * 1.16)
    if share:
        axes.set_yticks(np.linspace(0, 1, 6))
    if len(parts) > 1:
        axes.legend(frameon=False, fontsize=7, ncols=len(parts), loc="upper right", borderpad=0, handlelength=1)
    return _svg(figure)


def histogram_chart(
    title: str, x_label: str, y_label: str, values: Values, bins: int = 30, *, log: bool = False
) -> str:
    """How many of the values lie where; the median is marked. `log`: counts are on a logarithmic scale."""
    figure, axes = _empty(title, x_label)
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    room = 0.0 if high > low else 0.5 * max(abs(low), 1.0)
    axes.hist(values, np.linspace(low - room, high + room, bins + 1).tolist(), color=COLOURS[0], zorder=2, log=log)
    axes.axvline(float(np.median(values)), color=INK, linewidth=1.0, linestyle="--", zorder=3)
    axes.set_ylabel(y_label, fontsize=8, color=INK)
    axes.grid(axis="x", visible=False)
    if not log:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure)


def ranked_chart(title: str, x_label: str, shares: Mapping[str, float]) -> str:
    """Named shares of 1 as bars under each other, in the order given."""
    figure, axes = _empty(title, x_label)
    place = np.arange(len(shares))[::-1]
    axes.barh(place, list(shares.values()), 0.66, color=COLOURS[0], zorder=2)
    for y, share in zip(place, shares.values(), strict=True):
        axes.annotate(
            f"{share:.0%}", (share, y), (3, 0), textcoords="offset points", va="center", fontsize=7, color=INK
        )
    axes.set_yticks(place, list(shares))
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.12)
    axes.set_ylim(-0.6, max(len(shares), 6) - 0.4)
    axes.set_xticks(np.linspace(0, 1, 6))
    return _svg(figure)


def map_chart(
    title: str,
    labels: tuple[str, str],
    points: np.ndarray,
    values: np.ndarray,
    value_label: str,
    limits: Interval,
    *,
    middle: bool = False,
) -> str:
    """Points in a plane, shape (n, 2), coloured by a value each; the largest lie on top.

    Args:
        limits: values outside of them have the colours of the ends.
        middle: the middle of the limits parts good from bad, which get two colours.
    """
    figure, axes = _empty(title, labels[0], height=3.7, width=5.4)
    order = np.argsort(values, kind="stable")
    colours = LinearSegmentedColormap.from_list("", [COLOURS[0], "#cbd2d9", COLOURS[3]]) if middle else "viridis"
    low, high = limits
    drawn = axes.scatter(*points[order].T, s=5, c=values[order], cmap=colours, vmin=low, vmax=high, linewidths=0)
    # Thousands of points as one picture: as paths they would be megabytes.
    drawn.set_rasterized(True)
    axes.set_ylabel(labels[1], fontsize=8, color=INK)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.9)
    bar.set_label(value_label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, colors=INK)
    return _svg(figure)


def roc_chart(title: str, false_rate: Values, true_rate: Values, marked: tuple[float, float], words: str) -> str:
    """The share of positives that is found over the share of negatives that passes, with one threshold marked."""
    figure, axes = _empty(title, "share of frames without success that pass", height=3.0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    axes.plot(false_rate, true_rate, color=COLOURS[0], linewidth=1.5)
    axes.plot(*marked, "o", color=COLOURS[3], markersize=6)
    axes.annotate(words, marked, (10, -6), textcoords="offset points", fontsize=8, color=COLOURS[3], va="top")
    axes.set_ylabel("share of successes that pass", fontsize=8, color=INK)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    return _svg(figure)


def calibration_chart(
    title: str, said: Values, found: Values, intervals: Sequence[Interval], counts: Sequence[int], threshold: float
) -> str:
    """A reliability diagram: the share of successes over the probability that was said, and below it the frames per
    point, on a logarithmic scale."""
    figure, axes = _empty(title, "", height=3.0, rows=(3, 1))
    frames = figure.axes[1]
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    axes.vlines(said, *zip(*intervals, strict=True), color=COLOURS[0], linewidth=1.1)
    axes.plot(said, found, "o", color=COLOURS[0], markersize=5)
    axes.axvline(threshold, color=COLOURS[3], linewidth=1.0, linestyle="--")
    axes.annotate(
        f"threshold {threshold:.2f}",
        (threshold, 1),
        (-4, 0),
        textcoords="offset points",
        fontsize=8,
        color=COLOURS[3],
        ha="right",
        va="top",
    )
    axes.set_ylabel("share that is a success", fontsize=8, color=INK)
    axes.set_ylim(-0.04, 1.04)
    axes.tick_params(labelbottom=False)
    frames.bar(said, counts, 0.06, color=MUTED, log=True)
    for x, count in zip(said, counts, strict=True):
        frames.annotate(f"{count}", (x, count), (0, 1), textcoords="offset points", fontsize=7, color=INK, ha="center")
    frames.set_ylim(0.5, 6 * max(counts))
    frames.set_ylabel("frames", fontsize=8, color=INK)
    frames.set_xlabel("probability that was said", fontsize=8, color=INK)
    for each in (axes, frames):
        each.set_xlim(-0.04, 1.04)
    return _svg(figure)


def _draw(axes: Axes, panel: Panel) -> None:
    """Fill one panel."""
    for stretch in panel.stretches:
        name = stretch.name
        for start, stop in stretch.parts:
            axes.axvspan(
                start, stop, *stretch.height, color=stretch.colour, alpha=stretch.strength, linewidth=0, label=name
            )
            name = "_"  # one line of the legend for all of them
    for curve in panel.curves:
        x, y = np.asarray(curve.x), np.asarray(curve.y)
        if curve.spread is not None:
            half = np.asarray(curve.spread)
            axes.fill_between(x, y - half, y + half, color=curve.colour, alpha=0.22, linewidth=0)
        style = "--" if curve.dashed else "-"
        axes.plot(x, y, style, color=curve.colour, linewidth=1.5, label=curve.name)
    if panel.level is not None:
        name, height = panel.level
        axes.axhline(height, color=COLOURS[3], linewidth=0.9, linestyle=":", label=name)
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    axes.set_ylabel(panel.y_label, fontsize=8, color=INK)
    axes.legend(
        frameon=False, fontsize=8, ncols=8, loc="lower left", bbox_to_anchor=(0, 0.97), borderpad=0, borderaxespad=0.2
    )


def _empty(
    title: str, x_label: str, height: float = 2.5, rows: Sequence[float] = (1,), width: float = 4.2
) -> tuple[Figure, Axes]:
    """A small figure with axes under each other, of these relative heights, and the uppermost of them."""
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    for axes in np.atleast_1d(figure.subplots(len(rows), 1, height_ratios=rows)):
        _style(axes)
    axes = figure.axes[0]
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(x_label, fontsize=8, color=INK)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.tick_params(labelsize=7, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    # Fixed salt and no date: the same numbers give the same file. Nobody reads the rest of the metadata.
    without = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": "firsthand", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata=without)
    return text.getvalue()[text.getvalue().index("<svg") :]
