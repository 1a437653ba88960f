"""What is said of a simulated state is true of it: every stage of a task, at states put together by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from episodes.errors import InputError
from sim.base import Task
from sim.captions import AT, LIFT, NEAR, PUSHT, captions
from sim.task import make_task

GOAL = np.array([256.0, 256.0, np.pi / 4])
"""Where Push-T wants its block: x, y [px], angle [rad]."""


def stage_of(words: tuple[tuple[str, ...], ...], task: Task, state: np.ndarray) -> int:
    """The one stage that all sentences on a state are of."""
    said = captions(task, np.repeat(state[None], 20, axis=0), np.random.default_rng(0))
    (stage,) = {number for number, sentences in enumerate(words) if set(said) & set(sentences)}
    assert set(said) == set(words[stage]), "in all of its wordings"
    return stage


def lift_state(task: Task, apart: float, height: float) -> np.ndarray:
    """The cube so far from the grip point [m], along no axis, and so high above the table [m]."""
    state = np.zeros(len(task.contract.state))
    names = task.contract.state_names
    way = np.array([2.0, -1.0, 2.0]) / 3
    for axis, part in zip("xyz", apart * way, strict=True):
        state[names.index(f"cube_from_eef_{axis}")] = part
    state[names.index("cube_z")] = 0.8 + height
    return state


@pytest.mark.parametrize(
    ("apart", "height", "stage"),
    [
        (0.5, 0.02, 0),
        (NEAR + 1e-3, 0.02, 0),
        (NEAR - 1e-3, 0.02, 1),
        (AT + 1e-3, 0.02, 1),
        (AT - 1e-3, 0.02, 2),
        (0.0, 0.039, 2),
        (0.0, 0.041, 3),
        (0.02, 0.2, 3),
    ],
)
def test_each_stage_of_lift_is_said_where_it_is(lift_quick: Task, apart: float, height: float, stage: int):
    state = lift_state(lift_quick, apart, height)
    assert stage_of(LIFT, lift_quick, state) == stage
    assert lift_quick.score(state[None])[1][0] == (stage == 3)


def covering(task: Task, share: float) -> np.ndarray:
    """A state in which the block, moved straight off its goal, covers this share of it."""
    state = np.array([100.0, 100.0, *GOAL])
    near, far = 0.0, 200.0
    for _ in range(50):
        state[2] = GOAL[0] + (near + far) / 2
        if task.score(state[None])[0][0] > share:
            near = (near + far) / 2
        else:
            far = (near + far) / 2
    return state


@pytest.mark.parametrize(
    ("share", "stage"), [(0.0, 0), (0.09, 0), (0.11, 1), (0.54, 1), (0.56, 2), (0.81, 2), (0.83, 3), (0.97, 3)]
)
def test_each_stage_of_pusht_is_said_where_it_is(pusht: Task, share: float, stage: int):
    state = covering(pusht, share)
    assert pusht.score(state[None])[0][0] == pytest.approx(share, abs=1e-3)
    assert stage_of(PUSHT, pusht, state) == stage


def test_a_block_on_its_goal_is_on_its_goal_and_one_elsewhere_is_far_from_it(pusht: Task):
    assert stage_of(PUSHT, pusht, np.array([100.0, 100.0, *GOAL])) == 3
    assert stage_of(PUSHT, pusht, np.array([100.0, 100.0, *GOAL[:2], GOAL[2] + np.pi])) < 2, "the wrong way round"
    assert stage_of(PUSHT, pusht, np.array([256.0, 256.0, 100.0, 400.0, GOAL[2]])) == 0


def test_every_state_gets_its_own_sentence_in_a_wording_that_chance_decides(pusht: Task):
    states = np.array([[100.0, 100.0, *GOAL], [256.0, 256.0, 100.0, 400.0, 0.0]] * 30)
    said = captions(pusht, states, np.random.default_rng(0))
    assert set(said[::2]) == set(PUSHT[3])
    assert set(said[1::2]) == set(PUSHT[0])
    assert said == captions(pusht, states, np.random.default_rng(0))
    assert said != captions(pusht, states, np.random.default_rng(1))


@pytest.mark.parametrize("words", [LIFT, PUSHT], ids=["lift", "pusht"])
def test_no_sentence_is_said_of_two_stages(words: tuple[tuple[str, ...], ...]):
    sentences = [sentence for stage in words for sentence in stage]
    assert len(set(sentences)) == len(sentences)
    assert len({len(stage) for stage in words}) == 1


@pytest.mark.parametrize(
    "make", [lambda: make_task("pusht:horizon=5"), lambda: make_task("lift-quick:horizon=5")], ids=["pusht", "lift"]
)
def test_a_task_s_settings_do_not_matter(make: Callable[[], Task]):
    task = make()
    assert len(captions(task, np.ones((3, len(task.contract.state))), np.random.default_rng(0))) == 3


def test_a_task_without_sentences_is_told():
    with pytest.raises(InputError, match="task 'hopper': there are captions for lift, lift-quick and pusht"):
        captions(make_task("hopper"), np.zeros((1, 11)), np.random.default_rng(0))
