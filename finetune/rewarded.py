"""Whether what comes online can be rewarded as the offline data is."""

from pathlib import Path

import numpy as np

from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.snapshot import Snapshot
from episodes.store import Store
from finetune.data import is_sparse
from finetune.run import Run
from sim.labels import check_states
from sim.task import make_task
from sim.truth import score_episode

TOLERANCE = 1e-4
"""Of rewards that are the same: what a simulator computes anew differs by rounding."""


def check_rewards(run: Run, task: str = "") -> None:
    """Raise an InputError where nothing would reward a run's online episodes as its label set rewards the offline ones.

    Args:
        run: that is gone on from.
        task: the simulated one that rewards them; empty on a robot, where only looking does, or who says that it was
            a success.
    """
    data = run.config["data"]
    snapshot = Store.open(Path(data["store"])).snapshot(data["snapshot"])
    labels = snapshot.labels(data["labels"])
    where = f"{data['store']}: label set {labels.name!r}"
    if labels.provenance.get("labeller") or "reward" not in labels.values:
        # What has no rewards at all cannot be gone on from, which the learner says.
        return
    if not task:
        if not is_sparse(labels):
            raise InputError(
                f"{where} has rewards that nothing on a robot gives: they were not made by looking, and are more than "
                "0 and 1; go on from a run whose labels were made by looking, or are successes, or say judge:=nobody "
                "where something else tells rewards on the topic outcome"
            )
        return
    made_by = labels.provenance.get("rewards_made_by", labels.provenance)
    if made_by.get("method") == "env" and made_by["task"] != task and _differ(snapshot, labels, task):
        raise InputError(
            f"{where} has the rewards of task {made_by['task']!r}, and {task!r} rewards the same states otherwise; "
            "name the task that the labels are from, or go on from a run with labels of this one"
        )


def _differ(snapshot: Snapshot, labels: LabelSet, task: str) -> bool:
    """Whether a task rewards the first episode that is covered otherwise."""
    index = int(np.argmax(labels.covered))
    rows = slice(snapshot.observation_starts[index], snapshot.observation_ends[index])
    steps = slice(snapshot.step_starts[index], snapshot.step_ends[index])
    made = make_task(task)
    try:
        if not made.scores_states:
            return False
        check_states(snapshot, made)
        reward, _ = score_episode(made, snapshot.column("state")[rows], steps.stop - steps.start)
    finally:
        made.close()
    ours = labels.values["reward"][steps]
    known = ~(np.isnan(reward) | np.isnan(ours))
    return not np.allclose(reward[known], ours[known], atol=TOLERANCE)
