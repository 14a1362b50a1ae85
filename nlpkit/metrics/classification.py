"""Accuracy, F1, confusion and calibration of a classifier, from whole arrays (numpy only).

Shapes: N items, C classes. Labels are integers in [0, C); probabilities are (N, C) rows that add up to one.
Every function divides once, over all items: join batches by concatenating them, never by averaging results.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlpkit.errors import DataError

TINY = 1e-15  # the smallest probability that log_loss takes at face value


def _labels(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{name}: expected a list of at least one label, got shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{name}: expected whole numbers, got {array.dtype}")
    if array.min() < 0:
        raise DataError(f"{name}: a label is negative ({array.min()})")
    return array.astype(np.int64)


def _pair(labels: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    true, guess = _labels(labels, "labels"), _labels(predicted, "predictions")
    if true.shape != guess.shape:
        raise DataError(f"{len(true)} labels but {len(guess)} predictions")
    return true, guess


def _rows(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    true, rows = _labels(labels, "labels"), np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(true):
        raise DataError(f"probabilities: expected ({len(true)}, classes), got {rows.shape}")
    if true.max() >= rows.shape[1]:
        raise DataError(f"label {true.max()} has no column among {rows.shape[1]} probabilities")
    if not np.isfinite(rows).all():
        raise DataError("probabilities: a value is not finite")
    return true, rows


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """The share of (N,) predictions that equal their (N,) labels.

    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    true, guess = _pair(labels, predicted)
    return float((true == guess).mean())


def confusion_matrix(
    labels: ArrayLike, predicted: ArrayLike, classes: int | None = None
) -> NDArray[np.int64]:
    """Counts (C, C): row = the true class, column = the predicted one.

    >>> confusion_matrix([0, 1, 1], [0, 0, 1]).tolist()
    [[1, 0], [1, 1]]
    """
    true, guess = _pair(labels, predicted)
    needed = int(max(true.max(), guess.max())) + 1
    size = needed if classes is None else classes
    if needed > size:
        raise DataError(f"label {needed - 1} does not fit {size} classes")
    return np.bincount(true * size + guess, minlength=size * size).reshape(size, size)


def f1_per_class(labels: ArrayLike, predicted: ArrayLike, classes: int | None = None) -> NDArray[np.float64]:
    """F1 = 2·TP / (2·TP + FP + FN) of each class (C,); 0 for a class that neither occurs nor is predicted."""
    table = confusion_matrix(labels, predicted, classes)
    hits = np.diag(table).astype(np.float64)
    both = table.sum(axis=0) + table.sum(axis=1)  # 2·TP + FP + FN
    return np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)


def macro_f1(labels: ArrayLike, predicted: ArrayLike, classes: int | None = None) -> float:
    """The unweighted mean F1 over the classes that occur among the labels or the predictions.

    >>> round(macro_f1([0, 0, 1, 1], [0, 0, 0, 1]), 4)
    0.7333
    """
    table = confusion_matrix(labels, predicted, classes)
    present = (table.sum(axis=0) + table.sum(axis=1)) > 0
    return float(f1_per_class(labels, predicted, classes)[present].mean())


def majority_share(labels: ArrayLike) -> float:
    """The accuracy of always answering the commonest label: what a model has to beat.

    >>> majority_share([0, 1, 1, 1])
    0.75
    """
    true = _labels(labels, "labels")
    return float(np.bincount(true).max() / len(true))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The mean of -ln p(true class), in nats; probabilities below 1e-15 count as 1e-15."""
    true, rows = _rows(labels, probabilities)
    return float(-np.log(np.clip(rows[np.arange(len(true)), true], TINY, 1.0)).mean())


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """ECE (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2).

    Items are put into ``bins`` equal intervals (low, high] of the probability of their predicted class; the
    result is the item-weighted mean of |accuracy - mean probability| over the intervals.
    """
    true, rows = _rows(labels, probabilities)
    sure, right = rows.max(axis=1), rows.argmax(axis=1) == true
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - sure, minlength=bins)
    return float(np.abs(gap).sum() / len(true))


def report(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Any]:
    """Everything above from (N,) labels and (N, C) probabilities, as plain numbers for JSON."""
    true, rows = _rows(labels, probabilities)
    predicted, classes = rows.argmax(axis=1), rows.shape[1]
    return {
        "accuracy": accuracy(true, predicted),
        "macro_f1": macro_f1(true, predicted, classes),
        "majority": majority_share(true),
        "log_loss": log_loss(true, rows),
        "ece": expected_calibration_error(true, rows),
        "f1": f1_per_class(true, predicted, classes).tolist(),
        "confusion": confusion_matrix(true, predicted, classes).tolist(),
        "count": len(true),
    }
