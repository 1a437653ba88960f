"""Exporting in any format: what goes out, what is told to stay, what is refused, and nothing half written."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from episodes.contract import Contract
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.exporters import FORMATS
from episodes.exporting import export_store
from episodes.importers import open_source
from episodes.labels import LabelSet
from episodes.store import Store
from tests.episodes.exporters.stores import stored
from tests.episodes.making import OPTIONAL, PLAIN, ROOT, SEEING, make_episode


@pytest.fixture(params=sorted(FORMATS))
def format(request: pytest.FixtureRequest) -> str:
    return request.param


def exported(tmp_path: Path, format: str, **options) -> tuple[list[str], list[Episode]]:
    """What was told, and what an import of the export gives."""
    told: list[str] = []
    result = export_store(tmp_path / "store", tmp_path / "out", format, tell=told.append, **options)
    assert told == result.left_behind
    episodes = [item for _, item in open_source(tmp_path / "out").episodes()]
    assert all(isinstance(item, Episode) for item in episodes)
    assert (len(episodes), sum(e.steps for e in episodes)) == (result.episodes, result.steps)
    return told, episodes


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_labels_that_are_asked_for_go_out_and_the_rest_is_told(tmp_path, format):
    """Of five episodes one is not covered, and one ends with a step that nobody knows the worth of."""
    episodes = [
        make_episode(0, 3, terminated=True, columns=("reward", "success", "cost")),
        make_episode(1, 4, final=False),
        make_episode(2, 1, final=False),
        make_episode(3, 2),
        make_episode(4, 2, final=False, terminated=True),
    ]
    snapshot = stored(tmp_path / "store", PLAIN, episodes)
    reward = np.arange(12, dtype=np.float32)
    reward[[6, 7]] = np.nan
    values = {"reward": reward, "success": np.where(np.isnan(reward), np.nan, 0).astype(np.float32)}
    covered = np.array([True, True, True, False, True])
    Store.open(tmp_path / "store").write_labels(LabelSet("mine", values, covered, {"method": "tests"}))
    told, found = exported(tmp_path, format, labels="mine")
    assert [episode.reward.tolist() for episode in found] == [[0, 1, 2], [3, 4, 5], [10, 11]]
    assert [episode.success.tolist() for episode in found] == [[0, 0, 0], [0, 0, 0], [0, 0]]
    assert [episode.terminated for episode in found] == [True, False, True]
    np.testing.assert_array_equal(found[0].cost, episodes[0].cost)
    np.testing.assert_array_equal(found[1].action, episodes[1].action[:3])
    assert told[:4] == [
        "label sets logged: one goes out, mine; another with --labels",
        "how label set mine was made",
        "2 of 5 episodes: label set mine lacks them",
        "the last step of 1 episodes: label set mine has no reward for it",
    ]
    assert snapshot.label_names == ["logged"]


def test_where_a_label_set_ends_the_task_it_is_done(tmp_path, format):
    stored(tmp_path / "store", PLAIN, [make_episode(0, 3), make_episode(1, 2, terminated=True)])
    values = {"reward": np.zeros(5, np.float32), "terminated": np.array([0, 0, 1, 0, 0], np.float32)}
    Store.open(tmp_path / "store").write_labels(LabelSet("mine", values, np.ones(2, bool)))
    _, found = exported(tmp_path, format, labels="mine")
    assert [episode.terminated for episode in found] == [True, False]


def test_without_rewards_the_logs_own_labels_still_go_out(tmp_path, format):
    wanted = [make_episode(0, columns=()), make_episode(1, columns=("reward",))]
    stored(tmp_path / "store", PLAIN, wanted)
    _, found = exported(tmp_path, format)
    assert found[0].reward is None and found[1].reward.tolist() == wanted[1].reward.tolist()


def test_a_label_set_with_a_hole_is_refused_and_nothing_is_there(tmp_path, format):
    stored(tmp_path / "store", PLAIN, [make_episode(0, 3), make_episode(1, 2)])
    values = {"reward": np.array([1, 1, 1, np.nan, 1], np.float32)}
    Store.open(tmp_path / "store").write_labels(LabelSet("mine", values, np.ones(2, bool)))
    with pytest.raises(InputError, match="'mine' covers episode 1, but has no reward for its step 0"):
        exported(tmp_path, format, labels="mine")
    assert entries(tmp_path) == ["store"]


def test_what_stays_in_the_store_is_told(tmp_path, format):
    store = Store.create(tmp_path / "store", SEEING)
    store.append([make_episode(0, contract=SEEING)], [{"episode": "a", "reason": "ragged"}])
    store.write_features("front-toy", np.zeros((6, 2), np.float32), {})
    told, _ = exported(tmp_path, format)
    assert told[:2] == [
        "the list of 1 episodes that imports could not use",
        "frozen image features front-toy: made again where they are needed",
    ]


def test_a_second_export_is_refused_and_the_first_stays(tmp_path, format):
    stored(tmp_path / "store", PLAIN, [make_episode(0)])
    exported(tmp_path, format)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match="out: exists, and an export never replaces anything"):
        exported(tmp_path, format)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("store", "store: exists"),
        ("store/new", "lies in the store itself"),
        ("nowhere/new", "there is no folder"),
        ("link", "link: exists"),
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path, format, out, message):
    stored(tmp_path / "store", PLAIN, [make_episode(0)])
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=message):
        export_store(tmp_path / "store", tmp_path / out, format)
    assert entries(tmp_path) == ["link", "store"]


@pytest.mark.parametrize(
    ("episodes", "options", "message"),
    [
        (0, {}, "holds no episodes yet"),
        (1, {"labels": "lodged"}, "unknown label set 'lodged'"),
        (1, {"labels": "costs"}, r"'costs' has no rewards, only \['cost'\]"),
        (1, {"labels": "none"}, "'none' covers no episode"),
        (1, {"format": "robomimik"}, "unknown format 'robomimik'; did you mean 'robomimic'"),
    ],
)
def test_what_cannot_go_out_is_refused(tmp_path, format, episodes, options, message):
    snapshot = stored(tmp_path / "store", PLAIN, [make_episode(n, columns=("reward", "cost")) for n in range(episodes)])
    if episodes:
        store, values = Store.open(tmp_path / "store"), np.zeros(snapshot.steps, np.float32)
        store.write_labels(LabelSet("costs", {"cost": values}, np.ones(1, bool)))
        store.write_labels(LabelSet("none", {"reward": values}, np.zeros(1, bool)))
    with pytest.raises(InputError, match=message):
        export_store(tmp_path / "store", tmp_path / "out", **{"format": format, **options})
    assert entries(tmp_path) == ["store"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, format, monkeypatch):
    stored(tmp_path / "store", SEEING, [make_episode(n, contract=SEEING) for n in range(3)])

    def interrupted(episodes):
        for number, episode in enumerate(episodes):
            if number == 2:
                raise OSError(28, "No space left on device")
            yield episode

    with pytest.raises(OSError, match="No space left"):
        export_store(tmp_path / "store", tmp_path / "out", format, progress=interrupted)
    assert entries(tmp_path) == ["store"]


SLOWLY = """
import sys, time
from pathlib import Path
from episodes.exporting import export_store
def slowly(episodes):
    for number, episode in enumerate(episodes):
        print(number, flush=True)
        time.sleep(0.2)
        yield episode
export_store(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], progress=slowly)
"""


def test_a_killed_export_leaves_nothing_that_looks_complete(tmp_path, format):
    contract: Contract = SEEING
    stored(tmp_path / "store", contract, [make_episode(n, contract=contract, columns=OPTIONAL) for n in range(9)])
    arguments = [sys.executable, "-c", SLOWLY, str(tmp_path / "store"), str(tmp_path / "out"), format]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "2\n":
            assert process.poll() is None
        time.sleep(0.1)
        process.kill()
    assert not (tmp_path / "out").exists()
    (unfinished,) = (path for path in tmp_path.iterdir() if path.name != "store")
    assert unfinished.name.startswith(".out.")
    with pytest.raises(InputError):
        for _ in open_source(unfinished).episodes():
            pass
    exported(tmp_path, format)
