"""One episode of an operator in a task."""

import numpy as np

from episodes.episode import Episode
from sim.base import Task
from sim.operators import Operator


def rollout(
    task: Task,
    operator: Operator,
    seed: int,
    *,
    record_images: bool = True,
    frames: list[np.ndarray] | None = None,
    frame_every: int = 1,
    start: np.ndarray | None = None,
    horizon: int | None = None,
) -> Episode:
    """One whole episode with the observation after its last action.

    Stamps are simulated time from 0: observation k is at k / rate, and the action chosen on it is sent at that instant.

    Args:
        task: where.
        operator: who acts.
        seed: of the task's episode and of the operator.
        record_images: whether the episode keeps the task's cameras.
        frames: a list that `task.render()` pictures are appended to, for a video.
        frame_every: steps from one such picture to the next.
        start: the state to begin in, shape (S,), where the task can; else where the seed says.
        horizon: steps after which the episode is truncated, where the task does not do so before.

    Raises:
        UnstableError: where the physics blew up.
    """
    rate = task.contract.rate
    if rate is None:
        raise ValueError(f"{task.name}: its contract has no rate, and stamps need one")
    if frame_every < 1:
        raise ValueError(f"frame_every must be at least 1, got {frame_every}")
    operator.reset(seed)
    observation, _ = task.reset(seed=seed, options=None if start is None else {"state": start})
    observations = [observation]
    actions, proposals, rewards, successes, costs, log_probabilities = [], [], [], [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        if frames is not None and len(actions) % frame_every == 0:
            frames.append(task.render())
        action = task.clip(operator.act(observation))
        proposals.append(getattr(operator, "proposed", None))
        log_probabilities.append(getattr(operator, "log_probability", None))
        observation, reward, terminated, truncated, info = task.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        successes.append(info["success"])
        costs.append(info.get("cost"))
        truncated = truncated or (not terminated and len(actions) == horizon)
    if frames is not None:
        frames.append(task.render())

    steps = len(actions)
    stamps = np.round(np.arange(steps + 1) * 1e9 / rate).astype(np.int64)
    policy = getattr(operator, "policy_hash", None)
    names = [f"image/{camera}" for camera in task.contract.camera_names] if record_images else []
    known = [value for value in log_probabilities if value is not None]
    gap = f" gap {task.gap}" if task.gap.given else ""
    return Episode(
        state=np.stack([item["state"] for item in observations]),
        action=np.stack(actions),
        terminated=terminated,
        truncated=truncated,
        images={name.removeprefix("image/"): np.stack([item[name] for item in observations]) for name in names},
        observation_time=stamps,
        action_time=stamps[:-1].copy(),
        source=np.full(steps, operator.source, np.uint8),
        reward=np.array(rewards, np.float32),
        success=np.array(successes, np.float32) if task.has_success else None,
        cost=np.array(costs, np.float32) if task.constraints is not None else None,
        action_proposed=np.stack(proposals) if all(each is not None for each in proposals) else None,
        log_probability=np.array(log_probabilities, np.float32) if len(known) == steps else None,
        policy=np.full(steps, policy, np.uint64) if policy is not None else None,
        task=task.instruction,
        place="sim",
        origin=f"{task.name} seed {seed}{gap}",
    )
