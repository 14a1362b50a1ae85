"""Floating point operations of the matrix products of the text models, and the rate this machine reaches in them.

Shapes: B batch, T tokens, D width, H heads, K key/value heads, d width of a head, M scored tokens, V vocabulary.

A multiply-add counts as two. Only matrix products are counted: the linear layers, queries by keys and weights by
values, and the output over the vocabulary. Embedding look-ups, norms, activations, softmax, rotary positions and the
optimizer's own arithmetic are not. A backward pass takes two products for each one of the forward pass (Kaplan et
al. 2020, §2.1), one for the gradient of the inputs and one for that of the weights.
"""

import time
from typing import Literal

import numpy as np
import torch
from torch import nn

from nlpkit.core.batch import IGNORE, Batch
from nlpkit.core.heads import LanguageHead, MaskedHead
from nlpkit.core.image_encoder import ImageEncoder
from nlpkit.core.text_encoder import TextConfig, TextEncoder
from nlpkit.core.transformer import AttentionConfig, TransformerConfig
from nlpkit.errors import UsageError

Head = Literal["masked", "language", "none"]
Pairs = int | tuple[int, int]  # (query, key) pairs: of every layer, or (of global layers, of windowed layers)

SIZES = ((1024, 1024, 1024), (2048, 1024, 1024), (256, 512, 2048))  # rows, inner, columns
LEAST = 3  # products a size is timed by, however slow


def trunk_operations(c: TransformerConfig, tokens: int, pairs: Pairs) -> int:
    """Operations of one forward pass through a stack without cross-attention or condition.

    ``tokens``: those that go through the layers; ``pairs``: the (query, key) pairs of a head, summed over the batch.
    """
    a, m = c.attention, c.mlp
    inner, shared = a.heads * c.head_dim, (a.kv_heads or a.heads) * c.head_dim
    weights = c.width * (2 * inner + 2 * shared) + (3 if m.gated else 2) * c.width * m.hidden
    wide, near = pairs if isinstance(pairs, tuple) else (pairs, pairs)
    windowed = sum(is_windowed(a, layer) for layer in range(c.depth))
    met = (c.depth - windowed) * wide + windowed * near
    return 2 * c.depth * tokens * weights + 4 * inner * met


def is_windowed(a: AttentionConfig, layer: int) -> bool:
    """Whether a layer sees only the tokens of its window."""
    return a.window is not None and not (a.global_every and layer % a.global_every == 0)


def forward_operations(text: TextConfig, tokens: int, pairs: Pairs, scored: int, head: Head) -> int:
    """Operations of the matrix products of one forward pass.

    ``tokens`` go through the layers (padding too, where it is computed). ``pairs`` of a query and a key are computed
    by each head, summed over the batch: B·T² for dense attention, or two numbers, of global and of windowed layers.
    Logits are made at ``scored`` tokens, by the head of mlm (``masked``), of clm (``language``), or not at all.

    >>> from nlpkit.core.families import text_config
    >>> small = text_config("gpt2", vocab=10, width=4, depth=1, heads=1, hidden=8)
    >>> forward_operations(small, tokens=3, pairs=9, scored=3, head="none")
    912
    >>> forward_operations(small, tokens=3, pairs=9, scored=3, head="language") - 912 == 2 * 3 * 4 * 10
    True
    """
    width = text.trunk.width
    dense = width * width if head == "masked" else 0
    output = 0 if head == "none" else dense + width * text.vocab
    return trunk_operations(text.trunk, tokens, pairs) + 2 * scored * output


def training_operations(text: TextConfig, tokens: int, pairs: Pairs, scored: int, head: Head) -> int:
    """Operations of a forward and a backward pass: three times those of :func:`forward_operations`."""
    return 3 * forward_operations(text, tokens, pairs, scored, head)


def seen_pairs(
    segments: np.ndarray, a: AttentionConfig, *, causal: bool | None = None, prefix: np.ndarray | None = None
) -> tuple[int, int]:
    """The pairs of a query and a key that the masks of rows (B, T) let through: (global layers, windowed layers).

    ``segments``: tokens see one another in runs of one number; 0 is padding, which counts for nothing. ``causal``
    takes the place of the configuration's; tokens of a run's ``prefix`` (B, T; not 0) are seen by all of it.

    >>> rows = np.array([[1, 1, 1, 2, 0]])
    >>> seen_pairs(rows, AttentionConfig()), seen_pairs(rows, AttentionConfig(causal=True))
    ((10, 10), (7, 7))
    >>> seen_pairs(np.ones((1, 4), int), AttentionConfig(window=1))
    (16, 10)
    """
    first = np.ones(segments.shape, bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    begins, run = np.flatnonzero(first), np.cumsum(first) - 1  # of all rows in one line, (B·T,)
    place = np.arange(segments.size)
    low, high = begins[run], np.append(begins[1:], segments.size)[run]
    if a.causal if causal is None else causal:
        last = place + 1
        if prefix is not None:
            last = np.maximum(last, np.maximum.reduceat(np.where(prefix.ravel() != 0, last, 0), begins)[run])
        high = np.minimum(high, last)
    real = segments.ravel() != 0
    wide = near = int((high - low)[real].sum())
    if a.window is not None:
        near = int((np.minimum(high, place + a.window + 1) - np.maximum(low, place - a.window))[real].sum())
    return wide, near


def batch_operations(model: nn.Module, batch: Batch, *, dense: bool = False) -> int:
    """Operations of the forward pass of ``loss(batch)`` of an mlm or clm; a training step takes three times as many.

    Every token of ``input_ids`` (B, T) goes through the layers, padding included, and logits are made where there
    is a label. Attention is counted by the pairs that its masks let through (:func:`seen_pairs`), so that a share of
    the peak made of it is never too high; ``dense``: by all B·T² that an unskipped product computes.

    :raises UsageError: a model of another kind.
    """
    text = getattr(model, "text", None)
    head = head_of(model)
    if not isinstance(text, TextConfig) or head == "none" or "input_ids" not in batch:
        raise UsageError(
            f"operations of a batch are counted for mlm and clm, not for {type(model).__module__}"
        )
    rows, length = batch["input_ids"].shape
    pairs: Pairs = rows * length * length
    if not dense:
        given = {n: batch[n].detach().cpu().numpy() for n in ("segments", "prefix") if n in batch}
        segments = given.get("segments", np.ones((rows, length), np.int64))
        causal = bool(batch["causal"]) if "causal" in batch else None
        pairs = seen_pairs(segments, text.trunk.attention, causal=causal, prefix=given.get("prefix"))
    scored = int((batch["labels"] != IGNORE).sum())
    return forward_operations(text, rows * length, pairs, scored, head)


def head_of(model: nn.Module) -> Head:
    """How a model makes logits over its vocabulary, if it does."""
    head = getattr(model, "head", None)
    return (
        "masked" if isinstance(head, MaskedHead) else "language" if isinstance(head, LanguageHead) else "none"
    )


def text_operations(model: nn.Module, tokens: int) -> int:
    """Operations of a forward pass of any text model over one text of ``tokens``, attention dense.

    Language models make logits at every token, classifiers and cross-encoders once.
    """
    encoder = next(m for m in model.modules() if isinstance(m, TextEncoder))
    head = head_of(model)
    total = forward_operations(encoder.config, tokens, tokens * tokens, tokens, head)
    if head == "none":
        inside = {id(m) for m in encoder.modules()}
        total += 2 * sum(
            m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in inside
        )
    return total


def image_operations(model: nn.Module) -> int:
    """Operations of a forward pass of a vision transformer over one image of P patches, [CLS] beside them."""
    encoder = next(m for m in model.modules() if isinstance(m, ImageEncoder))
    tokens = 1 + encoder.config.patches
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    inside = {id(m) for m in encoder.modules()}
    ends = encoder.config.patches * encoder.embed.patch.weight.numel()
    ends += sum(m.weight.numel() for m in linear if id(m) not in inside)
    return trunk_operations(encoder.config.trunk, tokens, tokens * tokens) + 2 * ends


def matrix_peak(dtype: torch.dtype, threads: int, seconds: float = 0.3) -> float:
    """Operations a second that matrix products of this ``dtype`` reach on the processor with ``threads`` threads.

    Products of several sizes are timed warm, in about ``seconds`` together (longer where four products of a size
    take more); of each size the median of its fastest quarter is taken, and of these the highest: what a run can be
    compared with, not what a data sheet says. On a shared machine only the short products are seldom interrupted.
    """
    if threads < 1 or not seconds > 0:
        raise UsageError(
            f"a peak is measured with 1 thread or more for some time, not {threads} for {seconds} s"
        )
    before, best = torch.get_num_threads(), 0.0
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            for rows, inner, columns in SIZES:
                left, right = (torch.ones(shape).to(dtype) for shape in ((rows, inner), (inner, columns)))
                out = torch.empty(rows, columns, dtype=dtype)
                torch.mm(left, right, out=out)  # the first call pays for plans and pages
                times: list[float] = []
                end = time.perf_counter() + seconds / len(SIZES)
                while len(times) < LEAST or time.perf_counter() < end:
                    start = time.perf_counter()
                    torch.mm(left, right, out=out)
                    times.append(time.perf_counter() - start)
                fastest = sorted(times)[: max(1, len(times) // 4)]
                best = max(best, 2 * rows * inner * columns / fastest[len(fastest) // 2])
    finally:
        torch.set_num_threads(before)
    return best
