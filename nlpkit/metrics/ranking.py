"""nDCG, MRR, recall, MAP, precision and success of ranked lists, with the definitions of trec_eval (numpy only).

A run maps a query id to its results: a ranked list of document ids (order kept), or (document id, score)
pairs, or a mapping of ids to scores. Scores are sorted as trec_eval does: in single precision, higher first,
equal scores by document id in descending order (of its bytes in UTF-8, which is the order of its code points).
A document that is listed twice for one query is a DataError. Judgements (qrels) map a query id to
{document id: grade}; a document is relevant when its grade is 1 or more, an unjudged one is not.

Means are over the judged queries that have at least one relevant document: a query without one is left out,
a query that the run lacks counts 0 (``trec_eval -c``), and a query of the run without judgements is not
looked at.

A measure is named ``ndcg``, ``map``, ``mrr``, ``p``, ``recall``, ``success`` or ``judged``, with an optional ``@k``
(without it the whole list is looked at), or ``r-precision``. The names that ir_measures uses are understood too:
``ap``, ``rr``, ``r``, ``rprec``.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nlpkit.errors import DataError, UsageError, did_you_mean

Qrels = Mapping[str, Mapping[str, int]]
Ranked = Sequence[str] | Sequence[tuple[str, float]] | Mapping[str, float]
Run = Mapping[str, Ranked]

MEASURES = ("ndcg@10", "mrr@10", "recall@100", "map", "p@10")
_MEASURE = re.compile(r"([a-z-]+)(?:@([1-9][0-9]{0,8}))?")
_ALSO = {"ap": "map", "rr": "mrr", "r": "recall", "rprec": "r-precision", "precision": "p"}


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


def r_precision(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """The precision of the first R documents, where R documents are relevant. ``k`` is not looked at."""
    total = _relevant(grades)
    return sum(grades.get(name, 0) > 0 for name in ranked[:total]) / total if total else 0.0


def success(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """1 when there is a relevant document among the first ``k``, else 0."""
    return float(any(grades.get(name, 0) > 0 for name in ranked[:k]))


def judged(ranked: Sequence[str], grades: Mapping[str, int], k: int | None = None) -> float:
    """The share of the first ``k`` documents, or of what there is, that somebody judged, whatever the grade."""
    seen = ranked[:k]
    return sum(name in grades for name in seen) / len(seen) if seen else 0.0


Measure = tuple[Callable[[Sequence[str], Mapping[str, int], int | None], float], int | None]
_FUNCTIONS = {
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "recall": recall,
    "map": average_precision,
    "p": precision,
    "r-precision": r_precision,
    "success": success,
    "judged": judged,
}


def parse(name: str) -> Measure:
    """The function of a measure and its cut-off (``None``: none). :raises UsageError: there is no such measure.

    >>> parse("ndcg@10")[1], parse("map")[0].__name__
    (10, 'average_precision')
    """
    match = _MEASURE.fullmatch(name.lower())
    known = _ALSO.get(match[1], match[1]) if match else ""
    if match is None or known not in _FUNCTIONS or (known == "r-precision" and match[2]):
        said = re.split("@", name.lower())[0]
        names = ", ".join(n if n == "r-precision" else f"{n}@K" for n in _FUNCTIONS)
        near = did_you_mean(said, _FUNCTIONS) if said not in _FUNCTIONS else ""
        near = near if "did you mean" in near else ""
        raise UsageError(f"unknown measure {name!r}{near}; known: {names} (@K may be left out)")
    return _FUNCTIONS[known], int(match[2]) if match[2] else None


def of_query(results: Ranked, grades: Mapping[str, int], measures: Sequence[Measure]) -> list[float]:
    """The values of parsed ``measures`` for one query's results, which are brought into :func:`order` first.

    >>> of_query([("a", 2.0), ("b", 1.0)], {"b": 1}, [parse("mrr"), parse("p@2")])
    [0.5, 0.5]
    """
    ranked = order(results)
    return [function(ranked, grades, k) for function, k in measures]


def counted(qrels: Qrels) -> list[str]:
    """The queries that means are over: those with a relevant document, in the order of the judgements."""
    return [query for query, grades in qrels.items() if _relevant(grades)]


def per_query(run: Run, qrels: Qrels, measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """``{measure: {query id: value}}`` for the judged queries with a relevant document, in qrels' order."""
    wanted = [parse(name) for name in measures]
    values: dict[str, dict[str, float]] = {name: {} for name in measures}
    for query in counted(qrels):
        try:
            found = of_query(run.get(query, ()), qrels[query], wanted)
        except DataError as error:
            raise DataError(f"query {query!r}: {error}") from error
        for name, value in zip(measures, found, strict=True):
            values[name][query] = value
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
