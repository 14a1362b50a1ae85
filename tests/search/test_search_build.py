"""A build that is killed is gone on with; equal text is embedded once; what is unchanged costs nothing."""

import os
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from nlpkit.errors import DataError, LockedError, UsageError
from nlpkit.search import change
from nlpkit.search.index import Index
from nlpkit.search.store import DATABASE
from nlpkit.search.verify import verify
from nlpkit.text.documents import Document

_BUILD = """
import sys
sys.path.insert(0, sys.argv[1])
from conftest import WordSum, some_documents
from nlpkit.search import change
from nlpkit.search.index import Index
change.EMBEDDED = 16
Index.build(some_documents(100), sys.argv[2], encoder_path="m", loader=lambda path: WordSum())
"""


def killed_build(target, fault):
    here = os.path.dirname(__file__)
    return subprocess.run(
        [sys.executable, "-c", _BUILD, here, str(target)],
        env={**os.environ, "NLPKIT_FAULT": fault},
        capture_output=True,
        text=True,
    )


def state(folder):
    """What an index holds: its documents and vectors in their order, and its derived arrays."""
    connection = sqlite3.connect(folder / DATABASE)
    try:
        rows = connection.execute("SELECT * FROM documents ORDER BY row").fetchall()
        rows += connection.execute("SELECT key, vector, sum FROM embeddings ORDER BY number").fetchall()
        rows += connection.execute("SELECT * FROM meta ORDER BY key").fetchall()
    finally:
        connection.close()
    return rows, {p.name: p.read_bytes() for p in folder.glob("derived-*/*")}


@pytest.mark.parametrize(("point", "paid"), [("embedded", 16), ("built", 100), ("derived", 100)])
def test_a_killed_build_is_gone_on_with(tmp_path, word_sum, documents, monkeypatch, point, paid):
    monkeypatch.setattr(change, "EMBEDDED", 16)
    done = killed_build(tmp_path / "i", point)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "i").exists()
    model = word_sum()
    index = Index.build(documents(100), tmp_path / "i", encoder_path="m", loader=lambda path: model)
    expected = len({f"{d.title} {d.text}" for d in documents(100)})
    if point == "derived":  # whole but for its name: it had nothing left to say that it is unfinished
        assert model.asked in (0, expected)
    else:
        assert model.asked == expected - min(paid, expected) == index.changed.embedded
    Index.build(documents(100), tmp_path / "j", encoder_path="m", loader=lambda path: word_sum())
    assert state(tmp_path / "i") == state(tmp_path / "j") and verify(tmp_path / "i") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i", "j"]


def half_built(tmp_path, word_sum, documents, monkeypatch):
    """An unfinished folder with the vectors of 32 of 60 documents."""
    monkeypatch.setattr(change, "EMBEDDED", 16)

    class Tiring(word_sum):
        def encode(self, texts, **options):
            if self.asked >= 32:
                raise KeyboardInterrupt
            return super().encode(texts, **options)

    with pytest.raises(KeyboardInterrupt):
        Index.build(documents(60), tmp_path / "i", encoder_path="m", loader=lambda path: Tiring())
    assert [p.name for p in tmp_path.iterdir()] == [".i.unfinished"]
    return tmp_path / ".i.unfinished" / DATABASE


def test_what_was_paid_for_is_checked_and_belongs_to_its_model(
    tmp_path, word_sum, documents, monkeypatch, capfd
):
    database = half_built(tmp_path, word_sum, documents, monkeypatch)
    assert "32 vectors are kept" in capfd.readouterr().err
    unfinished = database.parent
    shutil.copytree(unfinished, tmp_path / "copy")

    def build(model, some):
        shutil.rmtree(tmp_path / "i", ignore_errors=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(tmp_path / "copy", unfinished)
        yield unfinished / DATABASE
        Index.build(some, tmp_path / "i", encoder_path="m", loader=lambda path: model)
        assert verify(tmp_path / "i") == [] and not unfinished.exists()

    distinct = len({f"{d.title} {d.text}" for d in documents(60)})
    # Another model pays for all; so does one whose half-built record cannot be read.
    for model, stroke in (
        (word_sum("b"), None),
        (word_sum(), lambda p: p.write_bytes(p.read_bytes()[:20_000])),
    ):
        steps = build(model, documents(60))
        path = next(steps)
        if stroke:
            stroke(path)
        assert next(steps, None) is None and model.asked == distinct
    # A vector that is damaged is made again; of another input what it shares is used.
    steps = build(model := word_sum(), documents(60))
    connection = sqlite3.connect(next(steps))
    connection.execute("UPDATE embeddings SET vector = zeroblob(64) WHERE number = 5")
    connection.commit()
    connection.close()
    assert next(steps, None) is None and model.asked == distinct - 31
    steps = build(model := word_sum(), [*documents(60)[20:], Document("something else")])
    next(steps)
    assert next(steps, None) is None and model.asked == distinct - 32 + 1
    connection = sqlite3.connect(tmp_path / "i" / DATABASE)
    assert connection.execute("SELECT count(*) FROM embeddings").fetchone()[0] == 41
    connection.close()


def test_a_bad_document_is_told_of_before_the_model_is_asked(tmp_path, word_sum, documents):
    model = word_sum()
    with pytest.raises(DataError, match="'d1' occurs twice"):
        Index.build(
            [*documents(9), Document("x", "d1")], tmp_path / "i", encoder_path="m", loader=lambda p: model
        )
    assert model.asked == 0 and list(tmp_path.iterdir()) == []


def test_two_builds_of_one_index(tmp_path, documents):
    def slow():
        yield from documents(3)
        with pytest.raises(LockedError):
            Index.build(documents(3), tmp_path / "i", lock_timeout=0.1)

    Index.build(slow(), tmp_path / "i")
    assert Index.open(tmp_path / "i").info()["documents"] == 3


def test_equal_text_is_embedded_once(tmp_path, word_sum):
    model = word_sum()
    index = Index.build(
        [
            Document("one text", "a"),
            Document("one text", "b"),
            Document("two", "c"),
            Document("text", "d", "one"),
        ],
        tmp_path / "i",
        encoder_path="m",
        loader=lambda path: model,
    )
    assert (model.asked, index.changed.embedded, index.changed.cached) == (2, 2, 2)
    assert index.search("one text", mode="dense", k=3)[0][0].score == pytest.approx(1)
    model.asked = 0
    with Index.open(tmp_path / "i", writable=True, loader=lambda path: model) as opened:
        # Unchanged: no operation; another title of fields: no embedding; moved: none either.
        changed = opened.update([Document("one text", "a"), Document("two", "c")])
        assert (changed.unchanged, changed.updated, changed.embedded) == (2, 0, 0)
        assert opened._writer._store.meta()["last"] == 4
        changed = opened.update([Document("two", "c", fields={"year": 1})])
        assert (changed.updated, changed.embedded, changed.cached) == (1, 0, 1)
        changed = opened.add([Document("one text", "moved")])
        assert (changed.added, changed.embedded) == (1, 0)
        assert model.asked == 0
        changed = opened.update([Document("new words", "a"), Document("new words", "e")])
        assert (changed.updated, changed.added, changed.embedded, model.asked) == (1, 1, 1, 1)
        opened.delete(["b", "moved", "d"])
        opened.compact()
        changed = opened.add([Document("two", "f"), Document("one text", "g")])
        assert (changed.embedded, changed.cached) == (1, 1)  # what no document had any more was forgotten
    assert verify(tmp_path / "i") == []


def test_updates_need_no_model_where_no_text_is_new(tmp_path, loader, documents):
    Index.build(documents(20), tmp_path / "i", encoder_path="m", loader=loader)

    def absent(path):
        raise AssertionError("the model was opened")

    with Index.open(tmp_path / "i", writable=True, loader=absent) as opened:
        assert opened.update(documents(20)).unchanged == 20
        d3 = documents(20)[3]
        opened.delete(["d3"])
        assert opened.add([Document(d3.text, "other", d3.title)]).cached == 1


def test_passages(tmp_path, word_sum):
    pytest.importorskip("semantic_text_splitter")
    long = " ".join(f"filler{i}" for i in range(60)) + ". The red cat sat here. " + "more words. " * 40
    model = word_sum()
    texts = [Document(long, "long", "Title"), Document("a blue dog", "short"), Document("", "empty")]
    index = Index.build(texts, tmp_path / "i", encoder_path="m", loader=lambda path: model, chunks="30/5")
    about = index.info()
    assert about["documents"] == 3 and about["passages"] > 8 and about["chunk"] == "30/5 tokens"
    for mode in ("bm25", "dense", "hybrid"):
        (hit, *_) = index.search("red cat", mode=mode, k=3)[0]
        assert hit.id == "long" and len(hit.passage) < 400
        assert mode == "dense" or "red cat" in hit.passage
        ids = [h.id for h in index.search("red cat filler1 words dog", mode=mode, k=3)[0]]
        assert len(ids) == len(set(ids))
    with Index.open(tmp_path / "i", writable=True, loader=lambda path: model) as opened:
        model.asked = 0
        opened.update([Document(long + " One more sentence about trees.", "long", "Title")])
        assert 0 < model.asked <= 3  # the passages before it are as they were
        opened.add([Document(long, "again", "Title")])
        opened.delete(["long"])
        assert opened.search("red cat", k=1)[0][0].id == "again"
        opened.compact()
    assert Index.open(tmp_path / "i", loader=lambda path: model).search("red cat", k=1)[0][0].id == "again"
    assert verify(tmp_path / "i") == []
    with pytest.raises(UsageError, match="--chunk"):
        Index.build(texts, tmp_path / "j", chunks="5/9")


def test_options_of_the_vector_store_reach_it(tmp_path, loader, documents):
    index = Index.build(
        documents(40), tmp_path / "i", encoder_path="m", loader=loader, dense={"factory": "HNSW8,Flat"}
    )
    assert "HNSW" in str(index.info()["dense"])
    with pytest.raises(UsageError):
        Index.build(
            documents(4), tmp_path / "j", encoder_path="m", loader=loader, dense={"factory": "nonsense"}
        )
    assert not (tmp_path / "j").exists()
    keys = np.load(next((tmp_path / "i").glob("derived-*/keys.npy")))
    assert len(keys) == 40


def test_hidden_files_of_a_folder_on_request(tmp_path, capsys):
    from nlpkit.cli import run

    (tmp_path / "notes").mkdir()
    for name in ("plain.txt", ".secret.txt"):
        (tmp_path / "notes" / name).write_text(f"words of {name}")
    made = str(tmp_path / "i")
    assert run(["index", "build", str(tmp_path / "notes"), "-o", made]) == 0
    assert "1 hidden" in capsys.readouterr().err
    assert run(["index", "update", made, str(tmp_path / "notes"), "--hidden"]) == 0
    with Index.open(made) as index:
        assert {hit.id for hit in index.search("words", k=9)[0]} == {"plain.txt", ".secret.txt"}
