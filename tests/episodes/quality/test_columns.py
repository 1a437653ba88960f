"""Limits, stillness and jumps: what is told of the store, and what must not be called a fault."""

from dataclasses import replace

import numpy as np
import pytest

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.quality.findings import Finding
from episodes.quality.rows import Rows
from episodes.quality.survey import survey
from tests.episodes.quality.logs import BLIND, clean_log, rows_of

RNG = np.random.Generator(np.random.PCG64(0))


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = np.random.PCG64(0).state


def rows(state: np.ndarray, action: np.ndarray, episode: int = 0) -> Rows:
    none = np.zeros(len(state), np.int64)
    state, action = state.astype(np.float32), action.astype(np.float32)
    return Rows(episode, state, action, none, none[: len(action)], np.full(len(action), np.nan))


def found(contract: Contract, *log: Rows) -> list[Finding]:
    return [each for each in survey(contract, lambda: log).findings if each.kind != "no stamps"]


def plain(state: int, action: int = 1, low: float | None = None, high: float | None = None) -> Contract:
    return Contract(
        "plain",
        tuple(StateEntry(f"s{i}") for i in range(state)),
        tuple(ActionEntry(f"a{i}", low=low, high=high) for i in range(action)),
    )


def noise(*shape: int) -> np.ndarray:
    return RNG.uniform(-0.9, 0.9, shape)


# Limits ----------------------------------------------------------------------------------------------------------


def test_how_far_an_action_leaves_its_limits_is_said():
    action = noise(50, 2)
    action[7, 1], action[9, 1] = -1.5, 1.2
    (one,) = found(plain(1, 2, -1.0, 1.0), rows(noise(51, 1), action))
    assert (one.kind, one.where) == ("outside limits", "a1")
    assert one.words == "a1 outside of the limits in 2 steps; a1 goes to -1.5 of [-1, 1]"


def test_rounding_beyond_a_limit_is_inside():
    action = noise(50, 1)
    action[3] = 1.0019  # a thousandth of the range is 0.002
    assert found(plain(1, 1, -1.0, 1.0), rows(noise(51, 1), action)) == []
    action[3] = 1.0021
    assert [each.kind for each in found(plain(1, 1, -1.0, 1.0), rows(noise(51, 1), action))] == ["outside limits"]


def test_a_limit_on_one_side_only_is_a_limit():
    action = noise(50, 1)
    action[3] = 1.5
    assert [e.kind for e in found(plain(1, 1, None, 1.0), rows(noise(51, 1), action))] == ["outside limits"]
    assert found(plain(1, 1, -1.0, None), rows(noise(51, 1), action)) == []


def test_being_at_a_limit_often_is_told_of_the_store_and_a_switch_is_not():
    action = np.clip(2 * noise(200, 2), -1, 1)
    action[:, 1] = np.sign(action[:, 1])
    (one,) = found(plain(1, 2, -1.0, 1.0), rows(noise(201, 1), action))
    assert (one.kind, one.episode) == ("saturated", None)
    assert "a0 at a limit in" in one.words and "a1" not in one.words


def test_an_end_that_no_contract_says_is_told_too():
    action = np.minimum(2 * noise(200, 1), 0.7)
    (one,) = found(plain(1), rows(noise(201, 1), action))
    assert one.kind == "saturated" and "a0 at its largest value, 0.7, in" in one.words


def test_a_hand_that_is_held_at_one_place_is_not_cut_off():
    """It gets there once and stays, and other episodes go on."""
    log = [rows(noise(101, 1), noise(100, 1), episode) for episode in range(6)]
    log[2].action[:] = np.minimum(np.linspace(-0.9, 0.9, 100), 0.3)[:, None]
    assert found(plain(1), *log) == []


def test_actions_that_come_back_to_their_ends_in_every_episode_are_not_cut_off():
    """Each episode has its own few levels, as a joystick with steps has."""
    levels = [(-0.9, -0.3, 0.2, 0.8), (-0.7, -0.1, 0.5, 0.9), (-0.5, 0.0, 0.1, 0.4), (-0.8, -0.2, 0.3, 0.6)]
    log = [rows(noise(101, 1), RNG.choice(each, (100, 1)), episode) for episode, each in enumerate(levels)]
    assert {each.kind for each in found(plain(1), *log)} <= {"saturated"}


def test_what_all_episodes_end_at_is_not_cut_off():
    """A hand that closes until its end in some episodes and hardly at all in others."""
    log = [
        rows(noise(101, 1), np.minimum(noise(100, 1) + shift, 0.9), e) for e, shift in enumerate([0, 0.4, 0, 0.8, 0])
    ]
    assert {each.kind for each in found(plain(1), *log)} <= {"saturated"}


# Stillness -------------------------------------------------------------------------------------------------------


def test_entries_that_never_change_are_told_of_the_store():
    state = noise(60, 3)
    state[:, 1] = 2
    (one,) = found(plain(3), rows(state, noise(59, 1)))
    assert (one.kind, one.episode, one.words) == ("constant", None, "s1 never change, in any episode")


def test_an_object_that_rests_until_it_is_touched_is_no_fault():
    log = []
    for episode in range(8):
        state = noise(80, 3)
        state[: 10 + 5 * episode, 2] = 0.25
        log.append(rows(state, noise(79, 1), episode))
    assert found(plain(3), *log) == []


def test_an_object_that_creeps_in_all_episodes_but_one_rests_in_that_one_too():
    log = []
    for episode in range(8):
        state = noise(80, 3)
        state[:40, 2] = 0.25 + (0 if episode == 5 else 1e-7 * np.arange(40))
        log.append(rows(state, noise(79, 1), episode))
    assert found(plain(3), *log) == []


def test_a_robot_that_stands_still_altogether_is_no_fault():
    log = []
    for episode in range(8):
        state, action = noise(80, 3), noise(79, 1)
        if episode == 2:
            state[30:60], action[30:60] = state[30], action[30]
        log.append(rows(state, action, episode))
    assert found(plain(3), *log) == []


def test_a_sensor_that_is_slower_than_the_log_is_no_fault():
    """Every value is there nine times in a row, in every episode."""
    log = [rows(np.c_[noise(90, 2), np.repeat(noise(10), 9)], noise(89, 1), episode) for episode in range(6)]
    assert found(plain(3), *log) == []


def test_of_an_entry_that_mostly_rests_a_longer_rest_is_no_fault():
    """It changes in every ninth step; in one episode it is left alone for half of it."""
    log = [rows(np.c_[noise(90, 2), np.repeat(noise(10), 9)], noise(89, 1), episode) for episode in range(6)]
    log[4].state[20:70, 2] = 0.5
    assert found(plain(3), *log) == []


def test_half_of_the_others_must_move_and_the_still_one_is_none_of_them():
    log = [rows(noise(80, 3), noise(79, 1), episode) for episode in range(6)]
    log[3].state[20:41, 1] = 0.5
    log[3].state[15:28, 2], log[3].state[30:44, 2] = 0.1, 0.2  # rests in between, in two parts
    assert {(each.kind, each.episode) for each in found(plain(3), *log)} == {("frozen state", 3)}


@pytest.mark.parametrize(("steps", "is_fault"), [(9, False), (10, True)])
def test_standing_still_is_a_fault_from_ten_steps_on(steps, is_fault):
    log = [rows(noise(80, 3), noise(79, 1), episode) for episode in range(5)]
    log[3].state[20 : 20 + steps + 1, 1] = 0.5
    assert [(each.kind, each.episode) for each in found(plain(3), *log)] == [("frozen state", 3)] * is_fault
    fast = replace(plain(3), rate=40.0)  # half a second is 20 steps
    assert found(fast, *log) == []


# Duplicates ------------------------------------------------------------------------------------------------------


def test_only_all_states_and_all_actions_make_a_duplicate():
    """Not a way that begins and ends at the same places, and not the same way by other actions."""
    state, action = noise(60, 2), noise(59, 1)
    detour, other = state.copy(), action.copy()
    detour[30], other[30] = 0.5, 0.5
    log = [rows(state, action, 0), rows(detour, action, 1), rows(state, other, 2), rows(state, action, 3)]
    assert [(each.kind, each.episode) for each in found(plain(2), *log)] == [("duplicate", 3)]


# Jumps -----------------------------------------------------------------------------------------------------------


def wandering(entries: int, steps: int = 300) -> np.ndarray:
    return np.cumsum(RNG.normal(0, 0.01, (steps + 1, entries)), axis=0)


def test_an_angle_that_turns_over_is_told_of_the_store_and_a_periodic_one_is_none():
    state = wandering(2)
    state[:, 1] = np.angle(np.exp(1j * (0.05 * np.arange(301) + state[:, 1])))
    contract = plain(2)
    (one,) = found(contract, rows(state, noise(300, 1)))
    assert (one.kind, one.episode) == ("turns over", None) and "s1 jump by 2 pi" in one.words
    periodic = replace(contract, state=(StateEntry("s0"), StateEntry("s1", "rad", periodic=True)))
    assert found(periodic, rows(state, noise(300, 1))) == []


def test_a_jump_by_two_pi_of_what_goes_farther_than_a_turn_is_a_jump():
    state = wandering(2)
    state[100:200, 1] += 2 * np.pi
    state[250:, 1] = np.linspace(0, 9, 51)
    assert {each.kind for each in found(plain(2), rows(state, noise(300, 1)))} == {"jump"}


def test_a_quaternion_may_change_sign():
    angle = np.linspace(0.3, 1.5, 301)
    state = np.stack([np.sin(angle), 0.3 + 0 * angle + 0.01 * np.sin(40 * angle), 0.1 * angle, np.cos(angle)], axis=1)
    state /= np.linalg.norm(state, axis=1, keepdims=True)
    state[150:] *= -1
    named = replace(plain(4), state=tuple(StateEntry(f"tool_quat.{axis}") for axis in "xyzw"))
    assert found(named, rows(state, noise(300, 1))) == []
    (one,) = found(plain(4), rows(state, noise(300, 1)))
    assert (one.kind, one.episode) == ("changes sign", None)
    state[200:] += 5  # and this is no change of sign
    assert {each.kind for each in found(named, rows(state, noise(300, 1)))} == {"jump"}


def test_a_jump_says_where_and_how_far():
    state = wandering(2)
    state[101:, 1] += 3
    (one,) = found(plain(2), rows(state, noise(300, 1), 0))
    assert (one.kind, one.episode, one.where) == ("jump", 0, "s1")
    assert "jump in 1 steps" in one.words and "after step 100" in one.words


def test_an_object_that_is_hit_now_and_then_does_not_jump():
    """Mostly it creeps by next to nothing: what it does when it is hit is the usual change."""
    state = wandering(2, 10_000)
    state[:, 1] = 3e-7 * (np.arange(10_001) % 2)
    hits = np.zeros(10_001)
    hits[50::125] = RNG.uniform(0.01, 0.02, 80)  # fewer than 1 in 100 of all changes
    state[:, 1] += np.cumsum(hits) - 0.5
    assert found(plain(2), rows(state, noise(10_000, 1))) == []


def test_one_number_that_becomes_its_opposite_jumps():
    state = wandering(2) + 5
    state[100:, 1] *= -1
    assert [(each.kind, each.where) for each in found(plain(2), rows(state, noise(300, 1)))] == [("jump", "s1")]


def test_what_is_moved_while_frames_are_missing_is_no_jump():
    state = np.stack([0.01 * np.arange(301), np.sin(0.02 * np.arange(301))], axis=1)
    keep = np.r_[0:100, 140:301]
    before = rows(state[keep], noise(len(keep) - 1, 1))
    log = [replace(before, observation_time=keep * 50_000_000 + 7)]
    assert {each.kind for each in found(plain(2), *log) if each.episode is not None} == {"gap"}
    assert {each.kind for each in found(plain(2), before) if each.episode is not None} == {"jump"}


def test_too_few_changes_say_nothing():
    state = wandering(1, 40)
    state[20:] += 5
    assert found(plain(1), rows(state, noise(40, 1))) == []


# All together ----------------------------------------------------------------------------------------------------


def test_a_log_without_state_can_be_surveyed():
    contract = Contract("seeing", (), (ActionEntry("a"),))
    measured = survey(contract, lambda: [rows(np.zeros((21, 0)), noise(20, 1))])
    assert measured.map is None and [each.kind for each in measured.findings] == ["no stamps"]


def test_an_episode_of_one_step_can_be_surveyed():
    short = [replace(each, state=each.state[:2], action=each.action[:1]) for each in clean_log(0, 3)]
    log = [replace(e, observation_time=None, action_time=None, source=None) for e in short]
    log += [replace(log[0], state=log[0].state[:1])]  # and without the observation after it
    kinds = {each.kind for each in survey(BLIND, lambda: rows_of(log)).findings}
    assert kinds <= {"no stamps", "saturated", "constant"}
