"""verify finds any flipped bit in any file; doctor says what works and what mends the rest."""

import importlib.metadata
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlpkit.cli import run
from nlpkit.inference import doctor
from nlpkit.store import atomic, lines, manifest
from nlpkit.text.shards import write_shard
from nlpkit.text.tokenizer import Tokenizer

TEXT = ["the cat sat on the mat", "a list is a sequence"] * 5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT, kind="char", vocab_size=30)


def make_tokenizer(place: Path, tokenizer: Tokenizer) -> Path:
    tokenizer.save(place)
    return place


def make_vectors(place: Path, tokenizer: Tokenizer) -> Path:
    from nlpkit.text.standardize import Recipe
    from nlpkit.vectors.vectors import save

    table = np.ones((3, 4), np.float32)
    with atomic.building(place) as made:
        lines.append(made / "metrics.jsonl", lines.pack_record({"epoch": 1, "loss": 0.5}))
        save(
            made,
            words=["a", "b", "c"],
            counts=np.ones(3, np.int64),
            word=table,
            context=table,
            recipe=Recipe.of(["lower"]),
            settings="x = 1\n",
        )
    return place


def make_run(place: Path, tokenizer: Tokenizer) -> Path:
    with atomic.building(place) as made:
        for part, kind in (("model", "model"), ("checkpoints/000005", "checkpoint")):
            (made / part).mkdir(parents=True)
            (made / part / "model.safetensors").write_bytes(bytes(range(64)))
            manifest.seal(made / part, kind)
        (made / "config.toml").write_text("[train]\nsteps = 5\n")
        (made / "origin.json").write_text('{"command": "nlpkit train"}')
        for step in (1, 2):
            lines.append(made / "metrics.jsonl", lines.pack_record({"step": step, "loss": 1 / step}))
            lines.append(made / "log.txt", lines.pack_text(f"step {step}"))
        manifest.seal(made, "run", leave=("metrics.jsonl", "log.txt"))
        (made / ".lock").write_text("{}")
    return place


def make_shard(place: Path, tokenizer: Tokenizer) -> Path:
    place.mkdir()
    write_shard(place / "text.npy", tokenizer.encode(TEXT), tokenizer)
    return place


MAKERS = (make_tokenizer, make_vectors, make_run, make_shard)


@pytest.mark.parametrize("make", MAKERS)
def test_any_flipped_bit_of_any_file_is_found(
    make: Any, tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "artefact", tokenizer)
    assert run(["verify", str(folder)]) == 0
    assert capfd.readouterr().out.startswith("ok ")
    draw = random.Random(0)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name[0] != "."]
    assert len(files) > 2
    for path in files:
        raw = path.read_bytes()
        places = range(len(raw)) if len(raw) <= 60 else sorted(draw.sample(range(len(raw)), 60))
        for place in (*places, 0, len(raw) - 1):
            damaged = bytearray(raw)
            damaged[place] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            code, out = run(["verify", str(folder)]), capfd.readouterr().out
            assert code == 4 and path.name in out, (path, place, bytes(damaged[place : place + 1]))
        # A log that is cut at the end of a line looks like an earlier state of itself; other files cannot be cut.
        whole_lines = path.name in ("metrics.jsonl", "log.txt")
        for broken in (raw[:-1], raw + b"\n", b"?" if whole_lines else b""):
            path.write_bytes(broken)
            assert run(["verify", str(folder)]) == 4, (path, len(broken))
        path.write_bytes(raw)
    capfd.readouterr()
    assert run(["verify", str(folder)]) == 0


@pytest.mark.parametrize("make", MAKERS[:3])
def test_missing_and_extra_files_are_reported(
    make: Any, tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "artefact", tokenizer)
    (folder / ".hidden").write_text("x")
    (folder / ".lock").write_text("x")
    assert run(["verify", str(folder)]) == 0
    (folder / "deep").mkdir()
    (folder / "deep" / "stranger.txt").write_text("x")
    capfd.readouterr()
    assert run(["verify", str(folder)]) == 4
    assert "stranger.txt: not in the seal" in capfd.readouterr().out
    (folder / "deep" / "stranger.txt").unlink()
    name = next(iter(manifest.read(folder).files))
    (folder / name).unlink()
    assert run(["verify", str(folder)]) == 4
    assert f"{name}: missing" in capfd.readouterr().out


def test_all_damage_is_listed_not_only_the_first(
    tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", tokenizer)
    for name in ("config.toml", "model/model.safetensors", "checkpoints/000005/model.safetensors"):
        (folder / name).write_bytes(b"?")
    assert run(["verify", str(folder), "--json"]) == 4
    found = json.loads(capfd.readouterr().out)
    assert not found["ok"] and len(found["artefacts"][0]["problems"]) == 3
    assert all("verify" not in problem for problem in found["artefacts"][0]["problems"])


def test_a_run_without_its_model_is_not_whole(
    tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import shutil

    folder = make_run(tmp_path / "run", tokenizer)
    shutil.rmtree(folder / "model")
    assert run(["verify", str(folder)]) == 4
    assert "model is missing" in capfd.readouterr().out


def test_an_unfinished_run_is_checked_as_far_as_it_is_sealed(
    tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", tokenizer)
    (folder / manifest.NAME).unlink()
    assert run(["verify", str(folder)]) == 0
    assert "not finished" in capfd.readouterr().err
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 3')
    assert run(["verify", str(folder)]) == 4
    assert "torn last line" in capfd.readouterr().out


def test_a_folder_of_artefacts_has_each_of_them_read(
    tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "all" / "run", tokenizer)
    make_tokenizer(tmp_path / "all" / "tok", tokenizer)
    (tmp_path / "all" / "notes.txt").write_text("not an artefact")
    assert run(["verify", str(tmp_path / "all")]) == 0
    rows = capfd.readouterr().out.splitlines()
    assert [row.split(" (")[0] for row in rows] == [f"ok {tmp_path}/all/{name}" for name in ("run", "tok")]
    shard = make_shard(tmp_path / "shards", tokenizer)
    for name in ("text.npy", "text.json", "text.offsets.npy"):
        assert run(["verify", str(shard / name)]) == 0


def test_what_is_no_artefact_is_a_usage_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("x")
    for path in ("missing", "a.txt", "."):
        assert run(["verify", str(tmp_path / path)]) == 2
        assert capfd.readouterr().err.count("\n") == 1


def test_doctor_of_a_whole_installation(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    state = {check["name"]: check["state"] for check in found["checks"]}
    assert found["ok"] and all(state[f"{name} works"] == "ok" for name in ("torch", "faiss", "numba"))
    for name in (
        "python",
        "torch",
        "cores",
        "memory",
        "bf16 on the cpu",
        "gpu",
        "free disk",
        "Hugging Face cache",
    ):
        assert name in state
    assert run(["doctor"]) == 0
    assert "\x1b" not in (out := capfd.readouterr().out) and "write access" in out


def test_doctor_names_the_remedy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "faiss-cpu":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0.0" if name == "numpy" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(doctor, "_numba_works", lambda: 1 / 0)
    assert run(["doctor"]) == 1
    captured = capfd.readouterr()
    assert "too old" in captured.out and "ZeroDivisionError" in captured.out
    assert "numpy: 1.0.0 is too old; run: pip install 'numpy>=" in captured.err
    rows = {row.name: row for row in doctor.examine()}
    assert rows["faiss-cpu"].remedy.startswith("run: pip install 'faiss-cpu>=")
    assert rows["numba works"].state == "broken"


def test_doctor_without_write_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    row = next(row for row in doctor.examine() if row.name == "write access")
    assert row.state == "broken" and "write to" in row.remedy


def test_memory_is_plausible() -> None:
    total, free = doctor.memory_bytes()
    assert 2**28 < total and 0 <= free <= total
