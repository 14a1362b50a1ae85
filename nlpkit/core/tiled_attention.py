"""Exact attention on a processor, tile by tile: scores that stay in the cache, and none for keys that no query sees.

Shapes: B batch, H heads, T tokens, d width of a head, N tiles, P pairs of a query and a key that are computed.

A tile is some rows of (B·H), a run of queries and the run of keys that any of them may see: with documents packed in a
row, a causal order or a window most pairs are never computed. Softmax is float32 (float64 for float64). PyTorch's
fused kernel is the better one in float32 without a mask; in bfloat16 its backward takes several times as long as
these plain products.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

QUERIES = 128  # of a tile
SCORES = 1 << 18  # of a tile, at most: with their float32 copy they stay in a core's cache
LONGEST = 1024  # tokens; the probabilities of all pairs are kept for the backward pass


class Tiles(NamedTuple):
    """What is computed: made once a forward, shared by all layers."""

    spans: (
        Tensor  # (N, 7) int64: rows from, to; queries from, to; keys from, to; where its bias begins, or -1
    )
    bias: Tensor  # what is added to the scores of a tile, tile after tile: 0 or -inf; float32
    pairs: int


def tiles(
    batch: int,
    heads: int,
    length: int,
    segments: np.ndarray | None = None,
    *,
    causal: bool = False,
    window: int | None = None,
    prefix: np.ndarray | None = None,
) -> Tiles:
    """The tiles of queries and keys (both T) that may see one another.

    ``segments`` (B, T): equal numbers, which stand together, see one another. ``causal``: a token sees those at or
    before it, and those of its segment's ``prefix`` (B, T; not 0). ``window``: and |i - j| ≤ window.
    """
    spans: list[tuple[int, ...]] = []
    biases: list[np.ndarray] = []
    at = pairs = 0
    places = np.arange(length)
    alike = segments is None and prefix is None
    for row in range(1 if alike else batch):
        rows = (0, batch * heads) if alike else (row * heads, (row + 1) * heads)
        if segments is None:
            starts, ends = np.zeros(length, np.int64), np.full(length, length)
        else:
            change = np.flatnonzero(np.diff(segments[row])) + 1
            edges = np.concatenate([[0], change, [length]])
            of = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
            starts, ends = edges[:-1][of], edges[1:][of]
        if causal:
            last = places + 1
            if prefix is not None:  # the end of the prefix that the segment begins with
                behind = np.where(prefix[row] != 0, places + 1, 0)
                reach = np.maximum.reduceat(behind, np.unique(starts))
                last = np.maximum(last, reach[np.searchsorted(np.unique(starts), starts)])
            ends = np.minimum(ends, last)
        if window is not None:
            starts, ends = np.maximum(starts, places - window), np.minimum(ends, places + window + 1)
        for begin in range(0, length, QUERIES):
            end = min(begin + QUERIES, length)
            low, high = int(starts[begin:end].min()), int(ends[begin:end].max())
            size = (end - begin) * (high - low)
            bias = -1
            if (starts[begin:end] != low).any() or (ends[begin:end] != high).any():
                keys = places[low:high]
                seen = (keys >= starts[begin:end, None]) & (keys < ends[begin:end, None])
                biases.append(np.where(seen, np.float32(0), np.float32(-np.inf)).ravel())
                bias, at = at, at + size
            step = max(1, SCORES // size)
            for first in range(*rows, step):
                spans.append((first, min(first + step, rows[1]), begin, end, low, high, bias))
            pairs += size * (rows[1] - rows[0])
    made = torch.from_numpy(np.concatenate(biases) if biases else np.zeros(0, np.float32))
    return Tiles(torch.tensor(spans, dtype=torch.int64).view(-1, 7), made, pairs)


def attend(q: Tensor, k: Tensor, v: Tensor, plan: Tiles) -> Tensor:
    """softmax(q kᵀ / √d + bias) v for q, k, v (B, H, T, d), over the pairs of ``plan``."""
    return _attend(q, k, v, plan.spans, plan.bias)[0]


@torch.library.custom_op("nlpkit::attend", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, spans: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The result (B, H, T, d), and the probabilities (P,) tile by tile."""
    qs, ks, vs = (x.reshape(-1, *x.shape[2:]) for x in (q * q.shape[-1] ** -0.5, k, v))
    out = torch.empty_like(ks)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    shapes = spans.tolist()
    kept = q.new_empty(sum((r[1] - r[0]) * (r[3] - r[2]) * (r[5] - r[4]) for r in shapes))
    at = 0
    for r0, r1, q0, q1, k0, k1, start in shapes:
        size = (q1 - q0) * (k1 - k0)
        scores = torch.bmm(qs[r0:r1, q0:q1], ks[r0:r1, k0:k1].transpose(1, 2)).to(wide)
        if start >= 0:
            scores += bias[start : start + size].view(q1 - q0, k1 - k0)
        torch.softmax(scores, -1, out=scores)
        chance = kept[at : at + (r1 - r0) * size].view(r1 - r0, q1 - q0, k1 - k0)
        chance.copy_(scores)
        _product(chance, vs[r0:r1, k0:k1], out[r0:r1, q0:q1])
        at += (r1 - r0) * size
    return out.view(q.shape), kept


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """out = left right, without a copy where its rows stand together."""
    if out.is_contiguous():
        torch.bmm(left, right, out=out)
    else:
        out.copy_(torch.bmm(left, right))


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, spans: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(torch.library.get_ctx().new_dynamic_size())


@torch.library.custom_op("nlpkit::attend_backward", mutates_args=())
def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, kept: Tensor, spans: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v. With δ = Σ (grad · out): dS = P (grad vᵀ - δ)."""
    shape, scale = q.shape, q.shape[-1] ** -0.5
    q, k, v, out, grad = (x.reshape(-1, *shape[2:]) for x in (q * scale, k, v, out, grad))
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    shapes = spans.tolist()
    # Keys that several runs of queries see gather their gradients in full precision.
    alone = all(r[2] == r[4] == 0 and r[3] == r[5] == shape[2] for r in shapes)
    dq = torch.empty_like(q)
    dk, dv = (torch.empty_like(x) if alone else torch.zeros(x.shape, dtype=wide) for x in (k, v))
    inner = (grad.to(wide) * out).sum(-1, keepdim=True)  # δ (B·H, T, 1)
    at = 0
    for r0, r1, q0, q1, k0, k1, _ in shapes:
        size = (r1 - r0) * (q1 - q0) * (k1 - k0)
        chance = kept[at : at + size].view(r1 - r0, q1 - q0, k1 - k0)
        at += size
        mine, keys = grad[r0:r1, q0:q1], slice(k0, k1)
        scores = torch.bmm(mine, v[r0:r1, keys].transpose(1, 2)).to(wide)
        scores = scores.sub_(inner[r0:r1, q0:q1]).mul_(chance).to(q.dtype)
        if alone:
            torch.bmm(chance.transpose(1, 2), mine, out=dv[r0:r1])
            torch.bmm(scores.transpose(1, 2), q[r0:r1], out=dk[r0:r1])
        else:
            dv[r0:r1, keys] += torch.bmm(chance.transpose(1, 2), mine)
            dk[r0:r1, keys] += torch.bmm(scores.transpose(1, 2), q[r0:r1, q0:q1])
        _product(scores, k[r0:r1, keys], dq[r0:r1, q0:q1])
    return dq.mul_(scale).view(shape), dk.to(k.dtype).view(shape), dv.to(v.dtype).view(shape)


@_attend_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, kept: Tensor, spans: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, spans, _ = inputs
    ctx.save_for_backward(q, k, v, *output, spans)


def _gradient(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, kept, spans = ctx.saved_tensors
    return *_attend_backward(grad.to(q.dtype), q, k, v, out, kept, spans), None, None


_attend.register_autograd(_gradient, setup_context=_keep)
