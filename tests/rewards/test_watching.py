"""The success classifier frame by frame: as it labels whole episodes, but for what passes from the start."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from episodes.encoders import Encoder
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.store import Store
from rewards.label import label
from rewards.labeller import EpisodeLabeller, Labeller
from rewards.watching import Seen, SuccessWatch
from tests.rewards.labelling import FAST, MARKS, colours, configured, way, ways

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """Stands in for whatever encoder is asked for."""
    encoder = colours()
    for module in ("rewards.sight", "rewards.labeller"):
        monkeypatch.setattr(f"{module}.load_encoder", lambda name, device, fast: encoder)
    return encoder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ways(tmp_path_factory.mktemp("watching") / "store")


@pytest.fixture
def labeller_of(store: Store) -> Callable[[str], Labeller]:
    def of(name: str) -> Labeller:
        if name not in store.snapshot().label_names:
            settings, marks = {"marked": (["method=success"], MARKS), "preferred": (["reward.inputs=state"], None)}[
                name
            ]
            label(store, name, configured(*settings, config=FAST, marked=marks is not None), marks=marks)
        return Labeller.load(store.path / str(store.snapshot().labels(name).provenance["labeller"]))

    return of


def seen_of(watch: SuccessWatch, episode: Episode) -> list[Seen]:
    watch.begin()
    rows = range(len(episode.state))
    return [watch.see({name: episode.images[name][row] for name in watch.cameras}) for row in rows]


def test_it_says_of_every_frame_what_the_labels_say_of_the_step_to_it(labeller_of) -> None:
    labeller = labeller_of("marked")
    watch, whole = SuccessWatch(labeller, CPU), EpisodeLabeller(labeller, CPU)
    ends = set()
    for number in range(30):
        episode = way(number)
        seen, labels = seen_of(watch, episode), whole(episode)
        probabilities = np.array([each.probability for each in seen[1:]])
        np.testing.assert_allclose(probabilities, labels["success_probability"][: len(probabilities)], atol=1e-5)
        done = labels["success"] > 0
        first = int(np.argmax(done)) if done.any() else -1
        assert [each.success for each in seen[1 : len(done) + 1]] == [
            first >= 0 and k >= first for k in range(len(done))
        ]
        ends.add(first >= 0)
    assert ends == {True, False}, "or only one kind was tried"


def test_what_passes_from_the_first_frame_on_is_no_success(labeller_of) -> None:
    labeller = labeller_of("marked")
    labeller.classifier.threshold.fill_(0.0)
    seen = seen_of(SuccessWatch(labeller, CPU), way(0))
    assert [each.from_start for each in seen] == [True] * len(seen)
    assert not any(each.success for each in seen)


def test_after_a_frame_that_does_not_pass_it_may_be_one(labeller_of, monkeypatch: pytest.MonkeyPatch) -> None:
    labeller = labeller_of("marked")
    said = iter([0.9, 0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    labeller.classifier.threshold.fill_(0.5)
    monkeypatch.setattr(labeller.classifier, "probability", lambda features: np.array([next(said)]))
    seen = seen_of(SuccessWatch(labeller, CPU), way(0))
    assert [each.success for each in seen] == [False, False, False, *[True] * 7]
    assert [each.from_start for each in seen] == [True, *[False] * 9]


def test_an_episode_begins_anew(labeller_of) -> None:
    watch = SuccessWatch(labeller_of("marked"), CPU)
    first = [seen_of(watch, way(number)) for number in (3, 4)]
    assert [seen_of(watch, way(number)) for number in (4, 3)] == first[::-1]


def test_without_a_classifier_there_is_nothing_to_watch_with(labeller_of) -> None:
    with pytest.raises(InputError, match="without a success classifier; mark episodes and label again"):
        SuccessWatch(labeller_of("preferred"), CPU)


def test_another_encoder_than_it_was_trained_with_is_refused(labeller_of, monkeypatch: pytest.MonkeyPatch) -> None:
    labeller = labeller_of("marked")
    monkeypatch.setattr("rewards.labeller.load_encoder", lambda *_, **__: replace(colours(), weights="0ther"))
    with pytest.raises(InputError, match="has weights 0ther"):
        SuccessWatch(labeller, CPU)
