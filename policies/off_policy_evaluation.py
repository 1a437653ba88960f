"""What policies would be worth by a learned model, and the gate that only better ones pass (AM-Q: Lei et al., 2024).

The published score is the critics' mean along imagined episodes, and whoever the critics are wrong about passes. Here
the model's own rewards have a say, too: they were learned without the critics.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.algorithm import adam, descend
from policies.behaviour_ensemble import PolicyEnsemble
from policies.dynamics import Dynamics, Rollout
from policies.networks import MLP, EnsembleMLP
from policies.preparation import Prepared

ENDING_HIDDEN, ENDING_UPDATES, ENDING_BATCH, ENDING_RATE = (64, 64), 500, 512, 1e-3
"""Of learning where tasks end: yes or no, of what the model's inputs are."""
MARGIN = 0.1
"""Of the range of what was observed, beyond either side of it: states at its edge are no worse known than others."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Of each member of an ensemble."""

    score: Tensor
    """Shape (M,): the critics' mean along imagined episodes, as published."""
    imagined_return: Tensor
    """Shape (M,): mean discounted sum of imagined rewards, in which the critics have no part."""


class Gate(nn.Module):
    """Imagines episodes of policies from states of the data, always the same ones, and remembers who stands.

    An imagined episode ends where tasks in the data ended, and is worth nothing more from there. Where it leaves the
    range of everything that was observed, nobody knows, and the worst is assumed: the lowest reward and the lowest
    value of the data.
    """

    starts: Tensor
    low: Tensor
    high: Tensor
    lowest_reward: Tensor
    discount: Tensor
    model_error: Tensor
    """The best member's mean squared error on held-out rows, in variances of what is predicted: 1 knows nothing."""
    ends: Tensor
    score: Tensor
    imagined_return: Tensor

    def __init__(
        self,
        dynamics: Dynamics,
        observation_size: int,
        action_size: int,
        *,
        starts: int,
        members: int,
        generator: torch.Generator,
    ):
        super().__init__()
        self.dynamics = dynamics
        self._generator = generator
        self.ending = MLP([observation_size + action_size, *ENDING_HIDDEN, 1], generator)
        """Log odds that the task ends with an action."""
        self.register_buffer("starts", torch.zeros(starts, observation_size))
        for name in ("low", "high"):
            # Of the newest observation of a history: the others were the newest one before.
            self.register_buffer(name, torch.zeros(observation_size - dynamics.window.older))
        for name in ("lowest_reward", "discount", "model_error"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("ends", torch.tensor(False))
        for name in ("score", "imagined_return"):
            self.register_buffer(name, torch.zeros(members))

    @property
    def standing(self) -> Worth:
        """Of those that passed last."""
        return Worth(self.score, self.imagined_return)

    def survey(self, batch: Prepared) -> None:
        """Learn the model from all of the data, and where to begin, what was observed, and where tasks ended.

        Raises:
            InputError: where there is too little to hold anything out, or numbers are not finite.
        """
        self.model_error.copy_(self.dynamics.fit(batch).errors.min())
        rows = torch.randint(len(batch.observation), (len(self.starts),), generator=self._generator)
        self.starts.copy_(batch.observation[rows.to(batch.observation.device)])
        # Behind a termination there may be a stand-in, which is an observation all the same.
        observed = self.dynamics.window.newest(torch.cat([batch.observation, batch.next_observation]))
        low, high = observed.amin(0), observed.amax(0)
        self.low.copy_(low - MARGIN * (high - low))
        self.high.copy_(high + MARGIN * (high - low))
        self.lowest_reward.copy_(batch.reward.min())
        self.discount.copy_(batch.discount[0])
        self.ends.copy_((batch.mask == 0).any())
        if self.ends:
            self._learn_ends(batch)

    def admit(self, worth: Worth, chosen: Tensor) -> None:
        """Let members stand from now on where `chosen`, shape (M,), bool."""
        self.score.copy_(torch.where(chosen, worth.score, self.score))
        self.imagined_return.copy_(torch.where(chosen, worth.imagined_return, self.imagined_return))

    def worth(self, policies: PolicyEnsemble, critic: EnsembleMLP, value: MLP, steps: int) -> Worth:
        """What the critics and the model think of every member's mean actions.

        Args:
            critic: the smaller of its members counts.
            value: knows what the worst state of the data is worth.
        """
        members, count = len(policies), len(self.starts)

        def act(observation: Tensor) -> Tensor:
            return policies.mean(observation.unflatten(0, (members, count))).flatten(0, 1)

        with torch.no_grad():
            imagined = self.dynamics.rollout(self.starts.repeat(members, 1), act, steps)
            going, inside = self.alive(imagined)
            pairs = torch.cat([imagined.observation[:-1], imagined.action], dim=2)
            q = critic(pairs.flatten(0, 1)).squeeze(2).amin(0).unflatten(0, pairs.shape[:2])
            worst = value(self.starts).min()
            # What is outside may not even be finite: it is replaced, and never multiplied by nought.
            q = torch.where(inside, q, worst)
            reward = torch.where(inside, imagined.reward, self.lowest_reward)
            powers = self.discount ** torch.arange(steps, device=q.device).unsqueeze(1)
            score = (going * q).unflatten(1, (members, count)).mean((0, 2))
            returns = (going * powers * reward).sum(0).unflatten(0, (members, count)).mean(1)
        return Worth(score, returns)

    def alive(self, imagined: Rollout) -> tuple[Tensor, Tensor]:
        """How likely an episode is to have got to a step, and whether it is where it can be judged: twice (T, B)."""
        now = imagined.observation[:-1]
        newest = self.dynamics.window.newest(now)
        within = ((newest >= self.low) & (newest <= self.high)).all(2)
        inside = torch.cummin(within.float(), dim=0).values > 0
        if not self.ends:
            return torch.ones_like(inside, dtype=now.dtype), inside
        goes_on = torch.sigmoid(-self.ending(torch.cat([now, imagined.action], dim=2)).squeeze(2))
        # Outside, nothing ends any more: what is assumed there goes on.
        goes_on = torch.where(inside, goes_on, 1.0)
        before = torch.cat([torch.ones_like(goes_on[:1]), goes_on[:-1]])
        return before.cumprod(0), inside

    def _learn_ends(self, batch: Prepared) -> None:
        pairs, ended = torch.cat([batch.observation, batch.action], dim=1), 1 - batch.mask
        optimiser = adam(list(self.ending.parameters()), ENDING_RATE)
        for _ in range(ENDING_UPDATES):
            rows = torch.randint(len(pairs), (ENDING_BATCH,), generator=self._generator).to(pairs.device)
            odds = self.ending(pairs[rows]).squeeze(1)
            descend(optimiser, nn.functional.binary_cross_entropy_with_logits(odds, ended[rows]))


def passes(candidate: Worth, incumbent: Worth, *, guarded: bool) -> Tensor:
    """Which members pass: shape (M,), bool.

    A candidate has to score more with the critics and, where guarded, must not earn less by the model's rewards.
    What is not a number is not more than anything.
    """
    scores = candidate.score > incumbent.score
    return scores & (candidate.imagined_return >= incumbent.imagined_return) if guarded else scores


def best(worth: Worth, *, guarded: bool) -> int:
    """The member with the largest score; where guarded, the one whose worse rank of both judges' is the best."""
    by_score = (-worth.score.nan_to_num(-torch.inf)).argsort().argsort()
    if not guarded:
        return int(by_score.argmin())
    by_return = (-worth.imagined_return.nan_to_num(-torch.inf)).argsort().argsort()
    return int((torch.maximum(by_score, by_return) * len(by_score) + by_score).argmin())
