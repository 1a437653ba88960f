"""Sampling: exact counts per source, the same batches for the same seed, and every transition in its turn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from episodes.sampler import Sampler, shares
from episodes.transitions import SamplingConfig, Transitions
from tests.episodes.making import make_episode


def source(number: int, steps: int) -> Transitions:
    """Transitions whose action says which source they are of, and whose reward says which step."""
    transitions = Transitions(SamplingConfig(), 2, 1)
    episode = make_episode(number, steps)
    action, reward = np.full((steps, 1), number, np.float32), np.arange(steps, dtype=np.float32)
    transitions.add(episode.state, action, reward, np.zeros(steps, bool))
    return transitions


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 7)), min_size=1, max_size=4), st.integers(0, 2**63 - 1))
def test_every_batch_has_exactly_the_rows_of_each_source_in_their_order(kinds, seed: int):
    if not any(count for _, count in kinds):
        kinds = [*kinds, (3, 2)]
    sampler = Sampler([(source(n, steps), count) for n, (steps, count) in enumerate(kinds)], seed)
    for _ in range(3):
        batch = sampler.sample()
        expected = [n for n, (_, count) in enumerate(kinds) for _ in range(count)]
        assert batch.action[:, 0, 0].tolist() == expected
        assert all(0 <= step < kinds[n][0] for n, step in zip(expected, batch.reward.tolist(), strict=True))


def test_every_transition_comes_as_often_as_any_other():
    sampler = Sampler([(source(0, 10), 64), (source(1, 3), 16)], seed=3)
    batches = [sampler.sample() for _ in range(200)]
    for number, steps, per_batch in ((0, 10, 64), (1, 3, 16)):
        drawn = torch.cat([batch.reward[batch.action[:, 0, 0] == number] for batch in batches])
        counts = torch.bincount(drawn.long(), minlength=steps).double()
        expected = 200 * per_batch / steps
        # Five standard deviations of a binomial count: the seed is fixed, so this holds always or never.
        assert (counts - expected).abs().max() < 5 * np.sqrt(expected * (1 - 1 / steps))
        assert len(counts) == steps


def test_a_source_that_grows_is_sampled_whole():
    growing = source(0, 1)
    sampler = Sampler([(growing, 50)], seed=0)
    assert set(sampler.sample().reward.tolist()) == {0}
    growing.add(np.zeros((2, 2), np.float32), np.zeros((1, 1), np.float32), np.array([9.0], np.float32), np.zeros(1))
    assert set(sampler.sample().reward.tolist()) == {0, 9}


def test_a_seed_says_which_batches_and_a_checkpoint_goes_on_with_them():
    def make(seed: int) -> Sampler:
        return Sampler([(source(0, 50), 8), (source(1, 50), 8)], seed)

    one, same, other = make(7), make(7), make(8)
    first = [one.sample().reward.tolist() for _ in range(4)]
    assert [same.sample().reward.tolist() for _ in range(4)] == first
    assert [other.sample().reward.tolist() for _ in range(4)] != first
    assert len({tuple(rewards) for rewards in first}) == 4
    state = one.state_dict()
    onward = [one.sample().reward.tolist() for _ in range(4)]
    torch.manual_seed(0)
    other.load_state_dict(state)
    assert [other.sample().reward.tolist() for _ in range(4)] == onward


def test_the_global_seed_is_neither_used_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn = Sampler([(source(0, 50), 8)], 7).sample().reward.tolist()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert Sampler([(source(0, 50), 8)], 7).sample().reward.tolist() == drawn


def test_an_empty_source_is_refused_unless_nothing_is_wanted_of_it():
    empty = Transitions(SamplingConfig(), 2, 1)
    with pytest.raises(InputError, match="cannot sample from a source without transitions"):
        Sampler([(source(0, 5), 4), (empty, 1)], seed=0)
    assert len(Sampler([(source(0, 5), 4), (empty, 0)], seed=0).sample()) == 4


@given(
    st.integers(0, 2000),
    st.lists(st.floats(0, 1) | st.just(0.5), min_size=1, max_size=6).filter(lambda f: sum(f) > 1e-6),
)
def test_shares_are_whole_sum_to_the_batch_and_lie_next_to_the_fractions(batch_size: int, fractions: list[float]):
    counts = shares(batch_size, fractions)
    assert sum(counts) == batch_size and len(counts) == len(fractions)
    for count, fraction in zip(counts, fractions, strict=True):
        assert abs(count - batch_size * fraction / sum(fractions)) < 1 + 1e-6
        assert isinstance(count, int) and count >= 0
        assert count == 0 or fraction > 0


@pytest.mark.parametrize(
    ("batch_size", "fractions", "counts"),
    [
        (256, [0.5, 0.5], [128, 128]),
        (255, [0.5, 0.5], [128, 127]),
        (10, [1, 1, 1], [4, 3, 3]),
        (100, [0.9, 0.07, 0.03], [90, 7, 3]),
        (10, [0.16, 0.24, 0.6], [2, 2, 6]),
        (8, [1, 0], [8, 0]),
        (0, [0.3, 0.7], [0, 0]),
        (7, [2], [7]),
    ],
)
def test_shares_by_hand(batch_size: int, fractions: list[float], counts: list[int]):
    assert shares(batch_size, fractions) == counts


@pytest.mark.parametrize("fractions", [[], [0.0], [0.0, 0.0], [0.5, -0.1], [0.5, float("nan")], [float("inf"), 1.0]])
def test_shares_of_nothing_or_less_are_refused(fractions: list[float]):
    with pytest.raises(InputError, match="fractions"):
        shares(8, fractions)
