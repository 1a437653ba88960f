"""The command line: one JSON document and nothing else, and what it does with what it is given."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.doctor import Check
from episodes.episode import Source
from episodes.labels import LabelSet
from episodes.store import Store
from finetune.run import Run
from policies.checkpoint import actor_hash, load_checkpoint
from rewards.marks import Marks, Success, read_marks
from tests.command_line import QUICK, SMALL, TASK, TIME, run
from tests.pages import Page

pytest_plugins = ("tests.command_line",)


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


# One document ----------------------------------------------------------------------------------------------------


def test_collect_says_what_it_recorded(answer, here, tmp_path):
    document = answer("collect", tmp_path / "s", "--task", TASK, "--operator", "random", "--episodes", 2)
    assert document == {"episodes": 2, "steps": 8, "successes": 0}
    assert Store.open(tmp_path / "s").snapshot().steps == 8


def test_import_says_what_came_in_and_what_did_not(answer, tmp_path):
    document = answer("import", "logs.hdf5", tmp_path / "s", "--task", "nothing")
    assert {"episodes", "steps", "transitions", "left_out"} <= set(document)
    assert (document["episodes"], document["steps"], document["transitions"], document["left_out"]) == (2, 8, 6, [])


def test_import_skips_what_is_there_or_refuses_it_as_asked(answer, tmp_path, capfd):
    repeated = ("import", "logs.hdf5", tmp_path / "s")
    assert answer(*repeated, "--refuse-repeated")["already_there"] == 0
    assert run(*repeated, "--refuse-repeated") == 2
    assert "has episode episode_0 of this source already; nothing was imported" in capfd.readouterr().err
    document = answer(*repeated)
    assert (document["episodes"], document["already_there"]) == (0, 2)


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
