"""One suite for every vector store, held against a dict; then what FAISS adds: recall, selectors, growth, damage."""

import shutil
import threading

import numpy as np
import pytest

from nlpkit.errors import ArtifactError, DataError, UsageError
from nlpkit.search import faiss_choice, faiss_store
from nlpkit.search.exact import dot
from nlpkit.search.faiss_choice import FaissCodes, Mask, check_factory, factory_for
from nlpkit.search.faiss_store import FaissStore
from nlpkit.search.quantize import SignCodes
from nlpkit.search.recall import measure
from nlpkit.search.vector_store import NumpyStore, VectorStore, create_store, open_store
from nlpkit.store import blocks

D = 24


def unit(count: int, width: int = D, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def clustered(count: int, width: int = D, seed: int = 0) -> np.ndarray:
    """Rows as texts give them: topics, and each text a mixture of two of them with something of its own."""
    rng = np.random.default_rng(seed)
    topics = unit(max(8, count // 40), width, 99)
    share = rng.random((count, 1)).astype(np.float32)
    first, second = rng.integers(len(topics), size=(2, count))
    made = share * topics[first] + (1 - share) * topics[second] + 0.5 * unit(count, width, seed + 1)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def keys(*listed: int) -> np.ndarray:
    return np.array(listed, np.int64)


class Sealed(FaissStore):
    """A FaissStore that lies on disk and is opened again after each write, so nothing stays a part for long."""

    folder = None

    def _again(self) -> None:
        number = getattr(self, "number", 0) + 1
        where = self.folder / f"{id(self)}-{number}"
        where.mkdir(parents=True)
        told = self.snapshot(where)
        self.__dict__.update(
            FaissStore.open(where, told, self.width, "build it again").__dict__, number=number
        )

    def upsert(self, keys, vectors):
        super().upsert(keys, vectors)
        self._again()

    def delete(self, keys):
        gone = super().delete(keys)
        self._again()
        return gone


@pytest.fixture(params=["numpy", "faiss", "sealed"])
def new(request, tmp_path_factory):
    """A function that makes an empty store of a width."""
    if request.param == "sealed":
        return type("Here", (Sealed,), {"folder": tmp_path_factory.mktemp("sealed")}).create
    return {"numpy": NumpyStore, "faiss": FaissStore}[request.param].create


def reopened(store: VectorStore, folder, **options):
    told = store.snapshot(folder)
    assert sorted(told) == sorted(p.name for p in folder.iterdir())
    return type(store).open(folder, told, store.width, "build it again", **options)


def expected(
    held: dict[int, np.ndarray], query: np.ndarray, k: int, allowed=None
) -> tuple[list[int], list[float]]:
    names = np.array(sorted(held), np.int64)
    if allowed is not None:
        names = names[allowed(names)]
    rows = (
        np.stack([held[n] for n in names.tolist()]) if len(names) else np.empty((0, len(query)), np.float32)
    )
    scores = dot(rows, query)
    order = np.lexsort((names, -scores))[:k]
    pad = k - len(order)
    return names[order].tolist() + [-1] * pad, scores[order].tolist() + [-np.inf] * pad


def equals(
    store: VectorStore, held: dict[int, np.ndarray], queries: np.ndarray, k: int, allowed=None
) -> None:
    for asked in (queries, queries[:1]):  # several at once are multiplied otherwise than one
        found, scores = store.search(asked, k, allowed)
        assert found.dtype == np.int64 and scores.dtype == np.float32
        for i, query in enumerate(asked):
            assert (found[i].tolist(), scores[i].tolist()) == expected(held, query, k, allowed)


def test_a_store_is_a_protocol(new):
    store: VectorStore = new(D)
    assert store.width == D and store.describe()["vectors"] == 0


def test_empty(new, tmp_path):
    store = new(D)
    found, scores = store.search(unit(2), 3)
    assert found.tolist() == [[-1] * 3] * 2 and (scores == -np.inf).all()
    assert store.count() == 0 and store.delete(keys(1, 2)) == 0
    assert store.fetch(keys()).shape == (0, D) and store.scores(unit(1)[0], keys()).shape == (0,)
    store.upsert(keys(), np.empty((0, D), np.float32))
    again = reopened(store, tmp_path)
    assert again.count() == 0 and again.search(unit(1), 2)[0].tolist() == [[-1, -1]]


def test_writes_against_a_dict(new, tmp_path):
    """Random writes: every answer, score for score, is that of a dict; also after it was written and opened."""
    rng, store, held = np.random.default_rng(1), new(D), {}
    pool, queries = unit(400, seed=2), unit(3, seed=3)
    for turn in range(24):
        if rng.random() < 0.7:
            names = np.sort(rng.choice(120, rng.integers(1, 30), replace=False)).astype(np.int64)
            rows = pool[rng.integers(0, 400, len(names))]  # the same rows come again: ties
            store.upsert(names, rows)
            held.update(zip(names.tolist(), rows, strict=True))
        else:
            names = rng.choice(130, rng.integers(1, 25), replace=False).astype(np.int64)
            assert store.delete(names) == sum(held.pop(n, None) is not None for n in names.tolist())
        assert store.count() == len(held)
        equals(store, held, queries, int(rng.integers(1, 12)))
        equals(store, held, queries, 200, lambda names, part=turn % 3: names % 3 == part)
    again = reopened(store, tmp_path)
    equals(again, held, queries, 10)
    names = np.array(sorted(held), np.int64)
    np.testing.assert_array_equal(again.fetch(names), np.stack([held[n] for n in names.tolist()]))
    np.testing.assert_array_equal(again.scores(queries[0], names), dot(store.fetch(names), queries[0]))
    again.delete(names)
    assert again.count() == 0 and again.search(queries, 2)[0].tolist() == [[-1, -1]] * 3


def test_a_key_given_again_is_in_its_new_place_only(new):
    store, rows = new(D), unit(3)
    store.upsert(keys(5, 9), rows[:2])
    store.upsert(keys(5), rows[2:])
    assert store.count() == 2
    np.testing.assert_array_equal(store.fetch(keys(9, 5)), rows[1:])
    assert store.search(rows[:1], 2)[1][0, 0] < 0.99


def test_equal_vectors_fall_by_key(new):
    """However the rows lie: a matrix product rounds the last rows of a block otherwise than the first."""
    store, row = new(384), unit(1, 384)
    names = np.arange(1003, dtype=np.int64) * 2
    store.upsert(names[500:], np.repeat(row, 503, 0))
    store.upsert(names[:500], np.repeat(row, 500, 0))
    for asked in (unit(1, 384, 5), unit(4, 384, 5)):
        found, scores = store.search(asked, 1003)
        assert (found == names).all() and (scores == scores[:, :1]).all()
        assert (store.search(asked, 7)[0] == names[:7]).all()


def test_rows_of_zeros_are_held(new):
    store = new(D)
    rows = np.vstack([unit(1), np.zeros((2, D), np.float32), -unit(1)])
    store.upsert(keys(1, 2, 3, 4), rows)
    found, scores = store.search(unit(1), 4)
    assert found.tolist() == [[1, 2, 3, 4]] and scores[0, 1] == scores[0, 2] == 0
    assert store.search(np.zeros((1, D), np.float32), 4)[0].tolist() == [[1, 2, 3, 4]]


def test_what_is_refused_changes_nothing(new):
    store, rows = new(D), unit(2)
    store.upsert(keys(1, 2), rows)
    bad = rows.copy()
    bad[1, 3] = np.nan
    for names, given, error in [
        (keys(3, 4), bad, DataError),
        (keys(4, 3), rows, DataError),
        (keys(3, 3), rows, DataError),
        (keys(-1, 3), rows, DataError),
        (keys(3), rows, UsageError),
        (keys(3, 4), rows[:, :5], UsageError),
    ]:
        with pytest.raises(error):
            store.upsert(names, given)
    for query, error in [(bad, DataError), (np.full((1, D), np.inf), DataError), (rows[:, 1:], UsageError)]:
        with pytest.raises(error):
            store.search(query, 1)
    for wrong in (keys(7), keys(1, 3), keys(0)):
        with pytest.raises(KeyError):
            store.fetch(wrong)
        with pytest.raises(KeyError):
            store.scores(rows[0], wrong)
    equals(store, {1: rows[0], 2: rows[1]}, rows, 3)
    assert store.search(rows, 0)[0].shape == (2, 0) and store.search(rows[:0], 3)[0].shape == (0, 3)


def test_a_checked_file_is_a_part(new, tmp_path):
    store, rows = new(D), unit(60)
    told = blocks.write(tmp_path / "more.npy", rows[40:], block=512)
    store.upsert(np.arange(40, dtype=np.int64), rows[:40])
    store.upsert(np.arange(40, 60, dtype=np.int64), blocks.Checked(tmp_path / "more.npy", told))
    equals(store, dict(enumerate(rows)), unit(3, seed=4), 9)


# What FAISS adds.


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Codes are built from 1,000 vectors on."""
    monkeypatch.setattr(faiss_choice, "APPROXIMATE_FROM", 1000)
    monkeypatch.setattr(faiss_store, "EXACT_BELOW", 50)


def built(folder, rows: np.ndarray, **options) -> FaissStore:
    store = FaissStore.create(rows.shape[1], **options)
    store.upsert(np.arange(len(rows), dtype=np.int64) * 3, rows)
    folder.mkdir()
    return reopened(store, folder, **options)


def recall(
    store: FaissStore, held: dict[int, np.ndarray], queries: np.ndarray, k: int = 10, allowed=None
) -> float:
    """Recall@k; every score exact, in order, of a key that may be found."""
    found, scores = store.search(queries, k, allowed)
    hits = 0
    for names, values, query in zip(found, scores, queries, strict=True):
        assert (names >= 0).all() and len(set(names.tolist())) == k
        assert allowed is None or allowed(names).all()
        np.testing.assert_array_equal(values, dot(np.stack([held[n] for n in names.tolist()]), query))
        assert (np.lexsort((names, -values)) == np.arange(k)).all()
        hits += len({*names.tolist()} & {*expected(held, query, k, allowed)[0]})
    return hits / (k * len(queries))


KINDS = {
    "auto": {},
    "hnsw": {"factory": "hnsw"},
    "int8": {"quantize": "int8"},
    "plain FastScan, which takes no selector": {"factory": "PQ12x4fs"},
    "rotated": {"factory": "RR24,IVF16,PQ12x4fs"},
    "refined by itself": {"factory": "IVF16,PQ12x4fs,RFlat"},
    "half precision": {"factory": "SQfp16"},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=list(KINDS))
def test_codes_only_choose(options, tmp_path):
    """Recall, deletions, filters of any share and a tail, with scores that are exact to the bit."""
    rows = clustered(2500)
    held = {3 * i: row for i, row in enumerate(rows)}
    store = built(tmp_path / "a", rows, **options)
    queries = clustered(30, seed=5)
    assert recall(store, held, queries) >= 0.93
    gone = np.arange(0, 7500, 3)[np.random.default_rng(6).random(2500) < 0.3]
    assert store.delete(gone) == len(gone)
    for name in gone.tolist():
        del held[name]
    fresh = clustered(40, seed=7)
    store.upsert(np.arange(9000, 9040, dtype=np.int64), fresh)
    held.update(zip(range(9000, 9040), fresh, strict=True))
    assert recall(store, held, queries) >= 0.92
    assert recall(store, held, queries, 50) >= 0.92
    for share in (2, 5, 100):
        assert recall(store, held, queries, 10, lambda names, m=share: names % m == 0) >= 0.9
    assert (store.search(rows[:5], 3, lambda names: names < 0)[0] == -1).all()
    one = store.search(fresh[:1], 1)
    assert one[0][0, 0] == 9000 and one[1][0, 0] == pytest.approx(1)
    assert store.count() == len(held) == len(set(store.search(queries[:1], len(held))[0][0].tolist()))


def test_what_is_measured_is_told(tmp_path):
    store = built(tmp_path / "a", clustered(5500))
    told = store.describe()
    assert (
        told["kind"] == "IVF64,PQ12x4fs"
        and told["indexed"] == told["vectors"] == 5500
        and told["questions"] == 256
    )
    assert set(told["recall"]) == {"@10", "@100"} and min(told["recall"].values()) >= 0.95
    assert told["rescored"]["@100"] >= told["rescored"]["@10"] >= 10
    store.delete(keys(0, 3, 4))
    store.upsert(keys(20_000), unit(1))
    told = store.describe()
    assert (told["vectors"], told["indexed"], told["deleted"], told["tail"]) == (5499, 5500, 2, 1)


def test_the_recall_that_was_measured_is_that_of_a_search(tmp_path):
    """The measure is held against plain searches with the same effort and depth."""
    rows = clustered(3000)
    codes = FaissCodes.build(rows, "IVF32,PQ12x4fs", 1, pad=False)
    (step, *_), asked = measure(codes, rows, 1)
    assert asked == 256 and 0.95 <= step.recall <= 1 and 10 <= step.depth < 3000
    queries = clustered(200, seed=8)
    found = codes.ranked(queries, step.depth, step.effort)
    truth = np.argsort(-(queries @ rows.T), 1)[:, :10]
    share = np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)])
    assert share >= 0.94


def test_binary_codes(tmp_path):
    rows = clustered(1500, 100)
    store = built(tmp_path / "a", rows, quantize="binary", rescore=30)
    assert store.describe()["kind"] == "signs" and store.describe()["rescored"]["@10"] == 300
    held = {3 * i: row for i, row in enumerate(rows)}
    shallow = built(tmp_path / "b", rows, quantize="binary", rescore=1)
    queries = clustered(20, 100, seed=5)
    assert recall(shallow, held, queries) < recall(store, held, queries)
    assert (
        shallow.describe()["recall"]["@10"]
        < 0.9
        < recall(store, held, queries, 10, lambda names: names % 2 == 0)
    )


@pytest.mark.parametrize("width", [1, 63, 64, 65, 130])
def test_signs_are_compared_bit_for_bit(width):
    rows, queries = unit(70, width), unit(4, width, 1)
    codes = SignCodes.build(rows)
    far = (rows[None] > 0) != (queries[:, None] > 0)
    order = np.argsort(far.sum(2), axis=1, kind="stable")
    np.testing.assert_array_equal(codes.ranked(queries, 9, 0), order[:, :9])
    keep = np.arange(70) % 5 == 0
    found = codes.ranked(queries, 20, 0, Mask(keep))
    for i in range(4):
        assert found[i].tolist() == [p for p in order[i].tolist() if keep[p]] + [-1] * 6
    again = SignCodes.from_bytes(codes.to_bytes(), (70, width), "here")
    np.testing.assert_array_equal(again.words, codes.words)
    with pytest.raises(ArtifactError):
        SignCodes.from_bytes(codes.to_bytes()[8:], (70, width), "here")


@pytest.mark.parametrize("width", [2, 16, 37, 131, 1024])
def test_any_width(width, tmp_path):
    rows = clustered(1200, width)
    store = built(tmp_path / "a", rows)
    assert "x4fs" in store.describe()["kind"]
    assert recall(store, {3 * i: row for i, row in enumerate(rows)}, clustered(20, width, 4)) >= 0.9


@pytest.mark.parametrize(
    "factory,selects", [("IVF16,PQ12x4fs", True), ("PQ12x4fs", False), ("HNSW8,SQ8", True)]
)
def test_selectors_are_found_out(factory, selects):
    rows = clustered(800)
    codes = FaissCodes.build(rows, factory, 1, pad=False)
    assert codes.selects is selects
    keep = np.arange(800) % 7 == 0
    found = codes.ranked(rows[:9], 12, codes.efforts[-1], Mask(keep))
    assert keep[found[found >= 0]].all() and (found >= 0).sum() > 9 * 8


@pytest.mark.parametrize(
    "factory", ["foo", "PQ7", "", "IVF0,Flat", "IVF4,PQ5x4fs", "NSG16,Flat", "IDMap,Flat"]
)
def test_a_factory_that_faiss_refuses(factory):
    with pytest.raises(UsageError, match=r"^--faiss .*: .+") as told:
        FaissStore.create(D, factory=factory)
    assert "\n" not in str(told.value) and "/project" not in str(told.value)


def test_a_factory_that_faiss_refuses_later(tmp_path):
    store = FaissStore.create(D, factory="IVF5000,Flat")
    store.upsert(np.arange(1200, dtype=np.int64), clustered(1200))
    with pytest.raises(UsageError, match="Number of training points"):
        store.snapshot(tmp_path)


def test_options_that_exclude_each_other():
    for options in ({"quantize": "int4"}, {"quantize": "int8", "factory": "hnsw"}, {"rescore": 0}):
        with pytest.raises(UsageError):
            FaissStore.create(D, **options)
    check_factory(D, "auto")
    assert factory_for(0, D) == factory_for(10**6, D, "flat") == ""


def test_the_same_bytes_for_a_seed_and_any_threads(tmp_path):
    import faiss

    rows, before = clustered(1500), faiss.omp_get_max_threads()
    try:
        for options in ({}, {"factory": "hnsw"}):
            made = []
            for number, threads in enumerate((1, 2)):
                faiss.omp_set_num_threads(threads)
                store = built(tmp_path / f"{len(options)}{number}", rows, **options)
                made.append((store._codes or store._loaded()).to_bytes().tobytes())
                assert faiss.omp_get_max_threads() == threads
            assert made[0] == made[1]
        other = built(tmp_path / "other", rows, seed=2)
        assert other._loaded().to_bytes().tobytes() != made[0]
    finally:
        faiss.omp_set_num_threads(before)


def test_growth_keeps_what_was_learned(tmp_path):
    """Little more: added to the trained index, as if all had been added at once. Much more: learned anew."""
    rows = clustered(2000)
    store = built(tmp_path / "a", rows[:1600])
    names = np.arange(9000, 9400, dtype=np.int64)
    store.upsert(names, rows[1600:])
    (tmp_path / "b").mkdir()
    grown = reopened(store, tmp_path / "b")
    assert grown.describe()["learned from"] == 1600 and grown.describe()["indexed"] == 2000
    held = {3 * i: row for i, row in enumerate(rows[:1600])} | dict(
        zip(names.tolist(), rows[1600:], strict=True)
    )
    assert recall(grown, held, clustered(20, seed=5)) >= 0.93
    assert len(store._loaded()) == 1600  # the open store goes on with its own
    grown.delete(keys(*range(0, 900, 3)))
    for name in range(0, 900, 3):
        del held[name]
    (tmp_path / "c").mkdir()
    shrunk = reopened(grown, tmp_path / "c")
    assert shrunk.describe()["learned from"] == 1600 and shrunk.describe()["deleted"] == 0
    assert recall(shrunk, held, clustered(20, seed=5)) >= 0.93
    shrunk.upsert(np.arange(20_000, 21_000, dtype=np.int64), clustered(1000, seed=9))
    (tmp_path / "d").mkdir()
    assert reopened(shrunk, tmp_path / "d").describe()["learned from"] == 2700


def test_few_vectors_need_no_faiss(tmp_path):
    store = built(tmp_path / "a", clustered(999))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["vector-keys.npy", "vectors.npy"]
    assert store.describe()["kind"] == "exact"


def test_the_store_of_an_index(tmp_path):
    store = create_store(D, 10, factory="flat")
    store.upsert(keys(1), unit(1))
    told = {**store.snapshot(tmp_path), "another.npy": 3}
    assert open_store(tmp_path, told, D, "again", factory="flat").count() == 1


@pytest.mark.parametrize(
    "name", ["vectors.npy", "vector-keys.npy", "vector-codes.npy", "vector-settings.npy"]
)
def test_damage_is_met_before_it_is_used(name, tmp_path):
    rows = clustered(1200)
    store = FaissStore.create(D)
    store.upsert(np.arange(1200, dtype=np.int64), rows)
    (tmp_path / "a").mkdir()
    told = store.snapshot(tmp_path / "a")
    rng, good = np.random.default_rng(3), (tmp_path / "a" / name).read_bytes()
    for turn in range(12):
        where = tmp_path / str(turn)
        shutil.copytree(tmp_path / "a", where)
        raw = bytearray(good)
        if turn == 0:
            (where / name).unlink()
        elif turn == 1:
            (where / name).write_bytes(good[: len(good) // 2])
        else:
            raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
            (where / name).write_bytes(raw)
        with pytest.raises(ArtifactError, match=r"rebuild it"):
            again = FaissStore.open(where, told, D, "rebuild it")
            again.search(unit(3), 10)
            again.search(unit(3), 1200)
            again.delete(keys(4))
    with pytest.raises(ArtifactError, match="width"):
        FaissStore.open(tmp_path / "a", told, D + 1, "rebuild it")
    with pytest.raises(ArtifactError, match="no sealed"):
        FaissStore.open(
            tmp_path / "a", {k: v for k, v in told.items() if k != "vectors.npy"}, D, "rebuild it"
        )


def test_a_search_sees_one_state(tmp_path):
    """While one thread replaces and deletes, others find each key once, with a score that belongs to it."""
    rows = clustered(1200)
    store = built(tmp_path / "a", rows)
    first, second, wrong, stop = unit(1), -unit(1), [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            found, scores = store.search(first, 1, lambda names: names == 7)
            if found[0, 0] != 7 or not np.isclose(abs(scores[0, 0]), 1, atol=1e-5):
                wrong.append((found.tolist(), scores.tolist()))

    store.upsert(keys(7), first)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for one in readers:
        one.start()
    for turn in range(60):
        store.upsert(keys(7), second if turn % 2 else first)
        store.delete(keys(3 * turn))
    stop.set()
    for one in readers:
        one.join()
    assert not wrong and store.count() == 1200 - 60 + 1
