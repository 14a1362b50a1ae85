"""Pearson's and Spearman's correlation of two lists of N numbers (numpy only)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlpkit.errors import DataError


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
