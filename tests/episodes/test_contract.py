"""Contracts: what may stand in one, when two can share a store, and a hash that follows the content."""

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.contract import ActionEntry, Camera, Contract, StateEntry, contract_from, read_contract
from episodes.errors import InputError
from episodes.typed import plain

ARM = Contract(
    "arm",
    state=(StateEntry("joint_1", "rad"), StateEntry("joint_2", "rad")),
    action=(ActionEntry("joint_1", "rad", low=-1.0, high=2.0, reference="joint_1"), ActionEntry("gripper")),
    cameras=(Camera("wrist", 48, 64),),
    rate=10.0,
)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,6}", fullmatch=True)
units = st.sampled_from(["", "m", "rad/s", "N·m", "°"])
limits = st.none() | st.floats(-1e6, 1e6)


@st.composite
def contracts(draw) -> Contract:
    state = [StateEntry(name, draw(units)) for name in draw(st.lists(names, min_size=1, max_size=4, unique=True))]
    action = []
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        low, high = sorted([draw(st.floats(-1e6, 0)), draw(st.floats(1e-3, 1e6))])
        reference = draw(st.none() | st.sampled_from([entry.name for entry in state]))
        action.append(
            ActionEntry(
                name, draw(units), draw(st.none() | st.just(low)), draw(st.none() | st.just(high)), reference=reference
            )
        )
    cameras = [
        Camera(name, draw(st.integers(1, 999)), draw(st.integers(1, 999)))
        for name in draw(st.lists(names, max_size=2, unique=True))
    ]
    rate = draw(st.none() | st.floats(0.1, 1000))
    return Contract(draw(st.text(max_size=8)), tuple(state), tuple(action), tuple(cameras), rate)


@settings(max_examples=40)
@given(contracts())
def test_a_contract_survives_json_and_yaml_with_its_hash(contract: Contract):
    for back in (
        contract_from(plain(contract), "there"),
        contract_from(yaml.safe_load(yaml.safe_dump(plain(contract), sort_keys=False)), "there"),
    ):
        assert back == contract and back.hash == contract.hash
        assert back.layout_difference(contract) is None


def test_the_hash_stays_what_it_was():
    """Stores and runs hold it: a change here makes them strangers to their own contract."""
    assert ARM.hash == "f1c10afd8d6a3293"


def test_a_rate_in_whole_numbers_is_the_same_contract():
    assert replace(ARM, rate=10).hash == ARM.hash


@pytest.mark.parametrize(
    "change",
    [
        {"name": "leg"},
        {"state": ARM.state[::-1]},
        {"state": (StateEntry("joint_1", "deg"), ARM.state[1])},
        {"state": (StateEntry("joint_1", "rad", periodic=True), ARM.state[1])},
        {"action": (replace(ARM.action[0], low=-1.5), ARM.action[1])},
        {"action": (replace(ARM.action[0], high=None), ARM.action[1])},
        {"action": (replace(ARM.action[0], reference=None), ARM.action[1])},
        {"cameras": ()},
        {"cameras": (Camera("wrist", 64, 48),)},
        {"rate": 20.0},
        {"rate": None},
    ],
)
def test_whatever_differs_makes_another_hash(change: dict):
    assert replace(ARM, **change).hash != ARM.hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": ARM.state[:1]}, "state size 2 against 1"),
        ({"state": ARM.state[::-1]}, "state entry 0"),
        ({"state": (StateEntry("joint_1", "deg"), ARM.state[1])}, r"state entry 0 .*rad.*deg"),
        ({"action": (*ARM.action, ActionEntry("more"))}, "action size 2 against 3"),
        ({"action": (ActionEntry("elbow", "rad"), ARM.action[1])}, r"action entry 0 .*joint_1.*elbow"),
        ({"cameras": ()}, "camera size 1 against 0"),
        ({"cameras": (Camera("wrist", 48, 65),)}, r"camera entry 0 .*64.*65"),
        ({"cameras": (Camera("front", 48, 64),)}, r"camera entry 0 .*wrist.*front"),
    ],
)
def test_two_layouts_that_cannot_share_a_store_are_told_apart_in_words(change: dict, words: str):
    difference = ARM.layout_difference(replace(ARM, **change))
    assert difference is not None and "\n" not in difference
    assert re.search(words, difference), difference


def test_limits_and_references_do_not_change_what_the_numbers_mean_but_another_robot_or_rate_does():
    loose = tuple(replace(entry, low=None, high=None, reference=None) for entry in ARM.action)
    assert ARM.layout_difference(replace(ARM, action=loose)) is None
    assert ARM.layout_difference(replace(ARM, name="other")) == "name 'arm' against 'other'"
    assert "rate" in (ARM.layout_difference(replace(ARM, rate=7.0)) or "")


def test_missing_limits_are_infinite():
    np.testing.assert_array_equal(ARM.action_low, np.array([-1, -np.inf], np.float32))
    np.testing.assert_array_equal(ARM.action_high, np.array([2, np.inf], np.float32))
    assert ARM.action_low.dtype == ARM.action_high.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": ARM.state + ARM.state[:1]}, "state entry 'joint_1' is listed twice"),
        ({"action": ARM.action + ARM.action[1:]}, "action entry 'gripper' is listed twice"),
        ({"cameras": ARM.cameras * 2}, "camera entry 'wrist' is listed twice"),
        ({"action": ()}, "no action entries"),
        ({"state": (), "cameras": (), "action": (ActionEntry("u"),)}, "nothing can be observed"),
        ({"action": (ActionEntry("u", low=1.0, high=1.0),)}, "'u': low 1.0 is not below high 1.0"),
        ({"action": (ActionEntry("u", low=2.0, high=1.0),)}, "'u': low 2.0 is not below high 1.0"),
        ({"action": (ActionEntry("u", low=float("nan"), high=1.0),)}, "'u': low nan is not below"),
        ({"action": (ActionEntry("u", reference="joint_3"),)}, "reference 'joint_3' is no state entry"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused_and_says_where(change: dict, words: str):
    with pytest.raises(InputError, match=words):
        replace(ARM, **change).check()


def test_cameras_alone_can_be_observed():
    assert replace(ARM, state=(), action=(ActionEntry("u"),)).check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nmae": "x"}, r"unknown key 'nmae' in robot.yaml; did you mean 'name'\?"),
        ({"state": [{"name": "a", "unti": "m"}]}, r"unknown key 'unti' in robot.yaml.state.0; did you mean 'unit'\?"),
        ({"action": [{"nam": "a"}]}, r"unknown key 'nam' in robot.yaml.action.0; did you mean 'name'\?"),
        ({"cameras": [{"name": "c", "height": 0, "width": 4}]}, "robot.yaml: cameras.0.height: .* got 0"),
        ({"cameras": [{"name": "c", "height": 4.5, "width": 4}]}, r"cameras.0.height: .* got 4\.5"),
        ({"cameras": [{"name": "a/b", "height": 4, "width": 4}]}, "cameras.0.name: .* got 'a/b'"),
        ({"cameras": [{"name": "../x", "height": 4, "width": 4}]}, "cameras.0.name"),
        ({"rate": 0}, "rate: .* got 0"),
        ({"rate": float("nan")}, "rate: .* got nan"),
        ({"rate": "fast"}, "rate: .* got 'fast'"),
        ({"state": "x"}, "state: .* got 'x'"),
        ({"action": [{"name": "u", "low": "min"}]}, "action.0.low: .* got 'min'"),
        ({"action": [{"name": "u", "low": 3, "high": 2}]}, "low 3.0 is not below high 2.0"),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_one_line_that_says_where(change: dict, words: str):
    mapping = plain(ARM) | {"cameras": []} | change
    with pytest.raises(InputError, match=words) as caught:
        contract_from(mapping, "robot.yaml")
    assert "\n" not in str(caught.value)


def test_a_contract_is_read_from_yaml(tmp_path):
    (tmp_path / "arm.yaml").write_text(
        """
        name: arm
        state: [{name: joint_1, unit: rad}, {name: joint_2, unit: rad}]
        action: [{name: joint_1, unit: rad, low: -1, high: 2, reference: joint_1}, {name: gripper}]
        cameras: [{name: wrist, height: 48, width: 64}]
        rate: 10
        """
    )
    contract = read_contract(tmp_path / "arm.yaml")
    assert contract == ARM and contract.hash == ARM.hash
