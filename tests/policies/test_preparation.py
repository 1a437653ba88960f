"""Between a robot's units and a network's: inverse of each other, within limits, fixed by the offline data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.errors import InputError
from episodes.transitions import Batch, SamplingConfig, Transitions
from policies.preparation import Preparation, prepare_from

number = st.floats(-50, 50, width=32)


def transitions(
    contract: Contract, rng: np.random.Generator, chunk: int = 1, steps: int = 9, features: int = 0, history: int = 1
) -> Transitions:
    """Two episodes; actions are anywhere within limits, or within [-3, 3] where there is none."""
    data = Transitions(
        SamplingConfig(chunk=chunk, history=history), len(contract.state), len(contract.action), features
    )
    low, high = contract.action_low, contract.action_high
    low, high = np.where(np.isfinite(low), low, -3), np.where(np.isfinite(high), high, 3)
    for _ in range(2):
        data.add(
            rng.normal(1.0, 4.0, (steps + 1, len(contract.state))).astype(np.float32),
            rng.uniform(low, high, (steps, len(contract.action))).astype(np.float32),
            np.zeros(steps, np.float32),
            np.zeros(steps, bool),
            rng.normal(size=(steps + 1, features)).astype(np.float32) if features else None,
        )
    return data


def unlimited(contract: Contract) -> Contract:
    action = tuple(ActionEntry(entry.name, reference=entry.reference) for entry in contract.action)
    return Contract(contract.name, contract.state, action)


def test_observations_are_standardised_by_mean_and_deviation_plus_a_thousandth(contract):
    """Of everything that a transition begins or ends with; what lies after the task's end is no part of it."""
    rng = np.random.default_rng(0)
    data, table = Transitions(SamplingConfig(chunk=2), 3, 2), []
    for ends in (9, 4):
        state = rng.normal(1.0, 4.0, (10, 3)).astype(np.float32)
        data.add(state, np.zeros((9, 2), np.float32), np.zeros(9, np.float32), np.arange(1, 10) == ends)
        table.append(state[: ends + 1].astype(np.float64))
    table = np.concatenate(table)
    made = prepare_from(data, contract)
    np.testing.assert_allclose(made.mean, table.mean(0), rtol=1e-5)
    np.testing.assert_allclose(made.std, table.std(0) + 1e-3, rtol=1e-5)
    seen = made.observation(torch.from_numpy(table).float(), None).numpy()
    np.testing.assert_allclose(seen, (table - table.mean(0)) / (table.std(0) + 1e-3), rtol=1e-4, atol=1e-4)


def test_a_state_that_never_changes_is_no_division_by_zero(contract):
    data = Transitions(SamplingConfig(), 3, 2)
    data.add(np.full((4, 3), 2.5, np.float32), np.zeros((3, 2), np.float32), np.zeros(3, np.float32), np.zeros(3, bool))
    made = prepare_from(data, contract)
    assert made.std.tolist() == pytest.approx([1e-3] * 3)
    assert made.observation(data.observed()[0], None).abs().max() == 0


def test_without_normalisation_networks_see_the_state_as_it_is(contract):
    data = transitions(contract, np.random.default_rng(0), features=2)
    made = prepare_from(data, contract, normalise=False)
    expected = torch.cat([data.observed()[0], data.observed()[1]], 1)
    assert torch.equal(made.observation(data.observed()[0], data.observed()[1]), expected)


def test_image_features_stand_beside_the_state_and_are_standardised_too(contract):
    data = transitions(contract, np.random.default_rng(0), features=5)
    made = prepare_from(data, contract)
    assert made.observation_size == 8
    table = np.concatenate([data.observed()[0], data.observed()[1]], 1)
    np.testing.assert_allclose(made.mean, table.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(made.std, table.std(0) + 1e-3, rtol=1e-5)


def test_the_policy_sees_only_the_chosen_state_entries_in_the_contracts_order(contract):
    data = transitions(contract, np.random.default_rng(0))
    made = prepare_from(data, contract, state_entries=("speed", "x"), normalise=False)
    assert made.observation_size == 2
    assert torch.equal(made.observation(data.observed()[0], None), data.observed()[0][:, [0, 2]])


def test_an_angle_that_turns_round_is_seen_as_sine_and_cosine(contract):
    """After the other entries, before image features; a full turn changes nothing; normalised like everything."""
    turning = Contract("arm", (contract.state[0], StateEntry("yaw", "rad", periodic=True)), contract.action)
    data = Transitions(SamplingConfig(), 2, 2, 1)
    state = np.array([[5.0, 0.0], [6.0, np.pi / 2], [7.0, np.pi], [8.0, -np.pi / 6]], np.float32)
    bright = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32)
    data.add(state, np.zeros((3, 2), np.float32), np.zeros(3, np.float32), np.zeros(3, bool), bright)
    made = prepare_from(data, turning, normalise=False)
    assert made.observation_size == 4
    expected = [[5, 0, 1, 0.1], [6, 1, 0, 0.2], [7, 0, -1, 0.3], [8, -0.5, np.sqrt(3) / 2, 0.4]]
    np.testing.assert_allclose(made.observation(data.observed()[0], data.observed()[1]), expected, atol=1e-6)
    round_once = data.observed()[0] + torch.tensor([0.0, 2 * np.pi])
    np.testing.assert_allclose(made.observation(round_once, data.observed()[1]), expected, atol=1e-5)
    table = np.array(expected)
    normalised = prepare_from(data, turning)
    np.testing.assert_allclose(normalised.mean, table.mean(0), atol=1e-6)
    np.testing.assert_allclose(normalised.std, table.std(0) + 1e-3, rtol=1e-5)
    assert prepare_from(data, turning, state_entries=("x",)).observation_size == 2


def test_limits_are_the_range_where_they_are_known(contract):
    """to_x in [-2, 6] and grip in [-1, 1]: the middle of the range is 0, its ends are -1 and 1."""
    made = prepare_from(transitions(contract, np.random.default_rng(0)), contract)
    assert made.center.tolist() == [[2.0, 0.0]] and made.scale.tolist() == [[4.0, 1.0]]
    state = torch.zeros(3, 3)
    action = torch.tensor([[[-2.0, 0.0]], [[2.0, 1.0]], [[6.0, -0.5]]])
    assert made.encode(state, action).tolist() == [[-1.0, 0.0], [0.0, 1.0], [1.0, -0.5]]
    assert torch.equal(made.decode(state, made.encode(state, action)), action)


def test_the_datas_range_stands_in_for_limits_that_are_not_known(contract):
    free = unlimited(contract)
    data = transitions(free, np.random.default_rng(0), steps=20)
    made = prepare_from(data, free)
    sent = data.all_actions().action[:, 0].numpy()
    np.testing.assert_allclose(made.center[0], (sent.max(0) + sent.min(0)) / 2, rtol=1e-5)
    np.testing.assert_allclose(made.scale[0], (sent.max(0) - sent.min(0)) / 2, rtol=1e-5)


def test_an_action_that_never_changes_stays_what_it_is(contract):
    free = unlimited(contract)
    data = Transitions(SamplingConfig(), 3, 2)
    data.add(np.zeros((4, 3), np.float32), np.full((3, 2), 0.7, np.float32), np.zeros(3, np.float32), np.zeros(3, bool))
    made = prepare_from(data, free)
    batch = data.all_actions()
    assert torch.isfinite(made.encode(batch.state, batch.action)).all()
    assert made.decode(batch.state[:1], torch.full((1, 2), -1.0)).flatten().tolist() == pytest.approx(
        [0.7, 0.7], abs=1e-5
    )


def test_relative_actions_are_relative_to_the_state_when_the_chunk_was_chosen(contract):
    """x is 1, 3, 7, 4; to_x is 2, 2, 9: chunks of 2 relative to x are (1, 1), (-1, 6) and (2, 2)."""
    data = Transitions(SamplingConfig(chunk=2), 3, 2)
    state = np.zeros((4, 3), np.float32)
    state[:, 0] = [1, 3, 7, 4]
    action = np.array([[2, 0.5], [2, -0.5], [9, 0.0]], np.float32)
    data.add(state, action, np.zeros(3, np.float32), np.zeros(3, bool))
    free = Contract(contract.name, contract.state, (ActionEntry("to_x", reference="x"), contract.action[1]))
    made = prepare_from(data, free, relative_actions=True)
    assert made.reference.tolist() == [0, -1]
    # First of the chunk: 1, -1, 2; second: 1, 6, 2. The grip has limits and no reference.
    assert made.center.tolist() == [[0.5, 0.0], [3.5, 0.0]]
    assert made.scale.tolist() == [[1.5, 1.0], [2.5, 1.0]]
    batch = data.all_actions()
    encoded = made.encode(batch.state, batch.action)
    expected = [[1 / 3, 0.5, -1.0, -0.5], [-1.0, -0.5, 1.0, 0.0], [1.0, 0.0, -0.6, 0.0]]
    torch.testing.assert_close(encoded, torch.tensor(expected))
    torch.testing.assert_close(made.decode(batch.state, encoded), batch.action)
    # The same numbers somewhere else are a target somewhere else.
    moved = made.decode(batch.state + 10, encoded)
    torch.testing.assert_close(moved[..., 0], batch.action[..., 0] + 10)
    torch.testing.assert_close(moved[..., 1], batch.action[..., 1])


def test_relative_targets_have_the_datas_range_and_are_still_within_the_limits(contract):
    data = transitions(contract, np.random.default_rng(0))
    made = prepare_from(data, contract, relative_actions=True)
    batch = data.all_actions()
    offset = (batch.action[:, 0, 0] - batch.state[:, 0]).numpy()
    assert made.center[0, 0].item() == pytest.approx((offset.max() + offset.min()) / 2, rel=1e-5)
    assert made.scale[0, 0].item() == pytest.approx((offset.max() - offset.min()) / 2, rel=1e-5)
    state = torch.tensor([[100.0, 0.0, 0.0], [-100.0, 0.0, 0.0]])
    assert made.decode(state, torch.zeros(2, 2))[:, 0, 0].tolist() == [6.0, -2.0]


@given(data=st.data(), chunk=st.integers(1, 4), relative=st.booleans(), limited=st.booleans())
def test_decoding_undoes_encoding_and_never_leaves_the_limits(data, chunk, relative, limited):
    low = data.draw(st.floats(-5, 4, width=32))
    high = low + data.draw(st.floats(0.125, 8, width=32))
    first = ActionEntry("to_x", "m", low, high, "x") if limited else ActionEntry("to_x", "m", reference="x")
    contract = Contract("arm", (StateEntry("x"), StateEntry("y")), (first, ActionEntry("grip", "", -1.0, 1.0)))
    source = transitions(contract, np.random.default_rng(data.draw(st.integers(0, 9))), chunk)
    made = prepare_from(source, contract, relative_actions=relative)
    batch = source.all_actions()
    encoded = made.encode(batch.state, batch.action)
    assert encoded.shape == (len(batch), chunk * 2) and encoded.abs().max() <= 1
    torch.testing.assert_close(made.decode(batch.state, encoded), batch.action, atol=1e-3, rtol=1e-4)
    anything = torch.tensor(data.draw(st.lists(number, min_size=2 * chunk, max_size=2 * chunk))).unsqueeze(0)
    state = torch.tensor([data.draw(st.lists(number, min_size=2, max_size=2))])
    out = made.decode(state, anything)
    assert out.shape == (1, chunk, 2)
    assert (out >= torch.from_numpy(contract.action_low)).all()
    assert (out <= torch.from_numpy(contract.action_high)).all()


def test_chunks_are_flat_for_the_network_and_their_ends_are_masked(preparation, batch):
    made: Preparation = preparation(chunk=3)
    rows: Batch = batch(0, rows=5, chunk=3)
    ready = made(rows)
    assert (made.chunk, made.action_size) == (3, 6)
    assert ready.action.shape == ready.valid.shape == (5, 6)
    for row in range(5):
        assert ready.action[row].tolist() == pytest.approx(rows.action[row].flatten().tolist())
        assert ready.valid[row].tolist() == [v for v in rows.valid[row].tolist() for _ in range(2)]
    assert torch.equal(ready.reward, rows.reward)
    assert torch.equal(ready.mask, rows.mask)
    assert torch.equal(ready.discount, rows.discount)
    assert torch.equal(ready.next_observation, rows.next_state)


# A history


@pytest.mark.parametrize("normalise", [True, False])
def test_each_observation_of_a_history_is_prepared_as_one_alone(normalise):
    """Oldest first; image features stand at the end, and are those of the newest one."""
    contract = Contract(
        "arm",
        (StateEntry("x"), StateEntry("yaw", "rad", periodic=True), StateEntry("y")),
        (ActionEntry("u", "", -1, 1),),
    )
    alone, three = (transitions(contract, np.random.default_rng(0), features=2, history=k) for k in (1, 3))
    one, many = (prepare_from(d, contract, normalise=normalise, state_entries=("x", "yaw")) for d in (alone, three))
    assert (one.observation_size, many.observation_size, many.history) == (5, 11, 3)
    batch = three.all_actions()
    assert batch.features is not None
    expected = [one.observation(batch.state[:, frame], batch.features) for frame in range(3)]
    seen = many.observation(batch.state, batch.features)
    assert torch.equal(seen, torch.cat([expected[0][:, :3], expected[1][:, :3], expected[2]], 1))
    ready = many(batch)
    assert torch.equal(ready.observation, seen)
    assert torch.equal(ready.action, one(alone.all_actions()).action)
    assert torch.equal(many.window.newest(seen), expected[2])
    assert torch.equal(many.window.moved_on(seen, 7 * expected[0])[:, :6], seen[:, 3:9])
    assert torch.equal(many.window.moved_on(seen, 7 * expected[0])[:, 6:], 7 * expected[0])


def test_statistics_count_every_observation_once_however_often_it_is_in_a_history(contract):
    """Two episodes whose first observations are far off, and stand in windows four times."""
    data = Transitions(SamplingConfig(history=4), 3, 2)
    states = np.array([[90.0, 1.0, 5.0], [1.0, 2.0, 5.0], [2.0, 3.0, 5.0]], np.float32)
    for _ in range(2):
        data.add(states, np.zeros((2, 2), np.float32), np.zeros(2, np.float32), np.zeros(2, bool))
    made = prepare_from(data, contract)
    np.testing.assert_allclose(made.mean, np.tile(states.mean(0), 4), rtol=1e-6)
    np.testing.assert_allclose(made.std, np.tile(states.std(0) + 1e-3, 4), rtol=1e-6)
    # An entry that never changes is 0 wherever it stands.
    assert made.observation(data.all_actions().state, None).unflatten(1, (4, 3))[..., 2].abs().max() == 0


def test_relative_actions_are_relative_to_the_newest_observation(contract):
    """x is 1, 3, 7; to_x is 2, 2: relative to the newest x that is 1 and -1, whatever was before."""
    data = Transitions(SamplingConfig(history=2), 3, 2)
    state = np.zeros((3, 3), np.float32)
    state[:, 0] = [1, 3, 7]
    data.add(state, np.array([[2, 0.5], [2, -0.5]], np.float32), np.zeros(2, np.float32), np.zeros(2, bool))
    made = prepare_from(data, contract, relative_actions=True)
    assert (made.center[0, 0], made.scale[0, 0]) == (0.0, 1.0)
    batch = data.all_actions()
    assert made.encode(batch.state, batch.action).tolist() == [[1.0, 0.5], [-1.0, -0.5]]
    assert torch.equal(made.decode(batch.state, made.encode(batch.state, batch.action)), batch.action)


def test_a_history_is_saved_and_what_was_saved_without_one_has_none(contract):
    three, one = (prepare_from(transitions(contract, np.random.default_rng(0), history=k), contract) for k in (3, 1))
    assert Preparation.of_tensors(three.tensors()).history == 3 == three.to(torch.device("cpu")).history
    assert "history" not in one.tensors() and Preparation.of_tensors(one.tensors()).history == 1


def test_states_of_another_history_are_refused(contract):
    """One number that is seen would be spread over a whole window, and nobody would know."""
    made = prepare_from(transitions(contract, np.random.default_rng(0), history=3), contract, state_entries=("x",))
    for state in (torch.zeros(2, 3), torch.zeros(2, 1, 3), torch.zeros(2, 2, 3)):
        with pytest.raises(ValueError, match="expected a history of 3"):
            made.observation(state, None)
    alone = prepare_from(transitions(contract, np.random.default_rng(0)), contract)
    with pytest.raises(ValueError, match="expected a history of 1"):
        alone.observation(torch.zeros(2, 3, 3), None)


def test_a_history_of_nothing_is_refused(contract):
    data = transitions(contract, np.random.default_rng(0), features=2, history=3)
    with pytest.raises(InputError, match="history 3: is of the state, and the policy would see no entry; leave it out"):
        prepare_from(data, contract, state_entries=())


def test_wrong_settings_are_refused_by_name(contract):
    data = transitions(contract, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"unknown state entry 'sped' in contract 'arm'; did you mean 'speed'\?"):
        prepare_from(data, contract, state_entries=("x", "sped"))
    with pytest.raises(InputError, match="see nothing"):
        prepare_from(data, contract, state_entries=())
    rigid = Contract(contract.name, contract.state, tuple(ActionEntry(e.name) for e in contract.action))
    with pytest.raises(InputError, match="names no reference"):
        prepare_from(data, rigid, relative_actions=True)
