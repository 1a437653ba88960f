"""A robot's limits as constraints on its state: what the contract says, and what cannot be told from the state."""

import numpy as np
import pytest

from episodes.constraints import Length, Limit
from episodes.errors import InputError
from robot.constraints import constraints_of
from robot.contract_file import read_robot_contract
from tests.robot.contracts import REMOVED, SHIPPED, contract

WRENCH = {
    "topic": "wrench",
    "type": "geometry_msgs/msg/WrenchStamped",
    "rate": 10,
    "max_age": 0.25,
    "fields": [{"path": f"wrench.force.{axis}", "name": f"force_{axis}", "unit": "N"} for axis in "xyz"],
}


def test_positions_that_are_measured_have_their_range():
    constraints, left = constraints_of(contract())
    assert constraints.limits["shoulder of to_shoulder"] == Limit("shoulder", -1, 1, near=pytest.approx(0.2))
    assert constraints.limits["elbow of to_elbow"] == Limit("elbow", -2, 2, near=pytest.approx(0.4))
    assert len(constraints.named) == 2 and not left


def test_a_velocity_command_leaves_its_position_range():
    servo = contract(commands__1__fields__0__measured="tip_x", commands__1__fields__0__position=[0.1, 0.6])
    assert constraints_of(servo)[0].limits["tip_x of push"] == Limit("tip_x", 0.1, 0.6, near=pytest.approx(0.05))


def test_the_workspace_and_the_force_are_constraints_where_the_state_has_them():
    constraints, left = constraints_of(
        contract(
            safety__workspace={"tip_x": [0.0, 0.5]},
            safety__force={"topic": "wrench", "limit": 30, "max_age": 0.1},
            observations__2=WRENCH,
        )
    )
    assert constraints.workspaces["workspace"].box == {"tip_x": (0.0, 0.5)}
    assert constraints.lengths["force"] == Length(("force_x", "force_y", "force_z"), 30, near=pytest.approx(3.0))
    assert not left
    names = [entry.name for entry in contract(observations__2=WRENCH).layout().state]
    state = np.zeros((2, len(names)))
    state[1, names.index("force_z")] = 31
    assert (constraints.h(state, names) > 0).tolist() == [False, True]


def test_what_the_state_does_not_show_is_said():
    _, left = constraints_of(
        contract(
            safety__force={"topic": "wrench", "limit": 30, "max_age": 0.1},
            commands__0__fields__0__velocity=1.0,
            commands__0__fields__1__measured=REMOVED,
        )
    )
    assert [line.split(":")[0] for line in left] == [
        "the velocity of 'to_shoulder'",
        "the position of 'to_elbow'",
        "the force",
    ]
    scaled = contract(commands__0__fields__0__scale=2.0)
    assert "another unit" in constraints_of(scaled)[1][0]


def test_a_contract_that_limits_nothing_seen_is_refused():
    blind = contract(commands__0__fields__0__measured=REMOVED, commands__0__fields__1__measured=REMOVED)
    with pytest.raises(InputError, match="contract 'arm': limits no state entry"):
        constraints_of(blind)


def test_the_shipped_contract_has_some():
    shipped = read_robot_contract(SHIPPED)
    constraints, _ = constraints_of(shipped)
    assert constraints.named
    state = np.zeros((1, len(shipped.layout().state)))
    assert np.isfinite(constraints.h(state, shipped.layout().state_names)).all()
