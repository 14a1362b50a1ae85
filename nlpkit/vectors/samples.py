"""The nonzeros of X, dealt into P x P blocks that share no row and no column along a diagonal, and shuffled.

V vocabulary, P parts, N nonzeros. Words are dealt to P parts, contexts to P parts; block (p, q) holds the samples
of words in p and contexts in q. The P blocks (p, p + s mod P) of a stratum s touch disjoint rows of both tables, so
threads may run them at once and the result is that of any order (Gemulla, Nijkamp, Haas, Sismanis, KDD 2011, §4).
A block's two tables are small enough to stay in a processor's cache, which is worth more than the threads.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlpkit.vectors.counting import Spool
from nlpkit.vectors.kernels import deal_out, shuffle

Nonzeros = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows and columns int32, values float32
LEAST_PARTS, MOST_PARTS = 8, 32
PART_BYTES = 3 << 19  # what a part of one table should take: two of them fit in a core's second-level cache


@dataclass(frozen=True)
class Samples:
    """``pairs`` (N, 2) int32: word and context; ``targets`` (N, 2) float32: log X and f(X); block after block.

    (For triples their second columns are alias tables: :mod:`nlpkit.vectors.ratio`.)
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
    blocks: Iterable[Nonzeros],
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

    Past ``limit`` bytes the samples are files in ``folder``.
    """

    def fill(block: int, records: np.ndarray, pairs: np.ndarray, targets: np.ndarray) -> None:
        bits = np.empty(len(records), np.int32)
        drawn = np.random.SeedSequence([seed, 1, block]).generate_state(1, np.uint64)[0]
        shuffle(records, drawn, pairs, bits)
        counts = bits.view(np.float32)
        np.log(counts, out=targets[:, 0])
        targets[:, 1] = weights(counts, x_max, alpha)

    return dealt(blocks, folder, fill, vocabulary=vocabulary, parts=parts, jobs=jobs, limit=limit)


def weights(counts: np.ndarray, x_max: float, alpha: float) -> np.ndarray:
    """f(X) = min(1, (X / x_max)^alpha) (Pennington et al. 2014, eq. 9) of float32 counts."""
    return np.minimum(np.float32(1.0), (counts / np.float32(x_max)) ** np.float32(alpha))


def dealt(
    blocks: Iterable[Nonzeros],
    folder: Path,
    fill: Callable[[int, np.ndarray, np.ndarray, np.ndarray], None],
    *,
    vocabulary: int,
    parts: int,
    jobs: int = 1,
    limit: int = 1 << 29,
) -> Samples:
    """The nonzeros of an iterable of (rows, columns, values), dealt into blocks.

    ``fill`` gets the number of a block, its records (n, 3) int32 (row, column, the bits of the count) in the order
    of rows, and its part of ``pairs`` and ``targets`` to write. Past ``limit`` bytes these are files in ``folder``.
    """
    part = deal(vocabulary, parts)
    row_part = part * parts
    spool = Spool(folder, "block", np.int32, limit // 2)
    sizes = np.zeros(parts * parts, np.int64)
    for rows, columns, values in blocks:
        records = np.empty((len(rows), 3), np.int32)
        ends = np.zeros(parts * parts + 1, np.int64)
        deal_out(rows, columns, values.view(np.int32), row_part, part, ends, records)
        starts = np.concatenate([[0], ends[:-2]])
        for block in np.flatnonzero(ends[:-1] > starts).tolist():
            spool.add(block, records[starts[block] : ends[block]])
        sizes += ends[:-1] - starts
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    total = int(offsets[-1])
    pairs = _table(folder / "pairs.bin", total, np.int32, limit)
    targets = _table(folder / "targets.bin", total, np.float32, limit)

    def fill_one(block: int) -> None:
        place = slice(offsets[block], offsets[block + 1])
        fill(block, np.asarray(taken.pop(block)).reshape(-1, 3), pairs[place], targets[place])

    taken: dict[int, np.ndarray] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for row in range(0, parts * parts, parts):
            for block in range(row, row + parts):
                taken[block] = spool.take(block)
            list(pool.map(fill_one, range(row, row + parts)))
            for block in range(row, row + parts):
                spool.drop(block)
    return Samples(pairs, targets, offsets, parts)


def _table(path: Path, rows: int, dtype: type, limit: int) -> np.ndarray:
    """A new (rows, 2) array: in memory, or a map of a file when two such would pass ``limit`` bytes.

    The file gets its place on the disk at once: a map of one that does not fit would end the process when written to.
    """
    if 16 * rows <= limit or not rows:
        return np.empty((rows, 2), dtype)
    with open(path, "wb") as file:
        size = 2 * np.dtype(dtype).itemsize * rows
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.asarray(np.memmap(path, dtype, "r+", shape=(rows, 2)))
