"""Episodes: what makes one whole, how many transitions are in it, and when two are the same recording."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.contract import ActionEntry, Camera
from episodes.episode import COLUMNS, Episode, EpisodeError, Source
from tests.episodes.making import OPTIONAL, PLAIN, SEEING, make_episode


def whole(**changes) -> Episode:
    return make_episode(1, 5, contract=SEEING, columns=OPTIONAL, **changes)


def broken(values: np.ndarray, row: int, value: float) -> np.ndarray:
    values = values.copy()
    values[row] = value
    return values


@given(st.integers(1, 6), st.booleans(), st.booleans(), st.sets(st.sampled_from(OPTIONAL)))
def test_every_kind_of_whole_episode_is_accepted(steps: int, final: bool, terminated: bool, columns: set[str]):
    episode = make_episode(0, steps, contract=SEEING, final=final, terminated=terminated, columns=sorted(columns))
    assert episode.check(SEEING) is episode
    assert (episode.steps, episode.has_final_observation) == (steps, final)


@pytest.mark.parametrize(
    ("final", "terminated", "transitions"), [(True, True, 5), (True, False, 5), (False, True, 5), (False, False, 4)]
)
def test_only_a_truncated_last_step_that_nobody_looked_at_is_no_transition(
    final: bool, terminated: bool, transitions: int
):
    assert make_episode(0, 5, final=final, terminated=terminated).transitions == transitions
    assert make_episode(0, 1, final=final, terminated=terminated).transitions == transitions - 4


@pytest.mark.parametrize("final", [True, False])
def test_an_episode_of_no_steps_is_refused(final: bool):
    with pytest.raises(EpisodeError, match="no steps"):
        make_episode(0, 0, final=final).check(PLAIN)


@pytest.mark.parametrize("column", ["state", "action", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_step(column: str, value: float):
    episode = whole()
    with pytest.raises(EpisodeError, match=f"{column} is not finite at step 3"):
        replace(episode, **{column: broken(getattr(episode, column), 3, value)}).check(SEEING)


def test_one_nan_among_the_entries_of_an_action_is_found():
    contract = replace(PLAIN, action=(*PLAIN.action, ActionEntry("w")))
    episode = make_episode(0, contract=contract)
    episode.action[2, 1] = np.nan
    with pytest.raises(EpisodeError, match="action is not finite at step 2"):
        episode.check(contract)


@pytest.mark.parametrize("both", [True, False])
def test_an_end_is_either_of_the_task_or_of_something_else(both: bool):
    with pytest.raises(EpisodeError, match="exactly one of terminated and truncated"):
        whole(truncated=both, terminated=both).check(SEEING)


def lengthened(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, values[-1:]])


@pytest.mark.parametrize("column", [column.name for column in COLUMNS])
@pytest.mark.parametrize("change", [lengthened, lambda values: values[:-2]])
def test_a_column_of_another_length_is_refused_as_ragged(column: str, change):
    episode = whole()
    with pytest.raises(EpisodeError, match="ragged"):
        replace(episode, **{column: change(getattr(episode, column))}).check(SEEING)


@pytest.mark.parametrize("column", [column.name for column in COLUMNS])
def test_a_column_of_another_type_is_refused(column: str):
    episode = whole()
    values = getattr(episode, column)
    other = {"float32": "float64", "int64": "float64", "uint8": "int64", "uint64": "int64"}[str(values.dtype)]
    with pytest.raises(EpisodeError, match=f"{column} is {other}, expected {values.dtype}"):
        replace(episode, **{column: values.astype(other)}).check(SEEING)


@pytest.mark.parametrize("column", ["state", "action", "action_proposed"])
def test_rows_of_another_width_than_the_contract_are_refused(column: str):
    episode = whole()
    values = getattr(episode, column)
    with pytest.raises(EpisodeError, match=f"{column} has shape .* expected"):
        replace(episode, **{column: np.concatenate([values, values], 1)}).check(SEEING)


def test_flat_actions_and_states_are_refused():
    for column in ("state", "action"):
        episode = make_episode(0)
        with pytest.raises(EpisodeError, match="must be tables"):
            replace(episode, **{column: getattr(episode, column)[:, 0]}).check(PLAIN)


def test_a_source_that_has_no_name_is_refused():
    with pytest.raises(EpisodeError, match="source 5 is none of 0 UNKNOWN, 1 POLICY"):
        replace(whole(), source=np.array([1, 2, 5, 0, 1], np.uint8)).check(SEEING)
    assert replace(whole(), source=np.full(5, Source.SCRIPTED, np.uint8)).check(SEEING)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (lambda images: {}, r"cameras \[\] where the contract has \['c', 'front'\]"),
        (lambda images: {"c": images["c"]}, "cameras"),
        (lambda images: images | {"more": images["c"]}, "'more'"),
        (lambda images: images | {"c": images["c"][:-1]}, r"camera c: uint8 \(5, 3, 3, 3\), expected uint8 \(6,"),
        (lambda images: images | {"c": images["c"].astype(np.float32)}, "camera c: float32"),
        (
            lambda images: images | {"front": images["front"].swapaxes(1, 2)},
            r"camera front: .*expected uint8 \(6, 4, 6",
        ),
        (lambda images: images | {"c": images["c"][..., :1]}, "camera c"),
    ],
)
def test_images_that_are_not_the_contract_s_are_refused(images, words: str):
    episode = whole()
    with pytest.raises(EpisodeError, match=words):
        replace(episode, images=images(episode.images)).check(SEEING)


def test_images_for_a_contract_without_cameras_are_refused():
    with pytest.raises(EpisodeError, match="cameras"):
        whole().check(PLAIN)


def test_a_contract_of_cameras_alone_has_a_state_of_no_columns():
    contract = replace(SEEING, state=())
    assert make_episode(0, contract=contract).check(contract).state.shape == (6, 0)
    tiny = replace(contract, cameras=(Camera("c", 1, 1),))
    assert make_episode(0, contract=tiny).check(tiny)


def test_the_same_recording_has_the_same_digest_wherever_it_lies():
    digest = whole().digest()
    assert whole(task="another", place="real", origin="a copy").digest() == digest
    backwards = replace(whole(), images=dict(reversed(whole().images.items())))
    assert backwards.digest() == digest
    strided = replace(whole(), state=np.asfortranarray(whole().state), action=np.repeat(whole().action, 2, 0)[::2])
    assert strided.digest() == digest


@given(st.data())
def test_any_recorded_value_changes_the_digest(data):
    episode = whole()
    name = data.draw(st.sampled_from([column.name for column in COLUMNS] + ["front", "c"]))
    values = episode.images[name] if name in episode.images else getattr(episode, name)
    flat = values.reshape(-1).view(np.uint8)
    digest = episode.digest()
    flat[data.draw(st.integers(0, len(flat) - 1))] ^= data.draw(st.integers(1, 255))
    assert episode.digest() != digest


def test_how_an_episode_ended_is_part_of_what_was_recorded():
    assert whole(terminated=True).digest() != whole(terminated=True, truncated=True).digest()
    ended = replace(whole(), terminated=True, truncated=False)
    assert ended.digest() != whole().digest()


@pytest.mark.parametrize("column", OPTIONAL)
def test_a_column_more_is_another_recording(column: str):
    assert replace(whole(), **{column: None}).digest() != whole().digest()


@pytest.mark.parametrize("column", OPTIONAL)
def test_a_column_that_says_nothing_is_the_same_as_none(column: str):
    """A store cannot tell them apart, so what is read from it must count as the same recording."""
    fill = {c.name: c.fill for c in COLUMNS}[column]
    empty = replace(whole(), **{column: np.full_like(getattr(whole(), column), fill)})
    assert empty.digest() == replace(whole(), **{column: None}).digest()
