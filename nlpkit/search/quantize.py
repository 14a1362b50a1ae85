"""One bit a number: the signs of vectors, compared by Hamming distance.

N vectors of width D, Q queries, W = ⌈D / 64⌉ words. What the signs propose is rescored with the exact vectors.
"""

import numpy as np

from nlpkit.errors import ArtifactError
from nlpkit.search.exact import Rows
from nlpkit.search.faiss_choice import Mask

_BLOCK = 1 << 14


class SignCodes:
    """The signs of N vectors, words (W, N) uint64: word by word, so that one query meets long runs of memory."""

    efforts: tuple[int, ...] = (0,)

    def __init__(self, words: np.ndarray) -> None:
        self.words = words

    def __len__(self) -> int:
        return int(self.words.shape[1])

    @staticmethod
    def of(rows: np.ndarray) -> np.ndarray:
        """The words (n, W) of rows (n, D); numbers above zero are ones."""
        bits = np.packbits(rows > 0, axis=1)
        made = np.zeros((len(rows), -(-rows.shape[1] // 64) * 8), np.uint8)
        made[:, : bits.shape[1]] = bits
        return made.view("<u8")

    @classmethod
    def build(cls, vectors: Rows) -> "SignCodes":
        """The codes of ``vectors`` (N, D), a block at a time."""
        words = np.empty((-(-vectors.shape[1] // 64), len(vectors)), np.uint64)
        for start in range(0, len(vectors), _BLOCK):
            words[:, start : start + _BLOCK] = cls.of(vectors[start : start + _BLOCK]).T
        return cls(words)

    def distances(self, code: np.ndarray) -> np.ndarray:
        """Hamming distances (N,) uint16 to the code (W,) of a query."""
        made = np.zeros(len(self), np.uint16)
        for word, mine in zip(self.words, code, strict=True):
            made += np.bitwise_count(word ^ mine)
        return made

    def ranked(self, queries: np.ndarray, depth: int, effort: int, mask: Mask | None = None) -> np.ndarray:
        """See :class:`~nlpkit.search.faiss_choice.Codes`; equal distances by position."""
        depth = min(depth, len(self))
        found = np.full((len(queries), depth), -1, np.int64)
        alive = None if mask is None or mask.count == len(self) else np.flatnonzero(mask.keep)
        for row, code in zip(found, self.of(queries), strict=True):
            far = self.distances(code)
            far = far if alive is None else far[alive]
            some = min(depth, len(far))
            edge = np.searchsorted(
                np.cumsum(np.bincount(far)), some
            )  # distances are few: counted, not sorted
            near = np.flatnonzero(far <= edge)
            near = near[np.argsort(far[near], kind="stable")[:some]]
            row[:some] = near if alive is None else alive[near]
        return found

    def cost(self, effort: int, depth: int) -> float:
        """See :class:`~nlpkit.search.faiss_choice.Codes`."""
        return self.words.size / 1000 + depth

    def to_bytes(self) -> np.ndarray:
        """See :class:`~nlpkit.search.faiss_choice.Codes`."""
        return np.ascontiguousarray(self.words, "<u8").view(np.uint8).ravel()

    @classmethod
    def from_bytes(cls, data: np.ndarray, shape: tuple[int, int], where: str) -> "SignCodes":
        """What :meth:`to_bytes` gave for (N, D) vectors."""
        words = -(-shape[1] // 64)
        if len(data) != 8 * words * shape[0]:
            raise ArtifactError(f"{where}: {len(data)} bytes are not the signs of {shape}; rebuild the index")
        return cls(data.view("<u8").reshape(words, shape[0]))
