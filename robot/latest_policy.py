"""What an actor loads: the newest policy of a run, or of the one that goes on from it, and what judges its actions."""

from pathlib import Path

import numpy as np

from episodes.errors import InputError
from finetune.calibrating import filter_of
from finetune.run import Run
from policies.checkpoint import DESCRIPTION
from policies.feasibility import FeasibilityFilter
from policies.policy import Policy
from robot.acting import check_policy_fits
from robot.contract import RobotContract


class LatestPolicy:
    """Loads what is newest when it is told to look, and keeps what it has where that cannot be used."""

    def __init__(self, run: str, new: str, contract: RobotContract, *, deterministic: bool):
        """`new`: a run that is made meanwhile, and counts when there is a policy in it; empty where none is.

        Raises:
            InputError: where there is no policy that can be loaded, or it is none for this robot.
        """
        self._run, self._new = Path(run), Path(new) if new else None
        self._contract, self._deterministic = contract, deterministic
        self._moved = False
        """Whether the new run has been used: back to what it began with is no way on."""
        newest = self._newest()
        self._version = _version(newest)
        self.checkpoint, self.policy = self._load(newest)
        self._moved = self._of_new(newest)
        self.problem = ""
        """Why the newest one is not used; empty where it is."""

    def look(self) -> bool:
        """Take the newest one; whether that is another than before.

        Raises:
            InputError: where it cannot be loaded, or is no policy for this robot.
            OSError: where it cannot be read.
        """
        newest = self._newest()
        version = _version(newest)
        if version == self._version:
            return False
        checkpoint, policy = self._load(newest)
        if (policy.camera is None) != (self.policy.camera is None):
            raise InputError(f"{newest}: sees through {policy.camera or 'no camera'}; start the actor again for that")
        self._version, self.checkpoint, self.policy = version, checkpoint, policy
        self._moved = self._moved or self._of_new(newest)
        return True

    def _newest(self) -> Path:
        # A folder that is away for a moment looks like a run without a policy.
        if self._new is not None and (self._moved or Run(self._new).has_checkpoint()):
            return Run(self._new).last
        return Run.open(self._run).last

    def _of_new(self, checkpoint: Path) -> bool:
        return self._new is not None and checkpoint.is_relative_to(self._new)

    def _load(self, checkpoint: Path) -> tuple[Path, Policy]:
        policy = Policy.load(checkpoint, deterministic=self._deterministic)
        check_policy_fits(policy.contract, policy.camera, self._contract)
        _warm_up(policy, self._contract)
        return checkpoint, policy


def _version(checkpoint: Path) -> tuple[Path, int]:
    """Where it is, and when it was written: another run's may come under the same name."""
    return checkpoint, (checkpoint / DESCRIPTION).stat().st_mtime_ns


def judge_of(path: Path, contract: RobotContract) -> FeasibilityFilter:
    """The filter of a calibrated run.

    Raises:
        InputError: where it has none, or one for another robot: without it nothing moves.
    """
    found = filter_of(Run.open(path))
    check_policy_fits(found.contract, None, contract)
    layout = contract.layout()
    # Once on nothing, as a policy.
    found.filter.judge({"state": np.zeros(len(layout.state), np.float32)}, np.zeros(len(layout.action), np.float32))
    return found.filter


def _warm_up(policy: Policy, contract: RobotContract) -> None:
    """Act once on nothing: the first time takes long, and must not be the first step of an episode."""
    layout = contract.layout()
    observation: dict[str, np.ndarray] = {"state": np.zeros(len(layout.state), np.float32)}
    for camera in layout.cameras:
        observation[f"image/{camera.name}"] = np.zeros((camera.height, camera.width, 3), np.uint8)
    policy.reset(0)
    policy.act(observation)
