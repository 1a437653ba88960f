"""What is learned from online: the offline data, what the robot did since, and where a person took over."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from episodes.encoders import Look, look_at
from episodes.episode import Episode, Source
from episodes.errors import InputError
from episodes.sampler import Sampler, shares
from episodes.transitions import Batch, Transitions
from episodes.typed import STRICT
from finetune.config import TrainConfig
from finetune.data import OfflineData
from finetune.trajectories import Trajectories
from policies.algorithm import Info
from rewards.labeller import EpisodeLabeller

RECENT = 20
"""Episodes whose labels are compared with what was said of them at the time."""
ENOUGH = 10
"""Of those, from how many on something is made of it."""
DISAGREEMENT = 0.25
"""Share of them from which on it is a problem."""

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """What a batch is made of: exact shares, that may change from the first online episode to `anneal_episodes`."""

    __pydantic_config__ = STRICT

    offline_share: Share = 0.5
    """Of every batch."""
    offline_share_last: Share | None = None
    """At the end of annealing; as at first where None."""
    intervention_share: Share = 0.3
    """Of the rest, for what a person did, once somebody has taken over. What is left then is for all that the robot
    did, by whomever."""
    intervention_share_last: Share | None = None
    anneal_episodes: Annotated[int, Field(ge=0)] = 0

    def shares(self, episodes: int, *, interventions: bool) -> tuple[float, float, float]:
        """Offline, online and of interventions, after so many episodes; they sum to one."""
        done = min(episodes / self.anneal_episodes, 1.0) if self.anneal_episodes else 0.0

        def between(first: float, last: float | None) -> float:
            return first if last is None else first + done * (last - first)

        offline = between(self.offline_share, self.offline_share_last)
        people = between(self.intervention_share, self.intervention_share_last) if interventions else 0.0
        return offline, (1 - offline) * (1 - people), (1 - offline) * people

    def check(self) -> None:
        """Raise an InputError where a share would change, and nobody said over how many episodes."""
        last = [name for name in ("offline_share_last", "intervention_share_last") if getattr(self, name) is not None]
        if last and not self.anneal_episodes:
            raise InputError(f"{last[0]} is reached after anneal_episodes; give that, too")


@dataclass(frozen=True, slots=True)
class _Labels:
    """Of an episode, per step."""

    reward: np.ndarray
    terminated: np.ndarray
    """Whether the task ended there, bool."""
    seen: np.ndarray | None = None
    """Success, bool, where somebody looks at it."""


class Experience:
    """Transitions of all three sources, labelled as the offline ones were."""

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
    ):
        self.own = own
        """Where the learner takes nothing but its newest episodes: those."""
        self._data, self._labeller, self._mixture, self._camera = data, labeller, mixture, camera
        self._batch = train.batch_size
        self._offline = data.transitions.to(device)
        contract = data.contract
        self._online, self._interventions = (
            Transitions(train.sampling, len(contract.state), len(contract.action), data.transitions.feature_size).to(
                device
            )
            for _ in range(2)
        )
        self._sampler = Sampler([], seed)
        self.episodes = 0
        """That were added, those that were left out included."""
        self.steps = 0
        """Of these episodes."""
        self.left_out = 0
        """Episodes in a row that were not learned from: their labels cannot be right, or nothing rewards them."""
        self.info: Info = {}
        """Of the last batch, to be logged."""
        self._doubt = ""
        """Why the last episode was left out; empty where it was not."""
        self._agreed: deque[bool] = deque(maxlen=RECENT)

    @property
    def ready(self) -> bool:
        """Whether there is something to learn from beside the offline data."""
        return len(self._online) > 0

    @property
    def doubt(self) -> str:
        """What is wrong with the labels, as far as one can tell; empty where nothing is."""
        if self.left_out:
            return f"{self.left_out} episodes in a row were left out, the last since it {self._doubt}"
        # Whoever asks may be another thread than the one that learns.
        agreed = tuple(self._agreed)
        wrong = agreed.count(False)
        if len(agreed) >= ENOUGH and wrong > DISAGREEMENT * len(agreed):
            return f"labels and what was said at the time differ on {wrong} of the last {len(agreed)} episodes"
        return ""

    def add(self, episode: Episode, look: Look | None = None) -> dict[str, float]:
        """Take an episode, or leave it out; what is to be logged of it.

        Args:
            look: how its pictures are looked at; encodes them where None.
        """
        features, look = None, look or look_at(episode)
        if self._data.encoder is not None:
            features = look(str(self._camera), self._data.encoder)
        outcome = self._outcome(episode)
        labels = self._labels(episode, look)
        self.episodes += 1
        self.steps += episode.steps
        self._doubt = self._unrewarded(episode) if labels is None else ""
        if labels is not None and labels.seen is not None:
            outcome["online/success_seen"] = float(labels.seen.any())
            if "online/success" in outcome:
                self._agreed.append(bool(outcome["online/success"]) == bool(labels.seen.any()))
            self._doubt = self._implausible(labels.seen)
        self.left_out = self.left_out + 1 if self._doubt else 0
        if labels is None or self._doubt:
            return outcome | {"online/left_out": 1.0}
        self._online.add(episode.state, episode.action, labels.reward, labels.terminated, features)
        if self.own is not None:
            self.own.add(self.episodes, episode, labels.reward, labels.terminated, features)
        if episode.helped:
            taken = episode.source == Source.INTERVENTION
            self._interventions.add(
                episode.state, episode.action, labels.reward, labels.terminated, features, begin_at=taken
            )
            outcome["online/intervened"] = float(taken.mean())
        return outcome

    def sample(self) -> Batch:
        """The next batch."""
        shared = self._mixture.shares(self.episodes, interventions=len(self._interventions) > 0)
        sources: Sequence[Transitions] = (self._offline, self._online, self._interventions)
        self._sampler.sources = list(zip(sources, shares(self._batch, list(shared)), strict=True))
        return self._sampler.sample()

    def state_dict(self) -> dict[str, Tensor]:
        return self._sampler.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._sampler.load_state_dict(state)

    def _labels(self, episode: Episode, look: Look) -> _Labels | None:
        """None where nothing says how it is to be rewarded."""
        ended = np.zeros(episode.steps, bool)
        ended[-1] = episode.terminated
        if self._labeller is not None:
            labels = self._labeller(episode, look)
            success = labels.get("success")
            terminated = labels["terminated"] > 0 if "terminated" in labels else ended
            return _Labels(labels["reward"], terminated, None if success is None else np.nan_to_num(success) > 0)
        if episode.reward is not None:
            return _Labels(episode.reward, ended)
        if self._data.sparse:
            # What nobody said was none: people say that it was one, and let time run up where it was not.
            said = np.zeros(episode.steps, np.float32) if episode.success is None else np.nan_to_num(episode.success)
            return _Labels(said, ended)
        return None

    def _unrewarded(self, episode: Episode) -> str:
        said = "nobody said how it ended" if episode.success is None else "only its success is known"
        return (
            f"has no rewards, and {said}: the run's labels {self._data.origin['labels']!r} were not made by looking, "
            "and are no successes, so nothing rewards it"
        )

    def _outcome(self, episode: Episode) -> dict[str, float]:
        outcome = {"length": float(episode.steps)}
        if episode.success is not None:
            outcome["online/success"] = float(np.nanmax(np.append(episode.success, 0.0)))
        if episode.reward is not None:
            outcome["online/return"] = float(episode.reward.sum())
            outcome["online/best_reward"] = float(episode.reward.max())
        return outcome

    def _implausible(self, success: np.ndarray) -> str:
        """Why a success cannot be one; empty where it can, or there is none."""
        quickest = self._data.quickest
        steps = int(np.argmax(success)) + 1
        if not success.any() or quickest is None or steps >= quickest / 2:
            return ""
        return f"is called a success after {steps} steps, where the quickest offline took {quickest}"
