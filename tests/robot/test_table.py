"""Which nodes a set is made of, and with which parameters."""

from pathlib import Path
from typing import Any

import pytest

from episodes.errors import InputError
from finetune.run import Run
from robot.contract_file import read_robot_contract
from robot.table import ARGUMENTS, NodeSpec, contracts, nodes, read_arguments
from tests.robot.contracts import SHIPPED


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Paths are made absolute from where somebody stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


NEEDED: dict[str, dict[str, Any]] = {
    "record": {},
    "finetune": {"run": "r", "new": "n"},
    "learn": {"run": "r", "new": "n"},
}
"""Beside a contract; of a set that is not here, a run."""


def by_name(kind: str, **given: Any) -> dict[str, dict[str, Any]]:
    specs = nodes(kind, given)
    found = {spec.path: spec.parameters for spec in specs}
    assert len(found) == len(specs)
    return found


def test_a_simulated_robot_has_four_nodes_with_all_their_parameters(elsewhere: Path) -> None:
    common = {"contract": str(SHIPPED), "use_sim_time": True}
    assert nodes("sim", {"run": "my run"}) == [
        NodeSpec(
            "sim_robot",
            {**common, "task": "lift-quick", "gap": "", "real_time_factor": 1.0, "seed": 0, "judges": True},
        ),
        NodeSpec("guardian", {**common, "real_time_factor": 1.0}),
        NodeSpec(
            "actor",
            {
                **common,
                "run": str(elsewhere / "my run"),
                "stochastic": False,
                "trigger": "inputs",
                "reliable_inputs": False,
            },
        ),
        NodeSpec("recorder", {**common, "bags": str(elsewhere / "bags"), "store": "", "judged": True, "place": "sim"}),
    ]


@pytest.mark.parametrize("factor", [0, 0.0])
def test_lock_step_is_told_to_everybody_that_it_concerns(factor: float) -> None:
    found = by_name("sim", run="r", real_time_factor=factor)
    assert found["sim_robot"]["real_time_factor"] == 0.0
    assert found["guardian"]["lock_step"] is True
    assert found["actor"]["reliable_inputs"] is True


def test_a_robot_that_learns_has_a_learner_beside_what_moves_it(elsewhere: Path) -> None:
    found = by_name("finetune", run="r", new="n", contract="arm.yaml", settings="{algorithm: rlpd}")
    assert list(found) == ["guardian", "actor", "recorder", "learner"]
    assert found["actor"]["new"] == str(elsewhere / "n")
    assert found["actor"]["stochastic"] is True
    assert found["recorder"]["store"] == found["learner"]["store"] == str(elsewhere / "n" / "episodes")
    assert found["recorder"]["bags"] == str(elsewhere / "n" / "bags")
    assert found["learner"] == {
        "contract": str(elsewhere / "arm.yaml"),
        "run": str(elsewhere / "r"),
        "new": str(elsewhere / "n"),
        "store": str(elsewhere / "n" / "episodes"),
        "settings": "{algorithm: rlpd}",
    }


def test_so_has_a_simulated_one(elsewhere: Path) -> None:
    found = by_name("finetune", run="r", new="n", task="lift-quick", real_time_factor=0, store="s")
    assert list(found) == ["sim_robot", "guardian", "actor", "recorder", "learner"]
    assert found["guardian"]["lock_step"] is True
    assert found["sim_robot"]["task"] == "lift-quick"
    assert found["recorder"]["store"] == found["learner"]["store"] == str(elsewhere / "s")


@pytest.mark.parametrize(("given", "words"), [({"run": "r"}, "give it new, the"), ({"new": "n"}, "give it run, the")])
def test_learning_needs_a_run_to_go_on_from_and_one_to_make(given: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        nodes("finetune", given | {"contract": "arm.yaml"})


def test_the_guardian_counts_time_as_it_passes_for_the_robot() -> None:
    assert by_name("sim", run="r", real_time_factor=4.0)["guardian"]["real_time_factor"] == 4.0
    assert "real_time_factor" not in by_name("sim", run="r", real_time_factor=0)["guardian"]


def test_a_factor_is_a_float_for_ros_even_where_a_whole_number_was_said() -> None:
    assert type(by_name("sim", run="r", real_time_factor=2)["sim_robot"]["real_time_factor"]) is float


def test_what_is_said_about_a_simulated_robot_reaches_its_nodes(elsewhere: Path) -> None:
    found = by_name(
        "sim",
        run="/runs/r",
        contract="c.yaml",
        task="lift",
        gap="friction=0.3",
        seed=7,
        stochastic="true",
        bags="b",
        store="s",
        use_sim_time=False,
    )
    assert {parameters["contract"] for parameters in found.values()} == {str(elsewhere / "c.yaml")}
    assert {parameters["use_sim_time"] for parameters in found.values()} == {False}
    assert (found["sim_robot"]["task"], found["sim_robot"]["gap"], found["sim_robot"]["seed"]) == (
        "lift",
        "friction=0.3",
        7,
    )
    assert (found["actor"]["run"], found["actor"]["stochastic"]) == ("/runs/r", True)
    assert (found["recorder"]["bags"], found["recorder"]["store"]) == (str(elsewhere / "b"), str(elsewhere / "s"))


def test_a_deployment_has_a_guardian_an_actor_and_a_recorder(elsewhere: Path) -> None:
    common = {"contract": str(elsewhere / "arm.yaml"), "use_sim_time": False}
    assert nodes("deploy", {"contract": "arm.yaml", "run": "r", "trigger": "inputs"}) == [
        NodeSpec("guardian", common),
        NodeSpec("actor", {**common, "run": str(elsewhere / "r"), "stochastic": False, "trigger": "inputs"}),
        NodeSpec("recorder", {**common, "bags": str(elsewhere / "bags"), "store": ""}),
    ]
    assert by_name("deploy", contract="arm.yaml", run="r")["actor"]["trigger"] == "clock"


@pytest.mark.parametrize(("kind", "given"), [("sim", {}), ("deploy", {}), ("finetune", {"new": "n"})])
def test_the_actor_has_the_filter_that_is_asked_for(kind: str, given: dict[str, str], elsewhere: Path) -> None:
    given = {"contract": "arm.yaml", "run": "r", **given}
    assert by_name(kind, **given, filter="safe")["actor"]["filter"] == str(elsewhere / "safe")
    assert "filter" not in by_name(kind, **given)["actor"]


def test_a_recording_needs_a_recorder_only(elsewhere: Path) -> None:
    assert nodes("record", {"contract": "arm.yaml", "store": "s"}) == [
        NodeSpec(
            "recorder",
            {
                "contract": str(elsewhere / "arm.yaml"),
                "use_sim_time": False,
                "bags": str(elsewhere / "bags"),
                "store": str(elsewhere / "s"),
            },
        )
    ]


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("simulate", {}, "unknown set of nodes 'simulate'"),
        ("simm", {}, "did you mean 'sim'?"),
        ("sim", {}, "sim: give it a run, whose policy acts"),
        ("sim", {"run": "r", "taks": "lift"}, "unknown argument 'taks' in sim; did you mean 'task'?"),
        ("deploy", {"run": "r"}, "deploy: give it the robot's contract (contract, a YAML file)"),
        ("deploy", {"contract": "c"}, "deploy: give it a run"),
        ("deploy", {"contract": "c", "run": "r", "task": "lift"}, "unknown argument 'task' in deploy"),
        ("record", {}, "record: give it the robot's contract"),
        ("record", {"contract": "c", "run": "r"}, "unknown argument 'run' in record"),
    ],
)
def test_what_is_missing_or_unknown_is_refused(kind: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        nodes(kind, given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given", [{"seed": "zero"}, {"use_sim_time": "maybe"}, {"real_time_factor": "fast"}, {"stochastic": "often"}]
)
def test_a_value_of_another_kind_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        nodes("sim", {"run": "r", **given})


@pytest.mark.parametrize("kind", list(ARGUMENTS))
def test_every_argument_is_described_and_can_be_said(kind: str) -> None:
    assert len({argument.name for argument in ARGUMENTS[kind]}) == len(ARGUMENTS[kind])
    assert all(argument.what for argument in ARGUMENTS[kind])
    said = {argument.name: argument.default for argument in ARGUMENTS[kind]} | {"contract": "c.yaml"}
    nodes(kind, said | NEEDED.get(kind, {"run": "r"}))


@pytest.mark.parametrize("kind", list(ARGUMENTS))
def test_parameters_are_of_kinds_that_ros_has_and_nodes_have_no_others(kind: str) -> None:
    given = {"contract": "c.yaml"} | NEEDED.get(kind, {"run": "r"})
    for parameters in by_name(kind, **given).values():
        assert {type(value) for value in parameters.values()} <= {str, float, int, bool}
        assert not {"namespace", "params_file"} & set(parameters)


BOTH = {"run": "r", "new": "n", "backward": "rb", "backward_new": "nb"}


def test_reset_free_every_node_knows_both_directions_and_two_learn(elsewhere: Path) -> None:
    found = by_name("finetune", task="lift-quick", settings="{algorithm: rlpd}", **BOTH)
    once = by_name("finetune", task="lift-quick", run="r", new="n", settings="{algorithm: rlpd}")
    assert list(found) == [*once, "backward/learner"]
    assert found["learner"] == once["learner"]
    assert found["backward/learner"] == once["learner"] | {
        "run": str(elsewhere / "rb"),
        "new": str(elsewhere / "nb"),
        "store": str(elsewhere / "nb" / "episodes"),
    }
    more = {
        "actor": {"backward_run": str(elsewhere / "rb"), "backward_new": str(elsewhere / "nb")},
        "recorder": {
            "backward_bags": str(elsewhere / "nb" / "bags"),
            "backward_store": str(elsewhere / "nb" / "episodes"),
        },
    }
    for name, parameters in once.items():
        assert found[name] == parameters | more.get(name, {})
    judged = by_name("finetune", task="lift-quick", judge="classifier", **BOTH)
    assert judged["rewarder"]["backward_run"] == str(elsewhere / "rb")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backward_new": ""}, "give it backward_new, the run that is made of it"),
        ({"backward": ""}, "give it backward, the run that undoes the task"),
        ({"backward": "r"}, "backward and run are the same run, r; each needs its own"),
        ({"backward": "./r"}, "backward and run are the same run"),
        ({"backward_new": "n"}, "backward_new and new are the same run, n"),
        ({"contract": str(contracts() / "ur5e.yaml")}, "ur5e.yaml: nothing undoes its task; say in reset.task"),
        ({"contract": str(SHIPPED), "task": ""}, "nobody would say when a task is done and the other's turn is"),
    ],
)
def test_runs_that_cannot_be_two_directions_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        nodes("finetune", {**BOTH, "task": "lift-quick", **changes})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_contracts_of_the_project_are_found_and_can_be_read() -> None:
    files = list(contracts().glob("*.yaml"))
    assert contracts() / "panda_lift_sim.yaml" in files
    for file in files:
        read_robot_contract(file)


@pytest.mark.parametrize(("kind", "given"), [("sim", {}), ("deploy", {}), ("finetune", {"new": "n"})])
def test_the_runs_classifier_judges_where_it_is_asked_to(kind: str, given: dict[str, Any], elsewhere: Path) -> None:
    found = by_name(kind, run="r", contract=str(SHIPPED), judge="classifier", **given)
    assert found["rewarder"]["run"] == str(elsewhere / "r")
    assert found["rewarder"]["contract"] == str(SHIPPED)
    assert found.get("sim_robot", {}).get("judges", False) is False
    assert found["recorder"]["judged"] is True
    nobody = by_name(kind, run="r", contract=str(SHIPPED), judge="nobody", **given)
    assert "rewarder" not in nobody
    assert "judged" not in nobody["recorder"]


def test_a_simulation_whose_judge_is_waited_for_in_lock_step_repeats_what_was_lost() -> None:
    given = {"run": "r", "judge": "classifier"}
    assert by_name("sim", **given)["rewarder"]["reliable_inputs"] is False
    assert by_name("sim", real_time_factor=0, **given)["rewarder"]["reliable_inputs"] is True
    assert "reliable_inputs" not in by_name("deploy", contract=str(SHIPPED), **given)["rewarder"]


def test_nobody_simulates_a_real_robot() -> None:
    with pytest.raises(InputError, match=r"unknown judge 'simulation'"):
        nodes("deploy", {"run": "r", "contract": str(SHIPPED), "judge": "simulation"})
    assert by_name("sim", run="r", judge="simulation")["sim_robot"]["judges"] is True


def test_a_learner_on_another_host_is_carried_to_and_from(elsewhere: Path) -> None:
    found = by_name("learn", run="r", new="n", contract="arm.yaml")
    assert list(found) == ["learner", "courier"]
    assert found["learner"]["store"] == found["courier"]["store"] == str(elsewhere / "n" / "episodes")
    assert (found["courier"]["side"], found["courier"]["bags"]) == ("learner", str(elsewhere / "n" / "bags"))


@pytest.mark.parametrize("kind", ["sim", "deploy"])
def test_so_are_the_nodes_of_its_robot(kind: str, elsewhere: Path) -> None:
    found = by_name(kind, run="r", new="policies", contract="arm.yaml")
    assert found["actor"]["new"] == found["courier"]["new"] == str(elsewhere / "policies")
    assert (found["courier"]["side"], found["courier"]["bags"]) == ("robot", found["recorder"]["bags"])
    assert "courier" not in by_name(kind, run="r", contract="arm.yaml")


@pytest.mark.parametrize(
    ("given", "drawn"),
    [({}, False), ({"new": "n"}, True), ({"new": "n", "stochastic": "false"}, False), ({"stochastic": "true"}, True)],
)
def test_actions_are_drawn_where_somebody_learns_from_them(given: dict[str, str], drawn: bool) -> None:
    assert by_name("deploy", run="r", contract="arm.yaml", **given)["actor"]["stochastic"] is drawn


@pytest.mark.parametrize(("said", "drawn"), [("auto", True), ("true", True), ("false", False)])
def test_a_robot_that_learns_draws_them_unless_it_is_told_not_to(said: str, drawn: bool) -> None:
    assert by_name("finetune", run="r", new="n", contract="c.yaml", stochastic=said)["actor"]["stochastic"] is drawn


def test_what_is_written_is_read_as_what_its_argument_is() -> None:
    written = {"run": "2024", "stochastic": "true", "seed": "3", "real_time_factor": "0", "use_sim_time": "false"}
    read = read_arguments("sim", written)
    assert read == {"run": "2024", "stochastic": "true", "seed": 3, "real_time_factor": 0, "use_sim_time": False}
    assert read_arguments("finetune", {"settings": "{algorithm: rlpd}"}) == {"settings": "{algorithm: rlpd}"}
    with pytest.raises(InputError, match="did you mean 'deploy'"):
        read_arguments("deplay", {})


def test_what_nothing_would_reward_is_refused_before_the_robot_works_for_nothing(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(run: Run, task: str) -> None:
        asked.append((run.path.name, task))
        if len(asked) == 2:
            raise InputError("nothing rewards that")

    monkeypatch.setattr("finetune.rewarded.check_rewards", refuse)
    Run.create(elsewhere / "r", {"kind": "pretrain", "train": {}, "data": {}})
    given = {"run": "r", "new": "n", "contract": str(SHIPPED)}
    nodes("finetune", given | {"task": "lift-quick", "judge": "simulation"})
    # Then somebody else may reward it.
    nodes("finetune", given | {"judge": "nobody"})
    with pytest.raises(InputError, match="nothing rewards that"):
        nodes("finetune", given | {"judge": "classifier"})
    assert asked == [("r", "lift-quick"), ("r", "")]
