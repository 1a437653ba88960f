"""The demo's last stages: the policy on a robot, in simulation, through ROS 2 and over real processes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from tqdm import tqdm

from episodes.contract import Camera
from episodes.files import write_whole
from episodes.importing import import_into
from finetune.evaluate import FIRST_SEED, Evaluation
from finetune.online import FIRST_EPISODE_SEED
from finetune.run import Run
from policies.policy import Policy
from robot.bag_import import BagSource
from robot.contract_file import read_robot_contract
from robot.ros import require_ros
from robot.table import Value, contracts
from robot.up import running

CONTRACT = "panda_lift_sim.yaml"


class DemoRobot:
    """Four processes in lock-step: the robot, the actor, the guardian and the recorder; and whoever else is needed.

    Args:
        say: takes what the nodes say that is not ordinary.

    Raises:
        InputError: where there is no ROS 2; and by its methods, where a node ends by itself.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        # Apart from whatever else runs here.
        os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        require_ros()

    def deploy(self, run: Path, folder: Path, episodes: int) -> tuple[Evaluation, str]:
        """Run a policy, and bring what was recorded in `bags` below a folder into the store `on-robot` there."""
        from robot.evaluation import evaluation_of
        from robot.session import run_episodes

        contract = contracts() / CONTRACT
        given: dict[str, Value] = {
            "run": str(run),
            "bags": str(folder / "bags"),
            "contract": str(contract),
            "real_time_factor": 0.0,
            "seed": FIRST_SEED,
        }
        with running("sim", given, self._say_errors):
            found = run_episodes(episodes, enable=True, progress=lambda numbers: tqdm(numbers, total=episodes))
        source = BagSource(folder / "bags", read_robot_contract(contract), place="sim")
        imported = import_into(source, folder / "on-robot")
        return evaluation_of(found, Policy.load(Run.open(run).last)), (
            f"     recorded as {folder / 'bags'}, imported as {folder / 'on-robot'}: "
            f"{imported.episodes} episodes, {imported.steps} steps, {len(imported.left_out)} left out"
        )

    def learn(self, run: Path, new: Path, cameras: Sequence[Camera], gap: str, episodes: int) -> str:
        """Let a run go on learning as the new one, through these cameras, in a simulation with a gap.

        What it sees is judged by the success classifier that made its labels; the simulator is only asked how right
        that is.
        """
        from robot.session import learn_on_robot

        contract = new.parent / "robot.yaml"
        write_whole(contract, with_cameras(contracts() / CONTRACT, cameras))
        given: dict[str, Value] = {
            "run": str(run),
            "new": str(new),
            "contract": str(contract),
            "task": "lift-quick",
            "gap": gap,
            "real_time_factor": 0.0,
            "judge": "classifier",
            "seed": FIRST_EPISODE_SEED,
        }
        with running("finetune", given, self._say_errors):
            found = learn_on_robot(
                episodes, enable=True, wait=True, progress=lambda numbers: tqdm(numbers, total=episodes)
            )
        seen, true = (sum(map(bool, each)) for each in ([e.success for e in found], [e.truth for e in found]))
        agreed = sum(bool(episode.success) == bool(episode.truth) for episode in found)
        return (
            f"     {len(found)} episodes, each learned from before the next; {seen} were seen as a success and {true} "
            f"were one, the same of {agreed}; policies and episodes in {new}"
        )

    def _say_errors(self, line: str) -> None:
        if "ERROR" in line:
            self._say(line)


def with_cameras(contract: Path, cameras: Sequence[Camera]) -> str:
    """A contract of a simulated robot with cameras, as YAML."""
    content = yaml.safe_load(contract.read_text())
    content["cameras"] = [
        {
            "name": camera.name,
            "topic": f"{camera.name}/image_raw",
            "height": camera.height,
            "width": camera.width,
            "rate": content["rate"],
            "max_age": 1.5 / content["rate"],
        }
        for camera in cameras
    ]
    return yaml.safe_dump(content, sort_keys=False)
