"""The demo, cut short: the whole way in the walk instead of a simulated arm."""

import pytest

from episodes.errors import InputError
from finetune import demo as module
from finetune.demo import demo, free_folder
from finetune.run import Run
from sim.operators import RandomOperator


@pytest.fixture
def short(monkeypatch, walk, walks):
    task = walk()
    monkeypatch.setattr(module, "make_task", lambda spec: task)
    monkeypatch.setattr(module, "make_operator", lambda name, task, quality=1.0: RandomOperator(task))
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
    table = said[said.index("") + 1 : -1]
    assert [line[:26].strip() for line in table] == [
        "who",
        "operator, mixed quality",
        "operator, at its best",
        "bc",
        "iql",
        "iql, fine-tuned",
    ]
    assert said[-1].startswith("all: ")
    for name, steps in (("bc", 6), ("iql", 8), ("iql-online", 2)):
        assert int(Run.open(tmp_path / "demo" / name).last.name) == steps
        assert Run.open(tmp_path / "demo" / name).config["train"]["labels"] == "env"


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
