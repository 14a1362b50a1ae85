"""The compiled loops of GloVe, and the only file that imports numba. All release the GIL, none starts a thread.

V vocabulary, D width of a vector, N nonzeros.

A table of vectors is (V, D + 3) float32, a word a row: its vector, its bias, then what AdaGrad has summed for the
vector and for the bias, so that one sample touches two runs of memory. The sum of a vector is that of the mean squares
of its steps: a sum for each number would double the bytes, take one and a half times as long and lead to no better
vectors (benchmarks/glove_bytes.py). No kernel's result depends on who runs it when: the caller gives threads disjoint
rows. ``nnan`` and ``ninf`` are left out of fastmath so that a diverged cost shows.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
AHEAD = 4  # places of a word, and samples, whose memory is asked for before it is needed
AT_ONCE = 64  # triples that are drawn together
LINE = 16  # numbers of float32 in a line of the cache
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


@intrinsic
def _fetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the line of memory that holds ``array[index]``, without waiting for it (``llvm.prefetch``)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        address = builder.bitcast(builder.gep(data, [values[1]]), byte)
        builder.call(prefetch, [address, word(0), word(3), word(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


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
    begin, last = 0, positions.shape[0] - 1
    written = 0
    for row in range(ends.shape[0]):
        before = written
        # A row that can touch every column needs no bits to find those that it did touch.
        dense = (ends[row] - begin) * (2 * window if right else window) >= vocabulary
        for at in range(begin, ends[row]):
            place = positions[at]
            # The places of a word are all over the stream: reading it is what takes the time.
            _fetch(stream, positions[min(at + AHEAD, last)])  # type: ignore[call-arg]
            for distance in range(window):
                other = stream[place - distance - 1]
                if other < 0:
                    break
                sums[other] += weights[distance]
                if not dense:
                    seen[other >> 6] |= one << np.uint64(other & 63)
            if right:
                for distance in range(window):
                    other = stream[place + distance + 1]
                    if other < 0:
                        break
                    sums[other] += weights[distance]
                    if not dense:
                        seen[other >> 6] |= one << np.uint64(other & 63)
        begin = ends[row]
        if dense:
            for other in range(vocabulary):
                if sums[other] != 0.0:
                    columns[written] = other
                    counts[written] = sums[other] / unit
                    sums[other] = 0.0
                    written += 1
        for group in range(0 if dense else seen.shape[0]):
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


@compiled()
def deal_out(
    rows: np.ndarray,
    columns: np.ndarray,
    counts: np.ndarray,
    row_part: np.ndarray,
    column_part: np.ndarray,
    ends: np.ndarray,
    records: np.ndarray,
) -> None:
    """Write nonzeros (N,) to ``records`` (N, 3) int32 (row, column, the bits of the count), block after block.

    The block of a nonzero is ``row_part[row] + column_part[column]``; those of a block keep their order. ``ends``
    (blocks + 1,) int64 comes as zeros and leaves as where each block ends.
    """
    for n in range(rows.shape[0]):
        ends[row_part[rows[n]] + column_part[columns[n]] + 1] += 1
    for block in range(1, ends.shape[0]):
        ends[block] += ends[block - 1]
    for n in range(rows.shape[0]):
        block = row_part[rows[n]] + column_part[columns[n]]
        at = ends[block]
        records[at, 0] = rows[n]
        records[at, 1] = columns[n]
        records[at, 2] = counts[n]
        ends[block] = at + 1


@compiled()
def shuffle(records: np.ndarray, seed: np.uint64, pairs: np.ndarray, counts: np.ndarray) -> None:
    """``records`` (N, 3) in a random order: row and column to ``pairs`` (N, 2), the third to ``counts`` (N,).

    Fisher-Yates from the inside out (Knuth, TAOCP 2, §3.4.2), random numbers by SplitMix64 (Steele, Lea, Flood 2014)
    made a place below n + 1 by multiplication (Lemire 2019; its bias is below 2^-32 for a block of any size here).
    """
    state = seed
    for n in range(records.shape[0]):
        state += np.uint64(0x9E3779B97F4A7C15)
        mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(32)
        place = (mixed * np.uint64(n + 1)) >> np.uint64(32)
        pairs[n, 0], pairs[n, 1], counts[n] = pairs[place, 0], pairs[place, 1], counts[place]
        pairs[place, 0], pairs[place, 1], counts[place] = records[n, 0], records[n, 1], records[n, 2]


@compiled(inline="always")
def _fetch_row(table: np.ndarray, row: int) -> None:
    """Ask for a row of a table before it is needed: the next rows are anywhere in it."""
    width = table.shape[1]
    for column in range(0, width, LINE):
        _fetch(table, np.int64(row) * width + column)  # type: ignore[call-arg]


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
    are tables and change in place. With s = rate · gradient a vector moves by s / √sum and its sum grows by the mean
    of s²: of (rate · g)², as in the authors' program, not of g² as in Duchi et al. 2011. On 40 MB of novels this
    reached in 5 epochs, at the rate of 0.05, what sums of g² reached in between 5 and 10. The biases move at the rate
    1, as in that program since 2020: they take up how frequent a word is, which vectors then need not say. (At the
    rate of the vectors, Spearman's ρ on MEN is 0.02 lower and on WordSim353 0.03.)
    """
    size = words.shape[1] - 3
    share = np.float32(1.0) / np.float32(size)
    last = pairs.shape[0] - 1
    total = 0.0
    for n in range(pairs.shape[0]):
        _fetch_row(words, pairs[min(n + AHEAD, last), 0])
        _fetch_row(contexts, pairs[min(n + AHEAD, last), 1])
        word, context = words[pairs[n, 0]], contexts[pairs[n, 1]]
        error = word[size] + context[size] - targets[n, 0]
        word_square = context_square = np.float32(0.0)
        for k in range(size):
            error += word[k] * context[k]
            word_square += word[k] * word[k]
            context_square += context[k] * context[k]
        slope = targets[n, 1] * error
        total += slope * error
        step = rate * slope
        square = step * step * share
        for_word = step / np.sqrt(word[size + 1])
        for_context = step / np.sqrt(context[size + 1])
        for k in range(size):
            before = word[k]
            word[k] -= for_word * context[k]
            context[k] -= for_context * before
        word[size + 1] += square * context_square
        context[size + 1] += square * word_square
        word[size] -= slope / np.sqrt(word[size + 2])
        context[size] -= slope / np.sqrt(context[size + 2])
        word[size + 2] += slope * slope
        context[size + 2] += slope * slope
    return 0.5 * total


@compiled()
def residuals(
    pairs: np.ndarray, logs: np.ndarray, words: np.ndarray, contexts: np.ndarray, out: np.ndarray
) -> None:
    """``out`` (N,) float32 = w·ŵ + b + b̂ - log X of ``pairs`` (N, 2) and ``logs`` (N,); the tables stay."""
    size = words.shape[1] - 3
    last = pairs.shape[0] - 1
    for n in range(pairs.shape[0]):
        _fetch_row(words, pairs[min(n + AHEAD, last), 0])
        word = words[pairs[n, 0]]
        context = contexts[pairs[n, 1]]
        error = word[size] + context[size] - logs[n]
        for k in range(size):
            error += word[k] * context[k]
        out[n] = error


@compiled()
def alias_tables(masses: np.ndarray, starts: np.ndarray, thresholds: np.ndarray, aliases: np.ndarray) -> None:
    """Walker's alias tables (1977), built as Vose does (1991), one for each run [starts[t], starts[t + 1]) of masses.

    ``masses`` (N,) ≥ 0 need not sum to one. To draw from a run, draw a column c of it evenly and u from [0, 1): the
    column itself where u < thresholds[c], else aliases[c], which counts from the run's start. A run whose masses
    are all 0 gets thresholds of 1: whoever draws must not choose it.
    """
    for table in range(starts.shape[0] - 1):
        first, last = starts[table], starts[table + 1]
        count = last - first
        total = 0.0
        for n in range(first, last):
            total += masses[n]
        if not total > 0.0:
            for n in range(count):
                thresholds[first + n] = 1.0
                aliases[first + n] = n
            continue
        left = np.empty(count, np.float64)
        waiting = np.empty(count, np.int32)  # columns below average from the front, the others from the back
        low, high = 0, count
        for n in range(count):
            left[n] = masses[first + n] * count / total
            if left[n] < 1.0:
                waiting[low] = n
                low += 1
            else:
                high -= 1
                waiting[high] = n
        while low > 0 and high < count:
            low -= 1
            small, large = waiting[low], waiting[high]
            thresholds[first + small] = left[small]
            aliases[first + small] = large
            left[large] = (left[large] + left[small]) - 1.0
            if left[large] < 1.0:
                high += 1
                waiting[low] = large
                low += 1
        for n in range(low):  # rounding alone leaves these
            thresholds[first + waiting[n]] = 1.0
            aliases[first + waiting[n]] = waiting[n]
        for n in range(high, count):
            thresholds[first + waiting[n]] = 1.0
            aliases[first + waiting[n]] = waiting[n]


@compiled(inline="always")
def _mixed(state: np.uint64) -> np.uint64:
    """SplitMix64's number for a state (Steele, Lea, Flood 2014)."""
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@compiled()
def _drawn(bits: np.uint64, first: int, count: int, thresholds: np.ndarray, aliases: np.ndarray) -> Any:
    """The place that 64 random bits draw from the run of an alias table that begins at ``first``."""
    column = np.int64(((bits >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32))
    if np.float64(bits & np.uint64(0xFFFFFFFF)) * 2.0**-32 < thresholds[first + column]:
        return first + column
    return first + aliases[first + column]


@compiled()
def draw_triples(
    first: int,
    second: int,
    share: float,
    ids: np.ndarray,
    starts: np.ndarray,
    masses: np.ndarray,
    context_thresholds: np.ndarray,
    context_aliases: np.ndarray,
    pairs: np.ndarray,
    targets: np.ndarray,
    state: np.uint64,
    triples: np.ndarray,
    ratios: np.ndarray,
) -> np.uint64:
    """Fill ``triples`` (N, 3) int32 with (i, s, g) and ``ratios`` (N,) with log X_ig - log X_sg; the next state.

    Drawn from two blocks of one context part as if they were one: with their masses m_ig, the pair (i, g) comes in
    proportion to m_ig, then s to m_sg. ``share`` of the mass is the first's. The C contexts ``ids`` (C,) of a block
    stand from ``first`` or ``second`` on in ``starts``, ``masses`` and the alias tables of contexts; their nonzeros in
    ``pairs`` (word, alias) and ``targets`` (log X, threshold).
    """
    count = ids.shape[0]
    runs, columns = np.empty((AT_ONCE, 2), np.int64), np.empty((AT_ONCE, 2), np.int64)
    fractions = np.empty((AT_ONCE, 2), np.float64)
    for start in range(0, triples.shape[0], AT_ONCE):
        size = min(AT_ONCE, triples.shape[0] - start)
        # First where to look, for some triples, and then what is there: a nonzero is anywhere in memory.
        for n in range(size):
            state += np.uint64(0x9E3779B97F4A7C15)
            bits = _mixed(state)
            block = first if np.float64(bits >> np.uint64(32)) * 2.0**-32 < share else second
            fraction = np.float64(bits & np.uint64(0xFFFFFFFF)) * 2.0**-32
            state += np.uint64(0x9E3779B97F4A7C15)
            run = _drawn(_mixed(state), block, count, context_thresholds, context_aliases)
            context = run - block
            triples[start + n, 2] = ids[context]
            here = masses[first + context]
            for which in range(2):
                if which == 1:
                    at = first if fraction * (here + masses[second + context]) < here else second
                    run = at + context
                state += np.uint64(0x9E3779B97F4A7C15)
                bits = _mixed(state)
                many = np.uint64(starts[run + 1] - starts[run])
                runs[n, which] = starts[run]
                columns[n, which] = starts[run] + np.int64(((bits >> np.uint64(32)) * many) >> np.uint64(32))
                fractions[n, which] = np.float64(bits & np.uint64(0xFFFFFFFF)) * 2.0**-32
                _fetch(pairs, 2 * columns[n, which])  # type: ignore[call-arg]
                _fetch(targets, 2 * columns[n, which])  # type: ignore[call-arg]
        for n in range(size):
            for which in range(2):
                column = columns[n, which]
                if fractions[n, which] >= targets[column, 1]:
                    columns[n, which] = runs[n, which] + pairs[column, 1]
            one, other = columns[n, 0], columns[n, 1]
            triples[start + n, 0], triples[start + n, 1] = pairs[one, 0], pairs[other, 0]
            ratios[start + n] = targets[one, 0] - targets[other, 0]
    return state


@compiled(fastmath=FAST, error_model="numpy")
def descend_triples(
    triples: np.ndarray,
    ratios: np.ndarray,
    words: np.ndarray,
    contexts: np.ndarray,
    rate: np.float32,
    clip: np.float32,
    biased: bool,
) -> float:
    """One AdaGrad step a triple, in order; the sum of the losses ½·((w_i - w_s)·ŵ_g + b_i - b_s - r)² before each.

    ``triples`` (N, 3) int32 (i, s, g), ``ratios`` (N,) float32 r. Without ``biased`` there is no b. The error is cut to
    ±``clip`` in a step. Steps are those of :func:`descend`.
    """
    size = words.shape[1] - 3
    share = np.float32(1.0) / np.float32(size)
    last = triples.shape[0] - 1
    total = 0.0
    for n in range(triples.shape[0]):
        _fetch_row(words, triples[min(n + AHEAD, last), 0])
        _fetch_row(words, triples[min(n + AHEAD, last), 1])
        _fetch_row(contexts, triples[min(n + AHEAD, last), 2])
        if triples[n, 0] == triples[n, 1]:
            continue  # both sides are 0
        word, other, context = words[triples[n, 0]], words[triples[n, 1]], contexts[triples[n, 2]]
        error = -ratios[n]
        if biased:
            error += word[size] - other[size]
        apart_square = context_square = np.float32(0.0)
        for k in range(size):
            apart = word[k] - other[k]
            error += apart * context[k]
            apart_square += apart * apart
            context_square += context[k] * context[k]
        total += error * error
        if error > clip:  # a comparison, so that what is not a number stays so
            error = clip
        elif error < -clip:
            error = -clip
        step = rate * error
        square = step * step * share
        word[size + 1] += square * context_square
        other[size + 1] += square * context_square
        context[size + 1] += square * apart_square
        for_word = step / np.sqrt(word[size + 1])
        for_other = step / np.sqrt(other[size + 1])
        for_context = step / np.sqrt(context[size + 1])
        for k in range(size):
            apart, before = word[k] - other[k], context[k]
            word[k] -= for_word * before
            other[k] += for_other * before
            context[k] -= for_context * apart
        if biased:
            word[size + 2] += step * step
            other[size + 2] += step * step
            word[size] -= step / np.sqrt(word[size + 2])
            other[size] += step / np.sqrt(other[size + 2])
    return 0.5 * total
