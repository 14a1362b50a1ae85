"""GloVe's own objective: weighted least squares of log X (Pennington, Socher, Manning, EMNLP 2014).

N nonzeros, P parts. Σ_ij ½·f(X_ij)·(w_i·ŵ_j + b_i + b̂_j - log X_ij)², f(x) = min(1, (x / x_max)^alpha) (eq. 8 and
9), by AdaGrad over all nonzeros once an epoch.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nlpkit.vectors.kernels import descend
from nlpkit.vectors.samples import Samples
from nlpkit.vectors.tables import State

SWEEPS = (
    2  # over the blocks in an epoch, each of a share of every block: nearer to an order of chance than one
)


class LeastSquares:
    """The objective over samples that :func:`nlpkit.vectors.samples.arrange` made; ``total`` is N."""

    def __init__(self, drawn: Samples, *, lr: float, seed: int) -> None:
        self.drawn, self.lr, self.seed = drawn, np.float32(lr), seed
        self.strata, self.total = SWEEPS * drawn.parts, len(drawn.pairs)

    def stratum(self, state: State, number: int, pool: ThreadPoolExecutor | None = None) -> tuple[float, int]:
        """Pass over the ``number``-th stratum of the state's epoch: the sum of its losses, and of how many samples.

        A stratum s of a sweep is its share of the blocks (p, p + s mod P); losses are added up in the order of p.
        """
        drawn = self.drawn
        sweep, number = divmod(number, drawn.parts)
        order = np.random.default_rng([self.seed, 2, state.epoch, sweep]).permutation(drawn.parts)
        blocks = [p * drawn.parts + (p + int(order[number])) % drawn.parts for p in range(drawn.parts)]
        places = []
        for at in blocks:
            start, end = int(drawn.offsets[at]), int(drawn.offsets[at + 1])
            share = [start + (end - start) * k // SWEEPS for k in (sweep, sweep + 1)]
            places.append(slice(*share))

        def block(place: slice) -> float:
            return float(
                descend(drawn.pairs[place], drawn.targets[place], state.words, state.contexts, self.lr)
            )

        size = sum(place.stop - place.start for place in places)
        return sum((pool.map if pool else map)(block, places), 0.0), size

    def held_loss(self, errors: np.ndarray, weights: np.ndarray, contexts: np.ndarray) -> np.ndarray:
        """What held-out nonzeros (n,) add to a sum; see :meth:`nlpkit.vectors.held_out.HeldOut.loss`."""
        return np.array([0.5 * np.dot(weights, errors * errors)])

    def finish(self, state: State, pool: ThreadPoolExecutor | None = None) -> None:
        """Nothing is left to do after the last epoch."""
