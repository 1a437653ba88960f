"""How good policies were when they were tried, and going back to the best where a newer one is much worse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import fisher_exact

from finetune.intervals import rate_interval

CHANCE = 0.05
"""How often a policy that is as good as the best may look so much worse that it is given up. The best is the luckiest
of several: by rates alone, a policy of no difference would be given up after every third trial of ten episodes."""


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

    @property
    def at_least(self) -> float:
        """Lower end of the rate's interval: one success of one says less than eight of ten."""
        return rate_interval(self.successes, self.episodes)[0]

    def is_worse_than(self, other: "Trial") -> bool:
        """Whether that is more than chance: Fisher's exact test, one-sided."""
        table = [[each.successes, each.episodes - each.successes] for each in (self, other)]
        return float(fisher_exact(table, alternative="less").pvalue) < CHANCE  # type: ignore[union-attr]


class Trials:
    """Collects evaluation episodes by policy. Those of one policy that follow each other are one trial.

    Args:
        tolerated: by how much a policy's success rate may be below the best's; None for as much as it likes.
    """

    def __init__(self, tolerated: float | None):
        self._tolerated = tolerated
        self.best: Trial | None = None
        """Whose success is at least the highest; of equals the newest, which has learned more."""
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
        """Remember the best; the one to go back to, where this one is much worse, and that is no accident."""
        best = self.best
        if best is not None and trial.policy == best.policy:
            # It was not learned from in between, or a trial was interrupted.
            trial = Trial(
                best.policy, trial.checkpoint, best.successes + trial.successes, best.episodes + trial.episodes
            )
            self.best = trial
            return None
        if best is None or trial.at_least >= best.at_least:
            self.best = trial
            return None
        # What is tolerated is a decimal fraction, and differences of such are a little off.
        if self._tolerated is None or trial.rate + self._tolerated > best.rate + 1e-9:
            return None
        return best if trial.is_worse_than(best) else None

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
