"""Ranking metrics: hand-computed answers with trec_eval's definitions."""

from math import log2

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from nlpkit.errors import DataError, UsageError
from nlpkit.metrics import ranking as ours

GRADES = {"a": 3, "b": 0, "c": 1, "d": 2, "e": -1}
RANKED = ["b", "a", "x", "c", "e"]


def test_by_hand() -> None:
    ideal = 3 + 2 / log2(3) + 1 / 2
    assert ours.ndcg(RANKED, GRADES, 10) == pytest.approx((3 / log2(3) + 1 / log2(5)) / ideal)
    assert ours.ndcg(RANKED, GRADES, 2) == pytest.approx((3 / log2(3)) / (3 + 2 / log2(3)))
    assert ours.reciprocal_rank(RANKED, GRADES) == 0.5
    assert ours.reciprocal_rank(RANKED, GRADES, 1) == 0.0
    assert ours.recall(RANKED, GRADES, 2) == pytest.approx(1 / 3)
    assert ours.recall(RANKED, GRADES, 4) == pytest.approx(2 / 3)
    assert ours.precision(RANKED, GRADES, 10) == pytest.approx(2 / 10)
    assert ours.average_precision(RANKED, GRADES) == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_ties_are_ordered_as_trec_eval_does() -> None:
    assert ours.order({"a": 1.0, "c": 1.0, "b": 2.0}) == ["b", "c", "a"]
    assert ours.order(["c", "a", "b"]) == ["c", "a", "b"]
    assert ours.order({"a": 1.0 + 1e-9, "b": 1.0}) == ["b", "a"]  # equal in single precision
    assert ours.evaluate({"q": [("a", 1.0), ("b", 1.0)]}, {"q": {"a": 1}}, ["mrr"]) == {"mrr": 0.5}


def test_which_queries_count() -> None:
    qrels = {"found": {"a": 1}, "missing": {"a": 1}, "nothing-relevant": {"a": 0}}
    run = {"found": ["a"], "nothing-relevant": ["a"], "unjudged": ["a"]}
    assert ours.per_query(run, qrels, ["recall@1"]) == {"recall@1": {"found": 1.0, "missing": 0.0}}
    assert ours.evaluate(run, qrels, ["recall@1"]) == {"recall@1": 0.5}


@pytest.mark.parametrize("seed", range(4))
def test_ndcg_equals_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    grades, scores = draw.integers(4, size=30), draw.normal(size=30)
    names = [f"d{i}" for i in range(30)]
    run = dict(zip(names, scores.tolist(), strict=True))
    mine = ours.ndcg(ours.order(run), dict(zip(names, grades.tolist(), strict=True)), 10)
    assert mine == pytest.approx(ndcg_score([grades], [scores], k=10))


def test_bad_input_is_one_error() -> None:
    with pytest.raises(UsageError, match="ndgc"):
        ours.evaluate({}, {"q": {"a": 1}}, ["ndgc@10"])
    with pytest.raises(DataError, match="no relevant"):
        ours.evaluate({}, {"q": {"a": 0}})
    with pytest.raises(DataError, match="twice"):
        ours.evaluate({"q": ["a", "a"]}, {"q": {"a": 1}})
    with pytest.raises(DataError, match="not a number"):
        ours.order({"a": float("nan")})
