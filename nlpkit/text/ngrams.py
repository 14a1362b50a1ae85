"""Counting n-grams in blocks: sort inside a block, put the result aside, merge the blocks' distinct n-grams.

Shapes: P positions (tokens) of a block, D documents of a block, U distinct n-grams of a block, M pairs of a document
and an n-gram that is in it, K distinct n-grams of the whole text. No step runs Python once a token or once an
n-gram; memory holds one block and the K distinct n-grams (24 bytes each), never the text.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nlpkit.text.documents import Document

CHARACTERS = 1 << 21  # of the documents that are counted at a time
_WORD = np.int64(0xFFFFFFFF)
_BELOW_SPACE = re.compile("[\x00-\x1f]")
_MERGE = 1 << 18  # distinct n-grams that wait to be merged, at least


class Spool:
    """Tuples of flat arrays put aside in an unnamed temporary file, read back in order, as often as needed.

    >>> spool = Spool()
    >>> spool.put(np.arange(3), np.zeros(1))
    >>> [a.tolist() for a in next(iter(spool))]
    [[0, 1, 2], [0.0]]
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="nlpkit-")
        self._rows: list[list[tuple[np.dtype, int]]] = []

    def put(self, *arrays: np.ndarray) -> None:
        """Append one tuple."""
        self._file.seek(0, 2)
        for array in arrays:
            self._file.write(np.ascontiguousarray(array).data)
        self._rows.append([(a.dtype, len(a)) for a in arrays])

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        at = 0
        for row in self._rows:
            self._file.seek(at)
            yield tuple(np.frombuffer(self._file.read(kind.itemsize * size), kind) for kind, size in row)
            at += sum(kind.itemsize * size for kind, size in row)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    __del__ = close  # work that fails leaves nothing behind either


@dataclass(frozen=True)
class Level:
    """The n-grams of one n in one block.

    An n-gram is the (n-1)-gram ``prefix`` (U) of the level before and a last ``word`` (U; an id of the whole text).
    ``df``, ``tf`` (U): documents that hold it, occurrences. ``document``, ``gram``, ``count`` (M): by document, then
    n-gram (a number within the block).
    """

    prefix: np.ndarray
    word: np.ndarray
    df: np.ndarray
    tf: np.ndarray
    document: np.ndarray
    gram: np.ndarray
    count: np.ndarray


def count(ids: np.ndarray, sizes: np.ndarray, most: int) -> list[Level]:
    """The n-grams for n = 1 … ``most`` of D documents of ``sizes`` (D) tokens, end to end in ``ids`` (P).

    >>> level = count(np.array([7, 3, 7, 7]), np.array([3, 1]), 2)[0]
    >>> [x.tolist() for x in (level.word, level.df, level.document, level.gram, level.count)]
    [[3, 7], [1, 2], [0, 0, 1], [0, 1, 1], [1, 2, 1]]
    """
    present = np.flatnonzero(np.bincount(ids, minlength=1))
    owner = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    place = np.zeros(int(present[-1]) + 1 if len(present) else 1, np.int32)
    place[present] = np.arange(len(present))
    words = gram = place[ids]
    made = [_level(owner, gram, np.zeros(len(present), np.int64), present)]
    start = np.arange(len(ids))
    for n in range(2, most + 1):
        last = start + (n - 1)
        inside = last < len(ids)
        inside[inside] = owner[last[inside]] == owner[start[inside]]
        start = start[inside]
        keys = gram[inside].astype(np.int64) * max(len(present), 1) + words[last[inside]]
        distinct, gram = np.unique(keys, return_inverse=True)
        prefix, word = np.divmod(distinct, max(len(present), 1))
        made.append(_level(owner[start], gram, prefix, present[word] if len(present) else word))
    return made


def _level(owner: np.ndarray, gram: np.ndarray, prefix: np.ndarray, word: np.ndarray) -> Level:
    # Keys of 32 bits, where they are enough, are sorted in half the time.
    most = (int(owner[-1]) + 1 if len(owner) else 0) * len(word)
    kind = np.dtype(np.int32 if most < 2**31 else np.int64)
    size = kind.type(max(len(word), 1))
    keys = owner.astype(kind, copy=False) * size + gram.astype(kind, copy=False)
    keys.sort()
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, int)
    times = np.diff(first, append=len(keys))
    keys = keys[first]
    document = keys // size  # not divmod, which is several times slower
    which = keys - document * size
    df = np.bincount(which, minlength=len(word))
    tf = np.bincount(gram, minlength=len(word))
    return Level(*(x.astype(np.int32) for x in (prefix, word, df, tf, document, which, times)))


class Table:
    """Distinct keys, sorted, with sums of df and tf; blocks are merged in as they come.

    >>> table = Table()
    >>> table.add(np.array([5, 9]), np.array([1, 1]), np.array([2, 1]))
    >>> table.add(np.array([9]), np.array([1]), np.array([4]))
    >>> [x.tolist() for x in table.settled()]
    [[5, 9], [1, 2], [2, 5]]
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = [tuple(np.empty(0, np.int64) for _ in range(3))]
        self._waiting = 0

    def add(self, keys: np.ndarray, df: np.ndarray, tf: np.ndarray) -> None:
        """Count a block's keys (each at most once a block, in any order)."""
        self._parts.append((keys, df.astype(np.int64), tf.astype(np.int64)))
        self._waiting += len(keys)
        if self._waiting > max(_MERGE, len(self._parts[0][0])):
            self.settled()

    def settled(self) -> tuple[np.ndarray, ...]:
        """Keys (K), df (K) and tf (K), all int64."""
        if len(self._parts) > 1:
            keys, df, tf = (np.concatenate(x) for x in zip(*self._parts, strict=True))
            order = np.argsort(keys)
            keys = keys[order]
            first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else order
            sums = [np.add.reduceat(x[order], first) if len(first) else x for x in (df, tf)]
            self._parts, self._waiting = [(keys[first], *sums)], 0
        return self._parts[0]


class Counted:
    """A text's n-grams, block by block, on disk: ``grams[n-1]`` holds (prefix, word, df, tf) and ``pairs[n-1]``
    (document, gram, count) of every block; ``sizes`` (D) the tokens of each document; ``tokens``, where they are
    kept, the ids in order.
    """

    def __init__(self, most: int, keep_tokens: bool = False) -> None:
        self.grams = [Spool() for _ in range(most)]
        self.pairs = [Spool() for _ in range(most)]
        self.tokens = Spool() if keep_tokens else None
        self.blocks: list[np.ndarray] = []

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each document, (N,) int64."""
        return np.concatenate(self.blocks) if self.blocks else np.empty(0, np.int64)

    def add(self, ids: np.ndarray, sizes: np.ndarray) -> None:
        """Count one block of documents."""
        self.blocks.append(sizes)
        if self.tokens is not None:
            self.tokens.put(ids.astype(np.int32))
        for level, grams, pairs in zip(
            count(ids, sizes, len(self.grams)), self.grams, self.pairs, strict=True
        ):
            grams.put(level.prefix, level.word, level.df, level.tf)
            pairs.put(level.document, level.gram, level.count)

    def close(self) -> None:
        """Give the disk back."""
        for spool in (*self.grams, *self.pairs, *([self.tokens] if self.tokens else [])):
            spool.close()

    def _keys(self, n: int, before: Spool, rank: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """(keys, df, tf) of each block; -1 is the key of an n-gram with a part that is left out."""
        for (prefix, word, df, tf), (place,) in zip(self.grams[n - 1], before, strict=True):
            left, right = place[prefix], rank[word]
            yield np.where((left >= 0) & (right >= 0), (left << 32) | right, -1), df, tf

    def distinct(self, n: int, before: Spool | None, rank: np.ndarray) -> tuple[np.ndarray, ...]:
        """Keys, df and tf of all n-grams whose (n-1)-gram has a place in ``before`` and whose last word a rank."""
        if before is None:  # the key of a word is its rank: no need to sort
            df, tf = np.zeros(
                (2, int(rank.max(initial=-1)) + 2), np.int64
            )  # the last place is that of rank -1
            for _, word, *times in self.grams[0]:
                for total, more in zip((df, tf), times, strict=True):
                    total[rank[word]] += more
            found = np.flatnonzero(df[:-1])
            return found, df[found], tf[found]
        table = Table()
        for keys, df, tf in self._keys(n, before, rank):
            kept = keys >= 0
            table.add(keys[kept], df[kept], tf[kept])
        return table.settled()

    def places(self, n: int, before: Spool | None, rank: np.ndarray, known: np.ndarray) -> Spool:
        """Where each block's n-grams are among the ``known`` keys (sorted); -1 where they are not."""
        made = Spool()
        if before is None:
            place = np.full(max(int(rank.max(initial=-1)), int(known[-1]) if len(known) else -1) + 2, -1)
            place[known] = np.arange(len(known))
            for _, word, _, _ in self.grams[0]:
                made.put(place[rank[word]])
            return made
        for keys, _, _ in self._keys(n, before, rank):
            if len(known):
                at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
                made.put(np.where(known[at] == keys, at, -1))
            else:
                made.put(np.full(len(keys), -1))
        return made


def split_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of the prefix and the rank of the last word of each key."""
    return keys >> 32, keys & _WORD


def blocks(documents: Iterable[Document], characters: int = CHARACTERS) -> Iterator[list[Document]]:
    """Lists of documents of about so many characters; a long document stands alone.

    >>> [len(b) for b in blocks([Document("abc"), Document("de"), Document("f")], characters=30)]
    [2, 1]
    """
    held: list[Document] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document.text) + 16  # an empty line takes room too
        if size >= characters:
            yield held
            held, size = [], 0
    if held:
        yield held


@dataclass(frozen=True)
class Terms:
    """The n-grams that have a column, and how to find them.

    ``names`` (W): the words they are made of. ``rows`` (C, n) int32: each term's words, filled up with -1. ``df`` (C).
    ``keys[n-1]`` (K sorted) are the known n-grams of level n, parts of longer terms included, and ``columns[n-1]``
    (K) their column, or -1.
    """

    names: list[str]
    rows: np.ndarray
    df: np.ndarray
    keys: list[np.ndarray]
    columns: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self, joint: str, step: int = 1 << 14) -> Iterator[list[str]]:
        """The terms in the order of their columns, words joined by ``joint``, some thousand at a time."""
        names = [*self.names, ""]
        for at in range(0, len(self.rows), step):
            made: list[str] = []
            for column in self.rows[at : at + step].T:
                words = map(names.__getitem__, column.tolist())
                # No word at -1: then nothing is joined either.
                made = (
                    [f"{a}{joint}{b}" if b else a for a, b in zip(made, words, strict=True)]
                    if made
                    else [*words]
                )
            yield made


def learn(
    counted: Counted,
    names: list[str],
    rank: np.ndarray,
    low: int,
    *,
    joint: str = " ",
    min_df: int = 1,
    most: int | None = None,
) -> tuple[Terms, list[Spool]]:
    """The terms of a counted text and each block's n-grams' places among them, by level.

    ``names`` (W) are sorted and ``rank`` maps the ids of the counts to them. Terms have ``low`` words or more and are
    in ``min_df`` documents or more; of these the ``most`` frequent are kept (the first in order, where equal).
    Columns are in the order of the terms as strings, words joined by ``joint``.
    """
    keys: list[np.ndarray] = []
    spelled: list[np.ndarray] = []  # (K, n) the words of each key
    found: list[tuple[np.ndarray, ...]] = []  # (level, key number, df, tf) of those that may be terms
    places: list[Spool] = []
    levels = len(counted.grams)
    for n in range(1, levels + 1):
        before = places[-1] if places else None
        level, df, tf = counted.distinct(n, before, rank)
        kept = df >= min_df  # no longer n-gram can be in more documents than its part
        level, df, tf = level[kept], df[kept], tf[kept]
        prefix, word = split_keys(level)
        last = word.astype(np.int32)[:, None]
        spelled.append(last if n == 1 else np.hstack([spelled[-1][prefix], last]))
        keys.append(level)
        places.append(counted.places(n, before, rank, level))
        if n >= low:
            found.append((np.full(len(level), n - 1), np.arange(len(level)), df, tf))
    which, number, df, tf = (np.concatenate(x) for x in zip(*found, strict=True))
    rows = np.full((len(which), levels), -1, np.int32)
    for n in range(low, levels + 1):
        rows[which == n - 1, :n] = spelled[n - 1]
    order = _lexicographic(*_spelled(rows, names, joint))
    if most is not None and most < len(order):
        order = order[np.sort(np.argsort(-tf[order], kind="stable")[:most])]
    columns = [np.full(len(level), -1) for level in keys]
    for n in range(low, levels + 1):
        mine = np.flatnonzero(which[order] == n - 1)
        columns[n - 1][number[order[mine]]] = mine
    return Terms(names, rows[order], df[order], keys, columns), places


def _spelled(rows: np.ndarray, names: list[str], joint: str) -> tuple[np.ndarray, int]:
    """Rows of ranks that are ordered as the strings are, and how many ranks there are.

    Words in order are enough, unless one holds a character below the space between words: then a word that ends
    a term and a word that a space follows have ranks of their own.
    """
    if rows.shape[1] == 1 or joint != " " or _BELOW_SPACE.search("".join(names)) is None:
        return rows, len(names)
    both = [*names, *(name + joint for name in names)]
    rank = np.empty(len(both) + 1, np.int64)
    rank[sorted(range(len(both)), key=both.__getitem__)] = np.arange(len(both))
    rank[-1] = -1
    followed = np.hstack([rows[:, 1:] >= 0, np.zeros((len(rows), 1), bool)])
    return rank[np.where(followed, rows + len(names), rows)], len(both)


def _lexicographic(rows: np.ndarray, words: int) -> np.ndarray:
    """The order of rows of ranks, where -1 (no word) comes first."""
    bits = int(words).bit_length()
    if bits * rows.shape[1] > 62:
        return np.lexsort(rows.T[::-1])
    packed = np.zeros(len(rows), np.int64)
    for column in rows.T:
        packed = (packed << bits) | (column + 1)
    return np.argsort(packed)


def terms_of(names: list[str], rows: np.ndarray, df: np.ndarray) -> Terms:
    """Terms read back: the tables of keys and columns are made again from their words."""
    keys: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    sizes = (rows >= 0).sum(axis=1)
    place = np.zeros(len(rows), np.int64)
    for n in range(1, rows.shape[1] + 1):
        mine = np.flatnonzero(sizes >= n)
        left = place[mine] if n > 1 else np.zeros(len(mine), np.int64)
        level, inverse = np.unique((left << 32) | rows[mine, n - 1], return_inverse=True)
        place[mine] = inverse
        ends = np.full(len(level), -1)
        whole = sizes[mine] == n
        ends[inverse[whole]] = mine[whole]
        keys.append(level)
        columns.append(ends)
    return Terms(names, rows, df, keys, columns)
