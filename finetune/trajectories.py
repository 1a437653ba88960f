"""Episodes for those who learn from their own, as they were drawn, and from nothing old."""

import numpy as np
import torch

from episodes.episode import Episode
from episodes.errors import InputError
from episodes.history import windows
from episodes.transitions import SamplingConfig
from policies.checkpoint import actor_hash
from policies.ppo import OnPolicy, Trajectory

TOLERANCE = 1e-2
"""Of log densities: stored as float32, as the actions are that they belong to."""


class Trajectories:
    """What the policy as it is now has done so far; of others nothing is kept."""

    def __init__(self, algorithm: OnPolicy, sampling: SamplingConfig):
        self.algorithm, self._sampling = algorithm, sampling
        self.trajectories: list[Trajectory] = []
        self.since = 0
        """Episodes up to this one are of older policies."""

    @property
    def steps(self) -> int:
        return sum(len(each) for each in self.trajectories)

    def begin_anew(self, episodes: int) -> None:
        """The policy is another one after so many episodes."""
        self.trajectories, self.since = [], episodes

    def add(
        self, number: int, episode: Episode, reward: np.ndarray, terminated: np.ndarray, features: np.ndarray | None
    ) -> None:
        """Take the episode of this number, from 1, labelled; evaluations and what somebody else did are passed over.

        Raises:
            InputError: where it does not say how its actions were drawn, or not of this policy's.
        """
        if number <= self.since or episode.evaluation or episode.policy is None:
            return
        if (episode.policy != actor_hash(self.algorithm)).any():
            return
        if episode.action_proposed is None or episode.log_probability is None:
            raise InputError(f"{episode.origin}: does not say what was drawn, and how likely that was; see Policy")
        trajectory = self._trajectory(episode, reward, terminated, features)
        if len(trajectory):
            self._check(episode, trajectory)
            self.trajectories.append(trajectory)

    def _trajectory(
        self, episode: Episode, reward: np.ndarray, terminated: np.ndarray, features: np.ndarray | None
    ) -> Trajectory:
        """Up to where the task ended; else a last step of which nobody knows what came after it is left out."""
        preparation, ends = self.algorithm.preparation, np.flatnonzero(terminated)
        device, observations = preparation.mean.device, len(episode.state)
        steps = int(ends[0]) + 1 if len(ends) else min(episode.steps, observations - 1)
        after = np.minimum(np.arange(steps) + 1, observations - 1)

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.asarray(values, np.float32)).to(device)

        rows = torch.arange(observations, device=device)
        state = windows(tensor(episode.state), rows, torch.zeros_like(rows), self._sampling.history)
        proposed = tensor(np.asarray(episode.action_proposed))
        seen = preparation.observation(state, None if features is None else tensor(features))
        mask = np.ones(steps)
        mask[-1:] = 0.0 if len(ends) else 1.0
        return Trajectory(
            observation=seen[:steps],
            action=preparation.encode_unclipped(state[:steps], proposed[:steps].unsqueeze(1)),
            log_prob=tensor(np.asarray(episode.log_probability)[:steps]),
            reward=tensor(self._sampling.rewards(reward[:steps], ended=bool(len(ends)))),
            next_observation=seen[after],
            mask=tensor(mask),
            discount=tensor(np.full(steps, self._sampling.discount)),
        )

    def _check(self, episode: Episode, trajectory: Trajectory) -> None:
        """What was cut off, or drawn in another way, has another density: ratios to it would be wrong in silence."""
        action = trajectory.action
        with torch.no_grad():
            expected = self.algorithm.actor.log_prob(trajectory.observation, action, torch.ones_like(action))
        wrong = float((expected - trajectory.log_prob).abs().max())
        if not wrong <= TOLERANCE:
            raise InputError(
                f"{episode.origin}: its log probabilities are not those of its proposed actions (off by {wrong:.3g}); "
                "actions have to be recorded as they were drawn"
            )
