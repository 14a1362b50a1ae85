"""Exact inner products, the same to the bit wherever a row lies, and the best of many, for many queries at once.

n rows of width D, unit or zeros; Q queries; M candidates of a query. Every answer is two arrays (Q, M): positions or
keys, and scores, −inf where there are fewer.
"""

from collections.abc import Iterator

import numpy as np

from nlpkit.store.blocks import Checked

Rows = np.ndarray | Checked
Found = tuple[np.ndarray, np.ndarray]

_SCANNED = 1 << 20  # numbers of a block of rows that is multiplied at once
_SCORES = 1 << 23  # scores that are held at once
_GATHERED = 1 << 18  # numbers of rows that are copied together: they stay in the cache
_FEW = 2048  # scores that are sorted with the others rather than searched first
_SPARE = 8  # candidates beyond k that tell whether the last place is tied


def whole(rows: Rows) -> np.ndarray:
    """All rows as one array, checked."""
    return rows.whole() if isinstance(rows, Checked) else rows


class Numbered:
    """Rows by number, fast. Those of a checked file are checked when they are first asked for; one byte a row tells."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._data = rows.unchecked() if isinstance(rows, Checked) else rows
        self._seen = np.zeros(len(rows), bool) if isinstance(rows, Checked) else None

    def __len__(self) -> int:
        return len(self._data)

    def take(self, at: np.ndarray) -> np.ndarray:
        """A copy of the rows with the numbers ``at``, of any shape."""
        if self._seen is not None and isinstance(self.rows, Checked):
            seen = self._seen[at]
            if not seen.all():
                new = at[~seen]
                self.rows.touch(new)
                self._seen[new] = True
        return self._data.take(at, axis=0)

    def dots(self, queries: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Inner products (Q, M) float32 of each query (D,) with its rows ``at`` (Q, M), as :func:`dot` gives them."""
        made = np.empty(at.shape, np.float32)
        step = max(1, _GATHERED // max(1, at.shape[1] * queries.shape[1]))
        for first in range(0, len(queries), step):
            rows = self.take(at[first : first + step])
            np.vecdot(rows, queries[first : first + step, None], out=made[first : first + step])
        return made


def dot(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Inner products (n,) float32 that depend on the row and the query alone.

    A product of whole matrices may round a row otherwise at another place among the rows (its kernels differ at the
    edges), and then equal vectors would not tie.
    """
    return np.asarray(np.vecdot(rows, query))


def slack(queries: np.ndarray) -> np.ndarray:
    """How far two ways to sum an inner product with a unit row can be apart (Q,) (Higham 2002, section 3.1)."""
    size = np.sqrt(np.vecdot(queries, queries))
    return np.asarray(2 * queries.shape[1] * 2.0**-24 * size + 1e-30, np.float32)


def _scan(
    vectors: Numbered, at: np.ndarray | None, queries: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inner products with the rows ``at`` (or all), for some queries at a time: the queries, scores (q, n).

    Of one query the scores are those of :func:`dot`. Of several they come from a matrix product and are off by up to
    :func:`slack`: near enough to choose by, after which the chosen are multiplied again.
    """
    number, width = len(vectors) if at is None else len(at), queries.shape[1]
    step = max(1, _SCANNED // width)
    some = max(1, min(len(queries), _SCORES // max(1, number)))
    for first in range(0, len(queries), some):
        asked = queries[first : first + some]
        scores = np.empty((len(asked), number), np.float32)
        for start in range(0, number, step):
            rows = (
                vectors.rows[start : start + step] if at is None else vectors.take(at[start : start + step])
            )
            if len(queries) == 1:
                np.vecdot(rows, asked[0], out=scores[0, start : start + step])
            else:
                np.matmul(asked, rows.T, out=scores[:, start : start + step])
        yield asked, scores


def _first(scores: np.ndarray, k: int, spare: np.ndarray | None = None) -> np.ndarray:
    """Columns (Q, M) that hold every score (Q, n) of at least the k-th best less ``spare``, in no order; k < n."""
    number = scores.shape[1]
    if len(scores) == 1:
        edge = np.partition(scores[0], number - k)[number - k]
        edge = edge if spare is None else edge - spare[0]
        return np.flatnonzero(scores[0] >= edge)[None]
    some = min(number, k + _SPARE)
    chosen = np.argpartition(scores, number - some, axis=1)[:, number - some :]
    values = np.take_along_axis(scores, chosen, 1)
    edge = np.partition(values, some - k, axis=1)[:, some - k]
    edge = edge if spare is None else edge - spare
    if some == number or (values.min(1) < edge).all():
        return chosen
    most = int((scores >= edge[:, None]).sum(1).max())  # ties, or close to it
    return np.argpartition(scores, number - most, axis=1)[:, number - most :]


def exact(vectors: Numbered, at: np.ndarray | None, queries: np.ndarray, k: int) -> Found:
    """For each query (Q, D) the rows of ``vectors`` (all, or ``at``) that can be among its k best, with exact scores.

    More than k where that costs less than to choose, or where the last ones tie, so that keys can decide.
    """
    made = []
    if len(queries) == 1 and at is None and k <= len(vectors) <= _FEW:
        return np.arange(len(vectors))[None], dot(vectors.rows[:], queries[0])[None]
    for asked, scores in _scan(vectors, at, queries):
        single, number = len(queries) == 1, scores.shape[1]
        if number <= (_FEW if single else k):
            columns = np.broadcast_to(np.arange(number), scores.shape)
        else:
            columns = (
                _first(scores, k, None if single else 2 * slack(asked))
                if k < number
                else np.arange(number)[None]
            )
        places = columns if at is None else at[columns]
        if single:
            made.append((places, np.take_along_axis(scores, columns, 1) if number > _FEW else scores))
        else:
            made.append((places, vectors.dots(asked, places)))
    return stacked(made)


def stacked(made: list[Found]) -> Found:
    """The answers of some queries after those of others, as wide as the widest."""
    if len(made) == 1:
        return made[0]
    count, wide = sum(len(p) for p, _ in made), max(p.shape[1] for p, _ in made)
    places, scores = np.zeros((count, wide), np.int64), np.full((count, wide), -np.inf, np.float32)
    first = 0
    for some, values in made:
        places[first : first + len(some), : some.shape[1]] = some
        scores[first : first + len(some), : some.shape[1]] = values
        first += len(some)
    return places, scores


def best(keys: np.ndarray, scores: np.ndarray, k: int) -> Found:
    """The k best of candidates with keys (Q, M) in any order: best first, equal scores by key; (Q, k)."""
    if len(scores) == 1:
        names, row = keys[0], scores[0]
        if k < len(row):
            columns = np.flatnonzero(row >= np.partition(row, len(row) - k)[len(row) - k])
            names, row = names[columns], row[columns]
        order = np.lexsort((names, -row))[:k]
        keys, scores = names[order][None], row[order][None]
        return (keys, scores) if len(order) == k else _padded(keys, scores, k)
    if k < scores.shape[1]:
        columns = _first(scores, k)
        keys, scores = np.take_along_axis(keys, columns, 1), np.take_along_axis(scores, columns, 1)
    order = np.lexsort((keys, -scores), axis=1)[:, :k]
    keys, scores = np.take_along_axis(keys, order, 1), np.take_along_axis(scores, order, 1)
    return (keys, scores) if keys.shape[1] == k else _padded(keys, scores, k)


def _padded(keys: np.ndarray, scores: np.ndarray, k: int) -> Found:
    found, values = np.full((len(keys), k), -1, np.int64), np.full((len(keys), k), -np.inf, np.float32)
    found[:, : keys.shape[1]], values[:, : keys.shape[1]] = keys, scores
    return found, values
