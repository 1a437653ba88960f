"""The command line: one JSON document and nothing else, one line for bad input, and then nothing was written."""

import json
import shutil
import socket
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
from episodes.labels import LabelSet
from episodes.store import Store
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint
from rewards.marks import Marks, Success, read_marks
from tests.pages import Page

TASK = "pusht:horizon=4"
EYE = ["--camera", "image", "--image-size", "8x8"]
SMALL = ["--set", "hidden=[8]", "--set", "batch_size=8", "--device", "cpu"]

QUICK = ["--pairs", 40, "--set", "reward.updates=25", "--set", "reward.hidden=[8]", "--set", "device=cpu"]
TIME = ["--judge", "progress", "--task", "push it", "--set", "reward.inputs=state", *QUICK]
"""What a labelling by time takes that looks at no picture."""
CHAT = ["--judge", "chat", "--task", "push it", "--model", "m", "--set", "reward.inputs=state", *QUICK]
MARKS = {
    "contradicting": "successes: [{episode: 0, from: 1}]\nfailures: [0]",
    "beyond": "successes: [{episode: 7}]",
    "late": "successes: [{episode: 0, from: 99}]",
    "mistyped": "succeses: [{episode: 0}]",
    "numbers": "successes: [0]",
    "words": "failures: [first]",
}
CAPTIONS = {
    "two": [
        json.dumps({"episode": 0, "observation": number, "text": text})
        for number, text in enumerate(["far away", "near it"] * 2)
    ],
    "no-json": ["episode 0 is far away"],
    "one-text": [json.dumps({"episode": 0, "observation": number, "text": "far away"}) for number in range(3)],
    "no-such": [json.dumps({"episode": 4, "observation": 0, "text": "far away"})],
    "key": [json.dumps({"episode": 0, "observatoin": 0, "text": "far away"})],
}

torch.set_num_threads(1)


def run(*arguments: Any) -> int:
    """The exit code of a command, in this process."""
    try:
        return firsthand.main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return int(exit.code or 0)


class Brightness:
    """Stands in for a network that takes seconds to load."""

    name = weights = key = "brightness"

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
            ["label", "store", "--name", "time", *TIME],
            ["label", "seen", "--name", "time", *TIME],
            ["pretrain", "store", "--run", "iql", "--labels", "env", "--steps", 5, *SMALL],
            ["pretrain", "store", "--run", "bc", "--algorithm", "bc", "--steps", 3, *SMALL],
            ["finetune", "iql", "--run", "online", "--task", TASK, "--episodes", 2],
            ["pretrain", "seen", "--run", "watching", "--camera", "image", "--steps", 2, *SMALL],
        ):
            assert run(*arguments) == 0, arguments
        for arguments in (
            ["collect", "lift", "--task", "lift-quick:horizon=3", "--operator", "random", "--episodes", 1],
            ["caption", "seen", "--task", TASK, "--out", "seen.jsonl"],
        ):
            assert run(*arguments) == 0, arguments
        Run.create(folder / "begun", Run.open(folder / "iql").config)
        shutil.copytree(folder / "bc", folder / "slow")
        description = next((folder / "slow").glob("checkpoint/*/state.json"))
        description.write_text(description.read_text().replace('"rate": 10.0', '"rate": 5.0'))
        (folder / "broken.yaml").write_text("a: [")
        (folder / "list.yaml").write_text("- a")
        (folder / "wrong.yaml").write_text("learner: {expectle: 0.9}")
        for name, content in MARKS.items():
            (folder / f"{name}.yaml").write_text(content)
        (folder / "time.yaml").write_text("judge: progress\nasking: {pairs: 40}\nlabeller: {reward: {inputs: state}}\n")
        for name, lines in CAPTIONS.items():
            (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """The workspace, as the current folder; nothing printed so far."""
    monkeypatch.chdir(workspace)
    monkeypatch.setattr("policies.policy.load_encoder", lambda name: Brightness())
    capfd.readouterr()
    return workspace


@pytest.fixture
def own(here: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the workspace's stores that a test may write to."""
    return lambda name: shutil.copytree(here / name, tmp_path / name)


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
    assert document["labels"] == ["logged", "env", "time"]
    assert document["return_mean"]["env"] == pytest.approx(document["return_mean"]["logged"])
    assert answer("inspect", "seen")["cameras"] == ["image"]


def test_label_says_how_and_how_well(answer):
    document = answer("label", "seen", "--task", TASK, "--name", "again")
    required = {"labels", "method", "judge", "pairs", "unsure", "accuracy", "spearman", "frames_per_second"}
    assert required <= set(document)
    assert (document["labels"], document["method"], document["judge"]) == ("again", "env", "env")


PROMISED = {"labels", "method", "judge", "pairs", "unsure", "accuracy", "spearman", "frames_per_second"}


def test_labelling_by_a_judge_says_how_and_how_well(answer, own):
    store = own("store")
    document = answer("label", store, "--name", "by-time", "--truth", "env", "--seed", 1, *TIME)
    assert document.keys() >= PROMISED
    assert [document[key] for key in ("labels", "method", "judge", "pairs")] == [
        "by-time",
        "preference",
        "progress",
        40,
    ]
    assert document["decided"] + document["unsure"] + document["invalid"] + document["same_pictures"] == 40
    assert -1 <= document["spearman_time"] <= 1 and document["frames_per_second"] > 0
    assert (store / "labellers" / "by-time" / "labeller.json").exists()
    assert answer("inspect", store)["labels"] == ["logged", "by-time", "env", "time"]


def test_the_simulators_reward_can_judge_pairs_too(answer, own):
    flags = ["--judge", "env", "--method", "preference", "--truth", "logged", "--set", "reward.inputs=state", *QUICK]
    document = answer("label", own("store"), "--task", "push it", *flags)
    assert document.keys() >= PROMISED
    assert (document["labels"], document["method"], document["judge"]) == ("preference-env", "preference", "env")


def test_a_judges_own_scores_need_no_pairs(answer, own):
    document = answer("label", own("store"), "--method", "score", *TIME)
    assert (document["labels"], document["method"], document["pairs"]) == ("score-progress", "score", 0)


def test_marks_are_what_a_label_set_knows(answer, own, tmp_path):
    store = Store.open(own("seen"))
    store.append([store.snapshot().episode(0)] * 3)
    success = np.zeros((4, 4), np.float32)
    success[:2, 2:] = 1
    store.write_labels(LabelSet("known", {"success": success.ravel()}, np.ones(4, bool)))
    flags = ["--labels", "known", "--successes", 2, "--failures", 1]
    document = answer("mark", store.path, *flags, "--out", tmp_path / "m.yaml")
    assert document == {"successes": 2, "failures": 1, "file": str(tmp_path / "m.yaml")}
    # A step's label speaks of the observation after it.
    assert read_marks(tmp_path / "m.yaml") == Marks((Success(0, 3), Success(1, 3)), (2,))


def test_captions_say_how_many_there_are(answer, here, tmp_path):
    """Of a store without a camera: they are made of states."""
    document = answer("caption", "lift", "--task", "lift-quick", "--out", tmp_path / "c.jsonl", "--seed", 1)
    assert document == {"captions": 4, "sentences": document["sentences"], "file": str(tmp_path / "c.jsonl")}
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [(line["episode"], line["observation"]) for line in lines] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert len({line["text"] for line in lines}) == document["sentences"] >= 1
    assert len((here / "seen.jsonl").read_text().splitlines()) == 5


def test_a_model_is_adapted_judges_and_is_known_by_its_folder(answer, own, tmp_path):
    """Captions, a small model trained on them, and a store labelled by it: what it says of itself, not how well."""
    store, model = own("seen"), tmp_path / "model"
    few = ["--set", "batch_size=4", "--steps", 1]
    document = answer("adapt", store, "--captions", "two.jsonl", "--out", model, *few)
    assert {"model", "caption_accuracy", "captions", "sentences", "steps", "weights"} <= document.keys()
    assert (document["model"], document["captions"], document["sentences"], document["steps"]) == (str(model), 4, 2, 1)
    flags = ["--judge", "clip", "--model", model, "--task", "near it", "--baseline", "far away", *QUICK]
    labelled = answer("label", store, "--name", "by-clip", *flags, "--set", "clip.margin=0", "--set", "held_out=0")
    assert labelled.keys() >= PROMISED and labelled["judge"] == "clip"
    provenance = Store.open(store).snapshot().labels("by-clip").provenance
    assert provenance["config"]["labeller"]["encoder"] == f"open_clip:{model}"
    assert provenance["config"]["judges"]["clip"]["baseline"] == "far away"


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


def test_evaluate_says_how_near_it_comes_to_a_log_that_it_did_not_learn_from(answer, here, tmp_path, capfd):
    keep = ["--set", "held_out=0.4"]
    assert run("pretrain", "store", "--run", tmp_path / "run", "--algorithm", "bc", "--steps", 2, *SMALL, *keep) == 0
    capfd.readouterr()
    said = answer("evaluate", tmp_path / "run", "--held-out")
    assert said["episodes"] == len(said["held_out"]) == 1 and said["steps"] == 3
    assert {"name", "unit", "policy", "hold", "last", "mean"} <= set(said["entries"][0])
    assert run("evaluate", tmp_path / "run", "--held-out") == 0
    assert "1 held-out episodes, 3 steps" in capfd.readouterr().out


def test_a_filter_is_calibrated_and_judges(answer, here, tmp_path, capfd):
    """In a task whose violations are known, from logs to filtered episodes."""
    task, small = "point-robot:horizon=20", ["--set", "hidden=[8]", "--set", "width=8", "--set", "blocks=1", *SMALL[2:]]
    store, run_path = tmp_path / "store", tmp_path / "run"
    kept = ["--set", "held_out=0.5", "--labels", "safe", "--algorithm", "fisor"]
    collect = ["collect", store, "--task", task, "--operator", "random", "--episodes", 60]
    label = ["label", store, "--method", "constraints", "--task", task, "--name", "safe"]
    for arguments in (collect, label, ["pretrain", store, "--run", run_path, "--steps", 20, *kept, *small]):
        assert run(*arguments) == 0
    capfd.readouterr()
    said = answer("calibrate", run_path, "--false-safe", 0.6, "--horizon", 2)
    assert {"margin", "certified", "false_safe", "violating_episodes", "smallest", "safe_accepted"} <= set(said)
    assert said["certified"] <= 0.6 and (run_path / "filter" / "filter.json").exists()
    assert run("calibrate", run_path, "--false-safe", 0.6) == 0
    assert "at 95% confidence (60.0% asked for" in capfd.readouterr().out
    evaluate = ["evaluate", run_path, "--task", task, "--episodes", 2]
    filtered = answer(*evaluate, "--filter", run_path)
    assert set(filtered["filter"]) == {"own", "alternative", "stop"}
    assert sum(filtered["filter"].values()) == 2 * filtered["length_mean"]
    assert "filter" not in answer(*evaluate)
    assert set(Run.open(run_path).evaluations()) == {
        "point-robot-horizon=20-2",
        f"point-robot-horizon=20-filtered-by-{run_path.name}-2",
    }
    assert run(*evaluate, "--filter", run_path) == 0
    assert "; the filter let " in capfd.readouterr().out


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


@pytest.mark.parametrize("format", ["robomimic", "lerobot"])
def test_export_says_what_went_out_and_first_what_stays(format, answer, here, tmp_path, capfd):
    assert run("export", "store", tmp_path / "out", "--format", format, "--labels", "env") == 0
    out, err = capfd.readouterr()
    said = answer("export", "store", tmp_path / "again", "--format", format, "--labels", "env")
    assert said["episodes"] == 3 and said["steps"] == 12 and said["labels"] == "env"
    assert said["format"] in out and out.count("\n") == 1
    stays = [f"firsthand: left behind: {line}" for line in said["left_behind"]]
    assert err.splitlines()[: len(stays)] == stays and "how label set env was made" in said["left_behind"]
    assert answer("import", tmp_path / "out", tmp_path / "back")["episodes"] == 3


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
    monkeypatch.setattr("finetune.demo.demo", lambda folder, say, robot: say("working") or folder / "report.html")
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


def test_without_json_it_speaks_to_people(own, capfd):
    for arguments, said in (
        (["inspect", "store"], "episodes"),
        (["pretrain", "--run", "iql", "--resume"], "iql: 5 updates"),
        (["evaluate", "iql", "--task", TASK, "--episodes", "1"], "iql in pusht:horizon=4: 1 episodes, success 0.00"),
        (["report", "iql"], "iql/report.html"),
        (["label", own("store"), "--name", "told", *TIME], "label set 'told': 3 episodes labelled, shape as_is"),
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
    episode: Any = Store.open(tmp_path / "s").snapshot().episode(0)
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


def test_a_labellings_flags_beat_its_file_and_the_file_counts(own):
    """The judge that a file names is not overruled by a default."""
    store = own("store")
    given = ["--config", "time.yaml", "--task", "push it", "--set", "reward.updates=25"]
    assert run("label", store, "--name", "filed", *given) == 0
    assert run("label", store, "--name", "flagged", "--pairs", 30, *given) == 0
    assert run("label", store, "--name", "set", "--pairs", 30, *given, "--set", "asking.pairs=20") == 0
    found = [Store.open(store).snapshot().labels(name).provenance for name in ("filed", "flagged", "set")]
    assert [each["judge"] for each in found] == ["progress"] * 3
    assert [each["config"]["asking"]["pairs"] for each in found] == [40, 30, 20]


def test_labels_made_by_looking_are_learned_from_and_refused_where_they_would_mean_something_else(own, capfd, tmp_path):
    arguments = ["pretrain", own("store"), "--labels", "time", "--steps", 2, *SMALL]
    assert run(*arguments, "--run", tmp_path / "a", "--preset", "labelled") == 0
    assert run(*arguments, "--run", tmp_path / "b", "--preset", "sparse") == 2
    assert "give --preset labelled, or --set reward_bias=0" in capfd.readouterr().err
    assert not (tmp_path / "b").exists()


def test_inspect_writes_a_page_where_asked_and_names_it(answer, here, tmp_path, capfd):
    document = answer("inspect", "seen", "--html", tmp_path / "page.html", "--return-range=-1:3")
    assert document["html"] == str(tmp_path / "page.html") and document["pictures_looked_at"]
    assert document["tq"]["time"]["high"] == 3
    Page((tmp_path / "page.html").read_text()).check_it_stands_alone()
    assert run("inspect", "seen", "--html", tmp_path / "page.html") == 0
    assert capfd.readouterr().out.endswith(f"page         {tmp_path / 'page.html'}\n")


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
    "inspect: html is a folder": (["inspect", "store", "--html", "."], "--html .: expected a file"),
    "inspect: html nowhere": (["inspect", "store", "--html", "no/page.html"], "in a folder that exists"),
    "inspect: missing reference": (["inspect", "store", "--reference", "new"], "new: no such store"),
    "inspect: other reference": (["inspect", "store", "--reference", "lift"], "lift: is no reference for store"),
    "inspect: bad returns": (["inspect", "store", "--return-range", "3"], "'3': expected LOW:HIGH"),
    "inspect: returns the wrong way round": (["inspect", "store", "--return-range", "1:0"], "the smaller one first"),
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
    "label: by looking, without pictures": (
        ["label", "store", "--judge", "progress", "--task", "push it", "--name", "new"],
        "store: holds no pictures, and these labels are made by looking",
    ),
    "label: no task in words": (["label", "store", *TIME, "--task", " ", "--name", "new"], "the task is empty"),
    "label: name taken, by a judge": (["label", "store", *TIME, "--name", "env"], "label set 'env' exists"),
    "label: clip without a model": (
        ["label", "seen", "--judge", "clip", "--task", "push it", "--name", "new"],
        "judge 'clip' needs a vision-language model: --model MODEL:CHECKPOINT",
    ),
    "label: missing weights": (
        ["label", "seen", "--judge", "clip", "--task", "push it", "--model", "RN50:/no/w.pt", "--name", "new"],
        "no weights at /no/w.pt; download a checkpoint of RN50",
    ),
    "label: unknown architecture": (
        ["label", "seen", "--judge", "clip", "--task", "push it", "--model", "RN51:logs.hdf5", "--name", "new"],
        "unknown open_clip model 'RN51'; did you mean 'RN50'?",
    ),
    "label: a model for time": (
        ["label", "store", *TIME, "--model", "RN50:/w.pt", "--name", "new"],
        "--model belongs to judge 'clip' or 'chat', and the judge is 'progress'",
    ),
    "label: unknown encoder": (
        ["label", "seen", "--judge", "progress", "--task", "push it", "--encoder", "efficientnet", "--name", "new"],
        "unknown encoder 'efficientnet'; did you mean 'efficientnet_lite0'?",
    ),
    "label: unknown camera": (
        ["label", "seen", "--judge", "progress", "--task", "push it", "--camera", "imgae", "--name", "new"],
        "unknown camera 'imgae' in seen; did you mean 'image'?",
    ),
    "label: unknown method": (["label", "store", *TIME, "--method", "guess"], "invalid choice: 'guess'"),
    "label: unknown shape": (["label", "store", *TIME, "--name", "new", "--shape", "potent"], "shape"),
    "label: shape without marks": (
        ["label", "store", *TIME, "--name", "new", "--shape", "potential"],
        "shape 'potential' needs a success classifier: give a file of marks (--marks FILE)",
    ),
    "label: success without marks": (
        ["label", "store", *TIME, "--name", "new", "--method", "success"],
        "method 'success' learns from marked episodes: give a file of marks",
    ),
    "label: unknown section": (
        ["label", "store", *TIME, "--name", "new", "--set", "rewards.members=2"],
        "unknown section of settings 'rewards'; did you mean 'reward'?",
    ),
    "label: unknown key": (
        ["label", "store", *TIME, "--name", "new", "--set", "reward.membrs=2"],
        "did you mean 'members'?",
    ),
    "label: no setting": (["label", "store", *TIME, "--name", "new", "--set", "seed"], "expected key=value"),
    "label: bad seed": (["label", "store", *TIME, "--name", "new", "--seed", "-1"], "seed"),
    "label: no pairs": (["label", "store", *TIME, "--name", "new", "--pairs", "0"], "--pairs: '0'"),
    "label: missing config": (["label", "store", *TIME, "--name", "new", "--config", "no.yaml"], "no.yaml: cannot be"),
    "label: broken config": (["label", "store", *TIME, "--name", "new", "--config", "broken.yaml"], "not valid YAML"),
    "label: unknown truth": (
        ["label", "store", *TIME, "--name", "new", "--truth", "enf"],
        "unknown label set 'enf' in store; did you mean 'env'?",
    ),
    "label: chat without an endpoint": (
        ["label", "seen", "--judge", "chat", "--task", "push it", "--name", "new"],
        "judge 'chat' needs an endpoint and a model: --url URL --model NAME",
    ),
    "label: chat without a model": (
        ["label", "seen", "--judge", "chat", "--task", "push it", "--name", "new", "--url", "http://127.0.0.1:1/v1"],
        "model",
    ),
    "label: chat without a key": (
        ["label", "seen", *CHAT, "--name", "new", "--url", "https://far.example/v1"],
        "far.example: needs a key; put it into the environment variable OPENAI_API_KEY",
    ),
    "label: chat with a key in the url": (
        ["label", "seen", *CHAT, "--name", "new", "--url", "https://me:secret@far.example/v1"],
        "may hold no user, query or fragment; a key comes from an environment variable",
    ),
    "label: chat at no url": (
        ["label", "seen", *CHAT, "--name", "new", "--url", "far"],
        "the url of the endpoint cannot",
    ),
    "label: chat without pictures": (
        ["label", "store", *CHAT, "--name", "new", "--url", "http://127.0.0.1:1/v1"],
        "store: holds no pictures",
    ),
    "label: the simulator's preferences without its reward": (
        ["label", "store", *TIME, "--name", "new", "--judge", "env", "--method", "preference"],
        "judge 'env' compares true rewards: name the label set that has them (--truth NAME)",
    ),
    **{
        f"label: the simulator's reward beside {words[0]}": (
            ["label", "store", "--task", TASK, "--name", "new", *words],
            f"takes the simulator's reward as it is, without {words[0]}",
        )
        for words in (
            ["--marks", "beyond.yaml"],
            ["--model", "m"],
            ["--url", "http://127.0.0.1:1/v1"],
            ["--baseline", "far"],
            ["--shape", "sparse"],
            ["--pairs", "5"],
            ["--truth", "env"],
            ["--set", "seed=1"],
            ["--camera", "image"],
            ["--encoder", "efficientnet_lite0"],
            ["--budget", "5"],
            ["--answers", "a.sqlite"],
        )
    },
    **{
        f"label: marks that are {name}": (["label", "seen", *TIME, "--name", "new", "--marks", f"{name}.yaml"], words)
        for name, words in (
            ("missing", "missing.yaml: cannot be read"),
            ("broken", "broken.yaml: not valid YAML"),
            ("list", "list.yaml: expected a mapping"),
            ("contradicting", "marks contradict each other on episode 0, observation 1"),
            ("beyond", "has no episode 7; it has 1, counted from 0"),
            ("late", "episode 0 has no observation 99; it has 5, counted from 0"),
            ("mistyped", "unknown key 'succeses' in mistyped.yaml; did you mean 'successes'?"),
            ("numbers", "numbers.yaml: successes: expected entries like {episode: 3, from: 31}, got 0"),
            ("words", "words.yaml: failures.0"),
        )
    },
    "mark: unknown labels": (
        ["mark", "store", "--labels", "enf", "--out", "new.yaml"],
        "unknown label set 'enf' in store; did you mean 'env'?",
    ),
    "mark: labels without success": (
        ["mark", "store", "--labels", "time", "--out", "new.yaml"],
        "label set 'time' does not say which steps succeeded",
    ),
    "mark: not as many": (
        ["mark", "store", "--labels", "env", "--successes", "1", "--failures", "2", "--out", "new.yaml"],
        "1 successes and 2 failures are to be marked; label set 'env' has 0 and 3",
    ),
    "caption: missing store": (["caption", "new", "--task", TASK, "--out", "new.jsonl"], "new: no such store"),
    "caption: unknown task": (["caption", "store", "--task", "psuht", "--out", "new.jsonl"], "unknown task 'psuht'"),
    "caption: no sentences": (["caption", "store", "--task", "hopper", "--out", "new.jsonl"], "hopper"),
    "caption: another layout": (["caption", "store", "--task", "lift-quick", "--out", "new.jsonl"], "lift-quick"),
    "caption: another layout, the other way": (["caption", "lift", "--task", "pusht", "--out", "new.jsonl"], "pusht"),
    "caption: bad seed": (["caption", "store", "--task", TASK, "--out", "new.jsonl", "--seed", "-1"], "-1"),
    "caption: nowhere to write": (["caption", "store", "--task", TASK, "--out", "no/c.jsonl"], "No such file"),
    "adapt: missing captions": (
        ["adapt", "seen", "--captions", "no.jsonl", "--out", "new"],
        "no.jsonl: cannot be read",
    ),
    **{
        f"adapt: captions {name}": (["adapt", "seen", "--captions", f"{name}.jsonl", "--out", "new"], words)
        for name, words in (
            ("no-json", 'no-json.jsonl:1: expected {"episode": 0'),
            ("one-text", "one-text.jsonl: has 1 different captions; a model learns from at least 2"),
            ("no-such", "no-such.jsonl:1: seen has no episode 4, observation 0"),
            ("key", "unknown key 'observatoin' in key.jsonl:1; did you mean 'observation'?"),
        )
    },
    "adapt: no camera": (["adapt", "store", "--captions", "two.jsonl", "--out", "new"], "it has none"),
    "adapt: unknown camera": (
        ["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--camera", "imgae"],
        "unknown camera 'imgae' in seen; did you mean 'image'?",
    ),
    "adapt: folder is there": (["adapt", "seen", "--captions", "two.jsonl", "--out", "iql"], "iql: exists"),
    "adapt: missing weights": (
        ["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--model", "RN50:/no/w.pt"],
        "no weights at /no/w.pt",
    ),
    "adapt: unknown key": (
        ["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--set", "lerning_rate=1"],
        "unknown key 'lerning_rate' in adapt; did you mean 'learning_rate'?",
    ),
    "adapt: bad seed": (["adapt", "seen", "--captions", "two.jsonl", "--out", "new", "--seed", "-1"], "seed"),
    "pretrain: no store": (["pretrain", "--run", "new"], "expected STORE"),
    "pretrain: no run": (["pretrain", "store"], "--run"),
    "pretrain: missing store": (["pretrain", "new2", "--run", "new"], "new2: no such store"),
    "pretrain: run is there": (["pretrain", "store", "--run", "iql"], "iql: a run is there already; give --resume"),
    "pretrain: run is a file": (["pretrain", "store", "--run", "logs.hdf5"], "logs.hdf5: is a file"),
    "pretrain: run is a store": (["pretrain", "store", "--run", "store"], "store: is a store, not a run"),
    "pretrain: unknown labels": (
        ["pretrain", "store", "--run", "new", "--labels", "enf"],
        "unknown label set 'enf' in store; did you mean 'env'? known: env, logged, time",
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
    "finetune: reset-free in simulation": (
        ["finetune", "iql", "--run", "new", "--task", TASK, "--reset-free"],
        "--reset-free is for robots; give --ros, too",
    ),
    "finetune: a person who comes more than always": (
        ["finetune", "--ros", "--reset-free", "--episodes", "9", "--person-every", "0"],
        "--person-every: '0'",
    ),
    "finetune: a person who comes anyway": (
        ["finetune", "--ros", "--episodes", "9", "--person-every", "5"],
        "--person-every is for --reset-free",
    ),
    "finetune: reset-free evaluations": (
        ["finetune", "--ros", "--reset-free", "--episodes", "9", "--evaluate-every", "5"],
        "--evaluate-every needs resets; leave it out",
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
    "evaluate: no fisor run": (["evaluate", "iql", "--task", TASK, "--filter", "bc"], "bc/filter: no filter is there"),
    "evaluate: held out, filtered": (["evaluate", "bc", "--held-out", "--filter", "bc"], "--filter is for episodes"),
    "evaluate: filtered on a robot": (["evaluate", "bc", "--ros", "--filter", "bc"], "--filter is said to the nodes"),
    "calibrate: no fisor run": (["calibrate", "iql", "--false-safe", "0.1"], "iql: is a run of iql"),
    "calibrate: labels of nothing": (
        ["calibrate", "iql", "--false-safe", "0.1", "--labels", "safe"],
        "--labels is of the other store's episodes",
    ),
    "calibrate: no horizon": (["calibrate", "iql", "--false-safe", "0.1", "--horizon", "0"], "--horizon: '0'"),
    "evaluate: nothing held out": (["evaluate", "bc", "--held-out"], "bc: learned from every episode"),
    "evaluate: held out, in a task": (["evaluate", "bc", "--held-out", "--task", TASK], "--task is for episodes that"),
    "report: missing run": (["report", "new"], "new: is no run"),
    "export: missing store": (["export", "new", "out", "--format", "lerobot"], "new: no such store"),
    "export: a run": (["export", "iql", "out", "--format", "lerobot"], "iql: is not a store"),
    "export: no format": (["export", "store", "out"], "--format"),
    "export: unknown format": (["export", "store", "out", "--format", "lerobt"], "did you mean 'lerobot'?"),
    "export: there already": (["export", "store", "seen", "--format", "lerobot"], "seen: exists"),
    "export: unknown labels": (
        ["export", "store", "out", "--format", "robomimic", "--labels", "evn"],
        "unknown label set 'evn' in store; did you mean 'env'?",
    ),
    "export: video of arrays": (
        ["export", "seen", "out", "--format", "robomimic", "--video"],
        "--video is for LeRobot",
    ),
    "compact: missing store": (["compact", "new"], "new: no such store"),
    "demo: not empty": (["demo", "store"], "store: expected a new or an empty folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(case, here, capfd, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
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


def test_an_endpoint_that_is_down_is_said_in_the_last_line_and_labels_nothing(own, capfd):
    """Before it stand what was going to be asked, and how far it got."""
    store = own("seen")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        assert run("label", store, *CHAT, "--name", "new", "--url", url) == 2
    out, err = capfd.readouterr()
    assert out == "" and "Traceback" not in err
    announced, *_, said = err.splitlines()
    assert announced.startswith("firsthand: judge 'chat' will compare 40 pairs")
    assert said.startswith(f"firsthand: {url}: cannot be reached") and "see whether the url is right" in said
    assert "new" not in Store.open(store).snapshot().label_names
    assert not (store / "labellers" / "new").exists()


def test_an_interrupt_is_said_and_has_its_own_code(here, capfd, monkeypatch):
    def interrupted(path: Path, **_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("episodes.inspect.inspect_store", interrupted)
    assert run("inspect", "store") == 130
    assert capfd.readouterr() == ("", "firsthand: interrupted; what was complete is kept\n")


def test_a_disk_that_says_no_is_one_line_too(here, capfd, monkeypatch):
    def full(path: Path, **_: Any) -> None:
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
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_a_bug_is_not_dressed_up_as_bad_input(here, monkeypatch):
    monkeypatch.setattr("episodes.inspect.inspect_store", lambda path, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("inspect", "store")
