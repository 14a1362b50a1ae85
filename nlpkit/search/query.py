"""From queries to hits: first lists of words and of meaning, the union of both, their mixture, a second reading.

What is ranked are passages; what is answered are documents, each by its best passage. Conditions are applied before
ranking, so ``k`` documents that fulfil them are found wherever there are so many. Q queries, P passages (positions of
the view), D width.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nlpkit.errors import ArtifactError, UsageError, did_you_mean
from nlpkit.search import fuse
from nlpkit.search.analyze import passages
from nlpkit.search.fuse import Candidates
from nlpkit.search.hits import Hit
from nlpkit.search.rerank import Scorer, rerank
from nlpkit.search.topk import top, top_owners
from nlpkit.search.where import Where, flat

MODES = ("bm25", "dense", "hybrid")
FUSIONS = ("norm", "rrf")
POOL = 100
PASSAGES = 20  # bits of a passage's key that number it inside its document
Terms = Sequence[str] | Mapping[str, float]  # as they stand in a query, or with weights


@dataclass(frozen=True)
class Ask:
    """How a question is to be answered.

    ``k`` documents by ``mode`` (bm25, dense, hybrid). Hybrid mixes the first ``pool`` of both lists by ``fusion``
    (norm: the dense score has the share ``weight``; rrf). ``rerank`` reorders the first ``pool``, or as many as
    ``rerank_ms`` milliseconds a query allow. Only documents that fulfil ``where`` are ranked. ``expand`` adds terms of
    the first BM25 hits to the query (RM3). ``explain`` fills :attr:`Hit.why`.

    :raises UsageError: a value that means nothing.
    """

    k: int = 10
    mode: str = "bm25"
    weight: float = 0.5
    fusion: str = "norm"
    where: Where | None = None
    rerank: Scorer | None = None
    rerank_ms: float | None = None
    pool: int = POOL
    expand: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (("mode", self.mode, MODES), ("fusion", self.fusion, FUSIONS)):
            if value not in known:
                raise UsageError(f"unknown {what} {value!r}{did_you_mean(value, known)}")
        for what, number in (("k", self.k), ("pool", self.pool)):
            if number < 1:
                raise UsageError(f"{what} is {number}; it has to be 1 or more")
        if not 0 <= self.weight <= 1:
            raise UsageError(
                f"weight is {self.weight}; it has to be between 0 (BM25 only) and 1 (dense only)"
            )
        if self.rerank_ms is not None:
            if self.rerank is None:
                raise UsageError("--rerank-ms limits a reranker; name one with --rerank MODEL")
            if not self.rerank_ms > 0:
                raise UsageError(f"--rerank-ms is {self.rerank_ms:g}; it has to be above 0")
        if self.expand and self.mode == "dense":
            raise UsageError(
                "--expand adds words to a query, and --mode dense asks for none; use bm25 or hybrid"
            )

    @property
    def first(self) -> int:
        """How many documents the first stage has to bring."""
        return self.k if self.rerank is None else max(self.k, self.pool)

    @property
    def deep(self) -> int:
        """How many documents hybrid takes of each list."""
        return max(self.k, self.pool)


class View(Protocol):
    """What is asked of :class:`nlpkit.search.derived.View`."""

    keys: np.ndarray
    alive: np.ndarray
    parts: list[Any]
    tail: list[Any]
    analyze: Callable[[str], list[str]]

    @property
    def bm25(self) -> Any:
        """The scorer of words, by position."""
        ...

    def vectors(self) -> Any:
        """The vector store, by key."""
        ...

    def mask(self, where: Where) -> np.ndarray:
        """Which passages (P,) bool are alive and fulfil a condition."""
        ...


class Record(Protocol):
    """What is asked of :class:`nlpkit.search.store.Store`."""

    def fetch(self, rows: Iterable[int]) -> Mapping[int, Any]:
        """The documents of these rows."""
        ...

    def exists(self, row: int) -> str | None:
        """The id of a row, or None."""
        ...


@dataclass(frozen=True)
class _Found:
    """A ranked first stage: the best passage of each document, best first, and what is known of each."""

    positions: np.ndarray
    scores: np.ndarray
    parts: list[dict[str, float]]
    why: list[dict[str, Any]]


def answer(
    view: View, store: Record, queries: Sequence[str], vectors: np.ndarray | None, ask: Ask
) -> list[list[Hit]]:
    """The hits of each query; ``vectors`` (Q, D) are needed by all modes but bm25.

    A reranker is asked too. It takes long, so whoever holds a snapshot open calls :func:`first` in it and
    :func:`finish` after it.
    """
    return finish(queries, first(view, store, queries, vectors, ask), ask)


def first(
    view: View, store: Record, queries: Sequence[str], vectors: np.ndarray | None, ask: Ask
) -> list[list[Hit]]:
    """The hits of each query before reranking: ``k`` of them, or ``pool`` where they are to be reranked."""
    search = Search(view, store, ask)
    if ask.mode == "bm25":
        made = [search.lexical(text, ask.first) for text in queries]
    elif ask.mode == "dense":
        assert vectors is not None
        made = [_one("dense", *listed) for listed in search.nearest(vectors, ask.first)]
    else:
        assert vectors is not None
        near = search.nearest(vectors, ask.deep)
        made = [search.hybrid(*each) for each in zip(queries, vectors, near, strict=True)]
    return [search.hits(text, found) for text, found in zip(queries, made, strict=True)]


def finish(queries: Sequence[str], hits: list[list[Hit]], ask: Ask) -> list[list[Hit]]:
    """What :func:`first` gave, reranked where that is asked for."""
    if ask.rerank is None:
        return hits
    return [
        rerank(text, some, ask.rerank, ask.k, milliseconds=ask.rerank_ms)
        for text, some in zip(queries, hits, strict=True)
    ]


def candidates(
    view: View, store: Record, queries: Sequence[str], vectors: np.ndarray, ask: Ask
) -> list[tuple[Candidates, list[str]]]:
    """What fusion mixes for each query, and the documents' ids, for :func:`nlpkit.search.fuse.tune`.

    Only those candidates that are among the first ten at some weight, so that few ids are looked up.
    """
    search = Search(view, store, ask)
    near = search.nearest(vectors, ask.deep)
    made = []
    for text, vector, listed in zip(queries, vectors, near, strict=True):
        union = search.union(search.terms(text), vector, listed)
        union = union.only(fuse.contenders(union))
        made.append((union, [store.exists(int(row)) or "" for row in union.rows]))
    return made


class Search:
    """What the queries of one call share: the view, which passages may be found, and to which document each belongs."""

    def __init__(self, view: View, store: Record, ask: Ask) -> None:
        self.view, self.store, self.ask = view, store, ask
        self._grown: dict[str, Terms] = {}  # queries and what RM3 makes of them
        self.keys = view.keys
        self.rows = view.keys >> PASSAGES
        self.whole = not len(self.rows) or bool(
            (self.rows[1:] != self.rows[:-1]).all()
        )  # a passage a document
        self.allowed: np.ndarray | None = None
        if ask.where is not None:
            if len(self.keys):
                ask.where.check(_names(view))
            self.allowed = view.mask(ask.where)

    def terms(self, text: str) -> Terms:
        """The terms of a query, with RM3's where that is asked for."""
        if not self.ask.expand:
            return self.view.analyze(text)
        if text not in self._grown:
            from nlpkit.search.expand import expand

            asked = self.view.analyze(text)
            owner = None if self.whole else self.rows
            self._grown[text] = expand(
                self.view.bm25, asked, self._terms_of, allowed=self.allowed, owner=owner
            )
        return self._grown[text]

    def _terms_of(self, positions: np.ndarray) -> list[list[str]]:
        rows = self.rows[positions].tolist()
        stored = self.store.fetch(rows)
        made = []
        for row, number in zip(rows, self._numbers(positions), strict=True):
            one = stored[row]
            made.append(self.view.analyze(passages(one.title, one.text, one.spans)[number]))
        return made

    def _numbers(self, positions: np.ndarray) -> list[int]:
        """Which passage of its document each is."""
        numbers: list[int] = (self.keys[positions] & ((1 << PASSAGES) - 1)).tolist()
        return numbers

    def lexical(self, text: str, k: int) -> _Found:
        """The first ``k`` documents by words."""
        terms = self.terms(text)
        owner = None if self.whole else self.rows
        positions, scores = self.view.bm25.top(terms, k, self.allowed, owner)
        return _one("bm25", positions, scores)

    def nearest(self, vectors: np.ndarray, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions and scores of the best passages of the ``k`` documents nearest to each query (Q, D), best first.

        A query of which the model knows nothing (a vector of zeros) is near to no document.
        """
        store = self.view.vectors()
        found = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(vectors)
        waiting = np.flatnonzero(np.any(vectors != 0, axis=1))
        there = int(store.count())
        asked = min(k if self.whole else 2 * k, there)
        allowed = None if self.allowed is None else self._allows
        while len(waiting) and asked:
            keys, scores = store.search(np.ascontiguousarray(vectors[waiting]), asked, allowed)
            short = []
            for place, mine, score in zip(waiting.tolist(), keys, scores, strict=True):
                held = mine >= 0
                mine, score = mine[held], score[held]
                if not self.whole:
                    _, once = np.unique(mine >> PASSAGES, return_index=True)
                    if len(once) < k and len(mine) == asked < there:
                        short.append(place)
                        continue
                    once = np.sort(once)[:k]
                    mine, score = mine[once], score[once]
                found[place] = (self._positions(mine), score)
            waiting, asked = np.array(short, np.int64), min(4 * asked, there)
        return found

    def union(self, terms: Terms, vector: np.ndarray, near: tuple[np.ndarray, np.ndarray]) -> Candidates:
        """Both first lists of a query as one, each candidate with its exact scores."""
        scores = self.view.bm25.scores(terms, self.allowed)
        deep = self.ask.deep
        words = top(scores, deep, 0.0) if self.whole else top_owners(scores, deep, self.rows, 0.0)
        close = near[0]
        positions = np.union1d(words, close).astype(np.int64)
        dense = np.empty(len(positions), np.float64)
        dense[np.searchsorted(positions, close)] = near[1]
        rest = np.setdiff1d(words, close, assume_unique=True)
        if len(rest):
            try:
                exact = self.view.vectors().scores(np.ascontiguousarray(vector), self.keys[rest])
            except KeyError as error:
                raise ArtifactError(f"a passage has no vector ({error}); {_REBUILD}") from error
            dense[np.searchsorted(positions, rest)] = exact
        return fuse.union((words, scores[positions]), (close, dense), self.rows[positions], self.ask.pool)

    def hybrid(self, text: str, vector: np.ndarray, near: tuple[np.ndarray, np.ndarray]) -> _Found:
        """The first documents by the mixture of both scores."""
        found = self.union(self.terms(text), vector, near)
        mixed = fuse.fused(found, self.ask.fusion, self.ask.weight)
        best = top_owners(mixed, self.ask.first, found.rows)
        parts = [{"bm25": float(found.bm25[i]), "dense": float(found.dense[i])} for i in best]
        why: list[dict[str, Any]] = [{} for _ in best]
        if self.ask.explain:
            shares = fuse.shares(found, self.ask.fusion, self.ask.weight)
            for place, i in enumerate(best, 1):
                why[place - 1] = {
                    "mixed": {"bm25": float(shares[0][i]), "dense": float(shares[1][i])},
                    "ranks": {
                        "bm25": int(found.bm25_rank[i]) or None,
                        "dense": int(found.dense_rank[i]) or None,
                        "mixed": place,
                    },
                }
        return _Found(found.positions[best], mixed[best], parts, why)

    def hits(self, text: str, found: _Found) -> list[Hit]:
        """The documents of a ranking, read from the record."""
        rows = self.rows[found.positions].tolist()
        stored = self.store.fetch(rows)
        numbers = self._numbers(found.positions)
        terms = (
            self._weights(text, found.positions) if self.ask.explain and self.ask.mode != "dense" else None
        )
        made = []
        for i, (row, number) in enumerate(zip(rows, numbers, strict=True)):
            one = stored[row]
            start, end = (int(x) for x in one.spans[number]) if len(one.spans) else (0, len(one.text))
            why = found.why[i]
            if self.ask.explain:
                why = {"ranks": {self.ask.mode: i + 1}} | why
                if terms is not None:
                    why["terms"] = terms[i]
            made.append(
                Hit(
                    one.id,
                    float(found.scores[i]),
                    one.text,
                    one.title,
                    one.fields,
                    found.parts[i],
                    start,
                    end,
                    why,
                )
            )
        return made

    def _weights(self, text: str, positions: np.ndarray) -> list[list[tuple[str, float]]]:
        """For each position the query's terms with their share of its BM25 score, the greatest first."""
        shares: Mapping[str, np.ndarray] = self.view.bm25.explain(self.terms(text), positions)
        return [
            sorted(((t, float(s[i])) for t, s in shares.items() if s[i]), key=lambda pair: -pair[1])
            for i in range(len(positions))
        ]

    def _allows(self, keys: np.ndarray) -> np.ndarray:
        """Which passages (n,) may be found, by their keys."""
        assert self.allowed is not None
        if len(keys) == len(self.keys) and bool((keys == self.keys).all()):
            return self.allowed
        return np.asarray(self.allowed[self._positions(keys)])

    def _positions(self, keys: np.ndarray) -> np.ndarray:
        at = np.searchsorted(self.keys, keys)
        if len(at) and (at.max() >= len(self.keys) or (self.keys[at] != keys).any()):
            raise ArtifactError(f"the vectors name a passage that is not there; {_REBUILD}")
        return at


_REBUILD = "nothing was changed; make the derived files again with: nlpkit index rebuild INDEX"


def _one(name: str, positions: np.ndarray, scores: np.ndarray) -> _Found:
    return _Found(positions, scores, [{name: float(s)} for s in scores], [{} for _ in scores])


def _names(view: View) -> set[str]:
    """The names of all fields of all documents."""
    names = {name for part in view.parts for name in part.columns.names}
    return names | {name for one in view.tail for name, _ in flat(one.fields)}
