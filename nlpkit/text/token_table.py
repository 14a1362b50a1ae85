"""Standardizing text in bulk: every distinct token is standardized once, and lines are put together from the results.

S slots of the table (a power of two), V distinct tokens, N bytes of a block, W tokens and line ends of it.

Text is a few hundred thousand tokens said again and again. A compiled loop splits a block at ASCII white space,
looks the tokens up by hash and bytes, and writes the numbers of the known; the new ones go through the plain
:class:`~nlpkit.text.standardize.Standardizer` in one piece; a second loop writes the output. The result is the
plain one byte for byte, because every step that :func:`~nlpkit.text.token_wise.token_wise` allows treats a text
as it treats its parts between spaces: normal forms and case do not look across a space, no address holds one, and
the last step joins words by one space.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nlpkit.text.standardize import Standardizer
from nlpkit.text.token_wise import MARK, mark_of

_SLOTS = 1 << 22  # half of them can be taken before the table is emptied
_NEAR = 1 << 15
_LONGEST = 1 << 23  # bytes of a block; what is longer is one long line
_ARENA = 1 << 25  # bytes of tokens, or of results, before the table is emptied
_GIVE_UP = 8  # blocks that the table could not do, or not fast, before it is left alone


class TokenTable:
    """Lines of UTF-8 to standardized lines, for a recipe that is :func:`~nlpkit.text.token_wise.token_wise`.

    The table is emptied when it has grown to its bounds, so the process stays below about 400 MB whatever the text is.
    """

    def __init__(self, run: Standardizer) -> None:
        self.run = run
        self._mark = mark_of(run.recipe)
        self._between = np.frombuffer(f" {self._mark} ".encode(), np.uint8)
        self._failed = 0
        self._spaces = np.zeros(256, np.uint8)
        self._spaces[[9, 11, 12, 13, 28, 29, 30, 31, 32]] = 1
        self._spaces[10] = 2
        self.clear()

    def clear(self) -> None:
        """Forget all tokens."""
        # A slot: upper half of the hash and the token's number + 1; where its bytes are (start << 24 | length).
        self._slots = np.zeros((_SLOTS, 2), np.uint64)
        self._near = np.zeros((_NEAR, 2), np.uint64)  # slots met last, by hash: small enough to stay in cache
        self._places = np.zeros(_SLOTS // 2, np.int64)  # (V,): where the result's bytes are, in the same way
        self._tokens = np.zeros(1 << 20, np.uint8)
        self._results = np.zeros(1 << 20, np.uint8)
        self._count = self._used = self._made = 0

    def __call__(self, data: bytes) -> tuple[bytes, int] | None:
        """The standardized lines and their number; None when only the plain way can do these lines."""
        if data and not data.endswith(b"\n"):
            data += b"\n"
        most = len(data) // 2  # tokens that these bytes can hold
        if self._failed >= _GIVE_UP or len(data) > _LONGEST or most > _SLOTS // 2:
            return None
        if self._count + most > _SLOTS // 2 or max(self._used, self._made) > _ARENA:
            self.clear()
        scan, weigh, emit = _loops()
        known, used = self._count, self._used
        self._tokens = _longer(self._tokens, used + len(data) + most * len(self._between))
        stream = np.empty(len(data), np.int32)
        filled, self._count, self._used = scan(
            np.frombuffer(data, np.uint8), self._spaces, self._between, self._slots, self._near, self._tokens,
            stream, known, used,
        )  # fmt: skip
        if self._count > known and not self._standardize(known, used):
            self.clear()
            self._failed += 1
            return None
        stream = stream[:filled]
        if 2 * (self._count - known) > filled:
            self._failed += 1  # hardly any token comes again: the plain way is the faster one
        room, lines = weigh(stream, self._places)
        out = np.empty(room, np.uint8)
        size = emit(stream, self._places, self._results, out)
        return out[:size].tobytes(), lines

    def _standardize(self, known: int, used: int) -> bool:
        """The results of the new tokens; False when what came back cannot be told apart."""
        text = self._tokens[used : self._used].tobytes().decode()
        count, mark = self._count - known, self._mark
        if text.count(MARK) != len(mark) * count:
            return False
        made = self.run(f"{mark} {text}")
        pieces = made.split(mark)
        # An empty stem would leave two spaces, and could not be told from a token that was removed.
        if len(pieces) != count + 2 or "  " in made or made.count(MARK) != len(mark) * (count + 1):
            return False
        results = [piece[1:-1] for piece in pieces[1:-1]]
        joined = "".join(results).encode()
        whole = joined.isascii()
        lengths = np.array([len(r) if whole else len(r.encode()) for r in results], np.int64)
        starts = self._made + np.cumsum(lengths) - lengths
        self._places[known : self._count] = starts << 24 | lengths
        self._results = _longer(self._results, self._made + len(joined))
        self._results[self._made : self._made + len(joined)] = np.frombuffer(joined, np.uint8)
        self._made += len(joined)
        return True


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    """``array`` with room for ``size``, at least doubled when it grows."""
    if size <= len(array):
        return array
    made = np.zeros(max(size, 2 * len(array)), array.dtype)
    made[: len(array)] = array
    return made


def _scan(
    text: np.ndarray,
    spaces: np.ndarray,
    between: np.ndarray,
    slots: np.ndarray,
    near: np.ndarray,
    tokens: np.ndarray,
    stream: np.ndarray,
    count: int,
    used: int,
) -> tuple[int, int, int]:
    """Number the tokens of ``text`` (N,) into ``stream`` (W,), -1 for a line end; new ones join the table."""
    mask, close = np.uint64(len(slots) - 1), np.uint64(len(near) - 1)
    low, bits = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFF)
    half, shift, one = np.uint64(32), np.uint64(24), np.uint64(1)
    at = filled = 0
    size = len(text)
    while at < size:
        kind = spaces[text[at]]
        if kind:
            if kind == 2:
                stream[filled] = -1
                filled += 1
            at += 1
            continue
        begin = at
        hashed = np.uint64(0xCBF29CE484222325)
        while not spaces[text[at]]:  # a line end is the last byte
            hashed = (hashed ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
            at += 1
        hashed = (hashed ^ (hashed >> half)) * np.uint64(0x9E3779B97F4A7C15)
        tag = hashed >> half
        length = at - begin
        place = tag & mask
        found = np.int64(-1)
        entry, where = near[tag & close, 0], near[tag & close, 1]
        table = False  # first the slot met last is looked at, then the table's
        while not table or entry:
            if entry and entry >> half == tag and np.int64(where & bits) == length:
                start = np.int64(where >> shift)
                i = 0
                while i < length and tokens[start + i] == text[begin + i]:
                    i += 1
                if i == length:
                    found = np.int64(entry & low) - 1
                    break
            if table:
                place = (place + one) & mask
            table = True
            entry, where = slots[place, 0], slots[place, 1]
        if found < 0:
            found = np.int64(count)
            count += 1
            entry, where = (tag << half) | np.uint64(count), np.uint64(used) << shift | np.uint64(length)
            slots[place, 0], slots[place, 1] = entry, where
            for i in range(length):
                tokens[used + i] = text[begin + i]
            used += length
            for i in range(len(between)):
                tokens[used + i] = between[i]
            used += len(between)
        near[tag & close, 0], near[tag & close, 1] = entry, where
        stream[filled] = found
        filled += 1
    return filled, count, used


def _weigh(stream: np.ndarray, places: np.ndarray) -> tuple[int, int]:
    """Room for what ``stream`` (W,) names, in bytes, and its number of lines."""
    room, lines = len(stream), 0
    for number in stream:
        if number < 0:
            lines += 1
        else:
            room += places[number] & 0xFFFFFF
    return room, lines


def _emit(stream: np.ndarray, places: np.ndarray, results: np.ndarray, out: np.ndarray) -> int:
    """Write the results that ``stream`` (W,) names, one space between them, and the line ends; the bytes written."""
    at = 0
    first = True
    for number in stream:
        if number < 0:
            out[at] = 10
            at += 1
            first = True
            continue
        length = places[number] & 0xFFFFFF
        if length == 0:
            continue
        if not first:
            out[at] = 32
            at += 1
        first = False
        start = places[number] >> 24
        for i in range(length):
            out[at + i] = results[start + i]
        at += length
    return at


@functools.cache
def _loops() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The three loops, compiled; the machine code is kept on disk where that is possible."""
    import numba

    try:
        compiled = numba.njit(cache=True)
        return compiled(_scan), compiled(_weigh), compiled(_emit)
    except RuntimeError:  # no place for the machine code
        return numba.njit(_scan), numba.njit(_weigh), numba.njit(_emit)
