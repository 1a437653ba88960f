"""What the benchmarks on a robot make of recordings that are there already, and of seeds that differ."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import online, reset_free
from benchmarks.online import compared
from episodes.errors import InputError


def outcomes(*rates: float) -> list[np.ndarray]:
    """Per seed, of a hundred episodes."""
    return [np.repeat([1.0, 0.0], [round(100 * rate), 100 - round(100 * rate)]) for rate in rates]


NOTHING = outcomes(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (outcomes(0.50, 0.52, 0.48), "]: it beats it"),
        (outcomes(0.10, 0.50, 0.80), "]: the episodes say that it beats it, three seeds alone do not"),
        (outcomes(0.0, 0.0, 0.0), "]: it matches it"),
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
    for name in ("a.mcap", "b.mcap", "b.mcap.unfinished", ".lock"):
        (tmp_path / "bags" / name).touch()
    assert online.recordings(tmp_path) == 2


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
