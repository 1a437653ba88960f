"""The linear-quadratic task: its closed form against Bellman's equation, and against what is rolled out."""

import numpy as np
import pytest

from episodes.errors import InputError
from sim.linear_quadratic import (
    CAMERA,
    LIMIT,
    NOISE,
    A,
    B,
    LinearQuadraticTask,
    Q,
    R,
    ScriptedLinearQuadratic,
    best_gain,
    value,
)
from sim.operators import make_operator
from sim.rollout import rollout
from sim.task import make_task

STATES = np.array([[1.0, 0.0], [-0.5, 0.8], [0.0, -1.0], [0.3, 0.3]])
FOREVER = 2000


class Gain:
    """Acts by u = -K x."""

    source = ScriptedLinearQuadratic.source

    def __init__(self, gain: np.ndarray):
        self.gain = gain

    def reset(self, seed: int) -> None: ...

    def act(self, observation):
        return -self.gain @ observation["state"]


def task(horizon: int = 50) -> LinearQuadraticTask:
    made = make_task(f"linear-quadratic:horizon={horizon}")
    assert isinstance(made, LinearQuadraticTask)
    return made


@pytest.mark.parametrize("discount", [0.9, 0.99])
def test_the_best_gain_satisfies_bellmans_equation(discount):
    """V(x) = max_u r(x, u) + gamma E V(x'), the maximum by search, E by the three points that a quadratic needs."""
    gain = best_gain(discount)
    actions = np.linspace(-LIMIT, LIMIT, 3201)
    for x in STATES:
        reward = -(x @ Q @ x + R[0, 0] * actions**2)
        after = (A @ x)[None] + actions[:, None] @ B.T
        spread = np.sqrt(3) * NOISE
        expected = sum(
            share * value(after + sign * spread, gain, discount, FOREVER)
            for share, sign in ((1 / 6, -1), (2 / 3, 0), (1 / 6, 1))
        )
        total = reward + discount * expected
        assert total.max() == pytest.approx(value(x[None], gain, discount, FOREVER)[0], abs=1e-4)
        assert actions[total.argmax()] == pytest.approx(-(gain @ x).item(), abs=0.006)


def test_no_other_gain_is_worth_as_much():
    gain = best_gain(0.95)
    best = value(STATES, gain, 0.95, FOREVER)
    for change in np.random.default_rng(0).normal(0, 0.3, (20, 1, 2)):
        assert (value(STATES, gain + change, 0.95, FOREVER) < best).all()


@pytest.mark.parametrize(("gain", "discount"), [(best_gain(0.95), 0.95), (np.array([[1.0, 1.0]]), 1.0)])
def test_what_is_rolled_out_is_worth_what_the_closed_form_says(gain, discount):
    """200 episodes of 60 steps; within four standard errors, and these are a few per cent of the value."""
    made, off, values = task(60), [], []
    for seed in range(200):
        episode = rollout(made, Gain(gain), seed)
        assert episode.reward is not None and (np.abs(episode.action) < LIMIT).all(), "never clipped"
        found = (episode.reward * discount ** np.arange(60)).sum()
        values.append(value(episode.state[:1].astype(np.float64), gain, discount, 60)[0])
        off.append(found - values[-1])
    error = np.std(off) / np.sqrt(len(off))
    assert abs(np.mean(off)) < 4 * error
    assert error < 0.02 * abs(np.mean(values))


def test_one_step_by_hand():
    """Position 0.5 m, velocity -1 m/s, 2 m/s^2 for 0.1 s: to 0.41 m, -0.8 m/s; cost 0.25 + 0.1 + 0.4."""
    made = task()
    made.reset(seed=0)
    made._x = np.array([0.5, -1.0])
    observation, reward, terminated, truncated, _ = made.step(np.array([2.0]))
    assert reward == pytest.approx(-0.75)
    assert observation["state"][0] == pytest.approx(0.41) and abs(observation["state"][1] + 0.8) < 5 * NOISE[1]
    assert (terminated, truncated) == (False, False)


def test_the_noise_is_what_it_is_said_to_be():
    made, seen = task(), []
    for seed in range(500):
        start = made.reset(seed=seed)[0]["state"].astype(np.float64)
        seen.append(made.step(np.zeros(1))[0]["state"] - A @ start)
    np.testing.assert_allclose(np.std(seen, axis=0), NOISE, rtol=0.1, atol=1e-6)


def test_the_better_operator_earns_more_and_the_best_one_what_can_be_earned():
    made = task()
    returns = [
        np.mean([rollout(made, make_operator("scripted", made, quality), seed).reward.sum() for seed in range(40)])
        for quality in (0.0, 0.5, 1.0)
    ]
    assert returns[0] < returns[1] < returns[2]
    gain = best_gain(ScriptedLinearQuadratic.DISCOUNT)
    one, other = (rollout(made, operator, 3) for operator in (make_operator("scripted", made), Gain(gain)))
    np.testing.assert_allclose(one.action, other.action, atol=1e-5)
    with pytest.raises(InputError, match="quality"):
        ScriptedLinearQuadratic(made, -0.1)


def test_a_picture_shows_where_the_cart_is():
    made = make_task("linear-quadratic", cameras=[CAMERA], image_size=(40, 80))
    assert isinstance(made, LinearQuadraticTask)
    made.reset(seed=0)
    for position in (-1.5, 0.0, 1.0):
        made._x = np.array([position, 0.0])
        columns = np.nonzero((made._observe()[f"image/{CAMERA}"] == (200, 0, 0)).all(2))[1]
        assert columns.mean() == pytest.approx((position + 2) / 4 * 79, abs=1)
    assert made.render().shape == (256, 256, 3)


def test_what_it_has_not_is_refused():
    with pytest.raises(InputError, match="takes no gap in 'friction'"):
        make_task("linear-quadratic", gap="friction=2")
    with pytest.raises(InputError, match="did you mean 'linear-quadratic'"):
        make_task("linear-quadratics")
