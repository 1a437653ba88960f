"""The gate in a world that is known: what it scores, where imagined episodes end, and whom it lets pass."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from episodes.errors import InputError
from policies.behaviour_ensemble import PolicyEnsemble
from policies.dynamics import Dynamics, DynamicsConfig, Rollout
from policies.networks import MLP, EnsembleMLP
from policies.off_policy_evaluation import Gate, Worth, best, passes
from policies.preparation import Prepared, Window

STEPS, DISCOUNT = 6, 0.9


class Known(Dynamics):
    """s' = s + a / 2, r = -s^2, on a line."""

    def predict(
        self, observation: Tensor, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return observation + 0.5 * action, -observation.square().squeeze(1)


class Quadratic(EnsembleMLP):
    """Two critics: slope * a - s^2, and one more."""

    def __init__(self, slope: float):
        super().__init__([2, 1], 2, torch.Generator())
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        q = self.slope * x[:, 1:] - x[:, :1].square()
        return torch.stack([q, q + 1])


class Square(MLP):
    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        return -x.square()


def line(rows: int = 64, ends_beyond: float = math.inf) -> Prepared:
    """Logs between -2 and 2; steps that start beyond some place end the task."""
    draw = torch.Generator().manual_seed(0)
    observation = torch.rand(rows, 1, generator=draw) * 4 - 2
    action = torch.rand(rows, 1, generator=draw) * 2 - 1
    ones = torch.ones(rows)
    return Prepared(
        observation=observation,
        action=action,
        valid=torch.ones(rows, 1),
        reward=-observation.square().squeeze(1),
        next_observation=observation + 0.5 * action,
        mask=(observation.squeeze(1) < ends_beyond).float(),
        discount=DISCOUNT * ones,
        return_to_go=0 * ones,
    )


def gate(batch: Prepared, starts: int = 32, members: int = 2) -> Gate:
    config = DynamicsConfig(members=2, elites=1, hidden=(4,), epochs=1)
    made = Gate(
        Known(config, 1, 1, 0), 1, 1, starts=starts, members=members, generator=torch.Generator().manual_seed(1)
    )
    made.survey(batch)
    return made


def constant(*actions: float) -> PolicyEnsemble:
    """Members that always do the same."""
    made = PolicyEnsemble(1, 1, (4,), len(actions), torch.Generator())
    with torch.no_grad():
        made.trunk.weights[-1].zero_()
        made.trunk.biases[-1].copy_(torch.tensor(actions).atanh().view(-1, 1, 1))
    return made


def by_loop(made: Gate, action: float, slope: float) -> tuple[float, float]:
    """Score and return of one constant policy, one start at a time; nothing ends."""
    worst = min(-(float(s) ** 2) for s in made.starts)
    scores, returns = [], []
    for start in made.starts.squeeze(1).tolist():
        state, known, total = start, True, 0.0
        for step in range(STEPS):
            known = known and float(made.low) <= state <= float(made.high)
            scores.append(slope * action - state**2 if known else worst)
            total += DISCOUNT**step * (-(state**2) if known else float(made.lowest_reward))
            state += 0.5 * action
        returns.append(total)
    return sum(scores) / len(scores), sum(returns) / len(returns)


def test_worth_is_the_critics_mean_and_the_models_discounted_return():
    """Two members at once against loops over starts and steps; one of them leaves what was observed."""
    made = gate(line())
    worth = made.worth(constant(0.1, 0.9), Quadratic(2.0), Square([1, 1], torch.Generator()), STEPS)
    for member, action in enumerate((0.1, 0.9)):
        score, imagined = by_loop(made, action, 2.0)
        assert worth.score[member].item() == pytest.approx(score, rel=1e-4)
        assert worth.imagined_return[member].item() == pytest.approx(imagined, rel=1e-4)
    assert (made.starts + 0.5 * 0.9 * STEPS > made.high).any(), "or leaving was not looked at"


def test_the_same_starts_are_asked_every_time():
    """Scores of two gates are compared: with starts of its own each, the luckier one would pass."""
    made, policies = gate(line()), constant(0.1, -0.2)
    one, again = (made.worth(policies, Quadratic(1.0), Square([1, 1], torch.Generator()), STEPS) for _ in range(2))
    assert torch.equal(one.score, again.score) and torch.equal(one.imagined_return, again.imagined_return)


def test_what_cannot_be_imagined_is_the_worst_and_not_nothing():
    """A model that says something that is no number costs the policy that led there, and no other."""

    class Broken(Known):
        def predict(self, observation, action, generator=None):
            following, reward = super().predict(observation, action)
            return torch.where(action > 0.5, math.nan, following), torch.where(action[:, 0] > 0.5, math.nan, reward)

    made = gate(line())
    made.dynamics.__class__ = Broken
    worth = made.worth(constant(0.1, 0.9), Quadratic(0.0), Square([1, 1], torch.Generator()), STEPS)
    assert torch.isfinite(worth.score).all()
    assert worth.score[1] < worth.score[0]
    assert not passes(worth, Worth(torch.full((2,), -math.inf), torch.zeros(2)), guarded=True)[1]


def test_who_has_left_what_was_observed_does_not_come_back():
    made = gate(line(), starts=2)
    made.starts.copy_(torch.tensor([[0.0], [1.0]]))
    imagined = made.dynamics.rollout(made.starts, lambda s: torch.where(s > 0.5, -s, s), 3)
    path = torch.tensor([[0.0, 1.0], [0.0, 9.0], [0.0, 1.0], [0.0, 1.0]]).unsqueeze(2)
    _, inside = made.alive(replace(imagined, observation=path))
    assert inside.tolist() == [[True, True], [True, False], [True, False]]


def test_of_a_history_the_newest_observation_says_whether_it_is_where_somebody_was():
    """Logs between -2 and 2, as two places: the older ones were never beyond 1, and are not asked."""
    draw = torch.Generator().manual_seed(0)
    plain = line()
    older = torch.rand(64, 1, generator=draw) * 2 - 1
    batch = replace(
        plain,
        observation=torch.cat([older, plain.observation], 1),
        next_observation=torch.cat([plain.observation, plain.next_observation], 1),
    )
    dynamics = Dynamics(DynamicsConfig(members=2, elites=1, hidden=(4,), epochs=1), 2, 1, 0, Window(2, 1))
    made = Gate(dynamics, 2, 1, starts=2, members=2, generator=torch.Generator().manual_seed(1))
    made.survey(batch)
    assert made.low.shape == made.high.shape == (1,) and made.starts.shape == (2, 2)
    assert torch.equal(made.high, gate(plain).high)
    path = torch.tensor(
        [[[0.0, 1.9], [0.0, 0.0]], [[1.9, 1.8], [0.0, 9.0]], [[1.8, 1.9], [9.0, 0.0]], [[0.0, 0.0]] * 2]
    )
    rollout = Rollout(path, torch.zeros(3, 2, 1), torch.zeros(3, 2))
    assert made.alive(rollout)[1].tolist() == [[True, True], [True, False], [True, False]]


def test_where_tasks_ended_imagined_episodes_do_too():
    """Nothing is worth anything after an end: the probability of still going on falls to 0 beyond 1."""
    made = gate(line(rows=2000, ends_beyond=1.0), starts=200)
    assert made.ends
    imagined = made.dynamics.rollout(made.starts, lambda s: torch.full_like(s, 0.8), STEPS)
    going, _ = made.alive(imagined)
    crossed = (imagined.observation[:-1] >= 1.25).squeeze(2)
    # What happens in the step itself still counts: dead is what comes after it.
    dead = torch.cat([torch.zeros_like(crossed[:1]), crossed[:-1]]).cummax(0).values
    assert going[dead].max() < 0.2
    below = torch.cat([torch.zeros_like(crossed[:1]), (imagined.observation[:-2] >= 0.75).squeeze(2)]).cummax(0).values
    assert going[~below].min() > 0.8
    assert torch.equal(going[0], torch.ones(200))


def test_logs_without_an_end_have_none():
    made = gate(line())
    assert not made.ends
    going, _ = made.alive(made.dynamics.rollout(made.starts, lambda s: torch.full_like(s, 0.8), STEPS))
    assert torch.equal(going, torch.ones_like(going))


def test_a_policy_that_a_corrupted_critic_prefers_does_not_pass():
    """Going away from 0 earns less at every step. A critic that likes it is believed only as published."""
    made, value = gate(line()), Square([1, 1], torch.Generator())
    home, away = PolicyEnsemble(1, 1, (4,), 2, torch.Generator()), PolicyEnsemble(1, 1, (4,), 2, torch.Generator())
    for policies, sign in ((home, -1.0), (away, 1.0)):
        steer(policies, sign)
    corrupted = Outwards()
    incumbent, candidate = (made.worth(policies, corrupted, value, STEPS) for policies in (home, away))
    assert (candidate.score > incumbent.score).all(), "or nobody was fooled"
    assert passes(candidate, incumbent, guarded=False).all()
    assert not passes(candidate, incumbent, guarded=True).any()
    honest = Quadratic(0.0)
    incumbent, candidate = (made.worth(policies, honest, value, STEPS) for policies in (away, home))
    assert passes(candidate, incumbent, guarded=True).all(), "a better one passes"


class Outwards(EnsembleMLP):
    """Thinks well of whatever leads away from 0."""

    def __init__(self):
        super().__init__([2, 1], 2, torch.Generator())

    def forward(self, x: Tensor) -> Tensor:
        return (100 * x[:, :1] * x[:, 1:]).expand(2, -1, -1)


def steer(policies: PolicyEnsemble, sign: float) -> None:
    """a = tanh(sign * s), by one pair of hidden units."""
    with torch.no_grad():
        for parameter in policies.parameters():
            parameter.zero_()
        policies.trunk.weights[0][:, 0, 0], policies.trunk.weights[0][:, 0, 1] = 1.0, -1.0
        policies.trunk.weights[1][:, 0], policies.trunk.weights[1][:, 1] = sign, -sign


def test_who_passes_is_better_by_the_critics_and_no_worse_by_the_model():
    incumbent = Worth(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0]), torch.tensor([5.0, 5.0, 5.0, 5.0, 5.0]))
    candidate = Worth(torch.tensor([2.0, 2.0, 1.0, math.nan, 2.0]), torch.tensor([5.0, 4.9, 9.0, 9.0, math.nan]))
    assert passes(candidate, incumbent, guarded=True).tolist() == [True, False, False, False, False]
    assert passes(candidate, incumbent, guarded=False).tolist() == [True, True, False, False, True]


def test_selected_is_whom_both_judges_think_well_of():
    """The critics' favourite is the model's last: the second of both is taken. As published it is the favourite."""
    worth = Worth(torch.tensor([9.0, 8.0, 7.0, 1.0]), torch.tensor([0.0, 8.0, 7.0, 9.0]))
    assert (best(worth, guarded=True), best(worth, guarded=False)) == (1, 0)
    nan = Worth(torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0]))
    assert best(nan, guarded=True) == best(nan, guarded=False) == 1


def test_too_little_to_hold_anything_out_is_said():
    with pytest.raises(InputError, match="10 transitions or more, got 9"):
        gate(line(rows=9))
    with pytest.raises(InputError, match="not finite"):
        gate(replace(line(), reward=torch.full((64,), math.nan)))
