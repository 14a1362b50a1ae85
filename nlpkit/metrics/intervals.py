"""How sure a figure is, and whether two systems differ: bootstrap interval, paired randomisation, McNemar's test.

Shapes: N items (queries, texts), R resamples. Both draw from a seeded generator, so a figure can be repeated.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlpkit.errors import DataError

CHUNK = 2_000_000  # drawn numbers held at once


def _values(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{name}: expected a list of at least one number, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name}: a value is not finite")
    return array


def bootstrap_mean(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the mean of (N,) values (Efron and Tibshirani 1993, section 13.3).

    >>> bootstrap_mean([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    array = _values(values, "values")
    if not 0 < confidence < 1:
        raise DataError(f"confidence: expected a number between 0 and 1, got {confidence}")
    draw = np.random.default_rng(seed)
    rows = max(1, CHUNK // len(array))
    means = np.concatenate(
        [
            array[draw.integers(len(array), size=(min(rows, resamples - at), len(array)))].mean(axis=1)
            for at in range(0, resamples, rows)
        ]
    )
    return percentile_interval(means, confidence=confidence)


def bootstrap_share(
    right: int, of: int, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """:func:`bootstrap_mean` of ``of`` zeros and ones, ``right`` of them ones: a resample's sum is binomial.

    >>> bootstrap_share(5, 5)
    (1.0, 1.0)
    """
    if not 0 <= right <= of or not of:
        raise DataError(f"share: expected a part of at least one item, got {right} of {of}")
    drawn = np.random.default_rng(seed).binomial(of, right / of, size=resamples)
    return percentile_interval(drawn / of, confidence=confidence)


def percentile_interval(resampled: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float]:
    """The middle share of a figure's values in (R,) resamples; where it is nan it is left out, all nan gives nan.

    >>> percentile_interval([0.0, 1.0, 2.0], confidence=0.5)
    (0.5, 1.5)
    """
    values = np.asarray(resampled, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_p(differences: ArrayLike) -> float:
    """The two-sided p-value of no difference from its values in (R,) paired resamples.

    Twice the smaller share on one side of 0, the observed sample counted in (Davison and Hinkley 1997, section 4.4).

    >>> bootstrap_p([0.1] * 99)
    0.02
    """
    values = np.asarray(differences, np.float64)
    values = values[~np.isnan(values)]
    least = min((values <= 0).sum(), (values >= 0).sum())
    return float(min(1.0, 2 * (least + 1) / (len(values) + 1)))


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """The exact two-sided p-value that two systems are right equally often, from (N,) right or wrong of each.

    Only items where one is right and the other wrong tell; under the null hypothesis each side is as likely
    (McNemar 1947; the exact binomial form).

    >>> round(mcnemar([1, 1, 1, 1, 0], [0, 0, 0, 0, 0]), 9)
    0.125
    """
    first, second = np.asarray(a, bool), np.asarray(b, bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise DataError(f"mcnemar: expected two lists of one length, got {first.shape} and {second.shape}")
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    n, least = only_a + only_b, min(only_a, only_b)
    tail = sum(
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2))
        for i in range(least + 1)
    )
    return min(1.0, 2 * tail)


def paired_randomisation(a: ArrayLike, b: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value that the means of paired (N,) values ``a`` and ``b`` are equal.

    Fisher's test: under the null hypothesis each difference may have either sign. All 2^N sign patterns are
    counted where they are no more than ``resamples``; else ``resamples`` are drawn, and the observed pattern
    is counted among them (Smucker, Allan and Carterette, CIKM 2007, section 3.1).

    >>> paired_randomisation([1, 1, 1], [0, 0, 0])
    0.25
    """
    first, second = _values(a, "a"), _values(b, "b")
    if first.shape != second.shape:
        raise DataError(f"paired values: {len(first)} against {len(second)}")
    apart = first - second
    seen = abs(apart.sum())
    slack = 1e-12 * max(1.0, float(np.abs(apart).sum()))  # sums of equal terms in another order
    n = len(apart)
    if n < 40 and 2**n <= resamples:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return float((np.abs((1 - 2 * patterns) @ apart) >= seen - slack).mean())
    draw, rows, reached = np.random.default_rng(seed), max(1, CHUNK // n), 0
    for at in range(0, resamples, rows):
        signs = 1 - 2 * draw.integers(2, size=(min(rows, resamples - at), n), dtype=np.int8)
        reached += int((np.abs(signs @ apart) >= seen - slack).sum())
    return (reached + 1) / (resamples + 1)
