"""Outcomes from what the cameras saw at the actor's steps."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from robot.reports import ActorStep, Outcome
from robot.rewarding import Rewarder


@dataclass
class Said:
    probability: float
    success: bool
    from_start: bool


class Script:
    """Says of the frames of an episode what it is told to; a frame is known by its number."""

    cameras = ("eye",)

    def __init__(self, *episodes: str):
        """One letter per frame: `.` is not done, `o` is done, `!` would be done from the start."""
        self._episodes = iter(episodes)
        self.frames: list[int] = []

    def begin(self) -> None:
        self._said = iter(next(self._episodes))

    def see(self, images: dict[str, np.ndarray]) -> Said:
        self.frames.append(int(images["eye"][0, 0, 0]))
        said = next(self._said)
        return Said({".": 0.1, "o": 0.9, "!": 0.8}[said], said == "o", said == "!")


def judged(rewarder: Rewarder, episode: str, frames: Iterable[int]) -> list[Outcome | None]:
    pictures = [(k, {"eye": np.full((2, 2, 3), k, np.uint8)}) for k in frames]
    return [rewarder.see(ActorStep(100 + k, episode, (k,), (0.0,)), images) for k, images in pictures]


def test_what_the_first_frame_shows_was_not_done_by_anybody() -> None:
    assert judged(Rewarder(Script("...")), "one", range(3)) == [
        None,
        Outcome(101, False, False),
        Outcome(102, False, False),
    ]


def test_a_success_ends_the_task_and_the_looking() -> None:
    script = Script("..o")
    rewarder = Rewarder(script)
    assert judged(rewarder, "one", range(5))[2:] == [Outcome(102, True, True), None, None]
    assert script.frames == [0, 1, 2]
    assert (rewarder.successes, rewarder.probability) == (1, 0.9)


def test_every_episode_is_looked_at_for_itself_and_nothing_between() -> None:
    rewarder = Rewarder(Script("..o", "", "...."))
    judged(rewarder, "one", range(3))
    assert judged(rewarder, "", range(3, 5)) == [None, None]
    found = judged(rewarder, "two", range(5, 9))
    assert [None if each is None else each.success for each in found] == [None, False, False, False]


def test_episodes_that_would_be_a_success_from_the_start_are_counted() -> None:
    rewarder = Rewarder(Script("!!!", "!!", "..", "!"))
    for episode, counted in (("one", 1), ("two", 2), ("three", 0), ("four", 1)):
        judged(rewarder, episode, range(1))
        assert rewarder.from_start == counted
