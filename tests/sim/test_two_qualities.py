"""The task with two qualities of logs: what pays most, and what there is to learn from what its operator leaves."""

import numpy as np
import pytest

from episodes.errors import InputError
from sim.collect import collect
from sim.operators import make_operator
from sim.task import make_task
from sim.two_qualities import (
    APART,
    CAMERA,
    OTHER_WAY,
    PUSH,
    SURE_WAY,
    ScriptedTwoQualities,
    TwoQualitiesTask,
    best_action,
    best_push,
    pay,
    sure_way,
)

PLACES = np.array([-1.0, -0.6, -0.01, 0.0, 0.3, 1.0])


@pytest.fixture
def task() -> TwoQualitiesTask:
    made = make_task("two-qualities")
    assert isinstance(made, TwoQualitiesTask)
    return made


def logs(task, low: float, high: float, episodes: int = 150):
    """Places (N,), actions (N, 2) and rewards (N,) of scripted episodes of such qualities."""
    found = list(
        collect(task, lambda q: make_operator("scripted", task, q), range(episodes), quality=(low, high), seed=1)
    )
    rewards = [episode.reward for episode in found if episode.reward is not None]
    return (
        np.concatenate([episode.state[:-1, 0] for episode in found]).astype(np.float64),
        np.concatenate([episode.action for episode in found]).astype(np.float64),
        np.concatenate(rewards),
    )


def test_the_best_action_pays_most_of_all():
    """By search over all actions, and what it pays is what the constants say."""
    grid = np.linspace(-1, 1, 401)
    best = best_action(PLACES)
    paid = pay(PLACES, *best.T)
    np.testing.assert_allclose(paid, np.where(PLACES < 0, OTHER_WAY, PUSH), atol=1e-3)
    for x, most in zip(PLACES, paid, strict=True):
        assert pay(np.array(x), grid[:, None], grid).max() <= most + 1e-9
    assert (np.abs(best) <= 1).all(), "it can be reached"


def test_pay_by_hand():
    """A bell with a standard deviation of 0.2 around 0.6 + 0.2 x, or its other way 1.4 below, or around 0.5 + 0.2 x."""
    x = np.array([-0.5, -0.5, -0.5, -0.5, 0.5, 0.5])
    reach = np.array([0.5, 0.3, -0.9, -0.2, -1.0, 0.7])
    push = np.array([-1.0, 0.4, 0.0, 0.4, 0.6, 0.2])
    expected = [1.6, 1.6 * np.exp(-0.5), 2.0, 2.0 * np.exp(-0.5 * 3.5**2), 1.0, np.exp(-2.0)]
    np.testing.assert_allclose(pay(x, reach, push), expected, rtol=1e-9)


def test_a_step_pays_for_the_place_it_was_made_at_and_leads_anywhere(task):
    seen, actions = [task.reset(seed=5)[0]["state"][0]], np.random.default_rng(0).uniform(-1, 1, (20, 2))
    for number, action in enumerate(actions):
        observation, reward, terminated, truncated, info = task.step(action)
        assert reward == pytest.approx(float(pay(np.array(seen[-1], np.float64), *action)), rel=1e-4)
        assert (terminated, truncated, info["success"]) == (False, number == 19, False)
        seen.append(observation["state"][0])
    task.reset(seed=5)
    for place in seen[1:]:
        assert task.step(np.zeros(2))[0]["state"][0] == place, "whatever is done"
    starts = [task.reset(seed=seed)[0]["state"][0] for seed in range(400)]
    assert np.mean(starts) == pytest.approx(0, abs=0.1) and np.std(starts) == pytest.approx(1 / np.sqrt(3), abs=0.05)


def test_its_logs_are_near_expert_in_one_region_and_poor_in_the_other(task):
    x, action, reward = logs(task, 0.0, 1.0)
    good = x < 0
    assert reward[good].mean() > 0.65 * OTHER_WAY and np.median(reward[good]) > 0.75 * OTHER_WAY
    assert reward[~good].mean() < 0.45 * PUSH and np.median(reward[~good]) < 0.25 * PUSH
    off = action[good, 0] - sure_way(x[good])
    elsewhere = np.abs(off + APART) < 0.2
    fumbled = ~elsewhere & (np.abs(off) > 0.2)
    assert np.median(np.abs(off)) < 0.05
    # One in twenty and one in ten; of what is fumbled, about a sixth lands near either way.
    assert elsewhere.mean() == pytest.approx(0.05 + 0.1 / 6, abs=0.015)
    assert fumbled.mean() == pytest.approx(0.1 * 2 / 3, abs=0.02)
    assert np.std(action[~good, 1]) > 0.5


@pytest.mark.parametrize(
    ("region", "cloned", "sharp"), [("good", (0.75, 0.95), (0.0, 0.25)), ("poor", (0.0, 0.15), (0.95, 1.0))]
)
def test_imitation_is_right_in_one_region_and_improvement_in_the_other(region, cloned, sharp, task):
    """The mean of what was done, by regression weighted with exp(beta reward): what a Gaussian policy becomes."""
    x, action, reward = logs(task, 0.0, 1.0)
    inside, centre = ((x < 0), -0.5) if region == "good" else ((x >= 0), 0.5)
    # Relative to what the operator means to do, which is linear in x, so that all places can be averaged.
    off = (action - np.stack([sure_way(x), best_push(x)], axis=1))[inside]
    most = SURE_WAY if region == "good" else PUSH
    share = []
    for beta in (0.0, 5.0):
        weight = np.exp(beta * reward[inside])
        mean = (weight[:, None] * off).sum(0) / weight.sum()
        place = np.array(centre)
        share.append(float(pay(place, sure_way(place) + mean[0], best_push(place) + mean[1])) / most)
    assert cloned[0] <= share[0] <= cloned[1]
    assert sharp[0] <= share[1] <= sharp[1]


def test_quality_is_knowing_how_to_push(task):
    for quality, known in ((0.0, 0.0), (0.9, 0.9**9), (1.0, 1.0)):
        x, action, _ = logs(task, quality, quality, episodes=60)
        right = np.abs(action[:, 1] - best_push(x))[x >= 0] < 0.15
        by_chance = 0.15
        assert right.mean() == pytest.approx(known + (1 - known) * by_chance, abs=0.06)
        assert np.abs(action[:, 1] - best_push(x))[x < 0].max() < 0.25
    with pytest.raises(InputError, match="quality"):
        ScriptedTwoQualities(task, 1.5)


@pytest.mark.parametrize(("seed", "counts"), [(1, -0.4), (2, 0.6)])
def test_a_picture_shows_pay_place_and_last_visit(seed, counts):
    """Marked is the part of the action that counts: the reach, -0.4, left of 0 and the push, 0.6, right of it."""
    task = make_task("two-qualities", cameras=[CAMERA], image_size=(40, 60))
    observation, _ = task.reset(seed=seed)
    assert (observation["state"][0] < 0) == (counts < 0)
    column = round((observation["state"][0] + 1) / 2 * 59)
    image = observation[f"image/{CAMERA}"]
    assert image.shape == (40, 60, 3) and (image[:, column] == (0, 0, 255)).all()
    assert image[:, 5, 0].argmin() > 30, "the other way pays most, far down"
    assert not (image == (255, 0, 0)).all(2).any()
    seen = task.step(np.array([-0.4, 0.6]))[0][f"image/{CAMERA}"]
    rows, columns = np.nonzero((seen == (255, 0, 0)).all(2))
    assert (rows.mean(), columns.mean()) == pytest.approx(((1 - counts) / 2 * 39, column), abs=1.5)
    assert task.render().shape == (256, 256, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cameras": ["imag"]}, "did you mean 'image'"),
        ({"gap": "gravity=2"}, "takes no gap in 'gravity'"),
    ],
)
def test_what_it_has_not_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        make_task("two-qualities", **options)
