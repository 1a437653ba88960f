"""Score and success as one reward; potentials change nothing about what is best (Ng, Harada & Russell, 1999)."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rewards.shaping import Shape, scale_of, scaled, shaped

SCORE = np.array([-0.75, -0.5, -0.25, np.nan])
BEFORE = np.array([-1.0, -0.75, -0.5, -0.25])
SUCCESS = np.array([0.0, 0.0, 1.0, np.nan])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Shape.AS_IS, [-0.75, -0.5, -0.25, np.nan]),
        (Shape.BONUS, [-0.75, -0.5, 6.75, np.nan]),
        (Shape.SPARSE, [-1, -1, 0, np.nan]),
        # -1 + 0.8 * -0.75 + 1;   -1 + 0.8 * -0.5 + 0.75;   0 + 0.8 * 0 + 0.5
        (Shape.POTENTIAL, [-0.6, -0.65, 0.5, np.nan]),
    ],
)
def test_the_rewards_of_an_episode_by_hand(shape: Shape, expected: list[float]):
    found = shaped(shape, SCORE, BEFORE, SUCCESS, gamma=0.8, bonus=7.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_as_it_is_needs_no_success_and_sparse_needs_no_score():
    np.testing.assert_allclose(shaped(Shape.AS_IS, SCORE, None, None, 0.9, 1.0), SCORE)
    np.testing.assert_allclose(shaped(Shape.SPARSE, None, None, SUCCESS, 0.9, 1.0), SUCCESS - 1)


@pytest.mark.parametrize(
    ("shape", "missing"),
    [
        (Shape.AS_IS, "score"),
        (Shape.SPARSE, "success"),
        *((Shape.BONUS, name) for name in ("score", "success")),
        *((Shape.POTENTIAL, name) for name in ("score", "before", "success")),
    ],
)
def test_a_reward_is_never_made_of_what_is_not_there(shape: Shape, missing: str):
    values = {"score": SCORE, "before": BEFORE, "success": SUCCESS}
    with pytest.raises(ValueError, match=shape.value):
        shaped(shape, **(values | {missing: None}), gamma=0.9, bonus=1.0)


def best_values(transition: np.ndarray, reward: np.ndarray, done: np.ndarray, gamma: float) -> np.ndarray:
    """Q* of shape (S, A) by value iteration: reward and end depend on (s, s'), shape (S, S) and (S,)."""
    q = np.zeros(transition.shape[:2])
    for _ in range(2000):
        target = reward + gamma * np.where(done, 0.0, q.max(1))[None]
        updated = np.einsum("sap,sp->sa", transition, target)
        if np.abs(updated - q).max() < 1e-12:
            break
        q = updated
    return q


def problem(seed: int, states: int = 6, actions: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A random decision problem that ends with success in its last state, and a score of each state in [-1, 0]."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(states, 0.3), (states, actions))
    score = rng.uniform(-1, 0, states)
    done = np.arange(states) == states - 1
    success = np.broadcast_to(done.astype(float), (states, states))
    return transition, score, done, success


def rewards(shape: Shape, score: np.ndarray, success: np.ndarray, gamma: float) -> np.ndarray:
    """Of every transition s to s', shape (S, S)."""
    states = len(score)
    after = np.broadcast_to(score[None], (states, states)).ravel()
    before = np.broadcast_to(score[:, None], (states, states)).ravel()
    return shaped(shape, after, before, success.ravel(), gamma, 10.0).reshape(states, states).astype(np.float64)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.floats(0.5, 0.97))
def test_potentials_leave_the_best_policy_as_it_is(seed: int, gamma: float):
    transition, score, done, success = problem(seed)
    sparse = best_values(transition, rewards(Shape.SPARSE, score, success, gamma), done, gamma)
    potential = best_values(transition, rewards(Shape.POTENTIAL, score, success, gamma), done, gamma)
    # Telescoped, every return is moved by the potential that it began with: no action gains over another.
    np.testing.assert_allclose(potential, sparse - score[:, None], atol=1e-4)
    top = np.sort(sparse, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-3
    np.testing.assert_array_equal(potential.argmax(1)[clear], sparse.argmax(1)[clear])


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_with_another_discount_than_the_learner_s_potentials_do_change_values(seed: int):
    transition, score, done, success = problem(seed)
    assume(np.abs(score[:-1]).max() > 0.2)
    sparse = best_values(transition, rewards(Shape.SPARSE, score, success, 0.9), done, 0.9)
    other = best_values(transition, rewards(Shape.POTENTIAL, score, success, 0.5), done, 0.9)
    assert np.abs(other - (sparse - score[:, None])).max() > 1e-2


def test_a_score_as_it_is_can_make_another_policy_the_best():
    """What potentials are for: the check above can fail."""
    changed = 0
    for seed in range(20):
        transition, score, done, success = problem(seed)
        sparse = best_values(transition, rewards(Shape.SPARSE, score, success, 0.9), done, 0.9)
        as_is = best_values(transition, rewards(Shape.AS_IS, score, success, 0.9), done, 0.9)
        changed += int((sparse.argmax(1) != as_is.argmax(1)).any())
    assert changed > 5


SCORES = st.lists(st.floats(-50, 50), min_size=2, max_size=60).map(np.array)


@given(SCORES)
def test_scaled_scores_are_in_minus_one_to_nothing_and_in_the_same_order(scores: np.ndarray):
    found = scaled(scores, scale_of(scores))
    assert ((found >= -1) & (found <= 0)).all()
    assert (np.diff(found[np.argsort(scores)]) >= 0).all()


@given(SCORES, st.floats(0.1, 100), st.floats(-100, 100))
def test_the_scale_makes_up_for_any_other_scale(scores: np.ndarray, factor: float, offset: float):
    assume(np.ptp(scores) > 1e-2)
    moved = factor * scores + offset
    np.testing.assert_allclose(scaled(moved, scale_of(moved)), scaled(scores, scale_of(scores)), atol=1e-6)


def test_all_but_the_outermost_hundredths_span_the_range():
    scores = np.arange(1001.0)
    assert scale_of(scores) == (pytest.approx(990), pytest.approx(980))
    np.testing.assert_allclose(
        scaled(np.array([-500.0, 10, 500, 745, 990, 5000]), scale_of(scores)), [-1, -1, -0.5, -0.25, 0, 0]
    )


def test_what_has_no_score_does_not_count_and_stays_without():
    scores = np.array([np.nan, 0.0, 1.0, 2.0, np.nan])
    assert scale_of(scores) == scale_of(scores[1:4])
    assert np.isnan(scaled(scores, scale_of(scores))).tolist() == [True, False, False, False, True]


def test_scores_that_are_all_the_same_are_no_division_by_nothing():
    np.testing.assert_array_equal(scaled(np.full(5, 0.3), scale_of(np.full(5, 0.3))), np.zeros(5))
