"""Attention in tiles, and the loss of an output layer, equal the plain formulas in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.core import cross_entropy, tiled_attention
from nlpkit.core.cross_entropy import linear_cross_entropy
from nlpkit.core.families import text_config
from nlpkit.core.text_encoder import TextEncoder


def naive(q, k, v, allowed):
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~allowed[:, None], -torch.inf)
    return scores.softmax(-1) @ v


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.booleans(),
    st.none() | st.integers(0, 12),
    st.none() | st.integers(1, 6),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_tiles_equal_naive_attention(length, causal, window, documents, with_prefix, seed):
    draw = np.random.default_rng(seed)
    batch, heads, width = 3, 2, 4
    segments = prefix = None
    allowed = torch.ones(batch, length, length, dtype=torch.bool)
    places = torch.arange(length)
    earlier = (places[None, :] <= places[:, None]).expand_as(allowed)
    if documents is not None:
        segments = np.sort(draw.integers(0, documents + 1, (batch, length)), 1)
        segments = np.where(segments == documents, 0, segments + 1)  # padding stands behind
        own = torch.from_numpy(segments)
        allowed = own[:, :, None] == own[:, None, :]
        if with_prefix and causal:
            first = np.zeros_like(segments)
            for row in range(batch):
                for document in np.unique(segments[row]):
                    where = np.flatnonzero(segments[row] == document)
                    first[row, where[: draw.integers(len(where) + 1)]] = 1
            prefix = first
            earlier = earlier | (torch.from_numpy(prefix) != 0)[:, None, :]
    if causal:
        allowed = allowed & earlier
    if window is not None:
        allowed = allowed & ((places[:, None] - places).abs() <= window)
    tiled_attention.QUERIES, tiled_attention.SCORES = int(draw.integers(1, 12)), int(draw.integers(1, 500))
    try:
        plan = tiled_attention.tiles(
            batch, heads, length, segments, causal=causal, window=window, prefix=prefix
        )
    finally:
        tiled_attention.QUERIES, tiled_attention.SCORES = 128, 1 << 18
    torch.manual_seed(seed)
    q, k, v, g = (torch.randn(batch, heads, length, width, dtype=torch.float64) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    expected, made = naive(q, k, v, allowed), tiled_attention.attend(q, k, v, plan)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(made, (q, k, v), g), torch.autograd.grad(expected, (q, k, v), g), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_packed_rows_compute_few_pairs():
    segments = np.repeat(np.arange(1, 9), 64)[None]
    assert tiled_attention.tiles(1, 4, 512, segments).pairs == 4 * 512 * 128
    assert tiled_attention.tiles(2, 4, 256, causal=True).pairs == 8 * 128 * (128 + 256)


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama", "qwen3"])
def test_a_network_in_tiles_equals_itself(family, monkeypatch):
    torch.manual_seed(0)
    encoder = TextEncoder(text_config(family, vocab=50, width=16, depth=3, heads=2, context=300)).double()
    ids = torch.randint(50, (3, 200))
    segments = torch.from_numpy(np.sort(np.random.default_rng(0).integers(1, 9, (3, 200)), 1))
    called = []
    monkeypatch.setattr(tiled_attention, "QUERIES", 16)
    monkeypatch.setattr(
        "nlpkit.core.transformer.attend",
        lambda *given: called.append(1) or tiled_attention.attend(*given),
    )
    tiled = encoder(ids, segments)
    assert called
    monkeypatch.setattr("nlpkit.core.transformer.WORTH", 0.0)
    called.clear()
    whole = encoder(ids, segments)
    assert not called
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("held", [1, 1 << 28])
def test_the_loss_of_an_output_layer(bias, held, monkeypatch):
    monkeypatch.setattr(cross_entropy, "HELD", held)
    torch.manual_seed(1)
    given = [torch.randn(n, 8, dtype=torch.float64, requires_grad=True) for n in (200, 30)]
    given += [torch.randn(30, dtype=torch.float64, requires_grad=True)] * bias
    labels = torch.randint(30, (200,))
    plain = F.linear(*given)
    expected = F.cross_entropy(plain, labels)
    loss, hits = linear_cross_entropy(given[0], given[1], given[2] if bias else None, labels)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-13)
    assert float(hits) == float((plain.argmax(1) == labels).double().mean()) and not hits.requires_grad
    for one, other in zip(
        torch.autograd.grad(3 * loss, given), torch.autograd.grad(3 * expected, given), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    with torch.no_grad():
        again, _ = linear_cross_entropy(given[0], given[1], given[2] if bias else None, labels)
    torch.testing.assert_close(again, loss.detach(), rtol=0, atol=1e-13)


def test_the_loss_of_no_rows_is_zero():
    hidden = torch.zeros(0, 4, requires_grad=True)
    loss, hits = linear_cross_entropy(hidden, torch.ones(5, 4), None, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and float(hits) == 0 and hidden.grad.shape == (0, 4)
