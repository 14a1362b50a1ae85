"""The corpus of Python's own documentation, counting, and splitting."""

import json

import pytest

from nlpkit.errors import DataError, UsageError
from nlpkit.store import manifest
from nlpkit.text import corpus, python_docs
from nlpkit.text.documents import Document, read_documents


@pytest.fixture(scope="module")
def library():
    return list(python_docs.documents())


def test_the_standard_library_is_there(library):
    by_id = {d.id: d for d in library}
    assert len(by_id) == len(library) > 5000
    assert sum(len(d.text.encode()) for d in library) > 1_500_000
    for name in (
        "str.splitlines", "os.path.join", "json.dumps", "topic:for", "collections.Counter.most_common",
        "collections.deque.append", "math.sqrt", "re.sub", "os.listdir", "len", "itertools.chain",
    ):  # fmt: skip
        assert name in by_id, name
    one = by_id["str.splitlines"]
    assert one.text == __import__("inspect").cleandoc(str.splitlines.__doc__)
    assert one.fields["summary"] == "Return a list of the lines in the string, breaking at line boundaries."
    assert one.fields["body"].startswith("Line breaks are not included")
    assert one.fields["kind"] == "builtin" and by_id["json.dumps"].fields["kind"] == "function"
    assert by_id["json.dumps"].fields["source"] == "json/__init__.py"
    assert {d.fields["kind"] for d in library} == {
        "module",
        "class",
        "function",
        "method",
        "topic",
        "builtin",
    }


def test_tests_are_left_out(library):
    assert not any(set(d.fields["source"].split("/")[:-1]) & {"test", "tests", "idlelib"} for d in library)


def test_summary_and_body_are_the_text(library):
    for d in library:
        if d.fields["kind"] != "topic":
            both = f"{d.fields['summary']} {d.fields['body']}"
            assert "".join(both.split()) == "".join(d.text.split()), d.id


def test_build_is_sealed_and_the_same_every_time(tmp_path, library):
    count = python_docs.build(tmp_path / "a")
    python_docs.build(tmp_path / "b")
    sealed = manifest.check(tmp_path / "a", "corpus")
    assert sealed.notes["documents"] == count == len(library)
    assert sealed.notes["licence"] == "PSF-2.0"
    assert sealed.fingerprint == manifest.check(tmp_path / "b").fingerprint
    assert list(read_documents([tmp_path / "a"])) == library


def test_packages_are_read_without_being_run(tmp_path, monkeypatch):
    package = tmp_path / "madeup_pkg"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text('"""A made-up package."""\nraise SystemExit("ran")\n')
    (package / "_impl.py").write_text(
        'def f():\n    """What f does here.\n\n    More."""\n\ndef _g():\n    """Private and left out."""\n'
    )
    (package / "tests" / "x.py").write_text('"""A test, left out."""\n')
    (package / "broken.py").write_text("def (\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = [d for d in python_docs.documents(["madeup_pkg"]) if d.id.startswith("madeup_pkg")]
    assert [(d.id, d.fields["summary"]) for d in found] == [
        ("madeup_pkg", "A made-up package."),
        ("madeup_pkg.f", "What f does here."),
    ]
    for name in ("absent_pkg", "os.path", "../x"):
        with pytest.raises(UsageError, match="--packages"):
            list(python_docs.documents([name]))


def test_stats():
    found = corpus.stats([Document("a b c"), Document("d"), Document(""), Document("D ")])
    assert found["documents"] == 4 and found["distinct_documents"] == 3 and found["empty_documents"] == 1
    assert found["words"] == 5 and found["distinct_words"] == 5 and found["bytes"] == 8
    assert found["words_per_document"] == {"0": 0, "0.25": 0, "0.5": 1, "0.75": 1, "0.95": 1, "1": 3}
    assert corpus.stats([])["words_per_document"]["0.5"] == 0


def test_split_keeps_equal_texts_together(tmp_path):
    texts = [f"text {i % 400}" if i % 3 else f"Text  {i % 400}" for i in range(2000)]
    counts = corpus.split((Document(t) for t in texts), tmp_path / "s", valid=0.1, test=0.2)
    parts = {
        part: [
            json.loads(line)["text"]
            for line in (tmp_path / "s" / f"{part}.jsonl").read_text().split("\n")[:-1]
        ]
        for part in corpus.PARTS
    }
    assert {k: len(v) for k, v in parts.items()} == counts and sum(counts.values()) == 2000
    assert sorted(t for part in parts.values() for t in part) == sorted(texts)
    folded = [{" ".join(t.lower().split()) for t in part} for part in parts.values()]
    assert not (folded[0] & folded[1] or folded[0] & folded[2] or folded[1] & folded[2])
    assert 0.1 < counts["test"] / 2000 < 0.3 and 0.04 < counts["valid"] / 2000 < 0.16
    manifest.check(tmp_path / "s", "corpus")
    again = corpus.split((Document(t) for t in texts), tmp_path / "s2", valid=0.1, test=0.2, seed=1)
    assert (
        again != counts
        or (tmp_path / "s2/test.jsonl").read_bytes() != (tmp_path / "s/test.jsonl").read_bytes()
    )


def test_split_refusals(tmp_path):
    with pytest.raises(DataError, match="nothing to split"):
        corpus.split([], tmp_path / "s")
    with pytest.raises(UsageError, match="shares"):
        corpus.split([Document("a")], tmp_path / "s", valid=0.6, test=0.5)
    assert not (tmp_path / "s").exists()
