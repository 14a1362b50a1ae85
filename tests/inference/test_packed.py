"""Texts without padding: the hidden states of one text alone in the network, in every family and precision."""

from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.core import folder as core_folder
from nlpkit.errors import UsageError
from nlpkit.inference import bulk, packed, packed_loops
from nlpkit.inference.batching import trunk_of
from nlpkit.inference.embed import load_encoder
from nlpkit.inference.sentences import batches
from nlpkit.inference.sentences import packed as put

LENGTHS = (1, 2, 3, 5, 16, 17, 33, 63, 64)
NETWORKS = [
    ("biencoder", {"family": "bert", "width": 24, "heads": 2}),
    ("biencoder", {"family": "modernbert", "depth": 4, "context": 256}),
    ("mlm", {"family": "modernbert", "width": 20, "heads": 1}),
    ("biencoder", {"family": "gpt2"}),
    ("biencoder", {"family": "llama", "width": 32, "heads": 4, "kv_heads": 2}),
    ("biencoder", {"family": "qwen3", "width": 32, "heads": 4, "kv_heads": 2}),
]


def alone(trunk: Any, text: list[int]) -> np.ndarray:
    with torch.inference_mode():
        made: np.ndarray = trunk(torch.tensor([text]))[0].numpy()
    return made


def texts_for(trunk: Any) -> list[list[int]]:
    draw = np.random.default_rng(0)
    lengths = [n for n in (*LENGTHS, 130, 200) if n <= trunk.config.context]
    return [draw.integers(6, trunk.config.vocab, n).tolist() for n in lengths]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    made: np.ndarray = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return made


@pytest.mark.parametrize("kind, sizes", NETWORKS)
def test_hidden_states_are_those_of_a_text_alone(loaded: Any, kind: str, sizes: dict[str, Any]) -> None:
    trunk = trunk_of(loaded(kind, **sizes).model)
    texts = texts_for(trunk)
    expected = np.concatenate([alone(trunk, text) for text in texts])
    made = packed.Packed(trunk, "fp32").rows(*put(texts))
    assert made == pytest.approx(expected, rel=1e-4, abs=1e-4)
    coarse = {}
    for precision, least in (("bf16", 0.999), ("int8", 0.98)):
        rows = packed.Packed(trunk, precision).rows(*put(texts))  # type: ignore[arg-type]
        coarse[precision] = np.abs(rows - expected).mean()
        assert np.median(cosines(rows, expected)) > least
    assert 1e-4 < coarse["bf16"] < coarse["int8"]  # they are not float32 in disguise


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu", "relu"])
def test_activations_are_pytorchs(activation: str) -> None:
    from nlpkit.core.transformer import ACTIVATIONS

    x = np.concatenate([np.linspace(-12, 12, 4001), [0.0, -1e-8, 90.0, -90.0]]).astype(np.float32)
    row = x.copy()
    packed_loops._activate(packed_loops.ACTIVATIONS[activation], row, len(row))
    assert row == pytest.approx(ACTIVATIONS[activation](torch.from_numpy(x)).numpy(), abs=2e-6, rel=2e-6)


def test_rows_become_whole_numbers_without_wrapping() -> None:
    draw = np.random.default_rng(0)
    for scale in (1e-4, 1.0, 1e4):
        for shift in (-3.0, -0.2, 0.0, 0.7, 5.0):
            row = ((draw.normal(size=64) + shift) * scale).astype(np.float32)
            out, rows = np.zeros((1, 64), np.int8), np.zeros((1, 2), np.float32)
            packed_loops._put(packed_loops.WHOLE, row, 64, 0, packed.NO_FLOAT, packed.NO_HALF, out, rows)
            again = (out[0].astype(np.float32) - rows[0, 1]) * rows[0, 0]
            span = max(row.max(), 0) - min(row.min(), 0)
            assert np.abs(again - row).max() <= 0.51 * span / 254


def test_bfloat16_rounds_as_pytorch_does() -> None:
    row = np.random.default_rng(0).normal(size=999).astype(np.float32)
    out = np.zeros((1, 999), np.uint16)
    rows = np.zeros((1, 2), np.float32)
    packed_loops._put(packed_loops.HALF, row, 999, 0, packed.NO_FLOAT, out, packed.NO_BYTE, rows)
    expected = torch.from_numpy(row).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert (out[0] == expected).all()


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    found = batches(lengths, 128)
    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    assert all(lengths[batch].sum() <= 128 for batch in found)
    assert batches(np.array([], np.int64), 8) == [] and [b.tolist() for b in batches(np.array([9]), 8)] == [
        [0]
    ]


def folder_of(held: Any, place: Any) -> Any:
    place.mkdir()
    core_folder.save(held.model, held.kind, place)
    held.tokenizer.export(place)
    return place


TEXTS = ["the cat sat on the mat", "a dict", "a list is a sequence of items", "café", "the log"] * 60


@pytest.mark.parametrize("threads", [1, 2])
def test_many_texts_are_packed_and_agree_with_few(
    loaded: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(bulk, "FEW", 100)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        encoder = load_encoder(folder_of(loaded("biencoder", family="bert"), tmp_path / "m"))
        few = encoder.encode(TEXTS[:5])
        assert not encoder._nets  # type: ignore[attr-defined]
        many = encoder.encode(TEXTS, batch_tokens=200)
        assert encoder._nets and torch.get_num_threads() == threads  # type: ignore[attr-defined]
    finally:
        torch.set_num_threads(before)
    assert many == pytest.approx(np.tile(few, (60, 1)), abs=1e-5)


def test_auto_measures_once_and_says_so(
    loaded: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bulk, "FEW", 100)
    monkeypatch.setattr(bulk, "ENOUGH", 1000)
    monkeypatch.setattr(bulk, "GAIN", 0.0)
    encoder = load_encoder(folder_of(loaded("biencoder"), tmp_path / "m"), precision="auto")
    exact = encoder.encode(TEXTS[:30])
    assert encoder.precision == "auto"  # type: ignore[attr-defined]
    coarse = encoder.encode(TEXTS)
    assert encoder.precision == "bf16"  # type: ignore[attr-defined]
    assert capsys.readouterr().err.count("precision: bf16") == 1
    assert 1e-6 < np.abs(coarse[:30] - exact).max() < 0.05
    encoder.encode(TEXTS)
    assert "precision" not in capsys.readouterr().err
    ids = encoder.tokenizer.encode(TEXTS[:5], special=True)  # type: ignore[attr-defined]
    short = [i for i, text in enumerate(ids) if len(text) <= bulk.SHORT]
    assert short and coarse[short] == pytest.approx(exact[short], abs=1e-6)


def test_precisions_are_checked(loaded: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(loaded("biencoder"), tmp_path / "m")
    with pytest.raises(UsageError, match="bf16"):
        load_encoder(folder, precision="bf61")
    monkeypatch.setattr(packed, "whole_numbers_are_exact", lambda: False)
    with pytest.raises(UsageError, match="not exact"):
        load_encoder(folder, precision="int8")


def test_the_fingerprint_does_not_depend_on_the_precision(loaded: Any, tmp_path: Any) -> None:
    folder = folder_of(loaded("biencoder"), tmp_path / "m")
    assert len({load_encoder(folder, precision=p).fingerprint for p in ("auto", "fp32", "bf16", "int8")}) == 1
