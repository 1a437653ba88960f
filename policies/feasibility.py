"""The feasibility filter: any policy's own action where it is feasible, an alternative where not, else a stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import torch

from episodes.errors import InputError
from policies.calibration import Familiarity
from policies.fisor import FISOR

Observation = Mapping[str, np.ndarray]
OnStop = Callable[[Observation], np.ndarray]
"""What is sent instead of an action: on a robot that is up to the guardian, in simulation to the task."""


class Filtered(Protocol):
    """A policy that can be filtered."""

    def reset(self, seed: int) -> None: ...

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray: ...


class Sampling(Protocol):
    """A policy that has more than one idea: `policies.policy.Policy`."""

    def samples(self, observation: dict[str, np.ndarray], count: int, generator: torch.Generator) -> np.ndarray: ...


class Ruling(StrEnum):
    """What the filter decided."""

    OWN = "own"
    """The policy's own action, as it is."""
    ALTERNATIVE = "alternative"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be done, and why."""

    ruling: Ruling
    action: np.ndarray | None
    """Shape (A,); None where nothing is to be done but to stop."""
    reason: str
    q_h: float = float("nan")
    """Of that action, where there is one."""


class FeasibilityFilter:
    """Judges actions by FISOR's feasibility critics.

    An action is accepted where Q_h <= -margin and the state-action is like the logged ones. The policy's own action
    comes first and passes as it is; where it fails, the least infeasible of the accepted alternatives, and where there
    is none, a stop. Nothing that goes wrong with the model lets anything pass: a value that is not finite is no
    acceptance, and what is missing is a stop.
    """

    def __init__(
        self,
        model: FISOR | None,
        *,
        margin: float = 0.0,
        familiarity: Familiarity | None = None,
        alternatives: int = 16,
        seed: int = 0,
    ):
        """Filter with a model; without one everything is a stop.

        Args:
            margin: see `calibrate`.
            familiarity: what counts as known; everything where None.
            alternatives: how many of its own samples the policy is asked for; the model adds its candidates.

        Raises:
            InputError: for a negative margin, or a model that acts in chunks or sees a history.
        """
        if not margin >= 0:
            raise InputError(f"margin {margin:g}: expected at least 0")
        if model is not None and model.preparation.chunk != 1:
            raise InputError(f"the filter judges single actions, and the model chunks of {model.preparation.chunk}")
        if model is not None and model.preparation.history != 1:
            raise InputError(
                f"the filter judges single observations, and the model histories of {model.preparation.history}"
            )
        if model is not None and model.preparation.observation_size != _state_size(model):
            raise InputError("the filter judges by the state, and the model sees pictures, too")
        self.model, self.margin, self.familiarity = model, margin, familiarity
        self.alternatives = alternatives
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def reset(self, seed: int) -> None:
        """Begin an episode: what alternatives are drawn follows from this seed and the filter's."""
        mixed = np.random.SeedSequence([self._seed, seed]).generate_state(1, np.uint64)[0]
        self._generator.manual_seed(int(mixed >> np.uint64(1)))

    def q_h(self, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Shape (n,): Q_h of (n, A) actions in n states (n, S); infinity where it is unknown or not finite."""
        if self.model is None:
            return np.full(len(actions), np.inf)
        device = self.model.preparation.mean.device
        states = torch.from_numpy(np.asarray(state, np.float32)).to(device)
        chosen = torch.from_numpy(np.asarray(actions, np.float32)).unsqueeze(1).to(device)
        found = self.model.q_h(states, chosen).cpu().numpy()
        if self.familiarity is not None:
            found = np.where(self.familiarity.known(rows_of(self.model, state, actions)), found, np.inf)
        return np.where(np.isfinite(found), found, np.inf)

    def judge(self, observation: dict[str, np.ndarray], own: np.ndarray, policy: object = None) -> Judgement:
        """Judge a policy's own action, shape (A,), and find an alternative where it fails.

        Args:
            policy: asked for samples of its own where it has `samples`.
        """
        if self.model is None:
            return Judgement(Ruling.STOP, None, "there is no model to judge by")
        state = np.asarray(observation["state"], np.float32)
        if not np.isfinite(state).all():
            return Judgement(Ruling.STOP, None, "the state is not finite")
        if own.shape == (self.model.preparation.center.shape[1],) and np.isfinite(own).all():
            value = float(self.q_h(state[None], own[None])[0])
            if value <= -self.margin:
                return Judgement(Ruling.OWN, own, "", value)
        others = self._others(observation, state, policy)
        if not len(others):
            return Judgement(Ruling.STOP, None, "the action was not accepted, and there is no alternative")
        values = self.q_h(np.repeat(state[None], len(others), axis=0), others)
        best = int(values.argmin())
        if values[best] <= -self.margin:
            reason = "the action was not accepted; the least infeasible alternative was"
            return Judgement(Ruling.ALTERNATIVE, others[best], reason, float(values[best]))
        return Judgement(Ruling.STOP, None, f"neither the action nor one of {len(others)} alternatives was accepted")

    def _others(self, observation: dict[str, np.ndarray], state: np.ndarray, policy: object) -> np.ndarray:
        """Alternatives, shape (n, A), finite: the policy's own samples and the model's candidates."""
        assert self.model is not None
        parts = [np.zeros((0, self.model.preparation.center.shape[1]), np.float32)]
        if self.alternatives and hasattr(policy, "samples"):
            sampling: Sampling = policy  # type: ignore[assignment]
            parts.append(sampling.samples(observation, self.alternatives, self._generator))
        with torch.no_grad():
            device = self.model.preparation.mean.device
            seen = torch.from_numpy(state[None]).to(device)
            acting = self.model.actor
            noise = acting.diffusion.noise(acting.count, self._generator)
            drawn = acting.candidates(self.model.preparation.observation(seen, None), noise)[0]
            parts.append(self.model.preparation.decode(seen.expand(len(drawn), -1), drawn)[:, 0].cpu().numpy())
        found = np.concatenate(parts)
        return found[np.isfinite(found).all(1)]


class FilteredPolicy:
    """A policy behind the filter, as an operator; what a stop means is said by who knows the robot."""

    def __init__(self, policy: Filtered, judge: FeasibilityFilter, on_stop: OnStop):
        self.policy, self.filter, self.on_stop = policy, judge, on_stop
        self.source = getattr(policy, "source", None)
        self.counts = dict.fromkeys(Ruling, 0)
        """How often each ruling was made, since the beginning."""

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)
        self.filter.reset(seed)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        judged = self.filter.judge(observation, self.policy.act(observation), self.policy)
        self.counts[judged.ruling] += 1
        return self.on_stop(observation) if judged.action is None else judged.action


def _state_size(model: FISOR) -> int:
    """Numbers that the model's networks see of the state alone."""
    return len(model.preparation.seen) + 2 * len(model.preparation.periodic)


def rows_of(model: FISOR, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """(n, S) states and (n, A) actions as rows (n, D) of what the model's networks see: what `Familiarity` compares."""
    device = model.preparation.mean.device
    states = torch.from_numpy(np.asarray(state, np.float32)).to(device)
    chosen = torch.from_numpy(np.asarray(actions, np.float32)).unsqueeze(1).to(device)
    seen = torch.cat([model.preparation.observation(states, None), model.preparation.encode(states, chosen)], dim=1)
    return seen.cpu().numpy()
