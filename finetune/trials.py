"""How good policies were when they were tried, and going back to the best where a newer one is much worse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import fisher_exact

ENOUGH = 5
"""Episodes of a trial from which on something is made of it: one that was cut short says little."""
CHANCE = 0.05
"""How often a policy that is as good as the others may look so much worse than the best of them that it is given up.
Divided by how many there were, since the best is the luckiest: by rates alone, learning would be thrown away after
every third trial of ten episodes."""


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

    def is_worse_than(self, other: "Trial", chance: float) -> bool:
        """Whether no accident of that probability: Fisher's exact test, one-sided."""
        table = [[each.successes, each.episodes - each.successes] for each in (self, other)]
        return float(fisher_exact(table, alternative="less").pvalue) < chance  # type: ignore[union-attr]


class Trials:
    """Collects evaluation episodes by policy. Those of one policy that follow each other are one trial.

    Args:
        tolerated: by how much a policy's success rate may be below the best's; None for as much as it likes.
    """

    def __init__(self, tolerated: float | None):
        self._tolerated = tolerated
        self.best: Trial | None = None
        """The newest of the best."""
        self.judged = 0
        """Trials of policies that were not the best already."""
        self.checkpoints: dict[int, int] = {}
        """Of the policies that are still kept, by hash."""
        self._policy = 0
        self._outcomes: list[bool] = []

    def add(self, policy: int, success: bool) -> None:
        """An evaluation episode; whoever finds that the policy has changed asks for `finished` first."""
        self._policy = policy
        self._outcomes.append(success)

    @property
    def under_way(self) -> Trial | None:
        """The trial that nothing has ended yet, where its policy is kept: any other can be nobody's way back."""
        if not self._outcomes or self._policy not in self.checkpoints:
            return None
        return Trial(self._policy, self.checkpoints[self._policy], sum(self._outcomes), len(self._outcomes))

    def finished(self, policy: int | None) -> Trial | None:
        """The trial that is over when the next episode is an evaluation of this policy; None: when it is none."""
        if not self._outcomes or policy == self._policy:
            return None
        trial = self.under_way
        self._policy, self._outcomes = 0, []
        return trial

    def judge(self, trial: Trial) -> Trial | None:
        """Remember the best; the one to go back to, where this one is much worse, and that is no accident."""
        best = self.best
        if trial.episodes < ENOUGH:
            return None
        if best is not None and trial.policy == best.policy:
            # It was not learned from in between, or its trial was interrupted.
            both = best.successes + trial.successes, best.episodes + trial.episodes
            self.best = Trial(best.policy, trial.checkpoint, *both)
            return None
        self.judged += 1
        if best is None or trial.rate >= best.rate:
            self.best = trial
            return None
        # What is tolerated is a decimal fraction, and differences of such are a little off.
        if self._tolerated is None or trial.rate + self._tolerated > best.rate - 1e-9:
            return None
        return best if trial.is_worse_than(best, CHANCE / max(self.judged - 1, 1)) else None

    def wanted(self, to_come: Iterable[int] = ()) -> set[int]:
        """Checkpoints that must stay: the best policy's, that of the one that is being tried, and of those that are
        tried in episodes that are still to come."""
        kept = {self.checkpoints[each] for each in (self._policy, *to_come) if each in self.checkpoints}
        return kept | ({self.best.checkpoint} if self.best is not None else set())

    def kept(self, checkpoints: Sequence[int]) -> None:
        """Forget policies whose checkpoints are gone."""
        self.checkpoints = {policy: number for policy, number in self.checkpoints.items() if number in checkpoints}

    def note(self) -> dict[str, Any]:
        """As JSON, to go on from; hashes in hexadecimal, since JSON's numbers are too small."""
        best = self.best
        return {
            "best": None if best is None else [f"{best.policy:016x}", best.checkpoint, best.successes, best.episodes],
            "judged": self.judged,
            "checkpoints": [[f"{policy:016x}", number] for policy, number in self.checkpoints.items()],
            "policy": f"{self._policy:016x}",
            "outcomes": self._outcomes,
        }

    def restore(self, note: dict[str, Any]) -> None:
        if note["best"] is not None:
            policy, checkpoint, successes, episodes = note["best"]
            self.best = Trial(int(policy, 16), checkpoint, successes, episodes)
        self.judged = note.get("judged", int(self.best is not None))
        self.checkpoints = {int(policy, 16): number for policy, number in note["checkpoints"]}
        self._policy, self._outcomes = int(note["policy"], 16), list(note["outcomes"])
