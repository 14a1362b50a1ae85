"""Standardizing text in bulk: every distinct token is standardized once, and lines are put together from the results.

S slots of the table (a power of two), V distinct tokens, N bytes of a block, W tokens and line ends of it.

Text is some hundred thousand tokens said again and again. A compiled loop splits a block into tokens, looks them up
and writes the numbers of the known; the new ones go through the plain :class:`~nlpkit.text.standardize.Standardizer`
in one piece; a second loop writes the output. The result is the plain one byte for byte, because every step that
:func:`~nlpkit.text.token_wise.token_wise` allows treats a text as it treats its parts between spaces: normal forms
and case do not look across a space, no address holds one, and the last step joins words by one space.

Between two spaces that hold nothing but ASCII even more is known: no character looks at another. So there a character
that the recipe makes a space ends a token, and letters are looked up by what the recipe makes of them.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nlpkit.text.standardize import Standardizer
from nlpkit.text.token_wise import MARK, ascii_map, mark_of

_SLOTS = 1 << 20  # half of them can be taken before the table is emptied
_LONGEST = 1 << 23  # bytes of a block; what is longer is one long line
_ARENA = 1 << 25  # bytes of tokens, or of results, before the table is emptied
_GIVE_UP = 8  # blocks that the table could not do, or not fast, before it is left alone
_END = 255  # in a table of bytes: ends a token; no byte of UTF-8
_SHORT = 7  # bytes of a token that is its own key


def spaces() -> np.ndarray:
    """(256,): every byte itself, but :data:`_END` for ASCII white space as ``str.split`` has it."""
    made = np.arange(256, dtype=np.uint8)
    made[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = _END
    return made


class TokenTable:
    """Lines of UTF-8 to standardized lines, for a recipe that is :func:`~nlpkit.text.token_wise.token_wise`.

    The table is emptied when it has grown to its bounds, so the process stays below about 250 MB whatever the text is.
    """

    def __init__(self, run: Standardizer) -> None:
        self.run = run
        self._mark = mark_of(run.recipe)
        self._between = np.frombuffer(f" {self._mark} ".encode(), np.uint8)
        self._failed = 0
        wide = spaces()
        narrow = wide.copy()
        narrow[128:] = _END  # here the loop goes back and takes the wide way
        mapped = ascii_map(run.recipe)
        if mapped is not None:
            made = np.frombuffer(mapped, np.uint8)[:128]
            narrow[:128] = np.where((made == 32) | (wide[:128] == _END), _END, made)
        self._bytes = np.stack([narrow, wide])
        self.clear()

    def clear(self) -> None:
        """Forget all tokens."""
        self._slots = np.zeros((_SLOTS, 2), np.uint64)  # a token's key and its number + 1
        self._found = np.zeros(_SLOTS // 2, np.int64)  # (V,): where a token's bytes are, start << 24 | length
        self._places = np.zeros(_SLOTS // 2, np.int64)  # (V,): where its result's bytes are, in the same way
        self._tokens = np.zeros(1 << 20, np.uint8)
        self._results = np.zeros(1 << 20, np.uint8)
        self._count = self._used = self._made = 0

    def __call__(self, data: bytes) -> tuple[bytes, int] | None:
        """The standardized lines and their number; None when only the plain way can do these lines."""
        if data and not data.endswith(b"\n"):
            data += b"\n"
        most = len(data) // 2  # tokens that these bytes can hold
        if self._failed >= _GIVE_UP or len(data) > _LONGEST:
            return None
        if self._count + most > _SLOTS // 2 or max(self._used, self._made) > _ARENA:
            if most > _SLOTS // 2:
                return None
            self.clear()
        scan, weigh, emit = _loops()
        known, used = self._count, self._used
        self._tokens = _longer(self._tokens, used + len(data) + most * len(self._between))
        stream = np.empty(len(data), np.int32)
        filled, self._count, self._used = scan(
            np.frombuffer(data, np.uint8), self._bytes, self._between, self._slots, self._found, self._tokens,
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
        tokens = self._tokens[used : self._used].tobytes().decode().split(f" {self._mark} ")
        count = self._count - known
        tokens.pop()
        if len(tokens) != count:
            return False
        # Text that is all ASCII is standardized faster, so what is not goes by itself.
        plain = [token.isascii() for token in tokens]
        results = self._apart([t for t, is_plain in zip(tokens, plain, strict=True) if is_plain])
        if results is not None and len(results) < count:
            others = self._apart([t for t, is_plain in zip(tokens, plain, strict=True) if not is_plain])
            if others is not None:
                left, right = iter(results), iter(others)
                results = [next(left if is_plain else right) for is_plain in plain]
            else:
                results = None
        if results is None:
            return False
        joined = "".join(results).encode()
        whole = joined.isascii()
        lengths = np.array([len(r) if whole else len(r.encode()) for r in results], np.int64)
        starts = self._made + np.cumsum(lengths) - lengths
        self._places[known : self._count] = starts << 24 | lengths
        self._results = _longer(self._results, self._made + len(joined))
        self._results[self._made : self._made + len(joined)] = np.frombuffer(joined, np.uint8)
        self._made += len(joined)
        return True

    def _apart(self, tokens: list[str]) -> list[str] | None:
        """What becomes of each token, by one call; None when it cannot be told."""
        mark = self._mark
        text = f"{mark} " + "".join(f"{token} {mark} " for token in tokens)
        if text.count(MARK) != len(mark) * (len(tokens) + 1):
            return None
        made = self.run(text)
        pieces = made.split(mark)
        # An empty stem would leave two spaces, and could not be told from a token that was removed.
        if (
            len(pieces) != len(tokens) + 2
            or "  " in made
            or made.count(MARK) != len(mark) * (len(tokens) + 1)
        ):
            return None
        return [piece[1:-1] for piece in pieces[1:-1]]


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    """``array`` with room for ``size``, at least doubled when it grows."""
    if size <= len(array):
        return array
    made = np.zeros(max(size, 2 * len(array)), array.dtype)
    made[: len(array)] = array
    return made


def scan(
    text: np.ndarray,
    byte: np.ndarray,
    between: np.ndarray,
    slots: np.ndarray,
    found: np.ndarray,
    tokens: np.ndarray,
    stream: np.ndarray,
    count: int,
    used: int,
) -> tuple[int, int, int]:
    """Number the tokens of ``text`` (N,) into ``stream`` (W,), -1 for a line end; new ones join the table.

    ``byte`` (2, 256) says what a byte is looked up as, or that it ends a token: between spaces that hold only ASCII,
    and elsewhere. ``text`` ends with a line end.
    """
    mask, one, eight = np.uint64(len(slots) - 1), np.uint64(1), np.uint64(8)
    shift, long = np.uint64(32), np.uint64(1 << 63)
    size = len(text)
    at = filled = 0
    word, before = 0, 0  # where the text since the last space begins, and what was filled by then
    way = 0
    while at < size:
        if byte[way, text[at]] == _END:
            here = text[at]
            if here >= 128:
                at, filled, way = word, before, 1
                continue
            at += 1
            if byte[1, here] == _END:
                if here == 10:
                    stream[filled] = -1
                    filled += 1
                word, before, way = at, filled, 0
            continue
        begin = at
        key, hashed = one, np.uint64(0)
        while True:
            now = byte[way, text[at]]
            if now == _END:  # a line end is the last byte
                break
            if key >> np.uint64(56):  # eight bytes, or seven and the one that says where they begin
                hashed = (hashed ^ key) * np.uint64(0x9E3779B97F4A7C15)
                hashed ^= hashed >> shift
                key = np.uint64(0)
            key = key << eight | np.uint64(now)
            at += 1
        if way == 0 and text[at] >= 128:
            at, filled, way = word, before, 1
            continue
        length = at - begin
        if length > _SHORT:
            key = ((hashed ^ key) * np.uint64(0x9E3779B97F4A7C15)) | long
        place = (key * np.uint64(0x9E3779B97F4A7C15)) >> shift & mask
        number = np.int64(-1)
        while slots[place, 1]:
            if slots[place, 0] == key:
                number = np.int64(slots[place, 1]) - 1
                if length <= _SHORT:
                    break
                start = found[number] >> 24
                i = 0
                if found[number] & 0xFFFFFF == length:
                    while i < length and tokens[start + i] == byte[way, text[begin + i]]:
                        i += 1
                if i == length:
                    break
                number = np.int64(-1)
            place = (place + one) & mask
        if number < 0:
            number = np.int64(count)
            count += 1
            slots[place, 0], slots[place, 1] = key, np.uint64(count)
            found[number] = used << 24 | length
            for i in range(length):
                tokens[used + i] = byte[way, text[begin + i]]
            used += length
            for i in range(len(between)):
                tokens[used + i] = between[i]
            used += len(between)
        stream[filled] = number
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
    from numba.core import entrypoints

    byte, number, read = numba.uint8[::1], numba.int64, numba.types.Array(numba.uint8, 1, "C", readonly=True)
    keys, places, stream = numba.uint64[:, ::1], numba.int64[::1], numba.int32[::1]
    loops: dict[Callable[..., Any], tuple[Any, ...]] = {
        scan: (read, numba.uint8[:, ::1], read, keys, places, byte, stream, number, number),
        _weigh: (stream, places),
        _emit: (stream, places, byte, byte),
    }
    # Before it compiles or loads anything, numba imports every installed package that extends it, which can take
    # longer than the loops; they need none. What is compiled elsewhere still finds the extensions.
    held = getattr(entrypoints, "_already_initialized", False)
    entrypoints._already_initialized = True
    try:
        try:
            made = [numba.njit(cache=True)(loop) for loop in loops]
        except RuntimeError:  # no place for the machine code
            made = [numba.njit(loop) for loop in loops]
        for compiled, types in zip(made, loops.values(), strict=True):
            compiled.compile(types)
    finally:
        entrypoints._already_initialized = held
    return made[0], made[1], made[2]
