"""Which nodes make up a simulated robot, a recording, a deployment: one table for launch files and `firsthand up`."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from episodes.errors import InputError, unknown
from episodes.typed import parse_settings
from robot.reports import BACKWARD

Value = str | float | int | bool


def contracts() -> Path:
    """The folder of the contracts that come with the project: in the source tree, or where it was installed."""
    here = Path(__file__).resolve().parent.parent / "launch" / "contracts"
    return here if here.is_dir() else Path(sys.prefix) / "share" / "firsthand" / "launch" / "contracts"


@dataclass(frozen=True, slots=True)
class Argument:
    """Something that is said when nodes are started."""

    name: str
    default: Value
    what: str


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node to start."""

    name: str
    parameters: dict[str, Value]
    namespace: str = ""
    """Of its own, inside the robot's."""

    @property
    def path(self) -> str:
        """What it is called among all nodes of a robot."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


COMMON = (
    Argument("namespace", "", "of every topic and service"),
    Argument("params_file", "", "YAML with more parameters, as ros2 has them"),
    Argument("contract", "", "the robot's contract"),
)
RECORDED = (
    Argument("bags", "bags", "folder for recordings"),
    Argument("store", "", "store that every episode is brought into; empty keeps bags only"),
)
JUDGE = Argument(
    "judge", "auto", "says when the task is done: classifier (the run's), simulation, nobody; auto: the first there is"
)
FILTER = Argument("filter", "", "calibrated fisor run that judges every action of the policy; empty is none")
STOCHASTIC = Argument(
    "stochastic", "auto", "sample actions instead of taking the mean: true, false; auto: where somebody learns (new)"
)
ACTING = (
    Argument("run", "", "the run whose policy acts"),
    STOCHASTIC,
    FILTER,
    JUDGE,
)

NEW_ELSEWHERE = Argument("new", "", "folder for the policies of a run that is made on another host (up learn)")
SETTINGS = Argument("settings", "", "YAML of finetune's settings, such as {algorithm: rlpd, updates_per_step: 8}")

ARGUMENTS: dict[str, tuple[Argument, ...]] = {
    "sim": (
        *COMMON,
        *ACTING,
        NEW_ELSEWHERE,
        *RECORDED,
        Argument("task", "lift-quick", "the simulated task"),
        Argument("gap", "", "what differs from the simulator"),
        Argument("real_time_factor", 1.0, "simulated seconds per second; 0 is lock-step"),
        Argument("seed", 0, "of the first episode"),
        Argument("use_sim_time", True, "stamps are simulated time"),
    ),
    "record": (*COMMON, *RECORDED, Argument("use_sim_time", False, "stamps are simulated time")),
    "deploy": (
        *COMMON,
        *ACTING,
        NEW_ELSEWHERE,
        *RECORDED,
        Argument("trigger", "clock", "clock ticks at the contract's rate; inputs ticks when all inputs are new"),
        Argument("use_sim_time", False, "stamps are simulated time"),
    ),
    "finetune": (
        *COMMON,
        Argument("run", "", "the pretrained run that is gone on from"),
        Argument("new", "", "folder of the run that is made; one that is there is gone on with"),
        Argument("backward", "", "reset-free: the pretrained run that undoes what the first one does"),
        Argument("backward_new", "", "reset-free: folder of the run that is made of that"),
        SETTINGS,
        STOCHASTIC,
        FILTER,
        JUDGE,
        Argument("bags", "", "folder for recordings; empty is bags in the new run"),
        Argument("store", "", "store of what the robot does; empty is episodes in the new run"),
        Argument("trigger", "clock", "of a real robot: clock ticks at the contract's rate, inputs when all are new"),
        Argument("task", "", "the simulated task; empty is a real robot"),
        Argument("gap", "", "what differs from the simulator"),
        Argument("real_time_factor", 1.0, "simulated seconds per second; 0 is lock-step"),
        Argument("seed", 0, "of the first simulated episode"),
    ),
    "learn": (
        *COMMON,
        Argument("run", "", "the pretrained run that is gone on from"),
        Argument("new", "", "folder of the run that is made; one that is there is gone on with"),
        SETTINGS,
        Argument("bags", "", "folder for recordings that come from the robot; empty is bags in the new run"),
        Argument("store", "", "store that they are brought into; empty is episodes in the new run"),
        Argument("place", "real", "of the episodes: real or sim"),
    ),
}
"""Per set of nodes, what may be said about it."""


def arguments_of(kind: str) -> tuple[Argument, ...]:
    """What may be said about a set of nodes.

    Raises:
        InputError: where there is no such set.
    """
    if kind not in ARGUMENTS:
        raise unknown("set of nodes", kind, ARGUMENTS)
    return ARGUMENTS[kind]


def read_arguments(kind: str, written: Mapping[str, str]) -> dict[str, Value]:
    """What was written on a command line, each as the kind of value that its argument is; text stays as it is.

    Raises:
        InputError: for an unknown set of nodes; of unknown arguments `nodes` says so.
    """
    texts = {argument.name for argument in arguments_of(kind) if isinstance(argument.default, str)}
    return {name: text if name in texts else parse_settings([f"{name}={text}"])[name] for name, text in written.items()}


def nodes(kind: str, given: Mapping[str, Value]) -> list[NodeSpec]:
    """The nodes of a set, with all their parameters.

    Raises:
        InputError: for an unknown set or argument, or one that is needed and missing.
    """
    known = {argument.name: argument.default for argument in arguments_of(kind)}
    for name in given:
        if name not in known:
            raise unknown("argument", name, known, kind)
    said = {**known, **{name: _of_kind(name, value, known[name]) for name, value in given.items()}}
    if kind == "finetune":
        return _finetune(said)
    if kind == "learn":
        return _learn(said)
    if not said["contract"]:
        if kind != "sim":
            raise InputError(f"{kind}: give it the robot's contract (contract, a YAML file)")
        said["contract"] = str(contracts() / "panda_lift_sim.yaml")
    common = {"contract": str(Path(str(said["contract"])).absolute()), "use_sim_time": said["use_sim_time"]}
    recorder = NodeSpec("recorder", common | {key: _absolute(said[key]) for key in ("bags", "store")})
    if kind == "record":
        return [recorder]
    if not said["run"]:
        raise InputError(f"{kind}: give it a run, whose policy acts")
    actor = common | {"run": _absolute(said["run"]), "stochastic": _samples(said)}
    if said["filter"]:
        actor["filter"] = _absolute(said["filter"])
    couriers = []
    if said["new"]:
        actor["new"] = _absolute(said["new"])
        carried = common | {"side": "robot", "new": actor["new"], "bags": recorder.parameters["bags"]}
        couriers.append(NodeSpec("courier", carried))
    judge = _judge(said, simulated=kind == "sim")
    if judge != "nobody":
        recorder.parameters["judged"] = True
    rewarder = common | {"run": actor["run"]}
    if kind == "deploy":
        actor["trigger"] = said["trigger"]
        judges = [NodeSpec("rewarder", rewarder)] if judge == "classifier" else []
        return [NodeSpec("guardian", common), NodeSpec("actor", actor), recorder, *judges, *couriers]
    factor = float(said["real_time_factor"])
    lock_step = factor == 0
    robot = common | {key: said[key] for key in ("task", "gap", "real_time_factor", "seed")}
    judges = [NodeSpec("rewarder", rewarder | {"reliable_inputs": lock_step})] if judge == "classifier" else []
    return [
        NodeSpec("sim_robot", robot | {"real_time_factor": factor, "judges": judge == "simulation"}),
        NodeSpec("guardian", common | ({"lock_step": True} if lock_step else {"real_time_factor": factor})),
        NodeSpec("actor", actor | {"trigger": "inputs", "reliable_inputs": lock_step}),
        NodeSpec("recorder", recorder.parameters | {"place": "sim"}),
        *judges,
        *couriers,
    ]


def _finetune(said: dict[str, Value]) -> list[NodeSpec]:
    """The nodes of a robot that is moved, and the learner beside them."""
    _check_runs("finetune", said)
    if reset_free := bool(said["backward"] or said["backward_new"]):
        _check_backward(said)
        said = said | {"judge": _judge_of_both(said)}
    _check_rewards(said)
    new = Path(str(said["new"])).absolute()
    store = said["store"] or str(new / "episodes")
    moved = {
        **{key: said[key] for key in ("contract", "run", "filter", "judge")},
        "stochastic": str(_samples(said)).lower(),
        "bags": said["bags"] or str(new / "bags"),
        "store": store,
    }
    if said["task"]:
        others = nodes("sim", moved | {key: said[key] for key in ("task", "gap", "real_time_factor", "seed")})
    else:
        others = nodes("deploy", moved | {"trigger": said["trigger"]})
    specs = [
        NodeSpec(spec.name, spec.parameters | {"new": str(new)}) if spec.name == "actor" else spec for spec in others
    ]
    learner = {"run": _absolute(said["run"]), "new": str(new), "store": _absolute(store), "settings": said["settings"]}
    learner["contract"] = others[0].parameters["contract"]
    specs.append(NodeSpec("learner", learner))
    return _reset_free(specs, said) if reset_free else specs


def _reset_free(specs: list[NodeSpec], said: Mapping[str, Value]) -> list[NodeSpec]:
    """The same nodes with a second direction each, and who learns that."""
    run, new = _absolute(said["backward"]), Path(str(said["backward_new"])).absolute()
    store = str(new / "episodes")
    more: dict[str, dict[str, Value]] = {
        "actor": {"backward_run": run, "backward_new": str(new)},
        "recorder": {"backward_bags": str(new / "bags"), "backward_store": store},
        "rewarder": {"backward_run": run},
    }
    learner = next(spec for spec in specs if spec.name == "learner").parameters
    learner = learner | {"run": run, "new": str(new), "store": store}
    return [
        *(NodeSpec(spec.name, spec.parameters | more.get(spec.name, {})) for spec in specs),
        NodeSpec("learner", learner, BACKWARD),
    ]


def _check_backward(said: Mapping[str, Value]) -> None:
    """Raise an InputError unless the runs of both directions are there, and are four."""
    for name, what in (("backward", "the run that undoes the task"), ("backward_new", "the run that is made of it")):
        if not said[name]:
            raise InputError(f"finetune: give it {name}, {what}, or neither backward nor backward_new")
    paths: dict[str, str] = {}
    for name in ("run", "new", "backward", "backward_new"):
        path = str(Path(str(said[name])).resolve())
        if path in paths:
            raise InputError(f"finetune: {name} and {paths[path]} are the same run, {said[name]}; each needs its own")
        paths[path] = name
    contract = _contract_of(said)
    if contract.is_file():
        from robot.contract_file import read_robot_contract

        if not read_robot_contract(contract).reset.task:
            raise InputError(f"{contract}: nothing undoes its task; say in reset.task what does")


def _contract_of(said: Mapping[str, Value]) -> Path:
    return Path(str(said["contract"])) if said["contract"] else contracts() / "panda_lift_sim.yaml"


def _judge_of_both(said: Mapping[str, Value]) -> str:
    """Who says when either task is done: whoever can say so of both."""
    judges = {
        _judge({**said, "run": said[run], "contract": str(_contract_of(said))}, simulated=bool(said["task"]))
        for run in ("run", "backward")
    }
    judge = judges.pop() if len(judges) == 1 else "simulation" if said["task"] else "nobody"
    if judge == "nobody" and said["judge"] == "auto":
        raise InputError(
            "finetune: nobody would say when a task is done and the other's turn is; both runs need labels by a "
            "success classifier, or say judge:=nobody, and a person calls recorder/success"
        )
    return judge


def _learn(said: dict[str, Value]) -> list[NodeSpec]:
    """The learner on a host of its own, and who carries recordings to it and policies away."""
    _check_runs("learn", said)
    _check_rewards(said | {"task": ""})
    if not said["contract"]:
        raise InputError("learn: give it the robot's contract (contract, a YAML file)")
    new = Path(str(said["new"])).absolute()
    common: dict[str, Value] = {"contract": _absolute(said["contract"]), "new": str(new)}
    common["store"] = _absolute(said["store"]) or str(new / "episodes")
    learner = common | {"run": _absolute(said["run"]), "settings": said["settings"]}
    courier = common | {"side": "learner", "bags": _absolute(said["bags"]) or str(new / "bags")}
    return [NodeSpec("learner", learner), NodeSpec("courier", courier | {"place": said["place"]})]


def _check_runs(kind: str, said: Mapping[str, Value]) -> None:
    for name, what in (("run", "the pretrained"), ("new", "the new")):
        if not said[name]:
            raise InputError(f"{kind}: give it {name}, {what} run's folder")


def _check_rewards(said: Mapping[str, Value]) -> None:
    """Raise an InputError where nothing would reward what is learned from, before the robot has worked for nothing."""
    from finetune.rewarded import check_rewards
    from finetune.run import Run

    if said.get("judge") == "nobody" or said.get("place") == "sim":
        # Then somebody may say rewards who is none of these nodes.
        return
    # A simulated task rewards its own direction; of the other it says whether it was a success.
    for name, task in (("run", str(said["task"])), ("backward", "")):
        # Where there is no run, whoever needs it says so better.
        if said.get(name) and (Path(str(said[name])) / "config.yaml").is_file():
            check_rewards(Run.open(Path(str(said[name]))), task)


def _samples(said: Mapping[str, Value]) -> bool:
    """Whether the policy's actions are drawn: who learns from them learns nothing from the mean alone."""
    words = {"auto": bool(said["new"]), "true": True, "false": False}
    word = str(said["stochastic"]).lower()
    if word not in words:
        raise InputError(f"stochastic: {said['stochastic']!r}, expected true, false or auto")
    return words[word]


def _judge(said: Mapping[str, Value], *, simulated: bool) -> str:
    """Who says when the task is done."""
    judge = said["judge"]
    known = ("auto", "classifier", "nobody", *(("simulation",) if simulated else ()))
    if judge not in known:
        raise unknown("judge", str(judge), known)
    if judge != "auto":
        return str(judge)
    if _has_classifier(Path(str(said["run"])), Path(str(said["contract"]))):
        return "classifier"
    return "simulation" if simulated else "nobody"


def _has_classifier(run: Path, contract: Path) -> bool:
    """Whether a run has a success classifier, and the robot the cameras that it looks through."""
    if not (run / "config.yaml").is_file() or not contract.is_file():
        # Whoever needs them says so better.
        return False
    from finetune.data import labeller_of
    from finetune.run import Run
    from rewards.labeller import Labeller
    from robot.contract_file import read_robot_contract

    folder = labeller_of(Run.open(run))
    if folder is None:
        return False
    labeller = Labeller.load(folder)
    there = {camera.name for camera in read_robot_contract(contract).cameras}
    return labeller.classifier is not None and set(labeller.config.cameras) <= there


def _of_kind(name: str, value: Value, default: Value) -> Value:
    """The value, where it is of the kind of the default."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        kinds = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
        raise InputError(f"{name}: {value!r}, expected {kinds[type(default)]}")
    return value


def _absolute(path: Value) -> str:
    return str(Path(str(path)).absolute()) if path else ""
