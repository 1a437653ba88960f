"""Importing: nothing twice, nothing of a source that cannot be used, and nothing that was left out forgotten."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes import importing
from episodes.contract import ActionEntry, Contract, StateEntry
from episodes.episode import Episode, EpisodeError
from episodes.errors import InputError
from episodes.importing import ImportResult, import_into
from episodes.store import Store, StoreError
from tests.episodes.making import PLAIN, SEEING, make_episode

ONE = 2 * 6 * 4 + 5 * 4
"""Bytes of one episode of `make_episode(n)`."""


class Given:
    """A source that holds what a test gives it."""

    format, layout, ignored = "given", "given", ()

    def __init__(self, items: list[Episode | EpisodeError], contract: Contract = PLAIN, on: Callable = lambda i: None):
        self.items, self.contract, self.on = items, contract, on

    def __len__(self) -> int:
        return len(self.items)

    def episodes(self) -> Iterator[tuple[str, Episode | EpisodeError]]:
        for index, item in enumerate(self.items):
            self.on(index)
            yield f"demo_{index}", item


def several(count: int, first: int = 0) -> list[Episode | EpisodeError]:
    return [make_episode(first + n) for n in range(count)]


def said(*pairs: tuple[int, str]) -> list[dict[str, str]]:
    return [{"episode": f"demo_{index}", "reason": reason} for index, reason in pairs]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def groups_of_two(monkeypatch) -> None:
    monkeypatch.setattr(importing, "GROUP_BYTES", 2 * ONE)


def test_everything_usable_is_there_and_counted(path: Path):
    episodes = [make_episode(0, 4), make_episode(1, 3, final=False), make_episode(2, 1, final=False, terminated=True)]
    result = import_into(Given([*episodes[:1], EpisodeError("it has no steps"), *episodes[1:]]), path)
    assert result == ImportResult(3, 8, 7, 0, said((1, "it has no steps")))
    snapshot = Store.open(path).snapshot()
    assert (snapshot.episodes, snapshot.steps, snapshot.transitions) == (3, 8, 7)
    assert [snapshot.episode(index).digest() for index in range(3)] == [episode.digest() for episode in episodes]
    assert snapshot.left_out == said((1, "it has no steps"))


def test_importing_twice_adds_nothing(path: Path):
    items = [*several(3), EpisodeError("ragged")]
    import_into(Given(items), path)
    before = Store.open(path).snapshot()
    result = import_into(Given(items), path)
    assert result == ImportResult(0, 0, 0, 3, said((3, "ragged")))
    after = Store.open(path).snapshot()
    assert after.id == before.id and after.left_out == said((3, "ragged"))


def test_a_source_that_has_grown_adds_what_is_new(path: Path):
    import_into(Given(several(2)), path)
    result = import_into(Given([*several(3), EpisodeError("late")]), path)
    assert (result.episodes, result.already_there) == (1, 2)
    snapshot = Store.open(path).snapshot()
    assert snapshot.episodes == 3 and snapshot.left_out == said((3, "late"))


def test_a_source_that_holds_an_episode_twice_is_imported_as_it_is_and_only_once(path: Path):
    items = [make_episode(0), make_episode(1), make_episode(0, origin="a copy")]
    assert import_into(Given(items[:1]), path).episodes == 1
    result = import_into(Given(items), path)
    assert (result.episodes, result.already_there) == (2, 1)
    result = import_into(Given(items), path)
    assert (result.episodes, result.already_there) == (0, 3)
    digests = [metadata["digest"] for metadata in Store.open(path).snapshot().metadata]
    assert digests == [items[0].digest(), items[1].digest(), items[0].digest()]


@pytest.mark.parametrize("repeated", [0, 4])
def test_a_source_that_is_there_in_part_can_be_refused_whole(path: Path, groups_of_two, repeated: int):
    import_into(Given(several(1)), path, refuse_repeated=True)
    before = Store.open(path).snapshot()
    items = several(4, first=10)
    items.insert(repeated, make_episode(0))
    with pytest.raises(InputError, match=f"{path}: has episode demo_{repeated} of this source already"):
        import_into(Given([*items, EpisodeError("ragged")]), path, refuse_repeated=True)
    after = Store.open(path).snapshot()
    assert after.id == before.id and after.left_out == []


def test_a_new_source_is_not_refused(path: Path):
    import_into(Given(several(2)), path)
    items = [*several(2, first=10), EpisodeError("ragged")]
    result = import_into(Given(items), path, refuse_repeated=True)
    assert result == ImportResult(2, result.steps, result.transitions, 0, said((2, "ragged")))
    assert Store.open(path).snapshot().episodes == 4


def test_another_source_is_added_to_what_is_there(path: Path):
    import_into(Given([*several(2), EpisodeError("ragged")]), path)
    result = import_into(Given([*several(2, first=10), EpisodeError("ragged")]), path)
    assert (result.episodes, result.already_there) == (2, 0)
    assert Store.open(path).snapshot().episodes == 4
    assert Store.open(path).snapshot().left_out == said((2, "ragged")) * 2, "two episodes, of two sources"


def test_large_sources_are_committed_in_groups_and_small_ones_at_once(path: Path, groups_of_two, monkeypatch):
    sizes, append = [], Store.append
    monkeypatch.setattr(
        Store, "append", lambda store, episodes, *rest: sizes.append(len(episodes)) or append(store, episodes, *rest)
    )
    import_into(Given(several(5)), path)
    assert sizes == [2, 2, 1]
    monkeypatch.setattr(importing, "GROUP_BYTES", 100 * ONE)
    import_into(Given(several(5, first=10)), path)
    assert sizes == [2, 2, 1, 5]
    assert Store.open(path).snapshot().episodes == 10


def test_images_count_for_the_size_of_a_group(path: Path, monkeypatch):
    episode = make_episode(0, contract=SEEING)
    bytes_of_images = sum(images.nbytes for images in episode.images.values())
    monkeypatch.setattr(importing, "GROUP_BYTES", bytes_of_images)
    seen = []

    def on(index: int) -> None:
        seen.append(Store.open(path).snapshot().episodes if path.exists() else 0)

    import_into(Given([make_episode(n, contract=SEEING) for n in range(3)], SEEING, on), path)
    assert seen == [0, 1, 2]


class Interrupted(Exception):
    """Stands for a pulled plug, ctrl-C, or a file that turns out to be damaged half-way."""


@pytest.mark.parametrize("at", [1, 3, 4, 6])
def test_an_interrupted_import_keeps_whole_groups_and_can_be_run_again(path: Path, groups_of_two, at: int):
    items = several(8)
    items[1:1] = [EpisodeError("first")]
    items[5:5] = [EpisodeError("second")]
    items.append(EpisodeError("last"))

    def stop(index: int) -> None:
        if index == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        import_into(Given(items, on=stop), path)
    kept = Store.open(path).snapshot().episodes if path.exists() else 0
    assert kept == {1: 0, 3: 2, 4: 2, 6: 4}[at]
    result = import_into(Given(items), path)
    assert (result.episodes, result.already_there) == (8 - kept, kept)
    everything = said((1, "first"), (5, "second"), (10, "last"))
    assert result.left_out == everything
    snapshot = Store.open(path).snapshot()
    digests = [metadata["digest"] for metadata in snapshot.metadata]
    assert digests == [item.digest() for item in items if isinstance(item, Episode)]
    assert snapshot.left_out == everything, "each said once, none forgotten"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_is_left_out_after_the_last_group_is_remembered_too(path: Path, groups_of_two, count: int):
    import_into(Given([*several(count), EpisodeError("one"), EpisodeError("two")]), path)
    snapshot = Store.open(path).snapshot()
    assert snapshot.episodes == count
    assert snapshot.left_out == said((count, "one"), (count + 1, "two"))


def test_a_source_of_which_nothing_can_be_used_makes_no_store(path: Path):
    with pytest.raises(InputError) as caught:
        import_into(Given([EpisodeError("action is not finite at step 2"), EpisodeError("it has no steps")]), path)
    assert str(caught.value) == (
        f"nothing could be imported into {path}: 2 episodes left out; the first, demo_0: action is not finite at step 2"
    )
    assert list(path.parent.iterdir()) == []


def test_an_empty_source_makes_no_store(path: Path):
    with pytest.raises(InputError, match=r"0 episodes left out; .*the source holds no episodes"):
        import_into(Given([]), path)
    assert not path.exists()


def test_a_source_of_which_nothing_can_be_used_leaves_a_store_as_it_was(path: Path):
    import_into(Given(several(2)), path)
    before = Store.open(path).snapshot().id
    with pytest.raises(InputError, match="nothing could be imported"):
        import_into(Given([EpisodeError("ragged")]), path)
    assert Store.open(path).snapshot().id == before


def test_another_layout_is_refused_before_any_work_is_done(path: Path):
    import_into(Given(several(2)), path)
    before, wide = Store.open(path).snapshot().id, replace(PLAIN, action=(*PLAIN.action, ActionEntry("w")))

    def never(index: int) -> None:
        raise AssertionError("an episode was read")

    with pytest.raises(StoreError, match="holds another layout: action size 1 against 2"):
        import_into(Given([make_episode(0, contract=wide)], wide, never), path)
    assert Store.open(path).snapshot().id == before


def test_a_given_contract_says_what_the_source_does_not(path: Path):
    given = Contract("arm", (StateEntry("q", "rad"), StateEntry("dq", "rad/s")), (ActionEntry("u", "N"),), rate=50.0)
    import_into(Given(several(2)), path, contract=given)
    assert Store.open(path).contract == given
    with pytest.raises(StoreError, match="holds another layout"):
        import_into(Given(several(3)), path)
    assert import_into(Given(several(3)), path, contract=given).episodes == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": PLAIN.state[:1]}, "says 1 state entries, the source has 2"),
        ({"action": (*PLAIN.action, ActionEntry("w"))}, "says 2 action entries, the source has 1"),
        ({"cameras": SEEING.cameras}, r"says .*front.* cameras, the source has"),
    ],
)
def test_a_given_contract_that_cannot_be_the_source_s_makes_no_store(path: Path, change: dict, words: str):
    with pytest.raises(InputError, match=words):
        import_into(Given(several(1)), path, contract=replace(PLAIN, **change))
    assert not path.exists()


def test_a_path_that_cannot_be_a_store_is_refused_before_any_work_is_done(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("mine")

    def never(index: int) -> None:
        raise AssertionError("an episode was read")

    for name, words in (("file", "is a file"), ("full", "is not a store")):
        with pytest.raises(StoreError, match=words):
            import_into(Given(several(1), on=never), tmp_path / name)


def test_an_importer_that_gives_a_bad_episode_after_all_is_stopped_by_the_store(path: Path):
    """Importers check; the store checks again, and then nothing of the group is visible."""
    bad = make_episode(1, action=np.full((5, 1), np.nan, np.float32))
    with pytest.raises(EpisodeError, match="action is not finite at step 0"):
        import_into(Given([make_episode(0), bad]), path)
    assert Store.open(path).snapshot().episodes == 0


def test_progress_goes_through_every_episode(path: Path):
    seen = []

    def progress(items):
        for item in items:
            seen.append(item[0])
            yield item

    import_into(Given([*several(2), EpisodeError("ragged")]), path, progress)
    assert seen == ["demo_0", "demo_1", "demo_2"]


def test_many_small_episodes_are_weighed_once_each_and_committed_together(path: Path, monkeypatch):
    """No work that grows with the square of their number."""
    weighed, size = [], importing._bytes
    monkeypatch.setattr(importing, "_bytes", lambda episode: weighed.append(1) or size(episode))
    import_into(Given([make_episode(n, 1, columns=()) for n in range(300)]), path)
    assert len(weighed) == 300
    assert Store.open(path).snapshot().episodes == 300
