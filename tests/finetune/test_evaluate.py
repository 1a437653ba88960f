"""Evaluation: fixed seeds, and the numbers that scripts rely on."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from episodes.constraints import Constraints, Limit
from episodes.contract import Camera, Contract
from episodes.episode import Source
from episodes.errors import InputError
from finetune.evaluate import FIRST_SEED, Evaluation, check_fits, evaluate
from sim.operators import RandomOperator


class Rightwards:
    """Goes right at a given stride."""

    source = Source.SCRIPTED

    def __init__(self, stride: float):
        self.stride = stride

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.array([self.stride, 0.0], np.float32)


def test_seeds_are_fixed_beforehand_and_the_same_for_everyone(walk):
    seeds = []
    for operator in (Rightwards(1.0), Rightwards(0.2)):
        task = walk()
        evaluate(task, operator, 4)
        seeds.append(task.seeds)
    assert seeds == [[1_000_000, 1_000_001, 1_000_002, 1_000_003]] * 2
    task = walk()
    result = evaluate(task, Rightwards(1.0), 2, seed=77)
    assert task.seeds == [77, 78] and result.summary()["seed"] == 77


def test_the_same_operator_gets_the_same_numbers(walk):
    task = walk()
    first = evaluate(task, RandomOperator(task), 6).summary()
    evaluate(task, Rightwards(1.0), 3)
    assert evaluate(task, RandomOperator(task), 6).summary() == first


def test_outcomes_are_what_happened(walk):
    """From x0, with steps of 0.4, x = 1 is reached at step ceil((1 - x0) / 0.4): never within 3 where x0 < -0.2."""
    task = walk(horizon=3)
    result = evaluate(task, Rightwards(1.0), 12)
    starts = np.array([np.random.default_rng(FIRST_SEED + n).uniform(-0.5, 0.5, 2)[0] for n in range(12)])
    needed = np.ceil((1 - starts) / 0.4)
    assert 0 < (needed <= 3).sum() < 12, "a mixture, or this shows nothing"
    np.testing.assert_array_equal(result.success, needed <= 3)
    np.testing.assert_array_equal(result.returns, needed <= 3)
    np.testing.assert_array_equal(result.best_reward, needed <= 3)
    np.testing.assert_array_equal(result.lengths, np.minimum(needed, 3))


def test_a_task_that_cannot_succeed_has_no_success_rate(walk):
    task = walk()
    task.has_success = False
    summary = evaluate(task, Rightwards(1.0), 3).summary()
    assert summary["success_rate"] is summary["success_interval"] is summary["per_episode"]["success"] is None
    assert summary["return_mean"] == 1.0
    json.dumps(summary, allow_nan=False)


class ThereAndBack(Rightwards):
    """Four strides to the right, then to the left."""

    def reset(self, seed: int) -> None:
        self.steps = 0

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self.steps += 1
        return np.array([1.0 if self.steps <= 4 else -1.0, 0.0], np.float32)


def test_an_episode_that_was_ever_a_success_is_one(walk):
    """Where success does not end the task, and is over before the end."""
    task = walk(horizon=9)
    task.terminates_on_success = False
    result = evaluate(task, ThereAndBack(1.0), 5)
    assert result.success.tolist() == result.best_reward.tolist() == [1.0] * 5
    assert result.lengths.tolist() == [9.0] * 5
    assert (result.returns >= 1).all() and (result.returns <= 5).all()


def test_the_summary_has_the_keys_that_scripts_rely_on():
    success = np.array([1.0, 0.0, 1.0, 1.0])
    returns, best, lengths = np.array([2.0, -1.0, 4.0, 3.0]), np.array([1.0, 0.2, 1.0, 1.0]), np.array([4.0, 8, 3, 5])
    summary = Evaluation("walk", 5, success, returns, best, lengths).summary()
    required = {"episodes", "success_rate", "success_interval", "return_mean", "return_interval", "length_mean", "seed"}
    assert required <= set(summary)
    assert (summary["episodes"], summary["seed"], summary["task"]) == (4, 5, "walk")
    assert (summary["success_rate"], summary["return_mean"], summary["length_mean"]) == (0.75, 2.0, 5.0)
    exact = stats.binomtest(3, 4).proportion_ci(method="exact")
    assert summary["success_interval"] == pytest.approx([exact.low, exact.high])
    low, high = summary["return_interval"]
    assert -1 <= low < 2.0 < high <= 4
    assert summary["per_episode"] == {
        "success": success.tolist(),
        "return": returns.tolist(),
        "best_reward": best.tolist(),
        "length": lengths.tolist(),
        "violations": None,
    }


def test_violations_are_steps_per_episode_and_the_share_of_episodes_that_have_any(walk):
    """To the right of x = 0.5 is out of bounds: strides of 0.4 from x0 lead there, and 1 is reached once more later."""
    task = walk()
    task.constraints = Constraints(limits={"wall": Limit("x", high=0.5)})
    result = evaluate(task, Rightwards(1.0), 6)
    starts = np.array([np.random.default_rng(FIRST_SEED + n).uniform(-0.5, 0.5, 2)[0] for n in range(6)])
    beyond = [
        sum(start + 0.4 * step > 0.5 for step in range(1, int(n) + 1))
        for start, n in zip(starts, result.lengths, strict=True)
    ]
    assert result.violations is not None and result.violations.tolist() == beyond
    summary = result.summary()
    assert (summary["violated_rate"], summary["violation_mean"]) == (1.0, pytest.approx(np.mean(beyond)))
    exact = stats.binomtest(6, 6).proportion_ci(method="exact")
    assert summary["violated_interval"] == pytest.approx([exact.low, exact.high])
    assert evaluate(task, Rightwards(-1.0), 6).summary()["violated_rate"] == 0.0
    assert evaluate(walk(), Rightwards(1.0), 2).summary()["violated_rate"] is None


def test_the_first_episodes_can_be_watched(walk):
    """As many pictures as observations."""
    watched = {}
    result = evaluate(walk(), Rightwards(1.0), 3, videos=2, on_video=watched.__setitem__)
    assert [len(frames) for frames in watched.values()] == (result.lengths[:2] + 1).tolist()
    assert list(watched) == [0, 1]
    assert watched[0][0].shape == (256, 256, 3) and watched[0][0].dtype == np.uint8
    assert not np.array_equal(watched[0][0], watched[0][-1])


def test_watching_changes_nothing(walk):
    task = walk()
    plain = evaluate(task, RandomOperator(task), 3).summary()
    assert evaluate(task, RandomOperator(task), 3, videos=3, on_video=lambda *_: None).summary() == plain


@pytest.mark.parametrize(("seed", "episodes"), [(-1, 1), (2**32, 1), (2**32 - 2, 3)])
def test_seeds_that_no_task_takes_are_refused(seed, episodes, walk):
    with pytest.raises(InputError, match=f"seed {seed}"):
        evaluate(walk(), Rightwards(1.0), episodes, seed=seed)
    assert evaluate(walk(), Rightwards(1.0), 1, seed=2**32 - 1).lengths.shape == (1,)


def test_a_policy_fits_only_what_it_was_trained_on(walk):
    task = walk(cameras=("eye",))
    check_fits(task.contract, None, task)
    check_fits(task.contract, "eye", task)
    contract = task.contract
    other_state = Contract("other", contract.state[::-1], contract.action, contract.cameras)
    other_action = Contract("other", contract.state, contract.action[:1], contract.cameras)
    larger = Contract("other", contract.state, contract.action, (Camera("eye", 8, 6),))
    for trained, message in ((other_state, "its state entries"), (other_action, "its action entries")):
        with pytest.raises(InputError, match=message):
            check_fits(trained, None, task)
    for there in (walk(), walk(cameras=("eye",))):
        with pytest.raises(InputError, match="sees camera 'eye' at 8x6"):
            check_fits(larger, "eye", there)
    check_fits(larger, None, walk())
    with pytest.raises(InputError, match="runs at 10 Hz, and the policy was trained at 20 Hz"):
        check_fits(replace(contract, rate=20.0), None, task)
    check_fits(replace(contract, rate=None), None, task)
