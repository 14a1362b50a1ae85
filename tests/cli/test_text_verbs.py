"""The text verbs as people run them: outputs, pipes, refusals with their exit codes, and what start-up imports."""

import gzip
import json
import subprocess
import sys

import pytest

from nlpkit import cli
from nlpkit.text.shards import TokenShard
from nlpkit.text.tokenizer import Tokenizer

NLPKIT = [sys.executable, "-m", "nlpkit"]
TEXT = "Can't dislike this.\nThe cat sat on the mat.\n\nThe mat can't dislike the cat.\n" * 5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "corpus.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    return path


@pytest.fixture(scope="module")
def tok(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("t") / "tok"
    assert cli.run(["train-tokenizer", str(corpus), "-o", str(folder), "--vocab-size", "320", "-q"]) == 0
    return folder


def test_standardize(nlpkit):
    hello = "Héllo, the World!\n".encode()
    assert nlpkit("standardize", stdin=hello) == (0, "hello the world\n", "")
    assert nlpkit("standardize", "--stopwords", "en", "--stem", "en", stdin=hello) == (0, "hello world\n", "")
    assert nlpkit("standardize", stdin=b"") == (0, "", "")
    out = nlpkit("standardize", "--no-lower", "--form", "none", "--no-strip-punct", stdin=hello)[1]
    assert out == "Hello, the World!\n"
    out = nlpkit("standardize", "--strip-html", "--strip-urls", "--strip-digits", "--min-length", "2",
                 stdin=b"<b>A</b> 12 http://x.y/z word\n")[1]  # fmt: skip
    assert out == "word\n"


def test_standardize_keeps_the_number_and_order_of_lines(nlpkit):
    text = "".join(f"{i}!\n\n" for i in range(3000))
    code, out, _ = nlpkit("standardize", stdin=text.encode())
    assert code == 0 and out == text.replace("!", "")


def test_standardize_records_keep_their_other_fields(nlpkit, tmp_path):
    records = [{"_id": 1, "text": "A!", "meta": {"x": [1]}}, {"text": "B?", "label": None}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    out = nlpkit("standardize", path)[1]
    assert [json.loads(line) for line in out.splitlines()] == [
        records[0] | {"text": "a"},
        records[1] | {"text": "b"},
    ]
    out = nlpkit("standardize", "--input-format", "jsonl", stdin=path.read_bytes())[1]
    assert json.loads(out.splitlines()[0])["text"] == "a"
    tsv = tmp_path / "in.tsv"
    tsv.write_text("label\ttext\npos\tGood, film\n")
    assert nlpkit("standardize", tsv)[1] == "label\ttext\npos\tgood film\n"
    assert nlpkit("standardize", tsv, "-o", tmp_path / "o.jsonl.gz")[0] == 0
    assert json.loads(gzip.decompress((tmp_path / "o.jsonl.gz").read_bytes())) == {
        "label": "pos",
        "text": "good film",
    }


def test_explain_and_recipes(nlpkit, tmp_path):
    recipe = tmp_path / "r.toml"
    code, out, _ = nlpkit(
        "standardize", "--stopwords", "en", "--explain", "--save-recipe", recipe, stdin=b"The Cat!\n"
    )
    rows = [line.split("\t") for line in out.splitlines() if line]
    assert code == 0 and [r[:2] for r in rows] == [["The", ""], ["Cat!", "cat"]]
    assert "stopwords:en: the -> " in rows[0][2] and "strip-punct: cat! -> cat" in rows[1][2]
    assert nlpkit("standardize", "--recipe", recipe, stdin=b"The Cat!\n")[1] == "cat\n"
    code, _, err = nlpkit("standardize", "--recipe", recipe, "--stem", "en", stdin=b"")
    assert code == 2 and "leave out --stem" in err
    recipe.write_text('steps = ["lwoer"]')
    code, _, err = nlpkit("standardize", "--recipe", recipe, stdin=b"")
    assert code == 2 and "did you mean 'lower'" in err and err.count("\n") == 1


def test_tokenize_and_back(nlpkit, tok):
    text = "can't dislike this\n\n  the cat ünd\n"
    code, out, err = nlpkit("tokenize", "--tokenizer", tok, stdin=text.encode())
    assert code == 0 and err == "" and len(out.splitlines()) == 3
    ids = [[int(i) for i in line.split()] for line in out.splitlines()]
    assert ids == Tokenizer.load(tok).encode(text.split("\n")[:-1])
    assert nlpkit("detokenize", "--tokenizer", tok, stdin=out.encode())[1] == text
    rows = nlpkit("tokenize", "--tokenizer", tok, "--format", "jsonl", stdin=text.encode())[1]
    record = json.loads(rows.splitlines()[0])
    assert list(record) == ["id", "ids", "tokens"] and record["ids"] == ids[0]
    assert nlpkit("detokenize", "--tokenizer", tok, stdin=rows.encode())[1] == text
    tokens = nlpkit("tokenize", "--tokenizer", tok, "--format", "tokens", stdin=text.encode())[1]
    assert tokens.splitlines()[0].split(" ") == record["tokens"]
    special = nlpkit("tokenize", "--tokenizer", tok, "--special", "--eos", stdin=b"cat\n")[1].split()
    assert special[0] == "2" and special[-2:] == ["3", "5"]


def test_tokenize_output_does_not_depend_on_jobs(tok, corpus):
    outs = {
        subprocess.run(
            [*NLPKIT, "tokenize", str(corpus), "--tokenizer", str(tok), "-j", j],
            capture_output=True,
            check=True,
        ).stdout
        for j in ("1", "3")
    }
    assert len(outs) == 1


def test_max_length_is_counted(nlpkit, tok):
    code, out, err = nlpkit("tokenize", "--tokenizer", tok, "--max-length", "2", stdin=b"a b c d\na\n")
    assert code == 0 and [len(line.split()) for line in out.splitlines()] == [2, 1]
    assert "1 documents were cut to 2 tokens" in err


def test_shards(nlpkit, tok, corpus, tmp_path):
    shard = tmp_path / "s.npy"
    assert nlpkit("tokenize", corpus, "--tokenizer", tok, "--format", "npy", "--eos", "-o", shard)[0] == 0
    opened = TokenShard.open(shard)
    opened.require(Tokenizer.load(tok))
    assert len(opened) == TEXT.count("\n") and all(row[-1] == 5 for row in opened)
    assert nlpkit("tokenize", corpus, "--tokenizer", tok, "--format", "npy", "-o", shard)[0] == 2
    code, _, err = nlpkit("tokenize", corpus, "--tokenizer", tok, "--format", "bin")
    assert code == 2 and "-o NAME.bin" in err


def test_corpus_verbs(nlpkit, tmp_path, corpus):
    assert nlpkit("corpus", "python", "-o", tmp_path / "p")[0] == 0
    found = json.loads(nlpkit("corpus", "stats", tmp_path / "p", "--json")[1])
    assert found["documents"] > 5000 and found["bytes"] > 1_500_000
    assert nlpkit("corpus", "split", tmp_path / "p", "-o", tmp_path / "s", "--test", "0.1")[0] == 0
    table = nlpkit("corpus", "stats", tmp_path / "s" / "train.jsonl")[1]
    assert "\x1b" not in table and table.splitlines()[1].startswith("documents")
    assert nlpkit("corpus", "python", "-o", tmp_path / "p")[0] == 2
    assert nlpkit("corpus", "split", "-o", tmp_path / "e", stdin=b"")[0] == 3


def test_git_ignores_a_corpus_that_was_made():
    done = subprocess.run(
        ["git", "check-ignore", "-q", "corpora/python/docs.jsonl", "corpora/python/MANIFEST.json"]
    )
    assert done.returncode in (0, 128)  # 128: not in a git checkout


@pytest.mark.parametrize(
    "argv, stdin, code, message",
    [
        (["standardize", "absent.txt"], b"", 2, "absent.txt: no such file or folder"),
        (["standardize", "--form", "nfx"], b"", 2, "--form 'nfx' is not known"),
        (["standardize", "--stem", "xx"], b"", 2, "no such stemmer"),
        (["standardize", "--stopwords", "nofile"], b"", 2, "no such list"),
        (["standardize", "--documents", "lines"], b"", 2, "did you mean 'line'"),
        (["standardize", "--errors", "strict"], b"\xff\n", 3, "standard input:1: byte 0xff"),
        (["standardize", "--input-format", "jsonl"], b"{", 3, "standard input:1: not JSON"),
        (["standardize"], gzip.compress(b"x" * 1000)[:-9], 3, "damaged or cut-off gzip"),
        (["standardize", "--lowerr"], b"", 2, "--lowerr"),
        (["tokenize"], b"", 2, "--tokenizer"),
        (["tokenize", "--tokenizer", "absent"], b"", 2, "absent: no such tokenizer"),
        (["tokenize", "--tokenizer", "."], b"", 4, "has no tokenizer.json"),
        (["tokenize", "--tokenizer", "TOK", "--format", "idz"], b"", 2, "--format 'idz'"),
        (["detokenize", "--tokenizer", "TOK"], b"7 x\n", 3, "standard input:1: 'x' is no token id"),
        (["detokenize", "--tokenizer", "TOK"], b"99999\n", 3, "'99999' is no token id"),
        (["train-tokenizer", "-o", "new"], b"", 3, "nothing to learn from"),
        (["train-tokenizer", "-o", "new", "--kind", "bpee"], b"a", 2, "did you mean 'bpe'"),
        (["train-tokenizer", "-o", "new", "--vocab-size", "99"], b"a", 2, "too small"),
        (
            ["train-tokenizer", "-o", "new", "--input-format", "jsonl"],
            b'{"text": "a"}\n{',
            3,
            "standard input:2:",
        ),
        (["train-tokenizer", "-o", "new", "--recipe", "absent"], b"a", 2, "absent"),
        (["train-tokenizer", "-o", "TOK"], b"a", 2, "exists already"),
    ],
)
def test_refusals(nlpkit, tmp_path, monkeypatch, tok, argv, stdin, code, message):
    monkeypatch.chdir(tmp_path)
    found, out, err = nlpkit(*[str(tok) if a == "TOK" else a for a in argv], stdin=stdin)
    assert (found, out) == (code, "")
    assert message in err and err.count("\n") == 1 and err.startswith("nlpkit: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "word", "char"])
def test_bad_input_stops_training_of_every_kind(nlpkit, tmp_path, kind):
    stdin = b'{"text": "a"}\n' * 3000 + b"{"
    argv = ["train-tokenizer", "-o", tmp_path / "t", "--kind", kind, "--input-format", "jsonl"]
    code, _, err = nlpkit(*argv, stdin=stdin)
    assert code == 3 and "standard input:3001: not JSON" in err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_tokenizer_is_refused(nlpkit, tok, tmp_path):
    import shutil

    shutil.copytree(tok, tmp_path / "t")
    file = tmp_path / "t" / "tokenizer.json"
    file.write_text(file.read_text().replace("true", "tru3", 1))
    code, out, err = nlpkit("tokenize", "--tokenizer", tmp_path / "t", stdin=b"a\n")
    assert (code, out) == (4, "") and "tokenizer.json: damaged" in err


@pytest.mark.parametrize("verb", ["standardize", "tokenize", "detokenize", "train-tokenizer", "corpus"])
def test_help_has_an_example(nlpkit, verb):
    code, out, _ = nlpkit(verb, "--help")
    assert code == 0 and ("Example: nlpkit" in out or "| nlpkit" in out or verb == "corpus")


def test_a_terminal_with_nothing_to_read_gets_help(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdin", type("Tty", (), {"isatty": lambda self: True})())
    assert cli.run(["standardize"]) == 2
    out, err = capfd.readouterr()
    assert "Usage: nlpkit standardize" in out + err and "nothing to read" in err


def test_a_pipeline_into_head_ends_silently(tok, corpus, tmp_path):
    big = tmp_path / "big.gz"
    big.write_bytes(gzip.compress(TEXT.encode() * 5000))
    nlpkit = f"{sys.executable} -m nlpkit"
    line = f"zcat {big} | {nlpkit} standardize | {nlpkit} tokenize --tokenizer {tok} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stderr == "" or "zcat" in done.stderr or "gzip" in done.stderr
    (row,) = done.stdout.splitlines()
    assert [int(i) for i in row.split()] == Tokenizer.load(tok).encode(["can t dislike this"])[0]
    for verb in ("standardize", f"tokenize --tokenizer {tok}"):
        line = f"{nlpkit} {verb} {big} | head -1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""


def test_start_up_imports_nothing_heavy(tok):
    code = (
        "import sys; from nlpkit import cli; code = cli.run(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'numba', 'faiss', 'numpy', 'rich'} & set(sys.modules); "
        "sys.stderr.write(f'{code} {sorted(heavy)}')"
    )
    for argv in (
        ["standardize", "--stopwords", "en", "--stem", "en"],
        ["tokenize", "--tokenizer", str(tok)],
        ["tokenize", "--tokenizer", str(tok), "--format", "jsonl", "--special"],
        ["detokenize", "--tokenizer", str(tok)],
    ):
        text = "1 2\n" if argv[0] == "detokenize" else "a cat\n"
        done = subprocess.run([sys.executable, "-c", code, *argv], input=text, capture_output=True, text=True)
        assert done.stderr == "0 []", argv
