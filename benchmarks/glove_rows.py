"""Rows of GloVe's tables in other layouts, and the kernel of each: float32 or bfloat16, a sum a number or one a row.

V vocabulary, D width, N nonzeros. A bfloat16 is the upper half of a float32 and stands here in a uint16, of which numba
knows nothing more. It is rounded to the nearest, or at random, upwards with the probability that makes the mean right,
so that steps below its precision count as well (Gupta, Agrawal, Gopalakrishnan, Narayanan, ICML 2015).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nlpkit.vectors.kernels import AHEAD, FAST, LINE, _fetch

HALF, WORD, FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
compiled = numba.njit(nogil=True, fastmath=FAST, error_model="numpy")
inlined = numba.njit(inline="always")


# What follows is written for LLVM where numba would make 64 bits, and so half as many lanes, of a uint32.


def _widen(builder: Any, value: Any) -> Any:
    """bfloat16 in 16 bits to float32."""
    return builder.bitcast(builder.shl(builder.zext(value, WORD), WORD(16)), FLOAT)


def _narrow(builder: Any, value: Any, noise: Any) -> Any:
    """float32 to bfloat16: by the upper 16 bits of ``noise``, or to the nearest where it is None."""
    bits = builder.bitcast(value, WORD)
    if noise is None:  # a half less one, and one more where the last bit that stays is odd
        odd = builder.and_(builder.lshr(bits, WORD(16)), WORD(1))
        more = builder.add(odd, WORD(0x7FFF))
    else:
        more = builder.lshr(noise, WORD(16))
    return builder.trunc(builder.lshr(builder.add(bits, more), WORD(16)), HALF)


def _hashed(builder: Any, bits: Any) -> Any:
    """32 bits so mixed that both their halves serve as noise."""
    bits = builder.xor(bits, builder.lshr(bits, WORD(16)))
    bits = builder.mul(bits, WORD(0x7FEB352D))
    return builder.xor(bits, builder.lshr(bits, WORD(15)))


STRIDE = 0x9E3779B9  # from the noise of a number to that of the next, before it is hashed


@intrinsic
def _noise(typing_context: Any, drawn: Any, lane: Any) -> Any:  # numba supplies the first argument itself
    """32 bits for a lane of a sample from the bits ``drawn`` for the sample."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.mul(builder.trunc(values[1], WORD), WORD(STRIDE))
        return _hashed(builder, builder.add(bits, values[0]))

    return types.uint32(types.uint32, types.int64), generate


@intrinsic
def _lower(typing_context: Any, noise: Any) -> Any:
    """The lower half of 32 bits in the place of the upper."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.shl(values[0], WORD(16))

    return types.uint32(types.uint32), generate


@intrinsic
def _widened(typing_context: Any, value: Any) -> Any:
    """The float32 of a bfloat16; a float32 as it is."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return values[0] if value == types.float32 else _widen(builder, values[0])

    return types.float32(value), generate


@numba.njit
def _mixed(number: np.uint64) -> np.uint64:
    """64 bits for a number: SplitMix64 (Steele, Lea, Flood 2014)."""
    state = number * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _loops(chance: bool, by_row: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``dot`` and ``move`` of a kernel as loops: see :func:`kernel`."""

    @intrinsic
    def narrowed(typing_context: Any, value: Any, before: Any, noise: Any) -> Any:
        """What to store in the place, and so in the type, of one stored before."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            if before == types.float32:
                return values[0]
            return _narrow(builder, values[0], values[2] if chance else None)

        return before(value, before, noise), generate

    @inlined
    def dot(words, contexts, i, j, size, error):  # type: ignore[no-untyped-def]
        word, context = words[i][:size], contexts[j][:size]
        word_square = context_square = np.float32(0.0)
        for k in range(size):
            w, c = _widened(word[k]), _widened(context[k])
            error += w * c
            if by_row:
                word_square += w * w
                context_square += c * c
        return error, word_square, context_square

    @inlined
    def move_by_number(
        words, word_sums, contexts, context_sums, i, j, size, first, for_words, for_contexts, bits
    ):  # type: ignore[no-untyped-def]
        # Slices of their own, so that every index counts from zero and the loop becomes vector instructions.
        word, context = words[i][:size], contexts[j][:size]
        sums, others = word_sums[i][first:], context_sums[j][first:]
        for k in range(size):
            w, c = _widened(word[k]), _widened(context[k])
            for_word, for_context = for_words * c, for_contexts * w
            s, t = _widened(sums[k]), _widened(others[k])
            one, two = _noise(np.uint32(bits), k), _noise(np.uint32(bits >> np.uint64(32)), k)
            word[k] = narrowed(w - for_word / np.sqrt(s), word[k], one)
            context[k] = narrowed(c - for_context / np.sqrt(t), context[k], _lower(one))
            sums[k] = narrowed(s + for_word * for_word, sums[k], two)
            others[k] = narrowed(t + for_context * for_context, others[k], _lower(two))

    @inlined
    def move_by_row(
        words, word_sums, contexts, context_sums, i, j, size, first, for_words, for_contexts, bits
    ):  # type: ignore[no-untyped-def]
        word, context = words[i][:size], contexts[j][:size]
        for k in range(size):
            w, c = _widened(word[k]), _widened(context[k])
            noise = _noise(np.uint32(bits), k)
            word[k] = narrowed(w - for_words * c, word[k], noise)
            context[k] = narrowed(c - for_contexts * w, context[k], _lower(noise))

    return dot, move_by_row if by_row else move_by_number


@cache
def kernel(layout: "Layout") -> Any:
    """nlpkit's ``descend``, as it was with a sum a number, with other rows.

    A table comes as three views of its bytes, (V, ·): of its vectors' type, of its biases' (float32), of its sums'.
    ``bias`` is the bias's column, ``first`` that of the first sum; the bias's sum is the last. ``dot`` adds the
    product of two vectors to an error, and gives their squares; ``move`` steps both and adds to their sums. ``by_row``
    there is one sum for a vector, of the means of the squares of its steps. Rows are asked for ``ahead`` samples
    before they are needed, where that is not 0.
    """
    by_row, ahead = layout.sums == "row", layout.ahead
    dot, move = _loops(layout.chance, by_row)

    @compiled
    def descend(pairs, targets, words, contexts, size, bias, first, rate, seed):  # type: ignore[no-untyped-def]
        words_vectors, words_biases, words_sums = words
        contexts_vectors, contexts_biases, contexts_sums = contexts
        width = words_biases.shape[1]
        last = width - 1
        share = np.float32(1.0) / np.float32(size)
        total = 0.0
        for n in range(pairs.shape[0]):
            i, j = np.int64(pairs[n, 0]), np.int64(pairs[n, 1])
            if ahead > 0:
                at = min(n + ahead, pairs.shape[0] - 1)
                for column in range(0, width, LINE):
                    _fetch(words_biases, np.int64(pairs[at, 0]) * width + column)
                    _fetch(contexts_biases, np.int64(pairs[at, 1]) * width + column)
            word, context = words_biases[i], contexts_biases[j]
            error = word[bias] + context[bias] - targets[n, 0]
            error, word_square, context_square = dot(words_vectors, contexts_vectors, i, j, size, error)
            slope = targets[n, 1] * error
            total += slope * error
            for_word = for_context = rate * slope
            if by_row:
                square = for_word * for_word * share
                for_word /= np.sqrt(word[first])
                for_context /= np.sqrt(context[first])
                word[first] += square * context_square
                context[first] += square * word_square
            bits = _mixed(seed + np.uint64(n))
            move(
                words_vectors, words_sums, contexts_vectors, contexts_sums,
                i, j, size, first, for_word, for_context, bits,
            )  # fmt: skip
            word[bias] -= slope / np.sqrt(word[last])
            context[bias] -= slope / np.sqrt(context[last])
            word[last] += slope * slope
            context[last] += slope * slope
        return 0.5 * total

    return descend


ONE = 0x3F80  # 1.0 as a bfloat16


def nearest(values: np.ndarray) -> np.ndarray:
    """float32 as bfloat16 in uint16, to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    more = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + more) >> np.uint32(16)).astype(np.uint16)


@dataclass(frozen=True)
class Layout:
    """How a row is stored: the vector, its bias, the sums of the vector, the bias's sum.

    ``sums`` are "float32" or "bfloat16", one a number, or "row": one float32 for the vector.
    """

    name: str
    half: bool = False
    chance: bool = False
    sums: str = "float32"
    ahead: int = 0

    def __str__(self) -> str:
        fetched = f", fetched {self.ahead} ahead" if self.ahead else ""
        return self.name + fetched

    def bias(self, size: int) -> int:
        """The float32 column of the bias."""
        return (size + 1) // 2 if self.half else size

    def width(self, size: int) -> int:
        """Of a row, in float32."""
        sums = {"float32": size, "bfloat16": (size + 1) // 2, "row": 1}[self.sums]
        return self.bias(size) + 1 + sums + 1

    def first(self, size: int) -> int:
        """The column of the first sum, in its own type."""
        return (self.bias(size) + 1) * (2 if self.sums == "bfloat16" else 1)

    def views(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A table (V, width) float32 as the types of its vectors, biases and sums."""
        halves = table.view(np.uint16)
        return halves if self.half else table, table, halves if self.sums == "bfloat16" else table

    def packed(self, start: np.ndarray) -> np.ndarray:
        """First vectors (V, D) in this layout, rounded to the nearest, with biases of 0 and sums of 1."""
        vocabulary, size = start.shape
        made = np.zeros((vocabulary, self.width(size)), np.float32)
        vectors, biases, sums = self.views(made)
        vectors[:, :size] = nearest(start) if self.half else start
        first, many = self.first(size), 1 if self.sums == "row" else size
        sums[:, first : first + many] = ONE if self.sums == "bfloat16" else 1.0
        biases[:, -1] = 1.0
        return made

    def unpacked(self, table: np.ndarray, size: int) -> np.ndarray:
        """The vectors and biases (V, D + 1) float32 of a table."""
        vectors = self.views(table)[0][:, :size]
        if self.half:
            vectors = (vectors.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return np.concatenate([vectors, table[:, self.bias(size)][:, None]], axis=1)


CONTROL = Layout("float32")
LAYOUTS = (
    CONTROL,
    Layout("one sum a row", sums="row"),
    Layout("bfloat16, nearest", half=True),
    Layout("bfloat16, stochastic", half=True, chance=True),
    Layout("bfloat16 both, stochastic", half=True, chance=True, sums="bfloat16"),
    Layout("bfloat16, stochastic, one sum a row", half=True, chance=True, sums="row"),
)
FETCHED = tuple(replace(layout, ahead=AHEAD) for layout in LAYOUTS)
SIDES = (*LAYOUTS, *FETCHED)
