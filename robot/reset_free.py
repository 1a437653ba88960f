"""Reset-free operation: the robot does a task and undoes it, by turns, and learns both."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from episodes.errors import InputError
from robot.alternating import Alternation
from robot.heard_episode import RobotEpisode
from robot.session import TIMEOUT, Session
from robot.spinning import APPEARING


@dataclass(frozen=True, slots=True)
class ResetFree:
    """What became of episodes in both directions."""

    episodes: list[RobotEpisode]
    """In their order."""
    asked: list[str]
    """What a person was asked for, each time."""


def learn_reset_free(
    episodes: int,
    *,
    person_every: int,
    enable: bool,
    wait: bool = False,
    namespace: str = "",
    timeout: float = TIMEOUT,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    say: Callable[[str], None] = lambda _: None,
) -> ResetFree:
    """Run episodes until there are so many to learn from in both directions together, those of earlier times included.

    A person is asked at the beginning, after `person_every` episodes without one, when the guardian has stopped or
    does not let the robot move from where it is, and when something is out of reach. Between two episodes nothing is
    enabled: what the contract's `between` moves, it answers for. Nobody but a person rearms.

    Args:
        wait: begin an episode only when the one before was learned from and its policy is there.
        say: is told what a person is asked to do.

    Raises:
        InputError: where an episode could not be begun or did not end, or a learner that is waited for falls silent.
    """
    turns = Alternation(person_every)
    told = ResetFree([], [])
    with Session(namespace, say) as session:
        for backward, what in ((False, "the task"), (True, "what undoes it")):
            if not session.learners[backward].appears(APPEARING):
                raise InputError(
                    f"nobody learns {what}, or the actor does not take what is learned: "
                    "firsthand up finetune ... backward:=RUN backward_new:=DIR"
                )
        done = sum(learner.recorded for learner in session.learners.values())
        for _ in progress(range(done, episodes)):
            why = turns.person_for or _told(session.go_on) or (_told(session.enable) if enable else "")
            if why:
                told.asked.append(why)
                session.ask(why)
                turns.person_came()
                if enable:
                    session.enable()
            episode = session.episode(timeout, backward=turns.backward)
            session.disable()
            told.episodes.append(episode)
            turns.ended(episode.success)
            learner = session.learners[episode.backward]
            # What was stopped before its first action is nothing to learn from.
            if wait and episode.steps:
                learner.wait_for(episode.name)
            learner.tell()
    return told


def _told(attempt: Callable[[], str | None]) -> str:
    """What somebody is told by an attempt to go on without a person, be it why it failed; empty where all is well."""
    try:
        return attempt() or ""
    except InputError as error:
        return str(error)
