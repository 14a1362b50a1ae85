"""The best k of many scores, ties broken by position so that an answer never depends on luck."""

import numpy as np

_ROWS = 64  # scores of one group, of which only the largest is looked at first


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
    if k < len(scores):
        edge = _edge(scores, k)
        held = (scores >= edge if above is None or edge > above else scores > above).nonzero()[0]
    else:
        held = np.flatnonzero(scores > above) if above is not None else np.arange(len(scores))
    return held[(-scores[held]).argsort(kind="stable")[:k]]


def _edge(scores: np.ndarray, k: int) -> float:
    """A score that at least ``k`` reach, and few more: the k-th largest, or among many the k-th of groups' largest.

    Group c is column c of the scores laid out in 64 rows, so that the largest of all groups are found by vector
    instructions.
    """
    columns = len(scores) // _ROWS
    if columns >= 4 * k:
        largest = scores[: _ROWS * columns].reshape(_ROWS, columns).max(0)
    else:
        largest = scores.copy()
    largest.partition(len(largest) - k)
    return largest[-k]  # type: ignore[no-any-return]


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
