"""BM25 that documents can join and leave: counts are stored, every weight is computed when a query is asked.

N documents have positions 0 … N-1; P postings. Adding makes a small :class:`~nlpkit.search.postings.Segment` more,
deleting masks a position; nothing that is stored depends on the rest of the corpus, so no document is ever scored
again. Score of a document d for a query q (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009, section 3; idf as in Lucene, which never falls below zero), where w is 1 for each time a term is asked::

    Σ over t in q of  w · ln(1 + (N - df + 0.5) / (df + 0.5)) · tf / (tf + k1 · (1 - b + b · |d| / mean|d|))

What a term adds to its documents is kept until the documents change, up to a limit of memory; a query then is a few
additions of vectors.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

from nlpkit.errors import UsageError
from nlpkit.search.postings import Segment, count, key, merge
from nlpkit.search.topk import top, top_owners

__all__ = ["BM25", "Query", "Segment", "count", "merge"]

#: Terms, each once for each time it is asked, or terms with weights above zero.
Query = Sequence[str] | Mapping[str, float]

_DENSE = 12  # a term in more than one of so many documents is kept as one number a document
_KEPT = 256 << 20  # bytes of impacts that are kept


class _Impact(NamedTuple):
    """What one term adds: to ``documents`` (df,) int64 each its own of ``impacts`` (df,), or to all N (``None``)."""

    documents: np.ndarray | None
    impacts: np.ndarray


class _Statistics:
    """The numbers that hold while no document comes or goes, and what is computed with them on demand."""

    def __init__(self, index: "BM25") -> None:
        alive, lengths = index.alive, index.lengths
        self.segments = tuple(index.segments)
        self.total = int(np.count_nonzero(alive))
        self.alive = None if self.total == len(alive) else alive.copy()
        there = lengths if self.alive is None else lengths[alive]
        self.mean = float(there.sum(dtype=np.int64)) / self.total if self.total else 0.0
        slope = index.k1 * index.b / self.mean if self.mean else 0.0
        self.norm = lengths * slope + index.k1 * (1 - index.b)  # (N,)
        self._kept: dict[str, _Impact | None] = {}
        self._bytes = 0
        self._lock = Lock()

    def postings(self, terms: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Positions (P,) int64 of the documents that exist and hold a term, term by term and ascending in each, how
        often (P,) float64, and where each term's begin, and the end."""
        keys = np.array([key(term) for term in terms], np.uint64)
        documents, counts, ends = [], [], [0]
        for spans in zip(*(segment.find(keys) for segment in self.segments), strict=True):
            size = first = 0
            for segment, (start, end) in zip(self.segments, spans, strict=True):
                if end > start:
                    at = segment.documents[start:end]
                    documents.append(at + first if first else at)
                    counts.append(segment.counts[start:end])
                    size += end - start
                first += len(segment)
            ends.append(ends[-1] + size)
        if not documents:
            return np.empty(0, np.int64), np.empty(0), [0] * (len(terms) + 1)
        positions = np.concatenate(documents, dtype=np.int64)
        times = np.concatenate(counts, dtype=np.float64)
        if self.alive is not None:
            kept = self.alive[positions]
            ends = np.concatenate([[0], np.cumsum(kept)])[ends].tolist()
            positions, times = positions[kept], times[kept]
        return positions, times, ends

    def impacts(self, terms: Sequence[str]) -> list[_Impact | None]:
        """What each term adds to which documents; None where it occurs nowhere."""
        kept = self._kept  # once it is full another takes its place, so that this one only grows
        fresh = [term for term in terms if term not in kept]
        made = self._made(fresh) if fresh else {}
        return [made[term] if term in made else kept[term] for term in terms]

    def _made(self, terms: Sequence[str]) -> dict[str, _Impact | None]:
        documents, impacts, ends = self.postings(terms)
        impacts /= impacts + self.norm.take(documents)
        size = 200 * len(terms) + documents.nbytes + impacts.nbytes
        made: dict[str, _Impact | None] = {}
        for term, start, end in zip(terms, ends, ends[1:], strict=False):
            if not (df := end - start):
                made[term] = None
                continue
            at, adds = documents[start:end], impacts[start:end]
            adds *= math.log1p((self.total - df + 0.5) / (df + 0.5))
            made[term] = _Impact(at, adds)
            if df * _DENSE > len(self.norm):
                dense = np.zeros(len(self.norm))
                dense[at] = adds
                made[term] = _Impact(None, dense)
                size += dense.nbytes
        with self._lock:
            if self._bytes + size > _KEPT:
                self._kept, self._bytes = {}, 0
            self._kept.update(made)
            self._bytes += size
        return made


class BM25:
    """A scorer over a few segments, whose documents have positions one behind the other.

    Any number of threads may ask; one at a time may change it, while none asks.

    >>> index = BM25()
    >>> index.add([["cat"], ["dog", "cat"]])
    >>> index.top(["dog"], 5)[0].tolist()
    [1]
    >>> index.delete([1])
    >>> index.top(["dog"], 5)[0].tolist()
    []
    """

    def __init__(
        self, segments: Segment | Iterable[Segment] = (), *, k1: float = 1.2, b: float = 0.75
    ) -> None:
        self.k1, self.b = k1, b
        self.segments: list[Segment] = [segments] if isinstance(segments, Segment) else list(segments)
        self.alive = np.ones(sum(map(len, self.segments)), bool)
        self._lengths: np.ndarray | None = None
        self._now: _Statistics | None = None

    def __len__(self) -> int:
        """How many positions there are, those of deleted documents too."""
        return len(self.alive)

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return self._statistics.total

    @property
    def lengths(self) -> np.ndarray:
        """How many terms each document has, (N,) int32; read on first use."""
        if self._lengths is None:
            parts = [s.lengths[:] for s in self.segments]
            self._lengths = np.concatenate(parts) if parts else np.empty(0, np.int32)
        return self._lengths

    @property
    def _statistics(self) -> _Statistics:
        now = self._now
        if now is None:
            now = self._now = _Statistics(self)
        return now

    def append(self, segment: Segment) -> None:
        """Append the documents of a segment; they take the next positions.

        Segments in memory are joined like the digits of a binary counter: there are few of them, and a posting is
        moved a logarithmic number of times. One that is mapped from disk stays as it is.
        """
        self.segments.append(segment)
        while len(self.segments) > 1:
            before, last = self.segments[-2:]
            if not (before.in_memory and last.in_memory) or len(before) >= 2 * len(last):
                break
            self.segments[-2:] = [merge([before, last], np.ones(len(before) + len(last), bool))]
        self.alive = np.concatenate([self.alive, np.ones(len(segment), bool)])
        self._lengths = self._now = None

    def add(self, texts: Iterable[Sequence[str]]) -> None:
        """Append documents, given as lists of terms."""
        self.append(count(texts))

    def delete(self, positions: Sequence[int] | np.ndarray) -> None:
        """Take documents out of every count."""
        self.alive[np.asarray(positions, np.int64)] = False
        self._now = None

    def compacted(self) -> Segment:
        """One segment of the documents that are left, at new positions in the same order."""
        return merge(self.segments, self.alive)

    def frequency(self, term: str) -> int:
        """How many documents hold a term."""
        if self._statistics.alive is None:
            wanted = np.array([key(term)], np.uint64)
            return sum(end - start for segment in self.segments for start, end in segment.find(wanted))
        return len(self._statistics.postings([term])[0])

    def scores(self, query: Query, allowed: np.ndarray | None = None) -> np.ndarray:
        """Scores (N,) float64 of all positions.

        0 where no term is shared, the document is deleted, or ``allowed`` (N,) bool is false.
        """
        asked = weights(query)
        total = np.zeros(len(self.alive))
        for impact, weight in zip(self._statistics.impacts(list(asked)), asked.values(), strict=True):
            if impact is None:
                continue
            impacts = impact.impacts if weight == 1 else impact.impacts * weight
            if impact.documents is None:
                total += impacts
            else:
                total[impact.documents] += impacts  # a document is there once, so that nothing is lost
        if allowed is not None:
            total *= allowed
        return total

    def top(
        self, query: Query, k: int, allowed: np.ndarray | None = None, owner: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions and scores of the best ``k`` documents that share a term with the query, ties by position.

        ``allowed`` (N,) bool limits the choice. ``owner`` (N,) int64 says to which document a passage belongs: of each
        document only its best passage is returned, and ``k`` counts documents.
        """
        scores = self.scores(query, allowed)
        best = top(scores, k, 0.0) if owner is None else top_owners(scores, k, owner, 0.0)
        return best, scores[best]

    def explain(self, query: Query, positions: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """What each term of the query adds to the scores of some documents, (n,) float64 by term."""
        at = np.asarray(positions, np.int64)
        made: dict[str, np.ndarray] = {}
        asked = weights(query)
        for (term, weight), impact in zip(asked.items(), self._statistics.impacts(list(asked)), strict=True):
            if impact is None:
                made[term] = np.zeros(len(at))
            elif impact.documents is None:
                made[term] = impact.impacts[at] * weight
            else:
                near = np.minimum(impact.documents.searchsorted(at), len(impact.documents) - 1)
                made[term] = (impact.documents[near] == at) * impact.impacts[near] * weight
        return made


def weights(query: Query) -> Mapping[str, float]:
    """The weight of each term of a query.

    :raises UsageError: one is not above zero.

    >>> weights(["a", "b", "a"])
    {'a': 2, 'b': 1}
    """
    if isinstance(query, Mapping):
        if any(not 0 < w < math.inf for w in query.values()):
            raise UsageError("the weight of a query's term has to be above 0")
        return query
    made: dict[str, float] = {}
    for term in query:
        made[term] = made.get(term, 0) + 1
    return made
