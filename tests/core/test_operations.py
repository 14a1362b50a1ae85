"""Counted operations against what torch's own counter sees in real passes, and pairs against written-out masks."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nlpkit import registry
from nlpkit.core import operations
from nlpkit.core.batch import IGNORE
from nlpkit.core.families import text_config
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.core.transformer import AttentionConfig
from nlpkit.errors import UsageError

SIZES = {"vocab": 40, "width": 16, "depth": 4, "heads": 4, "context": 300}
CASES = [
    ("mlm", {"family": "bert"}),
    ("mlm", {"family": "modernbert", "hidden": 24}),
    ("clm", {"family": "gpt2"}),
    ("clm", {"family": "llama", "kv_heads": 2, "tied": False}),
    ("clm", {"family": "llama", "kv_heads": 1, "depth": 1}),
    ("clm", {"family": "qwen3", "kv_heads": 2}),
]


def make(kind, values):
    module = registry.module(kind)
    return module.Model(module.Config(**{**SIZES, **values})).eval()


def counted(run):
    """(operations of plain matrix products, operations of attention) that torch counts in a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    by = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    attention = sum(n for op, n in by.items() if "attention" in op or "bmm" in op)
    return sum(by.values()) - attention, attention


def batch_for(kind, rows=3, length=20):
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(6, 40, (rows, length), generator=g)
    labels = torch.where(torch.rand(rows, length, generator=g) < 0.4, ids, IGNORE)
    segments = torch.ones(rows, length, dtype=torch.long)
    segments[0, 12:], segments[1, 15:] = 2, 0
    return {"input_ids": ids, "segments": segments, "labels": labels}


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_a_forward_pass_is_counted_as_torch_counts_it(kind, values):
    model = make(kind, values)
    ids = torch.randint(6, 40, (3, 20))
    head = operations.head_of(model)
    assert head == {"mlm": "masked", "clm": "language"}[kind]
    linear, attention = counted(lambda: model(ids))
    assert linear == operations.forward_operations(model.text, 60, 0, 60, head)
    whole = operations.forward_operations(model.text, 60, 3 * 20 * 20, 60, head)
    assert attention in (0, whole - linear)  # torch has no formula for the processor's fused kernel
    backward = operations.training_operations(model.text, 60, 1200, 60, head)
    assert backward == 3 * whole


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama", "qwen3"])
def test_attention_is_counted_as_two_products_a_head(family):
    """The same attention written out as two matrix products, which torch's counter does see."""
    text = text_config(family, **SIZES)
    length, a = 20, text.trunk.attention
    q, k = (torch.randn(3 * a.heads, length, text.trunk.head_dim) for _ in range(2))
    _, attention = counted(lambda: torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), k))
    with_pairs = operations.trunk_operations(text.trunk, 60, 3 * length**2)
    assert with_pairs - operations.trunk_operations(text.trunk, 60, 0) == text.trunk.depth * attention


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_a_batch_scores_only_where_there_are_labels(kind, values):
    model, batch = make(kind, values), batch_for(kind)
    model.requires_grad_(False)  # else gradients of the logits are made on the way
    linear, _ = counted(lambda: model.loss(batch))
    model.requires_grad_(True)
    scored = int((batch["labels"] != IGNORE).sum())
    assert 0 < scored < 60
    head = operations.head_of(model)
    dense = operations.batch_operations(model, batch, dense=True)
    assert dense == operations.forward_operations(model.text, 60, 1200, scored, head)
    assert linear == operations.forward_operations(model.text, 60, 0, scored, head)
    assert linear < operations.batch_operations(model, batch) < dense
    trained, _ = counted(lambda: model.loss(batch)["loss"].backward())
    assert trained == operations.training_operations(model.text, 60, 0, scored, head)
    del batch["segments"]
    if not model.text.causal:  # one document a row: all see all (windows of 64 reach everything)
        assert operations.batch_operations(model, batch) == dense


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("order", ["both", "causal", "prefix"])
def test_seen_pairs_are_those_of_the_masks_written_out(order, window):
    g = np.random.default_rng(0)
    segments = np.sort(g.integers(0, 4, (5, 17)), axis=1)[:, ::-1].copy()  # padding (0) last
    i, j = np.indices((17, 17))
    prefix = None
    if order == "prefix":  # the first two tokens of each document
        prefix = np.ones_like(segments)
        prefix[:, 2:] = segments[:, 2:] != segments[:, :-2]
    wide = near = 0
    for r, row in enumerate(segments):
        allowed = (row[:, None] == row[None, :]) & (row[:, None] != 0)
        if order != "both":
            allowed &= (j <= i) if prefix is None else (j <= i) | (prefix[r] != 0)[None, :]
        wide += int(allowed.sum())
        near += int((allowed & (abs(i - j) <= (17 if window is None else window))).sum())
    a = AttentionConfig(causal=order == "prefix", window=window)
    causal = True if order == "causal" else None
    assert operations.seen_pairs(segments, a, causal=causal, prefix=prefix) == (wide, near)


def test_windowed_layers_take_their_own_number_of_pairs():
    text = text_config("modernbert", **{**SIZES, "depth": 7})
    windowed = [block.local for block in TextEncoder(text).trunk.blocks]
    assert windowed == [operations.is_windowed(text.trunk.attention, i) for i in range(7)]
    none = operations.trunk_operations(text.trunk, 60, (0, 0))
    each = 4 * text.trunk.width
    assert (
        operations.trunk_operations(text.trunk, 60, (1000, 0)) - none == windowed.count(False) * 1000 * each
    )
    assert operations.trunk_operations(text.trunk, 60, (0, 1000)) - none == windowed.count(True) * 1000 * each


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "qwen3"])
def test_a_classifier_makes_its_logits_once_a_text(family):
    model = make("classifier", {"family": family, "labels": ("a", "b", "c")})
    linear, _ = counted(lambda: model(torch.randint(6, 40, (1, 20))))
    attention = 4 * 16 * 20 * 20 * SIZES["depth"]
    assert operations.text_operations(model, 20) == linear + attention
    with pytest.raises(UsageError, match="mlm and clm"):
        operations.batch_operations(model, batch_for("mlm"))


def test_an_image_is_counted_as_its_patches():
    module = registry.module("vit")
    model = module.Model(module.Config(size=8, patch=2, width=16, heads=4, depth=3)).eval()
    linear, _ = counted(lambda: model(torch.rand(1, 1, 8, 8)))
    assert operations.image_operations(model) == linear + 3 * 4 * 16 * 17 * 17


def test_the_peak_is_a_rate_and_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    with torch.inference_mode():
        rates = {t: operations.matrix_peak(t, 1, seconds=0.05) for t in (torch.float32, torch.bfloat16)}
    assert torch.get_num_threads() == before
    assert all(1e8 < rate < 1e16 for rate in rates.values()), rates
    with pytest.raises(UsageError, match="1 thread or more"):
        operations.matrix_peak(torch.float32, 0)
