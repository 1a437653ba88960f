"""Charts: valid SVG with the numbers and words that were given, and the same for the same numbers."""

from xml.etree import ElementTree

import numpy as np
import pytest

from episodes.charts import (
    Curve,
    Panel,
    Stretch,
    bar_chart,
    calibration_chart,
    histogram_chart,
    line_chart,
    map_chart,
    ranked_chart,
    roc_chart,
    stacked_chart,
)

NAN = float("nan")


def words(svg: str) -> list[str]:
    return [
        "".join(each.itertext()).strip() for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")
    ]


def timeline() -> str:
    curve = Curve("learned", [0, 1, 2], [NAN, 0.5, 1.0], "#2563eb", spread=[NAN, 0.1, 0.1])
    stretch = Stretch("done", [(0.5, 1.5), (1.8, 2.2)], "#059669")
    panels = [Panel("upper", [curve], [stretch], ("threshold", 0.6), (0, 1)), Panel("lower", [curve])]
    return stacked_chart("observation", (-0.5, 2.5), panels, [0, 1, 2])


@pytest.mark.parametrize(
    "draw",
    [
        timeline,
        lambda: line_chart("t", "x", {"a": ([0, 1], [2, 3]), "b": ([0, 1], [3, 2])}),
        lambda: bar_chart("t", "x", ["low", "high"], {"right": [0.4, NAN]}, intervals=[(0.3, 0.5), None], share=True),
        lambda: bar_chart("t", "x", [], {"right": []}),
        lambda: histogram_chart("t", "x", "y", [1, 2, 2, 9]),
        lambda: histogram_chart("t", "x", "y", [5.0], log=True),
        lambda: ranked_chart("t", "share", {"long": 0.5, "short": 0.02}),
        lambda: map_chart("t", ("x", "y"), np.eye(2), np.array([0.1, 3.0]), "distance", (0, 2), middle=True),
        lambda: roc_chart("t", [0, 0, 1], [0, 1, 1], (0, 1), "threshold"),
        lambda: calibration_chart("t", [0.1, 0.9], [0.0, 1.0], [(0, 0.3), (0.5, 1)], [9, 3], 0.6),
    ],
)
def test_every_chart_is_svg_that_comes_out_the_same_and_names_nothing_outside(draw):
    svg = draw()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert draw() == svg
    assert "matplotlib.org" not in svg and "purl.org" not in svg


def test_a_stack_has_one_x_axis_and_a_legend_that_names_everything_once():
    found = words(timeline())
    assert [found.count(each) for each in ("observation", "upper", "lower")] == [1, 1, 1]
    assert [found.count(each) for each in ("learned", "done", "threshold")] == [2, 1, 1]
    assert [found.count(each) for each in ("0", "1", "2")] == [1, 1, 1]


def test_many_points_are_one_picture():
    points = np.random.default_rng(0).normal(size=(5000, 2))
    svg = map_chart("t", ("x", "y"), points, points[:, 0], "distance", (0, 2))
    assert svg.count("<image") >= 1 and len(svg) < 400_000
    assert {"x", "y", "distance"} <= set(words(svg))


def test_shares_are_written_beside_their_bars_in_the_order_given():
    found = words(ranked_chart("t", "share of steps", {"elbow": 0.25, "wrist": 0.1}))
    assert {"25%", "10%"} <= set(found) and found.index("elbow") < found.index("wrist")


def test_bars_have_their_texts_and_places():
    found = words(bar_chart("title", "under", ["few", "many"], {"a": [1, 2], "b": [3, 0]}, texts=["one", "two"]))
    assert {"title", "under", "few", "many", "a", "b", "one", "two"} <= set(found)


def test_marks_and_counts_are_written_beside_their_points():
    assert "threshold 0.76" in words(roc_chart("t", [0, 1], [0, 1], (0.1, 0.9), "threshold 0.76"))
    found = words(calibration_chart("t", np.array([0.1, 0.9]), [0, 1], [(0, 0.3), (0.5, 1)], [935, 41], 0.75))
    assert {"935", "41", "threshold 0.75"} <= set(found)
