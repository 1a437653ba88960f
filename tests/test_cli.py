"""The command line: one JSON document and nothing else, one line for bad input, and then nothing was written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import firsthand
from episodes.doctor import Check
from episodes.episode import Source
from episodes.store import Store
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint

TASK = "pusht:horizon=4"
EYE = ["--camera", "image", "--image-size", "8x8"]
EYE = ["--camera", "image", "--image-size", "8x8"]
SMALL = ["--set", "hidden=[8]", "--set", "batch_size=8", "--device", "cpu"]

torch.set_num_threads(1)


def run(*arguments: Any) -> int:
    """The exit code of a command, in this process."""
    try:
        return firsthand.main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return int(exit.code or 0)


class Brightness:
    """Stands in for a network that takes seconds to load."""

    name = weights = "brightness"

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1).mean(1, keepdims=True).astype(np.float32)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs, two stores, and runs of every kind, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("finetune.data.load_encoder", lambda name: Brightness())
        write_logs(folder / "logs.hdf5")
        for arguments in (
            ["collect", "store", "--task", TASK, "--operator", "random", "--episodes", 3],
            ["collect", "seen", "--task", TASK, "--operator", "random", "--episodes", 1, *EYE],
            ["label", "store", "--task", TASK],
            ["pretrain", "store", "--run", "iql", "--labels", "env", "--steps", 5, *SMALL],
            ["pretrain", "store", "--run", "bc", "--algorithm", "bc", "--steps", 3, *SMALL],
            ["finetune", "iql", "--run", "online", "--task", TASK, "--episodes", 2],
            ["pretrain", "seen", "--run", "watching", "--camera", "image", "--steps", 2, *SMALL],
        ):
            assert run(*arguments) == 0, arguments
        Run.create(folder / "begun", Run.open(folder / "iql").config)
        shutil.copytree(folder / "bc", folder / "slow")
        description = next((folder / "slow").glob("checkpoint/*/state.json"))
        description.write_text(description.read_text().replace('"rate": 10.0', '"rate": 5.0'))
        (folder / "broken.yaml").write_text("a: [")
        (folder / "list.yaml").write_text("- a")
        (folder / "wrong.yaml").write_text("learner: {expectle: 0.9}")
    return folder


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """The workspace, as the current folder; nothing printed so far."""
    monkeypatch.chdir(workspace)
    monkeypatch.setattr("policies.policy.load_encoder", lambda name: Brightness())
    capfd.readouterr()
    return workspace


@pytest.fixture
def answer(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """What a command with --json says on stdout; fails unless that is one JSON document and nothing else."""

    def ask(*arguments: Any, code: int = 0) -> Any:
        assert run(*arguments, "--json") == code
        return only_document(capfd.readouterr().out)

    return ask


def only_document(out: str) -> Any:
    assert out.count("\n") == 1 and out.endswith("\n")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(out, parse_constant=refuse)


def write_logs(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["observations"] = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
        file["actions"] = np.zeros((8, 2), np.float32)
        file["rewards"] = np.ones(8, np.float32)
        file["terminals"] = np.zeros(8, bool)
        file["timeouts"] = np.arange(8) % 4 == 3


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


# One document ----------------------------------------------------------------------------------------------------


def test_collect_says_what_it_recorded(answer, here, tmp_path):
    document = answer("collect", tmp_path / "s", "--task", TASK, "--operator", "random", "--episodes", 2)
    assert document == {"episodes": 2, "steps": 8, "successes": 0}
    assert Store.open(tmp_path / "s").snapshot().steps == 8


def test_import_says_what_came_in_and_what_did_not(answer, tmp_path):
    document = answer("import", "logs.hdf5", tmp_path / "s", "--task", "nothing")
    assert {"episodes", "steps", "transitions", "left_out"} <= set(document)
    assert (document["episodes"], document["steps"], document["transitions"], document["left_out"]) == (2, 8, 6, [])


def test_inspect_says_what_a_store_holds(answer):
    document = answer("inspect", "store")
    required = {"episodes", "steps", "transitions", "state_size", "action_size", "cameras", "tasks", "sources"}
    assert required | {"labels", "left_out", "return_mean"} <= set(document)
    assert (document["episodes"], document["steps"], document["transitions"]) == (3, 12, 12)
    assert (document["state_size"], document["action_size"], document["cameras"]) == (5, 2, [])
    assert document["labels"] == ["logged", "env"]
    assert document["return_mean"]["env"] == pytest.approx(document["return_mean"]["logged"])
    assert answer("inspect", "seen")["cameras"] == ["image"]


def test_label_says_how_and_how_well(answer):
    document = answer("label", "seen", "--task", TASK, "--name", "again")
    required = {"labels", "method", "judge", "pairs", "unsure", "accuracy", "spearman", "frames_per_second"}
    assert required <= set(document)
    assert (document["labels"], document["method"], document["judge"]) == ("again", "env", "env")


def test_pretrain_says_how_it_went(answer, tmp_path):
    document = answer("pretrain", "store", "--run", tmp_path / "r", "--steps", 4, *SMALL)
    assert {"run", "steps", "updates_per_second", "metrics"} <= set(document)
    assert (document["run"], document["steps"]) == (str(tmp_path / "r"), 4)
    assert document["updates_per_second"] > 0
    assert {"value_loss", "critic_loss", "actor_loss"} <= set(document["metrics"])
    resumed = answer("pretrain", "--run", tmp_path / "r", "--resume")
    assert resumed == document | {"updates_per_second": None}


def test_finetune_says_how_it_went(answer, tmp_path):
    document = answer("finetune", "iql", "--run", tmp_path / "r", "--task", TASK, "--episodes", 2, "--seed", 1)
    assert {"run", "steps", "updates_per_second", "metrics"} <= set(document)
    assert (document["run"], document["steps"], document["episodes"]) == (str(tmp_path / "r"), 5 + 8, 2)
    assert document["online_success_rate"] + document["cumulative_regret"] == 1
    assert answer("finetune", "--run", tmp_path / "r", "--resume")["steps"] == 13


def test_evaluate_says_how_well_and_how_sure(answer, here):
    document = answer("evaluate", "iql", "--task", TASK, "--episodes", 2)
    required = {"episodes", "success_rate", "success_interval", "return_mean", "return_interval", "length_mean", "seed"}
    assert required <= set(document)
    assert (document["episodes"], document["seed"], document["length_mean"]) == (2, 1_000_000, 4.0)
    assert document["success_interval"] == pytest.approx([0.0, 1 - 0.025**0.5])
    assert answer("evaluate", "iql", "--task", TASK, "--episodes", 2) == document
    kept = Run.open(here / "iql").evaluations()["pusht-horizon=4-2"]
    assert kept == document | {"per_episode": kept["per_episode"]}


def test_evaluations_of_another_kind_are_kept_apart(answer, here):
    arguments = ["evaluate", "bc", "--task", TASK, "--episodes", 1, "--videos", 1]
    seeds = [answer(*arguments, *more)["seed"] for more in ([], ["--stochastic"], ["--gap", "gain=0.5", "--seed", 7])]
    assert seeds == [1_000_000, 1_000_000, 7]
    names = {"pusht-horizon=4-1", "pusht-horizon=4-stochastic-1", "pusht-horizon=4-gain0.5-seed7-1"}
    assert set(Run.open(here / "bc").evaluations()) == names
    videos = {path.name: path.read_bytes() for path in (here / "bc" / "videos").iterdir()}
    assert set(videos) == {f"{name}-0.mp4" for name in names}
    assert len(set(videos.values())) == 3


def test_report_says_where_it_is(answer, here):
    assert answer("report", "online") == {"report": "online/report.html"}
    assert (here / "online" / "report.html").read_text().startswith("<!doctype html>")


def test_compact_says_what_it_freed(answer):
    assert set(answer("compact", "seen")) == {"freed_bytes"}


def test_doctor_says_one_entry_per_check(answer, monkeypatch):
    found = [Check("python", True, "3.11"), Check("ros2", False, "none", "source one")]
    monkeypatch.setattr("episodes.doctor.checks", lambda: found)
    expected = [
        {"name": "python", "ok": True, "detail": "3.11", "remedy": ""},
        {"name": "ros2", "ok": False, "detail": "none", "remedy": "source one"},
    ]
    assert answer("doctor", code=0) == expected
    found[0] = Check("python", False, "2.7", "a newer one")
    assert answer("doctor", code=1)[0]["ok"] is False


def test_demo_says_where_its_report_is(answer, tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.demo.demo", lambda folder, say: say("working") or folder / "report.html")
    assert answer("demo", tmp_path) == {"report": f"{tmp_path}/report.html"}
    monkeypatch.chdir(tmp_path)
    assert answer("demo") == {"report": "runs/demo-1/report.html"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["collect", "NEW", "--task", "lift-quick:horizon=2", "--operator", "random", "--episodes", "1"],
        ["evaluate", "iql", "--task", TASK, "--episodes", "1", "--videos", "1"],
    ],
)
def test_simulators_that_chatter_do_not_on_stdout(arguments, here, root, tmp_path):
    """In a process of its own, where libraries are imported for the first time."""
    words = [str(tmp_path / "new") if word == "NEW" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, str(root / "firsthand.py"), *words, "--json"], cwd=here, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert only_document(done.stdout)["episodes"] == 1


def test_without_json_it_speaks_to_people(here, capfd):
    for arguments, said in (
        (["inspect", "store"], "episodes"),
        (["pretrain", "--run", "iql", "--resume"], "iql: 5 updates"),
        (["evaluate", "iql", "--task", TASK, "--episodes", "1"], "iql in pusht:horizon=4: 1 episodes, success 0.00"),
        (["report", "iql"], "iql/report.html"),
    ):
        assert run(*arguments) == 0
        out = capfd.readouterr().out
        assert said in out
        with pytest.raises(json.JSONDecodeError):
            json.loads(out)


# What a command does with what it is given -----------------------------------------------------------------------


def test_collecting_twice_is_collecting_at_once(here, tmp_path):
    arguments = ["--task", TASK, "--operator", "random", "--seed", 4]
    assert run("collect", tmp_path / "once", *arguments, "--episodes", 3) == 0
    for episodes in (1, 2):
        assert run("collect", tmp_path / "twice", *arguments, "--episodes", episodes) == 0
    once, twice = (Store.open(tmp_path / name).snapshot() for name in ("once", "twice"))
    assert [each["origin"] for each in once.metadata] == [f"{TASK} seed {seed}" for seed in (40_000, 40_001, 40_002)]
    assert [each["digest"] for each in once.metadata] == [each["digest"] for each in twice.metadata]


def test_a_run_can_collect_and_signs_its_actions(here, tmp_path):
    assert run("collect", tmp_path / "s", "--task", TASK, "--operator", "iql", "--episodes", 1) == 0
    episode = Store.open(tmp_path / "s").snapshot().episode(0)
    algorithm = load_checkpoint(Run.open(Path("iql")).last).algorithm
    assert episode.source.tolist() == [Source.POLICY] * 4
    assert episode.policy.tolist() == [actor_hash(algorithm)] * 4


def test_flags_beat_the_file_and_set_beats_flags(here, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("algorithm: bc\nseed: 3\nsteps: 2\nlearner: {dropout: 0.1, hidden: [8]}\nsampling: {chunk: 2}\n")
    arguments = ["pretrain", "store", "--run", tmp_path / "r", "--config", file, "--steps", 4, "--device", "cpu"]
    assert run(*arguments, "--set", "dropout=0.2", "--set", "learning_rate=1e-3", "--chunk", 3, "--set", "chunk=2") == 0
    train = Run.open(tmp_path / "r").config["train"]
    assert (train["algorithm"], train["seed"], train["steps"]) == ("bc", 3, 4)
    assert train["learner"] == {"dropout": 0.2, "hidden": [8], "learning_rate": 0.001}
    assert train["sampling"]["chunk"] == 2


def test_presets_stand_under_what_is_asked_for(here, tmp_path):
    arguments = ["--preset", "sparse", "--steps", 2, *SMALL, "--set", "expectile=.8"]
    assert run("pretrain", "store", "--run", tmp_path / "r", *arguments) == 0
    learner = Run.open(tmp_path / "r").config["train"]["learner"]
    assert (learner["expectile"], learner["inverse_temperature"]) == (0.8, 10.0)


# Bad input -------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[list[Any], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["pretain"], "invalid choice: 'pretain'"),
    "unknown option": (["inspect", "store", "--jsno"], "unrecognized arguments: --jsno"),
    "import: missing source": (["import", "nowhere", "new"], "nowhere: no such file or folder"),
    "import: no format": (["import", "broken.yaml", "new"], "no known format"),
    "import: unknown camera": (["import", "logs.hdf5", "new", "--camera", "front"], "'front'"),
    "import: bad size": (["import", "logs.hdf5", "new", "--image-size", "0x8"], "--image-size: '0x8'"),
    "import: other layout": (["import", "logs.hdf5", "store"], "store: holds another layout"),
    "import: into a run": (["import", "logs.hdf5", "iql"], "iql: is not a store"),
    "inspect: missing store": (["inspect", "new"], "new: no such store"),
    "inspect: a run": (["inspect", "iql"], "iql: is not a store"),
    "label: missing store": (["label", "new", "--task", TASK], "new: no such store"),
    "label: unknown task": (["label", "store", "--task", "psuht"], "unknown task 'psuht'; did you mean 'pusht'?"),
    "label: no task": (["label", "store"], "--task"),
    "label: other layout": (["label", "store", "--task", "lift-quick"], "its state is not task 'lift-quick'"),
    "label: cannot score": (["label", "store", "--task", "hopper"], "no function of the state"),
    "label: unknown judge": (["label", "store", "--task", TASK, "--judge", "env2"], "invalid choice: 'env2'"),
    "label: name taken": (["label", "store", "--task", TASK], "label set 'env' exists"),
    "label: reserved name": (["label", "store", "--task", TASK, "--name", "logged"], "label set 'logged'"),
    "label: bad name": (["label", "store", "--task", TASK, "--name", "a/b"], "label set name 'a/b'"),
    "pretrain: no store": (["pretrain", "--run", "new"], "expected STORE"),
    "pretrain: no run": (["pretrain", "store"], "--run"),
    "pretrain: missing store": (["pretrain", "new2", "--run", "new"], "new2: no such store"),
    "pretrain: run is there": (["pretrain", "store", "--run", "iql"], "iql: a run is there already; give --resume"),
    "pretrain: run is a file": (["pretrain", "store", "--run", "logs.hdf5"], "logs.hdf5: is a file"),
    "pretrain: run is a store": (["pretrain", "store", "--run", "store"], "store: is a store, not a run"),
    "pretrain: unknown labels": (
        ["pretrain", "store", "--run", "new", "--labels", "enf"],
        "unknown label set 'enf' in store; did you mean 'env'? known: env, logged",
    ),
    "pretrain: unknown camera": (
        ["pretrain", "seen", "--run", "new", "--camera", "imgae"],
        "unknown camera 'imgae' in seen; did you mean 'image'?",
    ),
    "pretrain: unknown encoder": (
        ["pretrain", "seen", "--run", "new", "--camera", "image", "--encoder", "efficientnet_lite"],
        "unknown encoder 'efficientnet_lite'; did you mean 'efficientnet_lite0'?",
    ),
    "pretrain: unknown algorithm": (
        ["pretrain", "store", "--run", "new", "--algorithm", "iqll"],
        "unknown algorithm 'iqll'; did you mean 'iql'?",
    ),
    "pretrain: unknown preset": (
        ["pretrain", "store", "--run", "new", "--preset", "sparce"],
        "unknown preset 'sparce'; did you mean 'sparse'?",
    ),
    "pretrain: unknown key": (
        ["pretrain", "store", "--run", "new", "--set", "expectle=0.9"],
        "unknown key 'expectle' in configuration; did you mean 'expectile'?",
    ),
    "pretrain: unknown key in a file": (
        ["pretrain", "store", "--run", "new", "--config", "wrong.yaml"],
        "unknown key 'expectle' in settings of iql; did you mean 'expectile'?",
    ),
    "pretrain: unknown state entry": (
        ["pretrain", "store", "--run", "new", "--set", "state_entries=[agent_z]"],
        "unknown state entry 'agent_z' in contract 'pusht'; did you mean 'agent_y'?",
    ),
    "pretrain: no setting": (["pretrain", "store", "--run", "new", "--set", "steps"], "expected key=value"),
    "pretrain: bad value": (["pretrain", "store", "--run", "new", "--set", "expectile=2"], "expectile"),
    "pretrain: bad width": (["pretrain", "store", "--run", "new", "--set", "hidden=[-3]"], "hidden"),
    "pretrain: no steps": (["pretrain", "store", "--run", "new", "--steps", "0"], "steps"),
    "pretrain: steps in words": (["pretrain", "store", "--run", "new", "--steps", "many"], "--steps"),
    "pretrain: bad seed": (["pretrain", "store", "--run", "new", "--seed", "-1"], "seed"),
    "pretrain: bad device": (["pretrain", "store", "--run", "new", "--device", "gpu"], "device"),
    "pretrain: missing file": (["pretrain", "store", "--run", "new", "--config", "no.yaml"], "no.yaml: cannot be read"),
    "pretrain: broken file": (["pretrain", "store", "--run", "new", "--config", "broken.yaml"], "not valid YAML"),
    "pretrain: file of a list": (["pretrain", "store", "--run", "new", "--config", "list.yaml"], "expected a mapping"),
    "pretrain: resume nothing": (["pretrain", "--run", "new", "--resume"], "new: is no run"),
    "pretrain: resume another kind": (["pretrain", "--run", "online", "--resume"], "kind 'finetune'"),
    "pretrain: resume otherwise": (
        ["pretrain", "store", "--run", "iql", "--resume", "--steps", "9"],
        "--resume goes on as the run was begun; leave out: store, steps",
    ),
    "finetune: no parent": (["finetune", "--run", "new", "--task", TASK], "expected RUN and --task"),
    "finetune: no task": (["finetune", "iql", "--run", "new"], "expected RUN and --task"),
    "finetune: missing parent": (["finetune", "nowhere", "--run", "new", "--task", TASK], "nowhere: is no run"),
    "finetune: parent without checkpoint": (
        ["finetune", "begun", "--run", "new", "--task", TASK],
        "begun: has no complete checkpoint yet",
    ),
    "finetune: run is there": (["finetune", "iql", "--run", "online", "--task", TASK], "a run is there already"),
    "finetune: unknown task": (
        ["finetune", "iql", "--run", "new", "--task", "pusht2"],
        "unknown task 'pusht2'; did you mean 'pusht'?",
    ),
    "finetune: unknown task setting": (
        ["finetune", "iql", "--run", "new", "--task", "pusht:horizn=3"],
        "unknown key 'horizn' in task 'pusht:horizn=3'; did you mean 'horizon'?",
    ),
    "finetune: other layout": (["finetune", "iql", "--run", "new", "--task", "hopper"], "not those that the policy"),
    "finetune: unknown gap": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--gap", "gian=2"],
        "unknown key 'gian' in gap 'gian=2'; did you mean 'gain'?",
    ),
    "finetune: gap that means nothing": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--gap", "friction=2"],
        "takes no gap in 'friction'",
    ),
    "finetune: cloning": (["finetune", "bc", "--run", "new", "--task", TASK], "'bc' cannot learn from rewards"),
    "finetune: unknown key": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--set", "warmup_episodes=3"],
        "unknown key 'warmup_episodes' in finetune; did you mean 'warm_up_episodes'?",
    ),
    "finetune: bad value": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--set", "offline_share=1"],
        "offline_share",
    ),
    "finetune: no episodes": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--episodes", "0"],
        "--episodes: '0'",
    ),
    "finetune: bad seed": (["finetune", "iql", "--run", "new", "--task", TASK, "--seed", "-1"], "seed"),
    "finetune: resume another kind": (["finetune", "--run", "iql", "--resume"], "kind 'pretrain'"),
    "finetune: resume otherwise": (
        ["finetune", "--run", "online", "--resume", "--episodes", "9"],
        "--resume goes on as the run was begun; leave out: episodes",
    ),
    "evaluate: a store": (["evaluate", "store", "--task", TASK], "store: is a store, not a run"),
    "evaluate: another rate": (["evaluate", "slow", "--task", TASK], "the policy was trained at 5 Hz"),
    "evaluate: missing run": (["evaluate", "new", "--task", TASK], "new: is no run"),
    "evaluate: no checkpoint": (["evaluate", "begun", "--task", TASK], "begun: has no complete checkpoint yet"),
    "evaluate: unknown task": (["evaluate", "iql", "--task", "pushT"], "unknown task 'pushT'; did you mean 'pusht'?"),
    "evaluate: other layout": (["evaluate", "iql", "--task", "hopper"], "not those that the policy was trained on"),
    "evaluate: unknown gap": (["evaluate", "iql", "--task", TASK, "--gap", "delay=1"], "did you mean 'delay_steps'?"),
    "evaluate: no episodes": (["evaluate", "iql", "--task", TASK, "--episodes", "0"], "--episodes: '0'"),
    "evaluate: bad seed": (["evaluate", "iql", "--task", TASK, "--seed", "-5"], "seed -5"),
    "collect: unknown task": (["collect", "new", "--task", "psuht"], "unknown task 'psuht'; did you mean 'pusht'?"),
    "collect: unknown operator": (
        ["collect", "new", "--task", TASK, "--operator", "rnadom"],
        "unknown operator 'rnadom'; did you mean 'random'?",
    ),
    "collect: no script": (["collect", "new", "--task", TASK], "there is no script for task 'pusht:horizon=4'"),
    "collect: unknown camera": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--camera", "imgae"],
        "unknown camera 'imgae'",
    ),
    "collect: bad quality": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--quality", "2:3"],
        "'2:3': expected a range inside 0:1",
    ),
    "collect: quality in words": (["collect", "new", "--task", TASK, "--quality", "good"], "expected LOW:HIGH"),
    "collect: bad seed": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--seed", "200"],
        "seed 200 with 100 episodes",
    ),
    "collect: too many": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--episodes", "10001"],
        "has room for 10,000 episodes",
    ),
    "collect: bad size": (
        ["collect", "new", "--task", TASK, "--operator", "random", "--image-size", "8xx"],
        "expected HEIGHTxWIDTH",
    ),
    "collect: other layout": (
        ["collect", "seen", "--task", TASK, "--operator", "random", "--episodes", "1"],
        "seen: holds another layout",
    ),
    "collect: not a store": (["collect", "iql", "--task", TASK, "--operator", "random"], "iql: is not a store"),
    "collect: a policy without its camera": (
        ["collect", "new", "--task", TASK, "--operator", "watching"],
        "the policy sees camera 'image' at 8x8, and it is not recorded",
    ),
    "collect: a policy of another task": (
        ["collect", "new", "--task", "hopper", "--operator", "iql"],
        "not those that the policy was trained on",
    ),
    "report: missing run": (["report", "new"], "new: is no run"),
    "compact: missing store": (["compact", "new"], "new: no such store"),
    "demo: not empty": (["demo", "store"], "store: expected a new or an empty folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(case, here, capfd):
    arguments, message = REFUSED[case]
    before = files(here)
    assert run(*arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("firsthand") and err.endswith("\n") and err.count("\n") == 1, err
    assert files(here) == before


def test_it_is_one_line_in_a_process_of_its_own_too(here, root):
    """Where the simulator's own libraries could warn on stderr."""
    done = subprocess.run(
        [sys.executable, str(root / "firsthand.py"), "collect", "new", "--task", "lift-quick", "--camera", "font"],
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("firsthand: unknown camera 'font'") and done.stderr.count("\n") == 1, done.stderr
    assert not (here / "new").exists()


def test_an_interrupt_is_said_and_has_its_own_code(here, capfd, monkeypatch):
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("episodes.inspect.inspect_store", interrupted)
    assert run("inspect", "store") == 130
    assert capfd.readouterr() == ("", "firsthand: interrupted; what was complete is kept\n")


def test_a_disk_that_says_no_is_one_line_too(here, capfd, monkeypatch):
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", "store/chunks")

    monkeypatch.setattr("episodes.inspect.inspect_store", full)
    assert run("inspect", "store") == 2
    assert capfd.readouterr() == ("", "firsthand: store/chunks: No space left on device\n")


def test_a_reader_that_has_seen_enough_is_no_error(here, root):
    """As in `firsthand inspect store | head -1`."""
    with subprocess.Popen(
        [sys.executable, str(root / "firsthand.py"), "inspect", "store"],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_a_bug_is_not_dressed_up_as_bad_input(here, monkeypatch):
    monkeypatch.setattr("episodes.inspect.inspect_store", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("inspect", "store")
