"""BM25 equals a plain reference after any sequence of additions and deletions, in memory and mapped from disk."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.search import bm25 as module
from nlpkit.search import postings
from nlpkit.search.bm25 import BM25, Segment, count, merge
from nlpkit.search.topk import top, top_owners

TERM = st.sampled_from(["a", "b", "c", "dd", "é", "zz"])
TEXTS = st.lists(st.lists(TERM, max_size=6), min_size=1, max_size=5)
STEP = st.one_of(TEXTS, st.integers(0, 30), st.sampled_from(["append", "reopen"]))


def reference(documents: dict[int, list[str]], query: dict[str, float], k1: float, b: float):
    """The formula, one document at a time."""
    mean = sum(map(len, documents.values())) / len(documents) if documents else 0
    scores = {}
    for position, terms in documents.items():
        total = 0.0
        for term, weight in query.items():
            df = sum(term in other for other in documents.values())
            tf = terms.count(term)
            if tf:
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                total += weight * idf * tf / (tf + k1 * (1 - b + b * len(terms) / mean))
        if total:
            scores[position] = total
    return scores


def same(one: Segment, other: Segment) -> None:
    for name in postings.PARTS:
        left, right = getattr(one, name)[:], getattr(other, name)[:]
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype


def on_disk(segment: Segment, folder) -> Segment:
    folder.mkdir(parents=True)
    return Segment.open(folder, segment.write(folder), "rebuild it")


def corpus(many: int, seed: int = 0, words: int = 400) -> list[list[str]]:
    """Texts whose words are as unevenly frequent as those of a language."""
    rng = np.random.default_rng(seed)
    return [[f"w{i}" for i in rng.zipf(1.4, rng.integers(1, 30)) % words] for _ in range(many)]


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(STEP, min_size=1, max_size=12),
    query=st.one_of(
        st.lists(TERM, min_size=1, max_size=4),
        st.dictionaries(TERM, st.floats(0.1, 3), min_size=1, max_size=4),
    ),
    k1=st.sampled_from([0.9, 1.2]),
    b=st.sampled_from([0.0, 0.75, 1.0]),
)
def test_any_sequence_of_changes_equals_the_reference(tmp_path_factory, steps, query, k1, b):
    index, there, last = BM25(k1=k1, b=b), {}, 0
    more = [["a", "zz"], [], ["b"]]
    for step in steps:
        index.scores(["a"])  # what is kept of an earlier state must not show
        if step == "append":
            index.append(count(more))
        elif step == "reopen":
            folder = tmp_path_factory.mktemp("bm25")
            parts = [on_disk(s, folder / str(i)) for i, s in enumerate(index.segments)]
            gone = np.flatnonzero(~index.alive)
            index = BM25(parts, k1=k1, b=b)
            index.delete(gone)
        elif isinstance(step, int):
            if step in there:
                index.delete([step])
                del there[step]
        else:
            index.add(step)
        if isinstance(step, list) or step == "append":
            for terms in more if step == "append" else step:
                there[last] = terms
                last += 1
    weights = query if isinstance(query, dict) else {t: query.count(t) for t in query}
    expected = reference(there, weights, k1, b)
    scores = index.scores(query)
    assert len(scores) == last == len(index)
    for position in range(last):
        assert scores[position] == pytest.approx(expected.get(position, 0), rel=1e-9, abs=0)
    positions, best = index.top(query, 3)
    order = sorted(expected, key=lambda p: (-scores[p], p))[:3]
    assert positions.tolist() == order
    np.testing.assert_array_equal(best, scores[order])
    explained = index.explain(query, np.arange(last))
    np.testing.assert_allclose(sum(explained.values()), scores, rtol=1e-12)
    # Folded: the same documents at new positions, the same scores bit for bit.
    folded = BM25(index.compacted(), k1=k1, b=b)
    np.testing.assert_array_equal(folded.scores(query), scores[sorted(there)])
    same(count([there[p] for p in sorted(there)]), folded.segments[0])


def test_kept_impacts_are_the_same_as_fresh_ones(monkeypatch):
    texts = corpus(300)
    index = BM25(count(texts))
    first = [index.scores(text) for text in texts[:40]]
    again = [index.scores(text) for text in texts[:40]]
    monkeypatch.setattr(module, "_KEPT", 5000)  # forgotten now and then
    monkeypatch.setattr(module, "_DENSE", 0)  # never one number a document
    tight = BM25(count(texts))
    for i, text in enumerate(texts[:40]):
        np.testing.assert_array_equal(first[i], again[i])
        np.testing.assert_array_equal(first[i], tight.scores(text))


def test_a_repeated_query_term_counts_each_time():
    index = BM25()
    index.add([["a", "b"], ["b", "c"]])
    np.testing.assert_allclose(index.scores(["a", "a"]), 2 * index.scores(["a"]))
    np.testing.assert_array_equal(index.scores(["a", "a"]), index.scores({"a": 2.0}))
    with pytest.raises(UsageError, match="above 0"):
        index.scores({"a": -1.0})


def test_nothing_at_all():
    assert BM25().top(["a"], 3)[0].tolist() == []
    index = BM25()
    index.add([[], []])
    index.add([])
    assert index.top(["a"], 3)[0].tolist() == []
    assert index.top([], 3)[0].tolist() == []
    assert len(merge([], np.empty(0, bool))) == 0
    index.delete([0, 1])
    assert index.scores(["a"]).tolist() == [0, 0] and len(index.compacted()) == 0


def test_counting_by_chunks_equals_counting_at_once(monkeypatch):
    texts = corpus(120)
    whole = count(texts)
    monkeypatch.setattr(postings, "_DOCUMENTS", 7)
    monkeypatch.setattr(postings, "_TOKENS", 50)
    same(whole, count(iter(texts)))
    monkeypatch.setattr(postings, "_POSTINGS", 11)
    parts = [count(texts[i : i + 50]) for i in range(0, 120, 50)]
    same(whole, merge(parts, np.ones(120, bool)))
    keep = np.random.default_rng(1).random(120) < 0.6
    same(count([t for t, k in zip(texts, keep, strict=True) if k]), merge(parts, keep))


def test_counts_are_narrow_and_never_cut_off():
    assert count([["a"] * 255]).counts.dtype == np.uint8
    many = count([["a"] * 70_000, ["a"]])
    assert many.counts.tolist() == [70_000, 1]
    assert merge([many], np.array([False, True])).counts.dtype == np.uint8


def test_small_additions_stay_few_segments():
    index = BM25(count(corpus(400)))
    for text in corpus(150, seed=1):
        index.add([text])
    assert 1 < len(index.segments) <= 9 and len(index.segments[0]) == 400
    same(index.compacted(), count(corpus(400) + corpus(150, seed=1)))


def test_an_appended_segment_is_left_as_it_is(tmp_path):
    stored = on_disk(count(corpus(20)), tmp_path / "a")
    index = BM25(stored)
    for text in corpus(4, seed=1):
        index.add([text])
    index.append(stored)
    index.add([["w1"]])
    assert [s is stored for s in index.segments] == [True, False, True, False]


def test_a_mask_and_the_best_passage_of_each_document():
    index = BM25()
    index.add([["a"], ["a", "b"], ["a", "b", "c"], ["b"], ["a", "a"]])
    owner = np.array([10, 11, 11, 11, 12])
    scores = index.scores(["a", "b"])
    allowed = np.array([True, True, True, True, False])
    masked = index.scores(["a", "b"], allowed)
    np.testing.assert_array_equal(masked, scores * allowed)
    assert index.top(["a", "b"], 9, allowed)[0].tolist() == np.lexsort((np.arange(5), -masked))[:4].tolist()
    best, found = index.top(["a", "b"], 2, owner=owner)
    assert owner[best].tolist() == [11, 12] and best[0] == 1
    np.testing.assert_array_equal(found, scores[best])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([0, 1, 50, 6400, 6401, 9999]),
    k=st.sampled_from([1, 3, 20, 700]),
    kinds=st.sampled_from([1, 3, 1000, 10**9]),
    above=st.sampled_from([None, 0.0]),
    last=st.sampled_from([0.0, 1.0]),
)
def test_top_is_a_stable_sort(seed, size, k, kinds, above, last):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, kinds, size) * (rng.random(size) < rng.random()) / kinds
    scores[-1:] += last  # behind the last whole group
    order = np.lexsort((np.arange(size), -scores))
    order = order if above is None else order[scores[order] > above]
    np.testing.assert_array_equal(top(scores, k, above), order[:k])
    owner = np.sort(rng.integers(0, max(1, size // 3), size))
    seen: dict[int, int] = {}
    for position in order.tolist():
        seen.setdefault(int(owner[position]), position)
    assert top_owners(scores, k, owner, above).tolist() == list(seen.values())[:k]


def test_hashes_that_are_not_spread_evenly_are_found_too(tmp_path):
    hashes = np.arange(5000, dtype=np.uint64)
    starts = np.arange(5001, dtype=np.int64)
    ones = np.ones(5000, np.uint8)
    segment = Segment(hashes, starts, np.zeros(5000, np.int32), ones, np.ones(1, np.int32))
    for one in (segment, on_disk(segment, tmp_path / "a")):
        wanted = np.array([0, 4999, 2**64 - 1, 5000], np.uint64)
        assert one.find(wanted) == [(0, 1), (4999, 5000), (0, 0), (0, 0)]


def test_only_what_a_query_touches_is_read_and_checked(tmp_path):
    texts = corpus(3000, words=20_000)
    told = count(texts).write(tmp_path)
    path = tmp_path / "bm25-documents.npy"
    clean = Segment.open(tmp_path, told, "rebuild it")
    index = BM25(clean)
    index.scores(["w3"])
    assert 0 < clean.documents._seen.sum() < len(clean.documents._seen)
    ((start, _end),) = clean.find(np.array([postings.key("w3")], np.uint64))
    raw = bytearray(path.read_bytes())
    data = raw.find(b"\n") + 1
    raw[data + 4 * start] ^= 1
    path.write_bytes(raw)
    damaged = BM25(Segment.open(tmp_path, told, "rebuild it"))
    with pytest.raises(ArtifactError, match=r"bm25-documents\.npy.*rebuild it"):
        damaged.scores(["w3"])
    (tmp_path / "bm25-counts.npy").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Segment.open(tmp_path, told, "rebuild it")


def test_a_file_of_another_version_is_found(tmp_path):
    told = count(corpus(30)).write(tmp_path)
    count(corpus(31)).write(tmp_path)
    with pytest.raises(ArtifactError):
        Segment.open(tmp_path, told, "rebuild it")


def test_a_query_imports_numpy_and_nothing_heavy():
    code = (
        "import sys, nlpkit.search.bm25 as m; m.BM25(m.count([['a']])).top(['a'], 1); "
        "print([x for x in ('scipy', 'numba', 'torch', 'faiss', 'Stemmer') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
