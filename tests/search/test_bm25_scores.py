"""BM25 equals a plain reference after any sequence of additions and deletions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.search.bm25 import BM25, count, merge

TERM = st.sampled_from(["a", "b", "c", "dd", "é", "zz"])
TEXTS = st.lists(st.lists(TERM, max_size=6), min_size=1, max_size=5)
STEP = st.one_of(TEXTS, st.integers(0, 30))


def reference(documents: dict[int, list[str]], query: list[str], k1: float, b: float) -> dict[int, float]:
    """The formula, one document at a time."""
    mean = sum(map(len, documents.values())) / len(documents) if documents else 0
    scores = {}
    for position, terms in documents.items():
        total = 0.0
        for term in query:
            df = sum(term in other for other in documents.values())
            tf = terms.count(term)
            if tf:
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                total += idf * tf / (tf + k1 * (1 - b + b * len(terms) / mean))
        if total:
            scores[position] = total
    return scores


@settings(max_examples=120, deadline=None)
@given(
    steps=st.lists(STEP, min_size=1, max_size=12),
    query=st.lists(TERM, min_size=1, max_size=4),
    k1=st.sampled_from([0.9, 1.2]),
    b=st.sampled_from([0.0, 0.75, 1.0]),
)
def test_any_sequence_of_changes_equals_the_reference(steps, query, k1, b):
    index, there, last = BM25(k1=k1, b=b), {}, 0
    index.MOST_SEGMENTS = 3
    for step in steps:
        if isinstance(step, int):
            if step in there:
                index.delete([step])
                del there[step]
        else:
            index.add(step)
            for terms in step:
                there[last] = terms
                last += 1
    expected = reference(there, query, k1, b)
    scores = index.scores(query)
    assert len(scores) == last
    for position in range(last):
        assert scores[position] == pytest.approx(expected.get(position, 0), abs=1e-6)
    positions, best = index.top(query, 3)
    order = sorted(expected, key=lambda p: (-scores[p], p))[:3]
    assert positions.tolist() == order
    np.testing.assert_allclose(best, [expected[p] for p in order], atol=1e-6)
    # Folded: the same documents at new positions, the same scores bit for bit.
    folded = BM25(index.compacted(), k1=k1, b=b)
    np.testing.assert_array_equal(folded.scores(query), scores[sorted(there)])
    fresh = count([there[p] for p in sorted(there)])
    for name in ("letters", "ends", "starts", "documents", "counts", "lengths"):
        np.testing.assert_array_equal(getattr(fresh, name), getattr(folded.segments[0], name))


def test_a_repeated_query_term_counts_each_time():
    index = BM25()
    index.add([["a", "b"], ["b", "c"]])
    np.testing.assert_allclose(index.scores(["a", "a"]), 2 * index.scores(["a"]))


def test_nothing_at_all():
    assert BM25().top(["a"], 3)[0].tolist() == []
    index = BM25()
    index.add([[], []])
    assert index.top(["a"], 3)[0].tolist() == []
    assert len(merge([], np.empty(0, bool))) == 0


def test_counting_by_chunks_equals_counting_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [[f"w{i}" for i in rng.integers(0, 40, 12)] for _ in range(50)]
    whole = count(texts)
    monkeypatch.setattr("nlpkit.search.bm25._CHUNK", 7)
    parts = count(texts)
    for name in ("letters", "ends", "starts", "documents", "counts", "lengths"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
