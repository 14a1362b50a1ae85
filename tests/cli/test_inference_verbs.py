"""The verbs that use a model, through the command line: formats, order, streams, refusals and exit codes."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit import registry
from nlpkit.cli import run
from nlpkit.core import folder as core_folder
from nlpkit.store import atomic, manifest
from nlpkit.text.tokenizer import Tokenizer

LINES = ["the cat sat on the mat", "", "a list is a sequence of items", "größer"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs ``mlm``, ``clm``, ``classifier`` and ``biencoder`` with random weights."""
    place = tmp_path_factory.mktemp("runs")
    tokenizer = Tokenizer.train(LINES * 5, kind="bpe", vocab_size=300)
    for kind in ("mlm", "clm", "classifier", "biencoder"):
        torch.manual_seed(0)
        module = registry.module(kind)
        extra: dict[str, Any] = {"labels": ("no", "yes")} if kind == "classifier" else {}
        config = module.Config(vocab=tokenizer.vocab_size, width=16, depth=1, heads=2, context=32, **extra)
        with atomic.building(place / kind / "model") as made:
            core_folder.save(module.Model(config), kind, made)
            tokenizer.export(made)
            manifest.seal(made, "model")
    return place


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """``call(*argv, stdin=…)`` → (exit code, stdout, stderr)."""

    def invoke(*argv: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run([str(word) for word in argv])
        captured = capfdbinary.readouterr()
        return code, captured.out.decode(), captured.err.decode()

    return invoke


def test_fill_mask(models: Path, call: Any) -> None:
    code, out, _ = call("fill-mask", models / "mlm", "the <MASK> sat on [MASK]", "-k", 2)
    assert code == 0
    first, *rows = out.splitlines()
    assert first.startswith("the ") and "<MASK>" not in first
    assert [row.split("\t")[0] for row in rows] == ["1", "1", "2", "2"]
    code, out, _ = call("fill-mask", models / "mlm", "--jsonl", "-k", 3, stdin="a <MASK>\nthe <MASK>\n")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [r["text"] for r in records] == ["a <MASK>", "the <MASK>"]
    assert all(len(r["masks"][0]) == 3 and 0 < r["masks"][0][0]["probability"] < 1 for r in records)
    code, out, _ = call("fill-mask", models / "mlm", "the <MASK>", "--json")
    assert code == 0 and json.loads(out)[0]["masks"][0][0].keys() == {"token", "id", "probability"}
    code, out, err = call("fill-mask", models / "mlm", "no word is hidden")
    assert code == 3 and "no <MASK>" in err and not out


def test_generate_prints_the_prompt_and_repeats_with_a_seed(models: Path, call: Any) -> None:
    code, out, _ = call("generate", models / "clm", "the cat", "-n", 12, "--seed", 3)
    assert code == 0 and out.startswith("the cat") and out.endswith("\n") and len(out) > len("the cat\n")
    assert call("generate", models / "clm", "-n", 12, "--seed", 3, stdin="the cat\n")[1] == out
    assert call("generate", models / "clm", "the cat", "-n", 12, "--seed", 4)[1] != out
    assert call("generate", models / "clm", "the cat", "-n", 0)[1] == "the cat\n"
    assert call("generate", models / "clm", "", "-n", 5)[0] == 0
    code, _, err = call("generate", models / "clm", "x", "--top-p", 2)
    assert code == 2 and "--top-p" in err


def test_fill_mask_jointly(models: Path, call: Any) -> None:
    text = "MIT is <MASK> in Cambridge, <MASK> and was <MASK> in 1861."
    code, out, _ = call("fill-mask", models / "mlm", text, "--joint", "-k", 3)
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and len(rows) == 3 and all("<MASK>" not in filled for _, filled in rows)
    assert [float(p) for p, _ in rows] == sorted((float(p) for p, _ in rows), reverse=True)
    code, out, _ = call(
        "fill-mask", models / "mlm", "--joint", "--order", "left", "--jsonl", stdin=f"{text}\n"
    )
    (record,) = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and record["text"] == text and len(record["fillings"][0]["tokens"]) == 3
    code, _, err = call("fill-mask", models / "mlm", text, "--joint", "--beams", 2)
    assert code == 2 and "--beams" in err


def test_generate_many_prompts(models: Path, call: Any, tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_text(
        "".join(json.dumps({"id": str(i), "text": t, "n": i}) + "\n" for i, t in enumerate(LINES))
    )
    options = ("-n", 12, "--temperature", 0, "--stop", "e")
    code, out, _ = call("generate", models / "clm", "--prompts", source, *options)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [(r["id"], r["text"], r["n"]) for r in records] == [
        (str(i), t, i) for i, t in enumerate(LINES)
    ]
    for record in records:
        alone = call("generate", models / "clm", record["text"], *options)[1]
        assert alone == record["text"] + record["continuation"] + "\n"
        assert "e" not in record["continuation"] and record["ended"] in ("stop", "length", "end")
    lines = "".join(t + "\n" for t in LINES)
    code, out, _ = call("generate", models / "clm", "--prompts", "-", *options, stdin=lines)
    assert [json.loads(line)["continuation"] for line in out.splitlines()] == [
        r["continuation"] for r in records
    ]
    assert call("generate", models / "clm", "x", "--prompts", source)[0] == 2


def test_generate_with_beams(models: Path, call: Any) -> None:
    code, out, _ = call("generate", models / "clm", "the cat", "-n", 6, "--beam", 3)
    assert code == 0 and out.startswith("the cat") and out.endswith("\n")
    assert call("generate", models / "clm", "the cat", "-n", 6, "--beam", 3, "--seed", 9)[1] == out
    one = call("generate", models / "clm", "the cat", "-n", 6, "--beam", 1)[1]
    assert one == call("generate", models / "clm", "the cat", "-n", 6, "--temperature", 0)[1]
    code, _, err = call("generate", models / "clm", "x", "--beam", 2, "--repetition-penalty", 2)
    assert code == 2 and "--beam" in err


@pytest.mark.parametrize("kind", ["clm", "mlm"])
def test_score_is_a_filter_and_sums(models: Path, call: Any, kind: str, tmp_path: Path) -> None:
    text = "\n".join(LINES) + "\n"
    code, out, err = call("score", models / kind, stdin=text)
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and [row[4] for row in rows] == LINES and "1 of 4 texts are empty" in err
    assert rows[1][:4] == ["", "", "", "0"]
    code, out, _ = call("score", models / kind, "--jsonl", stdin=text)
    records = [json.loads(line) for line in out.splitlines()]
    assert [r["text"] for r in records] == LINES and records[1]["loss"] is None
    assert [f"{r['bits_per_byte']:.4f}" for r in records if r["tokens"]] == [r[0] for r in rows if r[0]]
    code, out, _ = call("score", models / kind, "--json", stdin=text)
    assert code == 0 and json.loads(out) == records
    told = json.loads(call("score", models / kind, "--total", "--json", stdin=text)[1])
    nats = sum(r["loss"] * r["tokens"] for r in records if r["tokens"])
    assert told["texts"] == 4 and told["empty"] == 1 and told["nats"] == pytest.approx(nats)
    assert told["bits_per_byte"] == pytest.approx(nats / np.log(2) / len("".join(LINES).encode()))
    code, out, _ = call("score", models / kind, "--total", stdin=text)
    assert code == 0 and "bits_per_byte" in out
    assert call("score", models / kind, stdin="")[:2] == (0, "")
    assert json.loads(call("score", models / kind, "--json", stdin="")[1]) == []


def test_score_minimal_pairs(models: Path, call: Any, tmp_path: Path) -> None:
    source = tmp_path / "pairs.tsv"
    source.write_text("UID\tsentence_good\tsentence_bad\na\tthe cat sat\tthe cat mat\nb\tx y\tx y\n")
    code, out, err = call("score", models / "clm", "--pairs", source)
    assert code == 0 and "all pairs" in out and "1 of 2 pairs" in err
    told = json.loads(call("score", models / "mlm", "--pairs", source, "--pll", "within-word", "--json")[1])
    assert told["pairs"] == 2 and told["ties"] == 1 and told["groups"]["b"]["accuracy"] == 0.5
    code, out, _ = call("score", models / "clm", "--pairs", source, "--jsonl")
    assert [json.loads(line)["right"] for line in out.splitlines()][1] == 0.5
    for wrong in (("--total",), ("-o", tmp_path / "x"), (source,)):
        assert call("score", models / "clm", "--pairs", source, *wrong)[0] == 2
    code, _, err = call("score", models / "classifier", "--pairs", source)
    assert code == 2 and "needs clm or mlm" in err


def test_classify_is_a_filter(models: Path, call: Any) -> None:
    text = "\n".join(LINES) + "\n"
    code, out, _ = call("classify", models / "classifier", stdin=text)
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and len(rows) == len(LINES)
    assert all(label in ("no", "yes") and 0.5 <= float(p) <= 1 for label, p in rows)
    code, out, _ = call("classify", models / "classifier", "--jsonl", stdin=text)
    records = [json.loads(line) for line in out.splitlines()]
    assert [r["text"] for r in records] == LINES
    assert [[r["label"], f"{r['probability']:.4f}"] for r in records] == rows
    assert all(sum(r["probabilities"].values()) == pytest.approx(1) for r in records)
    assert call("classify", models / "classifier", stdin="")[:2] == (0, "")


def test_classify_passes_fields_through(models: Path, call: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        "".join(json.dumps({"_id": str(i), "text": t, "lang": "en"}) + "\n" for i, t in enumerate(LINES))
    )
    assert call("classify", models / "classifier", source, "--jsonl", "-o", target)[0] == 0
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(r["id"], r["text"], r["lang"]) for r in records] == [
        (str(i), t, "en") for i, t in enumerate(LINES)
    ]
    code, _, err = call("classify", models / "classifier", source, "-o", target)
    assert code == 2 and "--force" in err


def test_embed_keeps_order_in_npy_and_jsonl(models: Path, call: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("\n".join(LINES * 20) + "\n")
    assert call("embed", models / "biencoder", source, "-o", tmp_path / "out.npy")[0] == 0
    rows = np.load(tmp_path / "out.npy", allow_pickle=False)
    assert rows.shape == (80, 16) and rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(80), abs=1e-5)
    assert rows[:4] == pytest.approx(rows[76:], abs=1e-5) and np.abs(rows[0] - rows[2]).max() > 1e-3
    code, out, _ = call("embed", models / "biencoder", source, "--jsonl")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [r["text"] for r in found] == LINES * 20
    assert np.array([r["embedding"] for r in found]) == pytest.approx(rows, abs=1e-6)
    code, _, err = call("embed", models / "biencoder", source, "-o", tmp_path / "out.npy")
    assert code == 2 and "exists already" in err


def test_embed_writes_npy_into_a_pipe(
    models: Path, call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nlpkit import console

    pipe = io.BytesIO()
    monkeypatch.setattr(console, "data_out", lambda: pipe)
    assert call("embed", models / "mlm", stdin="the cat\nthe mat\n")[0] == 0
    pipe.seek(0)
    assert np.load(pipe, allow_pickle=False).shape == (2, 16)


def test_embed_refuses_to_write_npy_to_a_terminal(
    models: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    code, out, err = call("embed", models / "mlm", stdin="the cat\n")
    assert code == 2 and "-o OUT.npy" in err and not out


@pytest.mark.parametrize("verb", ["fill-mask", "generate", "score", "classify", "embed"])
def test_wrong_and_missing_models_are_one_line(models: Path, call: Any, verb: str) -> None:
    code, _, err = call(verb, "no-such-model", stdin="the <MASK>\n")
    assert code == 2 and err.count("\n") == 1 and "looked for" in err
    wrong = models / {"generate": "mlm", "score": "classifier"}.get(verb, "clm")
    code, _, err = call(verb, wrong, stdin="the <MASK>\n")
    assert code == 2 and err.count("\n") == 1 and "needs" in err


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_without_input_shows_the_help(
    models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for verb, kind in (
        ("fill-mask", "mlm"),
        ("generate", "clm"),
        ("score", "clm"),
        ("classify", "classifier"),
    ):
        monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
        assert run([verb, str(models / kind)]) == 2
        captured = capfd.readouterr()
        assert "Usage:" in captured.out + captured.err
