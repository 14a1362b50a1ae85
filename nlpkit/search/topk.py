"""The best k of many scores, ties broken by position so that an answer never depends on luck."""

import numpy as np


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the ``k`` largest of ``scores`` (N,), best first, equal scores by position.

    >>> top(np.array([1.0, 3.0, 2.0, 3.0]), 3).tolist()
    [1, 3, 2]
    """
    if k <= 0 or len(scores) == 0:
        return np.empty(0, np.int64)
    if k < len(scores):
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        above = np.flatnonzero(scores > edge)
        chosen = np.concatenate([above, np.flatnonzero(scores == edge)[: k - len(above)]])
    else:
        chosen = np.arange(len(scores))
    return chosen[np.lexsort((chosen, -scores[chosen]))]
