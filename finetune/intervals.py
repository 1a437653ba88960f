"""How sure a measured number is: exact intervals of rates, bootstrapped intervals of means and differences."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, t


def rate_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson: two-sided, and holds for rare events too (0 of 200 is at most 1.8 %)."""
    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)


def mean_interval(
    values: np.ndarray, confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the mean; `values` has shape (N,)."""
    generator = np.random.default_rng(seed)
    means = values[generator.integers(len(values), size=(draws, len(values)))].mean(1)
    return _percentiles(means, confidence)


def paired_difference(
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of ours minus theirs with its interval, bootstrapped over training seeds and, within them, episodes.

    Args:
        ours, theirs: per training seed, one value per episode, episodes in the same order of evaluation seeds.

    Returns:
        Mean, low, high. A beats B where low is above 0; A matches B where high is at least 0.
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        chosen = generator.integers(len(differences), size=len(differences))
        means[draw] = np.mean(
            [differences[i][generator.integers(len(differences[i]), size=len(differences[i]))].mean() for i in chosen]
        )
    return float(np.mean([d.mean() for d in differences])), *_percentiles(means, confidence)


def seeds_interval(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], confidence: float = 0.95
) -> tuple[float, float]:
    """Student's t interval of the same mean by what the training seeds say alone, two of them at least.

    The bootstrap over three seeds is too narrow where they differ more than their episodes do; this one is wide, and
    holds. See `paired_difference`.
    """
    means = np.array([(a - b).mean() for a, b in zip(ours, theirs, strict=True)])
    half = t.ppf((1 + confidence) / 2, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() - half), float(means.mean() + half)


def _percentiles(means: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
