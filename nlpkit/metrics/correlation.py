"""Pearson's and Spearman's correlation of two lists of N numbers, and Spearman's over R resamples (numpy only)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlpkit.errors import DataError

CHUNK = 1_000_000  # drawn numbers held at once


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(f"correlation: expected two lists of one length, got {x.shape} and {y.shape}")
    if len(x) < 2:
        raise DataError(f"correlation: needs at least two pairs, got {len(x)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("correlation: a value is not finite")
    return x, y


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """The linear correlation of (N,) and (N,) in [-1, 1]; nan when one of them is constant.

    >>> round(pearson([1, 2, 3], [2, 4, 6]), 6)
    1.0
    """
    x, y = _pair(a, b)
    if (x == x[0]).all() or (y == y[0]).all():
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    # Scaled before it is squared: tiny or huge values neither vanish nor overflow.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def average_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of their ranks.

    >>> average_ranks([10, 20, 20, 30]).tolist()
    [1.0, 2.5, 2.5, 4.0]
    """
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place.reshape(-1)]


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of the average ranks; nan when one list is constant."""
    x, y = _pair(a, b)
    return pearson(average_ranks(x), average_ranks(y))


def spearman_resampled(
    gold: ArrayLike, models: ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> NDArray[np.float64]:
    """Spearman's correlation of M models (M, N) with ``gold`` (N,) in bootstrap resamples of the N items, (R, M).

    All models meet the same resamples, so that differences are paired. A resample in which a list is constant is
    nan. The average ranks of a resample follow from how often it drew each item: the items are sorted only once.

    >>> spearman_resampled([1, 2, 3, 4], [[1, 2, 3, 4]], resamples=3).round(6).tolist()
    [[1.0], [1.0], [1.0]]
    """
    target = np.asarray(gold, np.float64)
    others = np.asarray(models, np.float64).reshape(-1, len(target))
    for row in others:
        _pair(target, row)
    n, draw = len(target), np.random.default_rng(seed)
    sides = [_Ranked(values) for values in (target, *others)]
    found = np.empty((resamples, len(others)))
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = draw.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        first, *rest = (side.centred(times) for side in sides)
        with np.errstate(invalid="ignore"):
            for m, other in enumerate(rest):
                shared = np.einsum("rn,rn,rn->r", times, first, other)
                spread = [np.einsum("rn,rn,rn->r", times, ranks, ranks) for ranks in (first, other)]
                found[start : start + rows, m] = shared / np.sqrt(spread[0] * spread[1])
    return found


class _Ranked:
    """Values (N,) sorted once, to give the average ranks of any resample of them."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        _, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.group[self.order], prepend=-1))

    def centred(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """The ranks (R, N) less their mean (N + 1) / 2, where item n was drawn ``times`` (R, N) often."""
        equal = np.add.reduceat(times[:, self.order], self.starts, axis=1)  # (R, G)
        middle = np.cumsum(equal, axis=1) - (equal - 1) / 2
        return (middle - (times.shape[1] + 1) / 2)[:, self.group]
