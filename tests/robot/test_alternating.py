"""Whose turn it is, and when a person is asked."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import InputError
from robot.alternating import NOBODY_YET, TRIES, Alternation

Event = bool | None | str
EVENTS = st.lists(st.sampled_from([True, False, None, "stopped"]), max_size=60)


def acted(turns: Alternation, events: list[Event]) -> list[tuple[bool, bool, Event]]:
    """As the robot does it: per episode whether a person came before it, its direction, and how it ended."""
    found, stopped = [], False
    for event in events:
        asked = bool(turns.person_for) or stopped
        if asked:
            turns.person_came()
        found.append((asked, turns.backward, event))
        stopped = event == "stopped"
        turns.ended(None if isinstance(event, str) else event)
    return found


@given(EVENTS, st.integers(1, 7))
def test_what_succeeded_is_undone_and_what_failed_is_tried_again_a_few_times(events: list[Event], every: int) -> None:
    found = acted(Alternation(every), events)
    failed = 0
    for (_, before, ended), (asked, backward, _) in pairwise(found):
        failed = 0 if ended is True else failed + 1
        if asked:
            assert not backward
        else:
            assert (backward != before) == (ended is True or failed == TRIES)
        failed = 0 if asked or backward != before else failed


@given(EVENTS, st.integers(1, 7))
def test_a_person_comes_first_and_never_later_than_after_so_many(events: list[Event], every: int) -> None:
    asked = [asked for asked, _, _ in acted(Alternation(every), events)]
    assert asked[:1] == [True][: len(asked)]
    alone = 0
    for number, came in enumerate(asked):
        stopped = number > 0 and events[number - 1] == "stopped"
        assert came == (number == 0 or alone == every or stopped)
        alone = 1 if came else alone + 1
        assert alone <= every


def test_it_says_what_a_person_is_for() -> None:
    turns = Alternation(2)
    assert turns.person_for == NOBODY_YET
    turns.person_came()
    turns.ended(True)
    assert turns.person_for == ""
    turns.ended(None)
    assert turns.person_for == "2 episodes without one"


def test_no_episode_begins_where_nobody_has_put_anything_in_its_place() -> None:
    with pytest.raises(AssertionError, match="a person comes first"):
        Alternation(1).ended(True)


@pytest.mark.parametrize("every", [0, -3])
def test_a_person_cannot_come_more_often_than_every_episode(every: int) -> None:
    with pytest.raises(InputError, match=f"every {every} episodes, expected 1 or more"):
        Alternation(every)
