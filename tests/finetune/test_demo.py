"""The demo, cut short: the whole way in the walk instead of a simulated arm, and time as the judge."""

import pytest

from episodes.errors import InputError
from finetune import demo as module
from finetune.demo import demo, free_folder
from finetune.evaluate import evaluate
from finetune.online import OnlineConfig, finetune
from finetune.run import Run
from policies.policy import Policy
from rewards.label import label
from rewards.marks import Marks
from rewards.settings import label_config
from sim.operators import RandomOperator

QUICK = ["reward.inputs=state", "reward.updates=10", "asking.pairs=40"]


@pytest.fixture
def short(monkeypatch, walk, walks):
    task = walk()

    def by_time(store, name, config, marks, truth):
        of_time = label_config({"task": "go right", "judge": "progress"}, None, QUICK)
        return label(store, name, of_time, truth=truth)

    monkeypatch.setattr(module, "make_task", lambda spec, cameras=(), gap=None: task)
    monkeypatch.setattr(module, "make_operator", lambda name, task, quality=1.0: RandomOperator(task))
    monkeypatch.setattr(module, "_adapted", lambda folder: None)
    monkeypatch.setattr(module, "marks_from", lambda *given: Marks())
    monkeypatch.setattr(module, "label", by_time)
    sizes = {"COLLECTED": 6, "STEPS": {"bc": 6, "iql": 8}, "ONLINE_EPISODES": 2, "EVALUATION_EPISODES": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(module, name, value)


def test_it_goes_from_logs_to_a_report(short, tmp_path):
    said = []
    report = demo(tmp_path / "demo", said.append)
    html = report.read_text()
    for who in ("operator, mixed quality", "operator, at its best", "bc", "iql: ", "iql-online: "):
        assert who in html
    assert html.count("data:video/mp4") == 4
    stages = [line for line in said if line.startswith("[")]
    assert [int(line[1:3]) for line in stages] == list(range(1, len(stages) + 1))
    table = said[len(said) - said[::-1].index("") : -2]
    assert [line[:28].strip() for line in table] == [
        "who",
        "operator, mixed quality",
        "operator, at its best",
        "bc",
        "iql",
        "iql, fine-tuned",
    ]
    assert said[-2].startswith("all: ")
    assert "label set 'looked'" in "\n".join(said)
    assert (
        (tmp_path / "demo" / "store" / "labellers" / "looked" / "report.html").read_text().startswith("<!doctype html>")
    )
    for name, steps in (("bc", 6), ("iql", 8), ("iql-online", 2)):
        assert int(Run.open(tmp_path / "demo" / name).last.name) == steps
        assert Run.open(tmp_path / "demo" / name).config["train"]["labels"] == "looked"


class Robot:
    """Does in this process what a robot would: the runs are real."""

    def deploy(self, run, folder, episodes):
        task = module.make_task("walk")
        return evaluate(task, Policy.load(Run.open(run).last), episodes), "deployed"

    def learn(self, run, new, cameras, gap, episodes):
        self.learned = run.name, new.name, tuple(cameras), gap
        finetune(run, new, OnlineConfig(task="walk", episodes=episodes))
        return "learned"


def test_where_there_is_a_robot_it_goes_on_there(short, tmp_path, monkeypatch):
    for name in ("DEPLOYED_EPISODES", "ROBOT_EPISODES"):
        monkeypatch.setattr(module, name, 2)
    said, robot = [], Robot()
    report = demo(tmp_path / "demo", said.append, robot)
    assert robot.learned == ("iql-online", "iql-robot", (), module.GAP)
    assert report == tmp_path / "demo" / "iql-robot" / "report.html"
    html = report.read_text()
    for who in ("iql-online: ros", "iql-online: other-robot", "iql-robot: other-robot", "iql-robot <"):
        assert who in html
    table = said[len(said) - said[::-1].index("") : -2]
    assert [line[:28].strip() for line in table[-3:]] == [
        "iql, fine-tuned, on ROS 2",
        "iql, fine-tuned, other robot",
        "iql, learned there",
    ]
    assert {"deployed", "learned"} < set(said)


def test_a_folder_with_something_in_it_is_refused_at_once(short, tmp_path):
    (tmp_path / "iql").mkdir()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="expected a new or an empty folder"):
            demo(folder, lambda line: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "iql"]


def test_without_a_folder_the_next_free_one_is_taken(tmp_path):
    assert free_folder(tmp_path) == tmp_path / "demo-1"
    for name in ("demo-1", "demo-2", "demo-4"):
        (tmp_path / name).mkdir()
    assert free_folder(tmp_path) == tmp_path / "demo-3"
