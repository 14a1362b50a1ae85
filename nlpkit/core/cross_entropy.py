"""Cross-entropy of a linear output layer, a block of rows at a time: logits of all rows never exist in float32.

Shapes: M rows that are scored, D width, V vocabulary.

The gradient of the logits, (softmax - one-hot) / M, is known as soon as they are, so it takes their place in memory in
the precision of the products, and the three products of the layer are all the work that is left.
"""

from typing import Any

import torch
from torch import Tensor

ROWS = 64  # of a block: its logits stay in a core's cache
HELD = 1 << 24  # bytes of logits' gradients held at once, near the cores; a larger M is done in parts


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy (nats) of hidden (M, D) → logits (V) for labels (M,), and the share of rows whose best is it.

    ``weight`` (V, D), ``bias`` (V,) or None. Products are in the autocast type; sums and the softmax are float32
    (float64 for float64). No rows: 0 and 0.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    # Inside the function gradients are always off: whether any are wanted is asked here.
    learning = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (hidden, weight, bias)
    )
    loss, hits = _LinearCrossEntropy.apply(hidden, weight, bias, labels, dtype, learning)
    return loss, hits


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        dtype: torch.dtype,
        learning: bool,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        count = max(len(labels), 1)
        total, hits = (torch.zeros((), dtype=wide, device=hidden.device) for _ in range(2))
        d_hidden = torch.empty_like(hidden) if learning else None
        d_weight = torch.zeros_like(weight, dtype=wide) if learning else None
        d_bias = torch.zeros_like(bias, dtype=wide) if learning and bias is not None else None
        with torch.autocast(hidden.device.type, enabled=False):
            x, w = hidden.to(dtype), weight.to(dtype)
            held = HELD if hidden.device.type == "cpu" else 16 * HELD
            most = max(ROWS, held // (w.shape[0] * w.element_size()))
            for start in range(0, len(labels), most):
                part = slice(start, min(start + most, len(labels)))
                made = _gradients(x[part], w, bias, labels[part], wide, learning)
                total += made[0]
                hits += made[1]
                if made[2] is None or d_hidden is None or d_weight is None:
                    continue
                d_hidden[part] = made[2] @ w
                d_weight += made[2].t() @ x[part]
                if d_bias is not None:
                    d_bias += made[2].sum(0, dtype=wide)
            for tensor in (d_hidden, d_weight, d_bias):
                if tensor is not None:
                    tensor /= count
        hits /= count
        ctx.mark_non_differentiable(hits)
        if learning:
            ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return total / count, hits

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        made = ctx.saved_tensors
        needed = ctx.needs_input_grad
        d_hidden, d_weight, d_bias = (
            None if tensor is None or not need else tensor * grad
            for tensor, need in zip(made, needed[:3], strict=True)
        )
        return d_hidden, d_weight, d_bias, None, None, None


def _gradients(
    x: Tensor, w: Tensor, bias: Tensor | None, labels: Tensor, wide: torch.dtype, learning: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Σ cross-entropy, how many best logits are right, and softmax - one-hot (M, V) in x's type."""
    total, hits = (torch.zeros((), dtype=wide, device=x.device) for _ in range(2))
    rows = min(ROWS, len(x)) if x.device.type == "cpu" else len(x)
    made = x.new_empty(len(x) if learning else rows, len(w))
    for start in range(0, len(x), max(rows, 1)):
        part = slice(start, min(start + rows, len(x)))
        # Each block is written where its gradient will stand.
        block = made[part] if learning else made[: part.stop - start]
        logits = torch.mm(x[part], w.t(), out=block).to(wide)
        if bias is not None:
            logits = logits.add_(bias) if logits is not block else logits + bias
        at = labels[part, None]
        right = logits.gather(1, at)
        best = logits.amax(1, keepdim=True)
        hits += (right == best).sum()
        chance = torch.softmax(logits, 1)
        # log Σ exp from the largest probability, which never vanishes as that of the label may
        total += (best - chance.amax(1, keepdim=True).log_() - right).sum()
        if learning:
            block.copy_(chance.scatter_add_(1, at, right.new_full(right.shape, -1.0)))
    return total, hits, made if learning else None
