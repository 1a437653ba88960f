"""The report: one file that needs nothing else and shows what the run's folder holds."""

import base64
import re

import pytest
import yaml

from finetune.evaluate import evaluate
from finetune.online import OnlineConfig, finetune
from finetune.pretrain import pretrain
from finetune.report import row_of, write_report
from finetune.run import Run
from finetune.video import save_video
from policies.policy import Policy
from tests.pages import Page


@pytest.fixture
def reported(parent, walks, walk, tmp_path):
    """A pretrained and a fine-tuned run with evaluations and videos, and the report of the second."""
    finetune(parent, tmp_path / "online", OnlineConfig(task="walk", episodes=4, evaluate_every=2))
    for path in (parent, tmp_path / "online"):
        run, task = Run.open(path), walk()
        result = evaluate(
            task,
            Policy.load(run.last),
            3,
            videos=1,
            on_video=lambda number, frames, run=run: save_video(run, f"walk-{number}", frames, 10.0),
        )
        run.save_evaluation("walk", result.summary())
    others = [("somebody <else>", result.summary())]
    return write_report(Run.open(tmp_path / "online"), others)


def test_it_is_one_file_that_loads_nothing_from_elsewhere(reported):
    page = Page(reported.read_text())
    assert page.open == []
    assert {"script", "link", "iframe", "object", "embed", "base"}.isdisjoint(page.tags)
    assert page.links
    for link in page.links:
        assert link.startswith(("data:", "#")), link


def test_it_shows_the_videos_byte_for_byte(reported, parent):
    page = Page(reported.read_text())
    embedded = [link.removeprefix("data:video/mp4;base64,") for link in page.links if link.startswith("data:video")]
    files = [path / "videos" / "walk-0.mp4" for path in (parent, reported.parent)]
    assert [base64.b64decode(each) for each in embedded] == [file.read_bytes() for file in files]
    assert page.shown["figcaption"] == ["parent: walk-0", "online: walk-0"]


def test_it_holds_the_resolved_configuration_of_the_run_and_its_parents(reported, parent):
    page = Page(reported.read_text())
    assert [heading.split()[0] for heading in page.shown["h2"]] == ["Evaluations", "Videos", "parent", "online"]
    configurations = [yaml.safe_load(text) for text in page.shown["pre"]]
    assert configurations == [Run.open(parent).config, Run.open(reported.parent).config]


def test_it_compares_evaluations_in_a_table(reported):
    page = Page(reported.read_text())
    assert page.tags.count("tr") == 4
    cells = page.shown["td"]
    assert [cells[0], cells[7], cells[14]] == ["somebody <else>", "parent: walk", "online: walk"]
    assert re.fullmatch(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", cells[3])


def test_it_draws_curves_of_what_was_logged(reported):
    text = reported.read_text()
    for title in ("Losses", "Values", "Share of clipped weights", "Success while learning", "Evaluated success"):
        assert title in text
    assert text.count("<svg") == Page(text).tags.count("svg") >= 12


def test_the_same_run_gives_the_same_report_but_for_the_time(reported):
    def stripped(text: str) -> str:
        return re.sub(r"written [^<]*", "", text)

    first = reported.read_text()
    again = write_report(Run.open(reported.parent)).read_text()
    shorter = re.sub(r"<tr><td>somebody.*?</tr>", "", first)
    assert re.sub(r"\s+", " ", stripped(again)) == re.sub(r"\s+", " ", stripped(shorter))


def test_a_run_that_was_killed_at_once_has_a_report_too(store, tmp_path, config):
    def progress(items):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(store, tmp_path / "run", config(), progress)
    page = Page(write_report(Run.open(tmp_path / "run")).read_text())
    assert yaml.safe_load(page.shown["pre"][0])["kind"] == "pretrain"


def test_a_row_says_mean_and_interval():
    row = row_of(
        "iql",
        {
            "task": "walk",
            "episodes": 50,
            "success_rate": 0.5,
            "success_interval": [0.355, 0.645],
            "best_reward_mean": 0.75,
            "best_reward_interval": [0.7, 0.8],
            "return_mean": -12.34,
            "return_interval": [-15.0, -10.0],
            "length_mean": 33.333,
        },
    )
    assert (row.who, row.task, row.episodes) == ("iql", "walk", 50)
    assert (row.success, row.best_reward) == ("0.50 [0.35, 0.65]", "0.75 [0.70, 0.80]")
    assert (row.returns, row.length) == ("-12.3 [-15.0, -10.0]", "33.3")
