"""Counting for GloVe: a vocabulary, the text as a stream of ids, and how often words stand near one another.

V vocabulary, S length of the stream. A stream holds the ids of the words that the vocabulary keeps, in order, with
:data:`~nlpkit.vectors.kernels.END` before, between and after documents: no window reaches across a document.
Words outside the vocabulary leave no gap, as in the authors' own program (Pennington, Socher, Manning 2014, §3).
"""

import hashlib
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlpkit import console
from nlpkit.errors import DataError
from nlpkit.text.documents import batches
from nlpkit.text.word_ids import WordIds
from nlpkit.vectors.kernels import END, count_rows, occurrences

PIECE = 1 << 20  # ids that are handled at a time
DROPPED = -2
EXACT_WINDOW = 20  # up to here 1/distance is counted in whole parts of a common denominator: sums are exact


@dataclass(frozen=True)
class Vocabulary:
    """Words by falling count, ties by spelling, and their counts (V,) int64."""

    words: list[str]
    counts: np.ndarray


class Spool:
    """Arrays put away under a number and taken back as one; past ``limit`` bytes they go to files in ``folder``."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype | type, limit: int) -> None:
        self.folder, self.name, self.dtype, self.limit = folder, name, np.dtype(dtype), limit
        self.held: dict[int, list[np.ndarray]] = defaultdict(list)
        self.bytes = 0

    def add(self, key: int, part: np.ndarray) -> None:
        """Append an array under ``key``."""
        self.held[key].append(part)
        self.bytes += part.nbytes
        if self.bytes > self.limit:
            for number in list(self.held):
                self._flush(number)
            self.bytes = 0

    def _path(self, key: int) -> Path:
        return self.folder / f"{self.name}-{key}.bin"

    def _flush(self, key: int) -> None:
        with open(self._path(key), "ab") as file:
            for part in self.held.pop(key, ()):
                part.tofile(file)

    def take(self, key: int) -> np.ndarray:
        """All that was added under ``key``, in order: an array, or a map of the file that holds it."""
        path = self._path(key)
        if path.exists():
            self._flush(key)
            if path.stat().st_size:
                return np.asarray(np.memmap(path, self.dtype, "r+"))
        parts = self.held.pop(key, [])
        self.bytes -= sum(p.nbytes for p in parts)
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def drop(self, key: int) -> None:
        """Remove the file of a ``key`` that is not needed any more."""
        self._path(key).unlink(missing_ok=True)


def read(
    texts: Iterable[str],
    standardize: Callable[[str], str],
    folder: Path,
    *,
    min_count: int = 5,
    max_vocab: int | None = None,
    limit: int = 1 << 28,
) -> tuple[Vocabulary, np.ndarray, str]:
    """The vocabulary of ``texts``, their stream (S,) int32, and a hash of all words in order.

    ``texts`` is read once, a document an item; its words are ``standardize(text).split()``. The stream stays in
    memory up to ``limit`` bytes and is a file in ``folder`` beyond. A text without words, or a vocabulary that
    ``min_count`` leaves empty, is a :class:`~nlpkit.errors.DataError`.
    """
    words = WordIds()
    spool = Spool(folder, "words", np.int32, limit)
    spool.add(0, np.array([END], np.int32))
    digest = hashlib.sha256()
    documents = 0
    with console.progress("reading", unit="documents") as bar:
        for batch in batches(texts):
            piece = words.stream([standardize(text) for text in batch])
            digest.update(piece.tobytes())
            spool.add(0, piece)
            documents += len(batch)
            bar.advance(len(batch))
    seen, counts = words.names, words.counts
    del words
    digest.update("\n".join(seen).encode("utf-8", "surrogatepass"))
    if not seen:
        raise DataError(f"no words in the input ({documents} documents); GloVe needs text to count")
    vocabulary, renumber = _keep(seen, counts, min_count, max_vocab)
    stream = Spool(folder, "stream", np.int32, limit)
    raw = spool.take(0)
    for start in range(0, len(raw), PIECE):
        piece = renumber[raw[start : start + PIECE]]
        stream.add(0, piece[piece != DROPPED])
    del raw
    spool.drop(0)
    return vocabulary, stream.take(0), digest.hexdigest()


def _keep(
    seen: list[str], counts: np.ndarray, min_count: int, max_vocab: int | None
) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary, and the new id of each id seen (DROPPED for none), with END's own at the end."""
    frequent = np.flatnonzero(counts >= min_count).tolist()
    if not frequent:
        raise DataError(
            f"no word occurs {min_count} times or more (the most frequent of {len(seen):,} occurs "
            f"{int(counts.max())} times); lower --min-count or give more text"
        )
    kept = sorted(frequent, key=lambda i: (-counts[i], seen[i]))[:max_vocab]
    renumber = np.full(len(seen) + 1, DROPPED, np.int32)
    renumber[kept] = np.arange(len(kept), dtype=np.int32)
    renumber[END] = END
    return Vocabulary([seen[i] for i in kept], counts[kept]), renumber


def cooccurrences(
    stream: np.ndarray,
    counts: np.ndarray,
    *,
    window: int = 10,
    symmetric: bool = True,
    jobs: int = 1,
    max_memory: int = 1 << 28,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of nonzeros of X: rows int32, columns int32, values float32, ordered by row, then by column.

    X_ij is the sum of 1/distance over the places where j stands at most ``window`` words before i or, when
    ``symmetric``, after it. Words are taken in blocks whose places and nonzeros fit in ``max_memory`` bytes
    (at least one word each); the stream is scanned once a block. The result depends on neither ``jobs`` nor memory.
    """
    unit = float(math.lcm(*range(1, window + 1))) if window <= EXACT_WINDOW else 1.0
    weights = unit / np.arange(1, window + 1)
    size = len(counts)
    reach = window * (2 if symmetric else 1)
    bound = np.minimum(size, counts * reach)
    need = 8 * counts + 12 * bound
    target = max(1.0, min(max_memory / jobs, need.sum() / (2 * jobs)))
    edges = np.flatnonzero(np.diff((need.cumsum() - need) // target)) + 1

    def block(first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ends = np.cumsum(counts[first:last]) - counts[first:last]
        positions = np.empty(int(counts[first:last].sum()), np.int64)
        occurrences(stream, first, last, ends, positions)
        most = int(bound[first:last].sum())
        columns, values = np.empty(most, np.int32), np.empty(most, np.float32)
        sizes = np.empty(last - first, np.int64)
        n = count_rows(stream, positions, ends, weights, symmetric, unit, size, columns, values, sizes)
        return np.repeat(np.arange(first, last, dtype=np.int32), sizes), columns[:n], values[:n]

    waiting: deque[Future[tuple[np.ndarray, np.ndarray, np.ndarray]]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        for first, last in zip([0, *edges.tolist()], [*edges.tolist(), size], strict=True):
            waiting.append(pool.submit(block, first, last))
            if len(waiting) >= jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
