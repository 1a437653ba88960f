"""How good policies were when they were tried, and going back to the best where a newer one is much worse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy, and what came of it."""

    policy: int
    """Its hash; see `policies.checkpoint.actor_hash`."""
    checkpoint: int
    """The run's that it is in."""
    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        return self.successes / self.episodes


class Trials:
    """Collects evaluation episodes by policy. Those of one policy that follow each other are one trial.

    Args:
        tolerated: by how much a policy's success rate may be below the best's; None for as much as it likes.
    """

    def __init__(self, tolerated: float | None):
        self._tolerated = tolerated
        self.best: Trial | None = None
        """The newest of the best."""
        self.checkpoints: dict[int, int] = {}
        """Of the policies that are still kept, by hash."""
        self._policy = 0
        self._outcomes: list[bool] = []

    def add(self, policy: int, success: bool) -> None:
        """An evaluation episode; whoever finds that the policy has changed asks for `finished` first."""
        self._policy = policy
        self._outcomes.append(success)

    def finished(self, policy: int | None) -> Trial | None:
        """The trial that is over when the next episode is an evaluation of this policy; None: when it is none.

        A policy that is not kept any more can be nobody's way back, and is no trial.
        """
        if not self._outcomes or policy == self._policy:
            return None
        tried, outcomes = self._policy, self._outcomes
        self._policy, self._outcomes = 0, []
        if tried not in self.checkpoints:
            return None
        return Trial(tried, self.checkpoints[tried], sum(outcomes), len(outcomes))

    def judge(self, trial: Trial) -> Trial | None:
        """Remember the best; the one to go back to, where this one is much worse."""
        if self.best is None or trial.rate >= self.best.rate:
            self.best = trial
            return None
        # What is tolerated is a decimal fraction, and differences of such are a little off.
        if self._tolerated is None or trial.rate + self._tolerated > self.best.rate - 1e-9:
            return None
        return self.best

    @property
    def wanted(self) -> set[int]:
        """Checkpoints that must stay: the best policy's, and that of the one that is being tried."""
        trying = {self.checkpoints[self._policy]} if self._policy in self.checkpoints else set()
        return trying | ({self.best.checkpoint} if self.best is not None else set())

    def kept(self, checkpoints: Sequence[int]) -> None:
        """Forget policies whose checkpoints are gone."""
        self.checkpoints = {policy: number for policy, number in self.checkpoints.items() if number in checkpoints}

    def note(self) -> dict[str, Any]:
        """As JSON, to go on from; hashes in hexadecimal, since JSON's numbers are too small."""
        best = self.best
        return {
            "best": None if best is None else [f"{best.policy:016x}", best.checkpoint, best.successes, best.episodes],
            "checkpoints": [[f"{policy:016x}", number] for policy, number in self.checkpoints.items()],
            "policy": f"{self._policy:016x}",
            "outcomes": self._outcomes,
        }

    def restore(self, note: dict[str, Any]) -> None:
        if note["best"] is not None:
            policy, checkpoint, successes, episodes = note["best"]
            self.best = Trial(int(policy, 16), checkpoint, successes, episodes)
        self.checkpoints = {int(policy, 16): number for policy, number in note["checkpoints"]}
        self._policy, self._outcomes = int(note["policy"], 16), list(note["outcomes"])
