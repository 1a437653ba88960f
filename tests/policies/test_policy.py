"""A policy at work: chunks in order, replanning, seeds."""

import numpy as np
import pytest
import torch

from episodes.episode import Source
from policies.bc import BC, BCConfig
from policies.checkpoint import actor_hash, save_checkpoint
from policies.policy import Policy


def learner(preparation, chunk: int = 3) -> BC:
    return BC(BCConfig(hidden=(16,)), preparation(chunk=chunk), seed=0)


def observation(seed: int) -> dict[str, np.ndarray]:
    return {"state": np.random.default_rng(seed).normal(size=3).astype(np.float32)}


def chosen(algorithm: BC, seed: int) -> np.ndarray:
    return algorithm.act(torch.from_numpy(observation(seed)["state"]).unsqueeze(0))[0].numpy()


def test_a_chunk_is_carried_out_in_order_before_the_next_is_chosen(preparation):
    algorithm = learner(preparation)
    policy = Policy(algorithm)
    policy.reset(0)
    acted = [policy.act(observation(step)) for step in range(7)]
    # What is seen at steps 0, 3 and 6 decides; what is seen in between does not.
    expected = [*chosen(algorithm, 0), *chosen(algorithm, 3), chosen(algorithm, 6)[0]]
    np.testing.assert_array_equal(np.array(acted), np.array(expected))
    assert acted[0].shape == (2,) and acted[0].dtype == np.float32
    assert not np.array_equal(expected[0], expected[3])


def test_reset_forgets_the_plan(preparation):
    algorithm = learner(preparation)
    policy = Policy(algorithm)
    policy.reset(0)
    policy.act(observation(0))
    policy.reset(0)
    np.testing.assert_array_equal(policy.act(observation(5)), chosen(algorithm, 5)[0])


def test_a_deterministic_policy_takes_the_mean_whatever_the_seed(preparation):
    policy = Policy(learner(preparation, 1))
    actions = []
    for seed in (1, 2):
        policy.reset(seed)
        actions.append([policy.act(observation(0)) for _ in range(2)])
    assert np.ptp(actions, axis=(0, 1)).max() == 0


def test_a_stochastic_policys_draws_follow_from_the_seed(preparation):
    policy = Policy(learner(preparation, 1), deterministic=False)

    def episode(seed: int) -> np.ndarray:
        policy.reset(seed)
        return np.array([policy.act(observation(0)) for _ in range(4)])

    first, again, other = episode(1), episode(1), episode(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_actions_are_within_the_limits_however_wide_the_policys_spread(preparation):
    algorithm = learner(preparation, 1)
    algorithm.actor.log_std.data.fill_(2.0)
    policy = Policy(algorithm, deterministic=False)
    policy.reset(0)
    actions = np.array([policy.act(observation(0)) for _ in range(100)])
    assert np.abs(actions).max() == 1.0


def test_a_sample_is_the_gaussians_not_the_mean(preparation):
    algorithm = learner(preparation, 1)
    algorithm.actor.log_std.data.fill_(-3.0)
    state = torch.zeros(4000, 3)
    sampled = algorithm.act(state, generator=torch.Generator().manual_seed(0))[:, 0]
    mean = algorithm.act(state)[0, 0]
    np.testing.assert_allclose(sampled.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(sampled.std(0), np.exp([-3.0, -3.0]), rtol=0.05)


def test_a_policy_is_named_by_what_its_actor_is_in_each_episode(preparation, contract, tmp_path):
    algorithm = learner(preparation)
    save_checkpoint(tmp_path / "c", algorithm, contract)
    policy, live = Policy.load(tmp_path / "c"), Policy(algorithm)
    policy.reset(0)
    live.reset(0)
    assert policy.policy_hash == live.policy_hash == actor_hash(algorithm) != 0
    assert policy.contract == contract
    assert policy.source == Source.POLICY
    with torch.no_grad():
        algorithm.actor.log_std += 1e-6
    live.reset(1)
    assert live.policy_hash != policy.policy_hash


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_loaded_policy_acts_as_the_one_that_was_saved(deterministic, preparation, contract, tmp_path):
    algorithm = learner(preparation)
    save_checkpoint(tmp_path / "c", algorithm, contract)
    loaded = Policy.load(tmp_path / "c", deterministic=deterministic)
    policies = [Policy(algorithm, deterministic=deterministic), loaded]
    for policy in policies:
        policy.reset(4)
    for step in range(5):
        np.testing.assert_array_equal(*(policy.act(observation(step)) for policy in policies))


class Brightness:
    """An encoder that says how bright a frame is."""

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1).mean(1, keepdims=True).astype(np.float32)


def test_a_policy_with_a_camera_sees_that_cameras_features_beside_the_state(preparation):
    algorithm = BC(BCConfig(hidden=(16,)), preparation(state=3), seed=0)
    # Two state entries and one feature.
    algorithm.preparation = type(algorithm.preparation)(
        **(algorithm.preparation.tensors() | {"seen": torch.tensor([0, 2])})
    )
    policy = Policy(algorithm, camera="wrist", encoder=Brightness())
    policy.reset(0)
    frame = np.ones((4, 4, 3), np.uint8)
    seen = observation(0) | {"image/wrist": 7 * frame, "image/front": 9 * frame}
    features = torch.tensor([[7.0]])
    expected = algorithm.act(torch.from_numpy(seen["state"]).unsqueeze(0), features)[0, 0].numpy()
    np.testing.assert_array_equal(policy.act(seen), expected)
    policy.reset(0)
    assert not np.array_equal(policy.act(seen | {"image/wrist": 200 * frame}), expected)


def test_samples_are_first_actions_and_leave_what_is_planned_as_it_is(preparation):
    algorithm = learner(preparation)
    asked, alone = Policy(algorithm), Policy(algorithm)
    for policy in (asked, alone):
        policy.reset(0)
        policy.act(observation(0))
    drawn = asked.samples(observation(1), 5, torch.Generator().manual_seed(3))
    rows = torch.from_numpy(observation(1)["state"]).expand(5, -1)
    expected = algorithm.act(rows, generator=torch.Generator().manual_seed(3))[:, 0].numpy()
    np.testing.assert_array_equal(drawn, expected)
    assert drawn.shape == (5, 2) and len(np.unique(drawn, axis=0)) == 5
    for number in range(1, 4):
        np.testing.assert_array_equal(asked.act(observation(number)), alone.act(observation(number)))


# A history


class Sighted(BC):
    """Notes what its network sees."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen: list[torch.Tensor] = []
        mean = self.actor.mean
        self.actor.mean = lambda observation: self.seen.append(observation) or mean(observation)


def looking(preparation, chunk: int = 1) -> Policy:
    policy = Policy(Sighted(BCConfig(hidden=(4,)), preparation(state=1, action=1, chunk=chunk, history=3), 0))
    policy.reset(0)
    return policy


def at(place: float) -> dict[str, np.ndarray]:
    return {"state": np.array([place], np.float32)}


def shown(policy: Policy) -> list[list[float]]:
    seen, policy.algorithm.seen = policy.algorithm.seen, []
    return [row for observation in seen for row in observation.tolist()]


def test_a_policy_sees_the_last_observations_of_its_episode(preparation):
    policy = looking(preparation)
    for place in (1, 2, 3, 4):
        policy.act(at(place))
    assert shown(policy) == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [2, 3, 4]]
    policy.reset(1)
    for place in (8, 9):
        policy.act(at(place))
    assert shown(policy) == [[8, 8, 8], [8, 8, 9]], "an episode knows nothing of the one before"


def test_a_history_goes_on_while_a_chunk_is_carried_out(preparation):
    policy = looking(preparation, chunk=3)
    for place in range(7):
        policy.act(at(place))
    assert shown(policy) == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]


def test_a_history_goes_on_while_somebody_else_acts_and_over_a_new_plan(preparation):
    policy = looking(preparation, chunk=9)
    policy.observe(at(1))
    policy.act(at(2))
    policy.observe(at(3))
    policy.replan(5)
    policy.act(at(4))
    assert shown(policy) == [[1, 1, 2], [2, 3, 4]]


def test_samples_are_of_the_history_and_leave_it_as_it_is(preparation):
    policy = looking(preparation)
    policy.algorithm.actor.sample = lambda observation, generator: policy.algorithm.actor.mean(observation)
    generator = torch.Generator()
    policy.samples(at(1), 2, generator)
    policy.act(at(1))
    policy.act(at(2))
    assert shown(policy) == [[1, 1, 1]] * 3 + [[1, 1, 2]]
    policy.samples(at(2), 2, generator)
    policy.samples(at(3), 2, generator)
    assert shown(policy) == [[1, 1, 2]] * 2 + [[1, 2, 3]] * 2
    policy.act(at(3))
    assert shown(policy) == [[1, 2, 3]]


def test_who_measures_into_the_same_array_changes_no_history(preparation):
    policy, measured = looking(preparation), at(0)
    for place in (1, 2, 3):
        measured["state"][:] = place
        policy.act(measured)
    assert shown(policy) == [[1, 1, 1], [1, 1, 2], [1, 2, 3]]


def test_a_history_is_in_the_checkpoint(preparation, contract, tmp_path):
    algorithm = BC(BCConfig(hidden=(16,)), preparation(history=2), seed=0)
    save_checkpoint(tmp_path / "c", algorithm, contract)
    policies = [Policy(algorithm), Policy.load(tmp_path / "c")]
    for policy in policies:
        policy.reset(0)
    for step in range(3):
        np.testing.assert_array_equal(*(policy.act(observation(step)) for policy in policies))
    assert len({policy.policy_hash for policy in policies}) == 1
