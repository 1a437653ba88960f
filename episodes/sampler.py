"""Sampling batches: exact counts from each source, from one generator that a checkpoint can hold."""

from collections.abc import Sequence

import torch
from torch import Tensor

from episodes.errors import InputError
from episodes.transitions import Batch, Transitions, concatenate


class Sampler:
    """Uniform with replacement inside each source, and exactly `count` rows from each source per batch.

    The generator lives on the CPU whatever the device of the data, so a seed means the same batches everywhere.
    """

    def __init__(self, sources: Sequence[tuple[Transitions, int]], seed: int):
        for transitions, count in sources:
            if count > 0 and not len(transitions):
                raise InputError("cannot sample from a source without transitions")
        self.sources = list(sources)
        self._generator = torch.Generator().manual_seed(seed)

    def sample(self) -> Batch:
        """The next batch."""
        return concatenate([self._draw(transitions, count) for transitions, count in self.sources if count > 0])

    def _draw(self, transitions: Transitions, count: int) -> Batch:
        index = torch.randint(len(transitions), (count,), generator=self._generator)
        return transitions.batch(index.to(transitions.device))

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])


def shares(batch_size: int, fractions: Sequence[float]) -> list[int]:
    """Whole counts that sum to `batch_size`, as near to the fractions as whole counts can be (largest remainder)."""
    total = sum(fractions)
    if not (all(fraction >= 0 for fraction in fractions) and 0 < total < float("inf")):
        raise InputError(f"fractions of a batch: got {list(fractions)}, expected none below zero and one above it")
    exact = [batch_size * fraction / total for fraction in fractions]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: batch_size - sum(counts)]:
        counts[i] += 1
    return counts
