"""Nonzeros that are held out of a training, to say which epoch was the best.

N nonzeros. Whether (i, j) is held out depends on i, j and the seed alone: neither on the number of jobs nor on memory.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from nlpkit.errors import DataError
from nlpkit.vectors.counting import Spool
from nlpkit.vectors.kernels import residuals
from nlpkit.vectors.samples import Nonzeros, weights
from nlpkit.vectors.tables import State

CHUNK = 1 << 16


class Summed(Protocol):
    """An objective, as far as held-out nonzeros need it."""

    def held_loss(self, errors: np.ndarray, weights: np.ndarray, contexts: np.ndarray) -> np.ndarray:
        """What a chunk of nonzeros adds: (1,) a loss, or (V, 3) sums of f, f·e and f·e² for each context."""


def chosen(rows: np.ndarray, columns: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which of N nonzeros are held out (bool): by SplitMix64 (Steele, Lea, Flood 2014) of their place.

    >>> rows, columns = np.divmod(np.arange(10_000), 100)
    >>> int(chosen(rows, columns, 0.1, 0).sum()) in range(900, 1100)
    True
    """
    start = np.random.SeedSequence([seed, 4]).generate_state(1, np.uint64)[0]
    mixed = ((rows.astype(np.uint64) << np.uint64(32)) | columns.astype(np.uint64)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    mixed += start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    found: np.ndarray = (mixed >> np.uint64(32)) < np.uint64(round(share * 2**32))
    return found


class HeldOut:
    """The share of a stream of nonzeros that is kept from training; past ``limit`` bytes in a file of ``folder``."""

    def __init__(
        self, folder: Path, share: float, seed: int, *, x_max: float, alpha: float, limit: int
    ) -> None:
        self.share, self.seed, self.x_max, self.alpha = share, seed, x_max, alpha
        self._spool = Spool(folder, "held", np.int32, limit)
        self.records = np.empty((0, 3), np.int32)  # row, column, the bits of the count

    def split(self, blocks: Iterable[Nonzeros]) -> Iterator[Nonzeros]:
        """The blocks without what is held out.

        :raises DataError: nothing was held out, or all.
        """
        left = 0
        for rows, columns, values in blocks:
            out = chosen(rows, columns, self.share, self.seed)
            held = np.stack([rows[out], columns[out], values[out].view(np.int32)], 1)
            self._spool.add(0, held.ravel())
            left += len(rows) - len(held)
            yield rows[~out], columns[~out], values[~out]
        self.records = self._spool.take(0).reshape(-1, 3)
        if not len(self.records) or not left:
            raise DataError(
                f"{left + len(self.records):,} nonzero counts are too few to hold out {self.share:g} of them; "
                "give more text or leave out --valid-share"
            )

    def loss(self, state: State, objective: Summed) -> float:
        """The mean loss of the held-out nonzeros, ½·f·e²; for ratios with the best bias for each context put in."""
        total: np.ndarray | None = None
        for start in range(0, len(self.records), CHUNK):
            records = np.asarray(self.records[start : start + CHUNK])
            counts = np.ascontiguousarray(records[:, 2]).view(np.float32)
            errors = np.empty(len(records), np.float32)
            residuals(
                np.ascontiguousarray(records[:, :2]), np.log(counts), state.words, state.contexts, errors
            )
            f = weights(counts, self.x_max, self.alpha).astype(np.float64)
            added = objective.held_loss(errors.astype(np.float64), f, records[:, 1])
            total = added if total is None else total + added
        assert total is not None
        if total.ndim == 2:
            met = total[total[:, 0] > 0]
            total = 0.5 * (met[:, 2] - met[:, 1] ** 2 / met[:, 0])
        return float(total.sum()) / len(self.records)
