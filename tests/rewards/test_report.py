"""The report on a label set: one file that needs nothing else, with the right numbers, whatever is missing."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import firsthand
from episodes.contract import Camera
from episodes.errors import InputError
from episodes.labels import LabelSet
from episodes.store import Store
from rewards.marks import Moment, read_marks
from rewards.report.label_report import default_file, write_label_report
from tests.episodes.making import PLAIN, make_episode
from tests.pages import Page

EPISODES, STEPS = 6, 9
"""So that observation o of episode e is row 10 e + o."""
SEEING = replace(PLAIN, cameras=(Camera("front", 24, 32), Camera("wrist", 24, 32)))
TASK = "lift <script>alert(1)</script>"
THRESHOLD = 0.6

DONE_FROM = {0: 7, 2: 6, 4: 5}
"""Truly, from these observations on."""
CALLED = {0: (7, 9), 2: (4, 9), 3: (3, 4)}
"""Success is said from this observation to that one: 2 too early, 3 never done; 4 is missed."""


def of_steps(stretches: dict[int, tuple[int, int]]) -> np.ndarray:
    """1 at the steps that lead to these observations."""
    values = np.zeros((EPISODES, STEPS), np.float32)
    for episode, (first, last) in stretches.items():
        values[episode, first - 1 : last] = 1
    return values.ravel()


def labels(name: str = "mine", **changes: Any) -> LabelSet:
    success = of_steps(CALLED)
    score = np.tile(np.linspace(-1, 0, STEPS, dtype=np.float32), EPISODES)
    values = {
        "score": score,
        "score_spread": np.full(len(score), 0.1, np.float32),
        "success": success,
        "success_probability": 0.9 * success,
        "reward": success - 1,
    }
    provenance = {
        "method": "preference",
        "judge": "clip",
        "task": TASK,
        "shape": "sparse",
        "date": "2025-01-02T03:04:05+00:00",
        "snapshot": "SNAP",
        "labeller": f"labellers/{name}",
        "config": {"labeller": {"cameras": ["front"]}},
    }
    return LabelSet(name, changes.pop("values", values), np.ones(EPISODES, bool), provenance | changes)


def evidence(truth: str | None = "true") -> dict[str, Any]:
    """Eight pairs and ten marked frames of episodes 0 and 1; pairs of true rewards o / 10 at observation o."""
    pairs = [
        (31, 38, "second"),
        (48, 41, "first"),
        (22, 27, "second"),
        (54, 59, "first"),  # wrong by 0.5
        (35, 24, "second"),  # wrong by 0.1
        (26, 36, "unsure"),
        (37, 27, "invalid"),
        (21, 31, None),
    ]
    asked = [
        {"first": a, "second": b, "difference": 0.1 + n / 100, "verdict": verdict, "rationale": f"<i>{n}</i>"}
        for n, (a, b, verdict) in enumerate(pairs)
    ]
    quarters = [
        {"difference": [n / 10, (n + 1) / 10], "pairs": 2, "decided": 2, "accuracy": 0.5 * (n % 3)} for n in range(4)
    ]
    document = {
        "labels": "mine",
        "method": "preference",
        "judge": "clip",
        "shape": "sparse",
        "episodes": EPISODES,
        "truth": truth,
        "pairs": 8,
        "decided": 5,
        "unsure": 1,
        "invalid": 1,
        "same_pictures": 1,
        "agreement": 0.9,
        "accuracy": 0.6,
        "spearman": 0.5,
        "spearman_time": None,
        "judge_by_difference": quarters,
        "model_accuracy": 0.75,
        "model_by_difference": quarters,
        "threshold": THRESHOLD,
        "false_positive_rate": 1 / 7,
        "miss_rate": 1 / 3,
        "success_rate": 0.5,
        "seconds": 1.0,
        "frames_per_second": 60.0,
    }
    return {
        "document": document,
        "held_out": [1, 5],
        "asked": asked,
        "success": {
            "rows": [0, 1, 7, 8, 9, 10, 11, 12, 13, 14],
            "done": [False, False, True, True, True, False, False, False, False, False],
            "probability": [0.05, 0.15, 0.95, 0.85, 0.35, 0.05, 0.12, 0.65, 0.22, 0.08],
            "threshold": THRESHOLD,
            "temperature": 1.0,
        },
    }


def make_store(path: Path, contract=SEEING) -> Store:
    store = Store.create(path, contract)
    store.append([make_episode(n, STEPS, contract=contract, terminated=n % 2 == 0) for n in range(EPISODES)])
    reward = np.tile(np.arange(1, STEPS + 1, dtype=np.float32) / 10, EPISODES)
    true = {"reward": reward, "success": of_steps({e: (o, STEPS) for e, o in DONE_FROM.items()})}
    store.write_labels(LabelSet("true", true, np.ones(EPISODES, bool), {"method": "env", "judge": "env"}))
    return store


def keep(store: Store, content: Any, name: str = "mine") -> Path:
    file = store.path / "labellers" / name / "evidence.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.fixture
def store(tmp_path) -> Store:
    store = make_store(tmp_path / "store")
    store.write_labels(labels())
    keep(store, evidence())
    return store


def html_of(store: Store, name: str = "mine", episodes: int = 1) -> str:
    return write_label_report(store, name, episodes=episodes).read_text()


def page_of(store: Store, name: str = "mine", episodes: int = 1) -> Page:
    return Page(html_of(store, name, episodes))


def facts(page: Page) -> dict[str, str]:
    return dict(zip(page.shown["td"][::2], page.shown["td"][1::2], strict=True))


# The whole ---------------------------------------------------------------------------------------------------------


def test_it_is_one_file_with_every_section_in_order(store):
    page = page_of(store, episodes=8)
    page.check_it_stands_alone()
    assert page.shown["h2"] == ["Timelines", "Judge", "Answers to look at", "Success classifier", "Configuration"]
    assert (store.path / "labellers" / "mine" / "report.html").stat().st_size < 1_000_000


def test_what_others_wrote_is_shown_as_they_wrote_it_and_never_run(store):
    page = page_of(store)
    assert facts(page)["task"] == TASK
    assert "script" not in page.tags and "i" not in page.tags
    assert "invalid: <i>6</i>" in page.shown["blockquote"]


def test_the_head_says_what_was_made_how_and_how_good_it_is(store):
    said = facts(page_of(store))
    assert said["store"] == str(store.path)
    assert said["method"] == "preference, judge clip, shape sparse"
    assert said["made"] == "2025-01-02T03:04:05+00:00, on snapshot SNAP"
    assert said["truth"] == "label set true"
    assert said["episodes"] == "6 of the store's 6; return -7.17 in the mean, -9.00 to -3.00"
    assert said["pairs"].startswith("8: 5 decided, 1 unsure, 1 invalid, 1 showed the same")
    assert said["judge"].startswith("60.0% of its decisions are right")


def test_the_configuration_is_the_provenance(store):
    assert yaml.safe_load(page_of(store).shown["pre"][-1]) == labels().provenance


def test_the_same_labels_give_the_same_report_but_for_the_time(store):
    first, second = (html_of(store).split("written", 1) for _ in range(2))
    assert first[0] == second[0] and first[1][25:] == second[1][25:]


# Timelines ---------------------------------------------------------------------------------------------------------


def test_timelines_are_of_episodes_for_a_reason(store):
    shown = [heading for heading in page_of(store, episodes=8).shown["h3"] if heading.startswith("Episode")]
    assert shown == [
        "Episode 2 terminated; highest return, -3.0; success called at observation 4, but done only at 6",
        "Episode 1 truncated; lowest return, -9.0; held out",
        "Episode 3 truncated; success called at observation 3, but the task is never done",
        "Episode 5 truncated; held out",
        "Episode 4 terminated; done at observation 5, but success is never called",
        "Episode 0 terminated; drawn by chance",
    ]
    assert len([each for each in page_of(store, episodes=2).shown["h3"] if each.startswith("Episode")]) == 2


def test_under_a_timeline_are_its_pictures_by_the_cameras_that_were_looked_at(store):
    snapshot, html = store.snapshot(), html_of(store)
    strip = html[html.index('class="strip"') : html.index("</section>")]
    uris = [part.split('"')[0] for part in strip.split('src="data:image/jpeg;base64,')[1:]]
    assert len(uris) == 10 and "wrist" not in strip
    for uri, frame in zip(uris, snapshot.images("front", 20, 30), strict=True):
        got = cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert got.shape == frame.shape
        assert np.abs(got.mean((0, 1)) - frame.mean((0, 1))).max() < 6
    called = [cell.startswith(' class="called"') for cell in strip.split("<img")[1:]]
    assert called == [False] * 4 + [True] * 6


def test_the_truth_is_drawn_where_it_is_known(store):
    with_truth = html_of(store)
    keep(store, evidence(truth=None))
    without = html_of(store)
    for words in ("true reward, scaled", "truly done", "wrong by the truth"):
        assert words in with_truth.lower() and words not in without.lower()
    for words in ("learned score", "probability of success", "success called", "reward that a learner gets"):
        assert words in with_truth and words in without


# Judge and answers -------------------------------------------------------------------------------------------------


def test_answers_are_counted_and_measured_by_difference(store):
    html = html_of(store)
    for words in (
        "What came of 8 pairs",
        "difference of the pictures",
        "true difference of the rewards",
        "Judge: how often right",
        "Model, held-out episodes: how often right",
        "50% of 2",
    ):
        assert words in html, words
    # By the difference of the pictures: pairs 0 and 1, 2 and 3, 4 and 5, 6 and 7; right are 0, 1 and 2.
    assert [html.count(words) for words in ("100% of 2", "50% of 2", "0% of 1<")] == [1 + 2, 1 + 2, 1]


def test_what_was_unsure_invalid_or_wrong_is_shown_with_its_words(store):
    page = page_of(store)
    assert "Unsure or invalid: 2" in page.shown["h3"] and "Wrong by the truth: 2" in page.shown["h3"]
    assert page.shown["blockquote"] == [
        "invalid: <i>6</i>",
        "unsure: <i>5</i>",
        "first: <i>3</i>",
        "second: <i>4</i>",
    ]


def test_of_many_answers_twelve_are_shown(store):
    content = evidence()
    content["asked"] = [content["asked"][5] | {"first": row} for row in range(30)]
    keep(store, content)
    page = page_of(store)
    assert "Unsure or invalid: 12 of 30" in page.shown["h3"] and len(page.shown["blockquote"]) == 12


# Success -----------------------------------------------------------------------------------------------------------


def test_the_classifier_is_measured_on_frames_that_it_had_not_learned_from(store):
    html = html_of(store)
    assert "10 marked frames, 3 of them done" in html
    assert "ROC, area 0.952" in html  # 20 of 21
    for words in ("threshold 0.60:", "67% of successes found,", "14.3% of the others pass"):
        assert words in html, words


def test_false_successes_come_with_the_lines_that_make_them_hard_negatives(store, tmp_path):
    page = page_of(store)
    assert page.shown["h3"][-2:] == [
        "False successes in marked frames: 1",
        "False successes in episodes that nobody marked: 2",
    ]
    assert page.shown["figcaption"][-3].startswith("episode 1, observation 2probability 0.65")
    assert page.shown["figcaption"][-2].startswith("episode 3, observation 3probability 0.90the task is never done")
    assert page.shown["code"] == ["- {episode: 3, from: 3, to: 4}", "- {episode: 2, from: 4, to: 5}"]
    (tmp_path / "marks.yaml").write_text(page.shown["pre"][-2])
    marks = read_marks(tmp_path / "marks.yaml")
    assert marks.negatives == (Moment(3, 3, 4), Moment(2, 4, 5))
    rows, done = marks.examples(store.snapshot())
    assert rows.tolist() == [24, 25, 33, 34] and not done.any()


def test_without_a_truth_there_are_successes_to_be_looked_at(store):
    keep(store, evidence(truth=None))
    page = page_of(store)
    assert page.shown["h3"][-1] == "Successes that nobody has checked: 2"
    assert page.shown["code"] == ["- {episode: 2, from: 4, to: 9}", "- {episode: 3, from: 3, to: 4}"]
    assert len(page.shown["pre"]) == 1, "lines that nobody has checked must not be copied all at once"


# What is missing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda file: file.unlink(), "does not exist"),
        (lambda file: file.write_text("{"), "is damaged (Expecting"),
        (lambda file: file.write_text("[]"), "expected an object, got list"),
        (lambda file: file.write_text('{"document": {}, "held_out": []}'), "it has no 'pairs'"),
        (lambda file: file.write_bytes(b"\xff\xfe"), "is damaged"),
        (lambda file: change(file, "held_out", [9]), "held-out episode 9, expected less than 6"),
        (lambda file: change(file, "asked", [evidence()["asked"][0] | {"first": 60}]), "observation 60, expected less"),
        (lambda file: change(file, "asked", [{"first": 1}]), "is damaged (evidence: asked"),
        (lambda file: change(file, "success", evidence()["success"] | {"rows": [1]}), "1 rows, 10 done"),
    ],
)
def test_missing_or_damaged_evidence_is_said_and_the_labels_are_shown(store, damage, said):
    damage(keep(store, evidence()))
    page = page_of(store)
    page.check_it_stands_alone()
    note = next(text for text in page.shown["p"] if "evidence" in text)
    assert said in note and "missing" in note and note.endswith("What follows is from the labels alone.")
    assert page.shown["h2"] == ["Timelines", "Configuration"]
    assert facts(page)["episodes"].startswith("6 of the store's 6")


def change(file: Path, key: str, value: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))


def test_a_truth_that_the_store_does_not_have_is_said(store):
    keep(store, evidence(truth="elsewhere"))
    page = page_of(store)
    assert any("label set 'elsewhere', which the store does not have" in text for text in page.shown["p"])
    assert "truth" not in facts(page)


@pytest.mark.parametrize("name", ["true", "logged"])
def test_labels_that_no_labeller_made_are_shown_beside_the_store(store, name):
    file = write_label_report(store, name, episodes=1)
    assert file == store.path.with_name(f"store-{name}.html") == default_file(store, name)
    page = Page(file.read_text())
    assert page.shown["h2"] == ["Timelines", "Configuration"]
    assert any("No labeller made these labels" in text and "missing" in text for text in page.shown["p"])


def test_a_store_without_pictures_has_timelines_without_strips(tmp_path):
    store = make_store(tmp_path / "blind", PLAIN)
    store.write_labels(labels(config={}))
    content = evidence()
    content["asked"] = [each | {"difference": None} for each in content["asked"]]
    keep(store, content)
    page = page_of(store)
    page.check_it_stands_alone()
    assert "Judge" in page.shown["h2"] and "img" not in page.tags
    assert any(heading.startswith("Episode 2") for heading in page.shown["h3"])
    assert not any("Pictures stand" in text for text in page.shown["p"])


def test_labels_of_success_alone_have_no_judge(store):
    values = {key: labels().values[key] for key in ("reward", "success", "success_probability")}
    store.write_labels(labels("sparse", values=values, method="success", judge=None))
    content = evidence() | {"asked": []}
    for key in ("judge_by_difference", "model_by_difference"):
        del content["document"][key]
    keep(store, content, "sparse")
    assert page_of(store, "sparse").shown["h2"] == ["Timelines", "Success classifier", "Configuration"]


def test_episodes_that_came_later_are_counted_and_not_shown(store):
    store.append([make_episode(9, STEPS, contract=SEEING)])
    page = page_of(store, episodes=20)
    assert facts(page)["episodes"].startswith("6 of the store's 7")
    assert not any(heading.startswith("Episode 6") for heading in page.shown["h3"])


# Where it goes, and what is refused --------------------------------------------------------------------------------


def test_the_command_says_where_the_report_is(store, tmp_path, capsys):
    assert firsthand.main(["report", str(store.path), "--labels", "mine", "--episodes", "1"]) == 0
    assert capsys.readouterr().out == f"{store.path / 'labellers' / 'mine' / 'report.html'}\n"
    out = tmp_path / "here.html"
    assert firsthand.main(["report", str(store.path), "--labels", "true", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(out)}
    assert out.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["store"], "store: is a store; say which of its label sets with --labels NAME: logged, mine, true"),
        (["folder", "--labels", "mine"], "folder: is not a store"),
        (["nowhere", "--labels", "mine"], "nowhere: no such store"),
        (["store", "--labels", "mime"], "unknown label set 'mime' in"),
        (["folder", "--out", "x.html"], "report --out belongs to a store's label set"),
        (["folder", "--episodes", "3"], "report --episodes belongs to a store's label set"),
        (["folder"], "folder: is no run"),
        (["store", "--labels", "mine", "--out", "folder"], "folder: is a folder"),
        (["store", "--labels", "mine", "--out", "nowhere/x.html"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_reported_on_is_one_line(store, tmp_path, monkeypatch, capsys, arguments, said):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert firsthand.main(["report", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("firsthand: ") and said in err and err.count("\n") == 1
    assert not list(tmp_path.rglob("*.html"))


def test_a_report_that_cannot_be_placed_is_refused_before_any_work(store, tmp_path, monkeypatch):
    monkeypatch.setattr("rewards.report.label_report._timelines", lambda *_: pytest.fail("work was done"))
    with pytest.raises(InputError, match="there is no folder"):
        write_label_report(store, "mine", tmp_path / "nowhere" / "x.html")


def test_the_default_place_of_the_current_folder_is_beside_it(store, monkeypatch):
    monkeypatch.chdir(store.path)
    assert default_file(Store.open("."), "true") == store.path.with_name("store-true.html")
    monkeypatch.chdir(store.path.parent)
    assert default_file(Store.open("store"), "true") == Path("store-true.html")
