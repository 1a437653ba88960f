"""A success classifier in the manner of RoboFuME (Yang et al., 2024): is the task done in this frame?

Frozen features of a picture, the task's text where the encoder has one, and a small head, trained from a handful of
successes and failures. A false success poisons what is learned from it and a missed one only slows it, so the threshold
is put where at most a named share of frames that show no success would pass, as far as the marked episodes can tell.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from episodes.errors import InputError
from episodes.typed import STRICT

DRAWS = 200
"""Of the marked episodes, to see how far a threshold depends on which they are."""


@dataclass(frozen=True, slots=True)
class SuccessConfig:
    """How the classifier is trained and used."""

    __pydantic_config__ = STRICT

    false_positives: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Share of frames without success that may pass the threshold ..."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    """... with this probability, were other episodes of the same kind marked instead."""
    hold: Annotated[int, Field(gt=0)] = 2
    """Frames in a row that have to pass before it is a success."""
    folds: Annotated[int, Field(gt=1)] = 5
    """Parts of the marked episodes. One classifier is trained without each; what they say of the part that they have
    not seen calibrates them, and together they judge what nobody marked."""
    augmentations: Annotated[int, Field(ge=0)] = 3
    """Shifted and brightened copies of every marked frame."""
    hidden: Annotated[int, Field(gt=0)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    updates: Annotated[int, Field(gt=0)] = 400
    batch_size: Annotated[int, Field(gt=0)] = 128
    seed: Annotated[int, Field(ge=0)] = 0


class SuccessClassifier(nn.Module):
    """Heads on frozen features, one per fold, with one temperature and one threshold."""

    mean: Tensor
    std: Tensor
    text: Tensor
    temperature: Tensor
    threshold: Tensor

    def __init__(self, features: int, text: np.ndarray | None, config: SuccessConfig):
        """`text` is the task's text as the encoder's unit vector, shape (T,) where `features` is a multiple of T."""
        super().__init__()
        self.config = config
        self.register_buffer("text", torch.zeros(0) if text is None else torch.from_numpy(text))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("threshold", torch.full((), 0.5))
        width = features * (2 if len(self.text) else 1)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, config.hidden), nn.LeakyReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, 1)
            )
            for _ in range(config.folds)
        )

    def logit(self, fold: int, features: Tensor) -> Tensor:
        """One head's logit, before the temperature: (B, F) to (B,)."""
        return self.heads[fold](self._joined(features)).squeeze(-1)

    def _joined(self, features: Tensor) -> Tensor:
        """Standardised features, and where there is a text, their products with it: what CLIP's cosine is summed of."""
        normal = (features - self.mean) / self.std
        if not len(self.text):
            return normal
        parts = functional.normalize(features.unflatten(1, (-1, len(self.text))), dim=2)
        return torch.cat([normal, (parts * self.text).flatten(1) * len(self.text)], dim=1)

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Of success, calibrated: (N, F) to (N,), the mean of all heads."""
        self.eval()
        with torch.no_grad():
            rows = torch.from_numpy(np.ascontiguousarray(features, np.float32))
            logits = torch.stack([self.logit(fold, rows) for fold in range(len(self.heads))])
            return torch.sigmoid(logits / self.temperature).mean(0).numpy()


@dataclass(frozen=True, slots=True)
class SuccessFit:
    """What was found on frames that the head which judged them had not seen; `n` of them."""

    rows: np.ndarray
    """Shape (n,), int64: rows of the store's observations."""
    done: np.ndarray
    """Shape (n,), bool: as marked."""
    probability: np.ndarray
    """Shape (n,): calibrated, out of fold."""
    threshold: float
    temperature: float

    @property
    def false_positive_rate(self) -> float:
        return float((self.probability[~self.done] >= self.threshold).mean())

    @property
    def miss_rate(self) -> float:
        return float((self.probability[self.done] < self.threshold).mean())


def train_success(
    features: np.ndarray,
    augmented: np.ndarray,
    rows: np.ndarray,
    done: np.ndarray,
    episode: np.ndarray,
    text: np.ndarray | None,
    config: SuccessConfig,
) -> tuple[SuccessClassifier, SuccessFit]:
    """Train on marked frames; every fold leaves whole episodes out.

    Args:
        features: shape (n, F), of the marked frames.
        augmented: shape (copies, n, F), of their altered copies; copies may be 0.
        rows: shape (n,), of the store's observations: only handed through.
        done: shape (n,), bool.
        episode: shape (n,), which episode a frame is of.
        text: the task's text as a unit vector, or None.

    Raises:
        InputError: as `check_marked`.
    """
    folds = _folds(episode, done, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        classifier = SuccessClassifier(features.shape[1], text, config)
        everything = np.concatenate([features[None], augmented]).astype(np.float32)
        classifier.mean.copy_(torch.from_numpy(everything.mean((0, 1))))
        classifier.std.copy_(torch.from_numpy(everything.std((0, 1)) + 1e-3))
        inputs, labels = torch.from_numpy(everything), torch.from_numpy(done.astype(np.float32))
        logits = np.zeros(len(done))
        for number in range(config.folds):
            _train_head(classifier, number, inputs[:, folds != number], labels[folds != number], config)
            unseen = torch.from_numpy(folds == number)
            with torch.no_grad():
                logits[folds == number] = classifier.logit(number, inputs[0, unseen]).numpy()
    temperature = _temperature(logits, done)
    probability = (1 / (1 + np.exp(-logits / temperature))).astype(np.float32)  # as `probability` gives it
    threshold = careful_threshold(probability, done, episode, config)
    classifier.temperature.fill_(temperature)
    classifier.threshold.fill_(threshold)
    return classifier, SuccessFit(rows, done, probability, threshold, temperature)


def careful_threshold(probability: np.ndarray, done: np.ndarray, episode: np.ndarray, config: SuccessConfig) -> float:
    """The threshold for a rate of false positives, less the luck of which episodes were marked.

    The frames of an episode are much alike: what says how far the rate may be off is not how many frames there are, but
    how the threshold differs between marked episodes. They are drawn again, with replacement, and the threshold is one
    that is high enough for a share `confidence` of the draws.

    Args:
        probability: shape (n,), of marked frames that the head which judged them had not seen.
        done: shape (n,), bool.
        episode: shape (n,), which episode a frame is of.
    """
    negatives = [probability[(episode == each) & ~done] for each in np.unique(episode)]
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 19]))
    drawn = rng.integers(len(negatives), size=(DRAWS, len(negatives)))
    thresholds = [
        threshold_for(np.concatenate([negatives[each] for each in row]), config.false_positives) for row in drawn
    ]
    return float(np.quantile(thresholds, config.confidence, method="higher"))


def threshold_for(negatives: np.ndarray, rate: float) -> float:
    """The smallest probability, of at least one half, that at most a share `rate` of the negatives reaches."""
    allowed = int(np.floor(rate * len(negatives)))
    highest = np.sort(negatives)[::-1]
    if allowed >= len(highest):
        return 0.5
    return float(max(np.nextafter(highest[allowed], highest.dtype.type(2)), 0.5))


def debounced(passed: np.ndarray, starts: np.ndarray, hold: int) -> np.ndarray:
    """Which frames end a run of at least `hold` that passed, within one episode.

    Args:
        passed: shape (N,), bool.
        starts: first rows of the episodes.
    """
    run = 0
    result = np.zeros(len(passed), bool)
    first = set(starts.tolist())
    for row, value in enumerate(passed.tolist()):
        run = 0 if row in first else run
        run = run + 1 if value else 0
        result[row] = run >= hold
    return result


def _train_head(
    classifier: SuccessClassifier, number: int, inputs: Tensor, labels: Tensor, config: SuccessConfig
) -> None:
    """Cross entropy with both answers weighing the same, however few frames show a success."""
    head = classifier.heads[number]
    optimiser = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    weight = torch.where(labels > 0, 0.5 / labels.sum().clamp(min=1), 0.5 / (1 - labels).sum().clamp(min=1))
    generator = torch.Generator().manual_seed(config.seed + number)
    head.train()
    for _ in range(config.updates):
        chosen = torch.multinomial(weight, config.batch_size, replacement=True, generator=generator)
        copy = torch.randint(len(inputs), (config.batch_size,), generator=generator)
        loss = functional.binary_cross_entropy_with_logits(
            classifier.logit(number, inputs[copy, chosen]), labels[chosen]
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    head.eval()


def check_marked(episode: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The episodes that show a success, and those that never do.

    Raises:
        InputError: where fewer than two show a success, or none is a failure.
    """
    good = np.unique(episode[done])
    bad = np.setdiff1d(np.unique(episode), good)
    if len(good) < 2 or len(bad) < 1:
        raise InputError(
            f"a success classifier needs marks of at least 2 successes and 1 failure, got {len(good)} and {len(bad)}"
        )
    return good, bad


def _folds(episode: np.ndarray, done: np.ndarray, config: SuccessConfig) -> np.ndarray:
    """Which fold each frame is in: successes and failures are dealt out apart, whole episodes at a time."""
    good, bad = check_marked(episode, done)
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 13]))
    fold_of = {}
    for group in (good, bad):
        for place, member in enumerate(rng.permutation(group).tolist()):
            fold_of[member] = place % config.folds
    return np.array([fold_of[member] for member in episode.tolist()])


def _temperature(logits: np.ndarray, done: np.ndarray) -> float:
    """The one under which held-out answers are likeliest (Guo et al., 2017), both answers weighing the same."""
    weight = np.where(done, 0.5 / max(done.sum(), 1), 0.5 / max((~done).sum(), 1))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((weight * (np.logaddexp(0, scaled) - done * scaled)).sum())

    found: Any = minimize_scalar(loss, bounds=(-3, 4), method="bounded")
    return float(np.exp(found.x))
