"""Several Gaussian policies that clone the same data and are pushed apart where they agree (Lei et al., 2024)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.algorithm import Info, Loss
from policies.networks import LOG_STD_RANGE, EnsembleMLP, GaussianPolicy


class PolicyEnsemble(nn.Module):
    """`members` policies of the form of `GaussianPolicy`, evaluated together; none knows of the others.

    The first dimension of every parameter is the member.
    """

    def __init__(
        self, observation_size: int, action_size: int, hidden: Sequence[int], members: int, generator: torch.Generator
    ):
        super().__init__()
        self.trunk = EnsembleMLP([observation_size, *hidden, action_size], members, generator)
        self.log_std = nn.Parameter(torch.zeros(members, 1, action_size))

    def __len__(self) -> int:
        return len(self.log_std)

    def mean(self, observation: Tensor) -> Tensor:
        """(B, O), or (M, B, O) for rows of each member's own, to (M, B, D), within (-1, 1)."""
        return torch.tanh(self.trunk(observation))

    @property
    def std(self) -> Tensor:
        """Shape (M, 1, D)."""
        return self.log_std.clamp(*LOG_STD_RANGE).exp()

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Shape (M, B): log densities of (B, D), or of (M, B, D) for actions of each member's own."""
        return log_density(action, self.mean(observation), self.std)

    def draw(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Actions that follow the parameters, not clipped: (B, O) and standard normal (M, B, D) to (M, B, D)."""
        return self.mean(observation) + self.std * noise

    def follow(self, other: "PolicyEnsemble", chosen: Tensor) -> None:
        """Take over another ensemble's members where `chosen`, shape (M,), bool."""
        with torch.no_grad():
            for own, new in zip(self.parameters(), other.parameters(), strict=True):
                own[chosen] = new[chosen]

    def copy_into(self, policy: GaussianPolicy, member: int) -> None:
        """Make a policy of the same sizes one of the members."""
        with torch.no_grad():
            for linear, weight, bias in zip(
                policy.trunk.linear_layers, self.trunk.weights, self.trunk.biases, strict=True
            ):
                linear.weight.copy_(weight[member].T)
                linear.bias.copy_(bias[member, 0])
            policy.log_std.copy_(self.log_std[member, 0])

    def clip_gradients(self, largest: float) -> None:
        """Scale each member's gradient down to a norm, whatever the others' are."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm = sum((gradient.square().sum((1, 2)) for gradient in gradients), torch.zeros(())).sqrt()
        factor = (largest / norm.clamp(min=1e-12)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, 1, 1))


def cloning_loss(
    ensemble: PolicyEnsemble, observation: Tensor, action: Tensor, noise: Tensor, disagreement: float
) -> Loss:
    """L_i = -E_D[log pi_i(a|s)] - alpha E_{a ~ pi_i}[log pi_i(a|s) - max_{j != i} log pi_j(a|s)], summed over members.

    The second term is D_KL(pi_i || max_j pi_j) of the paper, of draws that follow pi_i's parameters, the others as they
    are. The published code takes it at the data's actions instead, where the others' part has no gradient: that only
    scales the first term by 1 + alpha, and nobody is pushed anywhere.

    Args:
        observation: (B, O).
        action: (B, D).
        noise: (M, B, D), standard normal.
        disagreement: alpha; 0 clones, and nothing else.
    """
    mean, std = ensemble.mean(observation), ensemble.std
    log_prob = log_density(action, mean, std)
    loss = -log_prob.mean(1).sum()
    info: Info = {"clone_loss": loss.detach() / len(ensemble), "std": std.detach().mean()}
    if disagreement and len(ensemble) > 1:
        drawn = mean + std * noise
        apart = log_density(drawn, mean, std) - nearest_log_density(drawn, mean.detach(), std.detach())
        loss = loss - disagreement * apart.mean(1).sum()
        info["disagreement"] = apart.detach().mean()
    return loss, info


def nearest_log_density(drawn: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Shape (M, B): of each member's own draws, (M, B, D), the largest log density under any *other* member."""
    others = log_density(drawn.unsqueeze(0), mean.unsqueeze(1), std.unsqueeze(1))
    itself = torch.eye(len(drawn), dtype=torch.bool, device=drawn.device).unsqueeze(2)
    return others.masked_fill(itself, -torch.inf).amax(0)


def log_density(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Of a Normal with a diagonal covariance, summed over the last dimension; shapes broadcast."""
    deviation = (action - mean) / std
    return (-0.5 * deviation.square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
