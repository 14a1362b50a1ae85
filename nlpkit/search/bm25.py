"""BM25 that documents can join and leave: counts are stored, every weight is computed when a query is asked.

N documents have positions 0 … N-1; V terms; P postings. A :class:`Segment` is a compressed table by term. Adding
makes a small segment more, deleting masks a position; nothing that is stored depends on the rest of the corpus,
so no document is ever scored again. Score of a document d for a query q (Robertson and Zaragoza, "The Probabilistic
Relevance Framework: BM25 and Beyond", 2009, section 3; idf as in Lucene, which never falls below zero)::

    Σ over t in q of  ln(1 + (N - df + 0.5) / (df + 0.5)) · tf / (tf + k1 · (1 - b + b · |d| / mean|d|))
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from nlpkit.search.topk import top

_CHUNK = 1024  # documents counted at a time


@dataclass(frozen=True)
class Segment:
    """The counts of some documents, by term. Immutable.

    ``letters`` (bytes of all terms, sorted, end to end) uint8, ``ends`` (V+1) int64 into it; ``starts`` (V+1) int64
    into ``documents`` (P) int32 and ``counts`` (P) int32; ``lengths`` (N) int32, in terms.
    """

    letters: np.ndarray
    ends: np.ndarray
    starts: np.ndarray
    documents: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def term(self, number: int) -> bytes:
        """The UTF-8 bytes of a term."""
        return self.letters[self.ends[number] : self.ends[number + 1]].tobytes()

    def find(self, term: bytes) -> int | None:
        """The number of a term, or None."""
        at = bisect_left(range(len(self.ends) - 1), term, key=self.term)
        return at if at < len(self.ends) - 1 and self.term(at) == term else None

    def postings(self, term: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Documents that hold the term (ascending) and how often."""
        number = self.find(term)
        if number is None:
            return np.empty(0, np.int32), np.empty(0, np.int32)
        part = slice(int(self.starts[number]), int(self.starts[number + 1]))
        return self.documents[part], self.counts[part]


def count(texts: Iterable[Sequence[str]]) -> Segment:
    """The segment of documents given as lists of terms.

    >>> segment = count([["a", "b", "a"], ["b"]])
    >>> [x.tolist() for x in segment.postings(b"b")]
    [[0, 1], [1, 1]]
    """
    vocabulary: dict[str, int] = {}
    terms, documents, counts, lengths = [], [], [], []
    source = iter(texts)
    first = 0
    while chunk := list(islice(source, _CHUNK)):
        sizes = np.fromiter(map(len, chunk), np.int64, len(chunk))
        ids = np.fromiter(
            (vocabulary.setdefault(t, len(vocabulary)) for t in chain.from_iterable(chunk)),
            np.int64,
            int(sizes.sum()),
        )
        keys, times = np.unique(
            (ids << 32) | np.repeat(np.arange(first, first + len(chunk)), sizes), return_counts=True
        )
        terms.append(keys >> 32)
        documents.append((keys & 0xFFFFFFFF).astype(np.int32))
        counts.append(times.astype(np.int32))
        lengths.append(sizes.astype(np.int32))
        first += len(chunk)
    words = [t.encode("utf-8", "surrogatepass") for t in vocabulary]
    return _table(words, _cat(terms, np.int64), _cat(documents), _cat(counts), _cat(lengths))


def merge(segments: Sequence[Segment], keep: np.ndarray) -> Segment:
    """One segment of several, without the documents where ``keep`` (N in all, bool) is false."""
    vocabulary: dict[bytes, int] = {}
    terms, documents, counts = [], [], []
    place = (np.cumsum(keep) - 1).astype(np.int32)  # (N,) new position of a kept document
    first = 0
    for segment in segments:
        known = [
            vocabulary.setdefault(segment.term(i), len(vocabulary)) for i in range(len(segment.ends) - 1)
        ]
        at = segment.documents.astype(np.int64) + first
        kept = keep[at]
        owner = np.repeat(np.array(known, np.int64), np.diff(segment.starts))
        terms.append(owner[kept])
        documents.append(place[at[kept]])
        counts.append(segment.counts[kept])
        first += len(segment)
    lengths = _cat([s.lengths for s in segments])[keep]
    return _table(list(vocabulary), _cat(terms, np.int64), _cat(documents), _cat(counts), lengths)


def _cat(parts: Sequence[np.ndarray], kind: type = np.int32) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _table(
    words: list[bytes], terms: np.ndarray, documents: np.ndarray, counts: np.ndarray, lengths: np.ndarray
) -> Segment:
    """Sort postings by term bytes, then document; terms without postings are left out."""
    df = np.bincount(terms, minlength=len(words)) if len(terms) else np.zeros(len(words), np.int64)
    order = sorted((i for i in range(len(words)) if df[i]), key=words.__getitem__)
    rank = np.zeros(len(words), np.int64)
    rank[order] = np.arange(len(order))
    by = np.argsort((rank[terms] << 32) | documents)
    sizes = np.array([len(words[i]) for i in order], np.int64)
    letters = np.frombuffer(b"".join(words[i] for i in order), np.uint8)
    ends, starts = (np.concatenate([[0], np.cumsum(x)]).astype(np.int64) for x in (sizes, df[order]))
    return Segment(letters, ends, starts, documents[by], counts[by], lengths)


class BM25:
    """A scorer over a few segments.

    >>> index = BM25()
    >>> index.add([["cat"], ["dog", "cat"]])
    >>> index.top(["dog"], 5)[0].tolist()
    [1]
    >>> index.delete([1])
    >>> index.top(["dog"], 5)[0].tolist()
    []
    """

    MOST_SEGMENTS = 8

    def __init__(self, segment: Segment | None = None, *, k1: float = 1.2, b: float = 0.75) -> None:
        self.k1, self.b = k1, b
        self.segments: list[Segment] = [segment] if segment is not None else []
        self.lengths = segment.lengths if segment is not None else np.empty(0, np.int32)
        self.alive = np.ones(len(self.lengths), bool)

    def add(self, texts: Iterable[Sequence[str]]) -> None:
        """Append documents, given as lists of terms; they take the next positions."""
        fresh = count(texts)
        self.segments.append(fresh)
        self.lengths = np.concatenate([self.lengths, fresh.lengths])
        self.alive = np.concatenate([self.alive, np.ones(len(fresh), bool)])
        if len(self.segments) > self.MOST_SEGMENTS:
            # Join the small ones; the first, which is the bulk, stays as it is.
            tail = self.segments[1:]
            joined = merge(tail, np.ones(sum(map(len, tail)), bool))
            self.segments = [self.segments[0], joined]

    def delete(self, positions: Sequence[int] | np.ndarray) -> None:
        """Take documents out of every count."""
        self.alive[np.asarray(positions, np.int64)] = False

    def compacted(self) -> Segment:
        """One segment of the documents that are left, at new positions in the same order."""
        return merge(self.segments, self.alive)

    def scores(self, query: Sequence[str]) -> np.ndarray:
        """Scores (N,) float64 of all positions; 0 where no term is shared or the document is deleted."""
        total = int(self.alive.sum())
        mean = float(self.lengths[self.alive].mean()) if total else 0.0
        where, what = [], []
        for term, times in Counter(query).items():
            documents, counts = self._postings(term.encode("utf-8", "surrogatepass"))
            df = len(documents)
            if not df:
                continue
            idf = np.log1p((total - df + 0.5) / (df + 0.5))
            norm = self.k1 * (1 - self.b + self.b * self.lengths[documents] / mean)
            where.append(documents)
            what.append(times * idf * counts / (counts + norm))
        if not where:
            return np.zeros(len(self.lengths))
        return np.bincount(np.concatenate(where), np.concatenate(what), minlength=len(self.lengths))

    def _postings(self, term: bytes) -> tuple[np.ndarray, np.ndarray]:
        first, found = 0, []
        for segment in self.segments:
            documents, counts = segment.postings(term)
            found.append((documents.astype(np.int64) + first, counts))
            first += len(segment)
        documents = _cat([d for d, _ in found], np.int64)
        counts = _cat([c for _, c in found])
        kept = self.alive[documents]
        return documents[kept], counts[kept]

    def top(self, query: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and scores of the best ``k`` documents that share a term with the query."""
        scores = self.scores(query)
        held = np.flatnonzero(scores > 0)
        best = held[top(scores[held], k)]
        return best, scores[best]
