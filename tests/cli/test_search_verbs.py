"""``nlpkit index`` and ``nlpkit search`` as people call them."""

import io
import json
import os
import subprocess
import sys

import pytest

from nlpkit.cli import run


@pytest.fixture
def folder(tmp_path, capfd):
    (tmp_path / "in.jsonl").write_text(
        '{"_id": "a", "title": "Files", "text": "How to open a file", "tag": 1}\n'
        '{"_id": "b", "text": "Sorting lists of files"}\n{"_id": "c", "text": "Cats"}\n'
    )
    assert call("index", "build", tmp_path / "in.jsonl", "-o", tmp_path / "i") == 0
    said = capfd.readouterr()
    assert said.out == "" and said.err == f"{tmp_path / 'i'}: 3 added\n"
    return tmp_path / "i"


def call(*words):
    return run([str(w) for w in words])


def test_json_forms(folder, capfd):
    assert call("search", folder, "opened files", "--json", "-k", "2") == 0
    found = json.loads(capfd.readouterr().out)
    assert set(found) == {"query", "mode", "hits"} and found["mode"] == "bm25"
    hit = found["hits"][0]
    assert (hit["rank"], hit["id"], hit["title"], hit["fields"]) == (1, "a", "Files", {"tag": 1})
    assert [hit["text"][a:b] for a, b in hit["highlights"]] == ["open", "file"]
    assert len(found["hits"]) == 2 and hit["score"] > found["hits"][1]["score"]
    assert call("search", folder, "cats", "--jsonl") == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["id"] == "c"
    assert call("search", folder, "zebra", "--json") == 0
    assert json.loads(capfd.readouterr().out)["hits"] == []


def test_queries_from_a_file_and_from_stdin(folder, tmp_path, capfd, monkeypatch):
    (tmp_path / "q.tsv").write_text("q7\tcats\nq8\tlist\n")
    assert call("search", folder, "--queries", tmp_path / "q.tsv", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert [(f["query_id"], f["hits"][0]["id"]) for f in found] == [("q7", "c"), ("q8", "b")]
    assert call("search", folder, "--queries", tmp_path / "q.tsv", "--run", tmp_path / "o.trec") == 0
    assert capfd.readouterr().out == ""
    assert [x.split()[:4] for x in (tmp_path / "o.trec").read_text().splitlines()] == [
        ["q7", "Q0", "c", "1"],
        ["q8", "Q0", "b", "1"],
    ]
    assert call("search", folder, "--queries", tmp_path / "q.tsv", "--run", tmp_path / "o.trec") == 2
    done = subprocess.run(
        [sys.executable, "-m", "nlpkit", "search", str(folder), "--jsonl"],
        input="cats\n\nsorting\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(x)["id"] for x in done.stdout.splitlines()] == ["c", "b"]
    assert call("search", folder, "x", "--queries", tmp_path / "q.tsv") == 2


def test_text_has_no_colour_in_a_pipe(folder, capfd):
    assert call("search", folder, "open", "--explain") == 0
    out = capfd.readouterr().out
    assert "\x1b" not in out and "Files" in out and "How to open a file" in out and "bm25 " in out
    assert call("search", folder, "zebra") == 0
    said = capfd.readouterr()
    assert said.out == "" and "no document matches 'zebra'" in said.err


def test_changing(folder, tmp_path, capfd):
    (tmp_path / "new.txt").write_text("One zebra\nstill the same\n\nAnother paragraph\n")
    assert call("index", "add", folder, tmp_path / "new.txt") == 0
    assert "2 added" in capfd.readouterr().err
    assert call("search", folder, "zebra same", "--jsonl") == 0
    assert json.loads(capfd.readouterr().out)["text"] == "One zebra\nstill the same"
    assert call("index", "add", folder, tmp_path / "in.jsonl") == 3
    assert "--update" in capfd.readouterr().err
    assert call("index", "add", folder, tmp_path / "in.jsonl", "--update") == 0
    assert "3 updated" in capfd.readouterr().err
    assert call("index", "delete", folder, "a", "nobody") == 3
    assert "'nobody'" in capfd.readouterr().err
    assert call("index", "delete", folder, "a", "b") == 0
    assert call("index", "compact", folder) == 0
    assert call("index", "verify", folder) == 0
    capfd.readouterr()
    assert call("index", "info", folder, "--json") == 0
    known = json.loads(capfd.readouterr().out)
    assert known["documents"] == 3 and known["unfolded_operations"] == 0 and known["model"] is None
    assert call("index", "info", folder) == 0
    assert "documents" in capfd.readouterr().out


def test_eval_of_an_index(folder, tmp_path, capfd):
    (tmp_path / "q.tsv").write_text("q7\tcats\nq8\tlist\n")
    (tmp_path / "r.tsv").write_text("q7 0 c 1\nq8 0 a 1\n")
    files = ("--queries", tmp_path / "q.tsv", "--qrels", tmp_path / "r.tsv")
    assert call("eval", folder, *files, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["queries"], told["mrr@10"]) == (2, 0.5)
    assert call("eval", folder, *files, "--require", "mrr@10>=0.6") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["search", "{}/nowhere", "x"], 2, "no such file"),
        (["search", "{}", "x"], 4, "not an nlpkit artefact"),
        (["search", "{}/i", "x", "--mode", "dense"], 2, "without a model"),
        (["search", "{}/i", "x", "--mode", "bm52"], 2, "did you mean 'bm25'"),
        (["search", "{}/i", "x", "-k", "0"], 2, "1 or more"),
        (["index", "build", "{}/in.jsonl", "-o", "{}/i"], 2, "exists"),
        (["index", "build", "{}/none.txt", "-o", "{}/j"], 2, "no such file"),
        (["index", "build", "{}/empty.txt", "-o", "{}/j"], 3, "no documents"),
        (["index", "build", "{}/in.jsonl", "-o", "{}/j", "--recipe", "lowre"], 2, "did you mean 'lower'"),
        (["index", "build", "{}/in.jsonl", "-o", "{}", "--force"], 2, "not an index"),
        (["index", "add", "{}/nowhere", "{}/in.jsonl"], 2, "no such file"),
        (["index", "tune", "{}/i", "--queries", "{}/q", "--qrels", "{}/r"], 2, "without a model"),
        (["index", "verify", "{}/nowhere"], 2, "no such file"),
    ],
)
def test_errors_are_one_line(folder, tmp_path, capfd, words, code, said):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "q").write_text("1\tcats\n")
    (tmp_path / "r").write_text("1 0 c 1\n")
    assert call(*(w.format(tmp_path) for w in words)) == code
    shown = capfd.readouterr()
    assert shown.out == "" and said in shown.err and shown.err.count("\n") == 1
    assert not (tmp_path / "j").exists()


def test_locked_is_exit_5(folder, capfd, monkeypatch):
    import nlpkit.search.writer
    from nlpkit.search.index import Index

    monkeypatch.setattr(nlpkit.search.writer.Writer.__init__, "__defaults__", (0.1,))
    with Index.open(folder, writable=True):
        assert call("index", "delete", folder, "a") == 5
        assert f"process {os.getpid()}" in capfd.readouterr().err
        assert call("search", folder, "open", "--jsonl") == 0
        assert json.loads(capfd.readouterr().out)["id"] == "a"


def test_nothing_to_read_shows_help(folder, capfd, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert call("search", folder) == 2
    assert "Usage" in capfd.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from nlpkit.cli import run; run(['index', 'build', '--help']); run(['search', '--help']);"
        "bad = [m for m in ('torch', 'faiss', 'numpy', 'sqlite3') if m in sys.modules]; sys.exit(bool(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "Example: nlpkit index build" in done.stdout
