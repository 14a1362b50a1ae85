"""Any change to any byte of an index is found before it is used, and nothing is deleted.

``NLPKIT_FULL=1`` makes a thousand corruptions of each kind of file instead of ten.
"""

import os
import random
import shutil

import pytest

from nlpkit.cli import run
from nlpkit.errors import ArtifactError, LockedError
from nlpkit.search import folder as folders
from nlpkit.search.index import Index
from nlpkit.search.store import DATABASE, Store
from nlpkit.search.verify import verify
from nlpkit.text.documents import Document

TIMES = 1000 if os.environ.get("NLPKIT_FULL") else 10


@pytest.fixture
def index(tmp_path, loader, documents, monkeypatch):
    from nlpkit.search import writer

    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nothing is killed here

    some = [Document(d.text, d.id, d.title, {"n": i}) for i, d in enumerate(documents(60))]
    Index.build(some[:50], tmp_path / "i", encoder_path="m", loader=loader)
    monkeypatch.setattr(writer, "TAIL_LIMIT", 4)
    monkeypatch.setattr(writer, "SHARE", 9)
    with Index.open(tmp_path / "i", writable=True, loader=loader) as opened:
        opened.add(some[50:])  # a small segment
        opened.add([Document("late addition", "late")])
        opened.delete(["d7"])
    assert len(list((tmp_path / "i").glob("derived-*"))) == 2
    return tmp_path / "i"


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def flip(path, luck):
    raw = bytearray(path.read_bytes())
    at = luck.randrange(8 * len(raw))
    raw[at // 8] ^= 1 << at % 8
    path.write_bytes(bytes(raw))


def corrupted(raw, other, luck):
    """Something that is not ``raw``."""
    raw = bytearray(raw)
    at = luck.randrange(len(raw))
    stroke = luck.randrange(6)
    if stroke < 2:
        raw[at] ^= 1 << luck.randrange(8)
    elif stroke == 2:
        raw[at : at + 4096] = bytes(len(raw[at : at + 4096]))
    elif stroke == 3:
        raw = raw[:at]
    elif stroke == 4:
        raw += luck.randbytes(luck.randrange(1, 100))
    else:
        raw = bytearray(other)
    return bytes(raw)


def restore(folder, whole):
    shutil.rmtree(folder)
    for part, raw in whole.items():
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_bytes(raw)


def targets(folder):
    return sorted(n for n, raw in content(folder).items() if raw)


def answers(folder, loader):
    opened = Index.open(folder, loader=loader)
    found = [opened.search(["red cat", "title 7"], k=20, mode=m) for m in ("bm25", "dense", "hybrid")]
    return [*found, opened.search("red", where="n > 20", k=20)]


@pytest.mark.parametrize("torn", [b"CREATE \xb5ABLE documents", b"CREATE TABLE \xb5ocuments"])
def test_a_schema_that_is_no_text(index, loader, torn):
    database = index / DATABASE
    raw = database.read_bytes()
    assert raw.count(b"CREATE TABLE documents") == 1
    database.write_bytes(raw.replace(b"CREATE TABLE documents", torn))
    assert "damaged" in " ".join(verify(index))
    with pytest.raises(ArtifactError, match="damaged"):
        answers(index, loader)


def test_random_corruptions_of_every_file(index, loader):
    luck, whole = random.Random(5), content(index)
    expected, names = answers(index, loader), targets(index)
    assert len(names) >= 30
    silent = set()
    for name in names:
        for _ in range(TIMES):
            damaged = corrupted(whole[name], whole[luck.choice(names)], luck)
            if damaged == whole[name]:
                continue
            (index / name).write_bytes(damaged)
            assert verify(index), name
            try:
                assert answers(index, loader) == expected, name
                silent.add(name)
            except ArtifactError:
                pass
            (index / name).write_bytes(whole[name])
    # Only what no search reads may be damaged without a search that says so.
    assert all("/ids-" in name or "/columns-" in name or "vectors" in name for name in silent), silent
    assert verify(index) == []


def test_writers_change_nothing_in_a_damaged_index(index, loader):
    luck, whole = random.Random(6), content(index)
    expected = answers(index, loader)
    for name in targets(index):
        flip(index / name, luck)
        damaged = content(index)
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
                assert content(index)[name] == damaged[name] and verify(index), name
            else:  # what was damaged was not needed
                assert verify(index) == [] and answers(index, loader) == expected, name
            with Index.open(index, writable=True, loader=loader) as opened:
                opened.compact(rebuild=True)
            assert verify(index) == [] and answers(index, loader) == expected, name
        restore(index, whole)
    assert verify(index) == []


def test_verbs_exit_4_without_output(tmp_path, documents, capfd):
    folder = tmp_path / "i"
    Index.build(documents(30), folder)
    luck, whole = random.Random(1), content(folder)
    for name in targets(folder):
        flip(folder / name, luck)
        assert run(["index", "verify", str(folder)]) == 4, name
        said = capfd.readouterr()
        assert said.out == "" and "nlpkit: " in said.err
        if "columns-" not in name and "ids-" not in name:
            assert run(["search", str(folder), "red cat"]) == 4, name
            said = capfd.readouterr()
            assert said.out == "" and "nlpkit: " in said.err
        restore(folder, whole)
    assert run(["search", str(folder), "red cat"]) == 0 and capfd.readouterr().out


def test_stray_files(index, loader):
    (index / "notes.txt").write_text("hello")
    assert "not part of the index" in verify(index)[0]
    (index / "notes.txt").unlink()
    (next(index.glob("derived-*")) / "more.npy").write_text("hello")
    assert "not part of the index" in verify(index)[0]
    (next(index.glob("derived-*")) / "more.npy").unlink()
    (index / f"{DATABASE}-wal").write_bytes(b"a log from elsewhere")
    assert any("wal" in p for p in verify(index))
    with pytest.raises(ArtifactError, match="wal"):
        Index.open(index, loader=loader)


def test_derived_files_can_be_made_again(index, loader):
    before = answers(index, loader)
    flip(next(index.glob("derived-*1/vectors*.npy")), random.Random(2))
    flip(next(index.glob("derived-*/keys.npy")), random.Random(3))
    with pytest.raises(ArtifactError, match=r"nlpkit index rebuild"):
        Index.open(index, loader=loader)
    with Index.open(index, writable=True, loader=loader) as opened:
        opened.compact(rebuild=True)
    assert verify(index) == []
    assert answers(index, loader) == before


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
    monkeypatch.setattr(folders, "READER_CHECKS", 0)
    path = index / DATABASE
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"title 11", b"title 99"))
    opened = Index.open(index, loader=loader)
    assert opened.search("late addition", mode="bm25", k=3)
    with pytest.raises(ArtifactError, match="row 12 is damaged"):
        opened.search("title 11", mode="bm25")
    assert any("row 12" in p for p in verify(index))
    with pytest.raises(ArtifactError, match="CRC-32"), Index.open(index, writable=True, loader=loader):
        pass


def test_a_lost_row_operation_or_id_is_damage(index, loader, monkeypatch):
    """What SQLite itself thinks whole: the record's own numbers and the derived files know better."""
    import sqlite3

    monkeypatch.setattr(folders, "READER_CHECKS", 0)
    monkeypatch.setattr(folders, "WRITER_CHECKS", 0)
    whole = (index / DATABASE).read_bytes()

    def strike(statement):
        (index / DATABASE).write_bytes(whole)
        connection = sqlite3.connect(index / DATABASE)
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(statement)
        connection.commit()
        connection.close()

    for statement, said in (
        ("DELETE FROM oplog WHERE seq = (SELECT max(seq) FROM oplog)", "operation"),
        ("DELETE FROM documents WHERE id = 'late'", "is missing"),
        ("DELETE FROM meta WHERE key = 'last'", "meta"),
        ("DELETE FROM documents WHERE id = 'd3'", "is missing"),
    ):
        strike(statement)
        with pytest.raises(ArtifactError, match=said):
            Index.open(index, loader=loader).search("title", k=100, mode="dense")
    # An id that the record does not find, though the derived files know its document, does not come to be twice.
    for statement, said in (
        ("UPDATE documents SET id = 'other' WHERE id = 'd5'", "row 6 is damaged"),
        ("DELETE FROM documents WHERE id = 'd5'", "row 6 is missing"),
    ):
        strike(statement)
        with pytest.raises(ArtifactError, match=said), Index.open(index, True, loader=loader) as opened:
            opened.add([Document("second", "d5")])
        with pytest.raises(ArtifactError, match=said), Index.open(index, True, loader=loader) as opened:
            opened.delete(["d5"])
    strike("UPDATE documents SET title = title")
    monkeypatch.setattr(Store, "find", lambda self, ids: {})
    for name in ("d5", "late"):
        with pytest.raises(ArtifactError, match="its id is not found"):
            with Index.open(index, True, loader=loader) as opened:
                opened.add([Document("second", name)])


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


def test_a_lost_marker_is_damage(index, loader, monkeypatch):
    opened = Index.open(index, writable=True, loader=loader)
    opened.add([Document(f"more {i}", f"m{i}") for i in range(6)])  # writes the manifest on the way
    shutil.copytree(index, index.parent / "copy")
    opened.close()
    (index.parent / "copy" / folders.MARKER).unlink()
    assert verify(index.parent / "copy")
    with pytest.raises(ArtifactError, match="was being written"):
        Index.open(index.parent / "copy", loader=loader)
