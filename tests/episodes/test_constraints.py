"""h(s): excesses by hand, its two forms, its sign, and what a file may not say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.constraints import (
    Constraints,
    KeepOut,
    Length,
    Limit,
    Tilt,
    Workspace,
    constraints_from,
    read_constraints,
)
from episodes.errors import InputError

NAMES = ["x", "y", "z"]


def excess(constraint, *rows: tuple[float, ...], names: list[str] = NAMES) -> list[float]:
    state = np.array(rows, np.float32)
    return constraint.excess(lambda name: state[:, names.index(name)].astype(np.float64)).tolist()


def test_a_limit_is_exceeded_on_either_side():
    assert excess(Limit("x", -1, 2), (-1.5, 0, 0), (2.25, 0, 0), (0.5, 9, 9)) == [0.5, 0.25, -1.5]
    assert excess(Limit("y", high=2), (0, -100, 0), (0, 3, 0)) == [-102, 1]
    assert excess(Limit("y", low=2), (0, 1.5, 0)) == [0.5]


def test_a_length_is_euclidean():
    assert excess(Length(("x", "y"), 4.0), (3, 4, 99), (-3, 0, 99)) == [1.0, -1.0]


def test_a_workspace_is_left_by_the_entry_that_is_farthest_out():
    box = Workspace({"x": (-1, 1), "z": (0, 2)})
    assert excess(box, (1.5, 0, 3), (0.75, 0, 1), (0, 9, -0.25)) == [1.0, -0.25, 0.25]


def test_a_keep_out_ball_is_entered_by_its_depth():
    ball = KeepOut(center={"x": 1.0, "y": 0.0}, radius=2.0)
    assert excess(ball, (1, 0, 5), (4, 4, 0), (-1, 0, 0)) == [2.0, -3.0, 0.0]


def test_a_keep_out_box_is_entered_by_the_way_to_its_nearest_face_and_is_as_far_away_as_its_nearest_point():
    box = KeepOut(box={"x": (0, 4), "y": (0, 1)})
    assert excess(box, (1, 0.25, 0), (7, 5, 0), (2, -3, 0)) == [0.25, -5.0, -3.0]


def test_a_tilt_is_the_angle_between_ups():
    by_angles = Tilt(0.5, roll_pitch=("roll", "pitch"))
    both = [0.3, -0.4]
    expected = np.arccos(np.cos(0.3) * np.cos(0.4)) - 0.5
    assert excess(by_angles, (0, 0.7), tuple(both), names=["roll", "pitch"]) == pytest.approx([0.2, expected], abs=1e-6)
    names = ["qx", "qy", "qz", "qw"]
    by_quaternion = Tilt(0.5, quaternion=("qx", "qy", "qz", "qw"))
    half = 0.35
    turned = [(np.sin(half), 0, 0, np.cos(half)), (0, 0, 1.0, 0), (2 * np.sin(half), 0, 0, 2 * np.cos(half))]
    assert excess(by_quaternion, *turned, names=names) == pytest.approx([0.2, -0.5, 0.2], abs=1e-5)


def test_the_binary_form_is_the_published_one():
    wall = Constraints(limits={"wall": Limit("x", high=1)})
    assert wall.h(np.array([[0.0], [1.0], [1.001], [50]]), ["x"]).tolist() == [-1, -1, 25, 25]


def test_the_signed_form_is_zero_at_the_limit_and_level_beyond_what_is_near():
    wall = Constraints(limits={"wall": Limit("x", high=1, near=0.5)})
    state = np.array([[-3.0], [0.5], [0.75], [1.0], [1.25], [1.5], [9]])
    assert wall.h(state, ["x"]).tolist() == [-1, -1, -0.5, 0, 12.5, 25, 25]


def test_h_is_the_worst_of_all_constraints():
    both = Constraints(
        limits={"wall": Limit("x", high=1, near=1)}, lengths={"speed": Length(("y",), 2, near=1)}, violation=4
    )
    state = np.array([[0.25, 0.0], [0.5, 1.75], [0.0, 2.5], [1.75, 2.5]])
    assert both.h(state, ["x", "y"]).tolist() == [-0.75, -0.25, 2.0, 3.0]


@given(st.floats(-5, 5), st.floats(-5, 5), st.sampled_from([None, 0.3]))
def test_h_is_above_zero_exactly_where_something_is_violated(x, y, near):
    constraints = Constraints(
        limits={"wall": Limit("x", high=2, near=near)},
        keep_out={"pole": KeepOut(center={"x": 0.0, "y": 1.0}, radius=0.5, near=near)},
        workspaces={"table": Workspace({"y": (-3, 3)}, near=near)},
    )
    violated = x > 2 or np.hypot(x, y - 1) < 0.5 or abs(y) > 3
    value = constraints.h(np.array([[x, y]]), ["x", "y"])[0]
    if abs(np.hypot(x, y - 1) - 0.5) > 1e-9:
        assert (value > 0) == violated
    assert -1 <= value <= 25


def test_a_file_is_read_into_types(tmp_path):
    (tmp_path / "c.yaml").write_text(
        """
limits: {elbow: {entry: x, low: -2, high: 2, near: 0.1}}
lengths: {speed: {entries: [x, y], most: 1.5}}
workspaces: {cell: {box: {x: [-1, 1], y: [0, 2]}}}
keep_out: {pole: {center: {x: 0.1, y: 0}, radius: 0.2}, table: {box: {z: [-1, 0]}, near: 0.05}}
tilts: {upright: {most: 0.4, quaternion: [a, b, c, d]}}
logged: true
violation: 10
"""
    )
    read = read_constraints(tmp_path / "c.yaml")
    assert list(read.named) == ["elbow", "speed", "cell", "pole", "table", "upright"]
    assert read.logged and read.violation == 10
    assert read.named["table"] == KeepOut(box={"z": (-1.0, 0.0)}, near=0.05)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "here: no constraint; known kinds: limits, lengths, workspaces, keep_out, tilts, or logged: true"),
        ({"limit": {}}, "unknown key 'limit' in here; did you mean 'limits'"),
        ({"limits": {"a": {"entry": "x", "hihg": 1}}}, "unknown key 'hihg' in here.limits.a; did you mean 'high'"),
        ({"limits": {"a": {"entry": "x"}}}, "limits.a: expected low, high or both"),
        ({"limits": {"a": {"entry": "x", "low": 2, "high": 1}}}, "limits.a: low 2 is not below high 1"),
        ({"limits": {"a": {"entry": "x", "high": 1, "near": 0}}}, "near"),
        ({"limits": {"a": {"entry": "x", "high": float("nan")}}}, "high"),
        ({"lengths": {"a": {"entries": [], "most": 1}}}, "entries"),
        ({"lengths": {"a": {"entries": ["x"], "most": -1}}}, "most"),
        ({"workspaces": {"a": {"box": {"x": [1, 0]}}}}, "workspaces.a: box.x: 1 is not below 0"),
        ({"keep_out": {"a": {"radius": 1}}}, "keep_out.a: expected a box, or a center and a radius"),
        ({"keep_out": {"a": {"center": {"x": 0}}}}, "keep_out.a: expected a box, or a center and a radius"),
        ({"keep_out": {"a": {"center": {"x": 0}, "radius": 1, "box": {"x": [0, 1]}}}}, "expected a box, or"),
        ({"tilts": {"a": {"most": 1}}}, "tilts.a: expected roll_pitch or quaternion"),
        ({"limits": {"a": {"entry": "x", "high": 1}}, "lengths": {"a": {"entries": ["x"], "most": 1}}}, "called 'a'"),
        ({"logged": True, "violation": 0.5}, "violation"),
    ],
)
def test_what_says_nothing_or_contradicts_itself_is_refused(mapping, message):
    with pytest.raises(InputError, match=message):
        constraints_from(mapping, "here")


def test_an_unknown_state_entry_is_named_with_the_nearest():
    wall = Constraints(limits={"wall": Limit("elbw", high=1)})
    with pytest.raises(InputError, match="unknown state entry 'elbw' in constraint 'wall'; did you mean 'elbow'"):
        wall.h(np.zeros((1, 1)), ["elbow"])
