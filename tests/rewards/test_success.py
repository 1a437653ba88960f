"""The success classifier: a threshold lets no more through than was named, and no head judges what it learned from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from episodes.errors import InputError
from rewards import success
from rewards.success import (
    SuccessClassifier,
    SuccessConfig,
    SuccessFit,
    careful_threshold,
    debounced,
    threshold_for,
    train_success,
)

QUICK = SuccessConfig(hidden=8, updates=40, batch_size=32, weight_decay=0.1)

PROBABILITIES = st.lists(st.floats(0, 1), max_size=60).map(np.array)
RATES = st.floats(0.001, 0.499)


@given(PROBABILITIES, RATES)
def test_the_threshold_lets_at_most_the_named_share_of_negatives_through(negatives: np.ndarray, rate: float):
    threshold = threshold_for(negatives, rate)
    assert threshold >= 0.5
    assert (negatives >= threshold).sum() <= rate * len(negatives)


@given(PROBABILITIES, RATES)
def test_no_smaller_threshold_would_do(negatives: np.ndarray, rate: float):
    threshold = threshold_for(negatives, rate)
    below = np.nextafter(threshold, 0)
    assert threshold == 0.5 or (negatives >= below).sum() > rate * len(negatives) - 1e-9


@pytest.mark.parametrize(
    ("negatives", "rate", "passing"),
    [
        ([0.1, 0.2, 0.3], 0.4, []),
        ([0.6, 0.7, 0.8, 0.9], 0.25, [0.9]),
        ([0.6, 0.7, 0.8, 0.9], 0.24, []),
        ([0.9, 0.9, 0.9, 0.6], 0.25, []),
        ([1.0, 1.0], 0.01, []),
        ([], 0.01, []),
    ],
)
def test_thresholds_by_hand(negatives: list[float], rate: float, passing: list[float]):
    threshold = threshold_for(np.array(negatives), rate)
    assert [value for value in negatives if value >= threshold] == passing


@pytest.mark.parametrize(
    ("hold", "expected"),
    [(1, [1, 1, 0, 1, 1, 1, 0, 1]), (2, [0, 1, 0, 0, 0, 1, 0, 0]), (3, [0, 0, 0, 0, 0, 0, 0, 0])],
)
def test_a_success_has_to_last_and_an_episode_begins_anew(hold: int, expected: list[int]):
    passed = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
    assert debounced(passed, np.array([0, 4]), hold).astype(int).tolist() == expected


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=4), st.integers(1, 5))
def test_what_counts_is_that_all_of_the_last_frames_passed(episodes: list[list[bool]], hold: int):
    expected = [
        place + 1 >= hold and all(episode[place + 1 - hold : place + 1])
        for episode in episodes
        for place in range(len(episode))
    ]
    starts = np.cumsum([0, *map(len, episodes)])[:-1]
    assert debounced(np.concatenate(episodes), starts, hold).tolist() == expected


def marked(
    seed: int, successes: int = 12, failures: int = 12, frames: int = 20, apart: float = 3.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, done and episode: done frames are further along one direction, and overlap with the others."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(successes + failures), frames)
    place = np.tile(np.arange(frames), successes + failures)
    done = (episode < successes) & (place >= frames * 3 // 5)
    features = rng.normal(size=(len(done), 8)).astype(np.float32)
    features += rng.normal(scale=0.5, size=(successes + failures, 8))[episode].astype(np.float32)
    features[:, 0] += apart * done
    return features, done, episode


def train(
    seed: int = 0, config: SuccessConfig = QUICK, text: np.ndarray | None = None, **options
) -> tuple[SuccessClassifier, SuccessFit]:
    features, done, episode = marked(seed, **options)
    none = np.zeros((0, *features.shape), np.float32)
    return train_success(features, none, np.arange(len(done)), done, episode, text, config)


def test_no_head_learns_from_a_part_of_an_episode_that_it_judges(monkeypatch: pytest.MonkeyPatch):
    features, done, episode = marked(0, 7, 5, 10)
    features[:, 7] = episode
    learned: list[set[int]] = []
    real = success._train_head

    def noted(classifier, number, inputs, labels, config) -> None:
        assert (inputs.shape[0], inputs.shape[1]) == (1, len(labels))
        found, often = np.unique(inputs[0, :, 7].numpy().astype(int), return_counts=True)
        assert (often == 10).all(), "whole episodes"
        np.testing.assert_array_equal(labels.numpy() > 0, done[np.isin(episode, found)])
        learned.append(set(found.tolist()))
        real(classifier, number, inputs, labels, config)

    monkeypatch.setattr(success, "_train_head", noted)
    none = np.zeros((0, *features.shape), np.float32)
    config = replace(QUICK, folds=4, updates=1)
    classifier, fit = train_success(features, none, np.arange(len(done)), done, episode, None, config)
    left_out = [set(range(12)) - part for part in learned]
    assert len(learned) == 4
    assert sorted(number for part in left_out for number in part) == list(range(12)), "each is judged by one head"
    assert all(part & set(range(7)) and part & set(range(7, 12)) for part in left_out), "of both kinds"
    # And it is that head which judged it.
    logits = np.zeros(len(done))
    for head, part in enumerate(left_out):
        rows = np.isin(episode, list(part))
        with torch.no_grad():
            logits[rows] = classifier.logit(head, torch.from_numpy(features[rows])).numpy()
    np.testing.assert_allclose(fit.probability, expit(logits / fit.temperature), rtol=1e-4)


def balanced_loss(probability: np.ndarray, done: np.ndarray) -> float:
    return float(-np.log(probability[done]).mean() - np.log(1 - probability[~done]).mean()) / 2


@pytest.mark.parametrize("seed", [0, 1])
def test_the_temperature_makes_the_held_out_answers_likeliest(seed: int):
    # Learned by heart, and so too sure of itself.
    config = replace(QUICK, updates=300, weight_decay=0.0, dropout=0.0, hidden=64)
    _, fit = train(seed, config, successes=4, failures=4, apart=1.5)
    logits = fit.temperature * logit(fit.probability)
    assert fit.temperature > 1.2
    found = balanced_loss(fit.probability, fit.done)
    assert found < balanced_loss(expit(logits), fit.done)
    for factor in (0.7, 0.95, 1.05, 1.4):
        assert found <= balanced_loss(expit(logits / (factor * fit.temperature)), fit.done) + 1e-9


def test_of_all_that_nobody_marked_at_most_a_hundredth_is_called_a_success_wrongly():
    config = SuccessConfig(updates=150, augmentations=0)
    classifier, fit = train(0, config, successes=30, failures=30)
    assert fit.false_positive_rate <= 0.01
    features, done, episode = marked(1, 60, 60)
    passed = classifier.probability(features) >= float(classifier.threshold)
    said = debounced(passed, np.flatnonzero(np.diff(episode, prepend=-1)), config.hold)
    assert said[~done].mean() <= 0.01
    found = np.array([said[episode == number].any() for number in range(60)])
    assert found.mean() >= 0.7, "and most successes are seen all the same"


@pytest.mark.parametrize("seed", range(3))
def test_the_classifier_is_as_strict_as_what_was_found(seed: int):
    """The threshold stands directly above a negative that must not pass: rounded down, it would."""
    classifier, fit = train(seed, apart=1.0)
    assert float(classifier.threshold) >= fit.threshold
    assert fit.threshold in np.nextafter(fit.probability[~fit.done], np.float32(2)) or fit.threshold == 0.5
    assert fit.threshold >= threshold_for(fit.probability[~fit.done], QUICK.false_positives)
    assert float(classifier.temperature) == pytest.approx(fit.temperature)


def test_episodes_that_are_all_alike_leave_nothing_to_luck():
    values = np.linspace(0.5, 0.9, 41)
    probability, done = np.tile(values, 6), np.zeros(246, bool)
    episode = np.repeat(np.arange(6), 41)
    config = SuccessConfig(false_positives=0.1)
    assert careful_threshold(probability, done, episode, config) == threshold_for(values, 0.1)


def test_one_odd_episode_among_ten_makes_the_threshold_careful():
    """Its 10 high frames are a tenth of all and may pass; were it marked twice, they would be a fifth, and may not."""
    probability = np.concatenate([np.full(90, 0.6), np.full(10, 0.8)])
    done, episode = np.zeros(100, bool), np.repeat(np.arange(10), 10)
    config = SuccessConfig(false_positives=0.1)
    assert threshold_for(probability, 0.1) == np.nextafter(0.6, 2)
    # It is drawn twice or more with probability 0.26: in more than a tenth of the draws, and in less than half of them.
    assert careful_threshold(probability, done, episode, config) == np.nextafter(0.8, 2)
    assert careful_threshold(probability, done, episode, replace(config, confidence=0.5)) == np.nextafter(0.6, 2)


def test_frames_that_are_done_have_no_say_in_the_threshold():
    probability = np.concatenate([np.linspace(0.5, 0.7, 50), np.full(50, 0.99)])
    done, episode = np.arange(100) >= 50, np.repeat(np.arange(10), 10)
    without = careful_threshold(probability[:50], done[:50], episode[:50], SuccessConfig())
    assert careful_threshold(probability, done, np.minimum(episode, 4), SuccessConfig()) == without


def test_false_and_missed_are_shares_of_what_is_not_done_and_what_is():
    done = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1], bool)
    probability = np.array([0.1, 0.2, 0.7, 0.3, 0.7, 0.9, 0.5, 0.8, 0.6])
    fit = SuccessFit(np.arange(9), done, probability, threshold=0.7, temperature=1.0)
    assert fit.false_positive_rate == pytest.approx(1 / 4)
    assert fit.miss_rate == pytest.approx(2 / 5)


def test_a_probability_is_the_mean_of_what_the_heads_say():
    classifier, _ = train(0)
    features = marked(5)[0][:9]
    with torch.no_grad():
        logits = [classifier.logit(head, torch.from_numpy(features)).numpy() for head in range(QUICK.folds)]
    expected = np.mean([expit(each / float(classifier.temperature)) for each in logits], axis=0)
    np.testing.assert_allclose(classifier.probability(features), expected, rtol=1e-5)
    assert np.std(logits, axis=0).min() > 0
    np.testing.assert_array_equal(
        classifier.train().probability(features), classifier.probability(features), "dropout is off"
    )


def test_few_frames_of_success_weigh_as_much_as_many_without():
    """With nothing to tell them apart by, both answers are as likely, though one frame in twenty is done."""
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(20), 20)
    done = (episode < 10) & (np.tile(np.arange(20), 20) >= 18)
    features = np.ones((400, 4), np.float32) + rng.normal(scale=1e-6, size=(400, 4)).astype(np.float32)
    none = np.zeros((0, *features.shape), np.float32)
    config = replace(QUICK, updates=100, batch_size=256)
    _, fit = train_success(features, none, np.arange(400), done, episode, None, config)
    np.testing.assert_allclose(fit.probability, 0.5, atol=0.1)


def test_altered_copies_are_learned_from_and_not_judged():
    """What only the copies show is learned: here they tell success by a number that the frames themselves lack."""
    features, done, episode = marked(0, apart=0.0)
    features[:, 0] = 0.0
    copies = np.repeat(features[None], 3, axis=0)
    copies[:, :, 0] = np.where(done, 2.0, -2.0)
    config = replace(QUICK, hidden=32, updates=200)
    classifier, fit = train_success(features, copies, np.arange(len(done)), done, episode, None, config)
    assert len(fit.probability) == len(done)
    # What it makes of them is seen before the temperature, which is of frames that show nothing.
    with torch.no_grad():
        logits = classifier.logit(0, torch.from_numpy(copies[0])).numpy()
    assert ((logits > 0) == done).mean() > 0.95


def test_the_text_s_share_of_each_feature_is_what_a_cosine_is_the_sum_of():
    rng = np.random.default_rng(0)
    text = rng.normal(size=4).astype(np.float32)
    text /= np.linalg.norm(text)
    features = rng.normal(size=(3, 8)).astype(np.float32)  # of two cameras
    classifier = SuccessClassifier(8, text, QUICK)
    seen: list[np.ndarray] = []
    classifier.heads[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
    classifier.mean.fill_(0.5)
    classifier.std.fill_(2.0)
    with torch.no_grad():
        classifier.logit(0, torch.from_numpy(features))
    (joined,) = seen
    np.testing.assert_allclose(joined[:, :8], (features - 0.5) / 2, rtol=1e-6)
    for camera in (slice(0, 4), slice(4, 8)):
        one = features[:, camera]
        cosine = one @ text / np.linalg.norm(one, axis=1)
        np.testing.assert_allclose(joined[:, 8:][:, camera].sum(1) / 4, cosine, rtol=1e-5)
    _, fit = train(0, text=text)
    assert np.isfinite(fit.probability).all()


def test_a_seed_gives_the_same_classifier_and_nobody_else_s_chance_is_touched():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    one, other, third = train(0), train(0), train(0, replace(QUICK, seed=1))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state(legacy=False)["state"]["key"])
    np.testing.assert_array_equal(one[1].probability, other[1].probability)
    for name, value in one[0].state_dict().items():
        assert torch.equal(value, other[0].state_dict()[name]), name
    assert (one[1].probability != third[1].probability).any()


@pytest.mark.parametrize(("successes", "failures"), [(0, 3), (1, 5), (5, 0)])
def test_too_few_marks_are_told_with_how_many_it_takes(successes: int, failures: int):
    with pytest.raises(
        InputError, match=f"at least 2 successes and 1 failure, got {successes} and {failures}"
    ) as caught:
        train(successes=successes, failures=failures)
    assert "\n" not in str(caught.value)


def test_the_fewest_marks_there_can_be_make_a_classifier():
    classifier, fit = train(successes=2, failures=1, apart=20.0)
    assert fit.false_positive_rate <= 0.01
    assert np.isfinite(classifier.probability(marked(1)[0])).all()


@settings(max_examples=10)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(2, 7))
def test_every_marked_frame_is_judged_however_few_episodes_there_are(successes: int, failures: int, folds: int):
    config = replace(QUICK, updates=2, folds=folds)
    _, fit = train(0, config, successes=successes, failures=failures, frames=5)
    assert ((fit.probability > 0) & (fit.probability < 1)).all()
    assert len(fit.probability) == 5 * (successes + failures)
