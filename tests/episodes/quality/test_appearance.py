"""What cameras show: what must not be called a fault, and looking at a part of the frames only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.episode import Episode
from episodes.quality import appearance
from episodes.quality.appearance import Appearance
from episodes.store import Store
from tests.episodes.quality.logs import ARM, clean_log, frozen_camera, other_view


def looked(log: list[Episode], path: Path) -> Appearance:
    found = Appearance(Store.create(path, ARM).append(log) and Store.open(path).snapshot())
    found.look()
    return found


def with_frames(episode: Episode, camera: str, frames: np.ndarray) -> Episode:
    return replace(episode, images=episode.images | {camera: frames})


@pytest.fixture
def log() -> list[Episode]:
    return clean_log(0, 6, cameras=True)


def test_a_picture_may_stand_still_while_the_robot_does(log, tmp_path):
    frames, state = log[1].images["front"].copy(), log[1].state.copy()
    frames[10:40], state[10:40] = frames[10], state[10]
    log[1] = replace(with_frames(log[1], "front", frames), state=state)
    assert looked(log, tmp_path / "store").findings() == []


def test_a_scene_that_stands_still_in_every_episode_is_no_fault(log, tmp_path):
    for number, episode in enumerate(log):
        frames = episode.images["wrist"].copy()
        frames[5:25] = frames[5]
        log[number] = with_frames(episode, "wrist", frames)
    assert looked(log, tmp_path / "store").findings() == []


def test_a_camera_that_is_slower_than_the_log_is_no_fault(log, tmp_path):
    for number, episode in enumerate(log):
        frames = episode.images["wrist"]
        log[number] = with_frames(episode, "wrist", frames[np.arange(len(frames)) // 3 * 3])
    assert looked(log, tmp_path / "store").findings() == []


def test_other_light_is_no_other_view(log, tmp_path):
    brighter = np.clip(log[3].images["front"].astype(int) + 15, 0, 255).astype(np.uint8)
    log[3] = with_frames(log[3], "front", brighter)
    assert looked(log, tmp_path / "store").findings() == []


def test_two_cameras_that_look_alike_are_not_called_swapped(log, tmp_path):
    alike = [with_frames(episode, "wrist", episode.images["front"]) for episode in log]
    assert looked(alike, tmp_path / "store").findings() == []


def test_cameras_that_differ_by_no_more_than_the_light_are_not_called_swapped(log, tmp_path):
    for number, episode in enumerate(log):
        light = 0 if number == 3 else 15
        frames = np.clip(episode.images["front"].astype(int) + light, 0, 255).astype(np.uint8)
        log[number] = with_frames(episode, "wrist", frames)
    assert looked(log, tmp_path / "store").findings() == []


@pytest.mark.parametrize(("share", "is_fault"), [(0.02, False), (0.2, True)])
def test_a_blue_screen_shows_nothing(log, tmp_path, share, is_fault):
    frames = log[1].images["front"].copy()
    frames[: int(share * len(frames))] = (0, 0, 255)
    log[1] = with_frames(log[1], "front", frames)
    found = looked(log, tmp_path / "store").findings()
    assert [(each.kind, each.episode) for each in found] == [("blank camera", 1)] * is_fault


def test_three_episodes_are_too_few_to_say_what_is_usual(log, tmp_path):
    log[0] = other_view(log[0], np.random.default_rng(0))
    assert looked(log[:3], tmp_path / "three").findings() == []
    assert [each.kind for each in looked(log[:4], tmp_path / "four").findings()] == ["other view"]


def test_the_typical_episode_is_not_the_odd_one(log, tmp_path):
    log[2] = other_view(log[2], np.random.default_rng(0))
    found = looked(log, tmp_path / "store")
    assert found.typical("front") not in (None, 2)


def test_of_many_frames_every_second_or_third_is_looked_at(log, tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    log[4] = frozen_camera(log[4], rng)
    observations = sum(len(each.state) for each in log)
    monkeypatch.setattr(appearance, "MOST_FRAMES", observations // 2 - 1)
    found = looked(log, tmp_path / "store")
    assert set(found.every.values()) == {3}
    assert [(each.kind, each.episode) for each in found.findings()] == [("frozen camera", 4)]
    monkeypatch.setattr(appearance, "MOST_BYTES", 12 * 12 * 3 * 10)
    assert min(looked(log, tmp_path / "few").every.values()) >= observations // 10


def test_frames_are_read_in_parts(log, tmp_path, monkeypatch):
    """The stretch goes across the parts."""
    log[4] = frozen_camera(log[4], np.random.default_rng(2))
    whole = looked(log, tmp_path / "whole")
    monkeypatch.setattr(appearance, "BATCH_BYTES", 7 * 12 * 12 * 3)
    parts = looked(log, tmp_path / "parts")
    assert parts.findings() == whole.findings() != []
    for camera in ("front", "wrist"):
        for one, other in zip(parts.views[camera], whole.views[camera], strict=True):
            np.testing.assert_allclose(one.mean, other.mean)
            assert (one.first, one.longest, one.second, one.moving) == (
                other.first,
                other.longest,
                other.second,
                other.moving,
            )
