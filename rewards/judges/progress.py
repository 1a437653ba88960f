"""Time as a judge: in a demonstration that is known to succeed, the later moment is the better one."""

from collections.abc import Iterator, Sequence

from rewards.judge import Answer, Frame, Pair, Verdict


class ProgressJudge:
    """Needs no model at all, and pairs of one episode: moments of different ones have no common clock."""

    name = "progress"
    identity = ""
    symmetric = True

    def prefer(self, pairs: Sequence[Pair], task: str) -> Iterator[tuple[int, Answer]]:
        for position, (first, second) in enumerate(pairs):
            if first.episode != second.episode or first.progress == second.progress:
                yield position, Answer(Verdict.UNSURE, "not two moments of one episode")
            else:
                yield position, Answer(Verdict.FIRST if first.progress > second.progress else Verdict.SECOND)

    def succeeds(self, frames: Sequence[Frame], task: str) -> Iterator[tuple[int, float]]:
        """How far into its episode a moment is."""
        yield from enumerate(frame.progress for frame in frames)
