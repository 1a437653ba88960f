"""The robot learns while it works: the nodes as processes, and what they make against the same in one process."""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from episodes.errors import InputError
from episodes.store import Store
from finetune.following import Following
from finetune.learner import Beginning, Learner, LearningConfig, learning_config
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint
from robot.reports import LEARNER_TOPIC, POLICY_TOPIC, LearnerState
from robot.session import learn_on_robot, run_episodes
from tests.robot.contracts import SHIPPED
from tests.robot.processes import Nodes, Probe, Rig

pytest_plugins = ("tests.robot.process_fixtures",)

# As the nodes do: sums come out the same.
torch.set_num_threads(1)

SETTINGS = {"algorithm": "rlpd", "critics": 2, "updates_per_step": 2, "actor_warm_up": 0}


@pytest.fixture(scope="module")
def learning(domain: int, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Path]]:
    """A simulated robot in lock-step with a learner beside it, and the run that it makes."""
    folder = tmp_path_factory.mktemp("learning")
    nodes, probe = Nodes(SHIPPED), Probe()
    settings = "{" + ", ".join(f"{key}: {value}" for key, value in SETTINGS.items()) + "}"
    try:
        nodes.start_set(
            "finetune",
            run=str(runs / "lift"),
            new=str(folder / "new"),
            task="lift-quick",
            real_time_factor=0.0,
            settings=settings,
        )
        yield Rig(nodes, probe), folder / "new"
    finally:
        nodes.stop()
        probe.close()


def policy_of(checkpoint: Path) -> int:
    return actor_hash(load_checkpoint(checkpoint).algorithm)


def test_every_episode_is_acted_by_what_was_learned_from_those_before(learning: tuple[Rig, Path]) -> None:
    _, new = learning
    found = learn_on_robot(3, enable=True, wait=True)
    assert len(found) == 3
    acted = [episode.policy for episode in found]
    assert len(set(acted)) == 3
    run = Run.open(new)
    assert acted[1:] == [policy_of(run.checkpoint(number)) for number in (1, 2)]
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    assert Store.open(new / "episodes").snapshot().episodes == 3


def test_who_missed_what_was_learned_hears_it_again(learning: tuple[Rig, Path]) -> None:
    """Somebody waits for it; here one who hears nothing of what was said before."""
    rig, new = learning
    for topic in (LEARNER_TOPIC, POLICY_TOPIC):
        rig.probe.listen(topic, "std_msgs/msg/String")
        rig.probe.wait(f"{topic} is said again", lambda topic=topic: len(rig.probe.heard(topic)) >= 2)
    assert rig.probe.reports(LearnerState, LEARNER_TOPIC)[-1].learned == 3
    assert rig.probe.heard(POLICY_TOPIC)[-1].message.data == f"{policy_of(Run.open(new).last):016x}"


def test_a_learner_that_is_killed_goes_on_and_nothing_shows(
    learning: tuple[Rig, Path], runs: Path, tmp_path: Path
) -> None:
    rig, new = learning
    rig.nodes.kill("learner")
    rig.nodes.start("learner", run=str(runs / "lift"), new=str(new), store=str(new / "episodes"))
    (found,) = learn_on_robot(4, enable=True, wait=True)
    assert found.policy == policy_of(Run.open(new).checkpoint(3))
    # The same episodes, in one process and undisturbed.
    config = learning_config(LearningConfig, {"checkpoint_every": 1} | SETTINGS)
    beginning = Beginning.of_parent(runs / "lift", config)
    run = Run.create(tmp_path / "alone", beginning.written(runs / "lift", config))
    alone = Following(Learner(run, config, beginning), new / "episodes")
    while alone.step():
        pass
    alone.close()
    ours, theirs = (Run.open(path).last / "state.safetensors" for path in (new, tmp_path / "alone"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_evaluations_are_acted_by_one_policy_and_judged(learning: tuple[Rig, Path]) -> None:
    """After every two episodes come two; the first four were not yet counted so."""
    _, new = learning
    tried: list[int] = []

    def noting(numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            if number == 7:
                # A trial of two episodes is too short to make a best policy of: its checkpoint does not stay.
                tried.append(policy_of(Run.open(new).checkpoint(6)))
            yield number

    found = learn_on_robot(9, enable=True, wait=True, evaluate_every=2, evaluation_episodes=2, progress=noting)
    assert [episode.evaluation for episode in found] == [False, False, True, True, False]
    assert [found[2].policy, found[3].policy] == tried * 2
    assert len({episode.policy for episode in found}) == 4
    metadata = Store.open(new / "episodes").snapshot().metadata
    assert [each.get("evaluation", False) for each in metadata] == [*[False] * 6, True, True, False]
    (judged,) = [line for line in Run.open(new).metrics() if "evaluation/success_rate" in line]
    assert judged["step"] == 9
    assert judged["evaluation/success_rate"] == sum(bool(episode.success) for episode in found[2:4]) / 2


def test_a_policy_that_is_damaged_or_anothers_is_not_taken(
    learning: tuple[Rig, Path], runs: Path, tmp_path: Path
) -> None:
    """The one that is there goes on, and the node says why."""
    rig, new = learning
    run = Run.open(new)
    good = int(run.last.name)
    rig.nodes.kill("learner")
    damaged, foreign, spoilt = (run.checkpoint(number) for number in (1000, 1001, 1002))
    shutil.copytree(run.last, damaged)
    content = bytearray((damaged / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "state.safetensors").write_bytes(content)
    shutil.copytree(run.last, foreign)
    description = json.loads((foreign / "state.json").read_text())
    description["contract"]["state"][0]["unit"] = "mm"
    (foreign / "state.json").write_text(json.dumps(description))
    shutil.copytree(run.last, spoilt)
    (spoilt / "state.json").write_text("[]")
    for number, why in (
        (1000, "does not match its description"),
        (1001, "does not fit the policy: state entry 0"),
        (1002, "expected an object, got list"),
    ):
        run.mark_last(number, keep=[good])
        rig.probe.wait("the actor says so", lambda why=why: why in rig.probe.status("actor")[1])
        assert rig.probe.status("actor")[0] == 2
        (found,) = run_episodes(1, enable=True)
        assert found.policy == policy_of(run.checkpoint(good))
    run.mark_last(good)
    rig.probe.wait("all is well again", lambda: rig.probe.status("actor")[0] == 0)


def test_a_run_is_not_gone_on_with_as_if_it_were_from_another(learning: tuple[Rig, Path], runs: Path) -> None:
    from robot.nodes.learner import _learner

    _, new = learning
    with pytest.raises(InputError, match=rf"{new}: was begun from {runs / 'lift'}, and not from {runs / 'steady'}"):
        _learner(runs / "steady", new, "")
