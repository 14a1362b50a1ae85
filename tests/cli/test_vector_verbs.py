"""``train-glove`` and ``vectors`` as a person meets them: files in, JSON out, exit codes."""

import gzip
import io
import json
import tomllib

import pytest

from nlpkit.cli import run
from nlpkit.store import manifest
from nlpkit.vectors.vectors import Vectors

LINES = ["The king rules the land", "the queen rules the land", "a cat sleeps", "a dog sleeps all day"] * 8
OPTIONS = ["--size", "6", "--window", "3", "--epochs", "3", "--min-count", "2", "-j", "1"]


class Pipe(io.TextIOWrapper):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(LINES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("glove")
    (path / "corpus.txt").write_text("\n\n".join(LINES), encoding="utf-8")
    assert run(["train-glove", str(path / "corpus.txt"), "-o", str(path / "v"), *OPTIONS]) == 0
    return path / "v"


def test_training_says_the_losses_and_what_to_do_next(corpus, tmp_path, capfd):
    assert run(["train-glove", str(corpus), "-o", str(tmp_path / "v"), *OPTIONS, "--x-max", "5"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("  loss ") == 3
    assert f"next: nlpkit vectors nearest {tmp_path / 'v'} WORD" in err
    assert "11 words from 144" in err.replace(",", "")
    settings = tomllib.loads((tmp_path / "v" / "config.toml").read_text())["glove"]
    assert (settings["size"], settings["window"], settings["x_max"], settings["symmetric"]) == (
        6,
        3,
        5.0,
        True,
    )


def test_stdin_files_and_gzip_are_the_same_text(corpus, tmp_path, monkeypatch, capfd):
    data = corpus.read_bytes()
    (tmp_path / "c.gz").write_bytes(gzip.compress(data))
    monkeypatch.setattr("sys.stdin", Pipe(data))
    assert run(["train-glove", "-o", str(tmp_path / "a"), *OPTIONS]) == 0
    assert run(["train-glove", str(tmp_path / "c.gz"), "-o", str(tmp_path / "b"), *OPTIONS]) == 0
    assert run(["train-glove", str(corpus), "-o", str(tmp_path / "c"), *OPTIONS, "--max-memory", "2k"]) == 0
    assert len({manifest.check(tmp_path / name).fingerprint for name in "abc"}) == 1


def test_paragraphs_or_lines(tmp_path):
    (tmp_path / "t.txt").write_text("sea\nland\n\n" * 6)
    options = ["--size", "2", "--epochs", "1", "--min-count", "1"]
    assert run(["train-glove", str(tmp_path / "t.txt"), "-o", str(tmp_path / "v"), *options]) == 0
    assert manifest.read(tmp_path / "v").notes["nonzeros"] == 2
    lines = ["--documents", "line", *options]
    assert run(["train-glove", str(tmp_path / "t.txt"), "-o", str(tmp_path / "w"), *lines]) == 3


def test_a_recipe_file_and_the_left_window(corpus, tmp_path):
    (tmp_path / "r.toml").write_text('steps = ["lower", "stopwords:en", "stem:en"]\n')
    output = tmp_path / "v"
    more = ["--recipe", str(tmp_path / "r.toml"), "--left-window"]
    assert run(["train-glove", str(corpus), "-o", str(output), *OPTIONS, *more]) == 0
    vectors = Vectors.load(output)
    assert vectors.recipe.steps == ("lower", "stopwords:en", "stem:en")
    assert "the" not in vectors.words
    assert vectors.index("ruling") == vectors.words.index("rule")
    assert "symmetric = false" in (output / "config.toml").read_text()


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--max-memory", "lots"], 2, "512M"),
        (["-j", "0"], 2, "--jobs"),
        (["--checkpoint-every", "0"], 2, "--checkpoint-every"),
        (["--size", "0"], 2, "size"),
        (["--recipe", "nowhere.toml"], 2, "nowhere.toml"),
        (["--min-count", "99"], 3, "--min-count"),
        (["--lr", "1e30"], 8, "--lr"),
    ],
)
def test_what_goes_wrong_is_one_line(corpus, tmp_path, capfd, more, code, says):
    assert run(["train-glove", str(corpus), "-o", str(tmp_path / "v"), *OPTIONS, *more]) == code
    err = capfd.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.txt"]


def test_empty_and_missing_input_and_existing_output(tmp_path, capfd, corpus, folder):
    (tmp_path / "empty.txt").write_text("")
    assert run(["train-glove", str(tmp_path / "empty.txt"), "-o", str(tmp_path / "v")]) == 3
    assert run(["train-glove", str(tmp_path / "no.txt"), "-o", str(tmp_path / "v")]) == 2
    assert run(["train-glove", str(corpus), "-o", str(folder)]) == 2
    assert "--force" in capfd.readouterr().err


def test_nearest_in_three_forms(folder, capfd):
    assert run(["vectors", "nearest", str(folder), "King", "cat", "-k", "2", "--jsonl"]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    vectors = Vectors.load(folder)
    assert [r["word"] for r in records] == ["King", "cat"]
    assert [(n["word"], n["cosine"]) for n in records[0]["nearest"]] == [
        (w, pytest.approx(c, abs=1e-6)) for w, c in vectors.nearest("king", 2)
    ]
    assert run(["vectors", "nearest", str(folder), "King", "cat", "-k", "2", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == records
    assert run(["vectors", "nearest", str(folder), "King", "cat", "-k", "2"]) == 0
    header, *rows = capfd.readouterr().out.splitlines()
    assert header.split() == ["word", "nearest", "cosine"]
    assert [row.split()[0] for row in rows] == ["King", "King", "cat", "cat"]


def test_words_from_stdin(folder, monkeypatch, capfd):
    monkeypatch.setattr("sys.stdin", Pipe(b"dog\nzzz cat\n"))
    assert run(["vectors", "nearest", str(folder), "--jsonl", "-k", "1"]) == 0
    out, err = capfd.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [(r["word"], len(r["nearest"])) for r in records] == [("dog", 1), ("zzz", 0), ("cat", 1)]
    assert "1 of 3 words" in err
    monkeypatch.setattr("sys.stdin", Pipe(b""))
    assert run(["vectors", "nearest", str(folder)]) == 0
    assert capfd.readouterr().out == ""


def test_unknown_words_and_forms(folder, capfd):
    for words in (["nearest"], ["analogy", "king", "queen"], ["similarity", "king"], ["calc"]):
        assert run(["vectors", words[0], str(folder), *words[1:], "quene"]) == 1
        err = capfd.readouterr().err
        assert "did you mean 'queen'" in err
        assert len(err.splitlines()) == 1
    assert run(["vectors", "nearest", str(folder), "cat", "--json", "--jsonl"]) == 2
    assert run(["vectors", "similarity", str(folder / "none"), "a", "b"]) == 2
    assert run(["vectors", "similarity", str(folder.parent), "a", "b"]) == 4


def test_analogy_and_similarity(folder, capfd):
    vectors = Vectors.load(folder)
    assert run(["vectors", "analogy", str(folder), "cat", "dog", "king", "-k", "3", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["a"], found["b"], found["c"]) == ("cat", "dog", "king")
    assert [w["word"] for w in found["words"]] == [w for w, _ in vectors.analogy("cat", "dog", "king", 3)]
    assert run(["vectors", "analogy", str(folder), "cat", "dog", "king", "-k", "3", "--jsonl"]) == 0
    assert [json.loads(x) for x in capfd.readouterr().out.splitlines()] == [found]
    assert (
        run(["vectors", "analogy", str(folder), "cat", "dog", "king", "--method", "3cosmul", "--json"]) == 0
    )
    assert [w["word"] for w in json.loads(capfd.readouterr().out)["words"]] == [
        w for w, _ in vectors.analogy("cat", "dog", "king", method="3cosmul")
    ]
    assert run(["vectors", "analogy", str(folder), "cat", "dog"]) == 2
    assert run(["vectors", "analogy", str(folder), "cat", "dog", "king", "--method", "max"]) == 2
    assert run(["vectors", "similarity", str(folder), "cat", "dog"]) == 0
    assert float(capfd.readouterr().out) == pytest.approx(vectors.similarity("cat", "dog"), abs=1e-4)


def test_lines_of_stdin_each_have_an_answer(folder, monkeypatch, capfd):
    vectors = Vectors.load(folder)

    def piped(data, *words):
        monkeypatch.setattr("sys.stdin", Pipe(data))
        assert run(["vectors", words[0], str(folder), *words[1:]]) == 0
        return capfd.readouterr()

    out, err = piped(
        b"cat dog king\ncat dog\n\ncat zzz king\nThe king queen\r\n", "analogy", "-k", "2", "--jsonl"
    )
    records = [json.loads(line) for line in out.splitlines()]
    assert [len(r["words"]) for r in records] == [2, 0, 0, 2]
    assert [w["word"] for w in records[3]["words"]] == [
        w for w, _ in vectors.analogy("the", "king", "queen", 2)
    ]
    assert "2 of 4 lines have an unknown word" in err
    out, err = piped(b"cat dog\ncat zzz\n", "similarity", "--json")
    first, second = json.loads(out)
    assert first == {"a": "cat", "b": "dog", "cosine": round(vectors.similarity("cat", "dog"), 6)}
    assert second["cosine"] is None
    assert "1 of 2" in err
    assert piped(b"cat dog\n", "similarity").out.split() == [
        "a",
        "b",
        "cosine",
        "cat",
        "dog",
        f"{first['cosine']:.4f}",
    ]
    out, err = piped(b"king - queen + cat\nking +\nzzz\n", "calc", "-k", "1", "--jsonl")
    records = [json.loads(line) for line in out.splitlines()]
    assert [len(r["nearest"]) for r in records] == [1, 0, 0]
    assert records[1]["error"].startswith("column 7: ")
    assert records[0]["nearest"][0]["word"] == vectors.analogy("queen", "king", "cat", 1)[0][0]
    assert "2 of 3 lines cannot be worked out" in err
    assert "column 7" in piped(b"king +\n", "calc").err


def test_a_session_goes_on_after_a_fault(folder, monkeypatch, capfd):
    lines = iter(["king - queen + cat", "", "king +"])

    def said(prompt):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", said)
    assert run(["vectors", "calc", str(folder), "-k", "1"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0].split() == ["word", "cosine"]
    assert "column 7: expected a word" in err


def test_eval_tells_and_compares(folder, tmp_path, capfd):
    (tmp_path / "q.txt").write_text(": animals\nking queen cat dog\nking queen dog zzz\n")
    (tmp_path / "p.tsv").write_text(
        "word1\tword2\tscore\nking\tqueen\t9\ncat\tdog\t8\ncat\tking\t1\nthe\tday\t2\n"
    )
    files = [str(tmp_path / "q.txt"), str(tmp_path / "p.tsv")]
    assert run(["vectors", "eval", str(folder), *files, "--against", str(folder), "--json"]) == 0
    questions, pairs = json.loads(capfd.readouterr().out)
    assert (questions["test"], questions["items"], questions["known"]) == ("q.txt", 2, 1)
    assert (pairs["kind"], pairs["items"], pairs["known"], pairs["against"]["difference"]) == (
        "pairs",
        4,
        4,
        0.0,
    )
    assert run(["vectors", "eval", str(folder), *files, "--against", str(folder)]) == 0
    out = capfd.readouterr().out
    for word in ("animals", "accuracy", "spearman", "q.txt", "p.tsv", " to ", "difference"):
        assert word in out
    (tmp_path / "p.tsv").write_text("king queen\n")
    assert run(["vectors", "eval", str(folder), files[1]]) == 3
    assert "p.tsv:1: " in capfd.readouterr().err
    assert run(["vectors", "eval", str(folder), files[0], "--method", "max"]) == 2


def test_files_there_and_back(folder, tmp_path, capfd):
    vectors = Vectors.load(folder)
    (tmp_path / "r.toml").write_text('steps = ["lower"]\n')
    file, made = str(tmp_path / "v.txt.gz"), str(tmp_path / "made")
    assert run(["vectors", "export", str(folder), "--format", "glove", "-o", file]) == 0
    assert run(["vectors", "export", str(folder), "--format", "glove", "-o", file]) == 2
    assert run(["vectors", "export", str(folder), "--format", "text", "-o", file, "--force"]) == 2
    assert run(["vectors", "import", file, "-o", made, "--recipe", str(tmp_path / "r.toml")]) == 0
    assert (Vectors.load(made).matrix == vectors.matrix).all()
    assert Vectors.load(made).recipe.steps == ("lower",)
    assert run(["vectors", "nearest", made, "King", "-k", "1"]) == 0
    assert run(["vectors", "import", file, "-o", made]) == 2
    (tmp_path / "bad.txt").write_text("a 1 2\nb 1\n")
    capfd.readouterr()
    assert run(["vectors", "import", str(tmp_path / "bad.txt"), "-o", str(tmp_path / "x")]) == 3
    err = capfd.readouterr().err
    assert "bad.txt:2: " in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x").exists()
    assert run(["vectors", "import", str(tmp_path / "bad.txt"), "-o", str(tmp_path / "x"), "--skip-bad"]) == 0
    assert "1 rows were left out" in capfd.readouterr().err
    assert (
        run(
            ["vectors", "reduce", made, "--method", "pca", "--size", "3", "-o", str(tmp_path / "s"), "--json"]
        )
        == 0
    )
    assert json.loads(capfd.readouterr().out)["size"] == 3
    assert run(["vectors", "reduce", made, "--method", "int8", "-o", str(tmp_path / "i")]) == 0
    assert "reconstruction error" in capfd.readouterr().out
    assert run(["verify", made, str(tmp_path / "s"), str(tmp_path / "i")]) == 0


def test_unseen_words_and_maps(folder, tmp_path, capfd):
    text = tmp_path / "more.txt"
    text.write_text("\n".join([*LINES, "the duchess rules the land"] * 2))
    asked = ["vectors", "oov", str(folder), "Duchess", "--contexts", str(text)]
    assert run(asked) == 0
    record = json.loads(capfd.readouterr().out)
    assert (record["word"], record["count"], len(record["vector"])) == ("duchess", 2, 6)
    assert run([*asked, "-o", str(tmp_path / "v")]) == 0
    assert Vectors.load(tmp_path / "v").vector("duchess").tolist() == pytest.approx(record["vector"])
    assert run(["vectors", "oov", str(folder), "king", "--contexts", str(text)]) == 2
    assert run(["vectors", "oov", str(folder), "emperor", "--contexts", str(text)]) == 1
    target = str(tmp_path / "m.svg")
    assert (
        run(["vectors", "plot", str(folder), "cat", "--analogy", "king", "queen", "cat", "dog", "-o", target])
        == 0
    )
    assert run(["vectors", "plot", str(folder), "cat", "dog", "-o", target]) == 2
    assert run(["vectors", "plot", str(folder), "cat", "zzz", "-o", target, "--force"]) == 1
    assert b"<svg" in (tmp_path / "m.svg").read_bytes()


def test_a_damaged_folder_is_exit_4(folder, tmp_path, capfd):
    raw = (folder / "words.txt").read_bytes()
    (folder / "words.txt").write_bytes(raw.replace(b"k", b"g", 1))
    try:
        assert run(["vectors", "nearest", str(folder), "king"]) == 4
        assert "words.txt" in capfd.readouterr().err
    finally:
        (folder / "words.txt").write_bytes(raw)
