"""D4RL files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.episode import Source
from episodes.errors import InputError
from episodes.importers.d4rl import split


def table(lengths: list[int], *, ends: str = "timeouts", following: bool = False) -> dict[str, np.ndarray]:
    """Episodes of these lengths, whose observation 0 counts up and jumps by 1000 from one episode to the next."""
    steps = sum(lengths)
    start = np.repeat(1000.0 * np.arange(len(lengths)), lengths)
    within = np.concatenate([np.arange(n) for n in lengths])
    last = np.zeros(steps, bool)
    last[np.cumsum(lengths) - 1] = True
    columns = {
        "observations": np.stack([start + within, within], 1).astype(np.float32),
        "actions": np.zeros((steps, 2), np.float32),
        "rewards": within.astype(np.float32),
        "terminals": last if ends == "terminals" else np.zeros(steps, bool),
    }
    if ends == "timeouts":
        columns["timeouts"] = last
    if following:
        columns["next_observations"] = columns["observations"] + 1
    return columns


def write(path: Path, columns: dict[str, np.ndarray], attributes: dict | None = None) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **columns)
        return path
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
        file.attrs.update(attributes or {})
    return path


def test_door_is_imported_whole(data, load):
    door = load(data("door/door_human_25.hdf5"))
    assert (len(door.episodes), door.steps, door.transitions) == (25, 6729, 6729 - 25)
    assert (len(door.contract.state), len(door.contract.action)) == (39, 28)
    assert door.left_out == {} and door.importer.ignored == ("init_state",)
    for episode in door.episodes.values():
        assert episode.truncated and not episode.has_final_observation and episode.place == "sim"
        assert episode.source is not None and (episode.source == Source.DEMONSTRATION).all()
        assert episode.task == "adroit hand door" and episode.success is None


def test_cheetah_is_imported_whole(data, load):
    cheetah = load(data("cheetah_gravity2/replay_100k.npz"))
    assert [e.steps for e in cheetah.episodes.values()] == [1000] * 100
    assert (cheetah.steps, cheetah.transitions) == (100_000, 100_000)
    assert (len(cheetah.contract.state), len(cheetah.contract.action)) == (17, 6)
    assert not any(episode.terminated for episode in cheetah.episodes.values())
    returns = [np.sum(e.reward, dtype=np.float64) for e in cheetah.episodes.values() if e.reward is not None]
    assert (round(min(returns)), round(max(returns)), round(np.mean(returns))) == (-206, 4134, 2773)
    first = next(iter(cheetah.episodes.values()))
    assert first.source is not None and (first.source == Source.UNKNOWN).all()


@pytest.mark.parametrize("name", ["a.hdf5", "a.npz"])
@pytest.mark.parametrize("following", [True, False])
def test_a_time_limit_and_a_failure_stay_apart(tmp_path, load, name, following):
    columns = table([3, 4, 2], following=following)
    columns["terminals"][6] = True  # the second episode fails at its last step; the third is cut at its time limit
    file = load(write(tmp_path / name, columns))
    assert [(e.steps, e.terminated, e.truncated) for e in file.episodes.values()] == [
        (3, False, True),
        (4, True, False),
        (2, False, True),
    ]
    unknown_end = [e.steps - (0 if following or e.terminated else 1) for e in file.episodes.values()]
    assert [e.transitions for e in file.episodes.values()] == unknown_end
    second = file.episodes["episode_1"]
    expected = [1000, 1001, 1002, 1003, 1004] if following else [1000, 1001, 1002, 1003]
    np.testing.assert_array_equal(second.state[:, 0], expected)
    np.testing.assert_array_equal(second.reward, [0, 1, 2, 3])


def test_the_rest_after_the_last_end_is_truncated(tmp_path, load):
    columns = table([3, 4], ends="terminals")
    columns["terminals"][-1] = False
    assert [(e.steps, e.terminated) for e in load(write(tmp_path / "a.npz", columns)).episodes.values()] == [
        (3, True),
        (4, False),
    ]


@pytest.mark.parametrize("with_timeouts", [True, False])
def test_a_step_whose_successor_is_not_the_next_row_ends_an_episode(tmp_path, load, with_timeouts):
    columns = table([3, 1, 4], following=True, ends="neither")
    if with_timeouts:
        columns["timeouts"] = np.zeros(8, bool)
    file = load(write(tmp_path / "a.npz", columns))
    assert [(e.steps, e.truncated, e.transitions) for e in file.episodes.values()] == [
        (3, True, 3),
        (1, True, 1),
        (4, True, 4),
    ]
    assert [e.state[-1, 0] for e in file.episodes.values()] == [3, 1001, 2004]


def test_without_timeouts_and_next_observations_only_terminals_split(tmp_path, load):
    """The documented blindness: the time limit after row 2 is nowhere in the file."""
    columns = table([3, 4], ends="neither")
    columns["terminals"][-1] = True
    assert [e.steps for e in load(write(tmp_path / "a.npz", columns)).episodes.values()] == [7]


def test_a_file_that_says_nothing_about_ends_is_refused(tmp_path, load):
    columns = table([3, 4])
    del columns["terminals"], columns["timeouts"]
    with pytest.raises(InputError, match="nothing says where episodes end"):
        load(write(tmp_path / "a.npz", columns))


def test_nan_leaves_its_episode_out_and_no_other(tmp_path, load):
    columns = table([3, 4, 2, 1], following=True)
    columns["actions"][1, 0] = np.nan
    columns["observations"][4, 1] = np.inf
    columns["next_observations"][9, 0] = np.nan
    file = load(write(tmp_path / "a.npz", columns))
    assert list(file.episodes) == ["episode_2"]
    assert "action is not finite at step 1" in file.left_out["episode_0"]
    assert "state is not finite at step 1" in file.left_out["episode_1"]
    assert "state is not finite at step 1" in file.left_out["episode_3"]


def test_a_number_beyond_float32_is_left_out_not_wrapped(tmp_path, load):
    columns = table([2, 2])
    columns["actions"] = columns["actions"].astype(np.float64)
    columns["actions"][3, 1] = 1e300
    assert list(load(write(tmp_path / "a.npz", columns)).left_out) == ["episode_1"]


def test_where_a_file_says_human_its_steps_are_demonstrations(tmp_path, load):
    def source(name, attributes=None):
        episode = load(write(tmp_path / name, table([2]), attributes)).episodes["episode_0"]
        return set(episode.source.tolist())

    assert source("pen-human-v1.hdf5") == {Source.DEMONSTRATION}
    assert source("a.hdf5", {"fields": "one row per demonstration"}) == {Source.DEMONSTRATION}
    assert source("pen-medium-v1.hdf5") == {Source.UNKNOWN}


def test_only_a_file_that_names_its_simulator_is_from_one(tmp_path, load):
    for name, attributes, place in (("a.hdf5", {"env": "AdroitHandDoor"}, "sim"), ("b.hdf5", None, "")):
        file = load(write(tmp_path / name, table([3]), attributes))
        assert [episode.place for episode in file.episodes.values()] == [place]


def test_one_number_a_step_may_be_a_column(tmp_path, load):
    columns = table([3, 2])
    for name in ("rewards", "terminals", "timeouts"):
        columns[name] = columns[name][:, None]
    file = load(write(tmp_path / "a.npz", columns))
    np.testing.assert_array_equal(file.episodes["episode_0"].reward, [0, 1, 2])


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("rewards", np.zeros(4), r"rewards has shape \(4,\) where actions has 5 rows"),
        ("rewards", np.zeros((5, 2)), "expected one number a step"),
        ("observations", np.zeros(5), "expected a table"),
        ("observations", np.zeros((5, 2, 2)), "expected a table"),
        ("actions", np.zeros((0, 2)), "actions has no rows"),
        ("actions", np.array(3.0), "actions has no rows"),
        ("actions", np.array([["a", "b"]] * 5), "expected numbers"),
        ("next_observations", np.zeros((5, 3)), "next_observations has shape"),
        ("rewards", np.array([object()] * 5), "cannot be read"),
    ],
)
def test_columns_that_do_not_belong_together_are_refused(tmp_path, load, name, values, message):
    with pytest.raises(InputError, match=message):
        load(write(tmp_path / "a.npz", {**table([3, 2]), name: values}))


def test_there_are_no_cameras(tmp_path, load):
    path = write(tmp_path / "a.npz", table([3]))
    with pytest.raises(InputError, match="unknown camera 'front'"):
        load(path, cameras=["front"])
    assert load(path, cameras=[]).steps == 3


flags = st.lists(st.sampled_from(["", "terminal", "timeout", "both", "gap"]), min_size=1, max_size=40)


@given(flags, st.booleans(), st.booleans())
def test_split_cuts_everything_once_and_only_at_ends(marks, has_timeouts, has_following):
    count = len(marks)
    observations = np.arange(count, dtype=np.float32)[:, None]
    following = observations + 1
    following[[mark == "gap" for mark in marks]] += 0.5
    terminals = np.array([mark in ("terminal", "both") for mark in marks])
    timeouts = np.array([mark in ("timeout", "both") for mark in marks])
    ends, terminated = split(
        observations, terminals, timeouts if has_timeouts else None, following if has_following else None
    )
    assert ends[-1] == count and (np.diff(ends, prepend=0) > 0).all()
    seen = {"terminal", "both", *(["timeout"] if has_timeouts else []), *(["gap"] if has_following else [])}
    expected = {row + 1 for row, mark in enumerate(marks) if mark in seen} | {count}
    assert set(ends.tolist()) == expected
    assert {int(end) for end, flag in zip(ends, terminated, strict=True) if flag} == set(
        (np.flatnonzero(terminals) + 1).tolist()
    )
    if has_following:
        inner = np.setdiff1d(np.arange(count - 1), ends - 1)
        np.testing.assert_array_equal(following[inner], observations[inner + 1])


def test_a_column_that_cannot_be_found_again_is_not_taken_for_absent(tmp_path, load):
    """A log whose `timeouts` are lost to damage must not be cut at its terminals alone."""
    path = write(tmp_path / "a.hdf5", table([3, 4]))
    with h5py.File(path, "r+") as file:
        del file["timeouts"]
        file["timeouts"] = h5py.SoftLink("/nowhere")
    with pytest.raises(InputError, match=r"a\.hdf5: cannot be read"):
        load(path)
