"""What holds for every task: determinism, units, limits, ends, delay, gain and noise."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim.base import UnstableError
from sim.task import make_task

TASKS = ["lift-quick", "lift-back-quick", "pusht", "point-robot", "hopper", "door", "two-qualities", "linear-quadratic"]


def play(task, seed, actions):
    observation, _ = task.reset(seed=seed)
    states, rewards = [observation["state"]], []
    for action in actions:
        observation, reward, terminated, truncated, _ = task.step(action)
        states.append(observation["state"])
        rewards.append(reward)
        if terminated or truncated:
            break
    return np.array(states), np.array(rewards)


def random_actions(task, count, seed=0):
    space = task.action_space
    return np.random.default_rng(seed).uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("spec", TASKS)
def test_an_episode_is_a_function_of_seed_and_actions(spec):
    task, actions = make_task(spec), random_actions(make_task(spec), 15)
    first = play(task, 7, actions)
    play(task, 8, random_actions(task, 25, seed=1))
    np.random.seed(3)  # a global state that somebody left behind
    task.reset()
    again, fresh = play(task, 7, actions), play(make_task(spec), 7, actions)
    for other in (again, fresh):
        assert np.array_equal(first[0], other[0])
        assert np.array_equal(first[1], other[1])
    assert not np.array_equal(first[0][0], play(task, 8, actions)[0][0])


@pytest.mark.parametrize("spec", ["lift-quick", "door"])
def test_the_global_generator_is_left_alone(spec):
    task = make_task(spec)
    np.random.seed(11)
    expected = np.random.random(3)
    np.random.seed(11)
    make_task(spec)
    task.reset(seed=5)
    task.step(task.hold_action())
    assert np.array_equal(np.random.random(3), expected)


def test_without_a_seed_episodes_follow_from_the_last_seed(pusht):
    def drawn():
        pusht.reset(seed=3)
        return [pusht.reset()[1]["seed"] for _ in range(3)]

    assert drawn() == drawn()
    assert len(set(drawn())) == 3


@pytest.mark.parametrize("spec", ["pusht", "hopper", "two-qualities", "linear-quadratic"])
def test_gymnasium_finds_nothing_to_complain_about(spec):
    check_env(make_task(spec), skip_render_check=True)


@pytest.mark.parametrize("spec", TASKS)
def test_observations_lie_in_their_space(spec):
    task = make_task(spec)
    observation, _ = task.reset(seed=0)
    assert task.observation_space.contains(observation)
    assert observation["state"].shape == (len(task.contract.state),)
    assert observation["state"].dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused(pusht, bad):
    pusht.reset(seed=0)
    with pytest.raises(ValueError, match=r"got action .* expected finite"):
        pusht.step(np.array([bad, 1.0]))


def test_an_action_of_another_shape_is_refused(pusht):
    pusht.reset(seed=0)
    with pytest.raises(ValueError, match=r"got an action of shape \(3,\), expected \(2,\)"):
        pusht.step(np.zeros(3))


def test_an_action_beyond_the_limits_is_clipped(pusht):
    beyond, at = np.array([[9999.0, -50.0]]), np.array([[512.0, 0.0]])
    assert np.array_equal(play(pusht, 0, beyond)[0], play(pusht, 0, at)[0])


def test_the_time_limit_truncates_and_does_not_terminate():
    task = make_task("pusht:horizon=3")
    task.reset(seed=0)
    ends = [task.step(task.hold_action())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(RuntimeError, match="call reset"):
        task.step(task.hold_action())


def test_a_fall_terminates_and_is_no_success():
    task = make_task("hopper")
    task.reset(seed=0)
    terminated, truncated, info = False, False, {}
    for _ in range(200):
        _, _, terminated, truncated, info = task.step(np.ones(3))
        if terminated:
            break
    assert terminated
    assert not truncated
    assert info["success"] is False


def test_stepping_before_the_first_reset_is_refused(pusht):
    with pytest.raises(RuntimeError, match="call reset"):
        pusht.step(np.zeros(2))


def test_seeds_out_of_range_and_options_are_refused(pusht):
    with pytest.raises(ValueError, match="seed"):
        pusht.reset(seed=-1)
    with pytest.raises(ValueError, match="option"):
        pusht.reset(seed=0, options={"goal": 1})


@pytest.mark.parametrize("spec", ["hopper", "lift-quick", "pusht"])
@pytest.mark.parametrize("delay", [1, 3])
def test_delay_is_late_by_exactly_so_many_steps(spec, delay):
    plain, late = make_task(spec), make_task(spec, gap=f"delay_steps={delay}")
    actions = random_actions(plain, 8)
    plain.reset(seed=4)
    held = np.array([plain.hold_action()] * delay)
    expected, _ = play(plain, 4, [*held, *actions[:-delay]])
    got, _ = play(late, 4, actions)
    assert np.array_equal(got, expected)
    assert not np.array_equal(got, play(plain, 4, actions)[0])


def test_waiting_actions_do_not_survive_a_reset():
    task = make_task("hopper", gap="delay_steps=2")
    actions = random_actions(task, 6)
    first = play(task, 1, actions)[0]
    play(task, 2, random_actions(task, 5, seed=9))
    assert np.array_equal(play(task, 1, actions)[0], first)


def test_gain_is_a_factor_on_deltas_and_torques():
    plain, weak = make_task("hopper"), make_task("hopper", gap="gain=0.5")
    actions = random_actions(plain, 6)
    assert np.array_equal(play(weak, 0, actions)[0], play(plain, 0, actions * np.float32(0.5))[0])


def test_gain_on_an_absolute_target_is_a_factor_on_its_distance():
    plain, weak = make_task("pusht"), make_task("pusht", gap="gain=0.25")
    start = plain.reset(seed=0)[0]["state"][:2]
    target = np.array([400.0, 100.0], np.float32)
    nearer = start + 0.25 * (target - start)
    np.testing.assert_allclose(play(weak, 0, [target])[0], play(plain, 0, [nearer])[0], atol=1e-4)


def test_gain_keeps_the_limits():
    strong = make_task("hopper", gap="gain=3")
    plain = make_task("hopper")
    assert np.array_equal(play(strong, 0, [np.ones(3)])[0], play(plain, 0, [np.ones(3)])[0])


def test_noise_is_seeded_has_its_size_and_leaves_the_truth_alone():
    noisy, plain = make_task("pusht", gap="obs_noise=2"), make_task("pusht")
    actions = random_actions(plain, 100)
    seen, rewards = play(noisy, 6, actions)
    truth, expected_rewards = play(plain, 6, actions)
    assert np.array_equal(seen, play(noisy, 6, actions)[0])
    assert np.array_equal(rewards, expected_rewards)
    difference = seen - truth
    assert difference.std() == pytest.approx(2, rel=0.15)
    assert abs(difference.mean()) < 0.4
    other_seed = play(noisy, 7, actions[:1])[0] - play(plain, 7, actions[:1])[0]
    assert not np.allclose(other_seed[0], difference[0])


def test_a_task_that_cannot_score_says_so():
    task = make_task("hopper")
    assert not task.scores_states
    with pytest.raises(ValueError, match="scores_states"):
        task.score(np.zeros((1, 11)))


def test_states_of_another_width_are_not_scored(pusht):
    with pytest.raises(ValueError, match=r"\(N, 5\)"):
        pusht.score(np.zeros((4, 6)))


@pytest.mark.parametrize("spec", ["halfcheetah", "hopper", "walker2d", "pusht", "linear-quadratic"])
def test_an_episode_that_begins_in_a_given_state_goes_on_from_there(spec):
    task, actions = make_task(spec), random_actions(make_task(spec), 4)
    state = play(task, 7, actions)[0][-1]
    observation, info = task.reset(seed=9, options={"state": state})
    np.testing.assert_allclose(observation["state"], state, atol=1e-5)
    assert info["seed"] == 9
    first = task.step(actions[0])[0]["state"]
    again, _ = task.reset(seed=9, options={"state": state})
    assert np.array_equal(again["state"], observation["state"])
    assert np.array_equal(task.step(actions[0])[0]["state"], first)
    plain, _ = task.reset(seed=9)
    assert not np.allclose(plain["state"], state, atol=1e-3)


def test_the_cheetah_goes_on_as_if_it_had_never_been_put_anywhere():
    task, actions = make_task("halfcheetah"), random_actions(make_task("halfcheetah"), 12)
    states, rewards = play(task, 7, actions)
    task.reset(seed=1, options={"state": states[5]})
    for action, state, reward in zip(actions[5:8], states[6:9], rewards[5:8], strict=True):
        found, earned, *_ = task.step(action)
        np.testing.assert_allclose(found["state"], state, atol=2e-3)
        assert earned == pytest.approx(reward, abs=2e-3)


def test_a_state_that_is_no_state_and_a_task_that_can_begin_in_none_are_refused():
    two_qualities, cheetah = make_task("two-qualities"), make_task("halfcheetah")
    for state in (np.zeros(3), np.full(17, np.nan)):
        with pytest.raises(ValueError, match="expected 17 finite values"):
            cheetah.reset(seed=0, options={"state": state})
    with pytest.raises(ValueError, match="takes only the reset option 'state', got"):
        cheetah.reset(seed=0, options={"place": 1})
    with pytest.raises(ValueError, match="takes no reset options"):
        two_qualities.reset(seed=0, options={"state": np.zeros(1)})
    with pytest.raises(ValueError, match="starts_anywhere is false"):
        two_qualities.set_state(np.zeros(1))


@pytest.mark.parametrize("what", ["state", "reward"])
def test_a_number_that_is_not_finite_ends_the_episode_with_an_error(what, monkeypatch):
    task = make_task("linear-quadratic")
    task.reset(seed=0)
    if what == "reward":
        monkeypatch.setattr(task, "_advance", lambda action: (np.nan, False, False, {}))
    else:
        task._x[:] = np.nan
    with pytest.raises(UnstableError, match="linear-quadratic: the simulation became unstable"):
        task.step(np.zeros(1))
    with pytest.raises(RuntimeError, match="call reset"):
        task.step(np.zeros(1))
    task.reset(seed=0)


@pytest.mark.parametrize("spec", ["lift-quick", "pusht", "point-robot", "hopper"])
def test_an_episode_can_go_on_where_the_last_one_has_come_to(spec):
    """As one that was never interrupted, but for the count of its steps."""
    actions = random_actions(make_task(spec), 8)
    whole, parted = make_task(spec), make_task(spec)
    expected, _ = play(whole, 4, actions)
    states, _ = play(parted, 4, actions[:5])
    begun = parted.go_on()["state"]
    assert np.array_equal(begun, states[-1])
    rest = [parted.step(action)[0]["state"] for action in actions[5:]]
    assert np.array_equal(np.array(rest), expected[6:])


def test_nothing_goes_on_that_never_began():
    with pytest.raises(RuntimeError, match="no episode to go on from; call reset first"):
        make_task("point-robot").go_on()


def test_an_episode_that_goes_on_has_all_its_steps(pusht):
    pusht.reset(seed=0)
    action = pusht.action_space.low
    for _ in range(2):
        ends = [any(pusht.step(action)[2:4]) for _ in range(pusht.horizon)]
        assert ends == [False] * (pusht.horizon - 1) + [True]
        pusht.go_on()
