"""What is learned from online: exact shares, people's part, labels that cannot be right, rewards that nobody gave."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.encoders import Look
from episodes.episode import Episode, Source
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import Store
from episodes.transitions import Batch
from finetune.config import resolve
from finetune.data import load_offline
from finetune.experience import ENOUGH, Experience, Mixture

CPU = torch.device("cpu")
OFFLINE, ONLINE, PEOPLE = range(3)


def walked(steps: int = 8, mark: float = 500.0, **changes: Any) -> Episode:
    """An online episode; its x says that it is one, and how often a person had the robot before."""
    state = np.full((steps + 1, 2), mark, np.float32)
    source = changes.pop("source", np.full(steps, Source.POLICY, np.uint8))
    state[:-1, 1] = source
    defaults = {"reward": np.zeros(steps, np.float32), "success": np.zeros(steps, np.float32), "origin": "today"}
    return Episode(
        state=state,
        action=np.zeros((steps, 2), np.float32),
        terminated=False,
        truncated=True,
        source=source,
        **defaults | changes,
    )


@pytest.fixture
def experience(store: Path) -> Callable[..., Experience]:
    """Of sixty offline walks and nothing else yet."""

    def make(batch_size: int = 100, labels: str = "logged", labeller: Any = None, **mixture: Any) -> Experience:
        config = resolve("iql", None, None, {"batch_size": batch_size, "device": "cpu", "labels": labels})
        data = load_offline(store, config)
        return Experience(data, labeller, config, Mixture(**mixture), camera=None, device=CPU, seed=3)

    return make


def counts(batch: Batch) -> list[int]:
    """How many rows are offline, online, and begin where a person had the robot."""
    online = batch.state[:, 0] == 500
    people = online & (batch.state[:, 1] == Source.INTERVENTION)
    return [int((~online).sum()), int((online & ~people).sum()), int(people.sum())]


def taken_over(steps: int = 8) -> Episode:
    """A person had the robot for half of the time."""
    return walked(steps, source=np.array([Source.POLICY, Source.INTERVENTION] * (steps // 2), np.uint8))


def test_without_people_the_rest_is_the_robots(experience: Callable[..., Experience]) -> None:
    one = experience(offline_share=0.3, intervention_share=0.5)
    assert not one.ready
    one.add(walked())
    assert one.ready
    assert all(counts(one.sample()) == [30, 70, 0] for _ in range(5))


def test_what_a_person_did_has_its_share_and_is_also_experience(
    experience: Callable[..., Experience],
) -> None:
    """Half of seventy are drawn from where a person began; in the other half they are as frequent as they were."""
    one = experience(1000, offline_share=0.3, intervention_share=0.5)
    one.add(taken_over())
    drawn = np.array([counts(one.sample()) for _ in range(50)])
    assert (drawn[:, OFFLINE] == 300).all()
    assert (drawn[:, PEOPLE] >= 350).all()
    assert drawn[:, PEOPLE].mean() == pytest.approx(350 + 175, abs=5)


def test_shares_change_episode_by_episode_and_stay_exact(experience: Callable[..., Experience]) -> None:
    one = experience(offline_share=0.8, offline_share_last=0.2, anneal_episodes=4)
    offline = []
    for _ in range(6):
        one.add(walked())
        offline.append(counts(one.sample())[OFFLINE])
    assert offline == [65, 50, 35, 20, 20, 20]


def test_so_do_peoples(experience: Callable[..., Experience]) -> None:
    one = experience(offline_share=0.0, intervention_share=0.9, intervention_share_last=0.1, anneal_episodes=2)
    shares = []
    for _ in range(3):
        one.add(taken_over(2))
        shares.append(one._mixture.shares(one.episodes, interventions=True)[PEOPLE])
    assert shares == pytest.approx([0.5, 0.1, 0.1])


def test_a_last_share_without_a_when_is_refused() -> None:
    with pytest.raises(InputError, match="offline_share_last is reached after anneal_episodes; give that, too"):
        Mixture(offline_share_last=0.1).check()


def test_interventions_carry_the_return_of_their_whole_episode(experience: Callable[..., Experience]) -> None:
    """And not one that ends where the person let go."""
    one = experience(1000, offline_share=0.0, intervention_share=0.9)
    reward = np.zeros(8, np.float32)
    reward[-1] = 1.0
    ends = {"terminated": True, "truncated": False}
    episode = walked(reward=reward, source=np.array([1, 2, 2, 1, 1, 1, 1, 1], np.uint8))
    one.add(Episode(**{name: getattr(episode, name) for name in episode.__slots__} | ends))
    batch = one.sample()
    returns = {round(float(r), 5) for r in batch.return_to_go[batch.state[:, 1] == Source.INTERVENTION]}
    assert returns == {round(0.99**6, 5), round(0.99**5, 5)}


class Looking:
    """Labels an episode as it is told to."""

    cameras = ()

    def __init__(self, *success_after: int | None):
        self._said = iter(success_after)

    def __call__(self, episode: Episode, look: Look | None) -> dict[str, np.ndarray]:
        after = next(self._said)
        success = np.zeros(episode.steps, np.float32)
        if after is not None:
            success[after - 1 :] = 1
        return {"reward": success - 1, "success": success, "terminated": success}


@pytest.fixture
def looking(store: Path, experience: Callable[..., Experience]) -> Callable[..., Experience]:
    """Whose offline labels know a success after 6 steps, and none sooner."""

    def make(*success_after: int | None) -> Experience:
        opened = Store.open(store)
        snapshot = opened.snapshot()
        if "seen" not in snapshot.label_names:
            success = np.zeros(snapshot.steps, np.float32)
            success[snapshot.step_starts[:5] + 5] = 1
            success[snapshot.step_starts[5] + 6] = 1
            opened.write_labels(_labels(snapshot, success))
        return experience(labels="seen", labeller=Looking(*success_after))

    return make


def _labels(snapshot: Any, success: np.ndarray) -> Any:
    values = {"reward": success - 1, "success": success}
    return LabelSet("seen", values, np.ones(snapshot.episodes, bool), {"method": "success"})


def test_a_success_sooner_than_anybody_ever_was_is_left_out(looking: Callable[..., Experience]) -> None:
    one = looking(2, 1, 3, None)
    assert one.add(walked())["online/left_out"] == 1
    assert one.add(walked())["online/left_out"] == 1
    assert not one.ready
    assert one.doubt == (
        "2 episodes in a row were left out, the last since it is called a success after 1 steps, where the quickest "
        "offline took 6"
    )
    # Half of the time is quick, and possible.
    assert "online/left_out" not in one.add(walked())
    assert (one.doubt, one.ready, one.episodes) == ("", True, 3)
    assert "online/left_out" not in one.add(walked())


def test_labels_that_contradict_what_was_said_are_told_of(looking: Callable[..., Experience]) -> None:
    one = looking(*[8] * 3, *[None] * 20)
    for _ in range(ENOUGH):
        assert one.doubt == ""
        one.add(walked())
    assert one.doubt == f"labels and what was said at the time differ on 3 of the last {ENOUGH} episodes"
    for _ in range(13):
        one.add(walked())
    assert one.doubt == ""


def test_another_thread_may_ask_for_doubt_while_it_learns(experience: Callable[..., Experience]) -> None:
    one = experience()

    class Agreed:
        """Whenever it is looked at, something is learned."""

        def __bool__(self) -> bool:
            one._agreed.append(True)
            return True

        def __eq__(self, other: object) -> bool:
            return bool(self) is other

    one._agreed.extend([Agreed(), Agreed()])  # type: ignore[list-item]
    assert one.doubt == ""
    assert len(one._agreed) > 2


def test_where_rewards_are_successes_saying_one_is_enough(experience: Callable[..., Experience]) -> None:
    """As a person does, at an episode's end."""
    one = experience(1000, offline_share=0.0)
    success = np.array([np.nan, np.nan, np.nan, 1], np.float32)
    one.add(walked(4, reward=None, success=success))
    assert sorted(set(one.sample().reward.tolist())) == [0.0, 1.0]


def test_where_rewards_are_successes_and_nobody_said_one_there_was_none(experience: Callable[..., Experience]) -> None:
    one = experience(1000, offline_share=0.0)
    one.add(walked(4, reward=None, success=None))
    assert (one.doubt, set(one.sample().reward.tolist())) == ("", {0.0})


@pytest.mark.parametrize(
    ("said", "known"), [(None, "nobody said how it ended"), (np.zeros(8, np.float32), "only its success is known")]
)
def test_what_nothing_rewards_is_left_out_and_told_of(
    store: Path, experience: Callable[..., Experience], said: np.ndarray | None, known: str
) -> None:
    opened = Store.open(store)
    snapshot = opened.snapshot()
    reward = np.linspace(-1, 0, snapshot.steps, dtype=np.float32)
    opened.write_labels(LabelSet("shaped", {"reward": reward}, np.ones(snapshot.episodes, bool), {}))
    one = experience(labels="shaped")
    assert one.add(walked(reward=None, success=said))["online/left_out"] == 1
    assert (one.ready, one.episodes) == (False, 1)
    assert one.doubt == (
        f"1 episodes in a row were left out, the last since it has no rewards, and {known}: the run's labels 'shaped' "
        "were not made by looking, and are no successes, so nothing rewards it"
    )
    assert "online/left_out" not in one.add(walked())
    assert one.doubt == ""
