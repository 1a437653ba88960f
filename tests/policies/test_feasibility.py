"""The filter: own action first and untouched, alternatives only when it fails, and a stop for whatever goes wrong."""

import numpy as np
import pytest
import torch

from episodes.errors import InputError
from policies.calibration import Familiarity
from policies.feasibility import FeasibilityFilter, FilteredPolicy, Ruling, rows_of
from policies.fisor import FISOR, FISORConfig

SEEN = {"state": np.array([0.1, -0.2], np.float32)}
OWN = np.array([0.123456789, -0.3], np.float32)


def model(preparation, chunk: int = 1, seed: int = 0) -> FISOR:
    config = FISORConfig(hidden=(8,), width=8, blocks=1, candidates=6)
    return FISOR(config, preparation(state=2, action=2, chunk=chunk), seed)


class FirstNumber(torch.nn.Module):
    """Two critics whose Q_h is the first number of the action, less something."""

    def __init__(self, less: float = 0.0):
        super().__init__()
        self.less = less

    def forward(self, pair):
        value = pair[:, 2:3] - self.less
        return torch.stack([value, value])


@pytest.fixture
def judged(preparation):
    """Makes a filter by the first number of the action."""

    def make(less: float = 0.0, **options) -> FeasibilityFilter:
        known = model(preparation)
        known.actor.feasibility = FirstNumber(less)  # type: ignore[assignment]
        return FeasibilityFilter(known, **options)

    return make


class Ideas:
    """A policy with samples of its own."""

    def __init__(self, own=OWN, others=()):
        self.own, self.others, self.asked = own, np.array(others, np.float32).reshape(-1, 2), 0

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation):
        return self.own

    def samples(self, observation, count, generator):
        self.asked += 1
        return self.others


def test_a_feasible_action_passes_bit_for_bit_and_nobody_is_asked_for_another(judged):
    policy = Ideas(others=[[-1.0, 0.0]])
    found = judged(less=0.5).judge(SEEN, OWN, policy)
    assert found.ruling == Ruling.OWN and found.action is OWN and policy.asked == 0
    assert found.q_h == pytest.approx(OWN[0] - 0.5)


def test_what_is_accepted_is_at_most_minus_the_margin(judged):
    """Exactly at the margin is accepted: Q_h <= -margin."""
    for first, accepted in ((-0.25, True), (-0.2499, False)):
        own = np.array([first, 0.0], np.float32)
        found = judged(margin=0.25, alternatives=0).judge(SEEN, own)
        assert (found.ruling == Ruling.OWN) == accepted


def test_an_infeasible_action_gives_way_to_the_least_infeasible_alternative(judged):
    """Of the policy's samples and of the model's candidates together, whichever is lower."""
    best = Ideas(own=np.array([0.5, 0.0], np.float32), others=[[-0.99999, 0.5], [-0.2, 0.1]])
    found = judged(margin=0.1).judge(SEEN, best.own, best)
    assert found.ruling == Ruling.ALTERNATIVE and found.action is not None
    np.testing.assert_allclose(found.action, [-0.99999, 0.5], rtol=1e-5)
    worse = Ideas(own=best.own, others=[[0.9, 0.5]])
    from_model = judged(less=2.0, margin=1.2).judge(SEEN, np.array([0.95, 0.0], np.float32), worse)
    assert from_model.ruling == Ruling.ALTERNATIVE and from_model.action is not None
    assert from_model.action[0] < 0.8, "one of the model's own"


def test_where_nothing_is_accepted_it_stops(judged):
    found = judged(margin=5.0).judge(SEEN, OWN, Ideas(others=[[-1.0, 0.0]]))
    assert found.ruling == Ruling.STOP and found.action is None and "neither the action nor one of 7" in found.reason


def test_a_missing_model_a_state_that_is_not_finite_and_a_critic_that_says_nothing_are_stops(judged, preparation):
    assert FeasibilityFilter(None).judge(SEEN, OWN, Ideas()).ruling == Ruling.STOP
    for value in (np.nan, np.inf, -np.inf):
        broken = {"state": np.array([value, 0.0], np.float32)}
        found = judged(less=9.0).judge(broken, OWN, Ideas())
        assert (found.ruling, found.reason) == (Ruling.STOP, "the state is not finite")
    for value in (float("nan"), float("inf"), -float("inf")):
        assert judged(less=value).judge(SEEN, OWN, Ideas(others=[[0.0, 0.0]])).ruling == Ruling.STOP
    broken = model(preparation)
    for parameter in broken.actor.parameters():
        parameter.data.fill_(torch.nan)
    assert FeasibilityFilter(broken).judge(SEEN, OWN, Ideas(others=[[0.0, 0.0]])).ruling == Ruling.STOP


def test_an_action_that_is_none_never_passes(judged):
    """Not finite, or of another length: an alternative takes its place."""
    for own in (np.array([np.nan, 0.0]), np.array([0.0]), np.array([[0.0, 0.0]])):
        assert judged(less=2.0).judge(SEEN, own, Ideas()).ruling == Ruling.ALTERNATIVE


def test_no_alternatives_at_all_is_a_stop(judged, monkeypatch):
    strict = judged(margin=1.5)
    monkeypatch.setattr(strict, "_others", lambda *_: np.zeros((0, 2), np.float32))
    found = strict.judge(SEEN, OWN)
    assert found.ruling == Ruling.STOP and "there is no alternative" in found.reason


def test_alternatives_that_are_not_finite_are_none(judged):
    found = judged(less=2.0, margin=1.5).judge(
        SEEN, np.array([0.9, 0.0], np.float32), Ideas(others=[[np.nan, 0.0], [-np.inf, 0.0]])
    )
    assert found.action is None or np.isfinite(found.action).all()


def test_what_is_unknown_is_not_safe_however_good_it_looks(judged):
    """The logs hold actions near (0.12, -0.3) in this state; elsewhere the critic was never taught."""
    sure = judged(less=9.0)
    near = rows_of(sure.model, np.tile(SEEN["state"], (50, 1)), OWN + np.random.default_rng(0).normal(0, 0.01, (50, 2)))
    sure.familiarity = Familiarity.of(near[:25], near[25:])
    assert sure.judge(SEEN, OWN).ruling == Ruling.OWN
    found = sure.judge(SEEN, np.array([-0.9, 0.9], np.float32), Ideas(others=[OWN]))
    assert found.ruling == Ruling.ALTERNATIVE
    np.testing.assert_array_equal(found.action, OWN)
    elsewhere = {"state": np.array([5.0, 5.0], np.float32)}
    assert sure.judge(elsewhere, OWN, Ideas(others=[OWN])).ruling == Ruling.STOP


def test_its_draws_follow_from_the_seed(preparation):
    own = np.array([1.0, 1.0], np.float32)

    def drawn(seed: int, episode: int, before: int = 0) -> np.ndarray:
        judge = FeasibilityFilter(model(preparation), seed=seed)
        for _ in range(before):
            judge._others(SEEN, SEEN["state"], None)
        judge.reset(episode)
        return judge._others(SEEN, SEEN["state"], Ideas(own))

    assert np.array_equal(drawn(1, 2), drawn(1, 2, before=3))
    assert not np.array_equal(drawn(1, 2), drawn(1, 3)) and not np.array_equal(drawn(1, 2), drawn(2, 2))


def test_a_filtered_policy_acts_and_a_stop_is_what_the_robot_makes_of_it(judged):
    brake = np.array([9.0, 9.0], np.float32)
    for less, ruling, expected in ((5.0, Ruling.OWN, OWN), (-5.0, Ruling.STOP, brake)):
        filtered = FilteredPolicy(Ideas(), judged(less=less), lambda _: brake)
        filtered.reset(3)
        assert np.array_equal(filtered.act(SEEN), expected)
        assert filtered.counts[ruling] == 1 and sum(filtered.counts.values()) == 1


def test_what_cannot_be_judged_is_refused_beforehand(preparation):
    with pytest.raises(InputError, match="margin"):
        FeasibilityFilter(model(preparation), margin=-0.1)
    with pytest.raises(InputError, match="margin"):
        FeasibilityFilter(model(preparation), margin=float("nan"))
    with pytest.raises(InputError, match="chunks of 2"):
        FeasibilityFilter(model(preparation, chunk=2))
    with pytest.raises(InputError, match="judges single observations, and the model histories of 3"):
        FeasibilityFilter(FISOR(FISORConfig(hidden=(4,), width=4, blocks=1), preparation(history=3), 0))
