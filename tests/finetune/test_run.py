"""A run's folder: what is there is whole, and what a resumed run logs again is not there twice."""

import json

import pytest

from episodes.errors import InputError
from finetune.run import KEPT_CHECKPOINTS, MetricsLog, Run

BEGUN = {"kind": "pretrain", "train": {"seed": 3}, "data": {}}


def saved(run: Run, *steps: int) -> Run:
    for step in steps:
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "state.json").write_text(str(step))
        run.mark_last(step)
    return run


def test_a_new_run_has_its_configuration_and_no_checkpoint(tmp_path):
    run = Run.create(tmp_path / "deep" / "run", BEGUN)
    assert Run.open(tmp_path / "deep" / "run").config == BEGUN
    assert not run.has_checkpoint()
    with pytest.raises(InputError, match="no complete checkpoint"):
        _ = run.last


def test_a_run_is_never_written_over(tmp_path):
    Run.create(tmp_path / "run", BEGUN)
    with pytest.raises(InputError, match=r"a run is there already; give --resume"):
        Run.create(tmp_path / "run", {"kind": "finetune"})
    assert Run.open(tmp_path / "run").config == BEGUN
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError):
            Run.create(path, {})


def test_what_is_no_run_does_not_open(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        Run.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["kind", "train", "data", "parent", "online"])
def test_a_configuration_that_lacks_a_part_is_refused_by_name(key, tmp_path):
    whole = {"kind": "finetune", "train": {}, "data": {}, "parent": "p", "online": {}}
    assert Run.create(tmp_path / "whole", whole).config == whole
    begun = {name: value for name, value in whole.items() if name != key}
    if key == "kind":
        begun = {"train": {}, "data": {}}
    with pytest.raises(InputError, match=f"config.yaml: lacks '{key}'"):
        _ = Run.create(tmp_path / "run", begun).config


def test_last_is_the_newest_complete_checkpoint(tmp_path):
    run = saved(Run.create(tmp_path, {}), 10, 20)
    assert run.last == run.checkpoint(20)
    # A checkpoint that a crash kept from being marked is not it.
    run.checkpoint(30).mkdir()
    assert Run.open(tmp_path).last == run.checkpoint(20)


def test_the_newest_checkpoints_are_kept_and_the_others_go(tmp_path):
    run = saved(Run.create(tmp_path, {}), 5, 10, 15, 20, 1000)
    assert KEPT_CHECKPOINTS == 3
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoint").iterdir())
    assert kept == [15, 20, 1000]
    assert run.last == run.checkpoint(1000)


def lines(run: Run) -> list[int]:
    return [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_one_line_each_and_there_at_once(tmp_path):
    run = Run.create(tmp_path, {})
    with MetricsLog(run) as log:
        log.write(1, {"loss": 0.5})
        assert run.metrics() == [{"step": 1, "loss": 0.5}]
        log.write(2, {"loss": 0.25, "other": 1.0})
    assert run.metrics() == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "other": 1.0}]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_resumed_run_drops_what_it_will_log_again(tmp_path):
    run = Run.create(tmp_path, {})
    with MetricsLog(run) as log:
        for step in (0, 5, 10, 15):
            log.write(step, {"loss": 1.0})
    with MetricsLog(run, resume_at=10) as log:
        assert lines(run) == [0, 5, 10]
        log.write(15, {"loss": 2.0})
    assert lines(run) == [0, 5, 10, 15]
    assert run.metrics()[-1]["loss"] == 2.0
    with MetricsLog(run, resume_at=-1):
        assert lines(run) == []


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path):
    run = Run.create(tmp_path, {})
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert run.metrics() == [{"step": 1, "loss": 2.0}]
    with MetricsLog(run, resume_at=2) as log:
        log.write(3, {"loss": 1.0})
    assert lines(run) == [1, 3]


def test_evaluations_are_kept_by_name(tmp_path):
    run = Run.create(tmp_path, {})
    assert run.evaluations() == {}
    run.save_evaluation("walk", {"episodes": 3})
    run.save_evaluation("walk-gap", {"episodes": 4})
    run.save_evaluation("walk", {"episodes": 5})
    assert run.evaluations() == {"walk": {"episodes": 5}, "walk-gap": {"episodes": 4}}
