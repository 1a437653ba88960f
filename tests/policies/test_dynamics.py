"""The learned dynamics against systems that are known, and what fitting must and must not look at."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from episodes.errors import InputError
from policies.dynamics import Dynamics, DynamicsConfig
from policies.preparation import Prepared, Window

A = torch.tensor([[0.9, 0.2], [-0.1, 0.8]])
B = torch.tensor([[0.0], [0.5]])
NOISE = torch.tensor([0.05, 0.2])
SMALL = {"members": 4, "elites": 2, "hidden": (32, 32), "batch_size": 64, "learning_rate": 3e-3, "weight_decay": 0.0}


def linear(rows: int, seed: int = 0, noise: torch.Tensor = NOISE) -> Prepared:
    """s' = A s + B a + noise, r = s_0 - a, everything of about unit size."""
    draw = torch.Generator().manual_seed(seed)
    observation = torch.randn(rows, 2, generator=draw)
    action = torch.rand(rows, 1, generator=draw) * 2 - 1
    following = observation @ A.T + action @ B.T + noise * torch.randn(rows, 2, generator=draw)
    ones = torch.ones(rows)
    return Prepared(
        observation=observation,
        action=action,
        valid=torch.ones(rows, 1),
        reward=observation[:, 0] - action[:, 0],
        next_observation=following,
        mask=ones,
        discount=0.99 * ones,
        return_to_go=0 * ones,
    )


def changed(batch: Prepared, **columns: torch.Tensor) -> Prepared:
    return Prepared(**({name: getattr(batch, name) for name in Prepared.__slots__} | columns))


def model(seed: int = 0, **settings) -> Dynamics:
    return Dynamics(DynamicsConfig(**(SMALL | settings)), 2, 1, seed)


@pytest.fixture(scope="module")
def fitted():
    made = model(epochs=40)
    return made, made.fit(linear(2000))


def test_the_loss_is_the_negative_log_likelihood_of_each_members_own_rows():
    """By scipy, in standardised units; what changed where the task ended does not count, its reward does."""
    made, batch = model(), linear(12)
    batch = changed(batch, mask=torch.tensor([1.0, 0.0] * 6))
    made.output_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    made.output_std.copy_(torch.tensor([0.5, 2.0, 3.0]))
    rows = torch.tensor([[0, 1, 2], [3, 3, 4], [11, 0, 5], [7, 8, 9]])
    expected = 0.0
    for member, own in enumerate(rows):
        mean, log_variance = (part[member].detach().numpy() for part in made(batch.observation[own], batch.action[own]))
        output = torch.cat([(batch.next_observation - batch.observation)[own], batch.reward[own, None]], 1)
        target = (output.numpy() - np.array([0.1, -0.2, 0.3])) / np.array([0.5, 2.0, 3.0])
        density = norm.logpdf(target, mean, np.exp(0.5 * log_variance))
        density[batch.mask[own].numpy() == 0, :2] = 0
        expected -= density.mean(0).sum()
    assert made.loss(batch, rows).item() == pytest.approx(expected + 0.01 * 3 * 10.5, rel=1e-4)


def test_log_variances_stay_between_their_soft_bounds():
    made = model()
    for bias, bound in ((60.0, 0.5), (-60.0, -10.0)):
        made.network.biases[-1].data.fill_(bias)
        _, log_variance = made(torch.zeros(3, 2), torch.zeros(3, 1))
        torch.testing.assert_close(log_variance, torch.full((4, 3, 3), bound), atol=1e-3, rtol=0)


def test_a_linear_system_is_found_with_its_noise(fitted):
    made, _ = fitted
    test = linear(500, seed=9, noise=torch.zeros(2))
    following, reward = made.predict(test.observation, test.action)
    assert (following - test.next_observation).square().mean().sqrt() < 0.06
    assert (reward - test.reward).square().mean().sqrt() < 0.1
    generator = torch.Generator().manual_seed(3)
    where, action = torch.tensor([[0.5, -0.5]]).repeat(4000, 1), torch.full((4000, 1), 0.3)
    drawn, _ = made.predict(where, action, generator)
    assert drawn.std(0).tolist() == pytest.approx(NOISE.tolist(), rel=0.5)


def test_sizes_do_not_matter():
    """The same system in other units is found as well: a change of 1e-3 beside one of 1e3, around a far-off mean."""
    scale, shift = torch.tensor([1e-3, 1e3]), torch.tensor([5.0, -2e4])
    batch, made = linear(1000), model(epochs=15)
    plain, plain_fit = model(epochs=15), None
    plain_fit = plain.fit(batch)
    scaled = changed(
        batch, observation=batch.observation * scale + shift, next_observation=batch.next_observation * scale + shift
    )
    fit = made.fit(scaled)
    torch.testing.assert_close(fit.errors, plain_fit.errors, rtol=0.2, atol=0.02)
    following, _ = made.predict(scaled.observation, scaled.action)
    assert (((following - scaled.next_observation) / scale).square().mean(0).sqrt() < NOISE + 0.15).all()


def test_an_imagined_episode_is_the_systems_own(fitted):
    """Closed loop, 15 steps, a = -s_1 / 2: s_t = (A - B [0, 1/2])^t s_0."""
    made, _ = fitted
    start = torch.tensor([[1.0, -0.5], [-0.8, 0.6]])
    imagined = made.rollout(start, lambda s: -0.5 * s[:, 1:], 15)
    closed = A - B @ torch.tensor([[0.0, 0.5]])
    expected = torch.stack([start @ torch.linalg.matrix_power(closed, t).T for t in range(16)])
    assert imagined.observation.shape == (16, 2, 2) and imagined.action.shape == (15, 2, 1)
    assert (imagined.observation - expected).abs().max() < 0.2
    torch.testing.assert_close(imagined.action, -0.5 * imagined.observation[:-1, :, 1:])
    rewarded = expected[:-1, :, 0] + 0.5 * expected[:-1, :, 1]
    assert (imagined.reward - rewarded).abs().max() < 0.25


PERIOD = 0.5


def pendulum(rows: int, seed: int = 0) -> Prepared:
    """x'' = a, seen by its place alone, three times: x_t+1 = 2 x_t - x_t-1 + a T^2. The reward is the velocity, x_t -
    x_t-1."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=draw)
    action = torch.rand(rows, 1, generator=draw) * 2 - 1
    following = 2 * x[:, 2:] - x[:, 1:2] + action * PERIOD**2
    ones = torch.ones(rows)
    return Prepared(
        observation=x,
        action=action,
        valid=torch.ones(rows, 1),
        reward=x[:, 2] - x[:, 1],
        next_observation=torch.cat([x[:, 1:], following], 1),
        mask=ones,
        discount=ones,
        return_to_go=0 * ones,
    )


def test_a_history_is_rolled_along_with_what_is_imagined():
    """Only the newest place is predicted; the others are bit for bit what they were. What one place does not show is
    known: a velocity goes on."""
    config = DynamicsConfig(**(SMALL | {"epochs": 40}))
    made = Dynamics(config, 3, 1, 0, Window(history=3, frame=1))
    assert made.lowest.shape == (2,), "one place and the reward"
    batch = pendulum(2000)
    made.fit(batch)
    start = torch.tensor([[0.0, 0.1, 0.2], [0.5, 0.3, 0.1], [0.4, 0.4, 0.4]])
    imagined = made.rollout(start, lambda s: torch.zeros(len(s), 1), 3)
    assert imagined.observation.shape == (4, 3, 3)
    assert torch.equal(imagined.observation[1:, :, :2], imagined.observation[:-1, :, 1:])
    speed = start[:, 2] - start[:, 1]
    expected = start[:, 2] + torch.arange(4.0)[:, None] * speed
    assert (imagined.observation[:, :, 2] - expected).abs().max() < 0.15
    assert (imagined.reward - speed).abs().max() < 0.1


def test_elites_are_the_members_with_the_smallest_held_out_errors_and_only_they_are_asked(fitted):
    made, fit = fitted
    rows = fit.held_out
    batch = linear(2000).at(rows)
    again = made.errors(batch)
    torch.testing.assert_close(again, fit.errors)
    assert fit.elites.tolist() == again.argsort()[:2].tolist() == made.elites.tolist()
    poisoned = model()
    poisoned.load_state_dict(made.state_dict())
    others = [member for member in range(4) if member not in fit.elites.tolist()]
    for weight in poisoned.network.weights:
        weight.data[others] = math.nan
    for generator in (None, torch.Generator().manual_seed(0)):
        imagined = poisoned.rollout(torch.zeros(200, 2), lambda s: s[:, :1], 3, generator)
        assert torch.isfinite(imagined.observation).all() and torch.isfinite(imagined.reward).all()


def test_by_chance_every_elite_is_asked(fitted):
    """Told apart by what they say: two elites of which one says +1 and one -1."""
    made, _ = fitted
    marked = model()
    marked.load_state_dict(made.state_dict())
    for name in ("weights", "biases"):
        getattr(marked.network, name)[-1].data.zero_()
    marked.lowest.data.fill_(-30.0)
    marked.network.biases[-1].data[..., 3:] = -100.0
    for member, sign in zip(marked.elites.tolist(), (1.0, -1.0), strict=True):
        marked.network.biases[-1].data[member, :, :3] = sign
    _, reward = marked.predict(torch.zeros(1000, 2), torch.zeros(1000, 1), torch.Generator().manual_seed(0))
    said = (reward - marked.output_mean[-1]) / marked.output_std[-1]
    assert (said > 0).float().mean().item() == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(said.abs(), torch.ones(1000), atol=1e-3, rtol=0)


def test_nothing_is_learned_from_held_out_rows(monkeypatch):
    """Neither weights nor standardisation: absurd held-out rewards change no more than when it is over."""
    batch, seen = linear(200), []
    loss = Dynamics.loss
    monkeypatch.setattr(
        Dynamics, "loss", lambda self, rows, draws: seen.append(rows.reward[draws]) or loss(self, rows, draws)
    )
    one = model(epochs=3)
    fit = one.fit(batch)
    assert fit.held_out.shape == (40,)
    learned = torch.cat([each.flatten() for each in seen])
    assert not torch.isin(learned, batch.reward[fit.held_out]).any()
    assert len(learned.unique()) > 140
    for one_member, another in zip(seen[0], seen[0][1:], strict=False):
        assert not torch.equal(one_member.sort().values, another.sort().values), "each has a bootstrap of its own"
    reward = batch.reward.clone()
    reward[fit.held_out] = 1e6
    other = model(epochs=3)
    other.fit(changed(batch, reward=reward))
    assert torch.equal(one.output_std, other.output_std) and torch.equal(one.input_mean, other.input_mean)


def test_it_is_over_when_no_member_gets_better_and_each_ends_at_its_best(monkeypatch):
    """On pure noise the held-out error soon rises."""
    batch = linear(120)
    noise = changed(batch, next_observation=torch.randn(120, 2), reward=torch.randn(120))
    curve = []
    errors = Dynamics.errors
    monkeypatch.setattr(Dynamics, "errors", lambda self, rows: curve.append(errors(self, rows)) or curve[-1])
    made = model(patience=3, learning_rate=1e-2)
    fit = made.fit(noise)
    assert fit.epochs == len(curve) < 100
    table = torch.stack(curve)
    assert (table[-1] > fit.errors).any(), "it went on after its best"
    assert (fit.errors <= table.amin(0) / 0.99 + 1e-6).all()
    rows = fit.held_out
    held_out = noise.at(rows)
    torch.testing.assert_close(errors(made, held_out), fit.errors)


def test_a_seed_decides_everything():
    states = [model(seed, epochs=2) for seed in (1, 1, 2)]
    for made in states:
        made.fit(linear(100))
    one, again, other = (made.network.weights[0] for made in states)
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (linear(9), "10 transitions or more, got 9"),
        (changed(linear(20), reward=torch.full((20,), math.nan)), "rewards that are not finite"),
    ],
)
def test_what_cannot_be_learned_from_is_said(batch, words):
    with pytest.raises(InputError, match=words):
        model().fit(batch)


def test_there_are_no_more_elites_than_members():
    with pytest.raises(InputError, match="elites 5: there are 4 members"):
        model(elites=5)
