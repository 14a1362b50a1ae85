"""Any flipped bit in any file of an index is found, nothing is answered from it, and nothing is deleted."""

import random
import shutil

import pytest

from nlpkit.cli import run
from nlpkit.errors import ArtifactError, LockedError
from nlpkit.search import folder as folders
from nlpkit.search.index import Index
from nlpkit.search.store import DATABASE
from nlpkit.search.verify import verify
from nlpkit.text.documents import Document


@pytest.fixture
def index(tmp_path, loader, documents):
    Index.build(documents(40), tmp_path / "i", encoder_path="m", loader=loader)
    with Index.open(tmp_path / "i", writable=True, loader=loader) as opened:
        opened.add([Document("late addition", "late")])
        opened.delete(["d7"])
    return tmp_path / "i"


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def flip(path, luck):
    raw = bytearray(path.read_bytes())
    at = luck.randrange(8 * len(raw))
    raw[at // 8] ^= 1 << at % 8
    path.write_bytes(bytes(raw))


def restore(folder, whole):
    shutil.rmtree(folder)
    for part, raw in whole.items():
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_bytes(raw)


def targets(folder):
    return sorted(n for n, raw in content(folder).items() if raw)


def test_random_flips_in_every_file(index, loader):
    luck, whole = random.Random(5), content(index)
    names = targets(index)
    assert len(names) >= 10
    for i in range(80):
        name = names[i % len(names)]
        flip(index / name, luck)
        damaged = content(index)
        assert verify(index), name
        with pytest.raises(ArtifactError):
            Index.open(index, loader=loader).search("red cat")
        if "/" not in name:
            with pytest.raises(ArtifactError), Index.open(index, writable=True, loader=loader) as opened:
                opened.add([Document("x", "x")])
            with pytest.raises(ArtifactError), Index.open(index, writable=True, loader=loader) as opened:
                opened.compact()
            assert content(index) == damaged
        else:
            try:
                with Index.open(index, writable=True, loader=loader) as opened:
                    opened.compact()
            except ArtifactError:
                assert content(index)[name] == damaged[name]
                assert verify(index), name
            else:  # what was damaged was not needed: the vectors of a folder with deletions come from the rows
                assert name.endswith("vectors.faiss") and verify(index) == []
        restore(index, whole)
    assert verify(index) == []


def test_verbs_exit_4_without_output(tmp_path, documents, capfd):
    folder = tmp_path / "i"
    Index.build(documents(30), folder)
    luck, whole = random.Random(1), content(folder)
    for name in targets(folder):
        flip(folder / name, luck)
        for words in (["search", folder, "red cat"], ["index", "info", folder], ["index", "verify", folder]):
            assert run([str(w) for w in words]) == 4, (name, words)
            said = capfd.readouterr()
            assert said.out == "" and "nlpkit: " in said.err
        restore(folder, whole)
    assert run(["search", str(folder), "red cat"]) == 0 and capfd.readouterr().out


def test_cut_missing_zeroed_swapped_and_stray_files(index, loader):
    whole = content(index)
    names = targets(index)
    derived = [n for n in names if n.startswith("derived-") and n.endswith(".npy")]
    strokes = [(n, lambda p: p.write_bytes(p.read_bytes()[:-1])) for n in names]
    strokes += [(n, lambda p: p.unlink()) for n in names]
    strokes += [(n, lambda p: p.write_bytes(bytes(p.stat().st_size))) for n in names]
    strokes += [(derived[0], lambda p: shutil.copy(index / derived[1], p))]
    for name, stroke in strokes:
        stroke(index / name)
        assert verify(index), name
        with pytest.raises(ArtifactError):
            Index.open(index, loader=loader).search("red cat")
        restore(index, whole)
    (index / "notes.txt").write_text("hello")
    assert "not part of the index" in verify(index)[0]
    (index / "notes.txt").unlink()
    (index / f"{DATABASE}-wal").write_bytes(b"a log from elsewhere")
    assert any("wal" in p for p in verify(index))
    with pytest.raises(ArtifactError, match="wal"):
        Index.open(index, loader=loader)


def test_derived_files_can_be_made_again(index, loader):
    before = Index.open(index, loader=loader).search("red cat")
    flip(next(index.glob("derived-*/vectors.faiss")), random.Random(2))
    flip(next(index.glob("derived-*/bm25-counts.npy")), random.Random(3))
    with pytest.raises(ArtifactError, match=r"nlpkit index compact .* --rebuild"):
        Index.open(index, loader=loader)
    with Index.open(index, writable=True, loader=loader) as opened:
        opened.compact(rebuild=True)
    assert verify(index) == []
    after = Index.open(index, loader=loader).search("red cat")
    assert [h.id for h in after[0]] == [h.id for h in before[0]]


def crashed(index, loader):
    with Index.open(index, writable=True, loader=loader) as opened:
        words = " ".join(f"word{i}" for i in range(20_000))
        opened.add([Document(f"unsettled {words}", "unsettled")])
    folders.mark(index, "add")


def test_flips_after_a_crash_are_found_or_change_nothing(index, loader):
    """Bytes that hold nothing (free space of a page) can flip unseen; whatever is read is checked."""
    crashed(index, loader)
    expected = Index.open(index, loader=loader).search(["red cat", "unsettled"], k=50)
    luck, whole, found = random.Random(4), (index / DATABASE).read_bytes(), 0
    for _ in range(60):
        flip(index / DATABASE, luck)
        if verify(index):
            found += 1
            with pytest.raises(ArtifactError):
                Index.open(index, loader=loader)
        else:
            assert Index.open(index, loader=loader).search(["red cat", "unsettled"], k=50) == expected
        (index / DATABASE).write_bytes(whole)
    assert found > 30


def test_rows_of_a_large_database_are_checked_as_they_are_touched(index, loader, monkeypatch):
    monkeypatch.setattr(folders, "HASHED_UP_TO", 0)
    path = index / DATABASE
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"title 11", b"title 99"))
    opened = Index.open(index, loader=loader)
    assert opened.search("late addition", mode="bm25", k=3)
    with pytest.raises(ArtifactError, match="row 12 is damaged"):
        opened.search("title 11", mode="bm25")
    assert any("row 12" in p for p in verify(index))
    with pytest.raises(ArtifactError, match="SHA-256"), Index.open(index, writable=True, loader=loader):
        pass


def test_damaged_marker_and_living_writer(index, loader):
    with Index.open(index, writable=True, loader=loader) as opened, opened._writing().change("nothing"):
        with pytest.raises(LockedError):
            verify(index)
        assert Index.open(index, loader=loader).search("red")
    folders.mark(index, "add")
    flip(index / folders.MARKER, random.Random(0))
    assert "damaged" in verify(index)[0]
    with pytest.raises(ArtifactError, match=r"open\.json"):
        Index.open(index, loader=loader)
