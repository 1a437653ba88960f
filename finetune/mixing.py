"""A simulator as the second source beside the real log: its rollouts, and what they are worth where it is not right."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from episodes.episode import Episode
from episodes.errors import InputError
from episodes.transitions import Batch, Transitions
from finetune.config import TrainConfig
from finetune.data import OfflineData
from finetune.experience import Experience, Mixture
from finetune.h2o import DynamicsGap, GapConfig
from finetune.trajectories import Trajectories
from policies.algorithm import below
from policies.preparation import prepare_from
from rewards.labeller import EpisodeLabeller
from sim.base import Task, UnstableError
from sim.operators import Operator
from sim.rollout import rollout

Mix = Literal["real", "sim", "naive", "h2o"]
"""What is learned from: the log alone, the simulator alone, both as they are, or both with simulated rows by weight."""

MOST_DROPPED = 20
"""Rollouts in a row that a simulator may blow up in."""
GAP = "gap/"
"""What the names of the learned gap's tensors begin with in a checkpoint."""


class Branches:
    """Rolls out in a simulator from where the real robot has been.

    Args:
        task: the simulator.
        log: of whose states one is drawn to begin in, where the task can; else it begins as it does itself.
        horizon: steps of a rollout at most; the task's own where None.
    """

    def __init__(self, task: Task, log: Transitions, horizon: int | None):
        self._task, self._horizon = task, horizon
        self._starts = log.starts().cpu().numpy() if task.starts_anywhere else None

    def rollout(self, operator: Operator, seed: int) -> tuple[Episode, int]:
        """One rollout, a function of the operator and the seed; and how many were dropped before, as they blew up.

        Raises:
            InputError: where too many do.
        """
        dropped = 0
        while True:
            # A dropped one would blow up again: the next is another, of the same seed.
            rng = np.random.default_rng([seed, dropped])
            start = None if self._starts is None else self._starts[rng.integers(len(self._starts))]
            own = seed if not dropped else int(rng.integers(2**32))
            try:
                return rollout(self._task, operator, own, start=start, horizon=self._horizon), dropped
            except UnstableError as error:
                dropped += 1
                if dropped == MOST_DROPPED:
                    raise InputError(
                        f"{dropped} rollouts in a row were dropped, the last since {error}: mend the simulator, or "
                        "give fewer branch_steps"
                    ) from None


class WeightedExperience(Experience):
    """The log, and rollouts that count by how likely their dynamics are the real ones."""

    def __init__(
        self,
        data: OfflineData,
        labeller: EpisodeLabeller | None,
        train: TrainConfig,
        mixture: Mixture,
        *,
        camera: str | None,
        device: torch.device,
        seed: int,
        own: Trajectories | None = None,
        gap: GapConfig = GapConfig(),  # noqa: B008  (frozen)
    ):
        if own is not None:
            raise InputError(f"algorithm {train.algorithm!r} learns from its newest episodes alone; leave --mix out")
        if len(data.transitions) < train.batch_size:
            raise InputError(
                f"{data.origin['store']}: {len(data.transitions)} real transitions; telling the simulator's from them "
                f"takes a batch, {train.batch_size}, or more: add episodes, or give --mix naive"
            )
        # Standardised by the log's own rows, whatever the policy sees of them, and never by simulated ones.
        preparation = prepare_from(data.transitions, data.contract)
        super().__init__(data, labeller, train, mixture, camera=camera, device=device, seed=seed)
        self.gap = DynamicsGap(gap, preparation, seed).to(device)

    def sample(self) -> Batch:
        """The next batch, weighted, after the discriminators learned from another, half of it simulated."""
        half = max(self._batch // 2, 1)
        self._sampler.sources = [(self._offline, half), (self._online, half)]
        telling = self.gap.update(self._sampler.sample(), self._simulated(half, half))
        batch = super().sample()
        real = self._sampler.sources[0][1]
        weighted, weights = self.gap.weigh(batch, self._simulated(real, len(batch) - real))
        self.info = telling | weights
        return weighted

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {GAP + name: tensor for name, tensor in self.gap.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.gap.load_state_dict(below(state, GAP))

    def _simulated(self, real: int, simulated: int) -> Tensor:
        """Shape (real + simulated,), bool: a batch has its sources in order."""
        return torch.arange(real + simulated, device=self._offline.device) >= real
