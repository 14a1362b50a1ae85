"""The compiled loops of GloVe, and the only file that imports numba. All release the GIL, none starts a thread.

V vocabulary, D width of a vector, N nonzeros.

A table of vectors is (V, 2·(D + 1)) float32, a word a row: its vector, its bias, then what AdaGrad has summed for
each of them, so that one sample touches two runs of memory. No kernel's result depends on who runs it when: the
caller gives threads disjoint rows. ``nnan`` and ``ninf`` are left out of fastmath so that a diverged cost shows.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
END = -1  # stands before, between and after documents in a stream of ids


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit`` that keeps its machine code on disk, and does without where no place for it is writable."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(nogil=True, **options)(function)

    return wrap


@intrinsic
def _lowest_bit(typing_context: Any, bits: Any) -> Any:  # numba supplies the first argument itself
    """The number of the lowest bit that is set (``llvm.cttz``)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], context.get_constant(types.boolean, 0))

    return types.uint64(types.uint64), generate


@compiled()
def occurrences(stream: np.ndarray, first: int, last: int, starts: np.ndarray, positions: np.ndarray) -> None:
    """Fill ``positions`` with where each word of [first, last) stands in ``stream``, word after word.

    ``starts`` (last - first,) says where the places of each word begin; it is advanced to their ends.
    """
    for place in range(stream.shape[0]):
        word = stream[place]
        if first <= word < last:
            slot = starts[word - first]
            positions[slot] = place
            starts[word - first] = slot + 1


@compiled()
def count_rows(
    stream: np.ndarray,
    positions: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    right: bool,
    unit: float,
    vocabulary: int,
    columns: np.ndarray,
    counts: np.ndarray,
    sizes: np.ndarray,
) -> int:
    """Co-occurrence rows of some words, a dense accumulator and a bit a column, so that nothing is sorted.

    ``ends`` (R,): where the places of each word end in ``positions``. ``weights`` (window,): what a word at
    distance 1, 2, … adds, in ``unit``\\ s. Writes ``columns`` and ``counts`` row after row in the order of
    columns, and the number in each row to ``sizes``; returns how many were written.
    """
    window = weights.shape[0]
    sums = np.zeros(vocabulary, np.float64)
    seen = np.zeros((vocabulary + 63) // 64, np.uint64)
    one = np.uint64(1)
    begin = 0
    written = 0
    for row in range(ends.shape[0]):
        for at in range(begin, ends[row]):
            place = positions[at]
            for distance in range(window):
                other = stream[place - distance - 1]
                if other < 0:
                    break
                sums[other] += weights[distance]
                seen[other >> 6] |= one << np.uint64(other & 63)
            if right:
                for distance in range(window):
                    other = stream[place + distance + 1]
                    if other < 0:
                        break
                    sums[other] += weights[distance]
                    seen[other >> 6] |= one << np.uint64(other & 63)
        begin = ends[row]
        before = written
        for group in range(seen.shape[0]):
            bits = seen[group]
            if bits:
                seen[group] = 0
                while bits:
                    column = (group << 6) + np.int64(_lowest_bit(bits))  # type: ignore[call-arg]
                    bits &= bits - one
                    columns[written] = column
                    counts[written] = sums[column] / unit
                    sums[column] = 0.0
                    written += 1
        sizes[row] = written - before
    return written


@compiled(fastmath=FAST, error_model="numpy")
def descend(
    pairs: np.ndarray,
    targets: np.ndarray,
    words: np.ndarray,
    contexts: np.ndarray,
    rate: np.float32,
) -> float:
    """One AdaGrad step a sample, in order; the sum of the losses ½·f·(w·ŵ + b + b̂ - log X)² before each step.

    ``pairs`` (N, 2) int32: word, context. ``targets`` (N, 2) float32: log X and f(X). ``words`` and ``contexts``
    are tables and change in place. With s = rate · gradient, a sum of squares grows by s² and then the parameter
    moves by s / √sum: sums of (rate · g)², as in the authors' program, not of g² as in Duchi et al. 2011. On 40 MB
    of novels this reached in 5 epochs, at the rate of 0.05, what sums of g² reached in between 5 and 10.
    """
    size = words.shape[1] // 2 - 1
    half = size + 1
    total = 0.0
    for n in range(pairs.shape[0]):
        # Slices of their own, so that every index counts from zero and the loops become vector instructions.
        word = words[pairs[n, 0]][:half]
        word_sums = words[pairs[n, 0]][half:]
        context = contexts[pairs[n, 1]][:half]
        context_sums = contexts[pairs[n, 1]][half:]
        error = word[size] + context[size] - targets[n, 0]
        for k in range(size):
            error += word[k] * context[k]
        slope = targets[n, 1] * error
        total += slope * error
        step = rate * slope
        for k in range(size):
            for_word = step * context[k]
            for_context = step * word[k]
            word_sum = word_sums[k] + for_word * for_word
            context_sum = context_sums[k] + for_context * for_context
            word[k] -= for_word / np.sqrt(word_sum)
            context[k] -= for_context / np.sqrt(context_sum)
            word_sums[k] = word_sum
            context_sums[k] = context_sum
        word_sums[size] += step * step
        context_sums[size] += step * step
        word[size] -= step / np.sqrt(word_sums[size])
        context[size] -= step / np.sqrt(context_sums[size])
    return 0.5 * total
