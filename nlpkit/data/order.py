"""The order of the data and its randomness as pure functions of (seed, epoch, step): nothing to save, nothing to skip.

A permutation of an epoch, or the mask of a step, comes from a Philox generator keyed by whole numbers, so a run
that resumes at step s sees what an uninterrupted run saw at step s, at no cost.
"""

from collections.abc import Sequence

import numpy as np

ORDER, MASK, NEGATIVES, VALID, PREFIX = (
    1,
    2,
    3,
    4,
    5,
)  # what a key is for: two uses of one seed never share a stream


def keyed(*words: int) -> np.random.Generator:
    """A generator that depends on these whole numbers (not negative) and on nothing else.

    >>> bool(keyed(1, 2).integers(100) == keyed(1, 2).integers(100))
    True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy=list(words))))


class Order:
    """Which of ``n`` items each step takes: ``per_step`` in a row from one endless stream of permutations.

    A step may span two epochs, so every item is seen once an epoch and no step is short.

    >>> order = Order(5, 2, seed=0)
    >>> sorted(np.concatenate([order.items(s) for s in range(5)]).tolist())
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """

    def __init__(self, n: int, per_step: int, seed: int, stream: tuple[int, ...] = ()) -> None:
        """``stream``: further whole numbers that tell several orders of one seed apart."""
        self.n, self.per_step, self.seed, self.stream = n, per_step, seed, stream
        self._cached: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every item was seen, rounded up."""
        return -(-self.n // self.per_step)

    def permutation(self, epoch: int) -> np.ndarray:
        """The order of an epoch: int64 ``(n,)``."""
        if self._cached[0] != epoch:
            self._cached = (epoch, keyed(self.seed, ORDER, epoch, *self.stream).permutation(self.n))
        return self._cached[1]

    def items(self, step: int) -> np.ndarray:
        """The items of a step: int64 ``(per_step,)``."""
        return self.run(step * self.per_step, self.per_step)

    def run(self, position: int, count: int) -> np.ndarray:
        """The ``count`` items from a position of the endless stream on: int64 ``(count,)``."""
        parts = [np.empty(0, np.int64)]
        while count:
            epoch, at = divmod(position, self.n)
            part = self.permutation(epoch)[at : at + count]
            parts.append(part)
            position, count = position + len(part), count - len(part)
        return np.concatenate(parts)


class Buckets:
    """Batches of items of like length, to pad little: a pure function of (seed, epoch).

    Within windows of 50 batches of the epoch's permutation the items are sorted by length and cut into
    batches; then the batches are shuffled. The last batch of an epoch may be smaller.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed = batch_size, seed
        self._cached: tuple[int, list[np.ndarray]] = (-1, [])

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """All batches of an epoch, each an int64 array of items."""
        if self._cached[0] != epoch:
            generator = keyed(self.seed, ORDER, epoch)
            order = generator.permutation(len(self.lengths))
            window = 50 * self.batch_size
            batches: list[np.ndarray] = []
            for start in range(0, len(order), window):
                part = order[start : start + window]
                part = part[np.argsort(self.lengths[part], kind="stable")]
                batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
            shuffled = generator.permutation(len(batches))
            self._cached = (epoch, [batches[i] for i in shuffled])
        return self._cached[1]

    def items(self, step: int) -> np.ndarray:
        """The items of a step."""
        epoch, at = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[at]


def split_up(items: np.ndarray, micro: int) -> list[np.ndarray]:
    """The micro-batches of a step: runs of at most ``micro`` items (0: all in one)."""
    if not micro or micro >= len(items):
        return [items]
    return [items[i : i + micro] for i in range(0, len(items), micro)]
