"""``nlpkit index``: every verb as people call it."""

import io
import json

import pytest

from nlpkit.cli import run
from nlpkit.search.index import Index


def call(*words):
    return run([str(w) for w in words])


@pytest.fixture
def folder(tmp_path, capfd):
    lines = [{"_id": f"d{i}", "text": f"shared word{i} text", "year": 2000 + i} for i in range(12)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--k1", "0.9", "--b", "0.4", "--documents", "line")
    assert call("index", "build", tmp_path / "in.jsonl", "-o", tmp_path / "i", *options) == 0
    capfd.readouterr()
    return tmp_path / "i"


def ids(folder):
    return {h.id for h in Index.open(folder).search("shared", k=100)[0]}


def test_build_says_what_it_did(tmp_path, capfd):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert call("index", "build", tmp_path / "a.txt", "-o", tmp_path / "i", "--json") == 0
    said = capfd.readouterr()
    assert json.loads(said.out) == {
        "path": str(tmp_path / "i"), "added": 2, "updated": 0, "unchanged": 0, "same": 0, "empty": 0,
        "embedded": 0, "cached": 0,
    }  # fmt: skip
    assert said.err == f"{tmp_path / 'i'}: 2 added\n"


def test_an_empty_document_is_kept_and_counted_and_a_duplicate_is_exit_3(tmp_path, capfd):
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": ""}\n{"id": "b", "text": "cats"}\n')
    assert call("index", "build", tmp_path / "in.jsonl", "-o", tmp_path / "i") == 0
    assert "2 added, 1 empty" in capfd.readouterr().err
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n')
    assert call("index", "build", tmp_path / "in.jsonl", "-o", tmp_path / "j") == 3
    assert "'a' occurs twice" in capfd.readouterr().err and not (tmp_path / "j").exists()
    assert call("index", "add", tmp_path / "i", tmp_path / "in.jsonl") == 3
    assert "nlpkit index update" in capfd.readouterr().err


def test_update_replaces_adds_and_leaves_alone(folder, tmp_path, capfd):
    new = [{"_id": "d1", "text": "shared other"}, {"_id": "new", "text": "shared late"}]
    new += [{"_id": "d2", "text": "shared word2 text", "year": 2002}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(line) + "\n" for line in new))
    assert call("index", "update", folder, tmp_path / "new.jsonl", "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["added"], said["updated"], said["unchanged"]) == (1, 1, 1)
    assert call("index", "update", folder, tmp_path / "new.jsonl", "--json") == 0
    assert json.loads(capfd.readouterr().out)["unchanged"] == 3
    assert ids(folder) == {f"d{i}" for i in range(12)} | {"new"}


def test_deletes_ids_from_anywhere(folder, tmp_path, capfd, monkeypatch):
    (tmp_path / "ids.txt").write_text("d3\nd4\n\n")

    class Piped:
        buffer = io.BytesIO(b"d5\nd6\n")

        def isatty(self):
            return False

        def fileno(self):
            raise OSError

    monkeypatch.setattr("sys.stdin", Piped())
    assert call("index", "delete", folder, "d1", "-", "--ids", tmp_path / "ids.txt") == 0
    assert capfd.readouterr().err == f"{folder}: 5 deleted\n"
    assert ids(folder) == {f"d{i}" for i in (0, 2, 7, 8, 9, 10, 11)}
    assert call("index", "delete", folder) == 2 and "--ids FILE" in capfd.readouterr().err
    assert call("index", "delete", folder, "d0", "d1") == 3 and len(ids(folder)) == 7


def test_compact_and_rebuild(folder, capfd):
    assert call("index", "delete", folder, "d1", "d2") == 0
    for verb, said in (("compact", "compacted"), ("rebuild", "rebuilt")):
        assert call("index", verb, folder) == 0
        assert said in capfd.readouterr().err
        assert len(ids(folder)) == 10 and call("index", "verify", folder) == 0
        capfd.readouterr()


def test_info_tells_segments_settings_and_bytes(folder, capfd):
    assert call("index", "delete", folder, "d1") == 0
    capfd.readouterr()
    assert call("index", "info", folder, "--json") == 0
    known = json.loads(capfd.readouterr().out)
    assert (known["documents"], known["unfolded_operations"], known["unit"]) == (11, 1, "line")
    assert known["bm25"] == {"k1": 0.9, "b": 0.4} and known["segments"][0]["rows"] == 12
    assert known["bytes"]["all"] == sum(v for k, v in known["bytes"].items() if k != "all")
    assert call("index", "info", folder) == 0
    out = capfd.readouterr().out
    assert "derived-000001" in out and "k1 0.9" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--backend", "milvus://somewhere"], 2, "known: local"),
        (["--b", "2"], 2, "b between 0 and 1"),
        (["--chunk", "ten"], 2, "--chunk"),
        (["--documents", "page"], 2, "--documents"),
    ],
)
def test_options_that_mean_nothing(tmp_path, capfd, words, code, said):
    (tmp_path / "a.txt").write_text("one\n")
    assert call("index", "build", tmp_path / "a.txt", "-o", tmp_path / "i", *words) == code
    shown = capfd.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and not (tmp_path / "i").exists()


def test_additions_are_read_as_the_index_was_built(folder, tmp_path, capfd):
    (tmp_path / "more.txt").write_text("shared a\nshared b\n")
    assert call("index", "add", folder, tmp_path / "more.txt") == 0
    assert "2 added" in capfd.readouterr().err
    assert call("index", "add", folder, tmp_path / "more.txt", "--documents", "paragraph") == 0
    assert "1 added" in capfd.readouterr().err


def test_how_long_a_lock_is_waited_for(folder, capfd):
    with Index.open(folder, writable=True):
        assert call("index", "delete", folder, "d1", "--lock-timeout", "0.1") == 5
    assert "is writing" in capfd.readouterr().err
