"""What a search answers with."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found.

    ``parts`` says what the score is made of: ``bm25``, ``dense``, ``first`` (before reranking), ``rerank``, and
    ``depth``, how many hits a reranker with a budget read. ``text[start:end]`` is the passage that scored best (the
    whole text in an index without chunks). ``why`` is filled for ``explain``: ``terms``, (term, weight) pairs whose sum
    is the BM25 score; ``mixed``, what ``bm25`` and ``dense`` each add to the mixed score; ``ranks``, the place in each
    stage (``bm25``, ``dense``, ``mixed``, ``rerank``) from 1, or None where it is not in the first list of a stage.
    """

    id: str
    score: float
    text: str
    title: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    start: int = 0
    end: int | None = None
    why: dict[str, Any] = field(default_factory=dict)

    @property
    def passage(self) -> str:
        """The part of the text that scored best."""
        return self.text[self.start : self.end]
