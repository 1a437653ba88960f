"""The networks against torch's own layers and distributions."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from policies.networks import LOG_STD_RANGE, MLP, EnsembleMLP, GaussianPolicy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def policy(dropout: float = 0.0) -> GaussianPolicy:
    made = GaussianPolicy(3, 2, (8, 8), generator(), dropout)
    made.log_std.data = torch.tensor([0.3, -1.2])
    return made


def member(ensemble: EnsembleMLP, index: int) -> nn.Sequential:
    """One member, from torch's own layers."""
    layers: list[nn.Module] = []
    for weight, bias in zip(ensemble.weights, ensemble.biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[2])
        linear.weight.data, linear.bias.data = weight.data[index].T.clone(), bias.data[index, 0].clone()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_an_ensemble_is_its_members_side_by_side():
    ensemble = EnsembleMLP([4, 7, 5, 1], 3, generator())
    for bias in ensemble.biases:
        bias.data.uniform_(-1, 1)
    x = torch.randn(6, 4)
    expected = torch.stack([member(ensemble, index)(x) for index in range(3)])
    torch.testing.assert_close(ensemble(x), expected)


def test_members_begin_differently_and_do_not_mix():
    ensemble = EnsembleMLP([4, 7, 1], 2, generator())
    x = torch.randn(6, 4)
    before = ensemble(x).detach()
    assert not torch.allclose(before[0], before[1])
    ensemble(x)[0].sum().backward()
    for weight in ensemble.weights:
        assert weight.grad is not None
        assert weight.grad[1].abs().max() == 0 and weight.grad[0].abs().max() > 0


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5)])
def test_initial_weights_are_orthogonal_with_gain_sqrt_2_and_biases_zero(shape):
    layer = MLP(shape, generator()).layers[0]
    small = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
    torch.testing.assert_close(small @ small.T, 2 * torch.eye(len(small)))
    assert layer.bias.abs().max() == 0
    stacked = EnsembleMLP(shape, 2, generator()).weights[0][1]
    small = stacked if stacked.shape[0] <= stacked.shape[1] else stacked.T
    torch.testing.assert_close(small @ small.T, 2 * torch.eye(len(small)))


def test_a_seed_names_the_initial_weights_whatever_the_global_generator_did():
    torch.manual_seed(1)
    first = MLP([3, 8, 1], generator(5)).state_dict()
    torch.manual_seed(2)
    again, other = MLP([3, 8, 1], generator(5)).state_dict(), MLP([3, 8, 1], generator(6)).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_dropout_acts_only_with_a_generator_and_keeps_the_mean():
    network = MLP([3, 4000, 1], generator(), dropout=0.25)
    nn.init.ones_(network.layers[1].weight)
    x = torch.ones(1, 3)
    hidden = torch.relu(network.layers[0](x))
    assert torch.equal(network(x), network(x))
    torch.testing.assert_close(network(x), hidden.sum(1, keepdim=True), rtol=1e-4, atol=1e-2)
    noisy = network(x, generator(1))
    assert torch.equal(noisy, network(x, generator(1)))
    assert not torch.equal(noisy, network(x, generator(2)))
    # Kept with probability 3/4 and divided by it: the sum over 4,000 units is off by a few per cent at most.
    assert noisy.item() == pytest.approx(hidden.sum().item(), rel=0.06)
    assert noisy.item() != pytest.approx(hidden.sum().item(), rel=1e-6)


def test_log_prob_is_torchs_normal_over_the_valid_numbers():
    made = policy()
    observation, action = torch.randn(5, 3), torch.randn(5, 2)
    valid = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    mean = torch.tanh(made.trunk(observation))
    density = Normal(mean, torch.tensor([0.3, -1.2]).exp()).log_prob(action)
    rows = [[0, 1], [0], [1], [], [0, 1]]
    expected = torch.stack([density[row, columns].sum() for row, columns in enumerate(rows)])
    torch.testing.assert_close(made.log_prob(observation, action, valid), expected)


def test_numbers_that_are_not_valid_teach_nothing():
    made = policy()
    observation, action = torch.randn(1, 3), torch.tensor([[0.2, 0.4]])
    made.log_prob(observation, action, torch.tensor([[1.0, 0.0]])).sum().backward()
    assert made.log_std.grad is not None
    assert made.log_std.grad[1] == 0 and made.log_std.grad[0] != 0
    assert made.trunk.layers[-1].bias.grad[1] == 0


def test_the_tanh_is_on_the_mean_only():
    """No Jacobian of a squashed distribution, and samples that leave (-1, 1)."""
    made = policy()
    nn.init.zeros_(made.trunk.layers[-1].weight)
    made.trunk.layers[-1].bias.data = torch.tensor([3.0, -0.5])
    observation = torch.zeros(20_000, 3)
    assert made.mean(observation)[0].tolist() == pytest.approx([math.tanh(3.0), math.tanh(-0.5)])
    sample = made.sample(observation, generator())
    assert sample.abs().max() > 1.5
    assert sample.mean(0).tolist() == pytest.approx([math.tanh(3.0), math.tanh(-0.5)], abs=0.03)
    assert sample.std(0).tolist() == pytest.approx([math.exp(0.3), math.exp(-1.2)], rel=0.03)
    outside = torch.tensor([[1.7, -1.4]])
    expected = Normal(torch.tanh(torch.tensor([3.0, -0.5])), torch.tensor([0.3, -1.2]).exp()).log_prob(outside[0]).sum()
    got = made.log_prob(observation[:1], outside, torch.ones(1, 2))
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_standard_deviation_is_the_same_in_every_state():
    made = policy()
    near, far = made.sample(torch.zeros(1, 3), generator(3)), made.sample(torch.full((1, 3), 5.0), generator(3))
    spread = torch.tensor([0.3, -1.2]).exp() * torch.randn(1, 2, generator=generator(3))
    torch.testing.assert_close(near - made.mean(torch.zeros(1, 3)), spread)
    torch.testing.assert_close(far - made.mean(torch.full((1, 3), 5.0)), spread)


def test_log_std_is_clamped_to_the_published_range():
    assert LOG_STD_RANGE == (-5.0, 2.0)
    made = policy()
    made.log_std.data = torch.tensor([-9.0, 7.0])
    assert made.std.tolist() == pytest.approx([math.exp(-5), math.exp(2)])
    observation, action = torch.zeros(1, 3), torch.zeros(1, 2)
    expected = Normal(made.mean(observation), torch.tensor([-5.0, 2.0]).exp()).log_prob(action).sum(1)
    torch.testing.assert_close(made.log_prob(observation, action, torch.ones(1, 2)), expected)
    assert GaussianPolicy(3, 2, (8,), generator()).std.tolist() == [1.0, 1.0]
