"""Duplicates that were planted are found, those that are too unlike stay, and the first of a group is kept."""

import json
import random
import sys

import pytest

from nlpkit.errors import DataError, UsageError
from nlpkit.text.deduplicate import NearDuplicates, comparable, deduplicate, rows_a_band, shingles

WORDS = [f"w{n}" for n in range(100_000)]


def write(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def pair(random_, changed):
    """Two texts of 100 shingles of 5 words whose Jaccard similarity is (100 - changed) / (100 + changed)."""
    words = random_.sample(WORDS, 104)
    return " ".join(words), " ".join([*words[: 104 - changed], *random_.sample(WORDS, changed)])


def jaccard(a, b):
    one, two = set(shingles(a, 5)), set(shingles(b, 5))
    return len(one & two) / len(one | two)


def test_equal_texts_go_and_the_rest_is_as_it_was(tmp_path):
    records = [
        {"_id": 7, "text": "The cat  sat.", "label": None, "n": 1.5},
        {"_id": 8, "text": "Another one", "deep": {"a": [1, {"b": "é"}]}},
        {"_id": 9, "text": " the CAT sat.\n"},
        {"_id": 10, "text": "the cat sat"},
        {"_id": 11, "text": "another one"},
    ]
    given = write(tmp_path / "in.jsonl", records)
    counted = deduplicate(
        [given], str(tmp_path / "o.jsonl"), exact_only=True, report=str(tmp_path / "r.jsonl")
    )
    assert read(tmp_path / "o.jsonl") == [records[0], records[1], records[3]]
    assert counted.as_record() == {"read": 5, "kept": 3, "dropped": {"exact": 2}}
    assert read(tmp_path / "r.jsonl") == [
        {"number": 3, "id": "9", "reason": "exact", "similarity": 1.0, "kept": {"number": 1, "id": "7"}},
        {"number": 5, "id": "11", "reason": "exact", "similarity": 1.0, "kept": {"number": 2, "id": "8"}},
    ]


@pytest.mark.parametrize(("changed", "dropped"), [(5, 30), (0, 30), (30, 0)])  # J = 0.905, 1, 0.538
def test_planted_similarity(tmp_path, changed, dropped):
    random_ = random.Random(changed)
    pairs = [pair(random_, changed) for _ in range(30)]
    assert all(jaccard(*p) == pytest.approx((100 - changed) / (100 + changed)) for p in pairs)
    records = [{"id": f"{side}{n}", "text": p[side]} for side in (0, 1) for n, p in enumerate(pairs)]
    given = write(tmp_path / "in.jsonl", records)
    counted = deduplicate([given], str(tmp_path / "o.jsonl"), report=str(tmp_path / "r.jsonl"))
    kind = "near" if changed else "exact"
    assert counted.dropped[kind] == dropped == sum(counted.dropped.values())
    assert read(tmp_path / "o.jsonl") == (records[:30] if dropped else records)
    for line in read(tmp_path / "r.jsonl"):
        assert line["reason"] == kind and line["id"] == "1" + line["kept"]["id"][1:]
        assert line["similarity"] == pytest.approx((100 - changed) / (100 + changed), abs=0.12)


def test_against_brute_force():
    """At a threshold, pairs well above it are all found and pairs well below it never are."""
    random_ = random.Random(3)
    pairs = [pair(random_, changed) for changed in range(1, 60) for _ in range(4)]
    for threshold in (0.5, 0.7, 0.9):
        for one, two in pairs:
            near = NearDuplicates(threshold)
            assert near.find_or_add(one, 1) is None
            found, true = near.find_or_add(two, 2), jaccard(one, two)
            if true >= threshold + 0.13:
                assert found is not None
            if true <= threshold - 0.13:
                assert found is None
            if found:
                assert found[0] == 1 and found[1] == pytest.approx(true, abs=0.15)


def test_the_first_kept_document_is_the_twin(tmp_path):
    random_ = random.Random(5)
    base = random_.sample(WORDS, 200)
    texts = [" ".join([*base[: 200 - 3 * n], *random_.sample(WORDS, 3 * n)]) for n in range(3)]
    texts += [texts[2]]  # equals a document that was dropped, so it is like the first
    given = write(tmp_path / "in.jsonl", [{"text": t} for t in texts])
    counted = deduplicate([given], str(tmp_path / "o.jsonl"), report=str(tmp_path / "r.jsonl"))
    assert counted.dropped == {"exact": 0, "near": 3}
    assert [line["kept"] for line in read(tmp_path / "r.jsonl")] == [{"number": 1}] * 3


def test_of_two_twins_the_first_is_named():
    words = random.Random(8).sample(WORDS, 420)
    both, head, tail = words[:400], words[400:410], words[410:]
    one, two = " ".join([*both[:-10], *tail]), " ".join([*head, *both[10:]])
    between = " ".join(both)
    assert jaccard(one, two) < 0.91 and min(jaccard(one, between), jaccard(two, between)) > 0.94
    for order in ((one, two), (two, one)):
        near = NearDuplicates(0.925)
        assert near.find_or_add(order[0], 4) is None and near.find_or_add(order[1], 9) is None
        assert near.find_or_add(between, 10)[0] == 4


def test_results_are_the_same_every_time(tmp_path):
    random_ = random.Random(6)
    given = write(tmp_path / "in.jsonl", [{"text": t} for c in range(5, 25) for t in pair(random_, c)])
    for name in "ab":
        deduplicate([given], str(tmp_path / f"{name}.jsonl"))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_short_and_empty_texts(tmp_path):
    given = tmp_path / "in.txt"
    given.write_text("one two\n\none three\nOne  two\n\n")
    counted = deduplicate([given], str(tmp_path / "o.txt"))
    assert (tmp_path / "o.txt").read_text() == "one two\n\none three\n"
    assert counted.dropped == {"exact": 2, "near": 0}


def test_shingles_and_bands():
    assert shingles("a b", 5) == ["a b"] and shingles("", 5) == [] and shingles("a b c", 1) == ["a", "b", "c"]
    assert comparable("  STRASSE \t x") == comparable("straße x")
    for threshold in (0.3, 0.5, 0.8, 0.95, 1.0):
        rows = rows_a_band(threshold)
        assert (1 - threshold**rows) ** (128 // rows) <= 0.01
        wider = [r for r in (1, 2, 4, 8, 16, 32, 64, 128) if r > rows]
        assert all((1 - threshold**r) ** (128 // r) > 0.01 for r in wider)


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rensa", None)
    given = write(tmp_path / "in.jsonl", [{"text": "a"}, {"text": "a"}])
    with pytest.raises(UsageError, match=r"pip install 'nlpkit\[dedup\]'"):
        deduplicate([given], str(tmp_path / "o.jsonl"))
    assert not (tmp_path / "o.jsonl").exists()
    assert deduplicate([given], str(tmp_path / "o.jsonl"), exact_only=True).kept == 1


def test_refusals(tmp_path):
    given = write(tmp_path / "in.jsonl", [{"text": "a"}])
    out = str(tmp_path / "o.jsonl")
    for settings in ({"threshold": 0.0}, {"threshold": 1.2}, {"shingle": 0}):
        with pytest.raises(UsageError):
            deduplicate([given], out, **settings)
    with pytest.raises(UsageError, match="a file of its own"):
        deduplicate([given], out, report=out)
    with pytest.raises(UsageError, match="no such file"):
        deduplicate([tmp_path / "absent"], out)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n{"text": 3}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:2: field 'text' is not text"):
        deduplicate([bad], out)
    assert not (tmp_path / "o.jsonl").exists() and not list(tmp_path.glob(".*tmp*"))
