"""Killed or refused at any point, an index keeps what was acknowledged, and a crash is not taken for damage."""

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import time

import pytest

from nlpkit.errors import DiskError, NlpkitError
from nlpkit.search import connections, writer
from nlpkit.search.folder import MARKER
from nlpkit.search.index import Index
from nlpkit.search.verify import verify
from nlpkit.text.documents import Document

ADD_POINTS = ["marked", "changed", "committed", "derived", "checkpointed", "settled", "sealed", "unmarked"]


def nlpkit(*words, fault="", text="", **options):
    environment = {**os.environ, "NLPKIT_FAULT": fault}
    return subprocess.run(
        [sys.executable, "-m", "nlpkit", *map(str, words)],
        input=text, capture_output=True, text=True, env=environment, **options,
    )  # fmt: skip


def ids(path, word="shared", mode="bm25"):
    return {h.id for h in Index.open(path).search(word, k=1000, mode=mode)[0]}


@pytest.fixture
def index(tmp_path):
    Index.build([Document(f"shared word{i}", f"d{i}") for i in range(20)], tmp_path / "i")
    with Index.open(tmp_path / "i", writable=True) as opened:
        opened.delete(["d3"])
    return tmp_path / "i"


OLD = {f"d{i}" for i in range(20)} - {"d3"}


@pytest.mark.parametrize("point", ADD_POINTS)
def test_killed_while_adding(index, tmp_path, point):
    new = tmp_path / "new.jsonl"
    count = writer.TAIL_LIMIT + 10  # enough to write derived files, too
    new.write_text("".join(f'{{"id": "n{i}", "text": "shared fresh{i}"}}\n' for i in range(count)))
    killed = nlpkit("index", "add", index, new, fault=point)
    assert killed.returncode == -9, killed.stderr
    expected = OLD if point in ("marked", "changed") else OLD | {f"n{i}" for i in range(count)}
    assert (index / MARKER).exists() == (point != "unmarked")
    assert verify(index) == []
    assert ids(index) == expected
    if len(expected) > len(OLD):
        assert Index.open(index).search("fresh7")[0][0].id == "n7"
    with Index.open(index, writable=True) as opened:  # the next writer settles the folder
        opened.delete(["d5"])
    assert ids(index) == expected - {"d5"}
    assert not (index / MARKER).exists() and verify(index) == []
    assert not [p for p in index.iterdir() if "tmp" in p.name or p.name.endswith(("-wal", "-shm"))]
    assert len(list(index.glob("derived-*"))) == 1


@pytest.mark.parametrize(
    "point", ["marked", "derived", "folded", "trimmed", "checkpointed", "settled", "sealed"]
)
def test_killed_while_compacting(index, point):
    killed = nlpkit("index", "compact", index, fault=point)
    assert killed.returncode == -9, killed.stderr
    assert verify(index) == [] and ids(index) == OLD
    with Index.open(index, writable=True) as opened:
        opened.add([Document("shared late", "late")])
    assert verify(index) == [] and ids(index) == OLD | {"late"}


def test_killed_while_building_leaves_nothing_in_the_way(index, tmp_path):
    (tmp_path / "a.txt").write_text("one shared\n\ntwo shared\n")
    for target in (tmp_path / "fresh", index):
        words = ("index", "build", tmp_path / "a.txt", "-o", target, "--force")
        assert nlpkit(*words, fault="built").returncode == -9
        assert target.exists() == (target == index)
    assert ids(index) == OLD and verify(index) == []
    done = nlpkit(*words)
    assert done.returncode == 0 and len(ids(index)) == 2
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".i.")] == []


def test_tables_that_were_not_all_made_are_none(tmp_path, monkeypatch):
    """A build that ends between two tables leaves no database that the next one trips over."""
    whole = connections.TABLES
    monkeypatch.setattr(
        connections, "TABLES", whole.replace("CREATE TABLE meta", "SELECT nothing(); CREATE TABLE meta")
    )
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(NlpkitError):
        connections.create(folder)
    monkeypatch.setattr(connections, "TABLES", whole)
    store = connections.create(folder)
    store.connection.execute("BEGIN IMMEDIATE")
    store.clear()
    store.commit()
    store.connection.close()


_LOOP = """
import sys
from nlpkit.search import connections, writer
from nlpkit.search.index import Index
from nlpkit.text.documents import Document
writer.TAIL_LIMIT = 3
first = int(sys.argv[2])
with Index.open(sys.argv[1], writable=True) as index:
    for i in range(first, first + 1000):
        index.add([Document(f"shared loop{i}", f"k{i}")])
        if i % 3 == 0:
            index.delete([f"k{i}"])
        print(i, flush=True)
"""


def test_killed_at_random_moments(index):
    """Acknowledged additions are found, acknowledged deletions stay gone, whatever the moment."""
    luck, first, kept = random.Random(0), 0, set()
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _LOOP, str(index), str(first)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        reader = Index.open(index)  # beside the living writer
        assert f"k{first + 1}" not in reader.search("nothing")[0]
        assert OLD <= {h.id for h in reader.search("shared", k=5000)[0]}
        time.sleep(luck.random() / 4)
        process.kill()
        said = [first, *map(int, process.stdout.read().split())]
        process.wait()
        process.stdout.close()
        kept |= {f"k{i}" for i in said if i % 3}
        assert verify(index) == []
        found = ids(index)
        assert OLD | kept <= found
        # The one that was under way may be there or not; no other one is, and the deleted ones are not.
        assert found - OLD - kept <= {f"k{said[-1] + 1}"}
        kept = found - OLD
        first = said[-1] + 2
    with Index.open(index, writable=True):
        pass
    assert verify(index) == [] and ids(index) == OLD | kept


def test_full_disk_inside_sqlite(index, monkeypatch):
    connect = writer.connect

    def small(folder):
        opened = connect(folder)
        pages = opened.connection.execute("PRAGMA page_count").fetchone()[0]
        opened.connection.execute(f"PRAGMA max_page_count={pages}")
        return opened

    monkeypatch.setattr(writer, "connect", small)
    with Index.open(index, writable=True) as opened:
        with pytest.raises(DiskError, match="full"):
            opened.add([Document("shared " + "x" * 50_000, "big")])
    assert ids(index) == OLD and verify(index) == []
    assert not (index / MARKER).exists()


def test_file_size_limit_of_the_process(index, tmp_path):
    (tmp_path / "big.txt").write_text("shared " + "word " * 400_000)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = nlpkit("index", "add", index, tmp_path / "big.txt", preexec_fn=limit)
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert ids(index) == OLD and verify(index) == []
    with Index.open(index, writable=True) as opened:
        opened.add([Document("shared after", "after")])
    assert ids(index) == OLD | {"after"} and verify(index) == []


@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "unlink"])
def test_the_nth_call_fails_for_every_n(index, tmp_path, monkeypatch, call):
    """SQLite's way: fail the n-th system call, for every n, until a run needs fewer."""
    monkeypatch.setattr(writer, "TAIL_LIMIT", 0)
    real = getattr(os, call) if call != "fsync" else lambda handle: None  # nothing loses its power here
    state = {"left": 0}

    def failing(*words, **options):
        state["left"] -= 1
        if state["left"] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*words, **options)

    for n in range(1, 60):
        copy = tmp_path / f"c{n}"
        shutil.copytree(index, copy)
        monkeypatch.setattr(os, call, failing)
        state["left"] = n
        done = False
        try:
            with Index.open(copy, writable=True) as opened:
                opened.add([Document("shared new", "new")])
                done = True
        except (OSError, NlpkitError):
            pass
        monkeypatch.setattr(os, call, real)
        assert verify(copy) == [], n
        found = ids(copy)
        assert found in (OLD, OLD | {"new"}), n
        assert "new" in found or not done, n
        with Index.open(copy, writable=True) as opened:
            opened.add([Document("shared later", "later")])
        assert verify(copy) == [] and ids(copy) == found | {"later"}, n
        if state["left"] > 0:
            assert n > 1
            return
    raise AssertionError("no run without a failure")
