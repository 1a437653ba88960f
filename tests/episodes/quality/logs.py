"""Logs of a made-up arm that are known to be clean, and faults to put into them.

The arm follows smooth targets with a little noise; an object rests until it is carried; the stamps jitter by a few per
cent of the period; two cameras see the object in front of different backgrounds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from episodes.contract import ActionEntry, Camera, Contract, StateEntry
from episodes.episode import Episode
from episodes.quality.rows import Rows

JOINTS, RATE, SIDE = 4, 20.0, 12
PERIOD = 50_000_000
ARM = Contract(
    "arm",
    state=(*(StateEntry(f"joint.{i}", "rad") for i in range(JOINTS)), StateEntry("object.x"), StateEntry("gripper")),
    action=(*(ActionEntry(f"target.{i}", "rad", -1.0, 1.0) for i in range(JOINTS)), ActionEntry("grip", "", -1.0, 1.0)),
    cameras=(Camera("front", SIDE, SIDE), Camera("wrist", SIDE, SIDE)),
    rate=RATE,
)
BLIND = replace(ARM, cameras=())


def clean_log(seed: int, episodes: int = 8, steps: int = 90, *, cameras: bool = False) -> list[Episode]:
    """Episodes in which nothing is wrong."""
    rng = np.random.default_rng(seed)
    return [_episode(rng, int(steps + rng.integers(-20, 21)), cameras) for _ in range(episodes)]


def _episode(rng: np.random.Generator, steps: int, cameras: bool) -> Episode:
    time = np.arange(steps + 1) / RATE
    waves = rng.uniform(0.3, 1.5, (JOINTS, 1)), rng.uniform(0, 6.3, (JOINTS, 1)), rng.uniform(0.3, 0.7, (JOINTS, 1))
    target = (waves[2] * np.sin(waves[0] * time + waves[1])).T
    joints = target + rng.normal(0, 1e-3, target.shape)
    grasp = int(rng.integers(steps // 4, steps // 2))
    object_x = np.where(np.arange(steps + 1) < grasp, 0.2, 0.2 + 0.1 * (joints[:, 0] - joints[grasp, 0]))
    grip = np.where(np.arange(steps) < grasp, -1.0, 1.0)
    state = np.column_stack([joints, object_x, np.append(grip, grip[-1])])
    stamps = 10**18 + PERIOD * np.arange(steps + 1) + rng.integers(-PERIOD // 50, PERIOD // 50, steps + 1)
    return Episode(
        state=state.astype(np.float32),
        action=np.column_stack([target[:steps], grip]).astype(np.float32),
        terminated=False,
        truncated=True,
        images=_images(rng, object_x) if cameras else {},
        observation_time=stamps,
        action_time=stamps[:steps] + PERIOD // 10,
        source=np.full(steps, 3, np.uint8),
    )


def _images(rng: np.random.Generator, object_x: np.ndarray) -> dict[str, np.ndarray]:
    images = {}
    for camera, background in (("front", (180, 160, 120)), ("wrist", (40, 90, 60))):
        frames = np.full((len(object_x), SIDE, SIDE, 3), background, np.int16)
        place = np.clip((object_x * SIDE).astype(int), 0, SIDE - 3)
        for frame, x in zip(frames, place, strict=True):
            frame[4:7, x : x + 3] = (200, 30, 30)
        images[camera] = np.clip(frames + rng.integers(-4, 5, frames.shape), 0, 255).astype(np.uint8)
    return images


def rows_of(episodes: Sequence[Episode]) -> Iterator[Rows]:
    """The same without a store."""
    for number, each in enumerate(episodes):
        reward = np.full(each.steps, np.nan, np.float32) if each.reward is None else each.reward
        nothing = np.zeros(len(each.state), np.int64)
        yield Rows(
            number,
            each.state,
            each.action,
            nothing if each.observation_time is None else each.observation_time,
            nothing[: each.steps] if each.action_time is None else each.action_time,
            reward,
        )


Fault = Callable[[Episode, np.random.Generator], Episode]


def frozen_joint(episode: Episode, rng: np.random.Generator) -> Episode:
    """One joint repeats its value for a second, as when its driver stops."""
    state, joint, begin = episode.state.copy(), rng.integers(JOINTS), rng.integers(1, episode.steps - 25)
    state[begin : begin + 20, joint] = state[begin, joint]
    return replace(episode, state=state)


def frozen_state(episode: Episode, rng: np.random.Generator) -> Episode:
    """The whole state repeats while commands go on, as when its topic stops."""
    state, begin = episode.state.copy(), rng.integers(1, episode.steps - 25)
    state[begin : begin + 20] = state[begin]
    return replace(episode, state=state)


def dropped_frames(episode: Episode, rng: np.random.Generator) -> Episode:
    """Three steps in a row, and another one elsewhere, are gone from every column."""
    first, second = rng.choice(np.arange(2, episode.steps - 6, 8), 2, replace=False)
    keep = np.setdiff1d(np.arange(episode.steps), [first, first + 1, first + 2, second])
    return _only(episode, keep)


def dropped_frame(episode: Episode, rng: np.random.Generator) -> Episode:
    """A single step is gone."""
    return _only(episode, np.delete(np.arange(episode.steps), rng.integers(2, episode.steps - 2)))


def clock_forward(episode: Episode, rng: np.random.Generator) -> Episode:
    """The clock is set forward by two seconds while the arm moves."""
    return _shifted(episode, int(rng.integers(10, episode.steps - 10)), 2_000_000_000)


def clock_back(episode: Episode, rng: np.random.Generator) -> Episode:
    return _shifted(episode, int(rng.integers(2, episode.steps - 2)), -300_000_000)


def repeated_stamps(episode: Episode, rng: np.random.Generator) -> Episode:
    time, row = _time(episode).copy(), int(rng.integers(1, episode.steps - 1))
    time[row] = time[row - 1]
    return replace(episode, observation_time=time)


def half_rate(episode: Episode, rng: np.random.Generator) -> Episode:
    """Recorded at half of the contract's rate."""
    time = _time(episode)
    return replace(episode, observation_time=time[0] + 2 * (time - time[0]), action_time=None)


def late_actions(episode: Episode, rng: np.random.Generator) -> Episode:
    assert episode.action_time is not None
    return replace(episode, action_time=episode.action_time + 2 * PERIOD)


def early_actions(episode: Episode, rng: np.random.Generator) -> Episode:
    assert episode.action_time is not None
    return replace(episode, action_time=episode.action_time - PERIOD // 2)


def clipped_actions(episode: Episode, rng: np.random.Generator) -> Episode:
    """A limit that the contract does not have, well inside of where the others go; exploring takes it there often."""
    action = episode.action.copy()
    action[:, :JOINTS] += rng.normal(0, 0.2, (episode.steps, JOINTS)).astype(np.float32)
    level = 0.3 * np.abs(action[:, :JOINTS]).max()
    action[:, :JOINTS] = np.clip(action[:, :JOINTS], -level, level)
    return replace(episode, action=action)


def outside_limits(episode: Episode, rng: np.random.Generator) -> Episode:
    action = episode.action.copy()
    action[rng.integers(episode.steps), rng.integers(JOINTS)] = rng.choice([-1.2, 1.01])
    return replace(episode, action=action)


def jump(episode: Episode, rng: np.random.Generator) -> Episode:
    """The arm is somewhere else from one step to the next."""
    state = episode.state.copy()
    state[rng.integers(5, episode.steps - 5) :, : JOINTS // 2] += 2.5
    return replace(episode, state=state)


def frozen_camera(episode: Episode, rng: np.random.Generator) -> Episode:
    begin, camera = rng.integers(1, episode.steps - 25), rng.choice(["front", "wrist"])
    frames = episode.images[camera].copy()
    frames[begin : begin + 20] = frames[begin]
    return replace(episode, images=episode.images | {camera: frames})


def blank_camera(episode: Episode, rng: np.random.Generator) -> Episode:
    camera = rng.choice(["front", "wrist"])
    frames = episode.images[camera].copy()
    frames[: episode.steps // 4] = 0
    return replace(episode, images=episode.images | {camera: frames})


def swapped_cameras(episode: Episode, rng: np.random.Generator) -> Episode:
    return replace(episode, images={"front": episode.images["wrist"], "wrist": episode.images["front"]})


def other_view(episode: Episode, rng: np.random.Generator) -> Episode:
    """A camera was knocked and looks at something else."""
    frames = 255 - episode.images["front"]
    return replace(episode, images=episode.images | {"front": frames})


COLUMN_FAULTS: dict[str, tuple[Fault, str]] = {
    each.__name__: (each, kind)
    for each, kind in (
        (frozen_joint, "frozen state"),
        (frozen_state, "frozen state"),
        (dropped_frames, "gap"),
        (dropped_frame, "gap"),
        (clock_forward, "clock"),
        (clock_back, "clock"),
        (repeated_stamps, "repeated"),
        (half_rate, "rate"),
        (late_actions, "order"),
        (early_actions, "order"),
        (clipped_actions, "clipped"),
        (outside_limits, "outside limits"),
        (jump, "jump"),
    )
}
"""Faults of the columns, and the kind of finding that each must be."""

CAMERA_FAULTS: dict[str, tuple[Fault, str]] = {
    each.__name__: (each, kind)
    for each, kind in (
        (frozen_camera, "frozen camera"),
        (blank_camera, "blank camera"),
        (swapped_cameras, "swapped camera"),
        (other_view, "other view"),
    )
}


def _time(episode: Episode) -> np.ndarray:
    assert episode.observation_time is not None
    return episode.observation_time


def _only(episode: Episode, steps: np.ndarray) -> Episode:
    """The episode with only these steps, and its last observation."""
    assert episode.action_time is not None and episode.source is not None
    observations = np.append(steps, episode.steps)
    return replace(
        episode,
        state=episode.state[observations],
        action=episode.action[steps],
        observation_time=_time(episode)[observations],
        action_time=episode.action_time[steps],
        source=episode.source[steps],
        images={name: frames[observations] for name, frames in episode.images.items()},
    )


def _shifted(episode: Episode, row: int, by: int) -> Episode:
    assert episode.action_time is not None
    time, action_time = _time(episode).copy(), episode.action_time.copy()
    time[row:] += by
    action_time[row:] += by
    return replace(episode, observation_time=time, action_time=action_time)
