"""What is heard of an episode amounts to what became of it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from episodes.episode import Source
from robot.reports import EPISODE_TOPIC, SENT_TOPIC, STEP_TOPIC, ActorStep, EpisodeState, Sent, encode

pytest_plugins = ("tests.robot.process_fixtures",)

NAN = float("nan")


class Heard:
    """An episode of which a test says what is heard."""

    def __init__(self) -> None:
        from robot.heard_episode import HeardEpisode

        self._takes: dict[str, Callable[[Any], None]] = {}
        self.episode = HeardEpisode(self)  # type: ignore[arg-type]

    def create_subscription(self, _: Any, topic: str, take: Callable[[Any], None], *rest: Any, **more: Any) -> None:
        self._takes[topic] = take

    def count_publishers(self, _: str) -> int:
        return 0

    def say(self, topic: str, report: Any) -> None:
        self._takes[topic](SimpleNamespace(data=encode(report)))

    def step(self, tick: int, sent: tuple[float, ...] = (1.0, 2.0), *, episode: str = "one", **more: Any) -> None:
        self.say(STEP_TOPIC, ActorStep(tick, episode, (1,), (1.0, 2.0), **more))
        self.say(SENT_TOPIC, Sent(tick, episode, sent, 1))

    def told(self) -> Any:
        self.say(EPISODE_TOPIC, EpisodeState("one", False, 100, terminated=True, success=True))
        return self.episode.told("one", backward=False)


@pytest.fixture
def heard(domain: int) -> Heard:
    heard = Heard()
    heard.say(EPISODE_TOPIC, EpisodeState("one", True, 1))
    return heard


def test_between_episodes_nothing_is_kept(heard: Heard) -> None:
    """A session may wait overnight for a person."""
    for tick in range(10):
        heard.step(tick, episode="")
    assert heard.episode.sent == 0
    assert not heard.episode._steps
    heard.step(20)
    assert heard.told().steps == 1


def test_steps_in_which_a_person_took_over_are_counted(heard: Heard) -> None:
    from robot.evaluation import helped_in

    heard.step(10, source=int(Source.POLICY))
    before = heard.told()
    heard.step(20, source=int(Source.INTERVENTION))
    heard.step(30, source=int(Source.INTERVENTION))
    told = heard.told()
    assert (before.helped, told.helped, told.steps) == (0, 2, 3)
    assert helped_in([before, told, told]) == 2


def test_steps_before_anything_is_known_to_have_been_sent_are_none(heard: Heard) -> None:
    """A store has none of them, and who waits for one that learns from the episode would wait in vain."""
    heard.step(10, (0.0, NAN))
    assert heard.told().steps == 0
    heard.step(20)
    assert heard.told().steps == 1
