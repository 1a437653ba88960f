"""The demo's last stage: the policy on a robot, in simulation, through ROS 2 and over real processes."""

import os
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from episodes.importing import ImportResult, import_into
from finetune.evaluate import FIRST_SEED, Evaluation
from finetune.run import Run
from policies.policy import Policy
from robot.bag_import import BagSource
from robot.contract import read_robot_contract
from robot.ros import require_ros
from robot.table import Value, contracts
from robot.up import running

CONTRACT = "panda_lift_sim.yaml"


def deploy(run: Path, folder: Path, episodes: int, say: Callable[[str], None]) -> tuple[Evaluation, ImportResult]:
    """Run a policy on the simulated robot and bring what was recorded into a store.

    Four processes: the robot, the actor, the guardian and the recorder, in lock-step.

    Args:
        run: whose policy acts.
        folder: for the recordings, `bags`, and the store made of them, `on-robot`.
        say: takes what the nodes say that is not ordinary.

    Raises:
        InputError: where there is no ROS 2, or a node ends by itself.
    """
    # Apart from whatever else runs here.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    require_ros()
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
    with running("sim", given, lambda line: say(line) if "ERROR" in line else None):
        found = run_episodes(episodes, enable=True, progress=lambda numbers: tqdm(numbers, total=episodes))
    source = BagSource(folder / "bags", read_robot_contract(contract), place="sim")
    result = import_into(source, folder / "on-robot")
    return evaluation_of(found, Policy.load(Run.open(run).last)), result
