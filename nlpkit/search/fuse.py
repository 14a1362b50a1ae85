"""Two rankings into one: weighted normalized scores, or reciprocal ranks. P candidates.

A convex combination of normalized scores beats rank fusion where its one weight is tuned (Bruch, Gai and Ingber
2023, "An Analysis of Fusion Functions for Hybrid Retrieval", sections 4 and 5); rank fusion needs no tuning
(Cormack, Clarke and Büttcher 2009).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlpkit.search.topk import top

GRID = tuple(round(0.05 * i, 2) for i in range(1, 20))
RRF_K = 60


@dataclass(frozen=True)
class Candidates:
    """The union of both first lists of one query, by position: ``bm25`` and ``dense`` scores are exact for all (P,)."""

    positions: np.ndarray
    bm25: np.ndarray
    dense: np.ndarray


def minmax(scores: np.ndarray, floor: float | None = None) -> np.ndarray:
    """Scores moved to 0 … 1; ``floor`` replaces the least score where the least possible one is known.

    >>> minmax(np.array([1.0, 3.0, 2.0])).tolist()
    [0.0, 1.0, 0.5]
    """
    if not len(scores):
        return scores
    least = scores.min() if floor is None else floor
    span = scores.max() - least
    return (scores - least) / span if span > 0 else np.zeros(len(scores))


def normed(found: Candidates, weight: float) -> np.ndarray:
    """(1 - weight) · BM25 + weight · dense, each on 0 … 1. A BM25 score of 0 means that no term is shared."""
    return (1 - weight) * minmax(found.bm25, 0.0) + weight * minmax(found.dense)


def reciprocal(found: Candidates, pool: int) -> np.ndarray:
    """Σ 1 / (60 + rank) over the two lists of length ``pool``."""
    total = np.zeros(len(found.positions))
    for scores, least in ((found.bm25, 0.0), (found.dense, -np.inf)):
        held = np.flatnonzero(scores > least)
        best = held[top(scores[held], pool)]
        total[best] += 1 / (RRF_K + 1 + np.arange(len(best)))
    return total


def tune(index: Any, queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The fusion weight with the best mean nDCG@10 on judged queries: ``{"weight", "ndcg@10", "curve"}``.

    Every query is searched once; the weights of :data:`GRID` only mix its scores anew. Equal means fall to the
    weight nearest one half.
    """
    from nlpkit.metrics.ranking import ndcg

    judged = [q for q in queries if any(g > 0 for g in qrels.get(q, {}).values())]
    if not judged:
        from nlpkit.errors import DataError

        raise DataError(
            "none of the queries has a relevant document in the judgements; are the ids the same?"
        )
    totals = np.zeros(len(GRID))
    found = index.candidates([queries[q] for q in judged])
    for name, (candidates, ids) in zip(judged, found, strict=True):
        for i, weight in enumerate(GRID):
            best = top(normed(candidates, weight), 10)
            totals[i] += ndcg([ids[j] for j in best], qrels[name], 10)
    means: Sequence[float] = (totals / len(judged)).tolist()
    chosen = max(range(len(GRID)), key=lambda i: (round(means[i], 9), -abs(GRID[i] - 0.5)))
    curve = {str(w): m for w, m in zip(GRID, means, strict=True)}
    return {"weight": GRID[chosen], "ndcg@10": means[chosen], "queries": len(judged), "curve": curve}
