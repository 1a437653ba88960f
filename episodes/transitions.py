"""Transitions: a store's steps in memory, ready to be sampled, one action at a time or in chunks."""

from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from episodes.episode import Episode
from episodes.errors import InputError
from episodes.history import windows
from episodes.labels import LabelSet
from episodes.snapshot import Snapshot, ends_of_task
from episodes.typed import STRICT


@dataclass(frozen=True, slots=True)
class Batch:
    """Transitions on one device; `B` rows. Where actions come in chunks of `C`, a transition spans up to `C` steps."""

    state: Tensor
    """Shape (B, S): what was observed when the first action was chosen, in the contract's units. With a history of
    K > 1 shape (B, K, S): the episode's last K observations up to that one, oldest first; see `episodes.history`."""
    action: Tensor
    """Shape (B, C, A), as sent. After an episode's end the last action is repeated."""
    valid: Tensor
    """Shape (B, C): 1 where the action was really taken, 0 where it repeats the last one."""
    reward: Tensor
    """Shape (B,): the discounted sum over the taken actions, scaled."""
    next_state: Tensor
    """Shaped like `state`: what was observed after the last taken action; a stand-in where nothing was, and `mask` is
    0."""
    mask: Tensor
    """Shape (B,): 0 where the task terminated, 1 where the future counts. A time limit leaves it at 1."""
    discount: Tensor
    """Shape (B,): gamma to the power of the number of taken actions."""
    return_to_go: Tensor
    """Shape (B,): the discounted sum of the episode's scaled rewards from here on. A time limit ends no task: what was
    cut off there is taken to have gone on as it ended, with its last reward for ever."""
    features: Tensor | None = None
    """Shape (B, F): frozen image features that belong to `state`, whatever the history to its newest observation."""
    next_features: Tensor | None = None
    cost: Tensor | None = None
    """Shape (B,): the largest h(s) of what the taken actions led to, above 0 where something was violated. It is never
    scaled: where its sign changes means something. None where a source has no costs."""

    def __len__(self) -> int:
        return len(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedBatch(Batch):
    """Rows of a real robot, and of a simulator that is not quite like it."""

    simulated: Tensor
    """Shape (B,), bool: what the simulator did."""
    weight: Tensor
    """Shape (B,): how much a row counts where the dynamics matter; 1 for real ones."""
    gap: Tensor
    """Shape (B,): how far the simulator's dynamics are off there, 0 or more [nats]; of no meaning in real rows."""


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of all rows, in order."""
    if len(batches) == 1:
        return batches[0]
    columns = {}
    for item in fields(Batch):
        parts = [getattr(batch, item.name) for batch in batches]
        columns[item.name] = None if any(part is None for part in parts) else torch.cat(parts)
    return Batch(**columns)


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How steps become transitions. Rewards are stored raw; these numbers travel with the run."""

    __pydantic_config__ = STRICT

    chunk: Annotated[int, Field(ge=1)] = 1
    """Actions per transition."""
    history: Annotated[int, Field(ge=1)] = 1
    """Observations of the state that a policy sees: the newest one and those before it in the episode. At an episode's
    beginning the first one is repeated."""
    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    """gamma, per step."""
    reward_scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    reward_bias: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """A step's reward is `reward_scale * raw + reward_bias`; success rewards in {0, 1} are usually shifted by -1."""

    def rewards(self, raw: np.ndarray, *, ended: bool) -> np.ndarray:
        """Shape (T,), float64: what is learned from, of an episode's raw rewards.

        Where every step counts against the policy, a task that `ended` in failure is taken to go on failing for ever:
        otherwise nothing would pay as well as failing at once.
        """
        rewards = self.reward_scale * raw.astype(np.float64) + self.reward_bias
        if ended and self.reward_bias < 0 and rewards[-1] < 0 and self.discount < 1:
            rewards[-1] /= 1 - self.discount
        return rewards


class Transitions:
    """Columns of one source in memory, and for every transition the rows that it is made of."""

    def __init__(self, config: SamplingConfig, state_size: int, action_size: int, feature_size: int = 0):
        self.config = config
        self._state = torch.empty(0, state_size)
        self._features = torch.empty(0, feature_size) if feature_size else None
        self._action = torch.empty(0, action_size)
        self._rows = _Rows.empty()
        self._costed = False

    def __len__(self) -> int:
        return len(self._rows.start)

    @property
    def device(self) -> torch.device:
        return self._state.device

    @property
    def feature_size(self) -> int:
        """Numbers per image feature vector; 0 where there are none."""
        return 0 if self._features is None else self._features.shape[1]

    def observed(self) -> tuple[Tensor, Tensor | None]:
        """For statistics: every observation that some transition starts or stops at, once: (N, S) and (N, F)."""
        rows = torch.cat([self._rows.start, self._rows.stop]).unique()
        return self._state[rows], None if self._features is None else self._features[rows]

    def starts(self) -> Tensor:
        """Every state that some transition starts at, once: (N, S)."""
        return self._state[self._rows.start.unique()]

    def add(
        self,
        state: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        features: np.ndarray | None = None,
        cost: np.ndarray | None = None,
        *,
        begin_at: np.ndarray | None = None,
    ) -> None:
        """Add one episode.

        Args:
            state: (T + 1, S), or (T, S) where the observation after the last action is missing.
            action: (T, A).
            reward: (T,), raw, for the observation after each action.
            terminated: (T,), bool; steps after the first True are no transitions.
            features: one row per state.
            begin_at: (T,), bool: the steps that a transition may begin with; all of them where None.
            cost: (T,), h of the observation after each action.
        """
        steps = len(action)
        if len(state) not in (steps, steps + 1) or len(reward) != steps or len(terminated) != steps:
            raise InputError(
                f"ragged episode: {len(state)} observations, {len(reward)} rewards and {len(terminated)} ends "
                f"for {steps} actions"
            )
        if self._features is not None and features is None:
            raise InputError("these transitions carry image features, and the episode has none")
        rows = _rows_of(len(state), reward, terminated, self.config, cost)
        if begin_at is not None:
            rows = rows.at(torch.from_numpy(begin_at)[rows.step])
        self._costed |= cost is not None
        offset = _Offset(observation=len(self._state), step=len(self._action))
        self._state = torch.cat([self._state, torch.from_numpy(state).to(self._state)])
        self._action = torch.cat([self._action, torch.from_numpy(action).to(self._action)])
        if self._features is not None and features is not None:
            self._features = torch.cat([self._features, torch.from_numpy(features).to(self._features)])
        self._rows = self._rows.extended([rows.moved(offset)])

    def add_episode(self, episode: Episode, features: np.ndarray | None = None) -> None:
        """Add one episode with the reward that it was recorded with."""
        if episode.reward is None:
            raise InputError("the episode has no rewards")
        terminated = np.zeros(episode.steps, bool)
        terminated[-1] = episode.terminated
        self.add(episode.state, episode.action, episode.reward, terminated, features)

    @classmethod
    def load(
        cls, snapshot: Snapshot, labels: LabelSet, config: SamplingConfig, features: np.ndarray | None = None
    ) -> "Transitions":
        """All transitions of a snapshot that the label set covers; what it does not cover is left out.

        Raises:
            InputError: where nothing is left, or a covered step that could be learned from has no reward.
        """
        transitions = cls(config, len(snapshot.contract.state), len(snapshot.contract.action))
        transitions._state = torch.from_numpy(snapshot.column("state"))
        transitions._action = torch.from_numpy(snapshot.column("action"))
        transitions._features = None if features is None else torch.from_numpy(features)
        terminated = ends_of_task(snapshot, labels)
        reward, cost = labels.values["reward"], labels.values.get("cost")
        transitions._costed = cost is not None
        parts = []
        for index in np.flatnonzero(labels.covered):
            first_step, first_observation = int(snapshot.step_starts[index]), int(snapshot.observation_starts[index])
            steps = slice(first_step, int(snapshot.step_ends[index]))
            observations = int(snapshot.observation_ends[index]) - first_observation
            costs = None if cost is None else cost[steps]
            rows = _rows_of(observations, reward[steps], terminated[steps], config, costs)
            if rows.reward.isnan().any():
                raise InputError(
                    f"{snapshot.path}: label set {labels.name!r} covers episode {index}, "
                    "and not all its steps have a reward"
                )
            parts.append(rows.moved(_Offset(first_observation, first_step)))
        transitions._rows = _Rows.empty().extended(parts)
        if not len(transitions):
            raise InputError(f"{snapshot.path}: label set {labels.name!r} leaves no transition to learn from")
        return transitions

    def to(self, device: torch.device) -> "Transitions":
        """Move everything to a device, in place."""
        self._state, self._action = self._state.to(device), self._action.to(device)
        self._features = None if self._features is None else self._features.to(device)
        self._rows = self._rows.to(device)
        return self

    def batch(self, index: Tensor) -> Batch:
        """The transitions at these positions."""
        rows = self._rows
        start, stop, first, history = rows.start[index], rows.stop[index], rows.first[index], self.config.history
        steps = rows.step[index].unsqueeze(1) + torch.arange(self.config.chunk, device=index.device)
        last = rows.last[index].unsqueeze(1)
        return Batch(
            state=windows(self._state, start, first, history),
            action=self._action[torch.minimum(steps, last)],
            valid=(steps <= last).float(),
            reward=rows.reward[index],
            next_state=windows(self._state, stop, first, history),
            mask=rows.mask[index],
            discount=rows.discount[index],
            return_to_go=rows.return_to_go[index],
            features=None if self._features is None else self._features[start],
            next_features=None if self._features is None else self._features[stop],
            cost=rows.cost[index] if self._costed else None,
        )

    def all_actions(self) -> Batch:
        """Every transition once, for statistics of what the policy will have to produce."""
        return self.batch(torch.arange(len(self), device=self._rows.start.device))


@dataclass(frozen=True, slots=True)
class _Offset:
    observation: int
    step: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """Per transition: which rows of the columns it is made of, and what does not depend on them."""

    first: Tensor
    """Observation row that its episode begins with."""
    start: Tensor
    """Observation row before the first action."""
    stop: Tensor
    """Observation row after the last taken action."""
    step: Tensor
    """Step row of the first action."""
    last: Tensor
    """Step row of the last taken action."""
    reward: Tensor
    mask: Tensor
    discount: Tensor
    return_to_go: Tensor
    cost: Tensor

    @classmethod
    def empty(cls) -> "_Rows":
        integer, number = torch.empty(0, dtype=torch.int64), torch.empty(0)
        return cls(integer, integer, integer, integer, integer, number, number, number, number, number)

    def extended(self, parts: list["_Rows"]) -> "_Rows":
        device = self.start.device
        return _Rows(*(torch.cat([getattr(rows, f.name).to(device) for rows in (self, *parts)]) for f in fields(_Rows)))

    def moved(self, by: _Offset) -> "_Rows":
        return _Rows(
            self.first + by.observation,
            self.start + by.observation,
            self.stop + by.observation,
            self.step + by.step,
            self.last + by.step,
            self.reward,
            self.mask,
            self.discount,
            self.return_to_go,
            self.cost,
        )

    def at(self, chosen: Tensor) -> "_Rows":
        return _Rows(*(getattr(self, f.name)[chosen] for f in fields(_Rows)))

    def to(self, device: torch.device) -> "_Rows":
        return _Rows(*(getattr(self, f.name).to(device) for f in fields(_Rows)))


def _rows_of(
    observations: int,
    reward: np.ndarray,
    terminated: np.ndarray,
    config: SamplingConfig,
    cost: np.ndarray | None = None,
) -> _Rows:
    """The transitions of one episode, rows counted from its start.

    Step `t` starts a transition that takes the actions `t .. last`, at most `chunk` of them: fewer before the end of
    the task, and before the point after which nothing was observed.
    """
    ends = np.flatnonzero(terminated)
    steps = int(ends[0]) + 1 if len(ends) else len(reward)
    # Without an observation after it, a last step is usable only if the task ended there: its value is not asked for.
    usable = steps if len(ends) or observations > steps else steps - 1
    first = np.arange(usable)
    last = np.minimum(first + config.chunk, usable) - 1
    scaled = config.rewards(reward[:usable], ended=bool(len(ends)))
    powers = config.discount ** np.arange(config.chunk)
    padded = np.concatenate([scaled, np.zeros(config.chunk)])
    summed = np.array([padded[t : t + config.chunk] @ powers for t in first])
    worst = np.full(usable, np.nan)
    if cost is not None:
        worst = np.array([cost[t : stop + 1].max() for t, stop in zip(first, last, strict=True)])
    ended = (last == steps - 1) & bool(len(ends))
    # Where the task ended unobserved there is no row to show; the mask keeps the value of the stand-in row out of it.
    after = np.minimum(last + 1, observations - 1)
    return _Rows(
        first=torch.zeros(usable, dtype=torch.int64),
        start=torch.from_numpy(first),
        stop=torch.from_numpy(after),
        step=torch.from_numpy(first),
        last=torch.from_numpy(last),
        reward=torch.from_numpy(summed.astype(np.float32)),
        mask=torch.from_numpy((~ended).astype(np.float32)),
        discount=torch.from_numpy((config.discount ** (last - first + 1)).astype(np.float32)),
        return_to_go=torch.from_numpy(_returns_to_go(scaled, config.discount, bool(len(ends))).astype(np.float32)),
        cost=torch.from_numpy(worst.astype(np.float32)),
    )


def _returns_to_go(reward: np.ndarray, discount: float, terminated: bool) -> np.ndarray:
    """Shape (n,): see `Batch.return_to_go`; without a discount nothing can go on for ever, and nothing is added."""
    goes_on = len(reward) and not terminated and discount < 1
    following = reward[-1] / (1 - discount) if goes_on else 0.0
    returns = np.empty(len(reward))
    for step in reversed(range(len(reward))):
        # What goes on after the last step is worth this one's reward and all that is like it.
        following = returns[step] = reward[step] + discount * following
    return returns
