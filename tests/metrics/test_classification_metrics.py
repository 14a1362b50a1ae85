"""Classification metrics: hand-computed answers, and scikit-learn as the oracle."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from nlpkit.errors import DataError
from nlpkit.metrics import classification as ours


def test_by_hand() -> None:
    labels, predicted = [0, 0, 1, 1, 2], [0, 1, 1, 1, 0]
    assert ours.accuracy(labels, predicted) == pytest.approx(3 / 5)
    assert ours.confusion_matrix(labels, predicted, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    # class 0: TP 1, FP 1, FN 1 → 2/4; class 1: TP 2, FP 1, FN 0 → 4/5; class 2: 0
    assert ours.f1_per_class(labels, predicted).tolist() == pytest.approx([0.5, 0.8, 0.0])
    assert ours.macro_f1(labels, predicted) == pytest.approx(1.3 / 3)
    assert ours.majority_share(labels) == pytest.approx(2 / 5)


def test_calibration_by_hand() -> None:
    rows = [[0.9, 0.1], [0.95, 0.05], [0.4, 0.6]]
    # (0.8, 1]: mean 0.925, accuracy 0.5 → 2 · 0.425; (0.4, 0.6]: 0.6, accuracy 1 → 0.4
    assert ours.expected_calibration_error([0, 1, 1], rows, bins=5) == pytest.approx((0.85 + 0.4) / 3)
    assert ours.expected_calibration_error([0, 1], [[1.0, 0.0], [0.0, 1.0]]) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels, logits = draw.integers(5, size=200), draw.normal(size=(200, 5))
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    guess = rows.argmax(axis=1)
    assert ours.accuracy(labels, guess) == pytest.approx(oracle.accuracy_score(labels, guess))
    assert ours.f1_per_class(labels, guess) == pytest.approx(oracle.f1_score(labels, guess, average=None))
    assert ours.macro_f1(labels, guess, 9) == pytest.approx(oracle.f1_score(labels, guess, average="macro"))
    assert (ours.confusion_matrix(labels, guess) == oracle.confusion_matrix(labels, guess)).all()
    assert ours.log_loss(labels, rows) == pytest.approx(oracle.log_loss(labels, rows, labels=range(5)))
    made = ours.report(labels, rows)
    assert made["count"] == 200 and made["accuracy"] == ours.accuracy(labels, guess)


@pytest.mark.parametrize(
    "labels, predicted",
    [([], []), ([0], [0, 1]), ([-1], [0]), ([0.5], [0])],
)
def test_bad_input_is_one_error(labels: list, predicted: list) -> None:
    with pytest.raises(DataError):
        ours.accuracy(labels, predicted)


def test_a_label_without_a_column_is_refused() -> None:
    with pytest.raises(DataError, match="label 2"):
        ours.log_loss([2], [[0.5, 0.5]])
    with pytest.raises(DataError, match="finite"):
        ours.log_loss([0], [[float("nan"), 0.5]])
