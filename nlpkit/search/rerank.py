"""Reorder the first hits by a model that reads query and text together (Nogueira and Cho 2019, arXiv:1901.04085)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search.analyze import joined
from nlpkit.search.hits import Hit
from nlpkit.search.topk import top


class Scorer(Protocol):
    """What a cross-encoder has to offer."""

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """One score (N,) for each of N texts; higher is better."""
        ...


def rerank(query: str, hits: Sequence[Hit], scorer: Scorer, k: int) -> list[Hit]:
    """The best ``k`` of ``hits`` by the scorer; equal scores keep their order. The first score stays in ``parts``."""
    if not hits:
        return []
    scores = np.asarray(scorer.score(query, [joined(h.title, h.text) for h in hits]), np.float64)
    if scores.shape != (len(hits),) or not np.isfinite(scores).all():
        raise ArtifactError(
            f"the reranker gave {scores.shape} scores for {len(hits)} texts, or some not finite"
        )
    return [
        replace(
            hits[i],
            score=float(scores[i]),
            parts=hits[i].parts | {"first": hits[i].score, "rerank": float(scores[i])},
        )
        for i in top(scores, k)
    ]
