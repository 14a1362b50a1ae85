"""``--init-embeddings``: where the token embeddings begin, what is recorded, and that a run goes on bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nlpkit import api, registry
from nlpkit.core.folder import read_tensors
from nlpkit.errors import ArtifactError, UsageError
from nlpkit.store import atomic, manifest
from nlpkit.text.standardize import Recipe
from nlpkit.text.tokenizer import Tokenizer
from nlpkit.training import start
from nlpkit.vectors import vectors
from nlpkit.vectors.token_vectors import in_width, token_vectors

WORDS = ["red", "blue", "green", "cat", "dog", "runs", "sleeps", "on", "the", "mat", "small"]
TINY = ["model.width=16", "model.depth=1", "model.heads=2", "data.context=24", "data.batch_size=4"]
TINY += ["train.threads=1", "train.checkpoint_every=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``text.txt``, ``glove`` (width 10) and ``tokenizer``."""
    home = tmp_path_factory.mktemp("init")
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, draw.integers(4, 30))) for _ in range(120)]
    (home / "text.txt").write_text("\n\n".join(texts) + "\n")
    table = draw.normal(size=(len(WORDS), 11)).astype(np.float32)
    with atomic.building(home / "glove") as made:
        vectors.save(
            made,
            words=WORDS,
            counts=np.arange(30, 30 + len(WORDS)),
            word=table,
            context=table,
            recipe=Recipe.of(["lower"]),
        )
    Tokenizer.train(texts, kind="bpe", vocab_size=300).save(home / "tokenizer")
    return home


def train(place: Path, run: Path, kind: str = "mlm", **options: object) -> Path:
    options = {"steps": 8, "init_embeddings": place / "glove", "overrides": TINY, **options}
    return api.train(kind, place / "text.txt", run, tokenizer=place / "tokenizer", **options)  # type: ignore[arg-type]


def begun(place: Path, run: Path, kind: str = "mlm", *more: str, width: int = 16) -> tuple[torch.Tensor, ...]:
    """The embeddings that the model begins with: without vectors, and with them (as ``api.prepare`` does)."""
    vocab = Tokenizer.load(place / "tokenizer").vocab_size
    tables = []
    for with_vectors in (False, True):
        torch.manual_seed(5)
        config = {"vocab": vocab, "width": width, "depth": 1, "heads": 2, "tied": "untied" not in more}
        model = registry.module(kind).Model(registry.module(kind).Config(**config))
        if with_vectors:
            words, tokenizer = vectors.Vectors.load(place / "glove"), Tokenizer.load(place / "tokenizer")
            api._start_embeddings(model, words, tokenizer, 7)
        tables.append(model)
    return tables[0], tables[1]


@pytest.mark.parametrize("kind, width", [("mlm", 16), ("clm", 8), ("biencoder", 16)])
def test_known_tokens_begin_at_their_vectors_and_nothing_else_moves(
    place: Path, tmp_path: Path, kind: str, width: int
) -> None:
    before, after = begun(place, tmp_path, kind, width=width)
    found = token_vectors(vectors.Vectors.load(place / "glove"), Tokenizer.load(place / "tokenizer"))
    old, new = start.embedding_of(before), start.embedding_of(after)
    expected = in_width(found.rows[found.known], width, float(old.std()), 7)
    assert found.whole.sum() >= len(WORDS) and (new[found.known].numpy() == expected).all()
    assert torch.equal(new[~found.known], old[~found.known])
    spreads = [float(table.std()) for table in (old, new)]
    assert after.encoder.embed.token.weight.requires_grad and spreads[1] == pytest.approx(
        spreads[0], rel=0.02
    )
    left = {n: t for n, t in before.state_dict().items() if "embed.token" not in n}
    assert all(torch.equal(after.state_dict()[n], t) for n, t in left.items())


@pytest.mark.parametrize("kind", ["mlm", "clm"])
def test_a_tied_output_follows_and_an_untied_one_stays(place: Path, tmp_path: Path, kind: str) -> None:
    _, tied = begun(place, tmp_path, kind)
    assert tied.head.vocabulary.weight is None  # the output is the table itself
    before, after = begun(place, tmp_path, kind, "untied")
    assert torch.equal(before.head.vocabulary.weight, after.head.vocabulary.weight)
    assert not torch.equal(start.embedding_of(before), start.embedding_of(after))


def test_a_run_records_and_says_what_it_began_at(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(place, tmp_path / "mlm")
    said = capsys.readouterr().err
    assert "tokens are words" in said and "start at random" in said
    fingerprint = manifest.read(place / "glove").fingerprint
    origin = json.loads((run / "origin.json").read_text())
    assert origin["made_with"] == {"vectors": fingerprint} and str(place / "glove") in origin["inputs"]
    assert manifest.read(run).made_with["vectors"] == fingerprint
    assert manifest.read(run / "model").made_with["vectors"] == fingerprint
    assert f'init_embeddings = "{place / "glove"}"' in (run / "config.toml").read_text()
    plain = train(place, tmp_path / "plain", init_embeddings=None)
    assert "init_embeddings" not in (plain / "config.toml").read_text()
    assert "made_with" not in json.loads((plain / "origin.json").read_text())
    name = "model.embeddings.tok_embeddings.weight"
    assert not torch.equal(read_tensors(run / "model")[name], read_tensors(plain / "model")[name])


def test_stopped_and_continued_it_ends_with_the_same_bits(place: Path, tmp_path: Path) -> None:
    whole = train(place, tmp_path / "whole", steps=60)
    run = tmp_path / "parts"
    words = [sys.executable, "-m", "nlpkit", "pretrain", place / "text.txt", "-o", run, "--steps", "60"]
    words += ["--tokenizer", place / "tokenizer", "--init-embeddings", place / "glove"]
    words += [w for pair in TINY for w in ("-s", pair)]
    begun = subprocess.Popen(
        [str(w) for w in words], stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while not (run / "checkpoints" / "000003").exists() and begun.poll() is None:
        time.sleep(0.002)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    train(place, run, steps=60)
    digests = {manifest.sha256(r / "model" / "model.safetensors") for r in (whole, run)}
    assert len(digests) == 1


def test_what_makes_no_sense_is_refused_in_one_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads no text"):
        api.train("cnn", "digits", tmp_path / "cnn", init_embeddings=place / "glove", steps=1)
    with pytest.raises(UsageError, match="leave one out"):
        train(place, tmp_path / "both", start_from="runs/other")
    with pytest.raises(ArtifactError, match="is a tokenizer"):
        train(place, tmp_path / "kind", init_embeddings=place / "tokenizer")
    with pytest.raises(UsageError, match="looked for"):
        train(place, tmp_path / "none", init_embeddings="no-such-vectors")
    assert [p.name for p in tmp_path.iterdir()] == []


def test_a_changed_folder_of_vectors_is_refused_on_the_way(place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(place / "glove", tmp_path / "glove")
    run = tmp_path / "run"
    options = {"init_embeddings": tmp_path / "glove"}
    train(place, run, **options)
    (run / manifest.NAME).unlink()  # as if it were not finished
    (tmp_path / "glove" / "words.txt").write_text("other\n")
    with pytest.raises(ArtifactError, match="has changed since"):
        train(place, run, **options)


def test_a_dry_run_names_them(place: Path, tmp_path: Path) -> None:
    rows = api.preview(
        "mlm",
        [str(place / "text.txt")],
        str(tmp_path / "run"),
        tokenizer=str(place / "tokenizer"),
        init_embeddings=str(place / "glove"),
        overrides=TINY,
        steps=3,
    )
    assert dict(rows)["token embeddings"] == f"{place / 'glove'}, 11 words"
    assert not (tmp_path / "run").exists()
