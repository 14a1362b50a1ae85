"""Numbers for the tokens of text, in the order in which they are first seen, by a compiled loop over bytes.

S slots of the table (a power of two), V distinct tokens, N bytes of a block, W tokens and line ends of it.

A token is what stands between the bytes that end one. Up to seven bytes are their own key in the table; longer ones are
looked up by a hash and compared whole, so a collision costs time and never an error.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

END = 255  # in a table of bytes: ends a token; no byte of UTF-8
LINE_END = -1  # its number
BITS = 32  # a run of an array is one number: where it starts << BITS | how long it is
LENGTH = (1 << BITS) - 1
_SHORT = 7  # bytes of a token that is its own key


def spaces() -> np.ndarray:
    """(256,): every byte itself, but :data:`END` for ASCII white space as ``str.split`` has it."""
    made = np.arange(256, dtype=np.uint8)
    made[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = END
    return made


class TokenNumbers:
    """A table of tokens.

    ``byte`` (2, 256) says what a byte is looked up as, or that it ends a token: between spaces that hold only ASCII,
    and elsewhere; where both are the same, one (256,) will do. ``between`` is put after each token in ``tokens``.

    >>> numbers = TokenNumbers(spaces())
    >>> numbers(b"a cat\\na dog\\n").tolist(), numbers.since(0, 0)
    ([0, 1, -1, 0, 2, -1], ['a', 'cat', 'dog'])
    """

    def __init__(self, byte: np.ndarray, between: str = "\n", slots: int = 1 << 16) -> None:
        self._byte = np.stack([byte, byte]) if byte.ndim == 1 else byte
        self._between, self._least = between, slots
        self._after = np.frombuffer(between.encode(), np.uint8)
        self.clear()

    def clear(self) -> None:
        """Forget all tokens."""
        self._slots = np.zeros((self._least, 2), np.uint64)  # a token's key and its number + 1
        self._found = np.zeros(self._least // 2, np.int64)  # (V,): where a token's bytes are
        self._tokens = np.zeros(1 << 20, np.uint8)
        self.count = self.used = 0  # distinct tokens, and bytes of them with what is put after each

    def __call__(self, data: bytes) -> np.ndarray:
        """The numbers (W,) int32 of the tokens of whole lines, :data:`LINE_END` for a line end."""
        most = len(data) // 2  # tokens that these bytes can hold
        scan, rehash, *_ = _loops()
        if 2 * (self.count + most) > len(self._slots):
            slots = np.zeros((1 << (2 * (self.count + most)).bit_length(), 2), np.uint64)
            rehash(self._slots, slots)
            self._slots, self._found = slots, longer(self._found, len(slots) // 2)
        self._tokens = longer(self._tokens, self.used + len(data) + most * len(self._after))
        stream = np.empty(len(data), np.int32)
        filled, self.count, self.used = scan(
            np.frombuffer(data, np.uint8), self._byte, self._after, self._slots, self._found, self._tokens,
            stream, self.count, self.used,
        )  # fmt: skip
        return stream[:filled]

    def since(self, count: int, used: int) -> list[str] | None:
        """The tokens numbered from ``count`` on, when ``used`` was as it is said; None where one spells ``between``."""
        text = self._tokens[used : self.used].tobytes().decode("utf-8", "surrogatepass")
        tokens = text.split(self._between)
        tokens.pop()
        return tokens if len(tokens) == self.count - count else None


def runs_of(lengths: np.ndarray, start: int = 0) -> np.ndarray:
    """Runs of these lengths (V,) int64, one behind the other from ``start`` on, each a number."""
    made: np.ndarray = (start + np.cumsum(lengths) - lengths) << BITS | lengths
    return made


def named(stream: np.ndarray, places: np.ndarray, names: np.ndarray) -> tuple[bytes, int]:
    """The lines that ``stream`` (W,) int32 stands for, and their number.

    ``places`` (V,): the run of ``names``, which are bytes, that a number stands for. There is a space between two
    that are not empty.
    """
    *_, weigh, emit = _loops()
    room, lines = weigh(stream, places)
    out = np.empty(room, np.uint8)
    return out[: emit(stream, places, names, out)].tobytes(), lines


def longer(array: np.ndarray, size: int) -> np.ndarray:
    """``array`` with room for ``size``, at least doubled when it grows."""
    if size <= len(array):
        return array
    made = np.zeros(max(size, 2 * len(array)), array.dtype)
    made[: len(array)] = array
    return made


def _scan(
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
    """Number the tokens of ``text`` (N,) into ``stream`` (W,); new ones join the table. It ends with a line end."""
    mask, one, eight = np.uint64(len(slots) - 1), np.uint64(1), np.uint64(8)
    shift, long = np.uint64(32), np.uint64(1 << 63)
    size = len(text)
    at = filled = 0
    word, before = 0, 0  # where the text since the last space begins, and what was filled by then
    way = 0
    while at < size:
        if byte[way, text[at]] == END:
            here = text[at]
            if here >= 128:
                at, filled, way = word, before, 1
                continue
            at += 1
            if byte[1, here] == END:
                if here == 10:
                    stream[filled] = LINE_END
                    filled += 1
                word, before, way = at, filled, 0
            continue
        begin = at
        key, hashed = one, np.uint64(0)
        while True:
            now = byte[way, text[at]]
            if now == END:  # a line end is the last byte
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
                start = found[number] >> BITS
                i = 0
                if found[number] & LENGTH == length:
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
            found[number] = used << BITS | length
            for i in range(length):
                tokens[used + i] = byte[way, text[begin + i]]
            used += length
            for i in range(len(between)):
                tokens[used + i] = between[i]
            used += len(between)
        stream[filled] = number
        filled += 1
    return filled, count, used


def _rehash(old: np.ndarray, slots: np.ndarray) -> None:
    """Put what is in ``old`` (S, 2) into larger ``slots``, which are empty."""
    mask, one, shift = np.uint64(len(slots) - 1), np.uint64(1), np.uint64(32)
    for at in range(len(old)):
        if old[at, 1]:
            place = (old[at, 0] * np.uint64(0x9E3779B97F4A7C15)) >> shift & mask
            while slots[place, 1]:
                place = (place + one) & mask
            slots[place, 0], slots[place, 1] = old[at, 0], old[at, 1]


def _weigh(stream: np.ndarray, places: np.ndarray) -> tuple[int, int]:
    """Room for what ``stream`` (W,) names, in bytes, and its number of lines."""
    room, lines = len(stream), 0
    for number in stream:
        if number < 0:
            lines += 1
        else:
            room += places[number] & LENGTH
    return room, lines


def _emit(stream: np.ndarray, places: np.ndarray, names: np.ndarray, out: np.ndarray) -> int:
    """Write the names that ``stream`` (W,) names, one space between them, and the line ends; the bytes written."""
    at = 0
    first = True
    for number in stream:
        if number < 0:
            out[at] = 10
            at += 1
            first = True
            continue
        length = places[number] & LENGTH
        if length == 0:
            continue
        if not first:
            out[at] = 32
            at += 1
        first = False
        start = places[number] >> BITS
        for i in range(length):
            out[at + i] = names[start + i]
        at += length
    return at


def compiled(loops: dict[Callable[..., Any], Callable[[Any], tuple[Any, ...]]]) -> list[Callable[..., Any]]:
    """Loops compiled for the types that a function of ``numba`` names; their machine code is kept on disk if it can be.

    Before it compiles or loads anything, numba imports every installed package that extends it, which can take longer
    than the loops; they need none. What is compiled elsewhere still finds the extensions.
    """
    import numba
    from numba.core import entrypoints

    held = getattr(entrypoints, "_already_initialized", False)
    entrypoints._already_initialized = True
    try:
        try:
            made: list[Any] = [numba.njit(cache=True)(loop) for loop in loops]
        except RuntimeError:  # no place for the machine code
            made = [numba.njit(loop) for loop in loops]
        for loop, types in zip(made, loops.values(), strict=True):
            loop.compile(types(numba))
    finally:
        entrypoints._already_initialized = held
    return made


@functools.cache
def _loops() -> list[Callable[..., Any]]:
    def scan(numba: Any) -> tuple[Any, ...]:
        byte, number = numba.uint8[::1], numba.int64
        read = numba.types.Array(numba.uint8, 1, "C", readonly=True)
        keys, stream = numba.uint64[:, ::1], numba.int32[::1]
        return (read, numba.uint8[:, ::1], read, keys, number[::1], byte, stream, number, number)

    def rehash(numba: Any) -> tuple[Any, ...]:
        return (numba.uint64[:, ::1],) * 2

    def weigh(numba: Any) -> tuple[Any, ...]:
        return numba.int32[::1], numba.int64[::1]

    def emit(numba: Any) -> tuple[Any, ...]:
        read = numba.types.Array(numba.uint8, 1, "C", readonly=True)
        return (*weigh(numba), read, numba.uint8[::1])

    return compiled({_scan: scan, _rehash: rehash, _weigh: weigh, _emit: emit})
