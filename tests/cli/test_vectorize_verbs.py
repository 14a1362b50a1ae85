"""vectorize and tokenizer-eval as people run them: outputs, pipes, refusals with their exit codes."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from nlpkit import cli

TEXT = b"The cat sat.\nThe dog can't sit; the cat can.\n\nA mat!\n"


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def tok(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t")
    (folder / "in.txt").write_bytes(TEXT)
    for kind, size in (("bpe", 290), ("word", 30)):
        argv = [
            "train-tokenizer",
            folder / "in.txt",
            "-o",
            folder / kind,
            "--kind",
            kind,
            "--vocab-size",
            size,
            "-q",
        ]
        assert cli.run([str(a) for a in argv]) == 0
    return folder


@pytest.mark.parametrize("mode", ["one-hot", "multi-hot", "count", "tf-idf", "bm25"])
def test_every_mode_reads_a_pipe(nlpkit, tmp_path, mode):
    code, out, err = nlpkit("vectorize", "-o", "m.npz", "--mode", mode, stdin=TEXT)
    assert (code, out) == (0, "")
    found = sp.load_npz("m.npz")
    assert found.shape == (13 if mode == "one-hot" else 4, 9)
    assert found.has_canonical_format
    assert f"{found.nnz} entries" in err
    terms = [line.split("\t")[0] for line in (tmp_path / "m.vocab.txt").read_text().splitlines()]
    assert terms == ["a", "can", "cat", "dog", "mat", "sat", "sit", "t", "the"]
    if mode == "count":
        assert found[:, terms.index("the")].toarray().ravel().tolist() == [1, 2, 0, 0]
    if mode == "tf-idf":
        lengths = np.sqrt(found.multiply(found).sum(axis=1))
        np.testing.assert_allclose(np.asarray(lengths).ravel(), [1, 1, 0, 1])


def test_to_standard_output(nlpkit, tmp_path):
    code, out, _ = nlpkit("vectorize", "-o", "-", "--format", "jsonl", "--ngrams", "2", stdin=b"a b a b\n")
    assert (code, json.loads(out)) == (0, {"vector": {"a b": 2, "b a": 1}})
    assert nlpkit("vectorize", "-o", "-", "--format", "svmlight", stdin=b"b a b\n")[1] == "0 1:1 2:2\n"
    assert list(tmp_path.iterdir()) == []
    assert nlpkit("vectorize", "-o", "-", stdin=b"a\n")[0] == 2


def test_a_vocabulary_is_used_again_and_another_tokenizer_is_refused(nlpkit, tok):
    assert nlpkit("vectorize", "-o", "a.npz", "--tokenizer", tok / "bpe", stdin=TEXT)[0] == 0
    again = ("vectorize", "-o", "b.npz", "--vocabulary", "a.vocab.json")
    assert nlpkit(*again, "--tokenizer", tok / "bpe", stdin=TEXT)[0] == 0
    assert (sp.load_npz("a.npz") != sp.load_npz("b.npz")).nnz == 0
    code, _, err = nlpkit(*again, "--force", "--tokenizer", tok / "word", stdin=TEXT)
    assert code == 4 and "another tokenizer" in err and err.count("\n") == 1
    code, _, err = nlpkit(*again, "--force", stdin=TEXT)
    assert code == 2 and "--tokenizer" in err
    code, _, err = nlpkit(*again, "--force", "--analyzer", "char", stdin=TEXT)
    assert code == 4
    assert nlpkit("vectorize", "-o", "c.npz", stdin=TEXT)[0] == 0
    code, _, err = nlpkit("vectorize", "-o", "d.npz", "--vocabulary", "c.npz", stdin=b"zzz the\n")
    assert code == 0 and sp.load_npz("d.npz").nnz == 1


@pytest.mark.parametrize(
    "argv, stdin, code, said",
    [
        ((), b"", 3, "no documents"),
        ((), b"\n\n", 3, "no term is left"),
        (("--min-df", "9"), TEXT, 3, "no term is left"),
        (("--mode", "tfidf"), TEXT, 2, "tf-idf"),
        (("--format", "csv"), TEXT, 2, "--format"),
        (("--analyzer", "chars"), TEXT, 2, "did you mean 'char'"),
        (("--ngrams", "3-1"), TEXT, 2, "--ngrams"),
        (("--mode", "one-hot", "--ngrams", "1-2"), TEXT, 2, "no n-grams"),
        (("--vocabulary", "none.vocab.json"), TEXT, 2, "no such vocabulary"),
        (("--recipe", "none.toml"), TEXT, 2, "none.toml"),
        (("none.txt",), TEXT, 2, "none.txt"),
        (("--errors", "strict"), b"\xff\n", 3, "not UTF-8"),
    ],
)
def test_vectorize_refuses(nlpkit, tmp_path, argv, stdin, code, said):
    got, out, err = nlpkit("vectorize", "-o", "m.npz", *argv, stdin=stdin)
    assert (got, out) == (code, "") and said in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_existing_output_stays(nlpkit, tmp_path):
    (tmp_path / "m.vocab.txt").write_text("mine")
    code, _, err = nlpkit("vectorize", "-o", "m.npz", stdin=TEXT)
    assert code == 2 and "exists already" in err
    assert (tmp_path / "m.vocab.txt").read_text() == "mine" and not (tmp_path / "m.npz").exists()
    assert nlpkit("vectorize", "-o", "m.npz", "--force", stdin=TEXT)[0] == 0


def test_vocabulary_goes_with_its_own_settings(nlpkit):
    assert nlpkit("vectorize", "-o", "a.npz", "--ngrams", "1-2", stdin=TEXT)[0] == 0
    for more in (("--min-df", "2"), ("--unknown",), ("--vocab-size", "3"), ("--ngrams", "1")):
        code, _, err = nlpkit("vectorize", "-o", "b.npz", "--vocabulary", "a.vocab.json", *more, stdin=TEXT)
        assert code == 2 and "leave out" in err


def test_tokenizer_eval(nlpkit, tok):
    code, out, _ = nlpkit("tokenizer-eval", tok / "bpe", "--json", stdin=TEXT)
    found = json.loads(out)["tokenizer"]
    assert code == 0 and found["documents"] == 4 and found["words"] == 12
    assert found["round_trip"] == {"exact": 4, "broken": 0, "compared_with": "text", "first_breaks": []}
    code, out, _ = nlpkit("tokenizer-eval", tok / "bpe", "--against", tok / "word", stdin=TEXT)
    assert code == 0 and "fertility (tokens a word)" in out and "95 % interval" in out
    assert "document 1: 'sat.' came back as 'sat'" in out


@pytest.mark.parametrize("stdin, code, said", [(b"", 3, "no documents"), (b"\n", 3, "no words")])
def test_tokenizer_eval_refuses_nothing(nlpkit, tok, stdin, code, said):
    got, out, err = nlpkit("tokenizer-eval", tok / "bpe", stdin=stdin)
    assert (got, out) == (code, "") and said in err
    assert nlpkit("tokenizer-eval", tok / "nowhere", stdin=TEXT)[0] == 2
    assert nlpkit("tokenizer-eval", tok, stdin=TEXT)[0] == 4
