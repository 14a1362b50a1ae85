"""Which document holds which term how often: immutable tables by term, counted, merged, written and mapped.

N documents, V terms, P postings. A table depends on its documents alone, so it is never written twice: statistics of
the corpus (how many documents, how long, how many hold a term) are added up when they are asked for.

A term is known by 64 bits of its BLAKE2 hash. That makes a table of a million terms as quick to open as one of ten:
hashes are spread evenly, so the place of one among the sorted is known to within a few hundred, and only that
neighbourhood is read. It also makes merging an addition of numbers. (Two among ten million different terms share a
hash with a probability of 3 in a million; they would then count as one term.)
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from itertools import count as counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nlpkit.store import blocks

Array = np.ndarray | blocks.Checked
PARTS = ("hashes", "starts", "documents", "counts", "lengths")
_TOKENS = 1 << 21  # tokens counted at a time
_POSTINGS = 1 << 22  # postings moved at a time
_DOCUMENTS = 1024  # documents taken from their source at a time


def key(term: str) -> int:
    """The 64 bits that stand for a term, the same on every machine."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, eq=False)
class Segment:
    """The counts of some documents, by term. Immutable; in memory, or mapped from a folder.

    ``hashes`` (V,) uint64, ascending; ``starts`` (V+1,) int64 into ``documents`` (P,) int32, ascending in a term, and
    ``counts`` (P,), unsigned and as narrow as they allow; ``lengths`` (N,) int32, in terms.
    """

    hashes: Array
    starts: Array
    documents: Array
    counts: Array
    lengths: Array

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def terms(self) -> int:
        """How many different terms there are."""
        return len(self.hashes)

    @property
    def in_memory(self) -> bool:
        """Whether nothing of it lies on disk."""
        return isinstance(self.documents, np.ndarray)

    def find(self, terms: np.ndarray) -> list[tuple[int, int]]:
        """Where the postings of terms, whose :func:`key` are given as uint64, begin and end; (0, 0) for none."""
        if isinstance(self.hashes, np.ndarray) and isinstance(self.starts, np.ndarray):
            at = self.hashes.searchsorted(terms)
            at[at == len(self.hashes)] = 0
            there = self.hashes[at] == terms if len(self.hashes) else np.zeros(len(terms), bool)
            return list(
                zip(
                    (self.starts[at] * there).tolist(),
                    (self.starts[at + there] * there).tolist(),
                    strict=True,
                )
            )
        return [self._find(term) for term in terms.tolist()]

    def _find(self, term: int) -> tuple[int, int]:
        """The same of one term, reading only what lies around its place."""
        size = len(self.hashes)
        # The place of a hash deviates by at most sqrt(V) / 2 on average; eight times that holds always, or nearly.
        place, reach = term * size >> 64, 64 + 4 * math.isqrt(size)
        low, high = max(0, place - reach), min(size, place + reach)
        near = self.hashes[low:high]
        wanted = np.uint64(term)
        at = int(near.searchsorted(wanted))
        if (at == 0 and low > 0) or (at == len(near) and high < size):
            low, near = 0, self.hashes[:]
            at = int(near.searchsorted(wanted))
        if at == len(near) or near[at] != wanted:
            return 0, 0
        start, end = self.starts[low + at : low + at + 2].tolist()
        return start, end

    def postings(self, term: str) -> tuple[np.ndarray, np.ndarray]:
        """Documents that hold the term (ascending) and how often."""
        ((start, end),) = self.find(np.array([key(term)], np.uint64))
        return self.documents[start:end], self.counts[start:end]

    def write(self, folder: Path) -> dict[str, int]:
        """Write ``bm25-*.npy`` into a folder; what to keep in a sealed place for :meth:`open`, by file name."""
        return {
            f"bm25-{part}.npy": blocks.write(folder / f"bm25-{part}.npy", getattr(self, part)[:])
            for part in PARTS
        }

    @classmethod
    def open(cls, folder: Path, told: dict[str, int], remedy: str) -> "Segment":
        """Map what :meth:`write` wrote; blocks are checked when a query touches them.

        :raises ArtifactError: a file is missing or damaged; ``remedy`` ends the message.
        """
        names = {part: f"bm25-{part}.npy" for part in PARTS}
        parts = {p: blocks.Checked(folder / name, told.get(name, -1), remedy) for p, name in names.items()}
        return cls(**parts)


class _Run(NamedTuple):
    """Postings of some documents, term by term: numbers of T different terms, how many each has; P of the rest."""

    terms: np.ndarray
    sizes: np.ndarray
    documents: np.ndarray
    counts: np.ndarray


def count(texts: Iterable[Sequence[str]]) -> Segment:
    """The segment of documents given as lists of terms.

    >>> segment = count([["a", "b", "a"], ["b"]])
    >>> [x.tolist() for x in segment.postings("b")]
    [[0, 1], [1, 1]]
    """
    vocabulary: defaultdict[str, int] = defaultdict(counter().__next__)
    runs: list[_Run] = []
    ids: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    tokens = first = 0
    lengths = []

    def close() -> None:
        nonlocal tokens, first
        length = np.concatenate(sizes)
        runs.append(_counted(np.concatenate(ids), length, first))
        lengths.append(length)
        tokens, first = 0, first + len(length)
        ids.clear()
        sizes.clear()

    source = iter(texts)
    while chunk := list(islice(source, _DOCUMENTS)):
        sizes.append(np.fromiter(map(len, chunk), np.int32, len(chunk)))
        ids.append(np.fromiter(map(vocabulary.__getitem__, chain.from_iterable(chunk)), np.int64))
        tokens += len(ids[-1])
        if tokens >= _TOKENS:
            close()
    if sizes:
        close()
    hashes = np.fromiter(map(key, vocabulary), np.uint64, len(vocabulary))
    order = np.argsort(hashes)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    df = np.zeros(len(order), np.int64)
    for run in runs:
        df[run.terms] += run.sizes
    documents, counts, starts = _placed(df[order], (r._replace(terms=rank[r.terms]) for r in runs))
    return Segment(hashes[order], starts, documents, _narrow(counts), _cat(lengths))


def _counted(ids: np.ndarray, lengths: np.ndarray, first: int) -> _Run:
    """Term numbers, end to end, of documents ``first`` and on, counted."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    shift = max(1, len(lengths)).bit_length()
    pairs, times = np.unique((ids << shift) | owner, return_counts=True)
    terms, sizes = np.unique(pairs >> shift, return_counts=True)
    documents = (pairs & ((1 << shift) - 1)) + first
    return _Run(terms, sizes, documents.astype(np.int32), _narrow(times))


def _placed(df: np.ndarray, runs: Iterable[_Run]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents, counts and starts of one table from runs in the order of their documents. No sorting is needed:
    every run continues the row of each of its terms where the run before it ended."""
    starts = np.concatenate([[0], np.cumsum(df)]).astype(np.int64)
    documents = np.empty(starts[-1], np.int32)
    counts = np.empty(starts[-1], np.uint32)
    cursor = starts[:-1].copy()
    for terms, sizes, some, times in runs:
        shift = cursor[terms] - (np.cumsum(sizes) - sizes)
        to = np.repeat(shift, sizes) + np.arange(len(some))
        documents[to] = some
        counts[to] = times
        cursor[terms] += sizes
    return documents, counts, starts


def merge(segments: Sequence[Segment], keep: np.ndarray) -> Segment:
    """One segment of several, without the documents where ``keep`` (N in all, bool) is false.

    Needs memory for the segment that it makes and a few million postings more.
    """
    hashes = np.unique(_cat([s.hashes[:] for s in segments], np.uint64))
    df = np.zeros(len(hashes), np.int64)
    for run in _runs(segments, hashes, keep):
        df[run.terms] += run.sizes
    documents, counts, starts = _placed(df, _runs(segments, hashes, keep))
    left = df > 0
    starts = np.concatenate([starts[:-1][left], starts[-1:]])
    lengths = _cat([s.lengths[:] for s in segments])[keep]
    return Segment(hashes[left], starts, documents, _narrow(counts), lengths)


def _runs(segments: Sequence[Segment], hashes: np.ndarray, keep: np.ndarray) -> Iterator[_Run]:
    """The postings that are kept, at their new positions; a segment is several runs of some terms each."""
    place = (np.cumsum(keep) - 1).astype(np.int32)  # (N,) new position of a kept document
    first = 0
    for segment in segments:
        rank = hashes.searchsorted(segment.hashes[:])
        starts = segment.starts[:]
        mine = keep[first : first + len(segment)]
        low = 0
        while low < len(rank):
            high = max(low + 1, int(starts.searchsorted(starts[low] + _POSTINGS, "right")) - 1)
            part = slice(int(starts[low]), int(starts[high]))
            documents, counts = segment.documents[part], segment.counts[part]
            sizes = np.diff(starts[low : high + 1])
            if not mine.all():
                kept = mine[documents]
                ends = np.cumsum(sizes)
                passed = np.concatenate([[0], np.cumsum(kept)])
                sizes = passed[ends] - passed[ends - sizes]
                documents, counts = documents[kept], counts[kept]
            yield _Run(rank[low:high], sizes, place[first : first + len(segment)][documents], counts)
            low = high
        first += len(segment)


def _narrow(counts: np.ndarray) -> np.ndarray:
    """Counts in the narrowest unsigned kind that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))), copy=False)


def _cat(parts: Sequence[np.ndarray], kind: type = np.int32) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, kind)
