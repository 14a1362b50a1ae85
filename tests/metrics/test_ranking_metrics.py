"""Ranking metrics: hand-computed answers, and trec_eval's own code on random runs."""

from math import log2

import numpy as np
import pytest
import pytrec_eval
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
    assert ours.average_precision(RANKED, GRADES, 2) == pytest.approx((1 / 2) / 3)
    assert ours.r_precision(RANKED, GRADES) == pytest.approx(1 / 3)
    assert (ours.success(RANKED, GRADES, 1), ours.success(RANKED, GRADES, 2)) == (0.0, 1.0)
    assert ours.judged(RANKED, GRADES, 10) == pytest.approx(4 / 5)
    assert ours.judged(RANKED, GRADES, 2) == 1.0 and ours.judged([], GRADES, 2) == 0.0


def test_ties_are_ordered_as_trec_eval_does() -> None:
    assert ours.order({"a": 1.0, "c": 1.0, "b": 2.0}) == ["b", "c", "a"]
    assert ours.order(["c", "a", "b"]) == ["c", "a", "b"]
    assert ours.order({"a": 1.0 + 1e-9, "b": 1.0}) == ["b", "a"]  # equal in single precision
    assert ours.order({"d9": 1.0, "d10": 1.0, "D11": 1.0}) == ["d9", "d10", "D11"]  # by bytes
    assert ours.evaluate({"q": [("a", 1.0), ("b", 1.0)]}, {"q": {"a": 1}}, ["mrr"]) == {"mrr": 0.5}


def test_which_queries_count() -> None:
    qrels = {"found": {"a": 1}, "missing": {"a": 1}, "nothing-relevant": {"a": 0}}
    run = {"found": ["a"], "nothing-relevant": ["a"], "unjudged": ["a"]}
    assert ours.per_query(run, qrels, ["recall@1"]) == {"recall@1": {"found": 1.0, "missing": 0.0}}
    assert ours.evaluate(run, qrels, ["recall@1"]) == {"recall@1": 0.5}
    assert ours.counted(qrels) == ["found", "missing"]


TREC = {
    "map": "map",
    "mrr": "recip_rank",
    "r-precision": "Rprec",
    "ndcg": "ndcg",
    "recall": "set_recall",
    "p": "set_P",
    "success@1": "success_1",
    "success@5": "success_5",
    "success@10": "success_10",
}
for _k in (5, 10, 15, 20, 30, 100):
    TREC |= {f"ndcg@{_k}": f"ndcg_cut_{_k}", f"p@{_k}": f"P_{_k}", f"recall@{_k}": f"recall_{_k}"}
    TREC[f"map@{_k}"] = f"map_cut_{_k}"


def random_task(seed: int):
    """A graded run with ties, unjudged documents, queries that only one side has, and lists of any length."""
    draw = np.random.default_rng(seed)
    names = [f"{prefix}{i}" for prefix in ("d", "D", "é", "文", "𝒳") for i in range(60)]
    run, qrels = {}, {}
    for q in range(40):
        kept = draw.permutation(names)[: int(draw.integers(0, 150))].tolist()
        scale = (1, 3, 1e-7, 1e6)[q % 4]
        scores = draw.integers(0, 12, len(kept)) * scale + (1e6 if q % 5 == 0 else 0)
        if q % 3 == 0:
            scores = draw.normal(size=len(kept)) * scale
        judged = draw.permutation(names)[: int(draw.integers(1, 120))].tolist()
        grades = draw.choice([-1, 0, 0, 0, 1, 1, 2, 4], len(judged)).tolist()
        if q % 7 != 1:
            run[f"q{q}"] = dict(zip(kept, map(float, scores), strict=True))
        if q % 7 != 2:
            qrels[f"q{q}"] = dict(zip(judged, grades, strict=True))
    return run, qrels


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_trec_eval(seed: int) -> None:
    run, qrels = random_task(seed)
    wanted = {"map", "recip_rank", "Rprec", "ndcg", "set_recall", "set_P"}
    wanted |= {f"{n}.5,10,15,20,30,100" for n in ("ndcg_cut", "P", "recall", "map_cut")} | {"success.1,5,10"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate(run)
    mine = ours.per_query(run, qrels, list(TREC))
    compared = 0
    for measure, name in TREC.items():
        assert list(mine[measure]) == ours.counted(qrels)
        for query, value in mine[measure].items():
            expected = theirs[query][name] if run.get(query) else 0.0
            assert value == pytest.approx(expected, abs=1e-9), (measure, query)
            compared += 1
    assert compared > 900 and len(theirs) > 25


def test_other_names() -> None:
    run, qrels = random_task(9)
    for other, name in {"AP": "map", "RR@5": "mrr@5", "R@20": "recall@20", "Rprec": "r-precision"}.items():
        assert list(ours.evaluate(run, qrels, [other]).values()) == list(
            ours.evaluate(run, qrels, [name]).values()
        )


@pytest.mark.parametrize("seed", range(4))
def test_ndcg_equals_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    grades, scores = draw.integers(4, size=30), draw.normal(size=30)
    names = [f"d{i}" for i in range(30)]
    run = dict(zip(names, scores.tolist(), strict=True))
    mine = ours.ndcg(ours.order(run), dict(zip(names, grades.tolist(), strict=True)), 10)
    assert mine == pytest.approx(ndcg_score([grades], [scores], k=10))


def test_bad_input_is_one_error() -> None:
    with pytest.raises(UsageError, match=r"'ndgc@10'; did you mean 'ndcg'\?; known: .*ndcg@K"):
        ours.evaluate({}, {"q": {"a": 1}}, ["ndgc@10"])
    for name in ("ndcg@0", "ndcg@", "@10", "r-precision@5", "map@-1", "", "p@1e3"):
        with pytest.raises(UsageError, match="unknown measure"):
            ours.parse(name)
    with pytest.raises(DataError, match="no relevant"):
        ours.evaluate({}, {"q": {"a": 0}})
    with pytest.raises(DataError, match="query 'q': document 'a' is listed twice"):
        ours.evaluate({"q": ["a", "a"]}, {"q": {"a": 1}})
    with pytest.raises(DataError, match="not a number"):
        ours.order({"a": float("nan")})
