"""Made-up episodes of Push-T: pictures that show their states, with the rewards of those."""

import numpy as np
import pytest

from episodes.episode import Episode, Source
from episodes.errors import InputError
from episodes.store import Store
from sim.captions import PUSHT, captions
from sim.layouts import GOAL, STEPS, layout_episodes
from sim.pusht import CAMERA, PushTTask
from sim.task import make_task


@pytest.fixture(scope="module")
def task() -> PushTTask:
    made = make_task("pusht", cameras=[CAMERA], image_size=(48, 64))
    assert isinstance(made, PushTTask)
    return made


@pytest.fixture(scope="module")
def episodes(task: PushTTask) -> list[Episode]:
    return list(layout_episodes(task, range(12)))


def test_an_episode_fits_the_task_s_contract_and_goes_into_a_store(task: PushTTask, episodes: list[Episode], tmp_path):
    store = Store.create(tmp_path / "store", task.contract)
    store.append(episodes)
    assert (store.snapshot().episodes, store.snapshot().steps) == (12, 12 * STEPS)
    for episode in episodes:
        assert episode.steps == STEPS and episode.has_final_observation
        assert episode.truncated and not episode.terminated
        assert episode.source is not None and set(episode.source.tolist()) == {Source.SCRIPTED}
        assert (episode.place, episode.task) == ("sim", task.instruction)


def test_a_picture_shows_its_state(task: PushTTask, episodes: list[Episode]):
    for episode in (episodes[0], episodes[2]):
        for row in (0, 7, STEPS):
            task.reset(seed=0)
            expected = task.observe_at(episode.state[row])
            np.testing.assert_array_equal(episode.images[CAMERA][row], expected[f"image/{CAMERA}"])
            np.testing.assert_allclose(episode.state[row], expected["state"], atol=1e-3)
        assert len({image.tobytes() for image in episode.images[CAMERA]}) == STEPS + 1


def test_nothing_is_seen_of_the_scene_before(task: PushTTask):
    """Of some seeds finger and block touch, and the simulator marks in red where."""
    state = np.array([300.0, 300.0, 150.0, 150.0, 1.0])
    pictures = []
    for seed in (0, 1, 6, 16):
        task.reset(seed=seed)
        pictures.append(task.observe_at(state)[f"image/{CAMERA}"])
    assert all((picture == pictures[0]).all() for picture in pictures)


def test_rewards_are_the_task_s_own_of_the_state_after_each_step(task: PushTTask, episodes: list[Episode]):
    for episode in episodes:
        reward, success = task.score(episode.state[1:])
        np.testing.assert_array_equal(episode.reward, reward)
        np.testing.assert_array_equal(episode.success, success)


def test_the_block_gets_from_anywhere_to_its_goal_on_a_straight_way(episodes: list[Episode]):
    starts, stops = (np.stack([episode.state[row] for episode in episodes]) for row in (0, -1))
    assert np.ptp(starts[:, 2:4], axis=0).min() > 100
    assert np.abs(stops[:, 2:4] - GOAL[:2]).max() < 40
    assert np.abs(np.angle(np.exp(1j * (stops[:, 4] - GOAL[2])))).max() < 0.4
    for episode in episodes:
        block = np.column_stack([episode.state[:, 2:4], np.unwrap(episode.state[:, 4].astype(np.float64))])
        way = block[-1] - block[0]
        share = (block - block[0]) @ way / (way @ way)
        assert (np.diff(share) > 0).all()
        np.testing.assert_allclose(block, block[0] + share[:, None] * way, atol=1e-3)


def test_states_are_ones_that_the_task_could_be_in(task: PushTTask, episodes: list[Episode]):
    for episode in episodes:
        assert np.isfinite(episode.state).all()
        assert ((episode.state[:, :2] >= 15) & (episode.state[:, :2] <= 495)).all(), "the finger is in the arena"
        assert ((episode.state[:, 4] >= 0) & (episode.state[:, 4] <= np.float32(2 * np.pi))).all()
        np.testing.assert_array_equal(episode.action, episode.state[1:, :2])
        assert ((episode.action >= task.action_space.low) & (episode.action <= task.action_space.high)).all()  # type: ignore[attr-defined]


def test_every_stage_of_the_task_is_seen(task: PushTTask, episodes: list[Episode]):
    said = captions(task, np.concatenate([episode.state for episode in episodes]), np.random.default_rng(0))
    assert set(said) == {sentence for stage in PUSHT for sentence in stage}


def test_a_seed_gives_the_same_episode_and_another_another(task: PushTTask, episodes: list[Episode]):
    (again,) = layout_episodes(task, [3])
    assert again.digest() == episodes[3].digest()
    assert len({episode.digest() for episode in episodes}) == 12
    assert len({episode.origin for episode in episodes}) == 12


def test_a_task_without_layouts_is_told():
    with pytest.raises(InputError, match="task 'hopper': there are layouts for pusht"):
        next(iter(layout_episodes(make_task("hopper"), [0])))
