"""The nonzeros of X, dealt into P x P blocks that share no row and no column along a diagonal, and shuffled.

V vocabulary, P parts, N nonzeros. Words are dealt to P parts, contexts to P parts; block (p, q) holds the samples
of words in p and contexts in q. The P blocks (p, p + s mod P) of a stratum s touch disjoint rows of both tables, so
threads may run them at once and the result is that of any order (Gemulla, Nijkamp, Haas, Sismanis, KDD 2011, §4).
A block's two tables are small enough to stay in a processor's cache, which is worth more than the threads.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlpkit.vectors.counting import Spool

LEAST_PARTS, MOST_PARTS = 8, 32
PART_BYTES = 3 << 19  # what a part of one table should take: two of them fit in a core's second-level cache
RECORD = np.dtype([("row", np.int32), ("column", np.int32), ("count", np.float32)])


@dataclass(frozen=True)
class Samples:
    """``pairs`` (N, 2) int32: word and context; ``targets`` (N, 2) float32: log X and f(X); block after block.

    Block ``p * parts + q`` is [offsets[b], offsets[b + 1]).
    """

    pairs: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray
    parts: int


def parts_for(vocabulary: int, row_bytes: int) -> int:
    """How many parts to deal words into: by the size of a table alone, never by the number of threads."""
    return int(np.clip(-(-vocabulary * row_bytes // PART_BYTES), LEAST_PARTS, MOST_PARTS))


def deal(vocabulary: int, parts: int) -> np.ndarray:
    """The part of each word (V,), dealt by rank there and back so that each gets as many frequent ones.

    >>> deal(7, 3).tolist()
    [0, 1, 2, 2, 1, 0, 0]
    """
    turn, seat = np.divmod(np.arange(vocabulary), parts)
    return np.where(turn % 2 == 0, seat, parts - 1 - seat)


def arrange(
    blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    folder: Path,
    *,
    vocabulary: int,
    parts: int,
    x_max: float,
    alpha: float,
    seed: int,
    jobs: int = 1,
    limit: int = 1 << 29,
) -> Samples:
    """The samples of an iterable of (rows, columns, values), each block in a random order drawn from ``seed``.

    Weights are f(X) = min(1, (X / x_max)^alpha) (eq. 9). Past ``limit`` bytes the samples are files in ``folder``.
    """
    part = deal(vocabulary, parts)
    spool = Spool(folder, "block", RECORD, limit // 2)
    sizes = np.zeros(parts * parts, np.int64)
    for rows, columns, values in blocks:
        key = (part[rows] * parts + part[columns]).astype(np.uint16)
        order = np.argsort(key, kind="stable")
        records = np.empty(len(rows), RECORD)
        records["row"], records["column"], records["count"] = rows[order], columns[order], values[order]
        found = np.bincount(key, minlength=parts * parts)
        ends = np.cumsum(found)
        for block in np.flatnonzero(found).tolist():
            spool.add(block, records[ends[block] - found[block] : ends[block]].copy())
        sizes += found
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    total = int(offsets[-1])
    pairs = _table(folder / "pairs.bin", total, np.int32, limit)
    targets = _table(folder / "targets.bin", total, np.float32, limit)

    def fill(block: int) -> None:
        records = np.asarray(taken.pop(block))
        order = np.random.default_rng([seed, 1, block]).permutation(len(records))
        place = slice(offsets[block], offsets[block + 1])
        shuffled = records[order]
        pairs[place, 0], pairs[place, 1] = shuffled["row"], shuffled["column"]
        np.log(shuffled["count"], out=targets[place, 0])
        targets[place, 1] = np.minimum(1.0, (shuffled["count"] / np.float32(x_max)) ** np.float32(alpha))

    taken: dict[int, np.ndarray] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for row in range(0, parts * parts, parts):
            for block in range(row, row + parts):
                taken[block] = spool.take(block)
            list(pool.map(fill, range(row, row + parts)))
            for block in range(row, row + parts):
                spool.drop(block)
    return Samples(pairs, targets, offsets, parts)


def _table(path: Path, rows: int, dtype: type, limit: int) -> np.ndarray:
    """A new (rows, 2) array: in memory, or a map of a file when two such would pass ``limit`` bytes."""
    if 16 * rows <= limit or not rows:
        return np.empty((rows, 2), dtype)
    return np.asarray(np.memmap(path, dtype, "w+", shape=(rows, 2)))
