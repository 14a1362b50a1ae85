"""Counting against a plain dict; what cuts windows; what spilling to disk may change (nothing)."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest

from nlpkit.errors import DataError
from nlpkit.vectors import counting, samples
from nlpkit.vectors.kernels import END


def reference(documents, vocabulary, window, symmetric):
    number = {w: i for i, w in enumerate(vocabulary)}
    found = defaultdict(Fraction)
    for document in documents:
        ids = [number[w] for w in document.split() if w in number]
        for at, word in enumerate(ids):
            for distance in range(1, window + 1):
                if at - distance >= 0:
                    other = ids[at - distance]
                    found[word, other] += Fraction(1, distance)
                    if symmetric:
                        found[other, word] += Fraction(1, distance)
    return {pair: np.float32(float(value)) for pair, value in found.items()}


def everything(stream, counts, **options):
    blocks = list(counting.cooccurrences(stream, counts, **options))
    return tuple(np.concatenate(part) for part in zip(*blocks, strict=True))


def random_documents(seed, words=40, documents=30):
    rng = np.random.default_rng(seed)
    return [
        " ".join(f"w{min(i, words) - 1}" for i in rng.zipf(1.4, rng.integers(0, 60)))
        for _ in range(documents)
    ]


@pytest.mark.parametrize("window", [1, 4, 10, 25])
@pytest.mark.parametrize("symmetric", [True, False])
def test_counts_equal_a_dict(tmp_path, window, symmetric):
    documents = random_documents(window)
    vocabulary, stream, _ = counting.read(documents, str, tmp_path, min_count=2)
    rows, columns, values = everything(
        stream, vocabulary.counts, window=window, symmetric=symmetric, max_memory=5000
    )
    wanted = reference(documents, vocabulary.words, window, symmetric)
    order = sorted(wanted)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == order
    if window <= counting.EXACT_WINDOW:
        assert values.tolist() == [wanted[pair] for pair in order]  # the nearest float32 of the exact sum
    else:
        np.testing.assert_allclose(values, [wanted[pair] for pair in order], rtol=1e-6)


def test_columns_beyond_one_group_of_bits(tmp_path):
    documents = [" ".join(f"v{i:03d}" for i in range(300)), "v000 v299 v128 v063 v064"]
    vocabulary, stream, _ = counting.read(documents, str, tmp_path, min_count=1)
    rows, columns, values = everything(stream, vocabulary.counts, window=3)
    wanted = reference(documents, vocabulary.words, 3, True)
    assert (
        dict(zip(zip(rows.tolist(), columns.tolist(), strict=True), values.tolist(), strict=True)) == wanted
    )


def test_symmetric_counts_are_symmetric(tmp_path):
    vocabulary, stream, _ = counting.read(random_documents(3), str, tmp_path, min_count=1)
    rows, columns, values = everything(stream, vocabulary.counts, window=7)
    dense = np.zeros((len(vocabulary.words),) * 2, np.float32)
    dense[rows, columns] = values
    assert dense.any()
    assert (dense == dense.T).all()


def test_neither_jobs_nor_memory_change_the_counts(tmp_path):
    vocabulary, stream, _ = counting.read(random_documents(5), str, tmp_path, min_count=1)
    first = everything(stream, vocabulary.counts, window=5)
    for options in ({"jobs": 2}, {"max_memory": 1}, {"jobs": 3, "max_memory": 3000}):
        for one, other in zip(first, everything(stream, vocabulary.counts, window=5, **options), strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_window_across_documents(tmp_path):
    vocabulary, stream, _ = counting.read(["a b", "c d", ""], str, tmp_path, min_count=1)
    rows, columns, _ = everything(stream, vocabulary.counts, window=5)
    assert {(vocabulary.words[r], vocabulary.words[c]) for r, c in zip(rows, columns, strict=True)} == {
        ("a", "b"),
        ("b", "a"),
        ("c", "d"),
        ("d", "c"),
    }


def test_vocabulary_by_count_then_spelling(tmp_path):
    vocabulary, stream, _ = counting.read(["b a c c", "a b d"], str, tmp_path, min_count=2)
    assert vocabulary.words == ["a", "b", "c"]
    assert vocabulary.counts.tolist() == [2, 2, 2]
    assert stream.tolist() == [END, 1, 0, 2, 2, END, 0, 1, END]
    cut, stream, _ = counting.read(["b a c c", "a b d"], str, tmp_path, min_count=1, max_vocab=2)
    assert cut.words == ["a", "b"]
    assert stream.tolist() == [END, 1, 0, END, 0, 1, END]


def test_the_recipe_is_applied(tmp_path):
    vocabulary, _, _ = counting.read(["Sea SEA sea"], str.lower, tmp_path, min_count=1)
    assert vocabulary.words == ["sea"]


def test_a_stream_on_disk_is_the_same(tmp_path, monkeypatch):
    documents = random_documents(8, documents=200)
    words, stream, digest = counting.read(documents, str, tmp_path / "none", min_count=1)
    monkeypatch.setattr(counting, "PIECE", 100)
    (tmp_path / "disk").mkdir()
    again, spilled, same = counting.read(documents, str, tmp_path / "disk", min_count=1, limit=1000)
    assert (tmp_path / "disk" / "stream-0.bin").stat().st_size == spilled.nbytes
    np.testing.assert_array_equal(stream, spilled)
    assert (again.words, same) == (words.words, digest)
    assert counting.read([*documents, "more"], str, tmp_path, min_count=1)[2] != digest


def test_counts_of_words_come_from_every_piece(tmp_path, monkeypatch):
    documents = random_documents(9)
    monkeypatch.setattr(counting, "PIECE", 50)
    vocabulary, _, _ = counting.read(documents, str, tmp_path, min_count=1)
    assert dict(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True)) == Counter(
        " ".join(documents).split()
    )


@pytest.mark.parametrize(
    ("documents", "says"), [([], "no words"), (["", " "], "no words"), (["a b"], "min-count")]
)
def test_nothing_to_count(tmp_path, documents, says):
    with pytest.raises(DataError, match=says):
        counting.read(documents, str, tmp_path, min_count=5)


def test_samples_are_the_counts_in_disjoint_blocks(tmp_path):
    vocabulary, stream, _ = counting.read(random_documents(11), str, tmp_path, min_count=1)
    rows, columns, values = everything(stream, vocabulary.counts, window=5)

    def arranged(**options):
        blocks = counting.cooccurrences(stream, vocabulary.counts, window=5, max_memory=4000)
        return samples.arrange(
            blocks,
            tmp_path,
            vocabulary=len(vocabulary.words),
            parts=8,
            x_max=10.0,
            alpha=0.75,
            seed=4,
            **options,
        )

    drawn = arranged()
    order = np.lexsort((drawn.pairs[:, 1], drawn.pairs[:, 0]))
    np.testing.assert_array_equal(drawn.pairs[order], np.stack([rows, columns], 1))
    exact = values.astype(np.float64)
    np.testing.assert_allclose(drawn.targets[order, 0], np.log(exact), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(drawn.targets[order, 1], np.minimum(1, (exact / 10) ** 0.75), rtol=1e-5)
    assert not (order == np.arange(len(order))).all()
    part = samples.deal(len(vocabulary.words), 8)
    for block in range(64):
        pairs = drawn.pairs[drawn.offsets[block] : drawn.offsets[block + 1]]
        assert set(part[pairs[:, 0]]) <= {block // 8}
        assert set(part[pairs[:, 1]]) <= {block % 8}
    for other in (arranged(jobs=3), arranged(limit=1000)):
        np.testing.assert_array_equal(other.pairs, drawn.pairs)
        np.testing.assert_array_equal(other.targets, drawn.targets)
