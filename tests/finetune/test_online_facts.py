"""What a report says of a run that learned online."""

from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode import Episode
from episodes.store import Store
from finetune.online import OnlineConfig, finetune
from finetune.online_facts import online_facts
from finetune.report import write_report
from finetune.run import Run


def facts(path: Path, *metrics: dict[str, Any]) -> dict[str, str]:
    return dict(online_facts(Run(path), [{"step": number, **line} for number, line in enumerate(metrics, 1)]))


def acted(**values: float) -> dict[str, float]:
    return {"length": 10.0} | {f"online/{name}": value for name, value in values.items()}


def test_before_the_first_episode_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert facts(tmp_path) == facts(tmp_path, {"evaluation/success_rate": 0.5}) == {}


def test_how_it_went_at_first_and_at_last(tmp_path: Path) -> None:
    found = facts(tmp_path, *[acted(success=0.0)] * 15, *[acted(success=1.0)] * 15)
    assert found["episodes"] == "30, 300 steps"
    assert found["success while learning"] == "0.25 in the first 20 episodes, 0.75 in the last"
    assert found["cumulative regret"] == "0.50"


def test_what_the_labels_said_is_held_against_what_was_told(tmp_path: Path) -> None:
    told = [(1, 1), (1, 0), (1, 0), (0, 1), (0, 0)]
    lines = [acted(success_seen=float(seen), success=float(said)) for seen, said in told]
    found = facts(tmp_path, *lines, acted(success_seen=1.0, left_out=1.0))
    assert found["labels"] == "call 3 of 5 episodes a success, of which 2 were said to be none, and miss 1"
    assert found["left out"] == "1 episodes, whose labels could not be right"


def test_evaluations_and_what_came_of_them(tmp_path: Path) -> None:
    lines = [acted() | {"evaluation/success_rate": rate} for rate in (0.4, 0.8, 0.8, 0.2)]
    lines[3]["evaluation/back_to"] = 3.0
    found = facts(tmp_path, *lines)
    assert found["best policy"] == "0.80 when it was evaluated after 3 episodes"
    assert found["went back"] == "after 4 episodes to that of 3"
    assert facts(tmp_path, *lines[:3])["went back"] == "never"


def test_who_took_over_and_for_how_long(tmp_path: Path) -> None:
    assert facts(tmp_path, acted(), acted(intervened=0.5), acted(intervened=0.1))["people"] == (
        "took over in 2 episodes, for 6 steps"
    )


def test_what_the_guardian_changed_is_in_the_episodes(tmp_path: Path, walk: Any) -> None:
    contract = walk().contract
    store = Store.create(tmp_path / "episodes", contract)
    for policy in (7, 7, 9):
        steps = np.zeros((4, 2), np.float32)
        verdict = np.array([1, 2, 3, 1], np.uint8)
        source, hashes = np.ones(4, np.uint8), np.full(4, policy, np.uint64)
        store.append(
            [
                Episode(
                    np.full((5, 2), policy, np.float32),
                    steps,
                    False,
                    True,
                    {},
                    source=source,
                    policy=hashes,
                    verdict=verdict,
                )
            ]
        )
    found = facts(tmp_path)
    assert found["guardian"] == "6 of 12 commands were not sent as proposed"
    assert found["policies that acted"] == "2"


def test_the_report_has_them(parent: Path, walks: Any, tmp_path: Path) -> None:
    finetune(parent, tmp_path / "run", OnlineConfig(task="walk", episodes=4, evaluate_every=2))
    html = write_report(Run.open(tmp_path / "run")).read_text()
    assert "in the first 4 episodes" in html
    assert "when it was evaluated after" in html
