"""Numbers for the words between spaces, many texts at a time.

Shapes: N bytes of some texts, P words of them, D texts, S slots of the table, R words that the table did not know.

Words of up to 16 bytes are two numbers of 64 bits. They are looked up all at once in a table with one slot for each
value of a hash; what is in the slot is compared whole, so a collision costs time and never an error. What is not in
the table (longer words, collisions, new words) goes through a dictionary, new words once a block.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

_BITS = 20  # of the number of slots
_PACKED = 16  # bytes of a word that the table can hold
_SPACE = np.zeros(256, bool)
_SPACE[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = True  # where str.split splits ASCII
_KEEP = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # the first n bytes of eight
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


class WordIds:
    """Words to ids that count up from 0; memory holds the distinct words and 20 bytes a slot.

    >>> words = WordIds()
    >>> ids, sizes = words(["a b a", "", "b"])
    >>> [words.names[i] for i in ids], sizes.tolist()
    (['a', 'b', 'a', 'b'], [3, 0, 1])
    """

    def __init__(self) -> None:
        self._known: defaultdict[str, int] = defaultdict()
        self._known.default_factory = self._known.__len__
        # (S,) each: the two halves of the word in a slot, and its id + 1; 0 is an empty slot.
        self._low, self._high = np.zeros((2, 1 << _BITS), np.uint64)
        self._number = np.zeros(1 << _BITS, np.int32)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def names(self) -> list[str]:
        """The words in the order of their ids."""
        return list(self._known)

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (P,) of all texts, end to end, and how many each text has (D,)."""
        # The spaces beyond ASCII become plain ones.
        parts = [(t if t.isascii() else " ".join(t.split())).encode("utf-8", "surrogatepass") for t in texts]
        raw = b"\n".join([*parts, bytes(_PACKED)])
        if raw.count(0) > _PACKED:  # a word and the same word with a NUL behind it would be one number
            return self._plainly(texts)
        text = np.frombuffer(raw, np.uint8)[:-_PACKED]
        space = np.concatenate([[True], _SPACE[text], [True]])
        edges = np.flatnonzero(space[1:] != space[:-1])
        starts, ends = edges[::2], edges[1::2]
        borders = np.cumsum(np.fromiter((len(part) + 1 for part in parts), np.int64, len(parts)))
        sizes = np.diff(np.searchsorted(starts, borders), prepend=0)
        return self._find(raw, starts, ends), sizes

    def _plainly(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = [[self._known[word] for word in text.split()] for text in texts]
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter((i for row in rows for i in row), np.int64, int(sizes.sum())), sizes

    def _find(self, raw: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The ids (P,) of the words at ``starts`` (P,) to ``ends`` (P,) of ``raw`` (N,)."""
        lengths = ends - starts
        eights = np.ndarray((len(raw) - 7,), "<u8", raw, 0, (1,))  # the eight bytes from each byte on
        low = eights[starts] & _KEEP[np.minimum(lengths, 8)]
        high = np.zeros(len(starts), np.uint64)
        long = np.flatnonzero(lengths > 8)
        high[long] = eights[starts[long] + 8] & _KEEP[np.minimum(lengths[long] - 8, 8)]
        mixed = low * _MIX[0]
        mixed[long] ^= high[long] * _MIX[1]
        slot = ((mixed ^ (mixed >> np.uint64(29))) * _MIX[1] >> np.uint64(64 - _BITS)).astype(np.int64)

        def missing(among: np.ndarray | slice) -> np.ndarray:
            at = slot[among]
            same = (self._low[at] == low[among]) & (self._high[at] == high[among])
            return ~(same & (lengths[among] <= _PACKED) & (self._number[at] > 0))

        def by_name(which: np.ndarray) -> np.ndarray:
            places = zip(starts[which].tolist(), ends[which].tolist(), strict=True)
            words = (raw[a:b].decode("utf-8", "surrogatepass") for a, b in places)
            return np.fromiter(map(self._known.__getitem__, words), np.int64, len(which))

        rest = np.flatnonzero(missing(slice(None)))
        new = rest[(self._number[slot[rest]] == 0) & (lengths[rest] <= _PACKED)]
        taken, first = np.unique(slot[new], return_index=True)
        new = new[first]
        self._low[taken], self._high[taken], self._number[taken] = low[new], high[new], by_name(new) + 1
        ids = self._number[slot].astype(np.int64) - 1
        rest = rest[missing(rest)]
        ids[rest] = by_name(rest)
        return ids
