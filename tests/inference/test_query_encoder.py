"""One query without torch: the answers and fingerprint of load_encoder, and damage that is met before it is used."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nlpkit.core import folder as core_folder
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.inference import known_files, query_encoder
from nlpkit.inference.embed import load_encoder
from nlpkit.inference.known_files import Known, fingerprint
from nlpkit.inference.loading import fingerprint as plain_fingerprint
from nlpkit.inference.query_encoder import QueryEncoder, load_query_encoder
from nlpkit.inference.tensors_file import Tensors
from nlpkit.store import manifest

TEXTS = ["the cat", "", "a dict maps keys to values", "café", "the dog sat on the log " * 9]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nlpkit" / "known-files.json"


def folder_of(held: Any, place: Path, dtype: torch.dtype = torch.float32) -> Path:
    place.mkdir()
    core_folder.save(held.model, held.kind, place)
    if dtype != torch.float32:
        stored = load_file(place / "model.safetensors")
        save_file({n: t.to(dtype) for n, t in stored.items()}, place / "model.safetensors")
    held.tokenizer.export(place)
    return place


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "kind, sizes",
    [
        ("biencoder", {"family": "bert"}),
        ("mlm", {"family": "bert"}),
        ("biencoder", {"family": "modernbert", "depth": 4, "context": 256, "pooling": "cls"}),
        ("mlm", {"family": "modernbert"}),
    ],
)
def test_the_answers_are_those_of_torch(
    loaded: Any, tmp_path: Path, kind: str, sizes: dict[str, Any], dtype: torch.dtype
) -> None:
    folder = folder_of(loaded(kind, **sizes), tmp_path / "m", dtype)
    light, full = load_query_encoder(folder), load_encoder(folder)
    assert isinstance(light, QueryEncoder)
    assert light.encode(TEXTS) == pytest.approx(full.encode(TEXTS), abs=1e-5)
    assert (light.fingerprint, light.width) == (full.fingerprint, full.width)
    assert light.tokenizer.fingerprint == full.tokenizer.fingerprint  # type: ignore[attr-defined]
    assert light.encode([]).shape == (0, light.width)


def test_many_tokens_and_other_families_go_by_torch(
    loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(loaded("biencoder"), tmp_path / "m")
    light = load_query_encoder(folder)
    few = light.encode(TEXTS)
    monkeypatch.setattr(query_encoder, "FEW", 10)
    assert light.encode(TEXTS) == pytest.approx(few, abs=1e-5)
    assert light._other is not None  # type: ignore[attr-defined]
    other = load_query_encoder(folder_of(loaded("biencoder", family="gpt2"), tmp_path / "g"))
    assert not isinstance(other, QueryEncoder) and other.encode(["the cat"]).shape == (1, 16)


def test_no_torch_is_imported(loaded: Any, tmp_path: Path) -> None:
    folder = folder_of(loaded("biencoder", family="bert"), tmp_path / "m")
    code = (
        "import sys; from nlpkit.inference.query_encoder import load_query_encoder\n"
        f"made = load_query_encoder({str(folder)!r}); made.encode(['the cat']); made.tokenizer.fingerprint\n"
        "heavy = {'torch', 'transformers', 'numba', 'safetensors', 'faiss'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def sealed(folder: Path) -> Path:
    manifest.seal(folder, "model")
    return folder


def test_any_changed_byte_of_a_sealed_folder_is_met(loaded: Any, tmp_path: Path) -> None:
    folder = sealed(folder_of(loaded("biencoder", family="bert"), tmp_path / "m"))
    old = 10**9 * 10**9
    for path in folder.iterdir():
        if path.is_file():
            os.utime(path, ns=(old, old))
    load_query_encoder(folder).encode(["the cat"])
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 12).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        os.utime(path, ns=(old, old))  # only ctime tells
        with pytest.raises(ArtifactError, match="damaged"):
            load_query_encoder(folder)
    path.write_bytes(whole)
    load_query_encoder(folder)


def test_a_foreign_file_that_is_not_whole_is_refused(loaded: Any, tmp_path: Path) -> None:
    folder = folder_of(loaded("biencoder", family="bert"), tmp_path / "m")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for damaged in (
        b"", whole[:4], whole[:-1], whole + b"\0", (2**62).to_bytes(8, "little") + whole[8:],
        whole[:8] + b"[" * length + whole[8 + length :], whole[:8] + whole[9:],
    ):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="safetensors"):
            load_query_encoder(folder)


@pytest.mark.parametrize(
    "change",
    [{"shape": [2, 8]}, {"data_offsets": [0, 68]}, {"data_offsets": [-4, 60]}, {"dtype": "X9"}, {"shape": [4.0, 4]},
     {"shape": [2**40, 2**40]}, {"data_offsets": [0]}, {"shape": None}],
)  # fmt: skip
def test_every_bound_of_a_header_is_checked(tmp_path: Path, change: dict[str, Any]) -> None:
    entry = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}

    def write(entry: dict[str, Any]) -> Path:
        header = json.dumps({"__metadata__": {"format": "pt"}, "a": entry}).encode()
        path = tmp_path / "model.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + np.eye(4, dtype="<f4").tobytes())
        return path

    assert (Tensors(write(entry), "")["a"] == np.eye(4)).all()
    changed = {**entry, **change}
    if change == {"shape": [2, 8]}:  # as many numbers: right for the file, wrong for config.json
        assert Tensors(write(changed), "").shape("a") == (2, 8)
        return
    if change == {"dtype": "X9"}:
        with pytest.raises(ArtifactError, match="X9"):
            Tensors(write(changed), "")["a"]
        return
    with pytest.raises(ArtifactError, match="not a whole safetensors file"):
        Tensors(write(changed), "")


def test_weights_of_another_shape_are_refused(loaded: Any, tmp_path: Path) -> None:
    folder = folder_of(loaded("biencoder", family="bert"), tmp_path / "m")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "intermediate_size": 32}))
    with pytest.raises(ArtifactError, match="json says"):
        load_query_encoder(folder).encode(["the cat"])


def test_older_names_of_tensors_are_left_to_the_full_encoder(loaded: Any, tmp_path: Path) -> None:
    folder = folder_of(loaded("biencoder", family="bert"), tmp_path / "m")
    expected = load_encoder(folder).encode(TEXTS)
    stored = load_file(folder / "model.safetensors")
    older = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): t for n, t in stored.items()}
    save_file(older, folder / "model.safetensors")
    assert load_query_encoder(folder).encode(TEXTS) == pytest.approx(expected, abs=1e-5)
    older.pop("encoder.layer.1.output.dense.bias")
    save_file(older, folder / "model.safetensors")
    with pytest.raises(ArtifactError, match="missing"):
        load_query_encoder(folder).encode(TEXTS)


def test_hashes_are_remembered_until_a_file_changes(
    loaded: Any, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(loaded("biencoder"), tmp_path / "m")
    assert fingerprint(folder) == plain_fingerprint(folder)
    assert not own_cache.exists()  # just written: their times could hide a change
    monkeypatch.setattr(known_files, "SETTLED", -1.0)
    first = fingerprint(folder)
    held = json.loads(own_cache.read_text())
    asked: list[Path] = []
    monkeypatch.setattr(manifest, "sha256", lambda path: asked.append(path) or "new")
    assert fingerprint(folder) == first and not asked
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert fingerprint(folder) != first and asked == [folder / "config.json"]
    monkeypatch.undo()
    os.environ["XDG_CACHE_HOME"] = str(own_cache.parent.parent)
    for spoiled in ("[]", "no json", json.dumps({name: [1, "x"] for name in held})):
        own_cache.write_text(spoiled)
        assert fingerprint(folder) == plain_fingerprint(folder)
    own_cache.unlink()
    own_cache.parent.rmdir()
    own_cache.parent.write_text("a file in the way")
    known = Known()
    known.remember("a", 1)
    known.keep()


def test_what_is_no_encoder_is_refused_as_always(loaded: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model"):
        load_query_encoder(tmp_path / "nothing")
    with pytest.raises(UsageError, match="embed needs"):
        load_query_encoder(folder_of(loaded("classifier", labels=("a", "b")), tmp_path / "m"))
