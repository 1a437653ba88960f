"""What episodes on a robot amount to."""

from collections.abc import Sequence

import numpy as np

from episodes.errors import InputError
from finetune.evaluate import Evaluation
from policies.checkpoint import actor_hash
from policies.policy import Policy
from robot.heard_episode import RobotEpisode


def evaluation_of(found: Sequence[RobotEpisode], policy: Policy) -> Evaluation:
    """An evaluation as `firsthand evaluate` prints it.

    Raises:
        InputError: where the robot was moved by another policy than this one, or nobody said whether it succeeded.
    """
    ours = actor_hash(policy.algorithm)
    for episode in found:
        if episode.policy not in (0, ours):
            raise InputError(
                f"episode {episode.name}: the actor's policy is {episode.policy:016x}, and this run's {ours:016x}; "
                "start the actor with this run"
            )
    unknown = [episode.name for episode in found if episode.success is None]
    if unknown:
        raise InputError(
            f"nobody said whether {len(unknown)} of {len(found)} episodes succeeded, the first {unknown[0]}: "
            "call recorder/success or recorder/failure at an episode's end"
        )
    return Evaluation(
        "the robot",
        0,
        np.array([float(bool(episode.success)) for episode in found]),
        np.array([episode.reward for episode in found]),
        np.array([episode.best_reward for episode in found]),
        np.array([float(episode.steps) for episode in found]),
    )


def helped_in(found: Sequence[RobotEpisode]) -> int:
    """How many episodes a person took over in: how they ended is not the policy's doing alone."""
    return sum(episode.helped > 0 for episode in found)
