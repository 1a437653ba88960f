"""A fine-tuning session whose nodes are killed again and again: what is lost, and what it learns all the same.

    python -m benchmarks.chaos RUN --contract FILE --out runs/chaos

RUN is a pretrained run whose labels a success classifier made, FILE the contract of the simulated robot with its
cameras: `firsthand demo` leaves both (`iql` and `robot.yaml`). Learner, actor, recorder and rewarder are each killed
three times by SIGKILL, at random moments; a person is there who rearms the guardian when it has stopped. Afterwards
the store must be whole and say what the bags say, and the policy must be the one that the same episodes teach
undisturbed, bit for bit.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from episodes.errors import InputError
from episodes.files import write_whole
from episodes.importing import import_into
from episodes.store import Store
from finetune.following import Following
from finetune.learner import Beginning, Learner, LearningConfig
from finetune.run import Run
from robot.bag_import import BagSource
from robot.contract_file import read_robot_contract
from robot.session import Session, learn_on_robot
from robot.up import Up, running

VICTIMS = ("learner", "actor", "recorder", "rewarder")
DEATHS = 3
"""Of each."""
SECONDS = (15.0, 40.0)
"""Between two deaths."""


class Killer:
    """Kills every victim so often, in an order and at moments of chance."""

    def __init__(self, up: Up, rng: np.random.Generator):
        self.killed: list[str] = []
        self._up, self._rng = up, rng
        self._order = rng.permutation(list(VICTIMS) * DEATHS).tolist()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for name in self._order:
            if self._ending.wait(self._rng.uniform(*SECONDS)):
                return
            os.kill(self._up.pid(name), signal.SIGKILL)
            self.killed.append(name)
            print(f"killed: {name}", flush=True)

    @property
    def done(self) -> bool:
        return len(self.killed) == len(self._order)

    def end(self) -> None:
        self._ending.set()
        self._thread.join()


def disturbed(run: Path, new: Path, contract: Path, task: str, episodes: int, seed: int) -> dict[str, Any]:
    """Learn from at least so many episodes, and until everybody was killed so often as was meant."""
    given = {
        "run": str(run),
        "new": str(new),
        "contract": str(contract),
        "task": task,
        "real_time_factor": 0.0,
        "judge": "classifier",
    }
    interruptions: list[str] = []
    began = time.monotonic()
    with running("finetune", given, lambda line: print(line) if "started again" in line else None) as up:
        killer = Killer(up, np.random.default_rng(seed))
        wanted = episodes
        try:
            while True:
                try:
                    learn_on_robot(wanted, enable=True)
                    if killer.done:
                        break
                    wanted += 5
                except InputError as error:
                    interruptions.append(str(error))
                    print(f"interrupted: {error}", flush=True)
                    _rearm()
        finally:
            killer.end()
    return {
        "killed": killer.killed,
        "interruptions": interruptions,
        "seconds": time.monotonic() - began,
    }


def _rearm() -> None:
    """What a person does who has looked: rearm, and go on."""
    time.sleep(3.0)
    with Session() as session:
        for service in ("guardian/rearm", "recorder/stop"):
            try:
                session.call(service, wait=30.0)
            except InputError as error:
                print(f"  {error}", flush=True)


def checked(new: Path, contract: Path, undisturbed: Path) -> dict[str, Any]:
    """The store against its bags, and the policy against one that learned from the same episodes at leisure."""
    there = Store.open(new / "episodes").snapshot()
    again = undisturbed / "again"
    bags = sorted((new / "bags").glob("*.mcap"))
    robot = read_robot_contract(contract)
    left_out = sum(_left_out(BagSource(bag, robot, place="sim"), again) for bag in bags)
    ours, theirs = (sorted(m["digest"] for m in s.metadata) for s in (there, Store.open(again).snapshot()))
    config = LearningConfig(checkpoint_every=1)
    parent = Path(Run.open(new).config["parent"])
    beginning = Beginning.of_parent(parent, config)
    made = Run.create(undisturbed / "run", beginning.written(parent, config))
    alone = Following(Learner(made, config, beginning), new / "episodes")
    learned = int(Run.open(new).last.name)
    while alone.learner.learned < learned and alone.step():
        pass
    alone.close()
    same = [(Run.open(path).last / "state.safetensors").read_bytes() for path in (new, undisturbed / "run")]
    return {
        "episodes": there.episodes,
        "steps": there.steps,
        "bags": len(bags),
        "bags_left_out": left_out,
        "learned": learned,
        "store_equals_bags": ours == theirs,
        "policy_equals_undisturbed": same[0] == same[1],
    }


def _left_out(bag: BagSource, store: Path) -> int:
    """Import a recording; how many of its episodes cannot be used, as one that was stopped before its first step."""
    try:
        return len(import_into(bag, store).left_out)
    except InputError:
        # All of them, which is one.
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--contract", type=Path, required=True)
    parser.add_argument("--task", default="lift-quick")
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        options.out.mkdir(parents=True)
        new = options.out / "disturbed"
        found = disturbed(options.run, new, options.contract, options.task, options.episodes, options.seed)
        found |= checked(new, options.contract, options.out)
    except (InputError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return 2
    write_whole(options.out / "chaos.json", json.dumps(found, indent=2))
    print(json.dumps(found, indent=2))
    return 0 if found["store_equals_bags"] and found["policy_equals_undisturbed"] else 1


if __name__ == "__main__":
    sys.exit(main())
