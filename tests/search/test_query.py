"""The query path against brute force over a small view: every mode, passages of documents, conditions, explanations."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from nlpkit.errors import ArtifactError, UsageError
from nlpkit.search.columns import Columns
from nlpkit.search.fuse import GRID, contenders, fused, minmax, union
from nlpkit.search.hits import Hit
from nlpkit.search.query import PASSAGES, Ask, answer, candidates, finish, first
from nlpkit.search.rerank import rerank
from nlpkit.search.store import Row
from nlpkit.search.topk import top, top_owners
from nlpkit.search.where import parse

WORDS = "red green blue cat dog bird house river stone tree light dark".split()


class Words:
    """Sums of weights of shared terms: what :class:`BM25` offers, without its formula."""

    def __init__(self, texts, alive):
        self.counts = [Counter(t.split()) for t in texts]
        self.alive = alive

    def scores(self, query, allowed=None):
        asked = query if isinstance(query, Mapping) else Counter(query)
        made = np.array([sum(w * c[t] / (c[t] + 1.0) for t, w in asked.items()) for c in self.counts], float)
        return made * self.alive * (1 if allowed is None else allowed)

    def top(self, query, k, allowed=None, owner=None):
        scores = self.scores(query, allowed)
        best = top(scores, k, 0.0) if owner is None else top_owners(scores, k, owner, 0.0)
        return best, scores[best]

    def explain(self, query, positions):
        asked = query if isinstance(query, Mapping) else Counter(query)
        return {t: self.scores({t: w})[positions] for t, w in asked.items()}


class Nearest:
    """What a vector store offers, by brute force; ``asked`` counts the searches."""

    def __init__(self, keys, vectors):
        self.keys, self.vectors, self.asked = keys, vectors, 0

    def count(self):
        return len(self.keys)

    def search(self, queries, k, allowed=None):
        self.asked += 1
        keys = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        left = np.arange(len(self.keys)) if allowed is None else np.flatnonzero(allowed(self.keys))
        for i, query in enumerate(queries):
            near = self.vectors[left] @ query
            best = top(near, k)
            keys[i, : len(best)], scores[i, : len(best)] = self.keys[left[best]], near[best]
        return keys, scores

    def scores(self, query, keys):
        at = np.searchsorted(self.keys, keys)
        if (self.keys[np.minimum(at, len(self.keys) - 1)] != keys).any():
            raise KeyError("key")
        return self.vectors[at] @ query


class World:
    """A view and a record at once: ``count`` documents of up to ``passages`` passages, some of them deleted."""

    def __init__(self, count, passages, seed=0):
        rng = np.random.default_rng(seed)
        self.stored, keys, texts = {}, [], []
        for row in sorted(rng.choice(np.arange(1, 3 * count), count, replace=False).tolist()):
            parts = [" ".join(rng.choice(WORDS, 5)) for _ in range(int(rng.integers(1, passages + 1)))]
            ends = np.cumsum([len(p) + 1 for p in parts])
            spans = np.array([(e - len(p) - 1, e - 1) for p, e in zip(parts, ends, strict=True)], np.int32)
            spans = spans if passages > 1 else spans[:0]
            fields = {"year": int(rng.integers(2000, 2010)), "tags": ["x"] * int(rng.integers(2))}
            self.stored[row] = Row(row, f"d{row}", f"t{row}", fields, " ".join(parts), spans, b"")
            keys += [row << PASSAGES | i for i in range(len(parts))]
            texts += parts
        self.keys = np.array(keys, np.int64)
        self.texts = texts
        self.alive = np.ones(len(keys), bool)
        for row in list(self.stored)[::7]:
            self.alive[self.keys >> PASSAGES == row] = False
        raw = rng.normal(size=(len(keys), 8)).astype(np.float32)
        self.raw = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        self.bm25 = Words(texts, self.alive)
        self.dense = Nearest(self.keys[self.alive], self.raw[self.alive])
        self.columns = Columns.build(one.fields for one in self.stored.values())
        self.parts, self.tail = [self], []
        self.query = raw[:3] + rng.normal(size=(3, 8)).astype(np.float32)
        self.query /= np.linalg.norm(self.query, axis=1, keepdims=True)

    analyze = staticmethod(str.split)

    def vectors(self):
        return self.dense

    def mask(self, where):
        known = dict(zip(self.stored, where.mask(self.columns), strict=True))
        return np.array([known[k >> PASSAGES] for k in self.keys.tolist()], bool) & self.alive

    def fetch(self, rows):
        return {row: self.stored[row] for row in rows}

    def exists(self, row):
        return self.stored[row].id

    def brute(self, scores, k, allowed):
        """Ids of the documents in order, each by its best passage."""
        best = {}
        for i in np.lexsort((np.arange(len(scores)), -scores)):
            if allowed[i]:
                best.setdefault(int(self.keys[i]) >> PASSAGES, i)
        return [(f"d{row}", i) for row, i in best.items()][:k]


QUERIES = ["red cat", "river stone tree", "blue"]


@pytest.mark.parametrize("passages", [1, 6])
@pytest.mark.parametrize("condition", [None, "year < 2004", 'tags = "x" and year != 2002', "year > 3000"])
def test_one_list_is_brute_force(passages, condition):
    world = World(40, passages)
    where = None if condition is None else parse(condition)
    allowed = world.alive.copy()
    if where is not None:
        allowed &= [where.holds(world.stored[k >> PASSAGES].fields) for k in world.keys.tolist()]
    for k in (1, 4, 100):
        for mode in ("bm25", "dense"):
            found = answer(world, world, QUERIES, world.query, Ask(k=k, mode=mode, where=where))
            for text, vector, hits in zip(QUERIES, world.query, found, strict=True):
                if mode == "bm25":
                    scores = world.bm25.scores(text.split())
                    expected = world.brute(scores, k, allowed & (scores > 0))
                else:
                    scores = world.raw @ vector
                    expected = world.brute(scores, k, allowed)
                assert [h.id for h in hits] == [name for name, _ in expected]
                for hit, (_, at) in zip(hits, expected, strict=True):
                    assert hit.score == pytest.approx(scores[at]) == hit.parts[mode]
                    assert hit.passage == world.texts[at]


@pytest.mark.parametrize("passages", [1, 6])
@pytest.mark.parametrize("fusion", ["norm", "rrf"])
def test_hybrid_is_the_formula(passages, fusion):
    world = World(50, passages, seed=1)
    pool, where = 7, parse("year >= 2003")
    allowed = world.mask(where)
    ask = Ask(k=9, mode="hybrid", weight=0.4, fusion=fusion, pool=pool, where=where, explain=True)
    for text, vector, hits in zip(
        QUERIES, world.query, answer(world, world, QUERIES, world.query, ask), strict=True
    ):
        words, near = world.bm25.scores(text.split()), world.raw @ vector
        lists = [
            [at for _, at in world.brute(scores, ask.k, held)]
            for scores, held in ((words, allowed & (words > 0)), (near, allowed))
        ]
        both = sorted({*lists[0], *lists[1]})
        if fusion == "norm":
            scale = near[[*lists[0][:pool], *lists[1][:pool]]]
            low, high = scale.min(), scale.max()
            mixed = {
                i: 0.6 * words[i] / words[both].max() + 0.4 * (near[i] - low) / (high - low) for i in both
            }
        else:
            mixed = {i: sum(1 / (61 + one.index(i)) for one in lists if i in one) for i in both}
        best = {}
        for i in sorted(both, key=lambda i: (-mixed[i], i)):
            best.setdefault(world.keys[i] >> PASSAGES, i)
        assert [h.passage for h in hits] == [world.texts[i] for i in list(best.values())[:9]]
        for place, (hit, i) in enumerate(zip(hits, best.values(), strict=False), 1):
            assert hit.score == pytest.approx(mixed[i], abs=1e-6)
            assert hit.parts == {"bm25": pytest.approx(words[i]), "dense": pytest.approx(near[i], abs=1e-6)}
            ranks = [one.index(i) + 1 if i in one else None for one in lists]
            assert hit.why["ranks"] == {"bm25": ranks[0], "dense": ranks[1], "mixed": place}
            assert sum(w for _, w in hit.why["terms"]) == pytest.approx(words[i])
            assert hit.score == pytest.approx(sum(hit.why["mixed"].values()))
            if fusion == "norm":
                assert hit.why["mixed"]["bm25"] == pytest.approx(0.6 * words[i] / words[both].max())


def test_a_ranking_does_not_change_when_more_is_asked_for():
    world = World(90, 1, seed=5)
    few, more, deep = (
        answer(world, world, QUERIES, world.query, Ask(k=k, mode="hybrid", pool=30)) for k in (5, 30, 70)
    )
    for hits, others in zip(few, more, strict=True):
        assert [(h.id, h.score) for h in hits] == [(h.id, h.score) for h in others[:5]]
    for hits, others in zip(more, deep, strict=True):
        scores = {h.id: h.score for h in others}
        assert len(others) > len(hits) and all(scores[h.id] == h.score for h in hits)


def test_many_passages_of_one_document_do_not_hide_the_others():
    world = World(30, 1)
    crowd = 500
    row = 1000
    world.stored[row] = Row(row, "crowd", "", {}, "red cat", np.zeros((crowd, 2), np.int32), b"")
    world.keys = np.concatenate([world.keys, row << PASSAGES | np.arange(crowd)])
    world.texts += ["red cat"] * crowd
    world.alive = np.concatenate([world.alive, np.ones(crowd, bool)])
    world.raw = np.concatenate([world.raw, np.repeat(world.query[:1], crowd, axis=0)])
    world.bm25 = Words(world.texts, world.alive)
    world.dense = Nearest(world.keys[world.alive], world.raw[world.alive])
    for mode in ("dense", "hybrid", "bm25"):
        (hits,) = answer(world, world, ["red cat"], world.query[:1], Ask(k=10, mode=mode))
        ids = [h.id for h in hits]
        assert "crowd" in ids and len({*ids}) == len(ids) and (ids[0] == "crowd" or mode != "dense")
        assert len(hits) == 10 or mode == "bm25"
    world.dense.asked = 0
    (hits,) = answer(world, world, ["red cat"], world.query[:1], Ask(k=10_000, mode="dense"))
    assert len(hits) == len({*(world.keys[world.alive] >> PASSAGES).tolist()}) and world.dense.asked == 1


def test_a_query_without_known_words_is_near_to_nothing():
    world = World(10, 1)
    nothing = np.zeros((1, 8), np.float32)
    for mode in ("dense", "hybrid"):
        assert answer(world, world, ["zebra"], nothing, Ask(mode=mode)) == [[]]
    (hits,) = answer(world, world, ["red"], nothing, Ask(mode="hybrid"))
    assert [h.id for h in hits] == [h.id for h in answer(world, world, ["red"], None, Ask())[0]]


def test_an_empty_view_answers_nothing():
    world = World(8, 1)
    world.keys, world.alive, world.parts = world.keys[:0], world.alive[:0], []
    world.bm25, world.dense = Words([], world.alive), Nearest(world.keys, world.raw[:0])
    for mode in ("bm25", "dense", "hybrid"):
        assert answer(world, world, ["red"], world.query[:1], Ask(mode=mode, explain=True)) == [[]]
        assert answer(world, world, [], world.query[:0], Ask(mode=mode)) == []


def test_unknown_field_and_strange_vectors():
    world = World(8, 1)
    with pytest.raises(UsageError, match="'yaer'; did you mean 'year'"):
        answer(world, world, ["red"], None, Ask(where=parse("yaer = 1")))
    world.dense.keys = world.dense.keys + 1
    with pytest.raises(ArtifactError, match="index rebuild"):
        answer(world, world, ["red"], world.query[:1], Ask(mode="dense"))
    world = World(20, 1)
    world.dense = Nearest(world.dense.keys[:2], world.dense.vectors[:2])
    with pytest.raises(ArtifactError, match="has no vector"):
        answer(world, world, ["red cat"], world.query[:1], Ask(mode="hybrid"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mode": "dens"}, "did you mean 'dense'"),
        ({"fusion": "norn"}, "did you mean 'norm'"),
        ({"k": 0}, "1 or more"),
        ({"pool": 0}, "1 or more"),
        ({"weight": 1.5}, "between 0"),
        ({"weight": float("nan")}, "between 0"),
        ({"rerank_ms": 10.0}, "--rerank MODEL"),
        ({"rerank_ms": -1.0, "rerank": object()}, "above 0"),
        ({"expand": True, "mode": "dense"}, "--expand"),
    ],
)
def test_what_means_nothing_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        Ask(**given)


def test_contenders_are_all_that_any_weight_brings_forward():
    rng = np.random.default_rng(0)
    for grid in (3, 1000):
        for _ in range(20):
            n = 60
            words, near = rng.integers(0, grid, n) / grid, rng.integers(0, grid, n) / grid
            at = np.arange(n)
            found = union((at, words), (at, near), rng.integers(0, 30, n))
            few = found.only(contenders(found, 5))
            assert len(few) < n
            for weight in GRID:
                whole = found.positions[top_owners(fused(found, "norm", weight), 5, found.rows)]
                assert (
                    few.positions[top_owners(fused(few, "norm", weight), 5, few.rows)].tolist()
                    == whole.tolist()
                )


def test_candidates_rank_as_a_search_does():
    world = World(60, 4, seed=3)
    made = candidates(world, world, QUERIES, world.query, Ask(mode="hybrid"))
    for weight in (0.0, 0.3, 0.5, 1.0):
        found = answer(world, world, QUERIES, world.query, Ask(mode="hybrid", weight=weight))
        for (some, ids), hits in zip(made, found, strict=True):
            best = top_owners(fused(some, "norm", weight), 10, some.rows)
            assert [ids[i] for i in best] == [h.id for h in hits]


def test_minmax_of_equal_scores_says_nothing():
    assert minmax(np.array([2.0, 2.0])).tolist() == [0, 0]
    assert minmax(np.array([2.0, 1.0]), 0.0).tolist() == [1, 0.5]
    assert minmax(np.empty(0)).tolist() == []


class Slow:
    """A reranker by text length whose calls take ``each`` milliseconds a pair on a clock of its own."""

    def __init__(self, each):
        self.each, self.now, self.calls = each, 0.0, []

    def score(self, query, texts):
        self.calls.append(len(texts))
        self.now += self.each * len(texts) / 1000
        return np.array([len(t) for t in texts], np.float32)

    def clock(self):
        return self.now


@pytest.mark.parametrize(
    ("each", "least", "most"), [(100.0, 5, 5), (10.0, 14, 20), (1.0, 100, 100), (2.0, 70, 100)]
)
def test_the_depth_of_reranking_fits_the_budget(each, least, most):
    hits = [Hit(f"d{i}", 1.0 - i / 100, "x" * i, why={"ranks": {"bm25": i + 1}}) for i in range(100)]
    model = Slow(each)
    found = rerank("q", hits, model, 5, milliseconds=200, clock=model.clock)
    depth = sum(model.calls)
    assert least <= depth <= most and (model.now <= 0.2 or depth == 5)
    assert [h.id for h in found] == [f"d{i}" for i in range(depth - 1, depth - 6, -1)]
    assert all(h.parts["depth"] == depth for h in found)
    assert [h.why["ranks"]["rerank"] for h in found] == [1, 2, 3, 4, 5]
    assert found[0].why["ranks"]["bm25"] == depth and found[0].parts["first"] == 1.0 - (depth - 1) / 100
    assert hits[0].why == {"ranks": {"bm25": 1}}  # the hits that came in are as they were


def test_reranking_reads_the_passage_and_needs_no_open_record():
    world = World(30, 5)
    ask = Ask(k=3, rerank=Slow(0.0), pool=8)
    before = first(world, world, QUERIES, None, ask)
    assert [len(some) for some in before] == [8, 8, 8]
    after = finish(QUERIES, before, ask)
    assert [len(some) for some in after] == [3, 3, 3] and after == answer(world, world, QUERIES, None, ask)
    for some, hits in zip(before, after, strict=True):
        sizes = sorted((len(f"{h.title} {h.passage}") for h in some), reverse=True)
        assert [h.score for h in hits] == sizes[:3]
