"""``nlpkit embed --weighting``, and the fitted folder wherever an encoder is accepted."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlpkit.cli import run
from nlpkit.errors import ArtifactError
from nlpkit.inference.embed import load_encoder
from nlpkit.search.index import Index
from nlpkit.store import atomic
from nlpkit.text.documents import read_documents
from nlpkit.text.standardize import Recipe
from nlpkit.vectors import vectors

WORDS = ["the", "cat", "dog", "list", "of"]
DOCS = ["The cat", "the dog of the list", "unknown", "list", "dog cat of", "the of"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``glove``, ``docs.txt`` and ``queries.txt``, which is the working folder too."""
    monkeypatch.chdir(tmp_path)
    table = np.random.default_rng(3).normal(size=(5, 5)).astype(np.float32)
    with atomic.building("glove") as made:
        vectors.save(
            made,
            words=WORDS,
            counts=np.array([600, 10, 20, 30, 340]),
            word=table,
            context=np.zeros_like(table),
            recipe=Recipe.of(["lower"]),
        )
    Path("docs.txt").write_text("\n".join(DOCS) + "\n")
    Path("queries.txt").write_text("a cat\nof dogs and the list\n")
    return tmp_path


def told(*words: str) -> int:
    return run(list(words))


def test_documents_and_queries_are_projected_alike(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ("embed", "glove", "docs.txt", "--weighting", "sif", "--save-encoder", "fitted", "-o", "docs.npy")
    assert told(*fit) == 0
    assert "common direction of 5 texts" in capsys.readouterr().err
    assert told("embed", "fitted", "docs.txt", "-o", "again.npy") == 0
    assert told("embed", "fitted", "queries.txt", "--weighting", "sif", "-o", "queries.npy") == 0
    docs, again, queries = (np.load(f"{name}.npy") for name in ("docs", "again", "queries"))
    assert (docs == again).all() and not docs[2].any() and queries.shape == (2, 4)
    encoder = load_encoder("fitted")
    assert docs @ encoder.fitted.direction == pytest.approx(np.zeros(6), abs=1e-5)  # type: ignore[attr-defined]
    assert (encoder.encode(["of dogs and the list"])[0] == queries[1]).all()
    lengths = np.linalg.norm(docs, axis=1)
    assert lengths == pytest.approx([1, 1, 0, 1, 1, 1])


def test_mean_stays_what_it_was_and_a_fit_that_is_not_kept_says_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told("embed", "glove", "docs.txt", "-o", "plain.npy") == 0
    assert told("embed", "glove", "docs.txt", "--weighting", "mean", "-o", "mean.npy") == 0
    assert (np.load("plain.npy") == np.load("mean.npy")).all()
    assert told("embed", "glove", "docs.txt", "--weighting", "sif", "-o", "sif.npy") == 0
    assert "--save-encoder" in capsys.readouterr().err
    assert not np.allclose(np.load("plain.npy"), np.load("sif.npy"))


def test_a_fit_alone_reads_standard_input(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    class Input:
        buffer = io.BytesIO(Path("docs.txt").read_bytes())

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Input())
    fit = ("embed", "glove", "--weighting", "sif", "--save-encoder")
    assert told(*fit, "fitted", "-o", "rows.npy") == 2  # rows too would need the texts twice
    assert b"can be read once" in capfdbinary.readouterr().err and not Path("fitted").exists()
    assert told(*fit, "fitted") == 0
    assert told(*fit, "other", "docs.txt") == 0
    assert capfdbinary.readouterr().out == b""
    assert Path("fitted/sif.json").read_bytes() == Path("other/sif.json").read_bytes()


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("glove", "docs.txt", "--weighting", "sfi"), 2, "did you mean 'sif'"),
        (("glove", "docs.txt", "--save-encoder", "x"), 2, "pass both"),
        (("glove", "docs.txt", "--weighting", "mean", "--save-encoder", "x"), 2, "pass both"),
        (("fitted", "docs.txt", "--weighting", "mean", "-o", "x.npy"), 2, "fitted for sif already"),
        (("fitted", "docs.txt", "--weighting", "sif", "--save-encoder", "x"), 2, "fitted for sif already"),
        (("model", "docs.txt", "--weighting", "sif", "-o", "x.npy"), 2, "for word vectors"),
        (("glove", "docs.txt", "--weighting", "sif", "--save-encoder", "fitted"), 2, "exists already"),
        (("glove", "none.txt", "--weighting", "sif", "--save-encoder", "x"), 3, "0 texts hold a word"),
    ],
)
def test_refusals(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert told("embed", "glove", "docs.txt", "--weighting", "sif", "--save-encoder", "fitted") == 0
    Path("none.txt").write_text("nothing\nknown\n")
    Path("model").mkdir()
    capsys.readouterr()
    assert told("embed", *words) == code
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1
    assert not Path("x").exists() and not Path("x.npy").exists()


def test_an_index_knows_weighting_and_direction(place: Path) -> None:
    for name, source in (("fitted", "docs.txt"), ("other", "queries.txt")):
        assert told("embed", "glove", source, "--weighting", "sif", "--save-encoder", name) == 0
    prints = {load_encoder(name).fingerprint for name in ("glove", "fitted", "other")}
    assert len(prints) == 3
    with Index.build(read_documents(["docs.txt"]), "index", encoder_path="fitted") as index:
        assert index.search("cat", k=1, mode="dense")[0][0].id
    Path("fitted").rename("away")
    Path("other").rename("fitted")  # fitted on other texts: another encoder
    with Index.open("index") as index, pytest.raises(ArtifactError, match="another model"):
        index.search("cat", k=1, mode="dense")


def test_eval_gives_the_rank_correlation_of_scored_pairs(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nlpkit.metrics.correlation import spearman

    rows = [
        ("the cat", "cat of", 4.0),
        ("list", "dog", 1.0),
        ("the dog", "dog list", 2.5),
        ("of", "cat", 0.0),
    ]
    lines = "".join(f"{a}\t{b}\t{s}\n" for a, b, s in rows)
    Path("pairs.tsv").write_text("sentence1\tsentence2\tscore\n" + lines)
    Path("plain.tsv").write_text("query\tdoc\ncat\tdog\ndog\tcat\n")
    assert told("embed", "glove", "docs.txt", "--weighting", "sif", "--save-encoder", "fitted") == 0
    for name in ("glove", "fitted"):
        capsys.readouterr()
        assert told("eval", name, "--data", "pairs.tsv", "--json") == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        encode = load_encoder(name).encode
        cosines = (encode([r[0] for r in rows]) * encode([r[1] for r in rows])).sum(1)
        assert found["spearman"] == pytest.approx(spearman(cosines, [r[2] for r in rows]))
        assert found["count"] == 4
    assert told("eval", "glove", "--data", "plain.tsv") == 3
    assert told("eval", "glove") == 2
    assert "scored pairs" in capsys.readouterr().err
