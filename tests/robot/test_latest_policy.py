"""An actor takes the newest policy there is, and keeps what it has where that cannot be had."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from episodes.errors import InputError
from finetune.run import CHECKPOINTS, CONFIG, LAST
from policies.checkpoint import DESCRIPTION
from robot.latest_policy import LatestPolicy
from tests.robot.contracts import contract


def checkpoint(run: Path, step: int) -> Path:
    folder = run / CHECKPOINTS / f"{step:09d}"
    folder.mkdir(parents=True)
    (folder / DESCRIPTION).write_text("{}")
    (run / CONFIG).write_text("{}")
    (run / LAST).write_text(f"{step:09d}\n")
    return folder


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_new_run_that_is_away_does_not_bring_the_old_policy_back(
    from_the_start: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a folder of another host that is not mounted for a while."""

    def load(_: LatestPolicy, folder: Path) -> tuple[Path, Any]:
        return folder, SimpleNamespace(camera=None)

    monkeypatch.setattr(LatestPolicy, "_load", load)
    old, new, away = tmp_path / "old", tmp_path / "new", tmp_path / "away"
    pretrained = checkpoint(old, 5)
    first = checkpoint(new, 10) if from_the_start else None
    latest = LatestPolicy(str(old), str(new), contract(), deterministic=True)
    assert latest.checkpoint == (first or pretrained)
    if first is None:
        assert not latest.look(), "it may come yet"
        first = checkpoint(new, 10)
        assert latest.look()
    new.rename(away)
    new.mkdir()
    with pytest.raises(InputError, match="new: has no complete checkpoint"):
        latest.look()
    assert latest.checkpoint == first
    new.rmdir()
    away.rename(new)
    assert not latest.look()
    newest = checkpoint(new, 20)
    assert latest.look() and latest.checkpoint == newest
