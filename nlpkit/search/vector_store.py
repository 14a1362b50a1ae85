"""What a store of vectors must do, and a plain one in numpy that says what the others have to answer.

Every vector has a key, an int64 that its owner gives and never gives again; keys are the only names. P vectors of
width D, unit rows (or zeros), so that an inner product is a cosine; Q queries. All stores pass one suite of tests
(``tests/search/test_vector_stores.py``).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.search.exact import Rows, dot, whole
from nlpkit.search.topk import top
from nlpkit.store import blocks
from nlpkit.store.blocks import Checked

if TYPE_CHECKING:
    from nlpkit.search.faiss_store import FaissStore

#: Which keys may be found: keys (n,) int64 → (n,) bool. Pure: the same answer for a key throughout a search.
Allowed = Callable[[np.ndarray], np.ndarray]

KEYS, VECTORS = "vector-keys.npy", "vectors.npy"
_LOOKED = 1 << 13  # rows whose numbers are looked at together


class VectorStore(Protocol):
    """Vectors by key, nearest by inner product. Any number of threads may search while one writes.

    Made to be a small door to a distributed engine too (Milvus: a collection with an int64 primary key, a
    FLOAT_VECTOR of dimension ``width`` and the metric IP). What it has to see to:

    * what was acknowledged is found by the next search (there: consistency level ``Strong``), and a key that was
      given again or deleted is never found in its old place;
    * ``search`` may be approximate in *which* keys it finds, never in their scores: where the engine holds
      compressed vectors, it fetches the exact ones of what it found and multiplies again;
    * ``allowed`` is a Python callable, which no server can run: ask for more than ``k`` (an iterator there), keep
      what is allowed, and go on until there are k or no more are left;
    * a call that is refused changes nothing; a server that cannot be reached is a DiskError with its address.
    """

    width: int

    def upsert(self, keys: np.ndarray, vectors: Rows) -> None:
        """Hold ``vectors`` (n, D) float32 under ``keys`` (n,) int64 ascending; a key that is there is replaced.

        The array is kept without a copy where that can be, so it is not to be changed by the caller.

        :raises DataError: a key given twice or out of order, a number that is not finite.
        :raises UsageError: another width.
        """
        ...

    def delete(self, keys: np.ndarray) -> int:
        """Forget these keys (n,); how many of them were there."""
        ...

    def search(
        self, queries: np.ndarray, k: int, allowed: Allowed | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` nearest of each query (Q, D): keys (Q, k) int64 and inner products (Q, k) float32.

        Best first, equal scores by key. Where there are fewer than k: keys −1 and scores −inf.

        :raises DataError: a query with a number that is not finite.
        :raises UsageError: queries of another width.
        """
        ...

    def scores(self, query: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Exact inner products (n,) float32 of a query (D,) with ``keys`` (n,); KeyError if one is not there."""
        ...

    def fetch(self, keys: np.ndarray) -> np.ndarray:
        """The vectors (n, D) float32 of ``keys`` (n,), a copy; KeyError if one is not there."""
        ...

    def count(self) -> int:
        """How many keys there are."""
        ...

    def describe(self) -> dict[str, Any]:
        """What ``index info`` shows a person: how it searches, of how many, with what recall."""
        ...

    def snapshot(self, folder: Path) -> dict[str, int]:
        """Write everything into ``folder``; for each file's name the number that opening compares it with.

        The caller makes the files durable and keeps the numbers in a sealed place. The store itself stays as it is.
        An engine that keeps its own data writes what is needed to find it again (address, collection, version).
        """
        ...


def as_queries(queries: np.ndarray, width: int) -> np.ndarray:
    """Queries as (Q, D) float32 in one piece, after a look at their width and numbers."""
    made = np.ascontiguousarray(queries, np.float32)
    if made.ndim != 2 or made.shape[1] != width:
        raise UsageError(
            f"queries of shape {made.shape}, the index holds vectors of width {width}; use its model"
        )
    if not np.isfinite(made).all():
        row = int(np.flatnonzero(~np.isfinite(made).all(1))[0])
        raise DataError(f"the vector of query {row} has a number that is not finite; check the model")
    return made


def as_rows(keys: np.ndarray, vectors: Rows, width: int) -> tuple[np.ndarray, Rows]:
    """What :meth:`VectorStore.upsert` was given, or the error that it promises. A checked file is not read."""
    keys = np.asarray(keys, np.int64)
    if keys.ndim != 1 or vectors.shape != (len(keys), width):
        raise UsageError(
            f"vectors of shape {vectors.shape} for {len(keys)} keys, the index holds width {width}; use its model"
        )
    if len(keys) and keys[0] < 0:
        raise DataError(f"the key {keys[0]} is negative; keys start at 0")
    if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
        at = int(np.flatnonzero(keys[1:] <= keys[:-1])[0])
        what = "given twice" if keys[at] == keys[at + 1] else f"behind {keys[at]}"
        raise DataError(f"the key {keys[at + 1]} is {what}; give each key once, in ascending order")
    if isinstance(vectors, Checked):
        if vectors.dtype != np.float32:
            raise ArtifactError(f"{vectors.path}: holds {vectors.dtype}, float32 is needed; make it again")
        return keys, vectors
    made = np.ascontiguousarray(vectors, np.float32)
    for start in range(0, len(made), _LOOKED):
        good = np.isfinite(made[start : start + _LOOKED]).all(1)
        if good.all():
            continue
        row = start + int(np.argmin(good))
        raise DataError(f"the vector of key {keys[row]} has a number that is not finite; check the model")
    return keys, made


def open_rows(folder: Path, told: dict[str, int], width: int, remedy: str) -> tuple[Checked, Checked]:
    """The keys (n,) and exact vectors (n, D) that a snapshot wrote; opened, not read."""
    for name in (KEYS, VECTORS):
        if name not in told:
            raise ArtifactError(f"{folder}: has no sealed {name}; {remedy}")
    keys = Checked(folder / KEYS, told[KEYS], remedy)
    vectors = Checked(folder / VECTORS, told[VECTORS], remedy)
    if keys.dtype != np.int64 or len(keys.shape) != 1 or vectors.dtype != np.float32:
        raise ArtifactError(f"{folder}: {KEYS} or {VECTORS} holds other numbers than it should; {remedy}")
    if vectors.shape != (len(keys), width):
        raise ArtifactError(
            f"{folder / VECTORS}: shape {vectors.shape}, {len(keys)} rows of width {width} are needed; {remedy}"
        )
    return keys, vectors


def create_store(width: int, expected: int = 0, **options: Any) -> "FaissStore":
    """An empty store of the kind that indexes have, for about ``expected`` vectors (which this kind need not know).

    ``options`` are those of :class:`~nlpkit.search.faiss_store.FaissStore`. FAISS itself is imported when it is needed.
    """
    from nlpkit.search.faiss_store import FaissStore

    return FaissStore.create(width, **options)


def open_store(folder: Path, told: dict[str, int], width: int, remedy: str, **options: Any) -> "FaissStore":
    """What the snapshot of such a store wrote; ``told`` may hold other files too."""
    from nlpkit.search.faiss_store import FaissStore

    return FaissStore.open(folder, told, width, remedy, **options)


class NumpyStore:
    """The plain store: one sorted array of keys, one of vectors, every search exact. What the others are held against.

    >>> store = NumpyStore.create(2)
    >>> store.upsert(np.array([3, 7]), np.eye(2, dtype=np.float32))
    >>> store.search(np.array([[0.6, 0.8]], np.float32), 3)[0].tolist()
    [[7, 3, -1]]
    """

    def __init__(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        self._held = keys, vectors  # replaced as one, so a search sees one state
        self.width = int(vectors.shape[1])

    @classmethod
    def create(cls, width: int) -> "NumpyStore":
        """An empty store for vectors of ``width``."""
        return cls(np.empty(0, np.int64), np.empty((0, width), np.float32))

    @classmethod
    def open(cls, folder: Path, told: dict[str, int], width: int, remedy: str) -> "NumpyStore":
        """What :meth:`snapshot` wrote. Raises ArtifactError where a file is damaged."""
        keys, vectors = open_rows(folder, told, width, remedy)
        return cls(keys.whole(), vectors.whole())

    def upsert(self, keys: np.ndarray, vectors: Rows) -> None:
        """See :class:`VectorStore`."""
        keys, vectors = as_rows(keys, vectors, self.width)
        held, rows = self._held
        stay = ~np.isin(held, keys)
        merged = np.concatenate([held[stay], keys])
        order = np.argsort(merged)
        self._held = merged[order], np.concatenate([rows[stay], whole(vectors)])[order]

    def delete(self, keys: np.ndarray) -> int:
        """See :class:`VectorStore`."""
        held, rows = self._held
        stay = ~np.isin(held, np.asarray(keys, np.int64))
        self._held = held[stay], rows[stay]
        return int(len(held) - stay.sum())

    def search(
        self, queries: np.ndarray, k: int, allowed: Allowed | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`VectorStore`."""
        queries = as_queries(queries, self.width)
        k = max(0, k)
        keys, rows = self._held
        if allowed is not None:
            keep = np.asarray(allowed(keys), bool)
            keys, rows = keys[keep], rows[keep]
        found, values = (
            np.full((len(queries), k), -1, np.int64),
            np.full((len(queries), k), -np.inf, np.float32),
        )
        for i, query in enumerate(queries):
            scores = dot(rows, query)
            order = top(scores, k)  # keys ascend, so equal scores fall by key
            found[i, : len(order)], values[i, : len(order)] = keys[order], scores[order]
        return found, values

    def scores(self, query: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """See :class:`VectorStore`."""
        return dot(self.fetch(keys), as_queries(np.reshape(query, (1, -1)), self.width)[0])

    def fetch(self, keys: np.ndarray) -> np.ndarray:
        """See :class:`VectorStore`."""
        held, rows = self._held
        wanted = np.asarray(keys, np.int64)
        at = np.searchsorted(held, wanted)
        for key, place in zip(wanted.tolist(), at.tolist(), strict=True):
            if place == len(held) or held[place] != key:
                raise KeyError(key)
        return rows[at]

    def count(self) -> int:
        """See :class:`VectorStore`."""
        return len(self._held[0])

    def describe(self) -> dict[str, Any]:
        """See :class:`VectorStore`."""
        return {"kind": "exact", "vectors": self.count(), "width": self.width}

    def snapshot(self, folder: Path) -> dict[str, int]:
        """See :class:`VectorStore`."""
        keys, rows = self._held
        return {KEYS: blocks.write(folder / KEYS, keys), VECTORS: blocks.write(folder / VECTORS, rows)}
