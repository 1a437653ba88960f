"""Transitions: every number of a batch against a slow reference that follows the definition step by step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from episodes.contract import ActionEntry, StateEntry
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.labels import LOGGED, LabelSet
from episodes.snapshot import Snapshot
from episodes.store import Store
from episodes.transitions import Batch, SamplingConfig, Transitions, concatenate, ends_of_task
from tests.episodes.making import PLAIN, make_episode

WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""Where an example reads a store: a failure would be minutes in coming."""


def reference(state, action, reward, terminated, config: SamplingConfig) -> list[dict]:
    """The transitions of one episode, one after the other, in plain Python."""
    found = []
    for t in range(len(action)):
        if any(terminated[:t]):
            break  # the task is over: what the robot did afterwards is nobody's business
        taken, total, weight, ended, step = [], 0.0, 1.0, False, t
        while len(taken) < config.chunk and step < len(action) and not ended:
            if not terminated[step] and step + 1 >= len(state):
                break  # nobody knows what came after this action
            taken.append(action[step])
            worth = config.reward_scale * float(reward[step]) + config.reward_bias
            if terminated[step] and config.reward_bias < 0 and worth < 0 and config.discount < 1:
                worth /= 1 - config.discount  # it goes on failing for ever
            total += weight * worth
            weight *= config.discount
            ended = bool(terminated[step])
            step += 1
        if taken:
            found.append(
                {
                    "state": seen_at(state, t, config.history),
                    "action": taken + [taken[-1]] * (config.chunk - len(taken)),
                    "valid": [1.0] * len(taken) + [0.0] * (config.chunk - len(taken)),
                    "reward": total,
                    "next_state": seen_at(state, step, config.history) if step < len(state) else None,
                    "mask": 0.0 if ended else 1.0,
                    "discount": weight,
                }
            )
    return found


def seen_at(state, t: int, history: int) -> np.ndarray:
    """The last observations of one episode, oldest first; before the first one there is that again."""
    return state[t] if history == 1 else np.stack([state[max(0, t - ago)] for ago in reversed(range(history))])


def assert_batch(batch: Batch, expected: list[dict]) -> None:
    assert len(batch) == len(expected)
    assert batch.valid.shape == batch.action.shape[:2]
    for row, transition in enumerate(expected):
        np.testing.assert_array_equal(batch.state[row].numpy(), transition["state"], strict=True)
        np.testing.assert_array_equal(batch.action[row].numpy(), np.stack(transition["action"]))
        np.testing.assert_array_equal(batch.valid[row].numpy(), transition["valid"])
        np.testing.assert_allclose(batch.reward[row], transition["reward"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(batch.discount[row], transition["discount"], rtol=1e-6)
        assert float(batch.mask[row]) == transition["mask"]
        if transition["next_state"] is None:
            assert transition["mask"] == 0, "a stand-in for a state that counts"
            assert torch.isfinite(batch.next_state[row]).all()
        else:
            np.testing.assert_array_equal(batch.next_state[row].numpy(), transition["next_state"], strict=True)


def everything(transitions: Transitions) -> Batch:
    return transitions.batch(torch.arange(len(transitions)))


configs = st.builds(
    SamplingConfig,
    chunk=st.integers(1, 5),
    history=st.sampled_from([1, 1, 2, 3, 12]),
    discount=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
    reward_scale=st.sampled_from([1.0, 0.0, 10.0, -2.5]),
    reward_bias=st.sampled_from([0.0, -1.0, 5.0]),
)


@st.composite
def episodes(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """State, action, reward and end of task of an episode: ends anywhere, also several times, also nowhere."""
    steps, final = draw(st.integers(1, 9)), draw(st.booleans())
    episode = make_episode(draw(st.integers(0, 99)), steps, final=final)
    terminated = np.zeros(steps, bool)
    terminated[draw(st.lists(st.integers(0, steps - 1), max_size=2))] = True
    return episode.state, episode.action, episode.reward, terminated


@given(st.lists(episodes(), min_size=1, max_size=4), configs)
def test_added_episodes_make_the_transitions_of_the_definition(added, config: SamplingConfig):
    transitions = Transitions(config, 2, 1)
    expected = []
    for state, action, reward, terminated in added:
        transitions.add(state, action, reward, terminated)
        expected += reference(state, action, reward, terminated, config)
    assert len(transitions) == len(expected)
    assert_batch(everything(transitions), expected)
    assert_batch(transitions.all_actions(), expected)


EVERY_KIND = [
    make_episode(10 * steps + 2 * final + terminated, steps, final=final, terminated=terminated)
    for steps in (1, 2, 3, 6)
    for final in (True, False)
    for terminated in (True, False)
]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory) -> Snapshot:
    """Every kind of episode: of 1, 2, 3 and 6 steps, with and without final observation, terminated and truncated."""
    store = Store.create(tmp_path_factory.mktemp("every") / "store", PLAIN)
    store.append(EVERY_KIND[:7])
    store.append(EVERY_KIND[7:])
    return store.snapshot()


def logged_end(episode: Episode) -> np.ndarray:
    return np.array([False] * (episode.steps - 1) + [episode.terminated])


@settings(max_examples=40, phases=WITHOUT_SHRINKING)
@given(configs)
def test_a_store_s_own_rewards_make_the_transitions_of_the_definition(snapshot: Snapshot, config: SamplingConfig):
    expected = [t for e in EVERY_KIND for t in reference(e.state, e.action, e.reward, logged_end(e), config)]
    assert_batch(everything(Transitions.load(snapshot, snapshot.labels(LOGGED), config)), expected)
    if config.chunk == 1:
        assert len(expected) == snapshot.transitions


@settings(max_examples=60, phases=WITHOUT_SHRINKING)
@given(st.data(), configs)
def test_any_labels_make_the_transitions_of_the_definition(snapshot: Snapshot, data, config: SamplingConfig):
    """Labels end tasks in mid-episode, say nothing of some steps, and cover some episodes."""
    covered = np.array(data.draw(st.lists(st.booleans(), min_size=len(EVERY_KIND), max_size=len(EVERY_KIND))))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    reward = rng.normal(size=snapshot.steps).astype(np.float32)
    terminated = rng.choice(np.array([0, 1, np.nan], np.float32), snapshot.steps, p=[0.75, 0.15, 0.1])
    expected, first = [], 0
    for episode, is_covered in zip(EVERY_KIND, covered, strict=True):
        steps = slice(first, first + episode.steps)
        first += episode.steps
        # Where the labels do not say whether the task ended, the log does.
        ended = np.where(np.isnan(terminated[steps]), logged_end(episode), terminated[steps] == 1)
        if is_covered:
            expected += reference(episode.state, episode.action, reward[steps], ended, config)
        else:
            reward[steps] = np.nan
    labels = LabelSet("any", {"reward": reward, "terminated": terminated}, covered)
    if not expected:
        with pytest.raises(InputError, match="label set 'any' leaves no transition to learn from"):
            Transitions.load(snapshot, labels, config)
    else:
        assert_batch(everything(Transitions.load(snapshot, labels, config)), expected)


# The same by hand


def counted(steps: int, *, final: bool = True, **changes) -> Episode:
    """States 0, 1, 2, ..., actions 100, 101, ..., rewards 1, 10, 100, ..."""
    rows = np.arange(steps + final, dtype=np.float32)
    return Episode(
        state=np.stack([rows, rows], 1),
        action=100 + np.arange(steps, dtype=np.float32)[:, None],
        reward=10 ** np.arange(steps, dtype=np.float32),
        **{"terminated": False, "truncated": not changes.get("terminated", False)} | changes,
    )


def through_a_store(folder: Path, episode: Episode, config: SamplingConfig, labels: LabelSet | None = None) -> Batch:
    """Between two others, through the whole way that data takes: episode, store, labels, transitions, batch."""
    store = Store.create(folder / "store", PLAIN)
    silent = make_episode(1, 3, columns=())
    store.append([silent, episode])
    store.append([silent])
    if labels is not None:
        store.write_labels(labels)
    snapshot = Store.open(store.path).snapshot()
    name = LOGGED if labels is None else labels.name
    return everything(Transitions.load(snapshot, snapshot.labels(name), config))


def test_a_time_limit_bootstraps(tmp_path: Path):
    batch = through_a_store(tmp_path, counted(3), SamplingConfig(discount=0.5))
    assert batch.mask.tolist() == [1, 1, 1]
    assert batch.state[:, 0].tolist() == [0, 1, 2] and batch.next_state[:, 0].tolist() == [1, 2, 3]
    assert batch.action[:, 0, 0].tolist() == [100, 101, 102]
    assert batch.reward.tolist() == [1, 10, 100], "the reward of a step is for the state after it"
    assert batch.discount.tolist() == [0.5, 0.5, 0.5]


def test_a_failure_does_not_bootstrap(tmp_path: Path):
    batch = through_a_store(tmp_path, counted(3, terminated=True), SamplingConfig(discount=0.5))
    assert batch.mask.tolist() == [1, 1, 0]
    assert batch.next_state[:, 0].tolist() == [1, 2, 3]
    assert batch.discount.tolist() == [0.5, 0.5, 0.5]


def test_a_failure_that_nobody_looked_at_does_not_bootstrap_either(tmp_path: Path):
    batch = through_a_store(tmp_path, counted(3, final=False, terminated=True), SamplingConfig())
    assert batch.mask.tolist() == [1, 1, 0]
    assert batch.next_state[:2, 0].tolist() == [1, 2]


def test_a_time_limit_without_a_last_look_ends_one_step_earlier(tmp_path: Path):
    batch = through_a_store(tmp_path, counted(3, final=False), SamplingConfig())
    assert batch.mask.tolist() == [1, 1]
    assert batch.next_state[:, 0].tolist() == [1, 2] and batch.reward.tolist() == [1, 10]


def test_a_label_that_ends_the_task_stops_the_bootstrap_where_the_log_went_on(tmp_path: Path):
    nan = np.nan
    labels = LabelSet(
        "success",
        {
            "reward": np.array([nan, nan, nan, 0, 1, 7, 7], np.float32),
            "terminated": np.array([nan, nan, nan, 0, 1, 0, 0], np.float32),
        },
        np.array([False, True]),
    )
    batch = through_a_store(tmp_path, counted(4), SamplingConfig(reward_scale=1, reward_bias=-1), labels)
    assert batch.mask.tolist() == [1, 0] and batch.reward.tolist() == [-1, 0]
    assert batch.next_state[:, 0].tolist() == [1, 2]


def test_a_label_may_say_that_a_logged_end_was_none(tmp_path: Path):
    values = {"reward": np.zeros(6, np.float32), "terminated": np.zeros(6, np.float32)}
    labels = LabelSet("endless", values, np.array([False, True]))
    assert through_a_store(tmp_path, counted(3, terminated=True), SamplingConfig(), labels).mask.tolist() == [1, 1, 1]


@pytest.mark.parametrize("terminated", [True, False])
def test_chunks_sum_discount_and_pad_to_the_end_of_an_episode(tmp_path: Path, terminated: bool):
    config = SamplingConfig(chunk=3, discount=0.5, reward_scale=2, reward_bias=-1)
    batch = through_a_store(tmp_path, counted(4, terminated=terminated), config)
    assert batch.action[:, :, 0].tolist() == [[100, 101, 102], [101, 102, 103], [102, 103, 103], [103, 103, 103]]
    assert batch.valid.tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0]]
    # Steps' rewards are 1, 19, 199, 1999.
    assert batch.reward.tolist() == [1 + 9.5 + 49.75, 19 + 99.5 + 499.75, 199 + 999.5, 1999]
    assert batch.discount.tolist() == [0.125, 0.125, 0.25, 0.5]
    assert batch.next_state[:, 0].tolist() == [3, 4, 4, 4]
    assert batch.mask.tolist() == ([1, 0, 0, 0] if terminated else [1, 1, 1, 1])


@pytest.mark.parametrize("final", [True, False])
def test_a_history_goes_back_to_the_beginning_of_its_episode(tmp_path: Path, final: bool):
    """Oldest first, and nothing of the episode before: states 0 to 4, two actions at a time."""
    config = SamplingConfig(chunk=2, history=3)
    batch = through_a_store(tmp_path, counted(4, final=final), config)
    seen = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    # Without a last look the last action leads nowhere that is known.
    assert batch.state[:, :, 0].tolist() == (seen[:4] if final else seen[:3])
    assert batch.next_state[:, :, 1].tolist() == ([*seen[2:], seen[4]] if final else [*seen[2:4], seen[3]])
    assert batch.state.shape == (4 if final else 3, 3, 2)


def test_a_history_begins_where_the_episode_does_and_not_where_a_person_took_over():
    transitions = Transitions(SamplingConfig(history=3), 2, 1)
    episode, taken = counted(4), np.array([False, False, True, False])
    assert episode.reward is not None
    for _ in range(2):
        transitions.add(episode.state, episode.action, episode.reward, np.zeros(4, bool), begin_at=taken)
    batch = everything(transitions)
    assert batch.state[:, :, 0].tolist() == [[0, 1, 2]] * 2 and batch.next_state[:, :, 0].tolist() == [[1, 2, 3]] * 2


def test_rewards_in_the_store_stay_raw(tmp_path: Path):
    store = Store.create(tmp_path / "store", PLAIN)
    store.append([counted(3)])
    snapshot = store.snapshot()
    for scale in (1.0, 3.0):
        Transitions.load(snapshot, snapshot.labels(LOGGED), SamplingConfig(reward_scale=scale, reward_bias=-1))
    assert store.snapshot().labels(LOGGED).values["reward"].tolist() == [1, 10, 100]


# What is refused, and what travels along


def test_a_covered_step_without_a_reward_is_refused_not_learned(tmp_path: Path):
    store = Store.create(tmp_path / "store", PLAIN)
    store.append([counted(3), counted(4)])
    reward = np.zeros(7, np.float32)
    reward[4] = np.nan
    store.write_labels(LabelSet("holes", {"reward": reward}, np.ones(2, bool)))
    with pytest.raises(InputError, match="label set 'holes' covers episode 1, and not all its steps have a reward"):
        Transitions.load(store.snapshot(), store.snapshot().labels("holes"), SamplingConfig())


def test_a_missing_reward_where_nothing_can_be_learned_is_no_matter(tmp_path: Path):
    """After the end of the task, and at a last step that nobody looked at."""
    store = Store.create(tmp_path / "store", PLAIN)
    store.append([counted(3, final=False), counted(3)])
    values = {
        "reward": np.array([0, 0, np.nan, 0, 1, np.nan], np.float32),
        "terminated": np.array([0, 0, 0, 0, 1, 0], np.float32),
    }
    store.write_labels(LabelSet("ends", values, np.ones(2, bool)))
    batch = everything(Transitions.load(store.snapshot(), store.snapshot().labels("ends"), SamplingConfig()))
    assert batch.reward.tolist() == [0, 0, 0, 1] and batch.mask.tolist() == [1, 1, 1, 0]


def test_what_is_not_covered_is_left_out_and_nothing_left_is_told(tmp_path: Path):
    store = Store.create(tmp_path / "store", PLAIN)
    store.append([make_episode(0, 4), make_episode(1, 6, columns=()), make_episode(2, 1, final=False)])
    snapshot = store.snapshot()
    assert len(Transitions.load(snapshot, snapshot.labels(LOGGED), SamplingConfig())) == 4
    labels = LabelSet("last", {"reward": np.zeros(11, np.float32)}, np.array([False, False, True]))
    with pytest.raises(InputError, match="label set 'last' leaves no transition to learn from"):
        Transitions.load(snapshot, labels, SamplingConfig())


def test_ends_of_the_task_are_the_log_s_where_labels_are_silent(snapshot: Snapshot):
    logged = np.concatenate([logged_end(e) for e in EVERY_KIND])
    np.testing.assert_array_equal(ends_of_task(snapshot, LabelSet("a", {}, np.ones(16, bool))), logged)
    silent = {"terminated": np.full(snapshot.steps, np.nan, np.float32)}
    np.testing.assert_array_equal(ends_of_task(snapshot, LabelSet("a", silent, np.ones(16, bool))), logged)


def test_features_follow_their_observations(snapshot: Snapshot):
    """The features are the row numbers, so that each shows which observation it is of."""
    rows = np.arange(snapshot.observations, dtype=np.float32)[:, None]
    labels = snapshot.labels(LOGGED)
    batch = everything(Transitions.load(snapshot, labels, SamplingConfig(chunk=2), rows))
    state = snapshot.column("state")
    assert batch.features is not None and batch.next_features is not None
    np.testing.assert_array_equal(state[batch.features[:, 0].numpy().astype(int)], batch.state)
    np.testing.assert_array_equal(state[batch.next_features[:, 0].numpy().astype(int)], batch.next_state)
    assert everything(Transitions.load(snapshot, labels, SamplingConfig())).features is None


def test_added_features_follow_their_observations():
    transitions = Transitions(SamplingConfig(), 2, 1, feature_size=1)
    for first, episode in ((0, counted(2)), (10, counted(3, final=False))):
        rows = first + np.arange(len(episode.state), dtype=np.float32)[:, None]
        transitions.add_episode(episode, rows)
    batch = everything(transitions)
    assert batch.features is not None and batch.next_features is not None
    assert batch.features[:, 0].tolist() == [0, 1, 10, 11] and batch.next_features[:, 0].tolist() == [1, 2, 11, 12]


def test_an_episode_added_while_learning_is_the_same_as_one_that_was_stored(tmp_path: Path):
    config = SamplingConfig(chunk=2)
    for number, episode in enumerate([counted(4), counted(3, terminated=True), counted(3, final=False)]):
        added = Transitions(config, 2, 1)
        added.add_episode(episode)
        stored = through_a_store(tmp_path / str(number), episode, config)
        for mine, other in zip(vars_of(everything(added)), vars_of(stored), strict=True):
            assert (mine is None and other is None) or torch.equal(mine, other)


def vars_of(batch: Batch) -> list[torch.Tensor | None]:
    return [getattr(batch, name) for name in Batch.__dataclass_fields__]


def test_an_episode_that_is_ragged_or_lacks_something_is_refused_and_nothing_of_it_stays():
    transitions = Transitions(SamplingConfig(), 2, 1, feature_size=1)
    whole, ends = counted(3), np.zeros(3, bool)
    features = np.zeros((4, 1), np.float32)
    transitions.add(whole.state, whole.action, whole.reward, ends, features)
    for wrong in (
        (whole.state[:2], whole.action, whole.reward, ends, features),
        (np.concatenate([whole.state, whole.state]), whole.action, whole.reward, ends, features),
        (whole.state, whole.action, whole.reward[:2], ends, features),
        (whole.state, whole.action, whole.reward, ends[:1], features),
    ):
        with pytest.raises(InputError, match="ragged episode"):
            transitions.add(*wrong)
    with pytest.raises(InputError, match="carry image features, and the episode has none"):
        transitions.add_episode(whole)
    with pytest.raises(InputError, match="no rewards"):
        transitions.add_episode(replace(whole, reward=None), features)
    transitions.add(whole.state, whole.action, whole.reward, ends, features)
    assert everything(transitions).state[:, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert everything(transitions).next_state[:, 0].tolist() == [1, 2, 3, 1, 2, 3]


def test_transitions_without_a_state_have_images_alone(tmp_path: Path):
    transitions = Transitions(SamplingConfig(), 0, 1, feature_size=2)
    episode = replace(counted(3), state=np.zeros((4, 0), np.float32))
    transitions.add_episode(episode, np.arange(8, dtype=np.float32).reshape(4, 2))
    batch = everything(transitions)
    assert batch.state.shape == (3, 0) and batch.features is not None
    assert batch.features.tolist() == [[0, 1], [2, 3], [4, 5]]


@given(st.lists(episodes(), min_size=1, max_size=3), configs)
def test_what_is_observed_is_every_start_and_every_stop_once(added, config: SamplingConfig):
    """For statistics: nothing of what came after the end of a task, or of what no transition shows."""
    transitions, rows = Transitions(config, 2, 1, feature_size=1), 0
    for state, action, reward, terminated in added:
        numbers = np.arange(rows, rows + len(state), dtype=np.float32)[:, None]
        transitions.add(state, action, reward, terminated, numbers)
        rows += len(state)
    batch = everything(transitions)
    state, features = transitions.observed()
    assert features is not None and batch.features is not None and batch.next_features is not None
    shown = set(batch.features[:, 0].tolist()) | set(batch.next_features[:, 0].tolist())
    assert sorted(features[:, 0].tolist()) == sorted(shown)
    every = np.concatenate([state for state, _, _, _ in added])
    np.testing.assert_array_equal(state.numpy(), every[features[:, 0].numpy().astype(int)])


def test_batches_are_joined_in_order():
    transitions = Transitions(SamplingConfig(chunk=2), 2, 1)
    transitions.add_episode(counted(4))
    parts = [transitions.batch(torch.tensor(rows)) for rows in ([3, 0], [1], [2, 2])]
    joined = concatenate(parts)
    assert joined.state[:, 0].tolist() == [3, 0, 1, 2, 2] and joined.features is None
    assert torch.equal(joined.action, torch.cat([part.action for part in parts]))


def test_actions_of_several_entries_stay_in_their_order():
    transitions = Transitions(SamplingConfig(chunk=2), 1, 3)
    episode = make_episode(
        0, 3, contract=replace(PLAIN, state=(StateEntry("x"),), action=tuple(ActionEntry(n) for n in "abc"))
    )
    transitions.add_episode(episode)
    assert everything(transitions).action.shape == (3, 2, 3)
    np.testing.assert_array_equal(everything(transitions).action[1], episode.action[1:3])


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        # 3; 2 + 3/2; 1 + 2/2 + 3/4.
        (True, [2.75, 3.5, 3.0]),
        # Cut off, it goes on with 3 for ever: 3 / (1 - 1/2) = 6; 2 + 6/2; 1 + 5/2.
        (False, [3.5, 5.0, 6.0]),
    ],
)
def test_a_return_counts_to_the_end_of_the_task_or_goes_on_as_it_was_cut_off(terminated, expected):
    transitions = Transitions(SamplingConfig(discount=0.5), 1, 1)
    ends = np.array([False, False, terminated])
    transitions.add(np.zeros((4, 1), np.float32), np.zeros((3, 1), np.float32), np.array([1.0, 2.0, 3.0]), ends)
    assert transitions.batch(torch.arange(3)).return_to_go.tolist() == pytest.approx(expected)


def test_a_failure_at_minus_one_per_step_is_worth_what_it_is_worth_for_ever():
    transitions = Transitions(SamplingConfig(discount=0.95, reward_bias=-1.0), 1, 1)
    nothing = np.zeros(4, bool)
    transitions.add(np.zeros((5, 1), np.float32), np.zeros((4, 1), np.float32), np.zeros(4), nothing)
    assert transitions.batch(torch.arange(4)).return_to_go.tolist() == pytest.approx([-20.0] * 4)


def test_to_fail_at_once_does_not_pay_where_every_step_costs_something():
    """-1 until a success at 0, discount 0.9: failing at the second step is worth as much as never getting there."""
    transitions = Transitions(SamplingConfig(discount=0.9, reward_bias=-1.0), 1, 1)
    for reward in ([0.0, 0.0], [0.0, 1.0]):
        observations = np.zeros((3, 1), np.float32)
        transitions.add(observations, np.zeros((2, 1), np.float32), np.array(reward), np.array([False, True]))
    batch = transitions.batch(torch.arange(4))
    assert batch.reward.tolist() == pytest.approx([-1.0, -10.0, -1.0, 0.0])
    assert batch.mask.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert batch.return_to_go.tolist() == pytest.approx([-10.0, -10.0, -1.0, 0.0])
    dense = Transitions(SamplingConfig(discount=0.9), 1, 1)
    dense.add(observations, np.zeros((2, 1), np.float32), np.array([0.0, -3.0]), np.array([False, True]))
    assert dense.batch(torch.arange(2)).reward.tolist() == [0.0, -3.0], "what an end costs, the task has said itself"


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_transition_costs_the_worst_that_its_actions_led_to(tmp_path: Path, chunk: int):
    """Whether it was added or loaded; rewards are scaled and summed, costs are neither."""
    episode, cost = counted(4), np.array([-1.0, 3.0, -0.5, 2.0], np.float32)
    expected = {1: cost, 2: [3.0, 3.0, 2.0, 2.0]}[chunk]
    config = SamplingConfig(chunk=chunk, discount=0.5, reward_scale=7.0, reward_bias=1.0)
    store = Store.create(tmp_path / "store", PLAIN)
    store.append([episode])
    labels = {"reward": np.zeros(4, np.float32), "cost": cost}
    store.write_labels(LabelSet("costs", labels, np.array([True])))
    loaded = Transitions.load(store.snapshot(), store.snapshot().labels("costs"), config)
    added = Transitions(config, 2, 1)
    assert episode.reward is not None
    added.add(episode.state, episode.action, episode.reward, np.zeros(4, bool), cost=cost)
    for transitions in (loaded, added):
        batch = transitions.batch(torch.arange(4))
        assert batch.cost is not None
        np.testing.assert_array_equal(batch.cost.numpy(), expected)


def test_without_costs_there_are_none_and_one_source_without_leaves_the_batch_without():
    config = SamplingConfig()
    plain, costed = Transitions(config, 2, 1), Transitions(config, 2, 1)
    episode = counted(3)
    assert episode.reward is not None
    plain.add_episode(episode)
    costed.add(episode.state, episode.action, episode.reward, np.zeros(3, bool), cost=np.ones(3, np.float32))
    rows = torch.arange(3)
    assert plain.batch(rows).cost is None
    assert concatenate([costed.batch(rows), plain.batch(rows)]).cost is None
    both = concatenate([costed.batch(rows), costed.batch(rows)]).cost
    assert both is not None and both.tolist() == [1.0] * 6
