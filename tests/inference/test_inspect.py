"""The attention that inspect shows is the model's own; tables add up; bad questions are answered in one line."""

import json

import numpy as np
import pytest
import torch

from nlpkit.core.transformer import Attention
from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.inference import inspect
from nlpkit.inference.loading import LoadedModel

FAMILIES = [
    ("mlm", {"family": "bert", "heads": 4}),
    ("mlm", {"family": "modernbert", "depth": 4}),
    ("clm", {"family": "gpt2"}),
    ("clm", {"family": "llama", "heads": 4, "kv_heads": 2}),
    ("clm", {"family": "qwen3", "heads": 4, "kv_heads": 2}),
]
TEXT = "the cat sat on the mat and the dog sat on the log. " * 2


def narrow(kind, loaded, values):
    """A model of random weights in float64; ModernBERT's windows shorter than the text."""
    found = loaded(kind, **values)
    if values["family"] == "modernbert":
        from dataclasses import replace

        text = found.model.text
        trunk = replace(text.trunk, attention=replace(text.trunk.attention, window=3))
        state = found.model.state_dict()
        module = type(found.model)
        config = replace(found.model.config, text=replace(text, trunk=trunk))
        model = module(config)
        model.load_state_dict(state)
        found = LoadedModel(kind, model.eval(), found.tokenizer, found.folder, [])
    found.model.double()
    return found


@pytest.mark.parametrize(("kind", "values"), FAMILIES, ids=lambda v: v if isinstance(v, str) else v["family"])
def test_weights_by_values_through_out_are_the_attention_s_own_output(kind, values, loaded):
    found = narrow(kind, loaded, values)
    ids = inspect.read(found, TEXT).ids
    assert 20 < len(ids) <= 64
    own = []
    handles = [
        m.register_forward_hook(lambda module, args, out: own.append((module, out.detach())))
        for m in found.model.modules()
        if isinstance(m, Attention)
    ]
    watched = inspect.watch(found.model, ids)
    for handle in handles:
        handle.remove()
    c = found.model.text.trunk
    assert len(own) == c.depth
    windows = set()
    for layer, (attention, output) in enumerate(own):
        views = [watched.head(layer, h) for h in range(c.attention.heads)]
        joined = np.concatenate([view.weights @ view.v for view in views], axis=1)  # (T, H · d)
        with torch.no_grad():
            again = attention.out(torch.from_numpy(joined))
        gap = (again - output.reshape(again.shape)).abs().max()
        assert gap < 1e-6, (layer, gap)
        assert np.abs(output.numpy()).max() > 1e-2  # there was something to compare
        for view in views:
            assert view.q.shape == view.k.shape == view.v.shape == (len(ids), c.head_dim)
            assert view.weights.sum(1) == pytest.approx(1.0)
            windows.add(view.window)
        assert np.array_equal(watched.layer(layer), np.stack([v.weights for v in views]))
    assert windows == ({None, 3} if values["family"] == "modernbert" else {None})
    assert watched.all().shape == (c.depth, c.attention.heads, len(ids), len(ids))


def test_windows_and_causality_are_zeros_in_the_weights(loaded):
    found = narrow("mlm", loaded, FAMILIES[1][1])
    watched = inspect.watch(found.model, inspect.read(found, TEXT).ids)
    i, j = np.indices(watched.layer(1)[0].shape)
    assert (watched.layer(1)[:, abs(i - j) > 3] == 0).all() and (watched.layer(0) > 0).all()
    found = loaded("clm", family="gpt2")
    watched = inspect.watch(found.model, inspect.read(found, TEXT).ids)
    i, j = np.indices(watched.layer(0)[0].shape)
    assert (watched.layer(1)[:, j > i] == 0).all() and (watched.layer(1)[:, j <= i] > 0).all()


def test_grouped_heads_share_keys_and_values(loaded):
    found = loaded("clm", family="llama", heads=4, kv_heads=2)
    watched = inspect.watch(found.model, inspect.read(found, "the cat sat").ids)
    views = [watched.head(0, h) for h in range(4)]
    assert [v.kv_head for v in views] == [0, 0, 1, 1]
    assert np.array_equal(views[0].k, views[1].k) and not np.array_equal(views[1].k, views[2].k)
    assert not np.array_equal(views[0].q, views[1].q)
    told = json.loads(json.dumps(inspect.as_json(views[3])))
    assert np.allclose(told["a"], views[3].weights) and told["kv_head"] == 1


def test_tables_add_up_to_the_model(loaded, tmp_path):
    found = loaded("mlm", family="modernbert", depth=4)
    rows = inspect.modules(found.model)
    told = inspect.totals(found)
    assert (
        sum(r.parameters for r in rows) == told.parameters == sum(p.numel() for p in found.model.parameters())
    )
    shown = inspect.together(rows)
    assert sum(count for *_, count in shown) == told.parameters and sum(n for *_, n, _ in shown) == len(rows)
    names = {name: (shapes, times) for name, shapes, times, _ in shown}
    assert names["encoder.trunk.blocks.0-3.attention.q"] == ("16×16", 4)
    assert names["encoder.trunk.blocks.1-3.attention_norm"] == ("16", 3)  # the first layer has none
    assert told.parameters - told.without_embeddings == 16 * found.tokenizer.vocab_size
    assert told.bytes_in_memory == 4 * told.parameters
    few, full = inspect.operations(found, 8), inspect.operations(found, None)
    assert full["tokens"] == 64 and few["training"] == 3 * few["forward"] < full["forward"]


@pytest.mark.parametrize("kind", ["cnn", "vit", "vae"])
def test_image_models_have_a_table_and_read_no_text(kind, tmp_path):
    from nlpkit import registry

    module = registry.module(kind)
    model = module.Model(module.Config(size=8)).eval()
    found = LoadedModel(kind, model, None, tmp_path, [])
    assert sum(r.parameters for r in inspect.modules(model)) == inspect.totals(found).parameters
    assert inspect.operations(found, None)["forward"] > 1000
    with pytest.raises(ArtifactError, match="do not read text"):
        inspect.read(found, "a cat")


def test_tokens_are_those_the_model_reads(loaded):
    found = loaded("mlm", family="bert")
    told = inspect.read(found, "the cat sat on <MASK> mat")
    assert told.tokens[0] == "[CLS]" and told.tokens[-1] == "[SEP]" and "[MASK]" in told.tokens
    assert told.positions == list(range(len(told.ids))) and "cat" in "".join(told.pieces)
    assert inspect.read(loaded("clm"), "the cat").tokens[0] != "[CLS]"


def test_bad_questions_are_answered_in_one_line(loaded):
    found = loaded("mlm", family="bert")
    watched = inspect.watch(found.model, inspect.read(found, "the cat").ids)
    with pytest.raises(UsageError, match="--layer 2: expected 0 to 1"):
        watched.head(2, 0)
    with pytest.raises(UsageError, match="--head -1: expected 0 to 1"):
        watched.head(0, -1)
    with pytest.raises(DataError, match=r"a text of \d+ tokens, but .* reads 64"):
        inspect.read(found, TEXT * 9)
    with pytest.raises(DataError, match="no tokens"):
        inspect.read(loaded("clm"), "")


def test_too_many_maps_are_refused_before_they_are_made(loaded, monkeypatch):
    monkeypatch.setattr(inspect, "MOST_WEIGHTS", 100)
    found = loaded("mlm", family="bert")
    watched = inspect.watch(found.model, inspect.read(found, "the cat sat on the mat").ids)
    with pytest.raises(DataError, match="up to 5 tokens"):
        watched.all()
