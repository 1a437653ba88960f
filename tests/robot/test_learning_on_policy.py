"""PPO on the robot: it learns from whole episodes of its newest policy, as they were drawn."""

from pathlib import Path

import numpy as np

from episodes.store import Store
from finetune.config import resolve
from finetune.pretrain import pretrain
from finetune.run import Run
from robot.guardian import Verdict
from robot.session import learn_on_robot
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes

pytest_plugins = ("tests.robot.process_fixtures",)

TINY = {
    "steps": 8,
    "hidden": [8],
    "members": 2,
    "gate_every": 2,
    "labels": "logged",
    "device": "cpu",
    "dynamics": {"members": 2, "elites": 1, "hidden": [8], "epochs": 1},
    "starts": 4,
    "rollout_steps": 2,
}


def test_it_learns_from_what_it_drew_and_not_from_what_limits_made_of_it(
    domain: int, runs: Path, tmp_path: Path
) -> None:
    pretrain(runs / "lift-store", tmp_path / "run", resolve("uni_o4", None, None, TINY))
    nodes, new = Nodes(SHIPPED), tmp_path / "new"
    settings = "{algorithm: uni_o4, batch_steps: 60, epochs: 2}"
    try:
        nodes.start_set(
            "finetune",
            run=str(tmp_path / "run"),
            new=str(new),
            task="lift-quick",
            real_time_factor=0.0,
            settings=settings,
        )
        found = learn_on_robot(3, enable=True, wait=True)
    finally:
        nodes.stop()
    snapshot = Store.open(new / "episodes").snapshot()
    drawn, sent = snapshot.column("action_proposed"), snapshot.column("action")
    limits = np.stack([snapshot.contract.action_low, snapshot.contract.action_high])
    beyond = (drawn < limits[0]) | (drawn > limits[1])
    assert beyond.any(), "a policy that has learned little draws widely"
    # What the guardian made of some of them is between the robot and what it may do.
    passed = snapshot.column("verdict") == Verdict.PASSED
    assert beyond[passed].any()
    np.testing.assert_allclose(np.clip(drawn, *limits)[passed], sent[passed], rtol=1e-5, atol=1e-7)
    assert np.isfinite(snapshot.column("log_probability")).all()
    # Two episodes of forty steps are more than a batch: the third is acted by another policy.
    assert found[0].policy == found[1].policy != found[2].policy
    assert len(Run.open(new).metrics()) == 3
