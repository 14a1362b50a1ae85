"""Reorder the first hits by a model that reads query and text together (Nogueira and Cho 2019, arXiv:1901.04085)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search.analyze import joined
from nlpkit.search.hits import Hit
from nlpkit.search.topk import top

_SPENT = 0.9  # of a budget is planned for; texts differ in length
_LEAST = 4  # pairs that are worth a call of the model


class Scorer(Protocol):
    """What a cross-encoder has to offer."""

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """One score (N,) for each of N texts; higher is better."""
        ...


def rerank(
    query: str,
    hits: Sequence[Hit],
    scorer: Scorer,
    k: int,
    *,
    milliseconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Hit]:
    """The best ``k`` of ``hits`` by the scorer; equal scores keep their order. The first score stays in ``parts``.

    With ``milliseconds`` the depth follows from the speed of the model on this query: the first ``k`` hits are always
    read, so that what is returned stands in one order; how many more, their pairs per millisecond say. The depth that
    was reached is ``parts["depth"]``.
    """
    if not hits:
        return []
    began = clock()
    depth = len(hits) if milliseconds is None else min(k, len(hits))
    scores = _scores(query, hits[:depth], scorer)
    while milliseconds is not None and depth < len(hits):
        spent = 1000 * (clock() - began)
        more = int((_SPENT * milliseconds - spent) * depth / max(spent, 1e-6))
        # A first call warms the model up, so the speed is measured again after at most as many pairs as before.
        more = min(more, depth, len(hits) - depth)
        if more < min(_LEAST, len(hits) - depth):
            break
        scores = np.concatenate([scores, _scores(query, hits[depth : depth + more], scorer)])
        depth += more
    told = {} if milliseconds is None else {"depth": float(depth)}
    return [_moved(hits[i], float(scores[i]), place, told) for place, i in enumerate(top(scores, k), 1)]


def _scores(query: str, hits: Sequence[Hit], scorer: Scorer) -> np.ndarray:
    scores = np.asarray(scorer.score(query, [joined(h.title, h.passage) for h in hits]), np.float64)
    if scores.shape != (len(hits),) or not np.isfinite(scores).all():
        raise ArtifactError(
            f"the reranker gave {scores.shape} scores for {len(hits)} texts, or some not finite"
        )
    return scores


def _moved(hit: Hit, score: float, place: int, told: dict[str, float]) -> Hit:
    why = hit.why
    if why:
        why = why | {"ranks": why.get("ranks", {}) | {"rerank": place}}
    return replace(hit, score=score, parts=hit.parts | {"first": hit.score, "rerank": score} | told, why=why)
