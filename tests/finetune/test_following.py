"""Learning from a store that others fill: the same as learning in one process, wherever it is interrupted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from episodes.contract import Camera
from episodes.errors import InputError
from episodes.store import Store
from finetune.following import Following
from finetune.learner import Beginning, Learner, LearningConfig
from finetune.online import OnlineConfig, finetune
from finetune.run import Run
from policies.checkpoint import load_checkpoint

CONFIG = LearningConfig(checkpoint_every=2, updates_per_step=2)


def following(parent: Path, run: Path, store: Path, config: LearningConfig = CONFIG) -> Following:
    """A run that begins, or goes on where it was left."""
    if (run / "config.yaml").exists():
        return Following(Learner(Run.open(run), config, Beginning.of_run(Run.open(run), config)), store)
    beginning = Beginning.of_parent(parent, config)
    return Following(Learner(Run.create(run, beginning.written(parent, config)), config, beginning), store)


def learn(one: Following, episodes: int) -> int:
    """Learn from at most so many; from how many it was."""
    return sum(one.step() for _ in range(episodes))


@pytest.fixture
def acted(parent: Path, walks: Callable[..., None], tmp_path: Path) -> Path:
    """A run of five episodes that were learned from as they were acted."""
    config = OnlineConfig(task="walk", episodes=5, checkpoint_every=2, updates_per_step=2)
    finetune(parent, tmp_path / "acted", config)
    return tmp_path / "acted"


def state(run: Path) -> bytes:
    return (Run.open(run).last / "state.safetensors").read_bytes()


def test_the_same_episodes_teach_the_same(acted: Path, parent: Path, tmp_path: Path) -> None:
    one = following(parent, tmp_path / "run", acted / "episodes")
    assert one.behind == 5
    assert learn(one, 9) == 5
    one.close()
    assert state(tmp_path / "run") == state(acted)
    ours, theirs = Run.open(tmp_path / "run").metrics(), Run.open(acted).metrics()
    assert ours == [line for line in theirs if line["step"] > 0]


@pytest.mark.parametrize("deaths", [[0], [1], [2], [3, 1]])
def test_killed_and_begun_again_it_comes_out_the_same(
    deaths: list[int], acted: Path, parent: Path, tmp_path: Path
) -> None:
    for death in deaths:
        # Nothing is closed: what is not in a checkpoint is lost, and learned again.
        learn(following(parent, tmp_path / "run", acted / "episodes"), death)
    one = following(parent, tmp_path / "run", acted / "episodes")
    learn(one, 9)
    one.close()
    assert state(tmp_path / "run") == state(acted)
    assert [line["step"] for line in Run.open(tmp_path / "run").metrics()] == [1, 2, 3, 4, 5]


def test_it_begins_with_a_policy_and_waits_for_a_store(parent: Path, acted: Path, tmp_path: Path) -> None:
    one = following(parent, tmp_path / "run", tmp_path / "robot")
    first = load_checkpoint(Run.open(tmp_path / "run").last)
    assert first.note["online_episodes"] == 0
    assert not one.step()
    assert one.behind == 0
    source = Store.open(acted / "episodes").snapshot()
    store = Store.create(tmp_path / "robot", source.contract)
    for index in range(2):
        store.append([source.episode(index)])  # type: ignore[list-item]
        assert one.behind == 1
        assert one.step()
    assert not one.step()
    assert int(Run.open(tmp_path / "run").last.name) == 2
    assert one.learning > 0
    assert one.waiting > 0


def test_a_store_of_something_else_is_refused(parent: Path, walk, acted: Path, tmp_path: Path) -> None:
    wrong = walk().contract
    wrong = type(wrong)(name="run", state=wrong.state, action=wrong.action, cameras=(Camera("eye", 4, 6),), rate=10.0)
    Store.create(tmp_path / "other", wrong)
    with pytest.raises(InputError, match="other: is of another contract"):
        following(parent, tmp_path / "run", tmp_path / "other")


def test_pictures_that_nobody_looks_at_may_be_there(parent: Path, walk, tmp_path: Path) -> None:
    seen = walk(cameras=("eye",)).contract
    Store.create(tmp_path / "seen", seen)
    assert following(parent, tmp_path / "run", tmp_path / "seen").behind == 0


def test_episodes_that_are_gone_are_missed(acted: Path, parent: Path, tmp_path: Path) -> None:
    one = following(parent, tmp_path / "run", acted / "episodes")
    learn(one, 2)
    one.close()
    source = Store.open(acted / "episodes").snapshot()
    Store.create(tmp_path / "fewer", source.contract)
    with pytest.raises(InputError, match=r"fewer: holds 0 episodes, and .* has learned from 2"):
        following(parent, tmp_path / "run", tmp_path / "fewer")
    assert np.isfinite(one.learning)
