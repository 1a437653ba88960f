"""A policy that got much worse is given up for the best that was tried, however the learning is carried on."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.episode import Source
from episodes.store import Store
from finetune.following import Following
from finetune.learner import Beginning, Learner, LearningConfig
from finetune.online import OnlineConfig, finetune, resume
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint


class Told:
    """An evaluation whose success was decided elsewhere."""

    def __init__(self, rate: float):
        self._rate = rate

    def summary(self) -> dict[str, Any]:
        return {"success_rate": self._rate, "return_mean": None, "best_reward_mean": None, "episodes": 10}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """By how many episodes were learned from, the success rate; .5 where it is not said."""

    learned = [0]
    learn = Learner.learn

    def learning(self: Learner) -> dict[str, float]:
        found = learn(self)
        learned[0] = self.learned
        return found

    def tell(**rates: float) -> None:
        learned[0] = 0
        monkeypatch.setattr("finetune.online.evaluate", lambda *_: Told(rates.get(f"_{learned[0]}", 0.5)))

    monkeypatch.setattr(Learner, "learn", learning)
    return tell


def online(**settings: Any) -> OnlineConfig:
    return OnlineConfig(**{"task": "walk", "episodes": 8, "checkpoint_every": 3, "evaluate_every": 2} | settings)


def policy_at(run: Path, number: int) -> int:
    return actor_hash(load_checkpoint(Run.open(run).checkpoint(number)).algorithm)


def evaluations(run: Path) -> dict[int, tuple[float, float | None]]:
    lines = [line for line in Run.open(run).metrics() if "evaluation/success_rate" in line]
    return {line["step"]: (line["evaluation/success_rate"], line.get("evaluation/back_to")) for line in lines}


def test_it_goes_back_to_the_best(parent: Path, walks: Any, told: Callable[..., None], tmp_path: Path) -> None:
    told(_2=0.9, _4=0.8, _6=0.3, _8=0.8)
    finetune(parent, tmp_path / "run", online())
    assert evaluations(tmp_path / "run") == {
        0: (0.5, None),
        2: (0.9, None),
        4: (0.8, None),
        6: (0.3, 2),
        8: (0.8, None),
    }
    # The checkpoint of the best is still there, with the policy that was acted with after the sixth episode.
    assert policy_at(tmp_path / "run", 6) == policy_at(tmp_path / "run", 2) != policy_at(tmp_path / "run", 8)
    snapshot = Store.open(tmp_path / "run" / "episodes").snapshot()
    acting = [int(snapshot.episode(index).policy[0]) for index in (2, 6)]  # type: ignore[index]
    assert set(acting) == {policy_at(tmp_path / "run", 2)}


def test_it_does_not_where_that_is_tolerated(
    parent: Path, walks: Any, told: Callable[..., None], tmp_path: Path
) -> None:
    told(_2=0.9, _4=0.1)
    finetune(parent, tmp_path / "run", online(tolerated_loss=None))
    assert all(back is None for _, back in evaluations(tmp_path / "run").values())


def test_updates_that_were_given_up_were_made_all_the_same(
    parent: Path, walks: Any, told: Callable[..., None], tmp_path: Path
) -> None:
    told(_0=0.9, _2=0.1)
    result = finetune(parent, tmp_path / "run", online(episodes=2))
    assert evaluations(tmp_path / "run")[2] == (0.1, 0)
    assert result.steps == load_checkpoint(Run.open(parent).last).algorithm.step
    assert result.updates_per_second is not None and result.updates_per_second > 0


@pytest.mark.parametrize("death", [3, 4, 5, 6, 7])
def test_killed_and_resumed_it_comes_out_the_same(
    death: int, parent: Path, walks: Any, told: Callable[..., None], tmp_path: Path, same_run: Any
) -> None:
    rates = {"_2": 0.9, "_4": 0.1, "_6": 0.2}
    told(**rates)

    def until(items: Iterator[int]) -> Iterator[int]:
        for count, item in enumerate(items):
            if count == death:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        finetune(parent, tmp_path / "killed", online(), until)  # type: ignore[arg-type]
    resume(tmp_path / "killed")
    told(**rates)
    finetune(parent, tmp_path / "whole", online())
    assert evaluations(tmp_path / "killed")[4][1] == evaluations(tmp_path / "killed")[6][1] == 2
    same_run(tmp_path / "killed", tmp_path / "whole")


def test_it_goes_back_to_what_critics_have_learned_while_the_policy_rested(
    parent: Path, walks: Any, told: Callable[..., None], tmp_path: Path
) -> None:
    told(_0=0.9, _2=0.9, _4=0.9, _6=0.1)
    rests = {"critics": 2, "actor_warm_up": 36}
    finetune(parent, tmp_path / "run", online(algorithm="rlpd", updates_per_step=1, learner=rests))
    assert policy_at(tmp_path / "run", 4) == policy_at(tmp_path / "run", 6)
    assert evaluations(tmp_path / "run")[6] == (0.1, 4)
    assert [load_checkpoint(Run.open(tmp_path / "run").checkpoint(n)).algorithm.step for n in (4, 6)] == [32, 32]


# Where others act -------------------------------------------------------------------------------------------------


CONFIG = LearningConfig(checkpoint_every=1, updates_per_step=2)


@pytest.fixture
def robot(parent: Path, walks: Any, tmp_path: Path) -> Callable[..., None]:
    """Appends an episode of the run's newest policy to the store: `robot(following, success=True, evaluation=True)`."""
    config = OnlineConfig(task="walk", episodes=1, checkpoint_every=2)
    finetune(parent, tmp_path / "acted", config)
    walk = Store.open(tmp_path / "acted" / "episodes").snapshot()

    def act(one: Following, *, success: bool = False, evaluation: bool = False, helped: bool = False) -> None:
        episode = walk.episode(0)
        assert episode.success is not None
        assert episode.policy is not None
        store = (
            Store.open(tmp_path / "robot")
            if (tmp_path / "robot").exists()
            else Store.create(tmp_path / "robot", walk.contract)
        )
        episode.success[:] = 0
        episode.success[-1] = success
        episode.policy[:] = one.learner.policy
        by = Source.INTERVENTION if helped else Source.POLICY
        source = np.full(episode.steps, by, np.uint8)
        store.append([replace(episode, evaluation=evaluation, source=source)])

    return act


def following(parent: Path, run: Path, store: Path) -> Following:
    if (run / "config.yaml").exists():
        return Following(Learner(Run.open(run), CONFIG, Beginning.of_run(Run.open(run), CONFIG)), store)
    beginning = Beginning.of_parent(parent, CONFIG)
    return Following(Learner(Run.create(run, beginning.written(parent, CONFIG)), CONFIG, beginning), store)


@pytest.mark.parametrize("dies", [False, True])
def test_trials_come_with_the_episodes(dies: bool, parent: Path, robot: Callable[..., None], tmp_path: Path) -> None:
    """A trial of the beginning, all successes, three episodes, and a trial of what they have taught, all failures."""
    run = tmp_path / "run"
    one = following(parent, run, tmp_path / "robot")
    first = one.learner.policy
    schedule = [*[(True, True)] * 5, *[(False, False)] * 3, *[(False, True)] * 5, (False, False)]
    held = None
    for success, evaluation in schedule:
        if evaluation and held is not None:
            # Whoever acts does not change the policy during a trial.
            one.learner.policy = held
        robot(one, success=success, evaluation=evaluation)
        held = one.learner.policy if evaluation else None
        assert one.step()
        if dies:
            one = following(parent, run, tmp_path / "robot")
    one.close()
    found = {line["step"]: line for line in Run.open(run).metrics() if "evaluation/success_rate" in line}
    assert list(found) == [6, 14]
    assert (found[6]["evaluation/success_rate"], found[6]["evaluation/episodes"]) == (1.0, 5)
    assert (found[14]["evaluation/success_rate"], found[14]["evaluation/back_to"]) == (0.0, 0)
    assert policy_at(run, 0) == first
    lines = Run.open(run).metrics()
    assert ["evaluation/success" in line for line in lines] == ["online/success" not in line for line in lines]
    assert [line["step"] for line in lines if "evaluation/success" in line] == [1, 2, 3, 4, 5, 9, 10, 11, 12, 13]
    assert len(one.learner.successes) == 4, "evaluations are told apart"


def test_what_a_person_helped_with_is_no_success_of_the_policy(
    parent: Path, robot: Callable[..., None], tmp_path: Path
) -> None:
    one = following(parent, tmp_path / "run", tmp_path / "robot")
    for number in range(8):
        robot(one, success=number < 3, evaluation=number < 7, helped=number < 2)
    while one.step():
        pass
    one.close()
    best = one.learner.trials.best
    assert best is not None
    assert (best.successes, best.episodes) == (1, 5)


def test_a_policy_stays_as_long_as_episodes_that_try_it_are_still_to_come(
    parent: Path, robot: Callable[..., None], tmp_path: Path
) -> None:
    """A learner that is far behind: what it began with is tried in the last five of fifteen episodes."""
    one = following(parent, tmp_path / "run", tmp_path / "robot")
    for number in range(16):
        robot(one, success=True, evaluation=10 <= number < 15)
    while one.step():
        pass
    one.close()
    found = [line for line in Run.open(tmp_path / "run").metrics() if "evaluation/success_rate" in line]
    assert [(line["evaluation/success_rate"], line["evaluation/episodes"]) for line in found] == [(1.0, 5)]
    assert one.learner.trials.best is not None
    assert one.learner.trials.best.checkpoint == 0


def test_a_trial_that_nothing_follows_is_logged_at_the_end_and_judged_when_something_does(
    parent: Path, robot: Callable[..., None], tmp_path: Path
) -> None:
    one = following(parent, tmp_path / "run", tmp_path / "robot")
    for _ in range(5):
        robot(one, success=True, evaluation=True)
        one.learner.policy = one.learner.trials._policy or one.learner.policy
    while one.step():
        pass
    one.keep()
    one.close()
    assert one.learner.trials.best is None
    again = following(parent, tmp_path / "run", tmp_path / "robot")
    robot(again)
    assert again.step()
    again.close()
    found = [line["step"] for line in Run.open(tmp_path / "run").metrics() if "evaluation/success_rate" in line]
    assert found == [5, 6]
    best = again.learner.trials.best
    assert best is not None
    assert (best.successes, best.episodes) == (5, 5)
