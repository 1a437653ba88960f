"""Uni-O4 (Lei et al., 2024): one on-policy objective, offline in a gated model and online on episodes of its own.

Offline an update belongs to one of two phases, by its number alone. First IQL's critics learn, and an ensemble clones
the data. Then PPO improves every member on its own draws in the data's states, judged by the critics, and the gate says
every so often whether a member may go on from where it is. Online plain PPO goes on from the best one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from episodes.errors import InputError
from episodes.transitions import Batch, Transitions
from policies.algorithm import Info, Loss, adam, cosine, descend
from policies.behaviour_ensemble import PolicyEnsemble, cloning_loss
from policies.dynamics import Dynamics, DynamicsConfig
from policies.iql import ImplicitQ, ImplicitQConfig
from policies.networks import GaussianPolicy
from policies.off_policy_evaluation import Gate, Worth, best, passes
from policies.ppo import (
    OnPolicy,
    Trajectory,
    clipped_surrogate,
    descend_clipped,
    policy_loss,
    rows_of,
    standardised,
    value_loss,
)
from policies.preparation import Preparation, Prepared

Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, slots=True)
class UniO4Config(ImplicitQConfig):
    """Published values for locomotion, with these exceptions. What two cores can do: `starts` (published 512),
    `rollout_steps` (1000, elsewhere 5 to 200) and the shares of a run's updates. As elsewhere here: `learning_rate`
    (1e-4 for critics and clones), widths and the batch, which critics and policies share, and the policies' spread,
    which is the same in all states."""

    members: Count = 4
    disagreement: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """alpha of pushing members apart; from 0.5 on nothing would hold two of them together."""
    improvement_share: Share = 0.25
    """Of the updates: those that improve, after those that learn critics and clones."""
    improvement_learning_rate: Rate = 1e-4
    """Falls to 0 in a line over the improvement."""
    clip: Share = 0.25
    """epsilon of the ratio to the behaviour policy, offline; falls to 0 in a line, too."""
    gradient_clip: Rate = 0.5
    """Largest norm of a policy's gradient."""
    gate_every: Count = 100
    """Updates."""
    starts: Count = 256
    """States of the data that imagined episodes begin in."""
    rollout_steps: Count = 50
    """Of an imagined episode. Where `score` grows out of all proportion, fewer."""
    guard: bool = True
    """Whether the model's own rewards have a say in the gate beside the critics; without, as published."""
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    actor_learning_rate: Rate | None = 2e-5
    """Of the policy online; `learning_rate` where None. Published: 1e-6 to 3e-5."""
    value_learning_rate: Rate = 2e-4
    """Of V online."""
    batch_steps: Count = 2048
    """Of its own episodes that PPO learns from at once, at least."""
    minibatch: Count = 128
    epochs: Count = 10
    """Of PPO over these steps. Published: 5 to 30."""
    online_clip: Share = 0.05
    """epsilon of the ratio online."""
    advantage_decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """lambda of the generalised advantages."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.01


class UniO4(ImplicitQ[GaussianPolicy], OnPolicy):
    """Its `actor` is always the member that is thought most of; the first one until there is something to compare."""

    name: ClassVar[str] = "uni_o4"
    online_settings: ClassVar[frozenset[str]] = frozenset(
        {
            "value_learning_rate",
            "batch_steps",
            "minibatch",
            "epochs",
            "online_clip",
            "advantage_decay",
            "entropy_weight",
        }
    )
    config: UniO4Config

    def __init__(self, config: UniO4Config, preparation: Preparation, seed: int, decay_steps: int | None = None):
        if preparation.chunk != 1:
            raise InputError(
                f"uni_o4: chunk {preparation.chunk}: its model and its ratios know one action at a time; give --chunk 1"
            )
        super().__init__(config, preparation, seed, decay_steps)
        sizes = preparation.observation_size, preparation.action_size
        self.behaviour = PolicyEnsemble(*sizes, config.hidden, config.members, self.generator)
        """pi_old: the clones, and later the newest of each that passed the gate."""
        self.candidates = PolicyEnsemble(*sizes, config.hidden, config.members, self.generator)
        """pi: what improves on pi_old."""
        dynamics = Dynamics(config.dynamics, *sizes, seed, preparation.window)
        self.gate = Gate(dynamics, *sizes, starts=config.starts, members=config.members, generator=self.generator)
        self.modules |= {"behaviour": self.behaviour, "candidates": self.candidates, "gate": self.gate}
        self.optimisers["clone"] = adam(list(self.behaviour.parameters()), config.learning_rate)
        self.optimisers["improvement"] = adam(list(self.candidates.parameters()), config.improvement_learning_rate)
        # PPO's own: nobody else moves the actor, which is copied from a member offline.
        self.optimisers["actor"] = torch.optim.Adam(self.actor.parameters(), eps=1e-5, fused=True)
        self.improves_from = self.improves_until = 0
        """Numbers of updates between which it improves; both are 0 until it has surveyed the data."""
        self.selected = 0
        """The member that `actor` is."""

    def make_actor(self) -> GaussianPolicy:
        sizes = self.preparation.observation_size, self.preparation.action_size
        return GaussianPolicy(*sizes, self.config.hidden, self.generator)

    def survey(self, transitions: Transitions, steps: int) -> None:
        improving = round(self.config.improvement_share * steps)
        if not 0 < improving < steps:
            raise InputError(
                f"uni_o4: steps {steps}: an improvement_share of {self.config.improvement_share:g} leaves none to "
                f"{'improve' if not improving else 'clone'} with; give more steps"
            )
        self.improves_from, self.improves_until = steps - improving, steps
        batch = self.preparation(transitions.all_actions())
        rewards, goes_on = batch.reward, bool((batch.mask == 1).all())
        if rewards.min() == rewards.max() and (goes_on or rewards[0] == 0):
            ends = "no task ever ended" if goes_on else "so is what comes after an end"
            raise InputError(
                f"uni_o4: every reward is {float(rewards[0]):g}, and {ends}, so that no policy is better than another; "
                "label the store, or clone it with --algorithm bc"
            )
        self.gate.survey(batch)

    def update(self, batch: Batch) -> Info:
        if not self.improves_until:
            raise RuntimeError("survey the data first")
        if self.step < self.improves_from:
            info = super().update(batch)
            self.behaviour.copy_into(self.actor, self.selected)
            return info
        if self.step == self.improves_from:
            self._begin_to_improve()
        info = self.improve_members(self.preparation(batch))
        self.step += 1
        return info

    def improve(self, batch: Prepared, target_q: Tensor) -> Info:
        """The clones' part of an update of the first phase."""
        decay_steps = None if self.decay_steps is None else self.improves_from
        self.optimisers["clone"].param_groups[0]["lr"] = cosine(self.config.learning_rate, self.step, decay_steps)
        noise = self._noise(batch)
        loss, info = cloning_loss(self.behaviour, batch.observation, batch.action, noise, self.config.disagreement)
        descend(self.optimisers["clone"], loss)
        return info

    def improvement_loss(self, batch: Prepared, noise: Tensor, clip: float) -> Loss:
        """L_i = -E_{s ~ D, a ~ pi_old,i}[min(rho A, clip(rho) A)], A = min Q_target(s, a) - V(s), summed over members.

        The densities are those of the draws as they are. The critics judge what would be sent of them.
        """
        with torch.no_grad():
            drawn = self.behaviour.draw(batch.observation, noise)
            old_log_prob = self.behaviour.log_prob(batch.observation, drawn)
            repeated = batch.observation.expand(len(drawn), *batch.observation.shape)
            q = self.smaller_target(repeated.flatten(0, 1), drawn.clamp(-1, 1).flatten(0, 1)).unflatten(
                0, drawn.shape[:2]
            )
            advantage = q - self.value(batch.observation).squeeze(1)
        log_prob = self.candidates.log_prob(batch.observation, drawn)
        surrogate, info = clipped_surrogate(log_prob, old_log_prob, standardised(advantage), clip)
        loss = -surrogate.mean(1).sum()
        return loss, {"improvement_loss": loss.detach(), "advantage": advantage.mean(), **info}

    def improve_members(self, batch: Prepared) -> Info:
        """An update of the second phase, and the gate where it is due."""
        left = 1 - (self.step - self.improves_from) / (self.improves_until - self.improves_from)
        optimiser = self.optimisers["improvement"]
        decay = 1.0 if self.decay_steps is None else left
        optimiser.param_groups[0]["lr"] = self.config.improvement_learning_rate * decay
        loss, info = self.improvement_loss(batch, self._noise(batch), self.config.clip * left)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.candidates.clip_gradients(self.config.gradient_clip)
        optimiser.step()
        done = self.step + 1 - self.improves_from
        if done % self.config.gate_every == 0 or self.step + 1 == self.improves_until:
            self._ask_the_gate()
        return info | {
            "score": self.gate.score[self.selected],
            "imagined_return": self.gate.imagined_return[self.selected],
            "model_error": self.gate.model_error,
        }

    @property
    def episode_steps(self) -> int:
        return self.config.batch_steps

    def learn_from(self, trajectories: Sequence[Trajectory]) -> Info:
        """PPO in epochs of minibatches: the policy, then V, which begins as IQL left it."""
        config = self.config
        rows, info = rows_of(trajectories, self.value, config.advantage_decay), {}
        rates = {"actor": config.actor_learning_rate or config.learning_rate, "value": config.value_learning_rate}
        for name, rate in rates.items():
            self.optimisers[name].param_groups[0]["lr"] = rate
        for _ in range(config.epochs):
            order = torch.randperm(len(rows.advantage), generator=self.generator).to(rows.advantage.device)
            for index in order.split(config.minibatch):
                loss, said = policy_loss(self.actor, rows, index, config.online_clip, config.entropy_weight)
                descend_clipped(self.optimisers["actor"], loss, self.actor, config.gradient_clip)
                value, of_value = value_loss(self.value, rows, index)
                descend_clipped(self.optimisers["value"], value, self.value, config.gradient_clip)
                info = said | of_value
                self.step += 1
        return info | {"std": self.actor.std.detach().mean()}

    def state_dict(self) -> dict[str, Tensor]:
        phases = {"improves_from": self.improves_from, "improves_until": self.improves_until}
        return super().state_dict() | {name: torch.tensor(number) for name, number in phases.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.improves_from, self.improves_until = int(state["improves_from"]), int(state["improves_until"])
        self.selected = best(self.gate.standing, guarded=self.config.guard) if self.step > self.improves_from else 0

    def _begin_to_improve(self) -> None:
        self.candidates.load_state_dict(self.behaviour.state_dict())
        self._admit(self._worth(self.behaviour), torch.ones_like(self.gate.score, dtype=torch.bool))

    def _ask_the_gate(self) -> None:
        """Members that pass are what their improvement goes on from; the others go on from where they were."""
        worth = self._worth(self.candidates)
        self._admit(worth, passes(worth, self.gate.standing, guarded=self.config.guard))

    def _admit(self, worth: Worth, chosen: Tensor) -> None:
        self.behaviour.follow(self.candidates, chosen)
        self.gate.admit(worth, chosen)
        self.selected = best(self.gate.standing, guarded=self.config.guard)
        self.behaviour.copy_into(self.actor, self.selected)

    def _worth(self, policies: PolicyEnsemble) -> Worth:
        return self.gate.worth(policies, self.target, self.value, self.config.rollout_steps)

    def _noise(self, batch: Prepared) -> Tensor:
        shape = (self.config.members, *batch.action.shape)
        return torch.randn(shape, generator=self.generator).to(batch.action)
