"""FISOR, feasibility-guided safe offline learning (Zheng et al., 2024): losses in the paper's order.

h(s) is above 0 where something is violated. Here, as in the data of the published code, a step's `cost` is h of what
the step led to: Q_h(s, a) <= 0 says that nothing need be violated from a on, V_h(s) <= 0 that this is so of some action
in the data.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from episodes.transitions import Batch
from episodes.typed import STRICT
from policies.algorithm import Algorithm, Info, Loss, adam, cosine, descend
from policies.diffusion import Denoiser, DiffusionPolicy
from policies.networks import MLP, EnsembleMLP, PolicyNetwork
from policies.preparation import Preparation, Prepared, costs_of

Rate = Annotated[float, Field(gt=0)]
Expectile = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
Ranking = Literal["feasible_first", "least_infeasible"]


@dataclass(frozen=True, slots=True)
class FISORConfig:
    """The published values, one set for all tasks. Batches differ: here actor and critics see the same one."""

    __pydantic_config__ = STRICT

    expectile: Expectile = 0.9
    """Of the reward's value: towards 1 the best action in the data."""
    feasibility_expectile: Expectile = 0.9
    """Of the feasibility value: towards 1 the safest action in the data."""
    reward_temperature: Rate = 3.0
    """Of the advantage of a feasible action in a feasible state."""
    cost_temperature: Rate = 5.0
    """Of how much safer an action is than its infeasible state."""
    weight_clip: Rate = 100.0
    recovery_clip: Rate = 150.0
    """Largest weight in an infeasible state."""
    target_rate: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Of the exponential moving average that the target critics are."""
    actor_rate: Annotated[float, Field(gt=0, le=1)] = 0.001
    """Of the one that the acting policy is."""
    learning_rate: Rate = 3e-4
    critic_decay: bool = False
    """Whether the critics' learning rate comes down as the actor's does: V_h is near a minimum over actions, which
    takes the critics' noise for safety. As published it stays."""
    hidden: tuple[Count, ...] = (256, 256)
    """Of critics and values."""
    width: Count = 256
    """Of the denoiser."""
    blocks: Count = 3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of the denoiser."""
    diffusion_steps: Count = 5
    candidates: Count = 16
    """N: actions that one is chosen from."""
    ranking: Ranking = "feasible_first"
    """`feasible_first`: the best of the candidates that are feasible, and the least infeasible one where none is.
    `least_infeasible`, as published: always the one with the smallest Q_h, whatever its reward."""


class RankedPolicy(PolicyNetwork):
    """Draws candidates and takes one of them, by what the critics think of each: everything that decides an action."""

    def __init__(
        self, diffusion: DiffusionPolicy, feasibility: EnsembleMLP, critic: EnsembleMLP, count: int, ranking: Ranking
    ):
        super().__init__()
        self.diffusion, self.feasibility, self.critic = diffusion, feasibility, critic
        self.count, self.ranking = count, ranking

    def q_h(self, observation: Tensor, action: Tensor) -> Tensor:
        """Shape (B,): the larger of the two feasibility critics, for (B, O) and (B, D)."""
        return self.feasibility(torch.cat([observation, action], dim=1)).squeeze(2).amax(0)

    def q_r(self, observation: Tensor, action: Tensor) -> Tensor:
        """Shape (B,): the smaller of the two reward critics."""
        return self.critic(torch.cat([observation, action], dim=1)).squeeze(2).amin(0)

    def candidates(self, observation: Tensor, noise: Tensor) -> Tensor:
        """(B, O) to (B, N, D), of noise (T + 1, B * N, D) as `DiffusionPolicy.noise` draws it."""
        repeated = observation.repeat_interleave(self.count, dim=0)
        return self.diffusion.denoise(repeated, noise).unflatten(0, (len(observation), self.count))

    def choose(self, observation: Tensor, candidates: Tensor) -> Tensor:
        """One of (B, N, D) for each of (B, O): shape (B, D)."""
        rows = observation.repeat_interleave(candidates.shape[1], dim=0)
        q_h, q_r = (q(rows, candidates.flatten(0, 1)).unflatten(0, candidates.shape[:2]) for q in (self.q_h, self.q_r))
        best = q_h.argmin(1)
        if self.ranking == "feasible_first":
            feasible = q_h <= 0
            among = torch.where(feasible, q_r, torch.full_like(q_r, -torch.inf)).argmax(1)
            best = torch.where(feasible.any(1), among, best)
        return candidates[torch.arange(len(best), device=best.device), best]

    def mean(self, observation: Tensor) -> Tensor:
        """(B, O) to (B, D): chosen from candidates of the same noise every time, and so by the observation alone."""
        noise = self.diffusion.noise(self.count, torch.Generator().manual_seed(0))
        return self.choose(observation, self.candidates(observation, noise.repeat(1, len(observation), 1)))

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        noise = self.diffusion.noise(self.count * len(observation), generator)
        return self.choose(observation, self.candidates(observation, noise))


class FISOR(Algorithm[RankedPolicy]):
    """Feasibility by a reachability backup, reward by IQL, and a diffusion that imitates what is both."""

    name: ClassVar[str] = "fisor"
    needs_costs: ClassVar[bool] = True
    learns_online: ClassVar[bool] = False

    def __init__(self, config: FISORConfig, preparation: Preparation, seed: int, decay_steps: int | None = None):
        super().__init__(config, preparation, seed, decay_steps)
        self.config = config
        observation, action = preparation.observation_size, preparation.action_size
        pair, single = [observation + action, *config.hidden, 1], [observation, *config.hidden, 1]
        self.feasibility_critic = EnsembleMLP(pair, 2, self.generator)
        self.feasibility_value = MLP(single, self.generator)
        self.critic = EnsembleMLP(pair, 2, self.generator)
        self.value = MLP(single, self.generator)
        denoiser = Denoiser(observation, action, config.width, config.blocks, self.generator, config.dropout)
        self.diffusion = DiffusionPolicy(denoiser, config.diffusion_steps, action)
        self.actor = RankedPolicy(
            copy.deepcopy(self.diffusion),
            copy.deepcopy(self.feasibility_critic),
            copy.deepcopy(self.critic),
            config.candidates,
            config.ranking,
        ).requires_grad_(False)
        self.modules = {
            "actor": self.actor,
            "diffusion": self.diffusion,
            "feasibility_critic": self.feasibility_critic,
            "feasibility_value": self.feasibility_value,
            "critic": self.critic,
            "value": self.value,
        }
        self.optimisers = {
            name: adam(list(module.parameters()), config.learning_rate)
            for name, module in self.modules.items()
            if name != "actor"
        }

    def feasibility_value_loss(self, batch: Prepared, target_q_h: Tensor) -> Loss:
        """L_Vh = E[|tau - 1(u > 0)| u^2], u = max Q_h - V_h: the reversed expectile, towards the smallest Q_h."""
        value = self.feasibility_value(batch.observation).squeeze(1)
        difference = target_q_h - value
        loss = _expectile(difference, above=1 - self.config.feasibility_expectile)
        return loss, {
            "feasibility_value_loss": loss.detach(),
            "feasibility_value": value.detach().mean(),
            "infeasible": (value.detach() > 0).float().mean(),
        }

    def feasibility_critic_loss(self, batch: Prepared) -> Loss:
        """L_Qh = sum_i E[(Q_h,i - ((1 - gamma) h + gamma max(h, V_h(s'))))^2], and h alone at an end.

        Only the end of the task is an end: a time limit says nothing of what would have come after it.
        """
        cost = costs_of(batch, self.name)
        with torch.no_grad():
            following = torch.maximum(cost, self.feasibility_value(batch.next_observation).squeeze(1))
            backed_up = (1 - batch.discount) * cost + batch.discount * following
            target = batch.mask * backed_up + (1 - batch.mask) * cost
        q = self.feasibility_critic(torch.cat([batch.observation, batch.action], dim=1)).squeeze(2)
        loss = (q - target).square().mean(1).sum()
        return loss, {"feasibility_critic_loss": loss.detach(), "q_h": q.detach().mean()}

    def value_loss(self, batch: Prepared, target_q: Tensor) -> Loss:
        """L_V = E[|tau - 1(u < 0)| u^2], u = min Q - V, as in IQL."""
        value = self.value(batch.observation).squeeze(1)
        loss = _expectile(target_q - value, above=self.config.expectile)
        return loss, {"value_loss": loss.detach(), "value": value.detach().mean()}

    def critic_loss(self, batch: Prepared) -> Loss:
        """L_Q = sum_i E[(Q_i - (r + gamma V(s')))^2], as in IQL."""
        with torch.no_grad():
            target = batch.reward + batch.discount * batch.mask * self.value(batch.next_observation).squeeze(1)
        q = self.critic(torch.cat([batch.observation, batch.action], dim=1)).squeeze(2)
        loss = (q - target).square().mean(1).sum()
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    def weights(self, batch: Prepared, target_q: Tensor, target_q_h: Tensor) -> Tensor:
        """Shape (B,): w(s, a) of three cases.

        In a feasible state a feasible action counts by its reward advantage and an infeasible one not at all; in an
        infeasible state every action counts by how much safer it is.
        """
        value = self.value(batch.observation).squeeze(1)
        value_h = self.feasibility_value(batch.observation).squeeze(1)
        better = (self.config.reward_temperature * (target_q - value)).exp().clamp(max=self.config.weight_clip)
        safer = (self.config.cost_temperature * (value_h - target_q_h)).exp().clamp(max=self.config.recovery_clip)
        return torch.where(value_h > 0, safer, torch.where(target_q_h > 0, torch.zeros_like(better), better))

    def actor_loss(self, batch: Prepared, weight: Tensor) -> Loss:
        """L_pi = E[w(s, a) |epsilon - epsilon_theta(s, a_t, t)|^2], over the numbers that were really sent."""
        device, shape = weight.device, batch.action.shape
        step = torch.randint(self.config.diffusion_steps, (shape[0],), generator=self.generator).to(device)
        noise = torch.randn(shape, generator=self.generator).to(device)
        noised = self.diffusion.noised(batch.action, step, noise)
        found = self.diffusion.denoiser(batch.observation, noised, step, self.generator)
        error = ((noise - found).square() * batch.valid).sum(1)
        loss = (weight * error).mean()
        return loss, {
            "actor_loss": loss.detach(),
            "weight": weight.mean(),
            "weight_zero": (weight == 0).float().mean(),
        }

    def update(self, batch: Batch) -> Info:
        """Feasibility, reward, the policy with the new values, then every average follows."""
        prepared = self.preparation(batch)
        with torch.no_grad():
            target_q_h = self.actor.q_h(prepared.observation, prepared.action)
            target_q = self.actor.q_r(prepared.observation, prepared.action)
        info: Info = {}
        rate = cosine(self.config.learning_rate, self.step, self.decay_steps)
        for name, optimiser in self.optimisers.items():
            if name == "diffusion" or self.config.critic_decay:
                optimiser.param_groups[0]["lr"] = rate
        for name, losses in (
            ("feasibility_value", lambda: self.feasibility_value_loss(prepared, target_q_h)),
            ("feasibility_critic", lambda: self.feasibility_critic_loss(prepared)),
            ("value", lambda: self.value_loss(prepared, target_q)),
            ("critic", lambda: self.critic_loss(prepared)),
        ):
            loss, said = losses()
            descend(self.optimisers[name], loss)
            info |= said
        with torch.no_grad():
            weight = self.weights(prepared, target_q, target_q_h)
        loss, said = self.actor_loss(prepared, weight)
        descend(self.optimisers["diffusion"], loss)
        _follow(self.actor.feasibility, self.feasibility_critic, self.config.target_rate)
        _follow(self.actor.critic, self.critic, self.config.target_rate)
        _follow(self.actor.diffusion, self.diffusion, self.config.actor_rate)
        self.step += 1
        return info | said

    def feasibility(self, state: Tensor, features: Tensor | None = None) -> Tensor:
        """V_h, shape (B,), for (B, S) in the contract's units and (B, F): at most 0 where something can be done."""
        with torch.no_grad():
            return self.feasibility_value(self.preparation.observation(state, features)).squeeze(1)

    def q_h(self, state: Tensor, action: Tensor, features: Tensor | None = None) -> Tensor:
        """The larger target critic, shape (B,), for (B, S), (B, C, A) in the contract's units and (B, F)."""
        with torch.no_grad():
            observation = self.preparation.observation(state, features)
            return self.actor.q_h(observation, self.preparation.encode(state, action))


def _expectile(difference: Tensor, above: float) -> Tensor:
    """Mean of squared differences, weighed by `above` where they are positive and by 1 - `above` where not."""
    return (torch.where(difference > 0, above, 1 - above) * difference.square()).mean()


def _follow(average: torch.nn.Module, online: torch.nn.Module, rate: float) -> None:
    with torch.no_grad():
        for old, new in zip(average.parameters(), online.parameters(), strict=True):
            old.lerp_(new, rate)
