"""Embeddings: order, unit rows, pooling of sentence-transformers folders, word vectors without torch."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.core import folder as core_folder
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.inference.embed import load_encoder, write_npy
from nlpkit.vectors import vectors as word_vectors

TEXTS = ["the cat", "", "a dict maps keys to values", "café", "the dog sat on the log"] * 7


def folder_of(held: Any, place: Path) -> Path:
    place.mkdir()
    core_folder.save(held.model, held.kind, place)
    held.tokenizer.export(place)
    return place


@pytest.mark.parametrize("kind, sizes", [("biencoder", {"pooling": "cls"}), ("biencoder", {}), ("mlm", {})])
def test_rows_are_unit_ordered_and_independent_of_the_batch(
    loaded: Any, tmp_path: Path, kind: str, sizes: dict[str, Any]
) -> None:
    held = loaded(kind, **sizes)
    encoder = load_encoder(folder_of(held, tmp_path / "m"))
    rows = encoder.encode(TEXTS, batch_tokens=60)
    assert rows.shape == (len(TEXTS), encoder.width) and rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    trunk = held.model.encoder
    for text, row in zip(TEXTS, rows, strict=True):
        ids = torch.tensor(held.tokenizer.encode([text], special=True))
        with torch.no_grad():
            hidden = trunk(ids)[0]
            one = hidden[0] if sizes else hidden.mean(0)
        assert row == pytest.approx((one / one.norm()).numpy(), abs=1e-5)
    assert encoder.encode([]).shape == (0, encoder.width)


def test_a_trained_biencoder_and_the_encoder_agree(loaded: Any, tmp_path: Path) -> None:
    held = loaded("biencoder")
    encoder = load_encoder(folder_of(held, tmp_path / "m"))
    ids = torch.tensor(held.tokenizer.encode(["the cat sat"], special=True))
    with torch.no_grad():
        expected = held.model.encode(ids)[0].numpy()
    assert encoder.encode(["the cat sat"])[0] == pytest.approx(expected, abs=1e-6)


def foreign(folder: Path, modes: dict[str, Any], modules: list[str] | None = None) -> None:
    """Make a folder look like one that sentence-transformers wrote itself."""
    values = json.loads((folder / "config.json").read_text())
    values.pop("nlpkit", None)
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    listed = [
        {
            "idx": i,
            "path": "" if name == "Transformer" else f"{i}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(modules or ["Transformer", "Pooling"])
    ]
    (folder / "modules.json").write_text(json.dumps(listed))


def test_a_foreign_sentence_folder_keeps_its_pooling_and_length(loaded: Any, tmp_path: Path) -> None:
    held = loaded("biencoder", family="bert")
    folder = folder_of(held, tmp_path / "m")
    foreign(folder, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 8, "do_lower_case": True})
    )
    encoder = load_encoder(folder)
    ids = torch.tensor(
        held.tokenizer.encode(["the cat sat on the mat and on the log"], special=True, max_length=8)
    )
    with torch.no_grad():
        first = held.model.encoder(ids)[0, 0]
    row = encoder.encode(["THE CAT sat on the mat and on the log"])[0]
    assert row == pytest.approx((first / first.norm()).numpy(), abs=1e-5)
    assert encoder.truncated == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "switch, named",
    [
        ("cls_token", "cls"), ("max_tokens", "max"), ("mean_tokens", "mean"), ("lasttoken", "lasttoken"),
        ("mean_sqrt_len_tokens", "mean_sqrt_len_tokens"), ("weightedmean_tokens", "weightedmean"),
    ],
)  # fmt: skip
def test_every_pooling_of_sentence_transformers(loaded: Any, tmp_path: Path, switch: str, named: str) -> None:
    held = loaded("biencoder", family="bert")
    folder = folder_of(held, tmp_path / "m")
    rows = []
    for modes in ({f"pooling_mode_{switch}": True}, {"pooling_mode": named}):
        foreign(folder, modes)
        rows.append(load_encoder(folder).encode(TEXTS[2:4]))
    assert (rows[0] == rows[1]).all()
    for text, row in zip(TEXTS[2:4], rows[0], strict=True):
        ids = torch.tensor(held.tokenizer.encode([text], special=True))
        with torch.no_grad():
            hidden = held.model.encoder(ids)[0]
        places = torch.arange(1, len(hidden) + 1)[:, None]
        expected = {
            "cls": hidden[0], "max": hidden.amax(0), "mean": hidden.mean(0), "lasttoken": hidden[-1],
            "mean_sqrt_len_tokens": hidden.sum(0), "weightedmean": (hidden * places).sum(0),
        }[named]  # fmt: skip
        assert row == pytest.approx((expected / expected.norm()).numpy(), abs=1e-5)


def test_poolings_side_by_side_then_a_dense_layer_and_prompts(loaded: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = folder_of(loaded("biencoder", family="bert"), tmp_path / "m")
    foreign(folder, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True})
    both = load_encoder(folder).encode(["query: the cat"])
    assert both.shape == (1, 32)
    parts = []
    for mode in ("cls", "mean"):
        foreign(folder, {"pooling_mode": mode})
        parts.append(load_encoder(folder).encode(["query: the cat"])[0])
    for part, mine in zip(parts, np.split(both[0], 2), strict=True):
        assert mine / np.linalg.norm(mine) == pytest.approx(part, abs=1e-5)
    foreign(folder, {"pooling_mode": ["cls", "mean"]}, ["Transformer", "Pooling", "Dense", "Normalize"])
    dense = folder / "2_Dense"
    dense.mkdir()
    (dense / "config.json").write_text(
        json.dumps(
            {"in_features": 32, "out_features": 3, "activation_function": "torch.nn.modules.activation.Tanh"}
        )
    )
    layer = torch.nn.Linear(32, 3)
    save_file({f"linear.{n}": t.detach() for n, t in layer.named_parameters()}, dense / "model.safetensors")
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "passage": "text: "}, "default_prompt_name": None})
    )
    encoder: Any = load_encoder(folder)
    assert encoder.width == 3
    asked = encoder.encode(["the cat"], role="query")
    assert (asked == encoder.encode(["query: the cat"])).all()
    assert (encoder.encode(["the cat"], role="document") == encoder.encode(["text: the cat"])).all()


def test_modules_and_poolings_that_are_not_understood_are_refused(loaded: Any, tmp_path: Path) -> None:
    folder = folder_of(loaded("biencoder", family="bert"), tmp_path / "m")
    foreign(folder, {"pooling_mode_mean_tokens": True}, ["Transformer", "Pooling", "LSTM"])
    with pytest.raises(ArtifactError, match="LSTM"):
        load_encoder(folder)
    foreign(folder, {"pooling_mode_mean_tokens": True}, ["Transformer", "Pooling", "Dense"])
    with pytest.raises(ArtifactError, match="missing"):
        load_encoder(folder)
    for modes, said in (
        ({"pooling_mode_first": True}, "first"),
        ({"pooling_mode": []}, "unset"),
        ({}, "unset"),
    ):
        foreign(folder, modes)
        with pytest.raises(ArtifactError, match=said):
            load_encoder(folder)
    listed = [{"type": "a.Pooling", "path": "../other"}]
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ArtifactError, match="outside"):
        load_encoder(folder)


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "mpnet"])
def test_foreign_architectures_go_by_transformers(loaded: Any, tmp_path: Path, kind: str) -> None:
    import transformers

    held = loaded("biencoder", family="bert")
    sizes = {"vocab_size": held.tokenizer.vocab_size, "pad_token_id": 0}
    if kind == "distilbert":
        made: Any = transformers.DistilBertConfig(
            **sizes, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=64
        )
    else:
        name = {"roberta": "RobertaConfig", "mpnet": "MPNetConfig"}[kind]
        made = getattr(transformers, name)(
            **sizes, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=64,
        )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config(made).eval()
    folder = tmp_path / "m"
    network.save_pretrained(folder)
    held.tokenizer.export(folder)
    encoder: Any = load_encoder(folder)
    long = "the cat sat on the mat " * 40
    rows = encoder.encode([*TEXTS[:5], long], batch_tokens=80)
    assert encoder.truncated == 1 and np.isfinite(rows).all()
    for text, row in zip(TEXTS[:5], rows, strict=False):
        ids = torch.tensor(held.tokenizer.encode([text], special=True))
        with torch.no_grad():
            one = network(ids).last_hidden_state[0].mean(0)
        assert row == pytest.approx((one / one.norm()).numpy(), abs=1e-5)
    with pytest.raises(UsageError, match="fp32 only"):
        load_encoder(folder, precision="int8")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="pickles are not opened"):
        load_encoder(folder)


def test_other_models_do_not_embed(loaded: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="embed needs"):
        load_encoder(folder_of(loaded("classifier", labels=("a", "b")), tmp_path / "m"))


def glove(place: Path) -> Path:
    from nlpkit.store import atomic
    from nlpkit.text.standardize import Recipe

    words = ["cat", "dog", "list"]
    table = np.array([[1, 0, 0, 9], [0, 2, 0, 9], [0, 0, 3, 9]], np.float32)
    with atomic.building(place) as made:
        word_vectors.save(
            made,
            words=words,
            counts=np.ones(3, np.int64),
            word=table,
            context=np.zeros_like(table),
            recipe=Recipe.of(["lower"]),
        )
    return place


def test_word_vectors_give_the_unit_mean(tmp_path: Path) -> None:
    encoder = load_encoder(glove(tmp_path / "glove"))
    rows = encoder.encode(["Cat dog", "cat unknown", "unknown"])
    mean = np.array([0.5, 1.0, 0.0]) / np.sqrt(1.25)
    assert rows == pytest.approx(np.array([mean, [1, 0, 0], [0, 0, 0]]), abs=1e-6)
    assert encoder.width == 3 and encoder.fingerprint and encoder.encode([]).shape == (0, 3)


def test_word_vectors_import_no_torch(tmp_path: Path) -> None:
    folder = glove(tmp_path / "glove")
    code = (
        "import sys; from nlpkit.inference.embed import load_encoder; "
        f"load_encoder({str(folder)!r}).encode(['cat']); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_stream_into_one_npy() -> None:
    blocks = [np.full((n, 4), n, np.float32) for n in (3, 0, 1000, 70_000)]
    file = io.BytesIO()
    assert write_npy(file, iter(blocks), 4) == 71_003
    file.seek(0)
    assert (np.load(file, allow_pickle=False) == np.concatenate(blocks)).all()
    empty = io.BytesIO()
    write_npy(empty, [], 4)
    empty.seek(0)
    assert np.load(empty, allow_pickle=False).shape == (0, 4)
