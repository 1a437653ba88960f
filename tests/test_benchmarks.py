"""What the benchmarks on a robot make of what is there already: results, recordings, seeds that differ."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import online, reset_free
from benchmarks.online import compared
from episodes.errors import InputError
from robot.bag_writer import PART


def outcomes(*rates: float) -> list[np.ndarray]:
    """Per seed, of a hundred episodes."""
    return [np.repeat([1.0, 0.0], [round(100 * rate), 100 - round(100 * rate)]) for rate in rates]


NOTHING = outcomes(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (outcomes(0.50, 0.52, 0.48), "]: it beats it"),
        (outcomes(0.10, 0.50, 0.80), "]: by its episodes it beats it, by the seeds alone it matches it"),
        (outcomes(0.0, 0.0, 0.0), "]: it matches it"),
        (outcomes(0.03, 0.04, 0.05), "]: it beats it"),
        (outcomes(0.6, 0.5), "] (2 of 3 seeds)"),
        (outcomes(0.6), "] (1 of 3 seeds)"),
    ],
)
def test_a_verdict_needs_three_seeds_that_alone_say_the_same(ours: list[np.ndarray], verdict: str) -> None:
    line = compared("new", "old", ours, NOTHING[: len(ours)])
    assert line.startswith("- new - old: ") and line.endswith(verdict)
    assert ("by the seeds alone" in line) == (len(ours) == 3)


def test_worse_is_said_too() -> None:
    assert compared("new", "old", NOTHING, outcomes(0.5, 0.52, 0.48)).endswith("]: it is worse than it")


def test_what_the_robot_has_recorded_is_counted_whether_the_store_has_it_or_not(tmp_path: Path) -> None:
    assert online.recordings(tmp_path) == 0
    (tmp_path / "bags").mkdir()
    for name in ("a.mcap", "b.mcap", f"c.mcap{PART}", ".recorder"):
        (tmp_path / "bags" / name).touch()
    assert online.recordings(tmp_path) == 2
    assert online.next_seed(0, tmp_path) == online.FIRST_EPISODE_SEED + 3, "what was cut off has used one, too"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a robot would have been begun with, and no robot."""
    given: list[dict[str, Any]] = []

    def running(kind: str, arguments: dict[str, Any], say: Any) -> Any:
        given.append(arguments)
        raise InputError("no robot here")

    for module in (online, reset_free):
        monkeypatch.setattr(module, "running", running)
    yield given


def test_a_job_that_is_taken_up_again_uses_no_seed_twice(tmp_path: Path, begun: list[dict[str, Any]]) -> None:
    for folder, number in (("forward", 3), ("backward", 2)):
        (tmp_path / folder / "bags").mkdir(parents=True)
        for name in range(number):
            (tmp_path / folder / "bags" / f"{name}.mcap").touch()
    with pytest.raises(InputError, match="no robot"):
        online.on_robot(online.METHODS["iql"], tmp_path / "parent", tmp_path / "forward", 1, 300)
    parents = {name: tmp_path / name for name in ("forward", "backward")}
    with pytest.raises(InputError, match="no robot"):
        reset_free.on_robot("reset-free", parents, tmp_path, 1, reset_free.Person(tmp_path / "notes"))
    assert [each["seed"] - online.FIRST_EPISODE_SEED for each in begun] == [10_003, 10_005]


def test_steps_that_nobody_judged_are_no_successes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen:
        step_starts, step_ends = np.array([0, 2]), np.array([2, 4])

        def snapshot(self) -> "Seen":
            return self

        def labels(self, name: str) -> Any:
            return type("Labels", (), {"values": {"success": np.array([np.nan, 1.0, np.nan, np.nan])}})

    (tmp_path / "forward" / "episodes").mkdir(parents=True)
    monkeypatch.setattr(reset_free.Store, "open", lambda path: Seen())
    assert reset_free.acted(tmp_path) == {"forward": [1.0, 0.0], "backward": []}


# Results that are there -------------------------------------------------------------------------------------------


@pytest.fixture
def online_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], int], Path]:
    monkeypatch.setattr(online, "job", lambda *_: {"deterministic": [1.0], "stochastic": [0.0]})
    monkeypatch.setattr(sys, "argv", ["online", "--out", str(tmp_path), "--only", "iql", "--seed", "0"])
    return online.main, tmp_path / "lift-300" / "iql-0.json"


@pytest.fixture
def reset_free_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], int], Path]:
    (tmp_path / "resets-0").mkdir()

    def acting(*_: Any) -> dict[str, Any]:
        return {"acted": {"forward": [1.0], "backward": []}, "asked": []}

    def afterwards(*_: Any) -> dict[str, Any]:
        return {"forward": [1.0]}

    monkeypatch.setattr(reset_free, "acting", acting)
    monkeypatch.setattr(reset_free, "afterwards", afterwards)
    monkeypatch.setattr(sys, "argv", ["reset_free", "--out", str(tmp_path), "--way", "resets", "--seed", "0"])
    return reset_free.main, tmp_path / "resets-0" / "afterwards.json"


@pytest.mark.parametrize("benchmark", ["online", "reset_free"])
def test_a_result_of_other_settings_is_refused_and_so_is_a_job_that_was_begun_with_others(
    benchmark: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, file = request.getfixturevalue(f"{benchmark}_main")
    monkeypatch.setattr(f"benchmarks.{benchmark}.table", lambda *_: "")
    assert main() == 0
    written = file.read_bytes()
    assert main() == 0 and file.read_bytes() == written
    monkeypatch.setattr(f"benchmarks.{benchmark}.EVALUATED", 7)
    capsys.readouterr()
    assert main() == 2
    assert "was begun with other settings" in capsys.readouterr().err
    file.unlink()
    assert main() == 2
    assert "was begun with other settings" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["TASK", "GAP", "EVALUATED", "EVALUATION_SEED", "METHODS"])
def test_whatever_decides_a_result_is_kept_with_it(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = online.made_with("iql", 300)
    assert before != online.made_with("iql", 200) and before != online.made_with("cal_ql", 300)
    other = {"METHODS": online.METHODS | {"iql": online.Method({"seed": 1})}, "TASK": "lift", "GAP": ""}.get(changed, 3)
    monkeypatch.setattr(online, changed, other)
    assert online.made_with("iql", 300) != before
