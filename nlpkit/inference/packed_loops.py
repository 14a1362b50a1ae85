"""The compiled loops between the matrix products of a transformer over packed texts: attention, norms, activations.

Shapes: T tokens of all texts, one behind the other; D width, H heads, K key/value heads, d width of a head, N columns.

Numbers come out of a product and go into the next in one of three forms, and are float32 in between, a row at a time,
which stays in the core's cache: float32, bfloat16 (as its 16 bits), or whole numbers (int8 in, int32 out), with a scale
and a zero for each row in and a scale for each column of the weights (Yao et al. 2022, §4.1, «token-wise»). All loops
release the GIL and none starts a thread. Nothing is computed for padding: there is none.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nlpkit.vectors.kernels import compiled

FLOAT, HALF, WHOLE, NOTHING = 0, 1, 2, 3  # the form of numbers
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "silu": 2, "relu": 3}
FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}
LANES = 16  # float32 of the widest register: rows of scores are a multiple of it


@intrinsic
def _bits(typing_context: Any, number: Any) -> Any:  # numba supplies the first argument itself
    """The bits of a float32 as an int32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _number(typing_context: Any, bits: Any) -> Any:
    """The float32 that has these bits (int32)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.FloatType())

    return types.float32(types.int32), generate


@compiled(error_model="numpy", fastmath=FAST, inline="always")
def _ordered(x: Any) -> Any:
    """An int32 that is in order as the float32 are: the greatest of many whole numbers is found many at a time."""
    b: Any = _bits(x)  # type: ignore[call-arg]
    return np.int32(b ^ ((b >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@compiled(error_model="numpy", fastmath=FAST, inline="always")
def _back(b: Any) -> Any:
    """The float32 that :func:`_ordered` was given."""
    return _number(np.int32(b ^ ((b >> np.int32(31)) & np.int32(0x7FFFFFFF))))  # type: ignore[call-arg]


@compiled(error_model="numpy", fastmath=FAST, inline="always")
def _power(x: Any) -> Any:
    """2^x for x ≤ 0, relative error 2e-7: 2^(x - n) by its series to the sixth power, n into the exponent."""
    x = max(x, np.float32(-126.0))
    n = np.int32(x - np.float32(0.5))
    r = x - np.float32(n)
    p = np.float32(1.5403530e-4)
    p = p * r + np.float32(1.3333558e-3)
    p = p * r + np.float32(9.6181291e-3)
    p = p * r + np.float32(5.5504109e-2)
    p = p * r + np.float32(2.4022651e-1)
    p = p * r + np.float32(6.9314718e-1)
    p = p * r + np.float32(1.0)
    return p * _number((n + np.int32(127)) << np.int32(23))  # type: ignore[call-arg]


@compiled(error_model="numpy", fastmath=FAST, inline="always")
def _sigmoid_times(x: Any, u: Any) -> Any:
    """x / (1 + e^-u)."""
    e = _power(-abs(u) * np.float32(1.4426950))
    top = np.float32(1.0) if u >= 0 else e
    return x * top / (np.float32(1.0) + e)


@compiled(error_model="numpy", fastmath=FAST, inline="always")
def _gelu(x: Any) -> Any:
    """x Φ(x), with erf to 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    z = abs(x) * np.float32(0.70710678)
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.3275911) * z)
    p = np.float32(1.061405429)
    p = p * t - np.float32(1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t - np.float32(0.284496736)
    p = p * t + np.float32(0.254829592)
    tail = np.float32(0.5) * p * t * _power(-z * z * np.float32(1.4426950))  # 1 - Φ(|x|)
    return x * (np.float32(1.0) - tail if x >= 0 else tail)


@compiled(error_model="numpy", fastmath=FAST)
def _activate(how: int, row: np.ndarray, count: int) -> None:
    """The activation of the first numbers of a row, in place."""
    if how == 0:
        for j in range(count):
            row[j] = _gelu(row[j])
    elif how == 1:
        for j in range(count):
            x = row[j]
            inner = x + np.float32(0.044715) * x * x * x
            row[j] = _sigmoid_times(x, np.float32(1.5957691) * inner)
    elif how == 2:
        for j in range(count):
            row[j] = _sigmoid_times(row[j], row[j])
    else:
        for j in range(count):
            row[j] = max(row[j], np.float32(0.0))


@compiled(error_model="numpy", fastmath=FAST)
def _take(
    form: int,
    wide: np.ndarray,
    half: np.ndarray,
    at: int,
    rows: np.ndarray,
    columns: np.ndarray,
    out: np.ndarray,
) -> None:
    """Row ``at`` of a product as float32 in ``out``: see :func:`settle` for the arguments."""
    count = columns.shape[1]
    if form == FLOAT:
        for j in range(count):
            out[j] = _number(wide[at, j]) + columns[2, j]  # type: ignore[call-arg]
    elif form == HALF:
        for j in range(count):
            high = np.int32(half[at, j]) << np.int32(16)
            out[j] = _number(high) + columns[2, j]  # type: ignore[call-arg]
    else:
        scale, zero = rows[at, 0], rows[at, 0] * rows[at, 1]
        for j in range(count):
            out[j] = np.float32(wide[at, j]) * (scale * columns[0, j]) - zero * columns[1, j] + columns[2, j]


@compiled(error_model="numpy", fastmath=FAST)
def _put(
    form: int, row: np.ndarray, count: int, at: int, floats: np.ndarray, halves: np.ndarray, bytes_: np.ndarray,
    rows: np.ndarray,
) -> None:  # fmt: skip
    """Float32 numbers as row ``at`` of the next product's input: see :func:`settle`."""
    if form == FLOAT:
        for j in range(count):
            floats[at, j] = row[j]
    elif form == HALF:
        for j in range(count):
            b: Any = _bits(row[j])  # type: ignore[call-arg]
            halves[at, j] = np.uint16(
                (b + np.int32(0x7FFF) + ((b >> np.int32(16)) & np.int32(1))) >> np.int32(16)
            )
    elif form == WHOLE:
        least = greatest = np.int32(0)
        for j in range(count):
            least, greatest = min(least, _ordered(row[j])), max(greatest, _ordered(row[j]))
        low, high = _back(least), _back(greatest)
        scale = max((high - low) * np.float32(1 / 254), np.float32(1e-20))
        over = np.float32(1.0) / scale
        # the lowest is -128 or -127, the highest 126 or 127, however the zero is rounded
        zero = np.float32(np.int32(np.float32(-127.5) - low * over + np.float32(256.5)) - 256)
        shift = zero + np.float32(256.5)  # the conversion cuts towards zero: what it is given is positive
        for j in range(count):
            bytes_[at, j] = np.int8(np.int32(row[j] * over + shift) - np.int32(256))
        rows[at, 0], rows[at, 1] = scale, zero


@compiled(error_model="numpy", fastmath=FAST)
def settle(
    form: int, wide: np.ndarray, half: np.ndarray, rows: np.ndarray, columns: np.ndarray,
    x: np.ndarray, adds: bool, norm: int, weight: np.ndarray, bias: np.ndarray, eps: float, keeps: bool,
    to: int, floats: np.ndarray, halves: np.ndarray, bytes_: np.ndarray,
) -> None:  # fmt: skip
    """A product joins the residual stream ``x`` (T, D), which is normalised for the next product.

    ``form`` and its numbers: ``wide`` (T, N) int32 (float32 bits, or whole numbers) or ``half`` (T, N) uint16;
    ``rows`` (T, 2) float32, scale and zero of the product's input; ``columns`` (3, N) float32: scale, scale times sum
    of the weights, bias. ``adds``: there is such a product. ``norm``: 0 none, 1 layer, 2 root mean square.
    ``keeps``: the normalised rows take the place of the stream. ``to``: the form of the result in ``floats``,
    ``halves`` or ``bytes_`` (with new ``rows``).
    """
    width = x.shape[1]
    row, sum_ = np.empty(width, np.float32), np.empty(width, np.float32)
    for at in range(x.shape[0]):
        own = x[at]
        if adds:
            _take(form, wide, half, at, rows, columns, row)
            for j in range(width):
                sum_[j] = own[j] + row[j]
            if not keeps:
                for j in range(width):
                    own[j] = sum_[j]
        else:
            for j in range(width):
                sum_[j] = own[j]
        if norm:
            mean = np.float32(0.0)
            if norm == 1:
                for j in range(width):
                    mean += sum_[j]
                mean /= np.float32(width)
            square = np.float32(0.0)
            for j in range(width):
                square += (sum_[j] - mean) * (sum_[j] - mean)
            scale = np.float32(1.0) / np.sqrt(square / np.float32(width) + np.float32(eps))
            for j in range(width):
                sum_[j] = (sum_[j] - mean) * scale * weight[j] + bias[j]
        if keeps:
            for j in range(width):
                own[j] = sum_[j]
        if to != NOTHING:
            _put(to, sum_, width, at, floats, halves, bytes_, rows)


@compiled(error_model="numpy", fastmath=FAST)
def activate(
    form: int, wide: np.ndarray, half: np.ndarray, rows: np.ndarray, columns: np.ndarray,
    count: int, how: int, gated: bool, to: int, floats: np.ndarray, halves: np.ndarray, bytes_: np.ndarray,
) -> None:  # fmt: skip
    """The activation between the two products of an MLP, for ``count`` rows; gated: [gate, up] stand side by side."""
    total = columns.shape[1]
    width = total // 2 if gated else total
    row = np.empty(total, np.float32)
    up = row[width:]
    for at in range(count):
        _take(form, wide, half, at, rows, columns, row)
        _activate(how, row, width)
        if gated:
            for j in range(width):
                row[j] *= up[j]
        _put(to, row, width, at, floats, halves, bytes_, rows)


@compiled(error_model="numpy", fastmath=FAST)
def _unit(head: np.ndarray, gain: np.ndarray, eps: float) -> None:
    """QK-norm: a head over the root of its mean square, times ``gain`` (d,)."""
    square = np.float32(0.0)
    for i in range(len(head)):
        square += head[i] * head[i]
    scale = np.float32(1.0) / np.sqrt(square / np.float32(len(head)) + np.float32(eps))
    for i in range(len(head)):
        head[i] *= scale * gain[i]


@compiled(error_model="numpy", fastmath=FAST)
def _turn(head: np.ndarray, turns: np.ndarray) -> None:
    """Rotary positions: each pair (i, i + d/2) of a head turns by its angle; ``turns`` (2, d/2) cosines, sines."""
    middle = turns.shape[1]
    first, second = head[:middle], head[middle:]
    for i in range(middle):
        a, b = first[i], second[i]
        first[i] = a * turns[0, i] - b * turns[1, i]
        second[i] = b * turns[0, i] + a * turns[1, i]


def _product(vectors: int) -> Any:
    """A product of four rows: out (4, W) = left (4, count) · right (count, W), with W = LANES · ``vectors``.

    Written as instructions, since the sums have to stay in registers. The arguments are flat arrays with the places of
    their four rows (left), or of their first and the distance to the next (right, out).
    """

    @intrinsic
    def product(
        typing_context: Any, left: Any, l0: Any, l1: Any, l2: Any, l3: Any, count: Any, right: Any, r: Any, apart: Any,
        out: Any, o: Any, wide: Any,
    ) -> Any:  # fmt: skip
        kind, word = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            def place(n: int) -> Any:
                return context.make_array(signature.args[n])(context, builder, values[n]).data

            left, right, out = place(0), place(6), place(9)
            rows = [builder.gep(left, [values[1 + n]]) for n in range(4)]
            sums = [[cgutils.alloca_once(builder, kind) for _ in range(vectors)] for _ in range(4)]
            for place_ in (s for row in sums for s in row):
                builder.store(ir.Constant(kind, [0.0] * LANES), place_)
            right = builder.gep(right, [values[7]])
            with cgutils.for_range(builder, values[5]) as loop:
                line = builder.gep(right, [builder.mul(loop.index, values[8])])
                loaded = []
                for w in range(vectors):
                    pointer = builder.gep(line, [word(w * LANES)])
                    loaded.append(builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4))
                for n in range(4):
                    one = builder.load(builder.gep(rows[n], [loop.index]))
                    vector = builder.insert_element(ir.Constant(kind, ir.Undefined), one, ir.IntType(32)(0))
                    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                    vector = builder.shuffle_vector(vector, ir.Constant(kind, ir.Undefined), mask)
                    for w in range(vectors):
                        made = builder.fmul(vector, loaded[w], flags=("contract",))
                        total = builder.fadd(builder.load(sums[n][w]), made, flags=("contract",))
                        builder.store(total, sums[n][w])
            for n in range(4):
                line = builder.gep(out, [builder.add(values[10], builder.mul(word(n), values[11]))])
                for w in range(vectors):
                    pointer = builder.bitcast(builder.gep(line, [word(w * LANES)]), kind.as_pointer())
                    builder.store(builder.load(sums[n][w]), pointer, align=4)
            return context.get_dummy_value()

        ints = (types.int64,)
        return types.void(left, *ints * 5, right, *ints * 2, out, *ints * 2), generate

    return product


_product1, _product2, _product4 = _product(1), _product(2), _product(4)


@compiled(error_model="numpy", fastmath=FAST, inline="always")
def _products(
    left: np.ndarray, l0: int, l1: int, l2: int, l3: int, count: int, right: np.ndarray, r: int, apart: int,
    out: np.ndarray, o: int, wide: int, columns: int,
) -> None:  # fmt: skip
    """As :func:`_product` for ``columns`` columns of right and out, a multiple of LANES."""
    j = 0
    while j + 4 * LANES <= columns:
        _product4(left, l0, l1, l2, l3, count, right, r + j, apart, out, o + j, wide)
        j += 4 * LANES
    if j + 2 * LANES <= columns:
        _product2(left, l0, l1, l2, l3, count, right, r + j, apart, out, o + j, wide)
        j += 2 * LANES
    if j < columns:
        _product1(left, l0, l1, l2, l3, count, right, r + j, apart, out, o + j, wide)


@compiled(error_model="numpy", fastmath=FAST)
def _head(
    taken: np.ndarray, q: int, keys: np.ndarray, values: np.ndarray, scores: np.ndarray, made: np.ndarray,
    totals: np.ndarray, length: int, d: int, scale: float, window: int, causal: bool,
) -> None:  # fmt: skip
    """One head of one text: queries in ``taken`` (L, ·) from column ``q``, ``keys`` (d, L), ``values`` (L, d).

    Four queries at a time: what is loaded of keys and values serves all four, and scores stay in the nearest cache.
    The sums of the values are in ``made`` (L, d), those of their weights in ``totals`` (L,); the widths of ``keys``,
    ``values`` and ``made`` are filled up to LANES. ``scale`` holds log2 e.
    """
    across, filled, wide = taken.shape[1], keys.shape[1], values.shape[1]
    from_, key, value, score, to = taken.ravel(), keys.ravel(), values.ravel(), scores.ravel(), made.ravel()
    s0, s1, s2, s3 = scores[0], scores[1], scores[2], scores[3]
    limited = window >= 0 or causal
    last = length - 1  # rows behind it are computed from it, and are not read
    for i in range(0, length, 4):
        i1, i2, i3 = min(i + 1, last), min(i + 2, last), min(i + 3, last)
        low = max(0, i - window) if window >= 0 else 0
        high = min(length, i3 + window + 1) if window >= 0 else length
        if causal:
            high = min(high, i3 + 1)
        count = high - low
        some = -(-count // LANES) * LANES  # the keys are filled up with zeros behind the text
        _products(
            from_, q + i * across, q + i1 * across, q + i2 * across, q + i3 * across, d, key, low, filled,
            score, 0, filled, some,
        )  # fmt: skip
        for j in range(count, some):
            s0[j] = s1[j] = s2[j] = s3[j] = np.float32(-3e38)
        if limited:
            for n in range(4):
                own = min(i + n, last)
                if window >= 0:
                    scores[n, : max(low, own - window) - low] = np.float32(-3e38)
                    scores[n, min(high, own + window + 1) - low : some] = np.float32(-3e38)
                if causal:
                    scores[n, min(high, own + 1) - low : some] = np.float32(-3e38)
        m0 = m1 = m2 = m3 = np.int32(-0x7F800000)
        for j in range(some):
            m0, m1 = max(m0, _ordered(s0[j])), max(m1, _ordered(s1[j]))
            m2, m3 = max(m2, _ordered(s2[j])), max(m3, _ordered(s3[j]))
        top0, top1, top2, top3 = _back(m0), _back(m1), _back(m2), _back(m3)
        t0 = t1 = t2 = t3 = np.float32(0.0)
        for j in range(some):
            p0, p1 = _power((s0[j] - top0) * scale), _power((s1[j] - top1) * scale)
            p2, p3 = _power((s2[j] - top2) * scale), _power((s3[j] - top3) * scale)
            s0[j], s1[j], s2[j], s3[j] = p0, p1, p2, p3
            t0, t1, t2, t3 = t0 + p0, t1 + p1, t2 + p2, t3 + p3
        totals[i], totals[i + 1], totals[i + 2], totals[i + 3] = t0, t1, t2, t3
        _products(
            score, 0, filled, 2 * filled, 3 * filled, count, value, low * wide, wide, to, i * wide, wide, wide
        )


@compiled(error_model="numpy", fastmath=FAST)
def attend(
    form: int, wide_: np.ndarray, half: np.ndarray, rows: np.ndarray, columns: np.ndarray,
    starts: np.ndarray, heads: int, groups: int, d: int, gains: np.ndarray, eps: float, turns: np.ndarray,
    window: int, causal: bool, to: int, floats: np.ndarray, halves: np.ndarray, bytes_: np.ndarray,
) -> None:  # fmt: skip
    """Attention of each text to itself. Text n is the rows from ``starts[n]`` to ``starts[n + 1]`` of [q, k, v].

    ``heads`` H, ``groups`` K of width ``d``. ``gains`` (H + K or 0, d) and ``eps``: of QK-norm.
    ``turns`` (longest or 0, 2, d/2): cosines and sines of rotary positions.
    ``window``: a token sees |i - j| ≤ window; -1: all of its text. The result (T, H·d) has the form ``to``.
    """
    inner, shared = heads * d, groups * d
    longest = 0
    for n in range(len(starts) - 1):
        longest = max(longest, starts[n + 1] - starts[n])
    filled, wide = -(-longest // LANES) * LANES + LANES, -(-d // LANES) * LANES
    taken, out = np.empty((longest, inner + 2 * shared), np.float32), np.empty((longest, inner), np.float32)
    keys, values = np.zeros((d, filled), np.float32), np.zeros((longest, wide), np.float32)
    scores, made = np.empty((4, filled), np.float32), np.empty((longest + 3, wide), np.float32)
    totals = np.empty(longest + 3, np.float32)
    scale = np.float32(1.4426950408889634 / np.sqrt(d))  # softmax is in base 2
    for n in range(len(starts) - 1):
        begin, length = starts[n], starts[n + 1] - starts[n]
        for i in range(length):
            _take(form, wide_, half, begin + i, rows, columns, taken[i])
            if gains.shape[0]:
                for h in range(heads + groups):
                    _unit(taken[i, h * d : h * d + d], gains[h], eps)
            if turns.shape[0]:
                for h in range(heads + groups):
                    _turn(taken[i, h * d : h * d + d], turns[i])
        for h in range(heads):
            group = h * groups // heads
            if h == 0 or group != (h - 1) * groups // heads:
                k, v = inner + group * d, inner + shared + group * d
                for i in range(length):
                    values[i, :d] = taken[i, v : v + d]
                for c in range(d):
                    for i in range(length):
                        keys[c, i] = taken[i, k + c]
                    keys[c, length : -(-length // LANES) * LANES] = np.float32(0.0)
            _head(taken, h * d, keys, values, scores, made, totals, length, d, scale, window, causal)
            for i in range(length):
                over, own = np.float32(1.0) / totals[i], out[i, h * d : h * d + d]
                for c in range(d):
                    own[c] = made[i, c] * over
        for i in range(length):
            _put(to, out[i], inner, begin + i, floats, halves, bytes_, rows)
