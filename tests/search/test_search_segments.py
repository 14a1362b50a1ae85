"""Whatever was folded when, an index answers as one that was built at once; and a change costs what it changes.

``NLPKIT_FULL=1`` lets the state machine run for long.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nlpkit.errors import DataError
from nlpkit.search import writer
from nlpkit.search.index import Index
from nlpkit.search.verify import verify
from nlpkit.text.documents import Document

FULL = bool(os.environ.get("NLPKIT_FULL"))
QUERIES = ["red cat", "river stone title 3", "open"]


def answers(index, k=30):
    """(ids and scores) of all modes, and of a condition."""
    found = []
    for mode in ("bm25", "dense", "hybrid"):
        found += index.search(QUERIES, k=k, mode=mode)
    found += index.search(QUERIES, k=k, mode="hybrid", where="n > 10 and not n = 17")
    # A document that was written again stands behind others that score the same.
    return [sorted((round(h.score, 4), h.id) for h in hits) for hits in found]


@pytest.mark.parametrize(("limit", "most", "share"), [(0, 2, 9), (2, 3, 0.4), (5, 1, 0.0)])
def test_any_sequence_of_folds_equals_a_rebuild(tmp_path, monkeypatch, loader, documents, limit, most, share):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    for name, value in {
        "TAIL_LIMIT": limit,
        "MOST_SMALL": most,
        "SHARE": share,
        "SHARE_OPEN": 3 * share,
    }.items():
        monkeypatch.setattr(writer, name, value)
    luck = np.random.default_rng(limit)
    some = [Document(d.text, d.id, d.title, {"n": i}) for i, d in enumerate(documents(80))]
    there = {d.id: d for d in some[:30]}
    Index.build(there.values(), tmp_path / "a", encoder_path="m", loader=loader)
    reader = Index.open(tmp_path / "a", loader=loader)
    most_segments = 0
    for step in range(40 if FULL else 6):
        with Index.open(tmp_path / "a", writable=True, loader=loader) as opened:
            for _ in range(int(luck.integers(1, 4))):
                new = [some[i] for i in luck.choice(80, int(luck.integers(1, 6)), replace=False)]
                new = [Document(d.text + " again" * (step % 2), d.id, d.title, d.fields) for d in new]
                opened.update(new)
                there.update((d.id, d) for d in new)
                gone = [str(i) for i in luck.choice(list(there), int(luck.integers(0, 4)), replace=False)]
                opened.delete(gone)
                for name in gone:
                    del there[name]
            most_segments = max(most_segments, len(opened.info()["segments"]))
        assert verify(tmp_path / "a") == []
        again = Index.build(there.values(), tmp_path / f"b{step}", encoder_path="m", loader=loader)
        expected = answers(again)
        assert answers(reader) == expected == answers(Index.open(tmp_path / "a", loader=loader)), step
        assert reader.info()["documents"] == len(there)
    assert (most_segments > 1) == (share > 0)
    with Index.open(tmp_path / "a", writable=True, loader=loader) as opened:
        opened.compact(rebuild=limit == 0)
    assert len(reader.info()["segments"]) == 1 and reader.info()["unfolded_operations"] == 0
    assert answers(reader) == expected and verify(tmp_path / "a") == []


def test_a_reader_keeps_its_view_over_small_folds(tmp_path, monkeypatch, loader, documents):
    """And where it needs a file that is gone by then, it looks again."""
    monkeypatch.setattr(writer, "TAIL_LIMIT", 3)
    monkeypatch.setattr(writer, "SHARE", 99)
    Index.build(documents(20), tmp_path / "i", encoder_path="m", loader=loader)
    with Index.open(tmp_path / "i", writable=True, loader=loader) as opened:
        opened.add([Document(f"fresh word{i}", f"f{i}") for i in range(4)])
        reader = Index.open(tmp_path / "i", loader=loader)
        assert reader.search("word3", mode="bm25")[0][0].id == "f3"
        view = reader._view
        assert len(view.parts) == 2
        monkeypatch.setattr(writer, "MOST_SMALL", 1)
        opened.add([Document(f"fresh word{i}", f"f{i}") for i in range(4, 8)])  # the small ones become one
        assert len(list((tmp_path / "i").glob("derived-*"))) == 2
        assert reader.search("word7", mode="bm25")[0][0].id == "f7" and reader._view is view
        assert {h.id for h in reader.search("fresh", mode="dense", k=30)[0]} >= {f"f{i}" for i in range(8)}
        assert reader._view is not view  # the vectors of the small segment that it had not opened are gone
        opened.compact()
        assert len(reader.search("fresh", mode="bm25")[0]) == 8 and len(reader._view.parts) == 1


def test_a_small_change_touches_few_files(tmp_path, word_sum, monkeypatch):
    class Cheap(word_sum):
        def encode(self, texts, **options):
            made = np.random.default_rng(len(texts)).normal(size=(len(texts), self.width)).astype(np.float32)
            return made / np.linalg.norm(made, axis=1, keepdims=True)

    count = 20_000 if FULL else 3000
    Index.build(
        (Document(f"shared word{i} text", f"d{i}") for i in range(count)),
        tmp_path / "i",
        encoder_path="m",
        loader=lambda path: Cheap(),
    )

    def seen():
        return {
            p.relative_to(tmp_path / "i").as_posix(): (
                p.stat().st_ino,
                p.stat().st_mtime_ns,
                p.stat().st_size,
            )
            for p in (tmp_path / "i").rglob("*")
            if p.is_file()
        }

    with Index.open(tmp_path / "i", writable=True, loader=lambda path: Cheap()) as opened:
        opened.add([Document("one fresh", "first")])
        before = seen()
        read = []
        monkeypatch.setattr("nlpkit.store.blocks.Checked._check", lambda self, blocks: read.append(self.path))
        opened.add([Document("one fresher", "second")])
        assert opened.search("fresher", mode="bm25")[0][0].id == "second"
        monkeypatch.undo()
        after = seen()
        changed = {name for name in before if after.get(name) != before[name]} | (set(after) - set(before))
        assert changed <= {"documents.sqlite-wal", "documents.sqlite-shm"}
        grown = after["documents.sqlite-wal"][2] - before["documents.sqlite-wal"][2]
        assert grown < 200_000
        parts = {path for path in read if "vector" in path.name or "columns" in path.name}
        assert not parts
    assert verify(tmp_path / "i") == []


NAME = st.sampled_from([f"d{i}" for i in range(12)])
TEXT = st.sampled_from(["", "red cat", "blue dog", "green river stone", "cat cat dog", "open red file"])


class Machine(RuleBasedStateMachine):
    """An index against a dict. A crash throws away the process's memory and leaves the files as they are."""

    def __init__(self):
        super().__init__()
        from tests.search.conftest import WordSum

        self.folder = Path(tempfile.mkdtemp())
        self.loader = lambda path: WordSum()
        self.before = {n: getattr(writer, n) for n in ("TAIL_LIMIT", "MOST_SMALL", "SHARE", "SHARE_OPEN")}
        writer.TAIL_LIMIT, writer.MOST_SMALL, writer.SHARE, writer.SHARE_OPEN = 3, 2, 0.5, 1.5
        self.fsync, os.fsync = os.fsync, lambda handle: None
        self.model = {"seed": "red stone"}
        Index.build(
            [Document("red stone", "seed", fields={"n": 0})],
            self.folder / "i",
            encoder_path="m",
            loader=self.loader,
        ).close()
        self.index = Index.open(self.folder / "i", writable=True, loader=self.loader)
        self.reader = Index.open(self.folder / "i", loader=self.loader)

    @rule(name=NAME, text=TEXT)
    def add(self, name, text):
        if name in self.model:
            with pytest.raises(DataError):
                self.index.add([Document("other", "fresh"), Document(text, name)])
        else:
            self.index.add([Document(text, name, fields={"n": len(text)})])
            self.model[name] = text

    @rule(some=st.dictionaries(NAME, TEXT, min_size=1, max_size=5))
    def update(self, some):
        changed = self.index.update([Document(t, n, fields={"n": len(t)}) for n, t in some.items()])
        assert changed.unchanged == sum(self.model.get(n) == t for n, t in some.items())
        self.model |= some

    @rule(names=st.sets(NAME, min_size=1, max_size=4))
    def delete(self, names):
        if names <= set(self.model):
            assert self.index.delete(names) == len(names)
            for name in names:
                del self.model[name]
        else:
            with pytest.raises(DataError):
                self.index.delete(names)

    @rule(rebuild=st.booleans())
    def compact(self, rebuild):
        self.index.compact(rebuild=rebuild)

    @rule()
    def reopen(self):
        self.index.close()
        assert verify(self.folder / "i") == []
        self.index = Index.open(self.folder / "i", writable=True, loader=self.loader)

    @precondition(lambda self: self.index._writer._store is not None)
    @rule()
    def crash(self):
        """What a kill leaves: the folder as it is, with its marker and its write-ahead log."""
        shutil.copytree(self.folder / "i", self.folder / "killed")
        self.index.close()
        shutil.rmtree(self.folder / "i")
        (self.folder / "killed").rename(self.folder / "i")
        self.index = Index.open(self.folder / "i", writable=True, loader=self.loader)
        self.reader = Index.open(self.folder / "i", loader=self.loader)

    @invariant()
    def answers_are_those_of_the_dict(self):
        everything = {n: t for n, t in self.model.items() if t}
        for index in (self.index, self.reader):
            found = {h.id: h.text for h in index.search("red", mode="dense", k=50)[0]}
            assert found == self.model
            (hits,) = index.search("cat", mode="bm25", k=50)
            assert {h.id for h in hits} == {n for n, t in everything.items() if "cat" in t}
            (hits,) = index.search("red", mode="hybrid", k=50, where="n > 8")
            assert {h.id for h in hits} == {n for n, t in self.model.items() if len(t) > 8 and n != "seed"}

    def teardown(self):
        self.index.close()
        problems = verify(self.folder / "i")
        for name, value in self.before.items():
            setattr(writer, name, value)
        os.fsync = self.fsync
        shutil.rmtree(self.folder)
        assert problems == []


Machine.TestCase.settings = settings(
    max_examples=2000 if FULL else 8,
    stateful_step_count=40 if FULL else 12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestMachine = Machine.TestCase
