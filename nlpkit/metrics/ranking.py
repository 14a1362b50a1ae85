"""nDCG, MRR, recall, MAP and precision of ranked lists, with the definitions of trec_eval (numpy only).

A run maps a query id to its results: a ranked list of document ids (order kept), or (document id, score)
pairs, or a mapping of ids to scores. Scores are sorted as trec_eval does: in single precision, higher first,
equal scores by document id in descending order. Judgements (qrels) map a query id to {document id: grade}; a
document is relevant when its grade is 1 or more, an unjudged one is not.

Means are over the judged queries that have at least one relevant document: a query without one is left out,
a query that the run lacks counts 0 (``trec_eval -c``), and a query of the run without judgements is not
looked at.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlpkit.errors import DataError, UsageError

Qrels = Mapping[str, Mapping[str, int]]
Ranked = Sequence[str] | Sequence[tuple[str, float]] | Mapping[str, float]
Run = Mapping[str, Ranked]

MEASURES = ("ndcg@10", "mrr@10", "recall@100", "map", "p@10")
_MEASURE = re.compile(r"(ndcg|mrr|recall|map|p)(?:@([1-9][0-9]*))?")


def order(results: Ranked) -> list[str]:
    """Document ids, best first, in trec_eval's order when scores are given.

    >>> order([("a", 1.0), ("b", 2.0), ("c", 1.0)])
    ['b', 'c', 'a']
    """
    pairs: list[Any] = list(results.items()) if isinstance(results, Mapping) else list(results)
    ids: list[str] = []
    scored: list[tuple[str, float]] = []
    for item in pairs:
        if isinstance(item, str):
            ids.append(item)
        else:
            scored.append((item[0], float(item[1])))
    if ids and scored:
        raise DataError("a ranked list mixes bare ids and (id, score) pairs")
    if scored:
        if any(math.isnan(score) for _, score in scored):
            raise DataError("a ranked list holds a score that is not a number")
        with np.errstate(over="ignore"):
            single = np.array([score for _, score in scored], dtype=np.float32).tolist()
        ids = [
            name for _, name in sorted(zip(single, (name for name, _ in scored), strict=True), reverse=True)
        ]
    if len(set(ids)) != len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise DataError(f"document {twice!r} is listed twice for one query")
    return ids


def ndcg(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """Normalized discounted cumulative gain of the first ``k``: gain = grade, discount = log2(rank + 1).

    Järvelin and Kekäläinen (2002), as in trec_eval's ``ndcg_cut``; the ideal order is over all judgements.

    >>> round(ndcg(["b", "a"], {"a": 1}, 10), 4)
    0.6309
    """
    best = sorted((g for g in grades.values() if g > 0), reverse=True)[:k]
    ideal = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, 1))
    found = sum(max(grades.get(name, 0), 0) / math.log2(rank + 1) for rank, name in enumerate(ranked[:k], 1))
    return found / ideal if ideal else 0.0


def reciprocal_rank(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """1 / the rank of the first relevant document among the first ``k``; 0 when there is none."""
    for rank, name in enumerate(ranked[:k], 1):
        if grades.get(name, 0) > 0:
            return 1 / rank
    return 0.0


def _relevant(grades: Mapping[str, int]) -> int:
    return sum(grade > 0 for grade in grades.values())


def recall(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """The share of all relevant documents that are among the first ``k``."""
    total = _relevant(grades)
    return sum(grades.get(name, 0) > 0 for name in ranked[:k]) / total if total else 0.0


def precision(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """Relevant documents among the first ``k``, divided by ``k`` even where fewer were returned."""
    size = len(ranked) if k is None else k
    return sum(grades.get(name, 0) > 0 for name in ranked[:k]) / size if size else 0.0


def average_precision(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """The precision at each relevant document that was found, summed, divided by all relevant documents."""
    total, hits, area = _relevant(grades), 0, 0.0
    for rank, name in enumerate(ranked[:k], 1):
        if grades.get(name, 0) > 0:
            hits += 1
            area += hits / rank
    return area / total if total else 0.0


_FUNCTIONS = {
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "recall": recall,
    "map": average_precision,
    "p": precision,
}


def per_query(run: Run, qrels: Qrels, measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """``{measure: {query id: value}}`` for the judged queries with a relevant document, in qrels' order.

    A measure is ``ndcg``, ``mrr``, ``recall``, ``map`` or ``p``, with an optional ``@k``.
    """
    wanted = []
    for name in measures:
        match = _MEASURE.fullmatch(name.lower())
        if match is None:
            raise UsageError(f"unknown measure {name!r}; known: ndcg@K, mrr@K, recall@K, p@K, map")
        wanted.append((name, _FUNCTIONS[match[1]], int(match[2]) if match[2] else None))
    values: dict[str, dict[str, float]] = {name: {} for name in measures}
    for query, grades in qrels.items():
        if not _relevant(grades):
            continue
        try:
            ranked = order(run.get(query, ()))
        except DataError as error:
            raise DataError(f"query {query!r}: {error}") from error
        for name, function, k in wanted:
            values[name][query] = function(ranked, grades, k)
    return values


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str] = MEASURES) -> dict[str, float]:
    """``{measure: mean over queries}``; a DataError when no query has a relevant document.

    >>> evaluate({"q": ["b", "a"]}, {"q": {"a": 1}}, ["mrr@10", "recall@1"])
    {'mrr@10': 0.5, 'recall@1': 0.0}
    """
    values = per_query(run, qrels, measures)
    if not any(grade > 0 for grades in qrels.values() for grade in grades.values()):
        raise DataError("the judgements name no relevant document (a grade of 1 or more)")
    return {name: float(np.mean(list(of.values()))) for name, of in values.items()}
