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


def test_queries_of_every_form_are_streamed(folder, tmp_path, capfd, monkeypatch):
    given = "qid\ttext\nq7\tcats\n\n" + '{"_id": "q8", "text": "list"}\n{"text": "sorting"}\n'
    (tmp_path / "q.jsonl").write_text('{"_id": 7, "text": "cats"}\n{"id": "x", "text": "zebra"}\n')
    (tmp_path / "q.tsv").write_text(given)
    for name, form in (("q.tsv", None), ("-", given), ("q.jsonl", None)):
        if form:
            done = subprocess.run(
                [sys.executable, "-m", "nlpkit", "search", str(folder), "--queries", "-", "--json"],
                input=form,
                capture_output=True,
                text=True,
                check=True,
            )
            out = done.stdout
        else:
            assert call("search", folder, "--queries", tmp_path / name, "--json") == 0
            out = capfd.readouterr().out
        found = [(f["query_id"], [h["id"] for h in f["hits"]]) for f in json.loads(out)]
        if name == "q.jsonl":
            assert found == [("7", ["c"]), ("x", [])]
        else:
            assert found == [("q7", ["c"]), ("q8", ["b"]), ("5", ["b"])]
    for bad in ("nonsense", '["text"]', '{"text": 5}', "{"):
        (tmp_path / "q.jsonl").write_text('{"_id": 7, "text": "cats"}\n' + bad + "\n")
        assert call("search", folder, "--queries", tmp_path / "q.jsonl", "--jsonl") == 3
        assert "q.jsonl:2" in capfd.readouterr().err
    (tmp_path / "two.tsv").write_text("q\tcats\nq\tlist\n")
    assert call("search", folder, "--queries", tmp_path / "two.tsv", "--run", tmp_path / "two.trec") == 3
    assert "'q' occurs twice" in capfd.readouterr().err and not (tmp_path / "two.trec").exists()
    (tmp_path / "none.tsv").write_text("")
    assert call("search", folder, "--queries", tmp_path / "none.tsv") == 3
    # Standard input is a filter: nothing in, nothing out.
    done = subprocess.run(
        [sys.executable, "-m", "nlpkit", "search", str(folder), "--json"],
        input="",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_conditions_filter_before_ranking(folder, capfd):
    def ids(*words):
        code = call("search", folder, *words, "--jsonl", "-k", "1")
        return code, [json.loads(line)["id"] for line in capfd.readouterr().out.splitlines()]

    assert ids("files") == (0, ["a"])
    assert ids("files", "--where", "not exists(tag)") == (0, ["b"])
    assert ids("files", "--where", 'tag >= 1 and title ~ "FILE"') == (0, ["a"])
    assert ids("files", "--where", 'id in ("b", "c")') == (0, ["b"])
    assert ids("files", "--where", "tag > 1") == (0, [])
    assert ids("files", "--where", "tag > 1", "--exit-status") == (1, [])
    assert ids("files", "--exit-status") == (0, ["a"])


def test_explain_in_json_and_text(folder, capfd):
    assert call("search", folder, "open files", "--explain", "--json") == 0
    hit = json.loads(capfd.readouterr().out)["hits"][0]
    assert hit["why"]["ranks"] == {"bm25": 1} and [t for t, _ in hit["why"]["terms"]] == ["open", "file"]
    assert sum(w for _, w in hit["why"]["terms"]) == pytest.approx(hit["parts"]["bm25"])
    assert hit["passage"] == [0, len("How to open a file")]
    assert call("search", folder, "open files", "--explain") == 0
    line = next(x for x in capfd.readouterr().out.splitlines() if x.strip().startswith("bm25"))
    assert "#1" in line and "open " in line and "file " in line
    assert call("search", folder, "open files", "--json") == 0
    assert "why" not in json.loads(capfd.readouterr().out)["hits"][0]


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
    assert "nlpkit index update" in capfd.readouterr().err
    (tmp_path / "in.jsonl").write_text(
        '{"_id": "a", "text": "Opening files"}\n{"_id": "c", "text": "Cats"}\n'
    )
    assert call("index", "update", folder, tmp_path / "in.jsonl") == 0
    assert "1 updated" in capfd.readouterr().err
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
        (["search", "{}/i", "x", "--where", "tag >"], 2, "expected a value"),
        (["search", "{}/i", "x", "--where", "tga = 1"], 2, "did you mean 'tag'"),
        (["search", "{}/nowhere", "x", "--where", "tag >"], 2, "expected a value"),
        (["search", "{}/i", "x", "--rerank-ms", "5"], 2, "--rerank MODEL"),
        (["search", "{}/i", "x", "--weight", "2"], 2, "between 0"),
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


def test_locked_is_exit_5(folder, capfd):
    from nlpkit.search.index import Index

    with Index.open(folder, writable=True):
        assert call("index", "delete", folder, "a", "--lock-timeout", "0.1") == 5
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
