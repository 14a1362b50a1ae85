"""Two rankings into one: weighted normalized scores, or reciprocal ranks. n candidates of one query.

A convex combination of normalized scores beats rank fusion where its one weight is tuned (Bruch, Gai and Ingber
2023, "An Analysis of Fusion Functions for Hybrid Retrieval", sections 4 and 5); rank fusion needs no tuning
(Cormack, Clarke and Büttcher 2009). A BM25 score is divided by the best one: nothing is below 0, where no term is
shared. Cosines have no such floor that a model would come near to, so they are moved to 0 … 1 between the least and
the best among the first hundred or so of both lists; so one weight means the same for models whose cosines spread
differently, and a ranking does not change when more of it is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlpkit.search.topk import top_owners

GRID = tuple(round(0.02 * i, 2) for i in range(51))
RRF_K = 60
CUT = 10  # the measure of tuning is nDCG at this rank


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union of both first lists of one query, passage by passage, positions ascending; all arrays (n,).

    ``bm25`` and ``dense`` are exact scores of every candidate, whichever list it comes from, ``lexical`` and
    ``semantic`` the same on 0 … 1. ``bm25_rank`` and ``dense_rank`` count from 1; 0 where it is not in that list.
    ``rows`` names the document of each.
    """

    positions: np.ndarray
    rows: np.ndarray
    bm25: np.ndarray
    dense: np.ndarray
    lexical: np.ndarray
    semantic: np.ndarray
    bm25_rank: np.ndarray
    dense_rank: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def only(self, which: np.ndarray) -> "Candidates":
        """Some of them; their normalized scores stay as they are."""
        return Candidates(*(getattr(self, name)[which] for name in self.__slots__))


def union(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    pool: int | None = None,
) -> Candidates:
    """Candidates from two lists of (positions best first, exact scores of the union in position order).

    The positions differ, the scores are of the union ``np.union1d(first[0], second[0])``, of which ``rows`` (n,) are
    the documents. The first ``pool`` of both lists set the scale of cosines; those behind may be below 0.
    """
    positions = np.union1d(first[0], second[0]).astype(np.int64)
    ranks = []
    for listed, _ in (first, second):
        rank = np.zeros(len(positions), np.int64)
        rank[np.searchsorted(positions, listed)] = np.arange(1, len(listed) + 1)
        ranks.append(rank)
    dense = second[1]
    scale = dense
    if pool is not None:
        scale = dense[((ranks[0] > 0) & (ranks[0] <= pool)) | ((ranks[1] > 0) & (ranks[1] <= pool))]
    semantic = minmax(dense, scale.min() if len(scale) else None)
    return Candidates(positions, rows, first[1], dense, minmax(first[1], 0.0), semantic, *ranks)


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


def shares(found: Candidates, fusion: str, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """What words and meaning each add to the mixed score (n,).

    ``norm``: (1 - weight) · BM25 and weight · dense, each on 0 … 1. ``rrf``: 1 / (60 + rank) in the lists that a
    candidate is in.
    """
    if fusion == "norm":
        return (1 - weight) * found.lexical, weight * found.semantic
    first, second = (np.where(r > 0, 1 / (RRF_K + r), 0.0) for r in (found.bm25_rank, found.dense_rank))
    return first, second


def fused(found: Candidates, fusion: str, weight: float) -> np.ndarray:
    """The mixed scores (n,) by ``fusion``: norm or rrf."""
    words, meaning = shares(found, fusion, weight)
    return words + meaning


def contenders(found: Candidates, k: int = CUT) -> np.ndarray:
    """Which candidates (n,) bool can come among the first ``k`` documents at some weight.

    One before which ``k`` other documents stand at every weight cannot; so a curve over all weights needs the names
    of few documents.
    """
    made = np.zeros(len(found), bool)
    earlier = np.arange(len(found))
    for i, (a, b) in enumerate(zip(found.lexical, found.semantic, strict=True)):
        ahead = (found.lexical >= a) & (found.semantic >= b) & (found.rows != found.rows[i])
        ahead &= (earlier < i) | ((found.lexical > a) & (found.semantic > b))  # equals fall by position
        made[i] = len(np.unique(found.rows[ahead])) < k
    return made


def tune(index: Any, queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The fusion weight for judged queries: ``{"weight", "ndcg@10", "queries", "curve", "error"}``.

    Every query is searched once; the weights of :data:`GRID` only mix its scores anew. Of the weights whose mean
    nDCG@10 is not below the best one by more than the standard error of their paired difference (``error`` is the
    chosen one's), the one nearest to one half is taken: the rule of one standard error (Breiman et al. 1984, section
    3.4.3), by which few judgments cannot lead far astray. ``index.candidates(texts)`` gives (Candidates, ids) of each.
    """
    from nlpkit.errors import DataError
    from nlpkit.metrics.ranking import ndcg

    judged = [q for q in queries if any(g > 0 for g in qrels.get(q, {}).values())]
    if not judged:
        raise DataError(
            "none of the queries has a relevant document in the judgements; are the ids the same?"
        )
    scores = np.zeros((len(judged), len(GRID)))
    found = index.candidates([queries[q] for q in judged])
    for row, name, (candidates, ids) in zip(scores, judged, found, strict=True):
        for i, weight in enumerate(GRID):
            best = top_owners(fused(candidates, "norm", weight), CUT, candidates.rows)
            row[i] = ndcg([ids[j] for j in best], qrels[name], CUT)
    chosen, error = steady(scores)
    means: Sequence[float] = scores.mean(axis=0).tolist()
    curve = {str(w): m for w, m in zip(GRID, means, strict=True)}
    return {
        "weight": GRID[chosen],
        "ndcg@10": means[chosen],
        "queries": len(judged),
        "curve": curve,
        "error": error,
    }


def steady(scores: np.ndarray) -> tuple[int, float]:
    """Which of :data:`GRID` the rule of one standard error takes, for scores (queries, weights), and that error.

    >>> steady(np.array([[0.0] * 50 + [1.0]]))[0]
    50
    """
    means = scores.mean(axis=0)
    best = int(means.argmax())
    apart = scores - scores[:, [best]]
    spread = apart.std(axis=0, ddof=1) if len(scores) > 1 else np.zeros(scores.shape[1])
    errors = spread / len(scores) ** 0.5
    near = np.flatnonzero(means >= means[best] - errors - 1e-9)
    chosen = int(near[np.abs(np.asarray(GRID)[near] - 0.5).argmin()])
    return chosen, float(errors[chosen])
