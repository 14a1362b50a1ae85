"""Building, changing and asking an index; what is incremental equals what is rebuilt."""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from nlpkit.errors import ArtifactError, DataError, LockedError, UsageError
from nlpkit.search import writer
from nlpkit.search.index import Index
from nlpkit.search.verify import verify
from nlpkit.text.documents import Document
from nlpkit.text.standardize import Recipe

QUERIES = ["red cat", "open the file", "title 7 stone", "bird"]


def answers(index, mode, k=8):
    return [[(h.id, round(h.score, 5)) for h in hits] for hits in index.search(QUERIES, k=k, mode=mode)]


@pytest.mark.parametrize("limit", [0, 5, 1000])
def test_incremental_equals_rebuilt(tmp_path, monkeypatch, loader, documents, limit):
    monkeypatch.setattr(writer, "TAIL_LIMIT", limit)
    some = documents(60)
    Index.build(some[:30], tmp_path / "a", encoder_path="m", loader=loader)
    reader = Index.open(tmp_path / "a", loader=loader)
    with Index.open(tmp_path / "a", writable=True, loader=loader) as index:
        index.add(some[30:40])
        whole = f"{some[35].title} {some[35].text}"
        assert reader.search(whole, mode="dense", k=1)[0][0].score == pytest.approx(1, abs=1e-5)
        index.delete(["d3", "d35"])
        index.add(some[40:])
        changed = index.add([Document("completely new words", "d5"), Document("x", "new")], update=True)
        assert (changed.updated, changed.added) == (1, 1)
        index.delete(["new"])
    left = [d for d in some if d.id not in ("d3", "d35", "d5")]
    again = Index.build(
        [*left, Document("completely new words", "d5")], tmp_path / "b", encoder_path="m", loader=loader
    )
    for mode in ("bm25", "dense", "hybrid"):
        assert answers(reader, mode) == answers(again, mode)
        assert answers(Index.open(tmp_path / "a", loader=loader), mode) == answers(again, mode)
    assert verify(tmp_path / "a") == []
    assert reader.info()["documents"] == 58
    with Index.open(tmp_path / "a", writable=True, loader=loader) as index:
        index.compact()
    assert answers(reader, "hybrid") == answers(again, "hybrid")
    assert reader.info()["unfolded_operations"] == 0 and verify(tmp_path / "a") == []
    assert [p.name for p in tmp_path.glob("a/derived-*")] == [s["folder"] for s in reader.info()["segments"]]


def test_every_mode_finds_a_document_by_its_own_text(tmp_path, loader, documents):
    some = documents(25)
    index = Index.build(some, tmp_path / "i", encoder_path="m", loader=loader)
    for document in some:
        query = f"{document.title} {document.text}"
        (hits,) = index.search(query, k=25, mode="dense")
        assert document.id in [h.id for h in hits if h.score > 0.999]
        (hit, *_), text = index.search(query, mode="hybrid")[0], {d.id: d.text for d in some}
        assert hit.text == text[hit.id] and set(hit.parts) == {"bm25", "dense"}
    assert index.search("red cat") == index.search("red cat", mode="hybrid")


def test_hybrid_scores_are_what_the_formula_says(tmp_path, loader, documents):
    index = Index.build(documents(40), tmp_path / "i", encoder_path="m", loader=loader)
    pool = 7
    bm25, dense = (index.search("red cat", k=40, mode=m)[0] for m in ("bm25", "dense"))
    words = {h.id: h.score for h in bm25}
    meaning = {h.id: h.score for h in dense}
    union = {h.id for h in bm25[:pool]} | {h.id for h in dense[:pool]}
    most, low, high = (
        max(words[i] for i in union if i in words),
        min(meaning[i] for i in union),
        max(meaning[i] for i in union),
    )
    expected = {i: 0.7 * words.get(i, 0) / most + 0.3 * (meaning[i] - low) / (high - low) for i in union}
    found = index.search("red cat", k=5, mode="hybrid", weight=0.3, pool=pool)[0]
    assert [h.score for h in found] == pytest.approx(sorted(expected.values(), reverse=True)[:5], abs=1e-5)
    assert all(h.score == pytest.approx(expected[h.id], abs=1e-5) for h in found)


def test_ids_titles_fields_and_empty_documents(tmp_path):
    index = Index.build(
        [
            Document("the same"),
            Document("the same"),
            Document("", "empty", "", {"n": 1, "list": ["a", None]}),
            Document("bad \ud800 surrogate", "s", "Ünï"),
        ],
        tmp_path / "i",
    )
    assert (
        index.changed.words() == "3 added, 1 without an id left out because the same text is there, 1 empty"
    )
    (hit,) = index.search("uni")[0]
    assert (hit.id, hit.title, hit.text) == ("s", "Ünï", "bad ? surrogate")
    with Index.open(tmp_path / "i", writable=True) as opened:
        assert opened.add([Document("the same")]).same == 1
        assert opened.add([]).added == 0
        opened.add([Document("find me", "f", fields={"n": [1]})])
    assert index.search("find")[0][0].fields == {"n": [1]}


def test_refusals_leave_everything_as_it_was(tmp_path, documents):
    index = Index.build(documents(5), tmp_path / "i")
    before = answers(index, "bm25")
    with Index.open(tmp_path / "i", writable=True) as opened:
        with pytest.raises(DataError, match=r"'d2'.*nlpkit index update"):
            opened.add([Document("fresh words", "x"), Document("again", "d2")])
        with pytest.raises(DataError, match=r"'nobody'.*nothing was deleted"):
            opened.delete(["d1", "nobody"])

        def broken():
            yield Document("one", "y")
            raise DataError("line 2 is not JSON")

        with pytest.raises(DataError, match="line 2"):
            opened.add(broken())
    assert answers(index, "bm25") == before and index.search("fresh") == [[]]
    assert verify(tmp_path / "i") == []
    with pytest.raises(UsageError, match="writable"):
        index.add([Document("z")])
    with pytest.raises(DataError, match="'a' occurs twice"):
        Index.build([Document("x", "a"), Document("y", "a")], tmp_path / "j")
    with pytest.raises(DataError, match="empty"):
        Index.build([], tmp_path / "j")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i"]
    with pytest.raises(UsageError, match="exists"):
        Index.build(documents(1), tmp_path / "i")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("text")
    with pytest.raises(UsageError, match="not an index"):
        Index.build(documents(1), tmp_path / "precious", force=True)
    assert (tmp_path / "precious" / "thesis.txt").exists()
    Index.build(documents(1), tmp_path / "i", force=True)
    assert index.info()["documents"] == 1  # a reader that stayed open sees the new index


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "bm52"}, "did you mean 'bm25'"),
        ({"mode": "dense"}, "without a model"),
        ({"k": 0}, "1 or more"),
        ({"weight": 1.5}, "between 0"),
        ({"fusion": "sum"}, "unknown fusion"),
    ],
)
def test_wrong_questions(tmp_path, documents, options, message):
    index = Index.build(documents(3), tmp_path / "i")
    with pytest.raises(UsageError, match=message):
        index.search("red", **options)


def test_another_model_is_refused_but_bm25_works(tmp_path, loader, word_sum, documents):
    (tmp_path / "model").mkdir()
    index = Index.build(documents(9), tmp_path / "x" / "i", encoder_path=tmp_path / "model", loader=loader)
    assert index.settings.encoder == os.path.join("..", "..", "model")
    seen = []

    def other(path):
        seen.append(path)
        return word_sum("b")

    opened = Index.open(tmp_path / "x" / "i", loader=other)
    assert opened.search("red", mode="bm25") == index.search("red", mode="bm25") and not seen
    for mode in ("dense", "hybrid"):
        with pytest.raises(ArtifactError, match=r"another model/tokenizer.*nlpkit index build"):
            opened.search("red", mode=mode)
    assert seen[0] == str(tmp_path / "model")
    opened = Index.open(tmp_path / "x" / "i", writable=True, loader=other)
    with opened as changed, pytest.raises(ArtifactError, match="another model"):
        changed.add([Document("mixed vectors")])
    # Moved together, they still find each other.
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "x", tmp_path / "moved" / "x")
    shutil.move(tmp_path / "model", tmp_path / "moved" / "model")
    moved = Index.open(tmp_path / "moved" / "x" / "i", loader=lambda path: seen.append(path) or word_sum())
    assert moved.search("red") and seen[-1] == str(tmp_path / "moved" / "model")


def test_a_recipe_of_ones_own(tmp_path):
    recipe = Recipe(("lower", "stopwords:custom"), ("red",))
    Index.build([Document("Red files", "a"), Document("red file", "b")], tmp_path / "i", recipe=recipe)
    index = Index.open(tmp_path / "i")
    assert index.search("red") == [[]]
    assert [h.id for h in index.search("FILES")[0]] == ["a"]


def test_one_writer_at_a_time(tmp_path, documents):
    Index.build(documents(3), tmp_path / "i")
    with Index.open(tmp_path / "i", writable=True):
        with pytest.raises(LockedError, match="is writing"):
            writer.Writer(tmp_path / "i", timeout=0.1)
        assert Index.open(tmp_path / "i").search("red")  # readers are not held up
    with Index.open(tmp_path / "i", writable=True) as again:
        again.delete(["d0"])
    assert (tmp_path / "i" / ".lock").read_bytes() == b""


def test_readers_beside_a_writer_see_whole_states(tmp_path, monkeypatch, loader, documents):
    """Each search sees some prefix of the additions: all ids d0 … dn of the word that all documents share."""
    monkeypatch.setattr(writer, "TAIL_LIMIT", 6)
    Index.build([Document("shared 0", "d0")], tmp_path / "i", encoder_path="m", loader=loader)
    stop, wrong, looks = threading.Event(), [], [0]

    def look():
        reader, last = Index.open(tmp_path / "i", loader=loader), 0
        while not stop.is_set():
            try:
                mode = ("bm25", "dense")[looks[0] % 2]
                ids = {h.id for h in reader.search("shared", k=100, mode=mode)[0]}
                if ids != {f"d{i}" for i in range(len(ids))} or len(ids) < last:
                    wrong.append(sorted(ids))
                last = len(ids)
                looks[0] += 1
            except Exception as error:
                wrong.append(repr(error))
                return

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    with Index.open(tmp_path / "i", writable=True, loader=loader) as index:
        for i in range(1, 25):
            index.add([Document(f"shared {i}", f"d{i}")])
            if i % 10 == 0:
                index.compact()
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong and looks[0] > 3
    assert len(Index.open(tmp_path / "i").search("shared", k=100, mode="bm25")[0]) == 25
    assert verify(tmp_path / "i") == []


def test_bm25_needs_no_torch_and_no_faiss(tmp_path):
    (tmp_path / "a.txt").write_text("one file\n\ntwo cats\n")
    code = (
        "import sys; from nlpkit.search.index import Index; from nlpkit.text.documents import read_documents as r;"
        f"Index.build(r([{str(tmp_path / 'a.txt')!r}]), {str(tmp_path / 'i')!r}).search('cats');"
        "print([m for m in ('torch', 'faiss', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_closed_folder_is_one_file_a_manifest_and_derived(tmp_path, loader, documents):
    Index.build(documents(4), tmp_path / "i", encoder_path="m", loader=loader)
    with Index.open(tmp_path / "i", writable=True, loader=loader) as index:
        index.add([Document("late", "late")])
    Index.open(tmp_path / "i", loader=loader).search("late")
    names = sorted(p.name for p in (tmp_path / "i").iterdir())
    assert names == [".lock", "MANIFEST.json", "derived-000001", "documents.sqlite", "documents.sums.npy"]
    sealed = json.loads((tmp_path / "i" / "MANIFEST.json").read_text())
    assert sealed["nlpkit"] == "index" and sealed["made_with"]["model"] == "word-sum-a"
    keys = np.load(tmp_path / "i" / "derived-000001" / "keys.npy", allow_pickle=False)
    assert (keys >> 20).tolist() == [1, 2, 3, 4]


def test_a_mode_opens_only_its_own_files(tmp_path, loader, documents):
    Index.build(documents(30), tmp_path / "i", encoder_path="m", loader=loader)
    for kind, other in (("bm25", "dense"), ("vector", "bm25")):
        shutil.copytree(tmp_path / "i", tmp_path / kind)
        for path in (tmp_path / kind).glob(f"derived-*/{kind}*"):
            path.unlink()
        index = Index.open(tmp_path / kind, loader=loader)
        assert index.search("red cat", mode=other)[0]
        with pytest.raises(ArtifactError, match="missing"):
            index.search("red cat", mode="hybrid")
