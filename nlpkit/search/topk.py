"""The best k of many scores, ties broken by position so that an answer never depends on luck."""

import numpy as np

_ROWS = 64  # scores of one group, of which only the largest is looked at first
_MANY = 64 * _ROWS  # fewer scores than this are searched directly


def top(scores: np.ndarray, k: int, above: float | None = None) -> np.ndarray:
    """Positions of the ``k`` largest of ``scores`` (N,), best first, equal scores by position.

    With ``above``, only scores larger than that count, and there may be fewer than ``k``.

    >>> top(np.array([1.0, 3.0, 2.0, 3.0]), 3).tolist()
    [1, 3, 2]
    >>> top(np.array([0.0, 3.0, 0.0]), 2, above=0.0).tolist()
    [1]
    """
    if k <= 0 or len(scores) == 0:
        return np.empty(0, np.int64)
    if len(scores) >= _MANY and 4 * k <= len(scores) // _ROWS:
        held = _candidates(scores, k, above)
        return held[_sorted(scores[held], k)]
    if above is not None:
        held = np.flatnonzero(scores > above)
        return held[_sorted(scores[held], k)]
    return _sorted(scores, k)


def _candidates(scores: np.ndarray, k: int, above: float | None) -> np.ndarray:
    """Few positions, ascending, that hold the best ``k``: of groups whose largest score could be among them.

    Group c is column c of the scores laid out in 64 rows, so that the largest of all groups are found by vector
    instructions; at least k scores are as large as the k-th of those.
    """
    columns = len(scores) // _ROWS
    table = scores[: _ROWS * columns].reshape(_ROWS, columns)
    largest = table.max(0)
    edge = np.partition(largest, columns - k)[columns - k]
    wanted = largest >= edge
    if above is not None:
        wanted &= largest > above
    some = np.flatnonzero(wanted)
    if 2 * len(some) > columns:  # many are equal
        held = np.flatnonzero(scores >= edge)
    else:
        row, column = np.nonzero(table[:, some] >= edge)
        rest = np.flatnonzero(scores[_ROWS * columns :] >= edge) + _ROWS * columns
        held = np.concatenate([row * columns + some[column], rest])
    return held if above is None else held[scores[held] > above]


def _sorted(scores: np.ndarray, k: int) -> np.ndarray:
    if k < len(scores):
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        over = np.flatnonzero(scores > edge)
        chosen = np.concatenate([over, np.flatnonzero(scores == edge)[: k - len(over)]])
    else:
        chosen = np.arange(len(scores))
    return chosen[np.lexsort((chosen, -scores[chosen]))]


def top_owners(scores: np.ndarray, k: int, owner: np.ndarray, above: float | None = None) -> np.ndarray:
    """Positions of the best score of each of the ``k`` best owners; ``owner`` (N,) says whose a position is.

    >>> top_owners(np.array([1.0, 5.0, 4.0, 3.0]), 2, np.array([7, 8, 8, 9])).tolist()
    [1, 3]
    """
    many = 2 * k
    while True:
        best = top(scores, many, above)
        first = np.unique(owner[best], return_index=True)[1]
        if len(first) >= k or len(best) < many:
            return best[np.sort(first)[:k]]
        many *= 4
